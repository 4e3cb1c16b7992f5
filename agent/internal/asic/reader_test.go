package asic

import (
	"context"
	"encoding/json"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/hashinsight/hashinsight/agent/internal/cgminer"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
)

func TestFailedPollIsAnObservation(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	client := &cgminer.Client{Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	}}
	r := NewReader(Config{Address: "192.0.2.1:4028", Client: client, Now: func() time.Time { return at }})
	obs, info := r.Read(t.Context())
	if obs.Outcome != telemetry.OutcomeRefused || obs.State != telemetry.StateUnknown || !obs.At.Equal(at) || len(obs.Errors) != 1 {
		t.Errorf("%+v", obs)
	}
	if info.Address != "192.0.2.1:4028" || obs.Hashrate.Present() || obs.Uptime.Present() {
		t.Errorf("a refused miner reported something: %+v %+v", info, obs)
	}
}

func TestStates(t *testing.T) {
	zero := strings.NewReplacer(`"GHS 5s":200411.9`, `"GHS 5s":0.0`, "ooo", "xxx", `"66600.00"`, `"0.00"`, `"66700.00"`, `"0.00"`, `"66800.00"`, `"0.00"`)
	tests := []struct {
		name, device string
		edit         func(m *miner)
		want         telemetry.State
		errorText    string
	}{
		{"stock Antminer at zero tells neither sleep nor heat", "antminer-s21", func(m *miner) { edit(m, zero.Replace) }, telemetry.StateUnknown, textIdle},
		{"at zero shortly after the start", "antminer-s21", func(m *miner) {
			edit(m, func(s string) string { return strings.ReplaceAll(zero.Replace(s), `"Elapsed":86400`, `"Elapsed":120`) })
		}, telemetry.StateStarting, ""},
		{"at zero without a living pool", "antminer-s21", func(m *miner) {
			edit(m, func(s string) string { return strings.ReplaceAll(zero.Replace(s), `"Alive"`, `"Deed"`) })
		}, telemetry.StateNoPool, ""},
		{"dead chips", "antminer-s21", func(m *miner) { edit(m, func(s string) string { return strings.Replace(s, "ooo", "oxo", 1) }) }, telemetry.StateDegraded, ""},
		{"a fan of four stands still", "antminer-s21", func(m *miner) {
			edit(m, func(s string) string { return strings.Replace(s, `"fan2":5040`, `"fan2":0`, 1) })
		}, telemetry.StateDegraded, ""},
		{"far below nominal", "antminer-s21", func(m *miner) {
			edit(m, func(s string) string { return strings.ReplaceAll(s, "200411.9", "140411.9") })
		}, telemetry.StateDegraded, ""},
		{"Whatsminer stopped by heat", "whatsminer-m50", func(m *miner) {
			edit(m, func(s string) string {
				return strings.NewReplacer(`"MHS 5s":121000000.1`, `"MHS 5s":0.00`, `"Error Code 0":218`, `"Error Code 0":351`).Replace(s)
			})
		}, telemetry.StateOverheated, "Whatsminer error code 351"},
		{"Whatsminer stopped by another fault", "whatsminer-m50", func(m *miner) {
			edit(m, func(s string) string { return strings.Replace(s, `"MHS 5s":121000000.1`, `"MHS 5s":0.00`, 1) })
		}, telemetry.StateFaulty, "Whatsminer error code 218"},
		{"Whatsminer asleep", "whatsminer-m50", sleep, telemetry.StateSleeping, ""},
		{"Whatsminer asleep, the rest answered with errors", "whatsminer-m50", func(m *miner) {
			m.replies = map[string]string{"status": strings.Replace(m.replies["status"], `"false"`, `"true"`, 1),
				"version": `{"STATUS":"E","When":1,"Code":14,"Msg":"invalid cmd","Description":"whatsminer v1.1"}`}
		}, telemetry.StateSleeping, ""},
		{"all boards dead", "bfgminer", func(m *miner) {
			edit(m, func(s string) string {
				return strings.NewReplacer(`"Status":"Alive","Temp`, `"Status":"Dead","Temp`, `"MHS 20s":336.5`, `"MHS 20s":0.0`).Replace(s)
			})
		}, telemetry.StateFaulty, textDeadBoards},
		{"nan is no rate", "bfgminer", func(m *miner) {
			edit(m, func(s string) string {
				return strings.NewReplacer(`"MHS 20s":336.5`, `"MHS 20s":nan`, `"MHS av":335.25`, `"MHS av":nan`).Replace(s)
			})
		}, telemetry.StateUnknown, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := device(t, tt.device)
			tt.edit(m)
			obs, _, _ := read(t, m)
			if !obs.Outcome.Answered() || obs.State != tt.want {
				t.Errorf("outcome %v, state %v, want %v (%v)", obs.Outcome, obs.State, tt.want, obs.Errors)
			}
			if all := strings.Join(obs.Errors, "\n"); !strings.Contains(all, tt.errorText) {
				t.Errorf("errors %q, want %q", all, tt.errorText)
			}
		})
	}
}

