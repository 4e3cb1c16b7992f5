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

// Kind says what a proof file proves.
type Kind uint8

// Kinds of proof files. The numbers are in files: never reuse one.
const (
	KindHour      Kind = 1 // HourProof
	KindStatement Kind = 2 // StatementProof
	KindBundle    Kind = 3 // a stream: what BundleWriter writes
	KindEntry     Kind = 4 // EntryProof
)

// String returns the documented name.
func (k Kind) String() string {
	switch k {
	case KindHour:
		return "miner-hour"
	case KindStatement:
		return "statement"
	case KindBundle:
		return "bundle"
	case KindEntry:
		return "log entry"
	default:
		return fmt.Sprintf("kind %d", uint8(k))
	}
}

// AnchorState says whether the checkpoint of a file stands on a chain.
type AnchorState uint8

// States of anchors in files. The numbers are in files: never reuse one.
const (
	AnchorNone  AnchorState = 0 // not yet
	AnchorMade  AnchorState = 1
	AnchorNever AnchorState = 2 // this hub does not anchor
)

// Anchor names the event of the contract that a checkpoint is compared with.
type Anchor struct {
	ChainID  uint64
	Contract [20]byte
	Seq      uint64 // number of the anchor in the contract, from 1
	Block    uint64
	Tx       [32]byte
}

// Head begins every file.
//
//	offset width field
//	     0    13 tag "hsi/proof/v1\0"
//	    13     1 kind
//	    14     2 length of the checkpoint, at most 512
//	    16       checkpoint (Checkpoint)
//	     …    32 public key of the log, Ed25519
//	     …     1 anchor: 0 none yet, 1 made, 2 the hub does not anchor
//	             only if it is 1:
//	     …     8 chain id
//	     …    20 address of the contract
//	     …     8 number of the anchor
//	     …     8 number of its block
//	     …    32 hash of its transaction
type Head struct {
	Checkpoint []byte // as the log publishes it
	Key        [ed25519.PublicKeySize]byte
	State      AnchorState
	Anchor     Anchor
}

const (
	fileTag  = "hsi/proof/v1\x00"
	hourSize = entryHead + evidence.HeaderSize + evidence.SignatureSize + evidence.HourSize

	// MaxStatement is the most bytes that a statement has: some 100,000 miners.
	MaxStatement = 64 << 20
	maxDocument  = 4 << 20   // bytes of terms, an assignment or an excuse
	maxDocuments = 256 << 20 // bytes of all of them
)

// Extension is what names of proof files end in.
const Extension = ".hsproof"

// PlacedEntry is an entry and its place: the entry (Entry), of the length that its kind has, and Placed.
type PlacedEntry struct {
	Entry
	Placed
}

// HourProof proves what a site signed of one miner and hour, and that it stood in the log. After the head:
//
//	width field
//	  480 leaf (evidence.Leaf)
//	    4 its index in the hour's tree
//	    1 number of hashes, at most 64
//	   32 each: the path from the leaf's neighbour to the root's child
//	  388 entry of kind hour, placed
//	  101 entry of kind site_key, placed: the key that signed the hour
type HourProof struct {
	Head
	Leaf      evidence.Leaf
	LeafIndex uint32
	LeafPath  []evidence.Hash
	Hour      PlacedEntry
	SiteKey   PlacedEntry
}

// StatementProof proves that the hub issued a statement. After the head:
//
//	width field
//	    4 length of the statement, at most 64 MiB
//	      statement, its canonical bytes
//	  204 entry of kind statement or restatement, placed
//	   54 entry of kind hub_key, placed: the key that signed the statement
type StatementProof struct {
	Head
	Statement []byte
	Entry     PlacedEntry
	HubKey    PlacedEntry
}

// Document is an input of a statement. Terms have a time and a place: their entry is made of contract, version, hash and time. Excuses have a place: their entry is made
// of id and hash, and its time is the excuse's recorded_ms. Assignments have neither, they are not in the log.
type Document struct {
	Bytes []byte // canonical JSON
	AtMS  int64
	Placed
}

// Inputs is what a bundle has between what a statement's file has and its hours. Lists of documents are in the statement's order.
//
//	width field
//	    2 number of terms; of each:
//	        4 length, at most 4 MiB; canonical JSON; 8 the entry's time in ms; placed
//	    4 number of assignments; of each:
//	        4 length, at most 4 MiB; canonical JSON
//	    4 number of excuses; of each:
//	        4 length, at most 4 MiB; canonical JSON; placed
//	    4 number of site keys, ascending by (site, key id), each the key of an hour; of each:
//	      101 entry of kind site_key, placed
//	    4 number of hours (BundleHour)
type Inputs struct {
	Terms       []Document
	Assignments []Document
	Excuses     []Document
	SiteKeys    []PlacedEntry
	Hours       uint32
}

// HourState says what the hub found when it computed an hour again.
type HourState uint8

