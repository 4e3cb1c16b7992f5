package fleet

import (
	"context"

	"github.com/jackc/pgx/v5"

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

// admit takes out of u the new miners that must not get a row. Ids are random: a site that names another's has copied it, and
// must not take that miner's place in lists and charts. And a site that names ever new ones, by a fault or on purpose, must
// not make the fleet too large to be shown to anyone. Samples of such miners stay evidence and hot rows.
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
	have := map[ident.SiteID]int64{}
	var all, n int64
	var site ident.SiteID
	rows, err := tx.Query(ctx, qHave)
	if err != nil {
		return err
	}
	if _, err := pgx.ForEachRow(rows, []any{(*[16]byte)(&site), &n}, func() error {
		have[site] = n
		all += n
		return nil
	}); err != nil {
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
		}
		if reason == "" {
			byID[k.miner] = true
			have[k.site]++
			all++
			continue
		}
		u.refused[reason]++
		delete(u.latest, k)
		delete(u.infos, k)
		delete(u.answered, k)
	}
	return nil
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
