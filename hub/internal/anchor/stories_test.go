package anchor

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hashinsight/hashinsight/hub/internal/anchor/anviltest"
)

func freshWorld(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	return newWorld(t, anviltest.Start(t, anviltest.Options{}), newPool(t))
}

// settled is a world with one final anchor over ten entries.
func settled(t *testing.T) *world {
	t.Helper()
	w := freshWorld(t)
	w.log.grow(10)
	w.settle()
	return w
}

// The ordinary way, and what a proof is made over at each stage.
func TestAnAnchorComesToFinality(t *testing.T) {
	w := freshWorld(t)
	w.run(10 * time.Second)
	if _, ok, err := w.store().Covering(t.Context(), 0); ok || err != nil || w.status().Newest != nil {
		t.Errorf("an empty log is covered: %t, %v; the status is %+v", ok, err, w.status())
	}
	w.log.grow(10)
	w.run(10 * time.Second)
	if a := w.anchor(1); a.State != Sent || a.Size != 10 || a.Root != w.log.root(10) || a.Hour != uint64(w.now.Unix()/3600) {
		t.Errorf("after the first run the anchor is %+v", a)
	}
	if _, ok, _ := w.store().Covering(t.Context(), 0); ok {
		t.Error("an anchor that is in no block covers an entry")
	}
	w.mine(1)
	w.run(10 * time.Second)
	c, ok, err := w.store().Covering(t.Context(), 9)
	if err != nil || !ok || c.State != Mined || string(c.Checkpoint) != "checkpoint of 10" || c.BlockTime.IsZero() || c.Late != "" {
		t.Errorf("the last entry is covered by %+v, %t, %v", c, ok, err)
	}
	if _, ok, _ := w.store().Covering(t.Context(), 10); ok {
		t.Error("an entry that came later is covered")
	}
	w.mine(1)
	w.run(10 * time.Second)
	if a := w.anchor(1); a.State != Safe {
		t.Errorf("one block later the anchor is %s", a.State)
	}
	w.mine(1)
	w.run(10 * time.Second)
	if a := w.anchor(1); a.State != Finalized || a.FinalizedAt.IsZero() {
		t.Errorf("two blocks later the anchor is %+v", a)
	}
	// Nothing more for the rest of the hour, and nothing in the next one as long as the log does not grow.
	w.run(2 * time.Hour)
	w.run(10 * time.Second)
	if st := w.status(); st.Newest.Seq != 1 || st.Code != "" || st.HeadSeq != 1 || st.Account != w.address() || !st.CoveredAt.Equal(w.now) {
		t.Errorf("the status is %+v", st)
	}
	w.log.grow(1)
	w.settle()
	w.check()
	if c, ok, _ := w.store().Covering(t.Context(), 9); !ok || c.Seq != 1 {
		t.Error("a later anchor is preferred to the one that covered the entry first")
	}
	if a := w.anchor(2); a.Late != "" {
		t.Errorf("after a quiet time the anchor counts as late: %q", a.Late)
	}
}

// While no endpoint answers for a day nothing is lost, and one later anchor covers all; it says why it is late.
func TestEndpointDownForADay(t *testing.T) {
	w := settled(t)
	w.end.set(func(e *endpoint) { e.cut = true })
	for range 24 {
		w.log.grow(24)
		w.run(time.Hour)
	}
	w.want(TroubleUnreachable, "BASE_RPC_URL", "one later anchor covers all")
	if st := w.status(); !st.Overdue || testutil.ToFloat64(w.m.metrics.overdue) != 1 || testutil.ToFloat64(w.m.metrics.trouble.WithLabelValues("unreachable")) != 1 {
		t.Errorf("after a day the status is %+v", st)
	}
	w.end.set(func(e *endpoint) { e.cut = false })
	w.settle()
	w.check()
	if a := w.anchor(2); a.Size != w.log.size || a.Late != TroubleUnreachable || a.BlockTime.Sub(a.DueAt) < 22*time.Hour {
		t.Errorf("the anchor after the day is %+v, the log has %d entries", a, w.log.size)
	}
	if st := w.status(); st.Overdue || st.Last.Seq != 2 || testutil.ToFloat64(w.m.metrics.overdue) != 0 {
		t.Errorf("afterwards the status is %+v", st)
	}
}

// No hub ran for a day: that is why the next anchor is late.
func TestHubDownForADay(t *testing.T) {
	w := settled(t)
	w.log.grow(5)
	w.m = w.machine()
	w.run(24 * time.Hour)
	w.settle()
	if a := w.anchor(2); a.Late != TroubleDown {
		t.Errorf("the anchor is late because of %q", a.Late)
	}
}

