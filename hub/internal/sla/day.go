package sla

import (
	"fmt"
	"math"

	"github.com/hashinsight/hashinsight/pkg/evidence"
)

// Counts counts slots by state.
type Counts [StateCount]int64

// Excused returns how many slots are excused by an order or an announcement, or because the contract excuses what nobody knows.
func (c *Counts) Excused() int64 {
	return c[ExcusedCurtailment] + c[ExcusedMaintenance] + c[UnknownAsExcused]
}

// Due returns how many slots have been judged and count: contracted, not excused and no longer open.
func (c *Counts) Due() int64 { return c[Up] + c[Degraded] + c[Down] + c[UnknownAsDown] }

// Missed returns how many due slots were not up.
func (c *Counts) Missed() int64 { return c.Due() - c[Up] }

// Open returns how many slots may still turn either way.
func (c *Counts) Open() int64 { return c[Unknown] + c[Future] }

func (c *Counts) add(o *Counts) {
	for i := range c {
		c[i] += o[i]
	}
}

// States is one UTC day of one miner, slot by slot.
type States [SlotsPerDay]State

// String returns the day as letters, one a slot.
func (s States) String() string {
	b := make([]byte, SlotsPerDay)
	for i := range s {
		b[i] = s[i].Letter()
	}
	return string(b)
}

// PackedStates is two slots a byte, the earlier in the high half.
type PackedStates [SlotsPerDay / 2]byte

// Pack returns the short form for storage.
func (s States) Pack() (b PackedStates) {
	for i := range b {
		b[i] = byte(s[2*i])<<4 | byte(s[2*i+1])&15
	}
	return b
}

// UnpackStates reads the short form.
func UnpackStates(b []byte) (s States, err error) {
	if len(b) != len(PackedStates{}) {
		return States{}, fmt.Errorf("a day of %d bytes, want %d", len(b), len(PackedStates{}))
	}
	for i, v := range b {
		if v>>4 >= StateCount || v&15 >= StateCount {
			return States{}, fmt.Errorf("a day holds the states %d and %d, the last that is known is %d", v>>4, v&15, StateCount-1)
		}
		s[2*i], s[2*i+1] = State(v>>4), State(v&15)
	}
	return s, nil
}

// DaySums is what a day of one miner adds to its month. Sums of hashes fit 63 bits for a month, see MaxRateMHs.
type DaySums struct {
	Day    int // since 1970 UTC
	Slots  Counts
	Hashes int64 // MH of due slots, what nobody knows being none
	Needed int64 // MH at the contracted rate of due slots
	Open   int64 // MH at the contracted rate of slots that may still turn either way
	NextMS int64 // when the day must be judged again although nothing new has come, because a slot or a deadline ends; 0: never
}

// DayResult is the verdict on one miner and day.
type DayResult struct {
	DaySums
	States States
}

// MaxOver is how many times its contracted work a slot counts at most in the metric hashrate. Without it one reading of a broken counter would
// pay for a month of standing still, because that metric takes its minimum over the month.
const MaxOver = 2

// Day judges one miner's day from its facts: one HourFacts per hour and chain, in any order; those of other days are ignored.
func (p *Plan) Day(day int, facts []HourFacts) (DayResult, error) {
	out := DayResult{DaySums: DaySums{Day: day}} // States are NotContracted
	from := int64(day) * SlotsPerDay
	if from < p.r.first || from >= p.r.last {
		return out, fmt.Errorf("day %d is not in %s: give one from %d to %d", day, p.r.in.Month, p.r.in.Month.FirstDay(), p.r.in.Month.FirstDay()+p.r.in.Month.Days()-1)
	}
	var index hourIndex
	index.build(int64(day)*24, 24, facts)
	next := int64(math.MaxInt64)
	for i := range p.spans {
		s := &p.spans[i]
		lo, hi := max(s.from, from), min(s.to, from+SlotsPerDay)
		if lo >= hi {
			continue
		}
		if s.state != Future {
			out.Slots[s.state] += hi - lo
			for slot := lo; slot < hi; slot++ {
				out.States[slot-from] = s.state
			}
			continue
		}
		before := out.Slots
		for slot := lo; slot < hi; {
			c := index.of(slot)
			usual := p.usual(s, slot, facts, c)
			for end := min(hi, (slot/evidence.SlotsPerHour+1)*evidence.SlotsPerHour); slot < end; slot++ {
				state, counted, ok := Unknown, int64(0), false
				if usual != nil {
					state, counted, ok = s.usualSlot(usual, int(slot%evidence.SlotsPerHour))
				}
				if !ok {
					v := p.judge(s, slot, facts, c)
					state, counted = v.state, v.counted
					if v.untilMS > 0 {
						next = min(next, v.untilMS)
					}
				}
				out.States[slot-from] = state
				out.Slots[state]++
				out.Hashes += counted
			}
		}
		out.Needed += s.need * (out.Slots.Due() - before.Due())
		out.Open += s.need * (out.Slots.Open() - before.Open())
	}
	if next < math.MaxInt64 {
		out.NextMS = next
	}
	return out, nil
}

