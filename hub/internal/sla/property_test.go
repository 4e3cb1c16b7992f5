package sla

import (
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// randomCase is a contract of a few miners with terms that change, assignments that come and go, excuses of every kind of lateness, and facts of
// every kind, all of it near the bounds where rules change.
type randomCase struct {
	in    RulesInput
	facts map[MinerKey][]HourFacts
}

func pick[T any](r *rand.Rand, items ...T) T { return items[r.IntN(len(items))] }

// near is a time near the start of a slot of the month.
func near(r *rand.Rand, m CalendarMonth) int64 {
	slots := int64(m.Days()) * SlotsPerDay
	return m.FromMS() + (r.Int64N(slots+40)-20)*slot + pick(r, -1, 0, 0, 1, 2*minute)
}

func randomCaseOf(r *rand.Rand) randomCase {
	m := pick(r, NewCalendarMonth(2026, 2), NewCalendarMonth(2028, 2), november, november+1)
	c := randomCase{facts: map[MinerKey][]HourFacts{}}
	c.in = RulesInput{Engine: 1, Month: m, AsOfMS: m.ToMS() + 73*hour}
	terms := goodTerms()
	terms.FromMS = m.FromMS() + pick(r, -day, 0, 1, 5*day+1)
	for v := 1; v <= 1+r.IntN(3); v++ {
		terms.Version = v
		terms.RateMHs = pick(r, int64(1), 7, 100_000_000)
		terms.Metric = pick(r, MetricTime, MetricHashrate)
		terms.ThetaPPM = pick(r, int64(800_000), 333_333, Whole)
		terms.DegradedPPM = pick(r, int64(100_000), 333_333, 1)
		terms.Unknown = pick(r, UnknownDown, UnknownExcused, UnknownPool)
		terms.BackfillS = pick(r, int64(72*3600), 0, 3600)
		terms.CurtailCapSlots = pick(r, int64(-1), 0, 5, 40)
		terms.MaintenanceCapSlots = pick(r, int64(-1), 0, 5, 40)
		c.in.Terms = append(c.in.Terms, terms)
		terms.FromMS += 1 + r.Int64N(12*day)
	}
	for i := 1; i <= 3; i++ {
		from := m.FromMS() - day
		for id := 10 * i; id < 10*i+1+r.IntN(3); id++ {
			a := assign(id, i, from+pick(r, 0, 1, 3*day+7), 0)
			if r.IntN(4) > 0 {
				a.ToMS = a.FromMS + 1 + r.Int64N(15*day)
			}
			a.RateMHs = pick(r, int64(0), 0, 13)
			c.in.Assignments = append(c.in.Assignments, a)
			if from = a.ToMS; from == 0 {
				break
			}
		}
		if r.IntN(2) == 0 {
			c.facts[key(i)] = randomFacts(r, m, 0)
		} else {
			c.facts[key(i)] = append(randomFacts(r, m, 1), randomFacts(r, m, 2)...)
		}
	}
	for id := 100; id < 100+r.IntN(12); id++ {
		x := Excuse{ID: idN(id), Site: siteA, Kind: pick(r, Curtailment, Maintenance), FromMS: near(r, m)}
		x.ToMS = x.FromMS + 1 + r.Int64N(pick(r, slot, hour, 3*day))
		x.RecordedMS = x.FromMS + pick(r, -40*day, -day-1, -day, -day+1, 0, 15*minute, 15*minute+1, hour)
		for range r.IntN(3) {
			x.Miners = append(x.Miners, minerN(1+r.IntN(4)))
		}
		c.in.Excuses = append(c.in.Excuses, x)
		if r.IntN(3) == 0 {
			end := x
			end.ID, end.Ends = idN(id+100), x.ID
			end.ToMS = x.FromMS + pick(r, 0, (x.ToMS-x.FromMS)/2, x.ToMS-x.FromMS+hour)
			end.RecordedMS = end.ToMS + pick(r, -hour, -1, 0, 1, 20*minute)
			c.in.Excuses = append(c.in.Excuses, end)
		}
	}
	return c
}

func randomFacts(r *rand.Rand, m CalendarMonth, spool byte) (out []HourFacts) {
	for h := m.FromMS(); h < m.ToMS(); h += hour {
		if r.IntN(20) == 0 {
			continue
		}
		f := HourFacts{Hour: uint32(h / hour), Spool: ident.SpoolID{spool}, ReceivedMS: h + hour + pick(r, minute, minute, minute, hour, hour+1, 72*hour, 72*hour+1)}
		f.Disputed = r.IntN(60) == 0
		if r.IntN(60) == 0 {
			f.Skewed = uint16(r.IntN(1 << 12))
		}
		for i := range f.Slots {
			if r.IntN(20) == 0 {
				continue
			}
			rate := pick(r, uint64(1), 7, 13, 100_000_000) * 300
			s := evidence.Slot{Polls: 5, Answered: 5, Source: evidence.SourceCounter, Hashes: pick(r, rate, rate*8/10, rate*8/10-1, rate/10, rate/10-1, 0, 3*rate)}
			if r.IntN(60) == 0 {
				s.Flags |= evidence.SlotSkewed
			}
			if r.IntN(60) == 0 {
				s.Source = evidence.SourceNone
			}
			f.Slots[i] = s
		}
		out = append(out, f)
	}
	return out
}

// cases runs a property over random cases.
func cases(t *testing.T, n uint64, f func(t *testing.T, r *rand.Rand, c randomCase)) {
	t.Helper()
	for seed := range n {
		r := rand.New(rand.NewPCG(seed, 5))
		f(t, r, randomCaseOf(r))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// oracle is the rules once more, told slot by slot without plans, spans or sums kept: slow, and short enough to be read against the contract.
func oracle(c randomCase, k MinerKey, used *[2]int64, slotMS int64, hourly map[int64][]HourFacts) (State, *big.Int, *big.Int) {
	none := new(big.Int)
	var terms *Terms
	for i := range c.in.Terms {
		if t := &c.in.Terms[i]; t.FromMS <= slotMS && (terms == nil || t.FromMS > terms.FromMS) {
			terms = t
		}
	}
	var a *Assignment
	for i := range c.in.Assignments {
		if b := &c.in.Assignments[i]; b.Site == k.Site && b.Miner == k.Miner && b.FromMS <= slotMS && (b.ToMS == 0 || slotMS < b.ToMS) {
			a = b
		}
	}
	if terms == nil || a == nil {
		return NotContracted, none, none
	}
	for i, kind := range []ExcuseKind{Curtailment, Maintenance} {
		limit := []int64{terms.CurtailCapSlots, terms.MaintenanceCapSlots}[i]
		if limit >= 0 && used[i] >= limit {
			continue
		}
		for _, x := range c.in.Excuses {
			inTime := x.RecordedMS <= x.FromMS+terms.CurtailLateS*1000
			if kind == Maintenance {
				inTime = x.RecordedMS+terms.MaintenanceNoticeS*1000 <= x.FromMS
			}
			end := x.ToMS
			for _, e := range c.in.Excuses {
				if e.Ends == x.ID {
					end = min(end, max(e.ToMS, e.RecordedMS))
				}
			}
			if x.Ends == (ident.UUID{}) && x.Kind == kind && x.Site == k.Site && inTime && x.FromMS <= slotMS && slotMS < end && x.RecordedMS <= c.in.AsOfMS &&
				(len(x.Miners) == 0 || slices.Contains(x.Miners, k.Miner)) {
				used[i]++
				return []State{ExcusedCurtailment, ExcusedMaintenance}[i], none, none
			}
		}
	}
	rate := a.RateMHs
	if rate == 0 {
		rate = terms.RateMHs
	}
	need := big.NewInt(rate * 300)
	deadline := slotMS - slotMS%hour + hour + terms.BackfillS*1000
	polls, hashes, unknown := 0, new(big.Int), true
	for _, f := range hourly[slotMS/hour] {
		if f.ReceivedMS > max(deadline, c.in.AcceptUntilMS) {
			continue
		}
		if polls == 0 {
			unknown = false
		}
		s := f.Slots[slotMS%hour/slot]
		if f.Disputed || f.Skewed>>(slotMS%hour/slot)&1 == 1 || s.Flags&evidence.SlotSkewed != 0 {
			polls, unknown = -1<<30, true
		}
		polls += int(s.Polls)
		if s.Source != evidence.SourceNone {
			hashes.Add(hashes, new(big.Int).SetUint64(s.Hashes))
		}
	}
	if unknown || polls <= 0 {
		if terms.Unknown == UnknownExcused {
			return UnknownAsExcused, none, none
		}
		return UnknownAsDown, none, need
	}
	counted := new(big.Int).Set(hashes)
	if twice := new(big.Int).Lsh(need, 1); counted.Cmp(twice) > 0 {
		counted = twice
	}
	scaled := new(big.Int).Mul(hashes, big.NewInt(1_000_000))
	switch {
	case scaled.Cmp(new(big.Int).Mul(need, big.NewInt(terms.ThetaPPM))) >= 0:
		return Up, counted, need
	case scaled.Cmp(new(big.Int).Mul(need, big.NewInt(terms.DegradedPPM))) >= 0:
		return Degraded, counted, need
	default:
		return Down, counted, need
	}
}

func TestPlansAndDaysSayWhatTheRulesSaySlotBySlot(t *testing.T) {
	var seen Counts
	cases(t, 20, func(t *testing.T, _ *rand.Rand, c randomCase) {
		r := mustRules(t, c.in)
		for _, k := range r.Miners() {
			p := r.Plan(k)
			var used [2]int64
			hourly := map[int64][]HourFacts{}
			for _, f := range c.facts[k] {
				hourly[int64(f.Hour)] = append(hourly[int64(f.Hour)], f)
			}
			for d := range c.in.Month.Days() {
				got, err := p.Day(c.in.Month.FirstDay()+d, c.facts[k])
				require.NoError(t, err)
				want, hashes, needed := States{}, new(big.Int), new(big.Int)
				for i := range want {
					s, h, n := oracle(c, k, &used, c.in.Month.FromMS()+int64(d)*day+int64(i)*slot, hourly)
					want[i] = s
					hashes.Add(hashes, h)
					needed.Add(needed, n)
				}
				require.Equal(t, want.String(), got.States.String(), "miner %s day %d", k.Miner, d)
				require.Equal(t, hashes.Int64(), got.Hashes)
				require.Equal(t, needed.Int64(), got.Needed)
				for letter, n := range got.Slots {
					require.EqualValues(t, strings.Count(got.States.String(), string(letters[letter])), n)
				}
				require.Zero(t, got.NextMS)
				seen.add(&got.Slots)
			}
		}
	})
	for s := NotContracted; s <= UnknownAsExcused; s++ {
		if s != Unknown {
			assert.NotZero(t, seen[s], "the random cases reach every state: %c", s.Letter())
		}
	}
}

func TestMoreDowntimeNeverLowersTheCredit(t *testing.T) {
	lowered := 0
	cases(t, 24, func(t *testing.T, r *rand.Rand, c randomCase) {
		before := judge(t, c.in, c.facts)
		for k, facts := range c.facts {
			worse := slices.Clone(facts)
			for i := range worse {
				if r.IntN(3) == 0 {
					for s := range worse[i].Slots {
						worse[i].Slots[s].Hashes = worse[i].Slots[s].Hashes * r.Uint64N(4) / 4
					}
				}
			}
			c.facts[k] = worse
		}
		after := judge(t, c.in, c.facts)
		require.GreaterOrEqual(t, after.Credit.BP, before.Credit.BP)
		require.GreaterOrEqual(t, after.Credit.Minor, before.Credit.Minor)
		require.LessOrEqual(t, after.Availability.PPM, before.Availability.PPM)
		require.LessOrEqual(t, after.Allowance.Left, before.Allowance.Left)
		require.False(t, after.Met && !before.Met)
		if after.Availability.PPM < before.Availability.PPM {
			lowered++
		}
	})
	assert.NotZero(t, lowered)
}

func TestTheOrderOfRecordsChangesNothing(t *testing.T) {
	cases(t, 16, func(t *testing.T, r *rand.Rand, c randomCase) {
		before := judge(t, c.in, c.facts)
		statement, err := mustRules(t, c.in).NewStatement(&before, Issue{})
		require.NoError(t, err)
		shuffle(r, c.in.Terms)
		shuffle(r, c.in.Assignments)
		shuffle(r, c.in.Excuses)
		c.in.Excuses = append(c.in.Excuses, c.in.Excuses[:len(c.in.Excuses)/2]...) // and doubled
		c.in.Assignments = append(c.in.Assignments, c.in.Assignments[0])
		for i := range c.in.Excuses {
			shuffle(r, c.in.Excuses[i].Miners)
		}
		for _, facts := range c.facts {
			shuffle(r, facts)
		}
		after := judge(t, c.in, c.facts)
		require.Equal(t, before, after)
		again, err := mustRules(t, c.in).NewStatement(&after, Issue{})
		require.NoError(t, err)
		require.Equal(t, string(statement.Canonical()), string(again.Canonical()))
	})
}

func shuffle[T any](r *rand.Rand, items []T) {
	r.Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
}

func TestSplittingAWindowChangesNoTotal(t *testing.T) {
	cases(t, 16, func(t *testing.T, r *rand.Rand, c randomCase) {
		for i := range c.in.Excuses { // a late one that is split would be in time for what begins later: that is another order, not the same one
			c.in.Excuses[i].RecordedMS = min(c.in.Excuses[i].RecordedMS, c.in.Excuses[i].FromMS-day)
		}
		c.in.Excuses = slices.DeleteFunc(c.in.Excuses, func(x Excuse) bool { return x.Ends != (ident.UUID{}) })
		before := judge(t, c.in, c.facts)
		split := c.in
		split.Excuses = nil
		for i, x := range c.in.Excuses {
			if cut := x.FromMS + r.Int64N(x.ToMS-x.FromMS); cut > x.FromMS {
				rest := x
				x.ToMS, rest.FromMS, rest.ID = cut, cut, idN(300+i)
				split.Excuses = append(split.Excuses, rest)
			}
			split.Excuses = append(split.Excuses, x)
		}
		split.Assignments = nil
		for i, a := range c.in.Assignments {
			cut := near(r, c.in.Month)
			if cut > a.FromMS && (a.ToMS == 0 || cut < a.ToMS) {
				rest := a
				a.ToMS, rest.FromMS, rest.ID = cut, cut, idN(400+i)
				split.Assignments = append(split.Assignments, rest)
			}
			split.Assignments = append(split.Assignments, a)
		}
		// The last version once more, from somewhere in it.
		last := c.in.Terms[len(c.in.Terms)-1]
		last.Version, last.FromMS = last.Version+1, last.FromMS+1+r.Int64N(10*day)
		split.Terms = append(slices.Clone(c.in.Terms), last)
		after := judge(t, split, c.facts)
		before.Excused, after.Excused = nil, nil
		require.Equal(t, before, after)
	})
}

func TestAddingUnknownNeverRaisesUptimeUnderTheDefault(t *testing.T) {
	cases(t, 24, func(t *testing.T, r *rand.Rand, c randomCase) {
		for i := range c.in.Terms {
			c.in.Terms[i].Unknown = UnknownDown
		}
		before := judge(t, c.in, c.facts)
		for k, facts := range c.facts {
			less := slices.Clone(facts)
			for i := range less {
				switch r.IntN(12) {
				case 0:
					less[i].Disputed = true
				case 1:
					less[i].Skewed |= uint16(r.IntN(1 << 12))
				case 2:
					less[i].Slots[r.IntN(12)] = evidence.Slot{}
				case 3:
					less[i].ReceivedMS += 80 * hour
				}
			}
			c.facts[k] = slices.DeleteFunc(less, func(HourFacts) bool { return r.IntN(20) == 0 })
		}
		after := judge(t, c.in, c.facts)
		require.LessOrEqual(t, after.Slots[Up], before.Slots[Up])
		require.LessOrEqual(t, after.Availability.PPM, before.Availability.PPM)
		require.GreaterOrEqual(t, after.Credit.BP, before.Credit.BP)
		require.Equal(t, before.Slots.Due(), after.Slots.Due(), "nothing leaves what is due")
	})
}

func TestDayByDayEqualsTheWholeMonth(t *testing.T) {
	cases(t, 8, func(t *testing.T, r *rand.Rand, c randomCase) {
		whole := judge(t, c.in, c.facts)
		// Each day judged apart by rules made anew, with that day's facts only, in any order, as the month went on.
		kept := map[MinerKey]*MinerDays{}
		days := r.Perm(c.in.Month.Days())
		for _, d := range days {
			rules := mustRules(t, c.in)
			for _, k := range rules.Miners() {
				var facts []HourFacts
				for _, f := range c.facts[k] {
					if int(f.Hour)/24 == c.in.Month.FirstDay()+d {
						facts = append(facts, f)
					}
				}
				res, err := rules.Plan(k).Day(c.in.Month.FirstDay()+d, facts)
				require.NoError(t, err)
				if kept[k] == nil {
					kept[k] = &MinerDays{MinerKey: k}
				}
				kept[k].Days = append(kept[k].Days, res.DaySums)
			}
		}
		var list []MinerDays
		for _, md := range kept {
			list = append(list, *md)
		}
		apart, err := mustRules(t, c.in).Month(list)
		require.NoError(t, err)
		require.Equal(t, whole, apart)
	})
}

func TestMergingOverChainsCommutes(t *testing.T) {
	cases(t, 10, func(t *testing.T, r *rand.Rand, c randomCase) {
		for i := range c.in.Terms {
			c.in.Terms[i].BackfillS = 31 * 24 * 3600
		}
		c.in.AsOfMS = c.in.Month.ToMS() + 32*day
		for k, facts := range c.facts {
			c.facts[k] = slices.DeleteFunc(facts, func(f HourFacts) bool { return f.Spool != facts[0].Spool })
		}
		whole := judge(t, c.in, c.facts)
		for k, facts := range c.facts {
			var parts []HourFacts
			for _, f := range facts {
				a, b := f, f
				a.Spool, b.Spool = ident.SpoolID{1}, ident.SpoolID{2}
				for s := range f.Slots {
					n := r.Uint64N(f.Slots[s].Hashes + 1)
					if f.Slots[s].Source == evidence.SourceNone {
						n = f.Slots[s].Hashes
						b.Slots[s].Hashes = 0
					} else {
						b.Slots[s].Hashes -= n
					}
					a.Slots[s].Hashes = n
					if f.Slots[s].Polls > 0 {
						a.Slots[s].Polls, a.Slots[s].Answered = 2, 2
						b.Slots[s].Polls, b.Slots[s].Answered = 3, 3
					}
				}
				parts = append(parts, a, b)
			}
			shuffle(r, parts)
			c.facts[k] = parts
		}
		require.Equal(t, whole, judge(t, c.in, c.facts))
	})
}

func TestAnOpenSlotTurnsIntoExactlyWhatItWouldHaveBeen(t *testing.T) {
	// What is provisional is a month as of some time; whatever is decided then stays so if no new facts come.
	cases(t, 10, func(t *testing.T, r *rand.Rand, c randomCase) {
		c.in.Excuses = nil
		final := mustRules(t, c.in)
		early := c.in
		early.AsOfMS = near(r, c.in.Month) + 20*slot
		for k := range c.facts {
			for i := range c.facts[k] {
				c.facts[k][i].ReceivedMS = int64(c.facts[k][i].Hour)*hour + hour
			}
		}
		for _, k := range final.Miners() {
			var known []HourFacts
			for _, f := range c.facts[k] {
				if f.ReceivedMS <= early.AsOfMS {
					known = append(known, f)
				}
			}
			p := mustRules(t, early).Plan(k)
			for d := range c.in.Month.Days() {
				a, err := p.Day(c.in.Month.FirstDay()+d, known)
				require.NoError(t, err)
				b, err := final.Plan(k).Day(c.in.Month.FirstDay()+d, c.facts[k])
				require.NoError(t, err)
				for i := range a.States {
					if a.States[i] != Unknown && a.States[i] != Future {
						require.Equal(t, b.States[i], a.States[i])
					}
				}
				require.Equal(t, a.Slots.Open() > 0, a.NextMS > 0)
				if a.NextMS > 0 {
					require.Greater(t, a.NextMS, early.AsOfMS)
				}
			}
		}
	})
}
