package sla

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// at is a time in November 2026.
func at(d, hh, mm int) int64 {
	return november.FromMS() + int64(d-1)*day + int64(hh)*hour + int64(mm)*minute
}

// judgeDay judges the miner's whole first day and returns its letters.
func judgeDay(t *testing.T, in RulesInput, facts []HourFacts) DayResult {
	t.Helper()
	res, err := mustRules(t, in).Plan(key(1)).Day(DayOf(at(1, 0, 0)), facts)
	require.NoError(t, err)
	return res
}

// stateAt judges the slot that starts at ms, from Day, and checks that Why says the same.
func stateAt(t *testing.T, in RulesInput, ms int64, facts []HourFacts) Why {
	t.Helper()
	p := mustRules(t, in).Plan(key(1))
	res, err := p.Day(DayOf(ms), facts)
	require.NoError(t, err)
	why, err := p.Why(ms, facts)
	require.NoError(t, err)
	require.Equal(t, res.States[ms%day/slot], why.State)
	require.Equal(t, ms-ms%slot, why.SlotMS)
	return why
}

// one is the hour that ms lies in, with one slot of work and nothing in the others.
func one(ms int64, s evidence.Slot) []HourFacts {
	f := HourFacts{Hour: uint32(ms / hour), ReceivedMS: ms - ms%hour + hour + minute}
	f.Slots[ms%hour/slot] = s
	return []HourFacts{f}
}

func worked(mh uint64) evidence.Slot {
	return evidence.Slot{Polls: 5, Answered: 5, Source: evidence.SourceCounter, Flags: evidence.SlotReachable | evidence.SlotHashing, Hashes: mh}
}

func TestFirstMatchDecidesASlot(t *testing.T) {
	ms := at(5, 12, 0)
	curtail := Excuse{ID: idN(10), Kind: Curtailment, Site: siteA, FromMS: ms, ToMS: ms + slot, RecordedMS: ms}
	maintain := Excuse{ID: idN(11), Kind: Maintenance, Site: siteA, FromMS: ms, ToMS: ms + slot, RecordedMS: ms - 2*day}
	for _, c := range []struct {
		name     string
		assigned bool
		excuses  []Excuse
		facts    []HourFacts
		want     State
		reason   Reason
	}{
		{"not contracted before excused", false, []Excuse{curtail, maintain}, one(ms, worked(fullMH)), NotContracted, NoAssignment},
		{"curtailment before maintenance", true, []Excuse{maintain, curtail}, one(ms, worked(fullMH)), ExcusedCurtailment, OnOrder},
		{"maintenance before up", true, []Excuse{maintain}, one(ms, worked(fullMH)), ExcusedMaintenance, Announced},
		{"up", true, nil, one(ms, worked(fullMH)), Up, EnoughWork},
		{"degraded", true, nil, one(ms, worked(fullMH/2)), Degraded, SomeWork},
		{"down", true, nil, one(ms, worked(1)), Down, TooLittleWork},
		{"unknown", true, nil, nil, UnknownAsDown, NoRecord},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := input()
			if !c.assigned {
				in.Assignments = []Assignment{assign(1, 1, november.FromMS(), ms)}
			}
			in.Excuses = c.excuses
			why := stateAt(t, in, ms, c.facts)
			assert.Equal(t, c.want, why.State)
			assert.Equal(t, c.reason, why.Reason)
		})
	}
}

