package ingest

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/identity"
)

// A day and some hours pass in virtual time under a stream, and three more without: leases are renewed, partitions are made and dropped, and nothing waits for a real clock.
func TestVirtualDays(t *testing.T) {
	if err := pgtest.Start(); err != nil { // outside of the bubble
		t.Fatalf("this test needs PostgreSQL: %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var maintenance sync.WaitGroup
		maintenance.Go(func() {
			for ctx.Err() == nil {
				if err := errors.Join(h.series.MakePartitions(t.Context()), h.series.Seal(t.Context(), time.Now()), h.series.Retain(t.Context(), time.Now())); err != nil {
					t.Error(err)
				}
				select {
				case <-ctx.Done():
				case <-time.After(10 * time.Minute):
				}
			}
		})
		s := h.newSite(t, "north", 4)
		s.cert = h.ca.issueLasting(t, identity.SiteURI(s.id), false, 100*time.Hour)
		begin := time.Now()
		l := h.connect(t, s)
		const hours = 26
		for range hours {
			b := s.batch(t, time.Now())
			l.send(b)
			l.wantAcks(stored, b)
			time.Sleep(time.Hour)
		}
		h.want(t, "hot rows", rowsOf, hours*4, s.id[:])
		h.want(t, "connected", `SELECT count(*) FROM agent WHERE connected AND lease_until > $1`, 1, time.Now())
		h.want(t, "partitions", `SELECT count(*) FROM pg_inherits WHERE inhparent = 'telemetry_hot'::regclass`, 4)
		l.close()
		time.Sleep(80 * time.Hour)
		h.want(t, "connected after the agent left", `SELECT count(*) FROM agent WHERE connected`, 0)
		h.want(t, "hot rows of the first day, dropped", `SELECT count(*) FROM telemetry_hot WHERE ts < $1`, 0, begin.Truncate(24*time.Hour).Add(24*time.Hour))
		h.want(t, "evidence", ledger, hours, s.id[:])
		cancel()
		maintenance.Wait()
		h.stop()
		h.pool.Close()
	})
}

// Two hub processes share a database; an agent moves from one to the other while its old connection still looks alive.
func TestStreamMovesBetweenHubs(t *testing.T) {
	if err := pgtest.Start(); err != nil { // outside of the bubble
		t.Fatalf("this test needs PostgreSQL: %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		first := newHub(t, nil)
		second := &hub{pool: first.pool, ca: first.ca, reg: prometheus.NewRegistry()}
		second.open(t, slog.New(slog.DiscardHandler), nil)
		s := first.newSite(t, "north", 2)
		old := first.connect(t, s)
		b := s.batch(t, time.Now())
		old.send(b)
		old.wantAcks(stored, b)
		moved := second.connect(t, s)
		time.Sleep(fleet.Lease)
		if _, err := old.stream.Recv(); status.Code(err) != codes.Aborted {
			t.Errorf("the old stream ended with %v, want Aborted", err)
		}
		again, next := b, s.batch(t, time.Now())
		moved.send(again, next)
		moved.wantAcks(stored, again, next)
		first.want(t, "hot rows", rowsOf, 4, s.id[:])
		first.want(t, "connected", `SELECT count(*) FROM agent WHERE connected AND lease_until > $1`, 1, time.Now())
		moved.close()
		old.close()
		first.stop()
		second.stop()
		first.pool.Close()
	})
}
