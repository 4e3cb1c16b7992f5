package anchor

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/prometheus/client_golang/prometheus/testutil"
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

// Who has the role anchors the same head once more, which the contract takes, and again while this hub's next one waits: both are read back, and the log goes on
// behind them.
func TestTheSameHeadAnchoredTwice(t *testing.T) {
	w := settled(t)
	other := w.stranger()
	root := w.log.root(10)
	other.anchors(Call{Seq: 2, Hour: 1, PrevRoot: root, Root: root, Size: 10})
	w.run(2 * time.Minute)
	if a := w.anchor(2); !a.Adopted || !a.State.InBlock() || a.Size != 10 || w.status().Code != "" {
		t.Errorf("it was read back as %+v, the status is %+v", a, w.status())
	}
	if c, ok, err := w.store().Covering(t.Context(), 9); err != nil || !ok || c.Seq != 1 {
		t.Errorf("the last entry is covered by %+v, %t, %v", c.Anchor, ok, err)
	}
	w.mine(3)
	w.run(10 * time.Second)
	w.log.grow(10)
	w.run(time.Hour)
	waits := w.txs(3)[0].hash
	w.anvil.DropPool(common.Hash(waits).Hex())
	other.anchors(Call{Seq: 3, Hour: 1, PrevRoot: root, Root: root, Size: 10})
	w.run(10 * time.Second)
	if a := w.anchor(3); !a.Adopted || !a.State.InBlock() || a.Size != 10 {
		t.Errorf("the one in the place of this hub's is %+v", a)
	}
	w.settle()
	if a := w.anchor(4); a.Adopted || a.Size != 20 || a.State != Finalized {
		t.Errorf("the log goes on with %+v", a)
	}
	if events := w.chainEvents(); len(events) != 4 {
		t.Errorf("%d anchors are in the contract", len(events))
	}
	w.checkFees()
}

// Somebody repeats the head again and again, and what the log has beyond it comes to no block: that is told after 6 hours, whatever was in a block since.
func TestRepeatedHeadsAreNoProgress(t *testing.T) {
	w := settled(t)
	other := w.stranger()
	root := w.log.root(10)
	w.log.grow(10)
	w.grant(w.address(), false)
	for i := range uint64(8) {
		w.run(time.Hour)
		other.now = w.now
		other.anchors(Call{Seq: 2 + i, Hour: 1, PrevRoot: root, Root: root, Size: 10})
	}
	w.run(2 * time.Minute)
	if st := w.status(); st.Last.Seq != 9 || !st.Overdue || testutil.ToFloat64(w.m.metrics.overdue) != 1 {
		t.Errorf("the status is %+v, the last anchor %+v", st, st.Last)
	}
}

// The contract covers more than this log has. Whose anchors they are shows in one that this log is long enough for; where there is none, and the log lacks nothing
// that it knows of, both are said, with who has anchored.
func TestTheContractCoversMoreThanTheLog(t *testing.T) {
	w := settled(t)
	b := *w
	b.log, b.pool = &testLog{salt: 2}, newPool(t)
	b.log.grow(5)
	b.m = b.machine()
	b.run(2 * time.Minute)
	b.want(TroubleAhead, "anchor 1", "covers 10 entries", "has 5", "TRANSPARENCY_LOG_DIR", "anchor deploy", "from "+w.address().Hex())
	if st := b.status(); st.Problem != ProblemContractAhead || st.Params.Account != w.address().Hex() || st.Params.LogSize != 5 || st.Newest != nil {
		t.Errorf("the status is %+v", st)
	}
	w.log.grow(20)
	w.now = w.now.Add(time.Hour)
	w.settle()
	b.now = w.now
	b.log.grow(10)
	b.run(2 * time.Minute)
	b.want(TroubleForeign, "anchor 1", "first 10 entries", "anchor deploy")
	if st := b.status(); st.Problem != ProblemForeignRoot || st.Newest != nil {
		t.Errorf("the status is %+v", st)
	}
	b.log.salt = 1 // its own log, of a database that was put back
	b.log.behind = true
	b.run(2 * time.Minute)
	b.want(TroubleAhead, "anchor 2", "covers 30 entries", "has 15", "older than the chain")
	b.log.behind, b.log.size = false, 30
	b.settle()
	b.check()
}

