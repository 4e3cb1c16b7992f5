package proof

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/storage/posix"
	"k8s.io/klog/v2"

	"github.com/hashinsight/hashinsight/pkg/evidence"
)

// quietKlog keeps tessera's own log lines off the standard error: what matters comes back as errors. klog has one logger a process and leaves no other way.
var quietKlog = sync.OnceFunc(func() {
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
})

// tileDir reads tiles of a directory.
type tileDir string

// ReadTile returns a tile of hashes, p of which are wanted; p 0: all. A tile that was full or fuller since has the same ones in front.
func (d tileDir) ReadTile(_ context.Context, level, index uint64, p uint8) ([]byte, error) {
	b, err := d.read(layout.TilePath(level, index, 0), layout.TilePath(level, index, p), p)
	if want := int(p) * sha256.Size; err == nil && p > 0 && len(b) > want {
		b = b[:want]
	}
	return b, err
}

// ReadEntryBundle returns a bundle of entries, at least p of them; p 0: all.
func (d tileDir) ReadEntryBundle(_ context.Context, index uint64, p uint8) ([]byte, error) {
	return d.read(layout.EntriesPath(index, 0), layout.EntriesPath(index, p), p)
}

func (d tileDir) read(full, exact string, p uint8) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(string(d), filepath.FromSlash(exact)))
	if !errors.Is(err, os.ErrNotExist) || p == 0 {
		return b, err
	}
	if b, err = os.ReadFile(filepath.Join(string(d), filepath.FromSlash(full))); !errors.Is(err, os.ErrNotExist) {
		return b, err
	}
	dir := filepath.Join(string(d), filepath.FromSlash(full+".p"))
	names, rerr := os.ReadDir(dir)
	if rerr != nil {
		return nil, err
	}
	widest := 0
	for _, e := range names {
		if n, cerr := strconv.Atoi(e.Name()); cerr == nil && n > int(p) && n < layout.TileWidth {
			widest = max(widest, n)
		}
	}
	if widest == 0 {
		return nil, err
	}
	return os.ReadFile(filepath.Join(dir, strconv.Itoa(widest)))
}

var ranges = &compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}

// rangeAt returns the compact range of the tree of a size.
func (d tileDir) rangeAt(ctx context.Context, size uint64) (*compact.Range, error) {
	if size == 0 {
		return ranges.NewEmptyRange(0), nil
	}
	nodes, err := client.FetchRangeNodes(ctx, size, d.ReadTile)
	if err != nil {
		return nil, fmt.Errorf("reading the log's tree of %d entries: %w", size, err)
	}
	return ranges.NewRange(0, size, nodes)
}

// rootOf returns the root of a compact range.
func rootOf(r *compact.Range) (h evidence.Hash, err error) {
	if r.End() == 0 {
		copy(h[:], rfc6962.DefaultHasher.EmptyRoot())
		return h, nil
	}
	b, err := r.GetRootHash(nil)
	copy(h[:], b)
	return h, err
}

// entries returns the entries from one index to another, which are in one bundle, as they are in a tree of a size.
func (d tileDir) bundle(ctx context.Context, index, size uint64) ([][]byte, error) {
	p := layout.PartialTileSize(0, index, size)
	raw, err := d.ReadEntryBundle(ctx, index, p)
	if err != nil {
		return nil, fmt.Errorf("bundle %d of the log: %w", index, err)
	}
	var b api.EntryBundle
	if err := b.UnmarshalText(raw); err != nil {
		return nil, fmt.Errorf("bundle %d of the log: %w", index, err)
	}
	want := int(p)
	if p == 0 {
		want = layout.EntryBundleWidth
	}
	if len(b.Entries) < want {
		return nil, fmt.Errorf("bundle %d of the log has %d entries, want %d", index, len(b.Entries), want)
	}
	return b.Entries[:want], nil
}

// tiles is the directory, opened for writing. It must be closed.
type tiles struct {
	tileDir
	lock   *os.File
	append tessera.AddFn
	reader tessera.LogReader
	cancel context.CancelFunc
	size   uint64
}

