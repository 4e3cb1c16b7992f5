package evidence

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
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

// Whoever changes a bit of a leaf makes it unreadable or another leaf, whose hash is not the one in the tree.
func TestEverySingleBitOfALeafCounts(t *testing.T) {
	var file struct{ Vectors []leafVector }
	vectors(t, "leaf.json", &file)
	read := 0
	for _, v := range file.Vectors {
		l := v.leaf()
		want := l.Hash()
		for bit := range 8 * LeafSize {
			b := bytes.Clone(v.Bytes)
			b[bit/8] ^= 1 << (bit % 8)
			changed, err := ParseLeaf(b)
			if err != nil {
				continue
			}
			read++
			if again, err := changed.AppendBinary(nil); err != nil || !bytes.Equal(again, b) {
				t.Fatalf("bit %d: reads as %+v, which is written as %x, %v", bit, changed, again, err)
			}
			if changed.Hash() == want {
				t.Fatalf("bit %d changed and the hash is the same", bit)
			}
		}
	}
	t.Logf("%d of %d changed leaves can be read", read, 8*LeafSize*len(file.Vectors))
}

// The size of a tree is not fixed by its root alone (RFC 6962): paths of some entries are the same in trees of other sizes. It is signed
// beside the root, and no change of it passes there.
func TestEverySingleBitOfAProofCounts(t *testing.T) {
	key := testKey(1)
	pub, _ := key.Public().(ed25519.PublicKey)
	for _, n := range []int{1, 2, 3, 5, 7} {
		leaves := testLeaves(n)
		tree, err := NewTree(leaves)
		if err != nil {
			t.Fatal(err)
		}
		root := tree.Root()
		hour := Hour{Site: leaves[0].Site, Hour: leaves[0].Hour, FirstSeq: 1, LastSeq: 9, Leaves: uint32(n), Root: root}
		sum := sha256.Sum256(hour.Bytes())
		header := testHeader()
		header.Kind, header.Payload, header.PayloadLen = KindHour, sum, HourSize
		signature := SignHeader(key, header.Bytes())
		for i := range leaves {
			index, path, err := tree.Inclusion(leaves[i].Miner)
			if err != nil {
				t.Fatal(err)
			}
			for bit := range 8 * LeafSize {
				b, err := leaves[i].AppendBinary(nil)
				if err != nil {
					t.Fatal(err)
				}
				b[bit/8] ^= 1 << (bit % 8)
				if l, err := ParseLeaf(b); err == nil && VerifyInclusion(&l, index, n, path, root) == nil {
					t.Fatalf("%d leaves, entry %d: a leaf with bit %d changed passed", n, index, bit)
				}
			}
			for bit := range 256 {
				for j := range path {
					path[j][bit/8] ^= 1 << (bit % 8)
					if !errors.Is(VerifyInclusion(&leaves[i], index, n, path, root), ErrInclusion) {
						t.Fatalf("%d leaves, entry %d: hash %d of the path with bit %d changed passed", n, index, j, bit)
					}
					path[j][bit/8] ^= 1 << (bit % 8)
				}
				r := root
				r[bit/8] ^= 1 << (bit % 8)
				if !errors.Is(VerifyInclusion(&leaves[i], index, n, path, r), ErrInclusion) {
					t.Fatalf("%d leaves, entry %d: a root with bit %d changed passed", n, index, bit)
				}
			}
			for bit := range 63 {
				if !errors.Is(VerifyInclusion(&leaves[i], index^1<<bit, n, path, root), ErrInclusion) {
					t.Fatalf("%d leaves: entry %d passed for entry %d", n, index, index^1<<bit)
				}
			}
			for bit := range 32 {
				other := hour
				other.Leaves ^= 1 << bit
				payload := other.Bytes()
				h := header
				h.Payload = sha256.Sum256(payload)
				if VerifyInclusion(&leaves[i], index, int(other.Leaves), path, root) == nil && (header.CheckPayload(payload) == nil || VerifyHeader(pub, h.Bytes(), signature) == nil) {
					t.Fatalf("entry %d of %d passed for one of %d", index, n, other.Leaves)
				}
			}
			if VerifyInclusion(&leaves[i], index, n, append(path, Hash{}), root) == nil || len(path) > 0 && VerifyInclusion(&leaves[i], index, n, path[1:], root) == nil {
				t.Fatalf("%d leaves, entry %d: a path of another length passed", n, index)
			}
		}
	}
}

func TestStatementSignatures(t *testing.T) {
	key := testKey(1)
	pub, _ := key.Public().(ed25519.PublicKey)
	statement := []byte(`{"engine":1}`)
	sig := SignStatement(key, statement)
	if err := VerifyStatement(pub, statement, sig); err != nil {
		t.Fatal(err)
	}
	for bit := range 8 * len(statement) {
		b := bytes.Clone(statement)
		b[bit/8] ^= 1 << (bit % 8)
		if !errors.Is(VerifyStatement(pub, b, sig), ErrSignature) {
			t.Fatalf("bit %d changed and the signature still verifies", bit)
		}
	}
	if VerifyStatement(pub, statement, SignHeader(key, statement)) == nil || VerifyHeader(pub, statement, sig) == nil {
		t.Error("the signature of one form passed for another's")
	}
}

// FuzzForms: whatever bytes a parser accepts, the value it gives is written as the same bytes.
func FuzzForms(f *testing.F) {
	var leaf struct{ Vectors []leafVector }
	vectors(f, "leaf.json", &leaf)
	for _, v := range leaf.Vectors {
		f.Add([]byte(v.Bytes))
	}
	h := testHeader()
	f.Add(h.Bytes())
	f.Add((&Hour{FirstSeq: 1, LastSeq: 2, Leaves: 3}).Bytes())
	f.Add((&Gap{Reason: GapSizeCap, FirstSeq: 5, LastSeq: 9, FirstMS: 1, LastMS: 2}).Bytes())
	f.Add((&Key{Public: make([]byte, ed25519.PublicKeySize)}).Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		same := func(what string, again []byte, err error) {
			if err != nil || !bytes.Equal(again, b) {
				t.Errorf("%s: accepted %x, which is written as %x, %v", what, b, again, err)
			}
		}
		if l, err := ParseLeaf(b); err == nil {
			again, err := l.AppendBinary(nil)
			same("leaf", again, err)
		}
		if h, err := ParseHour(b); err == nil {
			same("hour", h.Bytes(), nil)
		}
		if h, err := ParseHeader(b); err == nil {
			same("header", h.Bytes(), nil)
		}
		if g, err := ParseGap(b); err == nil {
			same("gap", g.Bytes(), nil)
		}
		if k, err := ParseKey(b); err == nil {
			same("key", k.Bytes(), nil)
		}
	})
}
