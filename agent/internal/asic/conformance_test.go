package asic

import (
	"encoding/json"
	"os"
	"path/filepath"
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
	{"auradine-teraflux-gcminer", "board0_inlet_chip_temp_c", "", "20.5", "only in the HTTP API on port 8080 (temperature)"},
	{"auradine-teraflux-gcminer", "board0_outlet_chip_temp_c", "", "41.5", "only in the HTTP API on port 8080 (temperature)"},
	{"auradine-teraflux-gcminer", "board0_serial", "", "QAHB01230908001X", "only in the HTTP API on port 8080 (ipreport)"},
	{"auradine-teraflux-gcminer", "fan_count", "0", "4", "only in the HTTP API on port 8080 (fan)"},
	{"auradine-teraflux-gcminer", "firmware_version", "0.5", "2023-12.27", "only in the HTTP API on port 8080 (ipreport); version says GCMiner 0.5"},
	{"auradine-teraflux-gcminer", "hostname", "", "teraflux-01", "only in the HTTP API on port 8080 (ipreport)"},
	{"auradine-teraflux-gcminer", "ideal_hashrate_hs", "absent", "1.6e+14", "only in the HTTP API on port 8080 (mode)"},
	{"auradine-teraflux-gcminer", "light_flashing", "", "false", "only in the HTTP API on port 8080 (led); the state of a lamp is no reading"},
	{"auradine-teraflux-gcminer", "mac", "", "1c:00:00:0e:3b:2b", "only in the HTTP API on port 8080 (ipreport)"},
	{"auradine-teraflux-gcminer", "power_limit_w", "absent", "2000", "only in the HTTP API on port 8080 (mode)"},
	{"auradine-teraflux-gcminer", "power_w", "absent", "58.94", "only in the HTTP API on port 8080 (psu)"},
	{"auradine-teraflux-gcminer", "psu_fan_count", "", "2", "only in the HTTP API on port 8080 (fan)"},
	{"auradine-teraflux-gcminer", "serial_number", "", "AU23200006", "only in the HTTP API on port 8080 (ipreport)"},
	{"bitmain-d3-blissz-v2-06-beta-x11", "miner_type", "Antminer D3 Blissz v2.06 beta", "Antminer D3", "stats names the firmware too; the project takes the type of version, which is not of this unit"},
	{"bitmain-l3+-stock-scrypt", "miner_type", "Antminer L3+", "Antminer L3", "the type of version, which is not of this unit; stats says L3+"},
	{"bitmain-s17-stock-bmminer", "miner_type", "Antminer S17 Pro", "Antminer S17", "version and stats disagree; stats is the better of the two"},
	{"bitmain-s19-stock-overheating", "miner_type", "Antminer S19 Pro", "Antminer S19", "version and stats disagree; stats is the better of the two"},
	{"bitmain-s19-stock-overheating", "power_mode", "", "idle", "only in get_miner_conf.cgi on port 80"},
	{"bitmain-s19-stock-sleeping", "has_errors", "true", "false", "that every chip is x because it sleeps is known only from get_miner_conf.cgi on port 80"},
	{"bitmain-s19-stock-sleeping", "power_mode", "", "sleeping", "only in get_miner_conf.cgi on port 80"},
	{"bitmain-s19pro-bmminer-fr", "firmware_version", "Tue Dec  6 16:12:30 CST 2022", "FR-1.12(251009-S21)", "only in get_system_info.cgi on port 80"},
	{"bitmain-s9-braiins-os+-bosminer", "maker", "", "Bitmain", "the recorded replies name no machine; devdetails, which does, was not recorded"},
	{"bitmain-s9-nicehash", "pools[3].url", "DevFee", "devfee", "the project lower-cases URLs; we keep what the miner says"},
	{"bitmain-s9-stock-bad-temperature-values", "temps_c", "[62 62 73 75]", "[-83 62 62 73 75]", "-83 degrees is a broken sensor: outside of -40 to 150 a reading is left out"},
	{"bitmain-t17+-stock-sleeping", "ideal_hashrate_hs", "absent", "0", "no machine has a nominal rate of 0: it was not reported"},
	{"bitmain-t17+-stock-sleeping", "power_mode", "", "sleeping", "only in get_miner_conf.cgi on port 80"},
	{"canaan-avalon10xx-cgminer", "fan_count", "2", "1", "the project counts the one duty FanR; the text has two fans, Fan1 and Fan2"},
	{"canaan-avalonhomeq-cgminer", "uptime_s", "37714", "37819", "the files were recorded 105 s apart: summary, which we take, was first"},
	{"innosilicon-a9-old", "fan_count", "0", "3", "the project counts a duty for each board; no fan's speed is reported"},
	{"microbt-m20sv10-api1", "fan_count", "3", "2", "the project counts the fan of the power supply apart; we keep it as the third"},
	{"microbt-m20sv10-api1", "hashrate_hs", "7.06681e+13", "6.73948e+13", "the project takes HS RT, whose window is not documented (here it equals MHS 5m); we take the shortest named window, MHS 5s"},
	{"microbt-m31s-new-firmware", "power_mode", "", "high", "a setting, not a reading: the power limit beside it, 3600 W, is kept"},
	{"microbt-m60svk40-api3", "fan_count", "3", "2", "the project counts the fan of the power supply apart; we keep it as the third"},
	{"microbt-m60svk40-api3", "first_errors[0].message", "Power xfer error. code: 0xffffffffc0000000", "Power communication error.", "the project has a table of its own; we keep the miner's words"},
	{"microbt-m60svk40-api3", "first_errors[0].timestamp", "", "1.77952795e+09", "an error belongs to the poll that saw it; the device's clock is not believed"},
	{"microbt-m60svk40-api3", "first_errors[1].message", "Power Unknow error. code: 0xffffffffc0000000", "Power unknown error.", "the project has a table of its own; we keep the miner's words"},
	{"microbt-m60svk40-api3", "first_errors[1].timestamp", "", "1.77952795e+09", "an error belongs to the poll that saw it; the device's clock is not believed"},
	{"spondoolies-spx36-stock", "temps_c", "[43 44 65 66 93 97]", "[43 44 47 47 65 66]", "the project lists the power supplies (47) and not the hottest chip of each board (93, 97)"},
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
	table := newTable(t)
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
					t.Fatalf("outcome %s: %v", obs.Outcome, obs.Errors)
				}
				faulty := readFaulty(t, folder, noJoin)
				table.compare(t, path, obs, info, faulty)
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
	table.report(t)
}

// readFaulty reads a device that was recorded once more while it reported errors ("summary-with-errors.json").
func readFaulty(t *testing.T, folder string, noJoin bool) telemetry.Observation {
	t.Helper()
	m := &miner{replies: loadFolder(t, folder), noJoin: noJoin}
	for command, reply := range m.replies {
		if c, ok := strings.CutSuffix(command, "-with-errors"); ok {
			m.replies[c] = reply
		}
	}
	obs, _ := NewReader(Config{Address: "192.0.2.1:4028", Client: m.start(t)}).Read(t.Context())
	return obs
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
