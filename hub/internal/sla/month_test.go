package sla

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

const (
	slot   = int64(evidence.SlotMS)
	hour   = int64(evidence.HourMS)
	day    = int64(DayMS)
	second = int64(1000)
	minute = 60 * second
)

// november is a month of 30 days that the helpers below use.
var november = NewCalendarMonth(2026, 11)

// fullMH is what a miner of goodTerms does in a slot.
const fullMH = 100_000_000 * 300

// input is a contract with one miner, judged after the month's last deadline.
func input() RulesInput {
	return RulesInput{
		Engine: EngineVersion, Month: november, AsOfMS: november.ToMS() + 72*hour + 1, Terms: []Terms{goodTerms()},
		Assignments: []Assignment{assign(1, 1, november.FromMS(), 0)},
	}
}

func assign(id, miner int, fromMS, toMS int64) Assignment {
	return Assignment{ID: idN(id), Contract: contractA, Site: siteA, Miner: minerN(miner), FromMS: fromMS, ToMS: toMS}
}

func key(miner int) MinerKey { return MinerKey{siteA, minerN(miner)} }

func mustRules(t testing.TB, in RulesInput) *Rules {
	t.Helper()
	r, err := NewRules(in)
	require.NoError(t, err)
	return r
}

// world is what was true: MH of a miner in a slot, by the slot's start. -1 is no poll, and -2 no signed hour if it is the hour's first slot.
type world func(slotMS int64) int64

func always(mh int64) world { return func(int64) int64 { return mh } }

// hours makes the signed hours of a month out of what was true; they came a minute after the hour.
func (w world) hours(m CalendarMonth) (out []HourFacts) {
	for h := m.FromMS(); h < m.ToMS(); h += hour {
		if w(h) == -2 {
			continue
		}
		f := HourFacts{Hour: uint32(h / hour), ReceivedMS: h + hour + minute}
		for i := range f.Slots {
			if mh := w(h + int64(i)*slot); mh >= 0 {
				f.Slots[i] = evidence.Slot{Polls: 5, Answered: 5, Source: evidence.SourceCounter, Flags: evidence.SlotReachable, Hashes: uint64(mh)}
			}
		}
		out = append(out, f)
	}
	return out
}

// judge computes the month day by day.
func judge(t testing.TB, in RulesInput, facts map[MinerKey][]HourFacts) MonthResult {
	t.Helper()
	r := mustRules(t, in)
	var kept []MinerDays
	for _, k := range r.Miners() {
		md := MinerDays{MinerKey: k}
		p := r.Plan(k)
		for d := range in.Month.Days() {
			res, err := p.Day(in.Month.FirstDay()+d, facts[k])
			require.NoError(t, err)
			md.Days = append(md.Days, res.DaySums)
		}
		kept = append(kept, md)
	}
	out, err := r.Month(kept)
	require.NoError(t, err)
	return out
}

// judgeOne is judge for the one miner of input.
func judgeOne(t testing.TB, in RulesInput, w world) MonthResult {
	t.Helper()
	return judge(t, in, map[MinerKey][]HourFacts{key(1): w.hours(in.Month)})
}

func TestAMonthUpIsMetAndCostsNothing(t *testing.T) {
	m := judgeOne(t, input(), always(fullMH))
	assert.EqualValues(t, 30*SlotsPerDay, m.Slots[Up])
	assert.EqualValues(t, Whole, m.Availability.PPM)
	assert.True(t, m.Met)
	assert.Zero(t, m.Credit.Minor)
	assert.EqualValues(t, 86, m.Allowance.Left, "1 % of 8,640 slots, rounded down")
}

func TestAMonthWithoutAssignmentsHasNothingDue(t *testing.T) {
	in := input()
	in.Assignments = nil
	m := judgeOne(t, in, always(0))
	assert.False(t, m.Due)
	assert.True(t, m.Met)
	assert.Zero(t, m.Credit.BP)
}

// downFor is a miner that does its whole work but for the first n slots of the month, in which it does mh.
func downFor(n, mh int64) world {
	return func(ms int64) int64 {
		if ms < november.FromMS()+n*slot {
			return mh
		}
		return fullMH
	}
}

