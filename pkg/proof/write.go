package proof

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/hashinsight/hashinsight/pkg/evidence"
)

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
