package anchor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/big"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
)

// Limits of the machine.
const (
	defaultInterval = time.Hour
	stuckAfter      = 5 * time.Minute  // without a block, when a transaction is replaced
	resendAfter     = 30 * time.Second // when the same bytes are sent again
	maxReplacements = 12               // of one nonce: twelve times an eighth more is four times the fee
	maxSteps        = 16               // of a run: a task must come to an end
	maxGone         = 64               // anchors that one step finds gone
	scanChunk       = 10_000           // blocks that the chain is asked for events of at once
	scanChunks      = 10               // of a run
	overdueAfter    = 6 * time.Hour    // without an anchor, when an operator is woken
)

// MachineConfig describes a Machine.
type MachineConfig struct {
	Pool  *pgxpool.Pool // required
	Chain *Chain        // required
	// LogHead returns the newest checkpoint of the log. ok is false while the log must not be anchored: it is behind, halted, or has none yet. Required.
	LogHead func(ctx context.Context) (h LogHead, ok bool, err error)
	// LogAt returns the checkpoint of the log's first size entries. ok is false when the log has fewer. Required.
	LogAt      func(ctx context.Context, size uint64) (h LogHead, ok bool, err error)
	Interval   time.Duration         // between anchors; 0 means an hour
	Now        func() time.Time      // nil means time.Now
	Log        *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil means no metrics
}

// Machine anchors the log. Run is safe for concurrent use, by any number of hubs.
type Machine struct {
	c       MachineConfig
	s       series
	account [20]byte
	log     *slog.Logger
	metrics *metrics
	scan    scan
	// at is called between any two things that are kept or sent. Tests kill the machine there; it is nil otherwise.
	at func(ctx context.Context, where string) error
}

