package hubd_test

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/hubd"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/proof"
)

// A new hub's log has its keys in it within seconds: anybody reads it where it is public, and what is downloaded is checked without the hub.
func TestANewHubsLogIsReadAndProven(t *testing.T) {
	t.Parallel()
	c := config(pgtest.EmptyURL(t))
	c.Transparency = hubd.Transparency{Dir: filepath.Join(t.TempDir(), "log"), Public: true}
	h := start(t, c)
	awaitReady(t, h)
	web := "http://" + h.WebAddr().String()
	read := func(path string, v any) string {
		t.Helper()
		code, _, body := get(t, http.DefaultClient, web+path, "")
		if code != 200 {
			t.Fatalf("%s: %d %s", path, code, body)
		}
		if v != nil {
			if err := json.Unmarshal([]byte(body), v); err != nil {
				t.Fatalf("%s: %v in %s", path, err, body)
			}
		}
		return body
	}
	for end := time.Now().Add(time.Minute); ; <-time.After(50 * time.Millisecond) {
		if code, _, body := get(t, http.DefaultClient, web+"/api/log/checkpoint", ""); code == 200 {
			break
		} else if time.Now().After(end) {
			t.Fatalf("there is no checkpoint: %d %s", code, body)
		}
	}
	var head struct {
		Note      string
		Size      uint64
		Root      string
		PublicKey string `json:"public_key"`
		Public    bool
	}
	read("/api/log/checkpoint", &head)
	key, err := hex.DecodeString(head.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := proof.OpenCheckpoint([]byte(head.Note), key)
	if err != nil || signed.Size != head.Size || hex.EncodeToString(signed.Root[:]) != head.Root || !head.Public {
		t.Fatalf("checkpoint %+v: %v", head, err)
	}
	var list struct {
		Items []struct {
			Index    uint64
			Kind     string
			Role     string
			Bytes    []byte
			LeafHash string `json:"leaf_hash"`
		}
	}
	read("/api/log/entries?kind=hub_key", &list)
	if len(list.Items) != 2 || list.Items[0].Role == list.Items[1].Role {
		t.Fatalf("the hub's keys: %+v", list.Items)
	}
	for _, e := range list.Items {
		entry, err := proof.ParseEntry(e.Bytes)
		leaf := entry.LeafHash()
		if err != nil || hex.EncodeToString(leaf[:]) != e.LeafHash {
			t.Errorf("entry %d: %v", e.Index, err)
		}
		var in struct{ Path []string }
		read(fmt.Sprintf("/api/log/entries/%d/inclusion?size=%d", e.Index, head.Size), &in)
		path := make([]evidence.Hash, len(in.Path))
		for i := range path {
			b, err := hex.DecodeString(in.Path[i])
			if err != nil {
				t.Fatal(err)
			}
			copy(path[i][:], b)
		}
		if root, err := evidence.RootOfPath(leaf, e.Index, head.Size, path); err != nil || root != signed.Root {
			t.Errorf("entry %d is not shown to be in the log: %v", e.Index, err)
		}
		file := read(fmt.Sprintf("/api/proofs/entries/%d", e.Index), nil)
		r := proof.Check(t.Context(), strings.NewReader(file), proof.Trust{LogKey: ed25519.PublicKey(key)}, nil)
		if r.Verdict() != proof.NotFinal || r.AnchorState != proof.AnchorNever {
			t.Errorf("the proof of entry %d: %s, %+v", e.Index, r.Verdict(), r.Steps)
		}
	}
	read(fmt.Sprintf("/api/log/consistency?from=1&to=%d", head.Size), nil)
	read("/api/log/entries/0", nil)
	var status struct {
		Driver  string
		LogSize uint64 `json:"log_size"`
	}
	if read("/api/anchors/status", &status); status.Driver != "none" || status.LogSize < head.Size {
		t.Errorf("anchors: %+v", status)
	}
	read("/api/anchors", nil)
	if code, _, body := get(t, http.DefaultClient, web+"/api/log/entries/1000", ""); code != 404 || !strings.Contains(body, "NOTFOUND_001") {
		t.Errorf("an entry that there is not: %d %s", code, body)
	}
	// A command makes the same file beside the running hub.
	file := filepath.Join(t.TempDir(), "entry.hsproof")
	index := list.Items[0].Index
	if n, err := hubd.WriteProof(context.WithoutCancel(t.Context()), c.Database, c.Transparency, c.Chain, hubd.ProofOrder{Entry: &index}, file); err != nil || n < 300 {
		t.Errorf("by command: %d bytes, %v", n, err)
	}
}

// chainOf answers with what a test says that a chain has.
type chainOf struct{ event proof.Event }

// Event implements proof.Chain.
func (c chainOf) Event(context.Context, proof.Anchor) (proof.Event, error) { return c.event, nil }

// What a process anchors, all processes tell: how it stands, and in proof files.
func TestProofsNameTheAnchorThatCoversThem(t *testing.T) {
	t.Parallel()
	c := config(pgtest.EmptyURL(t))
	c.Transparency = hubd.Transparency{Dir: filepath.Join(t.TempDir(), "log"), Public: true}
	address := [20]byte{19: 0xa1}
	c.Chain = chainSettings(t, "BASE_RPC_URL=http://127.0.0.1:1", "BLOCKCHAIN_CONTRACT=0x"+hex.EncodeToString(address[:]))
	h := start(t, c)
	awaitReady(t, h)
	web := "http://" + h.WebAddr().String()
	owner, err := hubd.BootstrapKey(t.Context(), c.Database, c.Env, false)
	if err != nil {
		t.Fatal(err)
	}
	read := func(path string, v any) string {
		t.Helper()
		var code int
		var body string
		for end := time.Now().Add(time.Minute); ; <-time.After(50 * time.Millisecond) {
			if code, _, body = get(t, http.DefaultClient, web+path, owner); code == 200 || time.Now().After(end) {
				break
			}
		}
		if code != 200 {
			t.Fatalf("%s: %d %s", path, code, body)
		}
		if v == nil {
			return body
		}
		if err := json.Unmarshal([]byte(body), v); err != nil {
			t.Fatalf("%s: %v in %s", path, err, body)
		}
		return body
	}
	var head struct {
		Note      string
		PublicKey string `json:"public_key"`
	}
	read("/api/log/checkpoint", &head)
	key, err := hex.DecodeString(head.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := proof.OpenCheckpoint([]byte(head.Note), key)
	if err != nil {
		t.Fatal(err)
	}
	trust := proof.Trust{LogKey: key, Contract: &address}
	before := proof.Check(t.Context(), strings.NewReader(read("/api/proofs/entries/0", nil)), trust, nil)
	if before.Verdict() != proof.NotFinal || before.AnchorState != proof.AnchorNone {
		t.Errorf("before there is an anchor: %s, state %d", before.Verdict(), before.AnchorState)
	}
	var status struct {
		Driver, Contract string
		IntervalS        int `json:"interval_s"`
		Problem          struct{ Code, Text string }
		Last             struct{ State string }
	}
	if read("/api/anchors/status", &status); status.Driver != "log-contract" || status.Problem.Code != "BLOCKCHAIN_001" || status.IntervalS != 3600 || !strings.EqualFold(status.Contract, "0x"+hex.EncodeToString(address[:])) {
		t.Errorf("without a key: %+v", status)
	}

	pool, err := pgxpool.New(t.Context(), c.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	now, tx := time.Now().Truncate(time.Second), [32]byte{5}
	if _, err := pool.Exec(t.Context(), `
INSERT INTO anchor (chain_id, contract, seq, hour, size, root, prev_root, checkpoint, state, due_at, built_at, mined_at, finalized_at, tx_hash, block_number, block_hash, block_time)
VALUES (31337, $1, 1, $2, $3, $4, $5, $6, 6, $7, $7, $7, $7, $8, 77, $8, $7)`, address[:], now.Unix()/3600, int64(signed.Size), signed.Root[:], make([]byte, 32), []byte(head.Note), now, tx[:]); err != nil {
		t.Fatal(err)
	}
	// A block that is not final may be taken away by a reorganisation: no file names it, which would be false from then on.
	for _, state := range []int{4, 5} { // mined, safe
		if _, err := pool.Exec(t.Context(), `UPDATE anchor SET state = $1, finalized_at = NULL`, state); err != nil {
			t.Fatal(err)
		}
		if r := proof.Check(t.Context(), strings.NewReader(read("/api/proofs/entries/0", nil)), trust, nil); r.Verdict() != proof.NotFinal || r.AnchorState != proof.AnchorNone {
			t.Errorf("a file made over an anchor in state %d: %s, %+v", state, r.Verdict(), r.Anchor)
		}
	}
	if _, err := pool.Exec(t.Context(), `UPDATE anchor SET state = 6, finalized_at = $1`, now); err != nil {
		t.Fatal(err)
	}
	trust.Chain = chainOf{proof.Event{Seq: 1, Root: signed.Root, Size: signed.Size, BlockNumber: 77, TxHash: tx, BlockTime: now.Unix() + 1, Finalized: true}}
	file := read("/api/proofs/entries/0", nil)
	if r := proof.Check(t.Context(), strings.NewReader(file), trust, nil); r.Verdict() != proof.Proven || r.Anchor.Block != 77 || r.Anchor.ChainID != 31337 {
		t.Errorf("%s: %+v", r.Verdict(), r.Steps)
	}
	var list struct {
		Items []struct {
			Seq    uint64
			State  string
			TxHash string `json:"tx_hash"`
		}
		Next string
	}
	if read("/api/anchors?limit=1", &list); len(list.Items) != 1 || list.Items[0].Seq != 1 || list.Items[0].State != "finalized" || list.Items[0].TxHash != "0x"+hex.EncodeToString(tx[:]) || list.Next != "" {
		t.Errorf("anchors: %+v", list)
	}
	if read("/api/anchors/status", &status); status.Last.State != "finalized" {
		t.Errorf("%+v", status)
	}
	path := filepath.Join(t.TempDir(), "entry.hsproof")
	var first uint64
	if _, err := hubd.WriteProof(t.Context(), c.Database, c.Transparency, c.Chain, hubd.ProofOrder{Entry: &first}, path); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != file {
		t.Errorf("the command makes another file than the API: %v", err)
	}
}
