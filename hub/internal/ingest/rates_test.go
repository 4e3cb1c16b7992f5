package ingest

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"
)

func TestNoTrueSiteIsSlowedDown(t *testing.T) {
	var limit SiteRate
	limit.setDefaults()
	start := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	const sample = 53 // bytes, with boards and pools, as measured for P7
	tests := map[string]func(r *rates, site ident.SiteID, now time.Time) time.Time{
		"20,000 miners every second, for a day": func(r *rates, site ident.SiteID, now time.Time) time.Time {
			for range 24 * 3600 {
				now = now.Add(time.Second)
				r.take(site, cost{1, 20_000, 20_000 * sample}, 1, now)
			}
			return now
		},
		"a full spool of large batches, at once": func(r *rates, site ident.SiteID, now time.Time) time.Time {
			for range (4 << 30) / (1000 * sample) {
				r.take(site, cost{1, 1000, 1000 * sample}, 1, now)
			}
			return now
		},
		"three days of a batch every second, at once": func(r *rates, site ident.SiteID, now time.Time) time.Time {
			for range 3 * 24 * 3600 {
				r.take(site, cost{1, 100, 100 * sample}, 1, now)
			}
			return now
		},
	}
	for name, send := range tests {
		t.Run(name, func(t *testing.T) {
			r, site := &rates{limit: limit, sites: map[ident.SiteID]*reserve{}}, ident.NewSiteID()
			now := send(r, site, start)
			if d := r.rest(site, now); d != 0 || r.owing(now) != 0 {
				t.Errorf("it is told to rest for %s", d)
			}
			r.forget(now.Add(limit.Reserve))
			if len(r.sites) != 0 {
				t.Error("a site that is silent for long is still remembered")
			}
		})
	}
}

func TestSiteBeyondItsRateIsSlowedDownAndNobodyElse(t *testing.T) {
	if err := pgtest.Start(); err != nil { // outside of the bubble
		t.Fatalf("this test needs PostgreSQL: %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, func(c *Config) { c.Rate = SiteRate{Batches: 2, Reserve: 10 * time.Second} })
		flood, good := h.newSite(t, "flood", 1), h.newSite(t, "good", 1)
		for _, s := range []*site{flood, good} {
			s.cert = h.ca.issueLasting(t, identity.SiteURI(s.id), false, 100*time.Hour)
		}
		lf, lg := h.connect(t, flood), h.connect(t, good)
		const batches = 200
		made := make([]*telemetryv1.Batch, batches)
		for i := range made {
			made[i] = flood.light(0)
		}
		begin := time.Now()
		done := make(chan struct{})
		go func() { // heeds nothing
			defer close(done)
			for _, b := range made {
				lf.send(b)
			}
		}()
		time.Sleep(time.Second)
		b := good.batch(t, time.Now())
		lg.send(b)
		lg.wantAcks(stored, b)
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("another site's batch is acknowledged after %s", took)
		}
		var told []*telemetryv1.Credit
		for acked := 0; acked < batches; {
			r, err := lf.stream.Recv()
			if err != nil {
				t.Fatalf("after %d acknowledgements: %v", acked, err)
			}
			if c := r.GetCredit(); c != nil {
				told = append(told, c)
			} else if r.GetAck() == nil {
				t.Fatalf("answer %v, want an acknowledgement", r)
			} else {
				acked++
			}
		}
		<-done
		// 20 in reserve, and 2 a second.
		if took := time.Since(begin); took < 85*time.Second || took > 95*time.Second {
			t.Errorf("%d batches were taken in %s, want 90 s", batches, took)
		}
		if len(told) == 0 || told[0].GetRetryAfterMs() < 1000 || !strings.Contains(told[0].GetText(), "2 batches") {
			t.Errorf("the agent was told %v", told)
		}
		if h.metric(t, "hashinsight_ingest_bounds_total", "site_rate") == 0 {
			t.Error("slowing down is not counted")
		}
		h.want(t, "batches", ledger, batches, flood.id[:])
		lf.close()
		lg.close()
		h.stop()
		h.pool.Close()
	})
}

func TestForksBeyondABoundAreCountedAndNotKept(t *testing.T) {
	h := newHub(t, func(c *Config) { c.MaxForks = 3 })
	s := h.newSite(t, "north", 1)
	l := h.connect(t, s)
	signed := func(at int64) *telemetryv1.Batch {
		s.seq, s.prev = 0, evidence.Hash{}
		return s.light(at)
	}
	first := signed(100)
	l.send(first)
	l.wantAcks(stored, first)
	refuse := func(n int) (last *telemetryv1.Refusal) {
		l.send(signed(int64(n)))
		return l.wantRefusal(telemetryv1.RefusalReason_REFUSAL_REASON_FORK)
	}
	for n := range 5 {
		if r, kept := refuse(n), n < 3; strings.Contains(r.GetText(), "the proof is kept") != kept {
			t.Errorf("fork %d is refused with %q", n, r.GetText())
		}
	}
	h.want(t, "proofs", forkRows, 3, s.id[:])
	if n, err := ForksNotKept(t.Context(), h.pool); err != nil || n != 2 {
		t.Errorf("%d forks counted and not kept, want 2: %v", n, err)
	}
	if n := h.metric(t, "hashinsight_ingest_forks_total", ""); n != 5 {
		t.Errorf("%g forks counted, want 5", n)
	}
	// A site with many spools has a bound of its own.
	h.exec(t, `UPDATE batch_fork SET spool_id = gen_random_uuid()`)
	h.exec(t, `INSERT INTO batch_fork SELECT site_id, gen_random_uuid(), seq, hash_b, header_a, signature_a, header_b, signature_b, found_at
		FROM batch_fork, generate_series(1, 9) LIMIT 27`)
	refuse(6)
	h.want(t, "proofs", forkRows, 30, s.id[:])
	// The ledger goes on.
	next := s.light(0)
	l.send(next)
	l.wantAcks(stored, next)
}

// A message of very many small batches could make a site owe for long before it can be slowed down.
func TestMessageOfTooManyBatchesEndsTheStream(t *testing.T) {
	h := newHub(t, nil)
	s := h.newSite(t, "north", 1)
	l := h.connect(t, s)
	made := make([]*telemetryv1.Batch, maxGroupBatches+1)
	for i := range made {
		made[i] = s.light(0)
	}
	l.send(made...)
	if r, err := l.stream.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("answer %v, %v, want InvalidArgument", r, err)
	}
	h.want(t, "batches", ledger, 0, s.id[:])
}