func TestThetaAtItsBoundary(t *testing.T) {
	ms := at(5, 12, 0)
	for _, c := range []struct {
		name                  string
		rate, theta, degraded int64
		mh                    uint64
		want                  State
	}{
		{"exactly θ × rate × 300 s is up", 100_000_000, 800_000, 100_000, 24_000_000_000, Up},
		{"one MH less is degraded", 100_000_000, 800_000, 100_000, 23_999_999_999, Degraded},
		{"exactly 0.10 is degraded", 100_000_000, 800_000, 100_000, 3_000_000_000, Degraded},
		{"one MH less is down", 100_000_000, 800_000, 100_000, 2_999_999_999, Down},
		{"a bound between two numbers is the higher one", 1, 333_333, 333_333, 100, Up}, // 99.9999 MH
		{"and not the lower one", 1, 333_333, 333_333, 99, Down},
		{"the whole rate", 1, Whole, Whole, 300, Up},
		{"all but one MH of the whole rate", 1, Whole, Whole, 299, Down},
		{"the largest rate", MaxRateMHs, Whole, 1, MaxRateMHs * 300, Up},
		{"one MH less than the largest", MaxRateMHs, Whole, 1, MaxRateMHs*300 - 1, Degraded},
		{"no work is never up, however low the bound", 1, 1, 1, 0, Down},
		{"the largest number there is", 1, 800_000, 100_000, ^uint64(0), Up},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := input()
			in.Terms[0].RateMHs, in.Terms[0].ThetaPPM, in.Terms[0].DegradedPPM = c.rate, c.theta, c.degraded
			assert.Equal(t, c.want, stateAt(t, in, ms, one(ms, worked(c.mh))).State)
		})
	}
}

func TestUnknownStaysOpenUntilTheBackfillDeadlineAndThenFollowsThePolicy(t *testing.T) {
	ms := at(5, 12, 30)
	deadline := at(5, 13, 0) + 72*hour
	for _, c := range []struct {
		policy UnknownPolicy
		asOf   int64
		want   State
		pool   bool
	}{
		{UnknownDown, at(5, 12, 35) - 1, Future, false},
		{UnknownDown, at(5, 12, 35), Unknown, false},
		{UnknownDown, deadline, Unknown, false},
		{UnknownDown, deadline + 1, UnknownAsDown, false},
		{UnknownExcused, deadline, Unknown, false},
		{UnknownExcused, deadline + 1, UnknownAsExcused, false},
		{UnknownPool, deadline, Unknown, false},
		{UnknownPool, deadline + 1, UnknownAsDown, true},
	} {
		in := input()
		in.Terms[0].Unknown, in.AsOfMS = c.policy, c.asOf
		why := stateAt(t, in, ms, nil)
		assert.Equal(t, c.want, why.State, "%s as of %d", c.policy, c.asOf)
		assert.Equal(t, c.pool, why.NoPoolData, "the pool policy without pool data is down and says so")
		if c.asOf >= at(5, 12, 35) {
			assert.Equal(t, deadline, why.DeadlineMS)
		}
	}
}

func TestADayTellsWhenItChangesByItself(t *testing.T) {
	in := input()
	in.AsOfMS = at(1, 12, 3)
	assert.Equal(t, at(1, 12, 5), judgeDay(t, in, nil).NextMS, "when the running slot ends")
	in.AsOfMS = at(2, 0, 0)
	assert.Equal(t, at(1, 1, 0)+72*hour+1, judgeDay(t, in, nil).NextMS, "when the first hour's deadline has passed")
	in.AsOfMS = at(1, 0, 0) + day + 72*hour + 1
	assert.Zero(t, judgeDay(t, in, nil).NextMS, "never again")
	// Judged at NextMS it is another, and one ms before the same.
	in.AsOfMS = at(2, 0, 0)
	next := judgeDay(t, in, nil)
	in.AsOfMS = next.NextMS - 1
	assert.Equal(t, next, judgeDay(t, in, nil))
	in.AsOfMS = next.NextMS
	assert.NotEqual(t, next.States, judgeDay(t, in, nil).States)
}

func TestLateFactsDoNotCountUnlessARestatementAcceptsThem(t *testing.T) {
	ms := at(5, 12, 0)
	deadline := at(5, 13, 0) + 72*hour
	facts := one(ms, worked(fullMH))
	in := input()
	facts[0].ReceivedMS = deadline
	assert.Equal(t, Up, stateAt(t, in, ms, facts).State, "at the deadline is in time")
	facts[0].ReceivedMS = deadline + 1
	why := stateAt(t, in, ms, facts)
	assert.Equal(t, UnknownAsDown, why.State)
	assert.Equal(t, TooLate, why.Reason)
	assert.Equal(t, 1, why.LateChains)
	in.AcceptUntilMS = deadline + 1
	assert.Equal(t, Up, stateAt(t, in, ms, facts).State)
	facts[0].ReceivedMS++
	assert.Equal(t, UnknownAsDown, stateAt(t, in, ms, facts).State)
}

