package sim

import (
	"math"
	"slices"
	"time"
)

// Truth is what was so with one miner in a stretch of time, whoever asked it or did not: what facts and verdicts of its slots are
// held against.
type Truth struct {
	// Hashes is the work really done, in MH: the sum of what the counters of the programs that ran would have risen by. It is exact: the
	// parts of a stretch add up to the whole.
	Hashes  uint64
	Powered time.Duration // how long it had power
	Answers time.Duration // how long it would have given readings to whoever asked; how long that takes is left out
}

// Truth tells what was so with the miner at addr from one moment until before another. ok is false if there is no such miner, it is a
// recording, or the stretch begins before what is remembered of its plan (an hour at least).
func (f *Fleet) Truth(addr string, from, to time.Time) (tr Truth, ok bool) {
	m, err := f.find(addr)
	if err != nil || m.record != nil {
		return Truth{}, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p := &m.plan
	if from.Before(p.steps[0].at) || to.Before(from) {
		return Truth{}, false
	}
	return Truth{Hashes: p.work(&m.rhythm, from, to), Powered: p.lasting(from, to, effect.powered), Answers: p.lasting(from, to, effect.answers)}, true
}

// work is how far the counters of whole MH rise from one moment to another, over restarts of the program too.
func (p *plan) work(r *rhythm, from, to time.Time) (mh uint64) {
	for i := range p.steps {
		s := &p.steps[i]
		begin, end := s.at, to
		if begin.Before(from) {
			begin = from
		}
		if i+1 < len(p.steps) && p.steps[i+1].at.Before(end) {
			end = p.steps[i+1].at
		}
		if begin.Before(end) {
			mh += uint64(math.Floor(s.hashes(r, end)/mega) - math.Floor(s.hashes(r, begin)/mega))
		}
	}
	return mh
}

// lasting is for how much of a stretch something holds.
func (p *plan) lasting(from, to time.Time, holds func(effect) bool) (d time.Duration) {
	edges := []time.Time{from, to}
	for i := range p.entries {
		for _, at := range []time.Time{p.entries[i].from, p.entries[i].to} {
			if at.After(from) && at.Before(to) {
				edges = append(edges, at)
			}
		}
	}
	slices.SortFunc(edges, time.Time.Compare)
	for i, at := range edges[:len(edges)-1] {
		if holds(p.effect(at)) {
			d += edges[i+1].Sub(at)
		}
	}
	return d
}

func (e effect) powered() bool { return !e.off }

// answers reports whether readings come back: whole ones, or such that a tolerant reader can mend.
func (e effect) answers() bool { return !e.down && (e.serve.Kind == "" || e.serve.healthy()) }
