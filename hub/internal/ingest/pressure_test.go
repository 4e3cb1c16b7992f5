package ingest

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"
)

// load is what the process holds.
type load struct {
	goroutines int
	heap       int64
}

func loadNow() load {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return load{runtime.NumGoroutine(), int64(m.HeapAlloc)}
}

// batchOf finds a batch by its sequence number.
func batchOf(t *testing.T, in []*telemetryv1.Batch, seq uint64) *telemetryv1.Batch {
	t.Helper()
	for _, b := range in {
		h, err := evidence.ParseHeader(b.GetHeader())
		if err != nil {
			t.Fatal(err)
		}
		if h.Seq == seq {
			return b
		}
	}
	t.Fatalf("an answer names batch %d, which was not sent", seq)
	return nil
}

// While the database is away agents try again and again. That costs the hub nothing that stays, and no batch is taken for stored.
func TestDatabaseThatStaysAwayCostsNothingThatStays(t *testing.T) {
	const (
		batches = 32
		rounds  = 100
		more    = 8 << 20 // bytes of heap and
		extra   = 20      // goroutines that come and go
	)
	d := newDatabase(t)
	// A short patience, so that many of the batches get as far as the database.
	h := newHubOn(t, d.pool(), func(c *Config) {
		c.RetryAfter, c.GroupRows = time.Millisecond, 100
		c.Rate = SiteRate{Samples: 1, Reserve: 1000 * time.Hour} // a reserve that is as good as never filled up
	})
	s := h.newSite(t, "north", 50)
	l := h.connect(t, s)
	first := s.batch(t, time.Now().Add(-time.Hour))
	l.send(first)
	l.wantAcks(stored, first)
	var all []*telemetryv1.Batch
	for n := range batches {
		all = append(all, s.batch(t, time.Now().Add(-time.Hour+time.Duration(n)*10*time.Second)))
	}
	d.crash()
	var before load
	for round := range rounds {
		l.send(all...)
		for range all {
			if r := l.recv(); r.GetRefusal().GetReason() != telemetryv1.RefusalReason_REFUSAL_REASON_UNAVAILABLE {
				t.Fatalf("round %d: answer %v, want patience", round, r)
			}
		}
		switch round {
		case rounds / 10:
			before = loadNow()
		case rounds / 2:
			h.server.ForgetKeys(s.id) // from here on batches are refused for want of the key, before they reach the writers
		}
	}
	tried := h.metric(t, "hashinsight_ingest_transaction_failures_total", "unavailable")
	if tried < 20 {
		t.Errorf("only %g transactions were tried: the test did not reach the database", tried)
	}
	var after load
	waitFor(t, "goroutines and heap to be what they were", func() bool {
		after = loadNow()
		return after.goroutines <= before.goroutines+extra && after.heap <= before.heap+more
	})
	// What it sends again and again through no fault of its own does not count as sent.
	r := h.server.rates
	r.mu.Lock()
	used := r.full().samples - r.sites[s.id].left.samples
	r.mu.Unlock()
	if used > 50 {
		t.Errorf("%g samples of the site's reserve are used up, want at most the 50 that are stored", used)
	}
	if held := h.server.held.Load(); held != 0 || len(h.server.queue) != 0 {
		t.Errorf("%d bytes and %d batches are held of what was refused", held, len(h.server.queue))
	}
	t.Logf("%d batches refused, %g transactions tried; goroutines %d to %d, heap %+d kB", rounds*batches, tried, before.goroutines, after.goroutines, (after.heap-before.heap)>>10)

	d.start()
	pending := all
	for len(pending) > 0 {
		l.send(pending...)
		var again []*telemetryv1.Batch
		var wait time.Duration
		for range pending {
			r := l.recv()
			if refusal := r.GetRefusal(); refusal != nil {
				again = append(again, batchOf(t, pending, refusal.GetSeq()))
				wait = time.Duration(refusal.GetRetryAfterMs()) * time.Millisecond
			}
		}
		if pending = again; len(again) > 0 {
			<-time.After(wait) // as agents do
		}
	}
	h.want(t, "batches", ledger, batches+1, s.id[:])
	// Links between transactions that ran at once are judged after the answer.
	waitFor(t, "links", func() bool { return h.count(t, linksOK, s.id[:]) == batches+1 })
	h.want(t, "serial numbers", serials, (batches+1)*50, s.id[:])
}

