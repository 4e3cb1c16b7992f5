package audit

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hashinsight/hashinsight/hub/pgtest"
)

func lines(t *testing.T, paths ...string) []string {
	t.Helper()
	var all []string
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		for l := range strings.Lines(string(b)) {
			if !json.Valid([]byte(l)) {
				t.Errorf("%s has a line that is no JSON: %q", p, l)
			}
			all = append(all, strings.TrimSuffix(l, "\n"))
		}
	}
	return all
}

// wantFollowed checks that files hold the chain: every entry once, in order.
func wantFollowed(t *testing.T, l *Log, paths ...string) {
	t.Helper()
	all, err := l.After(t.Context(), 0, Filter{}, MaxPage)
	if err != nil {
		t.Fatal(err)
	}
	got := lines(t, paths...)
	if len(got) != len(all) {
		t.Fatalf("%d lines of %d entries", len(got), len(all))
	}
	for i := range all {
		if got[i] != string(all[i].Line()) {
			t.Fatalf("line %d is %s", i+1, got[i])
		}
	}
}

func TestFileFollowsTheChainThroughCrashes(t *testing.T) {
	pool := pgtest.New(t)
	path := filepath.Join(t.TempDir(), "logs", "audit.jsonl")
	l := newLog(t, pool, path)
	add(t, l, 5)
	l.follow(t.Context())
	wantFollowed(t, l, path)

	// A second process of this host leaves the file alone as long as the first one lives.
	other := newLog(t, pool, path)
	add(t, other, 3)
	other.follow(t.Context())
	if n := len(lines(t, path)); n != 5 {
		t.Errorf("%d lines: a second process wrote", n)
	}
	// The first dies half-way through a line, before the head is moved.
	if err := l.file.close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"timestamp":"2026-`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	other.follow(t.Context())
	wantFollowed(t, other, path)
	h, ok, err := FileHead(path)
	if now, herr := other.Head(t.Context()); err != nil || herr != nil || !ok || h != now {
		t.Errorf("head beside the file %v %v %v, of the chain %v", h, ok, err, now)
	}
	if v := verify(t, other, h); !v.OK() {
		t.Errorf("%+v", v)
	}
	// What logrotate does.
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	add(t, other, 2)
	other.follow(t.Context())
	wantFollowed(t, other, path+".1", path)
}

func TestFileIsRotated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	l := newLog(t, pgtest.New(t), path)
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	l.file.limit, l.file.now = 1500, func() time.Time { at = at.Add(time.Second); return at }
	for range 4 {
		add(t, l, 3)
		l.follow(t.Context())
	}
	old, err := filepath.Glob(filepath.Join(filepath.Dir(path), "audit-*.jsonl"))
	if err != nil || len(old) < 2 {
		t.Fatalf("rotated files %v %v", old, err)
	}
	for _, p := range append(old, path) {
		if st, err := os.Stat(p); err != nil || st.Size() > 1500 || st.Mode().Perm()&0o007 != 0 {
			t.Errorf("%s: %v %v", p, st, err)
		}
	}
	wantFollowed(t, l, append(old, path)...)
	// A restart right after a rotation goes on where it was.
	if err := l.file.close(); err != nil {
		t.Fatal(err)
	}
	add(t, l, 1)
	l.follow(t.Context())
	old, _ = filepath.Glob(filepath.Join(filepath.Dir(path), "audit-*.jsonl")) // the pattern is well formed
	wantFollowed(t, l, append(old, path)...)
}

// A disk that is full, or a place that cannot be written, costs no entry.
func TestFullDiskLosesNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a small file system")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("cannot mount here: %v %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("%v %s", err, out)
		}
	})
	path := filepath.Join(dir, "audit.jsonl")
	l := newLog(t, pgtest.New(t), path)
	add(t, l, 10)
	l.follow(t.Context())
	wantFollowed(t, l, path)
	add(t, l, 60)
	l.follow(t.Context())
	if testutil.ToFloat64(l.metrics.fileBroken) != 1 || testutil.ToFloat64(l.metrics.fileFailed) == 0 {
		t.Error("a full disk is not shown")
	}
	if n := len(lines(t, path)); n != 10 {
		t.Errorf("%d lines: the part that did not fit stayed", n)
	}
	if out, err := exec.Command("mount", "-o", "remount,size=1m", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	l.file.retryAt = time.Time{}
	l.follow(t.Context())
	if testutil.ToFloat64(l.metrics.fileBroken) != 0 {
		t.Error("still shown as broken")
	}
	wantFollowed(t, l, path)
}

func TestFileInAnImpossiblePlaceLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	l := newLog(t, pgtest.New(t), path)
	add(t, l, 2)
	l.follow(t.Context())
	if testutil.ToFloat64(l.metrics.fileBroken) != 1 {
		t.Error("not shown")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	l.file.retryAt = time.Time{}
	l.follow(t.Context())
	wantFollowed(t, l, path)
}

// A database whose chain lost its end, or another's: the file is kept, the case is recorded, and the file begun anew.
func TestAChainThatDoesNotContinueTheFileIsAnAlarm(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	l := newLog(t, pgtest.New(t), path)
	add(t, l, 8)
	l.follow(t.Context())
	if _, err := l.pool.Exec(t.Context(), `DELETE FROM audit_entry WHERE seq > 5`); err != nil {
		t.Fatal(err)
	}
	h, _, err := FileHead(path)
	if err != nil {
		t.Fatal(err)
	}
	if v := verify(t, l, h); v.BadSeq != 6 {
		t.Errorf("%+v", v)
	}
	add(t, l, 4) // so that the numbers pass those of the file
	for range 3 {
		if err := l.step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := testutil.ToFloat64(l.metrics.conflicts); n != 1 {
		t.Errorf("%v conflicts", n)
	}
	wantFollowed(t, l, path)
	found, err := l.Before(t.Context(), 0, Filter{Action: "audit_chain_conflict"}, 5)
	if err != nil || len(found) != 1 || found[0].Level != Security {
		t.Errorf("recorded: %v %v", found, err)
	}
	aside, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "audit-*-conflict.jsonl")) // the pattern is well formed
	if len(aside) != 1 || len(lines(t, aside...)) != 8 {
		t.Errorf("put aside: %v", aside)
	}
}

// Run does all of it by itself, soon after the commit.
func TestRunFollowsByItself(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	l := newLog(t, pgtest.New(t), path)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	if err := l.Record(t.Context(), login(1)); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); ; {
		if h, ok, err := FileHead(path); err == nil && ok && h.Seq == 1 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the file does not follow")
		}
		<-time.After(10 * time.Millisecond)
	}
	if err := l.Record(t.Context(), login(2)); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	wantFollowed(t, l, path) // with what was added last
}

// The lines of the old operations manual work on the file as it is.
func TestOldManualsLinesWork(t *testing.T) {
	if _, err := exec.LookPath("jq"); err != nil {
		t.Skip("needs jq")
	}
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	l := newLog(t, pgtest.New(t), path)
	add(t, l, 3)
	if err := l.Record(t.Context(), Entry{Level: Warning, Category: Authentication, Action: "login_failed", Status: Failure, IP: "203.0.113.9"}); err != nil {
		t.Fatal(err)
	}
	if err := l.step(t.Context()); err != nil {
		t.Fatal(err)
	}
	for script, want := range map[string]string{
		`select(.action == "login_failed") | .ip_address`:                                                "203.0.113.9\n",
		`select(.category == "authentication" and .level == "WARNING") | .status`:                        "failure\n",
		`select(.user_id == "u1") | [.details.login_method, .details.two_factor | tostring] | join(" ")`: "password true\n",
		`select(.timestamp >= "2020-01-01") | .user_role // "nobody"`:                                    "admin\nadmin\nadmin\nnobody\n",
	} {
		out, err := exec.Command("jq", "-r", script, path).Output()
		if err != nil || string(out) != want {
			t.Errorf("%s: %q %v", script, out, err)
		}
	}
}
