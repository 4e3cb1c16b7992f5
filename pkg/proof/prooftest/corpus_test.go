package prooftest_test

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/hashinsight/hashinsight/pkg/proof"
	"github.com/hashinsight/hashinsight/pkg/proof/prooftest"
)

// recorded is a case as the verifier in the browser reads it: where its file lies in files.bin, what the checker brings, what the chain answers, and what Go
// says of it all. Numbers beyond 2^53 are decimal strings.
type recorded struct {
	Kind     string            `json:"kind"`
	What     string            `json:"what"`
	At       int               `json:"at"`
	Size     int               `json:"size"`
	Contract string            `json:"contract"` // empty: none was brought
	Chain    recordedChain     `json:"chain"`
	Verdict  int               `json:"verdict"`
	Steps    map[string]string `json:"steps"`
}

type recordedChain struct {
	ID       string          `json:"id"`
	Contract string          `json:"contract"`
	Down     bool            `json:"down"`
	Events   []recordedEvent `json:"events"`
}

type recordedEvent struct {
	At        string `json:"at"` // under which number the chain has it
	Seq       string `json:"seq"`
	Hour      string `json:"hour"`
	PrevRoot  string `json:"prev_root"`
	Root      string `json:"root"`
	Size      string `json:"size"`
	BlockTime string `json:"block_time"`
	Block     string `json:"block"`
	Tx        string `json:"tx"`
	Finalized bool   `json:"finalized"`
}

func record(kind proof.Kind, c *prooftest.Case, at int) recorded {
	u := func(n uint64) string { return strconv.FormatUint(n, 10) }
	report := c.Check()
	r := recorded{
		Kind: kind.String(), What: c.What, At: at, Size: len(c.File), Verdict: int(report.Verdict()), Steps: map[string]string{},
		Chain: recordedChain{ID: u(c.Chain.ChainID), Contract: hex.EncodeToString(c.Chain.Contract[:]), Down: c.Chain.Down, Events: []recordedEvent{}},
	}
	if c.Contract != nil {
		r.Contract = hex.EncodeToString(c.Contract[:])
	}
	for at, e := range c.Chain.Events {
		r.Chain.Events = append(r.Chain.Events, recordedEvent{
			At: u(at), Seq: u(e.Seq), Hour: u(e.Hour), PrevRoot: hex.EncodeToString(e.PrevRoot[:]), Root: hex.EncodeToString(e.Root[:]), Size: u(e.Size),
			BlockTime: strconv.FormatInt(e.BlockTime, 10), Block: u(e.BlockNumber), Tx: hex.EncodeToString(e.TxHash[:]), Finalized: e.Finalized,
		})
	}
	for _, s := range report.Steps {
		r.Steps[s.ID] = s.State.String()
	}
	return r
}

// TestCorpus writes files, valid and not, with recorded answers of a chain and with what Go says of them, for the verifier in the browser to say the same:
// `npm run agree` in hub/web, as `make test-proofs` does.
func TestCorpus(t *testing.T) {
	dir := os.Getenv("HSI_PROOF_CORPUS")
	if dir == "" {
		t.Skip("HSI_PROOF_CORPUS is not set: it names the folder that gets the corpus for npm run agree")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	seed := uint64(1)
	if s := os.Getenv("HSI_PROOF_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("HSI_PROOF_SEED %q is no number", s)
		}
		seed = n
	}
	files, cases := create(t, filepath.Join(dir, "files.bin")), create(t, filepath.Join(dir, "cases.jsonl"))
	lines := json.NewEncoder(cases)
	at := 0
	verdicts := map[string]int{}
	for _, of := range []struct {
		kind  proof.Kind
		cases uint64
	}{{proof.KindHour, 6000}, {proof.KindStatement, 2000}, {proof.KindBundle, 500}, {proof.KindEntry, 2500}} {
		for n := range of.cases {
			c := prooftest.Random(of.kind, seed<<32+n)
			r := record(of.kind, &c, at)
			verdicts[fmt.Sprintf("%s: %s", of.kind, proof.Verdict(r.Verdict))]++
			if _, err := files.Write(c.File); err != nil {
				t.Fatal(err)
			}
			at += len(c.File)
			if err := lines.Encode(r); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, w := range []*bufio.Writer{files, cases} {
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d bytes: %v", at, verdicts)
}

func create(t *testing.T, name string) *bufio.Writer {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return bufio.NewWriter(f)
}
