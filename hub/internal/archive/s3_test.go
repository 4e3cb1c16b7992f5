package archive

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hashinsight/hashinsight/hub/internal/archive/s3test"
)

const bucket = "evidence"

// openBucketOf opens a bucket of a real S3 server.
func (l *ledger) openBucketOf(s *s3test.Server, path string) *Archive {
	l.t.Helper()
	return l.openWith(Config{Pool: l.pool, URL: s.URL(path), Credentials: Credentials{AccessKeyID: s.AccessKeyID, SecretAccessKey: s.SecretAccessKey}})
}

func TestPayloadsMoveToARealS3ServerAndAreFoundAgain(t *testing.T) {
	s := s3test.Start(t, bucket)
	l := newLedger(t)
	a, other := l.openBucketOf(s, bucket+"/hub/one"), l.openBucketOf(s, bucket+"/hub/one")
	for i := range 30 {
		l.batch(noon.Add(time.Duration(i) * time.Minute))
	}
	for i := range 3 { // together more than two parts of an upload
		l.batchOf(noon.Add(time.Hour+time.Duration(i)*time.Minute), 7<<20)
	}
	l.move(a, noon.Add(5*time.Hour))
	l.wantAll(other, 33, 2)
	keys := s.Keys(t.Context(), bucket)
	if len(keys) != 2 || !strings.HasPrefix(keys[0], "hub/one/"+l.site.String()+"/2026-03-10T12-") {
		t.Fatalf("objects %q", keys)
	}
	l.batch(noon) // late
	l.move(other, noon.Add(6*time.Hour))
	l.wantAll(a, 34, 3)
	if n := testutil.ToFloat64(a.metrics.moved.WithLabelValues("objects")) + testutil.ToFloat64(other.metrics.moved.WithLabelValues("objects")); n != 3 {
		t.Errorf("%v objects counted", n)
	}

	// What the store loses or changes is found out, and named.
	s.Overwrite(t.Context(), bucket, keys[0], strings.Repeat("x", 200_000))
	if _, err := a.Find(t.Context(), Ref{l.site, l.spool, 1}); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "2026-03-10T12-") {
		t.Errorf("a changed object: %v", err)
	}
	s.Overwrite(t.Context(), bucket, keys[0], "short")
	if _, err := a.Find(t.Context(), Ref{l.site, l.spool, 1}); !errors.Is(err, ErrDamaged) {
		t.Errorf("a shortened object: %v", err)
	}
	s.Delete(t.Context(), bucket, keys[0])
	if _, err := a.Find(t.Context(), Ref{l.site, l.spool, 1}); !errors.Is(err, ErrNoObject) || !strings.Contains(err.Error(), "s3://evidence/hub/one/") {
		t.Errorf("a deleted object: %v", err)
	}
}

// A store that is away, or refuses, keeps nothing from being stored, found in the database, or moved once it is back.
func TestAStoreThatIsAwayLeavesPayloadsInTheDatabase(t *testing.T) {
	s := s3test.Start(t, bucket)
	l := newLedger(t)
	a := l.openBucketOf(s, bucket)
	for hour := range 5 {
		l.batch(noon.Add(time.Duration(hour) * time.Hour))
	}
	l.move(a, noon.Add(3*time.Hour))
	l.wantAll(a, 1, 1)

	s.Stop()
	for try := 1; try <= 2; try++ {
		err := a.Move(t.Context(), noon.Add(24*time.Hour))
		if err == nil || !strings.Contains(err.Error(), "s3://evidence/ is away") || strings.Contains(err.Error(), s.SecretAccessKey) {
			t.Fatalf("a move to a stopped server: %v", err)
		}
		if n := testutil.ToFloat64(a.metrics.failed.WithLabelValues(atStore)); n != float64(try*maxStoreFailures) {
			t.Errorf("%v failures counted after try %d", n, try)
		}
	}
	for seq, want := range map[uint64]Where{1: InArchive, 2: InDatabase} {
		b, err := a.Find(t.Context(), Ref{l.site, l.spool, seq})
		if b.Where != want || (err == nil) != (want == InDatabase) || err != nil && !strings.Contains(err.Error(), "try again when it is back") {
			t.Errorf("batch %d, in the %s, while the store is away: %v", seq, b.Where, err)
		}
	}
	l.batch(noon.Add(5 * time.Hour)) // ingest goes on

	s.Restart()
	stranger := l.openWith(Config{Pool: l.pool, URL: s.URL(bucket), Credentials: Credentials{AccessKeyID: s.AccessKeyID, SecretAccessKey: "hunter2"}})
	if err := stranger.Move(t.Context(), noon.Add(24*time.Hour)); err == nil || strings.Contains(fmt.Sprintf("%+v", err), "hunter2") {
		t.Errorf("a move with a wrong key: %v", err)
	}
	if _, err := stranger.Find(t.Context(), Ref{l.site, l.spool, 1}); err == nil || !strings.Contains(err.Error(), "check the credentials") {
		t.Errorf("reading with a wrong key: %v", err)
	}
	l.move(a, noon.Add(24*time.Hour))
	l.wantAll(a, 6, 6)
	if keys := s.Keys(t.Context(), bucket); len(keys) != 6 {
		t.Errorf("objects %q", keys)
	}
}
