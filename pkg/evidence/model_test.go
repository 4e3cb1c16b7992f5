package evidence

import (
	"cmp"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// step is one thing that happens to Facts: a poll in a batch, or the end of an hour.
type step struct {
	seq   uint64
	poll  poll
	close *uint32
}

// modelLeaf computes one miner's leaf slowly from the definition: it keeps every poll, looks back for the carry each time, walks every
// second of a span and divides rationals. It shares nothing with Facts but the types.
func modelLeaf(steps []step, miner ident.MinerID, hour uint32) (slots [SlotsPerHour]Slot, first uint64, exists bool) {
	start := int64(hour) * 3600_000
	var sums [SlotsPerHour]modelSlot
	var before []step // of the miner
	forget := func() { sums, first, exists = [SlotsPerHour]modelSlot{}, 0, false }
	contribute := func(seq uint64) {
		if first == 0 || seq < first {
			first = seq
		}
	}
	for _, s := range steps {
		if s.close != nil {
			if *s.close == hour {
				break
			}
			continue
		}
		if s.poll.miner != miner {
			continue
		}
		// The hours of the miner's last polls: with this one, at most four.
		recent := []int64{s.poll.ms / 3600_000}
		for i := len(before) - 1; i >= 0 && len(recent) < 5; i-- {
			if h := before[i].poll.ms / 3600_000; !slices.Contains(recent, h) {
				recent = append(recent, h)
			}
		}
		if i := slices.Index(recent, int64(hour)); i < 0 || i == 4 {
			forget()
		}
		p := s.poll
		answered := p.outcome == telemetry.OutcomeOK || p.outcome == telemetry.OutcomePartial
		if p.ms/3600_000 == int64(hour) {
			exists = true
			contribute(s.seq)
			m := &sums[p.ms%3600_000/300_000]
			m.polls++
			if answered {
				m.answered++
				m.flags |= 1
			}
			m.flags |= map[telemetry.State]SlotFlags{1: 2, 2: 2, 3: 4, 4: 8}[p.state]
			if p.flags&1 != 0 {
				m.flags |= 1 << 5
			}
			if p.flags&2 != 0 {
				m.flags |= 1 << 7
			}
		}
		c := modelCarry(before)
		before = append(before, s)
		if c != nil && s.seq-c.seq > 65536 {
			c = nil
		}
		_, hashes := told(p.hashes)
		_, hasRate := told(p.rate)
		if !answered || p.flags&1 != 0 || !hashes && !hasRate || c != nil && p.ms <= c.poll.ms || !exists {
			continue
		}
		for _, w := range modelWork(c, &s) {
			w.over(func(ms int64, part *big.Int) {
				if ms < start || ms >= start+3600_000 {
					return
				}
				contribute(w.seq)
				m := &sums[(ms-start)/300_000]
				switch w.what {
				case "shares":
					m.shares.Add(&m.shares, part)
				case "energy":
					m.energy.Add(&m.energy, part)
				default:
					m.hashes.Add(&m.hashes, part)
					m.rate = m.rate || w.what == "rate"
					m.known = true
					if w.to-w.from > 900_000 {
						m.flags |= 1 << 4
					}
				}
			})
		}
	}
	for i := range sums {
		slots[i] = sums[i].slot()
	}
	return slots, first, exists
}

type modelSlot struct {
	polls, answered        int
	flags                  SlotFlags
	known, rate            bool
	hashes, shares, energy big.Int
}

func (m *modelSlot) slot() Slot {
	s := Slot{Polls: uint16(min(m.polls, 65535)), Answered: uint16(min(m.answered, 65535)), Flags: m.flags}
	switch {
	case m.rate:
		s.Source = SourceRate
	case m.known:
		s.Source = SourceCounter
	}
	most := big.NewInt(1<<63 - 1)
	clamp := func(v *big.Int) uint64 {
		if v.Cmp(most) > 0 {
			v = most
		}
		return v.Uint64()
	}
	s.Hashes, s.ShareDiff, s.Energy = clamp(&m.hashes), clamp(&m.shares), clamp(&m.energy)
	return s
}

// told reads a reading, or that it is none.
func told(o unit.Opt[int64]) (int64, bool) {
	v, ok := o.Get()
	return v, ok && v >= 0 && v <= 1<<62
}

func toldUptime(o unit.Opt[int64]) (int64, bool) {
	v, ok := told(o)
	return v, ok && v < 1<<31
}

// modelCarry replays what the carry was after all polls so far, from the first on.
func modelCarry(before []step) *step {
	var c *step
	for i := range before {
		s := &before[i]
		p := &s.poll
		if c != nil && s.seq-c.seq > 65536 {
			c = nil
		}
		_, hasHashes := told(p.hashes)
		_, hasRate := told(p.rate)
		answered := p.outcome == telemetry.OutcomeOK || p.outcome == telemetry.OutcomePartial
		switch stepped := p.flags&1 != 0; {
		case stepped && !answered:
			c = &step{seq: s.seq, poll: poll{ms: p.ms}}
		case stepped:
			c = s
		case !answered || !hasHashes && !hasRate:
		case c == nil || p.ms > c.poll.ms || p.ms < c.poll.ms-3600_000:
			c = s
		}
	}
	return c
}

type modelSpan struct {
	what     string // counter, rate, shares, energy
	from, to int64
	seq      uint64
	amount   *big.Int
}

func modelWork(c, now *step) (out []modelSpan) {
	p := &now.poll
	pair := c != nil && p.ms-c.poll.ms <= 3600_000
	var fell, found bool
	add := func(what string, amount *big.Int) { out = append(out, modelSpan{what, c.poll.ms, p.ms, c.seq, amount}) }
	if pair {
		h1, ok1 := told(c.poll.hashes)
		h2, ok2 := told(p.hashes)
		u1, ok3 := toldUptime(c.poll.uptime)
		u2, ok4 := toldUptime(p.uptime)
		r1, ok5 := told(c.poll.rate)
		r2, ok6 := told(p.rate)
		fell = ok1 && ok2 && h2 < h1 || ok3 && ok4 && u2 < u1
		switch {
		case fell:
		case ok1 && ok2:
			found = true
			add("counter", new(big.Int).Sub(big.NewInt(h2), big.NewInt(h1)))
		case ok5 && ok6 && p.ms-c.poll.ms <= 150_000:
			found = true
			v := new(big.Int).Add(big.NewInt(r1), big.NewInt(r2))
			v.Mul(v, big.NewInt(p.ms-c.poll.ms))
			add("rate", v.Div(v, big.NewInt(2000)))
		}
		for what, two := range map[string][2]unit.Opt[int64]{"shares": {c.poll.shares, p.shares}, "energy": {c.poll.energy, p.energy}} {
			v1, ok1 := told(two[0])
			v2, ok2 := told(two[1])
			if ok1 && ok2 && v2 >= v1 {
				add(what, big.NewInt(v2-v1))
			}
		}
	}
	h, ok1 := told(p.hashes)
	u, ok2 := toldUptime(p.uptime)
	if !found && ok1 && ok2 && u >= 1 && u <= 300 && p.ms-1000*u >= 0 && (c == nil || p.ms-1000*u >= c.poll.ms) {
		out = append(out, modelSpan{"counter", p.ms - 1000*u, p.ms, now.seq, big.NewInt(h)})
	}
	return out
}

// over calls f for each slot of the span with a time in it and its part.
func (w *modelSpan) over(f func(ms int64, part *big.Int)) {
	lengths := map[int64]int64{} // slot → ms of the span
	for ms := w.from; ms < w.to; {
		next := min(w.to, (ms/1000+1)*1000) // a second never lies in two slots
		lengths[ms/300_000] += next - ms
		ms = next
	}
	last := (w.to - 1) / 300_000
	left := new(big.Int).Set(w.amount)
	for slot, length := range lengths {
		if slot == last {
			continue
		}
		r := new(big.Rat).SetFrac(w.amount, big.NewInt(w.to-w.from))
		r.Mul(r, new(big.Rat).SetInt64(length))
		part := new(big.Int).Quo(r.Num(), r.Denom())
		left.Sub(left, part)
		f(slot*300_000, part)
	}
	f(last*300_000, left)
}

// drawSteps draws what a chain may hold: polls at all distances, restarts of miners, clocks set to and fro, batches that come twice,
// readings that are absent or senseless, hours closed at any time.
func drawSteps(t *rapid.T, closes bool) []step {
	miners := []ident.MinerID{{1}, {2}}
	type device struct {
		started, hashes, rate, shares, energy int64
	}
	devices := map[ident.MinerID]*device{}
	for _, m := range miners {
		devices[m] = &device{rate: rapid.SampledFrom([]int64{0, 1, 7, 110_000_000, 1 << 49}).Draw(t, "rate")}
	}
	clock := int64(testHour)*HourMS + rapid.Int64Range(-HourMS, HourMS).Draw(t, "start")
	seq := rapid.Uint64Range(1, 3).Draw(t, "first batch")
	var steps []step
	opt := func(v int64) unit.Opt[int64] {
		switch rapid.IntRange(0, 19).Draw(t, "reading") {
		case 0:
			return unit.Opt[int64]{}
		case 1:
			return unit.Some(rapid.SampledFrom([]int64{-1, 0, 1, 1<<31 - 1, 1 << 31, 1 << 50, 1 << 62, 1<<62 + 1, 1<<63 - 1}).Draw(t, "nonsense"))
		default:
			return unit.Some(v)
		}
	}
	for range rapid.IntRange(1, 60).Draw(t, "steps") {
		jumped := false
		passed := rapid.SampledFrom([]int64{1, 999, 10_000, 60_000, 60_000, 60_000, 60_000, 90_000, 150_000, 150_001, 300_000, 900_000, 900_001, 3_600_000, 3_600_001}).Draw(t, "passed")
		clock += passed
		switch rapid.IntRange(0, 29).Draw(t, "event") {
		case 0:
			clock += rapid.SampledFrom([]int64{-3_600_001, -3_600_000, -120_000, -1, 5000, 3_600_000, 4 * HourMS, 9 * HourMS, -9 * HourMS}).Draw(t, "jump")
			jumped = rapid.Bool().Draw(t, "noticed")
		case 1:
			if len(steps) > 0 {
				again := steps[rapid.IntRange(max(0, len(steps)-5), len(steps)-1).Draw(t, "again")]
				again.seq = seq
				steps = append(steps, again)
			}
			continue
		case 2:
			if closes {
				h := uint32(clock/HourMS) - uint32(rapid.IntRange(0, 2).Draw(t, "ago"))
				steps = append(steps, step{close: &h})
			}
			continue
		case 3:
			seq += rapid.SampledFrom([]uint64{65535, 65536, 65537}).Draw(t, "batches")
		}
		seq += rapid.Uint64Range(0, 1).Draw(t, "next batch")
		m := rapid.SampledFrom(miners).Draw(t, "miner")
		d := devices[m]
		for _, d := range devices {
			d.hashes += min(d.rate*passed/1000, 1<<61)
			d.hashes = min(d.hashes, 1<<62)
			d.shares += passed / 7
			d.energy += passed * 3
		}
		switch rapid.IntRange(0, 14).Draw(t, "device") {
		case 0: // restarted a while ago
			ago := rapid.SampledFrom([]int64{0, 1000, 30_000, 300_000, 301_000, 2_000_000}).Draw(t, "ago")
			d.started, d.hashes, d.shares = clock-ago, d.rate*ago/1000, ago/7
		case 1:
			d.energy = 0 // the agent was restarted
		}
		p := poll{
			miner: m, ms: clock, outcome: rapid.SampledFrom([]telemetry.Outcome{1, 1, 1, 1, 1, 2, 4}).Draw(t, "outcome"),
			state: telemetry.State(rapid.IntRange(0, 7).Draw(t, "state")),
		}
		if jumped {
			p.flags |= telemetry.FlagClockStep
		}
		if rapid.IntRange(0, 9).Draw(t, "skewed") == 0 {
			p.flags |= telemetry.FlagSkewed
		}
		if p.outcome.Answered() {
			kind := rapid.IntRange(0, 5).Draw(t, "tells")
			if kind != 0 {
				p.rate = opt(d.rate)
			}
			if kind > 2 {
				p.hashes = opt(d.hashes)
			}
			if d.started > 0 || kind > 1 {
				p.uptime = opt((clock - d.started) / 1000)
			}
			p.shares, p.energy = opt(d.shares), opt(d.energy)
		}
		if r, ok := p.rate.Get(); ok && r > MaxRate {
			p.rate = unit.Opt[int64]{} // the model knows no largest rate
		}
		steps = append(steps, step{seq: seq, poll: p})
	}
	return steps
}

// hoursOf returns every hour that polls of steps fall into.
func hoursOf(steps []step) []uint32 {
	var hours []uint32
	for _, s := range steps {
		if s.close == nil {
			hours = append(hours, uint32(s.poll.ms/HourMS))
		}
	}
	slices.Sort(hours)
	return slices.Compact(hours)
}

// run gives steps to facts and returns the leaves by hour, those that no step closed at the end.
func run(f *Facts, steps []step) map[uint32][]Leaf {
	leaves := map[uint32][]Leaf{}
	var seq uint64
	for i := range steps {
		if h := steps[i].close; h != nil {
			leaves[*h] = append(leaves[*h], f.Close(*h, seq)...)
			continue
		}
		seq = max(seq, steps[i].seq)
		f.add(steps[i].seq, &steps[i].poll)
	}
	for _, h := range f.Hours() {
		leaves[h] = append(leaves[h], f.Close(h, seq)...)
	}
	return leaves
}

func show(steps []step) string {
	var out strings.Builder
	for i, s := range steps {
		if s.close != nil {
			fmt.Fprintf(&out, "%d: close %d\n", i, int64(*s.close)-testHour)
			continue
		}
		fmt.Fprintf(&out, "%d: batch %d miner %x at %d ms: %+v\n", i, s.seq, s.poll.miner[0], s.poll.ms-testHour*HourMS, s.poll)
	}
	return out.String()
}

func TestFactsAreThoseOfTheSlowModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		steps := drawSteps(t, true)
		got := run(NewFacts(ident.SiteID{}, ident.SpoolID{}), steps)
		for _, hour := range hoursOf(steps) {
			for _, miner := range []ident.MinerID{{1}, {2}} {
				slots, first, exists := modelLeaf(steps, miner, hour)
				i := slices.IndexFunc(got[hour], func(l Leaf) bool { return l.Miner == miner })
				switch {
				case !exists && i < 0:
				case !exists || i < 0:
					t.Fatalf("hour %d of miner %x: has a leaf: %v, the model: %v\n%s", hour-testHour, miner[0], i >= 0, exists, show(steps))
				case got[hour][i].Slots != slots || got[hour][i].FirstSeq != first:
					t.Fatalf("hour %d of miner %x: from %d %+v\nmodel: from %d %+v\n%s", hour-testHour, miner[0], got[hour][i].FirstSeq, got[hour][i].Slots, first, slots, show(steps))
				default:
					if _, err := got[hour][i].AppendBinary(nil); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	})
}

// The hub recomputes an hour from the first batch that reaches to less than an hour before it, whatever the agent saw before and closed
// between.
func TestFactsMayBeginAnywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		steps := drawSteps(t, true)
		all := run(NewFacts(ident.SiteID{}, ident.SpoolID{}), steps)
		for hour, want := range all {
			// Up to the last batch of the leaf, and from the first one that has an observation later than an hour before the hour. A batch
			// is taken whole.
			var from, to uint64
			end := len(steps)
			for i, s := range steps {
				if s.close != nil && *s.close == hour {
					end = i
					break
				}
			}
			for _, s := range steps[:end] {
				if s.close != nil {
					continue
				}
				if from == 0 && s.poll.ms > int64(hour-1)*HourMS {
					from = s.seq
				}
				to = s.seq
			}
			for name, f := range map[string]*Facts{
				"": NewFacts(ident.SiteID{}, ident.SpoolID{}), "one hour, ": NewFactsOf(ident.SiteID{}, ident.SpoolID{}, hour),
			} {
				for _, s := range steps[:end] {
					if s.close == nil && s.seq >= from {
						f.add(s.seq, &s.poll)
					}
				}
				if got := f.Close(hour, to); !slices.Equal(got, want) {
					t.Fatalf("%shour %d from batch %d to %d:\n%+v\nfrom the start:\n%+v\n%s", name, int64(hour)-testHour, from, to, got, want, show(steps))
				}
			}
		}
	})
}

