package ingest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/archive"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
	"github.com/hashinsight/hashinsight/pkg/wire"
	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"
)

// signer is a site that computes facts from what it has signed, as its agent does, and signs hours.
type signer struct {
	*site
	t     *testing.T
	h     *hub
	facts *evidence.Facts
	salts map[ident.MinerID][32]byte
	done  int64 // MH on every miner's counter
	dec   *wire.Decoder
}

func (h *hub) newSigner(t *testing.T, miners int) *signer {
	t.Helper()
	a := &signer{site: h.newSite(t, "north", miners), t: t, h: h, salts: map[ident.MinerID][32]byte{}}
	a.facts = evidence.NewFacts(a.id, a.spool)
	for _, m := range a.miners {
		var key [32]byte
		_, _ = rand.Read(key[:]) // never fails
		a.salts[m] = key
	}
	var err error
	if a.dec, err = wire.NewDecoder(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.dec.Close)
	return a
}

// hourOf is the hour that ended some hours ago.
func hourOf(ago time.Duration) uint32 { return uint32(time.Now().Add(-ago).Unix() / 3600) }

func beginOf(hour uint32) time.Time { return time.Unix(int64(hour)*3600, 0).UTC() }

// polled is a poll of every miner at a time; each does 100 TH/s.
func (a *signer) polled(at time.Time) (out []telemetry.Observation) {
	a.done += 100_000_000 * 60
	for i, m := range a.miners {
		out = append(out, telemetry.Observation{
			Miner: m, At: at.Add(time.Duration(i%50) * time.Millisecond), Outcome: telemetry.OutcomeOK, State: telemetry.StateHashing, Hashrate: unit.Some(100 * unit.TerahashPerSecond),
			Hashes: unit.Some(a.done), Uptime: unit.Some(24 * time.Hour), Energy: unit.Some(a.done / 30_000),
		})
	}
	return out
}

// count has the facts count a batch, as an agent does after each commit.
func (a *signer) count(b *telemetryv1.Batch) *telemetryv1.Batch {
	a.t.Helper()
	samples, err := a.dec.Samples(b.GetPayload())
	if err != nil {
		a.t.Fatal(err)
	}
	samples.EachFact(func(o *telemetry.Observation) { a.facts.Add(a.seq, o) })
	return b
}

// minutes signs batches of five polls each, one a minute, from one time to another.
func (a *signer) minutes(from, to time.Time) (out []*telemetryv1.Batch) {
	a.t.Helper()
	for at := from; at.Before(to); at = at.Add(5 * time.Minute) {
		var polls []telemetry.Observation
		for n := range 5 {
			polls = append(polls, a.polled(at.Add(time.Duration(n)*time.Minute))...)
		}
		out = append(out, a.count(a.batchOf(a.t, polls, nil)))
	}
	return out
}

// close returns the salted leaves of an hour.
func (a *signer) close(hour uint32) []evidence.Leaf {
	leaves := a.facts.Close(hour, a.seq)
	for i := range leaves {
		leaves[i].Salt = evidence.SaltOf(a.salts[leaves[i].Miner], hour)
	}
	return leaves
}

// hourWith signs leaves in the site's present chain.
func (a *signer) hourWith(leaves []evidence.Leaf) *telemetryv1.Batch {
	a.t.Helper()
	tree, err := evidence.NewTree(leaves)
	if err != nil {
		a.t.Fatal(err)
	}
	h := evidence.Hour{Site: a.id, Hour: leaves[0].Hour, Spool: leaves[0].Spool, FirstSeq: leaves[0].FirstSeq, LastSeq: leaves[0].LastSeq, Leaves: uint32(len(leaves)), Root: tree.Root()}
	for i := range leaves {
		h.FirstSeq = min(h.FirstSeq, leaves[i].FirstSeq)
	}
	return a.signHour(h)
}

func (a *signer) signHour(h evidence.Hour) *telemetryv1.Batch {
	begin := int64(h.Hour) * evidence.HourMS
	return a.signSchema(evidence.SchemaFirst, evidence.KindHour, evidence.CodecNone, h.Bytes(), wire.Meta{Miners: h.Leaves, FirstMS: begin, LastMS: begin + evidence.HourMS - 1})
}

// hour closes and signs an hour.
func (a *signer) hour(hour uint32) (*telemetryv1.Batch, []evidence.Leaf) {
	leaves := a.close(hour)
	return a.hourWith(leaves), leaves
}

func (a *signer) keepSalts() {
	a.t.Helper()
	var keys []facts.SaltKey
	for m, key := range a.salts {
		keys = append(keys, facts.SaltKey{Miner: m, Key: key})
	}
	if err := a.h.facts.KeepSalts(a.t.Context(), a.id, keys); err != nil {
		a.t.Fatal(err)
	}
}

