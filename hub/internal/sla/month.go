package sla

import (
	"errors"
	"fmt"
	"math/big"
	"math/bits"

	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Sum is a sum of MH over miners: 128 bits, which a hundred million miners at MaxRateMHs do not fill. Documents hold it as a decimal string.
type Sum struct{ Hi, Lo uint64 }

// Plus returns the sum with mh, which is not negative.
func (a Sum) Plus(mh int64) Sum { return a.plus(Sum{Lo: uint64(mh)}) }

func (a Sum) plus(b Sum) Sum {
	lo, carry := bits.Add64(a.Lo, b.Lo, 0)
	hi, _ := bits.Add64(a.Hi, b.Hi, carry)
	return Sum{hi, lo}
}

// Int returns the sum as a big integer.
func (a Sum) Int() *big.Int {
	v := new(big.Int).SetUint64(a.Hi)
	return v.Or(v.Lsh(v, 64), new(big.Int).SetUint64(a.Lo))
}

// String returns the sum in decimal.
func (a Sum) String() string { return a.Int().String() }

// Less tells whether a is less than b.
func (a Sum) Less(b Sum) bool { return a.Hi < b.Hi || a.Hi == b.Hi && a.Lo < b.Lo }

// MarshalText implements encoding.TextMarshaler.
func (a Sum) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *Sum) UnmarshalText(b []byte) error {
	v, ok := new(big.Int), len(b) > 0 && len(b) <= 39
	for _, c := range b {
		ok = ok && c >= '0' && c <= '9'
	}
	if ok {
		_, ok = v.SetString(string(b), 10)
	}
	if !ok || v.BitLen() > 128 {
		return fmt.Errorf("sum %.50q is not a decimal number of at most 128 bits", b)
	}
	a.Hi, a.Lo = new(big.Int).Rsh(v, 64).Uint64(), new(big.Int).And(v, new(big.Int).SetUint64(^uint64(0))).Uint64()
	return nil
}

// Totals is what a month adds up to, for a miner, a site or a contract.
type Totals struct {
	Slots  Counts
	Hashes Sum // MH that count, of due slots
	Needed Sum // MH at the contracted rate of due slots
	Open   Sum // MH at the contracted rate of slots that may still turn either way
}

// Add adds other totals.
func (t *Totals) Add(o *Totals) {
	t.Slots.add(&o.Slots)
	t.Hashes, t.Needed, t.Open = t.Hashes.plus(o.Hashes), t.Needed.plus(o.Needed), t.Open.plus(o.Open)
}

func (t *Totals) addDay(d *DaySums) {
	t.Slots.add(&d.Slots)
	t.Hashes, t.Needed, t.Open = t.Hashes.Plus(d.Hashes), t.Needed.Plus(d.Needed), t.Open.Plus(d.Open)
}

// Availability is an exact fraction of at most one, of what is due so far. If nothing is due there is none: Den is 0.
type Availability struct {
	Num Sum   // slots up, or MH
	Den Sum   // slots due, or MH at the contracted rate
	PPM int64 // rounded down, for display: decisions are made on the fraction
}

// Availability returns what a metric makes of totals.
func (t *Totals) Availability(m Metric) Availability {
	a := Availability{Num: Sum{}.Plus(t.Slots[Up]), Den: Sum{}.Plus(t.Slots.Due())}
	if m == MetricHashrate {
		a.Num, a.Den = t.Hashes, t.Needed
		if a.Den.Less(a.Num) {
			a.Num = a.Den
		}
	}
	switch {
	case a.Den == (Sum{}):
	case a.Den.Hi == 0:
		hi, lo := bits.Mul64(a.Num.Lo, Whole)
		ppm, _ := bits.Div64(hi, lo, a.Den.Lo) // Num ≤ Den, so the quotient is at most Whole
		a.PPM = int64(ppm)
	default:
		v := a.Num.Int()
		a.PPM = v.Div(v.Mul(v, big.NewInt(Whole)), a.Den.Int()).Int64()
	}
	return a
}

// Below tells whether the fraction is less than ppm: num × 1,000,000 < ppm × den. No availability is below nothing.
func (a *Availability) Below(ppm int64) bool {
	n, d := a.Num.Int(), a.Den.Int()
	return n.Mul(n, big.NewInt(Whole)).Cmp(d.Mul(d, big.NewInt(ppm))) < 0
}

// Credit is what the customer gets back of the month's fee.
type Credit struct {
	BP       int64  // of the fee, in 1/100 %
	BelowPPM int64  // the bound of the tier that gives it; 0: none does
	Minor    int64  // minor units of the currency; 0 if the terms name no fee
	FeeMinor int64  // of the whole month, also for a month that is contracted in part
	Currency string // ISO 4217, may be empty without a fee
}