func TestWhatMakesASlotUnknown(t *testing.T) {
	ms := at(5, 12, 10)
	noPolls := worked(fullMH)
	noPolls.Polls, noPolls.Answered, noPolls.Flags = 0, 0, evidence.SlotBridged
	siteSkew := worked(fullMH)
	siteSkew.Flags |= evidence.SlotSkewed
	hubSkew := one(ms, worked(fullMH))
	hubSkew[0].Skewed = 1 << 2
	otherSlot := one(ms, worked(fullMH))
	otherSlot[0].Skewed = ^uint16(1 << 2)
	disputed := one(ms, worked(fullMH))
	disputed[0].Disputed = true
	step := worked(fullMH)
	step.Flags |= evidence.SlotClockStep
	for _, c := range []struct {
		name   string
		facts  []HourFacts
		want   State
		reason Reason
	}{
		{"no signed hour", nil, UnknownAsDown, NoRecord},
		{"no poll, although a counter bridges the slot", one(ms, noPolls), UnknownAsDown, NoPolls},
		{"the site's clock was more than 30 s off, and the agent knew", one(ms, siteSkew), UnknownAsDown, ClockWrong},
		{"the site's clock was more than 30 s off, and the hub knew", hubSkew, UnknownAsDown, ClockWrong},
		{"a wrong clock in other slots only", otherSlot, Up, EnoughWork},
		{"a disputed hour", disputed, UnknownAsDown, InDispute},
		{"a clock step alone is shown and decides nothing", one(ms, step), Up, EnoughWork},
	} {
		t.Run(c.name, func(t *testing.T) {
			why := stateAt(t, input(), ms, c.facts)
			assert.Equal(t, c.want, why.State)
			assert.Equal(t, c.reason, why.Reason)
		})
	}
}

func TestWhatNobodyKnowsCountsNoWork(t *testing.T) {
	in := input()
	in.Terms[0].Metric = MetricHashrate
	facts := one(at(1, 0, 0), worked(fullMH))
	facts[0].Disputed = true
	res := judgeDay(t, in, facts)
	assert.Zero(t, res.Hashes)
	assert.EqualValues(t, SlotsPerDay*fullMH, res.Needed)
}

func TestDownIsAMinerThatAnAgentSaw(t *testing.T) {
	ms := at(5, 12, 0)
	for _, c := range []struct {
		name   string
		slot   evidence.Slot
		want   State
		reason Reason
	}{
		{"polled and silent", evidence.Slot{Polls: 5}, Down, NoAnswer},
		{"one poll is enough", evidence.Slot{Polls: 1}, Down, NoAnswer},
		{"silent, and a counter later told its work", evidence.Slot{Polls: 5, Source: evidence.SourceCounter, Flags: evidence.SlotBridged, Hashes: fullMH}, Up, EnoughWork},
		{"a stopped miner with a counter", evidence.Slot{Polls: 5, Answered: 5, Source: evidence.SourceCounter, Flags: evidence.SlotSleeping}, Down, TooLittleWork},
		{"without any usable counter, whatever state it tells", evidence.Slot{Polls: 5, Answered: 5, Flags: evidence.SlotReachable | evidence.SlotHashing}, Down, NotMeasurable},
		{"hashes that come from nowhere", evidence.Slot{Polls: 5, Answered: 5, Hashes: fullMH}, Down, NotMeasurable},
		{"a rate is as good as a counter", evidence.Slot{Polls: 5, Answered: 5, Source: evidence.SourceRate, Hashes: fullMH}, Up, EnoughWork},
		{"shares decide nothing", evidence.Slot{Polls: 5, Answered: 5, Source: evidence.SourceCounter, ShareDiff: 1 << 60}, Down, TooLittleWork},
	} {
		t.Run(c.name, func(t *testing.T) {
			why := stateAt(t, input(), ms, one(ms, c.slot))
			assert.Equal(t, c.want, why.State)
			assert.Equal(t, c.reason, why.Reason)
		})
	}
}

