package archive

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

var noon = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)

// ledger stores batches as ingest does and knows their payloads.
type ledger struct {
	t     *testing.T
	pool  *pgxpool.Pool
	site  ident.SiteID
	spool ident.SpoolID
	rng   *rand.Rand
	seq   uint64
	want  map[uint64][]byte
}

func newLedger(t *testing.T) *ledger {
	return &ledger{t: t, pool: pgtest.New(t), site: ident.NewSiteID(), spool: ident.NewSpoolID(), rng: rand.New(rand.NewPCG(1, 1)), want: map[uint64][]byte{}}
}

func (l *ledger) batch(at time.Time) {
	l.t.Helper()
	l.seq++
	payload := make([]byte, 1+l.rng.IntN(5000))
	for i := range payload {
		payload[i] = byte(l.rng.Uint32())
	}
	l.want[l.seq] = payload
	h := evidence.Header{
		Kind: evidence.KindSamples, Schema: evidence.Schema, Codec: evidence.CodecZstd, Site: l.site, Spool: l.spool, Seq: l.seq, Payload: sha256.Sum256(payload),
		PayloadLen: uint32(len(payload)), Miners: 1, Samples: 1, FirstMS: at.UnixMilli(), LastMS: at.UnixMilli(),
	}
	if l.seq > 1 {
		h.Prev = evidence.Hash{1}
	}
	hash := h.Hash()
	_, err := l.pool.Exec(l.t.Context(), `INSERT INTO batch (site_id, spool_id, seq, kind, disposition, link_state, miners, samples, first_at, last_at, received_at, key_id,
		header_hash, header, signature, payload) VALUES ($1, $2, $3, 1, 1, 1, 1, 1, $4, $4, $4, $5, $6, $7, $8, $9)`,
		l.site, l.spool, int64(l.seq), at, h.Key[:], hash[:], h.Bytes(), make([]byte, ed25519.SignatureSize), payload)
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *ledger) open(url string) *Archive {
	l.t.Helper()
	a, err := Open(l.t.Context(), Config{Pool: l.pool, URL: url})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		if err := a.Close(); err != nil {
			l.t.Error(err)
		}
	})
	return a
}

// wantAll checks that every payload is found, and how many batches and objects the archive holds.
func (l *ledger) wantAll(a *Archive, batches, objects int) {
	l.t.Helper()
	for seq, want := range l.want {
		got, err := a.Payload(l.t.Context(), Ref{l.site, l.spool, seq})
		if err != nil || !bytes.Equal(got, want) {
			l.t.Errorf("payload of batch %d: %d bytes, want %d, %v", seq, len(got), len(want), err)
		}
	}
	var b, o int
	if err := l.pool.QueryRow(l.t.Context(), `SELECT (SELECT count(*) FROM batch WHERE payload IS NULL), (SELECT count(*) FROM archive_object)`).Scan(&b, &o); err != nil {
		l.t.Fatal(err)
	}
	if b != batches || o != objects {
		l.t.Errorf("%d batches in %d objects, want %d in %d", b, o, batches, objects)
	}
}

func (l *ledger) move(a *Archive, now time.Time) {
	l.t.Helper()
	if err := a.Move(l.t.Context(), now); err != nil {
		l.t.Error(err)
	}
}

func TestPayloadsMoveUnchangedAndAreFoundAgain(t *testing.T) {
	l := newLedger(t)
	dir := t.TempDir()
	a, other := l.open("file://"+dir), l.open("file://"+dir)
	for i := range 40 {
		l.batch(noon.Add(time.Duration(i*3) * time.Minute))
	}
	l.wantAll(a, 0, 0)
	l.move(a, noon.Add(2*time.Hour+59*time.Minute))
	l.wantAll(a, 0, 0) // too early
	var both sync.WaitGroup
	for _, a := range []*Archive{a, other} {
		both.Go(func() { l.move(a, noon.Add(3*time.Hour)) })
	}
	both.Wait()
	l.wantAll(a, 20, 1)
	l.move(a, noon.Add(5*time.Hour))
	l.wantAll(other, 40, 2)

	l.batch(noon.Add(time.Minute)) // late
	l.batch(noon.Add(-30 * time.Hour))
	if _, err := l.pool.Exec(t.Context(), `INSERT INTO block_dirty VALUES ($1, $2, 0)`, l.site, noon.Unix()/3600); err != nil {
		t.Fatal(err)
	}
	l.move(a, noon.Add(6*time.Hour))
	l.wantAll(a, 41, 3) // the hour whose blocks are not written waits
	if _, err := l.pool.Exec(t.Context(), `DELETE FROM block_dirty`); err != nil {
		t.Fatal(err)
	}
	l.move(a, noon.Add(6*time.Hour))
	l.move(a, noon.Add(6*time.Hour))
	l.wantAll(a, 42, 4)
	if _, err := a.Payload(t.Context(), Ref{l.site, l.spool, 99}); !errors.Is(err, ErrNotFound) {
		t.Errorf("payload of no batch: %v", err)
	}

	objects, err := filepath.Glob(dir + "/*/*")
	if err != nil || len(objects) != 4 {
		t.Fatalf("objects %v, %v", objects, err)
	}
	for _, o := range objects {
		b, err := os.ReadFile(o)
		if err != nil {
			t.Fatal(err)
		}
		b[0] ^= 1
		if err := os.WriteFile(o, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	damaged := 0
	for seq := range l.want {
		if _, err := a.Payload(t.Context(), Ref{l.site, l.spool, seq}); errors.Is(err, ErrDamaged) {
			damaged++
		}
	}
	if damaged != 4 {
		t.Errorf("%d damaged payloads found, want the first of each object", damaged)
	}
}

// A hub that dies between the object and its transaction loses nothing, and the next one writes the same object.
func TestAnObjectWithoutItsTransactionIsWrittenAgain(t *testing.T) {
	l := newLedger(t)
	dir := t.TempDir()
	a := l.open("file://" + dir)
	for i := range 5 {
		l.batch(noon.Add(time.Duration(i) * time.Minute))
	}
	killed := errors.New("killed")
	err := pg.InTx(t.Context(), l.pool, func(tx pgx.Tx) error {
		pieces, name, err := a.pieces(t.Context(), tx, l.site, noon.Unix()/3600)
		if err != nil {
			return err
		}
		if _, err := a.write(t.Context(), tx, l.site, l.site.String()+"/"+noon.Format(hourForm)+"-"+name, pieces); err != nil {
			return err
		}
		return killed
	})
	if !errors.Is(err, killed) {
		t.Fatal(err)
	}
	l.wantAll(a, 0, 0)
	l.move(a, noon.Add(4*time.Hour))
	l.wantAll(a, 5, 1)
	if objects, err := filepath.Glob(dir + "/*/*"); err != nil || len(objects) != 1 {
		t.Errorf("objects %v, %v", objects, err)
	}
}

func TestAPlaceThatIsNoneIsRefused(t *testing.T) {
	pool := pgtest.New(t)
	for _, url := range []string{"", "/var/lib/archive", "gopher://x"} {
		if _, err := Open(t.Context(), Config{Pool: pool, URL: url}); err == nil {
			t.Errorf("%q was accepted", url)
		}
	}
}

func TestStatementsFitTheSchema(t *testing.T) {
	if n := len(pgtest.PrepareStatements(t, pgtest.New(t))); n < 6 {
		t.Errorf("only %d statements found", n)
	}
}
