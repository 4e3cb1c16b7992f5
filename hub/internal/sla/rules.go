package sla

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// RulesInput is what the rules of one contract and month are made of. Lists may come in any order and hold more than the month needs.
type RulesInput struct {
	Engine int // of the statement; EngineVersion for what is not issued yet
	Month  CalendarMonth
	// The hub's time of judging: now for what is shown, the time of issue for a statement. Records made after it do not exist.
	AsOfMS int64
	// Of a restatement: facts that came until then count although their deadline had passed. 0 if none do.
	AcceptUntilMS int64
	Terms         []Terms // every version of the contract
	Assignments   []Assignment
	Excuses       []Excuse
}

// Rules is what terms, assignments and excuses alone make of one contract and month: which slots of which miners are contracted, which of
// those are excused, and how much work the others need. It knows no facts, so that a day of one miner can be judged apart from all others.
type Rules struct {
	in          RulesInput
	first, last int64   // the month's first slot, and the first after it
	terms       []Terms // those that hold in the month, in order
	miners      []MinerKey
	assignments map[MinerKey][]Assignment
	windows     map[ident.SiteID][]window // in order of their beginning
	named       []Excuse                  // those that could touch a slot of this contract, with the records that end them, by id
}

// MinerKey names a miner: the same one at another site is judged apart.
type MinerKey struct {
	Site  ident.SiteID
	Miner ident.MinerID
}

// Compare orders keys by site, then miner.
func (k MinerKey) Compare(o MinerKey) int {
	return cmp.Or(slices.Compare(k.Site[:], o.Site[:]), k.Miner.Compare(o.Miner))
}

// window is an excuse with the records that shorten it applied.
type window struct {
	*Excuse
	from, to int64 // slots within the month
	endMS    int64
	miners   []ident.MinerID // in order; none: all of the site
}

func (w *window) covers(m ident.MinerID) bool {
	if len(w.miners) == 0 {
		return true
	}
	_, found := slices.BinarySearchFunc(w.miners, m, ident.MinerID.Compare)
	return found
}

// ErrEngine means that this program does not know an engine version.
var ErrEngine = errors.New("is not known to this program: a newer one wrote it; upgrade to read it")

// NewRules checks its input and prepares it.
func NewRules(in RulesInput) (*Rules, error) {
	if in.Engine != 1 {
		return nil, fmt.Errorf("sla engine %d %w", in.Engine, ErrEngine)
	}
	if in.Month < NewCalendarMonth(1970, 1) || in.Month.ToMS() > MaxMS {
		return nil, fmt.Errorf("month %s: give one from 1970-01 on", in.Month)
	}
	if in.AsOfMS < 1 || in.AsOfMS > MaxMS || in.AcceptUntilMS < 0 || in.AcceptUntilMS > in.AsOfMS {
		return nil, fmt.Errorf("judged as of %d ms with facts until %d ms: give a time after 1970, and facts until then at most", in.AsOfMS, in.AcceptUntilMS)
	}
	r := &Rules{in: in, first: in.Month.FromMS() / evidence.SlotMS, last: in.Month.ToMS() / evidence.SlotMS}
	if err := r.takeTerms(); err != nil {
		return nil, err
	}
	if err := r.takeAssignments(); err != nil {
		return nil, err
	}
	if err := r.takeExcuses(); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Rules) takeTerms() error {
	all := slices.Clone(r.in.Terms)
	slices.SortFunc(all, func(a, b Terms) int { return cmp.Compare(a.Version, b.Version) })
	for i := range all {
		t := &all[i]
		if err := t.Check(); err != nil {
			return fmt.Errorf("terms version %d: %w", t.Version, err)
		}
		if i > 0 && (t.Contract != all[0].Contract || t.Customer != all[0].Customer) {
			return fmt.Errorf("terms of contract %s among those of %s: give those of one contract and customer", t.Contract, all[0].Contract)
		}
		if i > 0 && (t.Version == all[i-1].Version || t.FromMS <= all[i-1].FromMS) {
			return fmt.Errorf("terms version %d holds from %d ms, version %d from %d ms: each holds from later than the one before",
				all[i-1].Version, all[i-1].FromMS, t.Version, t.FromMS)
		}
	}
	for i, t := range all {
		from, to := max(slotAtOrAfter(t.FromMS), r.first), r.last
		if i+1 < len(all) {
			to = min(slotAtOrAfter(all[i+1].FromMS), to)
		}
		if from < to {
			r.terms = append(r.terms, t)
		}
	}
	if len(r.terms) == 0 {
		return fmt.Errorf("no terms hold in %s: ask for a month after the contract began", r.in.Month)
	}
	return nil
}

