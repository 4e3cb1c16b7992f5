package sla

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hashinsight/hashinsight/pkg/ident"
)

func excuse(id int, kind ExcuseKind, fromMS, toMS, recordedMS int64, miners ...ident.MinerID) Excuse {
	return Excuse{ID: idN(id), Kind: kind, Site: siteA, Miners: miners, FromMS: fromMS, ToMS: toMS, RecordedMS: recordedMS}
}

func ends(id, window int, kind ExcuseKind, toMS, recordedMS int64) Excuse {
	return Excuse{ID: idN(id), Kind: kind, Site: siteA, FromMS: 1, ToMS: toMS, RecordedMS: recordedMS, Ends: idN(window)}
}

// letters0 is the first n slots of the day under these excuses, with the miner up.
func letters0(t *testing.T, in RulesInput, fromMS int64, n int, excuses ...Excuse) string {
	t.Helper()
	in.Excuses = excuses
	res, err := mustRules(t, in).Plan(key(1)).Day(DayOf(fromMS), always(fullMH).hours(november))
	require.NoError(t, err)
	i := int(fromMS % day / slot)
	return res.States.String()[i : i+n]
}

func TestAnOrderToCurtailCountsWithinFifteenMinutesOfItsStart(t *testing.T) {
	from, to := at(5, 12, 0), at(5, 13, 0)
	for name, c := range map[string]struct {
		recorded int64
		counts   bool
	}{
		"long before":             {from - 30*day, true},
		"at its start":            {from, true},
		"15:00.000 min after":     {from + 15*minute, true},
		"15:00.001 min after":     {from + 15*minute + 1, false},
		"after its end":           {to + 1, false},
		"at the end of the month": {november.ToMS() - 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			in := input()
			in.Excuses = []Excuse{excuse(10, Curtailment, from, to, c.recorded)}
			for _, ms := range []int64{from, to - slot} {
				why := stateAt(t, in, ms, nil)
				require.Len(t, why.Excuses, 1, "a late one is recorded")
				assert.Equal(t, from+15*minute, why.Excuses[0].LimitMS)
				assert.Equal(t, c.counts, why.Excuses[0].Counts)
				if c.counts {
					assert.Equal(t, ExcusedCurtailment, why.State)
				} else {
					assert.Equal(t, UnknownAsDown, why.State, "and not honoured, not even for what was still to come")
					assert.Equal(t, ExcuseLate, why.Excuses[0].Reason)
				}
			}
		})
	}
}

func TestMaintenanceCountsWhenAnnouncedADayBefore(t *testing.T) {
	from, to := at(5, 12, 0), at(5, 13, 0)
	for name, c := range map[string]struct {
		recorded int64
		want     string
	}{
		"exactly 24 h before":          {from - day, "mmm"},
		"one ms later than that":       {from - day + 1, "UUU"},
		"at its start, as curtailment": {from, "UUU"},
	} {
		assert.Equal(t, c.want, letters0(t, input(), from, 3, excuse(10, Maintenance, from, to, c.recorded)), name)
	}
}

func TestAnExcuseFromTheMiddleOfASlotBeginsWithTheNext(t *testing.T) {
	for name, c := range map[string]struct {
		from, to int64
		want     string
	}{
		"whole slots":                 {at(5, 12, 5), at(5, 12, 15), "UmmU"},
		"from one ms into a slot":     {at(5, 12, 5) + 1, at(5, 12, 15), "UUmU"},
		"to one ms into a slot":       {at(5, 12, 5), at(5, 12, 15) + 1, "Ummm"},
		"to one ms before a slot":     {at(5, 12, 5), at(5, 12, 15) - 1, "UmmU"},
		"within a slot":               {at(5, 12, 6), at(5, 12, 9), "UUUU"},
		"around the start of one":     {at(5, 12, 10) - 1, at(5, 12, 10) + 1, "UUmU"},
		"nothing but a slot's start":  {at(5, 12, 10), at(5, 12, 10) + 1, "UUmU"},
		"ends exactly at the start":   {at(5, 12, 6), at(5, 12, 10), "UUUU"},
		"starts after the first slot": {at(5, 12, 0) + 1, at(5, 13, 0), "Ummm"},
	} {
		assert.Equal(t, c.want, letters0(t, input(), at(5, 12, 0), 4, excuse(10, Maintenance, c.from, c.to, at(1, 0, 0))), name)
	}
}

