package series

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// hotNames are the columns that hotRows reads; those in the middle stand in the order of hotColumns.
const hotNames = `miner_id, ts, hashrate_mhs, hashrate_avg_mhs, hashes_mh, accepted, rejected, stale, diff_accepted, hw_errors, best_share,
	energy_j, hashrate_window_s, temp_board_dc, temp_chip_dc, temp_inlet_dc, fan1_rpm, fan2_rpm, fan3_rpm, fan4_rpm, power_dw, uptime_s, took_ms,
	flags, outcome, state, detail`

// qHotHour streams a site's rows of a span by miner. Rows of one miner and time have an order too, so that the same rows make the same block.
const qHotHour = `SELECT ` + hotNames + ` FROM telemetry_hot WHERE site_id = $1 AND ts >= $2 AND ts < $3
ORDER BY miner_id, ts, outcome, took_ms, best_share NULLS FIRST`

const qHotMiner = `SELECT ` + hotNames + ` FROM telemetry_hot WHERE site_id = $1 AND miner_id = $4 AND ts >= $2 AND ts < $3
ORDER BY ts, outcome, took_ms, best_share NULLS FIRST`

// hotRows reads rows of qHotHour or qHotMiner as observations.
type hotRows struct {
	columns []hotColumn
	asm     *wire.Assembler
}

func newHotRows(asm *wire.Assembler) *hotRows { return &hotRows{hotColumns(), asm} }

// row reads one row in binary form.
func (h *hotRows) row(raw [][]byte) (o telemetry.Observation, err error) {
	if len(raw) != len(h.columns)+3 || len(raw[0]) != len(o.Miner) || len(raw[1]) != 8 {
		return o, errFormat
	}
	o.Miner = ident.MinerID(raw[0])
	o.At = time.UnixMilli(int64(binary.BigEndian.Uint64(raw[1]))/1000 + pgEpochMS).UTC()
	for i, c := range h.columns {
		v := raw[i+2]
		switch {
		case v == nil:
		case len(v) != c.width:
			return o, errFormat
		case c.width == 8:
			h.asm.Set(&o, c.field, int64(binary.BigEndian.Uint64(v)))
		case c.width == 4:
			h.asm.Set(&o, c.field, int64(int32(binary.BigEndian.Uint32(v))))
		default:
			h.asm.Set(&o, c.field, int64(int16(binary.BigEndian.Uint16(v))))
		}
	}
	if err := h.asm.Detail(&o, raw[len(raw)-1]); err != nil {
		return o, fmt.Errorf("hot row of miner %s at %s: %w", o.Miner, o.At.Format(time.RFC3339Nano), err)
	}
	return o, nil
}

var errFormat = errors.New("hot rows do not come as they were asked for: the hub needs a direct connection, not a pooler that changes the protocol")
