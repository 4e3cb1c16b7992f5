package statement

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/customer"
	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/proof"
)

const (
	qUnissued = `
SELECT m.contract_id, m.month FROM sla_month m
WHERE m.month < $1 AND ($2::uuid IS NULL OR m.contract_id = $2) AND NOT EXISTS (SELECT FROM statement s WHERE s.contract_id = m.contract_id AND s.month = m.month)
ORDER BY m.month, m.contract_id LIMIT $3`
	qLockGroups = `SELECT day, site_id FROM sla_group WHERE contract_id = $1 AND day >= $2 AND day < $3 ORDER BY day, site_id FOR UPDATE`
	qIssue      = `
INSERT INTO statement (hash, contract_id, customer_id, month, seq, bytes, signature, key_id, public_key, issued_at, accept_until, supersedes, reason, availability_ppm, met,
	credit_bp, credit_minor, currency)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)`
)

// maxClosing bounds the months of one call of Close, and of a list of those that wait.
const maxClosing = 10_000

// Waiting is a month that is over and has no statement.
type Waiting struct {
	Contract uuid.UUID         `json:"contract_id"`
	Month    sla.CalendarMonth `json:"month"`
	For      []string          `json:"for"` // empty: it is issued next
}

// Waiting lists the months that are over and have no statement, of one contract or, with uuid.Nil, of all, the oldest first.
func (s *Store) Waiting(ctx context.Context, contract uuid.UUID) ([]Waiting, error) {
	list, err := s.unissued(ctx, contract)
	if err != nil {
		return nil, err
	}
	now := s.c.Now().UTC()
	due := list[:0]
	for _, w := range list {
		rules, err := s.rules(ctx, s.c.Pool, w.Contract, w.Month, now)
		if err != nil {
			return nil, err
		}
		if rules == nil {
			continue // its miners went elsewhere before it began
		}
		if w.For, err = s.waits(ctx, s.c.Pool, w.Contract, w.Month, rules, now); err != nil {
			return nil, err
		}
		due = append(due, w)
	}
	return due, nil
}

