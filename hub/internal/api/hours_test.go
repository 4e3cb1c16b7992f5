package api

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// sign keeps an hour as ingest does, in a batch of the same chain.
func (w *world) sign(hour time.Time, spool ident.SpoolID, root byte) {
	w.t.Helper()
	if err := pg.InTx(w.t.Context(), w.pool, func(tx pgx.Tx) error {
		_, err := w.facts.Keep(w.t.Context(), tx, []facts.Signed{{
			Hour:  evidence.Hour{Site: w.site, Hour: uint32(hour.Unix() / 3600), Spool: spool, FirstSeq: 3, LastSeq: 9, Leaves: 2, Root: evidence.Hash{root}},
			Spool: spool, Seq: 10 + uint64(root), Header: evidence.Hash{root, 1},
		}}, w.clock.now())
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
}

func TestSignedHoursAndDisputesAreListed(t *testing.T) {
	w := newWorld(t)
	spool, noon := ident.NewSpoolID(), time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC)
	for n := range 3 {
		w.sign(noon.Add(time.Duration(n)*time.Hour), spool, 1)
	}
	if err := w.facts.Judge(t.Context(), w.clock.now()); err != nil { // no batch of theirs has come
		t.Fatal(err)
	}
	res, body := w.get("/api/sites/" + w.site.String() + "/hours?from=2026-05-01T10:20:00Z&to=2026-05-01T12:00:00Z")
	hours := want[SignedHourList](t, res, body)
	if len(hours.Items) != 2 || hours.Items[0].State != "pending" || !strings.Contains(hours.Items[0].Reason, "batches have not come") || hours.Items[0].ComputedRoot != "" ||
		!hours.Items[0].Hour.Equal(noon) || hours.Items[0].SpoolID != spool.String() || hours.Items[0].Leaves != 2 || hours.Items[0].CompleteAt != nil {
		t.Errorf("hours: %s", body)
	}
	for root := range byte(3) {
		w.sign(noon, spool, 2+root)
	}
	res, body = w.get("/api/disputes?limit=2")
	page := want[DisputeList](t, res, body)
	if len(page.Items) != 2 || page.Next == "" || page.Items[0].Kind != "two_roots" || page.Items[0].SiteName != "North" || page.Items[0].OtherSeq != 14 || page.Items[0].InSeq != 11 ||
		!strings.HasPrefix(page.Items[0].OtherRoot, "04") || !strings.HasPrefix(page.Items[0].Root, "01") {
		t.Errorf("disputes: %s", body)
	}
	res, body = w.get("/api/disputes?limit=2&cursor=" + page.Next)
	if page = want[DisputeList](t, res, body); len(page.Items) != 1 || page.Next != "" {
		t.Errorf("second page: %s", body)
	}
	for path, status := range map[string]int{
		"/api/disputes?cursor=-1":                             http.StatusBadRequest,
		"/api/disputes?limit=501":                             http.StatusUnprocessableEntity,
		"/api/sites/" + ident.NewSiteID().String() + "/hours": http.StatusNotFound,
		"/api/sites/" + w.site.String() + "/hours?from=2026-01-01T00:00:00Z&to=2026-05-01T00:00:00Z": http.StatusBadRequest,
		"/api/sites/" + w.site.String() + "/hours?from=2026-05-02T00:00:00Z&to=2026-05-01T00:00:00Z": http.StatusBadRequest,
		"/api/sites/" + w.site.String() + "/hours?from=1969-05-02T00:00:00Z&to=1969-05-03T00:00:00Z": http.StatusBadRequest,
		"/api/sites/" + w.site.String() + "/hours?from=9999-12-01T00:00:00Z&to=9999-12-02T00:00:00Z": http.StatusOK,
		"/api/sites/" + w.site.String() + "/hours?from=yesterday":                                    http.StatusBadRequest,
	} {
		if res, body := w.get(path); res.StatusCode != status {
			t.Errorf("%s: %d %s, want %d", path, res.StatusCode, body, status)
		}
	}
}
