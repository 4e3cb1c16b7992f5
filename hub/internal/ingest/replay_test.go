package ingest

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
	"github.com/hashinsight/hashinsight/pkg/wire"
	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"
)

// ledgerTables are what a backup brings back, in an order that foreign keys allow.
func ledgerTables() []string {
	return []string{"batch", "batch_total", "batch_gap", "batch_fork", "dead_letter", "telemetry_hot", "miner", "miner_latest", "miner_detail"}
}

func (h *hub) exec(t testing.TB, sql string) {
	t.Helper()
	if _, err := h.pool.Exec(context.WithoutCancel(t.Context()), sql); err != nil {
		t.Fatal(err)
	}
}

func (h *hub) backUp(t testing.TB) {
	t.Helper()
	for _, name := range ledgerTables() {
		h.exec(t, fmt.Sprintf("CREATE TABLE backup_%s AS TABLE %s", name, name))
	}
}

// restore stops the hub, puts the database back to its backup and starts a hub on it.
func (h *hub) restore(t testing.TB) {
	t.Helper()
	h.stop()
	for _, name := range ledgerTables() {
		h.exec(t, "TRUNCATE "+name)
		h.exec(t, fmt.Sprintf("INSERT INTO %s SELECT * FROM backup_%s", name, name))
	}
	h.again(t)
}

// keeper is an agent that keeps what was acknowledged, as a spool does for its grace period.
type keeper struct {
	*site
	kept    map[uint64]*telemetryv1.Batch // of its present spool
	asked   []seqRange
	askedOf map[ident.SpoolID]int // how often, of each spool
}

// run answers what the hub asks for until it has been quiet for that long, and returns how many batches were acknowledged. The
// stream is then closed.
func (k *keeper) run(t *testing.T, l *link, quiet time.Duration) (acked int) {
	t.Helper()
	got := make(chan *telemetryv1.StreamResponse)
	go func() {
		defer close(got)
		for {
			r, err := l.stream.Recv()
			if err != nil {
				if status.Code(err) != codes.Canceled {
					t.Errorf("stream: %v", err)
				}
				return
			}
			got <- r
		}
	}()
	defer func() {
		l.close()
		for range got { //nolint:revive // until the reader has ended
		}
	}()
	for {
		select {
		case r := <-got:
			if r.GetAck() != nil {
				acked++
			}
			p := r.GetReplay()
			if p == nil {
				continue
			}
			k.asked = append(k.asked, seqRange{int64(p.GetFirstSeq()), int64(p.GetLastSeq())})
			id := ident.SpoolID(p.GetSpoolId())
			k.askedOf[id]++
			if id != k.spool {
				continue // agents send those on another stream
			}
			var again []*telemetryv1.Batch
			for seq := p.GetFirstSeq(); seq <= p.GetLastSeq(); seq++ {
				if b := k.kept[seq]; b != nil {
					again = append(again, b)
				}
			}
			for part := range slices.Chunk(again, 16) {
				l.send(part...)
			}
		case <-time.After(quiet):
			return acked
		}
	}
}

func (k *keeper) make(t *testing.T, n int) (made []*telemetryv1.Batch) {
	t.Helper()
	for range n {
		b := k.batch(t, time.Now())
		k.kept[k.seq] = b
		made = append(made, b)
		time.Sleep(time.Second)
	}
	return made
}

func newKeeper(t *testing.T, h *hub) *keeper {
	t.Helper()
	k := &keeper{site: h.newSite(t, "north", 2), kept: map[uint64]*telemetryv1.Batch{}, askedOf: map[ident.SpoolID]int{}}
	k.cert = h.ca.issueLasting(t, identity.SiteURI(k.id), false, 1000*time.Hour)
	return k
}

// connect says in the Hello that everything made so far is acknowledged.
func (k *keeper) connect(t *testing.T, h *hub) *link {
	t.Helper()
	k.oldestPending, k.newest = 0, k.seq
	return h.connect(t, k.site)
}

// virtualHub runs story in virtual time with a hub of its own.
func virtualHub(t *testing.T, story func(t *testing.T, h *hub)) {
	t.Helper()
	if err := pgtest.Start(); err != nil { // outside of the bubble
		t.Fatalf("this test needs PostgreSQL: %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, nil)
		story(t, h)
		h.stop()
		h.pool.Close()
	})
}