func TestAnExcuseIsForItsMinersAndItsSite(t *testing.T) {
	from, to := at(5, 12, 0), at(5, 12, 10)
	assert.Equal(t, "mmU", letters0(t, input(), from, 3, excuse(10, Maintenance, from, to, at(1, 0, 0), minerN(3), minerN(1))))
	assert.Equal(t, "UUU", letters0(t, input(), from, 3, excuse(10, Maintenance, from, to, at(1, 0, 0), minerN(3), minerN(2))))
	elsewhere := excuse(10, Maintenance, from, to, at(1, 0, 0))
	elsewhere.Site = ident.SiteID{9}
	assert.Equal(t, "UUU", letters0(t, input(), from, 3, elsewhere))
}

func TestExcusesOfOthersAreNotNamed(t *testing.T) {
	from, to := at(5, 12, 0), at(5, 12, 10)
	in := input()
	elsewhere := excuse(13, Maintenance, from, to, at(1, 0, 0))
	elsewhere.Site = ident.SiteID{9}
	in.Excuses = []Excuse{
		excuse(10, Maintenance, from, to, at(1, 0, 0), minerN(2)), // another customer's miner
		excuse(11, Maintenance, from, to, at(1, 0, 0), minerN(1)),
		excuse(12, Curtailment, from, to, at(9, 0, 0)), // all of the site, late
		elsewhere,
		excuse(14, Maintenance, at(-40, 0, 0), at(-39, 0, 0), at(-50, 0, 0)), // another month
		ends(15, 11, Maintenance, at(5, 12, 6), at(5, 12, 6)),
		ends(16, 10, Maintenance, at(5, 12, 6), at(5, 12, 6)),
		excuse(17, Maintenance, from, to, in.AsOfMS+1), // made after the judging
	}
	var got []ident.UUID
	for _, x := range mustRules(t, in).Excuses() {
		got = append(got, x.ID)
	}
	assert.Equal(t, []ident.UUID{idN(11), idN(12), idN(15)}, got)
}

func TestOverlappingExcusesExcuseASlotOnce(t *testing.T) {
	a := excuse(10, Maintenance, at(5, 12, 0), at(5, 12, 15), at(1, 0, 0))
	b := excuse(11, Maintenance, at(5, 12, 10), at(5, 12, 25), at(1, 0, 0)-1)
	c := excuse(12, Curtailment, at(5, 12, 20), at(5, 12, 30), at(5, 12, 20))
	late := excuse(13, Curtailment, at(5, 12, 0), at(5, 12, 30), at(5, 12, 20))
	assert.Equal(t, "mmmmccU", letters0(t, input(), at(5, 12, 0), 7, a, b, c, late))
	in := input()
	in.Excuses = []Excuse{late, c, b, a}
	m := judgeOne(t, in, always(fullMH))
	assert.Equal(t, map[[16]byte]int64{idN(10): 2, idN(11): 2, idN(12): 2}, m.Excused, "of two that count, the one that was recorded first")
	why := stateAt(t, in, at(5, 12, 20), nil)
	reasons := map[ident.UUID]ExcuseReason{}
	for _, x := range why.Excuses {
		reasons[x.Excuse.ID] = x.Reason
	}
	assert.Equal(t, map[ident.UUID]ExcuseReason{idN(11): ExcuseUnneeded, idN(12): ExcuseCounts, idN(13): ExcuseLate}, reasons)
}

func TestAMonthlyCapRunsOverTheMonthInOrder(t *testing.T) {
	in := input()
	in.Terms[0].MaintenanceCapSlots = 3
	later := excuse(10, Maintenance, at(5, 12, 0), at(5, 12, 15), at(1, 0, 0))
	sooner := excuse(11, Maintenance, at(4, 0, 0), at(4, 0, 10), at(2, 0, 0)) // recorded after the other, and before it in the month
	assert.Equal(t, "mUU", letters0(t, in, at(5, 12, 0), 3, later, sooner))
	assert.Equal(t, "mmU", letters0(t, in, at(4, 0, 0), 3, later, sooner))
	in.Excuses = []Excuse{later, sooner}
	why := stateAt(t, in, at(5, 12, 5), nil)
	assert.Equal(t, ExcuseCap, why.Excuses[0].Reason)
	in.Terms[0].MaintenanceCapSlots = 0
	assert.Equal(t, "UUU", letters0(t, in, at(5, 12, 0), 3, later), "a cap of 0 excuses nothing")
	in.Terms[0].MaintenanceCapSlots = -1
	assert.Equal(t, "mmm", letters0(t, in, at(5, 12, 0), 3, later), "-1 is no cap")
}