// CreditFor returns the credit of the lowest tier that the availability is below, at most the cap, a part of a minor unit rounded up in the
// customer's favour.
func (t *Terms) CreditFor(a *Availability) Credit {
	c := Credit{FeeMinor: t.FeeMinor, Currency: t.Currency}
	for _, tier := range t.Tiers {
		if a.Below(tier.BelowPPM) {
			c.BP, c.BelowPPM = tier.CreditBP, tier.BelowPPM
		}
	}
	c.BP = min(c.BP, t.CreditCapBP)
	c.Minor = roundUpBP(t.FeeMinor, c.BP)
	return c
}

// roundUpBP returns bp of minor, rounded up.
func roundUpBP(minor, bp int64) int64 {
	hi, lo := bits.Mul64(uint64(minor), uint64(bp))
	lo, carry := bits.Add64(lo, WholeBP-1, 0)
	q, _ := bits.Div64(hi+carry, lo, WholeBP) // bp is at most WholeBP, so the quotient is at most minor
	return int64(q)
}

// Allowance is how much of a month may be missed before the target is. In the metric hashrate missing work is told as slots at the contract's average rate.
type Allowance struct {
	Slots int64 // that may be missed in the whole month if nothing else is excused
	Used  int64 // missed so far, rounded up
	Left  int64 // below 0 the target is missed for good, unless more becomes excused
}

func (t *Totals) allowance(terms *Terms) Allowance {
	return allowanceOf(terms, t, t.Slots.Due()+t.Slots.Open(), t.Needed.plus(t.Open))
}

// allowanceOf takes the month's whole number of slots and need apart, because a burn-down measures every day of it against the whole month.
func allowanceOf(terms *Terms, t *Totals, slots int64, need Sum) Allowance {
	a := Allowance{Used: t.Slots.Missed()}
	hi, lo := bits.Mul64(uint64(slots), uint64(Whole-terms.TargetPPM))
	q, _ := bits.Div64(hi, lo, Whole)
	a.Slots = int64(q)
	if terms.Metric == MetricHashrate {
		a.Used = 0
		if t.Hashes.Less(t.Needed) && need != (Sum{}) {
			missing := new(big.Int).Sub(t.Needed.Int(), t.Hashes.Int())
			d := need.Int()
			missing.Mul(missing, big.NewInt(slots)).Add(missing, d).Sub(missing, big.NewInt(1))
			a.Used = missing.Div(missing, d).Int64()
		}
	}
	a.Left = a.Slots - a.Used
	return a
}

// Burn is how far a month's allowance was used up at the end of a day.
type Burn struct {
	Day  int   // since 1970 UTC
	Used int64 // slots missed since the month's start
	Left int64
	Open int64 // slots of the days so far that may still turn either way
}

// MinerDays is the kept days of one miner, in any order. Days that are missing have not been judged: what is contracted and not excused in them is Future.
type MinerDays struct {
	MinerKey
	Days []DaySums
}

// MinerResult is the month of one miner.
type MinerResult struct {
	MinerKey
	Totals
	Availability Availability
}

// SiteResult is the month of what a contract has at one site.
type SiteResult struct {
	Site ident.SiteID
	Totals
	Availability Availability
}

// MonthResult is the month of a contract.
type MonthResult struct {
	Totals
	Availability Availability
	Due          bool // something was due; if not, there is nothing to meet or to miss
	Met          bool // nothing was due, or the availability is at least the target
	Credit       Credit
	Allowance    Allowance
	Burn         []Burn
	Sites        []SiteResult
	Miners       []MinerResult
	Excused      map[[16]byte]int64 // slots that count as excused, by the excuse's id
}

// ErrStale means that a kept day is not of these terms, assignments and excuses.
var ErrStale = errors.New("is not what terms, assignments and excuses say now: judge the day again")