func TestTargetsAreDecidedOnTheExactFraction(t *testing.T) {
	sum := func(v int64) Sum { return Sum{}.Plus(v) }
	huge := Sum{Hi: 1 << 30} // × 1,000,000 is beyond 2^113
	for name, c := range map[string]struct {
		num, den Sum
		below    bool
		ppm      int64
	}{
		"95.0000 %":                        {sum(950_000), sum(1_000_000), false, 950_000},
		"94.9999 %":                        {sum(949_999), sum(1_000_000), true, 949_999},
		"94.99999 % is shown as 94.9999":   {sum(9_499_999), sum(10_000_000), true, 949_999},
		"95.00001 % is shown as 95.0000":   {sum(9_500_001), sum(10_000_000), false, 950_000},
		"one slot of 20":                   {sum(19), sum(20), false, 950_000},
		"8,207 of 8,640":                   {sum(8_207), sum(8_640), true, 949_884},
		"8,208 of 8,640":                   {sum(8_208), sum(8_640), false, 950_000},
		"beyond 64 bits, and one less":     {Sum{19<<58 - 1, ^uint64(0)}, Sum{20 << 58, 0}, true, 949_999},
		"beyond 64 bits":                   {Sum{19 << 58, 0}, Sum{20 << 58, 0}, false, 950_000},
		"all of a huge number":             {huge, huge, false, Whole},
		"nothing due is below no target":   {Sum{}, Sum{}, false, 0},
		"nothing of something":             {Sum{}, sum(1), true, 0},
		"2^53 + 1 is told from 2^53":       {sum(1<<53 + 1), sum(1<<53 + 1), false, Whole},
		"just below at 2^63 less rounding": {sum(8_762_203_435_012_037_014), sum(9_223_372_036_854_775_805), true, 949_999},
	} {
		t.Run(name, func(t *testing.T) {
			totals := Totals{Hashes: c.num, Needed: c.den}
			a := totals.Availability(MetricHashrate)
			assert.Equal(t, c.ppm, a.PPM)
			assert.Equal(t, c.below, a.Below(950_000))
		})
	}
}

func TestTheMetricTimeCountsSlots(t *testing.T) {
	in := input()
	in.Terms[0].TargetPPM, in.Terms[0].Tiers = 950_000, nil
	m := judgeOne(t, in, downFor(432, 0))
	assert.True(t, m.Met, "8,208 of 8,640 slots are exactly 95 %")
	assert.Zero(t, m.Allowance.Left)
	m = judgeOne(t, in, downFor(433, 0))
	assert.False(t, m.Met)
	assert.EqualValues(t, 949_884, m.Availability.PPM)
	assert.EqualValues(t, -1, m.Allowance.Left)
	m = judgeOne(t, in, downFor(433, fullMH/2))
	assert.False(t, m.Met, "degraded is not up")
}

func TestTheMetricHashrateCountsWork(t *testing.T) {
	in := input()
	in.Terms[0].TargetPPM, in.Terms[0].Tiers, in.Terms[0].Metric = 950_000, nil, MetricHashrate
	m := judgeOne(t, in, downFor(433, 0))
	assert.False(t, m.Met)
	m = judgeOne(t, in, downFor(432, 0))
	assert.True(t, m.Met)
	m = judgeOne(t, in, downFor(864, fullMH/2))
	assert.True(t, m.Met, "864 slots at half are 432 at nothing")
	// One MH less in the whole month.
	m = judgeOne(t, in, func(ms int64) int64 {
		if ms == november.FromMS() {
			return fullMH/2 - 1
		}
		return downFor(864, fullMH/2)(ms)
	})
	assert.False(t, m.Met)
	assert.EqualValues(t, 949_999, m.Availability.PPM)
	assert.EqualValues(t, -1, m.Allowance.Left, "rounded up against the site")
}

func TestTheMetricHashrateTakesItsMinimumOverTheMonth(t *testing.T) {
	in := input()
	in.Terms[0].Metric = MetricHashrate
	m := judgeOne(t, in, func(ms int64) int64 {
		if ms/slot%2 == 0 {
			return fullMH / 2
		}
		return fullMH * 3 / 2
	})
	assert.EqualValues(t, Whole, m.Availability.PPM, "per slot it would be 75 %")
	m = judgeOne(t, in, always(fullMH*3/2))
	assert.EqualValues(t, Whole, m.Availability.PPM, "never more than all")
	assert.Equal(t, m.Needed, m.Availability.Num)
}

