package asic

import (
	"time"

	"github.com/hashinsight/hashinsight/pkg/telemetry"
)

const (
	// startingFor is how long after its start a program may hash nothing, or too little, without comment.
	startingFor = 5 * time.Minute
	// wellBelow is the part of the nominal rate below which a machine counts as degraded. A machine in
	// order keeps within some percent of nominal over minutes; one lost board of three leaves 67 %.
	wellBelow = 0.8
)

// Texts that explain a state for which the replies give no cause.
const (
	textIdle       = "not hashing, cause unknown: the replies do not tell sleep, heat and fault apart"
	textDeadBoards = "not hashing, and every board is reported dead or sick"
)

// judge sets the state from what was read, unless the driver already knows it:
//
//   - no_pool: nothing is hashed and no pool is alive.
//   - starting: nothing is hashed and the program runs for less than 5 minutes.
//   - faulty: nothing is hashed, and the firmware reports a fault or all of its boards as dead.
//   - unknown: nothing is hashed and the replies give no reason. Stock Antminer firmware answers with the
//     same zeros and the same "x" for every chip when it was put to sleep and when it overheated, so neither
//     is claimed; an error text says that it does not hash. Also when no rate was answered at all.
//   - degraded: it hashes, but a board or chips that were there are gone, a fan stands still, or the rate
//     is below 80 % of nominal, the first 5 minutes excepted.
//   - hashing: otherwise.
func (p *poll) judge() {
	o := &p.obs
	p.report()
	if len(o.Boards) > p.r.boards {
		p.r.boards = len(o.Boards)
	}
	if o.State != telemetry.StateUnknown {
		return
	}
	rate, known := o.Hashrate.Get()
	up, started := o.Uptime.Get()
	young := started && up < startingFor
	switch {
	case known && rate > 0 && p.degraded(young):
		o.State = telemetry.StateDegraded
	case known && rate > 0:
		o.State = telemetry.StateHashing
	case !known && len(o.Pools) == 0:
	case p.noPool():
		o.State = telemetry.StateNoPool
	case !known:
	case young:
		o.State = telemetry.StateStarting
	case p.deadBoards > 0 && p.deadBoards == len(o.Boards):
		o.State = telemetry.StateFaulty
		p.addError(textDeadBoards)
	case p.fault:
		o.State = telemetry.StateFaulty
	default:
		p.addError(textIdle)
	}
}

func (p *poll) noPool() bool {
	for i := range p.obs.Pools {
		if p.obs.Pools[i].Alive.Or(true) {
			return false
		}
	}
	return len(p.obs.Pools) > 0
}

func (p *poll) degraded(young bool) bool {
	o := &p.obs
	if len(o.Boards) > 0 && len(o.Boards) < p.r.boards || p.deadBoards > 0 {
		return true
	}
	for i := range o.Boards {
		b := &o.Boards[i]
		chips, ok := b.Chips.Get()
		if working, known := b.ChipsWorking.Get(); ok && known && working < chips {
			return true
		}
		if rate, ok := b.Hashrate.Get(); ok && rate == 0 && !young {
			return true
		}
	}
	for _, f := range o.Fans {
		if speed, ok := f.Get(); ok && speed == 0 {
			return true
		}
	}
	ideal, ok := o.IdealHashrate.Get()
	steady, known := p.rates.steady.Get()
	return ok && known && !young && float64(steady) < wellBelow*float64(ideal)
}
