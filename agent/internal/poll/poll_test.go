package poll

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hashinsight/hashinsight/agent/internal/inventory"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// farm is a poller with its miners, its disk and its clock.
type farm struct {
	t       *testing.T
	dir     string
	skew    time.Duration // of the wall clock against the virtual one
	skewed  atomic.Bool   // and somebody knows that it is wrong
	targets []Target
	config  func(*Config) // nil or a change before start

	mu     sync.Mutex
	miners map[string]*device // by address
	starts map[string][]time.Time
	disk   func() error // nil or a failing disk
	stored []stored

	poller *Poller
	stop   func() error
	looks  int // Run ends when it has looked so often whether it shall; 0 means stop
}

// device is what stands at an address. A nil device is silent: reads end with their deadline.
type device struct {
	mac     string
	took    time.Duration
	outcome telemetry.Outcome
	watts   float64
}

type stored struct {
	payload []byte
	at      time.Time
	obs     []telemetry.Observation
	infos   []telemetry.MinerInfo
}

func newFarm(t *testing.T) *farm {
	return &farm{t: t, dir: t.TempDir(), miners: map[string]*device{}, starts: map[string][]time.Time{}}
}

func (f *farm) now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Now().Round(0).Add(f.skew).UTC()
}

// add names n addresses from base on.
func (f *farm) add(base string, n int, scan bool, d *device) {
	for i := range n {
		a := fmt.Sprintf("10.0.%s.%d.%d:4028", base, i/250, i%250)
		f.targets = append(f.targets, Target{Address: a, Scan: scan, Interval: 10 * time.Second, Timeout: 10 * time.Second})
		if d != nil {
			c := *d
			f.miners[a] = &c
		}
	}
}

func (f *farm) read(address string) Reader {
	return func(ctx context.Context) (telemetry.Observation, telemetry.MinerInfo) {
		f.mu.Lock()
		f.starts[address] = append(f.starts[address], time.Now())
		d := f.miners[address]
		f.mu.Unlock()
		obs := telemetry.Observation{Outcome: telemetry.OutcomeTimeout}
		var info telemetry.MinerInfo
		deadline, ok := ctx.Deadline()
		if !ok {
			f.t.Error("a poll without a deadline")
		}
		if d == nil {
			<-time.After(time.Until(deadline))
		} else {
			select {
			case <-time.After(d.took):
				obs.Outcome, info.MAC = d.outcome, d.mac
				if d.watts > 0 {
					obs.Power = unit.Some(unit.Watts(d.watts))
				}
			case <-time.After(time.Until(deadline)):
			}
		}
		obs.At = f.now()
		return obs, info
	}
}

func (f *farm) start() {
	f.t.Helper()
	inv, err := inventory.Open(inventory.Config{Dir: f.dir})
	if err != nil {
		f.t.Fatal(err)
	}
	dec, err := wire.NewDecoder()
	if err != nil {
		f.t.Fatal(err)
	}
	c := Config{
		Targets: f.targets, Inventory: inv, Now: f.now, Registerer: prometheus.NewRegistry(), Skewed: f.skewed.Load,
		Open: func(t Target) Reader { return f.read(t.Address) },
		Append: func(_ context.Context, payload []byte, m wire.Meta) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.disk != nil {
				if err := f.disk(); err != nil {
					return err
				}
			}
			s, err := dec.Samples(payload)
			if err != nil {
				f.t.Errorf("payload: %v", err)
				return nil
			}
			st := stored{payload: bytes.Clone(payload), at: time.Now(), infos: s.Infos}
			for i := range s.Len() {
				st.obs = append(st.obs, s.Observation(i))
			}
			if int(m.Samples) != len(st.obs) {
				f.t.Errorf("payload of %d samples came with a meta of %d", len(st.obs), m.Samples)
			}
			f.stored = append(f.stored, st)
			return nil
		},
	}
	if f.config != nil {
		f.config(&c)
	}
	if f.poller, err = New(c); err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if f.looks > 0 {
		ctx = &ending{ctx, cancel, f.looks}
	}
	done := make(chan error, 1)
	go func() { done <- f.poller.Run(ctx) }()
	f.stop = func() error { cancel(); defer dec.Close(); return <-done }
}

