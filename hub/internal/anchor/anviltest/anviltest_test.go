package anviltest

import (
	"strconv"
	"testing"
)

func TestChainGoesForwardAndBack(t *testing.T) {
	t.Parallel()
	c := Start(t, Options{})
	c.Fund("0x00000000000000000000000000000000000000aa", 7)
	c.Mine(10)
	numbers := func() (latest, safe, finalized uint64) {
		for tag, n := range map[string]*uint64{"latest": &latest, "safe": &safe, "finalized": &finalized} {
			var b struct{ Number string }
			c.Call(&b, "eth_getBlockByNumber", tag, false)
			*n, _ = strconv.ParseUint(b.Number, 0, 64)
		}
		return latest, safe, finalized
	}
	if latest, safe, finalized := numbers(); latest != 10 || safe != 9 || finalized != 8 {
		t.Errorf("latest %d, safe %d, finalized %d", latest, safe, finalized)
	}
	hash := func(n int) string {
		var b struct{ Hash string }
		c.Call(&b, "eth_getBlockByNumber", "0x"+strconv.FormatInt(int64(n), 16), false)
		return b.Hash
	}
	seven, eight := hash(7), hash(8)
	c.Reorg(3)
	if c.Height() != 10 || hash(7) != seven || hash(8) == eight {
		t.Errorf("after a reorg of 3 the height is %d, block 7 was %s and is %s, block 8 was %s and is %s", c.Height(), seven, hash(7), eight, hash(8))
	}
	snapshot := c.Snapshot()
	c.Mine(5)
	c.Revert(snapshot)
	var balance string
	c.Call(&balance, "eth_getBalance", "0x00000000000000000000000000000000000000aa", "latest")
	if c.Height() != 10 || balance != "0x7" {
		t.Errorf("after going back the height is %d, the balance %s", c.Height(), balance)
	}
	c.Stop()
	if err := c.Try(nil, "eth_blockNumber"); err == nil {
		t.Error("a chain that was stopped answers")
	}
}
