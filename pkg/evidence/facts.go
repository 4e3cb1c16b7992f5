package evidence

import (
	"cmp"
	"maps"
	"math/bits"
	"slices"
	"time"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// Bounds of what two polls say about the time between them. Changing one changes what is signed.
const (
	MaxGapMS     = 3_600_000 // at most this far apart two polls make work at all
	BridgedMS    = 900_000   // further apart than this the work is marked SlotBridged
	MaxRateGapMS = 150_000   // at most this far apart a rate is integrated: half a slot, for the poll interval is not in the evidence
	MaxFirstS    = 300       // of a program that runs for at most this long, the first value counts
	MaxRate      = 1 << 50   // MH/s; a rate beyond it, a thousand times that of all miners there are, counts as not told
	MaxSeqGap    = 1 << 16   // at most this many batches apart two polls make work
	maxReading   = 1 << 62   // what package wire can carry: more counts as not told there and here
	maxUptime    = 1<<31 - 1 // s, likewise
	recentHours  = 4         // of the hours a miner was last polled in, so many take facts
	lastMS       = 253402300799999
)

// poll is the part of an observation that counts, in the units in which it is signed.
type poll struct {
	miner   ident.MinerID
	ms      int64 // since 1970 UTC
	outcome telemetry.Outcome
	state   telemetry.State
	flags   telemetry.Flags
	rate    unit.Opt[int64] // MH/s
	hashes  unit.Opt[int64] // MH since the program started
	uptime  unit.Opt[int64] // s
	shares  unit.Opt[int64] // difficulty since the program started
	energy  unit.Opt[int64] // J since the agent began to poll
}

// pollOf rounds as package wire rounds: what an agent has read gives the same as what it has stored.
func pollOf(o *telemetry.Observation) poll {
	p := poll{
		miner: o.Miner, ms: o.At.UnixMilli(), outcome: o.Outcome, state: o.State, flags: o.Flags,
		hashes: o.Hashes, shares: o.DiffAccepted, energy: o.Energy,
	}
	if r, ok := o.Hashrate.Get(); ok {
		p.rate = unit.Some(r.Megahashes())
	}
	if u, ok := o.Uptime.Get(); ok {
		p.uptime = unit.Some(int64(u / time.Second))
	}
	return p
}

// Facts computes the facts of the hours of one chain from its observations: the agent as it commits batches, the hub and whoever
// doubts them from the batches. Both ends feed it what package wire has decoded (wire.Samples.EachFact), so that both see the same bytes.
// The package comment tells the rules. It keeps about 200 bytes for each miner and 416 for each of its open hours, of which there are
// one or two and at most four. It is for one goroutine.
type Facts struct {
	site   ident.SiteID
	spool  ident.SpoolID
	miners map[ident.MinerID]*minerFacts
	open   map[uint32]int // hour → miners with facts of it
	closed []hourSpan     // in order, apart
	only   *uint32        // the one hour wanted; nil is all
	free   []*hourFacts
	seq    uint64 // newest
}

type hourSpan struct{ first, last uint32 }

type hourFacts struct {
	first uint64 // sequence number that counts
	slots [SlotsPerHour]Slot
}

type minerFacts struct {
	carry  carry
	recent [recentHours]recentHour // the one polled last first
	used   int                     // of recent
}

// recentHour is one of the hours that a miner was last polled in. It has no facts when it is closed or not wanted, and still counts as
// one of the last: which hours take facts must not depend on what has been closed.
type recentHour struct {
	hour  uint32
	facts *hourFacts
}

// carry is the poll from which the next one measures. One without readings is a point that no work may reach behind.
type carry struct {
	seq    uint64 // 0: there is none
	ms     int64
	has    readings
	rate   int64
	hashes int64
	uptime int64
	shares int64
	energy int64
}

type readings uint8

const (
	hasRate readings = 1 << iota
	hasHashes
	hasUptime
	hasShares
	hasEnergy
)

// NewFacts begins a chain, or goes on anywhere in it: the leaf of an hour is right when no batch before the first one given to Add has
// an observation later than an hour before the hour's start.
func NewFacts(site ident.SiteID, spool ident.SpoolID) *Facts {
	return &Facts{site: site, spool: spool, miners: map[ident.MinerID]*minerFacts{}, open: map[uint32]int{}}
}

// NewFactsOf is NewFacts for one hour: facts of other hours are not kept.
func NewFactsOf(site ident.SiteID, spool ident.SpoolID, hour uint32) *Facts {
	f := NewFacts(site, spool)
	f.only = &hour
	return f
}

// Add takes the next observation: batches in order of their sequence numbers, and within a batch in the payload's order.
func (f *Facts) Add(seq uint64, o *telemetry.Observation) {
	p := pollOf(o)
	f.add(seq, &p)
}

func (f *Facts) add(seq uint64, p *poll) {
	if p.ms < 0 || p.ms > lastMS {
		return // no clock shows this; package wire refuses it
	}
	f.seq = max(f.seq, seq)
	m := f.miners[p.miner]
	if m == nil {
		m = &minerFacts{}
		f.miners[p.miner] = m
	}
	answered, stepped := p.outcome.Answered(), p.flags&telemetry.FlagClockStep != 0
	if h := f.polled(m, uint32(p.ms/HourMS)); h != nil {
		h.first = min(h.first, seq)
		h.slots[p.ms%HourMS/SlotMS].count(p, answered)
	}
	c := &m.carry
	if seq-c.seq > MaxSeqGap {
		*c = carry{}
	}
	if !answered {
		if stepped {
			*c = carry{seq: seq, ms: p.ms}
		}
		return
	}
	now := carryOf(seq, p)
	switch {
	case stepped: // the time since the carry is not known
	case now.has&(hasHashes|hasRate) == 0:
		return
	case c.seq != 0 && now.ms <= c.ms:
		if c.ms-now.ms <= MaxGapMS {
			return // comes twice, or late: its time has been counted
		}
	default:
		m.work(&now)
	}
	*c = now
}

func carryOf(seq uint64, p *poll) carry {
	c := carry{seq: seq, ms: p.ms}
	tell := func(o unit.Opt[int64], most int64, bit readings, to *int64) {
		if v, ok := o.Get(); ok && v >= 0 && v <= most {
			c.has |= bit
			*to = v
		}
	}
	tell(p.rate, MaxRate, hasRate, &c.rate)
	tell(p.hashes, maxReading, hasHashes, &c.hashes)
	tell(p.uptime, maxUptime, hasUptime, &c.uptime)
	tell(p.shares, maxReading, hasShares, &c.shares)
	tell(p.energy, maxReading, hasEnergy, &c.energy)
	return c
}

// polled makes an hour the one that m was polled in last, and returns its facts, nil when it takes none.
func (f *Facts) polled(m *minerFacts, hour uint32) *hourFacts {
	if m.used > 0 && m.recent[0].hour == hour {
		return m.recent[0].facts
	}
	i := slices.IndexFunc(m.recent[:m.used], func(r recentHour) bool { return r.hour == hour })
	var r recentHour
	switch {
	case i >= 0:
		r = m.recent[i]
	default:
		r.hour = hour
		if !f.isClosed(hour) && (f.only == nil || *f.only == hour) {
			r.facts = f.take()
			f.open[hour]++
		}
		if m.used < recentHours {
			m.used++
		} else {
			f.drop(&m.recent[recentHours-1])
		}
		i = m.used - 1
	}
	copy(m.recent[1:i+1], m.recent[:i])
	m.recent[0] = r
	return r.facts
}

func (f *Facts) take() *hourFacts {
	n := len(f.free)
	if n == 0 {
		return &hourFacts{first: ^uint64(0)}
	}
	h := f.free[n-1]
	f.free = f.free[:n-1]
	*h = hourFacts{first: ^uint64(0)}
	return h
}

func (f *Facts) drop(r *recentHour) {
	if r.facts == nil {
		return
	}
	if len(f.free) < len(f.miners) {
		f.free = append(f.free, r.facts)
	}
	r.facts = nil
	if f.open[r.hour]--; f.open[r.hour] == 0 {
		delete(f.open, r.hour)
	}
}

func (s *Slot) count(p *poll, answered bool) {
	if s.Polls < 1<<16-1 {
		s.Polls++
	}
	if answered {
		s.Flags |= SlotReachable
		if s.Answered < 1<<16-1 {
			s.Answered++
		}
	}
	switch p.state {
	case telemetry.StateHashing, telemetry.StateDegraded:
		s.Flags |= SlotHashing
	case telemetry.StateSleeping:
		s.Flags |= SlotSleeping
	case telemetry.StateOverheated:
		s.Flags |= SlotOverheated
	case telemetry.StateUnknown, telemetry.StateFaulty, telemetry.StateNoPool, telemetry.StateStarting:
	}
	if p.flags&telemetry.FlagClockStep != 0 {
		s.Flags |= SlotClockStep
	}
	if p.flags&telemetry.FlagSkewed != 0 {
		s.Flags |= SlotSkewed
	}
}

// amounts is what was done in a span of time, as far as it is known.
type amounts struct {
	source         Source
	flags          SlotFlags
	hashes         uint64
	shares, energy uint64
}

// work counts what was done before now, which is later than the carry.
func (m *minerFacts) work(now *carry) {
	c := &m.carry
	gap := now.ms - c.ms
	pair := c.seq != 0 && gap <= MaxGapMS
	var a amounts
	known := false
	if pair {
		both := c.has & now.has
		fell := both&hasHashes != 0 && now.hashes < c.hashes || both&hasUptime != 0 && now.uptime < c.uptime
		switch {
		case fell:
		case both&hasHashes != 0:
			a.source, a.hashes = SourceCounter, uint64(now.hashes-c.hashes)
			if gap > BridgedMS {
				a.flags = SlotBridged
			}
		case both&hasRate != 0 && gap <= MaxRateGapMS:
			// 2^51 MH/s · 150,000 ms needs more than 64 bits before the division and fewer after.
			hi, lo := bits.Mul64(uint64(c.rate)+uint64(now.rate), uint64(gap))
			a.source = SourceRate
			a.hashes, _ = bits.Div64(hi, lo, 2000)
		}
		if both&hasShares != 0 && now.shares >= c.shares {
			a.shares, known = uint64(now.shares-c.shares), true
		}
		if both&hasEnergy != 0 && now.energy >= c.energy {
			a.energy, known = uint64(now.energy-c.energy), true
		}
		if known || a.source != SourceNone {
			m.spread(c.seq, c.ms, now.ms, &a)
		}
	}
	if a.source == SourceNone && now.has&(hasHashes|hasUptime) == hasHashes|hasUptime && now.uptime > 0 && now.uptime <= MaxFirstS {
		if from := now.ms - 1000*now.uptime; from >= 0 && (c.seq == 0 || from >= c.ms) {
			m.spread(now.seq, from, now.ms, &amounts{source: SourceCounter, hashes: uint64(now.hashes)})
		}
	}
}

// spread splits amounts over the slots between two times in proportion to time, rounded down; the last slot takes what is left. seq is
// the batch without which they would not be known.
func (m *minerFacts) spread(seq uint64, from, to int64, a *amounts) {
	first, last := from/SlotMS, (to-1)/SlotMS
	left := *a
	for n := first; n <= last; n++ {
		part := left
		if n < last {
			length := uint64(min(to, (n+1)*SlotMS) - max(from, n*SlotMS))
			part.hashes = share(a.hashes, length, uint64(to-from))
			part.shares = share(a.shares, length, uint64(to-from))
			part.energy = share(a.energy, length, uint64(to-from))
			left.hashes -= part.hashes
			left.shares -= part.shares
			left.energy -= part.energy
		}
		h := m.facts(uint32(n / SlotsPerHour))
		if h == nil {
			continue
		}
		h.first = min(h.first, seq)
		s := &h.slots[n%SlotsPerHour]
		s.Source = max(s.Source, part.source)
		s.Flags |= part.flags
		s.Hashes = min(s.Hashes+part.hashes, MaxAmount)
		s.ShareDiff = min(s.ShareDiff+part.shares, MaxAmount)
		s.Energy = min(s.Energy+part.energy, MaxAmount)
	}
}

// share is amount · length / of, rounded down, for length ≤ of.
func share(amount, length, of uint64) uint64 {
	hi, lo := bits.Mul64(amount, length)
	q, _ := bits.Div64(hi, lo, of)
	return q
}

// facts returns those of an hour that takes some.
func (m *minerFacts) facts(hour uint32) *hourFacts {
	for i := range m.recent[:m.used] {
		if m.recent[i].hour == hour {
			return m.recent[i].facts
		}
	}
	return nil
}

// Hours returns the hours that have facts and are not closed, in order.
func (f *Facts) Hours() []uint32 { return slices.Sorted(maps.Keys(f.open)) }

// Close returns the leaves of an hour, in order of miner ids and without salts, and forgets it: nothing counts towards it any more, also
// when it had no facts. last is the newest sequence number of the chain.
func (f *Facts) Close(hour uint32, last uint64) []Leaf {
	leaves := make([]Leaf, 0, f.open[hour])
	for id, m := range f.miners {
		open := false
		for i := range m.recent[:m.used] {
			r := &m.recent[i]
			if r.facts != nil && r.hour == hour {
				leaves = append(leaves, Leaf{
					Site: f.site, Miner: id, Hour: hour, Spool: f.spool, Slots: r.facts.slots, FirstSeq: r.facts.first, LastSeq: last,
				})
				f.drop(r)
			}
			open = open || r.facts != nil
		}
		if !open && f.seq-m.carry.seq > MaxSeqGap {
			delete(f.miners, id) // a miner that was taken away: nothing that may come depends on it
		}
	}
	slices.SortFunc(leaves, func(a, b Leaf) int { return a.Miner.Compare(b.Miner) })
	f.close(hour)
	return leaves
}

func (f *Facts) isClosed(hour uint32) bool {
	_, found := f.findClosed(hour)
	return found
}

func (f *Facts) findClosed(hour uint32) (int, bool) {
	return slices.BinarySearchFunc(f.closed, hour, func(s hourSpan, h uint32) int {
		if s.first <= h && h <= s.last {
			return 0
		}
		return cmp.Compare(s.first, h)
	})
}

// close remembers an hour. Hours in a row are one span: a year of them takes no more than a day.
func (f *Facts) close(hour uint32) {
	i, found := f.findClosed(hour)
	if found {
		return
	}
	f.closed = slices.Insert(f.closed, i, hourSpan{hour, hour})
	if i+1 < len(f.closed) && f.closed[i+1].first == hour+1 {
		f.closed[i].last = f.closed[i+1].last
		f.closed = slices.Delete(f.closed, i+1, i+2)
	}
	if i > 0 && f.closed[i-1].last+1 == hour {
		f.closed[i-1].last = f.closed[i].last
		f.closed = slices.Delete(f.closed, i, i+1)
	}
}
