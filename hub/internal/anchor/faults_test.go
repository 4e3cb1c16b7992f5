package anchor

import (
	"bytes"
	"encoding/hex"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
)

// The hub's clock was far ahead for a while and is right again: what the database has of that time holds nothing up.
func TestAClockThatWasAhead(t *testing.T) {
	w := settled(t)
	w.log.grow(10)
	ahead := 30 * 24 * time.Hour
	w.now = w.now.Add(ahead)
	w.run(time.Minute)
	w.now = w.now.Add(-ahead)
	dropped := w.txs(2)[0].hash
	w.anvil.DropPool("0x" + hex.EncodeToString(dropped[:]))
	w.mine(1)
	w.run(time.Minute)
	w.anvil.Mine(3)
	w.run(time.Minute)
	if a := w.anchor(2); a.State != Finalized {
		t.Errorf("a transaction that was sent in the future and forgotten is not sent again: %s\n%s", a.State, w.rows())
	}
	w.log.grow(10)
	for range 4 {
		w.run(time.Hour)
		w.anvil.Mine(3)
	}
	st := w.status()
	if st.Newest.Seq < 3 {
		t.Errorf("4 hours later the newest anchor is %d of %s, overdue %t, code %q", st.Newest.Seq, st.Newest.BuiltAt, st.Overdue, st.Code)
	}
}

// The key was changed for another one while a transaction of the first, which cannot pay, waits with the nonce that the second is to use.
func TestTheKeyIsChangedForOneThatCanPay(t *testing.T) {
	w := freshWorld(t)
	w.anvil.Fund(w.address().Hex(), 0)
	w.log.grow(10)
	for range 3 {
		w.run(time.Minute)
	}
	w.want(TroubleFunds)
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	w.key = key
	w.grant(w.address(), true)
	w.anvil.Fund(w.address().Hex(), 1_000_000_000*gwei)
	w.m = w.machine()
	w.settle()
	w.check()
}

// An endpoint that has not got a block yet, or no longer, has not lost it from the chain.
func TestAMissingBlockIsNotAReorganisation(t *testing.T) {
	w := settled(t)
	a := w.anchor(1)
	number := []byte(`"` + hexNumber64(a.Block) + `"`)
	w.end.set(func(e *endpoint) {
		e.answer = func(method string, body, out []byte) []byte {
			if method == "eth_getBlockByNumber" && bytes.Contains(body, number) {
				return []byte(`{"jsonrpc":"2.0","id":1,"result":null}`)
			}
			return out
		}
	})
	w.run(2 * time.Minute)
	if a := w.anchor(1); a.State != Finalized || a.Vanished != 0 {
		t.Errorf("the anchor is %s", a.State)
	}
	w.want(TroubleBehind, "BASE_RPC_URL")
	w.end.set(func(e *endpoint) { e.answer = nil })
	w.settle()
	w.check()
}

// Nodes without the tags safe and finalized are told apart from ones that do not answer.
func TestANodeWithoutFinality(t *testing.T) {
	w := freshWorld(t)
	w.log.grow(10)
	w.end.set(func(e *endpoint) {
		e.answer = func(method string, body, out []byte) []byte {
			if method == "eth_getBlockByNumber" && bytes.Contains(body, []byte(`"finalized"`)) {
				return []byte(`{"jsonrpc":"2.0","id":1,"error":{"code":-39001,"message":"unknown block"}}`)
			}
			return out
		}
	})
	w.run(time.Minute)
	w.want(TroubleUnreachable, "final")
}
