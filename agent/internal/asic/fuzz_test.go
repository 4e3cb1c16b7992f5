package asic

import (
	"context"
	"math"
	"net"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf8"

	"github.com/hashinsight/hashinsight/agent/internal/cgminer"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// FuzzRead gives every driver the same bytes as the answer to everything. Whatever they are, the observation
// keeps its bounds, its texts are UTF-8 and its numbers are numbers.
func FuzzRead(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "*", "*.json"))
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(compact(b)))
	}
	m := &miner{replies: loadFolder(f, filepath.Join("testdata", "antminer-s9"))}
	joined, _ := m.answer("summary+stats+pools+devs")
	f.Add([]byte(joined))
	f.Fuzz(func(t *testing.T, reply []byte) {
		client := &cgminer.Client{Dial: func(context.Context, string, string) (net.Conn, error) { return &ready{reply: reply}, nil }}
		for _, fam := range []family{familyGeneric, familyAntminer, familyWhatsminer, familyAvalon, familyBraiins} {
			r := NewReader(Config{Address: "192.0.2.1:4028", Client: client})
			r.id.family, r.known = fam, true
			r.id.scale, r.id.mhs = labelScale(unit.GigahashPerSecond), labelScale(unit.MegahashPerSecond)
			for range 2 {
				obs, info := r.Read(t.Context())
				checkBounds(t, obs, info)
			}
		}
	})
}

func checkBounds(t *testing.T, o telemetry.Observation, info telemetry.MinerInfo) {
	t.Helper()
	if o.Outcome == 0 || o.At.IsZero() {
		t.Error("no outcome or no time")
	}
	if len(o.Fans) > telemetry.MaxFans || len(o.Boards) > telemetry.MaxBoards || len(o.Pools) > telemetry.MaxPools || len(o.Errors) > telemetry.MaxErrors {
		t.Errorf("%d fans, %d boards, %d pools, %d errors", len(o.Fans), len(o.Boards), len(o.Pools), len(o.Errors))
	}
	number := func(what string, x, low, high float64) {
		if math.IsNaN(x) || x < low || x > high {
			t.Errorf("%s %v", what, x)
		}
	}
	rates := []unit.Opt[unit.Hashrate]{o.Hashrate, o.HashrateAvg, o.IdealHashrate}
	for _, b := range o.Boards {
		rates = append(rates, b.Hashrate)
		if len(b.Temps) > telemetry.MaxBoardTemps {
			t.Errorf("%d sensors on a board", len(b.Temps))
		}
		for _, c := range b.Temps {
			number("temperature", float64(c), minCelsius, maxCelsius)
		}
		number("chips", float64(b.Chips.Or(0)), 0, 100_000)
		number("working chips", float64(b.ChipsWorking.Or(0)), 0, 100_000)
		number("frequency", b.FrequencyMHz.Or(1), 0, maxMHz)
	}
	for _, r := range rates {
		number("rate", float64(r.Or(0)), 0, maxHashrate)
	}
	for _, c := range []unit.Opt[unit.Celsius]{o.TempBoard, o.TempChip, o.TempInlet} {
		number("temperature", float64(c.Or(1)), minCelsius, maxCelsius)
	}
	number("power", float64(o.Power.Or(0)), 0, maxWatts)
	for _, n := range []unit.Opt[int64]{o.Hashes, o.Accepted, o.Rejected, o.Stale, o.DiffAccepted, o.DiffRejected, o.DiffStale, o.HardwareErrors, o.BestShare} {
		number("count", float64(n.Or(0)), 0, maxCount)
	}
	texts := append([]string{info.MAC, info.Serial, info.Maker, info.Model, info.Firmware, info.FirmwareVersion, info.Hostname}, o.Errors...)
	for _, p := range o.Pools {
		texts = append(texts, p.URL, p.Worker)
	}
	for _, s := range texts {
		if len(s) > telemetry.MaxText || !utf8.ValidString(s) {
			t.Errorf("text of %d bytes, valid %v", len(s), utf8.ValidString(s))
		}
	}
}
