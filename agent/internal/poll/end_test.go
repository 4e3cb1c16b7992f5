package poll

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashinsight/hashinsight/pkg/telemetry"
)

func TestTheEndWaitsForPollsInFlightAndStoresThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		f.add("1", 10, false, &device{outcome: telemetry.OutcomeOK, took: 8 * time.Second})
		f.run(12 * time.Second)
		if n := len(f.samples()); n != f.attempts() || n == 0 {
			t.Errorf("%d samples stored of %d polls", n, f.attempts())
		}
	})
}

// TestTheEndMayComeAtAnyMoment ends a poller at each of the moments at which it looks whether it shall end, while many polls are
// due: none of them may be counted as in flight without being one, or the end waits for ever.
func TestTheEndMayComeAtAnyMoment(t *testing.T) {
	for looks := range 40 {
		synctest.Test(t, func(t *testing.T) {
			f := newFarm(t)
			f.add("1", 10, false, healthy)
			for k := range f.targets {
				f.targets[k].Interval = time.Millisecond // always due
			}
			f.looks = looks + 1
			f.start()
			time.Sleep(time.Second)
			if err := f.stop(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// ending is a context that is cancelled by being asked so often whether it was.
type ending struct {
	context.Context
	cancel func()
	looks  int
}

// Err implements context.Context.
func (e *ending) Err() error {
	if e.looks--; e.looks == 0 {
		e.cancel()
	}
	return e.Context.Err()
}

func TestTheEndSaysWhatCouldNotBeStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		f.add("1", 10, false, healthy)
		f.disk = func() error { return errors.New("no space left on device") }
		f.start()
		time.Sleep(30 * time.Second)
		err := f.stop()
		if want := fmt.Sprintf("%d observations", f.attempts()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	})
}