func (s *Store) unissued(ctx context.Context, contract uuid.UUID) ([]Waiting, error) {
	now := s.c.Now().UTC()
	rows, err := s.jobs.Query(ctx, qUnissued, int32(sla.MonthOf(now.UnixMilli())), Scope{contract}.customer(), maxClosing)
	if err != nil {
		return nil, fmt.Errorf("finding months without a statement: %w", err)
	}
	list := []Waiting{}
	var w Waiting
	var m int32
	if _, err := pgx.ForEachRow(rows, []any{&w.Contract, &m}, func() error {
		w.Month = sla.CalendarMonth(m)
		list = append(list, w)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("finding months without a statement: %w", err)
	}
	return list, nil
}

// rules makes the rules of a month as of a time; nil when nothing is contracted in it.
func (s *Store) rules(ctx context.Context, q customer.Querier, contract uuid.UUID, m sla.CalendarMonth, at time.Time) (*sla.Rules, error) {
	in, err := s.inputs(ctx, q, contract, m)
	if err != nil {
		return nil, err
	}
	in.AsOfMS = at.UnixMilli()
	return newRules(in)
}

// Close issues the statements of months that have closed and wait for nothing. It is safe to call at any time by any number of hubs: one statement is issued
// for a month, and only while this process has the hub's evidence key. An error tells of what failed; the rest is done.
func (s *Store) Close(ctx context.Context, now time.Time) error {
	list, err := s.unissued(ctx, uuid.Nil)
	if err != nil {
		return err
	}
	var errs []error
	waiting := 0
	for _, w := range list {
		if now.Before(time.UnixMilli(w.Month.ToMS()).Add(closeAfter)) {
			continue
		}
		_, err := s.issue(ctx, w.Contract, w.Month, now, "")
		var waits *WaitsError
		switch {
		case errors.As(err, &waits):
			if waits.due {
				waiting++
			}
		case ctx.Err() != nil:
			return errors.Join(append(errs, ctx.Err())...)
		case err != nil:
			waiting++
			s.metrics.failed.Inc()
			errs = append(errs, err)
		}
	}
	s.metrics.waiting.Set(float64(waiting))
	return errors.Join(errs...)
}

// WaitsError says what a statement waits for.
type WaitsError struct {
	For []string
	due bool // its time has come
}

// Error implements error.
func (e *WaitsError) Error() string {
	return "the statement waits for: " + strings.Join(e.For, "; ")
}

// Issue issues the statement of a month for an operator who does not want to wait for the job. What it waits for it does not skip.
func (s *Store) Issue(ctx context.Context, contract uuid.UUID, m sla.CalendarMonth) (evidence.Hash, error) {
	if err := s.mayRead(ctx, Scope{}, contract); err != nil {
		return evidence.Hash{}, err
	}
	now := s.c.Now().UTC()
	if err := s.take(ctx, now); err != nil {
		return evidence.Hash{}, err
	}
	for {
		n, err := s.computeMonth(ctx, contract, m, now)
		if err != nil {
			return evidence.Hash{}, err
		}
		if n == 0 {
			break
		}
	}
	hash, err := s.issue(ctx, contract, m, now, "command")
	var waits *WaitsError
	if errors.As(err, &waits) {
		err = apperr.E(apperr.Conflict, "CONFLICT_001", "%w", waits)
	}
	return hash, err
}

// issue issues the first statement of a month from its kept days, unless it waits for something or there is one.
func (s *Store) issue(ctx context.Context, contract uuid.UUID, m sla.CalendarMonth, now time.Time, by string) (hash evidence.Hash, err error) {
	err = pg.InTx(ctx, s.jobs, func(tx pgx.Tx) error {
		if err := s.hold(ctx, tx, contract, m); err != nil {
			return err
		}
		if before, issued, err := s.newest(ctx, tx, contract, m); err != nil {
			return err
		} else if issued {
			hash = before.Hash
			return nil
		}
		rules, err := s.rules(ctx, tx, contract, m, now)
		if err != nil {
			return err
		}
		if rules == nil {
			return &WaitsError{For: nothingDue}
		}
		hours, err := s.hours(ctx, tx, rules, m, now)
		if err != nil {
			return err
		}
		kept, err := keptDays(ctx, tx, qMonth, now, contract, m.FirstDay(), (m + 1).FirstDay(), (m + 1).FirstDay())
		if err != nil {
			return err
		}
		// Last: facts that have changed since the transaction began have left a note.
		waits, err := s.waits(ctx, tx, contract, m, rules, now)
		if err != nil {
			return err
		}
		if len(waits) > 0 {
			return &WaitsError{waits, now.UnixMilli() > dueMS(rules, m)}
		}
		hash, err = s.put(ctx, tx, rules, kept, sla.Issue{Hours: hours}, 1, by)
		return err
	})
	var waits *WaitsError
	if err != nil && !errors.As(err, &waits) {
		err = fmt.Errorf("the statement of contract %s for %s: %w", contract, m, err)
	}
	return hash, err
}

// hold keeps the inputs of a month as they are until the end of the transaction: nobody changes the contract, and no day is computed again. Facts that change
// meanwhile leave a note, for which s.waits looks after everything else has been read.
func (s *Store) hold(ctx context.Context, tx pgx.Tx, contract uuid.UUID, m sla.CalendarMonth) error {
	if err := customer.Lock(ctx, tx, contract); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, qLockGroups, contract, m.FirstDay(), (m + 1).FirstDay())
	return err
}

// hours are the signed hours that days of a month were judged with.
func (s *Store) hours(ctx context.Context, q querier, rules *sla.Rules, m sla.CalendarMonth, now time.Time) ([]sla.HourRef, error) {
	var list []sla.HourRef
	for _, w := range windows(rules.Assignments(), m) {
		hours, err := s.c.Facts.Hours(ctx, q, w.site, w.first, w.last)
		if err != nil {
			return nil, err
		}
		for i := range hours {
			if h := &hours[i]; (h.State == facts.Agreed || h.State == facts.Disputed) && !h.Received().After(now) {
				list = append(list, hourRef(h))
			}
		}
	}
	return list, nil
}