// An endpoint that gives events of few blocks at once is asked for fewer.
func TestAnEndpointThatGivesEventsOfFewBlocks(t *testing.T) {
	w := settled(t)
	r := &seeded{world: w, did: map[string]int{}}
	r.backup = r.save()
	w.log.grow(10)
	w.now = w.now.Add(time.Hour)
	w.settle()
	w.anvil.Mine(300)
	r.restore()
	w.end.set(func(e *endpoint) {
		e.answer = func(method string, body, out []byte) []byte {
			if method != "eth_getLogs" {
				return out
			}
			from, to := between(string(body), `"fromBlock":"`), between(string(body), `"toBlock":"`)
			if hexNumber(to)-hexNumber(from) >= 10 {
				return []byte(`{"jsonrpc":"2.0","id":1,"error":{"code":-32600,"message":"block range is too large, at most 10 blocks"}}`)
			}
			return out
		}
	})
	w.run(2 * time.Minute)
	w.want(TroubleAhead, "still to be read")
	w.settle()
	w.check()
}

func between(s, mark string) string {
	_, s, _ = strings.Cut(s, mark)
	s, _, _ = strings.Cut(s, `"`)
	return s
}

// Of two endpoints, which must agree, one is down: the status says which, and what would help. With a third nothing waits.
func TestOneOfTwoEndpointsIsDown(t *testing.T) {
	w := freshWorld(t)
	w.second = newEndpoint(t, w.anvil.URL)
	w.second.cut = true
	w.m = w.machine()
	w.log.grow(10)
	w.run(time.Minute)
	host := strings.TrimPrefix(w.second.URL, "http://")
	w.want(TroubleUnreachable, "of 2 these give no answer", host, "an endpoint more", "one may fail")
	if st := w.status(); st.Problem != ProblemTooFewEndpoints || len(st.Params.Endpoints) != 1 || st.Params.Endpoints[0] != host || st.Params.Need != 2 || st.Params.Total != 2 {
		t.Errorf("the status is %q, %+v", st.Problem, st.Params)
	}
	chain, err := chainOf([]string{w.end.URL, w.second.URL, newEndpoint(t, w.anvil.URL).URL}, w.contract, w.key, func() time.Time { return w.now })
	if err != nil {
		t.Fatal(err)
	}
	w.m.c.Chain = chain
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

// A reason that an anchor was late for is not the next one's.
func TestAReasonIsUsedOnce(t *testing.T) {
	w := settled(t)
	w.m = w.machine()
	w.run(24 * time.Hour) // no hub ran, and nothing was due
	w.mine(1)
	w.log.grow(5)
	for range 11 {
		w.run(10 * time.Minute)
	}
	w.settle()
	if a := w.anchor(2); a.Late != TroubleSlow {
		t.Errorf("the blocks were slow, the anchor says %q", a.Late)
	}
}

// A row that another process has changed since it was read is not changed by this one.
func TestAnOldVersionChangesNothing(t *testing.T) {
	w := settled(t)
	a := w.anchor(1)
	old := a
	if err := w.m.s.change(t.Context(), w.pool, &a, qState, int16(Finalized)); err != nil {
		t.Fatal(err)
	}
	now := w.now
	args := map[string][]any{
		qRebuild: {int64(1), int64(99), old.Root[:], old.PrevRoot[:], []byte("x"), now}, qState: {int16(Failed)}, qFinal: {now}, qGone: {now},
		qMined: {old.TxHash[:], int64(1), old.BlockHash[:], now, now, "slow"},
		qAdopt: {int64(1), int64(99), old.Root[:], old.PrevRoot[:], []byte("x"), old.TxHash[:], int64(1), old.BlockHash[:], now, now, "slow"},
	}
	for sql, further := range args {
		stale := old
		if err := w.m.s.change(t.Context(), w.pool, &stale, sql, further...); !errors.Is(err, errLost) {
			t.Errorf("%s: %v", sql, err)
		}
	}
	w.check()
}
