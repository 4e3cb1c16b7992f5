package anchor

import (
	"bytes"
	"testing"
	"time"
)

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
