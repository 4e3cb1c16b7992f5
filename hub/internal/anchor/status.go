package anchor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Store reads what machines, of any process, have written about one contract. It asks no chain.
type Store struct {
	pool *pgxpool.Pool
	s    series
	now  func() time.Time
}

// NewStore returns a Store; now nil means time.Now.
func NewStore(pool *pgxpool.Pool, chainID uint64, contract [20]byte, now func() time.Time) *Store {
	if now == nil {
		now = time.Now
	}
	return &Store{pool, series{chainID, contract}, now}
}

// Covered is an anchor that covers an entry of the log, and its checkpoint.
type Covered struct {
	Anchor
	Checkpoint []byte // the signed note
}

// Covering returns the oldest anchor that covers the log's entry index and is final, or else the oldest that is in a block. One that has vanished or was orphaned
// covers nothing. ok is false when there is none.
func (s *Store) Covering(ctx context.Context, index uint64) (c Covered, ok bool, err error) {
	if index >= 1<<63 {
		return c, false, nil
	}
	for _, sql := range []string{qCoveringFinal, qCoveringMined} {
		if c.Anchor, ok, err = s.s.anchor(ctx, s.pool, sql, int64(index)); err != nil || ok {
			break
		}
	}
	if err != nil || !ok {
		return c, false, err
	}
	err = s.pool.QueryRow(ctx, qCheckpoint, s.s.args(int64(c.Seq))...).Scan(&c.Checkpoint)
	if errors.Is(err, pgx.ErrNoRows) {
		return c, false, nil
	}
	if err != nil {
		return c, false, fmt.Errorf("reading the checkpoint of anchor %d: %w", c.Seq, err)
	}
	return c, true, nil
}

// maxList bounds a list.
const maxList = 1001

// List returns anchors below the number before, the newest first; before 0 means from the newest on.
func (s *Store) List(ctx context.Context, before uint64, limit int) ([]Anchor, error) {
	if before == 0 || before >= 1<<63 {
		before = 1<<63 - 1
	}
	return s.s.anchors(ctx, s.pool, qList, int64(before), min(max(limit, 1), maxList))
}

// Get returns one anchor by its number.
func (s *Store) Get(ctx context.Context, seq uint64) (a Anchor, ok bool, err error) {
	if seq >= 1<<63 {
		return a, false, nil
	}
	return s.s.anchor(ctx, s.pool, qAnchor, int64(seq))
}

// Status is how anchoring stands.
type Status struct {
	ChainID  uint64
	Contract [20]byte
	Account  [20]byte // that pays; to be funded
	Code     Trouble  // what is wrong; empty: nothing
	Problem  Problem  // which case of it; empty: nothing, or one that this version does not know
	Params   Params   // of the problem
	Text     string   // the same in words, with what to do; empty: nothing
	Since    time.Time
	// When the task last ran, when the chain last answered, and when the whole log was last anchored; zero: never.
	CheckedAt, AnsweredAt, CoveredAt time.Time
	LogSize                          uint64
	LatestBlock, SafeBlock           uint64 // as last answered
	FinalizedBlock                   uint64
	HeadSeq                          uint64  // what the contract holds
	Newest                           *Anchor // in whatever state; nil before the first
	Last                             *Anchor // the newest that is in a block; nil: none
	Vanished                         int     // anchors that were final and are in no block now
	Overdue                          bool    // nothing has come into a block for 6 hours, and something should have
}

// qVanished counts what is gone; only a deep reorganisation makes any, and few.
const qVanished = `SELECT count(*) FROM anchor WHERE chain_id = $1 AND contract = $2 AND state = 9`

// Status returns how anchoring stands. Before the first run everything but the contract is empty.
func (s *Store) Status(ctx context.Context) (st Status, err error) {
	row, _, err := s.s.standing(ctx, s.pool)
	if err != nil {
		return st, err
	}
	st = Status{
		ChainID: s.s.chainID, Contract: s.s.contract, Account: row.account, Code: row.code, Problem: row.problem, Params: row.params, Text: row.detail, Since: row.since,
		CheckedAt: row.checkedAt, AnsweredAt: row.answeredAt, CoveredAt: row.coveredAt, LogSize: row.logSize,
		LatestBlock: row.latest, SafeBlock: row.safe, FinalizedBlock: row.finality, HeadSeq: row.headSeq,
	}
	newest, ok, err := s.s.anchor(ctx, s.pool, qNewest)
	if err != nil {
		return st, err
	}
	if ok {
		st.Newest = &newest
	}
	last, ok, err := s.s.anchor(ctx, s.pool, qInBlock, int64(1<<63-1))
	if err != nil {
		return st, err
	}
	if ok {
		st.Last = &last
	}
	if err := s.pool.QueryRow(ctx, qVanished, s.s.args()...).Scan(&st.Vanished); err != nil {
		return st, fmt.Errorf("counting vanished anchors: %w", err)
	}
	widest, err := s.s.widest(ctx, s.pool, st.Last)
	if err != nil {
		return st, err
	}
	st.Overdue = row.overdue(s.now(), widest)
	return st, nil
}

// widest is the oldest anchor in a block that covers as much as the newest one, last, does: one that repeats what was covered is no progress.
func (s *series) widest(ctx context.Context, q querier, last *Anchor) (*Anchor, error) {
	if last == nil || !last.Adopted { // what a hub makes itself repeats nothing
		return last, nil
	}
	a, ok, err := s.anchor(ctx, q, qWidest)
	if err != nil || !ok {
		return last, err
	}
	return &a, nil
}

// overdue says whether an operator should look: for 6 hours neither was the whole log covered, nor did an anchor that covers more than those before it come into a block.
func (st *standing) overdue(now time.Time, widest *Anchor) bool {
	since := st.coveredAt
	if widest != nil && widest.BlockTime.After(since) {
		since = widest.BlockTime
	}
	return !since.IsZero() && now.Sub(since) > overdueAfter
}