func TestOneBrokenReadingDoesNotPayForAMonth(t *testing.T) {
	in := input()
	in.Terms[0].Metric = MetricHashrate
	for _, mh := range []int64{2 * fullMH, 3 * fullMH, 1 << 62} {
		m := judgeOne(t, in, func(ms int64) int64 {
			if ms == november.FromMS() {
				return mh
			}
			return 0
		})
		assert.Equal(t, Sum{}.Plus(2*fullMH), m.Hashes, "a slot counts at most twice its contracted work")
	}
}

func TestExcusedTimeCountsForNeitherMetric(t *testing.T) {
	for _, metric := range []Metric{MetricTime, MetricHashrate} {
		in := input()
		in.Terms[0].Metric = metric
		in.Excuses = []Excuse{excuse(10, Maintenance, at(5, 0, 0), at(6, 0, 0), at(1, 0, 0))}
		off := world(func(ms int64) int64 {
			if ms >= at(5, 0, 0) && ms < at(6, 0, 0) {
				return 0
			}
			return fullMH
		})
		m := judgeOne(t, in, off)
		assert.EqualValues(t, Whole, m.Availability.PPM)
		assert.EqualValues(t, 29*SlotsPerDay, m.Slots.Due())
		// Work done under an excuse is no bonus for other days.
		m2 := judgeOne(t, in, func(ms int64) int64 {
			if ms < at(2, 0, 0) {
				return 0
			}
			return fullMH
		})
		assert.EqualValues(t, 965_517, m2.Availability.PPM, "28 of 29 days")
	}
}

func TestMonthsHaveAllTheirSlots(t *testing.T) {
	for text, days := range map[string]int64{"2026-02": 28, "2028-02": 29, "2026-04": 30, "2026-12": 31} {
		m, err := ParseMonth(text)
		require.NoError(t, err)
		in := input()
		in.Month, in.AsOfMS = m, m.ToMS()+100*hour
		in.Terms[0].FromMS = NewCalendarMonth(2026, 1).FromMS()
		in.Assignments[0].FromMS = in.Terms[0].FromMS
		got := judgeOne(t, in, always(fullMH))
		assert.Equal(t, days*SlotsPerDay, got.Slots[Up], text)
		assert.Len(t, got.Burn, int(days))
		assert.Equal(t, m.FirstDay()+int(days)-1, got.Burn[days-1].Day)
		// The last slot of the month is in it, the next one is not.
		in.Assignments[0].FromMS = m.ToMS() - slot
		assert.EqualValues(t, 1, judgeOne(t, in, always(fullMH)).Slots[Up], text)
		in.Assignments[0].FromMS++
		assert.Zero(t, judgeOne(t, in, always(fullMH)).Slots[Up], text)
	}
}

func TestLeapDayIsADayLikeAnyOther(t *testing.T) {
	m := NewCalendarMonth(2028, 2)
	in := input()
	in.Month, in.AsOfMS = m, m.ToMS()+100*hour
	leap := m.FromMS() + 28*day
	got := judgeOne(t, in, func(ms int64) int64 {
		if ms >= leap {
			return 0
		}
		return fullMH
	})
	assert.EqualValues(t, SlotsPerDay, got.Slots[Down])
	assert.EqualValues(t, 965_517, got.Availability.PPM, "28 of 29 days")
}

func TestCreditsFollowTiersCapAndFee(t *testing.T) {
	frac := func(ppm int64) *Availability { return &Availability{Num: Sum{}.Plus(ppm), Den: Sum{}.Plus(Whole)} }
	terms := goodTerms() // < 99 %: 5 %, < 98 %: 10 %, < 95 %: 25 %
	terms.FeeMinor = 100_000
	for _, c := range []struct{ ppm, bp, minor int64 }{
		{Whole, 0, 0}, {990_000, 0, 0}, {989_999, 500, 5_000}, {980_000, 500, 5_000}, {979_999, 1_000, 10_000},
		{950_000, 1_000, 10_000}, {949_999, 2_500, 25_000}, {0, 2_500, 25_000},
	} {
		got := terms.CreditFor(frac(c.ppm))
		assert.Equal(t, c.bp, got.BP, "%d ppm", c.ppm)
		assert.Equal(t, c.minor, got.Minor, "%d ppm", c.ppm)
	}
	terms.CreditCapBP = 700
	assert.EqualValues(t, 700, terms.CreditFor(frac(0)).BP, "capped")
	assert.EqualValues(t, 500, terms.CreditFor(frac(985_000)).BP)
	terms.CreditCapBP = 0
	assert.Zero(t, terms.CreditFor(frac(0)).Minor)
	assert.Zero(t, terms.CreditFor(&Availability{}).BP, "nothing due, nothing to give back")
	terms = goodTerms()
	terms.FeeMinor, terms.Currency = 0, ""
	assert.Equal(t, Credit{BP: 2_500, BelowPPM: 950_000}, terms.CreditFor(frac(0)), "without a fee a credit is told in 1/100 % only")
}