// deliver sends batches and waits for their acknowledgements.
func (a *signer) deliver(batches ...*telemetryv1.Batch) {
	a.t.Helper()
	var l *link
	waitFor(a.t, "the stream", func() (open bool) { // the one before ends a moment after it was closed
		var err error
		l, err = a.h.dial(a.t, a.site)
		return err == nil
	})
	defer l.close()
	for part := range slices.Chunk(batches, 20) {
		l.send(part...)
		l.wantAcks(stored, part...)
	}
}

func (a *signer) judge(after time.Duration) {
	a.t.Helper()
	if err := a.h.facts.Judge(a.t.Context(), time.Now().Add(after)); err != nil {
		a.t.Fatal(err)
	}
}

// state returns what the hub says of an hour of a chain.
func (a *signer) state(hour uint32, spool ident.SpoolID) facts.Hour {
	a.t.Helper()
	hours, err := a.h.facts.Hours(a.t.Context(), a.h.pool, a.id, hour, hour+1)
	if err != nil {
		a.t.Fatal(err)
	}
	for _, h := range hours {
		if h.Spool == spool {
			return h
		}
	}
	a.t.Fatalf("hour %d of spool %s is not known", hour, spool)
	return facts.Hour{}
}

func (a *signer) wantState(hour uint32, want facts.State, reason string) facts.Hour {
	a.t.Helper()
	h := a.state(hour, a.spool)
	if h.State != want || !strings.Contains(h.Reason, reason) || reason == "" && h.Reason != "" {
		a.t.Fatalf("the hour is %s, %q, want %s, %q", h.State, h.Reason, want, reason)
	}
	return h
}

func (a *signer) leaves(hour uint32, miners []ident.MinerID) (out []evidence.Leaf) {
	a.t.Helper()
	if err := a.h.facts.Each(a.t.Context(), a.h.pool, a.id, hour, hour+1, miners, func(h *facts.Hour, l *evidence.Leaf) error {
		if h.Hour != hour {
			return fmt.Errorf("a leaf of hour %d", h.Hour)
		}
		out = append(out, *l)
		return nil
	}); err != nil {
		a.t.Fatal(err)
	}
	return out
}

// changed takes the notes.
func (a *signer) changed() (out []facts.SiteHour) {
	a.t.Helper()
	if err := pg.InTx(a.t.Context(), a.h.pool, func(tx pgx.Tx) (err error) {
		out, err = a.h.facts.TakeChanged(a.t.Context(), tx, 1000)
		return err
	}); err != nil {
		a.t.Fatal(err)
	}
	return out
}

func TestASignedHourIsAgreedWhenItsBatchesGiveTheSameLeaves(t *testing.T) {
	h := newHub(t, nil)
	a := h.newSigner(t, 600) // three pages
	first := hourOf(4 * time.Hour)
	a.keepSalts()
	a.deliver(a.minutes(beginOf(first).Add(-30*time.Minute), beginOf(first+1).Add(time.Minute))...)
	one, leaves := a.hour(first)
	a.deliver(one)
	a.deliver(a.minutes(beginOf(first+1).Add(5*time.Minute), beginOf(first+2).Add(time.Minute))...)
	two, more := a.hour(first + 1)
	a.deliver(two)
	a.judge(0)
	for hour, want := range map[uint32][]evidence.Leaf{first: leaves, first + 1: more} {
		got := a.wantState(hour, facts.Agreed, "")
		if got.ComputedRoot != got.Root || got.ComputedLeaves != 600 || got.CompleteAt.Before(got.ReceivedAt) || got.SkewSlots != 0 {
			t.Errorf("the hour is %+v", got)
		}
		if !reflect.DeepEqual(a.leaves(hour, nil), want) {
			t.Errorf("the leaves of hour %d are not those that the site has", hour-first)
		}
		some := []ident.MinerID{want[3].Miner, want[599].Miner, ident.NewMinerID()}
		if got := a.leaves(hour, some); !reflect.DeepEqual(got, []evidence.Leaf{want[3], want[599]}) {
			t.Errorf("%d leaves of two miners", len(got))
		}
	}
	for i := range leaves[0].Slots {
		if s := &leaves[0].Slots[i]; s.Polls != 5 || s.Hashes != 100_000_000*300 || s.Source != evidence.SourceCounter {
			t.Errorf("slot %d is %+v", i, s)
		}
	}
	if got := a.changed(); !reflect.DeepEqual(got, []facts.SiteHour{{Site: a.id, Hour: first}, {Site: a.id, Hour: first + 1}}) {
		t.Errorf("notes of %v", got)
	}
	if got := a.changed(); len(got) != 0 {
		t.Errorf("notes of %v come twice", got)
	}
	if n := h.metric(t, "hashinsight_facts_hours_judged_total", "agreed"); n != 2 {
		t.Errorf("%v hours counted", n)
	}
	h.want(t, "disputes", `SELECT count(*) FROM hour_dispute`, 0)
	// Both are in the log, whole: with header, signature and payload.
	h.want(t, "entries of the log", `SELECT count(*) FROM log_entry e JOIN batch b ON e.body = b.header || b.signature || b.payload AND e.noted_ms = extract(epoch FROM b.received_at) * 1000 WHERE e.kind = 1`, 2)
	a.judge(time.Hour) // nothing is left
	h.want(t, "notes", `SELECT count(*) FROM facts_changed`, 0)
}

