package proof

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/merkle/testonly"
	"pgregory.net/rapid"

	"github.com/hashinsight/hashinsight/pkg/evidence"
)

// modelRoot computes a root from RFC 6962 section 2.1 as it is written there.
func modelRoot(leaves []evidence.Hash) evidence.Hash {
	if len(leaves) == 1 {
		return leaves[0]
	}
	k := 1
	for 2*k < len(leaves) {
		k *= 2
	}
	a, b := modelRoot(leaves[:k]), modelRoot(leaves[k:])
	return sha256.Sum256(slices.Concat([]byte{1}, a[:], b[:]))
}

// modelMultiproof walks a tree whose entries all are known.
func modelMultiproof(from int, leaves []evidence.Hash, given map[int]bool) []evidence.Hash {
	some := false
	for i := range leaves {
		some = some || given[from+i]
	}
	if !some {
		return []evidence.Hash{modelRoot(leaves)}
	}
	if len(leaves) == 1 {
		return nil
	}
	k := 1
	for 2*k < len(leaves) {
		k *= 2
	}
	return append(modelMultiproof(from, leaves[:k], given), modelMultiproof(from+k, leaves[k:], given)...)
}

func someHashes(n int) []evidence.Hash {
	out := make([]evidence.Hash, n)
	for i := range out {
		out[i] = sha256.Sum256(binary.BigEndian.AppendUint32(nil, uint32(i)))
	}
	return out
}

func TestMultiproofsGiveTheRootOfTheSlowModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		leaves := someHashes(rapid.IntRange(1, 70).Draw(t, "entries"))
		given := map[int]bool{}
		var nodes []Node
		for _, i := range slices.Compact(slices.Sorted(slices.Values(rapid.SliceOf(rapid.IntRange(0, len(leaves)-1)).Draw(t, "given")))) {
			given[i] = true
			nodes = append(nodes, Node{uint64(i), leaves[i]})
		}
		hashes := modelMultiproof(0, leaves, given)
		root := modelRoot(leaves)
		if got, err := MultiproofRoot(uint64(len(leaves)), nodes, hashes); err != nil || got != root {
			t.Fatalf("%x, %v, want %x", got, err, root)
		}
		// Whatever is changed, it gives no root or another one.
		size := uint64(len(leaves))
		switch rapid.IntRange(0, 5).Draw(t, "change") {
		case 0:
			hashes = append(hashes, evidence.Hash{})
		case 1:
			if len(hashes) == 0 {
				return
			}
			hashes = slices.Delete(slices.Clone(hashes), 0, 1)
		case 2:
			if len(hashes) == 0 {
				return
			}
			hashes = slices.Clone(hashes)
			hashes[rapid.IntRange(0, len(hashes)-1).Draw(t, "which")][rapid.IntRange(0, 31).Draw(t, "byte")] ^= 1
		case 3:
			if len(nodes) == 0 {
				return
			}
			nodes[rapid.IntRange(0, len(nodes)-1).Draw(t, "which")].Hash[rapid.IntRange(0, 31).Draw(t, "byte")] ^= 1
		case 4:
			if len(nodes) == 0 {
				return
			}
			i := rapid.IntRange(0, len(nodes)-1).Draw(t, "which")
			nodes[i].Index += uint64(rapid.SampledFrom([]int{-1, 1, 64, 1 << 40}).Draw(t, "moved"))
		case 5: // an entry twice
			if len(nodes) == 0 {
				return
			}
			nodes = append(nodes, nodes[len(nodes)-1])
		}
		if got, err := MultiproofRoot(size, nodes, hashes); err == nil && got == root {
			t.Fatal("a changed multiproof gives the root")
		}
	})
	if _, err := MultiproofRoot(0, nil, nil); err == nil {
		t.Error("a tree without entries has a root")
	}
}

// Package merkle of transparency-dev is the second opinion.
func TestProofsAgreeWithAnotherImplementation(t *testing.T) {
	tree := testonly.New(rfc6962.DefaultHasher)
	const n = 40
	var leaves []evidence.Hash
	for i := range n {
		data := binary.BigEndian.AppendUint32(nil, uint32(i))
		tree.AppendData(data)
		leaves = append(leaves, sha256.Sum256(append([]byte{0}, data...)))
	}
	ours := func(path [][]byte) (out []evidence.Hash) {
		for _, h := range path {
			out = append(out, evidence.Hash(h))
		}
		return out
	}
	for size := uint64(1); size <= n; size++ {
		c := Checkpoint{Size: size, Root: evidence.Hash(tree.HashAt(size))}
		if got := modelRoot(leaves[:size]); got != c.Root {
			t.Fatalf("%d entries: the model's root is %x, want %x", size, got, c.Root)
		}
		for i := range size {
			path, err := tree.InclusionProof(i, size)
			if err != nil {
				t.Fatal(err)
			}
			if err := (&Placed{i, ours(path)}).verify(leaves[i], &c); err != nil {
				t.Fatalf("entry %d of %d: %v", i, size, err)
			}
			for other := range size + 2 {
				if err := (&Placed{other, ours(path)}).verify(leaves[i], &c); (err == nil) != (other == i) {
					t.Fatalf("entry %d of %d as entry %d: %v", i, size, other, err)
				}
			}
		}
		for from := range size + 1 {
			path, err := tree.ConsistencyProof(from, size)
			if err != nil {
				t.Fatal(err)
			}
			if err := VerifyConsistency(from, size, evidence.Hash(tree.HashAt(from)), c.Root, ours(path)); err != nil {
				t.Fatalf("from %d to %d: %v", from, size, err)
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		from, to := rapid.Uint64Range(0, n).Draw(t, "from"), rapid.Uint64Range(1, n).Draw(t, "to")
		a, b := tree.HashAt(from), tree.HashAt(to)
		var path [][]byte
		if from <= to {
			path, _ = tree.ConsistencyProof(from, to)
		}
		path = slices.Clone(path)
		for range rapid.IntRange(0, 2).Draw(t, "changes") {
			switch rapid.IntRange(0, 5).Draw(t, "change") {
			case 0:
				from = rapid.Uint64Range(0, n).Draw(t, "other from")
			case 1:
				to = rapid.Uint64Range(1, n).Draw(t, "other to")
			case 2:
				path = append(path, make([]byte, 32))
			case 3:
				path = path[:rapid.IntRange(0, len(path)).Draw(t, "kept")]
			case 4:
				a = tree.HashAt(rapid.Uint64Range(0, n).Draw(t, "root of"))
			case 5:
				b = tree.HashAt(rapid.Uint64Range(0, n).Draw(t, "root of"))
			}
		}
		want := proof.VerifyConsistency(rfc6962.DefaultHasher, from, to, path, a, b)
		if got := VerifyConsistency(from, to, evidence.Hash(a), evidence.Hash(b), ours(path)); (got == nil) != (want == nil) {
			t.Fatalf("from %d to %d with %d hashes: %v, the other says %v", from, to, len(path), got, want)
		}
	})
}
