package api

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

func TestMinerShowsItsLatestPoll(t *testing.T) {
	w := newWorld(t)
	id := w.miners(3)[1]
	res, body := w.get("/api/miners/" + id.String())
	m := want[MinerDetail](t, res, body)
	if m.State != "hashing" || m.Outcome != "ok" || m.AgeS != 2 || m.Stale || m.SiteName != "North" || m.Address != "10.0.0.2:4028" {
		t.Errorf("miner: %s", body)
	}
	if m.HashrateHS == nil || *m.HashrateHS != 91e12 || *m.HashrateWindowS != 5 || *m.TempBoardC != 61.5 || *m.PowerW != 3250 || *m.HardwareErrors != 0 || *m.BestShare != 7 {
		t.Errorf("readings: %s", body)
	}
	if len(m.FansRPM) != 3 || m.FansRPM[1] != nil || *m.FansRPM[2] != 5910 || len(m.Boards) != 1 || *m.Boards[0].Chips != 76 || len(m.Pools) != 1 || m.Worker != "acct.w1" {
		t.Errorf("parts: %s", body)
	}
	if bytes.Contains(body, []byte("temp_inlet_c")) || bytes.Contains(body, []byte("stale_shares")) {
		t.Errorf("unknown values are shown: %s", body)
	}
	res, body = w.get("/api/miners?q=10.0.0.2:4028")
	list := want[MinerList](t, res, body)
	if list.Count != 1 || len(list.Items) != 1 || list.Items[0].ID != m.ID || *list.Items[0].HashrateHS != 91e12 || list.Items[0].FansRPM[1] != nil {
		t.Errorf("list: %s", body)
	}
}

// A miner that went off must not go on showing its old rate.
func TestFailedPollHidesOldReadings(t *testing.T) {
	w := newWorld(t)
	id := w.miners(1)[0]
	answered := w.clock.now().Add(-2 * time.Second)
	w.observe(nil, telemetry.Observation{Miner: id, At: w.clock.now(), Outcome: telemetry.OutcomeTimeout})
	for _, path := range []string{"/api/miners", "/api/miners/" + id.String()} {
		res, body := w.get(path)
		if res.StatusCode != http.StatusOK || bytes.Contains(body, []byte("hashrate_hs")) || bytes.Contains(body, []byte("readings_at")) {
			t.Errorf("%s: %s", path, body)
		}
		for _, part := range []string{`"state":"unknown"`, `"outcome":"timeout"`, `"last_answer_at":"` + answered.Format(timeLayout)} {
			if !bytes.Contains(body, []byte(part)) {
				t.Errorf("%s lacks %s: %s", path, part, body)
			}
		}
	}
	w.clock.advance(5 * time.Minute)
	res, body := w.get("/api/miners?stale=true")
	if l := want[MinerList](t, res, body); l.Count != 1 || !l.Items[0].Stale || l.Items[0].AgeS != 302 {
		t.Errorf("after five silent minutes: %s", body)
	}
}