func TestChainsOfOneHourAddUp(t *testing.T) {
	ms := at(5, 12, 0)
	half := one(ms, worked(fullMH/2))[0]
	other := half
	other.Spool = ident.SpoolID{1}
	assert.Equal(t, Degraded, stateAt(t, input(), ms, []HourFacts{half}).State)
	why := stateAt(t, input(), ms, []HourFacts{half, other})
	assert.Equal(t, Up, why.State, "two agents after each other, each with half of the slot")
	assert.Equal(t, 2, why.Chains)
	assert.EqualValues(t, 10, why.Facts.Polls)

	t.Run("a chain that comes late takes nothing away", func(t *testing.T) {
		late := other
		late.ReceivedMS = at(5, 13, 0) + 72*hour + 1
		whole := one(ms, worked(fullMH))[0]
		why := stateAt(t, input(), ms, []HourFacts{late, whole})
		assert.Equal(t, Up, why.State)
		assert.Equal(t, 1, why.LateChains)
		late.Disputed = true
		assert.Equal(t, Up, stateAt(t, input(), ms, []HourFacts{whole, late}).State)
	})
	t.Run("one disputed chain makes the hour unknown", func(t *testing.T) {
		bad := other
		bad.Disputed = true
		whole := one(ms, worked(fullMH))[0]
		assert.Equal(t, UnknownAsDown, stateAt(t, input(), ms, []HourFacts{bad, whole}).State)
	})
	t.Run("the same chain twice counts once", func(t *testing.T) {
		again := half
		again.ReceivedMS += minute
		for _, facts := range [][]HourFacts{{half, half}, {half, again}, {again, half}, {half, again, half}} {
			why := stateAt(t, input(), ms, facts)
			assert.Equal(t, Degraded, why.State)
			assert.Equal(t, 1, why.Chains)
		}
		again.ReceivedMS = at(5, 13, 0) + 72*hour + 1
		for _, facts := range [][]HourFacts{{half, again}, {again, half}} {
			assert.Equal(t, Degraded, stateAt(t, input(), ms, facts).State, "the one in time counts")
		}
	})
	t.Run("one chain that says two things is a dispute", func(t *testing.T) {
		lie := half
		lie.Slots[0].Hashes = fullMH
		for _, facts := range [][]HourFacts{{half, lie}, {lie, half}} {
			why := stateAt(t, input(), ms, facts)
			assert.Equal(t, UnknownAsDown, why.State)
			assert.Equal(t, InDispute, why.Reason)
		}
	})
	t.Run("sums stop at their largest value", func(t *testing.T) {
		a, b := half, other
		a.Slots[0].Hashes, b.Slots[0].Hashes = ^uint64(0), 5
		a.Slots[0].Polls, b.Slots[0].Polls = 65_535, 3
		why := stateAt(t, input(), ms, []HourFacts{a, b})
		assert.Equal(t, Up, why.State)
		assert.Equal(t, ^uint64(0), why.Facts.Hashes)
		assert.EqualValues(t, 65_535, why.Facts.Polls)
	})
}

func TestAContractThatBeginsInsideASlotBeginsWithTheNext(t *testing.T) {
	for name, c := range map[string]struct {
		from, to int64
		want     string
	}{
		"from the start of a slot":        {at(1, 0, 10), 0, "..XX"},
		"from one ms after":               {at(1, 0, 10) + 1, 0, "...X"},
		"from one ms before":              {at(1, 0, 10) - 1, 0, "..XX"},
		"to the start of a slot":          {at(1, 0, 0), at(1, 0, 10), "XX.."},
		"to one ms after":                 {at(1, 0, 0), at(1, 0, 10) + 1, "XXX."},
		"within one slot: it has no slot": {at(1, 0, 6), at(1, 0, 9), "...."},
		"called off at its beginning":     {at(1, 0, 5), at(1, 0, 5), "...."},
	} {
		in := input()
		in.Assignments = []Assignment{assign(1, 1, c.from, c.to)}
		assert.Equal(t, c.want, judgeDay(t, in, nil).States.String()[:4], name)
		// The terms themselves may begin inside a slot too.
		if c.to == 0 {
			in = input()
			in.Terms[0].FromMS = c.from
			assert.Equal(t, c.want, judgeDay(t, in, nil).States.String()[:4], name)
		}
	}
	in := input()
	in.Terms[0].FromMS = at(1, 0, 10)
	why := stateAt(t, in, at(1, 0, 5), nil)
	assert.Equal(t, NoTerms, why.Reason)
}

