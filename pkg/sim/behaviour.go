package sim

import (
	"fmt"
	"sort"
	"strings"
	"time"
)

// Kind names what a simulated miner does wrong, or differently, for a time.
type Kind string

// Kinds of behaviour. Several may be in force at once; of those that decide how a connection is served,
// the one scheduled last wins.
const (
	Dead       Kind = "dead"       // never listens
	Refuse     Kind = "refuse"     // not listening for a time: connection refused
	Hang       Kind = "hang"       // accepts and stays silent; everybody else waits
	Reset      Kind = "reset"      // accepts and resets the connection
	Empty      Kind = "empty"      // closes with zero bytes, as for an address that is not allowed
	Endless    Kind = "endless"    // a reply that never ends
	Malformed  Kind = "malformed"  // replies damaged in one Form
	Sleeping   Kind = "sleeping"   // answers, does not hash
	Overheated Kind = "overheated" // answers, stopped by heat
	NoPool     Kind = "no-pool"    // answers, every pool dead, does not hash
	Rebooting  Kind = "rebooting"  // refuses, then comes back with counters and Elapsed at zero
	Off        Kind = "off"        // no power: nothing is at its address; comes back as after a reboot
	Droop      Kind = "droop"      // hashes at Factor of its rate
	Slow       Kind = "slow"       // replies after Latency; not a fault
	// AverageTotal is a firmware whose "Total MH" is the average rate, as LuxOS does: it has no counter of hashes. Not a fault.
	AverageTotal Kind = "average-total"
)

// Kinds lists every kind, for help texts and validation.
func Kinds() []Kind {
	return []Kind{Dead, Refuse, Hang, Reset, Empty, Endless, Malformed, Sleeping, Overheated, NoPool, Rebooting, Off, Droop, Slow, AverageTotal}
}

// Behaviour is one kind with what it needs to be told.
type Behaviour struct {
	Kind    Kind
	Form    Form    // of Malformed
	Factor  float64 // of Droop: share of the usual rate, 0 to 1
	Latency Latency // of Slow
}

// name is what the record and the control endpoint call the behaviour.
func (b Behaviour) name() string {
	if b.Kind == Malformed {
		return string(Malformed) + "/" + string(b.Form)
	}
	return string(b.Kind)
}

// healthy reports whether a miner behaving so is still served without fault: slow is not a fault, nor is a firmware without
// a counter, and a damage that a tolerant reader can mend loses nothing.
func (b Behaviour) healthy() bool {
	return b.Kind == Slow || b.Kind == AverageTotal || b.Kind == Malformed && b.Form.Mendable()
}

// restarts reports whether the mining program starts anew at the end of the behaviour.
func (b Behaviour) restarts() bool { return b.Kind == Rebooting || b.Kind == Off }

// factor is the share of the usual hash rate under the behaviour.
func (b Behaviour) factor() float64 {
	switch b.Kind {
	case Sleeping, Overheated, NoPool, Rebooting, Off:
		return 0
	case Droop:
		return b.Factor
	default:
		return 1
	}
}

func (b Behaviour) check() error {
	known := false
	for _, k := range Kinds() {
		known = known || k == b.Kind
	}
	switch {
	case !known:
		return fmt.Errorf("behaviour %q is none of %s", b.Kind, joinNames(Kinds()))
	case b.Kind == Malformed && !b.Form.known():
		return fmt.Errorf("form %q of malformed is none of %s", b.Form, joinNames(Forms()))
	case b.Kind == Droop && !(b.Factor >= 0 && b.Factor <= 1):
		return fmt.Errorf("factor %g of droop is not between 0 and 1", b.Factor)
	case b.Kind == Slow:
		return b.Latency.check()
	}
	return nil
}

func joinNames[S ~string](names []S) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = string(n)
	}
	return strings.Join(out, ", ")
}

// Latency is how long a miner thinks before it answers: evenly between Min and Max, except that the share
// Outliers of the answers takes between OutlierMin and OutlierMax.
type Latency struct {
	Min, Max               time.Duration
	Outliers               float64 // share, 0 to 1
	OutlierMin, OutlierMax time.Duration
}

func (l Latency) check() error {
	if l.Min < 0 || l.Max < l.Min || l.OutlierMin < 0 || l.OutlierMax < l.OutlierMin || !(l.Outliers >= 0 && l.Outliers <= 1) {
		return fmt.Errorf("latency %v-%v with %g outliers of %v-%v: each range must rise from 0, the share lie between 0 and 1",
			l.Min, l.Max, l.Outliers, l.OutlierMin, l.OutlierMax)
	}
	return nil
}