// usual returns the hour's facts in the case that nearly all are: over, from one chain, in time and not in dispute. It spares judge the asking.
func (p *Plan) usual(s *span, slot int64, facts []HourFacts, c chains) *HourFacts {
	if c.at == 0 || c.next[c.at-1] != 0 {
		return nil
	}
	f := &facts[c.at-1]
	endMS := (slot/evidence.SlotsPerHour + 1) * evidence.HourMS
	if p.r.in.AsOfMS < endMS || f.ReceivedMS > endMS+s.terms.BackfillS*1000 || f.Disputed {
		return nil
	}
	return f
}

// usualSlot judges a slot of usual facts; it is not ok if there is more to it than work.
func (s *span) usualSlot(f *HourFacts, at int) (state State, counted int64, ok bool) {
	v := &f.Slots[at]
	if v.Polls == 0 || v.Source == evidence.SourceNone || v.Flags&evidence.SlotSkewed != 0 || f.Skewed&(1<<at) != 0 {
		return Unknown, 0, false
	}
	return s.byWork(v.Hashes), s.counted(v.Hashes), true
}

// byWork is the state of a slot in which the agent was alive.
func (s *span) byWork(hashes uint64) State {
	switch {
	case hashes >= s.up:
		return Up
	case hashes >= s.degraded:
		return Degraded
	default:
		return Down
	}
}

// counted returns the MH of a slot that count.
func (s *span) counted(hashes uint64) int64 { return int64(min(hashes, uint64(MaxOver*s.need))) }

// hourIndex finds the chains that say something of an hour without a map: an index of the first, and of the next by each.
type hourIndex struct {
	hour  int64
	first [24]int32 // place in facts + 1
	next  []int32
	inl   [48]int32 // room for next, so that the usual day allocates nothing
}

func (x *hourIndex) build(hour, n int64, facts []HourFacts) {
	x.hour = hour
	x.next = x.inl[:0]
	if len(facts) > len(x.inl) {
		x.next = make([]int32, 0, len(facts))
	}
	for i := range facts {
		x.next = append(x.next, 0)
		if at := int64(facts[i].Hour) - hour; at >= 0 && at < n {
			x.next[i], x.first[at] = x.first[at], int32(i+1)
		}
	}
}

// of returns the chains of a slot's hour.
func (x *hourIndex) of(slot int64) chains {
	return chains{x.first[slot/evidence.SlotsPerHour-x.hour], x.next}
}

type chains struct {
	at   int32
	next []int32
}

// Reason is which rule decided a slot. The names are shown and translated by clients: never rename one.
type Reason string

// Reasons.
const (
	NoAssignment  Reason = "no_assignment"   // the miner was not assigned to the contract when the slot started
	NoTerms       Reason = "no_terms"        // no version of the terms held
	OnOrder       Reason = "curtailment"     // ordered, recorded in time, and within the cap
	Announced     Reason = "maintenance"     // announced in time, and within the cap
	EnoughWork    Reason = "enough_work"     // at least θ × contracted rate × 300 s
	SomeWork      Reason = "some_work"       // less than that, and at least the bound of degraded
	TooLittleWork Reason = "too_little_work" // less than that
	NoAnswer      Reason = "no_answer"       // polled, and no poll was answered
	NotMeasurable Reason = "not_measurable"  // polled and answered, but nothing tells the work: a state of hashing alone proves none
	NotOver       Reason = "not_over"        // the slot has not ended
	NoRecord      Reason = "no_record"       // no signed hour has this miner
	NoPolls       Reason = "no_polls"        // signed: the agent made no poll in the slot
	TooLate       Reason = "too_late"        // signed facts came after the backfill deadline
	ClockWrong    Reason = "clock_wrong"     // the agent's clock was more than 30 s from the hub's
	InDispute     Reason = "disputed"        // the signed root is not what the batches give, or one chain says two things
)

