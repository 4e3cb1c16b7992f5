package ingest

import (
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/pkg/ident"
	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"
)

func TestASiteThatNamesEverNewSpoolsTakesNobodysTurn(t *testing.T) {
	a := &askedSpools{sites: map[ident.SiteID]map[batchKey]time.Time{}}
	now := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	greedy, north := ident.NewSiteID(), ident.NewSiteID()
	asked := 0
	for range 10 * maxAsked {
		if a.first(batchKey{greedy, ident.NewSpoolID(), 1}, now) {
			asked++
		}
	}
	if asked != maxAsked {
		t.Errorf("one site was asked for %d holes, want %d", asked, maxAsked)
	}
	k := batchKey{north, ident.NewSpoolID(), 31}
	if !a.first(k, now) {
		t.Error("another site is not asked")
	}
	if a.first(k, now.Add(askAgain-time.Second)) {
		t.Error("it is asked for the same again before its time")
	}
	if !a.first(batchKey{greedy, ident.NewSpoolID(), 1}, now.Add(askAgain)) {
		t.Error("the greedy site is never asked again")
	}
	a.forget(now.Add(2 * askAgain))
	if len(a.sites) != 0 {
		t.Errorf("%d sites are remembered when nothing is", len(a.sites))
	}
}

func TestOnlySomeOfTheSpoolsInAGreetingAreLookedAt(t *testing.T) {
	h := newHub(t, nil)
	hello := &telemetryv1.Hello{}
	for range maxOthers + 5 {
		id := ident.NewSpoolID()
		hello.OtherSpools = append(hello.OtherSpools, &telemetryv1.OtherSpool{SpoolId: id[:], OldestKeptSeq: 1, NewestSeq: 2})
	}
	if got := h.server.othersOf(hello); len(got) != maxOthers {
		t.Errorf("%d are looked at, want %d", len(got), maxOthers)
	}
	if h.metric(t, "hashinsight_ingest_bounds_total", "other_spools") != 1 {
		t.Error("the bound is not counted")
	}
}
