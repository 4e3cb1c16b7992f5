package sim_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashinsight/hashinsight/pkg/sim"
)

// readRecord reads a record file whole.
func readRecord(t *testing.T, path string) []sim.Answer {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var out []sim.Answer
	broken, err := sim.ReadAnswers(file, func(a sim.Answer) error { out = append(out, a); return nil })
	if err != nil || broken > 0 {
		t.Fatalf("%d broken lines, %v", broken, err)
	}
	return out
}

func TestRecordHoldsWhatClientsGot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "answers.jsonl")
	c := sim.Config{Miners: 30, Instant: true, Faulty: 0.3, RecordFile: path, KeepLast: 10000}
	f, err := sim.New(c)
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, f)
	got := make([][]string, 30)
	var all sync.WaitGroup
	for i, m := range f.Miners() {
		e, _ := f.Expected(m.Address, time.Now())
		if !e.Healthy || e.Fault != "" {
			continue
		}
		all.Go(func() {
			for range 20 {
				request := `{"command":"summary"}`
				if m.Machine != "antminer-s19" {
					request = `{"command":"pools+summary"}`
				}
				reply := must(t, f, m.Address, request)
				var serial uint64
				_, tail, _ := bytes.Cut(reply, []byte(`"Best Share":`))
				if bytes.Contains(reply, []byte(`"pools":[`)) {
					_, tail, _ = bytes.Cut(reply[bytes.Index(reply, []byte(`"SUMMARY":`)):], []byte(`"Best Share":`))
				}
				fmt.Sscan(string(tail), &serial)
				got[i] = append(got[i], fmt.Sprint(m.Address, " ", serial))
			}
		})
	}
	all.Wait()
	stop()
	recorded := readRecord(t, path)
	var want, have []string
	last := make(map[string]uint64)
	for _, a := range recorded {
		if a.Serial <= last[a.Miner] {
			t.Errorf("serial number %d of %s after %d", a.Serial, a.Miner, last[a.Miner])
		}
		if !a.Healthy || !a.Complete || a.Fault != "" || a.Hashrate <= 0 || a.Window <= 0 || time.Since(a.At) > time.Minute {
			t.Errorf("recorded %+v of a sound miner", a)
		}
		last[a.Miner] = a.Serial
		have = append(have, fmt.Sprint(a.Miner, " ", a.Serial))
	}
	for _, g := range got {
		want = append(want, g...)
	}
	slices.Sort(want)
	slices.Sort(have)
	if !slices.Equal(want, have) {
		t.Errorf("%d answers recorded, %d received", len(have), len(want))
	}
	if kept := f.Answers(); len(kept) != len(recorded) || kept[0].Serial != 1 {
		t.Errorf("%d answers kept, %d in the file", len(kept), len(recorded))
	}
}

func TestRestartGoesOn(t *testing.T) {
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprintf("killed=%v", killed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				c := only("cgminer", 2)
				c.StateFile, c.RecordFile = filepath.Join(dir, "state.json"), filepath.Join(dir, "answers.jsonl")
				f, err := sim.New(c)
				if err != nil {
					t.Fatal(err)
				}
				stop := run(t, f)
				f.Schedule(sim.Fault{Select: sim.Selection{All: true}, For: time.Hour, Behaviour: sim.Behaviour{Kind: sim.Droop, Factor: 0.5}})
				for range 3 {
					summary(t, f, first)
					time.Sleep(45 * time.Minute)
				}
				was := summary(t, f, first)
				state, err := os.ReadFile(c.StateFile)
				if err != nil {
					t.Fatal(err)
				}
				stop()
				if killed { // what a killed process leaves behind
					if err := os.WriteFile(c.StateFile, state, 0o600); err != nil {
						t.Fatal(err)
					}
					half, _ := os.ReadFile(c.RecordFile)
					if err := os.WriteFile(c.RecordFile, half[:len(half)-9], 0o600); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(time.Minute)
				if f, err = sim.New(c); err != nil {
					t.Fatal(err)
				}
				stop = run(t, f)
				is := summary(t, f, first)
				if rise := is["Best Share"].(float64) - was["Best Share"].(float64); rise < 1 || !killed && rise != 1 {
					t.Errorf("serial number %v after %v", is["Best Share"], was["Best Share"])
				}
				if is["Elapsed"].(float64) != was["Elapsed"].(float64)+60 {
					t.Errorf("Elapsed %v a minute after %v", is["Elapsed"], was["Elapsed"])
				}
				minute := 60 * is["MHS 1m"].(float64)
				if rise := is["Total MH"].(float64) - was["Total MH"].(float64); rise < 0.99*minute || rise > 1.01*minute {
					t.Errorf("Total MH rose by %v, a minute's work is %v", rise, minute)
				}
				stop()
				file, _ := os.Open(c.RecordFile)
				defer file.Close()
				n := 0
				broken, err := sim.ReadAnswers(file, func(sim.Answer) error { n++; return nil })
				if want := map[bool]int{false: 5, true: 4}[killed]; err != nil || n != want || (broken == 1) != killed {
					t.Errorf("%d answers and %d broken lines in the record, %v", n, broken, err)
				}
				c.Seed++
				if _, err := sim.New(c); err == nil {
					t.Error("the state of another seed was taken")
				}
			})
		})
	}
}

