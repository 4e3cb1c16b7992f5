package statement

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Restatement orders a statement that supersedes a month's newest one.
type Restatement struct {
	Contract    uuid.UUID
	Month       sla.CalendarMonth
	Reason      string    // for the customer: it stands in the statement
	AcceptUntil time.Time // facts that had come until then count, past the terms' deadline; zero: as in the statement before, and never earlier
	By          string    // who orders it, for the audit log
}

// Restate computes a month anew from the signed facts and issues a statement that supersedes the newest one. The one before stays as it is.
func (s *Store) Restate(ctx context.Context, scope Scope, o Restatement) (hash evidence.Hash, err error) {
	if err := s.mayRead(ctx, scope, o.Contract); err != nil {
		return hash, err
	}
	now := s.c.Now().UTC()
	o.Reason = strings.TrimSpace(o.Reason)
	switch {
	case o.Reason == "":
		return hash, apperr.E(apperr.Invalid, "VALID_001", "reason: say why, for the customer")
	case o.AcceptUntil.After(now):
		return hash, apperr.E(apperr.Invalid, "VALID_001", "accept_until: %s has not come yet", o.AcceptUntil.UTC().Format(time.RFC3339))
	}
	if now.Sub(time.UnixMilli(o.Month.FromMS())) > restateFor {
		return hash, apperr.E(apperr.Conflict, "CONFLICT_001", "the facts of %s are no longer kept: its statement can be recomputed from the evidence, and not restated", o.Month)
	}
	err = pg.InTx(ctx, s.c.Pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, qTimeout); err != nil {
			return err
		}
		if err := s.hold(ctx, tx, o.Contract, o.Month); err != nil {
			return err
		}
		before, issued, err := s.newest(ctx, tx, o.Contract, o.Month)
		if err != nil {
			return err
		}
		if !issued {
			return apperr.E(apperr.Conflict, "CONFLICT_001", "there is no statement for %s to supersede", o.Month)
		}
		if !now.After(before.IssuedAt) {
			return apperr.E(apperr.Conflict, "CONFLICT_001", "the statement before is of %s, and it is %s now: look at the hub's clock", text(before.IssuedAt.UnixMilli()), text(now.UnixMilli()))
		}
		if o.AcceptUntil.IsZero() {
			o.AcceptUntil = before.AcceptUntil
		}
		if o.AcceptUntil.Before(before.AcceptUntil) { // who could take back facts that counted would choose those that suit
			return apperr.E(apperr.Conflict, "CONFLICT_001", "accept_until: the statement before counts what had come until %s, and a restatement takes no fact back: name that or a later time, or none",
				text(before.AcceptUntil.UnixMilli()))
		}
		hash, err = s.restate(ctx, tx, &o, &before, now)
		return err
	})
	var coded *apperr.Error
	if err != nil && !errors.As(err, &coded) {
		err = fmt.Errorf("restating %s of contract %s: %w", o.Month, o.Contract, err)
	}
	return hash, err
}

// restateFor is how long after its beginning a month can be restated: package facts keeps leaves for 400 days, and without them everything would be unknown.
const restateFor = 395 * 24 * time.Hour

// qTimeout gives a whole month's facts the time that they take: a minute or so for thousands of miners.
const qTimeout = `SELECT set_config('statement_timeout', '600s', true)`

