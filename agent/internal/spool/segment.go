package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// errCorrupt marks a segment whose bytes cannot be read back, errBatch one batch of an otherwise sound segment.
var (
	errCorrupt = errors.New("segment is corrupt")
	errBatch   = errors.New("batch is corrupt")
)

// Layout of a segment file. Each batch has a bucket of its own with one value: bbolt rewrites a whole leaf at every
// commit, and a leaf keeps up to four large values, so that batches side by side in one leaf would be written 2.5 times.
//
//	"meta"    "origin" → format (1), spool id (16), first seq (8), hash of the header before the first (32)
//	"batches" seq (8, big-endian) → bucket: "b" → header (204) ‖ signature (64) ‖ payload
var (
	bucketMeta    = []byte("meta")
	bucketBatches = []byte("batches")
	keyOrigin     = []byte("origin")
	keyBatch      = []byte("b")
)

const (
	segmentFormat = 1
	segmentSuffix = ".seg"
	corruptSuffix = ".corrupt"
	tmpSuffix     = ".tmp"
	originSize    = 1 + 16 + 8 + 32
	minSegment    = 4 * 4096 // bbolt begins every file with four pages
	prefixSize    = evidence.HeaderSize + evidence.SignatureSize
	lockTimeout   = 2 * time.Second // for a reader such as "spool export" to let go of a segment
)

// segment is one bbolt file: a run of batches of one chain. Its fields are guarded by Spool.mu; db of the newest one is
// used by Append under Spool.appendMu as well.
type segment struct {
	path  string
	chain uint32 // place of the spool id among those this directory has had
	spool ident.SpoolID
	first uint64        // sequence number of the first batch, also in the file's name
	prev  evidence.Hash // hash of the header before the first
	last  uint64        // first-1 while empty
	size  int64         // bytes of the file

	acked  bitset // by seq-first; valid while partly acknowledged
	ackedN uint64
	fullAt time.Time // when the last batch was acknowledged and the segment was no longer written

	refused   bitset // by seq-first: pending, and the hub will not take them
	refusedN  uint64
	refusedAt time.Time // of the first of them

	db     *bolt.DB    // nil while closed
	broken atomic.Bool // a panic may have left db's locks taken: closing it could wait for ever
}

func (g *segment) count() uint64       { return g.last + 1 - g.first }
func (g *segment) acknowledged() bool  { return g.ackedN == g.count() }
func (g *segment) has(seq uint64) bool { return seq >= g.first && seq <= g.last }
func (g *segment) isAcked(seq uint64) bool {
	return g.acknowledged() || g.acked.has(seq-g.first)
}

// ack marks one batch and reports whether it was news.
func (g *segment) ack(seq uint64) bool {
	if g.isAcked(seq) {
		return false
	}
	g.allow(seq)
	g.acked.set(seq - g.first)
	g.ackedN++
	return true
}

// nextPending returns the first batch at or after seq that is not acknowledged.
func (g *segment) nextPending(seq uint64) (uint64, bool) {
	if g.acknowledged() {
		return 0, false
	}
	seq = g.first + g.acked.nextClear(max(seq, g.first)-g.first)
	return seq, seq <= g.last
}

func segmentName(chain uint32, first uint64) string {
	return fmt.Sprintf("%04d-%020d%s", chain, first, segmentSuffix)
}

func parseSegmentName(name string) (chain uint32, first uint64, ok bool) {
	_, err := fmt.Sscanf(name, "%d-%d.seg", &chain, &first)
	return chain, first, err == nil && name == segmentName(chain, first) && first > 0
}

func boltOptions(readOnly bool, segmentBytes int64) *bolt.Options {
	// NoFreelistSync would save a page per commit, and is not safe here: bbolt then looks for free pages in a goroutine of
	// its own, where a damaged file ends the whole process with a panic that nobody can recover.
	o := &bolt.Options{
		Timeout:      lockTimeout,
		ReadOnly:     readOnly,
		FreelistType: bolt.FreelistMapType,
		NoStatistics: true,
	}
	if !readOnly {
		// Mapping the whole segment at once means that readers never wait for the file to be mapped again.
		o.InitialMmapSize = int(segmentBytes)
		o.MaxSize = 4*int(max(segmentBytes, 4<<20)) + 2*maxPayload
	}
	return o
}

