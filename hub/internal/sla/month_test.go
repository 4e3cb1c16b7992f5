package sla

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hashinsight/hashinsight/pkg/evidence"
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
