package proof

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/client"

	"github.com/hashinsight/hashinsight/pkg/evidence"
)

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

// equalHashes reports whether a tile's bytes are these hashes.
func equalHashes(b []byte, hashes []evidence.Hash) bool {
	return len(b) == len(hashes)*sha256.Size && slices.EqualFunc(slices.Collect(slices.Chunk(b, sha256.Size)), hashes, func(x []byte, y evidence.Hash) bool {
		return evidence.Hash(x) == y
	})
}
