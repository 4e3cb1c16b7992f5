package anchor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/hashinsight/hashinsight/hub/internal/anchor/binding"
	"github.com/hashinsight/hashinsight/pkg/proof"
)

// Errors of a chain. Who calls tells them apart with errors.Is.
var (
	ErrUnreachable   = errors.New("no endpoint answers")
	ErrDisagree      = errors.New("endpoints contradict each other")
	ErrWrongChain    = errors.New("the endpoint serves another chain")
	ErrWrongContract = errors.New("there is no AnchorLog at the address")
	ErrNonceTooLow   = errors.New("the nonce was used already")
	ErrUnderpriced   = errors.New("the fee is too low, or not enough above the transaction it replaces")
	ErrFunds         = errors.New("the account cannot pay for the transaction")
	ErrRefused       = errors.New("every endpoint refuses the transaction")
	ErrNoFinality    = errors.New("it does not say which blocks are safe and final")
)

// What the contract refuses with, from Try.
var (
	ErrBadSeq      = errors.New("the contract expects another anchor next")
	ErrBadPrevRoot = errors.New("the contract's newest root is another one")
	ErrBadSize     = errors.New("the log is smaller than what was anchored, or another log")
	ErrRole        = errors.New("the account may not anchor in this contract")
	ErrReverted    = errors.New("the contract refuses")
)

// Head is the contract's newest anchor; zeros before the first.
type Head struct {
	Seq, Hour, Size uint64
	Root            [32]byte
}

// Call is what the contract is asked to append.
type Call struct {
	Seq, Hour      uint64
	PrevRoot, Root [32]byte
	Size           uint64
}

// Block is one block of the chain.
type Block struct {
	Number uint64
	Hash   [32]byte
	Time   int64 // s since 1970 UTC
}

// Blocks are how far the chain is: at its end, where blocks will hardly be replaced, and where they will not.
type Blocks struct{ Latest, Safe, Finalized Block }

// Receipt is what became of a transaction.
type Receipt struct {
	Found, OK bool
	Block     uint64
	BlockHash [32]byte
	Time      int64 // of the block, s since 1970 UTC
	GasUsed   uint64
	Fee       *big.Int // all that was paid, wei
	Contract  [20]byte // that a deployment has made
}

// Event is one anchor as the contract emitted it.
type Event struct {
	Seq, Hour, Size   uint64
	PrevRoot, Root    [32]byte
	Block             uint64
	BlockHash, TxHash [32]byte
	Time              int64 // of the block, s since 1970 UTC
}

// ChainConfig says which chain and contract, and who asks it.
type ChainConfig struct {
	URLs     []string // http or https endpoints, 1 to 8; two of several must agree
	ID       uint64   // chain id
	Contract [20]byte // zero only for Deploy
	Signer   Signer   // nil: nothing is built
	Limits   Limits
	Timeout  time.Duration     // of one answer; 0 means 10 s
	HTTP     http.RoundTripper // nil means one of its own
	Now      func() time.Time  // for when endpoints are asked again; nil means time.Now
	Log      *slog.Logger
}

// Chain asks a chain through endpoints of which none is believed alone where there are several: an answer that decides something needs two that agree. An
// endpoint that does not answer, or serves another chain, is set aside with the reason and asked again later. It is safe for several goroutines.
type Chain struct {
	c     ChainConfig
	log   *slog.Logger
	nodes []*node
	need  int // how many must agree
	abi   *binding.AnchorLog

	mu     sync.Mutex
	oracle struct{ known, there bool } // whether the chain has one for what its transactions cost on the chain below
}