func TestACreditIsRoundedUpInTheCustomersFavour(t *testing.T) {
	for _, c := range []struct{ fee, bp, want int64 }{
		{1, 1, 1}, {0, 10_000, 0}, {10_000, 1, 1}, {10_001, 1, 2}, {9_999, 1, 1}, {100_001, 500, 5_001}, {100_000, 500, 5_000}, {199, 500, 10}, {200, 500, 10}, {201, 500, 11},
		{MaxFeeMinor, 10_000, MaxFeeMinor}, {MaxFeeMinor, 9_999, 999_900_000_000_000}, {MaxFeeMinor - 1, 9_999, 999_900_000_000_000}, {1, 10_000, 1}, {1, 0, 0},
	} {
		assert.Equal(t, c.want, roundUpBP(c.fee, c.bp), "%d bp of %d", c.bp, c.fee)
	}
}

func TestAFeeIsOfTheWholeMonthAlsoForAContractThatBeginsInIt(t *testing.T) {
	in := input()
	in.Terms[0].FromMS = at(30, 0, 0)
	m := judgeOne(t, in, always(0))
	assert.EqualValues(t, 25_001, m.Credit.Minor, "25 % of 1,000.01, rounded up")
	assert.EqualValues(t, SlotsPerDay, m.Slots.Due())
}

func TestTheMonthsPriceIsThatOfTheFirstVersionThatHoldsInIt(t *testing.T) {
	in := input()
	v2 := goodTerms()
	v2.Version, v2.FromMS, v2.TargetPPM, v2.Tiers, v2.Metric = 2, at(20, 0, 0), 500_000, []Tier{}, MetricHashrate
	in.Terms = append(in.Terms, v2)
	m := judgeOne(t, in, downFor(20*SlotsPerDay, 0))
	assert.False(t, m.Met, "what has happened is not made cheaper afterwards")
	assert.EqualValues(t, 2_500, m.Credit.BP)
	// One that holds from the month's first slot is the first; one ms later the version before it holds in that slot, and is.
	in.Terms[1].FromMS = november.FromMS() + 1
	assert.EqualValues(t, 990_000, mustRules(t, in).MonthTerms().TargetPPM)
	in.Terms[0].FromMS, in.Terms[1].FromMS = november.FromMS()-day, november.FromMS()
	assert.EqualValues(t, 500_000, mustRules(t, in).MonthTerms().TargetPPM)
	assert.Len(t, mustRules(t, in).Terms(), 1, "what holds in no slot of the month is no input")
	in.Month, in.AsOfMS = november+1, (november+1).ToMS()+100*hour
	assert.True(t, judgeOne(t, in, always(fullMH)).Met)
	assert.EqualValues(t, 500_000, mustRules(t, in).MonthTerms().TargetPPM)
}

