package anchor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/hashinsight/hashinsight/pkg/proof"
)

// Receipt asks what became of a transaction. Where endpoints have not got equally far they disagree, which passes.
func (c *Chain) Receipt(ctx context.Context, hash [32]byte) (Receipt, error) {
	type receipt struct { // comparable
		found, ok bool
		block     uint64
		blockHash [32]byte
		time      int64
		gas       uint64
		fee       string
		contract  [20]byte
	}
	r, err := agreed(ctx, c, func(ctx context.Context, n *node) (r receipt, err error) {
		var in *struct {
			Status            quantity `json:"status"`
			BlockNumber       quantity `json:"blockNumber"`
			BlockHash         word     `json:"blockHash"`
			GasUsed           quantity `json:"gasUsed"`
			EffectiveGasPrice amount   `json:"effectiveGasPrice"`
			L1Fee             amount   `json:"l1Fee"` // of chains on top of another one
			ContractAddress   *octets  `json:"contractAddress"`
		}
		if err := n.call(ctx, &in, "eth_getTransactionReceipt", hexOf(hash[:])); err != nil || in == nil {
			return r, err
		}
		b, err := n.block(ctx, hexNumber64(uint64(in.BlockNumber)))
		if err != nil {
			return r, err
		}
		if b.Hash != in.BlockHash { // between the two questions the chain changed its mind
			return receipt{}, nil
		}
		fee := new(big.Int)
		if in.EffectiveGasPrice.Int != nil {
			fee.Mul(in.EffectiveGasPrice.Int, new(big.Int).SetUint64(uint64(in.GasUsed)))
		}
		if in.L1Fee.Int != nil {
			fee.Add(fee, in.L1Fee.Int)
		}
		r = receipt{true, in.Status == 1, uint64(in.BlockNumber), in.BlockHash, b.Time, uint64(in.GasUsed), fee.String(), [20]byte{}}
		if in.ContractAddress != nil && len(*in.ContractAddress) == len(r.contract) {
			r.contract = [20]byte(*in.ContractAddress)
		}
		return r, nil
	})
	if err != nil || !r.found {
		return Receipt{}, err
	}
	fee, _ := new(big.Int).SetString(r.fee, 10) // written above
	return Receipt{Found: true, OK: r.ok, Block: r.block, BlockHash: r.blockHash, Time: r.time, GasUsed: r.gas, Fee: fee, Contract: r.contract}, nil
}

// Sender asks whose a transaction is that is in a block.
func (c *Chain) Sender(ctx context.Context, tx [32]byte) ([20]byte, error) {
	return agreed(ctx, c, func(ctx context.Context, n *node) (from [20]byte, err error) {
		var in *struct {
			From octets `json:"from"`
		}
		if err := n.call(ctx, &in, "eth_getTransactionByHash", hexOf(tx[:])); err != nil {
			return from, err
		}
		if in == nil || len(in.From) != len(from) {
			return from, &answerError{message: "the transaction is not there"}
		}
		return [20]byte(in.From), nil
	})
}

// errNoBlock is a node's answer that it does not have a block.
var errNoBlock = &answerError{message: "the block is not there"}

// block asks for a block by its number, or by the words latest, safe and finalized.
func (n *node) block(ctx context.Context, which string) (Block, error) {
	var in *struct {
		Number    quantity `json:"number"`
		Hash      word     `json:"hash"`
		Timestamp quantity `json:"timestamp"`
	}
	if err := n.call(ctx, &in, "eth_getBlockByNumber", which, false); err != nil {
		return Block{}, err
	}
	if in == nil {
		return Block{}, errNoBlock
	}
	return Block{Number: uint64(in.Number), Hash: in.Hash, Time: int64(in.Timestamp & (1<<62 - 1))}, nil
}

