package facts

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/internal/pki"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// MaxSalts is how many salt keys one call takes: with more, its message would be longer than the enrolment service takes.
const MaxSalts = 1000

// maxSiteSalts is how many salt keys a site may have: those of miners that were replaced stay, or their leaves could not be opened.
const maxSiteSalts = 200_000

// SaltKey hides the leaves of one miner. It is secret.
type SaltKey struct {
	Miner ident.MinerID
	Key   [32]byte
}

// ErrOtherSalt means that a miner has another salt key already. A key that could change would make leaves unreadable that were signed with it.
var ErrOtherSalt = errors.New("another salt key of this miner is kept")

const (
	qSalts    = `SELECT miner_id, sealed FROM miner_salt WHERE site_id = $1 AND miner_id = ANY($2::uuid[])`
	qAddSalts = `
INSERT INTO miner_salt (site_id, miner_id, sealed, added_at) SELECT $1, u.miner_id, u.sealed, $4 FROM unnest($2::uuid[], $3::bytea[]) u (miner_id, sealed)
ON CONFLICT DO NOTHING`
	qSaltCount = `SELECT count(*) FROM miner_salt WHERE site_id = $1`
	// qWake has hours looked at that wait for salt keys of the site.
	qWake = `UPDATE site_hour SET look_at = $2 WHERE site_id = $1 AND look_at > $2 AND reason LIKE 'salt keys%'`
)

// saltName says which row a sealed key belongs to, so that rows cannot be exchanged.
func saltName(site ident.SiteID, miner ident.MinerID) string {
	return "salt/" + site.String() + "/" + miner.String()
}

// KeepSalts keeps a site's salt keys. Those that it has stay as they are; if one of them is another, nothing of the call is kept and the error is
// ErrOtherSalt. The caller has authenticated the site.
func (s *Store) KeepSalts(ctx context.Context, site ident.SiteID, keys []SaltKey) error {
	if len(keys) == 0 || len(keys) > MaxSalts {
		return apperr.E(apperr.Invalid, "VALID_001", "%d salt keys, want 1 to %d", len(keys), MaxSalts)
	}
	if s.c.Password == "" {
		return errors.New("facts: keeping salt keys needs ENCRYPTION_PASSWORD")
	}
	keys = slices.Clone(keys)
	slices.SortFunc(keys, func(a, b SaltKey) int { return a.Miner.Compare(b.Miner) }) // of two calls at once none waits for the other for good
	for i := range keys {
		switch {
		case keys[i].Miner == (ident.MinerID{}) || keys[i].Key == [32]byte{}:
			return apperr.E(apperr.Invalid, "VALID_001", "a salt key of 32 zeros, or of no miner")
		case i > 0 && keys[i].Miner == keys[i-1].Miner:
			return apperr.E(apperr.Invalid, "VALID_001", "two salt keys of miner %s in one call", keys[i].Miner)
		}
	}
	return pg.InTx(ctx, s.c.Agents, func(tx pgx.Tx) error {
		fresh, err := s.unkept(ctx, tx, site, keys)
		if err != nil || len(fresh) == 0 {
			return err
		}
		var kept int
		if err := tx.QueryRow(ctx, qSaltCount, site).Scan(&kept); err != nil {
			return fmt.Errorf("counting salt keys: %w", err)
		}
		if kept+len(fresh) > maxSiteSalts {
			s.metrics.bounds.WithLabelValues(boundSalts).Inc()
			return apperr.E(apperr.Conflict, "CONFLICT_001", "site %s has %d salt keys, at most %d are kept: no site has so many miners", site, kept, maxSiteSalts)
		}
		miners, sealed := make([]ident.MinerID, len(fresh)), make([][]byte, len(fresh))
		for i, k := range fresh {
			miners[i] = k.Miner
			if sealed[i], err = pki.Seal(s.c.Password, saltName(site, k.Miner), k.Key[:]); err != nil {
				return fmt.Errorf("sealing a salt key: %w", err)
			}
		}
		now := s.c.Now().UTC()
		tag, err := tx.Exec(ctx, qAddSalts, site, miners, sealed, now)
		if err != nil {
			return fmt.Errorf("keeping salt keys: %w", err)
		}
		if tag.RowsAffected() != int64(len(fresh)) { // another call has brought some of them since
			if _, err := s.unkept(ctx, tx, site, fresh); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, qWake, site, now); err != nil {
			return fmt.Errorf("waking hours that wait for salt keys: %w", err)
		}
		return nil
	})
}

// unkept returns those of the keys that are not kept; ErrOtherSalt if another one is.
func (s *Store) unkept(ctx context.Context, tx pgx.Tx, site ident.SiteID, keys []SaltKey) (fresh []SaltKey, err error) {
	miners := make([]ident.MinerID, len(keys))
	for i := range keys {
		miners[i] = keys[i].Miner
	}
	kept, err := s.salts(ctx, tx, site, miners)
	if err != nil {
		return nil, err
	}
	for i := range keys {
		was, ok := kept[keys[i].Miner]
		switch {
		case !ok:
			fresh = append(fresh, keys[i])
		case subtle.ConstantTimeCompare(was[:], keys[i].Key[:]) != 1:
			return nil, fmt.Errorf("miner %s: %w", keys[i].Miner, ErrOtherSalt)
		}
	}
	return fresh, nil
}

// salts opens the kept salt keys of miners.
func (s *Store) salts(ctx context.Context, q querier, site ident.SiteID, miners []ident.MinerID) (map[ident.MinerID][32]byte, error) {
	rows, err := q.Query(ctx, qSalts, site, miners)
	if err != nil {
		return nil, fmt.Errorf("reading salt keys: %w", err)
	}
	out := make(map[ident.MinerID][32]byte, len(miners))
	var m ident.MinerID
	var sealed []byte
	_, err = pgx.ForEachRow(rows, []any{(*[16]byte)(&m), &sealed}, func() error {
		plain, err := pki.Unseal(s.c.Password, saltName(site, m), sealed)
		if err != nil {
			return err
		}
		if len(plain) != 32 {
			return fmt.Errorf("the salt key of miner %s has %d bytes", m, len(plain))
		}
		out[m] = [32]byte(plain)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading salt keys: %w", err)
	}
	return out, nil
}

// salt puts the salts into the leaves of an hour. It returns how many have no key, and one of their miners.
func (s *Store) salt(ctx context.Context, q querier, leaves []evidence.Leaf) (missing int, miner ident.MinerID, err error) {
	var miners []ident.MinerID
	for page := range slices.Chunk(leaves, MaxSalts) {
		miners = miners[:0]
		for i := range page {
			miners = append(miners, page[i].Miner)
		}
		keys, err := s.salts(ctx, q, page[0].Site, miners)
		if err != nil {
			return 0, miner, err
		}
		for i := range page {
			key, ok := keys[page[i].Miner]
			if !ok {
				missing, miner = missing+1, page[i].Miner
				continue
			}
			page[i].Salt = evidence.SaltOf(key, page[i].Hour)
		}
	}
	return missing, miner, nil
}

// byMiner orders leaves as their tree's pages.
func byMiner(a, b evidence.Leaf) int { return bytes.Compare(a.Miner[:], b.Miner[:]) }