func TestTheAllowanceBurnsDownDayByDay(t *testing.T) {
	for _, metric := range []Metric{MetricTime, MetricHashrate} {
		in := input()
		in.Terms[0].Metric = metric
		in.AsOfMS = at(4, 0, 0)
		in.Excuses = []Excuse{excuse(10, Maintenance, at(20, 0, 0), at(21, 0, 0), at(1, 0, 0))}
		w := world(func(ms int64) int64 {
			switch {
			case ms < at(1, 1, 0):
				return 0
			case ms >= at(2, 0, 0) && ms < at(2, 0, 30):
				return 0
			case ms >= at(3, 0, 0):
				return -1
			default:
				return fullMH
			}
		})
		m := judgeOne(t, in, w)
		assert.Equal(t, Allowance{Slots: 83, Used: 18, Left: 65}, m.Allowance, "1 % of 29 days is 83.52 slots")
		assert.Equal(t, Burn{Day: november.FirstDay(), Used: 12, Left: 71}, m.Burn[0])
		assert.Equal(t, Burn{Day: november.FirstDay() + 1, Used: 18, Left: 65}, m.Burn[1])
		assert.Equal(t, Burn{Day: november.FirstDay() + 2, Used: 18, Left: 65, Open: SlotsPerDay}, m.Burn[2], "a day that may still turn either way")
		assert.EqualValues(t, SlotsPerDay, m.Slots[Unknown])
		assert.EqualValues(t, 26*SlotsPerDay, m.Slots[Future])
		assert.EqualValues(t, SlotsPerDay, m.Slots[ExcusedMaintenance], "announced ahead")
		assert.Equal(t, m.Allowance.Used, m.Burn[29].Used)
	}
}

func TestDaysThatWereNotJudgedAreStillToCome(t *testing.T) {
	in := input()
	in.AsOfMS = at(3, 0, 0)
	r := mustRules(t, in)
	facts := always(fullMH).hours(november)
	var some, all []DaySums
	for d := range 30 {
		res, err := r.Plan(key(1)).Day(november.FirstDay()+d, facts)
		require.NoError(t, err)
		all = append(all, res.DaySums)
		if d < 2 {
			some = append(some, res.DaySums)
		}
	}
	a, err := r.Month([]MinerDays{{key(1), all}})
	require.NoError(t, err)
	b, err := r.Month([]MinerDays{{key(1), some}})
	require.NoError(t, err)
	assert.Equal(t, a, b)
	none, err := r.Month(nil)
	require.NoError(t, err)
	assert.EqualValues(t, 30*SlotsPerDay, none.Slots[Future])
}

func TestAKeptDayThatNoLongerFitsIsRefused(t *testing.T) {
	in := input()
	first, err := mustRules(t, in).Plan(key(1)).Day(DayOf(at(5, 0, 0)), nil)
	require.NoError(t, err)
	kept := []MinerDays{{key(1), []DaySums{first.DaySums}}}
	_, err = mustRules(t, in).Month(kept)
	require.NoError(t, err)
	for name, change := range map[string]func(*RulesInput){
		"an excuse came": func(in *RulesInput) {
			in.Excuses = []Excuse{excuse(10, Curtailment, at(5, 1, 0), at(5, 2, 0), at(5, 1, 0))}
		},
		"the assignment ended":       func(in *RulesInput) { in.Assignments[0].ToMS = at(5, 1, 0) },
		"the assignment is gone":     func(in *RulesInput) { in.Assignments = nil },
		"the rate is another":        func(in *RulesInput) { in.Assignments[0].RateMHs = 1 },
		"the terms' rate is another": func(in *RulesInput) { in.Terms[0].RateMHs++ },
	} {
		changed := input()
		change(&changed)
		_, err = mustRules(t, changed).Month(kept)
		require.ErrorIs(t, err, ErrStale, name)
	}
	for name, change := range map[string]func(*DaySums){
		"negative counts":           func(d *DaySums) { d.Slots[Up]--; d.Slots[Down]++ },
		"a slot too few":            func(d *DaySums) { d.Slots[UnknownAsDown]-- },
		"negative work":             func(d *DaySums) { d.Hashes = -1 },
		"more work than counts":     func(d *DaySums) { d.Hashes = MaxOver*d.Needed + 1 },
		"less needed":               func(d *DaySums) { d.Needed-- },
		"needed, and nothing due":   func(d *DaySums) { d.Slots[UnknownAsExcused], d.Slots[UnknownAsDown] = d.Slots[UnknownAsDown], 0 },
		"open, and no slot is":      func(d *DaySums) { d.Needed, d.Open = d.Needed-1, 1 },
		"work that nobody can owe":  func(d *DaySums) { d.Slots[UnknownAsExcused]++; d.Slots[UnknownAsDown]--; d.Needed++ },
		"negative need, and excuse": func(d *DaySums) { d.Slots[UnknownAsExcused]++; d.Slots[UnknownAsDown]--; d.Needed, d.Open = -1, 2 },
	} {
		bad := first.DaySums
		change(&bad)
		_, err = mustRules(t, in).Month([]MinerDays{{key(1), []DaySums{bad}}})
		require.ErrorIs(t, err, ErrStale, name)
	}
	_, err = mustRules(t, in).Month([]MinerDays{kept[0], kept[0]})
	require.ErrorContains(t, err, "come twice")
	_, err = mustRules(t, in).Month([]MinerDays{{key(1), []DaySums{first.DaySums, first.DaySums}}})
	require.ErrorContains(t, err, "or comes twice")
	other := first.DaySums
	other.Day = november.FirstDay() - 1
	_, err = mustRules(t, in).Month([]MinerDays{{key(1), []DaySums{other}}})
	require.ErrorContains(t, err, "is not in 2026-11")
}

