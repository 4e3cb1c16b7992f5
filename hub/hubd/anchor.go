package hubd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"sync/atomic"
	"time"

	"github.com/hashinsight/hashinsight/hub/internal/anchor"
	"github.com/hashinsight/hashinsight/hub/internal/config"
	"github.com/hashinsight/hashinsight/pkg/backoff"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/lifecycle"
)

// Chain says on which chain, in which contract and with which key the log is anchored.
type Chain = config.Chain

// Deployed is a contract that was put on a chain.
type Deployed = anchor.Deployed

// errChain is all that is wrong with the settings of the chain, for one text.
func errChain(errs ...error) error {
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("the chain's settings: %w", err)
	}
	return nil
}

// limitsOf are what anchoring may cost.
func limitsOf(c *Chain) anchor.Limits {
	l := anchor.Limits{MaxFee: c.MaxFee, DayUSD: c.DayUSD, EtherUSD: c.EtherUSD}
	if c.Interval > 0 {
		l.PerDay = max(1, int64((24*time.Hour+c.Interval-1)/c.Interval))
	}
	return l
}

// signerOf opens the key of the account that anchors.
func signerOf(c *Chain) (anchor.Signer, error) {
	if c.Key != nil {
		return nil, c.Key
	}
	if c.Keystore != "" {
		s, err := anchor.OpenKeystore(c.Keystore, string(c.KeystorePassword))
		if err != nil {
			return nil, fmt.Errorf("BLOCKCHAIN_001: BLOCKCHAIN_KEYSTORE: %w", err)
		}
		return s, nil
	}
	s, err := anchor.ParseKey(string(c.PrivateKey))
	if err != nil {
		return nil, fmt.Errorf("BLOCKCHAIN_001: BLOCKCHAIN_PRIVATE_KEY %w", err)
	}
	return s, nil
}

// openChain opens the chain to ask it, and to anchor when sign is set. It asks nothing yet.
func openChain(c *Chain, sign bool, now func() time.Time, log *slog.Logger) (*anchor.Chain, error) {
	ac := anchor.ChainConfig{URLs: c.URLs, ID: c.ID, Limits: limitsOf(c), Now: now, Log: log}
	errs := append([]error{}, c.Problems...)
	if sign {
		var err error
		if ac.Signer, err = signerOf(c); err != nil {
			errs = append(errs, err)
		}
	}
	if c.Target == nil && c.Contract != "" {
		var err error
		if ac.Contract, err = anchor.ParseAddress(c.Contract); err != nil {
			errs = append(errs, fmt.Errorf("BLOCKCHAIN_CONTRACT: %w", err))
		}
	}
	if err := errChain(errs...); err != nil {
		return nil, err
	}
	return anchor.NewChain(ac)
}

// openAnchor opens the chain with all that anchoring needs.
func openAnchor(c *Chain, now func() time.Time, log *slog.Logger) (*anchor.Chain, error) {
	if c.Target != nil {
		_, err := signerOf(c)
		return nil, errChain(append(append([]error{}, c.Problems...), err, c.Target)...)
	}
	return openChain(c, true, now, log)
}

// openForJobs opens the chain for a process that anchors. What is wrong with its settings is logged, and stops anchoring and nothing else: then it returns nil,
// as it does where nothing is anchored.
func (h *Hub) openForJobs(ctx context.Context, stack *lifecycle.Stack) *anchor.Chain {
	if !h.c.Chain.On {
		return nil
	}
	chain, err := openAnchor(&h.c.Chain, h.c.Now, h.c.Log)
	if err != nil {
		h.c.Log.ErrorContext(ctx, "nothing is anchored: everything else works", "err", err)
		return nil
	}
	stack.Go("first look at the chain", 0, func(ctx context.Context) error {
		h.lookAt(ctx, chain)
		<-ctx.Done() // a part that ends, ends the hub
		return nil
	})
	return chain
}

