package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/crypto/sha3"

	"github.com/hashinsight/hashinsight/deploy/e2e/localrun"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/sim"
)

// A hub that lies as well as a hub can: from a copy of its own database, in which it halves what a miner owes, it issues another statement for the month, signs it with
// its real key, puts it into its log, and signs the log's checkpoint with that log's real key. Everything in its proof files fits together. But the head of its log
// is not the one that the contract has. Both verifiers say so, and nobody asks the hub.
func TestAHubThatLies(t *testing.T) {
	t.Parallel()
	verifier := newVerifiers(t)
	original := pgtest.URL(t)
	backup := copyOf(t, original)
	var honest, lying told
	synctest.Test(t, func(t *testing.T) {
		m := &month{world: newHubWorld(t, original)}
		m.log = t.TempDir()
		until(feb(29, 21, 50, 0))
		north := m.plant("north", sim.Config{Miners: 2, Seed: 5, Mix: "antminer-s19=2", Base: netip.MustParseAddr("10.1.0.1")})
		first, second := m.machine(north, "antminer-s19", 110e6), m.machine(north, "antminer-s19", 110e6)
		m.begin()
		north.run()
		until(feb(29, 21, 58, 0))
		m.identify(north, first, second)
		c := m.contract("alpha", feb(29, 22, 0, 0), map[string]any{"metric": "time"})
		m.lease(c, feb(29, 22, 0, 0), first, second)
		until(feb(29, 22, 30, 0))
		first.does(20*time.Minute, sim.Behaviour{Kind: sim.Droop, Factor: 0.3})
		until(monthEnd.Add(10 * time.Minute))
		north.stopAgent()
		north.stopFleet()
		m.stopHub()
		backup.make(t)

		until(closing.Add(-time.Hour))
		m.startHub()
		until(closing.Add(15 * time.Minute))
		honest = m.tell(c, first, feb(29, 22, 0, 0))
		m.stopHub()

		m.url, m.log = backup.url, t.TempDir()
		m.edit(`UPDATE contract_miner SET rate_mhs = rate_mhs / 10`)
		m.edit(`UPDATE sla_group SET dirty = true`)
		m.startHub()
		time.Sleep(15 * time.Minute)
		lying = m.tell(c, first, feb(29, 22, 0, 0))
		m.stopHub()
	})
	if t.Failed() {
		return
	}
	if bytes.Equal(honest.statement, lying.statement) || honest.credit == lying.credit {
		t.Fatalf("the lie changes nothing: credit %d, %d", honest.credit, lying.credit)
	}

	chain := newTestChain(t, closing.Add(24*time.Hour))
	contract := chain.deploy(t)
	anchor := chain.anchor(t, contract, honest.statement)
	for _, c := range []struct {
		name string
		file []byte
		want int
	}{
		{"what the site signed", withAnchor(t, honest.hour, anchor), 0},
		{"the statement", withAnchor(t, honest.statement, anchor), 0},
		{"the statement with all it rests on", withAnchor(t, honest.bundle, anchor), 0},
		{"the statement before its log is anchored", honest.statement, 2},
		{"another statement, signed by the same hub", withAnchor(t, lying.statement, anchor), 1},
		{"another statement with all it rests on", withAnchor(t, lying.bundle, anchor), 1},
		{"what the site signed, in another log", withAnchor(t, lying.hour, anchor), 1},
		{"another statement, never anchored", lying.statement, 2},
		{"the true checkpoint over the other statement", withAnchor(t, withHead(t, lying.statement, honest.statement), anchor), 1},
		{"other work in the hour's leaf", withAnchor(t, withOtherWork(t, honest.hour), anchor), 1},
		{"half a file", withAnchor(t, honest.bundle, anchor)[:len(honest.bundle)/2], 1},
	} {
		verifier.want(t, c.name, c.file, c.want, chain.url, contract)
	}
	verifier.want(t, "a contract of somebody else's", withAnchor(t, honest.statement, anchor), 1, chain.url, "0x00000000000000000000000000000000000000aa")
	verifier.want(t, "no contract", withAnchor(t, honest.statement, anchor), 3, chain.url, "")
	verifier.agree(t)
	chain.stop(t)
	verifier.want(t, "no chain that answers", withAnchor(t, honest.statement, anchor), 3, chain.url, contract)
	verifier.want(t, "no chain, and a leaf that is wrong by itself", withAnchor(t, withOtherWork(t, honest.hour), anchor), 1, chain.url, contract)
	verifier.agree(t)
}

