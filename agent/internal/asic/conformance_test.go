package asic

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/pkg/telemetry"
)

// difference is where a reading of ours is not what the project that recorded the reply asserts, and why.
type difference struct {
	folder, field string
	ours, theirs  string
	why           string
}

var differences = []difference{
	{"auradine-teraflux-gcminer", "fan_count", "0", "4", "fans are only in the HTTP API on port 8080"},
	{"auradine-teraflux-gcminer", "ideal_hashrate_hs", "absent", "1.6e+14", "the target is only in the HTTP API (mode)"},
	{"auradine-teraflux-gcminer", "mac", "", "1c:00:00:0e:3b:2b", "only in the HTTP API (ipreport)"},
	{"auradine-teraflux-gcminer", "power_w", "absent", "58.94", "only in the HTTP API (psu)"},
	{"bitmain-s9-braiins-os+-bosminer", "maker", "", "Bitmain", "the recorded replies name no machine; devdetails, which does, was not recorded"},
	{"bitmain-s9-nicehash", "pools[3]", "DevFee DevFee true 16600", "devfee DevFee true 16600", "the project lower-cases URLs; we keep what the miner says"},
	{"bitmain-s9-stock-bad-temperature-values", "temps_c", "[62 62 73 75]", "[-83 62 62 73 75]", "-83 degrees is a broken sensor: outside of -40 to 150 a reading is left out"},
	{"bitmain-t17+-stock-sleeping", "ideal_hashrate_hs", "absent", "0", "no machine has a nominal rate of 0: it was not reported"},
	{"canaan-avalon10xx-cgminer", "fan_count", "2", "1", "the project counts the one duty FanR; the text has two fans, Fan1 and Fan2"},
	{"canaan-avalon7xx-cgminer", "fan_count", "8", "10", "a stack of ten modules with a fan each; an observation keeps telemetry.MaxFans"},
	{"innosilicon-a9-old", "fan_count", "0", "3", "the project counts a duty for each board; no fan's speed is reported"},
	{"microbt-m20sv10-api1", "fan_count", "3", "2", "the project counts the fan of the power supply apart; we keep it as the third"},
	{"microbt-m20sv10-api1", "hashrate_hs", "7.06681e+13", "6.73948e+13", "the project takes HS RT, whose window is not documented (here it equals MHS 5m); we take the shortest named window, MHS 5s"},
}

type expected struct {
	Maker         string    `json:"maker"`
	HashrateHS    *float64  `json:"hashrate_hs"`
	HashrateTHS   *float64  `json:"hashrate_ths"`
	HashrateField string    `json:"hashrate_field"`
	IdealHS       *float64  `json:"ideal_hashrate_hs"`
	IdealTHS      *float64  `json:"ideal_hashrate_ths"`
	Boards        *int      `json:"boards"`
	FanCount      *int      `json:"fan_count"`
	FanRPM        []int32   `json:"fan_rpm"`
	FanPercent    []int32   `json:"fan_percent"`
	TempsC        []float64 `json:"temps_c"`
	UptimeS       *int64    `json:"uptime_s"`
	PowerW        *float64  `json:"power_w"`
	MAC           string    `json:"mac"`
	PowerMode     string    `json:"power_mode"`
	Pools         []struct {
		URL      string `json:"url"`
		Worker   string `json:"worker"`
		Alive    bool   `json:"alive"`
		Accepted int64  `json:"accepted"`
		Rejected int64  `json:"rejected"`
		Stale    int64  `json:"stale"`
	} `json:"pools"`
	FromRaw struct {
		ElapsedS       *int64 `json:"elapsed_s"`
		HardwareErrors *int64 `json:"hardware_errors"`
		Accepted       *int64 `json:"accepted"`
		Rejected       *int64 `json:"rejected"`
	} `json:"from_raw"`
}

