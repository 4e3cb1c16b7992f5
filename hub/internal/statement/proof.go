package statement

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/pkg/evidence"
)

// Whether a customer's contract held a slot of a miner's hour from $4 to $5. A slot belongs to whom the miner belongs to at its start.
const qHadHour = `
SELECT EXISTS (SELECT FROM contract_miner a JOIN contract c ON c.id = a.contract_id
WHERE a.site_id = $1 AND a.miner_id = $2 AND c.customer_id = $3
	AND greatest((a.from_ms + 299999) / 300000 * 300000, $4::bigint) < least((a.to_ms + 299999) / 300000 * 300000, $5::bigint))`

// MayReadHour refuses a miner's hour that is none of the scope's business: one in which no contract of the customer held a slot of it. Such an hour, and a
// miner that does not exist, answer alike. The operator may read every hour.
func (s *Store) MayReadHour(ctx context.Context, scope Scope, m Miner, hour uint32) error {
	customer := scope.customer()
	if customer == nil {
		return nil
	}
	begin := int64(hour) * evidence.HourMS
	var ok bool
	if err := s.c.Pool.QueryRow(ctx, qHadHour, m.Site, m.Miner, customer, begin, begin+evidence.HourMS).Scan(&ok); err != nil {
		return fmt.Errorf("looking for a contract that had a miner in an hour: %w", err)
	}
	if !ok {
		return NoHour(m, hour)
	}
	return nil
}

// NoHour is the answer for a miner's hour of which nothing is signed, or which the reader may not see.
func NoHour(m Miner, hour uint32) error {
	return apperr.E(apperr.NotFound, "NOTFOUND_001", "of miner %s of site %s no facts are signed for the hour from %s", m.Miner, m.Site, time.Unix(int64(hour)*3600, 0).UTC().Format(time.RFC3339))
}

// Made is a statement with what it was made from, each as the statement names it and in its order.
type Made struct {
	Issued
	Statement   *sla.Statement
	Terms       []sla.Terms
	Assignments []sla.Assignment // as within the month
	Excuses     []sla.Excuse
}

// Made returns a statement with its inputs, of which each is compared with what the statement names: one that has changed since is an error.
func (s *Store) Made(ctx context.Context, scope Scope, hash evidence.Hash) (m Made, err error) {
	if m.Issued, err = s.statement(ctx, s.c.Pool, scope, hash); err != nil {
		return m, err
	}
	if m.Statement, err = sla.ParseStatement(m.Bytes); err != nil {
		return m, err
	}
	in, err := s.inputs(ctx, s.c.Pool, m.Contract, m.Month)
	if err != nil {
		return m, err
	}
	in.Engine, in.AsOfMS, in.AcceptUntilMS = m.Statement.Engine, m.Statement.IssuedMS, m.Statement.AcceptUntilMS
	rules, err := newRules(in)
	if err != nil {
		return m, err
	}
	if rules == nil {
		return m, changed("contract's terms and miners")
	}
	m.Terms, m.Assignments, m.Excuses = rules.Terms(), rules.Assignments(), rules.Excuses()
	st := m.Statement
	if !slices.EqualFunc(m.Terms, st.Terms, func(t sla.Terms, r sla.TermsRef) bool {
		return t.Version == r.Version && sla.HexHash(t.Hash()) == r.Hash
	}) {
		return m, changed("contract's terms")
	}
	if !slices.EqualFunc(m.Assignments, st.Assignments, func(a sla.Assignment, r sla.RecordRef) bool { return a.ID == r.ID && sla.HexHash(a.Hash()) == r.Hash }) {
		return m, changed("contract's miners")
	}
	if !slices.EqualFunc(m.Excuses, st.Excuses, func(x sla.Excuse, r sla.ExcuseRef) bool { return x.ID == r.ID && sla.HexHash(x.Hash()) == r.Hash }) {
		return m, changed("excuses")
	}
	return m, nil
}

func changed(what string) error {
	return apperr.E(apperr.Conflict, "CONFLICT_001", "the %s in the database are not those that the statement was made from: hashinsight-hub statement recompute shows the difference", what)
}