func TestSitesAndMinersAddUpToTheContract(t *testing.T) {
	in := input()
	siteB := ident.SiteID{0x52}
	facts := map[MinerKey][]HourFacts{}
	for i := 1; i <= 4; i++ {
		a := assign(i, i, november.FromMS(), 0)
		if i > 2 {
			a.Site = siteB
		}
		if i == 4 {
			a.Miner = minerN(1) // the same miner at another site is judged apart
			a.FromMS = at(15, 0, 0)
		}
		if i == 1 {
			in.Assignments = nil
		}
		in.Assignments = append(in.Assignments, a)
		facts[MinerKey{a.Site, a.Miner}] = downFor(int64(100*i), 0).hours(november)
	}
	m := judge(t, in, facts)
	require.Len(t, m.Sites, 2)
	var sum Totals
	for i := range m.Miners {
		sum.Add(&m.Miners[i].Totals)
	}
	assert.Equal(t, m.Totals, sum)
	sum = m.Sites[0].Totals
	sum.Add(&m.Sites[1].Totals)
	assert.Equal(t, m.Totals, sum)
	assert.EqualValues(t, 600, m.Slots[Down], "the fourth is contracted from the 15th")
	assert.EqualValues(t, 14*SlotsPerDay, m.Slots[NotContracted])
}

func TestALinkThatWasCutIsNoDowntimeAndMinersThatWereOffAre(t *testing.T) {
	cut := func(ms int64) bool { return ms >= at(9, 3, 0) && ms < at(9, 9, 0) }
	late := func(facts []HourFacts) []HourFacts { // the six hours came when the link was back
		for i := range facts {
			if ms := int64(facts[i].Hour) * hour; cut(ms) {
				facts[i].ReceivedMS = at(9, 10, 0)
			}
		}
		return facts
	}
	m := judge(t, input(), map[MinerKey][]HourFacts{key(1): late(always(fullMH).hours(november))})
	assert.Zero(t, m.Slots.Missed())
	off := world(func(ms int64) int64 {
		if cut(ms) {
			return 0
		}
		return fullMH
	})
	m = judge(t, input(), map[MinerKey][]HourFacts{key(1): late(off.hours(november))})
	assert.EqualValues(t, 72, m.Slots[Down])
	unplugged := world(func(ms int64) int64 {
		if cut(ms) {
			return -2
		}
		return fullMH
	})
	for policy, want := range map[UnknownPolicy]State{UnknownDown: UnknownAsDown, UnknownExcused: UnknownAsExcused, UnknownPool: UnknownAsDown} {
		in := input()
		in.Terms[0].Unknown = policy
		m = judgeOne(t, in, unplugged)
		assert.EqualValues(t, 72, m.Slots[want], policy)
	}
}

func TestSumsAreDecimalTexts(t *testing.T) {
	for text, want := range map[string]Sum{"0": {}, "18446744073709551616": {Hi: 1}, "340282366920938463463374607431768211455": {^uint64(0), ^uint64(0)}, "7": {Lo: 7}} {
		assert.Equal(t, text, want.String())
		var got Sum
		require.NoError(t, got.UnmarshalText([]byte(text)))
		assert.Equal(t, want, got)
	}
	for _, text := range []string{"", "-1", "+1", "1_0", " 1", "0x1", "1e3", "340282366920938463463374607431768211456", "1234567890123456789012345678901234567890"} {
		require.Error(t, new(Sum).UnmarshalText([]byte(text)), text)
	}
}