// lookAt says in the log of a hub that starts what is wrong with its chain. The anchor's machine finds out for itself, each time.
func (h *Hub) lookAt(ctx context.Context, chain *anchor.Chain) {
	err := chain.Check(ctx)
	var may bool
	if err == nil {
		if may, err = chain.MayAnchor(ctx, chain.From()); err == nil && !may {
			err = anchor.ErrRole
		}
	}
	fields := []any{"network", h.c.Chain.Network, "chain_id", chain.ID(), "contract", anchor.AddressText(chain.Contract()), "account", anchor.AddressText(chain.From())}
	switch {
	case ctx.Err() != nil:
	case err != nil:
		h.c.Log.ErrorContext(ctx, "nothing can be anchored as the chain stands: everything else works", append(fields, "err", err)...)
	default:
		h.c.Log.InfoContext(ctx, "the log is anchored", fields...)
	}
}

// CheckChain returns all that is wrong with the settings of the chain; it asks no endpoint. Nil where nothing is anchored.
func CheckChain(c Chain) error {
	if !c.On {
		return errors.Join(c.Problems...)
	}
	_, err := openAnchor(&c, nil, nil)
	return err
}

// ContractOrder is what an operator orders to put on a chain.
type ContractOrder struct {
	Admin string // address that may say who anchors; kept cold
	Dev   bool   // the anchorer may be the admin too, which is for chains that mean nothing
}

