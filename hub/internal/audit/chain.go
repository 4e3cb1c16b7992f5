package audit

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
)

// Chained is an entry with its place in the chain.
type Chained struct {
	Seq       int64    // from 1, contiguous
	Hash      [32]byte // over the hash of the entry before and all that follows
	EventID   uuid.UUID
	At        time.Time // UTC, whole milliseconds
	Level     string
	Category  string
	Action    string
	UserID    string
	UserEmail string
	UserRole  string
	IP        string
	Status    string
	Details   json.RawMessage // a JSON object
}

// line is the form of an entry in the file and in exports: the members of the operators' contract, in its order.
type line struct {
	Timestamp string          `json:"timestamp"`
	EventID   string          `json:"event_id"`
	Level     string          `json:"level"`
	Category  string          `json:"category"`
	Action    string          `json:"action"`
	UserID    *string         `json:"user_id"`
	UserEmail *string         `json:"user_email"`
	UserRole  *string         `json:"user_role"`
	IP        *string         `json:"ip_address"`
	Status    string          `json:"status"`
	Details   json.RawMessage `json:"details"`
}

// timestampLayout is RFC 3339 with milliseconds, in UTC.
const timestampLayout = "2006-01-02T15:04:05.000Z"

// Line returns the entry as one JSON object without a line's end. Who is not known is null.
func (c *Chained) Line() []byte {
	known := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	b, err := json.Marshal(line{
		Timestamp: c.At.UTC().Format(timestampLayout), EventID: c.EventID.String(), Level: c.Level, Category: c.Category, Action: c.Action,
		UserID: known(c.UserID), UserEmail: known(c.UserEmail), UserRole: known(c.UserRole), IP: known(c.IP), Status: c.Status, Details: c.Details,
	})
	if err != nil { // details that are no JSON: the database's type does not let them in
		b, _ = json.Marshal(map[string]string{"event_id": c.EventID.String(), "action": c.Action, "status": "unreadable details"}) // strings always encode
	}
	return b
}

const hashTag = "hsi/audit/v1\x00"

// hashOf computes the hash of an entry from the one before it; the package comment has the form.
func hashOf(prev [32]byte, c *Chained) [32]byte {
	b := make([]byte, 0, 256+len(c.Details))
	b = append(b, hashTag...)
	b = append(b, prev[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(c.Seq))
	b = binary.BigEndian.AppendUint64(b, uint64(c.At.UnixMilli()))
	b = append(b, c.EventID[:]...)
	for _, s := range []string{c.Level, c.Category, c.Action, c.UserID, c.UserEmail, c.UserRole, c.IP, c.Status, string(c.Details)} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	return sha256.Sum256(b)
}

const (
	qLockChain = `SELECT pg_advisory_xact_lock($1)`
	qHead      = `SELECT seq, hash FROM audit_entry ORDER BY seq DESC LIMIT 1`
	qTake      = `WITH taken AS (
		DELETE FROM audit_pending WHERE event_id IN (SELECT event_id FROM audit_pending ORDER BY at, event_id LIMIT $1)
		RETURNING event_id, at, level, category, action, user_id, user_email, user_role, ip_address, status, details)
	SELECT event_id, at, level, category, action, user_id, user_email, user_role, ip_address, status, details::text FROM taken ORDER BY at, event_id`
	qPending = `SELECT EXISTS (SELECT FROM audit_pending)`
	qPut     = `INSERT INTO audit_entry (seq, hash, event_id, at, level, category, action, user_id, user_email, user_role, ip_address, status, details)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`
)

const chainBatch = 500 // entries that get their place in one transaction

// lockKey names the chain's lock among the database's.
func lockKey() int64 {
	sum := sha256.Sum256([]byte("hashinsight audit chain"))
	return int64(binary.BigEndian.Uint64(sum[:8]))
}

// Head is a place in the chain that somebody kept, such as "120:9f…": its number and hash.
type Head struct {
	Seq  int64
	Hash [32]byte
}

// String implements fmt.Stringer; ParseHead reads it.
func (h Head) String() string { return fmt.Sprintf("%d:%s", h.Seq, hex.EncodeToString(h.Hash[:])) }

// ParseHead reads a head that was kept.
func ParseHead(s string) (h Head, err error) {
	seq, hash, ok := strings.Cut(strings.TrimSpace(s), ":")
	b, herr := hex.DecodeString(hash)
	_, serr := fmt.Sscanf(seq, "%d", &h.Seq)
	if !ok || herr != nil || serr != nil || len(b) != len(h.Hash) || h.Seq < 0 {
		return Head{}, fmt.Errorf("%.80q is no head of the audit log: it looks like 120:9f86… with 64 hexadecimal digits", s)
	}
	copy(h.Hash[:], b)
	return h, nil
}

// Chain gives every committed entry its place. Any number of processes may call it at once; readers do so first, to see what
// has just happened.
func (l *Log) Chain(ctx context.Context) error {
	for {
		var some bool
		if err := l.pool.QueryRow(ctx, qPending).Scan(&some); err != nil {
			return fmt.Errorf("audit: look for new entries: %w", err)
		}
		if !some {
			return nil
		}
		n := 0
		if err := pg.InTx(ctx, l.pool, func(tx pgx.Tx) (err error) {
			n, err = chain(ctx, tx)
			return err
		}); err != nil {
			return fmt.Errorf("audit: chain entries: %w", err)
		}
		l.metrics.chained.Add(float64(n))
		if n < chainBatch {
			return nil
		}
	}
}

func chain(ctx context.Context, tx pgx.Tx) (int, error) {
	if _, err := tx.Exec(ctx, qLockChain, lockKey()); err != nil {
		return 0, err
	}
	head, err := headOf(ctx, tx)
	if err != nil {
		return 0, err
	}
	rows, err := tx.Query(ctx, qTake, chainBatch)
	if err != nil {
		return 0, err
	}
	taken, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (c Chained, err error) {
		err = r.Scan(&c.EventID, &c.At, &c.Level, &c.Category, &c.Action, &c.UserID, &c.UserEmail, &c.UserRole, &c.IP, &c.Status, &c.Details)
		return c, err
	})
	if err != nil {
		return 0, err
	}
	var b pgx.Batch
	for i := range taken {
		c := &taken[i]
		c.Seq = head.Seq + 1
		c.Hash = hashOf(head.Hash, c)
		head = Head{Seq: c.Seq, Hash: c.Hash}
		b.Queue(qPut, c.Seq, c.Hash[:], c.EventID, c.At, c.Level, c.Category, c.Action, c.UserID, c.UserEmail, c.UserRole, c.IP, c.Status, []byte(c.Details))
	}
	if len(taken) == 0 {
		return 0, nil
	}
	return len(taken), tx.SendBatch(ctx, &b).Close()
}

// querier is a pool or a transaction.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func headOf(ctx context.Context, db querier) (h Head, err error) {
	var hash []byte
	err = db.QueryRow(ctx, qHead).Scan(&h.Seq, &hash)
	if errors.Is(err, pgx.ErrNoRows) {
		return Head{}, nil
	}
	copy(h.Hash[:], hash)
	return h, err
}

// Head returns the chain's present head: its last entry's number and hash. Kept elsewhere it shows later that nothing up to it was
// taken away or changed.
func (l *Log) Head(ctx context.Context) (Head, error) {
	h, err := headOf(ctx, l.pool)
	if err != nil {
		return h, fmt.Errorf("audit: read the head: %w", err)
	}
	return h, nil
}
