package anchor

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/anchor/anviltest"
	"github.com/hashinsight/hashinsight/hub/internal/anchor/binding"
	"github.com/hashinsight/hashinsight/hub/pgtest"
)

const gwei = 1_000_000_000

// admin deploys contracts and gives roles; anvil signs for it.
const admin = "0x00000000000000000000000000000000000adadd"

// testLog is a log as the machine knows it: a size, a root for each size, and what this hub's database has of it.
type testLog struct {
	mu     sync.Mutex
	salt   byte
	size   uint64
	behind bool
}

func (l *testLog) root(size uint64) [32]byte {
	return sha256.Sum256(binary.BigEndian.AppendUint64([]byte{l.salt}, size))
}

func (l *testLog) head(context.Context) (LogHead, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return LogHead{l.size, l.root(l.size), l.note(l.size)}, !l.behind, nil
}

func (l *testLog) at(_ context.Context, size uint64) (LogHead, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return LogHead{size, l.root(size), l.note(size)}, size <= l.size, nil
}

func (l *testLog) note(size uint64) []byte { return []byte(fmt.Sprintf("checkpoint of %d", size)) }

func (l *testLog) grow(n uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.size += n
}

// endpoint stands between a hub and a chain, and fails as it is told.
type endpoint struct {
	*httptest.Server
	mu      sync.Mutex
	cut     bool
	lose    int                                          // so many transactions are passed on, and their answers are lost
	answer  func(method string, body, out []byte) []byte // changes answers; nil: as they are
	refuse  func(method string, body []byte) []byte      // answers in the chain's place; nil, or where it returns nil: the chain does
	sending func(body []byte)                            // sees every transaction before it is passed on; nil: nobody looks
}

func newEndpoint(t testing.TB, to string) *endpoint {
	t.Helper()
	e := &endpoint{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		e.mu.Lock()
		cut, answer, refuse, sending := e.cut, e.answer, e.refuse, e.sending
		lost := e.lose > 0 && bytes.Contains(body, []byte("eth_sendRawTransaction"))
		if lost {
			e.lose--
		}
		e.mu.Unlock()
		if err != nil || cut {
			panic(http.ErrAbortHandler) // the connection breaks
		}
		if sending != nil && methodOf(body) == "eth_sendRawTransaction" {
			sending(body)
		}
		if refuse != nil {
			if out := refuse(methodOf(body), body); out != nil {
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write(out)
				return
			}
		}
		req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, to, bytes.NewReader(body))
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		defer func() { _ = res.Body.Close() }()
		out, err := io.ReadAll(res.Body)
		if err != nil || lost {
			panic(http.ErrAbortHandler)
		}
		if answer != nil {
			out = answer(methodOf(body), body, out)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(out)
	}))
	e.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	t.Cleanup(e.Close)
	return e
}

// mustBeStored has every transaction that comes to the endpoints looked up in the database: nothing is sent that is not stored. What the contract refuses and what is
// read back from it would hide that it was.
func (w *world) mustBeStored() {
	look := func(body []byte) {
		_, after, _ := bytes.Cut(body, []byte(`"params":["0x`))
		raw, _, _ := bytes.Cut(after, []byte(`"`))
		var stored bool
		err := w.pool.QueryRow(context.Background(), `SELECT EXISTS (SELECT FROM anchor_tx WHERE raw = decode($1, 'hex'))`, string(raw)).Scan(&stored)
		if err != nil || !stored {
			w.t.Errorf("a transaction is sent that is not stored (%v): %.80s", err, raw)
		}
	}
	for _, e := range []*endpoint{w.end, w.second} {
		if e != nil {
			e.set(func(e *endpoint) { e.sending = look })
		}
	}
}

func methodOf(body []byte) string {
	_, after, _ := bytes.Cut(body, []byte(`"method":"`))
	method, _, _ := bytes.Cut(after, []byte(`"`))
	return string(method)
}

func (e *endpoint) set(f func(e *endpoint)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f(e)
}

// world is a chain with a contract, and hubs that anchor a log in it, in virtual time.
type world struct {
	t        testing.TB
	anvil    *anviltest.Chain
	end      *endpoint
	second   *endpoint // nil: there is one only
	pool     *pgxpool.Pool
	key      *ecdsa.PrivateKey
	contract common.Address
	log      *testLog
	now      time.Time
	fuse     int // how many places until the machine is killed; negative: never
	m        *Machine
}