// The endpoint takes the transaction and dies before it says so. It is not sent as another one.
func TestAnswerLostAfterSending(t *testing.T) {
	w := freshWorld(t)
	w.log.grow(10)
	w.end.set(func(e *endpoint) { e.lose = 1 })
	w.run(10 * time.Second)
	w.settle()
	w.check()
	if txs := w.txs(1); len(txs) != 1 || txs[0].state != txMined {
		t.Errorf("the anchor has the transactions %+v", txs)
	}
}

// An endpoint that invents a receipt gets an anchor as far as a block, never to finality: that is shown by the contract's event.
func TestAnInventedReceiptIsNotFinal(t *testing.T) {
	w := freshWorld(t)
	w.log.grow(10)
	w.run(10 * time.Second)
	hash := w.txs(1)[0].hash
	w.anvil.DropPool(common.Hash(hash).Hex())
	w.mine(3)
	var b struct{ Number, Hash string }
	w.anvil.Call(&b, "eth_getBlockByNumber", "latest", false)
	receipt, err := json.Marshal(map[string]any{
		"transactionHash": common.Hash(hash).Hex(), "transactionIndex": "0x0", "blockHash": b.Hash, "blockNumber": b.Number, "from": w.address().Hex(), "to": w.contract.Hex(),
		"cumulativeGasUsed": "0x9000", "gasUsed": "0x9000", "effectiveGasPrice": "0x1", "contractAddress": nil, "logs": []any{}, "logsBloom": "0x" + strings.Repeat("00", 256),
		"type": "0x2", "status": "0x1",
	})
	if err != nil {
		t.Fatal(err)
	}
	w.end.set(func(e *endpoint) {
		e.answer = func(m string, _, out []byte) []byte {
			if m == "eth_getTransactionReceipt" {
				return bytes.Replace(out, []byte(`"result":null`), append([]byte(`"result":`), receipt...), 1)
			}
			return out
		}
	})
	for range 5 {
		w.run(10 * time.Second)
		w.mine(2)
	}
	if a := w.anchor(1); a.State == Finalized || w.status().Code == "" {
		t.Errorf("the anchor is %s on the word of a receipt alone, the status is %q", a.State, w.status().Code)
	}
	w.end.set(func(e *endpoint) { e.answer = nil })
	w.settle()
	w.check()
}

// An endpoint of another chain, and an address without the contract: both are told, and end with their cause.
func TestWrongChainAndWrongContract(t *testing.T) {
	w := freshWorld(t)
	w.log.grow(10)
	w.end.set(func(e *endpoint) {
		e.answer = func(m string, _, out []byte) []byte {
			if m == "eth_chainId" {
				return bytes.Replace(out, []byte("0x7a69"), []byte("0x1"), 1)
			}
			return out
		}
	})
	w.m = w.machine()
	w.run(10 * time.Second)
	w.want(TroubleWrongChain, "31337", "BLOCKCHAIN_CHAIN_ID")
	w.end.set(func(e *endpoint) {
		e.answer = func(m string, body, out []byte) []byte {
			if m == "eth_getCode" {
				var reply map[string]any
				if json.Unmarshal(out, &reply) == nil {
					reply["result"] = "0x"
					out, _ = json.Marshal(reply)
				}
			}
			return out
		}
	})
	w.m = w.machine()
	w.run(10 * time.Second)
	w.want(TroubleWrongContract, "BLOCKCHAIN_CONTRACT", "anchor deploy")
	if st := w.status(); st.Newest != nil {
		t.Errorf("something was built meanwhile: %+v", st.Newest)
	}
	w.end.set(func(e *endpoint) { e.answer = nil })
	w.settle()
	w.check()
}

// Gas above the ceiling: wait, and take the newest checkpoint once it is cheap again.
func TestFeeSpike(t *testing.T) {
	w := settled(t)
	w.now = w.now.Add(time.Hour)
	for range 8 {
		w.log.grow(10)
		w.anvil.BaseFee(200 * gwei)
		w.mine(1)
		w.run(time.Hour)
		w.want(TroubleFee, "BLOCKCHAIN_MAX_FEE_GWEI", "wei")
	}
	if a := w.anchor(2); a.State != Built || len(w.txs(2)) != 0 || !w.status().Overdue {
		t.Errorf("above the ceiling the anchor is %s with %d transactions", a.State, len(w.txs(2)))
	}
	w.anvil.BaseFee(gwei)
	w.mine(1)
	w.settle()
	w.check()
	if a := w.anchor(2); a.Size != w.log.size || a.Late != TroubleFee {
		t.Errorf("afterwards the anchor is %+v, the log has %d entries", a, w.log.size)
	}
}

