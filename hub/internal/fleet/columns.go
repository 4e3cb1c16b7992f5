package fleet

import (
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// keyColumns are the key columns of rows given to unnest.
type keyColumns struct{ sites, miners []pgtype.UUID }

func (c *keyColumns) add(k minerKey) {
	c.sites, c.miners = append(c.sites, uuidOf(k.site)), append(c.miners, uuidOf(k.miner))
}

// latestColumns are the parameters of qUpsertLatest, column by column.
type latestColumns struct {
	keyColumns
	at                                                    []time.Time
	answered                                              []*time.Time
	outcome, state                                        []int16
	repairs                                               []int64
	hashrate, avg, ideal                                  []*int64
	window, tempBoard, tempChip, tempInlet, power, uptime []*int32
	accepted, rejected, stale, hwErrors, bestShare        []*int64
	fanPercent                                            []*int32
	fans                                                  []*string // an array in its text form: unnest would flatten arrays of arrays
	worker                                                []*string
}

func (c *latestColumns) add(k minerKey, r *latestRow) {
	o := &r.obs
	c.keyColumns.add(k)
	c.at = append(c.at, o.At)
	var answered *time.Time
	if r.answeredMS != 0 {
		t := time.UnixMilli(r.answeredMS)
		answered = &t
	}
	c.answered = append(c.answered, answered)
	c.outcome = append(c.outcome, int16(o.Outcome))
	c.state = append(c.state, int16(o.State))
	c.repairs = append(c.repairs, int64(o.Repairs))
	c.hashrate = append(c.hashrate, megahashes(o.Hashrate))
	c.window = append(c.window, wholeSeconds(o.HashrateWindow))
	c.avg = append(c.avg, megahashes(o.HashrateAvg))
	c.ideal = append(c.ideal, megahashes(o.IdealHashrate))
	c.tempBoard = append(c.tempBoard, inTenths(o.TempBoard))
	c.tempChip = append(c.tempChip, inTenths(o.TempChip))
	c.tempInlet = append(c.tempInlet, inTenths(o.TempInlet))
	c.power = append(c.power, inTenths(o.Power))
	c.uptime = append(c.uptime, wholeSeconds(o.Uptime))
	c.accepted = append(c.accepted, ptr(o.Accepted))
	c.rejected = append(c.rejected, ptr(o.Rejected))
	c.stale = append(c.stale, ptr(o.Stale))
	c.hwErrors = append(c.hwErrors, ptr(o.HardwareErrors))
	c.bestShare = append(c.bestShare, ptr(o.BestShare))
	c.fanPercent = append(c.fanPercent, ptr(o.FanPercent))
	c.fans = append(c.fans, fansText(o.Fans))
	c.worker = append(c.worker, activeWorker(o.Pools))
}

func (c *latestColumns) args(futureAfter time.Time) []any {
	return []any{
		c.sites, c.miners, c.at, c.answered, c.outcome, c.state, c.repairs, c.hashrate, c.window, c.avg, c.ideal, c.tempBoard, c.tempChip, c.tempInlet,
		c.power, c.uptime, c.accepted, c.rejected, c.stale, c.hwErrors, c.bestShare, c.fanPercent, c.fans, c.worker, futureAfter,
	}
}

// detailColumns are the parameters of qUpsertDetail.
type detailColumns struct {
	keyColumns
	at                    []time.Time
	boards, pools, errors []string
}

func (c *detailColumns) add(k minerKey, o *telemetry.Observation) error {
	boards, err := encodeBoards(o.Boards)
	if err != nil {
		return err
	}
	pools, err := encodePools(o.Pools)
	if err != nil {
		return err
	}
	texts := make([]string, len(o.Errors))
	for i, e := range o.Errors {
		texts[i] = clean(e)
	}
	errs, err := encodeDetail(texts)
	if err != nil {
		return err
	}
	c.keyColumns.add(k)
	c.at = append(c.at, o.At)
	c.boards, c.pools, c.errors = append(c.boards, boards), append(c.pools, pools), append(c.errors, errs)
	return nil
}

func megahashes(h unit.Opt[unit.Hashrate]) *int64 {
	if v, ok := h.Get(); ok {
		mhs := v.Megahashes()
		return &mhs
	}
	return nil
}

func wholeSeconds(d unit.Opt[time.Duration]) *int32 {
	if v, ok := d.Get(); ok {
		s := int32(v / time.Second)
		return &s
	}
	return nil
}

func inTenths[T ~float64](o unit.Opt[T]) *int32 {
	if v, ok := o.Get(); ok {
		half := 0.5
		if v < 0 {
			half = -half
		}
		t := int32(float64(v)*10 + half) // wire holds tenths in 31 bits
		return &t
	}
	return nil
}

func fansText(fans []unit.Opt[unit.RPM]) *string {
	if len(fans) == 0 {
		return nil
	}
	var b strings.Builder
	for i, f := range fans {
		b.WriteByte("{,"[min(i, 1)])
		if v, ok := f.Get(); ok {
			b.WriteString(strconv.Itoa(int(v)))
		} else {
			b.WriteString("NULL")
		}
	}
	b.WriteByte('}')
	s := b.String()
	return &s
}

// activeWorker is the worker of the pool being mined on; with a single pool it is that one's.
func activeWorker(pools []telemetry.Pool) *string {
	for _, p := range pools {
		if p.Active.Or(len(pools) == 1) && p.Worker != "" {
			w := clean(p.Worker)
			return &w
		}
	}
	return nil
}
