package anchor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// txState says how far a transaction has come.
type txState uint8

// States of transactions. The numbers are in the database.
const (
	txSigned   txState = 1
	txSent     txState = 2
	txReplaced txState = 3 // by another transaction of the anchor; it may be mined all the same
	txMined    txState = 4
	txReverted txState = 5
	txVoid     txState = 6 // its nonce went to another transaction
)

// transaction is a signed transaction of an anchor.
type transaction struct {
	id          int64
	sender      [20]byte
	nonce       uint64
	maxFee, tip int64 // wei for a unit of gas
	raw         []byte
	hash        [32]byte
	state       txState
	signedAt    time.Time
	waitsAt     time.Time // since when it waits for a block: it was signed, or has lost its block
	sentAt      time.Time // zero: never
}

func (t *transaction) live() bool { return t.state == txSigned || t.state == txSent }

// errLost means that another process has changed a row since it was read: this one's run ends, and nothing is wrong.
var errLost = errors.New("another process went on with it")

const (
	anchorColumns = `
SELECT chain_id, contract, seq, hour, size, root, prev_root, state, version, adopted, vanished, late, due_at, built_at, mined_at, finalized_at, vanished_at,
	tx_hash, block_number, block_hash, block_time FROM anchor WHERE chain_id = $1 AND contract = $2`
	qOpen    = anchorColumns + ` AND state <> 6 ORDER BY seq LIMIT 64`
	qInBlock = anchorColumns + ` AND state IN (4, 5, 6) AND seq < $3 ORDER BY seq DESC LIMIT 1`
	qNewest  = anchorColumns + ` ORDER BY seq DESC LIMIT 1`
	qAnchor  = anchorColumns + ` AND seq = $3`
	qList    = anchorColumns + ` AND seq < $3 ORDER BY seq DESC LIMIT $4`
	// The oldest final one that covers an entry, or else the oldest in a block: size rises with seq, or stays where somebody repeats an anchor.
	qCoveringFinal = anchorColumns + ` AND state = 6 AND size > $3 ORDER BY size, seq LIMIT 1`
	qCoveringMined = anchorColumns + ` AND state IN (4, 5) AND size > $3 ORDER BY size, seq LIMIT 1`
	qWidest        = anchorColumns + ` AND state IN (4, 5, 6) ORDER BY size DESC, seq LIMIT 1`
	qGoneFinal     = anchorColumns + ` AND state = 9 ORDER BY seq LIMIT 1`
	qCheckpoint    = `SELECT checkpoint FROM anchor WHERE chain_id = $1 AND contract = $2 AND seq = $3`

	qBuild = `
INSERT INTO anchor (chain_id, contract, seq, hour, size, root, prev_root, checkpoint, state, due_at, built_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 1, $9, $10) ON CONFLICT DO NOTHING`
	qRebuild = `
UPDATE anchor SET hour = $5, size = $6, root = $7, prev_root = $8, checkpoint = $9, built_at = $10, state = 1, version = version + 1
WHERE chain_id = $1 AND contract = $2 AND seq = $3 AND version = $4`
	qAdoptNew = `
INSERT INTO anchor (chain_id, contract, seq, hour, size, root, prev_root, checkpoint, state, adopted, late, due_at, built_at, mined_at, tx_hash, block_number, block_hash, block_time)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 4, true, '', $12, $12, $13, $9, $10, $11, $12) ON CONFLICT DO NOTHING`
	qAdopt = `
UPDATE anchor SET hour = $5, size = $6, root = $7, prev_root = $8, checkpoint = $9, state = 4, mined_at = $14, late = $15,
	adopted = adopted OR NOT EXISTS (SELECT FROM anchor_tx t WHERE t.chain_id = $1 AND t.hash = $10),
	tx_hash = $10, block_number = $11, block_hash = $12, block_time = $13, version = version + 1
WHERE chain_id = $1 AND contract = $2 AND seq = $3 AND version = $4`
	qMined = `
UPDATE anchor SET state = 4, mined_at = $9, late = $10, tx_hash = $5, block_number = $6, block_hash = $7, block_time = $8, version = version + 1
WHERE chain_id = $1 AND contract = $2 AND seq = $3 AND version = $4`
	qState = `UPDATE anchor SET state = $5, version = version + 1 WHERE chain_id = $1 AND contract = $2 AND seq = $3 AND version = $4`
	qFinal = `UPDATE anchor SET state = 6, finalized_at = $5, version = version + 1 WHERE chain_id = $1 AND contract = $2 AND seq = $3 AND version = $4`
	// What is no longer in a block: 9 if it was final, else 7.
	qGone = `
UPDATE anchor SET state = CASE WHEN state = 6 THEN 9 ELSE 7 END, vanished = vanished + CASE WHEN state = 6 THEN 1 ELSE 0 END,
	vanished_at = CASE WHEN state = 6 THEN $5 ELSE vanished_at END, finalized_at = NULL,
	tx_hash = NULL, block_number = NULL, block_hash = NULL, block_time = NULL, version = version + 1
WHERE chain_id = $1 AND contract = $2 AND seq = $3 AND version = $4`

	txColumns = `SELECT id, sender, nonce, max_fee, tip, raw, hash, state, signed_at, waits_at, sent_at FROM anchor_tx WHERE `
	qTxs      = txColumns + `chain_id = $1 AND contract = $2 AND seq = $3 ORDER BY id DESC LIMIT 32`
	qTxsNonce = txColumns + `chain_id = $1 AND sender = $2 AND nonce = $3 ORDER BY id DESC LIMIT 32`
	qAddTx    = `
INSERT INTO anchor_tx (chain_id, contract, seq, sender, nonce, max_fee, tip, raw, hash, state, signed_at, waits_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1, $10, $10)`
	// All that could stand in a new transaction's way: those of its anchor, and those of its nonce.
	qReplaceTxs = `UPDATE anchor_tx SET state = 3 WHERE chain_id = $1 AND state IN (1, 2) AND (contract = $2 AND seq = $3 OR sender = $4 AND nonce = $5)`
	qSetTx      = `UPDATE anchor_tx SET state = $2 WHERE id = $1`
	qSentTx     = `UPDATE anchor_tx SET state = 2, sent_at = $2 WHERE id = $1 AND state IN (1, 2)`
	// An anchor is in a block with the transaction $4: the others of it are over.
	qMinedTx = `
UPDATE anchor_tx SET state = CASE WHEN hash = $4 THEN 4 ELSE 3 END
WHERE chain_id = $1 AND contract = $2 AND seq = $3 AND (hash = $4 OR state IN (1, 2))`
	// The transaction that was in a block is to be sent again, unless another one of its nonce is on its way.
	qGoneTx = `
UPDATE anchor_tx t SET state = CASE WHEN EXISTS (SELECT FROM anchor_tx o WHERE o.chain_id = t.chain_id AND o.sender = t.sender AND o.nonce = t.nonce AND o.state IN (1, 2)) THEN 3 ELSE 1 END, waits_at = $4
WHERE chain_id = $1 AND contract = $2 AND seq = $3 AND state = 4`

	qStatus = `
SELECT account, code, problem, params, detail, since, late, checked_at, answered_at, covered_at, log_size, latest_block, safe_block, finalized_block, head_seq
FROM anchor_status WHERE chain_id = $1 AND contract = $2`
	qPutStatus = `
INSERT INTO anchor_status (chain_id, contract, account, code, problem, params, detail, since, late, checked_at, answered_at, covered_at, log_size, latest_block, safe_block, finalized_block, head_seq)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
ON CONFLICT (chain_id, contract) DO UPDATE SET account = excluded.account, code = excluded.code, problem = excluded.problem, params = excluded.params, detail = excluded.detail, since = excluded.since, late = excluded.late,
	checked_at = excluded.checked_at, answered_at = excluded.answered_at, covered_at = excluded.covered_at, log_size = excluded.log_size,
	latest_block = excluded.latest_block, safe_block = excluded.safe_block, finalized_block = excluded.finalized_block, head_seq = excluded.head_seq`

	qLock = `SELECT pg_try_advisory_xact_lock($1, hashtext($2))`
)