// Blocks asks how far the chain is: the highest block that as many endpoints as must agree have got to.
func (c *Chain) Blocks(ctx context.Context) (b Blocks, err error) {
	answers, err := ask(ctx, c, func(ctx context.Context, n *node) (b Blocks, err error) {
		if b.Latest, err = n.block(ctx, "latest"); err != nil {
			return b, err
		}
		if b.Safe, err = n.block(ctx, "safe"); err == nil {
			b.Finalized, err = n.block(ctx, "finalized")
		}
		var refused *answerError
		if errors.As(err, &refused) {
			err = fmt.Errorf("%w: %w", ErrNoFinality, err)
		}
		return b, err
	})
	if err != nil {
		return b, err
	}
	for _, part := range []struct {
		of func(*Blocks) *Block
	}{
		{func(b *Blocks) *Block { return &b.Latest }}, {func(b *Blocks) *Block { return &b.Safe }}, {func(b *Blocks) *Block { return &b.Finalized }},
	} {
		var list []Block
		var errs []error
		for i := range answers {
			if answers[i].err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", answers[i].node.name, answers[i].err))
				continue
			}
			list = append(list, *part.of(&answers[i].v))
		}
		if len(list) < c.need {
			return b, fmt.Errorf("%w that can say which blocks are safe and final: %w", ErrUnreachable, errors.Join(errs...))
		}
		slices.SortFunc(list, func(a, b Block) int {
			switch {
			case a.Number > b.Number:
				return -1
			case a.Number < b.Number:
				return 1
			}
			return 0
		})
		*part.of(&b) = list[c.need-1]
	}
	if c.need == 1 {
		return b, nil
	}
	// The numbers are two endpoints' word, the hashes of those blocks are asked for once more.
	for _, at := range []*Block{&b.Finalized, &b.Safe} {
		if *at, err = c.blockAt(ctx, at.Number); err != nil {
			return b, err
		}
	}
	return b, nil
}

func (c *Chain) blockAt(ctx context.Context, number uint64) (Block, error) {
	return agreed(ctx, c, func(ctx context.Context, n *node) (Block, error) { return n.block(ctx, hexNumber64(number)) })
}

// Canonical reports whether the block of a number has this hash. That an endpoint does not have the block is no answer: it has not got so far as another one
// behind the same name, or keeps no old blocks.
func (c *Chain) Canonical(ctx context.Context, number uint64, hash [32]byte) (bool, error) {
	return agreed(ctx, c, func(ctx context.Context, n *node) (bool, error) {
		b, err := n.block(ctx, hexNumber64(number))
		return err == nil && b.Hash == hash, err
	})
}

// Nonce asks for the account's next nonce: after what is in blocks, and after what waits too. Of several answers the highest counts for what is in blocks.
func (c *Chain) Nonce(ctx context.Context) (latest, pending uint64, err error) {
	from := c.From()
	answers, err := ask(ctx, c, func(ctx context.Context, n *node) (v [2]quantity, err error) {
		if err := n.call(ctx, &v[0], "eth_getTransactionCount", hexOf(from[:]), "latest"); err != nil {
			return v, err
		}
		return v, n.call(ctx, &v[1], "eth_getTransactionCount", hexOf(from[:]), "pending")
	})
	if err != nil {
		return 0, 0, err
	}
	var list []uint64
	var errs []error
	for _, a := range answers {
		if a.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", a.node.name, a.err))
			continue
		}
		list = append(list, uint64(a.v[0]))
		pending = max(pending, uint64(a.v[1]))
	}
	if len(list) < c.need {
		return 0, 0, fmt.Errorf("%w: %w", ErrUnreachable, errors.Join(errs...))
	}
	slices.Sort(list)
	latest = list[len(list)-c.need] // as many as must agree say that it is at least this
	return latest, max(pending, latest), nil
}

