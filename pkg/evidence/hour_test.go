package evidence

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"pgregory.net/rapid"

	"github.com/hashinsight/hashinsight/pkg/ident"
)

// The vectors in testdata are read by tests of other languages too: 64-bit numbers are decimal strings.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

type leafVector struct {
	Name               string
	Site, Miner, Spool hexBytes
	Hour               uint32
	Slots              []struct {
		Slot            int
		Polls, Answered uint16
		Source          Source
		Flags           SlotFlags
		Hashes          decimal `json:"hashes_mh"`
		ShareDiff       decimal `json:"share_diff"`
		Energy          decimal `json:"energy_j"`
	}
	FirstSeq decimal `json:"first_seq"`
	LastSeq  decimal `json:"last_seq"`
	Salt     hexBytes
	Bytes    hexBytes
	Hash     hexBytes
}

type decimal uint64

func (d *decimal) UnmarshalText(b []byte) error {
	v, err := strconv.ParseUint(string(b), 10, 64)
	*d = decimal(v)
	return err
}

func (v *leafVector) leaf() Leaf {
	l := Leaf{
		Site: ident.SiteID(v.Site), Miner: ident.MinerID(v.Miner), Hour: v.Hour, Spool: ident.SpoolID(v.Spool),
		FirstSeq: uint64(v.FirstSeq), LastSeq: uint64(v.LastSeq), Salt: [16]byte(v.Salt),
	}
	for _, s := range v.Slots {
		l.Slots[s.Slot] = Slot{s.Polls, s.Answered, s.Source, s.Flags, uint64(s.Hashes), uint64(s.ShareDiff), uint64(s.Energy)}
	}
	return l
}

func vectors(t testing.TB, file string, into any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func TestLeafBytesAreTheDocumentedOnes(t *testing.T) {
	var file struct{ Vectors []leafVector }
	vectors(t, "leaf.json", &file)
	for _, v := range file.Vectors {
		t.Run(v.Name, func(t *testing.T) {
			want := v.leaf()
			got, err := want.AppendBinary(nil)
			if err != nil || !bytes.Equal(got, v.Bytes) {
				t.Fatalf("got  %x, %v\nwant %x", got, err, []byte(v.Bytes))
			}
			back, err := ParseLeaf(v.Bytes)
			if err != nil || back != want {
				t.Fatalf("parsed %+v, %v", back, err)
			}
			if h := want.Hash(); !bytes.Equal(h[:], v.Hash) {
				t.Fatalf("hash %x, want %x", h, []byte(v.Hash))
			}
		})
	}
	var refused struct {
		Vectors []struct {
			Why    string
			Offset int
			Set    hexBytes
		}
	}
	vectors(t, "leaf_refused.json", &refused)
	for _, v := range refused.Vectors {
		t.Run(v.Why, func(t *testing.T) {
			b := bytes.Clone(file.Vectors[0].Bytes)
			copy(b[v.Offset:], v.Set)
			if l, err := ParseLeaf(b); err == nil {
				t.Fatalf("accepted %+v", l)
			}
		})
	}
	if _, err := ParseLeaf(append(bytes.Clone(file.Vectors[0].Bytes), 0)); err == nil {
		t.Error("a leaf with a byte too many was accepted")
	}
}

// What is written can be read: a leaf that no decoder accepts is never signed.
func TestAppendRefusesWhatParseRefuses(t *testing.T) {
	for name, change := range map[string]func(*Leaf){
		"answered": func(l *Leaf) { l.Slots[3].Answered = 1 }, "source": func(l *Leaf) { l.Slots[3].Source = 3 },
		"flags": func(l *Leaf) { l.Slots[3].Flags = 1 << 8 }, "no source": func(l *Leaf) { l.Slots[3].Hashes = 1 },
		"beyond": func(l *Leaf) { l.Slots[3].Energy = MaxAmount + 1 }, "range": func(l *Leaf) { l.FirstSeq = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			l := Leaf{FirstSeq: 1, LastSeq: 1}
			change(&l)
			if b, err := l.AppendBinary([]byte("before")); err == nil || string(b) != "before" {
				t.Errorf("wrote %q, %v", b, err)
			}
			if _, err := NewTree([]Leaf{l}); err == nil {
				t.Error("the tree took it")
			}
		})
	}
}