func TestAMinerThatChangesCustomerInsideAnHourIsEachSlotOneCustomers(t *testing.T) {
	move := at(1, 10, 22) + 17 // inside the slot that starts at 10:20, which stays with the first
	first, second := input(), input()
	first.Assignments = []Assignment{assign(1, 1, november.FromMS(), move)}
	second.Terms[0].Contract, second.Terms[0].Customer = idN(500), idN(501)
	second.Assignments = []Assignment{assign(2, 1, move, 0)}
	second.Assignments[0].Contract = idN(500)
	facts := always(fullMH).hours(november)
	a, b := judgeDay(t, first, facts), judgeDay(t, second, facts)
	for i := range a.States {
		assert.NotEqual(t, a.States[i] == Up, b.States[i] == Up, "slot %d", i)
	}
	assert.Equal(t, "UUUUU.......", a.States.String()[10*12:11*12])
	assert.Equal(t, ".....UUUUUUU", b.States.String()[10*12:11*12])
	assert.EqualValues(t, SlotsPerDay*fullMH, a.Hashes+b.Hashes)
}

func TestAMinerThatIsReplacedHandsOverInsideAnHour(t *testing.T) {
	swap := at(10, 8, 33)
	in := input()
	in.Assignments = []Assignment{assign(1, 1, november.FromMS(), swap), assign(2, 2, swap, 0)}
	in.Assignments[1].RateMHs = 200_000_000
	// The old one dies an hour before it is replaced; the new one does twice the work.
	old := world(func(ms int64) int64 {
		if ms >= swap-hour {
			return 0
		}
		return fullMH
	})
	m := judge(t, in, map[MinerKey][]HourFacts{key(1): old.hours(november), key(2): always(2 * fullMH).hours(november)})
	require.Len(t, m.Miners, 2)
	both := m.Miners[0].Slots.Due() + m.Miners[1].Slots.Due()
	assert.EqualValues(t, 30*SlotsPerDay, both, "no slot twice, none missing")
	assert.EqualValues(t, 12, m.Slots[Down])
	assert.EqualValues(t, 2*fullMH*m.Miners[1].Slots.Due(), m.Miners[1].Needed.Lo)
}

func TestTermsThatChangeInsideAMonthHoldForTheSlotsThatStartAfter(t *testing.T) {
	in := input()
	v2 := goodTerms()
	v2.Version, v2.FromMS, v2.ThetaPPM, v2.Unknown = 2, at(1, 0, 10)+1, 500_000, UnknownExcused
	in.Terms = []Terms{v2, in.Terms[0]} // any order
	facts := always(fullMH * 6 / 10).hours(november)
	facts[1].Disputed = true
	got := judgeDay(t, in, facts).States.String()
	assert.Equal(t, "dddUUUUUUUUUxxxxxxxxxxxxUU", got[:26])
	why := stateAt(t, in, at(1, 0, 15), facts)
	assert.Equal(t, 2, why.Terms.Version)
	// The rate of an assignment goes before that of any version.
	in.Assignments[0].RateMHs = 50_000_000
	assert.Equal(t, "UUUU", judgeDay(t, in, facts).States.String()[:4])
}

func TestADayOutsideTheMonthIsRefused(t *testing.T) {
	p := mustRules(t, input()).Plan(key(1))
	for _, d := range []int{november.FirstDay() - 1, november.FirstDay() + 30, -1, 0} {
		_, err := p.Day(d, nil)
		require.ErrorContains(t, err, "is not in 2026-11: give one from")
	}
	_, err := p.Why(november.FromMS()-1, nil)
	require.Error(t, err)
	_, err = p.Why(november.ToMS(), nil)
	require.Error(t, err)
}

func TestAMinerWithoutAssignmentIsNotContracted(t *testing.T) {
	r := mustRules(t, input())
	res, err := r.Plan(key(99)).Day(november.FirstDay(), always(fullMH).hours(november))
	require.NoError(t, err)
	assert.Equal(t, strings.Repeat(".", SlotsPerDay), res.States.String())
}

