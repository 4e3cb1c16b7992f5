package proof

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/transparency-dev/tessera/api/layout"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	format "github.com/hashinsight/hashinsight/pkg/proof"
)

var testKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))

func public() ed25519.PublicKey { return testKey.Public().(ed25519.PublicKey) }

// world is a log with its database and directory.
type world struct {
	t     testing.TB
	pool  *pgxpool.Pool
	dir   string
	store *Store
	next  uint64
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, pool: pgtest.New(t), dir: filepath.Join(t.TempDir(), "log")}
	w.store = w.open(w.pool, w.dir)
	return w
}

// open is another hub on a database and a directory.
func (w *world) open(pool *pgxpool.Pool, dir string) *Store {
	w.t.Helper()
	var log *slog.Logger
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(w.t.Output(), nil))
	}
	s, err := New(Config{Pool: pool, Dir: dir, Key: func() ed25519.PrivateKey { return testKey }, Log: log})
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// note notes n new entries, a thousand in a transaction.
func (w *world) note(n int) {
	w.t.Helper()
	for n > 0 {
		var list []format.Entry
		for range min(n, 1000) {
			w.next++
			list = append(list, w.entry(w.next, int64(1_700_000_000_000+w.next)))
		}
		n -= len(list)
		if err := pg.InTx(w.t.Context(), w.pool, func(tx pgx.Tx) error { return Note(w.t.Context(), tx, list...) }); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) entry(n uint64, ms int64) format.Entry {
	b := format.HubKeyBody{Role: format.HubKeyEvidence, Event: format.KeyAdded, Public: sha256.Sum256(binary.BigEndian.AppendUint64(nil, n))}
	return b.Entry(ms)
}

func (w *world) run() {
	w.t.Helper()
	if err := w.store.Run(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) checkpoint() Checkpoint {
	w.t.Helper()
	c, err := w.store.Checkpoint(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) wantSize(n uint64) {
	w.t.Helper()
	if c := w.checkpoint(); c.Size != n {
		w.t.Fatalf("the checkpoint has %d entries, want %d", c.Size, n)
	}
}

// wantFsck checks the whole log and wants a problem with a text, or none with "".
func (w *world) wantFsck(s *Store, text string) {
	w.t.Helper()
	v, err := s.Fsck(w.t.Context(), public(), io.Discard)
	if err != nil {
		w.t.Fatal(err)
	}
	all := strings.Join(v.Problems, "\n")
	if text == "" && !v.OK() || !strings.Contains(all, text) {
		w.t.Fatalf("fsck found %q, want %q", all, text)
	}
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.pool.Exec(w.t.Context(), sql, args...); err != nil {
		w.t.Fatal(err)
	}
}

// A log grows over partial and full tiles; every entry is provably in it, and every checkpoint is consistent with the one before.
func TestEntriesGetTheirPlacesAndProofs(t *testing.T) {
	w := newWorld(t)
	var sizes []uint64
	for _, n := range []int{1, 2, 200, 53, 1, 300, 600} {
		w.note(n)
		w.run()
		sizes = append(sizes, w.checkpoint().Size)
	}
	// the hub's own key was noted beside them
	if want := uint64(1 + 1 + 2 + 200 + 53 + 1 + 300 + 600); sizes[len(sizes)-1] != want {
		t.Fatalf("%d entries, want %d", sizes[len(sizes)-1], want)
	}
	c := w.checkpoint()
	if err := c.verify(public()); err != nil {
		t.Error(err)
	}
	p, err := w.store.Prover(t.Context(), c.Size)
	if err != nil {
		t.Fatal(err)
	}
	for i := range c.Size {
		e, err := w.store.Entry(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Inclusion(t.Context(), &e); err != nil {
			t.Fatal(err)
		}
		found, ok, err := w.store.Find(t.Context(), e.Entry.Kind, e.Entry.Ref())
		if err != nil || !ok || found.Index != i {
			t.Fatalf("entry %d is found at %d: %t, %v", i, found.Index, ok, err)
		}
	}
	for i, from := range sizes {
		for _, to := range sizes[i:] {
			if _, err := w.store.Consistency(t.Context(), from, to); err != nil {
				t.Errorf("%d to %d: %v", from, to, err)
			}
			if _, err := w.store.Inclusion(t.Context(), from-1, to); err != nil {
				t.Errorf("entry %d in %d: %v", from-1, to, err)
			}
		}
	}
	w.wantFsck(w.store, "")
	before := w.checkpoint()
	w.run()
	if after := w.checkpoint(); !bytes.Equal(after.Note, before.Note) || !after.PublishedAt.Equal(before.PublishedAt) {
		t.Error("a run without anything to do has signed something")
	}
}

func TestAnEntryNotedTwiceIsOne(t *testing.T) {
	w := newWorld(t)
	w.note(3)
	again := []format.Entry{w.entry(2, 1_800_000_000_000), w.entry(1, 1_800_000_000_000)}
	for range 2 {
		if err := pg.InTx(t.Context(), w.pool, func(tx pgx.Tx) error { return Note(t.Context(), tx, again...) }); err != nil {
			t.Fatal(err)
		}
		w.run()
		w.wantSize(4)
	}
	bad := format.Entry{Kind: format.EntryTerms, AtMS: 1, Body: []byte("short")}
	if err := pg.InTx(t.Context(), w.pool, func(tx pgx.Tx) error { return Note(t.Context(), tx, bad) }); err == nil {
		t.Error("an entry of no form was taken")
	}
}

// restsOn reports whether a tile is one that a tree of a size has: the full ones, and the last partial one of each level.
func restsOn(name string, size uint64) bool {
	for level, n := uint64(0), size; n > 0; level, n = level+1, n/layout.TileWidth {
		p := layout.PartialTileSize(level, n/layout.TileWidth, size)
		if p > 0 && name == layout.TilePath(level, n/layout.TileWidth, p) || p > 0 && level == 0 && name == layout.EntriesPath(n/layout.TileWidth, p) {
			return true
		}
	}
	return strings.HasPrefix(name, "tile/") && !strings.Contains(name, ".p/")
}

// files returns the files of a directory that the tree of a size rests on, and the checkpoint.
func files(t *testing.T, dir string, size uint64) map[string]string {
	t.Helper()
	out := map[string]string{}
	if err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if name != checkpointName && !restsOn(name, size) {
			return nil
		}
		b, err := os.ReadFile(path)
		out[name] = string(b)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestTilesAreRebuiltByteForByte(t *testing.T) {
	w := newWorld(t)
	for _, n := range []int{5, 700, 1, 66_000, 3, 252} { // a full tile of the second level, and partial ones of all
		w.note(n)
		w.run()
	}
	c := w.checkpoint()
	want := files(t, w.dir, c.Size)
	if len(want) < 2*int(c.Size/256) {
		t.Fatalf("%d files of %d entries", len(want), c.Size)
	}
	same := func(name string, got map[string]string) {
		t.Helper()
		if len(got) != len(want) {
			t.Errorf("%s: %d files, want %d", name, len(got), len(want))
		}
		for f, b := range want {
			if got[f] != b {
				t.Errorf("%s: %s is another file", name, f)
			}
		}
	}
	other := filepath.Join(t.TempDir(), "rebuilt")
	if _, err := w.store.Rebuild(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	same("rebuilt by order", files(t, other, c.Size))
	if _, err := w.store.Rebuild(t.Context(), other); err == nil {
		t.Error("rebuilt over what was there")
	}
	// An empty directory is filled by the next run, without another checkpoint.
	if err := os.RemoveAll(w.dir); err != nil {
		t.Fatal(err)
	}
	w.run()
	same("empty directory", files(t, w.dir, c.Size))
	// So is one that was restored from an older backup.
	older := newWorldDir(t, w, 300)
	s := w.open(w.pool, older)
	if err := s.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	same("older directory", files(t, older, c.Size))
	w.wantFsck(w.store, "")
}

// newWorldDir makes a directory as it was when the log had fewer entries.
func newWorldDir(t *testing.T, w *world, size uint64) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "older")
	origin, err := w.store.Origin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sg := &signer{origin, testKey}
	tl, err := openTiles(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tl.close()
	tree := ranges.NewEmptyRange(0)
	if err := w.store.fill(t.Context(), tl, tree, size); err != nil {
		t.Fatal(err)
	}
	root, err := rootOf(tree)
	if err != nil {
		t.Fatal(err)
	}
	c, err := signCheckpoint(sg, size, root)
	if err != nil {
		t.Fatal(err)
	}
	if err := (&Store{c: Config{Dir: dir}}).publish(&c); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Two hubs, and a third with the same directory, sequence at once while entries come: every entry gets one place, and there is one log.
func TestTwoHubsSequenceAtOnce(t *testing.T) {
	w := newWorld(t)
	other := w.open(w.pool, w.dir)
	var wg sync.WaitGroup
	errs := make(chan error, 100)
	for _, s := range []*Store{w.store, other} {
		for range 2 {
			wg.Go(func() {
				for range 15 {
					if err := s.Run(context.WithoutCancel(t.Context())); err != nil {
						errs <- err
						return
					}
				}
			})
		}
	}
	for range 20 {
		w.note(37)
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	w.run()
	w.wantSize(20*37 + 1)
	w.wantFsck(w.store, "")
	w.wantFsck(other, "")
}

// A process that ends between two steps leaves what the next one goes on from, with the same bytes.
func TestAnEndAtEachStepIsRepaired(t *testing.T) {
	for _, step := range []string{"after places were given", "in the middle of writing tiles", "after tiles were written", "after the checkpoint was recorded"} {
		t.Run(step, func(t *testing.T) {
			w := newWorld(t)
			w.note(300)
			w.run()
			before := w.checkpoint()
			w.note(3000)
			w.exec(qAssign, 10_000) // step 1, committed
			st, err := w.store.state(t.Context(), w.pool)
			if err != nil {
				t.Fatal(err)
			}
			sg := &signer{st.origin, testKey}
			var written int
			switch step {
			case "after places were given":
			case "in the middle of writing tiles":
				written = 1000
			default:
				written = 3000
			}
			if written > 0 {
				tl, err := openTiles(t.Context(), w.dir)
				if err != nil {
					t.Fatal(err)
				}
				tree, err := tl.rangeAt(t.Context(), tl.size)
				if err != nil {
					t.Fatal(err)
				}
				if err := w.store.fill(t.Context(), tl, tree, before.Size+uint64(written)); err != nil {
					t.Fatal(err)
				}
				if step == "after the checkpoint was recorded" {
					root, err := rootOf(tree)
					if err != nil {
						t.Fatal(err)
					}
					c, err := signCheckpoint(sg, tree.End(), root)
					if err != nil {
						t.Fatal(err)
					}
					w.exec(qPutCheckpoint, clamp(c.Size), c.Root[:], string(c.Note), time.Now())
				}
				tl.close()
			}
			w.run()
			w.wantSize(3301)
			if _, err := w.store.Consistency(t.Context(), before.Size, 3301); err != nil {
				t.Error(err)
			}
			w.wantFsck(w.store, "")
			if b, err := os.ReadFile(filepath.Join(w.dir, checkpointName)); err != nil || !bytes.Equal(b, w.checkpoint().Note) {
				t.Errorf("the checkpoint beside the tiles is not the newest: %v", err)
			}
		})
	}
}

// A database restored to an earlier moment serves and takes notes, but gives no places before it has read the missing entries back; what was noted again keeps the
// published time.
func TestAnOlderDatabaseReadsBackWhatItLacks(t *testing.T) {
	w := newWorld(t)
	w.note(500)
	w.run()
	w.note(600)
	w.run()
	full := w.checkpoint()
	// The restore: rows and checkpoints since the first moment are gone.
	w.exec(`DELETE FROM log_checkpoint WHERE size > 501`)
	w.exec(`DELETE FROM log_entry WHERE idx >= 501`)
	// The sites have sent again what was lost; the hub notes it at another time, and something new.
	again := []format.Entry{w.entry(700, 1_900_000_000_000), w.entry(900, 1_900_000_000_000)}
	if err := pg.InTx(t.Context(), w.pool, func(tx pgx.Tx) error { return Note(t.Context(), tx, again...) }); err != nil {
		t.Fatal(err)
	}
	w.next = 5000
	w.note(10)
	if behind, err := w.store.Behind(t.Context()); err != nil || !behind {
		t.Errorf("behind: %t, %v: nobody has looked yet, and the checkpoint beside the tiles tells", behind, err)
	}
	if _, ok, err := w.store.Head(t.Context()); err != nil || ok {
		t.Errorf("an older checkpoint is given for anchoring: %t, %v", ok, err)
	}
	w.run()
	w.wantSize(full.Size + 10)
	if got := testutil.ToFloat64(w.store.metrics.readBack); got != 600 {
		t.Errorf("%v entries were read back, want 600", got)
	}
	if behind, err := w.store.Behind(t.Context()); err != nil || behind {
		t.Errorf("behind: %t, %v, after everything was read back", behind, err)
	}
	if _, err := w.store.Consistency(t.Context(), full.Size, full.Size+10); err != nil {
		t.Error(err)
	}
	e := w.entry(700, 0)
	if p, ok, err := w.store.Find(t.Context(), e.Kind, e.Ref()); err != nil || !ok || p.Entry.AtMS != 1_700_000_000_700 {
		t.Errorf("the entry noted again has the time %d: %t, %v", p.Entry.AtMS, ok, err)
	}
	w.wantFsck(w.store, "")
}

// Whatever contradicts the published log stops it, and says so.
func TestContradictionsHaltTheLog(t *testing.T) {
	change := func(w *world, idx int) {
		w.exec(`UPDATE log_entry SET noted_ms = noted_ms + 1 WHERE idx = $1`, idx)
	}
	for name, c := range map[string]struct {
		do   func(*world)
		want string
	}{
		"another directory's tiles": {func(w *world) {
			other := newWorld(w.t)
			other.note(600)
			other.run()
			if err := errors.Join(os.RemoveAll(w.dir), os.CopyFS(w.dir, os.DirFS(other.dir))); err != nil {
				w.t.Fatal(err)
			}
		}, "restore the database that belongs to these tiles"},
		"another key's checkpoint": {func(w *world) {
			st, _ := w.store.state(w.t.Context(), w.pool)
			c, err := signCheckpoint(&signer{st.origin, ed25519.NewKeyFromSeed(make([]byte, 32))}, 5, evidence.Hash{})
			if err := errors.Join(err, w.store.publish(&c)); err != nil {
				w.t.Fatal(err)
			}
		}, "not signed with this hub's key"},
		"rows that the tiles were not made of": {func(w *world) {
			w.exec(`DELETE FROM log_checkpoint WHERE size > 301`)
			change(w, 350)
		}, "the rows give the root"},
		"a changed row under tiles that are gone": {func(w *world) {
			change(w, 7)
			if err := os.RemoveAll(w.dir); err != nil {
				w.t.Fatal(err)
			}
		}, "the checkpoint that was signed has"},
		"a row that is gone": {func(w *world) {
			w.exec(`DELETE FROM log_entry WHERE idx = 400`)
			if err := os.RemoveAll(w.dir); err != nil {
				w.t.Fatal(err)
			}
		}, "entry 400 is missing"},
		"a published checkpoint above rows, and tessera's state gone": {func(w *world) {
			w.exec(`DELETE FROM log_checkpoint WHERE size > 301`)
			w.exec(`DELETE FROM log_entry WHERE idx >= 301`)
			if err := os.Remove(filepath.Join(w.dir, stateName)); err != nil {
				w.t.Fatal(err)
			}
		}, "is gone: restore"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.note(300)
			w.run()
			w.note(300)
			w.run()
			c.do(w)
			w.next = 10_000
			w.note(1)
			err := w.store.Run(t.Context())
			var h *haltError
			if !errors.As(err, &h) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("the run ended with %v, want %q", err, c.want)
			}
			if testutil.ToFloat64(w.store.metrics.halt) != 1 {
				t.Error("no alarm")
			}
			if _, ok, _ := w.store.Head(t.Context()); ok {
				t.Error("a halted log is given for anchoring")
			}
			var pending int
			if err := w.pool.QueryRow(t.Context(), qPending).Scan(&pending); err != nil || pending != 1 {
				t.Errorf("%d entries wait, want 1: %v", pending, err)
			}
		})
	}
}

// A row that was changed after it was published is found by fsck, and no proof is made of it.
func TestATamperedRowIsFoundAndRefused(t *testing.T) {
	w := newWorld(t)
	w.note(600)
	w.run()
	e := w.entry(999_999, 0)
	ref := e.Ref()
	w.exec(`UPDATE log_entry SET body = $1, ref = $2 WHERE idx = 100`, e.Body, ref[:])
	w.wantFsck(w.store, "entry 100 in the database is not the one in the tiles")
	if _, err := w.store.Inclusion(t.Context(), 100, w.checkpoint().Size); err == nil || !strings.Contains(err.Error(), "it was changed") {
		t.Errorf("a proof of a changed row: %v", err)
	}
	if _, err := w.store.Inclusion(t.Context(), 101, w.checkpoint().Size); err != nil {
		t.Error(err)
	}
}

// A tile that was changed is found by fsck.
func TestAChangedTileIsFound(t *testing.T) {
	w := newWorld(t)
	w.note(600)
	w.run()
	for _, name := range []string{"tile/0/001", "tile/entries/000", "tile/1/000.p/2"} {
		path := filepath.Join(w.dir, filepath.FromSlash(name))
		was, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b := bytes.Clone(was)
		b[len(b)-1] ^= 1
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		v, err := w.store.Fsck(t.Context(), public(), io.Discard)
		if err != nil || v.OK() {
			t.Errorf("%s: %v, %v", name, v.Problems, err)
		}
		if err := os.WriteFile(path, was, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w.wantFsck(w.store, "")
}

func TestAProcessWithoutTilesSaysWhatToSet(t *testing.T) {
	w := newWorld(t)
	w.note(3)
	w.run()
	for _, dir := range []string{"", filepath.Join(t.TempDir(), "elsewhere")} {
		s := w.open(w.pool, dir)
		if _, err := s.Inclusion(t.Context(), 1, 4); err == nil || !strings.Contains(err.Error(), "TRANSPARENCY_LOG_DIR") {
			t.Errorf("%q: %v", dir, err)
		}
		if _, err := s.Checkpoint(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
