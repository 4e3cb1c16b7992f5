package asic

import (
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

func device(t *testing.T, name string) *miner {
	t.Helper()
	return &miner{replies: loadFolder(t, filepath.Join("testdata", name))}
}

func read(t *testing.T, m *miner) (telemetry.Observation, telemetry.MinerInfo, *Reader) {
	t.Helper()
	r := NewReader(Config{Address: "192.0.2.9:4028", Client: m.start(t)})
	obs, info := r.Read(t.Context())
	return obs, info, r
}

// TestDrivers reads one written device of each family and checks what matters of it.
func TestDrivers(t *testing.T) {
	tests := []struct {
		device      string
		info        telemetry.MinerInfo
		state       telemetry.State
		rate        unit.Hashrate
		window      time.Duration
		avg         unit.Hashrate
		ideal       unit.Hashrate
		boards      int
		board0      telemetry.Board
		fans        string
		watts       float64 // 0: absent
		limit       float64 // W; 0: absent
		errors      []string
		fees        string // URLs of the pools marked as the firmware's own
		best        int64
		pools       int
		connections int64 // of a poll where commands can be joined; 0 means 1
	}{
		{
			device: "antminer-s21",
			info:   telemetry.MinerInfo{Maker: "Bitmain", Model: "Antminer S21", Firmware: "stock", FirmwareVersion: "Tue Mar 12 09:10:11 CST 2024"},
			state:  telemetry.StateHashing, rate: 200411.9e9, window: 5 * time.Second, avg: 199512.34e9, ideal: 200e12, boards: 3,
			board0: telemetry.Board{Index: 1, Chips: unit.Some[int32](108), ChipsWorking: unit.Some[int32](108), Hashrate: unit.Some[unit.Hashrate](66600e9),
				FrequencyMHz: unit.Some(490.0), HardwareErrors: unit.Some[int64](130), Temps: []unit.Celsius{41, 42, 58, 59, 51, 52, 71, 72}},
			fans: "5010 5040 4980 5100", best: 9812349911, pools: 2,
		},
		{
			device: "antminer-s9", // malformed stats; one chip is dead; a broken sensor says -90
			info:   telemetry.MinerInfo{Maker: "Bitmain", Model: "Antminer S9", Firmware: "stock", FirmwareVersion: "V1.2.0"},
			state:  telemetry.StateDegraded, rate: 13440.10e9, window: 5 * time.Second, avg: 13500.5e9, ideal: 13.5e12, boards: 3,
			board0: telemetry.Board{Index: 6, Chips: unit.Some[int32](63), ChipsWorking: unit.Some[int32](63), Hashrate: unit.Some[unit.Hashrate](4500.10e9),
				FrequencyMHz: unit.Some(637.0), HardwareErrors: unit.Some[int64](20), Temps: []unit.Celsius{61, 76}},
			fans: "- - 4200 - - 4320", best: 77120, pools: 2,
		},
		{
			device: "whatsminer-m50",
			info:   telemetry.MinerInfo{Maker: "MicroBT", Model: "M50_VG30", Firmware: "stock", FirmwareVersion: "20230911.12.REL", MAC: "C4:11:04:01:AA:BB"},
			state:  telemetry.StateHashing, rate: 121000000.1e6, window: 5 * time.Second, avg: 118200000.5e6, ideal: 118500e9, boards: 3,
			board0: telemetry.Board{Index: 0, Chips: unit.Some[int32](156), Hashrate: unit.Some[unit.Hashrate](40300000e6), FrequencyMHz: unit.Some(640.0),
				HardwareErrors: unit.Some[int64](0), Temps: []unit.Celsius{70.5, 79, 91.25}},
			fans: "5220 5250", watts: 3410, limit: 3500, errors: []string{"Whatsminer error code 218"}, best: 443321, pools: 1,
		},
		{
			device: "avalon-1246",
			info: telemetry.MinerInfo{Maker: "Canaan", Model: "AvalonMiner 1246-N-90-21", Firmware: "stock", FirmwareVersion: "1246-N-90-21092401_4ec6bb0_211fd92",
				MAC: "B4:A2:EB:00:00:01", Serial: "0201000012345678"},
			state: telemetry.StateHashing, rate: 91200000.25e6, window: 30 * time.Second, avg: 90100000.5e6, ideal: 92800.50e9, boards: 3,
			board0: telemetry.Board{Index: 0, Chips: unit.Some[int32](120), Hashrate: unit.Some[unit.Hashrate](30010.10e9), Temps: []unit.Celsius{65, 76}},
			fans:   "5400 5430 5310 5280", watts: 3560, limit: 3515, best: 12345678, pools: 1,
		},
		{
			device: "avalon-nano-off",
			info: telemetry.MinerInfo{Maker: "Canaan", Model: "Avalon Nano3s", Firmware: "stock", FirmwareVersion: "Nano3s-24110500_ab12",
				MAC: "E0:E1:A9:00:00:01", Serial: "0201000099990000"},
			state: telemetry.StateSleeping, rate: 0, window: 5 * time.Second, avg: 2e12, ideal: 6e12, boards: 1,
			board0: telemetry.Board{Index: 0, Chips: unit.Some[int32](5), Hashrate: unit.Some[unit.Hashrate](2e12)},
			fans:   "0", best: 12345678, pools: 1,
		},
		{
			device: "braiins-s19",
			info:   telemetry.MinerInfo{Maker: "Bitmain", Model: "Antminer S19", Firmware: "Braiins OS", FirmwareVersion: "boser-openwrt 0.1.0-26ba61b9"},
			state:  telemetry.StateHashing, rate: 96000000.5e6, window: 5 * time.Second, avg: 95123456.789012e6, ideal: 3 * 31666666.666e6, boards: 3,
			board0: telemetry.Board{Index: 1, Hashrate: unit.Some[unit.Hashrate](31900000.25e6), HardwareErrors: unit.Some[int64](10), Temps: []unit.Celsius{60, 72.5}},
			fans:   "4200 4260 4140 4200", best: 262144, pools: 1,
		},
		{
			device: "luxos-s19",
			info: telemetry.MinerInfo{Maker: "Bitmain", Model: "Antminer S19", Firmware: "LuxOS", FirmwareVersion: "2025.1.1.100000",
				MAC: "62:F7:00:00:00:01", Serial: "JYZZ0001", Hostname: "rack2-14"},
			state: telemetry.StateHashing, rate: 90500e9, window: 5 * time.Second, avg: 90000e9, ideal: 91e12, watts: 3010, limit: 3050, best: 4096, pools: 1, boards: 3,
			board0: telemetry.Board{Index: 1, Chips: unit.Some[int32](76), ChipsWorking: unit.Some[int32](76), Hashrate: unit.Some[unit.Hashrate](30166666.5e6),
				FrequencyMHz: unit.Some(445.0), HardwareErrors: unit.Some[int64](5), Temps: []unit.Celsius{61, 52, 60, 51}},
			fans: "3000 3060 3120 3180", errors: []string{"[BOARD 1] Board reboot due to it not hashing."},
		},
		{
			device: "vnish-s19", // tells no sum of the boards' power
			info:   telemetry.MinerInfo{Maker: "Bitmain", Model: "Antminer S19", Firmware: "VNish", FirmwareVersion: "vnish 1.2.0"},
			state:  telemetry.StateHashing, rate: 96000.50e9, window: 5 * time.Second, avg: 95500.25e9, ideal: 96.5e12, watts: 3 * 1010.5, boards: 3,
			board0: telemetry.Board{Index: 1, Chips: unit.Some[int32](76), ChipsWorking: unit.Some[int32](76), Hashrate: unit.Some[unit.Hashrate](32000.17e9),
				FrequencyMHz: unit.Some(550.0), HardwareErrors: unit.Some[int64](1), Power: unit.Some[unit.Watts](1010.5), Temps: []unit.Celsius{58, 72}},
			fans: "4200 4260 4320 4380", best: 88123, pools: 3, fees: "DevFee",
		},
		{
			device: "hiveon-s9", // a comma is missing, and the sum has a mark behind it
			info:   telemetry.MinerInfo{Maker: "Bitmain", Model: "Antminer S9", Firmware: "Hiveon", FirmwareVersion: "Tue Nov 20 10:12:30 UTC 2019"},
			state:  telemetry.StateHashing, rate: 13400e9, window: 5 * time.Second, avg: 13300e9, ideal: 13.5e12, watts: 1290.3, boards: 3,
			board0: telemetry.Board{Index: 6, Chips: unit.Some[int32](63), ChipsWorking: unit.Some[int32](63), Hashrate: unit.Some[unit.Hashrate](4466.67e9),
				FrequencyMHz: unit.Some(550.0), HardwareErrors: unit.Some[int64](6), Power: unit.Some[unit.Watts](430.1), Temps: []unit.Celsius{59, 74}},
			fans: "- - - - 3840 4920", best: 88123, pools: 4, fees: "fee.example:9991 fee2.example:9991",
		},
		{
			device: "mskminer-t9", // its power meter was never calibrated: 35 W for 10 TH/s are left out
			info:   telemetry.MinerInfo{Maker: "Bitmain", Model: "Antminer T9+", Firmware: "MSKMiner", FirmwareVersion: "Mon Feb  3 09:00:00 UTC 2020"},
			state:  telemetry.StateHashing, rate: 10500e9, window: 5 * time.Second, avg: 10450e9, boards: 3,
			board0: telemetry.Board{Index: 9, Chips: unit.Some[int32](54), ChipsWorking: unit.Some[int32](54), Hashrate: unit.Some[unit.Hashrate](3500e9),
				FrequencyMHz: unit.Some(550.0), HardwareErrors: unit.Some[int64](9), Temps: []unit.Celsius{61, 80}},
			fans: "5100 5160", best: 88123, pools: 2,
		},
		{
			device: "sealminer-a2",
			info: telemetry.MinerInfo{Maker: "Bitdeer", Model: "SEALMINER A2", Firmware: "stock", FirmwareVersion: "2025.08.1",
				MAC: "02:11:22:33:44:55", Serial: "CB0001"},
			state: telemetry.StateHashing, rate: 226500000e6, window: time.Minute, avg: 225000000e6, ideal: 3 * 75333333e6, boards: 3,
			board0: telemetry.Board{Index: 0, Chips: unit.Some[int32](120), ChipsWorking: unit.Some[int32](120), Hashrate: unit.Some[unit.Hashrate](75500000e6),
				FrequencyMHz: unit.Some(525.0), HardwareErrors: unit.Some[int64](0), Temps: []unit.Celsius{60, 61, 62, 63}},
			fans: "5000 5010 5020 5030", best: 515, pools: 2,
		},
		{
			device: "whatsminer-api3", // port 4028 refuses
			info: telemetry.MinerInfo{Maker: "MicroBT", Model: "M60S_VK40", Firmware: "stock", FirmwareVersion: "20251209.16.Rel2",
				MAC: "02:00:5E:00:00:01", Serial: "SN0001", Hostname: "wm-1"},
			state: telemetry.StateHashing, rate: 170.5e12, avg: 169.5e12, ideal: 172e12, watts: 3300, limit: 3500, boards: 3,
			board0: telemetry.Board{Index: 0, Chips: unit.Some[int32](111), Hashrate: unit.Some[unit.Hashrate](56.8e12), FrequencyMHz: unit.Some(600.0), Temps: []unit.Celsius{60.5, 70, 77.5}},
			fans:   "4800 4860 6000", errors: []string{"Whatsminer error code 2310: Hash rate low"}, best: -1, pools: 2, connections: 4,
		},
		{
			device: "bfgminer",
			info:   telemetry.MinerInfo{Firmware: "bfgminer"},
			state:  telemetry.StateHashing, rate: 336.5e6, window: 20 * time.Second, avg: 335.25e6, boards: 1,
			board0: telemetry.Board{Index: 0, Hashrate: unit.Some[unit.Hashrate](336.5e6), HardwareErrors: unit.Some[int64](1), Temps: []unit.Celsius{41.5}},
			best:   12, pools: 1,
		},
	}
	for _, tt := range tests {
		t.Run(tt.device, func(t *testing.T) {
			for _, noJoin := range []bool{false, true} {
				m := device(t, tt.device)
				m.noJoin = noJoin
				obs, info, r := read(t, m)
				if obs.Outcome != telemetry.OutcomeOK {
					t.Fatalf("outcome %v: %v", obs.Outcome, obs.Errors)
				}
				tt.info.Address = "192.0.2.9:4028"
				if tt.info.FirmwareVersion == "" {
					tt.info.FirmwareVersion = info.FirmwareVersion
				}
				tt.info.APIVersion, tt.info.FirmwareBuilt, tt.info.ControlBoard = info.APIVersion, info.FirmwareBuilt, info.ControlBoard // TestConformance compares them
				if info != tt.info {
					t.Errorf("info\n%+v, want\n%+v", info, tt.info)
				}
				if obs.State != tt.state {
					t.Errorf("state %v, want %v (%v)", obs.State, tt.state, obs.Errors)
				}
				about(t, "hashrate", float64(obs.Hashrate.Or(-1)), float64(tt.rate))
				about(t, "average", float64(obs.HashrateAvg.Or(-1)), float64(tt.avg))
				about(t, "ideal", float64(obs.IdealHashrate.Or(0)), float64(tt.ideal))
				about(t, "power", float64(obs.Power.Or(0)), tt.watts)
				if w := obs.HashrateWindow.Or(0); w != tt.window {
					t.Errorf("window %v, want %v", w, tt.window)
				}
				if len(obs.Boards) != tt.boards || tt.boards > 0 && !sameBoard(obs.Boards[0], tt.board0) {
					t.Errorf("boards %+v, want %d beginning with %+v", obs.Boards, tt.boards, tt.board0)
				}
				if f := fansText(obs.Fans); f != tt.fans {
					t.Errorf("fans %q, want %q", f, tt.fans)
				}
				if best := obs.BestShare.Or(-1); best != tt.best {
					t.Errorf("best share %d, want %d", best, tt.best)
				}
				about(t, "power limit", float64(obs.PowerLimit.Or(0)), tt.limit)
				if !slices.Equal(obs.Errors, tt.errors) {
					t.Errorf("errors %q, want %q", obs.Errors, tt.errors)
				}
				if fees := feesOf(obs.Pools); fees != tt.fees && tt.fees != "" {
					t.Errorf("fee pools %q, want %q", fees, tt.fees)
				}
				if len(obs.Pools) != tt.pools {
					t.Errorf("pools %+v, want %d", obs.Pools, tt.pools)
				}
				// The steady state: joined firmware is polled with one connection.
				before := m.requests.Load()
				again, _ := r.Read(t.Context())
				if n := m.requests.Load() - before; !noJoin && n != max(tt.connections, 1) && tt.state != telemetry.StateSleeping {
					t.Errorf("a poll took %d connections", n)
				}
				again.At, again.Took, obs.At, obs.Took = time.Time{}, 0, time.Time{}, 0
				obs.Repairs = again.Repairs // those of identification are the first poll's only
				if !reflect.DeepEqual(obs, again) {
					t.Errorf("the second poll differs:\n%+v\n%+v", obs, again)
				}
			}
		})
	}
}

func about(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-12*math.Abs(want) {
		t.Errorf("%s %v, want %v", what, got, want)
	}
}

func sameBoard(a, b telemetry.Board) bool {
	ra, rb := float64(a.Hashrate.Or(-1)), float64(b.Hashrate.Or(-1))
	if math.Abs(ra-rb) > 1e-12*math.Abs(rb) || !slices.Equal(a.Temps, b.Temps) {
		return false
	}
	a.Hashrate, a.Temps, b.Temps = b.Hashrate, nil, nil
	return reflect.DeepEqual(a, b)
}

func fansText(fans []unit.Opt[unit.RPM]) string {
	var out []string
	for _, f := range fans {
		if v, ok := f.Get(); ok {
			out = append(out, strconv.Itoa(int(int32(v))))
		} else {
			out = append(out, "-")
		}
	}
	return strings.Join(out, " ")
}

func feesOf(pools []telemetry.Pool) string {
	var fees []string
	for _, p := range pools {
		if p.Fee.Or(false) {
			fees = append(fees, p.URL)
		}
	}
	return strings.Join(fees, " ")
}

// TestWhichCountersAreCumulative lets each family run on for ten minutes at its average rate. A counter of
// hashes grows by what was done in that time; on LuxOS the field of the same name stays at the average rate,
// and no counter is reported. Shares, difficulty and errors count up on all of them.
func TestWhichCountersAreCumulative(t *testing.T) {
	for _, tt := range []struct {
		device string
		hashes bool
	}{
		{"antminer-s21", true}, {"antminer-s9", true}, {"whatsminer-m50", true}, {"avalon-1246", true},
		{"braiins-s19", true}, {"bfgminer", true}, {"luxos-s19", false}, {"vnish-s19", true}, {"hiveon-s9", true},
		{"mskminer-t9", true}, {"sealminer-a2", true},
	} {
		t.Run(tt.device, func(t *testing.T) {
			m := device(t, tt.device)
			first, _, r := read(t, m)
			if first.Hashes.Present() != tt.hashes {
				t.Fatalf("hashes present: %v", first.Hashes.Present())
			}
			const later = 600 // s
			var summary struct {
				SUMMARY []map[string]any
				STATUS  any
			}
			if err := json.Unmarshal([]byte(m.replies["summary"]), &summary); err != nil {
				t.Fatal(err)
			}
			s := summary.SUMMARY[0]
			s["Elapsed"] = s["Elapsed"].(float64) + later
			if tt.hashes {
				s["Total MH"] = s["Total MH"].(float64) + float64(first.HashrateAvg.Or(0))/1e6*later
			}
			s["Accepted"] = s["Accepted"].(float64) + 120
			b, err := json.Marshal(summary)
			if err != nil {
				t.Fatal(err)
			}
			m.replies["summary"] = string(b)
			second, _ := r.Read(t.Context())
			if second.Hashes.Present() != tt.hashes {
				t.Fatalf("hashes present: %v", second.Hashes.Present())
			}
			if tt.hashes {
				done := float64(second.Hashes.Or(0) - first.Hashes.Or(0))
				if want := float64(first.HashrateAvg.Or(0)) / 1e6 * later; math.Abs(done-want) > 0.001*want+2 {
					t.Errorf("%v MH in %d s, want %v", done, later, want)
				}
			}
			if n := second.Accepted.Or(0) - first.Accepted.Or(0); n != 120 {
				t.Errorf("%d shares", n)
			}
		})
	}
}

// TestAverageIsNoCounter: the generic driver does not believe a "Total MH" that is the average rate, even of
// firmware it does not know.
func TestAverageIsNoCounter(t *testing.T) {
	m := &miner{replies: map[string]string{
		"summary": `{"STATUS":[{"STATUS":"S","Code":11}],"SUMMARY":[{"Elapsed":5000,"MHS av":1000.0,"MHS 5s":990.0,"Total MH":1000.0}],"id":1}`,
	}}
	obs, _, _ := read(t, m)
	if obs.Hashes.Present() {
		t.Errorf("hashes %d", obs.Hashes.Or(0))
	}
}

// TestACounterBelowZeroIsLeftOut: StrongU prints minus one as an unsigned number.
func TestACounterBelowZeroIsLeftOut(t *testing.T) {
	m := &miner{replies: map[string]string{
		"summary": `{"STATUS":[{"STATUS":"S","Code":11}],"SUMMARY":[{"Elapsed":5000,"MHS 5s":990.0,"Best Share":18446744073709551615,"Stale":-1,"Accepted":7}],"id":1}`,
	}}
	obs, _, _ := read(t, m)
	if obs.BestShare.Present() || obs.Stale.Present() || obs.Accepted.Or(0) != 7 {
		t.Errorf("best share %v, stale %v, accepted %v", obs.BestShare, obs.Stale, obs.Accepted)
	}
}

func TestPools(t *testing.T) {
	obs, _, _ := read(t, device(t, "antminer-s9"))
	want := []telemetry.Pool{
		{URL: "btc.pool.example:3333", Worker: "}{ nan, ,} <script>", Priority: unit.Some[int32](0), Alive: unit.Some(true), Active: unit.Some(true), Enabled: unit.Some(true),
			Accepted: unit.Some[int64](409), Rejected: unit.Some[int64](1), Stale: unit.Some[int64](0), DiffAccepted: unit.Some[int64](409 * 262144)},
		{URL: "fee.example:1", Worker: "fee", Priority: unit.Some[int32](9998), Alive: unit.Some(true), Active: unit.Some(false), Enabled: unit.Some(true), Fee: unit.Some(true),
			Accepted: unit.Some[int64](2), Rejected: unit.Some[int64](0), Stale: unit.Some[int64](0), DiffAccepted: unit.Some[int64](2 * 262144)},
	}
	if !reflect.DeepEqual(obs.Pools, want) {
		t.Errorf("%+v", obs.Pools)
	}
	if want := telemetry.RepairMissingComma | telemetry.RepairControlChar; obs.Repairs != want {
		t.Errorf("repairs %v", obs.Repairs.Names())
	}
	obs, _, _ = read(t, device(t, "bfgminer"))
	if u := obs.Pools[0].URL; u != "pool.example:8332" {
		t.Errorf("a password stayed in the URL: %s", u)
	}
}

// TestPoolsThatAreSwitchedOff: a disabled pool is neither alive nor enabled, and no fee pool.
func TestPoolsThatAreSwitchedOff(t *testing.T) {
	obs, _, _ := read(t, device(t, "vnish-s19"))
	p := obs.Pools[1]
	if p.Enabled.Or(true) || p.Alive.Or(true) || p.Fee.Present() {
		t.Errorf("%+v", p)
	}
}

// TestLuxOSAsksForProfilesOnce: the list of profiles is long and matters only when another one is chosen.
func TestLuxOSAsksForProfilesOnce(t *testing.T) {
	m := device(t, "luxos-s19")
	obs, _, r := read(t, m)
	if w := obs.PowerLimit.Or(0); w != 3050 {
		t.Fatalf("power limit %v", w)
	}
	m.asked.Clear()
	r.Read(t.Context())
	if _, again := m.asked.Load("profiles"); again {
		t.Error("asked for the profiles again")
	}
	m.replies["config"] = strings.Replace(m.replies["config"], "445MHz", "420MHz", 1)
	if obs, _ = r.Read(t.Context()); obs.PowerLimit.Or(0) != 2850 {
		t.Errorf("power limit %v after the profile changed", obs.PowerLimit)
	}
	m.replies["config"] = strings.Replace(m.replies["config"], `"None"`, `"Sleep"`, 1)
	m.replies["summary"] = strings.Replace(m.replies["summary"], `"GHS 5s":90500.0`, `"GHS 5s":0`, 1)
	m.replies["stats"] = strings.Replace(m.replies["stats"], `"GHS 5s":90500.0`, `"GHS 5s":0`, 1)
	if obs, _ = r.Read(t.Context()); obs.State != telemetry.StateSleeping {
		t.Errorf("a curtailed machine is %v", obs.State)
	}
}

func TestLabelsThatLie(t *testing.T) {
	for _, tt := range []struct {
		model, rateUnit string
		want            float64 // H/s of "GHS 5s": 500; 0: left out
	}{
		{"Antminer L3+", "", 500e6}, {"Antminer D3", "", 500e6}, {"Antminer Z11", "", 500e3}, {"Antminer S19", "", 500e9},
		{"Antminer L7", "MH", 500e6}, {"Antminer K7", "", 0}, {"Antminer S19", "TH", 500e9},
	} {
		stats := fmt.Sprintf(`{"STATUS":[{"STATUS":"S"}],"STATS":[{"Type":%q},{"Elapsed":900,"GHS 5s":"500","GHS av":500,"miner_count":1,"rate_unit":%q,"chain_acn1":3}],"id":1}`, tt.model, tt.rateUnit)
		m := &miner{replies: map[string]string{"version": `{"STATUS":[{"STATUS":"S"}],"VERSION":[{"Type":"` + tt.model + `"}]}`, "stats": stats}}
		obs, _, _ := read(t, m)
		if got := float64(obs.Hashrate.Or(0)); got != tt.want || tt.want == 0 && obs.Hashrate.Present() {
			t.Errorf("%s %s: %v, want %v (%v)", tt.model, tt.rateUnit, got, tt.want, obs.Errors)
		}
	}
}

func TestImpossibleRateIsLeftOut(t *testing.T) {
	m := device(t, "antminer-s21")
	m.replies["stats"] = strings.Replace(m.replies["stats"], `"GHS 5s":200411.9`, `"GHS 5s":200411900.0`, 1)
	obs, _, _ := read(t, m)
	if obs.Hashrate.Or(0) > 1e15 || len(obs.Errors) == 0 || !strings.Contains(obs.Errors[0], "unit is not known") {
		t.Errorf("rate %v, errors %v", obs.Hashrate, obs.Errors)
	}
}
