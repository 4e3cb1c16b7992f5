package proof_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/proof"
	"github.com/hashinsight/hashinsight/pkg/proof/prooftest"
)

// The vectors in testdata are read by tests of other languages too: 64-bit numbers are decimal strings, and bytes are told in parts, each with what it is.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

type decimal uint64

func (d *decimal) UnmarshalText(b []byte) error {
	v, err := strconv.ParseUint(string(b), 10, 64)
	*d = decimal(v)
	return err
}

type parts [][2]string

func (p parts) bytes(t testing.TB) (out []byte) {
	t.Helper()
	for _, part := range p {
		b, err := hex.DecodeString(part[1])
		if err != nil {
			t.Fatalf("%s: %v", part[0], err)
		}
		out = append(out, b...)
	}
	return out
}

func vectors(t testing.TB, file string, into any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", file))
	if err == nil {
		err = json.Unmarshal(b, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

type entryVector struct {
	Name     string
	LeafHash hexBytes `json:"leaf_hash"`
	Parts    parts
}

func entryVectors(t testing.TB) []entryVector {
	t.Helper()
	var file struct{ Entries []entryVector }
	vectors(t, "entries.json", &file)
	return file.Entries
}

type fileVector struct {
	Name     string
	ChainID  decimal `json:"chain_id"`
	Contract hexBytes
	Event    struct {
		Seq, Hour, Size decimal
		PrevRoot        hexBytes `json:"prev_root"`
		Root            hexBytes
		BlockTime       decimal  `json:"block_time"`
		BlockNumber     decimal  `json:"block_number"`
		TxHash          hexBytes `json:"tx_hash"`
		Finalized       bool
	}
	Parts parts
}

func (v *fileVector) trust() proof.Trust {
	e := &v.Event
	contract := [20]byte(v.Contract)
	return proof.Trust{Contract: &contract, Chain: &prooftest.Chain{ChainID: uint64(v.ChainID), Contract: contract, Events: map[uint64]proof.Event{uint64(e.Seq): {
		Seq: uint64(e.Seq), Hour: uint64(e.Hour), PrevRoot: evidence.Hash(e.PrevRoot), Root: evidence.Hash(e.Root), Size: uint64(e.Size), BlockTime: int64(e.BlockTime),
		BlockNumber: uint64(e.BlockNumber), TxHash: [32]byte(e.TxHash), Finalized: e.Finalized,
	}}}}
}

func fileVectors(t testing.TB) []fileVector {
	t.Helper()
	var file struct{ Files []fileVector }
	vectors(t, "files.json", &file)
	return file.Files
}

func TestEntriesAreTheDocumentedOnes(t *testing.T) {
	seen := map[proof.EntryKind]bool{}
	for _, v := range entryVectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			want := v.Parts.bytes(t)
			e, err := proof.ParseEntry(want)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(e.Bytes(), want) || len(want) != proof.EntrySize(e.Kind) || e.Kind.String() != v.Name {
				t.Errorf("%s of %d bytes is written as %x", e.Kind, len(want), e.Bytes())
			}
			if h := e.LeafHash(); !bytes.Equal(h[:], v.LeafHash) {
				t.Errorf("leaf hash %x, want %x", h, []byte(v.LeafHash))
			}
			if again := rebuilt(t, &e); !bytes.Equal(again.Bytes(), want) {
				t.Errorf("its body makes the entry %x", again.Bytes())
			}
			seen[e.Kind] = true
		})
	}
	if len(seen) != 8 {
		t.Errorf("%d kinds have a vector", len(seen))
	}
}

