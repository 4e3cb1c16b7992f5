package asic

import (
	"time"

	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// Normalised is an observation in the form that the probe command prints with -o json. Names and units are
// documented and stable: _hs is hashes per second, _s seconds, _c degrees Celsius, _w watts, _rpm
// revolutions per minute. What is unknown is absent, never 0.
type Normalised struct {
	Address         string            `json:"address"`
	Outcome         string            `json:"outcome"` // ok, partial, refused, timeout, denied, garbage, api_error, reset, unreachable, too_large
	Maker           string            `json:"maker,omitempty"`
	Model           string            `json:"model,omitempty"`
	Firmware        string            `json:"firmware,omitempty"` // family: stock, Braiins OS, LuxOS, …
	FirmwareVersion string            `json:"firmware_version,omitempty"`
	MAC             string            `json:"mac,omitempty"`
	Serial          string            `json:"serial,omitempty"`
	Hostname        string            `json:"hostname,omitempty"`
	State           string            `json:"state"`                       // hashing, degraded, sleeping, overheated, faulty, no_pool, starting, unknown
	HashrateHS      *float64          `json:"hashrate_hs,omitempty"`       // over the shortest window the firmware reports
	HashrateWindowS *float64          `json:"hashrate_window_s,omitempty"` // that window
	HashrateAvgHS   *float64          `json:"hashrate_avg_hs,omitempty"`   // since the mining program started
	IdealHashrateHS *float64          `json:"ideal_hashrate_hs,omitempty"` // nominal
	Boards          []NormalisedBoard `json:"boards,omitempty"`
	FansRPM         []int32           `json:"fans_rpm,omitempty"` // of those that are there, in the firmware's order
	FanPercent      *int32            `json:"fan_percent,omitempty"`
	TempInletC      *float64          `json:"temp_inlet_c,omitempty"`
	TempBoardC      *float64          `json:"temp_board_c,omitempty"` // hottest
	TempChipC       *float64          `json:"temp_chip_c,omitempty"`  // hottest
	PowerW          *float64          `json:"power_w,omitempty"`
	PowerLimitW     *float64          `json:"power_limit_w,omitempty"`
	UptimeS         *int64            `json:"uptime_s,omitempty"`
	Pools           []NormalisedPool  `json:"pools,omitempty"`
	Accepted        *int64            `json:"accepted,omitempty"`
	Rejected        *int64            `json:"rejected,omitempty"`
	Stale           *int64            `json:"stale,omitempty"`
	HardwareErrors  *int64            `json:"hardware_errors,omitempty"`
	BestShare       *int64            `json:"best_share,omitempty"`
	Repairs         []string          `json:"repairs,omitempty"` // names of telemetry.Repairs
	Errors          []string          `json:"errors,omitempty"`  // the miner's codes and the poll's errors
}

// NormalisedBoard is one hash board.
type NormalisedBoard struct {
	Index          int32     `json:"index"`
	Chips          *int32    `json:"chips,omitempty"`
	ChipsWorking   *int32    `json:"chips_working,omitempty"`
	HashrateHS     *float64  `json:"hashrate_hs,omitempty"`
	FrequencyMHz   *float64  `json:"frequency_mhz,omitempty"`
	HardwareErrors *int64    `json:"hardware_errors,omitempty"`
	PowerW         *float64  `json:"power_w,omitempty"` // behind the power supply
	TempsC         []float64 `json:"temps_c,omitempty"` // board sensors, then chips
}

// NormalisedPool is one pool, in the miner's order.
type NormalisedPool struct {
	URL      string `json:"url"` // without scheme
	Worker   string `json:"worker,omitempty"`
	Priority *int32 `json:"priority,omitempty"`
	Alive    *bool  `json:"alive,omitempty"`
	Active   *bool  `json:"active,omitempty"`
	Enabled  *bool  `json:"enabled,omitempty"`
	Fee      *bool  `json:"fee,omitempty"` // the firmware's maker mines there for itself
	Accepted *int64 `json:"accepted,omitempty"`
	Rejected *int64 `json:"rejected,omitempty"`
	Stale    *int64 `json:"stale,omitempty"`
}

// Normalise converts an observation and what is known about its miner.
func Normalise(o telemetry.Observation, info telemetry.MinerInfo) Normalised {
	n := Normalised{
		Address: info.Address, Outcome: o.Outcome.String(), State: o.State.String(),
		Maker: info.Maker, Model: info.Model, Firmware: info.Firmware, FirmwareVersion: info.FirmwareVersion,
		MAC: info.MAC, Serial: info.Serial, Hostname: info.Hostname,
		HashrateHS: asFloat(o.Hashrate), HashrateAvgHS: asFloat(o.HashrateAvg), IdealHashrateHS: asFloat(o.IdealHashrate),
		TempInletC: asFloat(o.TempInlet), TempBoardC: asFloat(o.TempBoard), TempChipC: asFloat(o.TempChip),
		PowerW: asFloat(o.Power), PowerLimitW: asFloat(o.PowerLimit), FanPercent: pointer(o.FanPercent),
		Accepted: pointer(o.Accepted), Rejected: pointer(o.Rejected), Stale: pointer(o.Stale),
		HardwareErrors: pointer(o.HardwareErrors), BestShare: pointer(o.BestShare),
		Repairs: o.Repairs.Names(), Errors: o.Errors,
	}
	if w, ok := o.HashrateWindow.Get(); ok {
		s := w.Seconds()
		n.HashrateWindowS = &s
	}
	if up, ok := o.Uptime.Get(); ok {
		s := int64(up / time.Second)
		n.UptimeS = &s
	}
	for _, f := range o.Fans {
		if rpm, ok := f.Get(); ok {
			n.FansRPM = append(n.FansRPM, int32(rpm))
		}
	}
	for _, b := range o.Boards {
		nb := NormalisedBoard{
			Index: b.Index, Chips: pointer(b.Chips), ChipsWorking: pointer(b.ChipsWorking),
			HashrateHS: asFloat(b.Hashrate), FrequencyMHz: pointer(b.FrequencyMHz), PowerW: asFloat(b.Power), HardwareErrors: pointer(b.HardwareErrors),
		}
		for _, t := range b.Temps {
			nb.TempsC = append(nb.TempsC, float64(t))
		}
		n.Boards = append(n.Boards, nb)
	}
	for _, p := range o.Pools {
		n.Pools = append(n.Pools, NormalisedPool{
			URL: p.URL, Worker: p.Worker, Priority: pointer(p.Priority), Alive: pointer(p.Alive), Active: pointer(p.Active),
			Enabled: pointer(p.Enabled), Fee: pointer(p.Fee), Accepted: pointer(p.Accepted), Rejected: pointer(p.Rejected), Stale: pointer(p.Stale),
		})
	}
	return n
}

func pointer[T any](o unit.Opt[T]) *T {
	if v, ok := o.Get(); ok {
		return &v
	}
	return nil
}

func asFloat[T ~float64](o unit.Opt[T]) *float64 {
	if v, ok := o.Get(); ok {
		f := float64(v)
		return &f
	}
	return nil
}
