package proof

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Reader reads a proof file from its beginning to its end: Open has read the head, its kind says what to ask for. It checks the form alone. The first error stays;
// one that does not wrap ErrFormat is of what it reads from.
type Reader struct {
	Kind Kind
	Head Head

	b    *bufio.Reader
	err  error
	zero [evidence.LeafSize]byte
	docs int // bytes of documents so far
	left uint32
}

// Open reads the head of a file.
func Open(r io.Reader) (*Reader, error) {
	d := &Reader{b: bufio.NewReaderSize(r, 1<<18)}
	switch tag, err := d.b.Peek(len(fileTag)); {
	case len(tag) == 0 && errors.Is(err, io.EOF):
		d.fail("it is empty")
	case string(tag) != fileTag[:len(tag)]: // a page of an error, an export, another download: cut short or not
		d.fail("it does not begin with %q", fileTag)
	default:
		d.take(len(fileTag))
	}
	d.Kind = Kind(d.u8())
	if d.Kind < KindHour || d.Kind > KindEntry {
		d.fail("kind %d is not known: is its maker newer than this program?", d.Kind)
	}
	n := int(d.u16())
	if n > maxCheckpoint {
		d.fail("a checkpoint of %d bytes", n)
		n = 0
	}
	d.Head.Checkpoint = d.long(n)
	copy(d.Head.Key[:], d.take(ed25519.PublicKeySize))
	d.Head.State = AnchorState(d.u8())
	switch a := &d.Head.Anchor; d.Head.State {
	case AnchorNone, AnchorNever:
	case AnchorMade:
		a.ChainID = d.u64()
		copy(a.Contract[:], d.take(len(a.Contract)))
		a.Seq, a.Block = d.u64(), d.u64()
		copy(a.Tx[:], d.take(len(a.Tx)))
	default:
		d.fail("an anchor of state %d", d.Head.State)
	}
	return d, d.err
}

// HourProof reads the rest of a miner-hour's file, to its end.
func (d *Reader) HourProof() (p HourProof, err error) {
	d.want(KindHour)
	p.Head = d.Head
	p.Leaf, _ = d.leaf()
	p.LeafIndex = d.u32()
	p.LeafPath = d.path()
	p.Hour = d.entry(EntryHour)
	p.SiteKey = d.entry(EntrySiteKey)
	return p, d.End()
}

// StatementProof reads the rest of a statement's file, to its end, or what a bundle has of it.
func (d *Reader) StatementProof() (p StatementProof, err error) {
	if d.Kind != KindBundle {
		d.want(KindStatement)
	}
	p.Head = d.Head
	n := int64(d.u32())
	if n > MaxStatement {
		d.fail("a statement of %d bytes", n)
		n = 0
	}
	p.Statement = d.long(int(n))
	p.Entry = d.entry(EntryStatement, EntryRestatement)
	p.HubKey = d.entry(EntryHubKey)
	if d.Kind == KindStatement {
		return p, d.End()
	}
	return p, d.err
}

// EntryProof reads the rest of a log entry's file, to its end.
func (d *Reader) EntryProof() (p EntryProof, err error) {
	d.want(KindEntry)
	p.Head = d.Head
	kind := EntryHour
	if d.err == nil {
		b, err := d.b.Peek(len(entryTag) + 1)
		if err != nil {
			d.ended(err)
		} else if kind = EntryKind(b[len(entryTag)]); EntrySize(kind) == 0 {
			d.fail("an entry of kind %d, which is not known", kind)
		}
	}
	p.Entry = d.entry(kind)
	return p, d.End()
}

// Inputs reads what a bundle has after StatementProof. Its lists may hold as many items as the statement s names, and as many keys as it has hours.
func (d *Reader) Inputs(s *Statement) (in Inputs, err error) {
	d.want(KindBundle)
	n := d.count(uint32(d.u16()), len(s.Terms), "terms")
	for range n {
		in.Terms = append(in.Terms, Document{d.document(), d.ms(), d.placed()})
	}
	n = d.count(d.u32(), len(s.Assignments), "assignments")
	for range n {
		in.Assignments = append(in.Assignments, Document{Bytes: d.document()})
	}
	n = d.count(d.u32(), len(s.Excuses), "excuses")
	for range n {
		in.Excuses = append(in.Excuses, Document{Bytes: d.document(), Placed: d.placed()})
	}
	if n = d.u32(); int64(n) > int64(len(s.Hours)) {
		d.fail("%d keys of sites for %d hours", n, len(s.Hours))
		n = 0
	}
	for range n {
		in.SiteKeys = append(in.SiteKeys, d.entry(EntrySiteKey))
		if d.err != nil {
			break
		}
	}
	in.Hours = d.count(d.u32(), len(s.Hours), "hours")
	d.left = in.Hours
	return in, d.err
}