func TestEachKindOfExcuseHasItsOwnCap(t *testing.T) {
	in := input()
	in.Terms[0].CurtailCapSlots, in.Terms[0].MaintenanceCapSlots = 2, 3
	from, to := at(5, 12, 0), at(5, 12, 40)
	c := excuse(10, Curtailment, from, to, from)
	m := excuse(11, Maintenance, from, to, at(1, 0, 0))
	assert.Equal(t, "ccmmmUUU", letters0(t, in, from, 8, c, m), "when one kind is used up the other goes on")
	assert.Equal(t, "ccUUUUUU", letters0(t, in, from, 8, c))
}

func TestACapIsAMinersAndAMonths(t *testing.T) {
	in := input()
	in.Terms[0].CurtailCapSlots = 4
	in.Assignments = append(in.Assignments, assign(2, 2, november.FromMS(), 0))
	// Over midnight of two months: each month counts for itself.
	in.Excuses = []Excuse{excuse(10, Curtailment, november.ToMS()-6*slot, november.ToMS()+6*slot, november.ToMS()-6*slot)}
	m := judge(t, in, nil)
	assert.EqualValues(t, 4, m.Miners[0].Slots[ExcusedCurtailment])
	assert.EqualValues(t, 4, m.Miners[1].Slots[ExcusedCurtailment])
	assert.EqualValues(t, 8, m.Excused[idN(10)])
	in.Month, in.AsOfMS = november+1, (november+1).ToMS()+100*hour
	m = judge(t, in, nil)
	assert.EqualValues(t, 4, m.Miners[0].Slots[ExcusedCurtailment])
}

func TestACapHoldsOverTwoAssignmentsAndTwoVersions(t *testing.T) {
	in := input()
	in.Terms[0].CurtailCapSlots = 4
	v2 := in.Terms[0]
	v2.Version, v2.FromMS, v2.CurtailCapSlots = 2, at(5, 12, 15), 5
	in.Terms = append(in.Terms, v2)
	in.Assignments = []Assignment{assign(1, 1, november.FromMS(), at(5, 12, 5)), assign(2, 1, at(5, 12, 5), 0)}
	assert.Equal(t, "cccccUU", letters0(t, in, at(5, 12, 0), 7, excuse(10, Curtailment, at(5, 12, 0), at(5, 13, 0), at(5, 12, 0))))
	in.Terms[1].CurtailCapSlots = 1
	assert.Equal(t, "cccUUUU", letters0(t, in, at(5, 12, 0), 7, excuse(10, Curtailment, at(5, 12, 0), at(5, 13, 0), at(5, 12, 0))),
		"a lower cap takes back nothing and gives nothing more")
}

func TestSlotsThatAreNotContractedUseUpNoCap(t *testing.T) {
	in := input()
	in.Terms[0].CurtailCapSlots = 2
	in.Assignments = []Assignment{assign(1, 1, at(5, 12, 10), 0)}
	assert.Equal(t, "..ccUU", letters0(t, in, at(5, 12, 0), 6, excuse(10, Curtailment, at(5, 12, 0), at(5, 13, 0), at(5, 12, 0))))
}

