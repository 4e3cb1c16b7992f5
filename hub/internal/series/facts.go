package series

import (
	"encoding/binary"
	"errors"
	"math/bits"

	"github.com/hashinsight/hashinsight/pkg/telemetry"
)

// slotsPerHour is the number of 5-minute slots of an hour.
const slotsPerHour = 12

const slotMS = hourMS / slotsPerHour

// SlotFacts are the facts of one miner and slot of 5 minutes: never a verdict, which needs a contract.
type SlotFacts struct {
	Polls    int64 // attempted
	Answered int64
	Hashes   int64 // MH done between polls of the hour, where the miner counts them
}

// sum adds up a reading.
type sum struct{ total, n int64 }

// mean is the mean, cut to a whole number; 0 without any reading.
func (s sum) mean() int64 {
	if s.n == 0 {
		return 0
	}
	return s.total / s.n
}

// add adds a reading. One that no machine can reach counts as the bound, so that no sum of a site overflows.
func (s *sum) add(v int64) {
	const bound = 1 << 44
	s.total += min(max(v, -bound), bound)
	s.n++
}

// highest is the highest of readings, nil without any.
type highest struct{ v *int32 }

func (h *highest) add(v int32) {
	if h.v == nil || v > *h.v {
		h.v = &v
	}
}

// slotSums is what a slot adds to its site's slot.
type slotSums struct {
	SlotFacts
	hashrate, power sum
	chip            highest
}

// facts are what a block's row says beside its payload.
type facts struct {
	firstMS, lastMS int64 // since the hour's beginning
	samples         int64
	answered        int64
	hashrate, power sum
	hashes          int64
	chip, board     highest
	polledSlots     int64
	answeredSlots   int64
	slots           [slotsPerHour]slotSums
}

// factsOf computes the facts of one miner's polls in the hour that begins at beginMS; rows are in order of time and not empty.
func factsOf(rows []telemetry.Observation, beginMS int64) *facts {
	f := &facts{firstMS: rows[0].At.UnixMilli() - beginMS, lastMS: rows[len(rows)-1].At.UnixMilli() - beginMS, samples: int64(len(rows))}
	for i := range rows {
		o := &rows[i]
		slot := &f.slots[(o.At.UnixMilli()-beginMS)/slotMS]
		slot.Polls++
		if o.Outcome.Answered() {
			slot.Answered++
			f.answered++
		}
		if v, ok := o.Hashrate.Get(); ok {
			slot.hashrate.add(v.Megahashes())
			f.hashrate.add(v.Megahashes())
		}
		if v, ok := o.Power.Get(); ok {
			slot.power.add(tenths(float64(v)))
			f.power.add(tenths(float64(v)))
		}
		if v, ok := o.TempChip.Get(); ok {
			slot.chip.add(int32(tenths(float64(v))))
			f.chip.add(int32(tenths(float64(v))))
		}
		if v, ok := o.TempBoard.Get(); ok {
			f.board.add(int32(tenths(float64(v))))
		}
	}
	f.spreadHashes(rows, beginMS)
	for i := range f.slots {
		s := &f.slots[i]
		f.hashes += s.Hashes
		if s.Polls > 0 {
			f.polledSlots++
		}
		if s.Answered > 0 {
			f.answeredSlots++
		}
	}
	return f
}

// tenths is a reading in the unit it is stored in; readings come from that grid.
func tenths(v float64) int64 {
	if v < 0 {
		return -int64(-v*10 + 0.5)
	}
	return int64(v*10 + 0.5)
}

// spreadHashes spreads the work between each two polls of one run of the mining program over the slots, in proportion to time; what integer division
// leaves goes to the later slot. A counter or uptime that falls begins a new run. Work across the hour's ends belongs to neither
// hour here: the signed facts of an hour count it, these serve charts.
func (f *facts) spreadHashes(rows []telemetry.Observation, beginMS int64) {
	var before *telemetry.Observation
	for i := range rows {
		o := &rows[i]
		now, ok := o.Hashes.Get()
		if !ok {
			continue
		}
		if before != nil {
			was, _ := before.Hashes.Get()
			up, has := o.Uptime.Get()
			upBefore, had := before.Uptime.Get()
			if now >= was && (!has || !had || up >= upBefore) {
				f.spread(before.At.UnixMilli()-beginMS, o.At.UnixMilli()-beginMS, min(now-was, 1<<48))
			}
		}
		before = o
	}
}

// spread adds work done from one time to another, in ms since the hour's beginning.
func (f *facts) spread(from, to, work int64) {
	left := work
	for s := from / slotMS; s < to/slotMS; s++ {
		end := (s + 1) * slotMS
		hi, lo := bits.Mul64(uint64(work), uint64(end-max(from, s*slotMS)))
		part, _ := bits.Div64(hi, lo, uint64(to-from)) // part <= work
		f.slots[s].Hashes += int64(part)
		left -= int64(part)
	}
	f.slots[to/slotMS].Hashes += left
}

// appendSlots packs the slots' facts: for each slot polls, answered and hashes as uvarints. Trailing slots without a poll or work are left out.
func (f *facts) appendSlots(b []byte) []byte {
	last := slotsPerHour
	for last > 0 && f.slots[last-1].SlotFacts == (SlotFacts{}) {
		last--
	}
	for i := range last {
		s := &f.slots[i].SlotFacts
		b = binary.AppendUvarint(b, uint64(s.Polls))
		b = binary.AppendUvarint(b, uint64(s.Answered))
		b = binary.AppendUvarint(b, uint64(s.Hashes))
	}
	return b
}

// ParseSlots reads the column slots of telemetry_block.
func ParseSlots(b []byte) (slots [slotsPerHour]SlotFacts, err error) {
	for i := 0; len(b) > 0; i++ {
		if i == slotsPerHour {
			return slots, errors.New("more slots than an hour has")
		}
		for _, v := range []*int64{&slots[i].Polls, &slots[i].Answered, &slots[i].Hashes} {
			u, n := binary.Uvarint(b)
			if n <= 0 || u > 1<<62 {
				return slots, errors.New("slots end too early")
			}
			*v, b = int64(u), b[n:]
		}
	}
	return slots, nil
}
