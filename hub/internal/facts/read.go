package facts

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

const (
	qHours = `SELECT ` + hourColumns + ` FROM site_hour WHERE site_id = $1 AND hour >= $2 AND hour < $3 ORDER BY hour, spool_id`
	qPages = `
SELECT hour, spool_id, miners, payload FROM leaf_page
WHERE site_id = $1 AND hour >= $2 AND hour < $3 ORDER BY hour, spool_id, first_miner`
	qPagesOf = `
SELECT hour, spool_id, miners, payload FROM leaf_page
WHERE site_id = $1 AND hour >= $2 AND hour < $3 AND EXISTS (SELECT FROM unnest($4::uuid[]) m WHERE m >= first_miner AND m <= last_miner) ORDER BY hour, spool_id, first_miner`
	qTake = `
DELETE FROM facts_changed WHERE ctid = ANY(ARRAY(SELECT ctid FROM facts_changed ORDER BY site_id, hour LIMIT $1 FOR UPDATE SKIP LOCKED))
RETURNING site_id, hour`
)

// maxHours bounds the hours of one question: a month and what lies around it.
const maxHours = 24 * 64

// fewMiners is up to how many miners their pages are looked for; of more, all pages are read.
const fewMiners = 32

// Hours returns a site's signed hours from <= hour < to of all chains, in order of (hour, chain). It asks for 64 days at most.
func (s *Store) Hours(ctx context.Context, q querier, site ident.SiteID, from, to uint32) ([]Hour, error) {
	if err := checkSpan(from, to); err != nil {
		return nil, err
	}
	rows, err := q.Query(ctx, qHours, site, int64(from), int64(to))
	if err != nil {
		return nil, fmt.Errorf("reading signed hours: %w", err)
	}
	hours, err := pgx.CollectRows(rows, scanHour)
	if err != nil {
		return nil, fmt.Errorf("reading signed hours: %w", err)
	}
	return hours, nil
}

// SiteHours is Hours for whoever has no transaction.
func (s *Store) SiteHours(ctx context.Context, site ident.SiteID, from, to uint32) ([]Hour, error) {
	return s.Hours(ctx, s.c.Pool, site, from, to)
}

func checkSpan(from, to uint32) error {
	if to < from || to-from > maxHours {
		return fmt.Errorf("facts: hours %d to %d, want at most %d in order", from, to, maxHours)
	}
	return nil
}

// Each calls f with the leaves of a site's hours from <= hour < to that are agreed or disputed, which h says, in order of (hour, chain, miner); miners
// nil means all. Both arguments of f are its own only until it returns, and f must not use q.
func (s *Store) Each(ctx context.Context, q querier, site ident.SiteID, from, to uint32, miners []ident.MinerID, f func(h *Hour, l *evidence.Leaf) error) error {
	hours, err := s.Hours(ctx, q, site, from, to)
	if err != nil {
		return err
	}
	sql, args := qPages, []any{site, int64(from), int64(to)}
	var wanted map[ident.MinerID]bool
	if miners != nil {
		wanted = make(map[ident.MinerID]bool, len(miners))
		for _, m := range miners {
			wanted[m] = true
		}
		if len(miners) <= fewMiners {
			sql, args = qPagesOf, append(args, miners)
		}
	}
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return fmt.Errorf("reading leaves: %w", err)
	}
	defer rows.Close()
	var hour int32
	var count int16
	var spool ident.SpoolID
	var packed, raw []byte
	at := 0
	for rows.Next() {
		if err := rows.Scan(&hour, (*[16]byte)(&spool), &count, &packed); err != nil {
			return fmt.Errorf("reading leaves: %w", err)
		}
		k := Key{site, uint32(hour), spool}
		for at < len(hours) && hours[at].compare(k) < 0 {
			at++
		}
		if at == len(hours) || hours[at].Key != k || hours[at].State != Agreed && hours[at].State != Disputed {
			continue // judged, or taken away, between the two statements
		}
		if raw, err = s.unpackPage(raw[:0], packed, int(count)); err != nil {
			return fmt.Errorf("leaves of %s: %w", k, err)
		}
		for b := raw; len(b) > 0; b = b[evidence.LeafSize:] {
			l, err := evidence.ParseLeaf(b[:evidence.LeafSize])
			if err != nil {
				return fmt.Errorf("leaves of %s: %w", k, err)
			}
			if wanted != nil && !wanted[l.Miner] {
				continue
			}
			if err := f(&hours[at], &l); err != nil {
				return err
			}
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("reading leaves: %w", err)
	}
	return nil
}

// compare orders keys of one site as the database does.
func (k Key) compare(o Key) int {
	if k.Hour != o.Hour {
		if k.Hour < o.Hour {
			return -1
		}
		return 1
	}
	return slices.Compare(k.Spool[:], o.Spool[:])
}

// Pages of leaves. pageLeaves is a compromise: one miner's leaf costs a page, and larger pages are not much shorter.
const pageLeaves = 256

// packPage appends a page of leaves to b.
func (s *Store) packPage(b []byte, leaves []evidence.Leaf) (_ []byte, err error) {
	raw := make([]byte, 0, len(leaves)*evidence.LeafSize)
	for i := range leaves {
		if raw, err = leaves[i].AppendBinary(raw); err != nil {
			return nil, err
		}
	}
	return s.pack.EncodeAll(raw, b), nil
}

func (s *Store) unpackPage(b, packed []byte, leaves int) ([]byte, error) {
	b, err := s.unpack.DecodeAll(packed, b)
	if err == nil && len(b) != leaves*evidence.LeafSize {
		err = fmt.Errorf("a page of %d bytes, want %d leaves of %d", len(b), leaves, evidence.LeafSize)
	}
	return b, err
}

// SiteHour is an hour of a site, of all its chains.
type SiteHour struct {
	Site ident.SiteID
	Hour uint32
}

// TakeChanged takes notes of hours whose facts have changed, at most limit, in the transaction of whoever makes verdicts of them: if that is not committed
// the notes stay. Notes that another transaction holds are left to it. Each hour comes once.
func (s *Store) TakeChanged(ctx context.Context, tx pgx.Tx, limit int) ([]SiteHour, error) {
	rows, err := tx.Query(ctx, qTake, limit)
	if err != nil {
		return nil, fmt.Errorf("taking notes of changed hours: %w", err)
	}
	var taken []SiteHour
	seen := map[SiteHour]bool{}
	var h SiteHour
	var hour int32
	if _, err := pgx.ForEachRow(rows, []any{(*[16]byte)(&h.Site), &hour}, func() error {
		if h.Hour = uint32(hour); !seen[h] {
			seen[h] = true
			taken = append(taken, h)
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("taking notes of changed hours: %w", err)
	}
	slices.SortFunc(taken, func(a, b SiteHour) int {
		if c := slices.Compare(a.Site[:], b.Site[:]); c != 0 {
			return c
		}
		return Key{Hour: a.Hour}.compare(Key{Hour: b.Hour})
	})
	return taken, nil
}