// States of hours. The numbers are in files: never reuse one.
const (
	HourAgreed   HourState = 1
	HourDisputed HourState = 2
)

// BundleHour is one signed hour in a bundle. Hours are in the statement's order.
//
//	width field
//	    1 state: 1 agreed, 2 disputed
//	  388 entry of kind hour, placed
//	      agreed:
//	    4 number of full entries of the hour's tree
//	    4 number of bare ones
//	      all of them in ascending order of index; of each:
//	        4 index
//	        1 form: 1 full, 2 bare
//	          full: 480 leaf;  bare: 32 SHA-256(miner id), 32 SHA-256(leaf)
//	    4 number of hashes of the multiproof (MultiproofRoot)
//	   32 each
//	      disputed, which makes the hour unknown for these miners whatever their leaves say:
//	    4 number of miners
//	   16 each: miner id, ascending: those that are assigned in the hour and have a leaf in it by what the hub computed
//
// Of an agreed hour, every miner that is assigned to the contract at the site at the start of a slot of the hour has a full entry, or its neighbours are there:
// the entries with the next lower and the next higher hash, whose indexes follow each other, or the first or last entry of the tree alone. Nothing else is there: no leaf of another
// miner, and no bare entry that is not such a neighbour.
type BundleHour struct {
	State   HourState
	Entry   PlacedEntry
	Entries []TreeEntry
	Hashes  []evidence.Hash
	Miners  []ident.MinerID
}

// TreeEntry is one entry of an hour's tree.
type TreeEntry struct {
	Index    uint32
	Bare     bool
	Leaf     evidence.Leaf // zero if bare
	Miner    evidence.Hash // SHA-256 of the miner's id; a reader sets it of bare entries only
	LeafHash evidence.Hash // SHA-256 of the leaf
}

// EntryProof proves that an entry stands in the log. After the head:
//
//	width field
//	      entry of any kind (Entry), placed
type EntryProof struct {
	Head
	Entry PlacedEntry
}

// ErrFormat means that bytes are not a proof file that this program reads.
var ErrFormat = errors.New("not a proof file in its one form")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

// AppendBinary appends the file's bytes.
func (p *HourProof) AppendBinary(b []byte) ([]byte, error) {
	e := writer{b: b}
	e.head(KindHour, &p.Head)
	leaf, err := p.Leaf.AppendBinary(nil)
	e.fail(err)
	e.raw(leaf)
	e.u32(p.LeafIndex)
	e.path(p.LeafPath)
	e.entry(&p.Hour, EntryHour)
	e.entry(&p.SiteKey, EntrySiteKey)
	return e.b, e.err
}

// AppendBinary appends the file's bytes.
func (p *StatementProof) AppendBinary(b []byte) ([]byte, error) {
	e := writer{b: b}
	e.statement(KindStatement, p)
	return e.b, e.err
}

// AppendBinary appends the file's bytes.
func (p *EntryProof) AppendBinary(b []byte) ([]byte, error) {
	e := writer{b: b}
	e.head(KindEntry, &p.Head)
	e.entry(&p.Entry, p.Entry.Kind)
	return e.b, e.err
}

// BundleWriter writes a bundle hour by hour.
type BundleWriter struct {
	w    *bufio.Writer
	e    writer
	left uint32
}

// NewBundleWriter writes what comes before the hours, of which in.Hours must follow.
func NewBundleWriter(w io.Writer, p *StatementProof, in *Inputs) (*BundleWriter, error) {
	b := &BundleWriter{w: bufio.NewWriterSize(w, 1<<16), left: in.Hours}
	e := &b.e
	e.statement(KindBundle, p)
	if len(in.Terms) > 1<<16-1 {
		e.fail(fmt.Errorf("%d versions of terms: a bundle holds at most %d", len(in.Terms), 1<<16-1))
	}
	e.b = binary.BigEndian.AppendUint16(e.b, uint16(len(in.Terms)))
	for i := range in.Terms {
		d := &in.Terms[i]
		e.document(d.Bytes)
		e.u64(uint64(d.AtMS))
		e.placed(&d.Placed)
	}
	e.u32(uint32(len(in.Assignments)))
	for i := range in.Assignments {
		e.document(in.Assignments[i].Bytes)
	}
	e.u32(uint32(len(in.Excuses)))
	for i := range in.Excuses {
		e.document(in.Excuses[i].Bytes)
		e.placed(&in.Excuses[i].Placed)
	}
	e.u32(uint32(len(in.SiteKeys)))
	for i := range in.SiteKeys {
		e.entry(&in.SiteKeys[i], EntrySiteKey)
	}
	e.u32(in.Hours)
	return b, b.flush()
}

// flush hands on what has been encoded.
func (b *BundleWriter) flush() error {
	if b.e.err == nil {
		_, b.e.err = b.w.Write(b.e.b)
	}
	b.e.b = b.e.b[:0]
	return b.e.err
}

