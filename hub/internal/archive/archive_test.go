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

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

var noon = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)

// ledger stores batches as ingest does and knows their payloads: it is the model that the archive is compared with.
type ledger struct {
	t     *testing.T
	pool  *pgxpool.Pool
	site  ident.SiteID
	spool ident.SpoolID
	key   ed25519.PrivateKey
	rng   *rand.Rand
	noise *rand.ChaCha8
	seq   uint64
	want  map[uint64][]byte
}

func newLedger(t *testing.T) *ledger { return newLedgerOn(t, pgtest.New(t)) }

func newLedgerOn(t *testing.T, pool *pgxpool.Pool) *ledger {
	l := &ledger{
		t: t, pool: pool, site: ident.NewSiteID(), spool: ident.NewSpoolID(), key: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize)),
		rng: rand.New(rand.NewPCG(1, 1)), noise: rand.NewChaCha8([32]byte{1}), want: map[uint64][]byte{},
	}
	if _, err := pool.Exec(t.Context(), `INSERT INTO site (id, name, created_at) VALUES ($1, $2, $3)`, l.site, l.site.String(), noon); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *ledger) batch(at time.Time) {
	l.t.Helper()
	l.batchOf(at, 1+l.rng.IntN(5000))
}

func (l *ledger) batchOf(at time.Time, size int) {
	l.t.Helper()
	l.seq++
	payload := make([]byte, size)
	_, _ = l.noise.Read(payload) // never fails
	l.want[l.seq] = payload
	h := evidence.Header{
		Kind: evidence.KindSamples, Schema: evidence.Schema, Codec: evidence.CodecZstd, Site: l.site, Spool: l.spool, Seq: l.seq, Key: ident.KeyIDOf(l.key.Public().(ed25519.PublicKey)), Payload: sha256.Sum256(payload),
		PayloadLen: uint32(len(payload)), Miners: 1, Samples: 1, FirstMS: at.UnixMilli(), LastMS: at.UnixMilli(),
	}
	if l.seq > 1 {
		h.Prev = evidence.Hash{1}
	}
	hash := h.Hash()
	_, err := l.pool.Exec(l.t.Context(), `INSERT INTO batch (site_id, spool_id, seq, kind, disposition, link_state, miners, samples, first_at, last_at, received_at, key_id,
		header_hash, header, signature, payload) VALUES ($1, $2, $3, 1, 1, 1, 1, 1, $4, $4, $4, $5, $6, $7, $8, $9)`,
		l.site, l.spool, int64(l.seq), at, h.Key[:], hash[:], h.Bytes(), evidence.SignHeader(l.key, h.Bytes()), payload)
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *ledger) open(url string) *Archive {
	l.t.Helper()
	return l.openWith(Config{Pool: l.pool, URL: url})
}

func (l *ledger) openWith(c Config) *Archive {
	l.t.Helper()
	a, err := Open(l.t.Context(), c)
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
		got, err := a.Find(l.t.Context(), Ref{l.site, l.spool, seq})
		if err != nil || !bytes.Equal(got.Payload, want) {
			l.t.Errorf("payload of batch %d: %d bytes, want %d, %v", seq, len(got.Payload), len(want), err)
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
	if _, err := a.Find(t.Context(), Ref{l.site, l.spool, 99}); !errors.Is(err, ErrNotFound) {
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
		if _, err := a.Find(t.Context(), Ref{l.site, l.spool, seq}); errors.Is(err, ErrDamaged) {
			damaged++
		}
	}
	if damaged != 4 {
		t.Errorf("%d damaged payloads found, want the first of each object", damaged)
	}
}

// A batch of a clock that is days ahead would otherwise keep its payload in the database until its hour comes, if it ever does.
func TestWhatIsFarAheadIsMovedToo(t *testing.T) {
	l := newLedger(t)
	a := l.open("file://" + t.TempDir())
	l.batch(noon.Add(24 * time.Hour))
	l.batch(noon.Add(100 * 24 * time.Hour))
	l.batch(time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC))
	l.move(a, noon)
	l.wantAll(a, 2, 2) // a clock that is one day ahead still makes hot rows
}

func TestAPlaceThatIsNoneIsRefused(t *testing.T) {
	pool := pgtest.New(t)
	for _, url := range []string{"", "/var/lib/archive", "gopher://x", "s3://bucket"} {
		if _, err := Open(t.Context(), Config{Pool: pool, URL: url}); err == nil {
			t.Errorf("%q was accepted", url)
		}
	}
}

// A store in the data directory of a hub that starts for the first time is the first to make that directory: the database's own account passes it.
func TestADirectoryIsPrivateAndThatAroundItIsNot(t *testing.T) {
	data := filepath.Join(t.TempDir(), "hub")
	a, err := Open(t.Context(), Config{Pool: pgtest.New(t), URL: "file://" + data + "/evidence"})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for dir, want := range map[string]os.FileMode{data: 0o755, filepath.Join(data, "evidence"): 0o700} {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want mode %v", dir, info, err, want)
		}
	}
}

func TestStatementsFitTheSchema(t *testing.T) {
	if n := len(pgtest.PrepareStatements(t, pgtest.New(t))); n < 8 {
		t.Errorf("only %d statements found", n)
	}
}