// createSegment makes an empty segment file, durable before it has its name.
func createSegment(dir string, chain uint32, id ident.SpoolID, first uint64, prev evidence.Hash, segmentBytes int64) (*segment, error) {
	path := filepath.Join(dir, segmentName(chain, first))
	tmp := path + tmpSuffix
	err := func() error {
		_ = os.Remove(tmp)
		db, err := bolt.Open(tmp, 0o600, boltOptions(false, segmentBytes))
		if err != nil {
			return err
		}
		err = db.Update(func(tx *bolt.Tx) error {
			meta, err := tx.CreateBucket(bucketMeta)
			if err != nil {
				return err
			}
			if _, err := tx.CreateBucket(bucketBatches); err != nil {
				return err
			}
			origin := append([]byte{segmentFormat}, id[:]...)
			origin = binary.BigEndian.AppendUint64(origin, first)
			return meta.Put(keyOrigin, append(origin, prev[:]...))
		})
		if err := errors.Join(err, db.Close()); err != nil {
			return err
		}
		if err := os.Rename(tmp, path); err != nil {
			return err
		}
		return syncDir(dir)
	}()
	if err != nil {
		_ = os.Remove(tmp)
		return nil, fmt.Errorf("create segment %s: %w", filepath.Base(path), err)
	}
	g := &segment{path: path, chain: chain, first: first}
	if err := g.open(false, segmentBytes); err != nil {
		return nil, err
	}
	if err := g.load(); err != nil {
		return nil, err
	}
	return g, nil
}

// open opens the file. bbolt panics on many kinds of damage, and a file shorter than its map faults: both become errCorrupt.
func (g *segment) open(readOnly bool, segmentBytes int64) (err error) {
	if g.db != nil {
		return nil
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer g.guard("open", &err)
	info, err := os.Stat(g.path)
	if err != nil {
		return fmt.Errorf("segment %s: %w", filepath.Base(g.path), err)
	}
	if info.Size() < minSegment { // bbolt would make an empty file a new, empty database
		return fmt.Errorf("segment %s: %w: %d bytes long", filepath.Base(g.path), errCorrupt, info.Size())
	}
	db, err := bolt.Open(g.path, 0o600, boltOptions(readOnly, segmentBytes))
	var errno syscall.Errno
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return fmt.Errorf("segment %s is locked by another process: %w", filepath.Base(g.path), err)
	case errors.As(err, &errno): // the system refused, which says nothing about the bytes
		return fmt.Errorf("segment %s: %w", filepath.Base(g.path), err)
	case err != nil: // invalid, wrong checksum or version, too short
		return fmt.Errorf("segment %s: %w: %w", filepath.Base(g.path), errCorrupt, err)
	}
	g.db = db
	return nil
}

func (g *segment) close() (err error) {
	if g.db == nil {
		return nil
	}
	db := g.db
	g.db = nil
	if g.broken.Load() {
		return nil
	}
	return db.Close()
}

// guard turns a panic out of bbolt, or a fault in its map, into errCorrupt. Nothing but reads and writes of a segment may run under it.
func (g *segment) guard(what string, err *error) {
	if r := recover(); r != nil {
		g.broken.Store(true)
		*err = fmt.Errorf("segment %s: %w: %s: %v", filepath.Base(g.path), errCorrupt, what, r)
	}
}

// view runs fn in a read transaction.
func (g *segment) view(fn func(batches *bolt.Bucket, meta *bolt.Bucket) error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer g.guard("read", &err)
	if g.db == nil {
		return fmt.Errorf("segment %s is not open", filepath.Base(g.path))
	}
	return g.db.View(func(tx *bolt.Tx) error {
		batches, meta := tx.Bucket(bucketBatches), tx.Bucket(bucketMeta)
		if batches == nil || meta == nil {
			return fmt.Errorf("segment %s: %w: a bucket is missing", filepath.Base(g.path), errCorrupt)
		}
		return fn(batches, meta)
	})
}

// put commits one batch durably.
func (g *segment) put(seq uint64, value []byte) error {
	return g.update(func(batches *bolt.Bucket) error { return putBatch(batches, seq, value) })
}

func (g *segment) update(fn func(batches *bolt.Bucket) error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer g.guard("write", &err)
	if g.db == nil {
		return fmt.Errorf("segment %s is not open", filepath.Base(g.path))
	}
	return g.db.Update(func(tx *bolt.Tx) error {
		batches := tx.Bucket(bucketBatches)
		if batches == nil {
			return fmt.Errorf("segment %s: %w: a bucket is missing", filepath.Base(g.path), errCorrupt)
		}
		return fn(batches)
	})
}

func putBatch(batches *bolt.Bucket, seq uint64, value []byte) error {
	batches.FillPercent = 1 // keys only grow: half-empty pages would stay so
	b, err := batches.CreateBucket(seqKey(seq))
	if err != nil {
		return err
	}
	b.FillPercent = 1
	return b.Put(keyBatch, value)
}