func TestHourBytesAreTheDocumentedOnes(t *testing.T) {
	var file struct {
		Vectors []struct {
			Site, Spool, Root, Bytes hexBytes
			Hour, Leaves             uint32
			FirstSeq                 decimal `json:"first_seq"`
			LastSeq                  decimal `json:"last_seq"`
		}
	}
	vectors(t, "hour.json", &file)
	for _, v := range file.Vectors {
		h := Hour{ident.SiteID(v.Site), v.Hour, ident.SpoolID(v.Spool), uint64(v.FirstSeq), uint64(v.LastSeq), v.Leaves, Hash(v.Root)}
		if got := h.Bytes(); !bytes.Equal(got, v.Bytes) || len(got) != HourSize {
			t.Fatalf("got  %x\nwant %x", got, []byte(v.Bytes))
		}
		if back, err := ParseHour(v.Bytes); err != nil || back != h {
			t.Fatalf("parsed %+v, %v", back, err)
		}
	}
	good := Hour{FirstSeq: 1, LastSeq: 2, Leaves: 1}
	for name, change := range map[string]func(*Hour){
		"from batch 0": func(h *Hour) { h.FirstSeq = 0 }, "no range": func(h *Hour) { h.LastSeq = 0 }, "no leaves": func(h *Hour) { h.Leaves = 0 },
	} {
		h := good
		change(&h)
		if _, err := ParseHour(h.Bytes()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := ParseHour(good.Bytes()[1:]); err == nil || !strings.Contains(err.Error(), "want 100 bytes") {
		t.Errorf("99 bytes: %v", err)
	}
}

func TestSaltsAreTheDocumentedOnes(t *testing.T) {
	var file struct {
		Vectors []struct {
			Key, Salt hexBytes
			Hour      uint32
		}
	}
	vectors(t, "salt.json", &file)
	for _, v := range file.Vectors {
		if got := SaltOf([32]byte(v.Key), v.Hour); !bytes.Equal(got[:], v.Salt) {
			t.Errorf("hour %d: got %x, want %x", v.Hour, got, []byte(v.Salt))
		}
	}
}

func TestTreesAreTheDocumentedOnes(t *testing.T) {
	var file struct {
		Leaves []leafVector
		Trees  []struct {
			Leaves  int
			Root    hexBytes
			Entries []struct {
				Miner, Entry hexBytes
				Index        int
				Path         []hexBytes
			}
		}
	}
	vectors(t, "tree.json", &file)
	for _, v := range file.Trees {
		var leaves []Leaf
		for i := range v.Leaves {
			leaves = append(leaves, file.Leaves[i].leaf())
		}
		tree, err := NewTree(leaves)
		if err != nil {
			t.Fatal(err)
		}
		root := tree.Root()
		if !bytes.Equal(root[:], v.Root) || tree.Len() != v.Leaves {
			t.Errorf("%d leaves: root %x, want %x", v.Leaves, root, []byte(v.Root))
		}
		for _, e := range v.Entries {
			index, path, err := tree.Inclusion(ident.MinerID(e.Miner))
			if err != nil || index != e.Index || len(path) != len(e.Path) {
				t.Fatalf("%d leaves, miner %x: %d, %d hashes, %v; want %d, %d hashes", v.Leaves, []byte(e.Miner), index, len(path), err, e.Index, len(e.Path))
			}
			for i := range path {
				if !bytes.Equal(path[i][:], e.Path[i]) {
					t.Errorf("%d leaves, entry %d: hash %d of the path is %x, want %x", v.Leaves, index, i, path[i], []byte(e.Path[i]))
				}
			}
			l := leaves[int(e.Miner[0])-1]
			if err := VerifyInclusion(&l, index, v.Leaves, path, root); err != nil {
				t.Errorf("%d leaves, entry %d: %v", v.Leaves, index, err)
			}
		}
	}
}

func testLeaves(n int) []Leaf {
	leaves := make([]Leaf, n)
	for i := range leaves {
		leaves[i] = Leaf{Site: ident.SiteID{1}, Miner: ident.MinerID{byte(i >> 16), byte(i >> 8), byte(i)}, Hour: 494544, FirstSeq: 1, LastSeq: 9}
		leaves[i].Slots[i%SlotsPerHour] = Slot{Polls: 5, Answered: 5, Source: SourceCounter, Flags: SlotReachable | SlotHashing, Hashes: uint64(i)}
	}
	return leaves
}

// Package merkle of transparency-dev is the second opinion on roots, paths and what a path proves.
func TestTreeAgreesWithAnotherImplementation(t *testing.T) {
	for n := 1; n <= 70; n++ {
		leaves := testLeaves(n)
		tree, err := NewTree(leaves)
		if err != nil {
			t.Fatal(err)
		}
		root := tree.Root()
		for i := range leaves {
			index, path, err := tree.Inclusion(leaves[i].Miner)
			if err != nil {
				t.Fatal(err)
			}
			e := entryOf(&leaves[i])
			hash := rfc6962.DefaultHasher.HashLeaf(append(e.miner[:], e.leaf[:]...))
			theirs := make([][]byte, len(path))
			for j := range path {
				theirs[j] = path[j][:]
			}
			if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(index), uint64(n), hash, theirs, root[:]); err != nil {
				t.Fatalf("%d leaves, entry %d: %v", n, index, err)
			}
			if err := VerifyInclusion(&leaves[i], index, n, path, root); err != nil {
				t.Fatalf("%d leaves, entry %d: %v", n, index, err)
			}
		}
		if _, _, err := tree.Inclusion(ident.MinerID{255}); err == nil {
			t.Fatal("a miner without a leaf is in the tree")
		}
	}
}

// Wrong numbers and paths: what one implementation refuses, the other refuses too.
func TestVerifyInclusionAgreesWithAnotherImplementation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "leaves")
		leaves := testLeaves(n)
		tree, err := NewTree(leaves)
		if err != nil {
			t.Fatal(err)
		}
		l := &leaves[rapid.IntRange(0, n-1).Draw(t, "leaf")]
		index, path, err := tree.Inclusion(l.Miner)
		if err != nil {
			t.Fatal(err)
		}
		size := n
		switch rapid.IntRange(0, 4).Draw(t, "what") {
		case 0:
			index = rapid.IntRange(0, 50).Draw(t, "index")
		case 1:
			size = rapid.IntRange(1, 50).Draw(t, "size")
		case 2:
			path = path[:rapid.IntRange(0, len(path)).Draw(t, "kept")]
		case 3:
			path = append(path, Hash{})
		case 4:
		}
		root := tree.Root()
		e := entryOf(l)
		theirs := make([][]byte, len(path))
		for j := range path {
			theirs[j] = path[j][:]
		}
		want := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(index), uint64(size), rfc6962.DefaultHasher.HashLeaf(append(e.miner[:], e.leaf[:]...)), theirs, root[:])
		if got := VerifyInclusion(l, index, size, path, root); (got == nil) != (want == nil) {
			t.Fatalf("entry %d of %d: %v, the other says %v", index, size, got, want)
		}
	})
}

func TestOrderOfLeavesChangesNoRoot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		leaves := testLeaves(rapid.IntRange(1, 40).Draw(t, "leaves"))
		a, err := NewTree(leaves)
		if err != nil {
			t.Fatal(err)
		}
		b, err := NewTree(rapid.Permutation(leaves).Draw(t, "order"))
		if err != nil || a.Root() != b.Root() {
			t.Fatalf("%x and %x, %v", a.Root(), b.Root(), err)
		}
	})
	leaves := testLeaves(3)
	leaves[2].Miner = leaves[0].Miner
	if _, err := NewTree(leaves); err == nil {
		t.Error("two leaves of one miner were taken")
	}
	if _, err := NewTree(nil); err == nil {
		t.Error("a tree of nothing was made")
	}
}