// An account without money: the status names it, and it goes on when it is funded.
func TestOutOfFunds(t *testing.T) {
	w := freshWorld(t)
	w.anvil.Fund(w.address().Hex(), 0)
	w.log.grow(10)
	for range 3 {
		w.run(time.Minute)
	}
	w.want(TroubleFunds, strings.ToLower(w.address().Hex()), "31337", "ETH")
	w.anvil.Fund(w.address().Hex(), 1_000_000_000*gwei)
	w.settle()
	w.check()
	if txs := w.txs(1); len(txs) != 1 {
		t.Errorf("%d transactions were made", len(txs))
	}
}

// A transaction that no block takes because fees have risen is replaced, each time by an eighth at least, up to the ceiling.
func TestStuckTransactionIsReplaced(t *testing.T) {
	w := freshWorld(t)
	w.log.grow(10)
	w.run(10 * time.Second)
	first := w.txs(1)[0]
	w.anvil.BaseFee(uint64(first.maxFee) + 10*gwei) // as the next block's
	for range 40 {
		w.run(10 * time.Second)
	}
	txs := w.txs(1)
	if len(txs) < 2 || txs[0].nonce != first.nonce || txs[0].maxFee < first.maxFee*9/8 || txs[len(txs)-1].state != txReplaced {
		t.Errorf("after %s the transactions are %+v", 400*time.Second, txs)
	}
	w.checkFees()
	for range 3 { // the fee of a block falls by an eighth
		w.mine(1)
		w.run(time.Minute)
	}
	w.settle()
	w.check()
}

// A transaction that waits for ever is not replaced for ever.
func TestReplacementsEnd(t *testing.T) {
	w := freshWorld(t)
	w.log.grow(10)
	for range 200 {
		w.run(time.Minute)
	}
	if txs := w.txs(1); len(txs) > maxReplacements+1 || txs[0].maxFee > maxFee {
		t.Errorf("%d transactions, the last at %d", len(txs), txs[0].maxFee)
	}
	w.want(TroubleStuck, "nonce 0")
	w.settle()
	w.check()
}

// The node has forgotten the transaction: the same bytes are sent again.
func TestDroppedTransactionIsSentAgain(t *testing.T) {
	w := freshWorld(t)
	w.log.grow(10)
	w.run(10 * time.Second)
	hash := w.txs(1)[0].hash
	w.anvil.DropPool(common.Hash(hash).Hex())
	w.mine(1)
	w.run(time.Minute)
	w.settle()
	w.check()
	if a := w.anchor(1); a.TxHash != hash || len(w.txs(1)) != 1 {
		t.Errorf("the anchor came with %x, sent was %x", a.TxHash, hash)
	}
}

// spend uses a nonce of the account for something else.
func (w *world) spend(mine bool) {
	w.t.Helper()
	w.anvil.Call(nil, "anvil_impersonateAccount", w.address().Hex())
	w.anvil.Call(nil, "eth_sendTransaction", map[string]any{"from": w.address().Hex(), "to": admin, "value": "0x1", "gas": "0x5208", "maxFeePerGas": "0x2540be40000", "maxPriorityFeePerGas": "0x2540be400"})
	w.anvil.Call(nil, "anvil_stopImpersonatingAccount", w.address().Hex())
	if mine {
		w.anvil.Mine(1)
	}
}

// Someone has used the hub's key: the nonce that was signed for goes to another transaction.
func TestNonceTakenBySomeoneElse(t *testing.T) {
	w := freshWorld(t)
	w.log.grow(10)
	w.m.at = func(_ context.Context, where string) error {
		if where == "send" {
			return errKilled
		}
		return nil
	}
	if err := w.m.Run(t.Context()); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	w.spend(true)
	w.m = w.machine()
	w.settle()
	w.check()
	if txs := w.txs(1); len(txs) != 2 || txs[1].state != txVoid || txs[0].nonce != 1 {
		t.Errorf("the transactions are %+v", txs)
	}
}

// The transactions before it are lost in a reorganisation: the anchor itself fills the gap.
func TestNonceGap(t *testing.T) {
	w := freshWorld(t)
	w.spend(true)
	w.log.grow(10)
	w.run(10 * time.Second)
	if txs := w.txs(1); txs[0].nonce != 1 {
		t.Fatalf("the nonce is %d", txs[0].nonce)
	}
	w.anvil.Reorg(3)
	w.run(10 * time.Second)
	w.mine(1)
	w.settle()
	w.log.grow(1)
	w.settle()
	w.check()
}