func (r *Rules) takeAssignments() error {
	r.assignments = map[MinerKey][]Assignment{}
	byID := map[ident.UUID]Assignment{}
	for _, a := range r.in.Assignments {
		if err := a.Check(); err != nil {
			return err
		}
		if a.Contract != r.Contract() {
			return fmt.Errorf("assignment %s is of contract %s, not %s", a.ID, a.Contract, r.Contract())
		}
		a = a.Within(r.in.Month)
		if max(slotAtOrAfter(a.FromMS), r.first) >= min(slotAtOrAfter(a.ToMS), r.last) {
			continue // no slot of the month
		}
		if old, twice := byID[a.ID]; twice {
			if old != a {
				return fmt.Errorf("assignment %s comes twice and says different things", a.ID)
			}
			continue
		}
		byID[a.ID] = a
		k := MinerKey{a.Site, a.Miner}
		if len(r.assignments[k]) == 0 {
			r.miners = append(r.miners, k)
		}
		r.assignments[k] = append(r.assignments[k], a)
	}
	slices.SortFunc(r.miners, MinerKey.Compare)
	for _, k := range r.miners {
		list := r.assignments[k]
		slices.SortFunc(list, func(a, b Assignment) int { return cmp.Compare(a.FromMS, b.FromMS) })
		for i := 1; i < len(list); i++ {
			if list[i].FromMS < list[i-1].ToMS {
				return fmt.Errorf("assignments %s and %s give miner %s twice at once: end one before the other begins", list[i-1].ID, list[i].ID, k.Miner)
			}
		}
	}
	return nil
}

func (r *Rules) takeExcuses() error {
	byID := map[ident.UUID]*Excuse{}
	for i := range r.in.Excuses {
		x := &r.in.Excuses[i]
		if err := x.Check(); err != nil {
			return err
		}
		if x.RecordedMS > r.in.AsOfMS {
			continue
		}
		if old := byID[x.ID]; old != nil {
			if old.Hash() != x.Hash() {
				return fmt.Errorf("excuse %s comes twice and says different things", x.ID)
			}
			continue
		}
		byID[x.ID] = x
	}
	ends := map[ident.UUID][]*Excuse{}
	for _, x := range byID {
		if w := byID[x.Ends]; w != nil && w.Kind == x.Kind && w.Site == x.Site {
			ends[w.ID] = append(ends[w.ID], x)
		}
	}
	r.windows = map[ident.SiteID][]window{}
	for _, x := range byID {
		if x.Ends != (ident.UUID{}) {
			continue
		}
		w := window{Excuse: x, endMS: x.ToMS, miners: slices.Clone(x.Miners)}
		slices.SortFunc(w.miners, ident.MinerID.Compare)
		w.from, w.to = max(slotAtOrAfter(x.FromMS), r.first), min(slotAtOrAfter(x.ToMS), r.last)
		if w.from >= w.to || !r.concerns(&w) {
			continue
		}
		r.named = append(r.named, *x)
		for _, e := range ends[x.ID] {
			r.named = append(r.named, *e)
			w.endMS = min(w.endMS, max(e.ToMS, e.RecordedMS))
		}
		w.to = min(w.to, slotAtOrAfter(w.endMS))
		r.windows[x.Site] = append(r.windows[x.Site], w)
	}
	slices.SortFunc(r.named, func(a, b Excuse) int { return slices.Compare(a.ID[:], b.ID[:]) })
	for _, list := range r.windows {
		slices.SortFunc(list, func(a, b window) int { return cmp.Or(cmp.Compare(a.from, b.from), slices.Compare(a.ID[:], b.ID[:])) })
	}
	return nil
}