// Month adds up kept days. Whatever order they come in, the result is the same.
func (r *Rules) Month(kept []MinerDays) (MonthResult, error) {
	out := MonthResult{Excused: map[[16]byte]int64{}, Miners: make([]MinerResult, 0, len(r.miners))}
	n, first := r.in.Month.Days(), r.in.Month.FirstDay()
	byKey := make(map[MinerKey][]DaySums, len(kept))
	for i := range kept {
		k := &kept[i]
		if _, twice := byKey[k.MinerKey]; twice {
			return out, fmt.Errorf("the days of miner %s at site %s come twice: give them once", k.Miner, k.Site)
		}
		if len(r.assignments[k.MinerKey]) == 0 && len(k.Days) > 0 {
			return out, fmt.Errorf("day %d of miner %s at site %s, which has no assignment: %w", k.Days[0].Day, k.Miner, k.Site, ErrStale)
		}
		byKey[k.MinerKey] = k.Days
	}
	terms := r.MonthTerms()
	daily := make([]Totals, n)
	var days [31]DaySums
	for _, k := range r.miners {
		r.Plan(k).countDays(&days, out.Excused)
		var judged [31]bool
		for _, d := range byKey[k] {
			at := d.Day - first
			if at < 0 || at >= n || judged[at] {
				return out, fmt.Errorf("day %d of miner %s at site %s is not in %s, or comes twice", d.Day, k.Miner, k.Site, r.in.Month)
			}
			if !d.fits(&days[at]) {
				return out, fmt.Errorf("day %d of miner %s at site %s %w", d.Day, k.Miner, k.Site, ErrStale)
			}
			days[at], judged[at] = d, true
		}
		m := MinerResult{MinerKey: k}
		for i := range n {
			m.addDay(&days[i])
			daily[i].addDay(&days[i])
		}
		m.Availability = m.Totals.Availability(terms.Metric)
		out.Miners = append(out.Miners, m)
		if s := len(out.Sites); s == 0 || out.Sites[s-1].Site != k.Site {
			out.Sites = append(out.Sites, SiteResult{Site: k.Site})
		}
		out.Sites[len(out.Sites)-1].Add(&m.Totals)
		out.Add(&m.Totals)
	}
	for i := range out.Sites {
		s := &out.Sites[i]
		s.Availability = s.Totals.Availability(terms.Metric)
	}
	out.judge(terms)
	out.burn(terms, daily, first)
	return out, nil
}

func (m *MonthResult) judge(terms *Terms) {
	m.Availability = m.Totals.Availability(terms.Metric)
	m.Due = m.Availability.Den != Sum{}
	m.Met = !m.Availability.Below(terms.TargetPPM)
	m.Credit = terms.CreditFor(&m.Availability)
	m.Allowance = m.allowance(terms)
}

func (m *MonthResult) burn(terms *Terms, daily []Totals, first int) {
	slots, need := m.Slots.Due()+m.Slots.Open(), m.Needed.plus(m.Open)
	var so Totals
	for i := range daily {
		so.Add(&daily[i])
		a := allowanceOf(terms, &so, slots, need)
		m.Burn = append(m.Burn, Burn{Day: first + i, Used: a.Used, Left: a.Left, Open: so.Slots.Open()})
	}
}

// countDays tells for each day of the month what the plan alone says, and adds up what each excuse excuses.
func (p *Plan) countDays(days *[31]DaySums, excused map[[16]byte]int64) {
	n, first := p.r.in.Month.Days(), p.r.in.Month.FirstDay()
	for i := range n {
		days[i] = DaySums{Day: first + i}
	}
	for i := range p.spans {
		s := &p.spans[i]
		if s.excuse != nil {
			excused[s.excuse.ID] += s.to - s.from
		}
		for at := s.from; at < s.to; {
			day := at / SlotsPerDay
			end := min(s.to, (day+1)*SlotsPerDay)
			d := &days[day-int64(first)]
			d.Slots[s.state] += end - at
			if s.state == Future {
				d.Open += (end - at) * s.need
			}
			at = end
		}
	}
}

// fits tells whether a kept day can be: as many slots contracted and excused as the plan says, as much work needed, and not more counted than counts.
func (d *DaySums) fits(plan *DaySums) bool {
	var slots int64
	for _, n := range d.Slots {
		if n < 0 {
			return false
		}
		slots += n
	}
	due := plan.Open
	if d.Slots[UnknownAsExcused] > 0 { // how much work those slots would have needed is not kept
		due = d.Needed + d.Open
	}
	return slots == SlotsPerDay && d.Slots[NotContracted] == plan.Slots[NotContracted] &&
		d.Slots[ExcusedCurtailment] == plan.Slots[ExcusedCurtailment] && d.Slots[ExcusedMaintenance] == plan.Slots[ExcusedMaintenance] &&
		d.Needed >= 0 && d.Open >= 0 && d.Needed+d.Open == due && due <= plan.Open &&
		(d.Needed > 0) == (d.Slots.Due() > 0) && (d.Open > 0) == (d.Slots.Open() > 0) && d.Hashes >= 0 && d.Hashes <= MaxOver*d.Needed
}