func TestRestoredHubGetsBackWhatItHadAcknowledged(t *testing.T) {
	virtualHub(t, func(t *testing.T, h *hub) {
		k := newKeeper(t, h)
		l := k.connect(t, h)
		for _, b := range k.make(t, 30) {
			l.send(b)
			l.wantAcks(stored, b)
		}
		h.backUp(t)
		for _, b := range k.make(t, 200) {
			l.send(b)
			l.wantAcks(stored, b)
		}
		l.close()
		h.restore(t)
		h.want(t, "batches after the restore", ledger, 30, k.id[:])

		k.run(t, k.connect(t, h), 2*time.Minute)
		h.want(t, "batches", ledger, 230, k.id[:])
		h.want(t, "links", linksOK, 230, k.id[:])
		h.want(t, "hot rows", rowsOf, 460, k.id[:])
		h.want(t, "serial numbers", serials, 460, k.id[:])
		h.want(t, "total of samples", `SELECT samples FROM batch_total WHERE site_id = $1`, 460, k.id[:])
		if want := []seqRange{{31, 230}}; !slices.Equal(k.asked, want) {
			t.Errorf("asked for %v, want %v", k.asked, want)
		}
		if n := h.metric(t, "hashinsight_ingest_replay_batches_total", "arrived"); n != 200 {
			t.Errorf("%g batches counted as arrived again, want 200", n)
		}
		k.asked = nil
		k.run(t, k.connect(t, h), 2*time.Minute)
		if len(k.asked) > 0 {
			t.Errorf("a complete ledger asked for %v", k.asked)
		}
	})
}

func TestReplayAsksInStepsAndNotForWhatAGapRecordNames(t *testing.T) {
	virtualHub(t, func(t *testing.T, h *hub) {
		k := newKeeper(t, h)
		l := k.connect(t, h)
		made := k.make(t, 300)
		// The site dropped 101 to 110 and says so.
		gap := evidence.Gap{Spool: k.spool, FirstSeq: 101, LastSeq: 110, FirstMS: 1, LastMS: 2, Miners: 2, Samples: 20, Reason: evidence.GapSizeCap, LastHash: hashOf(t, made[109])}
		k.kept[301] = k.sign(evidence.KindGap, evidence.CodecNone, gap.Bytes(), wire.Meta{})
		var sent []*telemetryv1.Batch
		for _, b := range append(made, k.kept[301]) {
			if seq := seqOf(t, b); seq < 101 || seq > 110 {
				l.send(b)
				l.wantAcks(stored, b)
				sent = append(sent, b)
			}
		}
		l.close()
		// Every other batch is lost: more holes than one look takes.
		h.exec(t, `DELETE FROM batch WHERE seq % 2 = 0 AND seq <= 300`)
		h.exec(t, `UPDATE batch_total SET complete_below = 1`)
		// The agent no longer keeps 2, 4 and 250 to 300.
		gone := 0
		for seq := range k.kept {
			if seq == 2 || seq == 4 || seq >= 250 && seq <= 300 && seq%2 == 0 {
				delete(k.kept, seq)
				gone++
			}
		}
		k.run(t, k.connect(t, h), 2*time.Minute)
		h.want(t, "batches", ledger, int64(len(sent)-gone), k.id[:])
		for _, r := range k.asked {
			if r.first != r.last || r.first%2 != 0 || r.first > 100 && r.first < 111 {
				t.Errorf("asked for %v", r)
			}
		}
		if n := h.metric(t, "hashinsight_ingest_replay_batches_total", "missing"); n != float64(gone) {
			t.Errorf("%g batches counted as missing, want %d", n, gone)
		}
		k.asked = nil
		k.run(t, k.connect(t, h), 2*time.Minute)
		if len(k.asked) > 0 {
			t.Errorf("what did not come is asked for again: %v", k.asked)
		}
	})
}

func TestBacklogIsAskedForOnlyWhenItStopsComing(t *testing.T) {
	virtualHub(t, func(t *testing.T, h *hub) {
		k := newKeeper(t, h)
		made := k.make(t, 40)
		// 1 to 10 are pending; 11 to 40 were acknowledged by the hub before it was restored.
		k.oldestPending, k.newest = 1, 40
		l := h.connect(t, k.site)
		for _, b := range made[:10] {
			l.send(b)
			l.wantAcks(stored, b)
			time.Sleep(20 * time.Second)
		}
		if n := h.metric(t, "hashinsight_ingest_replay_batches_total", "asked"); n != 0 {
			t.Errorf("%g batches asked for while the backlog was coming", n)
		}
		k.run(t, l, 5*time.Minute)
		h.want(t, "batches", ledger, 40, k.id[:])
		if want := []seqRange{{11, 40}}; !slices.Equal(k.asked, want) {
			t.Errorf("asked for %v, want %v", k.asked, want)
		}
	})
}

