package uplink

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"

	"github.com/hashinsight/hashinsight/agent/internal/spool"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// ask makes the hub ask for ranges of batches right after its next welcome.
func (h *hub) ask(id ident.SpoolID, ranges ...[2]uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range ranges {
		h.replays = append(h.replays, &telemetryv1.Replay{SpoolId: id[:], FirstSeq: r[0], LastSeq: r[1]})
	}
}

// A hub that was restored to an earlier moment lacks batches that it had acknowledged. It asks, and gets exactly those
// that are still kept, once each; what is gone is counted.
func TestRestoredHubGetsBackWhatItAsksFor(t *testing.T) {
	inBubble(t, func(w *world) {
		w.append(40, 60_000) // more than two segments
		w.start()
		w.run(5 * time.Second)
		w.wantDrained(40)
		id := w.spool.ID()

		w.hub.mu.Lock()
		w.hub.acked, w.hub.order, w.hub.seen = map[spool.Ref]bool{}, nil, map[spool.Ref]int{} // yesterday's database
		w.hub.mu.Unlock()
		other := ident.SpoolID{9}
		w.hub.ask(id, [2]uint64{3, 20}, [2]uint64{18, 25}, [2]uint64{38, 40}) // overlapping, and the newest ones
		w.hub.ask(id, [2]uint64{0, 5}, [2]uint64{9, 8}, [2]uint64{30, 41})    // nonsense
		w.hub.ask(other, [2]uint64{1, 7})                                     // a chain that is not kept
		w.dark(false)
		w.run(2 * time.Minute)
		var want []uint64
		for seq := uint64(1); seq <= 40; seq++ {
			if seq >= 3 && seq <= 25 || seq >= 38 {
				want = append(want, seq)
			}
		}
		got := w.hub.arrived()
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("the hub got %v again, want %v once each", got, want)
		}
		w.wantDrained(len(want))
		const metric = "hashinsight_agent_uplink_replay_batches_total"
		if n := w.counter(metric, "outcome", "again"); n != float64(len(want)) {
			t.Errorf("%g batches counted as sent again, want %d", n, len(want))
		}
		if n := w.counter(metric, "outcome", "gone"); n != 7 {
			t.Errorf("%g batches counted as gone, want 7", n)
		}
	})
}

// Of an older chain that was acknowledged as a whole nothing is left to send: the greeting names it, so that a restored hub can ask for it.
func TestOlderChainsAreNamedAndSentWhenAskedFor(t *testing.T) {
	inBubble(t, func(w *world) {
		w.append(25, 60_000)
		old := w.spool.ID()
		w.harmNewestSegment()
		var kept spool.Chain
		for _, c := range w.spool.Chains() {
			if c.ID == old {
				kept = c
			}
		}
		w.append(5, 100)
		w.start()
		w.run(time.Minute)
		if p := w.spool.Stats().Pending; p != 0 {
			t.Fatalf("%d batches pending", p)
		}
		w.dark(false)
		w.run(time.Minute)
		others := func() []*telemetryv1.OtherSpool {
			w.hub.mu.Lock()
			defer w.hub.mu.Unlock()
			return w.hub.hello.GetOtherSpools()
		}
		if o := others(); len(o) != 1 || ident.SpoolID(o[0].GetSpoolId()) != old || o[0].GetOldestKeptSeq() != kept.Kept || o[0].GetNewestSeq() != kept.Newest || kept.Newest == 0 {
			t.Fatalf("the greeting names %v, want chain %+v", o, kept)
		}
		before := len(w.hub.arrived())
		w.hub.mu.Lock()
		w.hub.acked = map[spool.Ref]bool{} // yesterday's database
		w.hub.mu.Unlock()
		w.hub.ask(old, [2]uint64{kept.Kept, kept.Newest})
		w.dark(false)
		w.run(time.Minute)
		if n := len(w.hub.arrived()) - before; n != int(kept.Newest-kept.Kept+1) {
			t.Errorf("%d batches arrived again, want %d", n, kept.Newest-kept.Kept+1)
		}
		if p := w.spool.Stats().Pending; p != 0 {
			t.Errorf("%d batches pending", p)
		}
	})
}

