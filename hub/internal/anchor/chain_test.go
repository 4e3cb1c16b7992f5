package anchor_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/accounts/keystore"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/google/uuid"

	"github.com/hashinsight/hashinsight/hub/internal/anchor"
	"github.com/hashinsight/hashinsight/hub/internal/anchor/anviltest"
)

var cold = [20]byte{1, 2, 3}

// deployed is a chain with a contract, and the account that may anchor in it.
type deployed struct {
	*anviltest.Chain
	key      anchor.Signer
	contract [20]byte
}

func deploy(t *testing.T) deployed {
	t.Helper()
	d := deployed{Chain: anviltest.Start(t, anviltest.Options{})}
	var err error
	if d.key, _, err = anchor.NewKey(); err != nil {
		t.Fatal(err)
	}
	d.Fund(anchor.AddressText(d.key.Address()), 1e18)
	d.Mine(1)
	got, err := d.chain(t, nil, d.URL).Deploy(t.Context(), cold, func([32]byte) { go d.mineWhenAsked() })
	if err != nil {
		t.Fatal(err)
	}
	if d.contract = got.Contract; got.Admin != cold || got.Anchorer != d.key.Address() || got.GasUsed == 0 || got.Fee.Sign() == 0 {
		t.Errorf("deployed %+v", got)
	}
	t.Logf("deployment: %d gas", got.GasUsed)
	return d
}

// mineWhenAsked makes a block as soon as a transaction waits.
func (d deployed) mineWhenAsked() {
	for {
		var pool struct{ Pending string }
		if err := d.Try(&pool, "txpool_status"); err != nil {
			return
		}
		if pool.Pending != "0x0" {
			_ = d.Try(nil, "anvil_mine", "0x1", "0x1")
			return
		}
	}
}

