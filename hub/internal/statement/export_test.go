package statement

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/hub/internal/facts/factstest"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/hub/internal/statement/export"
	"github.com/hashinsight/hashinsight/pkg/evidence"
)

// Whoever has the directory and the hub's public key checks everything from the signature to every miner's facts, without the hub.
func TestAnExportCanBeCheckedByItself(t *testing.T) {
	from := december.Add(-4 * time.Hour)
	w := newWorld(t, from)
	s := w.Site("North", 3)
	c := w.contract("Hosting", w.terms(from))
	w.assign(c, s, []int{0, 2}, from, time.Time{}) // the third miner is somebody else's
	s.Run(from.Add(-time.Hour), december, factstest.Always(factstest.Hashes))
	w.Set(december.Add(73 * time.Hour))
	w.update()
	hash, err := w.store.Issue(t.Context(), c, month)
	w.must(err)
	dir := t.TempDir()
	files, err := w.store.Export(t.Context(), hash, dir, false)
	w.must(err)
	if list, err := os.ReadDir(dir); err != nil || len(list) != files || files != 10 {
		t.Errorf("%d files told, %d there, %v", files, len(list), err)
	}
	read := func(name string) []byte {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(dir, name))
		w.must(err)
		return b
	}
	unhex := func(b []byte) []byte {
		t.Helper()
		out, err := hex.DecodeString(strings.TrimSpace(string(b)))
		w.must(err)
		return out
	}
	st, err := sla.ParseStatement(read("statement.json"))
	w.must(err)
	if sha256.Sum256(read("statement.json")) != hash || !bytes.Equal(unhex(read("hub.key")), w.key.Public().(ed25519.PublicKey)) ||
		!strings.Contains(string(read("README.txt")), hex.EncodeToString(hash[:])) {
		t.Error("the statement is not the one asked for")
	}
	if !ed25519.Verify(unhex(read("hub.key")), append([]byte("hsi/statement/v1\x00"), read("statement.json")...), unhex(read("statement.sig"))) {
		t.Error("as README.txt says it, the signature does not verify")
	}
	for name, want := range map[string]string{"terms.jsonl": st.Terms[0].Hash.String(), "assignments.jsonl": st.Assignments[0].Hash.String()} {
		line, _, _ := bytes.Cut(read(name), []byte("\n"))
		if sum := sha256.Sum256(line); hex.EncodeToString(sum[:]) != want {
			t.Errorf("%s: %x, want %s", name, sum, want)
		}
	}
	roots := map[string]evidence.Hash{}
	for scan := bufio.NewScanner(bytes.NewReader(read("hours.jsonl"))); scan.Scan(); {
		var h export.Hour
		w.must(json.Unmarshal(scan.Bytes(), &h))
		w.must(evidence.VerifyHeader(h.Key, h.Header, h.Signature))
		header, err := evidence.ParseHeader(h.Header)
		w.must(err)
		w.must(header.CheckPayload(h.Payload))
		signed, err := evidence.ParseHour(h.Payload)
		w.must(err)
		roots[h.Hour] = signed.Root
	}
	leaves := 0
	scan := bufio.NewScanner(bytes.NewReader(read("leaves.jsonl")))
	for scan.Scan() {
		var l export.Leaf
		w.must(json.Unmarshal(scan.Bytes(), &l))
		leaf, err := evidence.ParseLeaf(l.Leaf)
		w.must(err)
		var path []evidence.Hash
		for _, p := range l.Path {
			path = append(path, evidence.Hash(unhex([]byte(p))))
		}
		w.must(evidence.VerifyInclusion(&leaf, l.Index, l.Size, path, roots[l.Hour]))
		if leaf.Miner == s.Miners[1] {
			t.Error("it holds the facts of somebody else's miner")
		}
		leaves++
	}
	if len(roots) != 4 || len(st.Hours) != 4 || leaves != 8 {
		t.Errorf("%d signed hours, %d named, %d leaves", len(roots), len(st.Hours), leaves)
	}
}