// NewMachine checks c. It asks neither the database nor an endpoint.
func NewMachine(c MachineConfig) (*Machine, error) {
	switch {
	case c.Pool == nil || c.Chain == nil || c.LogHead == nil || c.LogAt == nil:
		return nil, errors.New("anchor: pool, chain and log are required")
	case c.Interval < 0:
		return nil, fmt.Errorf("anchor: the interval is %s", c.Interval)
	case c.Chain.From() == [20]byte{}:
		return nil, ErrNoKey
	}
	if c.Interval == 0 {
		c.Interval = defaultInterval
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	m := &Machine{c: c, s: series{c.Chain.ID(), c.Chain.Contract()}, account: c.Chain.From(), metrics: newMetrics()}
	m.log = c.Log.With("chain", m.s.chainID, "contract", fmt.Sprintf("0x%x", m.s.contract))
	if c.Registerer != nil {
		if err := c.Registerer.Register(m.metrics); err != nil {
			return nil, fmt.Errorf("metrics of anchor: %w", err)
		}
	}
	return m, nil
}

// Run does what is due, unless another process is at it. What stands in its way is no error of the run: Status tells it, and so do the metrics.
func (m *Machine) Run(ctx context.Context) error {
	// The lock belongs to a transaction that does nothing else, and ends with it in whatever way: through a pooler too.
	return pg.InTx(ctx, m.c.Pool, func(tx pgx.Tx) error {
		var got bool
		if err := tx.QueryRow(ctx, qLock, lockAnchor, fmt.Sprintf("%d/%x", m.s.chainID, m.s.contract)).Scan(&got); err != nil {
			return fmt.Errorf("asking for the right to anchor: %w", err)
		}
		if !got {
			return m.observe(ctx)
		}
		return m.run(ctx)
	})
}

// run is Run under the lock. Everything below is safe without it.
func (m *Machine) run(ctx context.Context) error {
	r, err := m.begin(ctx)
	if err != nil {
		return err
	}
	if m.quiet(r) {
		return m.end(ctx, r, nil)
	}
	for range maxSteps {
		var more bool
		if more, err = m.step(ctx, r); err != nil || !more {
			break
		}
	}
	if errors.Is(err, errLost) {
		m.log.DebugContext(ctx, "another process anchors at the same time", "err", err)
		return m.observe(ctx)
	}
	st, stopped := errors.AsType[*stop](err)
	if err != nil && !stopped {
		return err
	}
	return m.end(ctx, r, st)
}

// quiet says that there is nothing to do, and that the chain has answered not long ago: endpoints count calls.
func (m *Machine) quiet(r *round) bool {
	final := !r.some || r.newest.State == Finalized
	return final && !r.due && r.st.code == "" && !r.st.answeredAt.IsZero() && r.now.Sub(r.st.answeredAt) < min(time.Minute, m.c.Interval/6)
}

// here is a place at which tests stop or kill the machine.
func (m *Machine) here(ctx context.Context, where string) error {
	if m.at == nil {
		return ctx.Err()
	}
	return m.at(ctx, where)
}

// round is what one run knows.
type round struct {
	now     time.Time
	st      standing
	newest  Anchor  // zero before the first
	some    bool    // whether there is a newest one
	log     LogHead // the newest checkpoint
	logOK   bool    // whether it may be anchored
	due     bool    // whether something is on its way, or to be built
	dueAt   time.Time
	blocks  Blocks
	head    Head
	asked   bool // whether blocks and head are answered
	lagged  bool // whether a receipt was ahead of the head in this run
	waiting *stop
}

// begin reads what needs no chain, so that it is known what is due while no endpoint answers.
func (m *Machine) begin(ctx context.Context) (*round, error) {
	r := &round{now: m.c.Now().UTC()}
	var err error
	if r.st, _, err = m.s.standing(ctx, m.c.Pool); err != nil {
		return nil, err
	}
	if !r.st.checkedAt.IsZero() && r.now.Sub(r.st.checkedAt) > m.lateAfter() && r.st.late == "" {
		r.st.late = TroubleDown
	}
	if ahead(r.now, r.st.coveredAt) {
		r.st.coveredAt = r.now
	}
	if ahead(r.now, r.st.answeredAt) {
		r.st.answeredAt = time.Time{}
	}
	r.st.account, r.st.checkedAt = m.account, r.now
	return r, m.reread(ctx, r)
}

// maxSkew is how far a time in the database may lie ahead of this process's clock: the clocks of several hubs differ a little.
const maxSkew = 2 * time.Minute

// ahead says that a time was written by a clock that was wrong.
func ahead(now, t time.Time) bool { return t.Sub(now) > maxSkew }

// ago is how long ago something was. What lies ahead counts as long ago: nothing waits until the time of a wrong clock has come.
func ago(now, t time.Time) time.Duration {
	if ahead(now, t) {
		return math.MaxInt64
	}
	return now.Sub(t)
}

// after is when the next anchor is due, after one that was built at a time.
func (m *Machine) after(now, built time.Time) time.Time {
	if ahead(now, built) {
		return now.Truncate(m.c.Interval)
	}
	return built.Truncate(m.c.Interval).Add(m.c.Interval)
}

// reread reads the newest anchor and the log, and tells from them what is due.
func (m *Machine) reread(ctx context.Context, r *round) (err error) {
	if r.newest, r.some, err = m.s.anchor(ctx, m.c.Pool, qNewest); err != nil {
		return err
	}
	if r.log, r.logOK, err = m.c.LogHead(ctx); err != nil {
		m.log.WarnContext(ctx, "the log's head cannot be read, nothing new is anchored until it can", "err", err)
		r.logOK = false
	}
	if r.logOK {
		r.st.logSize = r.log.Size
	}
	covered := r.some && r.newest.State.InBlock() && r.logOK && r.log.Size <= r.newest.Size || !r.some && r.logOK && r.log.Size == 0
	if covered {
		r.st.coveredAt, r.st.late = r.now, "" // nothing is late
	}
	switch {
	case !r.some:
		r.dueAt = r.st.coveredAt
		if r.dueAt.IsZero() {
			r.dueAt, r.st.coveredAt = r.now, r.now // the first run of all
		}
	case r.newest.State.InBlock():
		r.dueAt = m.after(r.now, r.newest.BuiltAt)
		if r.st.coveredAt.After(r.dueAt) {
			r.dueAt = r.st.coveredAt
		}
	default:
		r.dueAt = r.newest.DueAt
	}
	r.due = r.some && !r.newest.State.InBlock() || !covered && !r.now.Before(r.dueAt)
	return nil
}

// lateAfter is how long after it was due an anchor is late.
func (m *Machine) lateAfter() time.Duration { return max(m.c.Interval/2, 2*time.Minute) }

// end notes how the run ended.
func (m *Machine) end(ctx context.Context, r *round, why *stop) error {
	if err := m.reread(ctx, r); err != nil { // the run may have changed what is newest
		return err
	}
	if why == nil {
		why = r.waiting
	}
	if why == nil {
		gone, ok, err := m.s.anchor(ctx, m.c.Pool, qGoneFinal)
		if err != nil {
			return err
		}
		if ok {
			why = &stop{code: TroubleVanished, detail: fmt.Sprintf("anchor %d was final and is gone from the chain: proofs over it are suspended, and it is being anchored again", gone.Seq)}
		}
	}
	code, detail := Trouble(""), ""
	if why != nil {
		code, detail = why.code, why.detail
		if r.due {
			r.st.late = code
		}
	}
	if code != r.st.code {
		if why != nil {
			m.log.WarnContext(ctx, "anchoring waits", "code", code, "do", detail, "err", why.cause)
		} else {
			m.log.InfoContext(ctx, "anchoring goes on", "was", r.st.code, "since", r.st.since)
		}
	}
	if code != r.st.code || r.st.since.IsZero() {
		r.st.since = r.now
	}
	r.st.code, r.st.detail = code, detail
	if r.asked {
		r.st.answeredAt = r.now
		r.st.latest, r.st.safe, r.st.finality, r.st.headSeq = r.blocks.Latest.Number, r.blocks.Safe.Number, r.blocks.Finalized.Number, r.head.Seq
	}
	if err := m.s.putStanding(ctx, m.c.Pool, &r.st); err != nil {
		return err
	}
	return m.show(ctx, r)
}

// observe shows in this process's metrics what another one does.
func (m *Machine) observe(ctx context.Context) error {
	st, ok, err := m.s.standing(ctx, m.c.Pool)
	if err != nil || !ok {
		return err
	}
	r := &round{now: m.c.Now().UTC(), st: st}
	if err := m.reread(ctx, r); err != nil {
		return err
	}
	return m.show(ctx, r)
}

// show sets the metrics.
func (m *Machine) show(ctx context.Context, r *round) error {
	last, ok, err := m.s.anchor(ctx, m.c.Pool, qInBlock, int64(1<<63-1))
	if err != nil {
		return err
	}
	if !ok {
		m.metrics.stand(r, nil)
		return nil
	}
	m.metrics.stand(r, &last)
	return nil
}

// step does the first thing that is to be done. more says that there may be another one.
func (m *Machine) step(ctx context.Context, r *round) (more bool, err error) {
	if err := m.here(ctx, "step"); err != nil {
		return false, err
	}
	if err := m.ask(ctx, r); err != nil {
		return false, err
	}
	if n, err := m.findGone(ctx, r); err != nil || n > 0 {
		return n > 0, err
	}
	open, err := m.s.anchors(ctx, m.c.Pool, qOpen)
	if err != nil {
		return false, err
	}
	for i := range open {
		a := &open[i]
		if a.State.InBlock() {
			if moved, err := m.mature(ctx, r, a); err != nil || moved {
				return moved, err
			}
			continue
		}
		// The lowest one that is in no block: those above it cannot be in one before it.
		return m.drive(ctx, r, a)
	}
	if err := m.reread(ctx, r); err != nil {
		return false, err
	}
	return m.next(ctx, r, len(open) > 0)
}

// ask asks the chain what every step needs.
func (m *Machine) ask(ctx context.Context, r *round) (err error) {
	if err := m.c.Chain.Check(ctx); err != nil {
		return m.chainTrouble(err)
	}
	if r.blocks, err = m.c.Chain.Blocks(ctx); err != nil {
		return m.chainTrouble(err)
	}
	if r.head, err = m.c.Chain.Head(ctx); err != nil {
		return m.chainTrouble(err)
	}
	r.asked = true
	return nil
}

// chainTrouble says what a failed call means to an operator. The text of the error goes to the log only: it can name an endpoint.
func (m *Machine) chainTrouble(err error) error {
	s := &stop{cause: err}
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, ErrWrongChain):
		s.code, s.detail = TroubleWrongChain, fmt.Sprintf("an endpoint of BASE_RPC_URL does not serve chain %d: set it, or BLOCKCHAIN_CHAIN_ID, right", m.s.chainID)
	case errors.Is(err, ErrWrongContract):
		s.code, s.detail = TroubleWrongContract, fmt.Sprintf("there is no AnchorLog at 0x%x on chain %d: set BLOCKCHAIN_CONTRACT to the address that hashinsight-hub anchor deploy has printed", m.s.contract, m.s.chainID)
	case errors.Is(err, ErrDisagree):
		s.code, s.detail = TroubleDisagree, "the endpoints of BASE_RPC_URL contradict each other: nothing is believed until they agree; take out the one that is wrong"
	case errors.Is(err, ErrNoFinality):
		s.code, s.detail = TroubleUnreachable, fmt.Sprintf("too few endpoints of BASE_RPC_URL say which blocks of chain %d are safe and final (the tags safe and finalized): add one that does; a chain without finality cannot be anchored on", m.s.chainID)
	case errors.Is(err, errNoBlock):
		s.code, s.detail = TroubleBehind, "an endpoint of BASE_RPC_URL does not give a block that the chain has gone past: it lags, or keeps no old blocks; add one that does"
	case errors.Is(err, ErrRefused):
		s.code, s.detail = TroubleRefused, "every endpoint of BASE_RPC_URL refuses the transaction: the log says with which words"
	case errors.Is(err, ErrNoKey):
		s.code, s.detail = TroubleRefused, "the key does not sign: see BLOCKCHAIN_PRIVATE_KEY and BLOCKCHAIN_KEYSTORE"
	case errors.Is(err, ErrFunds):
		s.code, s.detail = TroubleFunds, m.fundText()
	default:
		s.code, s.detail = TroubleUnreachable, "no endpoint of BASE_RPC_URL gives an answer that can be used: nothing is lost, one later anchor covers all"
	}
	return s
}