// TestConformance reads every recorded device through the real client, with and without joined commands, and
// compares with what the tests of the recording projects assert.
func TestConformance(t *testing.T) {
	dir := os.Getenv("HSI_TEST_FIXTURES")
	if dir == "" {
		t.Skip("HSI_TEST_FIXTURES is not set: it names the folder of recorded replies, one folder per device")
	}
	folders, err := filepath.Glob(filepath.Join(dir, "*", "expected.json"))
	if err != nil || len(folders) == 0 {
		t.Fatalf("HSI_TEST_FIXTURES=%s holds no recorded devices (%v)", dir, err)
	}
	used := make(map[int]bool)
	counters := make(map[family]int) // recordings that ran for over an hour and whose "Total MH" is the work of that time
	for _, path := range folders {
		folder := filepath.Dir(path)
		t.Run(filepath.Base(folder), func(t *testing.T) {
			for _, noJoin := range []bool{false, true} {
				m := &miner{replies: loadFolder(t, folder), noJoin: noJoin}
				r := NewReader(Config{Address: "192.0.2.1:4028", Client: m.start(t)})
				r.Read(t.Context())
				obs, info := r.Read(t.Context()) // the second poll is the steady state
				if !obs.Outcome.Answered() {
					if filepath.Base(folder) == "microbt-m60svk40-api3" {
						continue // API 3 is another protocol on another port
					}
					t.Fatalf("outcome %s: %v", obs.Outcome, obs.Errors)
				}
				compare(t, path, obs, info, used)
				if obs.Hashes.Present() && obs.Uptime.Or(0) > time.Hour {
					counters[r.id.family]++
				}
				if info.Firmware == "LuxOS" && obs.Hashes.Present() {
					t.Errorf("an average rate is taken for %d MH done", obs.Hashes.Or(0))
				}
			}
		})
	}
	for f, name := range map[family]string{familyAntminer: "stock Antminer", familyWhatsminer: "Whatsminer", familyAvalon: "Avalon", familyBraiins: "Braiins OS"} {
		t.Logf("%s: the counter of hashes agrees with %d recordings", name, counters[f]/2)
		if counters[f] == 0 {
			t.Errorf("%s: no recording shows that its counter of hashes is cumulative", name)
		}
	}
	for i, d := range differences {
		if !used[i] {
			t.Errorf("%s %s: the table explains a difference that does not exist", d.folder, d.field)
		}
	}
}

func loadFolder(t testing.TB, folder string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	replies := make(map[string]string)
	for _, f := range files {
		command := strings.TrimSuffix(filepath.Base(f), ".json")
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if command == "expected" || strings.HasPrefix(command, "http-") {
			continue
		}
		if !strings.Contains(command, "+") {
			replies[command] = compact(b)
			continue
		}
		var sections map[string]json.RawMessage
		if err := json.Unmarshal(b, &sections); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		for name, section := range sections {
			if name != "id" {
				replies[name] = string(section[1 : len(section)-1])
			}
		}
	}
	return replies
}

