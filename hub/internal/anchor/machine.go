package anchor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
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
	verdict verdict
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
			why = &stop{problem: ProblemVanished, params: Params{Seq: gone.Seq}, detail: fmt.Sprintf("anchor %d was final and is gone from the chain: proofs over it are suspended, and it is being anchored again", gone.Seq)}
		}
	}
	code, is := Trouble(""), stop{}
	if why != nil {
		code, is = why.code(), *why
		if r.due {
			r.st.late = code
		}
	}
	if is.problem != r.st.problem || code != r.st.code {
		if why != nil {
			m.log.WarnContext(ctx, "anchoring waits", "code", code, "problem", is.problem, "do", is.detail, "err", why.cause)
		} else {
			m.log.InfoContext(ctx, "anchoring goes on", "was", r.st.code, "since", r.st.since)
		}
	}
	if code != r.st.code || r.st.since.IsZero() {
		r.st.since = r.now
	}
	r.st.code, r.st.problem, r.st.params, r.st.detail = code, is.problem, is.params, is.detail
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
		m.metrics.stand(r, nil, nil)
		return nil
	}
	widest, err := m.s.widest(ctx, m.c.Pool, &last)
	if err != nil {
		return err
	}
	m.metrics.stand(r, &last, widest)
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

// findGone looks whether the anchors that are in a block still are, from the newest down to the first that is: a chain loses blocks from its end.
func (m *Machine) findGone(ctx context.Context, r *round) (n int, err error) {
	for below := int64(1<<63 - 1); n < maxGone; n++ {
		a, ok, err := m.s.anchor(ctx, m.c.Pool, qInBlock, below)
		if err != nil || !ok {
			return n, err
		}
		if a.Block > r.blocks.Latest.Number {
			return n, &stop{problem: ProblemChainShorter, params: Params{Seq: a.Seq, Block: a.Block, LatestBlock: r.blocks.Latest.Number}, detail: fmt.Sprintf("the chain is said to end at block %d, and anchor %d was in block %d: the endpoint lags, or the chain was set back", r.blocks.Latest.Number, a.Seq, a.Block)}
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
	latest, pending, err := m.c.Chain.Nonce(ctx)
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
		return m.sign(ctx, a, latest, pending > latest)
	case latest > live.nonce: // and no receipt, and the contract stands where it stood
		m.log.WarnContext(ctx, "another transaction of the account took the nonce: the anchor is signed again", "seq", a.Seq, "nonce", live.nonce)
		if err := m.setTx(ctx, a, live, txVoid); err != nil {
			return false, err
		}
		return true, m.here(ctx, "void")
	case latest < live.nonce:
		// Transactions before it are gone. The anchor itself takes the free nonce; should both be mined, the contract refuses the second.
		m.log.WarnContext(ctx, "transactions of the account are gone: the anchor is signed again with the free nonce", "seq", a.Seq, "nonce", live.nonce, "free", latest)
		return m.sign(ctx, a, latest, pending > latest)
	case live.state == txSigned:
		return m.send(ctx, r, a, live)
	case ago(now, live.sentAt) >= resendAfter:
		return true, m.resend(ctx, a, live)
	case ago(now, live.waitsAt) >= stuckAfter:
		return m.sign(ctx, a, live.nonce, true)
	}
	return false, nil
}

// lag says that the chain is said to be shorter than it was.
func (m *Machine) lag(r *round, want uint64) error {
	return &stop{problem: ProblemContractBehind, params: Params{HeadSeq: r.head.Seq, Seq: want}, detail: fmt.Sprintf("the contract is said to stand at anchor %d and stood at %d: the endpoint lags, or the chain is being set back", r.head.Seq, want)}
}