func TestAWindowIsShortenedByARecordButNeverInHindsight(t *testing.T) {
	from, to := at(5, 12, 0), at(5, 12, 40)
	w := excuse(10, Maintenance, from, to, at(1, 0, 0))
	for name, c := range map[string]struct {
		ends []Excuse
		want string
	}{
		"not shortened":                         {nil, "mmmmmmmmU"},
		"ahead":                                 {[]Excuse{ends(20, 10, Maintenance, at(5, 12, 20), at(5, 12, 5))}, "mmmmUUUUU"},
		"at once":                               {[]Excuse{ends(20, 10, Maintenance, at(5, 12, 20), at(5, 12, 20))}, "mmmmUUUUU"},
		"in hindsight: from when it was told":   {[]Excuse{ends(20, 10, Maintenance, at(5, 12, 5), at(5, 12, 20))}, "mmmmUUUUU"},
		"told inside a slot: that slot stays":   {[]Excuse{ends(20, 10, Maintenance, at(5, 12, 5), at(5, 12, 20)+1)}, "mmmmmUUUU"},
		"after its end":                         {[]Excuse{ends(20, 10, Maintenance, at(5, 12, 5), at(6, 0, 0))}, "mmmmmmmmU"},
		"to later: a window never grows":        {[]Excuse{ends(20, 10, Maintenance, at(5, 13, 0), at(5, 12, 5))}, "mmmmmmmmU"},
		"cancelled before it began":             {[]Excuse{ends(20, 10, Maintenance, at(5, 0, 0), at(4, 0, 0))}, "UUUUUUUUU"},
		"twice: the earlier end, in any order":  {[]Excuse{ends(20, 10, Maintenance, at(5, 12, 30), at(5, 12, 5)), ends(21, 10, Maintenance, at(5, 12, 10), at(5, 12, 6))}, "mmUUUUUUU"},
		"by a record of another kind":           {[]Excuse{ends(20, 10, Curtailment, at(5, 12, 20), at(5, 12, 5))}, "mmmmmmmmU"},
		"by a record that ends another window":  {[]Excuse{ends(20, 11, Maintenance, at(5, 12, 20), at(5, 12, 5))}, "mmmmmmmmU"},
		"by a record that ends an ending":       {[]Excuse{ends(20, 10, Maintenance, at(5, 12, 30), at(5, 12, 5)), ends(21, 20, Maintenance, at(5, 12, 10), at(5, 12, 6))}, "mmmmmmUUU"},
		"by a record made after the judging":    {[]Excuse{ends(20, 10, Maintenance, at(5, 12, 20), input().AsOfMS+1)}, "mmmmmmmmU"},
		"by an ending alone: it is no window":   {[]Excuse{ends(20, 99, Maintenance, at(6, 0, 0), at(5, 12, 0))}, "mmmmmmmmU"},
		"at the month's end, and in the export": {[]Excuse{ends(20, 10, Maintenance, at(5, 12, 20), november.ToMS()+day)}, "mmmmmmmmU"},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.want, letters0(t, input(), from, 9, append(c.ends, w)...))
			assert.Equal(t, c.want, letters0(t, input(), from, 9, append([]Excuse{w}, c.ends...)...))
		})
	}
	elsewhere := ends(20, 10, Maintenance, at(5, 12, 20), at(5, 12, 5))
	elsewhere.Site = ident.SiteID{9}
	assert.Equal(t, "mmmmmmmmU", letters0(t, input(), from, 9, w, elsewhere))
	in := input()
	in.Excuses = []Excuse{w, ends(20, 10, Maintenance, at(5, 12, 20), at(5, 12, 5))}
	why := stateAt(t, in, at(5, 12, 25), nil)
	assert.Equal(t, ExcuseEnded, why.Excuses[0].Reason)
	assert.Equal(t, at(5, 12, 20), why.Excuses[0].EndMS)
}

func TestAShortenedWindowGivesItsCapBack(t *testing.T) {
	in := input()
	in.Terms[0].MaintenanceCapSlots = 4
	first := excuse(10, Maintenance, at(5, 12, 0), at(5, 12, 20), at(1, 0, 0))
	second := excuse(11, Maintenance, at(6, 12, 0), at(6, 12, 20), at(1, 0, 0))
	assert.Equal(t, "UUUU", letters0(t, in, at(6, 12, 0), 4, first, second))
	assert.Equal(t, "mmUU", letters0(t, in, at(6, 12, 0), 4, first, second, ends(20, 10, Maintenance, at(5, 12, 10), at(5, 12, 10))))
}

func TestExcuseLimitsAreThoseOfTheSlotsTerms(t *testing.T) {
	in := input()
	in.Terms[0].CurtailLateS = 0
	v2 := in.Terms[0]
	v2.Version, v2.FromMS, v2.CurtailLateS = 2, at(5, 12, 10), 600
	in.Terms = append(in.Terms, v2)
	assert.Equal(t, "UUccU", letters0(t, in, at(5, 12, 0), 5, excuse(10, Curtailment, at(5, 12, 0), at(5, 12, 20), at(5, 12, 10))))
}
