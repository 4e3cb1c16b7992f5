package anchor

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
)

// Fee is what a transaction offers, in wei for a unit of gas: to the maker of the block, and in all.
type Fee struct {
	Tip, Max *big.Int
	Gas      uint64 // units of gas that it may use at most; what is not used is not paid. 0 means what an anchor of its number usually takes, and the headroom
}

// Limits are what anchoring may cost. Zero values limit nothing.
type Limits struct {
	MaxFee   *big.Int // wei for a unit of gas
	DayUSD   int64    // 10^-6 USD a day
	EtherUSD int64    // 10^-6 USD: what one ETH costs, by the operator's word; needed with DayUSD
	PerDay   int64    // anchors a day; needed with DayUSD
}

// On reports whether there is any limit.
func (l Limits) On() bool { return l.MaxFee != nil || l.DayUSD > 0 }

var ether = new(big.Int).Exp(big.NewInt(10), big.NewInt(18), nil)

// Gas that anchors take, by the test that asserts it: the first one writes where nothing was, every other one takes less. No anchor may use more than mostGas.
const (
	firstGas  = 75_000
	steadyGas = 40_000
	mostGas   = 150_000
)

// usualGas is what the anchor of a number takes at most, as the contract is.
func usualGas(seq uint64) uint64 {
	if seq <= 1 {
		return firstGas
	}
	return steadyGas
}

// withHeadroom is how much gas a transaction is given that was estimated to take so much: a quarter more.
func withHeadroom(gas uint64) uint64 { return min(gas+gas/4, mostGas) }

// Gas is how much gas the transaction of a call is given: what endpoints estimate, of several answers the highest, but not less than such an anchor usually takes,
// and a quarter more. Where they cannot tell, as for a call that the contract would refuse, it is by what is usual alone.
func (c *Chain) Gas(ctx context.Context, call Call) (uint64, error) {
	from := c.From()
	answers, err := ask(ctx, c, func(ctx context.Context, n *node) (gas quantity, err error) {
		return gas, n.call(ctx, &gas, "eth_estimateGas", map[string]any{"from": hexOf(from[:]), "to": hexOf(c.c.Contract[:]), "data": hexOf(c.pack(call))})
	})
	if err != nil {
		return 0, err
	}
	most := usualGas(call.Seq)
	for _, a := range answers {
		if a.err == nil {
			most = max(most, min(uint64(a.v), mostGas))
		}
	}
	return withHeadroom(most), nil
}

// ceiling is the most that a unit of gas may cost, when an anchor is given so much of it and costs l1 wei besides; nil: no limit. It is 0 where l1 alone is too much.
func (l Limits) ceiling(l1 *big.Int, gas uint64) *big.Int {
	most := l.MaxFee
	if l.DayUSD > 0 && l.EtherUSD > 0 && l.PerDay > 0 {
		// one anchor's share of the day, in wei, rounded down
		one := new(big.Int).Mul(big.NewInt(l.DayUSD), ether)
		one.Quo(one, big.NewInt(l.EtherUSD)).Quo(one, big.NewInt(l.PerDay))
		one.Sub(one, l1)
		if one.Sign() < 0 {
			one.SetInt64(0)
		}
		if one.Quo(one, new(big.Int).SetUint64(max(gas, 1))); most == nil || one.Cmp(most) < 0 {
			most = one
		}
	}
	return most
}

// Ceiling is the most wei that a unit of gas may cost now by the limits, when an anchor is given so much of it, as if it used it all; nil: no limit. On chains on
// top of another one, what their transactions cost there is taken from the day's allowance first.
func (c *Chain) Ceiling(ctx context.Context, gas uint64) (*big.Int, error) {
	l1 := new(big.Int)
	if c.c.Limits.DayUSD > 0 {
		var err error
		if l1, err = c.L1Fee(ctx); err != nil {
			return nil, err
		}
	}
	return c.c.Limits.ceiling(l1, gas), nil
}

// Fees suggests a fee for a transaction that is given so much gas: the tip that endpoints suggest, and twice the present base fee, so that the transaction stays good for some six full blocks. Of several
// answers the middle one counts, of two the higher. Where twice the base fee would break the limits and once does not, it is as much as they allow.
func (c *Chain) Fees(ctx context.Context, gas uint64) (Fee, error) {
	tip, base, err := c.gasPrice(ctx)
	if err != nil {
		return Fee{}, err
	}
	now := new(big.Int).Add(base, tip)
	fee := Fee{Tip: tip, Max: new(big.Int).Add(now, base), Gas: gas}
	if c.c.Limits.On() {
		most, err := c.Ceiling(ctx, gas)
		if err != nil {
			return Fee{}, err
		}
		if most != nil && fee.Max.Cmp(most) > 0 {
			if fee.Max.Set(most); now.Cmp(most) > 0 {
				fee.Max.Set(now) // above: who asks sees it and waits
			}
		}
	}
	return fee, nil
}