func TestStatesOfADayArePackedTwoAByte(t *testing.T) {
	var s States
	for i := range s {
		s[i] = State(i % StateCount)
	}
	packed := s.Pack()
	assert.Equal(t, byte(0x01), packed[0], "the earlier slot is in the high half")
	back, err := UnpackStates(packed[:])
	require.NoError(t, err)
	assert.Equal(t, s, back)
	assert.Equal(t, ".cmUdD?Xx ", s.String()[:10])
	packed[7] = 0x0a
	_, err = UnpackStates(packed[:])
	require.Error(t, err)
	_, err = UnpackStates(packed[:143])
	require.Error(t, err)
}

func TestRulesRefuseWhatContradictsItself(t *testing.T) {
	for want, change := range map[string]func(*RulesInput){
		"sla engine 2 is not known": func(in *RulesInput) { in.Engine = 2 },
		"sla engine 0 is not known": func(in *RulesInput) { in.Engine = 0 },
		"give one from 1970-01 on":  func(in *RulesInput) { in.Month = -5 },
		"judged as of 0":            func(in *RulesInput) { in.AsOfMS = 0 },
		"facts until then at most":  func(in *RulesInput) { in.AcceptUntilMS = in.AsOfMS + 1 },
		"no terms hold in 2026-11":  func(in *RulesInput) { in.Terms[0].FromMS = november.ToMS() - slot + 1 },
		"theta_ppm is 0":            func(in *RulesInput) { in.Terms[0].ThetaPPM = 0 },
		"each holds from later":     func(in *RulesInput) { in.Terms = append(in.Terms, in.Terms[0]) },
		"give those of one contract": func(in *RulesInput) {
			in.Terms = append(in.Terms, in.Terms[0])
			in.Terms[1].Customer = idN(9)
			in.Terms[1].Version = 2
		},
		"is of contract":                 func(in *RulesInput) { in.Assignments[0].Contract = idN(9) },
		"give miner":                     func(in *RulesInput) { in.Assignments = append(in.Assignments, assign(2, 1, at(9, 0, 0), 0)) },
		"comes twice and says different": func(in *RulesInput) { in.Assignments = append(in.Assignments, assign(1, 2, at(9, 0, 0), 0)) },
		"give 0 for no end":              func(in *RulesInput) { in.Assignments[0].ToMS = 5 },
		`kind is "holiday"`:              func(in *RulesInput) { in.Excuses = []Excuse{{ID: idN(1), Site: siteA, Kind: "holiday"}} },
		"not after its beginning": func(in *RulesInput) {
			in.Excuses = []Excuse{{ID: idN(1), Site: siteA, Kind: Maintenance, FromMS: 9, ToMS: 9, RecordedMS: 1}}
		},
		"an excuse has an id and a site": func(in *RulesInput) { in.Excuses = []Excuse{{Site: siteA, Kind: Maintenance}} },
		"more than 366 days": func(in *RulesInput) {
			in.Excuses = []Excuse{{ID: idN(1), Site: siteA, Kind: Maintenance, FromMS: 9, ToMS: 10 + MaxWindowMS, RecordedMS: 1}}
		},
		"an assignment has an id": func(in *RulesInput) { in.Assignments[0].Miner = ident.MinerID{} },
		"ends names the record itself": func(in *RulesInput) {
			in.Excuses = []Excuse{{ID: idN(1), Site: siteA, Kind: Maintenance, FromMS: 9, ToMS: 10, RecordedMS: 1, Ends: idN(1)}}
		},
		"give 0 for the terms' rate, or 1 to": func(in *RulesInput) { in.Assignments[0].RateMHs = -1 },
	} {
		in := input()
		change(&in)
		_, err := NewRules(in)
		require.ErrorContains(t, err, want)
	}
	in := input()
	in.Engine = EngineVersion + 1
	_, err := NewRules(in)
	require.ErrorIs(t, err, ErrEngine)
	in = input()
	in.Excuses = []Excuse{{ID: idN(1), Site: siteA, Kind: Maintenance, FromMS: 9, ToMS: 10, RecordedMS: 1}, {ID: idN(1), Site: siteA, Kind: Maintenance, FromMS: 9, ToMS: 11, RecordedMS: 1}}
	_, err = NewRules(in)
	require.ErrorContains(t, err, "comes twice and says different things")
}
