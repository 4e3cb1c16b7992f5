package evidence

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Hour is the payload of a batch of kind hour: the root of the leaves of one site, hour and chain. The batch's signature makes it the site's word.
//
//	offset width field
//	     0    12 tag "hsi/hour/v1\0"
//	    12    16 site id
//	    28     4 hour since 1970 UTC
//	    32    16 spool id of the chain that the leaves are of; the batch itself may stand in a later chain of the same site
//	    48     8 first sequence number that counts towards a leaf
//	    56     8 last sequence number of the chain when the leaves were made
//	    64     4 number of leaves, at least 1
//	    68    32 root of their tree
type Hour struct {
	Site              ident.SiteID
	Hour              uint32
	Spool             ident.SpoolID
	FirstSeq, LastSeq uint64
	Leaves            uint32
	Root              Hash
}

const hourTag = "hsi/hour/v1\x00"

// HourSize is the length of an encoded hour in bytes.
const HourSize = 100

// Bytes returns the fixed form.
func (h *Hour) Bytes() []byte {
	be := binary.BigEndian
	b := make([]byte, 0, HourSize)
	b = append(b, hourTag...)
	b = append(b, h.Site[:]...)
	b = be.AppendUint32(b, h.Hour)
	b = append(b, h.Spool[:]...)
	b = be.AppendUint64(b, h.FirstSeq)
	b = be.AppendUint64(b, h.LastSeq)
	b = be.AppendUint32(b, h.Leaves)
	return append(b, h.Root[:]...)
}

// ParseHour reads the fixed form and accepts nothing else.
func ParseHour(b []byte) (Hour, error) {
	if len(b) != HourSize || string(b[:len(hourTag)]) != hourTag {
		return Hour{}, fmt.Errorf("hour record: %d bytes without the tag %q, want %d bytes", len(b), hourTag, HourSize)
	}
	be := binary.BigEndian
	h := Hour{
		Site: ident.SiteID(b[12:28]), Hour: be.Uint32(b[28:]), Spool: ident.SpoolID(b[32:48]),
		FirstSeq: be.Uint64(b[48:]), LastSeq: be.Uint64(b[56:]), Leaves: be.Uint32(b[64:]), Root: Hash(b[68:100]),
	}
	switch {
	case h.FirstSeq == 0 || h.LastSeq < h.FirstSeq:
		return Hour{}, fmt.Errorf("hour record: batches %d to %d are no range", h.FirstSeq, h.LastSeq)
	case h.Leaves == 0:
		return Hour{}, errors.New("hour record: an hour without leaves is not signed")
	}
	return h, nil
}

// Tree is the tree over the leaves of one hour: RFC 6962 (SHA-256, 0x00 before entries, 0x01 before nodes) over the entries
// SHA-256(miner id) ‖ SHA-256(leaf), strictly ascending. Two neighbours prove that a miner has no leaf and disclose only hashes.
type Tree struct {
	entries []entry
	levels  [][]Hash // levels[0] is the hashes of the entries; a node without a partner rises unchanged
}

type entry struct{ miner, leaf Hash }

// place is what is sorted instead of entries, which are four times as large; the first eight bytes of a hash nearly always decide.
type place struct {
	begins uint64
	entry  int
}

// NewTree builds the tree of at least one leaf. Leaves may come in any order; two of one miner are an error.
func NewTree(leaves []Leaf) (*Tree, error) {
	if len(leaves) == 0 {
		return nil, errors.New("tree of leaves: an hour without leaves has no tree")
	}
	entries := make([]entry, len(leaves))
	order := make([]place, len(leaves))
	for i := range leaves {
		l := &leaves[i]
		if err := l.check(); err != nil {
			return nil, fmt.Errorf("tree of leaves: %w", err)
		}
		entries[i] = entryOf(l)
		order[i] = place{binary.BigEndian.Uint64(entries[i].miner[:]), i}
	}
	slices.SortFunc(order, func(a, b place) int {
		if c := cmp.Compare(a.begins, b.begins); c != 0 {
			return c
		}
		return compareHashes(&entries[a.entry].miner, &entries[b.entry].miner)
	})
	t := &Tree{entries: make([]entry, len(leaves))}
	for i := range order {
		t.entries[i] = entries[order[i].entry]
	}
	for i := 1; i < len(t.entries); i++ {
		if t.entries[i].miner == t.entries[i-1].miner {
			return nil, errors.New("tree of leaves: one miner has two leaves")
		}
	}
	// All levels lie in one piece of memory: fewer than two hashes for each entry.
	nodes := make([]Hash, 0, 2*len(leaves)+bits.Len(uint(len(leaves))))
	for i := range t.entries {
		nodes = append(nodes, HashEntry(&t.entries[i].miner, &t.entries[i].leaf))
	}
	level := nodes
	t.levels = append(t.levels, level)
	for len(level) > 1 {
		begin := len(nodes)
		for i := 0; i+1 < len(level); i += 2 {
			nodes = append(nodes, HashNode(&level[i], &level[i+1]))
		}
		if len(level)%2 == 1 {
			nodes = append(nodes, level[len(level)-1])
		}
		level = nodes[begin:]
		t.levels = append(t.levels, level)
	}
	return t, nil
}

func entryOf(l *Leaf) entry { return entry{sha256.Sum256(l.Miner[:]), l.Hash()} }

func compareHashes(a, b *Hash) int { return bytes.Compare(a[:], b[:]) }

// Root returns the tree's root.
func (t *Tree) Root() Hash { return t.levels[len(t.levels)-1][0] }

// Len returns the number of leaves.
func (t *Tree) Len() int { return len(t.entries) }

// Inclusion proves that the miner's leaf is in the tree: its place among the entries, and the path of RFC 6962 section 2.1.1, from the
// leaf's neighbour to the root's child.
func (t *Tree) Inclusion(m ident.MinerID) (index int, path []Hash, err error) {
	want := Hash(sha256.Sum256(m[:]))
	index, found := slices.BinarySearchFunc(t.entries, &want, func(e entry, h *Hash) int { return compareHashes(&e.miner, h) })
	if !found {
		return 0, nil, fmt.Errorf("miner %s has no leaf in this hour", m)
	}
	at := index
	for _, level := range t.levels[:len(t.levels)-1] {
		if sibling := at ^ 1; sibling < len(level) {
			path = append(path, level[sibling])
		}
		at /= 2
	}
	return index, path, nil
}

// ErrInclusion means that a path does not lead from the leaf to the root.
var ErrInclusion = errors.New("inclusion proof does not verify")

// VerifyInclusion checks that a leaf is one of size entries of the tree with this root (RFC 9162 section 2.1.3.2).
func VerifyInclusion(l *Leaf, index, size int, path []Hash, root Hash) error {
	if err := l.check(); err != nil {
		return err
	}
	if index < 0 || index >= size {
		return fmt.Errorf("%w: entry %d of %d", ErrInclusion, index, size)
	}
	e := entryOf(l)
	got, err := RootOfPath(HashEntry(&e.miner, &e.leaf), uint64(index), uint64(size), path)
	if err == nil && got != root {
		err = ErrInclusion
	}
	return err
}
