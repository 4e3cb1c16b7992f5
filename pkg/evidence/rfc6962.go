package evidence

import (
	"crypto/sha256"
	"fmt"
)

// HashEntry returns the hash of an entry of an hour's tree (Tree), of SHA-256(miner id) and SHA-256(leaf).
func HashEntry(miner, leaf *Hash) Hash {
	var b [1 + 2*sha256.Size]byte
	copy(b[1:], miner[:])
	copy(b[1+sha256.Size:], leaf[:])
	return sha256.Sum256(b[:])
}

// HashNode returns the hash of a node of a tree of RFC 6962.
func HashNode(left, right *Hash) Hash {
	var b [1 + 2*sha256.Size]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[1+sha256.Size:], right[:])
	return sha256.Sum256(b[:])
}

// RootOfPath returns the root of a tree of RFC 6962 with size entries that a path leads to from the entry with this hash and index (RFC 9162 section
// 2.1.3.2). Whether it is the tree's root the caller compares. The error is ErrInclusion: no entry of such a tree has a path of that length.
func RootOfPath(h Hash, index, size uint64, path []Hash) (Hash, error) {
	if index >= size {
		return Hash{}, fmt.Errorf("%w: entry %d of %d", ErrInclusion, index, size)
	}
	at, last := index, size-1
	for i := range path {
		if last == 0 {
			return Hash{}, fmt.Errorf("%w: the path is longer than the tree is high", ErrInclusion)
		}
		if at%2 == 1 || at == last {
			h = HashNode(&path[i], &h)
			for at%2 == 0 { // the last node of a level without a partner rises
				at, last = at/2, last/2
			}
		} else {
			h = HashNode(&h, &path[i])
		}
		at, last = at/2, last/2
	}
	if last != 0 {
		return Hash{}, fmt.Errorf("%w: the path is shorter than the tree is high", ErrInclusion)
	}
	return h, nil
}

// Find returns the place among the entries of the first miner whose hashed id is not below a hash, and whether it is that miner's.
func (t *Tree) Find(miner Hash) (index int, found bool) {
	lo, hi := 0, len(t.entries)
	for lo < hi {
		if mid := (lo + hi) / 2; compareHashes(&t.entries[mid].miner, &miner) < 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(t.entries) && t.entries[lo].miner == miner
}

// Entry returns SHA-256(miner id) and SHA-256(leaf) of an entry.
func (t *Tree) Entry(index int) (miner, leaf Hash) {
	return t.entries[index].miner, t.entries[index].leaf
}

// Multiproof returns the hashes that, with the entries at the indexes, give the root: walking from the root, the left child first, that of each
// subtree that holds none of them. The indexes ascend.
func (t *Tree) Multiproof(indexes []int) []Hash {
	var out []Hash
	var walk func(level, at int, within []int)
	walk = func(level, at int, within []int) {
		switch {
		case len(within) == 0:
			out = append(out, t.levels[level][at])
		case level > 0:
			split := 0
			for split < len(within) && within[split] < (2*at+1)<<(level-1) {
				split++
			}
			walk(level-1, 2*at, within[:split])
			if 2*at+1 < len(t.levels[level-1]) { // a node without a partner has risen
				walk(level-1, 2*at+1, within[split:])
			}
		}
	}
	walk(len(t.levels)-1, 0, indexes)
	return out
}