// Hour writes the next hour.
func (b *BundleWriter) Hour(h *BundleHour) error {
	e := &b.e
	if b.left == 0 {
		e.fail(errors.New("more hours than the bundle was begun with"))
	}
	b.left--
	e.raw([]byte{byte(h.State)})
	e.entry(&h.Entry, EntryHour)
	switch h.State {
	case HourAgreed:
		full := 0
		for i := range h.Entries {
			if !h.Entries[i].Bare {
				full++
			}
		}
		e.u32(uint32(full))
		e.u32(uint32(len(h.Entries) - full))
		for i := range h.Entries {
			t := &h.Entries[i]
			e.u32(t.Index)
			if t.Bare {
				e.raw([]byte{2})
				e.raw(t.Miner[:])
				e.raw(t.LeafHash[:])
				continue
			}
			e.raw([]byte{1})
			var err error
			e.b, err = t.Leaf.AppendBinary(e.b)
			e.fail(err)
		}
		e.u32(uint32(len(h.Hashes)))
		for i := range h.Hashes {
			e.raw(h.Hashes[i][:])
		}
	case HourDisputed:
		e.u32(uint32(len(h.Miners)))
		for i := range h.Miners {
			e.raw(h.Miners[i][:])
		}
	default:
		e.fail(fmt.Errorf("an hour of state %d", h.State))
	}
	return b.flush()
}

// Close ends the bundle. It fails if hours are missing; it does not close what it writes to.
func (b *BundleWriter) Close() error {
	if b.left != 0 {
		b.e.fail(fmt.Errorf("%d hours of the bundle are missing", b.left))
	}
	if b.e.err != nil {
		return b.e.err
	}
	return b.w.Flush()
}

// writer appends; the first error stays.
type writer struct {
	b   []byte
	err error
}

func (e *writer) fail(err error) {
	if e.err == nil {
		e.err = err
	}
}

func (e *writer) raw(b []byte) { e.b = append(e.b, b...) }
func (e *writer) u32(v uint32) { e.b = binary.BigEndian.AppendUint32(e.b, v) }
func (e *writer) u64(v uint64) { e.b = binary.BigEndian.AppendUint64(e.b, v) }

func (e *writer) head(k Kind, h *Head) {
	if len(h.Checkpoint) > maxCheckpoint {
		e.fail(fmt.Errorf("a checkpoint of %d bytes", len(h.Checkpoint)))
	}
	e.raw([]byte(fileTag))
	e.raw([]byte{byte(k)})
	e.b = binary.BigEndian.AppendUint16(e.b, uint16(len(h.Checkpoint)))
	e.raw(h.Checkpoint)
	e.raw(h.Key[:])
	e.raw([]byte{byte(h.State)})
	if h.State == AnchorMade {
		e.u64(h.Anchor.ChainID)
		e.raw(h.Anchor.Contract[:])
		e.u64(h.Anchor.Seq)
		e.u64(h.Anchor.Block)
		e.raw(h.Anchor.Tx[:])
	}
}

func (e *writer) path(path []evidence.Hash) {
	if len(path) > maxPath {
		e.fail(fmt.Errorf("a path of %d hashes", len(path)))
	}
	e.raw([]byte{byte(len(path))})
	for i := range path {
		e.raw(path[i][:])
	}
}

func (e *writer) placed(p *Placed) {
	e.u64(p.Index)
	e.path(p.Path)
}

func (e *writer) entry(p *PlacedEntry, kinds ...EntryKind) {
	if !allowed(p.Kind, kinds) || entryHead+len(p.Body) != EntrySize(p.Kind) {
		e.fail(fmt.Errorf("a log entry of kind %s with %d bytes, want one of kind %s", p.Kind, len(p.Body), kinds[0]))
	}
	e.b = p.append(e.b)
	e.placed(&p.Placed)
}

func allowed(k EntryKind, kinds []EntryKind) bool {
	for _, want := range kinds {
		if k == want {
			return true
		}
	}
	return false
}

func (e *writer) document(b []byte) {
	if len(b) > maxDocument {
		e.fail(fmt.Errorf("a document of %d bytes: at most %d", len(b), maxDocument))
	}
	e.u32(uint32(len(b)))
	e.raw(b)
}

func (e *writer) statement(k Kind, p *StatementProof) {
	if len(p.Statement) > MaxStatement {
		e.fail(fmt.Errorf("a statement of %d bytes: at most %d", len(p.Statement), MaxStatement))
	}
	e.head(k, &p.Head)
	e.u32(uint32(len(p.Statement)))
	e.raw(p.Statement)
	e.entry(&p.Entry, EntryStatement, EntryRestatement)
	e.entry(&p.HubKey, EntryHubKey)
}

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
	if tag := d.take(len(fileTag)); d.err == nil && string(tag) != fileTag {
		d.fail("it does not begin with %q", fileTag)
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
