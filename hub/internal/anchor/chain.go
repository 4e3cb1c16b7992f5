package anchor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
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
	ErrReplacement   = fmt.Errorf("another transaction has the nonce: %w", ErrUnderpriced)
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

// Ranges of blocks that endpoints are asked for events.
const (
	maxRange   = 100_000
	rangeChunk = 1_000 // public endpoints refuse larger ones
)

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
