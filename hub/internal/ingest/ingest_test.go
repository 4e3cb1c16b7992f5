package ingest

import (
	"context"
	"crypto/ed25519"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/internal/series"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/wire"
	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"
)

const (
	rowsOf   = `SELECT count(*) FROM telemetry_hot WHERE site_id = $1`
	serials  = `SELECT count(DISTINCT best_share) FROM telemetry_hot WHERE site_id = $1`
	ledger   = `SELECT count(*) FROM batch WHERE site_id = $1`
	linksOK  = `SELECT count(*) FROM batch WHERE site_id = $1 AND link_state = 1`
	letters  = `SELECT count(*) FROM dead_letter WHERE site_id = $1`
	forkRows = `SELECT count(*) FROM batch_fork WHERE site_id = $1`
)

func (h *hub) want(t testing.TB, what, sql string, want int64, args ...any) {
	t.Helper()
	if got := h.count(t, sql, args...); got != want {
		t.Errorf("%s: %d, want %d", what, got, want)
	}
}

func TestBatchIsStoredOnceWithItsSamplesAndLatest(t *testing.T) {
	h := newHub(t, nil)
	s := h.newSite(t, "north", 3)
	l := h.connect(t, s)
	at := time.Now().UTC().Truncate(time.Millisecond)
	infos := []telemetry.MinerInfo{{Miner: s.miners[0], Address: "10.0.0.9:4028", Model: "Antminer S19", Firmware: "stock"}}
	b := s.batchOf(t, s.polls(at), infos)
	l.send(b)
	l.wantAcks(stored, b)
	h.want(t, "hot rows", rowsOf, 3, s.id[:])
	h.want(t, "batches", ledger, 1, s.id[:])
	h.want(t, "links", linksOK, 1, s.id[:])
	h.want(t, "payload kept as sent", `SELECT count(*) FROM batch WHERE payload = $1 AND header = $2 AND signature = $3`, 1, b.Payload, b.Header, b.Signature)
	h.want(t, "row as the miner said", `SELECT count(*) FROM telemetry_hot WHERE ts = $1 AND hashrate_mhs = 100000000 AND hashrate_window_s = 5 AND temp_board_dc = 615
		AND power_dw = 32505 AND uptime_s = 3600 AND fan1_rpm = 5880 AND fan2_rpm IS NULL AND fan3_rpm = 6000 AND temp_chip_dc IS NULL AND took_ms = 40
		AND outcome = 1 AND state = 1 AND flags = 0`, 3, at)

	m, err := h.fleet.Miner(t.Context(), s.miners[0])
	if err != nil {
		t.Fatal(err)
	}
	if rate, _ := m.Hashrate.Get(); rate.Terahashes() != 100 || m.Info.Address != "10.0.0.9:4028" || m.Worker != "farm.001" || len(m.Boards) != 1 ||
		len(m.Pools) != 1 || len(m.Fans) != 3 || m.Fans[1].Present() || !m.At.Equal(at) || !m.AnsweredAt.Equal(at) || m.Stale {
		t.Errorf("latest of the miner: %+v", m)
	}
	points, err := h.series.Miner(t.Context(), series.Query{Site: s.id, Miner: s.miners[0], From: at.Add(-time.Hour), To: at.Add(time.Hour), Step: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	var polls int64
	for _, p := range points {
		polls += p.Polls
	}
	if len(points) < 120 || polls != 1 {
		t.Errorf("series of %d points with %d polls, want 120 with 1", len(points), polls)
	}
}

func TestResentReorderedAndConcurrentDuplicatesAreStoredOnce(t *testing.T) {
	h := newHub(t, nil)
	s := h.newSite(t, "north", 5)
	at := time.Now().Add(-time.Minute)
	var batches []*telemetryv1.Batch
	for i := range 60 {
		batches = append(batches, s.batch(t, at.Add(time.Duration(i)*time.Second)))
	}
	// Three connections of one agent: each takes over from the one before while that one's batches may still be on their way.
	var wg sync.WaitGroup
	for range 3 {
		l := h.connect(t, s)
		mine := append([]*telemetryv1.Batch(nil), batches...)
		rand.Shuffle(len(mine), func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
		wg.Go(func() {
			for _, b := range mine {
				// An error is the end that a newer stream makes of this one.
				if l.stream.Send(&telemetryv1.StreamRequest{Message: &telemetryv1.StreamRequest_Batches{Batches: &telemetryv1.BatchGroup{Batches: []*telemetryv1.Batch{b, b}}}}) != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	l := h.connect(t, s)
	l.send(batches[:30]...)
	l.send(batches[30:]...)
	l.wantAcks(stored, batches...)
	h.want(t, "batches", ledger, 60, s.id[:])
	h.want(t, "hot rows", rowsOf, 300, s.id[:])
	h.want(t, "serial numbers", serials, 300, s.id[:])
	h.want(t, "total batches", `SELECT batches FROM batch_total WHERE site_id = $1`, 60, s.id[:])
	h.want(t, "forks", forkRows, 0, s.id[:])
	if err := pg.InTx(t.Context(), h.pool, func(tx pgx.Tx) error { return SweepLinks(t.Context(), tx) }); err != nil {
		t.Fatal(err)
	}
	h.want(t, "links", linksOK, 60, s.id[:])
}

func TestLinksAreCheckedWhateverTheOrder(t *testing.T) {
	h := newHub(t, nil)
	s := h.newSite(t, "north", 1)
	l := h.connect(t, s)
	at := time.Now().Add(-time.Minute)
	b := []*telemetryv1.Batch{s.batch(t, at), s.batch(t, at), s.batch(t, at)}
	l.send(b[2])
	l.wantAcks(stored, b[2])
	h.want(t, "pending", `SELECT count(*) FROM batch WHERE link_state = 0`, 1)
	l.send(b[0])
	l.wantAcks(stored, b[0])
	l.send(b[1])
	l.wantAcks(stored, b[1])
	l.send(b[1]) // its answer comes after the look at links of the one before
	l.wantAcks(stored, b[1])
	h.want(t, "links", linksOK, 3, s.id[:])

	s.prev = evidence.Hash{1} // the next one names another batch before it than the one stored
	wrong := s.batch(t, at)
	l.send(wrong)
	l.wantAcks(stored, wrong)
	h.want(t, "broken", `SELECT count(*) FROM batch WHERE link_state = 2`, 1)
	if h.metric(t, "hashinsight_ingest_broken_links_total", "") != 1 {
		t.Error("a broken link is not counted")
	}
}

func TestHoleIsAcceptedOnlyWhereAGapRecordNamesIt(t *testing.T) {
	h := newHub(t, nil)
	s := h.newSite(t, "north", 1)
	l := h.connect(t, s)
	at := time.Now().Add(-time.Minute)
	first := s.batch(t, at)
	s.batch(t, at)
	s.batch(t, at) // 2 and 3 are dropped by the site
	dropped := s.prev
	after := s.batch(t, at)
	l.send(first, after)
	l.wantAcks(stored, first, after)
	h.want(t, "pending", `SELECT count(*) FROM batch WHERE link_state = 0`, 1)
	gap := evidence.Gap{Reason: evidence.GapSizeCap, Spool: s.spool, FirstSeq: 2, LastSeq: 3, FirstMS: 1, LastMS: 2, Miners: 1, Samples: 2, LastHash: dropped}
	g := s.sign(evidence.KindGap, evidence.CodecNone, gap.Bytes(), wire.Meta{})
	l.send(g)
	l.wantAcks(stored, g)
	l.send(g)
	l.wantAcks(stored, g)
	h.want(t, "links", linksOK, 3, s.id[:])
	h.want(t, "gap", `SELECT count(*) FROM batch_gap WHERE first_seq = 2 AND last_seq = 3 AND gap_seq = 5`, 1)
}

func TestForkIsRefusedAndItsProofKept(t *testing.T) {
	h := newHub(t, nil)
	s := h.newSite(t, "north", 2)
	l := h.connect(t, s)
	at := time.Now().Add(-time.Minute)
	one := s.batch(t, at)
	s.seq, s.prev = 0, evidence.Hash{}
	other := s.batch(t, at)
	next := s.batch(t, at) // follows the forged first batch
	l.send(one)
	l.wantAcks(stored, one)
	l.send(other)
	if r := l.wantRefusal(telemetryv1.RefusalReason_REFUSAL_REASON_FORK); r.GetSeq() != 1 || r.GetRetryAfterMs() != 0 {
		t.Errorf("refusal %v", r)
	}
	l.send(next)
	l.wantAcks(stored, next)
	h.want(t, "hot rows", rowsOf, 4, s.id[:])
	h.want(t, "broken", `SELECT count(*) FROM batch WHERE link_state = 2 AND seq = 2`, 1)
	var f evidence.Fork
	err := h.pool.QueryRow(t.Context(), `SELECT header_a, signature_a, header_b, signature_b FROM batch_fork`).Scan(&f.HeaderA, &f.SignatureA, &f.HeaderB, &f.SignatureB)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Verify(s.key.Public().(ed25519.PublicKey)); err != nil {
		t.Errorf("the proof does not hold: %v", err)
	}
	if h.metric(t, "hashinsight_ingest_forks_total", "") != 1 {
		t.Error("a fork is not counted")
	}
}

func TestPoisonGoesToQuarantineAndHoldsNobodyUp(t *testing.T) {
	tests := map[string]func(s *site) *telemetryv1.Batch{
		"not compressed": func(s *site) *telemetryv1.Batch {
			return s.sign(evidence.KindSamples, evidence.CodecZstd, []byte("this is no zstd"), wire.Meta{Samples: 1, Miners: 1, FirstMS: 1, LastMS: 2})
		},
		"counts differ": func(s *site) *telemetryv1.Batch {
			payload, meta, err := s.enc.Samples(s.polls(time.Now()), nil)
			if err != nil {
				t.Fatal(err)
			}
			meta.Samples++
			return s.sign(evidence.KindSamples, evidence.CodecZstd, payload, meta)
		},
		"times no clock shows": func(s *site) *telemetryv1.Batch {
			return s.sign(evidence.KindSamples, evidence.CodecZstd, nil, wire.Meta{FirstMS: -1 << 62, LastMS: 1 << 62})
		},
		"payload of a newer agent": func(s *site) *telemetryv1.Batch {
			payload, meta, err := s.enc.Samples(s.polls(time.Now()), nil)
			if err != nil {
				t.Fatal(err)
			}
			return s.signSchema(evidence.Schema+1, evidence.KindSamples, evidence.CodecZstd, payload, meta)
		},
		"key of another site": func(s *site) *telemetryv1.Batch {
			k := evidence.Key{Site: ident.NewSiteID(), Public: s.key.Public().(ed25519.PublicKey)}
			return s.sign(evidence.KindKey, evidence.CodecNone, k.Bytes(), wire.Meta{})
		},
		"key that did not sign it": func(s *site) *telemetryv1.Batch {
			k := evidence.Key{Site: s.id, Public: make(ed25519.PublicKey, ed25519.PublicKeySize)}
			return s.sign(evidence.KindKey, evidence.CodecNone, k.Bytes(), wire.Meta{})
		},
		"gap that names itself": func(s *site) *telemetryv1.Batch {
			g := evidence.Gap{Reason: evidence.GapCorrupt, Spool: s.spool, FirstSeq: 1, LastSeq: 99}
			return s.sign(evidence.KindGap, evidence.CodecNone, g.Bytes(), wire.Meta{})
		},
	}
	h := newHub(t, nil)
	for name, poison := range tests {
		t.Run(name, func(t *testing.T) {
			s := h.newSite(t, name, 2)
			l := h.connect(t, s)
			before := s.batch(t, time.Now())
			bad := poison(s)
			after := s.batch(t, time.Now())
			l.send(before, bad, after)
			var reason string
			for range 3 {
				a := l.recv().GetAck()
				want := stored
				if a.GetSeq() == 2 {
					want, reason = quarantined, a.GetReason()
				}
				if a.GetDisposition() != want {
					t.Errorf("batch %d: %v, want %s", a.GetSeq(), a, want)
				}
			}
			if reason == "" {
				t.Error("the agent is not told why")
			}
			l.send(bad)
			l.wantAcks(quarantined, bad)
			h.want(t, "hot rows", rowsOf, 4, s.id[:])
			// Batches of two transactions are linked a moment after they are acknowledged.
			waitFor(t, "links", func() bool { return h.count(t, linksOK, s.id[:]) == 3 })
			h.want(t, "quarantine", `SELECT count(*) FROM dead_letter WHERE site_id = $1 AND payload = $2 AND header = $3`, 1, s.id[:], append([]byte{}, bad.Payload...), bad.Header)
		})
	}
}

func TestContentThatTheDatabaseRefusesIsFoundByHalving(t *testing.T) {
	h := newHub(t, func(c *Config) { c.GroupDelay = 200 * time.Millisecond })
	ctx := t.Context()
	s := h.newSite(t, "north", 2)
	// A constraint stands in for whatever the database may find fault with.
	if _, err := h.pool.Exec(ctx, `ALTER TABLE telemetry_hot ADD CONSTRAINT no_thirteen CHECK (best_share <> 13)`); err != nil {
		t.Fatal(err)
	}
	l := h.connect(t, s)
	var batches []*telemetryv1.Batch
	for range 20 {
		batches = append(batches, s.batch(t, time.Now()))
	}
	l.send(batches...)
	for range 20 {
		a := l.recv().GetAck()
		want := stored
		if a.GetSeq() == 7 { // serial numbers 13 and 14
			want = quarantined
		}
		if a.GetDisposition() != want {
			t.Errorf("batch %d: %v, want %s", a.GetSeq(), a, want)
		}
	}
	h.want(t, "hot rows", rowsOf, 38, s.id[:])
	h.want(t, "quarantine", letters, 1, s.id[:])
	h.want(t, "batches", ledger, 20, s.id[:])
}

func TestQuarantineIsBounded(t *testing.T) {
	h := newHub(t, func(c *Config) { c.MaxDeadBytes = deadOverhead + 30 })
	s := h.newSite(t, "north", 1)
	l := h.connect(t, s)
	bad := func() *telemetryv1.Batch {
		return s.sign(evidence.KindSamples, evidence.CodecZstd, []byte("twenty bytes of junk"), wire.Meta{})
	}
	first := bad()
	l.send(first)
	l.wantAcks(quarantined, first)
	second := bad()
	l.send(second)
	if r := l.wantRefusal(telemetryv1.RefusalReason_REFUSAL_REASON_QUARANTINE_FULL); r.GetRetryAfterMs() != 0 {
		t.Errorf("refusal %v: only a person can make room", r)
	}
	if h.metric(t, "hashinsight_ingest_bounds_total", "quarantine") != 1 {
		t.Error("the bound is not counted")
	}
	h.want(t, "quarantine", letters, 1, s.id[:])
	good := s.batch(t, time.Now())
	l.send(good)
	// Nothing may ask the agent for silence: its other batches are good.
	if r, err := l.stream.Recv(); err != nil || r.GetAck() == nil {
		t.Errorf("after the refusal comes %v, %v, want the acknowledgement of the next batch", r, err)
	}
	empty := s.sign(evidence.KindSamples, evidence.CodecZstd, nil, wire.Meta{})
	l.send(empty)
	l.wantRefusal(telemetryv1.RefusalReason_REFUSAL_REASON_QUARANTINE_FULL)
}

func TestWhatIsNotAuthenticIsRefusedAndNotKept(t *testing.T) {
	h := newHub(t, nil)
	s := h.newSite(t, "north", 1)
	stranger := h.newSite(t, "south", 1)
	l := h.connect(t, s)
	at := time.Now()
	tests := map[string]func() *telemetryv1.Batch{
		"header of another site": func() *telemetryv1.Batch { return stranger.batch(t, at) },
		"key of another site": func() *telemetryv1.Batch {
			own := s.key
			defer func() { s.key = own }()
			s.key = stranger.key
			return s.batch(t, at)
		},
		"changed payload": func() *telemetryv1.Batch {
			b := s.batch(t, at)
			b.Payload[len(b.Payload)/2] ^= 1
			return b
		},
		"changed header":    func() *telemetryv1.Batch { b := s.batch(t, at); b.Header[147] ^= 1; return b },
		"changed signature": func() *telemetryv1.Batch { b := s.batch(t, at); b.Signature[3] ^= 1; return b },
		"cut header":        func() *telemetryv1.Batch { b := s.batch(t, at); b.Header = b.Header[:100]; return b },
		"another spool": func() *telemetryv1.Batch {
			o := s.spool
			defer func() { s.spool = o }()
			s.spool = ident.NewSpoolID()
			return s.batch(t, at)
		},
		"payload of more than 8 MiB": func() *telemetryv1.Batch {
			return s.sign(evidence.KindHour, 0, make([]byte, wire.MaxPayload+1), wire.Meta{})
		},
		"nothing": func() *telemetryv1.Batch { return &telemetryv1.Batch{} },
		"seq beyond the table": func() *telemetryv1.Batch {
			q := s.seq
			defer func() { s.seq = q }()
			s.seq = 1<<63 + 5
			return s.batch(t, at)
		},
	}
	for name, forge := range tests {
		t.Run(name, func(t *testing.T) {
			seq, prev := s.seq, s.prev
			b := forge()
			s.seq, s.prev = seq, prev
			l.send(b)
			if r := l.wantRefusal(telemetryv1.RefusalReason_REFUSAL_REASON_NOT_AUTHENTIC); r.GetText() == "" {
				t.Error("the agent is not told why")
			}
		})
	}
	good := s.batch(t, at)
	l.send(good)
	l.wantAcks(stored, good)
	h.want(t, "batches", `SELECT count(*) FROM batch`, 1)
	h.want(t, "quarantine", `SELECT count(*) FROM dead_letter`, 0)
	if got := h.metric(t, "hashinsight_ingest_batches_total", "not_authentic"); got != float64(len(tests)) {
		t.Errorf("%v refusals counted, want %d", got, len(tests))
	}
}

func TestRevokedKeySignsNoMore(t *testing.T) {
	h := newHub(t, nil)
	s := h.newSite(t, "north", 1)
	l := h.connect(t, s)
	b := s.batch(t, time.Now())
	l.send(b)
	l.wantAcks(stored, b)
	err := pg.InTx(t.Context(), h.pool, func(tx pgx.Tx) error {
		_, err := fleet.RevokeKey(t.Context(), tx, s.id, ident.KeyIDOf(s.key.Public().(ed25519.PublicKey)), time.Now(), nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	h.server.ForgetKeys(s.id)
	l.send(s.batch(t, time.Now()))
	l.wantRefusal(telemetryv1.RefusalReason_REFUSAL_REASON_NOT_AUTHENTIC)
}

func TestOneAgentPerSite(t *testing.T) {
	h := newHub(t, nil)
	s := h.newSite(t, "north", 1)
	first := h.connect(t, s)

	clone := *s
	clone.spool = ident.NewSpoolID()
	if _, err := h.dial(t, &clone); status.Code(err) != codes.AlreadyExists {
		t.Fatalf("a second agent with the same identity: %v, want AlreadyExists", err)
	}
	second := h.connect(t, s) // the same spool again: a reconnect
	if _, err := first.stream.Recv(); status.Code(err) != codes.Aborted {
		t.Errorf("the stream that was replaced ended with %v, want Aborted", err)
	}
	b := s.batch(t, time.Now())
	second.send(b)
	second.wantAcks(stored, b)
	second.close()
	waitFor(t, "the lease to be given back", func() bool { return h.count(t, `SELECT count(*) FROM agent WHERE connected`) == 0 })
	h.connect(t, &clone) // the agent before is gone
}

func TestStrangersGetNoStream(t *testing.T) {
	h := newHub(t, nil)
	s := h.newSite(t, "north", 1)
	unknown := *s
	unknown.id = ident.NewSiteID()
	unknown.cert = h.ca.issue(t, identity.SiteURI(unknown.id), false)
	if _, err := h.dial(t, &unknown); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a certificate of a site that is not registered: %v, want PermissionDenied", err)
	}
	foreign := *s
	foreign.cert = newAuthority(t).issue(t, identity.SiteURI(s.id), false)
	if _, err := h.dial(t, &foreign); err == nil {
		t.Error("a certificate of another authority was accepted")
	}
}

func TestDisconnectEndsTheStreamWithItsReason(t *testing.T) {
	h := newHub(t, nil)
	s := h.newSite(t, "north", 1)
	l := h.connect(t, s)
	h.server.Disconnect(s.id, "certificate revoked: ask the operator")
	_, err := l.stream.Recv()
	if status.Code(err) != codes.PermissionDenied || status.Convert(err).Message() != "certificate revoked: ask the operator" {
		t.Errorf("stream ended with %v", err)
	}
}

func TestSamplesOutsideTheHotRangeStayEvidence(t *testing.T) {
	h := newHub(t, nil)
	s := h.newSite(t, "north", 2)
	l := h.connect(t, s)
	now := time.Now()
	old, late, future := s.batch(t, now.Add(-30*24*time.Hour)), s.batch(t, now.Add(-50*time.Hour)), s.batch(t, now.Add(72*time.Hour))
	l.send(old, late, future)
	l.wantAcks(stored, old, late, future)
	h.want(t, "batches", ledger, 3, s.id[:])
	h.want(t, "hot rows", rowsOf, 2, s.id[:])
	m, err := h.fleet.Miner(t.Context(), s.miners[0])
	if err != nil {
		t.Fatal(err)
	}
	if m.At.After(now) {
		t.Errorf("the latest poll is of %s: a wrong clock hides true ones", m.At)
	}
}

func TestFailedPollHidesReadingsButNotWhenTheMinerLastAnswered(t *testing.T) {
	h := newHub(t, nil)
	s := h.newSite(t, "north", 1)
	l := h.connect(t, s)
	at := time.Now().UTC().Truncate(time.Millisecond)
	b := s.batch(t, at.Add(-20*time.Second))
	l.send(b)
	l.wantAcks(stored, b)
	failed := s.batchOf(t, []telemetry.Observation{{Miner: s.miners[0], At: at.Add(-10 * time.Second), Outcome: telemetry.OutcomeTimeout, Errors: []string{"no answer"}}}, nil)
	l.send(failed)
	l.wantAcks(stored, failed)
	m, err := h.fleet.Miner(t.Context(), s.miners[0])
	if err != nil {
		t.Fatal(err)
	}
	if m.State != telemetry.StateUnknown || m.Outcome != telemetry.OutcomeTimeout || m.Hashrate.Present() || len(m.Boards) != 0 || m.Worker != "" ||
		!m.At.Equal(at.Add(-10*time.Second)) || !m.AnsweredAt.Equal(at.Add(-20*time.Second)) || len(m.Errors) != 1 {
		t.Errorf("miner after a failed poll: %+v", m)
	}
	// An older answer that comes later moves AnsweredAt and nothing else.
	backlog := s.batch(t, at.Add(-15*time.Second))
	l.send(backlog)
	l.wantAcks(stored, backlog)
	if m, err = h.fleet.Miner(t.Context(), s.miners[0]); err != nil {
		t.Fatal(err)
	}
	if m.Outcome != telemetry.OutcomeTimeout || !m.AnsweredAt.Equal(at.Add(-15*time.Second)) {
		t.Errorf("miner after an older answer came: %+v", m)
	}
}

// waitFor polls a condition that another goroutine of the hub brings about.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // only a failure takes so long
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}

// Agents hear of the newest block when a stream begins, and of a newer one within a minute; a block that has not changed is not told again.
func TestStreamsAreToldOfTheNewestBlock(t *testing.T) {
	if err := pgtest.Start(); err != nil { // outside of the bubble
		t.Fatalf("this test needs PostgreSQL: %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		var block atomic.Pointer[evidence.Beacon]
		block.Store(&evidence.Beacon{ChainID: 8453, BlockNumber: 100, BlockHash: evidence.Hash{1}})
		h := newHub(t, func(c *Config) { c.Beacon = func() evidence.Beacon { return *block.Load() } })
		l := h.connect(t, h.newSite(t, "north", 1))
		if b := l.welcome.GetBeacon(); b.GetChainId() != 8453 || b.GetBlockNumber() != 100 || b.GetBlockHash()[0] != 1 {
			t.Errorf("the welcome says %v", b)
		}
		time.Sleep(10 * time.Minute) // nothing is said
		block.Store(&evidence.Beacon{ChainID: 8453, BlockNumber: 101, BlockHash: evidence.Hash{2}})
		told := time.Now()
		if b := l.recv().GetBeacon(); b.GetBlockNumber() != 101 || time.Since(told) > time.Minute {
			t.Errorf("%s later it says %v", time.Since(told), b)
		}
		l.close()
		h.stop()
		h.pool.Close()
	})
}