func TestRecordThatCannotBeWrittenStopsTheFleet(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("needs /dev/full")
	}
	c := only("cgminer", 1)
	c.RecordFile = "/dev/full"
	f, err := sim.New(c)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- f.Run(t.Context()) }()
	summary(t, f, first)
	if err := <-done; err == nil || !strings.Contains(err.Error(), "incomplete") {
		t.Errorf("Run returned %v", err)
	}
}

// folder writes a recording and returns its place.
func folder(t *testing.T, replies map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range replies {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestRecordingsAreServedByteForByte(t *testing.T) {
	s9 := folder(t, map[string]string{
		"summary.json":  `{"STATUS":[{"STATUS":"S","Description":"bmminer 1.0.0"}],"SUMMARY":[{"GHS 5s":"1"}],"id":1}`,
		"stats.json":    `{"STATUS":[{"STATUS":"S"}],"STATS":[{"Type":"Antminer S9"}{"STATS":0}],"id":1}` + "\n",
		"asc-0.json":    `{"ASC":[{"ASC":0}]}`,
		"expected.json": `{}`, "http-info.json": `{}`, "source.txt": "x",
	})
	s19 := folder(t, map[string]string{"stats.json": `{"STATUS":[{"Description":"cgminer 1.0.0"}],"STATS":[{"Type":"Antminer S19 Pro"}]}`, "pools.json": `{}`})
	vnish := folder(t, map[string]string{"version.json": `{"VERSION":[{"Type":"Antminer S19 (vnish 1.2)"}]}`, "pools.json": `{}`})
	avalon := folder(t, map[string]string{"pools+summary.json": `{"summary":[{"SUMMARY":[{"MHS 30s": 1}],"id":1}],"pools":[{"POOLS":[]}],"id":1}`})
	f := start(t, sim.Config{Instant: true, Recordings: []sim.Recording{{Dir: s9, Name: "s9"}, {Dir: s19}, {Dir: vnish}, {Dir: avalon}, {Dir: s9, Joined: sim.JoinedRefuse}}})
	miners := f.Miners()
	if len(miners) != 5 || !miners[0].Recorded || miners[0].Machine != "s9" {
		t.Fatalf("miners %+v", miners)
	}
	for _, c := range []struct {
		name    string
		miner   int
		request string
		want    string
	}{
		{"faults included", 0, `{"command":"stats"}`, `{"STATUS":[{"STATUS":"S"}],"STATS":[{"Type":"Antminer S9"}{"STATS":0}],"id":1}` + "\n"},
		{"joined is composed", 0, `{"command":"summary+stats"}`, `{"summary":[{"STATUS":[{"STATUS":"S","Description":"bmminer 1.0.0"}],"SUMMARY":[{"GHS 5s":"1"}],"id":1}],` +
			`"stats":[{"STATUS":[{"STATUS":"S"}],"STATS":[{"Type":"Antminer S9"}{"STATS":0}],"id":1}],"id":1}`},
		{"with a parameter", 0, `{"command":"asc","parameter":0}`, `{"ASC":[{"ASC":0}]}`},
		{"what is not there is unknown", 0, `{"command":"pools"}`, `"Code":14,"Msg":"Invalid command","Description":"bmminer 1.0.0"}],"id":1}`},
		{"expected.json is no reply", 0, `{"command":"expected"}`, `"Code":14`},
		{"S19 firmware refuses joined commands", 1, `{"command":"stats+pools"}`, `"Code":14,"Msg":"Invalid command","Description":"cgminer 1.0.0"`},
		{"but answers single ones", 1, `{"command":"pools"}`, `{}`},
		{"third-party firmware composes", 2, `{"command":"pools"}`, `{}`},
		{"third-party firmware composes joined ones", 2, `{"command":"pools+version"}`, `{"pools":[{}],"version":[{"VERSION":`},
		{"a recorded joined reply in any order", 3, `{"command":"summary+pools"}`, `{"summary":[{"SUMMARY":[{"MHS 30s": 1}],"id":1}],"pools":[{"POOLS":[]}],"id":1}`},
		{"one section of it", 3, `{"command":"summary"}`, `{"SUMMARY":[{"MHS 30s": 1}],"id":1}`},
		{"refused when told so", 4, `{"command":"summary+stats"}`, `"Code":14`},
	} {
		got := string(must(t, f, miners[c.miner].Address, c.request))
		if whole := strings.HasPrefix(c.want, "{") && strings.HasSuffix(strings.TrimSpace(c.want), "}"); whole && got != c.want || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if n := f.Stats().Answers; n != 0 {
		t.Errorf("%d answers of recordings counted", n)
	}
	if _, err := sim.New(sim.Config{Recordings: []sim.Recording{{Dir: t.TempDir()}}}); err == nil {
		t.Error("an empty folder was taken")
	}
}

func TestControlEndpoint(t *testing.T) {
	f, err := sim.New(sim.Config{Miners: 20})
	if err != nil {
		t.Fatal(err)
	}
	do := func(method, path, body string) (int, map[string]any) {
		w := httptest.NewRecorder()
		f.Handler().ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
		var out map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
			t.Fatalf("%v in %q", err, w.Body)
		}
		return w.Code, out
	}
	status, got := do(http.MethodGet, "/fleet", "")
	list := got["miners"].([]any)
	m := list[0].(map[string]any)
	if status != 200 || len(list) != 20 || m["healthy"] != true || m["hashrate_hs"].(float64) < 1e12 || m["window_s"] != 5.0 {
		t.Errorf("%d %v", status, m)
	}
	for body, want := range map[string]int{
		`[{"all":true,"share":"10%","behaviour":"hang","for":"1m"}]`:                200,
		`[{"addresses":["127.20.0.1:4028"],"behaviour":"droop","factor":0.5}]`:      200,
		`[{"all":true,"behaviour":"slow","latency":"1s-2s,5%:5s-8s","after":"3s"}]`: 200,
		`[{"all":true,"behaviour":"dance"}]`:                                        400,
		`[{"all":true,"behaviour":"droop"}]`:                                        400,
		`[{"all":true,"behaviour":"hang","form":1}]`:                                400,
		`[{"all":true,"behaviour":"hang","until":"1m"}]`:                            400,
		`[{"behaviour":"hang"}]`:                                                    400,
		`{}`:                                                                        400,
	} {
		if status, got := do(http.MethodPost, "/faults", body); status != want {
			t.Errorf("%s: %d %v, want %d", body, status, got, want)
		}
	}
	_, got = do(http.MethodGet, "/fleet?at="+strconv.FormatInt(time.Now().Add(time.Second).UnixMilli(), 10), "")
	if m := got["miners"].([]any)[0].(map[string]any); m["healthy"] != false || m["fault"] != "droop" {
		t.Errorf("after the droop: %v", m)
	}
	from := time.Now().Truncate(time.Second)
	span := "/truth?from=" + strconv.FormatInt(from.UnixMilli(), 10) + "&to="
	status, got = do(http.MethodGet, span+strconv.FormatInt(from.Add(slot).UnixMilli(), 10), "")
	list = got["miners"].([]any)
	tr, _ := f.Truth("127.20.0.2", from, from.Add(slot))
	if m := list[1].(map[string]any); status != 200 || len(list) != 20 || m["hashes_mh"] != float64(tr.Hashes) || m["powered_s"] != 300.0 {
		t.Errorf("%d %v, want %d MH", status, m, tr.Hashes)
	}
	for _, to := range []string{"", "now"} {
		if status, got := do(http.MethodGet, span+to, ""); status != 400 || !strings.Contains(got["error"].(string), "to=") {
			t.Errorf("truth until %q: %d %v", to, status, got)
		}
	}
	if status, got := do(http.MethodGet, "/health", ""); status != 200 || got["miners"] != 20.0 {
		t.Errorf("%d %v", status, got)
	}
}