// at picks the latency of one answer from two numbers in [0,1).
func (l Latency) at(pick, where float64) time.Duration {
	lo, hi := l.Min, l.Max
	if pick < l.Outliers {
		lo, hi = l.OutlierMin, l.OutlierMax
	}
	return lo + time.Duration(where*float64(hi-lo))
}

// ParseLatency reads "20ms", "200ms-500ms" or "200ms-500ms,1%:5s-8s" (one answer in a hundred takes 5 to 8 s).
func ParseLatency(s string) (Latency, error) {
	usual, rest, outliers := strings.Cut(s, ",")
	var l Latency
	var err error
	if l.Min, l.Max, err = parseRange(usual); err != nil {
		return l, fmt.Errorf("latency %q: %w", s, err)
	}
	if outliers {
		share, span, ok := strings.Cut(rest, ":")
		if !ok {
			return l, fmt.Errorf("latency %q: after the comma comes SHARE:RANGE, for instance 1%%:5s-8s", s)
		}
		if l.Outliers, err = ParseShare(share); err != nil {
			return l, fmt.Errorf("latency %q: %w", s, err)
		}
		if l.OutlierMin, l.OutlierMax, err = parseRange(span); err != nil {
			return l, fmt.Errorf("latency %q: %w", s, err)
		}
	}
	return l, l.check()
}

func parseRange(s string) (lo, hi time.Duration, err error) {
	from, to, two := strings.Cut(strings.TrimSpace(s), "-")
	if lo, err = time.ParseDuration(from); err != nil {
		return 0, 0, err
	}
	if !two {
		return lo, lo, nil
	}
	hi, err = time.ParseDuration(to)
	return lo, hi, err
}

// warmUp is how long a program runs after a reboot before its boards hash.
const warmUp = 20 * time.Second

// maxEntries bounds what may be scheduled for one miner at a time.
const maxEntries = 64

// entry is one behaviour of one miner from a moment on, until another; a zero to means for ever.
type entry struct {
	from, to time.Time
	Behaviour
}

func (e entry) active(t time.Time) bool {
	return !t.Before(e.from) && (e.to.IsZero() || t.Before(e.to))
}

// settled is when the entry no longer touches the hash rate; ok is false while it never ends.
func (e entry) settled() (time.Time, bool) {
	if e.restarts() && !e.to.IsZero() {
		return e.to.Add(warmUp), true
	}
	return e.to, !e.to.IsZero()
}

// step is a stretch of time with one factor on the hash rate, ending at the next step.
type step struct {
	at     time.Time
	boot   time.Time // when the program that runs then started
	factor float64
	sum    float64 // hashes since boot, at at
}

// plan is what happens to one miner over time: the entries, and the hash rate's factor that follows from them.
type plan struct {
	entries []entry
	steps   []step // never empty; steps[0] is the anchor from which counters go on
}

// effect is what is in force at one moment.
type effect struct {
	down    bool      // not listening
	off     bool      // down for want of power
	average bool      // "Total MH" is the average rate
	serve   Behaviour // Hang, Reset, Empty, Endless, Malformed, or zero
	machine Kind      // Sleeping, Overheated, NoPool, or ""
	latency *Latency
	fault   string    // name of the worst behaviour in force; "" when there is none
	healthy bool      // no behaviour in force that is a fault; says nothing about the window before
	next    time.Time // when this may change; zero: never
}

func (p *plan) effect(t time.Time) effect {
	e := effect{healthy: true}
	for i := range p.entries {
		en := &p.entries[i]
		if !en.active(t) {
			if t.Before(en.from) && (e.next.IsZero() || en.from.Before(e.next)) {
				e.next = en.from
			}
			continue
		}
		if !en.to.IsZero() && (e.next.IsZero() || en.to.Before(e.next)) {
			e.next = en.to
		}
		switch en.Kind {
		case Dead, Refuse, Rebooting:
			e.down = true
		case Off:
			e.down, e.off = true, true
		case Hang, Reset, Empty, Endless, Malformed:
			e.serve = en.Behaviour
		case Sleeping, Overheated, NoPool:
			e.machine = en.Kind
		case Slow:
			e.latency = &en.Latency
		case AverageTotal:
			e.average = true
		}
		if !en.healthy() || e.healthy {
			e.fault = en.name()
		}
		e.healthy = e.healthy && en.healthy()
	}
	return e
}

