package statement

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Line is a statement in a list.
type Line struct {
	Hash                     evidence.Hash
	Contract, Customer       uuid.UUID
	ContractName             string
	Month                    sla.CalendarMonth
	Seq                      int // 1 is the first of the month
	IssuedAt                 time.Time
	AcceptUntil              time.Time // zero: the terms' deadline
	Key                      ident.KeyID
	Supersedes, SupersededBy evidence.Hash // zero: none
	Reason                   string
	AvailabilityPPM          *int64 // nil: nothing was due
	Met                      bool
	CreditBP, CreditMinor    int64
	Currency                 string
}

// Place is a place in a list of statements.
type Place struct {
	At   time.Time
	Hash evidence.Hash
}

// Place returns where the list goes on after the line.
func (l *Line) Place() Place { return Place{l.IssuedAt, l.Hash} }

// String returns the form that ParsePlace reads.
func (p Place) String() string {
	return strconv.FormatInt(p.At.UnixMicro(), 10) + "." + hex.EncodeToString(p.Hash[:])
}

// ParsePlace reads a place.
func ParsePlace(text string) (p Place, err error) {
	at, hash, _ := strings.Cut(text, ".")
	us, err := strconv.ParseInt(at, 10, 64)
	b, herr := hex.DecodeString(hash)
	if err != nil || herr != nil || len(b) != len(p.Hash) || us <= 0 || us > sla.MaxMS*1000 {
		return p, errors.New("this is no place in a list of statements")
	}
	return Place{time.UnixMicro(us).UTC(), evidence.Hash(b)}, nil
}

// Filter chooses statements.
type Filter struct {
	Contract uuid.UUID // nil: all
	Before   Place     // zero: from the newest on
	Limit    int
}

// maxList bounds a list.
const maxList = 1001

// Statements of other customers than $1 are not there; nil is the operator.
const (
	lineColumns = `
SELECT s.hash, s.contract_id, s.customer_id, coalesce(c.name, ''), s.month, s.seq, s.issued_at, s.accept_until, s.key_id, s.supersedes,
	(SELECT n.hash FROM statement n WHERE n.contract_id = s.contract_id AND n.month = s.month AND n.seq = s.seq + 1), s.reason, s.availability_ppm, s.met,
	s.credit_bp, s.credit_minor, s.currency`
	lineFrom    = ` FROM statement s LEFT JOIN contract c ON c.id = s.contract_id WHERE ($1::uuid IS NULL OR s.customer_id = $1)`
	qStatements = lineColumns + lineFrom + ` AND ($2::uuid IS NULL OR s.contract_id = $2) AND ($3::timestamptz IS NULL OR (s.issued_at, s.hash) < ($3, $4::bytea))
ORDER BY s.issued_at DESC, s.hash DESC LIMIT $5`
	qStatement = lineColumns + `, s.bytes, s.signature, s.public_key` + lineFrom + ` AND s.hash = $2`
	qNewest    = lineColumns + `, s.bytes, s.signature, s.public_key` + lineFrom + ` AND s.contract_id = $2 AND s.month = $3 ORDER BY s.seq DESC LIMIT 1`
)

// Statements lists statements, the newest first.
func (s *Store) Statements(ctx context.Context, scope Scope, f Filter) ([]Line, error) {
	var contract *uuid.UUID
	if f.Contract != uuid.Nil {
		if err := s.mayRead(ctx, scope, f.Contract); err != nil {
			return nil, err
		}
		contract = &f.Contract
	}
	var at *time.Time
	if !f.Before.At.IsZero() {
		at = &f.Before.At
	}
	rows, err := s.c.Pool.Query(ctx, qStatements, scope.customer(), contract, at, f.Before.Hash[:], min(max(f.Limit, 1), maxList))
	if err != nil {
		return nil, fmt.Errorf("listing statements: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (l Line, err error) { return l, l.scan(r) })
	if err != nil {
		return nil, fmt.Errorf("listing statements: %w", err)
	}
	return list, nil
}

// scan reads the columns of lineColumns, and further ones.
func (l *Line) scan(r pgx.Row, further ...any) error {
	var hash, key, supersedes, by []byte
	var month int32
	var accept *time.Time
	err := r.Scan(append([]any{&hash, &l.Contract, &l.Customer, &l.ContractName, &month, &l.Seq, &l.IssuedAt, &accept, &key, &supersedes, &by, &l.Reason, &l.AvailabilityPPM, &l.Met,
		&l.CreditBP, &l.CreditMinor, &l.Currency}, further...)...)
	if err != nil {
		return err
	}
	l.Month, l.IssuedAt = sla.CalendarMonth(month), l.IssuedAt.UTC()
	copy(l.Hash[:], hash)
	copy(l.Key[:], key)
	copy(l.Supersedes[:], supersedes)
	copy(l.SupersededBy[:], by)
	if accept != nil {
		l.AcceptUntil = accept.UTC()
	}
	return nil
}

// Issued is a statement as it was signed.
type Issued struct {
	Line
	Bytes, Signature, PublicKey []byte
	Engine                      int
	Changes                     *Changes // of a restatement
}

func (i *Issued) scan(r pgx.Row) error {
	return i.Line.scan(r, &i.Bytes, &i.Signature, &i.PublicKey)
}

// Statement returns one statement; one of another customer is not there.
func (s *Store) Statement(ctx context.Context, scope Scope, hash evidence.Hash) (i Issued, err error) {
	if i, err = s.statement(ctx, s.c.Pool, scope, hash); err != nil {
		return i, err
	}
	now, err := sla.ParseStatement(i.Bytes)
	if err != nil {
		return i, fmt.Errorf("statement %x: %w", hash[:8], err)
	}
	i.Engine = now.Engine
	if i.Supersedes == (evidence.Hash{}) {
		return i, nil
	}
	before, err := s.statement(ctx, s.c.Pool, scope, i.Supersedes)
	if err != nil {
		return i, err
	}
	old, err := sla.ParseStatement(before.Bytes)
	if err != nil {
		return i, fmt.Errorf("statement %x: %w", i.Supersedes[:8], err)
	}
	i.Changes = changes(old, now)
	return i, nil
}

func (s *Store) statement(ctx context.Context, q querier, scope Scope, hash evidence.Hash) (i Issued, err error) {
	if err := i.scan(q.QueryRow(ctx, qStatement, scope.customer(), hash[:])); err != nil {
		if errors.Is(err, pgx.ErrNoRows) {
			return i, apperr.E(apperr.NotFound, "NOTFOUND_001", "there is no such statement")
		}
		return i, fmt.Errorf("reading statement %x: %w", hash[:8], err)
	}
	return i, nil
}

// newest returns the statement of a month that counts; ok is false when none was issued.
func (s *Store) newest(ctx context.Context, q querier, contract uuid.UUID, m sla.CalendarMonth) (i Issued, ok bool, err error) {
	if err := i.scan(q.QueryRow(ctx, qNewest, nil, contract, int32(m))); err != nil {
		if errors.Is(err, pgx.ErrNoRows) {
			return i, false, nil
		}
		return i, false, fmt.Errorf("reading the statement of contract %s for %s: %w", contract, m, err)
	}
	return i, true, nil
}