func edit(m *miner, f func(string) string) {
	for c, r := range m.replies {
		m.replies[c] = f(r)
	}
}

// sleep makes a Whatsminer drop everything but "status".
func sleep(m *miner) {
	m.override = func(command string) (string, bool) {
		if command == "status" {
			return strings.Replace(m.replies["status"], `"false"`, `"true"`, 1), true
		}
		return "", true
	}
}

func TestWhatsminerFallsAsleepAndWakes(t *testing.T) {
	m := device(t, "whatsminer-m50")
	obs, info, r := read(t, m)
	if obs.State != telemetry.StateHashing || info.Model != "M50_VG30" {
		t.Fatalf("%v %+v", obs.State, info)
	}
	sleep(m)
	for range 2 {
		obs, info = r.Read(t.Context())
		if obs.Outcome != telemetry.OutcomeOK || obs.State != telemetry.StateSleeping || obs.Hashrate.Present() || info.Model != "M50_VG30" {
			t.Errorf("asleep: %v %v %v %+v", obs.Outcome, obs.State, obs.Errors, info)
		}
	}
	m.override = nil
	for range 2 { // the first poll awake notices, the second is one joined request again
		_, _ = r.Read(t.Context())
	}
	before := m.requests.Load()
	obs, info = r.Read(t.Context())
	if obs.State != telemetry.StateHashing || len(obs.Boards) != 3 || info.MAC != "C4:11:04:01:AA:BB" || m.requests.Load() != before+1 {
		t.Errorf("awake: %v, %d boards, %+v, %d requests", obs.State, len(obs.Boards), info, m.requests.Load()-before)
	}
}

func TestPartialPollKeepsWhatWasRead(t *testing.T) {
	m := device(t, "antminer-s21")
	m.noJoin = true
	m.override = func(command string) (string, bool) {
		if command == "pools" {
			return `{"STATUS":[{"STATUS":"S"}],"POOLS":[{"POOL":0,"URL"`, true // cut off, each time
		}
		return "", false
	}
	obs, _, _ := read(t, m)
	if obs.Outcome != telemetry.OutcomePartial || !obs.Hashrate.Present() || len(obs.Boards) != 3 || len(obs.Pools) != 0 {
		t.Errorf("%v, rate %v, %d boards, %d pools", obs.Outcome, obs.Hashrate, len(obs.Boards), len(obs.Pools))
	}
	if len(obs.Errors) != 1 || !strings.Contains(obs.Errors[0], "cut off") {
		t.Errorf("errors %v", obs.Errors)
	}
}

func TestCutOffReplyIsAskedForAgain(t *testing.T) {
	m := device(t, "antminer-s21")
	_, _, r := read(t, m)
	cuts := 1
	m.override = func(command string) (string, bool) {
		if cuts > 0 && strings.Contains(command, "+") {
			cuts--
			return `{"summary":[{"STATUS":[{"STATUS":`, true
		}
		return "", false
	}
	before := m.requests.Load()
	obs, _ := r.Read(t.Context())
	if obs.Outcome != telemetry.OutcomeOK || m.requests.Load() != before+2 {
		t.Errorf("%v after %d requests: %v", obs.Outcome, m.requests.Load()-before, obs.Errors)
	}
}