func compare(t *testing.T, path string, obs telemetry.Observation, info telemetry.MinerInfo, used map[int]bool) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var want expected
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Base(filepath.Dir(path))
	check := func(field string, ours, theirs any, equal bool) {
		t.Helper()
		o, th := fmt.Sprint(ours), fmt.Sprint(theirs)
		for i, d := range differences {
			if d.folder == folder && d.field == field && d.ours == o && d.theirs == th && !equal {
				used[i] = true
				return
			}
		}
		if !equal {
			t.Errorf("{%q, %q, %q, %q, \"\"},", folder, field, o, th)
		}
	}
	n := Normalise(obs, info)

	rate := want.HashrateHS
	if rate == nil && want.HashrateTHS != nil {
		hs := *want.HashrateTHS * 1e12
		rate = &hs
	}
	if rate != nil {
		ours := n.HashrateHS
		if strings.Contains(want.HashrateField, " av") {
			ours = n.HashrateAvgHS
		}
		check("hashrate_hs", show(ours), show(rate), near(ours, rate))
	}
	ideal := want.IdealHS
	if ideal == nil && want.IdealTHS != nil {
		hs := *want.IdealTHS * 1e12
		ideal = &hs
	}
	if ideal != nil {
		check("ideal_hashrate_hs", show(n.IdealHashrateHS), show(ideal), near(n.IdealHashrateHS, ideal))
	}
	if want.Boards != nil {
		check("boards", len(n.Boards), *want.Boards, len(n.Boards) == *want.Boards)
	}
	if want.FanCount != nil {
		check("fan_count", len(n.FansRPM), *want.FanCount, len(n.FansRPM) == *want.FanCount)
	}
	if len(want.FanRPM) > 0 {
		check("fan_rpm", n.FansRPM, want.FanRPM, fmt.Sprint(n.FansRPM) == fmt.Sprint(want.FanRPM))
	}
	if len(want.FanPercent) > 0 {
		top := int32(0)
		for _, p := range want.FanPercent {
			top = max(top, p)
		}
		check("fan_percent", showInt(n.FanPercent), top, n.FanPercent != nil && *n.FanPercent == top)
	}
	if want.TempsC != nil && want.Maker == "Bitmain" && info.Firmware == "stock" {
		ours := []float64{}
		for _, b := range n.Boards {
			ours = append(ours, b.TempsC...)
		}
		theirs := slices.Sorted(slices.Values(want.TempsC))
		slices.Sort(ours)
		check("temps_c", ours, theirs, slices.Equal(ours, theirs))
	}
	if want.PowerW != nil {
		check("power_w", show(n.PowerW), show(want.PowerW), near(n.PowerW, want.PowerW))
	}
	if want.MAC != "" {
		check("mac", n.MAC, want.MAC, strings.EqualFold(n.MAC, want.MAC))
	}
	if want.Maker != "" {
		check("maker", n.Maker, want.Maker, n.Maker == want.Maker)
	}
	if e := want.FromRaw.ElapsedS; e != nil {
		check("uptime_s", showInt(n.UptimeS), *e, n.UptimeS != nil && *n.UptimeS == *e)
	}
	for field, pair := range map[string][2]*int64{
		"accepted":        {n.Accepted, want.FromRaw.Accepted},
		"rejected":        {n.Rejected, want.FromRaw.Rejected},
		"hardware_errors": {n.HardwareErrors, want.FromRaw.HardwareErrors},
	} {
		if pair[1] != nil {
			check(field, showInt(pair[0]), *pair[1], pair[0] != nil && *pair[0] == *pair[1])
		}
	}
	if want.Pools != nil {
		check("pools", len(n.Pools), len(want.Pools), len(n.Pools) == len(want.Pools))
		for i := range min(len(n.Pools), len(want.Pools)) {
			p, w := n.Pools[i], want.Pools[i]
			ours := fmt.Sprint(p.URL, " ", p.Worker, " ", p.Alive != nil && *p.Alive, " ", showInt(p.Accepted), showInt(p.Rejected), showInt(p.Stale))
			theirs := fmt.Sprint(w.URL, " ", w.Worker, " ", w.Alive, " ", showInt(&w.Accepted), showInt(&w.Rejected), showInt(&w.Stale))
			check(fmt.Sprintf("pools[%d]", i), ours, theirs, ours == theirs)
		}
	}
	rateNow := n.HashrateHS != nil && *n.HashrateHS > 0
	switch {
	case rateNow && n.State != "hashing" && n.State != "degraded":
		t.Errorf("state %s of a miner that hashes", n.State)
	case !rateNow && (n.State == "hashing" || n.State == "degraded"):
		t.Errorf("state %s of a miner that does not hash", n.State)
	}
}

func near(a, b *float64) bool {
	return a != nil && b != nil && math.Abs(*a-*b) <= 1e-9*math.Abs(*b)
}

func show(f *float64) string {
	if f == nil {
		return "absent"
	}
	return fmt.Sprintf("%.6g", *f)
}

func showInt[T int32 | int64](i *T) string {
	if i == nil {
		return "absent"
	}
	return fmt.Sprint(*i)
}
