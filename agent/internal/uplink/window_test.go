package uplink

import (
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/agent/internal/spool"
)

func TestBacklogShrinksBehindASlowLinkAndGrowsBehindAFastOne(t *testing.T) {
	const window = 4 << 20
	at := time.Unix(1_800_000_000, 0)
	w := newWindow(1000, window, at)
	seq := uint64(0)
	// answer sends as much backlog as there is room for, in batches of 4 kB, and has it acknowledged after a while.
	answer := func(after time.Duration) (sentBytes int) {
		var refs []spool.Ref
		for {
			batches, bytes, _ := w.room(false, at)
			if batches == 0 || bytes < 4<<10 && len(refs) > 0 {
				break
			}
			seq++
			ref := spool.Ref{Seq: seq}
			w.mu.Lock()
			w.sent[ref] = sent{size: 4 << 10, at: at}
			w.bytes += 4 << 10
			w.mu.Unlock()
			refs = append(refs, ref)
		}
		at = at.Add(after)
		for _, r := range refs {
			w.done(r, at)
		}
		return len(refs) * 4 << 10
	}
	for range 12 {
		answer(50 * time.Millisecond)
	}
	fast := answer(5 * time.Second) // the link becomes narrow
	if fast < window*2/3 {
		t.Errorf("%d bytes of backlog on their way behind a fast link, want most of three quarters of the window", fast)
	}
	for range 20 {
		answer(5 * time.Second)
	}
	if slow := answer(50 * time.Millisecond); slow > 8<<10 {
		t.Errorf("%d bytes of backlog on their way behind a slow link, want no more than two batches", slow)
	}
	for range 12 {
		answer(50 * time.Millisecond)
	}
	if again := answer(time.Millisecond); again < window*2/3 {
		t.Errorf("%d bytes of backlog on their way once the link is fast again", again)
	}
}
