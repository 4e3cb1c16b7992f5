package statement

import (
	"context"
	"fmt"
	"time"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
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