// NextHour reads the next hour into h, whose lists it uses again. At most miners full entries are read. After the last hour it returns io.EOF, if the file ends there.
func (d *Reader) NextHour(h *BundleHour, miners int) error {
	if d.err == nil && d.left == 0 {
		if err := d.End(); err != nil {
			return err
		}
		return io.EOF
	}
	d.left--
	h.Entries, h.Hashes, h.Miners = h.Entries[:0], h.Hashes[:0], h.Miners[:0]
	h.State = HourState(d.u8())
	h.Entry = d.entry(EntryHour)
	switch h.State {
	case HourAgreed:
		full, bare := int64(d.u32()), int64(d.u32())
		if full > int64(miners) || bare > 2*int64(miners) {
			d.fail("an hour with %d and %d entries for %d miners", full, bare, miners)
			full, bare = 0, 0
		}
		d.entries(h, full, bare)
		n := int64(d.u32())
		if n > maxPath*(full+bare)+1 {
			d.fail("%d hashes for %d entries", n, full+bare)
			n = 0
		}
		for ; n > 0 && d.err == nil; n-- {
			h.Hashes = append(h.Hashes, d.hash())
		}
	case HourDisputed:
		n := int64(d.u32())
		if n > int64(miners) {
			d.fail("a disputed hour with %d of %d miners", n, miners)
			n = 0
		}
		for ; n > 0 && d.err == nil; n-- {
			h.Miners = append(h.Miners, ident.MinerID(d.take(16)))
		}
	default:
		d.fail("an hour of state %d", h.State)
	}
	return d.err
}

func (d *Reader) entries(h *BundleHour, full, bare int64) {
	for full+bare > 0 && d.err == nil {
		h.Entries = append(h.Entries, TreeEntry{})
		t := &h.Entries[len(h.Entries)-1]
		t.Index = d.u32()
		if i := len(h.Entries) - 2; i >= 0 && h.Entries[i].Index >= t.Index {
			d.fail("entry %d after entry %d of an hour", t.Index, h.Entries[i].Index)
		}
		switch form := d.u8(); {
		case form == 1 && full > 0:
			t.Leaf, t.LeafHash = d.leaf()
			full--
		case form == 2 && bare > 0:
			t.Bare, t.Miner, t.LeafHash = true, d.hash(), d.hash()
			bare--
		default:
			d.fail("an entry of form %d, or more of it than were announced", form)
		}
	}
}

// End checks that nothing follows.
func (d *Reader) End() error {
	if d.err != nil {
		return d.err
	}
	if _, err := d.b.Peek(1); err == nil {
		d.fail("something follows its end")
	} else if !errors.Is(err, io.EOF) {
		d.err = fmt.Errorf("reading the proof file: %w", err)
	}
	return d.err
}

func (d *Reader) fail(format string, args ...any) {
	if d.err == nil {
		d.err = malformed(format, args...)
	}
}

func (d *Reader) want(k Kind) {
	if d.Kind != k {
		d.fail("a file of kind %s, not %s", d.Kind, k)
	}
}

// take returns the next n bytes, at most a leaf's, until the next call; zeros after an error.
func (d *Reader) take(n int) []byte {
	if d.err == nil {
		b, err := d.b.Peek(n)
		if err == nil {
			_, _ = d.b.Discard(n) // they are there
			return b
		}
		d.ended(err)
	}
	return d.zero[:n]
}

func (d *Reader) ended(err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		d.fail("it ends too early")
	} else if d.err == nil {
		d.err = fmt.Errorf("reading the proof file: %w", err)
	}
}

// long returns the next n bytes for good. It asks for memory as they come: a length is easily written.
func (d *Reader) long(n int) []byte {
	if d.err != nil {
		return nil
	}
	var b bytes.Buffer
	if _, err := io.CopyN(&b, d.b, int64(n)); err != nil {
		d.ended(err)
		return nil
	}
	return b.Bytes()
}

func (d *Reader) u8() uint8   { return d.take(1)[0] }
func (d *Reader) u16() uint16 { return binary.BigEndian.Uint16(d.take(2)) }
func (d *Reader) u32() uint32 { return binary.BigEndian.Uint32(d.take(4)) }
func (d *Reader) u64() uint64 { return binary.BigEndian.Uint64(d.take(8)) }

func (d *Reader) ms() int64 {
	v := d.u64()
	if v >= 1<<63 {
		d.fail("a time of %d ms", v)
	}
	return int64(v)
}

func (d *Reader) hash() evidence.Hash { return evidence.Hash(d.take(sha256.Size)) }

func (d *Reader) leaf() (l evidence.Leaf, h evidence.Hash) {
	b := d.take(evidence.LeafSize)
	if d.err != nil {
		return l, h
	}
	l, err := evidence.ParseLeaf(b)
	if err != nil {
		d.fail("%v", err)
	}
	return l, sha256.Sum256(b)
}

func (d *Reader) path() []evidence.Hash {
	n := d.u8()
	if n > maxPath {
		d.fail("a path of %d hashes", n)
		n = 0
	}
	path := make([]evidence.Hash, n)
	for i := range path {
		path[i] = d.hash()
	}
	return path
}

func (d *Reader) placed() Placed { return Placed{d.u64(), d.path()} }

func (d *Reader) entry(kinds ...EntryKind) (p PlacedEntry) {
	e, err := ParseEntry(d.take(EntrySize(kinds[0]))) // of the same length if there are several
	if d.err == nil && err == nil && !allowed(e.Kind, kinds) {
		err = fmt.Errorf("a log entry of kind %s, want %s", e.Kind, kinds[0])
	}
	if d.err == nil && err != nil {
		d.fail("%v", err)
	}
	return PlacedEntry{e, d.placed()}
}

func (d *Reader) document() []byte {
	n := int(d.u32())
	if d.docs += n; n > maxDocument || d.docs > maxDocuments {
		d.fail("a document of %d bytes, %d with those before", n, d.docs)
		n = 0
	}
	return d.long(n)
}

// count compares a number of items with the statement's, so that nothing is read that it does not name.
func (d *Reader) count(n uint32, want int, what string) uint32 {
	if d.err == nil && int64(n) != int64(want) {
		d.fail("%d %s, the statement names %d", n, what, want)
	}
	if d.err != nil {
		return 0
	}
	return n
}