func TestNewestFirstAnHourWaitsForItsBatchesAndItsSaltKeys(t *testing.T) {
	h := newHub(t, nil)
	a := h.newSigner(t, 3)
	hour := hourOf(3 * time.Hour)
	before := a.minutes(beginOf(hour).Add(-2*time.Hour), beginOf(hour).Add(-time.Hour))
	needed := a.minutes(beginOf(hour).Add(-time.Hour), beginOf(hour+1).Add(time.Minute))
	b, leaves := a.hour(hour)
	a.deliver(b)
	a.judge(0)
	a.wantState(hour, facts.Pending, "batches have not come")
	if n := h.metric(t, "hashinsight_facts_hours_pending", ""); n != 1 {
		t.Errorf("%v hours wait", n)
	}
	slices.Reverse(needed)
	a.deliver(needed[:len(needed)-1]...)
	a.judge(time.Minute)
	a.wantState(hour, facts.Pending, "batches have not come")
	a.deliver(needed[len(needed)-1])
	a.judge(5 * time.Minute)
	a.wantState(hour, facts.Pending, "batches have not come") // where to begin shows only by the batch before
	a.deliver(before[len(before)-1])
	a.judge(20 * time.Minute)
	a.wantState(hour, facts.Pending, "salt keys of 3 of 3 miners")
	a.keepSalts()
	a.judge(20 * time.Minute) // what waits for salt keys is looked at at once
	got := a.wantState(hour, facts.Agreed, "")
	var last time.Time
	if err := h.pool.QueryRow(t.Context(), `SELECT max(received_at) FROM batch WHERE seq <= $1 AND seq >= $2`, int64(got.LastSeq), int64(got.FirstSeq)).Scan(&last); err != nil {
		t.Fatal(err)
	}
	if !got.CompleteAt.Equal(last) || got.CompleteAt.Before(got.ReceivedAt) {
		t.Errorf("complete at %s, received at %s, want %s", got.CompleteAt, got.ReceivedAt, last)
	}
	if !reflect.DeepEqual(a.leaves(hour, nil), leaves) {
		t.Error("the leaves are not those that the site has")
	}
}

func TestPollsThatComeAfterTheHourWasSignedCountInNoLeaf(t *testing.T) {
	h := newHub(t, nil)
	a := h.newSigner(t, 2)
	hour := hourOf(3 * time.Hour)
	a.keepSalts()
	batches := a.minutes(beginOf(hour), beginOf(hour+1).Add(time.Minute))
	b, leaves := a.hour(hour)
	late := a.batchOf(t, a.polled(beginOf(hour).Add(30*time.Minute+7*time.Second)), nil)
	a.deliver(append(batches, b, late)...)
	a.judge(0)
	a.wantState(hour, facts.Agreed, "")
	if !reflect.DeepEqual(a.leaves(hour, nil), leaves) {
		t.Error("the leaves are not those that the site has")
	}
}

func TestAnHourThatItsBatchesDoNotGiveIsDisputed(t *testing.T) {
	h := newHub(t, nil)
	a := h.newSigner(t, 3)
	hour := hourOf(3 * time.Hour)
	a.keepSalts()
	batches := a.minutes(beginOf(hour), beginOf(hour+1).Add(time.Minute))
	honest := a.close(hour)
	lie := slices.Clone(honest)
	lie[1].Slots[4].Hashes *= 2
	b := a.hourWith(lie)
	a.deliver(append(batches, b)...)
	a.judge(0)
	got := a.wantState(hour, facts.Disputed, "the site signed 3 leaves with root")
	if got.ComputedRoot == got.Root || got.CompleteAt.IsZero() {
		t.Errorf("the hour is %+v", got)
	}
	if !reflect.DeepEqual(a.leaves(hour, nil), honest) {
		t.Error("the kept leaves are not what the batches give")
	}
	if n := len(a.changed()); n != 1 {
		t.Errorf("%d notes", n)
	}
	list, err := h.facts.Disputes(t.Context(), 0, 10)
	if err != nil || len(list) != 1 {
		t.Fatalf("%d disputes, %v", len(list), err)
	}
	d := list[0]
	if d.Kind != facts.DisputeRoot || d.SiteName != "north" || d.Root != got.Root || d.OtherRoot != got.ComputedRoot || d.Key != got.Key || d.InSeq != got.InSeq || d.OtherSeq != 0 {
		t.Errorf("the dispute is %+v", d)
	}
	if n := h.metric(t, "hashinsight_facts_disputes_total", "root"); n != 1 {
		t.Errorf("%v disputes counted", n)
	}
	h.want(t, "audit entries", `SELECT count(*) FROM audit_pending WHERE action = 'hour_disputed' AND level = 'SECURITY' AND user_id = $1::text`, 1, a.id.String())
	a.judge(100 * time.Hour)
	a.wantState(hour, facts.Disputed, "the site signed 3 leaves") // it stays
}