// NewChain returns a chain. It asks nothing yet.
func NewChain(c ChainConfig) (*Chain, error) {
	if len(c.URLs) == 0 || len(c.URLs) > 8 {
		return nil, fmt.Errorf("a chain needs 1 to 8 endpoints, not %d", len(c.URLs))
	}
	if c.ID == 0 || c.ID >= 1<<63 {
		return nil, fmt.Errorf("chain id %d: want 1 to 2^63-1", c.ID)
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.HTTP == nil {
		c.HTTP = &http.Transport{
			Proxy: http.ProxyFromEnvironment, MaxConnsPerHost: 4, MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: c.Timeout, ForceAttemptHTTP2: true,
		}
	}
	client := &http.Client{Transport: c.HTTP, CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("it redirects, which is not followed") }}
	ch := &Chain{c: c, log: c.Log, need: min(2, len(c.URLs)), abi: binding.NewAnchorLog()}
	for i, text := range c.URLs {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("endpoint %d is not an http or https URL", i+1) // its text can hold a key
		}
		name := u.Host
		if slices.ContainsFunc(ch.nodes, func(n *node) bool { return n.name == name }) {
			name = fmt.Sprintf("%s#%d", name, i+1)
		}
		ch.nodes = append(ch.nodes, &node{name: name, url: text, http: client, now: c.Now})
	}
	return ch, nil
}

// ID is the chain's id.
func (c *Chain) ID() uint64 { return c.c.ID }

// Contract is the contract's address.
func (c *Chain) Contract() [20]byte { return c.c.Contract }

// From is the account that anchors; zeros without a key.
func (c *Chain) From() [20]byte {
	if c.c.Signer == nil {
		return [20]byte{}
	}
	return c.c.Signer.Address()
}

// EndpointStatus is how one endpoint does.
type EndpointStatus struct {
	Name   string    // host; never the URL, which can hold a key
	Reason string    // why it is set aside; empty: it is in service
	Since  time.Time // when that began; zero while in service
}

// Endpoints lists the endpoints, and how many of them must agree: 1 means that a single one is believed.
func (c *Chain) Endpoints() (list []EndpointStatus, agree int) {
	for _, n := range c.nodes {
		n.mu.Lock()
		s := EndpointStatus{Name: n.name, Reason: n.reason}
		if n.reason != "" {
			s.Since = n.since
		}
		n.mu.Unlock()
		list = append(list, s)
	}
	return list, c.need
}

// answer is what one endpoint said.
type answer[T any] struct {
	node *node
	v    T
	err  error
}

// ask puts a question to all endpoints in service at once, each for a bounded time. Those that fail are set aside. It returns the answers, which may be a
// refusal by the node, in the order of the endpoints; an error of no endpoint that answers at all.
func ask[T any](ctx context.Context, c *Chain, q func(context.Context, *node) (T, error)) ([]answer[T], error) {
	var of []*node
	for _, n := range c.nodes {
		if n.serves() {
			of = append(of, n)
		}
	}
	if len(of) < c.need { // better one that failed a moment ago than none
		of = c.nodes
	}
	got := make([]answer[T], len(of))
	var wait sync.WaitGroup
	for i, n := range of {
		wait.Go(func() {
			qctx, cancel := context.WithTimeout(ctx, c.c.Timeout)
			defer cancel()
			got[i].node = n
			if got[i].err = c.verify(qctx, n); got[i].err == nil {
				got[i].v, got[i].err = q(qctx, n)
			}
			var refused *answerError
			switch {
			case got[i].err == nil:
				n.up()
			case errors.As(got[i].err, &refused): // it is there, and says no
			case ctx.Err() != nil: // the caller went away, which is not the endpoint's fault
			default:
				if errors.Is(got[i].err, context.DeadlineExceeded) {
					got[i].err = fmt.Errorf("no answer within %s", c.c.Timeout)
				}
				c.log.InfoContext(ctx, "chain endpoint set aside", "endpoint", n.name, "err", got[i].err)
				n.down(got[i].err.Error())
			}
		})
	}
	wait.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var answers []answer[T]
	var errs []error
	for _, a := range got {
		var refused *answerError
		if a.err == nil || errors.As(a.err, &refused) {
			answers = append(answers, a)
		} else {
			errs = append(errs, fmt.Errorf("%s: %w", a.node.name, a.err))
		}
	}
	if len(answers) < c.need {
		err := errors.Join(errs...)
		if len(errs) > 0 && !slices.ContainsFunc(errs, func(e error) bool { return !errors.Is(e, ErrWrongChain) }) {
			return answers, err // all of them
		}
		return answers, fmt.Errorf("%w that can be used (%d of %d must agree): %w", ErrUnreachable, c.need, len(c.nodes), err)
	}
	return answers, nil
}

