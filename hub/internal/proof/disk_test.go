package proof

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
)

// A directory that takes no file, or does not give one, whatever is the matter with it, is an error of the run at each of its steps with an alarm, and no end of the process.
func TestADirectoryThatCannotBeWrittenIsWaitedFor(t *testing.T) {
	for _, name := range []string{"writer.lock", ".state", "tile", filepath.Join("tile", "entries"), filepath.Join("tile", "0", "001.p"), filepath.Join(".state", "treeState"), checkpointName} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.note(255)
			w.run()
			// Something else is in its place: a file where a directory belongs, and the other way round.
			path, away := filepath.Join(w.dir, name), filepath.Join(t.TempDir(), "away")
			info, err := os.Stat(path)
			there := err == nil
			if there {
				err = os.Rename(path, away)
			} else {
				err = nil
			}
			if there && !info.IsDir() {
				err = errors.Join(err, os.Mkdir(path, 0o755))
			} else {
				err = errors.Join(err, os.WriteFile(path, nil, 0o644))
			}
			if err != nil {
				t.Fatal(err)
			}
			w.note(20)
			var b *blockedError
			if err := w.store.Run(t.Context()); !errors.As(err, &b) || testutil.ToFloat64(w.store.metrics.blocked) != 1 {
				t.Fatalf("the run ended with %v, and no alarm", err)
			}
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			if there {
				if err := os.Rename(away, path); err != nil {
					t.Fatal(err)
				}
			}
			w.run()
			w.wantSize(276)
			w.wantFsck(w.store, "")
		})
	}
}

// Nothing is given a place, and no tile is written, when the disk is nearly full: what is left of it is the database's.
func TestTheLastOfADiskIsLeftToOthers(t *testing.T) {
	w := newWorld(t)
	w.note(10)
	w.run()
	left := uint64(minRoom - 1)
	w.store.room = func(string) (uint64, bool) { return left, true }
	w.note(10)
	err := w.store.Run(t.Context())
	var b *blockedError
	if !errors.As(err, &b) || !strings.Contains(err.Error(), "are free") {
		t.Fatalf("the run ended with %v", err)
	}
	var pending int
	if err := w.pool.QueryRow(t.Context(), qPending).Scan(&pending); err != nil || pending != 10 {
		t.Errorf("%d entries wait, want 10: %v", pending, err)
	}
	// Another process knows it too, and that it is over.
	other := w.open(w.pool, w.dir)
	if st, err := other.Status(t.Context()); err != nil || st.Blocked == "" {
		t.Errorf("another process knows nothing of it: %v", err)
	}
	left = minRoom
	w.run()
	w.wantSize(21)
	if st, err := other.Status(t.Context()); err != nil || st.Blocked != "" || testutil.ToFloat64(w.store.metrics.blocked) != 0 {
		t.Errorf("%q is still said: %v", st.Blocked, err)
	}
	if free, ok := freeBytes(w.dir); ok && free == 0 {
		t.Error("this disk is said to be full")
	}
}

// A process that was killed while it wrote leaves a file that nobody names any more. The next one that writes removes it, and nothing else.
func TestWhatAKilledProcessLeftIsRemoved(t *testing.T) {
	w := newWorld(t)
	w.note(10)
	w.run()
	left := []string{"checkpoint.123456.tmp", "tile.99.tmp"}
	others := []string{"checkpoint.bak", "notes.tmp", "checkpoint.1a.tmp", "checkpoint..tmp", filepath.Join("tile", "checkpoint.1.tmp")}
	for _, name := range slices.Concat(left, others) {
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(w.dir, "checkpoint.7.tmp"), 0o755); err != nil {
		t.Fatal(err)
	}
	others = append(others, "checkpoint.7.tmp")
	w.note(1)
	w.run()
	for _, name := range left {
		if _, err := os.Lstat(filepath.Join(w.dir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	for _, name := range others {
		if _, err := os.Lstat(filepath.Join(w.dir, name)); err != nil {
			t.Errorf("%s is somebody's: %v", name, err)
		}
	}
	w.wantFsck(w.store, "")
}

// What is written is, byte for byte, what tessera's own driver writes; and either goes on where the other one has stopped, as hubs of two versions do.
func TestTilesAreThoseOfTessera(t *testing.T) {
	sizes := []int{1, 254, 1, 1, 600, 32 * chunk, 300} // whole chunks, or less than one
	total := 0
	for _, n := range sizes {
		total += n
	}
	all := make([][]byte, total)
	w := &world{}
	for i := range all {
		e := w.entry(uint64(i), int64(i))
		all[i] = e.Bytes()
	}
	dirs := map[string]string{"this": t.TempDir(), "tessera": t.TempDir(), "both": t.TempDir()}
	for name, dir := range dirs {
		at := 0
		for i, n := range sizes {
			some := all[at : at+n]
			at += n
			if name == "tessera" || name == "both" && i%2 == 1 {
				addWithTessera(t, dir, some)
				continue
			}
			tl, err := openTiles(t.Context(), dir)
			if err != nil {
				t.Fatal(err)
			}
			for part := range slices.Chunk(some, chunk) {
				if err := tl.add(part); err != nil {
					t.Fatal(err)
				}
			}
			tl.close()
		}
	}
	want := everyFile(t, dirs["tessera"])
	if len(want) < 2*total/256 {
		t.Fatalf("%d files of %d entries", len(want), total)
	}
	for name, dir := range dirs {
		got := everyFile(t, dir)
		for f, b := range want {
			if !bytes.Equal(got[f], b) {
				t.Errorf("%s: %s is another file", name, f)
			}
		}
		for f := range got {
			if want[f] == nil {
				t.Errorf("%s: %s is one that tessera does not write", name, f)
			}
		}
	}
}

// everyFile reads the tiles of a directory and what says how many entries they have.
func everyFile(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	if err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, ".lock") || d.Name() == "gcState" || filepath.Dir(path) == dir { // tessera signs checkpoints beside the tiles
			return err
		}
		b, err := os.ReadFile(path)
		out[path[len(dir):]] = b
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func addWithTessera(t *testing.T, dir string, entries [][]byte) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	driver, err := posix.New(ctx, posix.Config{Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	a, shut, _, err := tessera.NewAppender(ctx, driver, tessera.NewAppendOptions().WithCheckpointSigner(&signer{"test", testKey}).WithBatching(uint(min(len(entries), chunk)), time.Hour).WithCheckpointInterval(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	futures := make([]tessera.IndexFuture, len(entries))
	for i := range entries {
		futures[i] = a.Add(ctx, tessera.NewEntry(entries[i]))
	}
	for _, f := range futures {
		if _, err := f(); err != nil {
			t.Fatal(err)
		}
	}
	if err := shut(ctx); err != nil {
		t.Fatal(err)
	}
}

// The directory turns read-only, or this process runs out of file descriptors, while entries are written: an error, and no panic where nobody can catch it.
func TestADirectoryThatIsLostWhileItIsWrittenIsAnError(t *testing.T) {
	dir := t.TempDir()
	tl, err := openTiles(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tl.close()
	state := filepath.Join(dir, stateDir)
	if err := errors.Join(os.RemoveAll(state), os.WriteFile(state, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	w := &world{}
	e := w.entry(1, 1)
	var b *blockedError
	if err := tl.add([][]byte{e.Bytes()}); !errors.As(err, &b) {
		t.Errorf("it ended with %v", err)
	}
}