// load reads what the file says of itself: its origin, and the newest batch in it.
func (g *segment) load() error {
	info, err := os.Stat(g.path)
	if err != nil {
		return fmt.Errorf("segment %s: %w", filepath.Base(g.path), err)
	}
	g.size = info.Size()
	return g.view(func(batches, meta *bolt.Bucket) error {
		origin := meta.Get(keyOrigin)
		if len(origin) != originSize || origin[0] != segmentFormat || binary.BigEndian.Uint64(origin[17:]) != g.first {
			return fmt.Errorf("segment %s: %w: its origin does not fit its name", filepath.Base(g.path), errCorrupt)
		}
		g.spool, g.prev = ident.SpoolID(origin[1:17]), evidence.Hash(origin[25:57])
		g.last = g.first - 1
		k, _ := batches.Cursor().Last()
		if k == nil {
			return nil
		}
		if len(k) != 8 || binary.BigEndian.Uint64(k) < g.first {
			return fmt.Errorf("segment %s: %w: key %x", filepath.Base(g.path), errCorrupt, k)
		}
		if g.last = binary.BigEndian.Uint64(k); g.count() > 2*maxBatches { // nobody wrote so many: everything here counts up to it
			return fmt.Errorf("segment %s: %w: its last batch is %d", filepath.Base(g.path), errCorrupt, g.last)
		}
		return nil
	})
}

// rewrite stores the newest batch once more, so that a commit that succeeds stands behind its bytes.
func (g *segment) rewrite(seq uint64) error {
	b, err := g.get(seq, true)
	if err != nil {
		return err
	}
	value := slices.Concat(b.HeaderBytes, b.Signature, b.Payload)
	return g.update(func(batches *bolt.Bucket) error {
		if err := batches.DeleteBucket(seqKey(seq)); err != nil {
			return err
		}
		return putBatch(batches, seq, value)
	})
}

// used returns the bytes that batches take, free pages included.
func (g *segment) used() (n int64, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer g.guard("read", &err)
	err = g.db.View(func(tx *bolt.Tx) error { n = tx.Size(); return nil })
	return n, err
}

// get returns a copy of a stored batch; withPayload false leaves the payload out and touches one page.
func (g *segment) get(seq uint64, withPayload bool) (Batch, error) {
	var b Batch
	err := g.view(func(batches, _ *bolt.Bucket) error {
		box := batches.Bucket(seqKey(seq))
		if box == nil {
			return fmt.Errorf("segment %s: %w: batch %d is missing", filepath.Base(g.path), errBatch, seq)
		}
		v := box.Get(keyBatch)
		if len(v) < prefixSize {
			return fmt.Errorf("segment %s: %w: batch %d has %d bytes", filepath.Base(g.path), errBatch, seq, len(v))
		}
		if !withPayload {
			v = v[:prefixSize]
		}
		v = append(make([]byte, 0, len(v)), v...)
		b.HeaderBytes, b.Signature, b.Payload = v[:evidence.HeaderSize:evidence.HeaderSize], v[evidence.HeaderSize:prefixSize:prefixSize], v[prefixSize:]
		return nil
	})
	if err != nil {
		return Batch{}, err
	}
	if b.Header, err = evidence.ParseHeader(b.HeaderBytes); err != nil {
		return Batch{}, fmt.Errorf("segment %s: %w: %w", filepath.Base(g.path), errBatch, err)
	}
	if b.Header.Seq != seq || b.Header.Spool != g.spool {
		return Batch{}, fmt.Errorf("segment %s: %w: batch %d is stored as %d", filepath.Base(g.path), errBatch, b.Header.Seq, seq)
	}
	if withPayload {
		if err := b.Header.CheckPayload(b.Payload); err != nil {
			return Batch{}, fmt.Errorf("segment %s: %w: %w", filepath.Base(g.path), errBatch, err)
		}
	}
	return b, nil
}

// Batch is one stored batch: the exact bytes that were signed, and their parsed header.
type Batch struct {
	Header      evidence.Header
	HeaderBytes []byte
	Signature   []byte
	Payload     []byte
}

// Ref returns the batch's name in this site.
func (b *Batch) Ref() Ref { return Ref{Spool: b.Header.Spool, Seq: b.Header.Seq} }

// Size returns the bytes that the batch takes on the wire, without framing.
func (b *Batch) Size() int { return len(b.HeaderBytes) + len(b.Signature) + len(b.Payload) }

// Ref names a batch within a site.
type Ref struct {
	Spool ident.SpoolID
	Seq   uint64
}

func seqKey(seq uint64) []byte { return binary.BigEndian.AppendUint64(make([]byte, 0, 8), seq) }

// bitset is a growing set of small numbers.
type bitset []uint64

func (b bitset) has(i uint64) bool { return i/64 < uint64(len(b)) && b[i/64]&(1<<(i%64)) != 0 }

func (b *bitset) set(i uint64) {
	for i/64 >= uint64(len(*b)) {
		*b = append(*b, 0)
	}
	(*b)[i/64] |= 1 << (i % 64)
}

func (b bitset) clear(i uint64) {
	if i/64 < uint64(len(b)) {
		b[i/64] &^= 1 << (i % 64)
	}
}

// nextClear returns the first number at or after i that is not in the set.
func (b bitset) nextClear(i uint64) uint64 {
	for ; i/64 < uint64(len(b)); i++ {
		if b[i/64] == ^uint64(0) {
			i |= 63
			continue
		}
		if b[i/64]&(1<<(i%64)) == 0 {
			return i
		}
	}
	return i
}

// syncDir makes a rename or removal in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return syncHandle(d)
}