func TestRestartIsIdentifiedAgain(t *testing.T) {
	m := device(t, "antminer-s21")
	_, info, r := read(t, m)
	if info.Firmware != "stock" {
		t.Fatalf("%+v", info)
	}
	// Somebody flashes Braiins OS; the machine comes back under the same address.
	m.replies = device(t, "braiins-s19").replies
	r.Read(t.Context()) // what answers now does not look like stock
	obs, info := r.Read(t.Context())
	if info.Firmware != "Braiins OS" || obs.State != telemetry.StateHashing || obs.TempChip.Or(0) != 74.5 {
		t.Errorf("%+v, %v, chip %v", info, obs.State, obs.TempChip)
	}
}

func TestRefusedCommandsAreNotAskedAgain(t *testing.T) {
	m := device(t, "bfgminer") // has no stats
	_, _, r := read(t, m)
	m.asked.Clear()
	r.Read(t.Context())
	m.asked.Range(func(command, _ any) bool {
		if strings.Contains(command.(string), "stats") {
			t.Errorf("asked %v", command)
		}
		return true
	})
}

func TestBoundsOfAnObservation(t *testing.T) {
	m := device(t, "bfgminer")
	var pools, devs []map[string]any
	long := strings.Repeat("é", telemetry.MaxText)
	for range 100 {
		pools = append(pools, map[string]any{"URL": "stratum+tcp://" + long, "User": long, "Status": "Alive"})
		devs = append(devs, map[string]any{"ID": 1, "MHS 5s": 1.0, "Temperature": 40})
	}
	section := func(name string, records any) string {
		b, err := json.Marshal(map[string]any{"STATUS": []any{map[string]any{"STATUS": "S"}}, name: records})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	m.replies["pools"], m.replies["devs"] = section("POOLS", pools), section("DEVS", devs)
	obs, _, _ := read(t, m)
	if len(obs.Pools) != telemetry.MaxPools || len(obs.Boards) != telemetry.MaxBoards {
		t.Errorf("%d pools, %d boards", len(obs.Pools), len(obs.Boards))
	}
	if u := obs.Pools[0].URL; len(u) > telemetry.MaxText || !utf8.ValidString(u) {
		t.Errorf("URL of %d bytes, valid %v", len(u), utf8.ValidString(u))
	}
}

func TestProbe(t *testing.T) {
	m := device(t, "antminer-s21")
	raw, obs, info, err := Probe(t.Context(), "192.0.2.9:4028", m.start(t))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, r := range raw {
		got[r.Command] = string(r.Bytes)
	}
	if got["stats"] != m.replies["stats"] || got["pools"] != m.replies["pools"] {
		t.Error("raw replies are not what the miner sent")
	}
	b, err := json.Marshal(Normalise(obs, info))
	if err != nil {
		t.Fatal(err)
	}
	var n map[string]any
	if err := json.Unmarshal(b, &n); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"maker", "model", "firmware", "state", "hashrate_hs", "hashrate_window_s", "hashrate_avg_hs",
		"ideal_hashrate_hs", "boards", "fans_rpm", "uptime_s", "pools", "accepted", "rejected", "hardware_errors"} {
		if _, ok := n[key]; !ok {
			t.Errorf("%s is missing in %s", key, b)
		}
	}
	for _, key := range []string{"index", "chips", "hashrate_hs", "hardware_errors", "temps_c"} {
		if board := n["boards"].([]any)[0].(map[string]any); board[key] == nil {
			t.Errorf("%s is missing in board %v", key, board)
		}
	}
	if _, ok := n["power_w"]; ok {
		t.Error("stock Antminer firmware reports no power, yet power_w is there")
	}
}
