package poll

import (
	"errors"
	"io/fs"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestOneObservationThatCannotBeEncodedCostsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		f.add("1", 20, false, healthy)
		f.add("2", 1, false, &device{took: time.Second}) // an observation without an outcome
		f.config = func(c *Config) { c.BatchInterval = 10 * time.Second }
		f.run(time.Minute)
		bad := len(f.starts[f.targets[20].Address])
		if n, want := len(f.samples()), f.attempts()-bad; n != want || bad == 0 {
			t.Errorf("%d samples stored, want the %d good ones of %d polls", n, want, f.attempts())
		}
		if n := testutil.ToFloat64(f.poller.metrics.dropped); int(n) != bad {
			t.Errorf("%v samples counted as dropped, want %d", n, bad)
		}
	})
}

func TestAFullDiskLosesNothingThatFitsIntoMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		f.add("1", 20, false, healthy)
		full := errors.New("no space left on device")
		f.disk = func() error { return full }
		began := time.Now()
		f.start()
		time.Sleep(5 * time.Minute)
		if st := f.poller.Status(); !errors.Is(st.StoreError, full) || st.Pending == 0 || st.Answering != 20 || st.Unstored.Sub(began).Abs() > 15*time.Second {
			t.Errorf("status %+v does not tell of the full disk", st)
		}
		f.mu.Lock()
		f.disk = nil
		f.mu.Unlock()
		time.Sleep(time.Minute + time.Millisecond)
		synctest.Wait()
		if st := f.poller.Status(); !st.Unstored.IsZero() {
			t.Errorf("readings since %v count as not stored", st.Unstored)
		}
		if err := f.stop(); err != nil {
			t.Fatal(err)
		}
		if n := len(f.samples()); n != f.attempts() {
			t.Errorf("%d samples stored of %d polls", n, f.attempts())
		}
	})
}

// On a full disk the inventory comes first: were it not allowed to ask for room, nothing would ever free what the spool can spare.
func TestAnInventoryThatCannotBeStoredAsksForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		f.add("1", 5, false, healthy)
		f.dir += "/gone"
		asked := 0
		f.config = func(c *Config) {
			c.MakeRoom = func(err error) bool {
				asked++
				return errors.Is(err, fs.ErrNotExist) && asked == 2 && os.Mkdir(f.dir, 0o700) == nil
			}
		}
		f.run(time.Minute)
		if n := len(f.samples()); n != f.attempts() || asked != 2 {
			t.Errorf("%d samples stored of %d polls, asked for room %d times", n, f.attempts(), asked)
		}
	})
}

func TestMemoryForWhatCannotBeStoredIsBoundedAndTheOldestGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		f.add("1", 20, false, healthy)
		f.disk = func() error { return errors.New("no space left on device") }
		f.config = func(c *Config) { c.MaxPending = 4096 }
		f.start()
		time.Sleep(10 * time.Minute)
		if st := f.poller.Status(); st.Pending > 4096 {
			t.Errorf("%d bytes wait, want at most 4096", st.Pending)
		}
		f.mu.Lock()
		f.disk = nil
		f.mu.Unlock()
		time.Sleep(time.Minute)
		if err := f.stop(); err != nil {
			t.Fatal(err)
		}
		dropped := int(testutil.ToFloat64(f.poller.metrics.dropped))
		if n := len(f.samples()); dropped == 0 || n+dropped != f.attempts() {
			t.Errorf("%d stored and %d dropped of %d polls", n, dropped, f.attempts())
		}
		last := f.stored[len(f.stored)-2]
		if age := last.at.Sub(last.obs[0].At); age > 5*time.Second {
			t.Errorf("the newest stored batch is %v old: newer ones were dropped first", age)
		}
		described := 0
		for _, s := range f.stored {
			described += len(s.infos)
		}
		if described < 20 {
			t.Errorf("%d descriptions of 20 miners: those in dropped batches were not sent again", described)
		}
	})
}

func TestABatchLastsAtMostItsTimeAndItsSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		f.add("1", 1000, false, healthy)
		f.config = func(c *Config) { c.MaxSamples = 150 }
		f.run(30 * time.Second)
		for _, s := range f.stored {
			first, last := s.obs[0].At, s.obs[0].At
			for _, o := range s.obs {
				if o.At.Before(first) {
					first = o.At
				}
				if o.At.After(last) {
					last = o.At
				}
			}
			if len(s.obs) > 150 || last.Sub(first) > 2*time.Second {
				t.Errorf("a batch of %d samples over %v", len(s.obs), last.Sub(first))
			}
		}
	})
}
