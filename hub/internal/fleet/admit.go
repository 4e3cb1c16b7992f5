package fleet

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/hashinsight/hashinsight/pkg/ident"
)

// lockNewMiners is the advisory lock under which miners are added and counted. The number is arbitrary but fixed: every hub
// process of a database uses the same.
const lockNewMiners = 7_305_221_211

const qLockNew = `SELECT pg_advisory_xact_lock($1)`

// qNew names those of the given miners that have no row yet, and whether another site has one of that id.
const qNew = `
SELECT u.site_id, u.id, EXISTS (SELECT FROM miner o WHERE o.id = u.id)
FROM unnest($1::uuid[], $2::uuid[]) u (site_id, id)
WHERE NOT EXISTS (SELECT FROM miner m WHERE m.site_id = u.site_id AND m.id = u.id)`

// qHave counts the miners of each site; what admit lets in bounds how many there are to count.
const qHave = `SELECT site_id, count(*) FROM miner GROUP BY site_id`

// qDescribed counts the miners of some sites of which there is a description and no poll.
const qDescribed = `
SELECT site_id, count(*) FROM miner m
WHERE site_id = ANY($1::uuid[]) AND NOT EXISTS (SELECT FROM miner_latest l WHERE l.site_id = m.site_id AND l.miner_id = m.id)
GROUP BY site_id`

// admit takes out of u the new miners that must not get a row. Ids are random: a site that names another's has copied it, and
// must not take that miner's place in lists and charts. And a site that names ever new ones, by a fault or on purpose, must
// not make the fleet too large to be shown to anyone. Samples of such miners stay evidence and hot rows. A description may come
// a batch before the first sample, but whole fleets of miners that are never polled may not take the room of those that are.
func (u *Update) admit(ctx context.Context, tx pgx.Tx) error {
	claimed, err := u.newMiners(ctx, tx)
	if err != nil || len(claimed) == 0 {
		return err
	}
	if _, err := tx.Exec(ctx, qLockNew, lockNewMiners); err != nil {
		return err
	}
	if claimed, err = u.newMiners(ctx, tx); err != nil { // again: another transaction may just have added them
		return err
	}
	have, err := countBySite(ctx, tx, qHave)
	if err != nil {
		return err
	}
	var all int64
	for _, n := range have {
		all += n
	}
	described, err := u.described(ctx, tx, claimed)
	if err != nil {
		return err
	}
	byID := map[ident.MinerID]bool{} // of two sites in this very transaction one is first
	for _, k := range sortedKeys(claimed) {
		reason := ""
		switch {
		case claimed[k] || byID[k.miner]:
			reason = "claimed"
		case have[k.site] >= u.maxSite:
			reason = "site_full"
		case all >= u.maxFleet:
			reason = "fleet_full"
		case u.latest[k] == nil && described[k.site] >= u.maxDescribed:
			reason = "never_polled"
		}
		if reason == "" {
			byID[k.miner] = true
			have[k.site]++
			all++
			if u.latest[k] == nil {
				described[k.site]++
			}
			continue
		}
		u.refused[reason]++
		delete(u.latest, k)
		delete(u.infos, k)
		delete(u.answered, k)
	}
	return nil
}

// described counts the miners without a poll of those sites that describe a new one of them.
func (u *Update) described(ctx context.Context, tx pgx.Tx, claimed map[minerKey]bool) (map[ident.SiteID]int64, error) {
	var sites []pgtype.UUID
	for k := range claimed {
		if id := uuidOf(k.site); u.latest[k] == nil && !slices.Contains(sites, id) {
			sites = append(sites, id)
		}
	}
	if len(sites) == 0 {
		return map[ident.SiteID]int64{}, nil
	}
	return countBySite(ctx, tx, qDescribed, sites)
}

func countBySite(ctx context.Context, tx pgx.Tx, sql string, args ...any) (map[ident.SiteID]int64, error) {
	counts := map[ident.SiteID]int64{}
	var site ident.SiteID
	var n int64
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	_, err = pgx.ForEachRow(rows, []any{(*[16]byte)(&site), &n}, func() error {
		counts[site] = n
		return nil
	})
	return counts, err
}

// newMiners returns the miners of u that have no row yet; true: another site has the id.
func (u *Update) newMiners(ctx context.Context, tx pgx.Tx) (map[minerKey]bool, error) {
	if len(u.unknown) == 0 {
		return nil, nil
	}
	var c keyColumns
	for _, k := range sortedKeys(u.unknown) {
		c.add(k)
	}
	rows, err := tx.Query(ctx, qNew, c.sites, c.miners)
	if err != nil {
		return nil, err
	}
	found := map[minerKey]bool{}
	var k minerKey
	var claimed bool
	_, err = pgx.ForEachRow(rows, []any{(*[16]byte)(&k.site), (*[16]byte)(&k.miner), &claimed}, func() error {
		found[k] = claimed
		return nil
	})
	return found, err
}