// Reorganisations of 1 and 10 blocks take the anchor back to nowhere, and it comes again with the same bytes.
func TestReorganisationsAreRepaired(t *testing.T) {
	w := freshWorld(t)
	for i, depth := range []int{1, 10} {
		w.log.grow(10)
		w.now = w.now.Add(time.Hour)
		w.run(10 * time.Second)
		seq := uint64(i + 1)
		w.mine(1)
		w.run(10 * time.Second)
		was := w.anchor(seq)
		if was.State != Mined {
			t.Fatalf("the anchor is %s", was.State)
		}
		w.anvil.Reorg(depth)
		w.end.set(func(e *endpoint) { e.lose = 1 })
		w.run(10 * time.Second)
		if a := w.anchor(seq); a.State != Orphaned || a.TxHash != ([32]byte{}) {
			t.Errorf("after a reorganisation of %d the anchor is %+v", depth, a)
		}
		if _, ok, _ := w.store().Covering(t.Context(), was.Size-1); ok {
			t.Error("an orphaned anchor covers an entry")
		}
		w.settle()
		if a := w.anchor(seq); a.TxHash != was.TxHash || a.BlockHash == was.BlockHash || a.Vanished != 0 {
			t.Errorf("it came again as %+v, and was %+v", a, was)
		}
	}
	w.check()
}

// Seventy blocks go, and with them two anchors that were final: an alarm, no proof over them, and they are anchored again.
func TestFinalAnchorsVanish(t *testing.T) {
	w := settled(t)
	w.log.grow(10)
	w.now = w.now.Add(time.Hour)
	w.settle()
	one, two := w.anchor(1), w.anchor(2)
	w.anvil.Reorg(70)
	w.end.set(func(e *endpoint) { e.lose = 1 })
	w.run(time.Minute) // while nothing is due the chain is asked once a minute
	if a, b := w.anchor(1), w.anchor(2); a.State != Vanished || b.State != Vanished || a.VanishedAt.IsZero() || w.status().Vanished != 2 {
		t.Errorf("after it the anchors are %s and %s, the status is %+v", a.State, b.State, w.status())
	}
	for i := range uint64(20) {
		if _, ok, _ := w.store().Covering(t.Context(), i); ok {
			t.Fatalf("entry %d is covered by an anchor that is gone", i)
		}
	}
	if n := testutil.ToFloat64(w.m.metrics.events.WithLabelValues(eventVanished)); n != 2 {
		t.Errorf("%v alarms", n)
	}
	w.run(10 * time.Second)
	w.want(TroubleVanished, "anchor 1", "suspended")
	w.settle()
	w.check()
	a, b := w.anchor(1), w.anchor(2)
	if a.TxHash != one.TxHash || b.TxHash != two.TxHash || a.Vanished != 1 || b.Vanished != 1 || a.BlockHash == one.BlockHash {
		t.Errorf("they came again as %+v and %+v", a, b)
	}
	// Again, and this time the nonce goes to something else: new bytes for the same checkpoint.
	w.anvil.Reorg(70)
	w.spend(true)
	w.settle()
	w.check()
	if a := w.anchor(1); a.TxHash == one.TxHash || a.Size != one.Size || a.Vanished != 2 {
		t.Errorf("with another nonce the anchor is %+v", a)
	}
}

// The key has lost its role: nothing is spent on what would be refused. A transaction that was on its way is, and that is not tried again and again. Both come
// back by themselves.
func TestContractRefuses(t *testing.T) {
	w := settled(t)
	w.log.grow(10)
	w.run(time.Hour)
	w.revokeFirst(2)
	for range 50 {
		w.run(time.Minute)
		w.mine(1)
	}
	if a := w.anchor(2); a.State != Failed || len(w.txs(2)) != 1 {
		t.Errorf("the anchor is %s\n%s", a.State, w.rows())
	}
	w.want(TroubleReverted, "anchor verify", strings.ToLower(w.address().Hex()))
	for range 50 {
		w.run(10 * time.Minute)
		w.mine(1)
	}
	if n := len(w.txs(2)); n != 1 {
		t.Errorf("%d transactions were made for a contract that refuses them", n)
	}
	w.want(TroubleReverted, "anchor verify")
	w.grant(w.address(), true)
	w.settle()
	w.check()
	if a := w.anchor(2); a.Late != TroubleReverted {
		t.Errorf("the anchor is late because of %q", a.Late)
	}
}

