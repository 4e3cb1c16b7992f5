package uplink

import (
	"math"
	"sync"
	"time"

	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"

	"github.com/hashinsight/hashinsight/agent/internal/spool"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// window is what is on its way on one stream: bounded by our own limits and the hub's credit.
type window struct {
	mu         sync.Mutex
	sent       map[spool.Ref]sent
	bytes      int
	maxBatches int
	maxBytes   int
	ownBatches int
	ownBytes   int
	backlog    int       // bytes on their way, live data included, up to which backlog is added
	narrowed   time.Time // when backlog was last cut
	pauseUntil time.Time // the hub asked for silence
	heard      time.Time // when the hub last said something about batches
}

type sent struct {
	size  int
	at    time.Time
	fresh bool // the hub cannot have had it before
}

// Behind a narrow link a new batch waits for everything that was sent before it. So the backlog begins small, grows by what
// comes back soon, and is halved once for each time that an answer takes too long.
const (
	backlogStart = 16 << 10
	ackSoon      = time.Second
	ackLate      = 2 * time.Second
)

func newWindow(batches, bytes int, now time.Time) *window {
	return &window{
		sent: make(map[spool.Ref]sent), maxBatches: batches, maxBytes: bytes, ownBatches: batches, ownBytes: bytes, backlog: min(backlogStart, bytes), heard: now,
	}
}

// credit takes the hub's limits. A nil credit changes nothing.
func (w *window) credit(c *telemetryv1.Credit, now time.Time) {
	if c == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.maxBatches = int(min(int64(w.ownBatches), int64(c.GetBatches())))
	w.maxBytes = int(min(uint64(w.ownBytes), c.GetBytes()))
	w.heard = now
	w.pause(c.GetRetryAfterMs(), now)
}

// pause keeps silent for a while. The caller holds mu.
func (w *window) pause(ms uint32, now time.Time) {
	until := now.Add(min(time.Duration(ms)*time.Millisecond, maxPause))
	if ms > 0 && until.After(w.pauseUntil) {
		w.pauseUntil = until
	}
}

// wait keeps silent for a while.
func (w *window) wait(ms uint32, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pause(ms, now)
}

// room returns how many batches and bytes may be sent now. The backlog leaves a quarter of the window, at least one batch,
// to live data, so that a new batch never waits for acknowledgements of old ones, and less to a slow way. An empty window takes one batch of any size.
func (w *window) room(live bool, now time.Time) (batches, bytes int, wait time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d := w.pauseUntil.Sub(now); d > 0 {
		return 0, 0, d
	}
	maxBatches, maxBytes := w.maxBatches, w.maxBytes
	if !live && maxBatches > 1 {
		maxBatches -= max(1, maxBatches/4)
		maxBytes -= maxBytes / 4
	}
	if !live {
		maxBytes = min(maxBytes, w.backlog)
	}
	batches, bytes = maxBatches-len(w.sent), maxBytes-w.bytes
	if batches <= 0 || bytes <= 0 {
		return 0, 0, 0
	}
	return batches, bytes, 0
}

// add notes batches that are about to be sent.
func (w *window) add(batches []spool.Batch, fresh func(spool.Ref) bool, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.sent) == 0 {
		w.heard = now // the hub owes an answer from now on
	}
	for i := range batches {
		ref := batches[i].Ref()
		w.sent[ref] = sent{size: batches[i].Size(), at: now, fresh: fresh(ref)}
		w.bytes += batches[i].Size()
	}
}

// done takes a batch off and returns how it was sent.
func (w *window) done(ref spool.Ref, now time.Time) (s sent, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard = now
	s, ok = w.sent[ref]
	if ok {
		delete(w.sent, ref)
		w.bytes -= s.size
		w.pace(s, now)
	}
	return s, ok
}

// pace learns from one answer how much backlog the way to the hub and the hub take in good time. The caller holds mu.
func (w *window) pace(s sent, now time.Time) {
	switch took := now.Sub(s.at); {
	case took <= ackSoon:
		w.backlog = min(w.backlog+s.size, w.ownBytes)
	case took > ackLate && s.at.After(w.narrowed): // what was sent before the last cut tells nothing about it
		w.backlog, w.narrowed = max(w.backlog/2, 1), now
	}
}

// has reports whether a batch is on its way.
func (w *window) has(ref spool.Ref) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, ok := w.sent[ref]
	return ok
}

// overdue returns how long the hub may still be silent; the second value is false while it owes nothing.
func (w *window) overdue(limit time.Duration, now time.Time) (time.Duration, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return limit - now.Sub(w.heard), len(w.sent) > 0
}

func (w *window) len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.sent)
}

// skip passes over other chains and what is on its way. The caller must not hold mu.
func (w *window) skip(chain ident.SpoolID) spool.Skip {
	return func(ref spool.Ref) uint64 {
		if ref.Spool != chain {
			return math.MaxUint64
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		for {
			if _, flying := w.sent[ref]; !flying {
				return ref.Seq
			}
			ref.Seq++
		}
	}
}
