package ingest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/wire"
	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"
)

// refuseMiner makes the database refuse the samples of one miner, as a bug in a migration may.
func (h *hub) refuseMiner(t testing.TB, s *site) {
	t.Helper()
	h.exec(t, `ALTER TABLE telemetry_hot ADD CONSTRAINT refused CHECK (miner_id <> '`+s.miners[0].String()+`')`)
}

func (h *hub) retryConfig(t testing.TB) RetryConfig {
	t.Helper()
	latest, err := fleet.NewLatest(fleet.LatestConfig{})
	if err != nil {
		t.Fatal(err)
	}
	return RetryConfig{Pool: h.pool, Fleet: h.fleet, Latest: latest, Series: h.series, Facts: h.facts}
}

func TestRetriedLetterEntersTheSeriesOnce(t *testing.T) {
	h := newHub(t, nil)
	s := h.newSite(t, "north", 3)
	l := h.connect(t, s)
	h.refuseMiner(t, s)
	b := s.batch(t, time.Now().Add(-time.Minute))
	l.send(b)
	l.wantAcks(quarantined, b)
	name := BatchName{s.id, s.spool, 1}
	ctx := t.Context()

	held, more, err := DeadLetters(ctx, h.pool, 10)
	if err != nil || more || len(held) != 1 || held[0].BatchName != name || held[0].SiteName != "north" || held[0].Size != int64(len(b.GetPayload())) {
		t.Fatalf("quarantine: %+v, %t, %v", held, more, err)
	}
	if _, err := RetryLetter(ctx, h.retryConfig(t), name); err == nil {
		t.Fatal("a batch that the database still refuses was taken")
	}
	h.want(t, "letters after a retry in vain", letters, 1, s.id[:])
	h.want(t, "hot rows after a retry in vain", rowsOf, 0, s.id[:])

	h.exec(t, `ALTER TABLE telemetry_hot DROP CONSTRAINT refused`)
	var retries sync.WaitGroup
	var mu sync.Mutex
	var done, gone int
	for range 4 {
		c := h.retryConfig(t)
		retries.Go(func() {
			n, err := RetryLetter(context.WithoutCancel(ctx), c, name)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && n == 3:
				done++
			case errors.Is(err, ErrNoLetter):
				gone++
			default:
				t.Errorf("retry: %d samples, %v", n, err)
			}
		})
	}
	retries.Wait()
	if done != 1 || gone != 3 {
		t.Errorf("%d retries stored the batch and %d found nothing, want 1 and 3", done, gone)
	}
	h.want(t, "letters", letters, 0, s.id[:])
	h.want(t, "hot rows", rowsOf, 3, s.id[:])
	h.want(t, "ledger", `SELECT count(*) FROM batch WHERE disposition = 1 AND payload = $1`, 1, b.GetPayload())
	h.want(t, "totals", `SELECT samples - 100 * quarantined FROM batch_total WHERE site_id = $1`, 3, s.id[:])
	if m, err := h.fleet.Miner(ctx, s.miners[1]); err != nil || m.Outcome == 0 {
		t.Errorf("latest poll: %+v, %v", m, err)
	}
	// The agent did not get the first acknowledgement and sends it again.
	l.send(b)
	l.wantAcks(stored, b)
	h.want(t, "hot rows after a duplicate", rowsOf, 3, s.id[:])
}

func TestLetterThatCannotBeReadStaysAndCanBeDropped(t *testing.T) {
	h := newHub(t, nil)
	s := h.newSite(t, "north", 1)
	l := h.connect(t, s)
	b := s.sign(evidence.KindSamples, evidence.CodecZstd, []byte("this is no zstd"), wire.Meta{Samples: 1, Miners: 1, FirstMS: 1, LastMS: 2})
	l.send(b)
	l.wantAcks(quarantined, b)
	name := BatchName{s.id, s.spool, 1}
	if _, err := RetryLetter(t.Context(), h.retryConfig(t), name); err == nil {
		t.Error("nonsense was taken")
	}
	letter, err := DeadLetter(t.Context(), h.pool, name)
	if err != nil || string(letter.Payload) != "this is no zstd" || letter.Reason == "" {
		t.Errorf("letter: %+v, %v", letter, err)
	}
	if err := DropLetter(t.Context(), h.pool, name); err != nil {
		t.Error(err)
	}
	if err := DropLetter(t.Context(), h.pool, name); !errors.Is(err, ErrNoLetter) {
		t.Errorf("a second drop: %v", err)
	}
	h.want(t, "letters", letters, 0, s.id[:])
	h.want(t, "the name stays used", ledger, 1, s.id[:])
	l.send(b)
	l.wantAcks(quarantined, b)
}

func TestLetterThatWasTamperedWithIsNotUsed(t *testing.T) {
	h := newHub(t, nil)
	s := h.newSite(t, "north", 2)
	l := h.connect(t, s)
	h.refuseMiner(t, s)
	b, other := s.batch(t, time.Now()), s.batch(t, time.Now())
	l.send(b, other)
	l.wantAcks(quarantined, b, other)
	h.exec(t, `ALTER TABLE telemetry_hot DROP CONSTRAINT refused`)
	h.exec(t, `UPDATE dead_letter d SET payload = o.payload FROM dead_letter o WHERE d.seq = 1 AND o.seq = 2`)
	if _, err := RetryLetter(t.Context(), h.retryConfig(t), BatchName{s.id, s.spool, 1}); err == nil || !strings.Contains(err.Error(), "not what its site signed") {
		t.Errorf("retry: %v", err)
	}
	h.want(t, "hot rows", rowsOf, 0, s.id[:])
}

func TestProofOfAForkCanBeExported(t *testing.T) {
	h := newHub(t, nil)
	s := h.newSite(t, "north", 1)
	l := h.connect(t, s)
	first := s.batch(t, time.Now())
	l.send(first)
	l.wantAcks(stored, first)
	s.seq = 0
	s.prev = evidence.Hash{}
	second := s.batch(t, time.Now().Add(time.Second))
	l.send(second)
	l.wantRefusal(telemetryv1.RefusalReason_REFUSAL_REASON_FORK)
	list, more, err := Forks(t.Context(), h.pool, 10)
	if err != nil || more || len(list) != 1 {
		t.Fatalf("forks: %v, %t, %v", list, more, err)
	}
	proofs, err := ForksOf(t.Context(), h.pool, h.fleet, list[0].BatchName)
	if err != nil || len(proofs) != 1 {
		t.Fatalf("proofs: %v, %v", proofs, err)
	}
	if err := proofs[0].Proof.Verify(proofs[0].PublicKey); err != nil {
		t.Error(err)
	}
	if proofs[0].HashB != hashOf(t, second) {
		t.Error("the proof is about another batch")
	}
	if _, err := ForksOf(t.Context(), h.pool, h.fleet, BatchName{s.id, s.spool, 2}); !errors.Is(err, ErrNoFork) {
		t.Errorf("no fork: %v", err)
	}
}
