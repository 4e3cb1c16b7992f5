package fleet

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// boardDetail is the stored JSON form of a telemetry.Board. An absent member was not reported.
type boardDetail struct {
	Index     int32     `json:"i"`
	Chips     *int32    `json:"chips,omitempty"`
	Working   *int32    `json:"working,omitempty"`
	Hashrate  *int64    `json:"mhs,omitempty"`
	Frequency *float64  `json:"mhz,omitempty"`
	Errors    *int64    `json:"hw,omitempty"`
	Temps     []float64 `json:"c,omitempty"`
}

// poolDetail is the stored JSON form of a telemetry.Pool.
type poolDetail struct {
	URL          string `json:"url"`
	Worker       string `json:"worker"`
	Priority     *int32 `json:"prio,omitempty"`
	Alive        *bool  `json:"alive,omitempty"`
	Active       *bool  `json:"active,omitempty"`
	Accepted     *int64 `json:"acc,omitempty"`
	Rejected     *int64 `json:"rej,omitempty"`
	Stale        *int64 `json:"stale,omitempty"`
	DiffAccepted *int64 `json:"diff,omitempty"`
}

func ptr[T any](o unit.Opt[T]) *T {
	if v, ok := o.Get(); ok {
		return &v
	}
	return nil
}

func encodeBoards(boards []telemetry.Board) (string, error) {
	out := make([]boardDetail, len(boards))
	for i, b := range boards {
		d := boardDetail{Index: b.Index, Chips: ptr(b.Chips), Working: ptr(b.ChipsWorking), Frequency: ptr(b.FrequencyMHz), Errors: ptr(b.HardwareErrors)}
		if h, ok := b.Hashrate.Get(); ok {
			mhs := h.Megahashes()
			d.Hashrate = &mhs
		}
		for _, c := range b.Temps {
			d.Temps = append(d.Temps, float64(c))
		}
		out[i] = d
	}
	return encodeDetail(out)
}

func (d boardDetail) board() telemetry.Board {
	b := telemetry.Board{
		Index: d.Index, Chips: opt(d.Chips), ChipsWorking: opt(d.Working), Hashrate: rate(d.Hashrate), FrequencyMHz: opt(d.Frequency), HardwareErrors: opt(d.Errors),
	}
	for _, c := range d.Temps {
		b.Temps = append(b.Temps, unit.Celsius(c))
	}
	return b
}

func encodePools(pools []telemetry.Pool) (string, error) {
	out := make([]poolDetail, len(pools))
	for i, p := range pools {
		out[i] = poolDetail{
			URL: clean(p.URL), Worker: clean(p.Worker), Priority: ptr(p.Priority), Alive: ptr(p.Alive), Active: ptr(p.Active),
			Accepted: ptr(p.Accepted), Rejected: ptr(p.Rejected), Stale: ptr(p.Stale), DiffAccepted: ptr(p.DiffAccepted),
		}
	}
	return encodeDetail(out)
}

func (d poolDetail) pool() telemetry.Pool {
	return telemetry.Pool{
		URL: d.URL, Worker: d.Worker, Priority: opt(d.Priority), Alive: opt(d.Alive), Active: opt(d.Active),
		Accepted: opt(d.Accepted), Rejected: opt(d.Rejected), Stale: opt(d.Stale), DiffAccepted: opt(d.DiffAccepted),
	}
}

func encodeDetail(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("storing a miner's details: %w", err)
	}
	return string(b), nil
}

func decodeDetail[D, T any](b []byte, domain func(D) T) ([]T, error) {
	var stored []D
	if err := json.Unmarshal(b, &stored); err != nil {
		return nil, fmt.Errorf("a miner's stored details: %w", err)
	}
	out := make([]T, len(stored))
	for i, d := range stored {
		out[i] = domain(d)
	}
	return out, nil
}

// clean takes out what PostgreSQL's text cannot hold: a miner can put NUL into any of its texts. The signed payload keeps it.
func clean(s string) string {
	if strings.IndexByte(s, 0) < 0 {
		return s
	}
	return strings.ReplaceAll(s, "\x00", "\uFFFD")
}