func (m *Machine) fundText() string {
	return fmt.Sprintf("the account 0x%x cannot pay for a transaction on chain %d: send it some ETH there", m.account, m.s.chainID)
}

// findGone looks whether the anchors that are in a block still are, from the newest down to the first that is: a chain loses blocks from its end.
func (m *Machine) findGone(ctx context.Context, r *round) (n int, err error) {
	for below := int64(1<<63 - 1); n < maxGone; n++ {
		a, ok, err := m.s.anchor(ctx, m.c.Pool, qInBlock, below)
		if err != nil || !ok {
			return n, err
		}
		if a.Block > r.blocks.Latest.Number {
			return n, &stop{code: TroubleBehind, detail: fmt.Sprintf("the chain is said to end at block %d, and anchor %d was in block %d: the endpoint lags, or the chain was set back", r.blocks.Latest.Number, a.Seq, a.Block)}
		}
		canonical, err := m.c.Chain.Canonical(ctx, a.Block, a.BlockHash)
		if err != nil {
			return n, m.chainTrouble(err)
		}
		if canonical {
			return n, nil
		}
		if err := m.gone(ctx, &a); err != nil {
			return n, err
		}
		below = int64(a.Seq)
	}
	return n, nil
}

// gone notes that an anchor's block is no longer part of the chain.
func (m *Machine) gone(ctx context.Context, a *Anchor) error {
	was := a.State
	if err := pg.InTx(ctx, m.c.Pool, func(tx pgx.Tx) error {
		if err := m.s.change(ctx, tx, a, qGone, m.c.Now()); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, qGoneTx, m.s.args(int64(a.Seq), m.c.Now())...); err != nil {
			return lostOr(fmt.Errorf("anchor %d: its transaction: %w", a.Seq, err))
		}
		return nil
	}); err != nil {
		return err
	}
	if was == Finalized {
		m.metrics.event(eventVanished)
		m.log.ErrorContext(ctx, "a final anchor is gone from the chain: proofs over it are suspended, it is anchored again", "seq", a.Seq, "block", a.Block, "tx", fmt.Sprintf("0x%x", a.TxHash))
	} else {
		m.metrics.event(eventOrphaned)
		m.log.InfoContext(ctx, "an anchor's block is no longer part of the chain: it is sent again", "seq", a.Seq, "block", a.Block)
	}
	return m.here(ctx, "gone")
}

