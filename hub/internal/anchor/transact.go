package anchor

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
)

// receipts looks whether one of an anchor's transactions is in a block.
func (m *Machine) receipts(ctx context.Context, r *round, a *Anchor, txs []transaction) (done bool, err error) {
	var reverted *transaction
	for i := range txs {
		t := &txs[i]
		got, err := m.c.Chain.Receipt(ctx, t.hash)
		if err != nil {
			return false, m.chainTrouble(err)
		}
		switch {
		case !got.Found:
		case got.OK && r.head.Seq < a.Seq: // the block came since the head was asked for, or one endpoint has it and another one has not
			if r.lagged {
				return false, m.lag(r, a.Seq)
			}
			r.lagged = true
			return true, nil
		case got.OK:
			return true, m.found(ctx, r, a, t, &got)
		case t.live():
			reverted = t
		}
	}
	if reverted == nil {
		return false, nil
	}
	if err := pg.InTx(ctx, m.c.Pool, func(tx pgx.Tx) error {
		if err := m.s.change(ctx, tx, a, qState, int16(Failed)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, qSetTx, reverted.id, int16(txReverted))
		return lostOr(err)
	}); err != nil {
		return false, err
	}
	m.metrics.event(eventFailed)
	m.log.WarnContext(ctx, "the contract has refused an anchor", "seq", a.Seq, "tx", fmt.Sprintf("0x%x", reverted.hash))
	return true, m.here(ctx, "failed")
}

// found takes a transaction that is in a block. What it has anchored, its event says: the row can have been read back from the chain with another checkpoint since
// the transaction was signed, and that block can have been lost.
func (m *Machine) found(ctx context.Context, r *round, a *Anchor, t *transaction, got *Receipt) error {
	events, err := m.c.Chain.Events(ctx, got.Block, got.Block)
	if err != nil {
		return m.chainTrouble(err)
	}
	for i := range events {
		switch e := &events[i]; {
		case e.Seq != a.Seq || e.TxHash != t.hash:
		case e.Hour == a.Hour && e.Size == a.Size && e.Root == a.Root && e.PrevRoot == a.PrevRoot:
			return m.mined(ctx, r, a, t, got)
		default:
			if err := m.adoptOne(ctx, r, e, a); err != nil {
				return err
			}
			m.metrics.event(eventAdopted)
			return m.here(ctx, "adopted")
		}
	}
	return m.noEvent(a.Seq, got.Block)
}

func (m *Machine) noEvent(seq, block uint64) error {
	return &stop{problem: ProblemEventOfBlock, params: Params{Seq: seq, Block: block}, detail: fmt.Sprintf("the endpoint says that anchor %d is in block %d and does not give its event: nothing is believed until it does; add a second endpoint to BASE_RPC_URL", seq, block)}
}

// mined notes the block that an anchor is in.
func (m *Machine) mined(ctx context.Context, r *round, a *Anchor, t *transaction, got *Receipt) error {
	at := time.Unix(got.Time, 0).UTC()
	if err := pg.InTx(ctx, m.c.Pool, func(tx pgx.Tx) error {
		if err := m.s.change(ctx, tx, a, qMined, t.hash[:], int64(got.Block), got.BlockHash[:], at, m.c.Now(), string(m.lateness(r, a, at))); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, qMinedTx, m.s.args(int64(a.Seq), t.hash[:])...); err != nil {
			return lostOr(fmt.Errorf("anchor %d: its transactions: %w", a.Seq, err))
		}
		return nil
	}); err != nil {
		return err
	}
	r.st.late = ""
	m.metrics.mined(got)
	return m.here(ctx, "mined")
}

// lateness says why an anchor that is in a block of the time at comes late; empty: it does not. What it was late with the first time stays.
func (m *Machine) lateness(r *round, a *Anchor, at time.Time) Trouble {
	switch {
	case a.Late != "" || a.Vanished > 0:
		return a.Late
	case at.Sub(a.DueAt) <= m.lateAfter():
		return ""
	case r.st.late != "":
		return r.st.late
	}
	return TroubleSlow
}

// setTx changes a transaction's state under the version of its anchor.
func (m *Machine) setTx(ctx context.Context, a *Anchor, t *transaction, to txState) error {
	return pg.InTx(ctx, m.c.Pool, func(tx pgx.Tx) error {
		if err := m.s.change(ctx, tx, a, qState, int16(a.State)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, qSetTx, t.id, int16(to))
		return lostOr(err)
	})
}

