package series

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/pkg/ident"
)

// siteSlot is one row of site_5m: the sum over the site's miners.
type siteSlot struct {
	miners, minersAnswered, polls, answered, hashrateMiners, powerMiners int64
	hashrate, power, hashes                                              int64
	chip                                                                 highest
}

// siteHour adds up the 5-minute slots of a site's hour.
type siteHour [slotsPerHour]siteSlot

func (h *siteHour) add(f *facts) {
	for i := range f.slots {
		m, s := &f.slots[i], &h[i]
		s.hashes += m.Hashes
		if m.Polls == 0 {
			continue
		}
		s.miners++
		s.polls += m.Polls
		s.answered += m.Answered
		if m.Answered > 0 {
			s.minersAnswered++
		}
		if m.hashrate.n > 0 {
			s.hashrateMiners++
			s.hashrate += m.hashrate.mean()
		}
		if m.power.n > 0 {
			s.powerMiners++
			s.power += m.power.mean()
		}
		if m.chip.v != nil {
			s.chip.add(*m.chip.v)
		}
	}
}

const qSiteSlots = `
INSERT INTO site_5m (site_id, slot, miners, miners_answered, polls, answered, hashrate_miners, power_miners, hashrate_mhs, power_dw, hashes_mh, temp_chip_dc)
SELECT $1::uuid, u.* FROM unnest($2::integer[], $3::integer[], $4::integer[], $5::integer[], $6::integer[], $7::integer[], $8::integer[], $9::bigint[],
	$10::bigint[], $11::bigint[], $12::integer[]) u
ON CONFLICT (site_id, slot) DO UPDATE SET miners = excluded.miners, miners_answered = excluded.miners_answered, polls = excluded.polls,
	answered = excluded.answered, hashrate_miners = excluded.hashrate_miners, power_miners = excluded.power_miners,
	hashrate_mhs = excluded.hashrate_mhs, power_dw = excluded.power_dw, hashes_mh = excluded.hashes_mh, temp_chip_dc = excluded.temp_chip_dc`

// write stores the slots in which a miner was polled.
func (h *siteHour) write(ctx context.Context, tx pgx.Tx, site ident.SiteID, hour int64) error {
	var c [10][]int64
	var chips []*int32
	for i := range h {
		s := &h[i]
		if s.miners == 0 && s.hashes == 0 {
			continue
		}
		for n, v := range []int64{
			hour*slotsPerHour + int64(i), s.miners, s.minersAnswered, s.polls, s.answered, s.hashrateMiners, s.powerMiners, s.hashrate, s.power, s.hashes,
		} {
			c[n] = append(c[n], v)
		}
		chips = append(chips, s.chip.v)
	}
	if _, err := tx.Exec(ctx, qSiteSlots, site, c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8], c[9], chips); err != nil {
		return fmt.Errorf("writing the site's slots: %w", err)
	}
	return nil
}
