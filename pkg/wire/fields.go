package wire

import (
	"time"

	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// Field numbers a reading column. Numbers are signed and stored: never reuse or change one. A
// decoder skips numbers it does not know, so a newer agent can talk to an older hub.
type Field uint32

// Reading columns of a sample, with the unit of their integers.
const (
	FieldOutcome        Field = 1  // telemetry.Outcome
	FieldState          Field = 2  // telemetry.State
	FieldTook           Field = 3  // ms
	FieldFlags          Field = 4  // telemetry.Flags
	FieldRepairs        Field = 5  // telemetry.Repairs
	FieldHashrate       Field = 10 // MH/s
	FieldHashrateWindow Field = 11 // s
	FieldHashrateAvg    Field = 12 // MH/s
	FieldIdealHashrate  Field = 13 // MH/s
	FieldHashes         Field = 14 // MH since the program started
	FieldUptime         Field = 15 // s
	FieldTempBoard      Field = 16 // 0.1 °C
	FieldTempChip       Field = 17 // 0.1 °C
	FieldTempInlet      Field = 18 // 0.1 °C
	FieldPower          Field = 19 // 0.1 W
	FieldEnergy         Field = 20 // J
	FieldAccepted       Field = 21 // shares
	FieldRejected       Field = 22 // shares
	FieldStale          Field = 23 // shares
	FieldDiffAccepted   Field = 24 // difficulty
	FieldDiffRejected   Field = 25 // difficulty
	FieldDiffStale      Field = 26 // difficulty
	FieldHardwareErrors Field = 27 // count
	FieldBestShare      Field = 28 // difficulty
	FieldFanPercent     Field = 29 // %
	FieldPowerLimit     Field = 30 // 0.1 W
	FieldFan0           Field = 40 // rpm; 41 to 55 are the further fans
	FieldDuty0          Field = 60 // %; 61 to 75 are the further fans
)

// Columns of the boards table.
const (
	boardIndex     Field = 1  // number the firmware gives it
	boardChips     Field = 2  // count
	boardWorking   Field = 3  // count
	boardHashrate  Field = 4  // MH/s
	boardFrequency Field = 5  // 0.1 MHz
	boardErrors    Field = 6  // count
	boardPower     Field = 7  // 0.1 W
	boardTemp0     Field = 20 // 0.1 °C; 21 to 27 are the further sensors
)

// Columns of the pools table.
const (
	poolURL          Field = 1 // index into strings
	poolWorker       Field = 2 // index into strings
	poolPriority     Field = 3
	poolAlive        Field = 4  // 0 or 1
	poolActive       Field = 5  // 0 or 1
	poolAccepted     Field = 6  // shares
	poolRejected     Field = 7  // shares
	poolStale        Field = 8  // shares
	poolDiffAccepted Field = 9  // difficulty
	poolEnabled      Field = 10 // 0 or 1
	poolFee          Field = 11 // 1
	poolGroup        Field = 12
)

// errorText is the only column of the errors table: an index into strings.
const errorText Field = 1

// column describes how one reading of a T becomes a stored integer and comes back.
type column[T any] struct {
	field Field
	get   func(t *T, s *interner) (int64, bool)
	set   func(t *T, v int64, strings []string)
}

// tenths rounds to tenths, halves away from zero: sensors report no finer.
func tenths[F ~float64](f F) int64 {
	if f < 0 {
		return -int64(-f*10 + 0.5)
	}
	return int64(f*10 + 0.5)
}

func count[T any](f Field, at func(*T) *unit.Opt[int64]) column[T] {
	return column[T]{f,
		func(t *T, _ *interner) (int64, bool) { return at(t).Get() },
		func(t *T, v int64, _ []string) { *at(t) = unit.Some(v) }}
}

func count32[T any](f Field, at func(*T) *unit.Opt[int32]) column[T] {
	return column[T]{f,
		func(t *T, _ *interner) (int64, bool) { v, ok := at(t).Get(); return int64(v), ok },
		func(t *T, v int64, _ []string) { *at(t) = unit.Some(int32(v)) }}
}

func rate[T any](f Field, at func(*T) *unit.Opt[unit.Hashrate]) column[T] {
	return column[T]{f,
		func(t *T, _ *interner) (int64, bool) { v, ok := at(t).Get(); return v.Megahashes(), ok },
		func(t *T, v int64, _ []string) { *at(t) = unit.Some(unit.Hashrate(v) * unit.MegahashPerSecond) }}
}

func inTenths[T any, F ~float64](f Field, at func(*T) *unit.Opt[F]) column[T] {
	return column[T]{f,
		func(t *T, _ *interner) (int64, bool) { v, ok := at(t).Get(); return tenths(v), ok },
		func(t *T, v int64, _ []string) { *at(t) = unit.Some(F(v) / 10) }}
}

func seconds[T any](f Field, at func(*T) *unit.Opt[time.Duration]) column[T] {
	return column[T]{f,
		func(t *T, _ *interner) (int64, bool) { v, ok := at(t).Get(); return int64(v / time.Second), ok },
		func(t *T, v int64, _ []string) { *at(t) = unit.Some(time.Duration(v) * time.Second) }}
}

func flag[T any](f Field, at func(*T) *unit.Opt[bool]) column[T] {
	return column[T]{f,
		func(t *T, _ *interner) (int64, bool) {
			v, ok := at(t).Get()
			if v {
				return 1, ok
			}
			return 0, ok
		},
		func(t *T, v int64, _ []string) { *at(t) = unit.Some(v != 0) }}
}

// text is a column of string-table indexes. An empty text is absent.
func text[T any](f Field, at func(*T) *string) column[T] {
	return column[T]{f,
		func(t *T, s *interner) (int64, bool) {
			if *at(t) == "" {
				return 0, false
			}
			return s.index(*at(t)), true
		},
		func(t *T, v int64, strings []string) { *at(t) = strings[v] }}
}

type obs = telemetry.Observation

// sampleColumns is the table of all reading columns of a sample, in the order they are written.
func sampleColumns() []column[obs] {
	c := []column[obs]{
		{FieldOutcome, func(o *obs, _ *interner) (int64, bool) { return int64(o.Outcome), true },
			func(o *obs, v int64, _ []string) { o.Outcome = telemetry.Outcome(v) }},
		{FieldState, func(o *obs, _ *interner) (int64, bool) { return int64(o.State), true },
			func(o *obs, v int64, _ []string) { o.State = telemetry.State(v) }},
		{FieldTook, func(o *obs, _ *interner) (int64, bool) { return o.Took.Milliseconds(), true },
			func(o *obs, v int64, _ []string) { o.Took = time.Duration(v) * time.Millisecond }},
		{FieldFlags, func(o *obs, _ *interner) (int64, bool) { return int64(o.Flags), o.Flags != 0 },
			func(o *obs, v int64, _ []string) { o.Flags = telemetry.Flags(v) }},
		{FieldRepairs, func(o *obs, _ *interner) (int64, bool) { return int64(o.Repairs), o.Repairs != 0 },
			func(o *obs, v int64, _ []string) { o.Repairs = telemetry.Repairs(v) }},
		rate(FieldHashrate, func(o *obs) *unit.Opt[unit.Hashrate] { return &o.Hashrate }),
		seconds(FieldHashrateWindow, func(o *obs) *unit.Opt[time.Duration] { return &o.HashrateWindow }),
		rate(FieldHashrateAvg, func(o *obs) *unit.Opt[unit.Hashrate] { return &o.HashrateAvg }),
		rate(FieldIdealHashrate, func(o *obs) *unit.Opt[unit.Hashrate] { return &o.IdealHashrate }),
		count(FieldHashes, func(o *obs) *unit.Opt[int64] { return &o.Hashes }),
		seconds(FieldUptime, func(o *obs) *unit.Opt[time.Duration] { return &o.Uptime }),
		inTenths(FieldTempBoard, func(o *obs) *unit.Opt[unit.Celsius] { return &o.TempBoard }),
		inTenths(FieldTempChip, func(o *obs) *unit.Opt[unit.Celsius] { return &o.TempChip }),
		inTenths(FieldTempInlet, func(o *obs) *unit.Opt[unit.Celsius] { return &o.TempInlet }),
		inTenths(FieldPower, func(o *obs) *unit.Opt[unit.Watts] { return &o.Power }),
		count(FieldEnergy, func(o *obs) *unit.Opt[int64] { return &o.Energy }),
		count(FieldAccepted, func(o *obs) *unit.Opt[int64] { return &o.Accepted }),
		count(FieldRejected, func(o *obs) *unit.Opt[int64] { return &o.Rejected }),
		count(FieldStale, func(o *obs) *unit.Opt[int64] { return &o.Stale }),
		count(FieldDiffAccepted, func(o *obs) *unit.Opt[int64] { return &o.DiffAccepted }),
		count(FieldDiffRejected, func(o *obs) *unit.Opt[int64] { return &o.DiffRejected }),
		count(FieldDiffStale, func(o *obs) *unit.Opt[int64] { return &o.DiffStale }),
		count(FieldHardwareErrors, func(o *obs) *unit.Opt[int64] { return &o.HardwareErrors }),
		count(FieldBestShare, func(o *obs) *unit.Opt[int64] { return &o.BestShare }),
		count32(FieldFanPercent, func(o *obs) *unit.Opt[int32] { return &o.FanPercent }),
		inTenths(FieldPowerLimit, func(o *obs) *unit.Opt[unit.Watts] { return &o.PowerLimit }),
	}
	for i := range telemetry.MaxFans {
		c = append(c, column[obs]{FieldFan0 + Field(i),
			func(o *obs, _ *interner) (int64, bool) {
				if i >= len(o.Fans) {
					return 0, false
				}
				v, ok := o.Fans[i].Get()
				return int64(v), ok
			},
			func(o *obs, v int64, _ []string) {
				for len(o.Fans) <= i {
					o.Fans = append(o.Fans, unit.Opt[unit.RPM]{})
				}
				o.Fans[i] = unit.Some(unit.RPM(v))
			}})
	}
	for i := range telemetry.MaxFans {
		c = append(c, column[obs]{FieldDuty0 + Field(i),
			func(o *obs, _ *interner) (int64, bool) {
				if i >= len(o.FanDuty) {
					return 0, false
				}
				v, ok := o.FanDuty[i].Get()
				return int64(v), ok
			},
			func(o *obs, v int64, _ []string) {
				for len(o.FanDuty) <= i {
					o.FanDuty = append(o.FanDuty, unit.Opt[int32]{})
				}
				o.FanDuty[i] = unit.Some(int32(v))
			}})
	}
	return c
}

func boardColumns() []column[telemetry.Board] {
	type board = telemetry.Board
	c := []column[board]{
		{boardIndex, func(b *board, _ *interner) (int64, bool) { return int64(b.Index), true },
			func(b *board, v int64, _ []string) { b.Index = int32(v) }},
		count32(boardChips, func(b *board) *unit.Opt[int32] { return &b.Chips }),
		count32(boardWorking, func(b *board) *unit.Opt[int32] { return &b.ChipsWorking }),
		rate(boardHashrate, func(b *board) *unit.Opt[unit.Hashrate] { return &b.Hashrate }),
		inTenths(boardFrequency, func(b *board) *unit.Opt[float64] { return &b.FrequencyMHz }),
		count(boardErrors, func(b *board) *unit.Opt[int64] { return &b.HardwareErrors }),
		inTenths(boardPower, func(b *board) *unit.Opt[unit.Watts] { return &b.Power }),
	}
	for i := range telemetry.MaxBoardTemps {
		c = append(c, column[board]{boardTemp0 + Field(i),
			func(b *board, _ *interner) (int64, bool) {
				if i >= len(b.Temps) {
					return 0, false
				}
				return tenths(b.Temps[i]), true
			},
			func(b *board, v int64, _ []string) { b.Temps = append(b.Temps, unit.Celsius(v)/10) }})
	}
	return c
}

func poolColumns() []column[telemetry.Pool] {
	type pool = telemetry.Pool
	return []column[pool]{
		text(poolURL, func(p *pool) *string { return &p.URL }),
		text(poolWorker, func(p *pool) *string { return &p.Worker }),
		count32(poolPriority, func(p *pool) *unit.Opt[int32] { return &p.Priority }),
		flag(poolAlive, func(p *pool) *unit.Opt[bool] { return &p.Alive }),
		flag(poolActive, func(p *pool) *unit.Opt[bool] { return &p.Active }),
		count(poolAccepted, func(p *pool) *unit.Opt[int64] { return &p.Accepted }),
		count(poolRejected, func(p *pool) *unit.Opt[int64] { return &p.Rejected }),
		count(poolStale, func(p *pool) *unit.Opt[int64] { return &p.Stale }),
		count(poolDiffAccepted, func(p *pool) *unit.Opt[int64] { return &p.DiffAccepted }),
		flag(poolEnabled, func(p *pool) *unit.Opt[bool] { return &p.Enabled }),
		count32(poolGroup, func(p *pool) *unit.Opt[int32] { return &p.Group }),
		flag(poolFee, func(p *pool) *unit.Opt[bool] { return &p.Fee }),
	}
}

func errorColumns() []column[string] {
	return []column[string]{text(errorText, func(s *string) *string { return s })}
}

// limits of the integers that a column may hold: the Encoder leaves out what is outside, a Decoder refuses the payload. Any
// two of them are less than 2^63 apart, so that no difference overflows.
func limits(table tableKind, f Field) (lo, hi int64) {
	const i32 = 1<<31 - 1
	switch {
	case table == tableSamples && (f == FieldOutcome || f == FieldState):
		return 0, 1<<8 - 1
	case table == tableSamples && (f == FieldFlags || f == FieldRepairs):
		return 0, 1<<32 - 1
	case table == tableSamples && (f == FieldTook || f == FieldHashrateWindow || f == FieldUptime):
		return 0, i32
	case table == tableSamples && (f == FieldTempBoard || f == FieldTempChip || f == FieldTempInlet),
		table == tableBoards && f >= boardTemp0:
		return -1e6, 1e6
	case table == tableSamples && (f == FieldFanPercent || f >= FieldFan0 || f == FieldPower || f == FieldPowerLimit),
		table == tableBoards && f <= boardWorking, table == tableBoards && (f == boardFrequency || f == boardPower):
		return -i32, i32
	case table == tablePools && (f == poolPriority || f == poolGroup):
		return -i32, i32
	default:
		return 1 - 1<<62, 1 << 62
	}
}