// A miner with a true counter: whatever is lost, comes twice or late, and however often it is restarted, its slots never hold more than it
// has done; and with nothing lost, all of it between the first poll and the last.
func TestNothingIsCountedTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const hashrate = 1000 // MH/s
		interval := rapid.SampledFrom([]int64{5000, 10_000, 60_000, 120_000}).Draw(t, "interval")
		faults := rapid.Bool().Draw(t, "faults")
		begin := int64(testHour)*HourMS + rapid.Int64Range(0, HourMS).Draw(t, "start")
		started := begin - rapid.Int64Range(0, 2*HourMS).Draw(t, "runs for")
		var polls []poll
		done := uint64(begin-started) * hashrate / 1000
		if begin-started > 301_000 {
			done = 0
		}
		for at := begin; at < begin+HourMS; at += interval {
			if at > begin {
				done += uint64(interval) * hashrate / 1000
			}
			if faults {
				switch rapid.IntRange(0, 19).Draw(t, "fault") {
				case 0: // the program was restarted since the last poll and hashes since
					since := rapid.Int64Range(0, interval-1).Draw(t, "since")
					started = at - since
				case 1:
					at += rapid.SampledFrom([]int64{400_000, 1_000_000, 2 * HourMS}).Draw(t, "lost")
					done = 1 << 40 // in the dark: what was done there is bounded below
				}
			}
			p := poll{miner: miner1, ms: at, outcome: telemetry.OutcomeOK}
			p.hashes, p.uptime = unit.Some((at-started)*hashrate/1000), unit.Some((at-started)/1000)
			polls = append(polls, p)
			if faults && rapid.IntRange(0, 9).Draw(t, "again") == 0 {
				polls = append(polls, polls[rapid.IntRange(max(0, len(polls)-20), len(polls)-1).Draw(t, "which")])
			}
		}
		f := NewFacts(ident.SiteID{}, ident.SpoolID{})
		for i := range polls {
			f.add(uint64(i+1), &polls[i])
		}
		var sum uint64
		for _, h := range f.Hours() {
			for _, l := range f.Close(h, uint64(len(polls))) {
				for _, s := range l.Slots {
					// Remainders of the slots before, and uptime in whole seconds: a first value is of up to a second more.
					if s.Hashes > 301*hashrate+12 {
						t.Fatalf("%d MH in a slot of %d", s.Hashes, 300*hashrate)
					}
					sum += s.Hashes
				}
			}
		}
		if sum > done {
			t.Fatalf("%d MH counted, %d done", sum, done)
		}
		if last := polls[len(polls)-1].ms; !faults && begin-started > 301_000 && sum != uint64(last-begin)*hashrate/1000 {
			t.Fatalf("%d MH counted, %d done between the first and the last poll", sum, uint64(last-begin)*hashrate/1000)
		}
	})
}

// However an hour of one counter is divided by polls, its sum is the same.
func TestMorePollsChangeNoTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		times := rapid.SliceOfNDistinct(rapid.Int64Range(1, HourMS-2), 0, 30, rapid.ID).Draw(t, "times")
		times = append(times, 0, HourMS-1)
		slices.SortFunc(times, cmp.Compare)
		f := NewFacts(ident.SiteID{}, ident.SpoolID{})
		total := rapid.Int64Range(0, 1<<62).Draw(t, "total")
		var hashes int64
		for i, ms := range times {
			if i == len(times)-1 {
				hashes = total
			} else if i > 0 {
				hashes = rapid.Int64Range(hashes, total).Draw(t, "hashes")
			}
			f.add(uint64(i+1), &poll{miner: miner1, ms: testHour*HourMS + ms, outcome: telemetry.OutcomeOK, hashes: unit.Some(hashes)})
		}
		var sum uint64
		for _, s := range f.Close(testHour, 99)[0].Slots {
			sum += s.Hashes
		}
		if sum != uint64(total) {
			t.Fatalf("%d, want %d", sum, total)
		}
	})
}