// verify asks an endpoint which chain it serves, when it has not said so since it last failed.
func (c *Chain) verify(ctx context.Context, n *node) error {
	if n.isVerified() {
		return nil
	}
	id, err := n.chainID(ctx)
	if err != nil {
		var refused *answerError
		if errors.As(err, &refused) {
			return errors.New("it does not say which chain it serves: " + refused.Error())
		}
		return err
	}
	if id != c.c.ID {
		return fmt.Errorf("%w: it says %d, want %d", ErrWrongChain, id, c.c.ID)
	}
	n.vouched()
	return nil
}

// agreed asks a question whose answer decides something: as many endpoints as must agree have to say the same. Where a majority says the same, the others are
// set aside.
func agreed[T comparable](ctx context.Context, c *Chain, q func(context.Context, *node) (T, error)) (v T, err error) {
	answers, err := ask(ctx, c, q)
	if err != nil {
		return v, err
	}
	votes := map[T]int{}
	refusals := map[string]int{}
	for _, a := range answers {
		if a.err == nil {
			votes[a.v]++
		} else {
			refusals[refusalKey(a.err)]++
		}
	}
	for said, n := range votes {
		if n < c.need || n*2 <= len(answers) {
			continue
		}
		for _, a := range answers {
			if a.err == nil && a.v != said {
				c.log.WarnContext(ctx, "chain endpoint set aside: it contradicts the others", "endpoint", a.node.name)
				a.node.down("it contradicts the others")
			}
		}
		return said, nil
	}
	for _, a := range answers { // a refusal counts as an answer: a call that the contract reverts is one
		if a.err != nil && refusals[refusalKey(a.err)] >= c.need && len(votes) == 0 {
			return v, fmt.Errorf("%s: %w", a.node.name, a.err)
		}
	}
	if len(votes) == 0 {
		errs := []error{ErrUnreachable}
		for _, a := range answers {
			errs = append(errs, fmt.Errorf("%s: %w", a.node.name, a.err))
		}
		return v, errors.Join(errs...)
	}
	if len(votes) == 1 && len(refusals) > 0 { // one knows it, another has not got so far
		return v, fmt.Errorf("%w: not all of them know it yet", ErrDisagree)
	}
	names := make([]string, len(answers))
	for i, a := range answers {
		names[i] = a.node.name
	}
	return v, fmt.Errorf("%w: %s", ErrDisagree, strings.Join(names, ", "))
}

func refusalKey(err error) string {
	var refused *answerError
	if errors.As(err, &refused) && len(refused.data) > 0 {
		return string(refused.data)
	}
	return "" // words differ from one software to the next
}

// Check makes sure of the chain's id and that the contract's code is AnchorLog's.
func (c *Chain) Check(ctx context.Context) error {
	code, err := agreed(ctx, c, func(ctx context.Context, n *node) (string, error) {
		var code octets
		err := n.call(ctx, &code, "eth_getCode", hexOf(c.c.Contract[:]), "latest")
		return string(code), err
	})
	if err != nil {
		return err
	}
	switch {
	case code == "":
		return fmt.Errorf("%w %s: there is no code on chain %d", ErrWrongContract, AddressText(c.c.Contract), c.c.ID)
	case sha256.Sum256([]byte(code)) != proof.AnchorLogCode:
		return fmt.Errorf("%w %s: the code there is another one", ErrWrongContract, AddressText(c.c.Contract))
	}
	return nil
}

