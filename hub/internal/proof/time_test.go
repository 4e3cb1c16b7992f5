package proof

import (
	"context"
	"crypto/ed25519"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hashinsight/hashinsight/hub/pgtest"
	format "github.com/hashinsight/hashinsight/pkg/proof"
)

// Some hours in virtual time, looked at every 10 s as a hub does. Every hour's entry is under a signed checkpoint within 10 s, which with the 60 s after which a site signs its hour leaves
// the hour's end 70 s away; the audit log's head is noted every hour, when it has moved; nothing waits for a real clock.
func TestVirtualHours(t *testing.T) {
	if err := pgtest.Start(); err != nil { // outside of the bubble
		t.Fatalf("this test needs PostgreSQL: %v", err)
	}
	dir, err := os.MkdirTemp("", "hsi-log-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, pool: pgtest.New(t), dir: dir}
		var head atomic.Int64
		s, err := New(Config{
			Pool: w.pool, Dir: dir, Key: func() ed25519.PrivateKey { return testKey }, Evidence: func() ed25519.PrivateKey { return testKey },
			AuditHead: func(context.Context) (int64, [32]byte, error) { return head.Load(), [32]byte{byte(head.Load())}, nil }, Registerer: prometheus.NewRegistry(),
		})
		if err != nil {
			t.Fatal(err)
		}
		w.store = s
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			for ctx.Err() == nil {
				if err := s.Run(context.WithoutCancel(ctx)); err != nil {
					t.Error(err)
					return
				}
				select {
				case <-ctx.Done():
				case <-time.After(10 * time.Second):
				}
			}
		}()
		time.Sleep(13 * time.Second)
		const hours = 6
		worst := time.Duration(0)
		for hour := range hours {
			if hour%2 == 0 {
				head.Add(1)
			}
			noted := time.Now()
			e := w.entry(uint64(1000+hour), noted.UnixMilli())
			w.next = uint64(1000 + hour - 1)
			w.note(1)
			time.Sleep(10*time.Second + time.Millisecond)
			p, ok, err := s.Find(t.Context(), e.Kind, e.Ref())
			if err != nil || !ok {
				t.Fatalf("hour %d has no place after 10 s: %v", hour, err)
			}
			c := w.checkpoint()
			if c.Size <= p.Index {
				t.Fatalf("hour %d is not under a checkpoint after 10 s", hour)
			}
			worst = max(worst, c.PublishedAt.Sub(noted))
			time.Sleep(time.Hour - 10*time.Second - 37*time.Millisecond)
		}
		cancel()
		<-done
		t.Logf("from note to checkpoint: %v at most", worst)
		if worst > 10*time.Second {
			t.Errorf("an entry waited for %v", worst)
		}
		// The audit log's heads; the hub's two keys, and this test's that stand for hours.
		w.wantKinds(map[format.EntryKind]int{format.EntryAuditHead: hours / 2, format.EntryHubKey: hours + 2})
		w.wantFsck(s, "")
		if n := testutil.ToFloat64(s.metrics.checkpoints); n < hours || n > 3*hours {
			t.Errorf("%v checkpoints", n)
		}
	})
}