// mature moves an anchor on as the chain moves on over its block.
func (m *Machine) mature(ctx context.Context, r *round, a *Anchor) (moved bool, err error) {
	switch {
	case a.Block <= r.blocks.Finalized.Number:
		// findGone has only looked at the newest one. What is final is shown by the event itself, in the block that has the hash: a receipt is one endpoint's word.
		canonical, err := m.c.Chain.Canonical(ctx, a.Block, a.BlockHash)
		if err != nil {
			return false, m.chainTrouble(err)
		}
		if !canonical {
			return true, m.gone(ctx, a)
		}
		events, err := m.c.Chain.Events(ctx, a.Block, a.Block)
		if err != nil {
			return false, m.chainTrouble(err)
		}
		for _, e := range events {
			if e.Seq == a.Seq && e.Hour == a.Hour && e.Root == a.Root && e.PrevRoot == a.PrevRoot && e.Size == a.Size && e.TxHash == a.TxHash && e.BlockHash == a.BlockHash {
				if err := m.s.change(ctx, m.c.Pool, a, qFinal, m.c.Now()); err != nil {
					return false, err
				}
				m.metrics.event(eventFinalized)
				return true, m.here(ctx, "finalized")
			}
		}
		return false, m.noEvent(a.Seq, a.Block)
	case a.State == Mined && a.Block <= r.blocks.Safe.Number:
		if err := m.s.change(ctx, m.c.Pool, a, qState, int16(Safe)); err != nil {
			return false, err
		}
		return true, m.here(ctx, "safe")
	}
	return false, nil
}