// newWorld deploys a contract on a chain, deep enough that no reorganisation of a test reaches it.
func newWorld(t testing.TB, anvil *anviltest.Chain, pool *pgxpool.Pool) *world {
	t.Helper()
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, anvil: anvil, pool: pool, key: key, log: &testLog{salt: 1}, now: time.Now().UTC().Truncate(time.Hour).Add(2 * time.Hour), fuse: -1}
	w.end = newEndpoint(t, anvil.URL)
	w.contract = w.deploy(w.address())
	anvil.Fund(w.address().Hex(), 10_000_000_000*gwei)
	anvil.Mine(80)
	anvil.BaseFee(gwei)
	anvil.Mine(1)
	w.m = w.machine()
	return w
}

func (w *world) address() common.Address { return crypto.PubkeyToAddress(w.key.PublicKey) }

// maxFee is the ceiling of tests, in wei.
const maxFee = 50 * gwei

func chainOf(urls []string, contract common.Address, key *ecdsa.PrivateKey, now func() time.Time) (*Chain, error) {
	return NewChain(ChainConfig{URLs: urls, ID: anviltest.ChainID, Contract: contract, Signer: local(key), Limits: Limits{MaxFee: big.NewInt(maxFee)}, Now: now})
}

// asAdmin sends a transaction and mines it.
func (w *world) asAdmin(to *common.Address, data []byte) (receipt struct{ ContractAddress, Status string }) {
	w.t.Helper()
	w.anvil.Fund(admin, 10_000_000_000*gwei)
	w.anvil.Call(nil, "anvil_impersonateAccount", admin)
	args := map[string]any{"from": admin, "data": "0x" + hex.EncodeToString(data), "gas": "0x200000", "maxFeePerGas": "0x2540be40000", "maxPriorityFeePerGas": "0x1"}
	if to != nil {
		args["to"] = to.Hex()
	}
	var hash string
	w.anvil.Call(&hash, "eth_sendTransaction", args)
	w.anvil.Mine(1)
	w.anvil.Call(&receipt, "eth_getTransactionReceipt", hash)
	if receipt.Status != "0x1" {
		w.t.Fatalf("the admin's transaction has status %q", receipt.Status)
	}
	return receipt
}

func (w *world) deploy(anchorer common.Address) common.Address {
	w.t.Helper()
	code := append(common.FromHex(binding.AnchorLogMetaData.Bin), binding.NewAnchorLog().PackConstructor(common.HexToAddress(admin), anchorer)...)
	return common.HexToAddress(w.asAdmin(nil, code).ContractAddress)
}

// grant lets an account anchor, or no longer.
func (w *world) grant(account common.Address, may bool) {
	w.t.Helper()
	role := crypto.Keccak256Hash([]byte("ANCHORER_ROLE"))
	data := binding.NewAnchorLog().PackGrantRole(role, account)
	if !may {
		data = binding.NewAnchorLog().PackRevokeRole(role, account)
	}
	w.asAdmin(&w.contract, data)
}

// revokeFirst takes the role away before the transaction of an anchor, which waits, comes into a block.
func (w *world) revokeFirst(seq uint64) {
	w.t.Helper()
	w.anvil.DropPool(common.Hash(w.txs(seq)[0].hash).Hex())
	w.grant(w.address(), false)
}

