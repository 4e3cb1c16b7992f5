package hubd_test

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/hub/hubd"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/proof"
)

// A new hub's log has its keys in it within seconds: anybody reads it where it is public, and what is downloaded is checked without the hub.
func TestANewHubsLogIsReadAndProven(t *testing.T) {
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
	if n, err := hubd.WriteProof(context.WithoutCancel(t.Context()), c.Database, c.Transparency, hubd.Chain{}, hubd.ProofOrder{Entry: &index}, file); err != nil || n < 300 {
		t.Errorf("by command: %d bytes, %v", n, err)
	}
}
