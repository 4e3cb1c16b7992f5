package sla

import (
	"errors"
	"fmt"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Replay computes a statement again from what it names, as whoever has all of that can: the rules from its documents, then the signed hours in the order in
// which it names them. It keeps the facts of one day of one site at a time. When facts came, and in which slots a site's clock was wrong by the hub's
// measurement, stands in the statement alone and is taken from there.
type Replay struct {
	st    *Statement
	rules *Rules
	next  int // in st.Hours
	ref   *HourRef

	sites []replaySite
	site  int // in sites
	day   int
	days  []MinerDays // as rules.Miners
	err   error
}

// replaySite is what the contract has at one site.
type replaySite struct {
	id    ident.SiteID
	first int // in Replay.days
	plans []*Plan
	place map[ident.MinerID]int
	facts [][]HourFacts // of the day
}

// NewReplay begins with the inputs of a statement: documents as their parsers gave them, of which the statement is known to name each.
func NewReplay(st *Statement, terms []Terms, assignments []Assignment, excuses []Excuse) (*Replay, error) {
	rules, err := NewRules(RulesInput{
		Engine: st.Engine, Month: st.Month, AsOfMS: st.IssuedMS, AcceptUntilMS: st.AcceptUntilMS, Terms: terms, Assignments: assignments, Excuses: excuses,
	})
	if err != nil {
		return nil, err
	}
	r := &Replay{st: st, rules: rules, day: st.Month.FirstDay()}
	for i, k := range rules.Miners() {
		if n := len(r.sites); n == 0 || r.sites[n-1].id != k.Site {
			r.sites = append(r.sites, replaySite{id: k.Site, first: i, place: map[ident.MinerID]int{}})
		}
		s := &r.sites[len(r.sites)-1]
		s.place[k.Miner] = len(s.plans)
		s.plans = append(s.plans, rules.Plan(k))
		s.facts = append(s.facts, nil)
		r.days = append(r.days, MinerDays{MinerKey: k})
	}
	return r, nil
}

// Hour goes on to the next hour of the statement, which ref is: Facts are of it from now on.
func (r *Replay) Hour(ref *HourRef) error {
	if r.next >= len(r.st.Hours) || r.st.Hours[r.next] != *ref {
		return errors.New("the hours do not come as the statement names them")
	}
	r.ref = &r.st.Hours[r.next]
	r.next++
	day := int(ref.Hour / 24)
	for r.err == nil && r.site < len(r.sites) {
		s := &r.sites[r.site]
		if c := compareSites(s.id, ref.Site); c > 0 || c == 0 && r.day >= day {
			break
		}
		r.judge()
	}
	return r.err
}

func compareSites(a, b ident.SiteID) int { return MinerKey{Site: a}.Compare(MinerKey{Site: b}) }

// Facts takes what the hour's leaf says of a miner. Of a disputed hour it does not matter what: the slots are unknown.
func (r *Replay) Facts(miner ident.MinerID, slots *[evidence.SlotsPerHour]evidence.Slot) {
	if r.site >= len(r.sites) || r.sites[r.site].id != r.ref.Site {
		return // a site at which the contract has no miner
	}
	s := &r.sites[r.site]
	i, ours := s.place[miner]
	if !ours {
		return
	}
	s.facts[i] = append(s.facts[i], HourFacts{
		Hour: r.ref.Hour, Spool: r.ref.Spool, Slots: *slots, Skewed: r.ref.Skewed, Disputed: r.ref.State == HourDisputed, ReceivedMS: r.ref.ReceivedMS,
	})
}

// judge judges the day of all miners of the site, and goes on to the next.
func (r *Replay) judge() {
	s := &r.sites[r.site]
	for i, p := range s.plans {
		d, err := p.Day(r.day, s.facts[i])
		if err != nil {
			r.err = err
			return
		}
		s.facts[i] = s.facts[i][:0]
		if d.Slots[NotContracted] < SlotsPerDay {
			kept := &r.days[s.first+i]
			kept.Days = append(kept.Days, d.DaySums)
		}
	}
	if r.day++; r.day == r.st.Month.FirstDay()+r.st.Month.Days() {
		s.facts, s.place = nil, nil
		r.site, r.day = r.site+1, r.st.Month.FirstDay()
	}
}

// Statement ends the replay and returns the statement that it gives.
func (r *Replay) Statement() (*Statement, error) {
	if r.next != len(r.st.Hours) {
		return nil, fmt.Errorf("%d of %d hours of the statement are missing", len(r.st.Hours)-r.next, len(r.st.Hours))
	}
	for r.err == nil && r.site < len(r.sites) {
		r.judge()
	}
	if r.err != nil {
		return nil, r.err
	}
	month, err := r.rules.Month(r.days)
	if err != nil {
		return nil, err
	}
	return r.rules.NewStatement(&month, Issue{Supersedes: r.st.Supersedes, Reason: r.st.Reason, Hours: r.st.Hours})
}

// Differences calls tell with each part of a statement that a recomputation gives differently.
func Differences(st, got *Statement, tell func(format string, args ...any)) {
	if got.Engine != st.Engine || got.Contract != st.Contract || got.Customer != st.Customer || got.Month != st.Month || got.IssuedMS != st.IssuedMS || got.AcceptUntilMS != st.AcceptUntilMS {
		tell("contract, customer, month or time of issue")
	}
	differing(st.Terms, got.Terms, func(t TermsRef) int { return t.Version }, func(k int) { tell("terms version %d", k) })
	differing(st.Assignments, got.Assignments, func(a RecordRef) ident.UUID { return a.ID }, func(k ident.UUID) { tell("assignment %s", k) })
	differing(st.Excuses, got.Excuses, func(x ExcuseRef) ident.UUID { return x.ID }, func(k ident.UUID) { tell("excuse %s", k) })
	differing(st.Miners, got.Miners, func(l StatementLine) MinerKey { return MinerKey{l.Site, l.Miner} }, func(k MinerKey) {
		tell("the month of miner %s at site %s", k.Miner, k.Site)
	})
	if got.Result != st.Result {
		tell("the availability is %d ppm (%s/%s), the statement says %d ppm (%s/%s)", got.Result.PPM, got.Result.Num, got.Result.Den, st.Result.PPM, st.Result.Num, st.Result.Den)
	}
	if got.Credit != st.Credit {
		tell("the credit is %+v, the statement says %+v", got.Credit, st.Credit)
	}
}

// differing calls name with the key of what is in only one of two lists, or different in both: first those of now, in its order.
func differing[T comparable, K comparable](old, now []T, key func(T) K, name func(K)) {
	before := make(map[K]T, len(old))
	for _, v := range old {
		before[key(v)] = v
	}
	for _, v := range now {
		k := key(v)
		if b, ok := before[k]; !ok || b != v {
			name(k)
		}
		delete(before, k)
	}
	for _, v := range old {
		if _, gone := before[key(v)]; gone {
			name(key(v))
		}
	}
}
