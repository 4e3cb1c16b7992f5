package poll

import (
	"container/heap"
	"hash/fnv"
	"math"
	"time"

	"github.com/hashinsight/hashinsight/pkg/unit"
)

// class decides which slots a poll may use.
type class int

const (
	answering class = iota // answered last time, or never tried
	silent                 // a known miner that did not answer
	scanned                // an address of a range where nothing has answered yet
	classes
)

func (c class) String() string { return [classes]string{"answering", "silent", "scanned"}[c] }

// target is an address with its place in the schedule.
type target struct {
	Target
	class    class
	due      time.Time // monotonic
	failures int
	reader   Reader
	polled   bool
	offset   time.Duration // of the wall clock at the poll before
}

// schedule knows when each target is due and how many may be read at once. It starts nothing.
type schedule struct {
	waiting waiting           // by due time
	ready   [classes]fifo     // due, without a slot yet
	slots   [classes]int      // how many may be in flight; silent and scanned ones share the slots of the silent
	flying  [classes]int      // how many are
	inClass [classes]int      // targets by class
	flight  map[*target]class // the class whose slot a poll took: it may change until it ends
	skipped int               // cycles that could not be started in time since last asked
	grain   time.Duration     // between points of the grid that polls start on
	grid    time.Time         // one of them, monotonic
}

// maxGrain is the grain of the grid unless a hundredth of an interval is less. A computer that mostly waits pays for being woken more than
// for what it then does: 1,000 polls a second that each start and are booked when their moment comes took 225 µs of CPU each, in
// groups of 50 ms 181, of 100 ms 186 (medians of three, alternating).
const maxGrain = 50 * time.Millisecond

// newSchedule places each target at its own phase inside its interval: a hash of the address, on a grid of the wall
// clock, so that it stays the same over restarts and no two runs poll in larger bursts than a point of the grid has.
func newSchedule(targets []Target, maxInFlight int, mono, wall time.Time, known func(address string) bool) schedule {
	quarter := max(maxInFlight/4, 2)
	s := schedule{flight: map[*target]class{}}
	s.slots = [classes]int{answering: max(maxInFlight-quarter, 1), silent: quarter, scanned: max(quarter/2, 1)}
	s.grain = maxGrain
	for i := range targets {
		s.grain = max(min(s.grain, targets[i].Interval/100), time.Millisecond)
	}
	s.grid = mono.Add(-time.Duration(wall.UnixNano()) % s.grain)
	s.waiting = make(waiting, 0, len(targets))
	for i := range targets {
		t := &target{Target: targets[i]}
		if t.Scan && !known(t.Address) {
			t.class = scanned
		}
		elapsed := time.Duration(wall.UnixNano()) % t.Interval
		t.due = mono.Add((phase(t.Address, t.Interval).Truncate(s.grain) - elapsed + t.Interval) % t.Interval)
		s.inClass[t.class]++
		s.waiting = append(s.waiting, t)
	}
	heap.Init(&s.waiting)
	return s
}

func phase(address string, interval time.Duration) time.Duration {
	h := fnv.New64a()
	_, _ = h.Write([]byte(address)) // a hash takes everything
	x := h.Sum64()
	// FNV leaves neighbouring addresses close together in the high bits: mix them (the finaliser of MurmurHash3).
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	return time.Duration(float64(x>>11) / (1 << 53) * float64(interval))
}

// release makes targets ready whose time has come.
func (s *schedule) release(now time.Time) {
	for len(s.waiting) > 0 && !s.waiting[0].due.After(now) {
		t := heap.Pop(&s.waiting).(*target)
		s.ready[t.class].push(t)
	}
}

// take returns the next ready target that has a slot, and counts it as in flight; nil when there is none.
func (s *schedule) take() *target {
	for c := range classes {
		shared := c != answering && s.flying[silent]+s.flying[scanned] >= s.slots[silent]
		if s.flying[c] < s.slots[c] && !shared {
			if t := s.ready[c].pop(); t != nil {
				s.flying[c]++
				s.flight[t] = c
				return t
			}
		}
	}
	return nil
}

// untilGrid is the time to the next point of the grid, never 0.
func (s *schedule) untilGrid(now time.Time) time.Duration { return s.grain - now.Sub(s.grid)%s.grain }

func (s *schedule) inFlight() int { return len(s.flight) }

// next returns when the next target becomes due.
func (s *schedule) next() (time.Time, bool) {
	if len(s.waiting) == 0 {
		return time.Time{}, false
	}
	return s.waiting[0].due, true
}

const (
	// maxSilence bounds the back-off: a 5-minute slot without a poll says nothing about a miner.
	maxSilence = time.Minute
	// Addresses without a miner are asked after one minute, then after twice as long, up to maxScan.
	minScan, maxScan = time.Minute, 10 * time.Minute
)

// done gives a target back and says when it is due again. known: there is a miner with an id.
func (s *schedule) done(t *target, now time.Time, spoke, known bool) {
	s.flying[s.flight[t]]--
	delete(s.flight, t)
	class, skip := answering, 1
	switch {
	case spoke:
		t.failures = 0
	case known:
		class = silent
		// 1, 1, 2, 4 … intervals, at most a minute.
		skip = 1 << min(max(t.failures-1, 0), 16)
		skip = min(skip, max(int(maxSilence/t.Interval), 1))
		t.failures++
	default:
		class = scanned
		t.failures++
	}
	s.inClass[t.class]--
	t.class = class
	s.inClass[class]++
	if class == scanned {
		wait := min(minScan<<min(t.failures-1, 8), maxScan)
		t.due = now.Add(wait + phase(t.Address, wait)/8) // so that a network is not asked in one burst for ever
	} else {
		t.due = t.due.Add(time.Duration(skip) * t.Interval)
		if late := now.Sub(t.due); late >= 0 { // stay on the grid
			missed := int(late/t.Interval) + 1
			t.due = t.due.Add(time.Duration(missed) * t.Interval)
			s.skipped += missed
		}
	}
	heap.Push(&s.waiting, t)
}

// waiting is a heap by due time.
type waiting []*target

func (w waiting) Len() int           { return len(w) }
func (w waiting) Less(i, j int) bool { return w[i].due.Before(w[j].due) }
func (w waiting) Swap(i, j int)      { w[i], w[j] = w[j], w[i] }

// Push implements heap.Interface.
func (w *waiting) Push(x any) { *w = append(*w, x.(*target)) }

// Pop implements heap.Interface.
func (w *waiting) Pop() any {
	old := *w
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*w = old[:len(old)-1]
	return t
}

// fifo is a queue of at most as many targets as there are.
type fifo struct {
	items []*target
	head  int
}

func (f *fifo) push(t *target) { f.items = append(f.items, t) }

func (f *fifo) pop() *target {
	if f.head == len(f.items) {
		return nil
	}
	t := f.items[f.head]
	f.items[f.head] = nil
	f.head++
	if f.head == len(f.items) {
		f.items, f.head = f.items[:0], 0
	} else if f.head >= 1024 && f.head >= len(f.items)/2 {
		f.items = append(f.items[:0], f.items[f.head:]...)
		f.head = 0
	}
	return t
}

func someJoules(j float64) unit.Opt[int64] {
	if j >= math.MaxInt64 {
		return unit.Opt[int64]{}
	}
	return unit.Some(int64(j))
}