// A hub that asks without end is listened to for a while only.
func TestEndlessReplayRequestsAreBounded(t *testing.T) {
	inBubble(t, func(w *world) {
		w.append(3, 100)
		w.start()
		w.run(time.Second)
		for range maxReplays + 50 {
			w.hub.ask(ident.SpoolID{9}, [2]uint64{1, 1})
		}
		w.dark(false)
		w.run(2 * time.Minute)
		if n := w.counter("hashinsight_agent_uplink_replay_batches_total", "outcome", "gone"); n != maxReplays {
			t.Errorf("%g requests were listened to on one stream, want %d", n, maxReplays)
		}
	})
}

// Batches that the hub refuses for good do not keep an older chain from its turn.
func TestRefusedBatchesLeaveOlderChainsTheirTurn(t *testing.T) {
	inBubble(t, func(w *world) {
		w.append(25, 60_000)
		old := w.spool.ID()
		w.harmNewestSegment()
		w.append(5, 100)
		current := w.spool.ID()
		if current == old {
			t.Fatal("no new chain")
		}
		w.hub.answer = func(s hubStream, b batch) bool {
			if b.header.Spool != current {
				return false
			}
			w.hub.refuse(s, b.header, telemetryv1.RefusalReason_REFUSAL_REASON_NOT_AUTHENTIC, 0)
			return true
		}
		w.start()
		w.run(10 * time.Minute)
		for _, c := range w.spool.Chains() {
			if c.ID == old && c.Pending != 0 {
				t.Errorf("%d batches of the older chain are pending", c.Pending)
			}
			if c.ID == current && (c.Pending == 0 || c.Sendable() != 0) {
				t.Errorf("current chain %+v, want all of it refused", c)
			}
		}
	})
}

// harmNewestSegment closes the spool, makes its newest segment unreadable and opens it again.
func (w *world) harmNewestSegment() {
	w.t.Helper()
	if err := w.spool.Close(); err != nil {
		w.t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(w.spoolCfg.Dir, "*.seg"))
	if err != nil || len(files) < 2 {
		w.t.Fatalf("segments %v, %v; want at least two", files, err)
	}
	slices.Sort(files)
	if err := os.WriteFile(files[len(files)-1], []byte("not a segment"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if w.spool, err = spool.Open(w.t.Context(), w.spoolCfg); err != nil {
		w.t.Fatal(err)
	}
	w.cfg.Spool = w.spool
}

// A link that is cut for a week costs nothing but the wait: the newest data arrives first, everything once, and the disk is
// given back after the grace period.
func TestWeekLongCut(t *testing.T) {
	inBubble(t, func(w *world) {
		const step = 10 * time.Minute
		w.start()
		total := 0
		live := func(d time.Duration) {
			for range d / step {
				w.append(1, 5000)
				total++
				w.run(step)
			}
		}
		live(2 * time.Hour)
		w.setCut(true)
		live(7 * 24 * time.Hour)
		if p := w.spool.Stats().Pending; p < 7*24*6-1 {
			t.Errorf("%d pending after the week", p)
		}
		before := len(w.hub.arrived())
		newest := w.spool.Stats().NewestSeq
		w.setCut(false)
		w.run(2 * time.Minute)
		if order := w.hub.arrived()[before:]; len(order) == 0 || order[0] != newest {
			t.Errorf("after the week the first of %d batches is not the newest", len(order))
		}
		w.wantDrained(total)
		if n := len(w.hub.arrived()); n != total {
			t.Errorf("%d batches arrived, %d were made", n, total)
		}
		live(25 * time.Hour)
		if n := w.spool.Stats().Segments; n > 3 { // the last day's data takes a little more than one
			t.Errorf("%d segments a day after the backlog was sent, want at most 3", n)
		}
		w.wantDrained(total)
	})
}