// The database is put back to an earlier moment, and the log with it: nothing is anchored until the log has read back its entries; then the anchors are read
// back from the chain.
func TestDatabaseRestored(t *testing.T) {
	w := settled(t)
	r := &seeded{world: w, did: map[string]int{}}
	r.backup = r.save()
	for range 3 {
		w.log.grow(10)
		w.now = w.now.Add(time.Hour)
		w.settle()
	}
	r.restore()
	w.log.size, w.log.behind = 12, true
	for range 3 {
		w.run(time.Hour)
	}
	w.want(TroubleAhead, "anchor 4", "40 entries", "older than the chain")
	if st := w.status(); st.Newest.Seq != 1 {
		t.Errorf("meanwhile the newest anchor is %+v", st.Newest)
	}
	w.log.size, w.log.behind = 45, false
	w.settle()
	w.check()
	if a := w.anchor(3); !a.Adopted || a.Size != 30 {
		t.Errorf("anchor 3 was read back as %+v", a)
	}
	if c, ok, err := w.store().Covering(t.Context(), 25); err != nil || !ok || c.Seq != 3 || string(c.Checkpoint) != "checkpoint of 30" {
		t.Errorf("entry 25 is covered by %+v, %t, %v", c, ok, err)
	}
}

// An anchor is read back with another checkpoint than this hub has signed; its block is lost, and then the hub's own old bytes come into one after all. The row says
// what the chain says.
func TestOldBytesComeBack(t *testing.T) {
	w := freshWorld(t)
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	other := *w
	other.key, other.pool = key, newPool(t)
	w.grant(other.address(), true)
	w.anvil.Fund(other.address().Hex(), 1_000_000_000*gwei)
	other.m = other.machine()
	w.log.grow(10)
	w.run(10 * time.Second)
	old := w.txs(1)[0]
	w.anvil.DropPool(common.Hash(old.hash).Hex())
	w.log.grow(10)
	other.now = w.now
	other.run(time.Second)
	w.mine(1)
	w.run(time.Second)
	if a := w.anchor(1); a.State != Mined || !a.Adopted || a.Size != 20 {
		t.Fatalf("read back it is %+v", a)
	}
	w.anvil.Reorg(1)
	w.anvil.Call(nil, "eth_sendRawTransaction", "0x"+hex.EncodeToString(old.raw))
	w.mine(1)
	w.settle()
	w.check()
	if a := w.anchor(1); a.Size != 10 || a.TxHash != old.hash {
		t.Errorf("the anchor is %+v", a)
	}
}

// A contract in which another log is anchored.
func TestForeignContract(t *testing.T) {
	w := settled(t)
	b := *w
	b.log, b.pool = &testLog{salt: 2}, newPool(t)
	b.log.grow(10)
	b.m = b.machine()
	b.run(10 * time.Second)
	b.want(TroubleForeign, "anchor 1", "anchor deploy")
	if st := b.status(); st.Newest != nil {
		t.Errorf("something was built: %+v", st.Newest)
	}
}

// A log that halts, and one whose entries were changed, are not anchored.
func TestLogThatMustNotBeAnchored(t *testing.T) {
	w := settled(t)
	w.log.grow(10)
	w.log.behind = true
	w.run(2 * time.Hour)
	w.want(TroubleLogBehind, "log checkpoint")
	w.log.behind = false
	w.log.salt = 9
	w.run(time.Minute)
	w.want(TroubleLogFork, "anchor 1", "log fsck")
	if st := w.status(); st.Newest.Seq != 1 {
		t.Errorf("meanwhile the newest anchor is %+v", st.Newest)
	}
	w.log.salt = 1
	w.settle()
	w.check()
}

// An anchor that was built before the log halted is not signed until it goes on.
func TestABuiltAnchorWaitsForAHaltedLog(t *testing.T) {
	w := settled(t)
	w.log.grow(10)
	w.now = w.now.Add(2 * time.Hour)
	w.m.at = func(_ context.Context, where string) error {
		if where == "built" {
			return errKilled
		}
		return nil
	}
	if err := w.m.Run(t.Context()); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	w.m = w.machine()
	w.log.behind = true
	w.run(time.Minute)
	w.want(TroubleLogBehind, "log checkpoint")
	if a := w.anchor(2); a.State != Built || len(w.txs(2)) != 0 {
		t.Errorf("meanwhile anchor 2 is %v, with %d transactions", a.State, len(w.txs(2)))
	}
	w.log.behind = false
	w.settle()
	w.check()
}