// sign stores a transaction for an anchor. It is sent by the next step, so that nothing is ever sent that is not stored. waits says that something may wait with
// the nonce already: a database that was restored does not know all that was sent.
func (m *Machine) sign(ctx context.Context, a *Anchor, nonce uint64, waits bool) (more bool, err error) {
	same, err := m.s.txs(ctx, m.c.Pool, qTxsNonce, int64(m.s.chainID), m.account[:], int64(nonce))
	if err != nil {
		return false, err
	}
	var forgotten *Waiting
	if waits {
		if forgotten, err = m.forgotten(ctx, nonce, same); err != nil {
			return false, err
		}
		if forgotten != nil && m.wanted(ctx, a, forgotten) {
			m.log.WarnContext(ctx, "a transaction for the anchor waits that the database does not know: it is taken for this hub's own", "seq", a.Seq, "nonce", nonce, "tx", fmt.Sprintf("0x%x", forgotten.Hash))
			return true, m.keep(ctx, a, nonce, forgotten.Fee, forgotten.Raw, forgotten.Hash)
		}
	}
	call := Call{Seq: a.Seq, Hour: a.Hour, PrevRoot: a.PrevRoot, Root: a.Root, Size: a.Size}
	gas, err := m.c.Chain.Gas(ctx, call)
	if err != nil {
		return false, m.chainTrouble(err)
	}
	want, err := m.c.Chain.Fees(ctx, gas)
	if err != nil {
		return false, m.chainTrouble(err)
	}
	most, err := m.c.Chain.Ceiling(ctx, gas)
	if err != nil {
		return false, m.chainTrouble(err)
	}
	above := func(fee Fee) bool {
		return !fee.Max.IsInt64() || !fee.Tip.IsInt64() || most != nil && fee.Max.Cmp(most) > 0
	}
	if above(want) {
		return false, tooDear(want, most)
	}
	fee := want
	for i := range same {
		// Transactions of the nonce were sent, whatever became of them: nodes that have one take another only for more.
		fee = Replacement(Fee{Tip: big.NewInt(same[i].tip), Max: big.NewInt(same[i].maxFee)}, fee)
	}
	if forgotten != nil {
		fee = Replacement(forgotten.Fee, fee)
	}
	switch dear := above(fee); {
	case len(same) > 0 && (dear || len(same) > maxReplacements):
		return false, m.again(ctx, a, &same[0])
	case dear:
		return false, m.blocked(nonce, nil)
	}
	if err := m.c.Chain.Try(ctx, call); err != nil { // what the contract would refuse costs nothing yet
		return false, m.refused(a, err)
	}
	raw, hash, err := m.c.Chain.Build(ctx, nonce, fee, call)
	if err != nil {
		return false, m.chainTrouble(err)
	}
	if err := m.keep(ctx, a, nonce, fee, raw, hash); err != nil {
		return false, err
	}
	if len(same) > 0 || forgotten != nil {
		m.metrics.event(eventReplaced)
	}
	return true, m.here(ctx, "signed")
}

// keep stores a signed transaction for an anchor, in the place of those that wait.
func (m *Machine) keep(ctx context.Context, a *Anchor, nonce uint64, fee Fee, raw []byte, hash [32]byte) error {
	to := a.State
	if to == Built || to == Sent {
		to = Signed
	}
	return pg.InTx(ctx, m.c.Pool, func(tx pgx.Tx) error {
		if err := m.s.change(ctx, tx, a, qState, int16(to)); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, qReplaceTxs, m.s.args(int64(a.Seq), m.account[:], int64(nonce))...); err != nil {
			return lostOr(fmt.Errorf("replacing transactions of anchor %d: %w", a.Seq, err))
		}
		if _, err := tx.Exec(ctx, qAddTx, m.s.args(int64(a.Seq), m.account[:], int64(nonce), fee.Max.Int64(), fee.Tip.Int64(), raw, hash[:], m.c.Now())...); err != nil {
			return lostOr(fmt.Errorf("storing a transaction of anchor %d: %w", a.Seq, err))
		}
		return nil
	})
}

func tooDear(fee Fee, most *big.Int) error {
	return &stop{problem: ProblemFeeCeiling, params: Params{FeeWei: fee.Max.String(), CeilingWei: most.String()}, detail: fmt.Sprintf("gas costs %s wei now and the ceiling is %s (BLOCKCHAIN_MAX_FEE_GWEI, BLOCKCHAIN_MAX_USD_DAY): the next anchor covers what waits", fee.Max, most)}
}