// verdict is what judge finds.
type verdict struct {
	state     State
	reason    Reason
	slot      evidence.Slot // merged over the chains that count
	chains    int           // that count
	late      int           // chains that came after the deadline
	counted   int64         // MH
	untilMS   int64         // an open verdict changes by itself then
	deadline  int64
	receiveMS int64 // when the last chain that counts had come
}

// judge decides a slot that is contracted and not excused.
func (p *Plan) judge(s *span, slot int64, facts []HourFacts, c chains) verdict {
	in := &p.r.in
	v := verdict{deadline: (slot/evidence.SlotsPerHour+1)*evidence.HourMS + s.terms.BackfillS*1000}
	if endMS := (slot + 1) * evidence.SlotMS; in.AsOfMS < endMS {
		v.state, v.reason, v.untilMS = Future, NotOver, endMS
		return v
	}
	var disputed, skewed bool
	acceptMS := max(v.deadline, in.AcceptUntilMS)
	at := int(slot % evidence.SlotsPerHour)
	for i := c.at; i > 0; i = c.next[i-1] {
		f := &facts[i-1]
		if f.ReceivedMS > acceptMS {
			v.late++
			continue
		}
		v.receiveMS = max(v.receiveMS, f.ReceivedMS)
		if twice, differs := again(facts, c.next, i, acceptMS); twice {
			disputed = disputed || differs
			continue
		}
		disputed = disputed || f.Disputed
		skewed = skewed || f.Skewed&(1<<at) != 0 || f.Slots[at].Flags&evidence.SlotSkewed != 0
		said := f.Slots[at]
		if said.Source == evidence.SourceNone {
			said.Hashes = 0 // a number that comes from nowhere
		}
		if v.chains++; v.chains > 1 {
			said = mergeSlots(v.slot, said)
		}
		v.slot = said
	}
	switch {
	case disputed:
		v.reason = InDispute
	case skewed:
		v.reason = ClockWrong
	case v.slot.Polls > 0:
		v.work(s)
		return v
	case v.chains > 0:
		v.reason = NoPolls
	case v.late > 0:
		v.reason = TooLate
	default:
		v.reason = NoRecord
	}
	switch {
	case in.AsOfMS <= v.deadline: // what comes at the deadline counts
		v.state, v.untilMS = Unknown, v.deadline+1
	case s.terms.Unknown == UnknownExcused:
		v.state = UnknownAsExcused
	default: // UnknownPool as well: this engine is given no pool data, and without it the policy counts as down
		v.state = UnknownAsDown
	}
	return v
}

// work decides a slot in which the agent was alive.
func (v *verdict) work(s *span) {
	v.state, v.counted = s.byWork(v.slot.Hashes), s.counted(v.slot.Hashes)
	switch {
	case v.state == Up:
		v.reason = EnoughWork
	case v.state == Degraded:
		v.reason = SomeWork
	case v.slot.Answered == 0:
		v.reason = NoAnswer
	case v.slot.Source == evidence.SourceNone:
		v.reason = NotMeasurable
	default:
		v.reason = TooLittleWork
	}
}

// again tells whether a chain comes once more among those that are still to be looked at, and whether it says something else there: a chain counts
// once, however often it is handed over.
func again(facts []HourFacts, next []int32, i int32, acceptMS int64) (twice, differs bool) {
	for j := next[i-1]; j > 0; j = next[j-1] {
		if facts[j-1].Spool == facts[i-1].Spool && facts[j-1].ReceivedMS <= acceptMS {
			a, b := facts[i-1], facts[j-1]
			a.ReceivedMS, b.ReceivedMS = 0, 0
			return true, a != b
		}
	}
	return false, false
}

// mergeSlots adds what two chains say of one slot: two agents after each other, each with the polls and the work that it saw. Sums stop at
// their largest value, which keeps them the same in any order.
func mergeSlots(a, b evidence.Slot) evidence.Slot {
	m := evidence.Slot{
		Polls: saturate(a.Polls, b.Polls), Answered: saturate(a.Answered, b.Answered), Source: max(a.Source, b.Source), Flags: a.Flags | b.Flags,
		Hashes: saturate(a.Hashes, b.Hashes), ShareDiff: saturate(a.ShareDiff, b.ShareDiff), Energy: saturate(a.Energy, b.Energy),
	}
	return m
}

func saturate[T uint16 | uint64](a, b T) T {
	if sum := a + b; sum >= a {
		return sum
	}
	return ^T(0)
}

