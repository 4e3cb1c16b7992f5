package audit

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
)

// Filter chooses entries; what is empty does not filter.
type Filter struct {
	User     string // id or e-mail
	Action   string
	Category string
	Level    string
	Since    time.Time // entries at or after it
	Until    time.Time // entries before it
}

// MaxPage is the most entries that one query returns.
const MaxPage = 1000

const columns = `seq, hash, event_id, at, level, category, action, user_id, user_email, user_role, ip_address, status, details::text`

const (
	matches = ` ($2 = '' OR user_id = $2 OR user_email = $2) AND ($3 = '' OR action = $3) AND ($4 = '' OR category = $4) AND ($5 = '' OR level = $5)
		AND at >= $6 AND at < $7`
	qBefore = `SELECT ` + columns + ` FROM audit_entry WHERE seq < $1 AND` + matches + ` ORDER BY seq DESC LIMIT $8`
	qAfter  = `SELECT ` + columns + ` FROM audit_entry WHERE seq > $1 AND` + matches + ` ORDER BY seq LIMIT $8`
	qRange  = `SELECT ` + columns + ` FROM audit_entry WHERE seq > $1 ORDER BY seq LIMIT $2`
)

func (f *Filter) args(seq int64, limit int) []any {
	until := f.Until
	if until.IsZero() {
		until = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	// Planned anew each time, with the values: a plan for all of them could use no index.
	return []any{pgx.QueryExecModeCacheDescribe, seq, f.User, f.Action, f.Category, f.Level, f.Since.UTC(), until.UTC(), min(max(limit, 1), MaxPage)}
}

// Before returns entries that match, the newest first, with numbers below seq; seq 0 begins at the newest.
func (l *Log) Before(ctx context.Context, seq int64, f Filter, limit int) ([]Chained, error) {
	if seq <= 0 {
		seq = math.MaxInt64
	}
	return l.list(ctx, qBefore, f.args(seq, limit)...)
}

// After returns entries that match, the oldest first, with numbers above seq.
func (l *Log) After(ctx context.Context, seq int64, f Filter, limit int) ([]Chained, error) {
	return l.list(ctx, qAfter, f.args(seq, limit)...)
}

func (l *Log) list(ctx context.Context, query string, args ...any) ([]Chained, error) {
	rows, err := l.pool.Query(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("audit: read entries: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (c Chained, err error) {
		var hash []byte
		err = r.Scan(&c.Seq, &hash, &c.EventID, &c.At, &c.Level, &c.Category, &c.Action, &c.UserID, &c.UserEmail, &c.UserRole, &c.IP, &c.Status, &c.Details)
		copy(c.Hash[:], hash)
		c.At = c.At.UTC()
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("audit: read entries: %w", err)
	}
	return all, nil
}

// Verdict is what Verify found.
type Verdict struct {
	Entries int64  // that were checked and are in order
	Head    Head   // of the part in order
	BadSeq  int64  // number of the first entry that is not as it was; 0: all are
	BadID   string // its event id; empty when it is missing
	Why     string
	Pending int64 // committed entries without a place yet: more than a few mean that no hub process runs
}

// OK reports whether the chain is whole.
func (v *Verdict) OK() bool { return v.BadSeq == 0 }

const qCountPending = `SELECT count(*) FROM (SELECT FROM audit_pending LIMIT 10000) p`

// Verify reads the whole chain, computes every hash again and names the first entry that does not fit: edited, removed, moved or put in. That the
// end was not cut off, or the chain not written anew, only heads that were kept elsewhere can show.
func (l *Log) Verify(ctx context.Context, kept ...Head) (Verdict, error) {
	var v Verdict
	bad := func(seq int64, id, format string, args ...any) (Verdict, error) {
		v.BadSeq, v.BadID, v.Why = seq, id, fmt.Sprintf(format, args...)
		return v, nil
	}
	if err := l.pool.QueryRow(ctx, qCountPending).Scan(&v.Pending); err != nil {
		return v, fmt.Errorf("audit: count new entries: %w", err)
	}
	expect := make(map[int64]Head, len(kept))
	for _, h := range kept {
		if old, twice := expect[h.Seq]; twice && old != h {
			return v, fmt.Errorf("audit: two different kept heads for entry %d: one of them is not of this chain", h.Seq)
		}
		if h.Seq > 0 {
			expect[h.Seq] = h
		}
	}
	for {
		page, err := l.list(ctx, qRange, v.Head.Seq, MaxPage)
		if err != nil {
			return v, err
		}
		for i := range page {
			c := &page[i]
			if c.Seq != v.Head.Seq+1 {
				return bad(v.Head.Seq+1, "", "it is missing: after entry %d comes entry %d", v.Head.Seq, c.Seq)
			}
			if hashOf(v.Head.Hash, c) != c.Hash {
				return bad(c.Seq, c.EventID.String(), "its hash does not fit its contents and the entry before it: it was changed, moved or put in")
			}
			if h, ok := expect[c.Seq]; ok && h.Hash != c.Hash {
				return bad(c.Seq, c.EventID.String(), "its hash is not the one that was kept: this entry or one before it was changed, and the chain after it written anew")
			}
			v.Head, v.Entries = Head{Seq: c.Seq, Hash: c.Hash}, v.Entries+1
		}
		if len(page) < MaxPage {
			break
		}
	}
	for _, h := range kept {
		if h.Seq > v.Head.Seq {
			return bad(v.Head.Seq+1, "", "it is missing: a head was kept of entry %d, and the chain ends at %d", h.Seq, v.Head.Seq)
		}
	}
	return v, nil
}