// What counts came late only if the site says so; one that names a later first batch is found out.
func TestASiteCannotHideWhichBatchesCount(t *testing.T) {
	h := newHub(t, nil)
	a := h.newSigner(t, 2)
	hour := hourOf(3 * time.Hour)
	a.keepSalts()
	batches := a.minutes(beginOf(hour), beginOf(hour+1).Add(time.Minute))
	leaves := a.close(hour)
	tree, err := evidence.NewTree(leaves)
	if err != nil {
		t.Fatal(err)
	}
	lie := a.signHour(evidence.Hour{Site: a.id, Hour: hour, Spool: a.spool, FirstSeq: leaves[0].FirstSeq + 5, LastSeq: leaves[0].LastSeq, Leaves: 2, Root: tree.Root()})
	a.deliver(append(batches, lie)...)
	a.judge(0)
	a.wantState(hour, facts.Disputed, "from batch 6 on; with the root that it signed there are 2, from batch 1 on")
}

func TestASecondRootDisputesTheHourWhicheverComesFirst(t *testing.T) {
	for name, order := range map[string][]int{"the true one first": {0, 1}, "the false one first": {1, 0}} {
		for _, between := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, judged between them: %t", name, between), func(t *testing.T) {
				h := newHub(t, nil)
				a := h.newSigner(t, 2)
				hour := hourOf(3 * time.Hour)
				a.keepSalts()
				a.deliver(a.minutes(beginOf(hour), beginOf(hour+1).Add(time.Minute))...)
				leaves := a.close(hour)
				again := slices.Clone(leaves)
				again[0].Slots[0].Energy++
				signed := []*telemetryv1.Batch{a.hourWith(leaves), a.hourWith(again)}
				same := a.hourWith(leaves) // says nothing new
				a.deliver(signed[order[0]])
				if between {
					a.judge(0)
				}
				a.deliver(signed[order[1]], same)
				a.judge(time.Minute)
				if got := a.state(hour, a.spool); got.State != facts.Disputed {
					t.Fatalf("the hour is %s, %s", got.State, got.Reason)
				}
				if !reflect.DeepEqual(a.leaves(hour, nil), leaves) {
					t.Error("the kept leaves are not what the batches give")
				}
				h.want(t, "disputes about two roots", `SELECT count(*) FROM hour_dispute WHERE kind = 2`, 1)
				if n := len(a.changed()); n != 1 {
					t.Errorf("%d hours noted", n)
				}
				if n := h.metric(t, "hashinsight_facts_disputes_total", "two_roots"); n != 1 {
					t.Errorf("%v disputes counted", n)
				}
			})
		}
	}
}

func TestAnHourOfWhichBatchesWereDroppedIsIncompleteUnlessTheRestGivesItsRoot(t *testing.T) {
	h := newHub(t, nil)
	a := h.newSigner(t, 2)
	hour := hourOf(4 * time.Hour)
	a.keepSalts()
	batches := a.minutes(beginOf(hour).Add(-time.Hour), beginOf(hour+2).Add(time.Minute))
	one, _ := a.hour(hour)
	two, leaves := a.hour(hour + 1)
	gap := evidence.Gap{Reason: evidence.GapSizeCap, Spool: a.spool, FirstSeq: 13, LastSeq: 22, FirstMS: 1, LastMS: 2, Miners: 1, Samples: 2} // of the first hour's 12
	told := a.sign(evidence.KindGap, evidence.CodecNone, gap.Bytes(), wire.Meta{})
	a.deliver(append(append(slices.Clone(batches[:12]), batches[22:]...), one, two)...)
	a.judge(0)
	a.wantState(hour, facts.Pending, "batches have not come")
	a.deliver(told)
	a.judge(time.Hour)
	a.wantState(hour, facts.Incomplete, "the site has dropped 10 of batches")
	if got := a.leaves(hour, nil); len(got) != 0 {
		t.Errorf("%d leaves of an hour that nobody can recompute", len(got))
	}
	a.wantState(hour+1, facts.Agreed, "") // its hour before has holes, which change nothing
	if !reflect.DeepEqual(a.leaves(hour+1, nil), leaves) {
		t.Error("the leaves are not those that the site has")
	}
	h.want(t, "disputes", `SELECT count(*) FROM hour_dispute`, 0)
}

func TestWhatDoesNotComeInTimeIsIncompleteUntilItComes(t *testing.T) {
	h := newHub(t, nil)
	a := h.newSigner(t, 2)
	hour := hourOf(3 * time.Hour)
	a.keepSalts()
	batches := a.minutes(beginOf(hour), beginOf(hour+1).Add(time.Minute))
	b, _ := a.hour(hour)
	a.deliver(append(slices.Clone(batches[1:]), b)...)
	a.judge(0)
	a.wantState(hour, facts.Pending, "the first is 1")
	a.changed()
	a.judge(73 * time.Hour)
	a.wantState(hour, facts.Incomplete, "the first is 1")
	if got := a.state(hour, a.spool); !got.Received().IsZero() || len(a.changed()) != 1 {
		t.Errorf("the hour is %+v", got)
	}
	if n := h.metric(t, "hashinsight_facts_hours_pending", ""); n != 0 {
		t.Errorf("%v hours hold statements up", n)
	}
	a.deliver(batches[0])
	a.judge(100 * time.Hour)
	a.wantState(hour, facts.Agreed, "")
	if n := len(a.changed()); n != 1 {
		t.Errorf("%d notes", n)
	}
}