// Balance is what the account has, in wei: the lowest of the answers.
func (c *Chain) Balance(ctx context.Context, account [20]byte) (*big.Int, error) {
	answers, err := ask(ctx, c, func(ctx context.Context, n *node) (v amount, err error) {
		return v, n.call(ctx, &v, "eth_getBalance", hexOf(account[:]), "latest")
	})
	var low *big.Int
	for _, a := range answers {
		if a.err == nil && a.v.Int != nil && (low == nil || a.v.Cmp(low) < 0) {
			low = a.v.Int
		}
	}
	if low == nil {
		return nil, errors.Join(ErrUnreachable, err)
	}
	return low, nil
}

// Events lists the contract's anchors in a range of blocks, both ends included, in their order. The range has at most 100,000 blocks.
func (c *Chain) Events(ctx context.Context, from, to uint64) (list []Event, err error) {
	if to < from || to-from >= maxRange {
		return nil, fmt.Errorf("events of blocks %d to %d: want a range of at most %d", from, to, maxRange)
	}
	for at := from; at <= to; at += rangeChunk {
		part, err := c.events(ctx, at, min(at+rangeChunk-1, to))
		if err != nil {
			return nil, err
		}
		list = append(list, part...)
	}
	return list, nil
}

func (c *Chain) events(ctx context.Context, from, to uint64) ([]Event, error) {
	text, err := agreed(ctx, c, func(ctx context.Context, n *node) (string, error) {
		var logs []struct {
			Address     octets   `json:"address"`
			Topics      []word   `json:"topics"`
			Data        octets   `json:"data"`
			BlockNumber quantity `json:"blockNumber"`
			BlockHash   word     `json:"blockHash"`
			TxHash      word     `json:"transactionHash"`
			Removed     bool     `json:"removed"`
		}
		if err := n.call(ctx, &logs, "eth_getLogs", map[string]any{
			"fromBlock": hexNumber64(from), "toBlock": hexNumber64(to), "address": hexOf(c.c.Contract[:]), "topics": []string{hexOf(proof.HeadAnchoredTopic[:])},
		}); err != nil {
			return "", err
		}
		list := []Event{}
		times := map[uint64]Block{}
		for _, l := range logs {
			// What was not asked for is left out, whatever the endpoint gives.
			if l.Removed || !bytes.Equal(l.Address, c.c.Contract[:]) || len(l.Topics) != 2 || l.Topics[0] != proof.HeadAnchoredTopic || uint64(l.BlockNumber) < from || uint64(l.BlockNumber) > to {
				continue
			}
			e, err := c.abi.UnpackHeadAnchoredEvent(&types.Log{Topics: []common.Hash{common.Hash(l.Topics[0]), common.Hash(l.Topics[1])}, Data: l.Data})
			if err != nil {
				return "", fmt.Errorf("an event that cannot be read: %w", err)
			}
			b, ok := times[uint64(l.BlockNumber)]
			if !ok {
				if b, err = n.block(ctx, hexNumber64(uint64(l.BlockNumber))); err != nil {
					return "", err
				}
				times[b.Number] = b
			}
			if b.Hash != l.BlockHash {
				return "", errors.New("the chain changed its mind between two questions")
			}
			list = append(list, Event{
				Seq: e.Seq, Hour: e.Hour, Size: e.Size, PrevRoot: e.PrevRoot, Root: e.Root, Block: uint64(l.BlockNumber), BlockHash: l.BlockHash, TxHash: l.TxHash, Time: b.Time,
			})
		}
		slices.SortStableFunc(list, func(a, b Event) int {
			if a.Seq < b.Seq {
				return -1
			}
			return 1
		})
		text, err := json.Marshal(list)
		return string(text), err
	})
	if err != nil {
		return nil, err
	}
	var list []Event
	return list, json.Unmarshal([]byte(text), &list)
}

// Wait waits until a transaction is in a block, asking once in every.
func (c *Chain) Wait(ctx context.Context, hash [32]byte, every time.Duration) (Receipt, error) {
	for {
		r, err := c.Receipt(ctx, hash)
		if err == nil && r.Found {
			return r, nil
		}
		select {
		case <-ctx.Done():
			return Receipt{}, errors.Join(ctx.Err(), err)
		case <-time.After(every):
		}
	}
}
