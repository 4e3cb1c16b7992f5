package localrun

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// What a hub has anchored can be checked when nothing of it runs: against the chain, and nothing else. A changed bit, an entry that was edited behind the hub's
// back, and a chain that does not answer are told apart.
func TestAProofOutlivesItsHub(t *testing.T) {
	program := anvil(t)
	s := newStack(t, Config{Fleet: 5, Interval: time.Second, BatchInterval: time.Second, Timeout: 2 * time.Second, Seed: 5, Anvil: program, Anchor: time.Second}, nil)
	if err := s.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantFresh(t, s, startTimeout, "at the start")
	const first = "/api/proofs/entries/0"
	var file []byte
	if !s.eventually(t, 2*time.Minute, func() (error, bool) {
		var status int
		status, file = s.download(t, first)
		return nil, status == http.StatusOK && s.verdict(t, file, s.chainURL(), s.contractOf.Contract, nil) == 0
	}) {
		var said bytes.Buffer
		code := s.verdict(t, file, s.chainURL(), s.contractOf.Contract, &said)
		t.Fatalf("two minutes after the start, the first entry of the log is not proven: exit code %d\n%s", code, said.Bytes())
	}
	want := func(what string, file []byte, rpc, contract string, want int) {
		t.Helper()
		var said bytes.Buffer
		if got := s.verdict(t, file, rpc, contract, &said); got != want {
			t.Errorf("%s: exit code %d, want %d\n%s", what, got, want, said.Bytes())
		}
	}
	for _, at := range []int{0, 13, 20, len(file) / 2, len(file) - 40, len(file) - 1} {
		other := bytes.Clone(file)
		other[at] ^= 1
		want("a changed bit", other, s.chainURL(), s.contractOf.Contract, 1)
	}
	want("a contract of somebody else's", file, s.chainURL(), "0x00000000000000000000000000000000000000aa", 1)
	nobody, err := freeAddress(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	want("an endpoint that does not answer", file, "http://"+nobody, s.contractOf.Contract, 3)

	const change = `UPDATE log_entry SET body = set_byte(body, length(body) - 1, get_byte(body, length(body) - 1) # 1),
		ref = sha256(set_byte(body, length(body) - 1, get_byte(body, length(body) - 1) # 1)) WHERE idx = 0`
	s.edit(t, change)
	if status, lie := s.download(t, first); status == http.StatusOK && !bytes.Equal(lie, file) {
		want("an entry that was edited", lie, s.chainURL(), s.contractOf.Contract, 1)
	}
	if err := s.fsck(t.Context()); err == nil {
		t.Error("the log is said to be in order with an entry that was edited")
	}
	s.edit(t, change) // back
	if err := s.fsck(t.Context()); err != nil {
		t.Error(err)
	}

	v, err := s.compareAnchors(t.Context())
	if err != nil || v.Anchors == 0 || v.Duplicate != 0 || v.Wrong != 0 {
		t.Errorf("anchors: %+v %v", v, err)
	}
	for _, c := range []*child{s.agent, s.sim, s.hub} {
		if err := c.stop(); err != nil {
			t.Error(err)
		}
	}
	want("with the hub off", file, s.chainURL(), s.contractOf.Contract, 0)
	if err := s.chain.stop(); err != nil {
		t.Error(err)
	}
	want("with the chain off", file, s.chainURL(), s.contractOf.Contract, 3)
	if err := s.reopenChain(t.Context()); err != nil {
		t.Fatal(err)
	}
	want("with the chain alone, started again", file, s.chainURL(), s.contractOf.Contract, 0)
}

// download reads a file of the API's.
func (s *stack) download(t *testing.T, path string) (status int, body []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.ports.Web+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.key)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }() // read to its end
	if body, err = io.ReadAll(res.Body); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, body
}

// verdict is the exit code of the program that checks proofs.
func (s *stack) verdict(t *testing.T, file []byte, rpc, contract string, said io.Writer) int {
	t.Helper()
	path := filepath.Join(s.c.RunDir, "file.hsproof")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(s.program("verify"), "proof", "--rpc", rpc, "--contract", contract, path)
	cmd.Stdout, cmd.Stderr = said, said
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	default:
		t.Fatal(err)
		return -1
	}
}

// edit changes rows behind the hub's back.
func (s *stack) edit(t *testing.T, sql string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, s.databaseURL())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }() // nothing is under way
	if tag, err := conn.Exec(ctx, sql); err != nil || tag.RowsAffected() == 0 {
		t.Fatalf("%s: %v, %s", sql, err, tag)
	}
}