// A database that hangs fills the hub's memory for batches, and no more; agents that come are granted less until it works again.
func TestSlowDatabaseLowersCreditAndHoldsNoMoreThanItsBound(t *testing.T) {
	const batches = 128
	h := newHub(t, func(c *Config) { c.MaxBytes, c.GroupRows = 512<<10, 50 })
	s, other := h.newSite(t, "north", 50), h.newSite(t, "south", 1)
	l := h.connect(t, s)
	full := l.welcome.GetCredit()
	var all []*telemetryv1.Batch
	for n := range batches {
		all = append(all, s.batch(t, time.Now().Add(time.Duration(n-batches)*10*time.Second)))
	}
	lock, err := h.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	unlock := sync.OnceFunc(func() {
		if err := lock.Rollback(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(unlock)
	if _, err := lock.Exec(t.Context(), `LOCK TABLE batch IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	before := loadNow()
	var acked atomic.Int64
	var agent sync.WaitGroup
	agent.Go(func() {
		for _, b := range all {
			if err := l.stream.Send(&telemetryv1.StreamRequest{Message: &telemetryv1.StreamRequest_Batches{Batches: &telemetryv1.BatchGroup{Batches: []*telemetryv1.Batch{b}}}}); err != nil {
				t.Errorf("sending: %v", err)
				return
			}
		}
	})
	agent.Go(func() {
		for acked.Load() < batches {
			r, err := l.stream.Recv()
			if err != nil {
				t.Errorf("after %d acknowledgements: %v", acked.Load(), err)
				return
			}
			if r.GetAck() != nil {
				acked.Add(1)
			}
		}
	})
	waitFor(t, "the memory for batches to be full", func() bool { return h.metric(t, "hashinsight_ingest_bounds_total", "memory") > 0 })
	// A batch that waits for memory stops the stream behind it: what is read stays what it is.
	if held := h.server.held.Load(); held > h.server.c.MaxBytes || held < h.server.c.MaxBytes/2 {
		t.Errorf("%d bytes are held, at most %d may be", held, h.server.c.MaxBytes)
	}
	if n := len(h.server.queue); n > cap(h.server.queue) || int64(n) > h.server.held.Load()/(50*512) {
		t.Errorf("%d batches wait for a writer", n)
	}
	if after := loadNow(); after.goroutines > before.goroutines+20 || after.heap > before.heap+16<<20 {
		t.Errorf("goroutines %d, then %d; heap %d bytes, then %d", before.goroutines, after.goroutines, before.heap, after.heap)
	}
	lo := h.connect(t, other)
	if c := lo.welcome.GetCredit(); c.GetBatches() >= full.GetBatches() || c.GetBytes() >= full.GetBytes() || c.GetBatches() == 0 {
		t.Errorf("an agent that comes is granted %v, in good times %v", c, full)
	}
	if n := acked.Load(); n != 0 {
		t.Errorf("%d batches acknowledged, which cannot be stored", n)
	}
	unlock()
	agent.Wait()
	h.want(t, "batches", ledger, batches, s.id[:])
	h.want(t, "serial numbers", serials, batches*50, s.id[:])
	if held := h.server.held.Load(); held != 0 {
		t.Errorf("%d bytes are still held", held)
	}
	// The time that a transaction took of late is forgotten within some more of them.
	granted := lo.welcome.GetCredit().GetBatches()
	for n := 0; granted != full.GetBatches(); n++ {
		if n == 60 {
			t.Fatalf("after %d quick transactions an agent is granted %d batches, in good times %d", n, granted, full.GetBatches())
		}
		lo.send(other.batch(t, time.Now()))
		for answered := false; !answered; {
			r, err := lo.stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if c := r.GetCredit(); c != nil {
				granted = c.GetBatches()
			}
			answered = r.GetAck() != nil
		}
	}
}
