package evidence

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

const testHour = 494544 // 2026-06-02 00:00 UTC

var miner1 = ident.MinerID{1}

// at is a poll of miner 1, s seconds after the start of testHour.
func at(s int64, change ...func(*poll)) poll {
	p := poll{miner: miner1, ms: testHour*HourMS + 1000*s, outcome: telemetry.OutcomeOK, state: telemetry.StateHashing}
	for _, c := range change {
		c(&p)
	}
	return p
}

func counter(mh, uptime int64) func(*poll) {
	return func(p *poll) { p.hashes, p.uptime = unit.Some(mh), unit.Some(uptime) }
}
func rate(mhs int64) func(*poll)          { return func(p *poll) { p.rate = unit.Some(mhs) } }
func energy(j int64) func(*poll)          { return func(p *poll) { p.energy = unit.Some(j) } }
func shares(d int64) func(*poll)          { return func(p *poll) { p.shares = unit.Some(d) } }
func stepped(p *poll)                     { p.flags |= telemetry.FlagClockStep }
func unanswered(p *poll)                  { p.outcome, p.state = telemetry.OutcomeTimeout, telemetry.StateUnknown }
func state(s telemetry.State) func(*poll) { return func(p *poll) { p.state = s } }

// factsOf adds polls, each as a batch of its own, and closes an hour.
func factsOf(hour uint32, polls ...poll) []Leaf {
	f := NewFacts(ident.SiteID{7}, ident.SpoolID{8})
	for i := range polls {
		f.add(uint64(i+1), &polls[i])
	}
	return f.Close(hour, uint64(len(polls)))
}

type slotWork struct {
	source Source
	flags  SlotFlags // of bridged and clock step
	hashes uint64
}

