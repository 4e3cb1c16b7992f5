package anchor

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strconv"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/hashinsight/hashinsight/hub/internal/anchor/binding"
)

// Waiting is a transaction of this chain's account that waits for a block.
type Waiting struct {
	Raw  []byte
	Hash [32]byte
	Fee  Fee
	Call *Call // what it asks this contract for; nil: something else
}

// Waiting asks what waits with a nonce of the account. What an endpoint says is believed when the account has signed it, for its fee decides how much another
// transaction offers; of several the dearest counts. Many endpoints do not say, each in its own way: then ok is false, and none is set aside for it.
func (c *Chain) Waiting(ctx context.Context, nonce uint64) (w Waiting, ok bool, err error) {
	from := c.From()
	answers, err := ask(ctx, c, func(ctx context.Context, n *node) (*types.Transaction, error) {
		var text json.RawMessage
		err := n.call(ctx, &text, "eth_getTransactionBySenderAndNonce", hexOf(from[:]), hexNumber64(nonce))
		if err != nil {
			var pool struct {
				Pending, Queued map[string]json.RawMessage
			}
			err = n.call(ctx, &pool, "txpool_contentFrom", hexOf(from[:]))
			at := strconv.FormatUint(nonce, 10)
			if text = pool.Pending[at]; len(text) == 0 {
				text = pool.Queued[at]
			}
		}
		if err != nil {
			return nil, &answerError{message: err.Error()} // what is asked next tells whether it is there at all
		}
		if len(text) == 0 || string(text) == "null" {
			return nil, nil
		}
		tx := new(types.Transaction)
		if err := tx.UnmarshalJSON(text); err != nil {
			return nil, &answerError{message: "a transaction that cannot be read"}
		}
		return tx, nil
	})
	if err != nil {
		return w, false, err
	}
	signer := types.LatestSignerForChainID(new(big.Int).SetUint64(c.c.ID))
	var best *types.Transaction
	for _, a := range answers {
		if a.err != nil || a.v == nil || a.v.Nonce() != nonce {
			continue
		}
		if by, err := types.Sender(signer, a.v); err != nil || by != common.Address(from) {
			continue
		}
		if best == nil || a.v.GasFeeCap().Cmp(best.GasFeeCap()) > 0 {
			best = a.v
		}
	}
	if best == nil {
		return w, false, nil
	}
	w = Waiting{Hash: best.Hash(), Fee: Fee{Tip: best.GasTipCap(), Max: best.GasFeeCap(), Gas: best.Gas()}}
	if w.Raw, err = best.MarshalBinary(); err != nil {
		return w, false, err
	}
	if to := best.To(); to != nil && *to == common.Address(c.c.Contract) {
		w.Call = unpack(best.Data())
	}
	return w, true, nil
}

// unpack reads what the contract is asked to append from a transaction's data; nil: it is another call, or none of the form that pack writes.
func unpack(data []byte) *Call {
	method, err := binding.AnchorLogMetaData.ParseABI()
	if err != nil || len(data) < 4 {
		return nil
	}
	of, ok := method.Methods["anchorHead"]
	if !ok || !bytes.Equal(of.ID, data[:4]) {
		return nil
	}
	args, err := of.Inputs.Unpack(data[4:])
	if err != nil || len(args) != 5 {
		return nil
	}
	var call Call
	if err := of.Inputs.Copy(&call, args); err != nil {
		return nil
	}
	return &call
}

// forgotten is the transaction that waits with a nonce and is not among those that the database has for it; nil: there is none, or no endpoint says.
func (m *Machine) forgotten(ctx context.Context, nonce uint64, same []transaction) (*Waiting, error) {
	w, ok, err := m.c.Chain.Waiting(ctx, nonce)
	switch {
	case err != nil:
		return nil, m.chainTrouble(err)
	case !ok || slices.ContainsFunc(same, func(t transaction) bool { return t.hash == w.Hash }):
		return nil, nil
	}
	return &w, nil
}

// wanted says that a transaction anchors what the anchor may: it has its number and follows the same root, and is of this log.
func (m *Machine) wanted(ctx context.Context, a *Anchor, w *Waiting) bool {
	if w.Call == nil || w.Call.Seq != a.Seq || w.Call.PrevRoot != a.PrevRoot || !w.Fee.Max.IsInt64() || !w.Fee.Tip.IsInt64() {
		return false
	}
	h, ok, err := m.c.LogAt(ctx, w.Call.Size)
	return err == nil && ok && h.Root == w.Call.Root
}

// blocked says that a transaction which the database does not know has the nonce, and only a dearer one than is allowed would take its place.
func (m *Machine) blocked(nonce uint64, cause error) error {
	return &stop{problem: ProblemNonceBlocked, params: Params{Nonce: &nonce, Account: AddressText(m.account)}, cause: cause, detail: fmt.Sprintf(
		"a transaction of 0x%x that this hub's database does not know waits with nonce %d, and only a dearer one than the ceiling (BLOCKCHAIN_MAX_FEE_GWEI, BLOCKCHAIN_MAX_USD_DAY) allows takes its place: it goes on when that one is in a block or forgotten, or the ceiling higher", m.account, nonce)}
}