// anchors sends a call with the world's key and mines it: whoever has the role can.
func (w *world) anchors(c Call) {
	w.t.Helper()
	nonce, _, err := w.m.c.Chain.Nonce(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	raw, _, err := w.m.c.Chain.Build(w.t.Context(), nonce, Fee{Tip: big.NewInt(gwei), Max: big.NewInt(40 * gwei)}, c)
	if err != nil {
		w.t.Fatal(err)
	}
	w.anvil.Call(nil, "eth_sendRawTransaction", "0x"+hex.EncodeToString(raw))
	w.mine(1)
}

// stranger is a hub with a key and a database of its own, which may anchor in the world's contract.
func (w *world) stranger() *world {
	w.t.Helper()
	key, err := crypto.GenerateKey()
	if err != nil {
		w.t.Fatal(err)
	}
	s := *w
	s.key, s.pool = key, newPool(w.t)
	w.grant(s.address(), true)
	w.anvil.Fund(s.address().Hex(), 1_000_000_000*gwei)
	s.m = s.machine()
	return &s
}

// machine makes a machine as a hub that starts does.
func (w *world) machine() *Machine {
	w.t.Helper()
	urls := []string{w.end.URL}
	if w.second != nil {
		urls = append(urls, w.second.URL)
	}
	chain, err := chainOf(urls, w.contract, w.key, func() time.Time { return w.now })
	if err != nil {
		w.t.Fatal(err)
	}
	m, err := NewMachine(MachineConfig{
		Pool: w.pool, Chain: chain, LogHead: w.log.head, LogAt: w.log.at, Now: func() time.Time { return w.now }, Log: logger(w.t),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	m.at = w.here
	return m
}

func logger(t testing.TB) *slog.Logger {
	if os.Getenv("HSI_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// errKilled ends a machine at a place: nothing is written or sent after it.
var errKilled = errors.New("killed")

func (w *world) here(ctx context.Context, _ string) error {
	if w.fuse == 0 {
		return errKilled
	}
	if w.fuse > 0 {
		w.fuse--
	}
	return ctx.Err()
}

// run lets some virtual time pass and does the task.
func (w *world) run(after time.Duration) {
	w.t.Helper()
	w.now = w.now.Add(after)
	if err := w.m.Run(w.t.Context()); err != nil {
		w.t.Fatalf("the task ended with %v", err)
	}
}

// mine makes blocks at the hub's time.
func (w *world) mine(n int) {
	w.t.Helper()
	var b struct{ Timestamp string }
	w.anvil.Call(&b, "eth_getBlockByNumber", "latest", false)
	if last, _ := strconv.ParseInt(b.Timestamp, 0, 64); w.now.Unix() > last {
		w.anvil.NextBlockTime(w.now.Unix())
	}
	w.anvil.Mine(n)
}

// settle runs and mines until all of the log is anchored and final.
func (w *world) settle() {
	w.t.Helper()
	w.run(time.Minute) // while nothing is due the chain is asked once a minute
	for range 200 {
		w.mine(3)
		w.run(10 * time.Second)
		a, ok, err := w.m.s.anchor(w.t.Context(), w.pool, qNewest)
		if err != nil {
			w.t.Fatal(err)
		}
		if ok && a.State == Finalized && a.Size == w.log.size && w.status().Code == "" {
			return
		}
		if ok && a.State == Finalized {
			w.now = w.now.Add(10 * time.Minute)
		}
	}
	w.t.Fatalf("not all is anchored and final: the status is %+v\n%s", w.status(), w.rows())
}

func (w *world) store() *Store {
	return NewStore(w.pool, w.m.s.chainID, w.contract, func() time.Time { return w.now })
}

func (w *world) status() Status {
	w.t.Helper()
	st, err := w.store().Status(context.WithoutCancel(w.t.Context()))
	if err != nil {
		w.t.Fatal(err)
	}
	return st
}

// want checks what the status says, that it says it in words, and that it has a name for the case.
func (w *world) want(code Trouble, words ...string) {
	w.t.Helper()
	st := w.status()
	if st.Code != code {
		w.t.Fatalf("the status is %q (%s), want %q\n%s", st.Code, st.Text, code, w.rows())
	}
	if (st.Problem == "") != (code == "") || troubleOf[st.Problem] != code {
		w.t.Errorf("the problem of %q is %q", code, st.Problem)
	}
	for _, s := range words {
		if !strings.Contains(st.Text, s) {
			w.t.Errorf("the status says %q, without %q", st.Text, s)
		}
	}
}

func (w *world) anchor(seq uint64) Anchor {
	w.t.Helper()
	a, ok, err := w.store().Get(w.t.Context(), seq)
	if err != nil || !ok {
		w.t.Fatalf("anchor %d: %t, %v\n%s", seq, ok, err, w.rows())
	}
	return a
}

func (w *world) txs(seq uint64) []transaction {
	w.t.Helper()
	list, err := w.m.s.txs(w.t.Context(), w.pool, qTxs, w.m.s.args(int64(seq))...)
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

// rows is what the database says, for a failing test's text.
func (w *world) rows() string {
	var b strings.Builder
	list, err := w.store().List(context.WithoutCancel(w.t.Context()), 0, 10)
	fmt.Fprintf(&b, "at %s, log of %d, %v:\n", w.now.Format(time.RFC3339), w.log.size, err)
	for _, a := range list {
		fmt.Fprintf(&b, "anchor %d %s size %d block %d adopted %t vanished %d late %q\n", a.Seq, a.State, a.Size, a.Block, a.Adopted, a.Vanished, a.Late)
		txs, _ := w.m.s.txs(context.WithoutCancel(w.t.Context()), w.pool, qTxs, w.m.s.args(int64(a.Seq))...)
		for _, t := range txs {
			fmt.Fprintf(&b, "    %d nonce %d fee %d tip %d state %d %x\n", t.id, t.nonce, t.maxFee, t.tip, t.state, t.hash[:4])
		}
	}
	return b.String()
}

// chainEvents reads the contract's events from the chain itself.
func (w *world) chainEvents() []Event {
	w.t.Helper()
	var logs []struct {
		Topics                       []string
		Data, BlockNumber, BlockHash string
		TransactionHash              string
	}
	w.anvil.Call(&logs, "eth_getLogs", map[string]any{"fromBlock": "0x0", "toBlock": "latest", "address": w.contract.Hex()})
	var list []Event
	for _, l := range logs {
		if len(l.Topics) != 2 { // of roles
			continue
		}
		data := common.FromHex(l.Data)
		number := func(b []byte) uint64 { return binary.BigEndian.Uint64(b[len(b)-8:]) }
		list = append(list, Event{
			Seq: number(common.FromHex(l.Topics[1])), Hour: number(data[:32]), PrevRoot: [32]byte(data[32:64]), Root: [32]byte(data[64:96]), Size: number(data[96:128]),
			Block: hexNumber(l.BlockNumber), BlockHash: common.HexToHash(l.BlockHash), TxHash: common.HexToHash(l.TransactionHash),
		})
	}
	return list
}

func hexNumber(s string) uint64 {
	n, _ := strconv.ParseUint(s, 0, 64)
	return n
}

// check holds the chain and the database against what must be when all is quiet: nothing lost, nothing twice.
func (w *world) check() {
	w.t.Helper()
	events := w.chainEvents()
	var prev Event
	for i, e := range events {
		switch {
		case e.Seq != uint64(i+1):
			w.t.Errorf("event %d has the number %d", i+1, e.Seq)
		case e.PrevRoot != prev.Root || e.Root != w.log.root(e.Size):
			w.t.Errorf("event %d: the chain of roots is broken", e.Seq)
		case e.Size <= prev.Size:
			w.t.Errorf("event %d covers %d entries, the one before it %d", e.Seq, e.Size, prev.Size)
		}
		prev = e
	}
	if prev.Size != w.log.size {
		w.t.Errorf("the log has %d entries, %d are anchored", w.log.size, prev.Size)
	}
	rows, err := w.store().List(w.t.Context(), 0, maxList)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(rows) != len(events) {
		w.t.Fatalf("%d rows, %d events\n%s", len(rows), len(events), w.rows())
	}
	for i, a := range rows {
		e := events[len(events)-1-i]
		if a.State != Finalized || a.Seq != e.Seq || a.Size != e.Size || a.Root != e.Root || a.PrevRoot != e.PrevRoot || a.Hour != e.Hour || a.Block != e.Block || a.BlockHash != e.BlockHash || a.TxHash != e.TxHash {
			w.t.Errorf("the row is %+v, the event %+v", a, e)
		}
	}
	w.checkFees()
}

// checkFees looks through all transactions of a nonce: each is at least an eighth dearer than the one before it.
func (w *world) checkFees() {
	w.t.Helper()
	rows, err := w.pool.Query(w.t.Context(), `SELECT nonce, max_fee, tip FROM anchor_tx WHERE sender = $1 ORDER BY nonce, id`, w.address().Bytes())
	if err != nil {
		w.t.Fatal(err)
	}
	last := map[int64][2]int64{}
	var nonce, fee, tip int64
	if _, err := pgx.ForEachRow(rows, []any{&nonce, &fee, &tip}, func() error {
		if was, ok := last[nonce]; ok && (8*fee < 9*was[0] || 8*tip < 9*was[1]) {
			w.t.Errorf("nonce %d: fee %d and tip %d replaced %d and %d", nonce, fee, tip, was[0], was[1])
		}
		last[nonce] = [2]int64{fee, tip}
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
}

func newPool(t testing.TB) *pgxpool.Pool { return pgtest.New(t) }
