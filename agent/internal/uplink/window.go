package uplink

import (
	"math"
	"slices"
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
	pauseUntil time.Time // the hub asked for silence
	heard      time.Time // when the hub last said something about batches
}

type sent struct {
	size int
	at   time.Time
}

func newWindow(batches, bytes int, now time.Time) *window {
	return &window{
		sent: make(map[spool.Ref]sent), maxBatches: batches, maxBytes: bytes, ownBatches: batches, ownBytes: bytes, heard: now,
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

// room returns how many batches and bytes may be sent now. The backlog leaves a quarter of the window, at least one batch,
// to live data, so that a new batch never waits for acknowledgements of old ones. An empty window takes one batch of any size.
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
	batches, bytes = maxBatches-len(w.sent), maxBytes-w.bytes
	if batches <= 0 || bytes <= 0 {
		return 0, 0, 0
	}
	return batches, bytes, 0
}

// add notes batches that are about to be sent.
func (w *window) add(batches []spool.Batch, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.sent) == 0 {
		w.heard = now // the hub owes an answer from now on
	}
	for i := range batches {
		w.sent[batches[i].Ref()] = sent{size: batches[i].Size(), at: now}
		w.bytes += batches[i].Size()
	}
}

// done takes a batch off and returns when it was sent.
func (w *window) done(ref spool.Ref, now time.Time) (at time.Time, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard = now
	s, ok := w.sent[ref]
	if ok {
		delete(w.sent, ref)
		w.bytes -= s.size
	}
	return s.at, ok
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

// skip passes over other chains, what is on its way, and what the hub will not take. The caller must not hold mu.
func (w *window) skip(chain ident.SpoolID, blocked *refusedSet) spool.Skip {
	return func(ref spool.Ref) uint64 {
		if ref.Spool != chain {
			return math.MaxUint64
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		for {
			if next := blocked.next(ref); next != ref.Seq {
				ref.Seq = next
				continue
			}
			if _, flying := w.sent[ref]; !flying {
				return ref.Seq
			}
			ref.Seq++
		}
	}
}

// refusedSet holds the names of batches that the hub refused for good, as ranges: a hub that refuses a whole spool costs
// one of them.
type refusedSet struct {
	ranges map[ident.SpoolID][]seqRange // ascending, apart from each other
	n      int
}

type seqRange struct{ first, last uint64 }

const maxRefusedRanges = 4096

// add returns false when the set is full.
func (r *refusedSet) add(ref spool.Ref) bool {
	if r.ranges == nil {
		r.ranges = make(map[ident.SpoolID][]seqRange)
	}
	list := r.ranges[ref.Spool]
	i, found := slices.BinarySearchFunc(list, ref.Seq, func(x seqRange, seq uint64) int {
		switch {
		case x.last < seq:
			return -1
		case x.first > seq:
			return 1
		}
		return 0
	})
	if found {
		return true
	}
	joinsBefore := i > 0 && list[i-1].last+1 == ref.Seq
	joinsAfter := i < len(list) && list[i].first == ref.Seq+1
	switch {
	case joinsBefore && joinsAfter:
		list[i-1].last = list[i].last
		list = slices.Delete(list, i, i+1)
		r.n--
	case joinsBefore:
		list[i-1].last = ref.Seq
	case joinsAfter:
		list[i].first = ref.Seq
	case r.n >= maxRefusedRanges:
		return false
	default:
		list = slices.Insert(list, i, seqRange{ref.Seq, ref.Seq})
		r.n++
	}
	r.ranges[ref.Spool] = list
	return true
}

// next returns the lowest sequence number at or after ref's that is not in the set.
func (r *refusedSet) next(ref spool.Ref) uint64 {
	for _, x := range r.ranges[ref.Spool] {
		if ref.Seq >= x.first && ref.Seq <= x.last {
			return x.last + 1
		}
		if x.first > ref.Seq {
			break
		}
	}
	return ref.Seq
}