// told is what a hub hands out.
type told struct {
	hour, statement, bundle []byte
	credit                  int64
}

// tell downloads the proofs of a contract's newest statement and of one miner's hour.
func (m *month) tell(c *contract, mc *machine, hour time.Time) (out told) {
	m.t.Helper()
	list := m.statements(c)
	if len(list) == 0 {
		m.t.Fatal("no statement has been issued")
	}
	out.credit = list[0].Credit.Minor
	for path, into := range map[string]*[]byte{
		"/api/statements/" + list[0].Hash + "/proof":                                         &out.statement,
		"/api/statements/" + list[0].Hash + "/bundle":                                        &out.bundle,
		fmt.Sprintf("/api/proofs/hours/%s/%s/%s", mc.site, mc.id, hour.Format(time.RFC3339)): &out.hour,
	} {
		status, raw := m.call(http.MethodGet, path, nil)
		if status != http.StatusOK {
			m.t.Fatalf("%s: %d %s", path, status, raw)
		}
		*into = raw
	}
	return out
}

// edit changes rows behind the hub's back.
func (m *month) edit(sql string) {
	m.t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, m.url)
	if err != nil {
		m.t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }() // nothing is under way
	if tag, err := conn.Exec(ctx, sql); err != nil || tag.RowsAffected() == 0 {
		m.t.Fatalf("%s: %v, %s", sql, err, tag)
	}
}

// The first fields of a proof file, by its documented layout, not by the code that writes it.
const (
	offLength     = 13 + 1
	offCheckpoint = offLength + 2
	anchorNone    = 0
	anchorMade    = 1
	anchorNever   = 2
)

// head cuts a file without an anchor into what stands before the checkpoint, the checkpoint, and what follows the anchor's state.
func head(t *testing.T, file []byte) (checkpoint, key, rest []byte) {
	t.Helper()
	if len(file) < offCheckpoint {
		t.Fatalf("a file of %d bytes is no proof", len(file))
	}
	end := offCheckpoint + int(binary.BigEndian.Uint16(file[offLength:]))
	if len(file) < end+33 || file[end+32] != anchorNone && file[end+32] != anchorNever {
		t.Fatal("a file of a hub without a chain has an anchor")
	}
	return file[offCheckpoint:end], file[end : end+32], file[end+33:]
}

// withAnchor names an anchor in a file of a hub that had no chain.
func withAnchor(t *testing.T, file, anchor []byte) []byte {
	t.Helper()
	checkpoint, key, rest := head(t, file)
	return bytes.Join([][]byte{file[:offCheckpoint], checkpoint, key, {anchorMade}, anchor, rest}, nil)
}

// withHead gives a file the checkpoint of another.
func withHead(t *testing.T, file, other []byte) []byte {
	t.Helper()
	_, _, rest := head(t, file)
	checkpoint, key, _ := head(t, other)
	return bytes.Join([][]byte{file[:offLength], other[offLength:offCheckpoint], checkpoint, key, {anchorNone}, rest}, nil)
}

// withOtherWork changes the work of a slot in an hour's leaf.
func withOtherWork(t *testing.T, file []byte) []byte {
	t.Helper()
	_, _, rest := head(t, file)
	out := bytes.Clone(file)
	out[len(file)-len(rest)+100] ^= 1
	return out
}