func TestListFiltersSortsAndBounds(t *testing.T) {
	w := newWorld(t)
	ids := w.miners(12)
	sleeping := w.poll(ids[3], 0)
	sleeping.State, sleeping.Hashrate, sleeping.TempChip = telemetry.StateSleeping, unit.Opt[unit.Hashrate]{}, unit.Opt[unit.Celsius]{}
	w.observe([]telemetry.MinerInfo{{Miner: ids[3], Address: "10.0.0.4:4028", Firmware: "Braiins OS"}}, sleeping)
	for query, count := range map[string]int{
		"": 12, "state=sleeping": 1, "state=hashing": 11, "family=braiins+os": 1, "q=ANTMINER": 11, "q=acct.w1": 12, "stale=true": 0,
		"site=" + w.site.String(): 12, "site=" + ident.NewSiteID().String(): 0, "state=hashing&q=10.0.0.1": 4, // .1, .10, .11, .12
	} {
		res, body := w.get("/api/miners?limit=500&" + query)
		if l := want[MinerList](t, res, body); l.Count != count || len(l.Items) != count || l.Next != "" {
			t.Errorf("%s: count %d, items %d, next %q, want %d", query, l.Count, len(l.Items), l.Next, count)
		}
	}
	res, body := w.get("/api/miners?sort=-hashrate")
	l := want[MinerList](t, res, body)
	if *l.Items[0].HashrateHS != 101e12 || l.Items[11].ID != ids[3].String() {
		t.Errorf("highest rate first, unknown last: %s", body)
	}
	res, body = w.get("/api/miners?sort=hashrate")
	if l = want[MinerList](t, res, body); *l.Items[0].HashrateHS != 90e12 || l.Items[11].ID != ids[3].String() {
		t.Errorf("lowest rate first, unknown last: %s", body)
	}
	res, body = w.get("/api/miners?sort=address")
	if l = want[MinerList](t, res, body); l.Items[1].Address != "10.0.0.2:4028" || l.Items[11].Address != "10.0.0.12:4028" {
		t.Errorf("addresses are sorted as text: %s", body)
	}
	for _, query := range []string{"limit=501", "limit=0", "sort=secret", "state=dead", "unknown=1", "site=x", "q=" + strings.Repeat("x", 101)} {
		res, body := w.get("/api/miners?" + query)
		wantProblem(t, res, body, http.StatusUnprocessableEntity, "VALID_001")
	}
	for _, query := range []string{"cursor=abc", "cursor=!!"} {
		res, body := w.get("/api/miners?" + query)
		wantProblem(t, res, body, http.StatusBadRequest, "VALID_001")
	}
}

// Pages are walked while rates change and miners come: each miner that was there from the beginning is seen exactly once.
func TestWalkSeesEachMinerOnceWhileRowsChange(t *testing.T) {
	for _, sort := range []string{"name", "-name", "address", "-model"} {
		t.Run(sort, func(t *testing.T) {
			w := newWorld(t)
			ids := w.miners(60)
			seen := make(map[string]int)
			cursor := ""
			for page := 0; ; page++ {
				res, body := w.get("/api/miners?limit=7&sort=" + url.QueryEscape(sort) + "&cursor=" + url.QueryEscape(cursor))
				l := want[MinerList](t, res, body)
				if l.Count != 60+page {
					t.Errorf("page %d: count %d, want %d", page, l.Count, 60+page)
				}
				for _, m := range l.Items {
					seen[m.ID]++
				}
				if cursor = l.Next; cursor == "" {
					break
				}
				fresh := ident.NewMinerID()
				changes := []telemetry.Observation{w.poll(fresh, 1e12)}
				for _, i := range rand.Perm(60)[:20] {
					changes = append(changes, w.poll(ids[i], rand.Float64()*1e14))
				}
				w.observe([]telemetry.MinerInfo{{Miner: fresh, Address: fmt.Sprintf("10.0.0.%d:4028", 100+page), Model: "New"}}, changes...)
			}
			for _, id := range ids {
				if seen[id.String()] != 1 {
					t.Errorf("miner %s was seen %d times", id, seen[id.String()])
				}
			}
			for id, n := range seen {
				if n > 1 {
					t.Errorf("%s was seen %d times", id, n)
				}
			}
		})
	}
}

func TestSnapshotHasEveryMinerInItsColumns(t *testing.T) {
	w := newWorld(t)
	ids := w.miners(40)
	w.observe(nil, telemetry.Observation{Miner: ids[5], At: w.clock.now(), Outcome: telemetry.OutcomeRefused})
	res, body := w.request("GET", "/api/snapshot", "", "Authorization", "Bearer "+w.owner, "Accept-Encoding", "gzip")
	if res.Header.Get("Content-Encoding") != "gzip" || res.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("headers %v", res.Header)
	}
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body, err = io.ReadAll(z); err != nil {
		t.Fatal(err)
	}
	s := want[Snapshot](t, res, body)
	if len(s.Rows) != 40 || len(s.Sites) != 1 || s.Sites[0].Name != "North" || s.Version == 0 {
		t.Fatalf("snapshot: %.300s", body)
	}
	at := make(map[string]int)
	for i, c := range s.Columns {
		at[c] = i
	}
	for _, row := range s.Rows {
		if len(row) != len(s.Columns) {
			t.Fatalf("row of %d members, %d columns", len(row), len(s.Columns))
		}
		switch row[at["id"]] {
		case ids[5].String():
			if row[at["hashrate_hs"]] != nil || row[at["outcome"]] != "refused" || row[at["state"]] != "unknown" || row[at["answered_ms"]] == nil {
				t.Errorf("failed poll: %v", row)
			}
		default:
			if row[at["state"]] != "hashing" || row[at["fan_rpm_max"]] != 5910.0 || row[at["uptime_s"]] != 3600.0 || row[at["site"]] != 0.0 || row[at["hw_errors"]] != 0.0 || row[at["worker"]] != "acct.w1" {
				t.Errorf("row: %v", row)
			}
		}
	}
	var plain Snapshot
	_, body = w.request("GET", "/api/snapshot", "", "Authorization", "Bearer "+w.owner, "Accept-Encoding", "identity")
	if err := json.Unmarshal(body, &plain); err != nil || len(plain.Rows) != 40 {
		t.Errorf("plain: %v, %d rows", err, len(plain.Rows))
	}
}

