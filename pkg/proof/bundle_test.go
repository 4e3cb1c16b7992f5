package proof

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// hourOf returns a signed hour's record (signed by nobody) of leaves.
func hourOf(t *rapid.T, leaves []evidence.Leaf) (PlacedEntry, evidence.Hour) {
	tree, err := evidence.NewTree(leaves)
	if err != nil {
		t.Fatal(err)
	}
	h := evidence.Hour{Site: leaves[0].Site, Hour: leaves[0].Hour, Spool: leaves[0].Spool, FirstSeq: 1, LastSeq: 9, Leaves: uint32(len(leaves)), Root: tree.Root()}
	payload := h.Bytes()
	header := evidence.Header{Kind: evidence.KindHour, Schema: 1, Site: h.Site, Seq: 1, Payload: sha256.Sum256(payload), PayloadLen: uint32(len(payload))}
	body := HourBody{RawHeader: header.Bytes(), Signature: make([]byte, evidence.SignatureSize), Payload: payload}
	return PlacedEntry{Entry: body.Entry(1)}, h
}

// An hour's part shows of every assigned miner its leaf, or that it has none; and whatever is left out of a miner that has one is missed.
func TestNoAssignedMinersLeafCanBeHeldBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var leaves []evidence.Leaf
		has := map[ident.MinerID]bool{}
		for _, m := range rapid.SliceOfNDistinct(rapid.Byte(), 1, 40, rapid.ID).Draw(t, "miners with a leaf") {
			leaves = append(leaves, evidence.Leaf{Miner: ident.MinerID{m}, Hour: 7, FirstSeq: 1, LastSeq: 9})
			has[ident.MinerID{m}] = true
		}
		entry, hour := hourOf(t, leaves)
		var assigned []ident.MinerID
		for _, m := range rapid.SliceOfNDistinct(rapid.Byte(), 0, 40, rapid.ID).Draw(t, "assigned") {
			assigned = append(assigned, ident.MinerID{m})
		}
		var check hourCheck
		expect := func(miners []ident.MinerID) {
			check.assigned = nil
			for _, m := range miners {
				check.assigned = append(check.assigned, &siteMiner{id: m, hash: sha256.Sum256(m[:])})
			}
			slices.SortFunc(check.assigned, func(a, b *siteMiner) int { return bytes.Compare(a.hash[:], b.hash[:]) })
		}
		made, err := AgreedHour(entry, leaves, assigned)
		if err != nil {
			t.Fatal(err)
		}
		expect(assigned)
		if err := check.agreed(&made, &hour); err != nil {
			t.Fatal(err)
		}
		if len(assigned) == 0 {
			return
		}
		i := rapid.IntRange(0, len(assigned)-1).Draw(t, "left out")
		without, err := AgreedHour(entry, leaves, slices.Delete(slices.Clone(assigned), i, i+1))
		if err != nil {
			t.Fatal(err)
		}
		if err := check.agreed(&without, &hour); err == nil && has[assigned[i]] {
			t.Fatalf("the leaf of miner %s was left out and nobody misses it", assigned[i])
		}
		// The other way round: a leaf of a miner that is not the contract's is not shown.
		expect(slices.Delete(slices.Clone(assigned), i, i+1))
		if err := check.agreed(&made, &hour); err == nil && has[assigned[i]] {
			t.Fatalf("the leaf of miner %s is nobody's business and was taken", assigned[i])
		}
	})
}

// The hub makes multiproofs from a tree's levels, the model from the definition.
func TestMultiproofsOfTreesAreThoseOfTheSlowModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		leaves := make([]evidence.Leaf, rapid.IntRange(1, 70).Draw(t, "leaves"))
		for i := range leaves {
			leaves[i] = evidence.Leaf{Miner: ident.MinerID{byte(i)}, FirstSeq: 1, LastSeq: 1}
		}
		tree, err := evidence.NewTree(leaves)
		if err != nil {
			t.Fatal(err)
		}
		hashes := make([]evidence.Hash, len(leaves))
		for i := range hashes {
			miner, leaf := tree.Entry(i)
			hashes[i] = evidence.HashEntry(&miner, &leaf)
		}
		indexes := rapid.SliceOfDistinct(rapid.IntRange(0, len(leaves)-1), rapid.ID).Draw(t, "given")
		slices.SortFunc(indexes, cmp.Compare)
		given := map[int]bool{}
		var nodes []Node
		for _, i := range indexes {
			given[i] = true
			nodes = append(nodes, Node{uint64(i), hashes[i]})
		}
		got := tree.Multiproof(indexes)
		if want := modelMultiproof(0, hashes, given); !slices.Equal(got, want) {
			t.Fatalf("%d hashes, the model has %d", len(got), len(want))
		}
		if root, err := MultiproofRoot(uint64(len(leaves)), nodes, got); err != nil || root != tree.Root() {
			t.Fatalf("%x, %v", root, err)
		}
	})
}

func TestAssignmentsHoldInHoursWithASlotOfTheirs(t *testing.T) {
	const hour = 3_600_000
	for name, c := range map[string]struct {
		from, to int64
		hours    []uint32
	}{
		"whole hours":                   {2 * hour, 4 * hour, []uint32{2, 3}},
		"from the last slot's start":    {2*hour + 3_300_000, 3 * hour, []uint32{2}},
		"after the last slot's start":   {2*hour + 3_300_001, 3 * hour, nil},
		"to just after a slot's start":  {hour, 2*hour + 1, []uint32{1, 2}},
		"within a slot":                 {2*hour + 1, 2*hour + 2, nil},
		"ended at its beginning":        {2 * hour, 2 * hour, nil},
		"open":                          {3 * hour, 0, []uint32{3, 4, 5}},
		"open from after the last slot": {3*hour + 3_300_001, 0, []uint32{4, 5}},
	} {
		a := Assignment{FromMS: c.from, ToMS: c.to}
		var got []uint32
		for h := range uint32(6) {
			if a.In(h) {
				got = append(got, h)
			}
		}
		if !slices.Equal(got, c.hours) {
			t.Errorf("%s: hours %v, want %v", name, got, c.hours)
		}
	}
}
