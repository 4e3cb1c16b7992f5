package customer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/proof"
)

// Contract is what was agreed with a customer. Its terms are versions.
type Contract struct {
	ID           uuid.UUID
	Customer     uuid.UUID
	CustomerName string
	Name         string
	CreatedAt    time.Time
}

// VisibleTo reports whether a key of a customer may read the contract; the zero customer stands for the operator's keys.
func (c *Contract) VisibleTo(customer uuid.UUID) bool {
	return customer == uuid.Nil || customer == c.Customer
}

// Version is one version of a contract's terms, as it was recorded.
type Version struct {
	sla.Terms
	Hash       evidence.Hash
	RecordedAt time.Time
	RecordedBy string // as in the audit log
}

// Site names a site that a contract has, or had, miners at.
type Site struct {
	ID   ident.SiteID
	Name string
}

// Summary is a contract as lists show it.
type Summary struct {
	Contract
	Terms  sla.Terms // in force now; before the first version begins, that one
	Miners int64     // that belong to it now
	Sites  []Site    // by name
}

const contractColumns = `SELECT c.id, c.customer_id, u.name, c.name, c.created_at FROM contract c JOIN customer u ON u.id = c.customer_id `

const (
	qContract  = contractColumns + `WHERE c.id = $1`
	qContracts = contractColumns + `ORDER BY c.id LIMIT $1`
	// The terms in force at $1, else the first; who belongs to it at $1; every site that it has or had miners at.
	summaryColumns = `SELECT c.id, c.customer_id, u.name, c.name, c.created_at, v.terms, v.hash,
		(SELECT count(*) FROM contract_miner m WHERE m.contract_id = c.id AND m.from_ms <= $1 AND (m.to_ms IS NULL OR m.to_ms > $1)),
		coalesce((SELECT array_agg(s.id ORDER BY s.name) FROM site s WHERE s.id IN (SELECT m.site_id FROM contract_miner m WHERE m.contract_id = c.id)), '{}'),
		coalesce((SELECT array_agg(s.name ORDER BY s.name) FROM site s WHERE s.id IN (SELECT m.site_id FROM contract_miner m WHERE m.contract_id = c.id)), '{}')
	FROM contract c JOIN customer u ON u.id = c.customer_id
	JOIN LATERAL (SELECT terms, hash FROM contract_version v WHERE v.contract_id = c.id ORDER BY v.from_ms <= $1 DESC, CASE WHEN v.from_ms <= $1 THEN -v.from_ms ELSE v.from_ms END LIMIT 1) v ON true `
	qSummary   = summaryColumns + `WHERE c.id = $2`
	qSummaries = summaryColumns + `WHERE (c.name, c.id) > ($2, $3) AND ($4::uuid IS NULL OR c.customer_id = $4) ORDER BY c.name, c.id LIMIT $5`

	qCountContracts = `SELECT count(*) FROM contract WHERE customer_id = $1`
	qAddContract    = `INSERT INTO contract (id, customer_id, name, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT (customer_id, name) DO NOTHING`
	qContractNamed  = `SELECT id FROM contract WHERE customer_id = $1 AND name = $2`
	qAddVersion     = `INSERT INTO contract_version (contract_id, version, from_ms, terms, hash, recorded_at, recorded_by) VALUES ($1, $2, $3, $4, $5, $6, $7)`
	qVersions       = `SELECT version, terms, hash, recorded_at, recorded_by FROM contract_version WHERE contract_id = $1 ORDER BY version LIMIT $2`
)

func scanContract(row pgx.CollectableRow) (c Contract, err error) {
	err = row.Scan(&c.ID, &c.Customer, &c.CustomerName, &c.Name, &c.CreatedAt)
	c.CreatedAt = c.CreatedAt.UTC()
	return c, err
}

func noContract(id uuid.UUID) error {
	return apperr.E(apperr.NotFound, "NOTFOUND_001", "contract %s does not exist", id)
}

// Contract returns one contract.
func (s *Store) Contract(ctx context.Context, q Querier, id uuid.UUID) (Contract, error) {
	rows, err := s.reader(q).Query(ctx, qContract, id)
	if err != nil {
		return Contract{}, fmt.Errorf("reading contract %s: %w", id, err)
	}
	c, err := pgx.CollectExactlyOneRow(rows, scanContract)
	if errors.Is(err, pgx.ErrNoRows) {
		return Contract{}, noContract(id)
	}
	if err != nil {
		return Contract{}, fmt.Errorf("reading contract %s: %w", id, err)
	}
	return c, nil
}