// rebuilt makes an entry from its parsed body.
func rebuilt(t testing.TB, e *proof.Entry) proof.Entry {
	t.Helper()
	var out proof.Entry
	var err error
	switch e.Kind {
	case proof.EntryHour:
		var b proof.HourBody
		b, err = proof.ParseHourBody(e.Body)
		out = b.Entry(e.AtMS)
	case proof.EntrySiteKey:
		var b proof.SiteKeyBody
		b, err = proof.ParseSiteKeyBody(e.Body)
		out = b.Entry(e.AtMS)
	case proof.EntryHubKey:
		var b proof.HubKeyBody
		b, err = proof.ParseHubKeyBody(e.Body)
		out = b.Entry(e.AtMS)
	case proof.EntryTerms:
		var b proof.TermsBody
		b, err = proof.ParseTermsBody(e.Body)
		out = b.Entry(e.AtMS)
	case proof.EntryExcuse:
		var b proof.ExcuseBody
		b, err = proof.ParseExcuseBody(e.Body)
		out = b.Entry(e.AtMS)
	case proof.EntryStatement, proof.EntryRestatement:
		var b proof.StatementBody
		b, err = proof.ParseStatementBody(e.Body)
		out = b.Entry(e.AtMS)
	case proof.EntryAuditHead:
		var b proof.AuditHeadBody
		b, err = proof.ParseAuditHeadBody(e.Body)
		out = b.Entry(e.AtMS)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEntriesOfNoFormAreRefused(t *testing.T) {
	byName := map[string][]byte{}
	for _, v := range entryVectors(t) {
		byName[v.Name] = v.Parts.bytes(t)
	}
	set := func(name string, at int, b ...byte) []byte {
		e := bytes.Clone(byName[name])
		copy(e[at:], b)
		return e
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "another tag": set("terms", 0, 'H'), "kind 0": set("terms", 11, 0), "kind 9": set("terms", 11, 9), "a kind of another length": set("terms", 11, 5),
		"a byte too many": append(bytes.Clone(byName["terms"]), 0), "a byte too few": byName["terms"][:71], "before 1970": set("terms", 12, 0xff),
		"a key's event that is none": set("site_key", 20+16, 3), "a hub key's role that is none": set("hub_key", 20, 3), "a hub key's event that is none": set("hub_key", 21, 0),
		"a statement that supersedes": set("statement", 20+56, 1), "a restatement that does not": set("restatement", 20+56, make([]byte, 32)...),
		"an hour of another site than its header": set("hour", 20+16, 1), "an hour with another payload": set("hour", 20+204+64+99, 1, 2), "a batch that is no hour": set("hour", 20+13, 1),
	} {
		if e, err := proof.ParseEntry(b); err == nil {
			t.Errorf("%s: accepted as %+v", name, e)
		}
	}
}

// An entry is known by its kind and body: noted again at another time it is the same.
func TestEntriesAreKnownWithoutTheirTime(t *testing.T) {
	x := proof.ExcuseBody{ID: [16]byte{1}}
	a, b := x.Entry(1), x.Entry(2)
	if a.Ref() != b.Ref() || a.LeafHash() == b.LeafHash() {
		t.Error("the time counts where it must not, or not where it must")
	}
}

func TestCheckpointsAreTheDocumentedOnes(t *testing.T) {
	var file struct {
		Checkpoints []struct {
			Origin string
			Size   decimal
			Root   hexBytes
			Key    hexBytes `json:"public_key"`
			Parts  parts
		}
	}
	vectors(t, "checkpoint.json", &file)
	for _, v := range file.Checkpoints {
		want := proof.Checkpoint{Origin: v.Origin, Size: uint64(v.Size), Root: evidence.Hash(v.Root)}
		note := v.Parts.bytes(t)
		if got, err := proof.OpenCheckpoint(note, []byte(v.Key)); err != nil || got != want {
			t.Errorf("%+v, %v", got, err)
		}
	}
}

func TestFilesAreTheDocumentedOnes(t *testing.T) {
	for _, v := range fileVectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			b := v.Parts.bytes(t)
			r := proof.Check(context.Background(), bytes.NewReader(b), v.trust(), nil)
			if r.Verdict() != proof.Proven || r.Kind.String() != v.Name {
				t.Fatalf("%s: %s: %+v", r.Kind, r.Verdict(), r.Steps)
			}
			p, err := prooftest.Take(b)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := p.Bytes(); err != nil || !bytes.Equal(again, b) {
				t.Errorf("it is written as %x, %v", again, err)
			}
			for bit := range 8 * len(b) { // of the short file all
				if bit%41 != 0 && len(b) > 1000 {
					continue // all bits of long files take a minute
				}
				b[bit/8] ^= 1 << (bit % 8)
				if r := proof.Check(context.Background(), bytes.NewReader(b), v.trust(), nil); r.Verdict() != proof.False {
					t.Fatalf("bit %d: %s: %+v", bit, r.Verdict(), r.Steps)
				}
				b[bit/8] ^= 1 << (bit % 8)
			}
		})
	}
}

// FuzzEntry: whatever bytes are accepted, they are what the entry is written as.
func FuzzEntry(f *testing.F) {
	for _, v := range entryVectors(f) {
		f.Add(v.Parts.bytes(f))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := proof.ParseEntry(b)
		if err != nil {
			return
		}
		if again := rebuilt(t, &e); !bytes.Equal(e.Bytes(), b) || !bytes.Equal(again.Bytes(), b) {
			t.Errorf("accepted %x, which is written as %x and %x", b, e.Bytes(), again.Bytes())
		}
	})
}

// FuzzFile: whatever bytes are accepted, they are what the file is written as; and whatever is checked, the check ends.
func FuzzFile(f *testing.F) {
	for _, v := range fileVectors(f) {
		f.Add(v.Parts.bytes(f))
	}
	for _, kind := range kinds {
		c, _, _ := prooftest.Valid(kind, 2)
		f.Add(c.File)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := proof.Check(context.Background(), bytes.NewReader(b), proof.Trust{}, nil)
		if v := r.Verdict(); v == proof.Proven {
			t.Error("proven without a contract")
		}
		p, err := prooftest.Take(b)
		if err != nil {
			return
		}
		if again, err := p.Bytes(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("accepted %x, which is written as %x, %v", b, again, err)
		}
	})
}