// concerns keeps out excuses of other customers' miners at the same site: a statement does not even name them.
func (r *Rules) concerns(w *window) bool {
	if len(w.miners) > 0 {
		return slices.ContainsFunc(w.miners, func(m ident.MinerID) bool { return len(r.assignments[MinerKey{w.Site, m}]) > 0 })
	}
	return slices.ContainsFunc(r.miners, func(k MinerKey) bool { return k.Site == w.Site })
}

// Within returns the part of an assignment until the month's end: what a statement of the month names, so that ending the assignment
// later leaves the statement's inputs as they were.
func (a Assignment) Within(m CalendarMonth) Assignment {
	if end := m.ToMS(); a.ToMS == 0 || a.ToMS > end {
		a.ToMS = end
	}
	return a
}

// Contract returns the contract's id.
func (r *Rules) Contract() ident.UUID { return r.terms[0].Contract }

// CalendarMonth returns the month that the rules are of.
func (r *Rules) CalendarMonth() CalendarMonth { return r.in.Month }

// MonthTerms returns the terms that what is counted once a month follows: metric, target, tiers, cap and fee. They are the first that hold in the
// month: a later version changes single slots at once, but the price of what has already happened only with the next month.
func (r *Rules) MonthTerms() *Terms { return &r.terms[0] }

// Terms returns the versions that hold in the month, in order.
func (r *Rules) Terms() []Terms { return r.terms }

// Miners returns the miners that are assigned for at least one slot of the month, in order.
func (r *Rules) Miners() []MinerKey { return r.miners }