// healthySince is the moment from which the miner has been served without fault and its reported window
// holds its usual rate only; ok is false while that is not so at t.
func (p *plan) healthySince(t time.Time, window time.Duration) (since time.Time, ok bool) {
	for i := range p.entries {
		en := &p.entries[i]
		if en.healthy() || t.Before(en.from) {
			continue
		}
		end, ends := en.settled()
		if !ends {
			return time.Time{}, false
		}
		if en.factor() != 1 {
			end = end.Add(window)
		}
		if t.Before(end) {
			return time.Time{}, false
		}
		if end.After(since) {
			since = end
		}
	}
	return since, true
}

// stepAt is the step in force at t, or the anchor before it.
func (p *plan) stepAt(t time.Time) *step {
	i := len(p.steps) - 1
	for i > 0 && t.Before(p.steps[i].at) {
		i--
	}
	return &p.steps[i]
}

// hashes is how many hashes the program running at t has done since it started.
func (p *plan) hashes(r *rhythm, t time.Time) float64 { return p.stepAt(t).hashes(r, t) }

// hashes is the same for a moment within the step, its end included.
func (s *step) hashes(r *rhythm, t time.Time) float64 {
	if s.factor == 0 {
		return s.sum
	}
	if t.Before(s.at) {
		t = s.at
	}
	return s.sum + s.factor*(r.integral(t.Sub(s.boot).Seconds())-r.integral(s.at.Sub(s.boot).Seconds()))
}

// mean is the mean rate over the window before t, or over what the program has run, in H/s.
func (p *plan) mean(r *rhythm, t time.Time, window time.Duration) float64 {
	last := p.stepAt(t)
	from := t.Add(-window)
	for _, edge := range []time.Time{last.boot, p.steps[0].at} {
		if from.Before(edge) {
			from = edge
		}
	}
	span := t.Sub(from).Seconds()
	if span < 1e-3 {
		return last.factor * r.rate(t.Sub(last.boot).Seconds())
	}
	return (p.hashes(r, t) - p.hashes(r, from)) / span
}

// add puts an entry in and works out the steps that follow.
func (p *plan) add(r *rhythm, en entry, now time.Time) error {
	if len(p.entries) >= maxEntries {
		p.fold(r, now.Add(-time.Hour))
	}
	if len(p.entries) >= maxEntries {
		return fmt.Errorf("%d behaviours are scheduled already; wait until some have ended", len(p.entries))
	}
	p.entries = append(p.entries, en)
	p.rebuild(r)
	return nil
}

// fold forgets what was settled before t; the counters go on from the value they have at t.
func (p *plan) fold(r *rhythm, t time.Time) {
	if !t.After(p.steps[0].at) {
		return
	}
	s := *p.stepAt(t)
	s.sum, s.at = p.hashes(r, t), t
	kept := p.entries[:0]
	for _, en := range p.entries {
		if end, ends := en.settled(); !ends || end.After(t) {
			kept = append(kept, en)
		}
	}
	p.entries = kept
	p.steps = []step{s}
	p.rebuild(r)
}

// rebuild recomputes every step after the anchor.
func (p *plan) rebuild(r *rhythm) {
	anchor := p.steps[0]
	edges := make([]time.Time, 0, 3*len(p.entries))
	for _, en := range p.entries {
		edges = append(edges, en.from)
		if end, ends := en.settled(); ends {
			edges = append(edges, en.to, end)
		}
	}
	sort.Slice(edges, func(i, j int) bool { return edges[i].Before(edges[j]) })
	anchor.factor = p.factorAt(anchor.at)
	p.steps = append(p.steps[:0], anchor)
	for _, at := range edges {
		last := p.steps[len(p.steps)-1]
		if !at.After(last.at) {
			continue
		}
		s := step{at: at, boot: last.boot, factor: p.factorAt(at), sum: p.hashes(r, at)}
		for _, en := range p.entries {
			if en.restarts() && en.to.Equal(at) {
				s.boot, s.sum = at, 0
			}
		}
		p.steps = append(p.steps, s)
	}
}

// factorAt multiplies what is in force at t, the warm-up after a reboot included.
func (p *plan) factorAt(t time.Time) float64 {
	f := 1.0
	for _, en := range p.entries {
		if end, ends := en.settled(); !t.Before(en.from) && (!ends || t.Before(end)) {
			f *= en.factor()
		}
	}
	return f
}
