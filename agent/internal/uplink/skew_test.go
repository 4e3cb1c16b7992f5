package uplink

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/pkg/evidence"
)

func TestAClockIsSkewedOnlyForSure(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	u := &Uplink{}
	for _, step := range []struct {
		name string
		hub  time.Duration // its clock against this one's
		took time.Duration // of the answer; the hub's time is of its middle
		want bool
	}{
		{"a good clock", time.Second, time.Second, false},
		{"29 s, and an answer that took 10 s", 29 * time.Second, 10 * time.Second, false},
		{"40 s", 40 * time.Second, time.Second, true},
		{"nothing can be told from an answer that took 5 min", 0, 5 * time.Minute, true},
		{"a good clock again", -2 * time.Second, time.Second, false},
		{"31 s behind, and an answer that took 4 s", -31 * time.Second, 4 * time.Second, false},
		{"an hour behind", -time.Hour, time.Minute, true},
		{"25 s", 25 * time.Second, time.Second, false},
	} {
		u.heard(now.Add(step.took/2+step.hub), now, now.Add(step.took))
		if u.Skewed() != step.want {
			t.Errorf("%s: skewed %v, want %v", step.name, u.Skewed(), step.want)
		}
	}
}

// A hub says of a batch that it has already when it got it: that makes no clock wrong. What it gets for the first time does.
func TestADuplicatesAcknowledgementMakesNoClockWrong(t *testing.T) {
	inBubble(t, func(w *world) {
		w.append(3, 100)
		var behind atomic.Bool
		w.hub.got = func(h evidence.Header) time.Time {
			if h.Seq <= 3 || behind.Load() {
				return time.Now().Add(-time.Hour)
			}
			return time.Now()
		}
		w.start()
		w.run(10 * time.Second)
		w.append(1, 100)
		w.run(10 * time.Second)
		w.wantDrained(4)
		if w.up.Skewed() {
			t.Error("skewed by what the hub had before")
		}
		behind.Store(true)
		w.append(1, 100)
		w.run(10 * time.Second)
		if !w.up.Skewed() {
			t.Error("a clock an hour ahead is not noticed")
		}
	})
}