// chunk is how many entries are handed to tessera at a time: one set of files is written for them.
const chunk = 2048

var errLocked = errors.New("another process is writing the log's tiles")

// openTiles opens the directory, making it if there is none, for this process alone.
func openTiles(ctx context.Context, dir string, sg *signer) (t *tiles, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // what is in it is public
		return nil, fmt.Errorf("directory of the log's tiles: %w: TRANSPARENCY_LOG_DIR names it", err)
	}
	t = &tiles{tileDir: tileDir(dir), cancel: func() {}}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	// The advisory lock in the database keeps other hubs out unless it is lost with its connection; tessera's locks are held for single steps only.
	if t.lock, err = os.OpenFile(filepath.Join(dir, "writer.lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, fmt.Errorf("directory of the log's tiles: %w", err)
	}
	if ok, err := tryLock(t.lock); err != nil || !ok {
		return nil, errors.Join(errLocked, err)
	}
	driver, err := posix.New(ctx, posix.Config{Path: dir})
	if err != nil {
		return nil, err
	}
	// Its own checkpoints are not wanted: one is published when it is recorded. So the interval is longer than any hub lives, and partial tiles are cleaned up here.
	const never = math.MaxInt64 / 2
	opts := tessera.NewAppendOptions().WithCheckpointSigner(sg).WithCheckpointInterval(never).WithCheckpointRepublishInterval(0).
		WithBatching(chunk, 10*time.Millisecond).WithGarbageCollectionInterval(0)
	run, cancel := context.WithCancel(context.WithoutCancel(ctx)) // what was begun is ended
	t.cancel = cancel
	a, _, reader, err := tessera.NewAppender(run, driver, opts)
	if err != nil {
		return nil, fmt.Errorf("opening the log's tiles in %s: %w", dir, err)
	}
	t.append, t.reader = a.Add, reader
	if t.size, err = reader.IntegratedSize(ctx); err != nil {
		return nil, fmt.Errorf("opening the log's tiles in %s: %w", dir, err)
	}
	return t, nil
}

// close lets others write.
func (t *tiles) close() {
	t.cancel()
	if t.lock != nil {
		_ = t.lock.Close() // the lock ends with it
	}
}

// add appends entries, at most chunk of them, and returns when they are in the tiles and on the disk.
func (t *tiles) add(ctx context.Context, entries [][]byte) error {
	futures := make([]tessera.IndexFuture, len(entries))
	for i, b := range entries {
		futures[i] = t.append(ctx, tessera.NewEntry(b))
	}
	for i, f := range futures {
		got, err := f()
		if err != nil {
			return fmt.Errorf("writing the log's tiles: %w", err)
		}
		if want := t.size + uint64(i); got.Index != want {
			return halt("entry %d became entry %d of the tiles: something else writes in %s", want, got.Index, string(t.tileDir))
		}
	}
	t.size += uint64(len(entries))
	return nil
}

// sweep removes the partial tiles that full ones have replaced, of the bundles that were filled between two sizes.
func (d tileDir) sweep(from, to uint64) error {
	var errs []error
	for i := from / layout.EntryBundleWidth; i < to/layout.EntryBundleWidth; i++ {
		paths := []string{layout.EntriesPath(i, 0), layout.TilePath(0, i, 0)}
		for level, at := uint64(1), i; at%layout.TileWidth == layout.TileWidth-1; level++ {
			at >>= layout.TileHeight
			paths = append(paths, layout.TilePath(level, at, 0))
		}
		for _, p := range paths {
			errs = append(errs, os.RemoveAll(filepath.Join(string(d), filepath.FromSlash(p)+".p")))
		}
	}
	return errors.Join(errs...)
}

// equalHashes reports whether a tile's bytes are these hashes.
func equalHashes(b []byte, hashes []evidence.Hash) bool {
	return len(b) == len(hashes)*sha256.Size && slices.EqualFunc(slices.Collect(slices.Chunk(b, sha256.Size)), hashes, func(x []byte, y evidence.Hash) bool {
		return evidence.Hash(x) == y
	})
}
