package ingest

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
)

// Somebody sets the hub's clock a day ahead, then two back, then right again, under a stream that goes on.
func TestHubClockThatStepsDisturbsNothing(t *testing.T) {
	if err := pgtest.Start(); err != nil { // outside of the bubble
		t.Fatalf("this test needs PostgreSQL: %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		var wrong atomic.Int64 // what the hub's clock is ahead
		now := func() time.Time { return time.Now().Add(time.Duration(wrong.Load())) }
		h := newHubAt(t, pgtest.New(t), now, nil)
		s := h.newSite(t, "north", 3)
		s.cert = h.ca.issueLasting(t, identity.SiteURI(s.id), false, 100*time.Hour)
		l := h.connect(t, s)
		const each = 12
		sent := int64(0)
		for _, step := range []time.Duration{0, 24 * time.Hour, -24 * time.Hour, 0} {
			wrong.Store(int64(step))
			for range each {
				at := time.Now().UTC().Truncate(time.Millisecond)
				b := s.batch(t, at)
				time.Sleep(10 * time.Second)
				l.send(b)
				l.wantAcks(stored, b)
				sent++
				m, err := h.fleet.Miner(t.Context(), s.miners[0])
				if err != nil {
					t.Fatal(err)
				}
				if !m.At.Equal(at) || !m.AnsweredAt.Equal(at) {
					t.Fatalf("clock %s ahead: the latest poll is of %s, want %s", step, m.At, at)
				}
			}
			synctest.Wait()
			h.want(t, "connected", `SELECT count(*) FROM agent WHERE connected AND lease_until > $1 AND lease_until <= $2`, 1, now(), now().Add(fleet.Lease))
			if n := h.server.level(); n != 0 || h.server.commitTime.Load() < 0 || h.server.unavailable() != 0 {
				t.Errorf("clock %s ahead: credit halved %d times, transactions take %s, away for %s", step, n, time.Duration(h.server.commitTime.Load()), h.server.unavailable())
			}
			l.close()
			l = h.connect(t, s)
			agents, err := h.fleet.Agents(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if skew, ok := agents[0].Skew.Get(); !ok || skew != -step || !agents[0].Connected {
				t.Errorf("clock %s ahead: the agent's clock is shown %s off, connected %t", step, skew, agents[0].Connected)
			}
		}
		h.want(t, "batches", ledger, sent, s.id[:])
		h.want(t, "links in the order of sequence", linksOK, sent, s.id[:])
		h.want(t, "hot rows", rowsOf, 3*sent, s.id[:])
		h.want(t, "negative durations", `SELECT count(*) FROM telemetry_hot WHERE took_ms < 0 OR uptime_s < 0`, 0)
		l.close()
		h.stop()
		h.pool.Close()
	})
}

// A hub process whose clock was a day ahead died, and the clock was set right: the lease it gave holds the site's next spool up for no day.
func TestLeaseOfAClockThatWasAheadHoldsNobody(t *testing.T) {
	virtualHub(t, func(t *testing.T, h *hub) {
		s := h.newSite(t, "north", 1)
		dead, err := fleet.New(fleet.Config{Pool: h.pool, Now: func() time.Time { return time.Now().Add(24 * time.Hour) }})
		if err != nil {
			t.Fatal(err)
		}
		if err := dead.OpenStream(t.Context(), fleet.Stream{ID: [16]byte{1}, Site: s.id, Spool: ident.NewSpoolID(), Version: "test", Remote: "pipe", PollInterval: time.Second}); err != nil {
			t.Fatal(err)
		}
		if agents, err := h.fleet.Agents(t.Context()); err != nil || agents[0].Connected {
			t.Errorf("shown as connected by a lease from the future: %v", err)
		}
		l := h.connect(t, s) // another spool
		b := s.batch(t, time.Now())
		l.send(b)
		l.wantAcks(stored, b)
		l.close()
	})
}