// DeployContract puts a contract on the chain and waits until it is in a block. told hears of the transaction before it is sent.
func DeployContract(ctx context.Context, c Chain, o ContractOrder, log *slog.Logger, told func(tx [32]byte)) (d Deployed, err error) {
	c.Target, c.Contract = nil, "" // whatever was deployed before
	ch, err := openChain(&c, true, nil, log)
	if err != nil {
		return d, err
	}
	admin := ch.From()
	if o.Admin != "" {
		if admin, err = anchor.ParseAddress(o.Admin); err != nil {
			return d, fmt.Errorf("admin: %w", err)
		}
	}
	switch {
	case o.Admin == "" && !o.Dev:
		return d, errors.New("an admin is needed: an address whose key is kept cold, and which can replace the anchorer's when that is lost")
	case admin == ch.From() && !o.Dev:
		return d, errors.New("the admin is the anchorer: whoever gets the key of a running hub could then take the contract too; give the address of a key that is kept cold")
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	return ch.Deploy(ctx, admin, told)
}

// ChainState is how the chain and the contract stand.
type ChainState struct {
	Network   string
	ChainID   uint64
	Contract  string
	Account   string // that anchors and pays; empty without a key
	Admin     bool   // the account is the contract's admin too
	MayAnchor bool
	Balance   *big.Int       // wei; nil: not known
	Gas       uint64         // that the next anchor would be given; 0: not known
	Fee       *big.Int       // wei for a unit of gas that would be offered now; nil: not known
	Ceiling   *big.Int       // wei for a unit of gas; nil: no limit
	L1Fee     *big.Int       // wei on the chain below, for each anchor
	Head      *anchor.Head   // nil: not known; of zeros before the first
	Blocks    *anchor.Blocks // nil: not known
	Endpoints []anchor.EndpointStatus
	Agree     int     // endpoints that must agree; 1: one alone is believed
	Problems  []error // all that keeps this hub from anchoring
}

// Read says whether anything was read from the chain.
func (st *ChainState) Read() bool { return st.Blocks != nil }

// AskChain asks the chain how all stands. What is wrong is in the state's problems.
func AskChain(ctx context.Context, c Chain, log *slog.Logger) (st ChainState) {
	st = ChainState{Network: c.Network, ChainID: c.ID, Contract: c.Contract}
	ch, err := openAnchor(&c, nil, log)
	if err != nil {
		st.Problems = append(st.Problems, err)
		c.Key = nil
		if ch, err = openChain(&c, false, nil, log); err != nil {
			return st
		}
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	note := func(err error) bool {
		if err != nil {
			st.Problems = append(st.Problems, err)
		}
		return err == nil
	}
	if blocks, err := ch.Blocks(ctx); note(err) {
		st.Blocks = &blocks
	}
	if st.Blocks != nil && ch.Contract() != ([20]byte{}) && note(ch.Check(ctx)) {
		head, err := ch.Head(ctx)
		if note(err) {
			st.Head = &head
		}
		if from := ch.From(); from != ([20]byte{}) {
			st.Account = anchor.AddressText(from)
			if st.MayAnchor, err = ch.MayAnchor(ctx, from); note(err) && !st.MayAnchor {
				note(fmt.Errorf("%w: %s: the contract's admin may give it the role (grantRole with ANCHORER_ROLE)", anchor.ErrRole, st.Account))
			}
			st.Admin, err = ch.IsAdmin(ctx, from)
			note(err)
			if st.Balance, err = ch.Balance(ctx, from); note(err) && st.Balance.Sign() == 0 {
				note(fmt.Errorf("%w: send some ETH to %s on chain %d", anchor.ErrFunds, st.Account, st.ChainID))
			}
		}
		// Of the next anchor only the number matters: it says what is written where nothing was.
		if st.Gas, err = ch.Gas(ctx, anchor.Call{Seq: head.Seq + 1, Hour: head.Hour + 1, PrevRoot: head.Root, Root: [32]byte{1}, Size: head.Size + 1}); note(err) {
			if fee, err := ch.Fees(ctx, st.Gas); note(err) {
				st.Fee = fee.Max
			}
		}
		st.L1Fee, err = ch.L1Fee(ctx)
		note(err)
		if st.Ceiling, err = ch.Ceiling(ctx, st.Gas); note(err) && st.Ceiling != nil && st.Fee != nil && st.Fee.Cmp(st.Ceiling) > 0 {
			note(fmt.Errorf("gas costs %s wei and the ceiling is %s (BLOCKCHAIN_MAX_FEE_GWEI, BLOCKCHAIN_MAX_USD_DAY): nothing is sent until one of them changes", st.Fee, st.Ceiling))
		}
	}
	st.Endpoints, st.Agree = ch.Endpoints()
	return st
}

// beacon is the latest block that is safe, which agents put into the headers of their batches.
type beacon struct {
	chain *anchor.Chain
	log   *slog.Logger
	v     atomic.Pointer[evidence.Beacon]
}

// load returns the block; the zero Beacon without one.
func (b *beacon) load() evidence.Beacon {
	if v := b.v.Load(); v != nil {
		return *v
	}
	return evidence.Beacon{}
}

// beacon starts asking the chain for blocks that agents are told of; nil where there is no chain. What is wrong with its settings the jobs tell.
func (h *Hub) beacon(stack *lifecycle.Stack) func() evidence.Beacon {
	if h.c.Beacon != nil || !h.c.Chain.On {
		return h.c.Beacon
	}
	chain, err := openChain(&h.c.Chain, false, h.c.Now, h.c.Log)
	if err != nil {
		return nil
	}
	b := &beacon{chain: chain, log: h.c.Log}
	stack.Go("blocks for agents", 0, b.run)
	return b.load
}

// beaconEvery is how often the chain is asked for it.
const beaconEvery = time.Minute

// run asks the chain until ctx ends. Without an answer the block before stays: it is older, and as true.
func (b *beacon) run(ctx context.Context) error {
	for wait := time.Duration(0); backoff.Sleep(ctx, wait) == nil; wait = beaconEvery {
		switch blocks, err := b.chain.Blocks(ctx); {
		case ctx.Err() != nil:
		case err != nil:
			b.log.InfoContext(ctx, "agents hear of no newer block: the chain does not tell", "err", err)
		default:
			b.v.Store(&evidence.Beacon{ChainID: b.chain.ID(), BlockNumber: blocks.Safe.Number, BlockHash: blocks.Safe.Hash})
		}
	}
	return nil
}

// AddressText writes an address with its checksum.
func AddressText(a [20]byte) string { return anchor.AddressText(a) }