// testChain is a development chain in real time.
type testChain struct {
	url  string
	stop func(t *testing.T)
}

const chainOwner = "0x00000000000000000000000000000000000000a1" // acts without a key, as this chain allows

// newTestChain starts one whose clock begins at a time of the world's.
func newTestChain(t *testing.T, begin time.Time) *testChain {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().(*net.TCPAddr)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(anvilProgram(t), "--host", "127.0.0.1", "--port", strconv.Itoa(address.Port), "--accounts", "0", "--quiet", "--block-time", "1", "--slots-in-an-epoch", "1",
		"--timestamp", strconv.FormatInt(begin.Unix(), 10))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var once bool
	c := &testChain{url: "http://" + address.String(), stop: func(t *testing.T) {
		if !once {
			once = true
			_ = cmd.Process.Kill() // it may have ended
			_ = cmd.Wait()         // by the signal
		}
	}}
	t.Cleanup(func() { c.stop(t) })
	eventually(t, func() bool { return c.ask(nil, "eth_chainId") == nil })
	c.must(t, nil, "anvil_setBalance", chainOwner, "0x56bc75e2d63100000")
	c.must(t, nil, "anvil_impersonateAccount", chainOwner)
	return c
}

func (c *testChain) ask(into any, method string, params ...any) error {
	return localrun.Ask(context.Background(), c.url, into, method, params...)
}

func (c *testChain) must(t *testing.T, into any, method string, params ...any) {
	t.Helper()
	if err := c.ask(into, method, params...); err != nil {
		t.Fatal(err)
	}
}

// receipt is what the chain says of a transaction in a block.
type receipt struct {
	Status   string `json:"status"`
	Contract string `json:"contractAddress"`
	Block    string `json:"blockNumber"`
	Tx       string `json:"transactionHash"`
}

// send waits until a transaction is in a final block.
func (c *testChain) send(t *testing.T, to, data string) (r receipt) {
	t.Helper()
	call := map[string]any{"from": chainOwner, "data": data, "gas": "0x200000"}
	if to != "" {
		call["to"] = to
	}
	var hash string
	c.must(t, &hash, "eth_sendTransaction", call)
	eventually(t, func() bool { return c.ask(&r, "eth_getTransactionReceipt", hash) == nil && r.Block != "" })
	if r.Status != "0x1" {
		t.Fatalf("the chain refused a transaction: %+v", r)
	}
	eventually(t, func() bool {
		var b struct {
			Number string `json:"number"`
		}
		return c.ask(&b, "eth_getBlockByNumber", "finalized", false) == nil && number(t, b.Number) >= number(t, r.Block)
	})
	return r
}

// deploy puts the committed contract on the chain.
func (c *testChain) deploy(t *testing.T) string {
	t.Helper()
	code, err := os.ReadFile("../../hub/contracts/out/AnchorLog.bin")
	if err != nil {
		t.Fatal(err)
	}
	word := strings.Repeat("0", 24) + chainOwner[2:]
	return c.send(t, "", "0x"+strings.TrimPrefix(strings.TrimSpace(string(code)), "0x")+word+word).Contract
}

// anchor writes the checkpoint of a proof file into the contract, as its first, and returns the anchor as it stands in proof files.
func (c *testChain) anchor(t *testing.T, contract string, file []byte) []byte {
	t.Helper()
	checkpoint, _, _ := head(t, file)
	lines := strings.Split(string(checkpoint), "\n")
	size, err1 := strconv.ParseUint(lines[1], 10, 64)
	root, err2 := base64.StdEncoding.DecodeString(lines[2])
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	h := sha3.NewLegacyKeccak256()
	_, _ = h.Write([]byte("anchorHead(uint64,uint64,bytes32,bytes32,uint64)")) // a hash takes everything
	r := c.send(t, contract, fmt.Sprintf("0x%x%064x%064x%064x%x%064x", h.Sum(nil)[:4], 1, time.Now().Unix()/3600, 0, root, size))
	var id string
	c.must(t, &id, "eth_chainId")
	out := binary.BigEndian.AppendUint64(nil, number(t, id))
	out = append(out, unhex(t, contract)...)
	out = binary.BigEndian.AppendUint64(out, 1)
	out = binary.BigEndian.AppendUint64(out, number(t, r.Block))
	return append(out, unhex(t, r.Tx)...)
}

