package api

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/internal/series"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// samples stores polls in the series, which observe does not.
func (w *world) samples(observations ...telemetry.Observation) {
	w.t.Helper()
	payload, _, err := w.enc.Samples(observations, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	decoded, err := w.dec.Samples(payload)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, batches := w.t.Context(), []series.Batch{{Site: w.site, Samples: decoded}}
	span, err := w.server.series.Prepare(ctx, batches)
	if err == nil {
		err = pg.InTx(ctx, w.pool, func(tx pgx.Tx) error {
			_, err := w.server.series.Copy(ctx, tx, batches, span)
			return err
		})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// list writes the values of a series as a line of text: a dash where one is unknown.
func list(values []*float64) string {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = "-"
		if v != nil {
			words[i] = string(appendFloat(nil, *v))
		}
	}
	return strings.Join(words, " ")
}

const lastHour = "?from=2026-05-01T11:00:00Z&to=2026-05-01T12:00:00Z"

// partPolls are four polls of a miner: its second board goes silent for a while, and a restart begins the counters of its pool anew.
func (w *world) partPolls(id ident.MinerID) []telemetry.Observation {
	begin := time.Date(2026, 5, 1, 11, 0, 0, 0, time.UTC)
	out := make([]telemetry.Observation, 4)
	for i, accepted := range []int64{100, 130, 130, 5} {
		o := w.poll(id, 100e12)
		o.At = begin.Add(time.Duration(i) * 15 * time.Minute)
		o.Boards = []telemetry.Board{{Index: 0, Hashrate: unit.Some(unit.Hashrate(50e12)), Temps: []unit.Celsius{60, 62.5}, ChipsWorking: unit.Some(int32(76))}}
		if i != 1 {
			o.Boards = append(o.Boards, telemetry.Board{Index: 1, Hashrate: unit.Some(unit.Hashrate(0)), HardwareErrors: unit.Some(int64(i))})
		}
		o.Pools = []telemetry.Pool{{URL: "pool.example:3333", Worker: "acct.w1", Alive: unit.Some(i != 2), Accepted: unit.Some(accepted)}}
		out[i] = o
	}
	return out
}

func TestBoardsSeries(t *testing.T) {
	w := newWorld(t)
	id := w.miners(1)[0]
	w.samples(w.partPolls(id)...)
	res, body := w.get("/api/miners/" + id.String() + "/boards" + lastHour + "&step=15m")
	s := want[BoardsSeries](t, res, body)
	if s.StepS != 900 || len(s.Times) != 4 || s.Times[0] != s.From.Unix() || len(s.Boards) != 2 || s.Boards[1].Index != 1 {
		t.Fatalf("boards: %s", body)
	}
	for name, wanted := range map[string][2]string{
		"hashrate_hs":     {"50000000000000 50000000000000 50000000000000 50000000000000", "0 - 0 0"}, // nothing is not zero
		"temp_c":          {"62.5 62.5 62.5 62.5", "- - - -"},
		"chips_working":   {"76 76 76 76", "- - - -"},
		"hardware_errors": {"- - - -", "0 - 2 3"},
		"polls":           {"1 1 1 1", "1 0 1 1"},
	} {
		for i, line := range wanted {
			if got := list(s.Boards[i].Fields[name]); got != line {
				t.Errorf("%s of board %d: %s, want %s", name, i, got, line)
			}
		}
	}
}

func TestPoolsSeries(t *testing.T) {
	w := newWorld(t)
	id := w.miners(1)[0]
	w.samples(w.partPolls(id)...)
	res, body := w.get("/api/miners/" + id.String() + "/pools" + lastHour + "&step=15m")
	s := want[PoolsSeries](t, res, body)
	if len(s.Times) != 4 || len(s.Pools) != 1 || s.Pools[0].URL != "pool.example:3333" || s.Pools[0].Worker != "acct.w1" {
		t.Fatalf("pools: %s", body)
	}
	for name, line := range map[string]string{"accepted": "100 130 130 5", "rejected": "- - - -", "polls": "1 1 1 1", "alive": "1 1 0 1", "active": "0 0 0 0"} {
		if got := list(s.Pools[0].Fields[name]); got != line {
			t.Errorf("%s: %s, want %s", name, got, line)
		}
	}
}

func TestPartsOfAMinerWithoutAny(t *testing.T) {
	w := newWorld(t)
	path := "/api/miners/" + w.miners(1)[0].String()
	res, body := w.get(path + "/boards" + lastHour + "&step=5m")
	if s := want[BoardsSeries](t, res, body); len(s.Times) != 12 || s.Boards == nil || len(s.Boards) != 0 {
		t.Errorf("boards: %s", body)
	}
	res, body = w.get(path + "/pools" + lastHour + "&step=5m")
	if s := want[PoolsSeries](t, res, body); len(s.Times) != 12 || s.Pools == nil || len(s.Pools) != 0 {
		t.Errorf("pools: %s", body)
	}
	for _, part := range []string{"/boards", "/pools"} {
		res, body = w.get(path + part + "?from=2026-05-01T00:00:00Z&to=2026-05-01T12:00:00Z&step=1")
		wantProblem(t, res, body, http.StatusBadRequest, "VALID_001")
		res, body = w.get(path + part + "?from=yesterday")
		wantProblem(t, res, body, http.StatusBadRequest, "VALID_001")
		res, body = w.get("/api/miners/" + ident.NewMinerID().String() + part)
		wantProblem(t, res, body, http.StatusNotFound, "NOTFOUND_001")
	}
}

func TestSiteSeries(t *testing.T) {
	w := newWorld(t)
	ids := w.miners(2)
	silent := w.poll(ids[1], 0)
	silent.At, silent.Outcome = time.Date(2026, 5, 1, 11, 2, 0, 0, time.UTC), telemetry.OutcomeTimeout
	silent.Hashrate, silent.Power, silent.TempChip = unit.Opt[unit.Hashrate]{}, unit.Opt[unit.Watts]{}, unit.Opt[unit.Celsius]{}
	w.samples(append(w.partPolls(ids[0]), silent)...)
	if err := w.server.series.Seal(t.Context(), w.clock.now()); err != nil {
		t.Fatal(err)
	}
	path := "/api/sites/" + w.site.String() + "/series"
	res, body := w.get(path + "?from=2026-05-01T10:58:00Z&to=2026-05-01T11:20:00Z")
	s := want[SiteSeries](t, res, body)
	if s.StepS != 300 || len(s.Times) != 5 || s.Times[0] != time.Date(2026, 5, 1, 10, 55, 0, 0, time.UTC).Unix() {
		t.Fatalf("steps: %s", body)
	}
	for name, line := range map[string]string{
		"hashrate_hs": "- 100000000000000 - - 100000000000000", "power_w": "- 3250 - - 3250", "temp_chip_c": "- 72 - - 72",
		"miners": "0 2 0 0 1", "miners_answered": "0 1 0 0 1", "polls": "0 2 0 0 1", "answered": "0 1 0 0 1",
	} {
		if got := list(s.Fields[name]); got != line {
			t.Errorf("%s: %s, want %s", name, got, line)
		}
	}
	for _, query := range []string{
		"?from=yesterday", "?to=1", "?from=2026-05-02T00:00:00Z&to=2026-05-01T00:00:00Z",
		"?from=2025-05-01T00:00:00Z&to=2026-05-01T00:00:00Z",
	} {
		res, body := w.get(path + query)
		wantProblem(t, res, body, http.StatusBadRequest, "VALID_001")
	}
	res, body = w.get("/api/sites/" + ident.NewSiteID().String() + "/series")
	wantProblem(t, res, body, http.StatusNotFound, "NOTFOUND_001")
}