func TestAForkedBatchMakesTheHourThatWasComputedFromItDisputed(t *testing.T) {
	h := newHub(t, nil)
	a := h.newSigner(t, 2)
	hour := hourOf(3 * time.Hour)
	a.keepSalts()
	kept := a.batchOf(t, a.polled(beginOf(hour).Add(time.Minute)), nil)
	a.seq, a.prev = 0, evidence.Hash{}
	forged := a.count(a.batchOf(t, a.polled(beginOf(hour).Add(2*time.Minute)), nil)) // by a copy of the spool
	rest := a.minutes(beginOf(hour).Add(5*time.Minute), beginOf(hour+1).Add(time.Minute))
	b, _ := a.hour(hour)
	a.deliver(kept)
	l := h.connect(t, a.site)
	l.send(forged)
	l.wantRefusal(telemetryv1.RefusalReason_REFUSAL_REASON_FORK)
	l.close()
	a.deliver(append(rest, b)...)
	a.judge(0)
	a.wantState(hour, facts.Disputed, "the site signed 2 leaves with root")
}

// An agent that has lost its disk begins a new chain in the middle of an hour; what it signs then names both.
func TestTwoChainsOfOneHourAddUp(t *testing.T) {
	h := newHub(t, nil)
	a := h.newSigner(t, 1)
	hour := hourOf(3 * time.Hour)
	a.keepSalts()
	half := beginOf(hour).Add(30 * time.Minute)
	a.deliver(a.minutes(beginOf(hour), half)...)
	before := a.close(hour)
	old := a.spool
	a.spool, a.seq, a.prev = ident.NewSpoolID(), 0, evidence.Hash{}
	a.facts = evidence.NewFacts(a.id, a.spool)
	batches := a.minutes(half, beginOf(hour+1).Add(time.Minute))
	late := a.hourWith(before) // the old chain's leaves, signed in the new one
	now, after := a.hour(hour)
	a.deliver(append(batches, late, now)...)
	a.judge(0)
	if s := a.state(hour, old); s.State != facts.Agreed || s.InSpool != a.spool {
		t.Fatalf("the old chain's hour is %+v", s)
	}
	a.wantState(hour, facts.Agreed, "")
	var sums [evidence.SlotsPerHour]evidence.Slot // as package sla adds them up
	chains := 0
	if err := h.facts.Each(t.Context(), h.pool, a.id, hour, hour+1, nil, func(_ *facts.Hour, l *evidence.Leaf) error {
		chains++
		for i := range sums {
			sums[i].Polls += l.Slots[i].Polls
			sums[i].Answered += l.Slots[i].Answered
			sums[i].Hashes += l.Slots[i].Hashes
		}
		return nil
	}); err != nil || chains != 2 {
		t.Fatalf("leaves of %d chains, %v", chains, err)
	}
	for i := range sums {
		want := before[0].Slots[i].Hashes + after[0].Slots[i].Hashes
		if sums[i].Polls != 5 || sums[i].Hashes != want || sums[i].Answered != 5 {
			t.Errorf("slot %d is %+v, want %d MH", i, sums[i], want)
		}
	}
}

