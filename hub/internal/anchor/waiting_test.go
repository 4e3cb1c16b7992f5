package anchor

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/core/types"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// forgot is a world whose database was put back to before it sent its second anchor, which waits.
func forgot(t *testing.T) (w *world, waits transaction) {
	t.Helper()
	w = settled(t)
	r := &seeded{world: w, did: map[string]int{}}
	r.backup = r.save()
	w.log.grow(10)
	w.run(time.Hour)
	waits = w.txs(2)[0]
	r.restore()
	w.log.grow(10)
	return w, waits
}

// transfers has the account send something else, which waits.
func (w *world) transfers(fee, tip int64) {
	w.t.Helper()
	nonce, _, err := w.m.c.Chain.Nonce(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	to := w.address()
	raw, _, err := w.m.c.Chain.sign(w.t.Context(), &types.DynamicFeeTx{Nonce: nonce, GasTipCap: big.NewInt(tip), GasFeeCap: big.NewInt(fee), Gas: 21_000, To: &to, Value: big.NewInt(1)})
	if err != nil {
		w.t.Fatal(err)
	}
	w.anvil.Call(nil, "eth_sendRawTransaction", "0x"+hex.EncodeToString(raw))
}

// A database that was restored does not know the transaction that it has sent. It is found, and taken for what it is.
func TestAForgottenAnchorIsTakenUp(t *testing.T) {
	w, waits := forgot(t)
	w.run(time.Minute)
	if txs := w.txs(2); len(txs) != 1 || txs[0].hash != waits.hash || !bytes.Equal(txs[0].raw, waits.raw) || txs[0].maxFee != waits.maxFee {
		t.Errorf("%x is not taken up: %s", waits.hash[:4], w.rows())
	}
	w.settle()
	w.check()
	if a := w.anchor(2); a.Size != 20 || a.TxHash != waits.hash {
		t.Errorf("the anchor is %+v", a)
	}
}

// One of another log, or that cannot succeed, is replaced by one whose fees are an eighth higher than those it has.
func TestAForgottenTransactionIsReplacedByADearerOne(t *testing.T) {
	w := settled(t)
	w.log.grow(10)
	w.transfers(20*gwei, 3*gwei)
	w.run(time.Hour)
	if txs := w.txs(2); len(txs) != 1 || txs[0].maxFee < 20*gwei*9/8 || txs[0].tip < 3*gwei*9/8 || txs[0].state != txSent {
		t.Errorf("it is not replaced: %s", w.rows())
	}
	if n := testutil.ToFloat64(w.m.metrics.events.WithLabelValues(eventReplaced)); n != 1 {
		t.Errorf("%v were replaced", n)
	}
	w.settle()
	w.check()
}

// One that pays more than is allowed is not replaced: it will be in a block soon, and then the anchor goes on with the next nonce.
func TestAForgottenTransactionAboveTheCeilingBlocks(t *testing.T) {
	w := settled(t)
	w.log.grow(10)
	w.transfers(45*gwei, gwei)
	for range 20 {
		w.run(time.Hour)
	}
	w.want(TroubleStuck, "nonce 1", "BLOCKCHAIN_MAX_FEE_GWEI", "does not know")
	if st := w.status(); st.Problem != ProblemNonceBlocked || *st.Params.Nonce != 1 || len(w.txs(2)) != 0 {
		t.Errorf("the status is %q, %s", st.Problem, w.rows())
	}
	w.mine(1)
	w.settle()
	w.check()
}

// geth has the world's endpoint do as nodes that do not say what waits, and take another transaction for its nonce only for a tenth more.
func (w *world) geth(waits transaction) {
	fee, tip := big.NewInt(waits.maxFee*11/10), big.NewInt(waits.tip*11/10)
	w.end.set(func(e *endpoint) {
		e.refuse = func(method string, body []byte) []byte {
			switch method {
			case "eth_getTransactionBySenderAndNonce", "txpool_contentFrom":
				return []byte(`{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"the method does not exist"}}`)
			case "eth_sendRawTransaction":
				raw, _ := hex.DecodeString(between(string(body), `"params":["0x`))
				var tx types.Transaction
				if err := tx.UnmarshalBinary(raw); err != nil {
					w.t.Error(err)
				}
				if [32]byte(tx.Hash()) == waits.hash {
					return []byte(`{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"already known"}}`)
				}
				if tx.Nonce() == waits.nonce && (tx.GasFeeCap().Cmp(fee) < 0 || tx.GasTipCap().Cmp(tip) < 0) {
					return []byte(`{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"replacement transaction underpriced"}}`)
				}
			}
			return nil
		}
	})
}

// Where no endpoint says what waits, the node's refusal has the fees raised, each time by an eighth, until it takes one; or until the ceiling, which is told.
func TestANodeThatFindsAReplacementTooCheapGetsADearerOne(t *testing.T) {
	for name, tt := range map[string]struct {
		dearer int64 // than what this hub would offer
		code   Trouble
	}{
		"within the ceiling": {3, ""},
		"above it":           {20, TroubleStuck},
	} {
		t.Run(name, func(t *testing.T) {
			w, waits := forgot(t)
			waits.maxFee, waits.tip = waits.maxFee*tt.dearer, waits.tip*tt.dearer
			w.geth(waits)
			for range 30 {
				w.run(10 * time.Second)
			}
			txs := w.txs(2)
			if len(txs) < 2 || len(txs) > maxReplacements+1 || txs[0].maxFee > maxFee {
				t.Errorf("%d transactions: %s", len(txs), w.rows())
			}
			w.checkFees()
			if w.want(tt.code); tt.code == "" && txs[0].state != txSent {
				t.Errorf("the last transaction is not sent: %s", w.rows())
			}
			if st := w.status(); tt.code != "" && (st.Problem != ProblemNonceBlocked || *st.Params.Nonce != waits.nonce || st.Params.Account != w.address().Hex()) {
				t.Errorf("the problem is %q", st.Problem)
			}
			w.settle()
			w.check()
		})
	}
}

// What waits is told by few endpoints, and some answer with a page of their own where they are asked for a method that they do not serve. They serve the rest, and the fee
// is raised without it.
func TestAnEndpointThatDoesNotSayWhatWaitsIsNotSetAside(t *testing.T) {
	w := settled(t)
	w.log.grow(10)
	w.run(time.Hour)
	w.end.set(func(e *endpoint) {
		e.refuse = func(method string, _ []byte) []byte {
			if method == "eth_getTransactionBySenderAndNonce" || method == "txpool_contentFrom" {
				return []byte("<html>403 Forbidden</html>")
			}
			return nil
		}
	})
	w.run(stuckAfter + time.Second)
	w.run(time.Second)
	if txs := w.txs(2); len(txs) != 2 {
		t.Errorf("%d transactions, want the one that was stuck and a dearer one: %s", len(txs), w.rows())
	}
	if list, _ := w.m.c.Chain.Endpoints(); list[0].Reason != "" {
		t.Errorf("the endpoint is set aside: %s", list[0].Reason)
	}
	w.want("")
	w.settle()
	w.check()
}

// An endpoint that invents what waits cannot raise the fees: what counts is signed by the account.
func TestAnInventedWaitingTransactionIsNotBelieved(t *testing.T) {
	w, waits := forgot(t)
	other := w.stranger()
	raw, _, err := other.m.c.Chain.Build(t.Context(), waits.nonce, Fee{Tip: big.NewInt(gwei), Max: big.NewInt(1000 * gwei)}, Call{Seq: 2})
	if err != nil {
		t.Fatal(err)
	}
	var tx types.Transaction
	if err := tx.UnmarshalBinary(raw); err != nil {
		t.Fatal(err)
	}
	text, err := tx.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	w.end.set(func(e *endpoint) {
		e.refuse = func(method string, _ []byte) []byte {
			if method == "eth_getTransactionBySenderAndNonce" {
				return []byte(fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"result":%s}`, text))
			}
			return nil
		}
	})
	if got, ok, err := w.m.c.Chain.Waiting(t.Context(), waits.nonce); ok || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
	w.end.set(func(e *endpoint) { e.refuse = nil })
	got, ok, err := w.m.c.Chain.Waiting(t.Context(), waits.nonce)
	if err != nil || !ok || got.Hash != waits.hash || got.Call == nil || got.Call.Seq != 2 || got.Call.Size != 20 || got.Call.Root != w.log.root(20) || got.Call.PrevRoot != w.log.root(10) {
		t.Errorf("%+v, %t, %v", got, ok, err)
	}
}