// Assignments returns the parts of assignments that hold in the month, by id.
func (r *Rules) Assignments() []Assignment {
	var all []Assignment
	for _, k := range r.miners {
		all = append(all, r.assignments[k]...)
	}
	slices.SortFunc(all, func(a, b Assignment) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return all
}

// Excuses returns the excuses that could touch a slot of the contract, whether they count or not, and the records that end them, by id.
func (r *Rules) Excuses() []Excuse { return r.named }

// ClosesMS returns when the month closes: when the last fact of its last slot that can count has come.
func (r *Rules) ClosesMS() int64 {
	var s int64
	for i := range r.terms {
		s = max(s, r.terms[i].BackfillS)
	}
	return r.in.Month.ToMS() + s*1000
}

// honours says whether an excuse counts under these terms: whether it was recorded in time. A late one counts for no slot, not even for those
// that were still to come when it was recorded; for them the site orders another.
func (t *Terms) honours(x *Excuse) bool { return x.RecordedMS <= t.limitMS(x) }

// limitMS returns until when an excuse had to be recorded.
func (t *Terms) limitMS(x *Excuse) int64 {
	if x.Kind == Curtailment {
		return x.FromMS + t.CurtailLateS*1000
	}
	return x.FromMS - t.MaintenanceNoticeS*1000
}

func (t *Terms) capSlots(k ExcuseKind) int64 {
	if k == Curtailment {
		return t.CurtailCapSlots
	}
	return t.MaintenanceCapSlots
}

// Plan is what the rules say of one miner's month, as spans of slots about which they say the same.
type Plan struct {
	r     *Rules
	key   MinerKey
	spans []span
}

// span is slots for which terms, assignment and excuse are the same. Its state is NotContracted, an excuse, or Future for slots that facts decide.
type span struct {
	from, to   int64
	state      State
	terms      *Terms
	assignment *Assignment
	excuse     *window
	up         uint64 // least MH of a slot that is up
	degraded   uint64 // least MH of a slot that is degraded
	need       int64  // MH of a slot at the contracted rate
}

// Plan returns the miner's plan. It is empty for a miner that is not assigned in the month: nothing is contracted then.
func (r *Rules) Plan(k MinerKey) *Plan {
	p := &Plan{r: r, key: k}
	assigned := r.assignments[k]
	var windows []*window
	for i := range r.windows[k.Site] {
		if w := &r.windows[k.Site][i]; w.from < w.to && len(assigned) > 0 && w.covers(k.Miner) {
			windows = append(windows, w)
		}
	}
	cuts := make([]int64, 0, 2+len(r.terms)+2*len(assigned)+2*len(windows))
	cuts = append(cuts, r.first, r.last)
	cut := func(s int64) { cuts = append(cuts, min(max(s, r.first), r.last)) }
	for i := range r.terms {
		cut(slotAtOrAfter(r.terms[i].FromMS))
	}
	for i := range assigned {
		cut(slotAtOrAfter(assigned[i].FromMS))
		cut(slotAtOrAfter(assigned[i].ToMS))
	}
	for _, w := range windows {
		cut(w.from)
		cut(w.to)
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	var active []*window
	var used [2]int64 // slots excused so far: by curtailment, by maintenance
	for i := 0; i+1 < len(cuts); i++ {
		from, to := cuts[i], cuts[i+1]
		for len(windows) > 0 && windows[0].from <= from {
			active, windows = append(active, windows[0]), windows[1:]
		}
		active = slices.DeleteFunc(active, func(w *window) bool { return w.to <= from })
		s := r.spanAt(assigned, from)
		if s.state != NotContracted {
			for i, kind := range [...]ExcuseKind{Curtailment, Maintenance} {
				w := s.terms.choose(active, kind)
				if w == nil || from == to {
					continue
				}
				n := to - from
				if limit := s.terms.capSlots(kind); limit >= 0 {
					n = min(n, max(0, limit-used[i]))
				}
				x := s
				x.from, x.to, x.excuse, x.state = from, from+n, w, ExcusedCurtailment+State(i)
				p.add(x)
				used[i] += n
				from += n
			}
		}
		s.from, s.to = from, to
		p.add(s)
	}
	return p
}

// spanAt returns what terms and assignments say of a slot.
func (r *Rules) spanAt(assigned []Assignment, slot int64) span {
	ms := slot * evidence.SlotMS
	s := span{state: NotContracted}
	for i := range r.terms {
		if r.terms[i].FromMS <= ms {
			s.terms = &r.terms[i]
		}
	}
	for i := range assigned {
		if assigned[i].FromMS <= ms && ms < assigned[i].ToMS {
			s.assignment = &assigned[i]
		}
	}
	if s.terms == nil || s.assignment == nil {
		return s
	}
	s.state = Future
	rate := cmp.Or(s.assignment.RateMHs, s.terms.RateMHs)
	s.need = rate * (evidence.SlotMS / 1000)
	s.up, s.degraded = share(s.need, s.terms.ThetaPPM), share(s.need, s.terms.DegradedPPM)
	return s
}

// share returns the least whole number of MH that is at least ppm of mh: hashes ≥ ppm × mh ÷ 1,000,000 exactly when hashes ≥ share.
func share(mh, ppm int64) uint64 {
	hi, lo := bits.Mul64(uint64(mh), uint64(ppm))
	q, rest := bits.Div64(hi, lo, Whole) // ppm is at most Whole, so the quotient is at most mh
	if rest > 0 {
		q++
	}
	return q
}

// choose returns the excuse of a kind that counts for a slot: of several, the one recorded first.
func (t *Terms) choose(active []*window, kind ExcuseKind) *window {
	var best *window
	for _, w := range active {
		if w.Kind != kind || !t.honours(w.Excuse) {
			continue
		}
		if best == nil || cmp.Or(cmp.Compare(w.RecordedMS, best.RecordedMS), slices.Compare(w.ID[:], best.ID[:])) < 0 {
			best = w
		}
	}
	return best
}

// add appends a span, joined with the one before where nothing changes.
func (p *Plan) add(s span) {
	if s.from >= s.to {
		return
	}
	if n := len(p.spans); n > 0 {
		if last := &p.spans[n-1]; last.state == s.state && last.terms == s.terms && last.assignment == s.assignment && last.excuse == s.excuse {
			last.to = s.to
			return
		}
	}
	p.spans = append(p.spans, s)
}