// Two hubs judge at once as one does.
func TestTwoHubsThatJudgeAtOnceGiveWhatOneGives(t *testing.T) {
	h := newHub(t, nil)
	a := h.newSigner(t, 300)
	first := hourOf(8 * time.Hour)
	a.keepSalts()
	want := map[uint32][]evidence.Leaf{}
	for hour := first; hour < first+6; hour++ {
		batches := a.minutes(beginOf(hour), beginOf(hour+1))
		b, leaves := a.hour(hour)
		a.deliver(append(batches, b)...)
		want[hour] = leaves
	}
	entries, err := audit.New(audit.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var both sync.WaitGroup
	for range 2 {
		s, err := facts.New(facts.Config{Pool: h.pool, Audit: entries, Password: "a password of this test"})
		if err != nil {
			t.Fatal(err)
		}
		both.Go(func() {
			if err := s.Judge(t.Context(), time.Now()); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	for hour, leaves := range want {
		a.wantState(hour, facts.Agreed, "")
		if !reflect.DeepEqual(a.leaves(hour, nil), leaves) {
			t.Errorf("the leaves of hour %d are not those that the site has", hour-first)
		}
	}
	h.want(t, "notes", `SELECT count(*) FROM facts_changed`, 6)
	h.want(t, "pages", `SELECT count(*) FROM leaf_page`, 12)
}

func TestASignedHourThatMakesNoSenseGoesToQuarantine(t *testing.T) {
	h := newHub(t, nil)
	a := h.newSigner(t, 1)
	hour := hourOf(2 * time.Hour)
	good := evidence.Hour{Site: a.id, Hour: hour, Spool: a.spool, FirstSeq: 1, LastSeq: 1, Leaves: 1, Root: evidence.Hash{1}}
	meta := wire.Meta{Miners: 1, FirstMS: int64(hour) * evidence.HourMS, LastMS: int64(hour)*evidence.HourMS + evidence.HourMS - 1}
	change := func(f func(h *evidence.Hour, m *wire.Meta)) func() *telemetryv1.Batch {
		return func() *telemetryv1.Batch {
			g, m := good, meta
			f(&g, &m)
			return a.signSchema(evidence.SchemaFirst, evidence.KindHour, evidence.CodecNone, g.Bytes(), m)
		}
	}
	tests := map[string]func() *telemetryv1.Batch{
		"another site's":             change(func(h *evidence.Hour, _ *wire.Meta) { h.Site = ident.NewSiteID() }),
		"another hour in the header": change(func(_ *evidence.Hour, m *wire.Meta) { m.FirstMS -= evidence.HourMS }),
		"other miners in the header": change(func(_ *evidence.Hour, m *wire.Meta) { m.Miners = 2 }),
		"samples in the header":      change(func(_ *evidence.Hour, m *wire.Meta) { m.Samples = 2 }),
		"more leaves than can be":    change(func(h *evidence.Hour, m *wire.Meta) { h.Leaves, m.Miners = facts.MaxLeaves+1, facts.MaxLeaves+1 }),
		"batches in the wrong order": change(func(h *evidence.Hour, _ *wire.Meta) { h.FirstSeq, h.LastSeq = 3, 2 }),
		"batches after itself":       change(func(h *evidence.Hour, _ *wire.Meta) { h.LastSeq = 1000 }),
		"compressed": func() *telemetryv1.Batch {
			return a.signSchema(1, evidence.KindHour, evidence.CodecZstd, good.Bytes(), meta)
		},
		"of another schema": func() *telemetryv1.Batch {
			return a.signSchema(2, evidence.KindHour, evidence.CodecNone, good.Bytes(), meta)
		},
		"cut": func() *telemetryv1.Batch {
			return a.signSchema(1, evidence.KindHour, evidence.CodecNone, good.Bytes()[:99], meta)
		},
	}
	l := h.connect(t, a.site)
	b := a.light(0)
	l.send(b)
	l.wantAcks(stored, b)
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		t.Run(name, func(t *testing.T) {
			b := tests[name]()
			l.send(b)
			l.wantAcks(quarantined, b)
		})
	}
	h.want(t, "signed hours", `SELECT count(*) FROM site_hour`, 0)
	h.want(t, "letters", `SELECT count(*) FROM dead_letter`, int64(len(tests)))
	b = change(func(*evidence.Hour, *wire.Meta) {})()
	l.send(b)
	l.wantAcks(stored, b)
	h.want(t, "signed hours", `SELECT count(*) FROM site_hour`, 1)
}

// A hostile site fills no table: what it may not sign stays in the ledger and is counted.
func TestHoursThatNoSiteCanHaveAreNotKept(t *testing.T) {
	h := newHub(t, nil)
	a := h.newSigner(t, 1)
	batches := []*telemetryv1.Batch{a.light(0)}
	sign := func(hour uint32, spool ident.SpoolID) {
		batches = append(batches, a.signHour(evidence.Hour{Site: a.id, Hour: hour, Spool: spool, FirstSeq: 1, LastSeq: 1, Leaves: 1, Root: evidence.Hash{1}}))
	}
	now := hourOf(0)
	sign(now+26, a.spool)
	sign(1<<31, a.spool)
	sign(now-401*24, a.spool)
	for range 20 {
		sign(now-1, ident.NewSpoolID())
	}
	l := h.connect(t, a.site)
	defer l.close()
	for i, b := range batches {
		l.send(b)
		r := l.recv()
		if r.GetAck().GetDisposition() != stored {
			t.Fatalf("batch %d: %v", i, r)
		}
	}
	h.want(t, "signed hours", `SELECT count(*) FROM site_hour`, 16)
	for bound, want := range map[string]float64{"hours_ahead": 2, "hours_old": 1, "hours_chains": 4} {
		if n := h.metric(t, "hashinsight_facts_bounds_total", bound); n < want {
			t.Errorf("%v times %s counted, want %v", n, bound, want)
		}
	}
}

func TestBatchesOfAWrongClockMakeTheirSlotsUnknown(t *testing.T) {
	h := newHub(t, nil)
	a := h.newSigner(t, 1)
	a.keepSalts()
	now := time.Now()
	hello := func(skew time.Duration) *link {
		l, err := h.dialWith(t, a.site, &telemetryv1.StreamRequest{Message: &telemetryv1.StreamRequest_Hello{Hello: &telemetryv1.Hello{
			Protocol: 1, SpoolId: a.spool[:], AgentVersion: "test", AgentTimeMs: now.Add(skew).UnixMilli(), PollIntervalMs: 10_000,
		}}})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	send := func(l *link, at time.Time) {
		b := a.count(a.batchOf(t, a.polled(at), nil))
		l.send(b)
		l.wantAcks(stored, b)
	}
	slow := hello(-10 * time.Minute)
	send(slow, now.Add(-10*time.Minute+time.Second)) // live, by a clock that is behind
	send(slow, now.Add(-time.Hour))                  // backlog of a better time
	slow.close()
	right := hello(0)
	send(right, now.Add(-20*time.Minute)) // backlog
	send(right, now.Add(time.Minute))     // nobody can have polled then
	send(right, now.Add(2*time.Second))   // a batch on its way says nothing
	right.close()
	rows, err := h.pool.Query(t.Context(), `SELECT skewed FROM batch ORDER BY seq`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[bool])
	if err != nil || !slices.Equal(got, []bool{true, false, false, true, false}) {
		t.Fatalf("skewed are %v, %v", got, err)
	}
	at := now.Add(-10*time.Minute + time.Second)
	hour := uint32(at.Unix() / 3600)
	b, _ := a.hour(hour)
	a.deliver(b)
	a.judge(0)
	slot := at.UnixMilli() % evidence.HourMS / evidence.SlotMS
	if s := a.wantState(hour, facts.Agreed, ""); s.SkewSlots&(1<<slot) == 0 {
		t.Errorf("slots %012b are skewed, want slot %d", s.SkewSlots, slot)
	}
}

// From the evidence alone, wherever it lies, come the same leaves; polls say why.
func TestAnHourIsRecomputedFromArchivedEvidence(t *testing.T) {
	h := newHub(t, nil)
	a := h.newSigner(t, 3)
	hour := hourOf(6 * time.Hour)
	a.keepSalts()
	a.deliver(a.minutes(beginOf(hour), beginOf(hour+1).Add(time.Minute))...)
	b, leaves := a.hour(hour)
	a.deliver(b)
	a.judge(0)
	if err := h.series.Seal(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	place, err := archive.Open(t.Context(), archive.Config{Pool: h.pool, URL: "file://" + t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = place.Close() }() // a directory
	if err := place.Move(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	h.want(t, "payloads in the database", `SELECT count(*) FROM batch WHERE payload IS NOT NULL`, 0)
	entries, err := audit.New(audit.Config{})
	if err != nil {
		t.Fatal(err)
	}
	c := facts.Config{
		Pool: h.pool, Audit: entries, Archive: place, Password: "a password of this test",
		Keys: func(ctx context.Context, site ident.SiteID, id ident.KeyID) (ed25519.PublicKey, error) {
			key, err := h.fleet.Key(ctx, site, id)
			return key.Public, err
		},
	}
	s, err := facts.New(c)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Recompute(t.Context(), a.id, hour, a.spool)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Agreed || !reflect.DeepEqual(got.Leaves, leaves) || got.Batches != 13 || got.Polls != 3*65 || got.Signed.Root != got.Root || got.Header != sha256.Sum256(b.GetHeader()) {
		t.Errorf("recomputed: agreed %t, %d leaves, %d batches, %d polls", got.Agreed, len(got.Leaves), got.Batches, got.Polls)
	}
	from := beginOf(hour).Add(10 * time.Minute)
	polls, err := s.Polls(t.Context(), a.id, a.miners[1], from.UnixMilli(), from.Add(5*time.Minute).UnixMilli())
	if err != nil || len(polls) != 5 {
		t.Fatalf("%d polls, %v", len(polls), err)
	}
	for i, p := range polls {
		if p.Seq != 3 || p.Spool != a.spool || p.Miner != a.miners[1] || p.Where != archive.InArchive || p.At.Before(from.Add(time.Duration(i)*time.Minute)) || p.ReceivedAt.IsZero() {
			t.Errorf("poll %d is %+v", i, p)
		}
	}
	if _, err := s.Polls(t.Context(), a.id, a.miners[1], from.UnixMilli(), from.Add(24*time.Hour).UnixMilli()); err == nil {
		t.Error("polls of a day are given at once")
	}
	// A changed row is found out, and so is a process that does not know the place.
	h.exec(t, `UPDATE batch SET signature = set_byte(signature, 3, get_byte(signature, 3) # 1) WHERE seq = 4`)
	if _, err := s.Recompute(t.Context(), a.id, hour, a.spool); !errors.Is(err, evidence.ErrSignature) {
		t.Errorf("with a changed signature: %v", err)
	}
	if _, err := s.Recompute(t.Context(), a.id, hour, ident.NewSpoolID()); err == nil {
		t.Error("an hour that nobody signed is recomputed")
	}
	c.Archive = nil
	if s, err = facts.New(c); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recompute(t.Context(), a.id, hour, a.spool); !errors.Is(err, archive.ErrNoArchive) {
		t.Errorf("without the archive: %v", err)
	}
}

func TestHoursGoWhenTheyAreOld(t *testing.T) {
	h := newHub(t, nil)
	a := h.newSigner(t, 2)
	hour := hourOf(3 * time.Hour)
	a.keepSalts()
	a.deliver(a.minutes(beginOf(hour), beginOf(hour+1).Add(time.Minute))...)
	b, _ := a.hour(hour)
	a.deliver(b)
	a.judge(0)
	if err := h.facts.Retain(t.Context(), time.Now().Add(399*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	a.wantState(hour, facts.Agreed, "")
	if err := h.facts.Retain(t.Context(), time.Now().Add(401*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	h.want(t, "hours", `SELECT count(*) FROM site_hour`, 0)
	h.want(t, "pages", `SELECT count(*) FROM leaf_page`, 0)
}

// A site's clock is four hours ahead when its agent begins, and set right while the agent is off. A miner that was read only before then comes back at a
// time of day at which, by the wrong clock, it had been read already: its agent remembers that, and the hub must too, although batches lie between that
// end more than an hour before the hour.
func TestAClockThatWasSetBackUnnoticedMakesNoDispute(t *testing.T) {
	h := newHub(t, nil)
	a := h.newSigner(t, 2)
	hour := hourOf(4 * time.Hour)
	a.keepSalts()
	batches := a.minutes(beginOf(hour+1), beginOf(hour+1).Add(5*time.Minute))
	back := beginOf(hour).Add(50 * time.Minute)
	for at := beginOf(hour).Add(-3 * time.Hour); at.Before(beginOf(hour + 1).Add(2 * time.Minute)); at = at.Add(time.Minute) {
		polls := a.polled(at)
		if up := at.Sub(back) + 100*time.Second; at.Before(back) {
			polls[1] = telemetry.Observation{Miner: polls[1].Miner, At: polls[1].At, Outcome: telemetry.OutcomeRefused}
		} else {
			polls[1].Uptime, polls[1].Hashes = unit.Some(up), unit.Some(100_000_000*int64(up/time.Second))
		}
		batches = append(batches, a.count(a.batchOf(t, polls, nil)))
	}
	b, leaves := a.hour(hour)
	a.deliver(append(batches[1:], b)...)
	a.judge(0)
	a.wantState(hour, facts.Pending, "a clock may have been set back")
	a.deliver(batches[0])
	a.judge(7 * time.Hour)
	a.wantState(hour, facts.Agreed, "")
	if !reflect.DeepEqual(a.leaves(hour, nil), leaves) {
		t.Error("the leaves are not those that the site has")
	}
}

// A lie is found although the older batches that it might be true with never come.
func TestMissingOlderBatchesHideNoLieForGood(t *testing.T) {
	h := newHub(t, nil)
	a := h.newSigner(t, 1)
	hour := hourOf(4 * time.Hour)
	a.keepSalts()
	_ = a.minutes(beginOf(hour).Add(-3*time.Hour), beginOf(hour).Add(-2*time.Hour)) // never sent
	batches := a.minutes(beginOf(hour).Add(-2*time.Hour), beginOf(hour+1).Add(time.Minute))
	lie := a.close(hour)
	lie[0].Slots[4].Hashes *= 2
	a.deliver(append(batches, a.hourWith(lie))...)
	a.judge(0)
	a.wantState(hour, facts.Pending, "a clock may have been set back")
	a.judge(67 * time.Hour)
	a.wantState(hour, facts.Disputed, "the site signed 1 leaves with root")
}

// What takes all the time there is does not take that of every call: it is put off, and the others have their turn.
func TestAnHourThatIsNotJudgedInTimeIsPutOff(t *testing.T) {
	h := newHub(t, nil)
	a := h.newSigner(t, 1)
	hour := hourOf(4 * time.Hour)
	a.keepSalts()
	batches := a.minutes(beginOf(hour), beginOf(hour+1).Add(time.Minute))
	b, _ := a.hour(hour)
	a.deliver(append(batches, b)...)
	tx, err := h.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `LOCK TABLE batch IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	judged := make(chan error)
	go func() { judged <- h.facts.Judge(ctx, time.Now()) }()
	waitFor(t, "the lock", func() bool {
		var waiting int
		return tx.QueryRow(t.Context(), `
SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE NOT l.granted AND l.relation = 'batch'::regclass AND d.datname = current_database()`).Scan(&waiting) == nil && waiting > 0
	})
	cancel()
	if err := <-judged; !errors.Is(err, context.Canceled) {
		t.Errorf("judging ends with %v", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The server ends a query whose client has gone only when it is no longer waiting; until then its transaction holds the hour.
	waitFor(t, "the end of the judgement at the server", func() bool {
		var held int
		return h.pool.QueryRow(t.Context(), `
SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE l.locktype = 'advisory' AND d.datname = current_database()`).Scan(&held) == nil && held == 0
	})
	a.wantState(hour, facts.Pending, "the hub could not judge it")
	h.want(t, "hours that are due", `SELECT count(*) FROM site_hour WHERE look_at <= now()`, 0)
	a.judge(time.Hour)
	a.wantState(hour, facts.Agreed, "")
}
