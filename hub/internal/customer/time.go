package customer

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/pkg/evidence"
)

// Times that are taken at all, so that a slip of the keyboard is found.
const (
	firstMS = 1_577_836_800_000 // 2020-01-01T00:00:00Z
	lastMS  = 4_102_444_800_000 // 2100-01-01T00:00:00Z, not included
)

// text writes a time for a person; 0 is the open end.
func text(ms int64) string {
	if ms == 0 {
		return "open"
	}
	t := time.UnixMilli(ms).UTC()
	if ms%1000 == 0 {
		return t.Format(time.RFC3339)
	}
	return t.Format("2006-01-02T15:04:05.000Z")
}

// inRange refuses times that nobody means.
func inRange(what string, ms int64) error {
	if ms < firstMS || ms >= lastMS {
		return invalid("%s is %s: want a time from 2020 to 2099, in UTC, such as 2026-11-01T00:00:00Z", what, text(ms))
	}
	return nil
}

// begins refuses beginnings that nobody means, or that lie too far from now.
func begins(what string, ms int64, now time.Time) error {
	if err := inRange(what, ms); err != nil {
		return err
	}
	if d := ms - now.UnixMilli(); d > MaxAhead.Milliseconds() || d < -MaxAhead.Milliseconds() {
		return invalid("%s is %s, more than %d days from now: check the year", what, text(ms), MaxAhead/(24*time.Hour))
	}
	return nil
}

// openEnd is an end for comparisons: 0 is after every time.
func openEnd(ms int64) int64 {
	if ms == 0 {
		return math.MaxInt64
	}
	return ms
}

// endOf turns such an end back.
func endOf(ms int64) int64 {
	if ms == math.MaxInt64 {
		return 0
	}
	return ms
}

// month returns the first ms of the UTC month that a time is in, and of the next.
func month(ms int64) (begin, end int64) {
	t := time.UnixMilli(ms).UTC()
	b := time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
	return b.UnixMilli(), b.AddDate(0, 1, 0).UnixMilli()
}

// open refuses a change of what an issued statement rests on, and says from when on changes are possible.
func (s *Store) open(ctx context.Context, tx pgx.Tx, contract uuid.UUID, fromMS, toMS int64, now time.Time) error {
	closed, err := s.c.Closed(ctx, tx, contract, fromMS, toMS)
	if err != nil || !closed {
		return err
	}
	first := int64(0)
	for begin, end := month(fromMS); begin < now.UnixMilli(); begin, end = month(end) {
		if closed, err = s.c.Closed(ctx, tx, contract, begin, end); err != nil {
			return err
		}
		if closed {
			first = end
		}
	}
	return conflict("this would change contract %s from %s on, and the statement of a month that it touches has been issued: such changes are possible from %s on", contract, text(fromMS), text(first))
}

const (
	// settingUp is how long after a contract was recorded its terms and miners may be recorded as of a time before: somebody types in what was agreed.
	settingUp = 7 * 24 * time.Hour
	// slip is how long after an assignment was recorded it may be called off although it has begun: the wrong miner was named.
	slip = time.Hour
)

// over reports whether one of the slots that begin at or after a time is over. What was owed in it is known by now, and who could still choose whether it
// was owed would choose what suits: the month of a contract would lose its downtime, or gain miners that are known to have been up.
func over(fromMS int64, now time.Time) bool {
	first := (fromMS + evidence.SlotMS - 1) / evidence.SlotMS * evidence.SlotMS
	return first+evidence.SlotMS <= now.UnixMilli()
}

const qContractCreated = `SELECT created_at FROM contract WHERE id = $1`

// ahead refuses what would hold for slots that are over, unless the contract is being set up.
func (s *Store) ahead(ctx context.Context, tx pgx.Tx, contract uuid.UUID, what string, fromMS int64, now time.Time) error {
	if !over(fromMS, now) {
		return nil
	}
	var created time.Time
	if err := tx.QueryRow(ctx, qContractCreated, contract).Scan(&created); err != nil {
		return fmt.Errorf("looking at contract %s: %w", contract, err)
	}
	if now.Sub(created) <= settingUp {
		return nil
	}
	return conflict("%s is %s, before now (%s), and contract %s is older than %d days: what happened until now is judged by what was recorded then; name a time from now on",
		what, text(fromMS), text(now.UnixMilli()), contract, settingUp/(24*time.Hour))
}