// drive brings an anchor that is in no block one step nearer to one.
func (m *Machine) drive(ctx context.Context, r *round, a *Anchor) (more bool, err error) {
	txs, err := m.s.txs(ctx, m.c.Pool, qTxs, m.s.args(int64(a.Seq))...)
	if err != nil {
		return false, err
	}
	if done, err := m.receipts(ctx, r, a, txs); done || err != nil {
		return done, err
	}
	switch {
	case r.head.Seq >= a.Seq: // it is in a block, by a transaction that this database does not know, or an endpoint has no receipts yet
		return m.adopt(ctx, r, a.Seq, a)
	case r.head.Seq+1 < a.Seq: // findGone will see which one is gone, as soon as all endpoints are as far
		return false, m.lag(r, a.Seq-1)
	}
	var live *transaction
	for i := range txs {
		switch t := &txs[i]; {
		case !t.live():
		case t.sender != m.account: // the hub was given another key. What was sent may come into a block; nothing more is done for it.
			return true, m.setTx(ctx, a, t, txReplaced)
		case live == nil:
			live = t
		}
	}
	if r.head.Root != a.PrevRoot {
		return m.rebase(ctx, r, a, live)
	}
	latest, _, err := m.c.Chain.Nonce(ctx)
	if err != nil {
		return false, m.chainTrouble(err)
	}
	now := m.c.Now() // not the run's, which may have begun long before what it has sent
	switch {
	case live == nil && a.State == Failed && len(txs) > 0 && ago(now, txs[0].signedAt) < m.c.Interval:
		return false, m.refusedBy(a, nil)
	case live == nil && len(txs) == 0 && a.State == Built && !r.now.Before(m.after(r.now, a.BuiltAt)) && r.logOK && r.log.Size > a.Size:
		return true, m.rebuild(ctx, r, a) // nothing is signed yet, and a newer checkpoint covers more
	case live == nil && !r.logOK: // what it says of the log may be what the log has since been found to contradict
		return false, m.logWaits()
	case live == nil:
		return m.sign(ctx, a, latest)
	case latest > live.nonce: // and no receipt, and the contract stands where it stood
		m.log.WarnContext(ctx, "another transaction of the account took the nonce: the anchor is signed again", "seq", a.Seq, "nonce", live.nonce)
		if err := m.setTx(ctx, a, live, txVoid); err != nil {
			return false, err
		}
		return true, m.here(ctx, "void")
	case latest < live.nonce:
		// Transactions before it are gone. The anchor itself takes the free nonce; should both be mined, the contract refuses the second.
		m.log.WarnContext(ctx, "transactions of the account are gone: the anchor is signed again with the free nonce", "seq", a.Seq, "nonce", live.nonce, "free", latest)
		return m.sign(ctx, a, latest)
	case live.state == txSigned:
		return m.send(ctx, r, a, live)
	case ago(now, live.sentAt) >= resendAfter:
		return true, m.resend(ctx, a, live)
	case ago(now, live.waitsAt) >= stuckAfter:
		return m.sign(ctx, a, live.nonce)
	}
	return false, nil
}

