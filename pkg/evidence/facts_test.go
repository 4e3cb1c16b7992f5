package evidence

import (
	"testing"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

const testHour = 494544 // 2026-06-02 00:00 UTC

var miner1 = ident.MinerID{1}

// poll is a poll of miner 1, s seconds after the start of testHour.
func poll(s int64, change ...func(*Poll)) Poll {
	p := Poll{Miner: miner1, TimeMS: testHour*HourMS + 1000*s, Outcome: telemetry.OutcomeOK, State: telemetry.StateHashing}
	for _, c := range change {
		c(&p)
	}
	return p
}

func counter(mh, uptime int64) func(*Poll) {
	return func(p *Poll) { p.Hashes, p.UptimeS = unit.Some(mh), unit.Some(uptime) }
}
func rate(mhs int64) func(*Poll)          { return func(p *Poll) { p.Rate = unit.Some(mhs) } }
func energy(j int64) func(*Poll)          { return func(p *Poll) { p.Energy = unit.Some(j) } }
func shares(d int64) func(*Poll)          { return func(p *Poll) { p.ShareDiff = unit.Some(d) } }
func stepped(p *Poll)                     { p.Flags |= telemetry.FlagClockStep }
func unanswered(p *Poll)                  { p.Outcome, p.State = telemetry.OutcomeTimeout, telemetry.StateUnknown }
func state(s telemetry.State) func(*Poll) { return func(p *Poll) { p.State = s } }

// factsOf adds polls, each as a batch of its own, and closes an hour.
func factsOf(hour uint32, polls ...Poll) []Leaf {
	f := NewFacts(ident.SiteID{7}, ident.SpoolID{8})
	for i := range polls {
		f.AddPoll(uint64(i+1), &polls[i])
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
		polls []Poll
		want  map[int]slotWork // slots whose work is known
	}{
		{"a counter within a slot", []Poll{poll(10, counter(1000, 9000)), poll(70, counter(1600, 9060))}, map[int]slotWork{0: {SourceCounter, 0, 600}}},
		{"a counter over a border, the remainder to the later slot", []Poll{poll(290, counter(0, 9000)), poll(320, counter(100, 9030))},
			map[int]slotWork{0: {SourceCounter, 0, 33}, 1: {SourceCounter, 0, 67}}},
		{"a counter that stands is known to be zero", []Poll{poll(10, counter(1000, 9000)), poll(70, counter(1000, 9060))}, map[int]slotWork{0: {SourceCounter, 0, 0}}},
		{"a poll at the border ends the slot before", []Poll{poll(240, counter(0, 9000)), poll(300, counter(60, 9060))}, map[int]slotWork{0: {SourceCounter, 0, 60}}},
		{"a gap of 15 min is not bridged", []Poll{poll(0, counter(0, 9000)), poll(900, counter(900, 9900))},
			map[int]slotWork{0: {SourceCounter, 0, 300}, 1: {SourceCounter, 0, 300}, 2: {SourceCounter, 0, 300}}},
		{"a longer gap is bridged", []Poll{poll(0, counter(0, 9000)), poll(901, counter(901, 9901))},
			map[int]slotWork{0: {SourceCounter, SlotBridged, 300}, 1: {SourceCounter, SlotBridged, 300}, 2: {SourceCounter, SlotBridged, 300}, 3: {SourceCounter, SlotBridged, 1}}},
		{"over an hour nothing is known", []Poll{poll(-10, counter(0, 9000)), poll(3591, counter(3601, 12601))}, nil},
		{"a counter goes before a rate", []Poll{poll(10, counter(0, 9000), rate(7)), poll(70, counter(600, 9060), rate(7))}, map[int]slotWork{0: {SourceCounter, 0, 600}}},
		{"a rate is integrated", []Poll{poll(10, rate(10)), poll(70, rate(21))}, map[int]slotWork{0: {SourceRate, 0, 930}}},
		{"a rate over 150 s", []Poll{poll(10, rate(10)), poll(160, rate(10))}, map[int]slotWork{0: {SourceRate, 0, 1500}}},
		{"a rate over more than 150 s tells nothing", []Poll{poll(10, rate(10)), poll(161, rate(10))}, nil},
		{"some rate makes the slot one of rates", []Poll{poll(10, counter(0, 9000), rate(10)), poll(70, counter(600, 9060), rate(10)), poll(130, rate(10))},
			map[int]slotWork{0: {SourceRate, 0, 1200}}},
		{"an answer without readings is bridged by the counter", []Poll{poll(10, counter(0, 9000)), poll(70), poll(130, counter(1200, 9120))}, map[int]slotWork{0: {SourceCounter, 0, 1200}}},
		{"no answer is bridged by the counter", []Poll{poll(10, counter(0, 9000)), poll(70, unanswered), poll(130, counter(1200, 9120))}, map[int]slotWork{0: {SourceCounter, 0, 1200}}},
		{"a restart counts from the program's start", []Poll{poll(10, counter(5000, 9000)), poll(310, counter(100, 20))}, map[int]slotWork{0: {SourceCounter, 0, 50}, 1: {SourceCounter, 0, 50}}},
		{"a restart 300 s ago counts", []Poll{poll(10, counter(5000, 9000)), poll(595, counter(300, 300))}, map[int]slotWork{0: {SourceCounter, 0, 5}, 1: {SourceCounter, 0, 295}}},
		{"a restart longer ago does not", []Poll{poll(10, counter(5000, 9000)), poll(595, counter(301, 301))}, nil},
		{"a counter that falls without a restart tells nothing", []Poll{poll(100, counter(5000, 100)), poll(160, counter(4999, 160))}, map[int]slotWork{0: {SourceCounter, 0, 5000}}},
		{"a rate is not integrated over a restart", []Poll{poll(10, rate(10), counter(5, 9000)), poll(70, rate(10), func(p *Poll) { p.UptimeS = unit.Some[int64](30) })}, nil},
		{"the first poll of a program that has just started", []Poll{poll(60, counter(300, 30))}, map[int]slotWork{0: {SourceCounter, 0, 300}}},
		{"the first poll of one that runs for long", []Poll{poll(60, counter(300, 301))}, nil},
		{"twice the same", []Poll{poll(10, counter(0, 100)), poll(70, counter(600, 160)), poll(70, counter(600, 160)), poll(130, counter(1200, 220))},
			map[int]slotWork{0: {SourceCounter, 0, 1200}}},
		{"one late", []Poll{poll(10, counter(0, 9000)), poll(130, counter(1200, 9120)), poll(70, counter(600, 9060)), poll(190, counter(1800, 9180))},
			map[int]slotWork{0: {SourceCounter, 0, 1800}}},
		{"a step of the clock", []Poll{poll(10, counter(0, 9000)), poll(70, counter(600, 9060), stepped), poll(130, counter(1200, 9120))},
			map[int]slotWork{0: {SourceCounter, SlotClockStep, 600}}},
		{"a step of the clock seen by a poll without answer", []Poll{poll(10, counter(0, 100)), poll(70, unanswered, stepped), poll(130, counter(1200, 220))},
			map[int]slotWork{0: {SourceCounter, SlotClockStep, 0}}},
		{"a clock set back counts from there", []Poll{poll(4200, counter(0, 9000)), poll(10, counter(600, 9060), stepped), poll(70, counter(1200, 9120))},
			map[int]slotWork{0: {SourceCounter, SlotClockStep, 600}}},
		{"a clock set back more than an hour while the agent was off", []Poll{poll(4200, counter(0, 9000)), poll(10, counter(600, 9060)), poll(70, counter(1200, 9120))},
			map[int]slotWork{0: {SourceCounter, 0, 600}}},
		{"sums stay at 2^63 - 1", []Poll{poll(10, counter(0, 9000)), poll(70, counter(MaxAmount, 9060)), poll(80, counter(0, 1)), poll(140, counter(MaxAmount, 61))},
			map[int]slotWork{0: {SourceCounter, 0, MaxAmount}}},
		{"numbers below zero are not told", []Poll{poll(10, counter(-5, 9000), rate(-1)), poll(70, counter(5, 9060), rate(10))}, nil},
		{"no rate is that large", []Poll{poll(10, rate(MaxRate+1)), poll(70, rate(10))}, nil},
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
	leaf := factsOf(testHour, poll(10, rate(1), shares(100), energy(50)), poll(170, rate(1), shares(164), energy(82)), poll(230, rate(1), shares(7), energy(90)))[0]
	// The rate is 160 s apart and then 60 s; the share counter fell, the meter did not.
	if s := leaf.Slots[0]; s.ShareDiff != 64 || s.Energy != 40 || s.Hashes != 60 || s.Source != SourceRate {
		t.Errorf("%+v", s)
	}
	leaf = factsOf(testHour, poll(10, counter(0, 9000), shares(1)), poll(70, counter(5, 20), shares(9)))[0]
	if s := leaf.Slots[0]; s.ShareDiff != 8 || s.Hashes != 5 {
		t.Errorf("restart: %+v", s)
	}
}

func TestPollsAndWhatTheySaw(t *testing.T) {
	leaf := factsOf(testHour,
		poll(0), poll(1, unanswered), poll(299, state(telemetry.StateDegraded)),
		poll(300, unanswered),
		poll(600, state(telemetry.StateSleeping)), poll(660, state(telemetry.StateOverheated)),
		poll(900, state(telemetry.StateNoPool), func(p *Poll) { p.Outcome, p.Flags = telemetry.OutcomePartial, telemetry.FlagSkewed }),
	)[0]
	want := [SlotsPerHour]Slot{
		{Polls: 3, Answered: 2, Flags: SlotReachable | SlotHashing}, {Polls: 1},
		{Polls: 2, Answered: 2, Flags: SlotReachable | SlotSleeping | SlotOverheated}, {Polls: 1, Answered: 1, Flags: SlotReachable | SlotSkewed},
	}
	if leaf.Slots != want {
		t.Errorf("got  %+v\nwant %+v", leaf.Slots, want)
	}
	var many []Poll
	for range 70000 {
		many = append(many, poll(5))
	}
	if s := factsOf(testHour, many...)[0].Slots[0]; s.Polls != 65535 || s.Answered != 65535 {
		t.Errorf("70,000 polls: %+v", s)
	}
}

func TestFirstAndLastBatchOfALeaf(t *testing.T) {
	polls := []Poll{poll(-130, counter(0, 9000)), poll(-10, counter(120, 9120)), poll(-5, unanswered), poll(50, counter(180, 9180)), poll(110, counter(240, 9240))}
	leaf := factsOf(testHour, polls...)[0]
	if leaf.FirstSeq != 2 || leaf.LastSeq != 5 || leaf.Slots[0].Hashes != 50+60 {
		t.Errorf("batches %d to %d, %d MH: the second batch gave the hour its first work", leaf.FirstSeq, leaf.LastSeq, leaf.Slots[0].Hashes)
	}
	polls[3], polls[4] = poll(50, unanswered), poll(110, unanswered)
	if leaf := factsOf(testHour, polls...)[0]; leaf.FirstSeq != 4 {
		t.Errorf("first batch %d, want that of the first poll", leaf.FirstSeq)
	}
	if leaf.Site != (ident.SiteID{7}) || leaf.Spool != (ident.SpoolID{8}) || leaf.Hour != testHour || leaf.Miner != miner1 {
		t.Errorf("%+v", leaf)
	}
}

func TestClosedHoursTakeNothing(t *testing.T) {
	f := NewFacts(ident.SiteID{}, ident.SpoolID{})
	add := func(seq uint64, p Poll) { f.AddPoll(seq, &p) }
	add(1, poll(-30, counter(0, 9000)))
	if got := f.Close(testHour-1, 1); len(got) != 1 {
		t.Fatalf("%d leaves", len(got))
	}
	add(2, poll(30, counter(600, 9060)))
	add(3, poll(-20, counter(700, 9070)))
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
	add(4, poll(3700, counter(5000, 13000)))
	if got := f.Hours(); len(got) != 0 {
		t.Errorf("an hour that was closed empty is open: %v", got)
	}
}