// chain asks the chain through endpoints.
func (d deployed) chain(t *testing.T, change func(*anchor.ChainConfig), urls ...string) *anchor.Chain {
	t.Helper()
	cfg := anchor.ChainConfig{URLs: urls, ID: anviltest.ChainID, Contract: d.contract, Signer: d.key, Timeout: 2 * time.Second}
	if change != nil {
		change(&cfg)
	}
	c, err := anchor.NewChain(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func root(n uint64) (r [32]byte) {
	if n > 0 {
		r = crypto.Keccak256Hash(strconv.AppendUint(nil, n, 10))
	}
	return r
}

// anchor sends the n-th anchor and mines it.
func (d deployed) anchor(t *testing.T, c *anchor.Chain, n uint64) anchor.Receipt {
	t.Helper()
	nonce, _, err := c.Nonce(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	gas, err := c.Gas(t.Context(), call(n))
	if err != nil {
		t.Fatal(err)
	}
	fee, err := c.Fees(t.Context(), gas)
	if err != nil {
		t.Fatal(err)
	}
	raw, hash, err := c.Build(t.Context(), nonce, fee, call(n))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it is known already, which is no failure
		if err := c.Send(t.Context(), raw); err != nil {
			t.Fatal(err)
		}
	}
	d.Mine(1)
	r, err := c.Receipt(t.Context(), hash)
	if err != nil || !r.Found || !r.OK {
		t.Fatalf("anchor %d: %+v, %v", n, r, err)
	}
	if err := c.Send(t.Context(), raw); !errors.Is(err, anchor.ErrNonceTooLow) {
		t.Errorf("sent after it was mined: %v", err)
	}
	return r
}

func call(n uint64) anchor.Call {
	return anchor.Call{Seq: n, Hour: 490_000 + n, PrevRoot: root(n - 1), Root: root(n), Size: 1000 * n}
}

func TestAnchorCostsAtMostFortyThousandGas(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	c := d.chain(t, nil, d.URL)
	if h, err := c.Head(t.Context()); err != nil || h != (anchor.Head{}) {
		t.Errorf("before the first: %+v, %v", h, err)
	}
	for n := uint64(1); n <= 3; n++ {
		r := d.anchor(t, c, n)
		t.Logf("anchor %d: %d gas", n, r.GasUsed)
		if given, err := c.Gas(t.Context(), call(n+1)); err != nil || given < 40_000*5/4 || given > 50_000 {
			t.Errorf("after it the next one is given %d gas (%v)", given, err)
		}
		if most := uint64(40_000); n > 1 && r.GasUsed > most || r.GasUsed > 75_000 {
			t.Errorf("anchor %d took %d gas", n, r.GasUsed)
		}
	}
	if h, err := c.Head(t.Context()); err != nil || h != (anchor.Head{Seq: 3, Hour: 490_003, Size: 3000, Root: root(3)}) {
		t.Errorf("head %+v, %v", h, err)
	}
	d.Mine(3)
	b, err := c.Blocks(t.Context())
	if err != nil || b.Latest.Number != b.Safe.Number+1 || b.Safe.Number != b.Finalized.Number+1 {
		t.Errorf("blocks %+v, %v", b, err)
	}
	list, err := c.Events(t.Context(), 0, b.Finalized.Number)
	if err != nil || len(list) != 3 {
		t.Fatalf("events %+v, %v", list, err)
	}
	for i, e := range list {
		n := uint64(i + 1)
		if e.Seq != n || e.Root != root(n) || e.PrevRoot != root(n-1) || e.Size != 1000*n || e.Hour != 490_000+n || e.Time == 0 {
			t.Errorf("event %+v", e)
		}
		if ok, err := c.Canonical(t.Context(), e.Block, e.BlockHash); !ok || err != nil {
			t.Errorf("its block: %t, %v", ok, err)
		}
	}
	if ok, err := c.Canonical(t.Context(), list[0].Block, root(1)); ok || err != nil {
		t.Errorf("another hash: %t, %v", ok, err)
	}
	if r, err := c.Receipt(t.Context(), root(9)); r.Found || err != nil {
		t.Errorf("a transaction that nobody sent: %+v, %v", r, err)
	}
}

func TestContractSaysWhatItRefuses(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	c := d.chain(t, nil, d.URL)
	d.anchor(t, c, 1)
	if err := c.Try(t.Context(), call(2)); err != nil {
		t.Errorf("the next one: %v", err)
	}
	for name, tt := range map[string]struct {
		change func(*anchor.Call)
		want   error
	}{
		"the same number again":          {func(c *anchor.Call) { c.Seq = 1 }, anchor.ErrBadSeq},
		"a hole in the numbers":          {func(c *anchor.Call) { c.Seq = 3 }, anchor.ErrBadSeq},
		"another root before":            {func(c *anchor.Call) { c.PrevRoot = root(7) }, anchor.ErrBadPrevRoot},
		"a smaller log":                  {func(c *anchor.Call) { c.Size = 999 }, anchor.ErrBadSize},
		"another root for the same size": {func(c *anchor.Call) { c.Size = 1000 }, anchor.ErrBadSize},
	} {
		t.Run(name, func(t *testing.T) {
			next := call(2)
			tt.change(&next)
			if err := c.Try(t.Context(), next); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
	if err := c.Try(t.Context(), anchor.Call{Seq: 2, PrevRoot: root(1), Root: root(1), Size: 1000}); err != nil {
		t.Errorf("the same root and size once more: %v", err)
	}
	stranger, _, err := anchor.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	s := d.chain(t, func(c *anchor.ChainConfig) { c.Signer = stranger }, d.URL)
	if err := s.Try(t.Context(), call(2)); !errors.Is(err, anchor.ErrRole) {
		t.Errorf("a stranger: %v", err)
	}
	for account, want := range map[[20]byte][2]bool{d.key.Address(): {true, false}, cold: {false, true}, stranger.Address(): {false, false}} {
		may, err := c.MayAnchor(t.Context(), account)
		is, err2 := c.IsAdmin(t.Context(), account)
		if may != want[0] || is != want[1] || err != nil || err2 != nil {
			t.Errorf("roles of %x: %t, %t, %v, %v", account, may, is, err, err2)
		}
	}
	// A refused transaction is in a block and says so.
	nonce, _, err := c.Nonce(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	raw, hash, err := c.Build(t.Context(), nonce, anchor.Fee{Tip: big.NewInt(1e9), Max: big.NewInt(1e10)}, call(1))
	if err := errors.Join(err, c.Send(t.Context(), raw)); err != nil {
		t.Fatal(err)
	}
	d.Mine(1)
	if r, err := c.Receipt(t.Context(), hash); err != nil || !r.Found || r.OK {
		t.Errorf("receipt %+v, %v", r, err)
	}
}

func TestAnAccountWithoutFundsIsToldApart(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	poor, _, err := anchor.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	c := d.chain(t, func(c *anchor.ChainConfig) { c.Signer = poor }, d.URL)
	raw, _, err := c.Build(t.Context(), 0, anchor.Fee{Tip: big.NewInt(1), Max: big.NewInt(1e10)}, call(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Send(t.Context(), raw); !errors.Is(err, anchor.ErrFunds) {
		t.Errorf("%v", err)
	}
	// Another transaction with the nonce of one that waits, for the same fee.
	c = d.chain(t, nil, d.URL)
	nonce, _, err := c.Nonce(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []error{nil, anchor.ErrUnderpriced} {
		raw, _, err := c.Build(t.Context(), nonce, anchor.Fee{Tip: big.NewInt(1e9), Max: big.NewInt(1e10)}, call(uint64(i+1)))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Send(t.Context(), raw); !errors.Is(err, want) {
			t.Errorf("transaction %d: %v", i, err)
		}
	}
}

func TestWrongChainAndContractAreRefused(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	if err := d.chain(t, nil, d.URL).Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := d.chain(t, func(c *anchor.ChainConfig) { c.ID = 8453 }, d.URL)
	if err := c.Check(t.Context()); !errors.Is(err, anchor.ErrWrongChain) || !strings.Contains(err.Error(), "31337, want 8453") {
		t.Errorf("another chain: %v", err)
	}
	c = d.chain(t, func(c *anchor.ChainConfig) { c.Contract = [20]byte{9} }, d.URL)
	if err := c.Check(t.Context()); !errors.Is(err, anchor.ErrWrongContract) || !strings.Contains(err.Error(), "no code") {
		t.Errorf("no contract: %v", err)
	}
	if _, err := c.Head(t.Context()); !errors.Is(err, anchor.ErrWrongContract) {
		t.Errorf("its head: %v", err)
	}
	// A contract that answers everything as AnchorLog does and is another one: one byte of its code differs.
	var code string
	d.Call(&code, "eth_getCode", anchor.AddressText(d.contract), "latest")
	d.Call(nil, "anvil_setCode", anchor.AddressText([20]byte{9}), code+"00")
	if err := c.Check(t.Context()); !errors.Is(err, anchor.ErrWrongContract) || !strings.Contains(err.Error(), "another one") {
		t.Errorf("another contract: %v", err)
	}
}

// proxy stands between a hub and a chain and fails as it is told.
type proxy struct {
	*httptest.Server
	fault atomic.Pointer[func(method string, answer []byte) []byte] // nil answer: the connection is cut
	slow  chan struct{}                                             // not nil: answers wait until it is closed
	asked atomic.Int64
}

func newProxy(t *testing.T, to string, slow chan struct{}) *proxy {
	t.Helper()
	p := &proxy{slow: slow}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		body, _ := io.ReadAll(r.Body)
		if p.slow != nil {
			select {
			case <-p.slow:
			case <-r.Context().Done():
				return
			}
		}
		res, err := http.Post(to, "application/json", bytes.NewReader(body))
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		defer func() { _ = res.Body.Close() }()
		out, _ := io.ReadAll(res.Body)
		var q struct{ Method string }
		_ = json.Unmarshal(body, &q)
		if f := p.fault.Load(); f != nil {
			if out = (*f)(q.Method, out); out == nil {
				panic(http.ErrAbortHandler)
			}
		}
		_, _ = w.Write(out)
	}))
	p.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	t.Cleanup(p.Close)
	return p
}

func (p *proxy) fail(f func(method string, answer []byte) []byte) { p.fault.Store(&f) }

func cut(string, []byte) []byte { return nil }

// lie changes the contract's head, and nothing else.
func lie(method string, answer []byte) []byte {
	if method == "eth_call" {
		return bytes.Replace(answer, []byte("03e8"), []byte("03e9"), 1) // a size of 1001
	}
	return answer
}

func TestEndpointsMustAgree(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	d.anchor(t, d.chain(t, nil, d.URL), 1)
	good := anchor.Head{Seq: 1, Hour: 490_001, Size: 1000, Root: root(1)}

	t.Run("of two one lies: nobody is believed", func(t *testing.T) {
		t.Parallel()
		liar := newProxy(t, d.URL, nil)
		liar.fail(lie)
		c := d.chain(t, nil, d.URL, liar.URL)
		if _, err := c.Head(t.Context()); !errors.Is(err, anchor.ErrDisagree) {
			t.Errorf("%v", err)
		}
		if err := c.Check(t.Context()); err != nil {
			t.Errorf("in what they agree: %v", err)
		}
	})
	t.Run("of three one lies: it is set aside", func(t *testing.T) {
		t.Parallel()
		liar := newProxy(t, d.URL, nil)
		liar.fail(lie)
		c := d.chain(t, nil, d.URL, liar.URL, newProxy(t, d.URL, nil).URL)
		if h, err := c.Head(t.Context()); err != nil || h != good {
			t.Errorf("%+v, %v", h, err)
		}
		list, agree := c.Endpoints()
		if agree != 2 || list[0].Reason != "" || list[1].Reason == "" || list[2].Reason != "" {
			t.Errorf("%d must agree, endpoints %+v", agree, list)
		}
		n := liar.asked.Load()
		if _, err := c.Head(t.Context()); err != nil || liar.asked.Load() != n {
			t.Errorf("an endpoint that is set aside was asked (%v)", err)
		}
	})
	t.Run("a dead one is set aside and asked again", func(t *testing.T) {
		t.Parallel()
		dead, now := newProxy(t, d.URL, nil), atomic.Int64{}
		dead.fail(cut)
		c := d.chain(t, func(c *anchor.ChainConfig) { c.Now = func() time.Time { return time.Unix(now.Load(), 0) } }, dead.URL, d.URL, newProxy(t, d.URL, nil).URL)
		if h, err := c.Head(t.Context()); err != nil || h != good {
			t.Errorf("%+v, %v", h, err)
		}
		if list, _ := c.Endpoints(); list[0].Reason == "" {
			t.Errorf("endpoints %+v", list)
		}
		dead.fault.Store(nil)
		now.Add(3600)
		if _, err := c.Head(t.Context()); err != nil {
			t.Error(err)
		}
		if list, _ := c.Endpoints(); list[0].Reason != "" {
			t.Errorf("an hour later: %+v", list)
		}
	})
	t.Run("of two one is dead: what decides waits, and nothing names a URL", func(t *testing.T) {
		t.Parallel()
		dead := newProxy(t, d.URL, nil)
		dead.fail(cut)
		c := d.chain(t, nil, d.URL, dead.URL+"/v2/SECRETKEY")
		_, err := c.Head(t.Context())
		if !errors.Is(err, anchor.ErrUnreachable) || strings.Contains(err.Error(), "SECRETKEY") {
			t.Errorf("%v", err)
		}
		if list, _ := c.Endpoints(); list[1].Reason == "" || strings.Contains(list[1].Reason+list[1].Name, "SECRETKEY") {
			t.Errorf("%+v", list)
		}
		dead.fault.Store(nil)
		if h, err := c.Head(t.Context()); err != nil || h != good { // it was set aside a moment ago: without it there is no answer
			t.Errorf("%+v, %v", h, err)
		}
	})
	t.Run("a slow one does not hold up the others for ever", func(t *testing.T) {
		t.Parallel()
		slow := make(chan struct{})
		defer close(slow)
		c := d.chain(t, func(c *anchor.ChainConfig) { c.Timeout = 300 * time.Millisecond }, newProxy(t, d.URL, slow).URL, d.URL, newProxy(t, d.URL, nil).URL)
		if h, err := c.Head(t.Context()); err != nil || h != good {
			t.Errorf("%+v, %v", h, err)
		}
		if list, _ := c.Endpoints(); !strings.Contains(list[0].Reason, "no answer within 300ms") {
			t.Errorf("%+v", list)
		}
	})
	t.Run("one of another chain is not asked anything else", func(t *testing.T) {
		t.Parallel()
		other := newProxy(t, anviltest.Start(t, anviltest.Options{ChainID: 8453}).URL, nil)
		c := d.chain(t, nil, d.URL, other.URL, newProxy(t, d.URL, nil).URL)
		if h, err := c.Head(t.Context()); err != nil || h != good {
			t.Errorf("%+v, %v", h, err)
		}
		if list, _ := c.Endpoints(); !strings.Contains(list[1].Reason, "8453, want 31337") || other.asked.Load() != 1 {
			t.Errorf("%+v, asked %d times", list, other.asked.Load())
		}
	})
	t.Run("a transaction reaches the chain through any of them", func(t *testing.T) {
		t.Parallel()
		// Its own chain: the others count on the head.
		d := deploy(t)
		lost := newProxy(t, d.URL, nil)
		c := d.chain(t, nil, d.URL, lost.URL)
		nonce, _, err := c.Nonce(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		raw, hash, err := c.Build(t.Context(), nonce, anchor.Fee{Tip: big.NewInt(1e9), Max: big.NewInt(1e10)}, call(1))
		if err != nil {
			t.Fatal(err)
		}
		lost.fail(cut)
		if err := c.Send(t.Context(), raw); err != nil {
			t.Errorf("one of two took it: %v", err)
		}
		lost.fault.Store(nil)
		d.Mine(1)
		if r, err := c.Receipt(t.Context(), hash); err != nil || !r.OK {
			t.Errorf("%+v, %v", r, err)
		}
	})
	t.Run("answers without end, and of no form", func(t *testing.T) {
		t.Parallel()
		bad := newProxy(t, d.URL, nil)
		c := d.chain(t, nil, bad.URL)
		for _, answer := range [][]byte{bytes.Repeat([]byte(" "), 9<<20), []byte("<html>502</html>"), []byte(`{"result":{"a":1}}`), []byte(`{"jsonrpc":"2.0"}`), []byte(`{"result":"0xzz"}`)} {
			bad.fail(func(string, []byte) []byte { return answer })
			if _, err := c.Head(t.Context()); !errors.Is(err, anchor.ErrUnreachable) {
				t.Errorf("%.30q: %v", answer, err)
			}
		}
	})
}

func TestKeys(t *testing.T) {
	t.Parallel()
	signer, text, err := anchor.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	again, err := anchor.ParseKey(text)
	if err != nil || again.Address() != signer.Address() {
		t.Errorf("read back: %v", err)
	}
	for _, bad := range []string{"", text[2:], text[:65], text + "0", "0x" + strings.Repeat("0", 64), "0x" + strings.Repeat("f", 64), "0x" + strings.Repeat("g", 64), " " + text} {
		if _, err := anchor.ParseKey(bad); err == nil || bad != "" && strings.Contains(err.Error(), strings.Trim(bad, " ")) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", again)
	if printed := fmt.Sprintf("%v %+v %#v %s %x", again, again, again, again, again) + log.String(); strings.Contains(printed, text[2:20]) || !strings.Contains(printed, "key of 0x") {
		t.Errorf("printed: %s", printed)
	}

	// A keystore file, as wallets write them.
	key, err := crypto.HexToECDSA(text[2:])
	if err != nil {
		t.Fatal(err)
	}
	file, err := keystore.EncryptKey(&keystore.Key{Id: uuid.New(), Address: common.Address(signer.Address()), PrivateKey: key}, "correct horse", 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.json")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	opened, err := anchor.OpenKeystore(path, "correct horse")
	if err != nil || opened.Address() != signer.Address() {
		t.Fatalf("keystore: %v", err)
	}
	tx := types.NewTx(&types.DynamicFeeTx{ChainID: big.NewInt(8453), Nonce: 1, GasTipCap: big.NewInt(1), GasFeeCap: big.NewInt(2), Gas: 3})
	signed, err := opened.SignTx(context.Background(), tx)
	if err != nil {
		t.Fatal(err)
	}
	if from, err := types.Sender(types.LatestSignerForChainID(big.NewInt(8453)), signed); err != nil || from != common.Address(signer.Address()) {
		t.Errorf("signed by %x (%v)", from, err)
	}
	if _, err := anchor.OpenKeystore(path, "wrong"); err == nil || !strings.Contains(err.Error(), "password") {
		t.Errorf("wrong password: %v", err)
	}
	if err := os.WriteFile(path, []byte(`{"crypto":`+text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := anchor.OpenKeystore(path, ""); err == nil || strings.Contains(err.Error(), text[2:20]) {
		t.Errorf("a file of another form: %v", err)
	}
	d := deployed{contract: cold}
	if _, _, err := d.chain(t, func(c *anchor.ChainConfig) { c.Signer = nil }, "http://127.0.0.1:1").Build(t.Context(), 0, anchor.Fee{}, call(1)); !errors.Is(err, anchor.ErrNoKey) {
		t.Errorf("without a key: %v", err)
	}
}

func TestFees(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	gwei := big.NewInt(1e9)
	at := func(base uint64, l anchor.Limits) (anchor.Fee, *big.Int) {
		t.Helper()
		c := d.chain(t, func(c *anchor.ChainConfig) { c.Limits = l }, d.URL)
		d.BaseFee(base)
		d.Mine(1)
		fee, err := c.Fees(t.Context(), 40_000)
		most, err2 := c.Ceiling(t.Context(), 40_000)
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		return fee, most
	}
	fee, most := at(100e9, anchor.Limits{})
	if most != nil || fee.Max.Cmp(new(big.Int).Add(fee.Tip, big.NewInt(200e9))) != 0 {
		t.Errorf("without a limit: %s of %s, ceiling %s", fee.Tip, fee.Max, most)
	}
	limit := new(big.Int).Mul(gwei, big.NewInt(150))
	if fee, most = at(100e9, anchor.Limits{MaxFee: limit}); most.Cmp(limit) != 0 || fee.Max.Cmp(limit) != 0 {
		t.Errorf("under the ceiling: %s, ceiling %s", fee.Max, most)
	}
	if fee, most = at(151e9, anchor.Limits{MaxFee: limit}); fee.Max.Cmp(most) <= 0 {
		t.Errorf("above the ceiling: %s, ceiling %s", fee.Max, most)
	}
	// 24 anchors that are given 40,000 gas for 0.024 USD a day at 2,500 USD: 10^-3 USD each, 4·10^11 wei, 10^7 wei for a unit of gas.
	dollars := anchor.Limits{DayUSD: 24_000, EtherUSD: 2_500_000_000, PerDay: 24}
	if _, most = at(100e9, dollars); most.Cmp(big.NewInt(10_000_000)) != 0 {
		t.Errorf("by dollars: %s", most)
	}
	// The first anchor takes more, and is reckoned with what it is given.
	c := d.chain(t, func(c *anchor.ChainConfig) { c.Limits = dollars }, d.URL)
	given, err := c.Gas(t.Context(), call(1))
	if err != nil || given < 90_000 || given > 100_000 {
		t.Errorf("the first anchor is given %d gas (%v)", given, err)
	}
	if most, err := c.Ceiling(t.Context(), given); err != nil || most.Int64() != 400_000_000_000/int64(given) {
		t.Errorf("by dollars for the first: %s (%v)", most, err)
	}
	raw, _, err := c.Build(t.Context(), 0, anchor.Fee{Tip: big.NewInt(1), Max: big.NewInt(1), Gas: given}, call(1))
	var tx types.Transaction
	if err := errors.Join(err, tx.UnmarshalBinary(raw)); err != nil || tx.Gas() != given {
		t.Errorf("its transaction is given %d (%v)", tx.Gas(), err)
	}
	// What the chain below costs comes first: an oracle that says 10^11 wei leaves three quarters. PUSH5 value, PUSH0, MSTORE, 32 bytes returned.
	d.Call(nil, "anvil_setCode", "0x420000000000000000000000000000000000000F", "0x64174876e8005f5260205ff3")
	if _, most = at(100e9, dollars); most.Cmp(big.NewInt(7_500_000)) != 0 {
		t.Errorf("with the chain below: %s", most)
	}
	if l1, err := d.chain(t, nil, d.URL).L1Fee(t.Context()); err != nil || l1.Cmp(big.NewInt(100e9)) != 0 {
		t.Errorf("the chain below costs %s (%v)", l1, err)
	}
}

func TestReplacementIsAnEighthDearer(t *testing.T) {
	t.Parallel()
	for _, was := range []int64{0, 1, 7, 8, 9, 1e6, 1e9 + 1, 123_456_789_012_345_678} {
		old := anchor.Fee{Tip: big.NewInt(was), Max: big.NewInt(was)}
		next := anchor.Replacement(old, anchor.Fee{Tip: big.NewInt(1), Max: big.NewInt(1)})
		for _, v := range []*big.Int{next.Tip, next.Max} {
			if new(big.Int).Mul(v, big.NewInt(1000)).Cmp(new(big.Int).Mul(big.NewInt(was), big.NewInt(1125))) < 0 || v.Cmp(big.NewInt(was)) <= 0 {
				t.Errorf("%d is replaced by %s", was, v)
			}
		}
	}
	want := anchor.Fee{Tip: big.NewInt(5), Max: big.NewInt(1e12)}
	if got := anchor.Replacement(anchor.Fee{Tip: big.NewInt(80), Max: big.NewInt(80)}, want); got.Tip.Int64() != 90 || got.Max.Int64() != 1e12 {
		t.Errorf("%s of %s", got.Tip, got.Max)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	const good = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed" // of EIP-55
	a, err := anchor.ParseAddress(good)
	if err != nil || anchor.AddressText(a) != good {
		t.Errorf("%x, %v", a, err)
	}
	if b, err := anchor.ParseAddress(strings.ToLower(good)); err != nil || a != b {
		t.Errorf("%x, %v", b, err)
	}
	for _, bad := range []string{"", good[2:], good[:41], good + "0", "0x" + strings.Repeat("0", 40), strings.Replace(good, "A", "a", 1), "0x" + strings.Repeat("g", 40)} {
		if _, err := anchor.ParseAddress(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
