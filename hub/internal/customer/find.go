package customer

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// What people name on the command line.

const (
	qFindCustomer = `SELECT id FROM customer WHERE id::text = $1 OR name = $1 LIMIT 2`
	qFindContract = `SELECT id FROM contract WHERE id::text = $1 OR name = $1 LIMIT 2`
	qFindSite     = `SELECT id FROM site WHERE id::text = $1 OR name = $1 LIMIT 2`
	qSiteMiners   = `SELECT id FROM miner WHERE site_id = $1 ORDER BY id LIMIT $2`
)

func (s *Store) find(ctx context.Context, sql, what, list, text string) (uuid.UUID, error) {
	rows, err := s.c.DB.Query(ctx, sql, text)
	if err != nil {
		return uuid.Nil, fmt.Errorf("looking for %s: %w", what, err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	switch {
	case err != nil:
		return uuid.Nil, fmt.Errorf("looking for %s: %w", what, err)
	case len(ids) == 0:
		return uuid.Nil, apperr.E(apperr.NotFound, "NOTFOUND_001", "there is no %s with the name or id %.100q: hashinsight-hub %s shows them", what, text, list)
	case len(ids) > 1:
		return uuid.Nil, conflict("several have the name %.100q: name the %s by its id, which hashinsight-hub %s shows", text, what, list)
	}
	return ids[0], nil
}

// FindCustomer returns the customer with an id or a name.
func (s *Store) FindCustomer(ctx context.Context, text string) (uuid.UUID, error) {
	return s.find(ctx, qFindCustomer, "customer", "customer list", text)
}

// FindContract returns the contract with an id, or with a name that no other customer's has.
func (s *Store) FindContract(ctx context.Context, text string) (uuid.UUID, error) {
	return s.find(ctx, qFindContract, "contract", "contract list", text)
}

// FindSite returns the site with an id or a name.
func (s *Store) FindSite(ctx context.Context, text string) (ident.SiteID, error) {
	id, err := s.find(ctx, qFindSite, "site", "site list", text)
	return ident.SiteID(id), err
}

// SiteMiners returns the miners that the hub knows of a site; more than one order may name is an error of that order.
func (s *Store) SiteMiners(ctx context.Context, site ident.SiteID) ([]ident.MinerID, error) {
	rows, err := s.c.DB.Query(ctx, qSiteMiners, site, 10*MaxBatch)
	if err != nil {
		return nil, fmt.Errorf("reading the miners of site %s: %w", site, err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (id ident.MinerID, err error) {
		err = row.Scan((*[16]byte)(&id))
		return id, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the miners of site %s: %w", site, err)
	}
	return all, nil
}