// MayAnchor reports whether an account has the contract's role for it.
func (c *Chain) MayAnchor(ctx context.Context, account [20]byte) (bool, error) {
	return c.hasRole(ctx, crypto.Keccak256Hash([]byte("ANCHORER_ROLE")), account)
}

// IsAdmin reports whether an account may say who anchors.
func (c *Chain) IsAdmin(ctx context.Context, account [20]byte) (bool, error) {
	return c.hasRole(ctx, [32]byte{}, account)
}

func (c *Chain) hasRole(ctx context.Context, role [32]byte, account [20]byte) (bool, error) {
	out, err := c.view(ctx, c.abi.PackHasRole(role, account))
	if err != nil {
		return false, err
	}
	return c.abi.UnpackHasRole(out)
}

// view calls a method that changes nothing.
func (c *Chain) view(ctx context.Context, data []byte) ([]byte, error) {
	out, err := agreed(ctx, c, func(ctx context.Context, n *node) (string, error) {
		var out octets
		err := n.call(ctx, &out, "eth_call", map[string]any{"to": hexOf(c.c.Contract[:]), "data": hexOf(data)}, "latest")
		return string(out), err
	})
	return []byte(out), err
}

// Head asks the contract for its newest anchor.
func (c *Chain) Head(ctx context.Context) (Head, error) {
	out, err := c.view(ctx, c.abi.PackHead())
	if err != nil {
		return Head{}, err
	}
	if len(out) == 0 {
		return Head{}, fmt.Errorf("%w %s: there is no code on chain %d", ErrWrongContract, AddressText(c.c.Contract), c.c.ID)
	}
	h, err := c.abi.UnpackHead(out)
	if err != nil {
		return Head{}, fmt.Errorf("%w: it answers in another form: %w", ErrWrongContract, err)
	}
	return Head{Seq: h.Seq, Hour: h.Hour, Size: h.Size, Root: h.Root}, nil
}

// Try asks whether the contract would take a call now, without sending anything. What it refuses with is one of the errors above.
func (c *Chain) Try(ctx context.Context, call Call) error {
	from := c.From()
	_, err := agreed(ctx, c, func(ctx context.Context, n *node) (string, error) {
		var out octets
		err := n.call(ctx, &out, "eth_call", map[string]any{"from": hexOf(from[:]), "to": hexOf(c.c.Contract[:]), "data": hexOf(c.pack(call))}, "latest")
		return string(out), err
	})
	var refused *answerError
	if errors.As(err, &refused) {
		return c.reverted(refused)
	}
	return err
}

// reverted says in words what the contract refused with.
func (c *Chain) reverted(e *answerError) error {
	if len(e.data) < 4 { // the generated decoder reads four bytes of whatever it is given
		return fmt.Errorf("%w: %w", ErrReverted, e)
	}
	v, err := c.abi.UnpackError(e.data)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrReverted, e)
	}
	switch v := v.(type) {
	case *binding.AnchorLogBadSeq:
		return fmt.Errorf("%w: it expects number %d and was given %d", ErrBadSeq, v.Expected, v.Given)
	case *binding.AnchorLogBadPrevRoot:
		return fmt.Errorf("%w: it has %x and was given %x", ErrBadPrevRoot, v.Expected, v.Given)
	case *binding.AnchorLogBadSize:
		return fmt.Errorf("%w: it takes %d or more and was given %d", ErrBadSize, v.Least, v.Given)
	case *binding.AnchorLogAccessControlUnauthorizedAccount:
		return fmt.Errorf("%w: %s: its admin may give it the role (grantRole, ANCHORER_ROLE)", ErrRole, AddressText(v.Account))
	}
	return fmt.Errorf("%w: %T", ErrReverted, v)
}

func (c *Chain) pack(call Call) []byte {
	return c.abi.PackAnchorHead(call.Seq, call.Hour, call.PrevRoot, call.Root, call.Size)
}

// anchorGas is the limit of gas of an anchor's transaction. The first one takes some 73,000, every other one less than 40,000; what is not used is not paid.
const anchorGas = 150_000