// lag says that the chain is said to be shorter than it was.
func (m *Machine) lag(r *round, want uint64) error {
	return &stop{code: TroubleBehind, detail: fmt.Sprintf("the contract is said to stand at anchor %d and stood at %d: the endpoint lags, or the chain is being set back", r.head.Seq, want)}
}

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
	return &stop{code: TroubleDisagree, detail: fmt.Sprintf("the endpoint says that anchor %d is in block %d and does not give its event: nothing is believed until it does; add a second endpoint to BASE_RPC_URL", seq, block)}
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

// sign stores a transaction for an anchor. It is sent by the next step, so that nothing is ever sent that is not stored.
func (m *Machine) sign(ctx context.Context, a *Anchor, nonce uint64) (more bool, err error) {
	same, err := m.s.txs(ctx, m.c.Pool, qTxsNonce, int64(m.s.chainID), m.account[:], int64(nonce))
	if err != nil {
		return false, err
	}
	want, err := m.c.Chain.Fees(ctx)
	if err != nil {
		return false, m.chainTrouble(err)
	}
	most, err := m.c.Chain.Ceiling(ctx)
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
	if len(same) > 0 && (above(fee) || len(same) > maxReplacements) {
		return false, m.again(ctx, a, &same[0])
	}
	call := Call{Seq: a.Seq, Hour: a.Hour, PrevRoot: a.PrevRoot, Root: a.Root, Size: a.Size}
	if err := m.c.Chain.Try(ctx, call); err != nil { // what the contract would refuse costs nothing yet
		return false, m.refused(a, err)
	}
	raw, hash, err := m.c.Chain.Build(ctx, nonce, fee, call)
	if err != nil {
		return false, m.chainTrouble(err)
	}
	to := a.State
	if to == Built || to == Sent {
		to = Signed
	}
	if err := pg.InTx(ctx, m.c.Pool, func(tx pgx.Tx) error {
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
	}); err != nil {
		return false, err
	}
	if len(same) > 0 {
		m.metrics.event(eventReplaced)
	}
	return true, m.here(ctx, "signed")
}