// Contracts returns all contracts, in order of their ids.
func (s *Store) Contracts(ctx context.Context, q Querier) ([]Contract, error) {
	rows, err := s.reader(q).Query(ctx, qContracts, MaxCustomers*MaxContracts)
	if err != nil {
		return nil, fmt.Errorf("reading contracts: %w", err)
	}
	all, err := pgx.CollectRows(rows, scanContract)
	if err != nil {
		return nil, fmt.Errorf("reading contracts: %w", err)
	}
	return all, nil
}

func scanSummary(row pgx.CollectableRow) (c Summary, err error) {
	var terms, hash []byte
	var sites [][16]byte
	var names []string
	if err = row.Scan(&c.ID, &c.Customer, &c.CustomerName, &c.Name, &c.CreatedAt, &terms, &hash, &c.Miners, &sites, &names); err != nil {
		return c, err
	}
	c.CreatedAt = c.CreatedAt.UTC()
	for i, id := range sites {
		c.Sites = append(c.Sites, Site{ID: id, Name: names[i]})
	}
	c.Terms, err = termsOf(c.ID, terms, hash)
	return c, err
}

// termsOf decodes stored terms, which must still be what was recorded: statements name their hash.
func termsOf(contract uuid.UUID, terms, hash []byte) (sla.Terms, error) {
	t, err := sla.ParseTerms(terms)
	if err != nil {
		return t, fmt.Errorf("the stored terms of contract %s: %w", contract, err)
	}
	if h := t.Hash(); !bytes.Equal(h[:], hash) || uuid.UUID(t.Contract) != contract {
		return t, fmt.Errorf("the stored terms of contract %s, version %d, are not those that were recorded: restore the table contract_version from a backup", contract, t.Version)
	}
	return t, nil
}

// Summary returns one contract as lists show it.
func (s *Store) Summary(ctx context.Context, id uuid.UUID) (Summary, error) {
	rows, err := s.c.DB.Query(ctx, qSummary, s.c.Now().UnixMilli(), id)
	if err != nil {
		return Summary{}, fmt.Errorf("reading contract %s: %w", id, err)
	}
	c, err := pgx.CollectExactlyOneRow(rows, scanSummary)
	if errors.Is(err, pgx.ErrNoRows) {
		return Summary{}, noContract(id)
	}
	if err != nil {
		return Summary{}, fmt.Errorf("reading contract %s: %w", id, err)
	}
	return c, nil
}

// Summaries lists the contracts of one customer, or with the zero customer of all, by name, after a place.
func (s *Store) Summaries(ctx context.Context, customer uuid.UUID, after Place, limit int) ([]Summary, error) {
	rows, err := s.c.DB.Query(ctx, qSummaries, s.c.Now().UnixMilli(), after.Name, after.ID, orNull(customer), page(limit))
	if err != nil {
		return nil, fmt.Errorf("listing contracts: %w", err)
	}
	all, err := pgx.CollectRows(rows, scanSummary)
	if err != nil {
		return nil, fmt.Errorf("listing contracts: %w", err)
	}
	return all, nil
}

func orNull(id uuid.UUID) *uuid.UUID {
	if id == uuid.Nil {
		return nil
	}
	return &id
}

