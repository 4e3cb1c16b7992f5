package proof

import (
	"errors"
	"fmt"
	"math/bits"

	"github.com/hashinsight/hashinsight/pkg/evidence"
)

// maxPath is the most hashes that an inclusion proof has: the tree of 2^64 entries is that high.
const maxPath = 64

// Placed says where in the log an entry stands, for the checkpoint of its file.
//
//	offset width field
//	     0     8 index in the log
//	     8     1 number of hashes, at most 64
//	     9    32 each: the inclusion proof of RFC 6962 section 2.1.1, from the entry's neighbour to the root's child
type Placed struct {
	Index uint64
	Path  []evidence.Hash
}

// verify checks that the path leads from the leaf's hash to the checkpoint's root.
func (p *Placed) verify(leaf evidence.Hash, c *Checkpoint) error {
	got, err := evidence.RootOfPath(leaf, p.Index, c.Size, p.Path)
	if err == nil && got != c.Root {
		err = evidence.ErrInclusion
	}
	return err
}

// ErrConsistency means that a proof does not show that one tree begins with the other.
var ErrConsistency = errors.New("consistency proof does not verify")

// VerifyConsistency checks that the tree of to entries begins with that of from entries (RFC 9162 section 2.1.4.2): nothing was changed or removed between two
// checkpoints. Every tree begins with the empty one, which needs no hashes.
func VerifyConsistency(from, to uint64, fromRoot, toRoot evidence.Hash, path []evidence.Hash) error {
	switch {
	case from > to:
		return fmt.Errorf("%w: from %d entries to %d", ErrConsistency, from, to)
	case from == to && (fromRoot != toRoot || len(path) > 0):
		return fmt.Errorf("%w: two trees of %d entries", ErrConsistency, to)
	case from == to:
		return nil
	case from == 0 && len(path) > 0:
		return fmt.Errorf("%w: from the empty tree it has no hashes", ErrConsistency)
	case from == 0:
		return nil
	}
	at, last := from-1, to-1
	rise := bits.TrailingZeros64(^at) // whole subtrees at the end of the smaller tree are one node of the larger
	at, last = at>>rise, last>>rise
	begin := fromRoot // from is a power of two: its root is that node
	if at > 0 {
		if len(path) == 0 {
			return fmt.Errorf("%w: it has no hashes", ErrConsistency)
		}
		begin, path = path[0], path[1:]
	}
	a, b := begin, begin
	for i := range path {
		if last == 0 {
			return fmt.Errorf("%w: it is longer than the tree is high", ErrConsistency)
		}
		if at%2 == 1 || at == last {
			a, b = evidence.HashNode(&path[i], &a), evidence.HashNode(&path[i], &b)
			for at%2 == 0 && at > 0 {
				at, last = at/2, last/2
			}
		} else {
			b = evidence.HashNode(&b, &path[i])
		}
		at, last = at/2, last/2
	}
	if last != 0 || a != fromRoot || b != toRoot {
		return ErrConsistency
	}
	return nil
}

// ErrMultiproof means that entries and hashes do not give a tree of that size.
var ErrMultiproof = errors.New("multiproof does not verify")

// Node is an entry of a tree of RFC 6962 by its index and hash.
type Node struct {
	Index uint64
	Hash  evidence.Hash
}

// MultiproofRoot returns the root of a tree of size entries of which some are given, in ascending order of index, and the hashes of the largest subtrees that
// hold none of them, in the order of a walk from the root with the left child first (evidence.Tree.Multiproof). All of both must be used.
func MultiproofRoot(size uint64, given []Node, hashes []evidence.Hash) (evidence.Hash, error) {
	if size == 0 {
		return evidence.Hash{}, fmt.Errorf("%w: a tree without entries", ErrMultiproof)
	}
	m := multiproof{given, hashes}
	root, ok := m.root(0, size)
	if !ok || len(m.given) > 0 || len(m.hashes) > 0 {
		return evidence.Hash{}, fmt.Errorf("%w: too few hashes, or %d hashes and %d entries too many", ErrMultiproof, len(m.hashes), len(m.given))
	}
	return root, nil
}

// multiproof is what is left of one on the walk. It goes at most 64 deep.
type multiproof struct {
	given  []Node
	hashes []evidence.Hash
}

func (m *multiproof) root(from, size uint64) (h evidence.Hash, ok bool) {
	switch {
	case len(m.given) == 0 || m.given[0].Index-from >= size: // an index below from wraps
		if len(m.hashes) == 0 {
			return h, false
		}
		h, m.hashes = m.hashes[0], m.hashes[1:]
		return h, true
	case size == 1:
		h, m.given = m.given[0].Hash, m.given[1:]
		return h, true
	}
	left := uint64(1) << (bits.Len64(size-1) - 1) // the largest power of two below size
	a, ok := m.root(from, left)
	if !ok {
		return h, false
	}
	b, ok := m.root(from+left, size-left)
	return evidence.HashNode(&a, &b), ok
}