func hourRef(h *facts.Hour) sla.HourRef {
	state := sla.HourAgreed
	if h.State == facts.Disputed {
		state = sla.HourDisputed
	}
	return sla.HourRef{
		Site: h.Site, Hour: h.Hour, Spool: h.Spool, Root: sla.HexHash(h.Root), HeaderHash: sla.HexHash(h.Header), State: state, Skewed: h.SkewSlots,
		ReceivedMS: h.Received().UnixMilli(),
	}
}

// put adds days up, signs the statement and keeps it, with its audit entry.
func (s *Store) put(ctx context.Context, tx pgx.Tx, rules *sla.Rules, kept []sla.MinerDays, issue sla.Issue, seq int, by string) (hash evidence.Hash, err error) {
	result, err := rules.Month(kept)
	if err != nil {
		return hash, err
	}
	st, err := rules.NewStatement(&result, issue)
	if err != nil {
		return hash, err
	}
	return s.keep(ctx, tx, st, &result, seq, by)
}

func (s *Store) keep(ctx context.Context, tx pgx.Tx, st *sla.Statement, result *sla.MonthResult, seq int, by string) (hash evidence.Hash, err error) {
	key := s.key()
	if key == nil {
		return hash, apperr.E(apperr.Unavailable, "API_004", "this hub process does not have the hub's evidence key, which signs statements")
	}
	public := key.Public().(ed25519.PublicKey) //nolint:forcetypeassert // ed25519 has no other
	b := st.Canonical()
	hash = sha256.Sum256(b)
	keyID := ident.KeyIDOf(public)
	var accept *time.Time
	if st.AcceptUntilMS != 0 {
		t := time.UnixMilli(st.AcceptUntilMS).UTC()
		accept = &t
	}
	var supersedes []byte
	kind := kindFirst
	if st.Supersedes != (sla.HexHash{}) {
		supersedes, kind = bytes.Clone(st.Supersedes[:]), kindRestatement
	}
	var ppm *int64
	if result.Due {
		ppm = &st.Result.PPM
	}
	signature := evidence.SignStatement(key, b)
	if _, err := tx.Exec(ctx, qIssue, hash[:], st.Contract, st.Customer, int32(st.Month), seq, b, signature, keyID[:], []byte(public),
		time.UnixMilli(st.IssuedMS).UTC(), accept, supersedes, st.Reason, ppm, st.Result.Met, st.Credit.BP, st.Credit.Minor, st.Credit.Currency); err != nil {
		return hash, fmt.Errorf("keeping it: %w", err)
	}
	entry := proof.StatementBody{
		Contract: st.Contract, Month: uint32(st.Month), Seq: uint32(seq), Hash: hash, Supersedes: evidence.Hash(st.Supersedes),
		Public: [ed25519.PublicKeySize]byte(public), Signature: [ed25519.SignatureSize]byte(signature),
	}
	if err := s.c.Note(ctx, tx, entry.Entry(st.IssuedMS)); err != nil {
		return hash, err
	}
	details := map[string]any{
		"statement": fmt.Sprintf("%x", hash), "contract_id": st.Contract.String(), "customer_id": st.Customer.String(), "month": st.Month.String(), "seq": seq,
		"availability_ppm": st.Result.PPM, "met": st.Result.Met, "credit_bp": st.Credit.BP, "credit_minor": st.Credit.Minor, "currency": st.Credit.Currency,
	}
	action := "statement_issued"
	if supersedes != nil {
		action = "statement_restated"
		details["supersedes"], details["reason"], details["accept_until_ms"] = st.Supersedes.String(), st.Reason, st.AcceptUntilMS
	}
	if err := s.c.Audit.Add(ctx, tx, audit.Entry{Category: audit.DataAccess, Action: action, UserID: by, Details: details}); err != nil {
		return hash, err
	}
	s.metrics.issued.WithLabelValues(kind).Inc()
	return hash, nil
}