// run polls for d and then stops.
func (f *farm) run(d time.Duration) {
	f.t.Helper()
	f.start()
	time.Sleep(d)
	if err := f.stop(); err != nil {
		f.t.Fatal(err)
	}
}

func (f *farm) samples() []telemetry.Observation {
	var out []telemetry.Observation
	for _, s := range f.stored {
		out = append(out, s.obs...)
	}
	return out
}

func (f *farm) attempts() int {
	n := 0
	for _, s := range f.starts {
		n += len(s)
	}
	return n
}

var healthy = &device{outcome: telemetry.OutcomeOK, took: 300 * time.Millisecond}

func TestPollsAreSpreadOverTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		f.add("1", 1000, false, healthy)
		begin := time.Now()
		f.run(50*time.Second - maxGrain/2) // ends between two points of the grid
		perSecond := make([]int, 50)
		for a, starts := range f.starts {
			if len(starts) != 5 {
				t.Errorf("%s was polled %d times in 5 intervals", a, len(starts))
			}
			for i, s := range starts {
				perSecond[int(s.Sub(begin)/time.Second)]++
				if i > 0 && s.Sub(starts[i-1]) != 10*time.Second {
					t.Errorf("%s: polls %v apart", a, s.Sub(starts[i-1]))
				}
			}
		}
		if lo, hi := slices.Min(perSecond), slices.Max(perSecond); lo < 60 || hi > 140 {
			t.Errorf("between %d and %d polls start in a second, want about 100", lo, hi)
		}
		if n := len(f.samples()); n != 5000 {
			t.Errorf("%d samples stored of 5000 polls", n)
		}
	})
}

// Polls that start together cost one wake of a computer that otherwise sleeps, and no burst of a network.
func TestPollsStartOnAGridOfTheWallClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		f.add("1", 1000, false, healthy)
		time.Sleep(17 * time.Millisecond)
		f.run(30 * time.Second)
		together := map[time.Time]int{}
		for a, starts := range f.starts {
			for _, s := range starts {
				if off := time.Duration(s.UnixNano()) % maxGrain; off != 0 {
					t.Fatalf("%s was polled %v after a point of the grid", a, off)
				}
				together[s]++
			}
		}
		if len(together) < 590 { // of 600 points; 5 polls each on average
			t.Errorf("polls start at %d moments only", len(together))
		}
		for at, n := range together {
			if n > 20 {
				t.Errorf("%d polls start together at %v", n, at)
			}
		}
	})
}

func TestPhasesSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		f.add("1", 20, false, healthy)
		f.run(30 * time.Second)
		time.Sleep(3700 * time.Millisecond)
		f.run(30 * time.Second)
		for a, starts := range f.starts {
			for _, s := range starts {
				if d := s.Sub(starts[0]); d%(10*time.Second) != 0 {
					t.Fatalf("%s left its phase: %v after its first poll", a, d)
				}
			}
		}
	})
}

func TestHungMinersDelayNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		f.add("1", 400, false, healthy)
		f.add("2", 100, false, nil) // accept and hang: each read takes its whole deadline
		// Live miners need 12 slots on average; 100 hung ones would fill 100.
		f.config = func(c *Config) { c.MaxInFlight = 80 }
		f.start()
		time.Sleep(40*time.Second - maxGrain/2) // the first cycles, in which all are given the same chance; between two points of the grid
		f.mu.Lock()
		clear(f.starts)
		f.mu.Unlock()
		time.Sleep(300 * time.Second)
		if err := f.stop(); err != nil {
			t.Fatal(err)
		}
		for a := range f.miners {
			starts := f.starts[a]
			if len(starts) != 30 {
				t.Errorf("%s was polled %d times in 30 intervals", a, len(starts))
			}
			for i := 1; i < len(starts); i++ {
				if d := starts[i].Sub(starts[i-1]); d < 9*time.Second || d > 11*time.Second {
					t.Errorf("%s: polls %v apart", a, d)
				}
			}
		}
		if n := testutil.ToFloat64(f.poller.metrics.polls[telemetry.OutcomeTimeout]); n < 500 {
			t.Errorf("the hung miners have %v samples, want at least one a minute each", n)
		}
	})
}

func TestASilentMinerIsTriedLessOftenAndEveryAttemptIsASample(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		f.add("1", 1, false, &device{outcome: telemetry.OutcomeRefused})
		f.start()
		time.Sleep(20 * time.Minute)
		address := f.targets[0].Address
		f.mu.Lock()
		starts := f.starts[address]
		f.miners[address] = healthy
		f.mu.Unlock()
		var gaps []time.Duration
		for i := 1; i < len(starts); i++ {
			gaps = append(gaps, starts[i].Sub(starts[i-1]))
		}
		want := []int{10, 10, 20, 40, 60, 60}
		for i, w := range want {
			if gaps[i] != time.Duration(w)*time.Second {
				t.Errorf("attempt %d came after %v, want %ds", i+2, gaps[i], w)
			}
		}
		if m := slices.Max(gaps); m > time.Minute {
			t.Errorf("up to %v passed without an attempt", m)
		}
		time.Sleep(5 * time.Minute)
		if err := f.stop(); err != nil {
			t.Fatal(err)
		}
		last := f.starts[address][len(f.starts[address])-2:]
		if d := last[1].Sub(last[0]); d != 10*time.Second {
			t.Errorf("a miner that is back is polled every %v", d)
		}
		if n := len(f.samples()); n != f.attempts() {
			t.Errorf("%d samples of %d attempts", n, f.attempts())
		}
	})
}

func TestSilentAddressesOfARangeAreProbedSlowlyAndLeaveNoSamples(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		f.add("1", 200, true, nil)
		f.start()
		time.Sleep(10 * time.Minute)
		f.mu.Lock()
		if n := len(f.stored); n != 0 {
			t.Errorf("%d batches stored of addresses where nothing is", n)
		}
		if n := f.attempts(); n < 600 || n > 1000 {
			t.Errorf("%d probes of 200 addresses in 10 minutes", n)
		}
		born := f.targets[7].Address
		f.miners[born] = healthy
		f.mu.Unlock()
		time.Sleep(13 * time.Minute)
		if got := f.poller.Status(); got.Answering != 1 || got.Scanned != 199 {
			t.Errorf("status %+v, want 1 answering and 199 scanned", got)
		}
		if err := f.stop(); err != nil {
			t.Fatal(err)
		}
		n, ids := len(f.samples()), map[ident.MinerID]bool{}
		for _, o := range f.samples() {
			ids[o.Miner] = true
		}
		if len(ids) != 1 || n < 6 {
			t.Errorf("a new miner gave %d samples under %d ids", n, len(ids))
		}
	})
}

func TestWhatSpeaksInARangeIsAMinerEvenIfUnreadable(t *testing.T) {
	for _, o := range []telemetry.Outcome{telemetry.OutcomeGarbage, telemetry.OutcomeAPIError, telemetry.OutcomeDenied, telemetry.OutcomeTooLarge} {
		synctest.Test(t, func(t *testing.T) {
			f := newFarm(t)
			f.add("1", 1, true, &device{outcome: o})
			f.run(30 * time.Second)
			if s := f.samples(); len(s) == 0 || s[0].Outcome != o {
				t.Errorf("%v left %d samples", o, len(s))
			}
		})
	}
}