func (s *Store) restate(ctx context.Context, tx pgx.Tx, o *Restatement, before *Issued, now time.Time) (hash evidence.Hash, err error) {
	in, err := s.inputs(ctx, tx, o.Contract, o.Month)
	if err != nil {
		return hash, err
	}
	in.AsOfMS = now.UnixMilli()
	if !o.AcceptUntil.IsZero() {
		in.AcceptUntilMS = o.AcceptUntil.UnixMilli()
	}
	rules, err := newRules(in)
	if err != nil {
		return hash, err
	}
	if rules == nil {
		return hash, apperr.E(apperr.Conflict, "CONFLICT_001", "nothing is contracted in %s any more: restore the contract's terms and miners from a backup", o.Month)
	}
	hours, err := s.hours(ctx, tx, rules, o.Month, now)
	if err != nil {
		return hash, err
	}
	// The kept days become those of this statement: slot maps and the next restatement follow it.
	if err := s.makeGroups(ctx, tx, o.Contract, o.Month.FirstDay(), (o.Month + 1).FirstDay()); err != nil {
		return hash, err
	}
	rows, err := tx.Query(ctx, qLockGroups, o.Contract, o.Month.FirstDay(), (o.Month + 1).FirstDay())
	if err != nil {
		return hash, err
	}
	groups, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (g group, err error) { return g, r.Scan(&g.day, (*[16]byte)(&g.site)) })
	if err != nil {
		return hash, err
	}
	for _, g := range groups {
		if err := s.computeGroup(ctx, tx, o.Contract, rules, g, now); err != nil {
			return hash, fmt.Errorf("site %s, %s: %w", g.site, dayName(g.day), err)
		}
	}
	kept, err := keptDays(ctx, tx, qMonth, now, o.Contract, o.Month.FirstDay(), (o.Month + 1).FirstDay(), math.MaxInt32)
	if err != nil {
		return hash, err
	}
	issue := sla.Issue{Supersedes: sla.HexHash(before.Hash), Reason: o.Reason, Hours: hours}
	result, err := rules.Month(kept)
	if err != nil {
		return hash, err
	}
	st, err := rules.NewStatement(&result, issue)
	if err != nil {
		return hash, apperr.E(apperr.Invalid, "VALID_001", "%w", err)
	}
	old, err := sla.ParseStatement(before.Bytes)
	if err != nil {
		return hash, err
	}
	if nothing(old, st) {
		return hash, apperr.E(apperr.Conflict, "CONFLICT_001", "a statement of now would say what the one before says: no fact, excuse or term has changed for it")
	}
	return s.keep(ctx, tx, st, &result, before.Seq+1, o.By)
}

// nothing reports whether a statement says the same as the one before.
func nothing(old, now *sla.Statement) bool {
	same := *now
	same.IssuedMS, same.AcceptUntilMS, same.Supersedes, same.Reason = old.IssuedMS, old.AcceptUntilMS, old.Supersedes, old.Reason
	return same.Hash() == old.Hash()
}

// Changes is what a restatement changed: new minus old.
type Changes struct {
	AvailabilityPPM       *int64 // nil where one has none
	CreditBP, CreditMinor int64
	Slots                 SlotCounts
	Miners, Hours         int      // that changed, appeared or went
	Inputs                []string // terms, assignments and excuses that did
}

func changes(old, now *sla.Statement) *Changes {
	c := &Changes{CreditBP: now.Credit.BP - old.Credit.BP, CreditMinor: now.Credit.Minor - old.Credit.Minor, Inputs: []string{}}
	if now.Result.Den != (sla.Sum{}) && old.Result.Den != (sla.Sum{}) {
		d := now.Result.PPM - old.Result.PPM
		c.AvailabilityPPM = &d
	}
	a, b := now.Totals.Slots.Counts(), old.Totals.Slots.Counts()
	for i := range a {
		a[i] -= b[i]
	}
	c.Slots = countsOf(&a)
	c.Miners = differing(old.Miners, now.Miners, func(l sla.StatementLine) sla.MinerKey { return sla.MinerKey{Site: l.Site, Miner: l.Miner} }, nil)
	type hour struct {
		site  ident.SiteID
		hour  uint32
		spool ident.SpoolID
	}
	c.Hours = differing(old.Hours, now.Hours, func(h sla.HourRef) hour { return hour{h.Site, h.Hour, h.Spool} }, nil)
	name := func(format string) func(any) {
		return func(id any) { c.Inputs = append(c.Inputs, fmt.Sprintf(format, id)) }
	}
	differing(old.Terms, now.Terms, func(t sla.TermsRef) int { return t.Version }, name("terms version %d"))
	differing(old.Assignments, now.Assignments, func(r sla.RecordRef) ident.UUID { return r.ID }, name("assignment %s"))
	differing(old.Excuses, now.Excuses, func(r sla.ExcuseRef) ident.UUID { return r.ID }, name("excuse %s"))
	if len(c.Inputs) > maxInputs {
		c.Inputs = append(c.Inputs[:maxInputs], fmt.Sprintf("and %d more", len(c.Inputs)-maxInputs))
	}
	return c
}

// maxInputs bounds how many changed inputs are named.
const maxInputs = 100

// differing counts what is in only one of two lists, or different in both, and names each.
func differing[T comparable, K comparable](old, now []T, key func(T) K, name func(any)) (n int) {
	before := make(map[K]T, len(old))
	for _, v := range old {
		before[key(v)] = v
	}
	tell := func(k K) {
		n++
		if name != nil {
			name(k)
		}
	}
	for _, v := range now {
		k := key(v)
		if b, ok := before[k]; !ok || b != v {
			tell(k)
		}
		delete(before, k)
	}
	for _, v := range slices.Backward(old) {
		if _, gone := before[key(v)]; gone {
			tell(key(v))
		}
	}
	return n
}