func tooDear(fee Fee, most *big.Int) error {
	return &stop{code: TroubleFee, detail: fmt.Sprintf("gas costs %s wei now and the ceiling is %s (BLOCKCHAIN_MAX_FEE_GWEI, BLOCKCHAIN_MAX_USD_DAY): the next anchor covers what waits", fee.Max, most)}
}

// refused says what it means that the contract would not take an anchor.
func (m *Machine) refused(a *Anchor, err error) error {
	switch {
	case errors.Is(err, ErrBadSeq) || errors.Is(err, ErrBadPrevRoot) || errors.Is(err, ErrBadSize):
		return &stop{code: TroubleBehind, detail: fmt.Sprintf("the contract has moved on while anchor %d was made: the next run reads where it stands", a.Seq), cause: err}
	case errors.Is(err, ErrRole) || errors.Is(err, ErrReverted):
		return m.refusedBy(a, err)
	}
	return m.chainTrouble(err)
}

func (m *Machine) refusedBy(a *Anchor, cause error) error {
	return &stop{code: TroubleReverted, detail: fmt.Sprintf("the contract refuses anchor %d, which is the next one: look with hashinsight-hub anchor verify whether 0x%x may still anchor; what failed in a block is tried again once in %s", a.Seq, m.account, m.c.Interval), cause: cause}
}

// again sends what was sent under a nonce before, as nothing dearer may be sent: once it is in a block, the nonce is over.
func (m *Machine) again(ctx context.Context, a *Anchor, t *transaction) error {
	if err := m.resend(ctx, a, t); err != nil {
		return err
	}
	return &stop{code: TroubleStuck, detail: fmt.Sprintf("transaction 0x%x with nonce %d waits for a block, and may not be replaced by a dearer one: it goes on when gas is cheaper, or the ceiling (BLOCKCHAIN_MAX_FEE_GWEI, BLOCKCHAIN_MAX_USD_DAY) higher", t.hash, t.nonce)}
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
		r.waiting = &stop{code: TroubleNonce, detail: fmt.Sprintf("nonce %d of 0x%x is taken: if this stays, something else sends with the account; it must be the hub's alone", t.nonce, m.account), cause: err}
		return false, nil
	case errors.Is(err, ErrUnderpriced):
		m.log.InfoContext(ctx, "another transaction has the nonce: this one is replaced by a dearer one", "seq", a.Seq, "nonce", t.nonce)
		return m.sign(ctx, a, t.nonce)
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
	err := m.c.Chain.Send(ctx, t.raw)
	if err != nil && !errors.Is(err, ErrNonceTooLow) && !errors.Is(err, ErrUnderpriced) {
		return m.chainTrouble(err)
	}
	if _, err := m.c.Pool.Exec(ctx, qSentTx, t.id, m.c.Now()); err != nil {
		return fmt.Errorf("anchor %d: noting that its transaction was sent again: %w", a.Seq, err)
	}
	m.metrics.event(eventResent)
	return m.here(ctx, "resent")
}