const lockAnchor = 730_522_140 // the advisory locks of contracts; arbitrary but fixed

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// series is one contract on one chain: what all rows are found by.
type series struct {
	chainID  uint64
	contract [20]byte
}

// args puts the series before further arguments. Numbers of a chain stay far below 2^63.
func (s *series) args(further ...any) []any {
	return append([]any{int64(s.chainID), s.contract[:]}, further...)
}

func (s *series) anchors(ctx context.Context, q querier, sql string, further ...any) ([]Anchor, error) {
	rows, err := q.Query(ctx, sql, s.args(further...)...)
	if err != nil {
		return nil, fmt.Errorf("reading anchors: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanAnchor)
	if err != nil {
		return nil, fmt.Errorf("reading anchors: %w", err)
	}
	return list, nil
}

// anchor returns the first anchor that a query finds.
func (s *series) anchor(ctx context.Context, q querier, sql string, further ...any) (a Anchor, ok bool, err error) {
	list, err := s.anchors(ctx, q, sql, further...)
	if err != nil || len(list) == 0 {
		return a, false, err
	}
	return list[0], true, nil
}

func scanAnchor(r pgx.CollectableRow) (a Anchor, err error) {
	var chain, seq, hour, size int64
	var contract, root, prev, tx, hash []byte
	var block *int64
	var mined, final, gone, at *time.Time
	if err := r.Scan(&chain, &contract, &seq, &hour, &size, &root, &prev, &a.State, &a.version, &a.Adopted, &a.Vanished, &a.Late, &a.DueAt, &a.BuiltAt, &mined, &final, &gone,
		&tx, &block, &hash, &at); err != nil {
		return a, err
	}
	a.ChainID, a.Seq, a.Hour, a.Size = uint64(chain), uint64(seq), uint64(hour), uint64(size)
	copy(a.Contract[:], contract)
	copy(a.Root[:], root)
	copy(a.PrevRoot[:], prev)
	copy(a.TxHash[:], tx)
	copy(a.BlockHash[:], hash)
	if block != nil {
		a.Block = uint64(*block)
	}
	a.DueAt, a.BuiltAt = a.DueAt.UTC(), a.BuiltAt.UTC()
	a.MinedAt, a.FinalizedAt, a.VanishedAt, a.BlockTime = orZero(mined), orZero(final), orZero(gone), orZero(at)
	return a, nil
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

func orNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func (s *series) txs(ctx context.Context, q querier, sql string, args ...any) ([]transaction, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("reading transactions: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (t transaction, err error) {
		var nonce int64
		var sender, hash []byte
		var sent *time.Time
		err = r.Scan(&t.id, &sender, &nonce, &t.maxFee, &t.tip, &t.raw, &hash, &t.state, &t.signedAt, &t.waitsAt, &sent)
		t.nonce, t.sentAt = uint64(nonce), orZero(sent)
		copy(t.sender[:], sender)
		copy(t.hash[:], hash)
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading transactions: %w", err)
	}
	return list, nil
}

// change runs an update of one row under its version.
func (s *series) change(ctx context.Context, q querier, a *Anchor, sql string, further ...any) error {
	tag, err := q.Exec(ctx, sql, s.args(append([]any{int64(a.Seq), a.version}, further...)...)...)
	if err != nil {
		return lostOr(fmt.Errorf("anchor %d: %w", a.Seq, err))
	}
	if tag.RowsAffected() != 1 {
		return errLost
	}
	a.version++
	return nil
}

// lostOr turns what the database's constraints refuse into errLost: another process wrote first. That this hub would repeat a size of its own is no matter of who is first.
func lostOr(err error) error {
	if pe, ok := errors.AsType[*pgconn.PgError](err); ok && pe.Code == "23505" && pe.ConstraintName != "anchor_size_own" {
		return fmt.Errorf("%w: %s", errLost, pe.ConstraintName)
	}
	return err
}

// standing is the row of anchor_status.
type standing struct {
	account                [20]byte
	code                   Trouble
	problem                Problem
	params                 Params
	detail                 string
	since                  time.Time
	late                   Trouble
	checkedAt              time.Time
	answeredAt, coveredAt  time.Time // zero: never
	logSize                uint64
	latest, safe, finality uint64 // numbers of blocks
	headSeq                uint64
}

func (s *series) standing(ctx context.Context, q querier) (st standing, ok bool, err error) {
	var account []byte
	var answered, covered *time.Time
	var size, latest, safe, final, seq int64
	err = q.QueryRow(ctx, qStatus, s.args()...).Scan(&account, &st.code, &st.problem, &st.params, &st.detail, &st.since, &st.late, &st.checkedAt, &answered, &covered, &size, &latest, &safe, &final, &seq)
	if errors.Is(err, pgx.ErrNoRows) {
		return st, false, nil
	}
	if err != nil {
		return st, false, fmt.Errorf("reading how anchoring stands: %w", err)
	}
	if troubleOf[st.problem] != st.code { // the row is of a hub before or after this one, which knows other problems
		st.problem, st.params = "", Params{}
	}
	copy(st.account[:], account)
	st.since, st.checkedAt, st.answeredAt, st.coveredAt = st.since.UTC(), st.checkedAt.UTC(), orZero(answered), orZero(covered)
	st.logSize, st.latest, st.safe, st.finality, st.headSeq = uint64(size), uint64(latest), uint64(safe), uint64(final), uint64(seq)
	return st, true, nil
}

func (s *series) putStanding(ctx context.Context, q querier, st *standing) error {
	if _, err := q.Exec(ctx, qPutStatus, s.args(st.account[:], string(st.code), string(st.problem), st.params, st.detail, st.since, string(st.late), st.checkedAt, orNil(st.answeredAt), orNil(st.coveredAt),
		int64(st.logSize), int64(st.latest), int64(st.safe), int64(st.finality), int64(st.headSeq))...); err != nil {
		return fmt.Errorf("noting how anchoring stands: %w", err)
	}
	return nil
}