func TestWorkBetweenTwoPolls(t *testing.T) {
	for _, c := range []struct {
		name  string
		polls []poll
		want  map[int]slotWork // slots whose work is known
	}{
		{"a counter within a slot", []poll{at(10, counter(1000, 9000)), at(70, counter(1600, 9060))}, map[int]slotWork{0: {SourceCounter, 0, 600}}},
		{"a counter over a border, the remainder to the later slot", []poll{at(290, counter(0, 9000)), at(320, counter(100, 9030))},
			map[int]slotWork{0: {SourceCounter, 0, 33}, 1: {SourceCounter, 0, 67}}},
		{"a counter that stands is known to be zero", []poll{at(10, counter(1000, 9000)), at(70, counter(1000, 9060))}, map[int]slotWork{0: {SourceCounter, 0, 0}}},
		{"a poll at the border ends the slot before", []poll{at(240, counter(0, 9000)), at(300, counter(60, 9060))}, map[int]slotWork{0: {SourceCounter, 0, 60}}},
		{"a gap of 15 min is not bridged", []poll{at(0, counter(0, 9000)), at(900, counter(900, 9900))},
			map[int]slotWork{0: {SourceCounter, 0, 300}, 1: {SourceCounter, 0, 300}, 2: {SourceCounter, 0, 300}}},
		{"a longer gap is bridged", []poll{at(0, counter(0, 9000)), at(901, counter(901, 9901))},
			map[int]slotWork{0: {SourceCounter, SlotBridged, 300}, 1: {SourceCounter, SlotBridged, 300}, 2: {SourceCounter, SlotBridged, 300}, 3: {SourceCounter, SlotBridged, 1}}},
		{"over an hour nothing is known", []poll{at(-10, counter(0, 9000)), at(3591, counter(3601, 12601))}, nil},
		{"a counter goes before a rate", []poll{at(10, counter(0, 9000), rate(7)), at(70, counter(600, 9060), rate(7))}, map[int]slotWork{0: {SourceCounter, 0, 600}}},
		{"a rate is integrated", []poll{at(10, rate(10)), at(70, rate(21))}, map[int]slotWork{0: {SourceRate, 0, 930}}},
		{"a rate over 150 s", []poll{at(10, rate(10)), at(160, rate(10))}, map[int]slotWork{0: {SourceRate, 0, 1500}}},
		{"a rate over more than 150 s tells nothing", []poll{at(10, rate(10)), at(161, rate(10))}, nil},
		{"some rate makes the slot one of rates", []poll{at(10, counter(0, 9000), rate(10)), at(70, counter(600, 9060), rate(10)), at(130, rate(10))},
			map[int]slotWork{0: {SourceRate, 0, 1200}}},
		{"an answer without readings is bridged by the counter", []poll{at(10, counter(0, 9000)), at(70), at(130, counter(1200, 9120))}, map[int]slotWork{0: {SourceCounter, 0, 1200}}},
		{"no answer is bridged by the counter", []poll{at(10, counter(0, 9000)), at(70, unanswered), at(130, counter(1200, 9120))}, map[int]slotWork{0: {SourceCounter, 0, 1200}}},
		{"a restart counts from the program's start", []poll{at(10, counter(5000, 9000)), at(310, counter(100, 20))}, map[int]slotWork{0: {SourceCounter, 0, 50}, 1: {SourceCounter, 0, 50}}},
		{"a restart 300 s ago counts", []poll{at(10, counter(5000, 9000)), at(595, counter(300, 300))}, map[int]slotWork{0: {SourceCounter, 0, 5}, 1: {SourceCounter, 0, 295}}},
		{"a restart longer ago does not", []poll{at(10, counter(5000, 9000)), at(595, counter(301, 301))}, nil},
		{"a counter that falls without a restart tells nothing", []poll{at(100, counter(5000, 100)), at(160, counter(4999, 160))}, map[int]slotWork{0: {SourceCounter, 0, 5000}}},
		{"a rate is not integrated over a restart", []poll{at(10, rate(10), counter(5, 9000)), at(70, rate(10), func(p *poll) { p.uptime = unit.Some[int64](30) })}, nil},
		{"the first poll of a program that has just started", []poll{at(60, counter(300, 30))}, map[int]slotWork{0: {SourceCounter, 0, 300}}},
		{"the first poll of one that runs for long", []poll{at(60, counter(300, 301))}, nil},
		{"twice the same", []poll{at(10, counter(0, 100)), at(70, counter(600, 160)), at(70, counter(600, 160)), at(130, counter(1200, 220))},
			map[int]slotWork{0: {SourceCounter, 0, 1200}}},
		{"one late", []poll{at(10, counter(0, 9000)), at(130, counter(1200, 9120)), at(70, counter(600, 9060)), at(190, counter(1800, 9180))},
			map[int]slotWork{0: {SourceCounter, 0, 1800}}},
		{"a step of the clock", []poll{at(10, counter(0, 9000)), at(70, counter(600, 9060), stepped), at(130, counter(1200, 9120))},
			map[int]slotWork{0: {SourceCounter, SlotClockStep, 600}}},
		{"a step of the clock seen by a poll without answer", []poll{at(10, counter(0, 100)), at(70, unanswered, stepped), at(130, counter(1200, 220))},
			map[int]slotWork{0: {SourceCounter, SlotClockStep, 0}}},
		{"a clock set back counts from there", []poll{at(4200, counter(0, 9000)), at(10, counter(600, 9060), stepped), at(70, counter(1200, 9120))},
			map[int]slotWork{0: {SourceCounter, SlotClockStep, 600}}},
		{"a clock set back more than an hour while the agent was off", []poll{at(4200, counter(0, 9000)), at(10, counter(600, 9060)), at(70, counter(1200, 9120))},
			map[int]slotWork{0: {SourceCounter, 0, 600}}},
		{"sums stay at 2^63 - 1", []poll{at(10, counter(0, 9000)), at(70, counter(1<<62, 9060)), at(80, counter(0, 1)), at(140, counter(1<<62, 61))},
			map[int]slotWork{0: {SourceCounter, 0, MaxAmount}}},
		{"numbers below zero are not told", []poll{at(10, counter(-5, 9000), rate(-1)), at(70, counter(5, 9060), rate(10))}, nil},
		{"no rate is that large", []poll{at(10, rate(MaxRate+1)), at(70, rate(10))}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			leaves := factsOf(testHour, c.polls...)
			if len(leaves) != 1 {
				t.Fatalf("%d leaves", len(leaves))
			}
			for i, s := range leaves[0].Slots {
				got := slotWork{s.Source, s.Flags & (SlotBridged | SlotClockStep), s.Hashes}
				if want := c.want[i]; got != want {
					t.Errorf("slot %d: %+v, want %+v", i, got, want)
				}
			}
			if _, err := leaves[0].AppendBinary(nil); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSharesAndEnergyAreCountedAndDecideNothing(t *testing.T) {
	leaf := factsOf(testHour, at(10, rate(1), shares(100), energy(50)), at(170, rate(1), shares(164), energy(82)), at(230, rate(1), shares(7), energy(90)))[0]
	// The rate is 160 s apart and then 60 s; the share counter fell, the meter did not.
	if s := leaf.Slots[0]; s.ShareDiff != 64 || s.Energy != 40 || s.Hashes != 60 || s.Source != SourceRate {
		t.Errorf("%+v", s)
	}
	leaf = factsOf(testHour, at(10, counter(0, 9000), shares(1)), at(70, counter(5, 20), shares(9)))[0]
	if s := leaf.Slots[0]; s.ShareDiff != 8 || s.Hashes != 5 {
		t.Errorf("restart: %+v", s)
	}
}

func TestPollsAndWhatTheySaw(t *testing.T) {
	leaf := factsOf(testHour,
		at(0), at(1, unanswered), at(299, state(telemetry.StateDegraded)),
		at(300, unanswered),
		at(600, state(telemetry.StateSleeping)), at(660, state(telemetry.StateOverheated)),
		at(900, state(telemetry.StateNoPool), func(p *poll) { p.outcome, p.flags = telemetry.OutcomePartial, telemetry.FlagSkewed }),
	)[0]
	want := [SlotsPerHour]Slot{
		{Polls: 3, Answered: 2, Flags: SlotReachable | SlotHashing}, {Polls: 1},
		{Polls: 2, Answered: 2, Flags: SlotReachable | SlotSleeping | SlotOverheated}, {Polls: 1, Answered: 1, Flags: SlotReachable | SlotSkewed},
	}
	if leaf.Slots != want {
		t.Errorf("got  %+v\nwant %+v", leaf.Slots, want)
	}
	var many []poll
	for range 70000 {
		many = append(many, at(5))
	}
	if s := factsOf(testHour, many...)[0].Slots[0]; s.Polls != 65535 || s.Answered != 65535 {
		t.Errorf("70,000 polls: %+v", s)
	}
}

func TestFirstAndLastBatchOfALeaf(t *testing.T) {
	polls := []poll{at(-130, counter(0, 9000)), at(-10, counter(120, 9120)), at(-5, unanswered), at(50, counter(180, 9180)), at(110, counter(240, 9240))}
	leaf := factsOf(testHour, polls...)[0]
	if leaf.FirstSeq != 2 || leaf.LastSeq != 5 || leaf.Slots[0].Hashes != 50+60 {
		t.Errorf("batches %d to %d, %d MH: the second batch gave the hour its first work", leaf.FirstSeq, leaf.LastSeq, leaf.Slots[0].Hashes)
	}
	polls[3], polls[4] = at(50, unanswered), at(110, unanswered)
	if leaf := factsOf(testHour, polls...)[0]; leaf.FirstSeq != 4 {
		t.Errorf("first batch %d, want that of the first poll", leaf.FirstSeq)
	}
	if leaf.Site != (ident.SiteID{7}) || leaf.Spool != (ident.SpoolID{8}) || leaf.Hour != testHour || leaf.Miner != miner1 {
		t.Errorf("%+v", leaf)
	}
}

func TestClosedHoursTakeNothing(t *testing.T) {
	f := NewFacts(ident.SiteID{}, ident.SpoolID{})
	add := func(seq uint64, p poll) { f.add(seq, &p) }
	add(1, at(-30, counter(0, 9000)))
	if got := f.Close(testHour-1, 1); len(got) != 1 {
		t.Fatalf("%d leaves", len(got))
	}
	add(2, at(30, counter(600, 9060)))
	add(3, at(-20, counter(700, 9070)))
	if got := f.Hours(); len(got) != 1 || got[0] != testHour {
		t.Errorf("open hours %v", got)
	}
	if got := f.Close(testHour-1, 3); len(got) != 0 {
		t.Errorf("a closed hour gave leaves: %+v", got)
	}
	// The half of the work that falls into the closed hour is dropped, not moved.
	if got := f.Close(testHour, 3); len(got) != 1 || got[0].Slots[0].Hashes != 300 || got[0].FirstSeq != 1 {
		t.Errorf("%+v", got)
	}
	f.Close(testHour+1, 3)
	add(4, at(3700, counter(5000, 13000)))
	if got := f.Hours(); len(got) != 0 {
		t.Errorf("an hour that was closed empty is open: %v", got)
	}
}

func TestTimesThatNoClockShowsCountInNoHour(t *testing.T) {
	f := NewFacts(ident.SiteID{}, ident.SpoolID{})
	for _, ms := range []int64{-1, lastMS + 1, 1<<63 - 1, -1 << 63} {
		f.add(1, &poll{miner: miner1, ms: ms, outcome: telemetry.OutcomeOK})
	}
	f.add(1, &poll{miner: miner1, ms: 0, outcome: telemetry.OutcomeOK, hashes: unit.Some[int64](5), uptime: unit.Some[int64](5)})
	f.add(2, &poll{miner: miner1, ms: lastMS, outcome: telemetry.OutcomeOK})
	if got := f.Hours(); !slices.Equal(got, []uint32{0, lastMS / HourMS}) {
		t.Errorf("hours %v", got)
	}
}

// A clock that jumps about, and miners that come and go, fill no memory.
func TestMemoryIsBounded(t *testing.T) {
	f := NewFacts(ident.SiteID{}, ident.SpoolID{})
	for i := range 1000 {
		p := at(int64(i)*3600, counter(int64(i), 9000))
		f.add(uint64(i+1), &p)
		p.miner = ident.MinerID{2}
		f.add(uint64(i+1), &p)
	}
	if got := f.Hours(); len(got) != recentHours || got[0] != testHour+996 || len(f.free) > 2 {
		t.Errorf("hours %v open, %d kept to be used again", got, len(f.free))
	}
	for i := range 1000 {
		if got := f.Close(testHour+uint32(i), 1000); len(got) != map[bool]int{true: 2}[i >= 996] {
			t.Errorf("hour %d: %d leaves", i, len(got))
		}
	}
	if len(f.closed) != 1 || len(f.open) != 0 || len(f.free) > 2 {
		t.Errorf("%d spans of closed hours, %d hours open, %d kept to be used again", len(f.closed), len(f.open), len(f.free))
	}
	p := at(1000*3600, counter(1, 9000))
	f.add(1000+MaxSeqGap, &p)
	f.Close(testHour+1000, 1000+MaxSeqGap)
	if len(f.miners) != 2 {
		t.Errorf("%d miners, want both", len(f.miners))
	}
	p.ms += HourMS
	f.add(1001+MaxSeqGap, &p)
	f.Close(testHour+1001, 1001+MaxSeqGap)
	if len(f.miners) != 1 {
		t.Errorf("%d miners, want the one that is still polled", len(f.miners))
	}
}

func TestClosedHoursAreSpans(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := NewFacts(ident.SiteID{}, ident.SpoolID{})
		hours := rapid.SliceOf(rapid.Uint32Range(0, 40)).Draw(t, "hours")
		for _, h := range hours {
			f.close(h)
		}
		for h := range uint32(41) {
			if f.isClosed(h) != slices.Contains(hours, h) {
				t.Fatalf("hour %d after %v: %v", h, hours, f.closed)
			}
		}
		for i := 1; i < len(f.closed); i++ {
			if f.closed[i].first <= f.closed[i-1].last+1 {
				t.Fatalf("%v are not apart", f.closed)
			}
		}
	})
}

func TestAddAllocatesNothing(t *testing.T) {
	f := NewFacts(ident.SiteID{}, ident.SpoolID{})
	o := telemetry.Observation{Miner: miner1, Outcome: telemetry.OutcomeOK, State: telemetry.StateHashing}
	begin := time.UnixMilli(testHour * HourMS)
	var i int64
	add := func() {
		i++
		o.At, o.Hashes, o.Uptime = begin.Add(time.Duration(i)*time.Second), unit.Some(i*1000), unit.Some(time.Duration(i)*time.Second)
		f.Add(uint64(i), &o)
	}
	add()
	if n := testing.AllocsPerRun(3000, add); n != 0 {
		t.Errorf("%v allocations for each observation", n)
	}
}