func (c *Chain) gasPrice(ctx context.Context) (tip, base *big.Int, err error) {
	type price struct{ tip, base *big.Int }
	answers, err := ask(ctx, c, func(ctx context.Context, n *node) (price, error) {
		var head *struct {
			BaseFee amount `json:"baseFeePerGas"`
		}
		if err := n.call(ctx, &head, "eth_getBlockByNumber", "latest", false); err != nil {
			return price{}, err
		}
		if head == nil || head.BaseFee.Int == nil {
			return price{}, &answerError{message: "the chain's blocks have no base fee (EIP-1559)"}
		}
		var tip amount
		if err := n.call(ctx, &tip, "eth_maxPriorityFeePerGas"); err != nil {
			var refused *answerError
			if !errors.As(err, &refused) {
				return price{}, err
			}
			tip.Int = new(big.Int) // it has no suggestion
		}
		if tip.Sign() == 0 {
			tip.Int = big.NewInt(1) // a replacement must be higher, and an eighth of nothing is nothing
		}
		return price{tip.Int, head.BaseFee.Int}, nil
	})
	if err != nil {
		return nil, nil, err
	}
	var tips, bases []*big.Int
	var errs []error
	for _, a := range answers {
		if a.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", a.node.name, a.err))
			continue
		}
		tips, bases = append(tips, a.v.tip), append(bases, a.v.base)
	}
	if len(tips) == 0 {
		return nil, nil, fmt.Errorf("%w what gas costs: %w", ErrUnreachable, errors.Join(errs...))
	}
	middle := func(list []*big.Int) *big.Int {
		slices.SortFunc(list, (*big.Int).Cmp)
		return new(big.Int).Set(list[len(list)/2])
	}
	return middle(tips), middle(bases), nil
}

// Replacement is the least fee that takes the place of one offered before, and not less than the one wanted now. Nodes ask for 10 %, some for 12.5 %: both
// parts are an eighth higher, rounded up.
func Replacement(offered, want Fee) Fee {
	more := func(was, want *big.Int) *big.Int {
		v := new(big.Int).Mul(was, big.NewInt(9))
		v.Add(v, big.NewInt(7)).Rsh(v, 3)
		if v.Cmp(was) == 0 {
			v.Add(v, big.NewInt(1))
		}
		if v.Cmp(want) < 0 {
			v.Set(want)
		}
		return v
	}
	return Fee{Tip: more(offered.Tip, want.Tip), Max: more(offered.Max, want.Max), Gas: want.Gas}
}

// gasPriceOracle is where chains of the OP stack say what a transaction costs on the chain below.
var gasPriceOracle = [20]byte{0: 0x42, 19: 0x0f}

// L1Fee is what an anchor costs on the chain below, in wei, besides its gas; zero where there is none.
func (c *Chain) L1Fee(ctx context.Context) (*big.Int, error) {
	c.mu.Lock()
	oracle := c.oracle
	c.mu.Unlock()
	if !oracle.known {
		code, err := agreed(ctx, c, func(ctx context.Context, n *node) (string, error) {
			var code octets
			err := n.call(ctx, &code, "eth_getCode", hexOf(gasPriceOracle[:]), "latest")
			return string(code), err
		})
		if err != nil {
			return nil, err
		}
		oracle.known, oracle.there = true, code != ""
		c.mu.Lock()
		c.oracle = oracle
		c.mu.Unlock()
	}
	if !oracle.there {
		return new(big.Int), nil
	}
	kind, err := abi.NewType("bytes", "", nil)
	if err != nil {
		return nil, err
	}
	// The oracle looks at the bytes of a transaction without its signature, and reckons that in. What counts is their number and how many are zero.
	example := make([]byte, 5*32+4+100)
	for i := range example {
		example[i] = byte(i | 1)
	}
	args, err := (abi.Arguments{{Type: kind}}).Pack(example)
	if err != nil {
		return nil, err
	}
	data := append(crypto.Keccak256([]byte("getL1Fee(bytes)"))[:4], args...)
	answers, err := ask(ctx, c, func(ctx context.Context, n *node) (*big.Int, error) {
		var out octets
		if err := n.call(ctx, &out, "eth_call", map[string]any{"to": hexOf(gasPriceOracle[:]), "data": hexOf(data)}, "latest"); err != nil {
			return nil, err
		}
		if len(out) != common.HashLength {
			return nil, &answerError{message: "the oracle of the fee on the chain below answers in another form"}
		}
		return new(big.Int).SetBytes(out), nil
	})
	var most *big.Int // it changes with every block of the chain below: two need not agree
	for _, a := range answers {
		if a.err == nil && (most == nil || a.v.Cmp(most) > 0) {
			most = a.v
		}
	}
	if most == nil {
		return nil, errors.Join(ErrUnreachable, err)
	}
	return most, nil
}