// A site began a second spool after everything in the first was acknowledged, and the hub was then restored to a moment before that: no stream is
// for the first spool, and only the greeting of the second's says that there is one.
func TestRestoredHubAsksForAnOlderSpool(t *testing.T) {
	virtualHub(t, func(t *testing.T, h *hub) {
		k := newKeeper(t, h)
		l := k.connect(t, h)
		store := func(n int) (made []*telemetryv1.Batch) {
			for _, b := range k.make(t, n) {
				l.send(b)
				l.wantAcks(stored, b)
				made = append(made, b)
			}
			return made
		}
		store(30)
		h.backUp(t)
		lost := store(20)
		l.close()
		time.Sleep(time.Second) // until the hub has seen that: it has one stream a site
		older := *k.site
		k.spool, k.seq, k.prev = ident.NewSpoolID(), 0, evidence.Hash{}
		l = k.connect(t, h)
		store(5)
		l.close()
		time.Sleep(time.Second)
		h.restore(t)
		h.want(t, "batches after the restore", ledger, 30, k.id[:])

		// asks connects with the younger spool, that names the older one, and returns what of the latter is asked for.
		asks := func() (asked []seqRange) {
			t.Helper()
			l, err := h.dialWith(t, k.site, &telemetryv1.StreamRequest{Message: &telemetryv1.StreamRequest_Hello{Hello: &telemetryv1.Hello{
				Protocol: 1, SpoolId: k.spool[:], AgentVersion: "test", AgentTimeMs: time.Now().UnixMilli(), PollIntervalMs: 10_000, NewestSeq: k.seq,
				OtherSpools: []*telemetryv1.OtherSpool{
					{SpoolId: []byte("short"), OldestKeptSeq: 1, NewestSeq: 2}, {SpoolId: make([]byte, 16), OldestKeptSeq: 9, NewestSeq: 2}, // nonsense
					{SpoolId: older.spool[:], OldestKeptSeq: 11, NewestSeq: 50},
				},
			}}})
			if err != nil {
				t.Fatal(err)
			}
			k.asked = nil
			k.askedOf = map[ident.SpoolID]int{}
			k.run(t, l, 2*time.Minute)
			if n := k.askedOf[older.spool]; n > 0 {
				return k.asked[:n] // those come first
			}
			return nil
		}
		if got := asks(); !slices.Equal(got, []seqRange{{31, 50}}) {
			t.Fatalf("asked for %v of the older spool, want 31 to 50", got)
		}
		if got := asks(); got != nil {
			t.Errorf("asked at once again for %v", got)
		}
		time.Sleep(askAgain)
		if got := asks(); !slices.Equal(got, []seqRange{{31, 50}}) {
			t.Errorf("asked for %v when nothing had come for long, want 31 to 50", got)
		}
		time.Sleep(time.Second)
		older.oldestPending, older.newest = 31, 50 // as an agent opens it after the request
		l = h.connect(t, &older)
		l.send(lost...)
		l.wantAcks(stored, lost...)
		l.close()
		time.Sleep(askAgain)
		if got := asks(); got != nil {
			t.Errorf("a complete spool is asked for %v", got)
		}
		h.want(t, "batches", ledger, 55, k.id[:])
		h.want(t, "links", linksOK, 55, k.id[:])
		h.want(t, "looked at", `SELECT complete_below FROM batch_total WHERE spool_id = $1`, 51, older.spool[:])
	})
}

func seqOf(t *testing.T, b *telemetryv1.Batch) uint64 {
	t.Helper()
	h, err := evidence.ParseHeader(b.GetHeader())
	if err != nil {
		t.Fatal(err)
	}
	return h.Seq
}

func hashOf(t *testing.T, b *telemetryv1.Batch) evidence.Hash {
	t.Helper()
	h, err := evidence.ParseHeader(b.GetHeader())
	if err != nil {
		t.Fatal(err)
	}
	return h.Hash()
}

// again starts a hub process on the same database.
func (h *hub) again(t testing.TB) {
	t.Helper()
	h.reg = prometheus.NewRegistry()
	h.open(t, slog.New(slog.DiscardHandler), nil)
}