// Recorded returns the versions of a contract's terms, the first first, with who recorded them when.
func (s *Store) Recorded(ctx context.Context, q Querier, contract uuid.UUID) ([]Version, error) {
	rows, err := s.reader(q).Query(ctx, qVersions, contract, MaxVersions)
	if err != nil {
		return nil, fmt.Errorf("reading the terms of contract %s: %w", contract, err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (v Version, err error) {
		var number int
		var terms, hash []byte
		if err = row.Scan(&number, &terms, &hash, &v.RecordedAt, &v.RecordedBy); err != nil {
			return v, err
		}
		v.RecordedAt = v.RecordedAt.UTC()
		copy(v.Hash[:], hash)
		v.Terms, err = termsOf(contract, terms, hash)
		return v, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the terms of contract %s: %w", contract, err)
	}
	return all, nil
}

// Versions returns the versions of a contract's terms, the first first.
func (s *Store) Versions(ctx context.Context, q Querier, contract uuid.UUID) ([]sla.Terms, error) {
	all, err := s.Recorded(ctx, q, contract)
	if err != nil {
		return nil, err
	}
	terms := make([]sla.Terms, len(all))
	for i := range all {
		terms[i] = all[i].Terms
	}
	return terms, nil
}

// AddContract adds a contract with its first terms, whose ids and version it fills in; FromMS 0 means now. A name that the customer has a contract of
// already is refused, and that one named: so a repeated order does no harm.
func (s *Store) AddContract(ctx context.Context, by access.Actor, customer uuid.UUID, name string, t sla.Terms) (c Contract, v Version, err error) {
	if name, err = nameOf("contract", name); err != nil {
		return c, v, err
	}
	err = s.change(ctx, by, func(tx pgx.Tx, now time.Time) error {
		u, err := s.Customer(ctx, tx, customer)
		if err != nil {
			return err
		}
		var n int
		if err := tx.QueryRow(ctx, qCountContracts, customer).Scan(&n); err != nil {
			return fmt.Errorf("counting contracts: %w", err)
		}
		if n >= MaxContracts {
			return conflict("customer %q has %d contracts, which is all that one may have", u.Name, n)
		}
		c = Contract{ID: uuid.New(), Customer: customer, CustomerName: u.Name, Name: name, CreatedAt: now}
		tag, err := tx.Exec(ctx, qAddContract, c.ID, customer, name, now)
		if err != nil {
			return fmt.Errorf("adding a contract: %w", err)
		}
		if tag.RowsAffected() == 0 {
			var other uuid.UUID
			if err := tx.QueryRow(ctx, qContractNamed, customer, name).Scan(&other); err != nil {
				return fmt.Errorf("looking for the contract: %w", err)
			}
			return conflict("customer %q has a contract %q already, with the id %s: amend that one, or choose another name", u.Name, name, other)
		}
		if v, err = s.addVersion(ctx, tx, by, &c, t, 1, now); err != nil {
			return err
		}
		return s.record(ctx, tx, by, "contract_added", versionDetails(&c, &v))
	})
	return c, v, err
}

// Amend adds a version of a contract's terms, made from the last one by change; FromMS 0 means now. It must begin after that one, not in a month of
// which a statement has been issued, and unless the contract is new for no slot that is over. What the last version says already adds nothing.
func (s *Store) Amend(ctx context.Context, by access.Actor, contract uuid.UUID, change func(last sla.Terms) sla.Terms) (c Contract, v Version, err error) {
	err = s.change(ctx, by, func(tx pgx.Tx, now time.Time) error {
		if err := Lock(ctx, tx, contract); err != nil {
			return err
		}
		if c, err = s.Contract(ctx, tx, contract); err != nil {
			return err
		}
		all, err := s.Recorded(ctx, tx, contract)
		if err != nil {
			return err
		}
		last := all[len(all)-1]
		t := change(last.Terms)
		if t.Contract, t.Customer, t.Version = ident.UUID(c.ID), ident.UUID(c.Customer), last.Version; t.FromMS != 0 && t.Hash() == last.Hash {
			v = last
			return nil
		}
		if len(all) >= MaxVersions {
			return conflict("contract %q has %d versions, which is all that one may have: make a new contract", c.Name, len(all))
		}
		if t.FromMS == 0 {
			t.FromMS = now.UnixMilli()
		}
		if t.FromMS <= last.FromMS {
			return conflict("version %d of contract %q holds from %s on: the next one must begin after that", last.Version, c.Name, text(last.FromMS))
		}
		if err := s.open(ctx, tx, contract, t.FromMS, 0, now); err != nil {
			return err
		}
		if err := s.ahead(ctx, tx, contract, "from", t.FromMS, now); err != nil {
			return err
		}
		if v, err = s.addVersion(ctx, tx, by, &c, t, last.Version+1, now); err != nil {
			return err
		}
		if err := s.c.Changed(ctx, tx, contract, t.FromMS, 0); err != nil {
			return err
		}
		return s.record(ctx, tx, by, "contract_amended", versionDetails(&c, &v))
	})
	return c, v, err
}

func versionDetails(c *Contract, v *Version) map[string]any {
	return map[string]any{
		"customer_id": c.Customer.String(), "contract_id": c.ID.String(), "contract": c.Name, "version": v.Version, "from": text(v.FromMS),
		"terms": string(v.Canonical()), "hash": fmt.Sprintf("%x", v.Hash),
	}
}

func (s *Store) addVersion(ctx context.Context, tx pgx.Tx, by access.Actor, c *Contract, t sla.Terms, number int, now time.Time) (Version, error) {
	t.Contract, t.Customer, t.Version = ident.UUID(c.ID), ident.UUID(c.Customer), number
	if t.FromMS == 0 {
		t.FromMS = now.UnixMilli()
	}
	if err := begins("from", t.FromMS, now); err != nil {
		return Version{}, err
	}
	if err := t.Check(); err != nil {
		return Version{}, invalid("terms: %w", err)
	}
	v := Version{Terms: t, Hash: t.Hash(), RecordedAt: now, RecordedBy: by.ID}
	if _, err := tx.Exec(ctx, qAddVersion, c.ID, number, t.FromMS, t.Canonical(), v.Hash[:], now, by.ID); err != nil {
		return v, fmt.Errorf("adding version %d of contract %s: %w", number, c.ID, err)
	}
	entry := proof.TermsBody{Contract: c.ID, Version: uint32(number), Hash: v.Hash}
	return v, s.c.Note(ctx, tx, entry.Entry(now.UnixMilli()))
}