// Build makes and signs the transaction for a call. It asks no endpoint and sends nothing.
func (c *Chain) Build(ctx context.Context, nonce uint64, fee Fee, call Call) (raw []byte, hash [32]byte, err error) {
	to := common.Address(c.c.Contract)
	return c.sign(ctx, &types.DynamicFeeTx{Nonce: nonce, GasTipCap: fee.Tip, GasFeeCap: fee.Max, Gas: anchorGas, To: &to, Data: c.pack(call)})
}

func (c *Chain) sign(ctx context.Context, tx *types.DynamicFeeTx) (raw []byte, hash [32]byte, err error) {
	if c.c.Signer == nil {
		return nil, hash, ErrNoKey
	}
	tx.ChainID = new(big.Int).SetUint64(c.c.ID)
	signed, err := c.c.Signer.SignTx(ctx, types.NewTx(tx))
	if err != nil {
		return nil, hash, fmt.Errorf("signing: %w", err)
	}
	raw, err = signed.MarshalBinary()
	return raw, signed.Hash(), err
}

// Send gives a signed transaction to all endpoints. One that takes it, or has it already, is enough: transactions spread by themselves.
func (c *Chain) Send(ctx context.Context, raw []byte) error {
	answers, err := ask(ctx, c, func(ctx context.Context, n *node) (struct{}, error) {
		var hash word
		return struct{}{}, n.call(ctx, &hash, "eth_sendRawTransaction", hexOf(raw))
	})
	if len(answers) == 0 {
		return err
	}
	var refusals []error
	for _, a := range answers {
		e := sendError(a.err)
		if e == nil {
			return nil
		}
		refusals = append(refusals, fmt.Errorf("%s: %w", a.node.name, e))
	}
	return errors.Join(refusals...)
}

// sendError tells apart why a node does not take a transaction. There are no codes for it; the words are those of geth, op-geth, reth, Erigon, Nethermind and anvil.
func sendError(err error) error {
	var refused *answerError
	if !errors.As(err, &refused) {
		return err
	}
	text := strings.ToLower(refused.message)
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) })
	}
	switch {
	case has("already known", "already imported", "known transaction", "alreadyknown", "already exists"):
		return nil
	case has("nonce too low", "oldnonce", "nonce is too low"):
		return fmt.Errorf("%w: %w", ErrNonceTooLow, err)
	case has("underpriced", "feetoolow", "fee too low", "max fee per gas less than block base fee", "replacement", "tip too low", "gas price below"):
		return fmt.Errorf("%w: %w", ErrUnderpriced, err)
	case has("insufficient funds", "insufficientfunds", "insufficient balance"):
		return fmt.Errorf("%w: %w", ErrFunds, err)
	}
	return fmt.Errorf("%w: %w", ErrRefused, err)
}

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

// Ranges of blocks that endpoints are asked for events.
const (
	maxRange   = 100_000
	rangeChunk = 1_000 // public endpoints refuse larger ones
)

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

// AddressText writes an address as people compare it: with the checksum in its capitals (EIP-55).
func AddressText(a [20]byte) string { return common.Address(a).Hex() }

// ParseAddress reads an address: 0x and 40 hex digits. Where it has capitals they must be its checksum.
func ParseAddress(s string) (a [20]byte, err error) {
	digits, ok := strings.CutPrefix(s, "0x")
	b, err := hex.DecodeString(digits)
	if !ok || err != nil || len(b) != len(a) {
		return a, fmt.Errorf("%.60q is no address: want 0x and 40 hex digits", s)
	}
	a = [20]byte(b)
	if digits != strings.ToLower(digits) && digits != strings.ToUpper(digits) && s != AddressText(a) {
		return [20]byte{}, fmt.Errorf("%.60q has a wrong checksum: it was copied wrongly, or write it in lower case", s)
	}
	if a == ([20]byte{}) {
		return a, errors.New("the address is zero, which nobody has")
	}
	return a, nil
}