// refused says what it means that the contract would not take an anchor.
func (m *Machine) refused(a *Anchor, err error) error {
	switch {
	case errors.Is(err, ErrBadSeq) || errors.Is(err, ErrBadPrevRoot) || errors.Is(err, ErrBadSize):
		return &stop{problem: ProblemContractMoved, params: Params{Seq: a.Seq}, detail: fmt.Sprintf("the contract has moved on while anchor %d was made: the next run reads where it stands", a.Seq), cause: err}
	case errors.Is(err, ErrRole):
		return &stop{problem: ProblemNoRole, params: Params{Account: AddressText(m.account), Contract: AddressText(m.s.contract)}, detail: fmt.Sprintf("the account 0x%x may not anchor in the contract: its admin may give it the role (grantRole with ANCHORER_ROLE), which hashinsight-hub anchor verify looks for", m.account), cause: err}
	case errors.Is(err, ErrReverted):
		return m.refusedBy(a, err)
	}
	return m.chainTrouble(err)
}

func (m *Machine) refusedBy(a *Anchor, cause error) error {
	return &stop{problem: ProblemContractRefuses, params: Params{Seq: a.Seq, Account: AddressText(m.account), IntervalS: int64(m.c.Interval / time.Second)}, detail: fmt.Sprintf("the contract refuses anchor %d, which is the next one: look with hashinsight-hub anchor verify whether 0x%x may still anchor; what failed in a block is tried again once in %s", a.Seq, m.account, m.c.Interval), cause: cause}
}

// again sends what was sent under a nonce before, as nothing dearer may be sent: once it is in a block, the nonce is over.
func (m *Machine) again(ctx context.Context, a *Anchor, t *transaction) error {
	if err := m.c.Chain.Send(ctx, t.raw); errors.Is(err, ErrReplacement) {
		return m.blocked(t.nonce, err)
	} else if err = m.passed(ctx, a, t, err); err != nil {
		return err
	}
	return &stop{problem: ProblemStuck, params: Params{TxHash: fmt.Sprintf("0x%x", t.hash), Nonce: &t.nonce}, detail: fmt.Sprintf("transaction 0x%x with nonce %d waits for a block, and may not be replaced by a dearer one: it goes on when gas is cheaper, or the ceiling (BLOCKCHAIN_MAX_FEE_GWEI, BLOCKCHAIN_MAX_USD_DAY) higher", t.hash, t.nonce)}
}

// send sends a stored transaction for the first time, or for the first time after its block was lost.
func (m *Machine) send(ctx context.Context, r *round, a *Anchor, t *transaction) (more bool, err error) {
	if err := m.here(ctx, "send"); err != nil {
		return false, err
	}
	err = m.c.Chain.Send(ctx, t.raw)
	if herr := m.here(ctx, "passed on"); herr != nil {
		return false, herr
	}
	switch {
	case err == nil:
	case errors.Is(err, ErrNonceTooLow): // it is in a block, or another one is: the next run's answers tell
		r.waiting = &stop{problem: ProblemNonceTaken, params: Params{Nonce: &t.nonce, Account: AddressText(m.account)}, detail: fmt.Sprintf("nonce %d of 0x%x is taken: if this stays, something else sends with the account; it must be the hub's alone", t.nonce, m.account), cause: err}
		return false, nil
	case errors.Is(err, ErrUnderpriced):
		m.log.InfoContext(ctx, "another transaction has the nonce: this one is replaced by a dearer one", "seq", a.Seq, "nonce", t.nonce)
		return m.sign(ctx, a, t.nonce, true)
	default:
		return false, m.chainTrouble(err)
	}
	if err := pg.InTx(ctx, m.c.Pool, func(tx pgx.Tx) error {
		to := a.State
		if to == Signed {
			to = Sent
		}
		if err := m.s.change(ctx, tx, a, qState, int16(to)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, qSentTx, t.id, m.c.Now())
		return lostOr(err)
	}); err != nil {
		return false, err
	}
	m.metrics.event(eventSent)
	return true, m.here(ctx, "sent")
}

// resend sends the same bytes again, to whoever has forgotten them. That its nonce is taken, or that it pays too little by now, the next steps look after.
func (m *Machine) resend(ctx context.Context, a *Anchor, t *transaction) error {
	return m.passed(ctx, a, t, m.c.Chain.Send(ctx, t.raw))
}

// passed notes that a transaction was sent again; err is what became of it.
func (m *Machine) passed(ctx context.Context, a *Anchor, t *transaction, err error) error {
	if err != nil && !errors.Is(err, ErrNonceTooLow) && !errors.Is(err, ErrUnderpriced) {
		return m.chainTrouble(err)
	}
	if _, err := m.c.Pool.Exec(ctx, qSentTx, t.id, m.c.Now()); err != nil {
		return fmt.Errorf("anchor %d: noting that its transaction was sent again: %w", a.Seq, err)
	}
	m.metrics.event(eventResent)
	return m.here(ctx, "resent")
}
