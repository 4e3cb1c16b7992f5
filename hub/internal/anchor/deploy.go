package anchor

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/hashinsight/hashinsight/hub/internal/anchor/binding"
)

// Deployed is a contract that was put on a chain.
type Deployed struct {
	Contract, Admin, Anchorer [20]byte
	Tx                        [32]byte
	Block                     uint64
	GasUsed                   uint64
	Fee                       *big.Int // wei, all of it
}

// deployGas is the limit of gas of a deployment, which takes some 700,000.
const deployGas = 1_500_000

// Deploy puts an AnchorLog on the chain, in which the signer's account may anchor and admin may say who does, waits until it is in a block, and checks what
// stands there. It sends one transaction; when it fails or ends before the block, told says which one, so that it can be looked for.
func (c *Chain) Deploy(ctx context.Context, admin [20]byte, told func(tx [32]byte)) (d Deployed, err error) {
	if c.c.Signer == nil {
		return d, ErrNoKey
	}
	if admin == ([20]byte{}) {
		return d, errors.New("a contract without an admin could never change its anchorer")
	}
	d.Admin, d.Anchorer = admin, c.From()
	code, err := hex.DecodeString(strings.TrimPrefix(binding.AnchorLogMetaData.Bin, "0x"))
	if err != nil {
		return d, fmt.Errorf("the contract's code in this program: %w", err)
	}
	fee, err := c.Fees(ctx, steadyGas)
	if err != nil {
		return d, err
	}
	if c.c.Limits.MaxFee != nil && fee.Max.Cmp(c.c.Limits.MaxFee) > 0 {
		return d, fmt.Errorf("gas costs %s wei and the ceiling is %s (BLOCKCHAIN_MAX_FEE_GWEI): wait, or raise it", fee.Max, c.c.Limits.MaxFee)
	}
	latest, pending, err := c.Nonce(ctx)
	if err != nil {
		return d, err
	}
	if pending > latest {
		return d, fmt.Errorf("transactions of %s wait already: a hub anchors with this key, or a deployment is under way; wait until they are in a block", AddressText(d.Anchorer))
	}
	raw, hash, err := c.sign(ctx, &types.DynamicFeeTx{
		Nonce: latest, GasTipCap: fee.Tip, GasFeeCap: fee.Max, Gas: deployGas, Data: append(code, c.abi.PackConstructor(common.Address(admin), common.Address(d.Anchorer))...),
	})
	if err != nil {
		return d, err
	}
	d.Tx = hash
	if told != nil {
		told(hash)
	}
	if err := c.Send(ctx, raw); err != nil {
		return d, err
	}
	r, err := c.Wait(ctx, hash, min(time.Second, c.c.Timeout))
	if err != nil {
		return d, fmt.Errorf("transaction 0x%x was sent and is in no block yet: %w", hash, err)
	}
	d.Contract, d.Block, d.GasUsed, d.Fee = r.Contract, r.Block, r.GasUsed, r.Fee
	if !r.OK {
		return d, fmt.Errorf("the chain refused the deployment: transaction 0x%x", hash)
	}
	there := c.At(d.Contract)
	if err := there.Check(ctx); err != nil {
		return d, err
	}
	may, err := there.MayAnchor(ctx, d.Anchorer)
	if err != nil {
		return d, err
	}
	is, err := there.IsAdmin(ctx, admin)
	if err == nil && (!may || !is) {
		err = fmt.Errorf("%w %s: its roles are not the ones that were asked for", ErrWrongContract, AddressText(d.Contract))
	}
	return d, err
}

// At is the same chain and endpoints with another contract.
func (c *Chain) At(contract [20]byte) *Chain {
	there := &Chain{c: c.c, log: c.log, nodes: c.nodes, need: c.need, abi: c.abi}
	there.c.Contract = contract
	return there
}
