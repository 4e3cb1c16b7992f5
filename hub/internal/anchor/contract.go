package anchor

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/hashinsight/hashinsight/hub/internal/anchor/binding"
)

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

// Build makes and signs the transaction for a call. It asks no endpoint and sends nothing.
func (c *Chain) Build(ctx context.Context, nonce uint64, fee Fee, call Call) (raw []byte, hash [32]byte, err error) {
	to, gas := common.Address(c.c.Contract), fee.Gas
	if gas == 0 {
		gas = withHeadroom(usualGas(call.Seq))
	}
	return c.sign(ctx, &types.DynamicFeeTx{Nonce: nonce, GasTipCap: fee.Tip, GasFeeCap: fee.Max, Gas: gas, To: &to, Data: c.pack(call)})
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
	case has("replacement"):
		return fmt.Errorf("%w: %w", ErrReplacement, err)
	case has("underpriced", "feetoolow", "fee too low", "max fee per gas less than block base fee", "tip too low", "gas price below"):
		return fmt.Errorf("%w: %w", ErrUnderpriced, err)
	case has("insufficient funds", "insufficientfunds", "insufficient balance"):
		return fmt.Errorf("%w: %w", ErrFunds, err)
	}
	return fmt.Errorf("%w: %w", ErrRefused, err)
}