// next builds the next anchor when it is due, after reading back what the chain has and the database has not.
func (m *Machine) next(ctx context.Context, r *round, open bool) (more bool, err error) {
	switch {
	case r.head.Seq > r.newest.Seq:
		return m.adopt(ctx, r, r.newest.Seq+1, nil)
	case r.head.Seq < r.newest.Seq:
		return false, m.lag(r, r.newest.Seq)
	case r.some && r.head.Root != r.newest.Root:
		return false, m.foreign(r.head.Seq)
	case !r.logOK:
		if r.now.Before(r.dueAt) {
			return false, nil
		}
		return false, m.logWaits()
	case open || r.now.Before(r.dueAt) || r.log.Size == 0 || r.log.Size == r.newest.Size:
		return false, nil
	case r.log.Size < r.newest.Size:
		return false, &stop{code: TroubleLogBehind, detail: fmt.Sprintf("the log has %d entries and %d are anchored: it reads back what its database has lost", r.log.Size, r.newest.Size)}
	}
	if r.some {
		if err := m.continues(ctx, &r.newest); err != nil {
			return false, err
		}
	}
	tag, err := m.c.Pool.Exec(ctx, qBuild, m.s.args(int64(r.newest.Seq+1), hourOf(r.now), int64(r.log.Size), r.log.Root[:], r.newest.Root[:], r.log.Checkpoint, r.dueAt, r.now)...)
	if err != nil {
		return false, fmt.Errorf("building anchor %d: %w", r.newest.Seq+1, err)
	}
	if tag.RowsAffected() == 0 {
		return false, errLost
	}
	return true, m.here(ctx, "built")
}

func (m *Machine) logWaits() error {
	return &stop{code: TroubleLogBehind, detail: "the log has no checkpoint that may be anchored: hashinsight-hub log checkpoint says what it waits for"}
}

// continues looks whether the log still begins with what an anchor says of it.
func (m *Machine) continues(ctx context.Context, a *Anchor) error {
	was, ok, err := m.c.LogAt(ctx, a.Size)
	switch {
	case err != nil:
		return &stop{code: TroubleLogBehind, detail: fmt.Sprintf("the log's first %d entries cannot be read: hashinsight-hub log checkpoint says why", a.Size), cause: err}
	case !ok:
		return &stop{code: TroubleLogBehind, detail: fmt.Sprintf("the log has fewer than the %d entries that are anchored: it reads back what its database has lost", a.Size)}
	case was.Root != a.Root:
		return &stop{code: TroubleLogFork, detail: fmt.Sprintf("the log's first %d entries are not those that anchor %d says: entries were changed; hashinsight-hub log fsck shows where. Nothing is anchored until they are as they were", a.Size, a.Seq)}
	}
	return nil
}

func hourOf(t time.Time) int64 { return t.Unix() / 3600 }

// rebuild puts the newest checkpoint in the place of one for which nothing is signed.
func (m *Machine) rebuild(ctx context.Context, r *round, a *Anchor) error {
	if err := m.s.change(ctx, m.c.Pool, a, qRebuild, hourOf(r.now), int64(r.log.Size), r.log.Root[:], a.PrevRoot[:], r.log.Checkpoint, r.now); err != nil {
		return err
	}
	return m.here(ctx, "built")
}

// rebase is for an anchor that was built on another root than the contract now holds: the one before it came to the chain with a later checkpoint than this
// database knew, and was read back. No transaction of it can succeed any more.
func (m *Machine) rebase(ctx context.Context, r *round, a *Anchor, live *transaction) (bool, error) {
	before, ok, err := m.s.anchor(ctx, m.c.Pool, qAnchor, int64(a.Seq-1))
	if err != nil {
		return false, err
	}
	if a.Seq > 1 && !ok || r.head.Root != before.Root {
		return false, m.foreign(r.head.Seq)
	}
	if !r.logOK || r.log.Size <= before.Size {
		return false, &stop{code: TroubleLogBehind, detail: fmt.Sprintf("anchor %d is to be built again, for which the log must be longer than %d entries", a.Seq, before.Size)}
	}
	if live != nil {
		return true, m.setTx(ctx, a, live, txVoid)
	}
	a.PrevRoot = before.Root
	return true, m.rebuild(ctx, r, a)
}

// foreign says that the contract is another log's, too.
func (m *Machine) foreign(seq uint64) error {
	return &stop{code: TroubleForeign, detail: fmt.Sprintf("anchor %d in the contract is not of this log: another hub anchors there, or this one's log was made anew. Take the key away from the other one, or deploy a contract of this log's own: hashinsight-hub anchor deploy", seq)}
}