func number(t *testing.T, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "0x"), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.TrimPrefix(s, "0x"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// eventually looks until it is so. Only what runs in real time is waited for in this way.
func eventually(t *testing.T, look func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(time.Minute); !look(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the chain does not come so far within a minute")
		}
	}
}

// needs skips a test that lacks something, or fails it where HSI_TEST_NO_SKIP=1 says that everything has to be there.
func needs(t *testing.T, there bool, what string) {
	t.Helper()
	switch {
	case there:
	case os.Getenv("HSI_TEST_NO_SKIP") == "1":
		t.Fatalf("this test needs %s, and HSI_TEST_NO_SKIP=1 forbids to skip it", what)
	default:
		t.Skipf("this test needs %s", what)
	}
}

func anvilProgram(t *testing.T) string {
	t.Helper()
	path := os.Getenv("HSI_TEST_ANVIL")
	if path == "" {
		path = localrun.AnvilIn("../../hub/contracts/node_modules")
	}
	needs(t, path != "", "a development chain in hub/contracts (make installs it), or HSI_TEST_ANVIL")
	return path
}

// verifiers are the two that check proofs: the program, and the page's, which shares no line with it. Neither knows the hub.
type verifiers struct {
	program, dir string
	cases        []verified // what the program has said, for the page's to be asked
}

// verified is a file and what it must be called.
type verified struct {
	Name     string `json:"name"`
	File     string `json:"file"`
	RPC      string `json:"rpc"`
	Contract string `json:"contract"`
	Verdict  int    `json:"verdict"`
}

// page is where the page's verifier lies, with what npm has installed.
const page = "../../hub/web"

func newVerifiers(t *testing.T) *verifiers {
	t.Helper()
	anvilProgram(t)
	bin := os.Getenv("HSI_TEST_BIN")
	needs(t, bin != "", "HSI_TEST_BIN, the folder of the built programs")
	_, err := os.Stat(filepath.Join(page, "node_modules", ".bin", "vitest"))
	needs(t, err == nil, "the npm packages of hub/web (make installs them)")
	return &verifiers{program: filepath.Join(bin, "hashinsight-verify"), dir: t.TempDir()}
}

// want checks a file with the program and compares the exit code.
func (v *verifiers) want(t *testing.T, name string, file []byte, want int, rpc, contract string) {
	t.Helper()
	path := filepath.Join(v.dir, fmt.Sprintf("%d.hsproof", len(v.cases)))
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	v.cases = append(v.cases, verified{name, path, rpc, contract, want})
	args := []string{"proof", "--rpc", rpc}
	if contract != "" {
		args = append(args, "--contract", contract)
	}
	out, err := exec.Command(v.program, append(args, path)...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	got := 0
	if exit != nil {
		got = exit.ExitCode()
	}
	if got != want {
		t.Errorf("%s: exit code %d, want %d:\n%s", name, got, want, out)
	}
}

// agree has the page's verifier check every file since the last time, by the same chain.
func (v *verifiers) agree(t *testing.T) {
	t.Helper()
	list, err := json.Marshal(v.cases)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(v.dir, "cases.json")
	if err := os.WriteFile(path, list, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("npx", "vitest", "run", "verify/src/lies.test.ts")
	cmd.Dir = page
	cmd.Env = append(os.Environ(), "HSI_PROOF_CASES="+path)
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, fmt.Appendf(nil, "%d files", len(v.cases))) {
		t.Errorf("the page's verifier: %v\n%s", err, out)
	}
	v.cases = nil
}