// ExcuseWhy is one excuse that covers a slot, and what became of it.
type ExcuseWhy struct {
	Excuse  Excuse
	EndMS   int64 // after the records that shorten it
	LimitMS int64 // it counts if it was recorded by then
	Counts  bool
	Reason  ExcuseReason
}

// ExcuseReason is what became of an excuse in a slot. The names are shown: never rename one.
type ExcuseReason string

// What becomes of excuses.
const (
	ExcuseCounts    ExcuseReason = "counts"
	ExcuseLate      ExcuseReason = "recorded_late"
	ExcuseEnded     ExcuseReason = "ended"     // shortened to before the slot's start
	ExcuseCap       ExcuseReason = "cap"       // the month's cap was used up
	ExcuseUnneeded  ExcuseReason = "another"   // another one counts already
	ExcuseNoMeaning ExcuseReason = "no_effect" // the slot is not contracted
)

// Why is the answer to "why is this slot what it is?", with the numbers that decided.
type Why struct {
	SlotMS     int64 // start
	State      State
	Reason     Reason
	Terms      *Terms      // nil: none held
	Assignment *Assignment // nil: none
	NeedMH     int64       // at the contracted rate
	UpMH       uint64      // at least this is up
	DegradedMH uint64      // at least this is degraded
	Facts      evidence.Slot
	Chains     int   // whose facts count
	LateChains int   // whose facts came after the deadline
	ReceivedMS int64 // the hub's time when the facts that count had come
	DeadlineMS int64 // until which facts of the slot's hour count
	NoPoolData bool  // the contract lets pool work decide, and there is none
	Excuses    []ExcuseWhy
}

// Why tells why the slot that a time lies in is what Day says.
func (p *Plan) Why(atMS int64, facts []HourFacts) (Why, error) {
	slot := atMS / evidence.SlotMS
	if slot < p.r.first || slot >= p.r.last {
		return Why{}, fmt.Errorf("the time is not in %s: ask the month that it is in", p.r.in.Month)
	}
	w := Why{SlotMS: slot * evidence.SlotMS}
	s := &p.spans[0]
	for i := range p.spans {
		if p.spans[i].from <= slot {
			s = &p.spans[i]
		}
	}
	w.State, w.Terms, w.Assignment, w.NeedMH, w.UpMH, w.DegradedMH = s.state, s.terms, s.assignment, s.need, s.up, s.degraded
	w.Excuses = p.excusesAt(s, slot)
	if s.state == NotContracted {
		w.Reason = NoAssignment
		if s.assignment != nil {
			w.Reason = NoTerms
		}
		return w, nil
	}
	var index hourIndex
	hour := slot / evidence.SlotsPerHour
	index.build(hour, 1, facts)
	v := p.judge(s, slot, facts, index.of(slot)) // the facts are worth showing for an excused slot too
	w.Facts, w.Chains, w.LateChains, w.ReceivedMS, w.DeadlineMS = v.slot, v.chains, v.late, v.receiveMS, v.deadline
	switch s.state {
	case ExcusedCurtailment:
		w.Reason = OnOrder
	case ExcusedMaintenance:
		w.Reason = Announced
	default:
		w.State, w.Reason = v.state, v.reason
		w.NoPoolData = v.state == UnknownAsDown && s.terms.Unknown == UnknownPool
	}
	return w, nil
}

// excusesAt returns all windows that cover a slot, or did before they were shortened.
func (p *Plan) excusesAt(s *span, slot int64) (out []ExcuseWhy) {
	ms := slot * evidence.SlotMS
	for i := range p.r.windows[p.key.Site] {
		w := &p.r.windows[p.key.Site][i]
		if ms < w.FromMS || ms >= w.ToMS || !w.covers(p.key.Miner) {
			continue
		}
		x := ExcuseWhy{Excuse: *w.Excuse, EndMS: w.endMS, Reason: ExcuseNoMeaning}
		if s.state != NotContracted {
			x.LimitMS = s.terms.limitMS(w.Excuse)
			x.Counts = s.excuse == w
			switch {
			case x.Counts:
				x.Reason = ExcuseCounts
			case ms >= w.endMS:
				x.Reason = ExcuseEnded
			case !s.terms.honours(w.Excuse):
				x.Reason = ExcuseLate
			case s.state == ExcusedCurtailment || s.state == ExcusedMaintenance && w.Kind == Maintenance:
				x.Reason = ExcuseUnneeded
			default:
				x.Reason = ExcuseCap
			}
		}
		out = append(out, x)
	}
	return out
}