// What a miner wrote is text, however it looks.
func TestTextOfMinersIsNeverMarkup(t *testing.T) {
	w := newWorld(t)
	id := w.miners(1)[0]
	const evil = `<script>alert("x")</script>` + "\u2028\r\nevent: reset"
	o := w.poll(id, 1e12)
	o.Pools[0].Worker = evil
	o.Errors = []string{evil}
	w.observe(nil, o)
	for _, path := range []string{"/api/miners", "/api/miners/" + id.String(), "/api/snapshot", "/api/miners?q=%3Cscript%3E"} {
		res, body := w.get(path)
		if got := res.Header.Get("Content-Type"); got != "application/json" || res.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", path, res.Header)
		}
		var v any
		if err := json.Unmarshal(body, &v); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		text, _ := json.Marshal(v)
		wanted, _ := json.Marshal(evil)
		if !bytes.Contains(text, wanted) {
			t.Errorf("%s does not give the text back: %s", path, body)
		}
		if strings.ContainsAny(string(bytes.TrimSpace(body)), "\r\n") {
			t.Errorf("%s has a raw line break, which would end an event", path)
		}
	}
}

func TestSeries(t *testing.T) {
	w := newWorld(t)
	id := w.miners(1)[0]
	path := "/api/miners/" + id.String() + "/series"
	res, body := w.get(path + "?from=2026-05-01T11:00:30Z&to=2026-05-01T12:00:00Z&step=5m&fields=hashrate,power_w")
	s := want[Series](t, res, body)
	if s.StepS != 300 || len(s.Times) != 12 || s.Times[0] != time.Date(2026, 5, 1, 11, 0, 0, 0, time.UTC).Unix() {
		t.Errorf("series: %s", body)
	}
	if len(s.Fields) != 4 || len(s.Fields["hashrate_hs"]) != 12 || s.Fields["hashrate_hs"][0] != nil || *s.Fields["polls"][0] != 0 {
		t.Errorf("fields: %s", body)
	}
	res, body = w.get(path + "?from=2025-05-01T00:00:00Z&to=2026-05-01T00:00:00Z")
	if s = want[Series](t, res, body); len(s.Times) > 2000 || len(s.Times) < 1900 {
		t.Errorf("a year has %d steps of %d s", len(s.Times), s.StepS)
	}
	res, body = w.get(path + "?from=2026-05-01T00:00:00Z&to=2026-05-01T12:00:00Z&step=1")
	if p := wantProblem(t, res, body, http.StatusBadRequest, "VALID_001"); !strings.Contains(p.Detail, "22s") {
		t.Errorf("too many steps: %s", p.Detail)
	}
	for _, query := range []string{"from=yesterday", "to=1", "step=abc", "step=-60s", "step=1.5s", "fields=secret", "from=2026-05-02T00:00:00Z&to=2026-05-01T00:00:00Z"} {
		res, body := w.get(path + "?" + query)
		wantProblem(t, res, body, http.StatusBadRequest, "VALID_001")
	}
	res, body = w.get("/api/miners/" + ident.NewMinerID().String() + "/series")
	wantProblem(t, res, body, http.StatusNotFound, "NOTFOUND_001")
}
