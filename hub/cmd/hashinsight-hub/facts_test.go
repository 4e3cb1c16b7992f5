package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

func TestHoursAndDisputesCommands(t *testing.T) {
	url := pgtest.URL(t)
	env := append(environment(t), "DATABASE_URL="+url)
	pool, err := pgxpool.New(t.Context(), url)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(err)
	defer pool.Close()
	entries, err := audit.New(audit.Config{})
	must(err)
	s, err := facts.New(facts.Config{Pool: pool, Audit: entries})
	must(err)
	site, spool, hour := ident.NewSiteID(), ident.NewSpoolID(), time.Now().Add(-2*time.Hour).UTC().Truncate(time.Hour)
	must(pg.InTx(t.Context(), pool, func(tx pgx.Tx) error {
		if err := fleet.RegisterSite(t.Context(), tx, fleet.Registration{Site: site, Name: "north", Key: make([]byte, 32), At: time.Now()}); err != nil {
			return err
		}
		for seq := range uint64(2) { // two roots
			if _, err := s.Keep(t.Context(), tx, []facts.Signed{{
				Hour:  evidence.Hour{Site: site, Hour: uint32(hour.Unix() / 3600), Spool: spool, FirstSeq: 1, LastSeq: 4, Leaves: 1, Root: evidence.Hash{byte(seq)}},
				Spool: spool, Seq: 5 + seq, Header: evidence.Hash{7, byte(seq)},
			}}, time.Now()); err != nil {
				return err
			}
		}
		return nil
	}))
	stdout, stderr, err := output(t, env, "hours", "list", "--site", site.String(), "-o", "json")
	var hours []hourView
	if jerr := json.Unmarshal([]byte(stdout), &hours); err != nil || jerr != nil || len(hours) != 1 || !hours[0].Hour.Equal(hour) || hours[0].State != "pending" || hours[0].InSeq != 5 {
		t.Fatalf("hours: %v %v %s %s", err, jerr, stdout, stderr)
	}
	if stdout, stderr, err = output(t, env, "hours", "list", "--site", site.String(), "--from", "2026-01-01T00", "--to", "2026-01-02T00"); err != nil || strings.Contains(stdout, spool.String()) {
		t.Errorf("hours of another day: %v %s %s", err, stdout, stderr)
	}
	stdout, stderr, err = output(t, env, "disputes", "list", "-o", "json")
	var list []disputeView
	if jerr := json.Unmarshal([]byte(stdout), &list); err != nil || jerr != nil || len(list) != 1 || list[0].Kind != "two_roots" || list[0].OtherSeq != 6 || list[0].SiteName != "north" {
		t.Fatalf("disputes: %v %v %s %s", err, jerr, stdout, stderr)
	}
	if stdout, stderr, err = output(t, env, "disputes", "list"); err != nil || !strings.Contains(stdout, "the site signed two roots") {
		t.Errorf("disputes: %v %s %s", err, stdout, stderr)
	}
	if stdout, stderr, err = output(t, env, "disputes", "show", "1"); err != nil || !strings.Contains(stdout, `"other_header_hash": "0701`) {
		t.Errorf("dispute: %v %s %s", err, stdout, stderr)
	}
	for _, args := range [][]string{
		{"disputes", "show", "2"}, {"disputes", "show", "x"}, {"hours", "list"}, {"hours", "list", "--site", ident.NewSiteID().String()},
		{"hours", "list", "--site", site.String(), "--from", "yesterday"}, {"hours", "list", "--site", site.String(), "--from", "2020-01-01T00"},
	} {
		if stdout, stderr, err := output(t, env, args...); err == nil || stderr == "" {
			t.Errorf("%v: %v %s %s", args, err, stdout, stderr)
		}
	}
}
