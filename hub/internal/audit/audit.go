// Package audit keeps the record of who did what: entries that commit together with the change they tell of, a hash chain over all
// of them in PostgreSQL, and a file of JSON lines that follows the chain on every host. Every subject that changes something adds
// entries through a Log; hubd runs it, packages api and the command line read, search and verify. It judges nothing that it
// records, and does not delete.
//
// An entry gets its place in two steps. Add writes a row in the caller's transaction, beside others and waiting for none. Once
// committed, whichever hub process comes first gives it the next number and hash, under a lock that only this step takes. A chained
// insert, or a lock in Add, would make every change of every hub wait for the commit of the one before. The price: for about a
// second a committed entry has no hash, and who can write to the database could take it away unseen.
//
// The hash of entry n is SHA-256 over: "hsi/audit/v1\0"; the hash of entry n−1 (32 bytes, zeros for the first); n (8 bytes); the
// time in Unix milliseconds (8); the event id (16); then level, category, action, user id, user e-mail, user role, address, status and details,
// each as its length in bytes (4) and the bytes; all integers big-endian. Details are the JSON text as it is stored.
package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
)

// Levels of entries.
const (
	Info     = "INFO"
	Warning  = "WARNING"
	Error    = "ERROR"
	Security = "SECURITY" // somebody should look at it
	Critical = "CRITICAL"
)

// Categories of entries.
const (
	Authentication = "authentication"
	DataAccess     = "data_access"
	Configuration  = "configuration"
	Permission     = "permission"
	Encryption     = "encryption"
	APIKey         = "api_key"
	Suspicious     = "suspicious"
)

// What a Status says of the outcome.
const (
	Success = "success"
	Failure = "failure"
	Denied  = "denied"
)

// Levels lists every level.
func Levels() []string { return []string{Info, Warning, Error, Security, Critical} }

// Categories lists every category.
func Categories() []string {
	return []string{Authentication, DataAccess, Configuration, Permission, Encryption, APIKey, Suspicious}
}

// Bounds of an entry. What is longer is cut, and says so: an entry is never lost for its length.
const (
	maxText    = 1024     // bytes of a member or of a text in Details
	maxDetails = 16 << 10 // bytes of Details as JSON
)

// Entry is one event to record. Who is left empty where nobody is known; Details hold no secret.
type Entry struct {
	Level, Category, Action, Status string // Level "" means INFO, Status "" means success; Action such as login_failed
	UserID, UserEmail, UserRole, IP string // UserID is a user's, a key's or a site's id; from the command line "command"
	Details                         map[string]any
}

// Config describes a Log.
type Config struct {
	Pool       *pgxpool.Pool         // nil: only Add works
	Path       string                // of the JSON lines; empty: no file on this host
	Poll       time.Duration         // how often entries of other processes are looked for; 0 means 1 s
	Now        func() time.Time      // nil means time.Now
	Log        *slog.Logger          // nil means no log
	Registerer prometheus.Registerer // nil means no metrics
}

// Log takes entries. It is safe for concurrent use.
type Log struct {
	pool    *pgxpool.Pool
	path    string
	poll    time.Duration
	now     func() time.Time
	log     *slog.Logger
	metrics *metrics
	added   chan struct{} // somebody added an entry, which is committed soon
	file    follower
}

// New returns a Log. It does not touch the database.
func New(c Config) (*Log, error) {
	l := &Log{pool: c.Pool, path: c.Path, poll: c.Poll, now: c.Now, log: c.Log, metrics: newMetrics(), added: make(chan struct{}, 1)}
	if l.now == nil {
		l.now = time.Now
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.poll <= 0 {
		l.poll = time.Second
	}
	l.file = follower{path: c.Path, limit: rotateAt, now: l.now}
	if c.Registerer != nil {
		if err := c.Registerer.Register(l.metrics); err != nil {
			return nil, fmt.Errorf("audit metrics: %w", err)
		}
	}
	return l, nil
}

const qAdd = `INSERT INTO audit_pending (event_id, at, level, category, action, user_id, user_email, user_role, ip_address, status, details)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`

// actionForm is what an action's name looks like: jq lines and filters compare it.
var actionForm = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

// Add records an event in the caller's transaction: both commit or neither. An error is a fault of the caller or of the
// database, and the caller must not commit.
func (l *Log) Add(ctx context.Context, tx pgx.Tx, e Entry) error {
	if e.Level == "" {
		e.Level = Info
	}
	if e.Status == "" {
		e.Status = Success
	}
	switch {
	case !slices.Contains(Levels(), e.Level):
		return fmt.Errorf("audit: level %q does not exist", e.Level)
	case !slices.Contains(Categories(), e.Category):
		return fmt.Errorf("audit: category %q does not exist", e.Category)
	case !actionForm.MatchString(e.Action):
		return fmt.Errorf("audit: action %q: want lower case with underscores", e.Action)
	}
	details, err := detailsText(e.Details)
	if err != nil {
		return fmt.Errorf("audit: details of %s: %w", e.Action, err)
	}
	id, err := uuid.NewV7() // ids of one process ascend: entries of one millisecond keep their order
	if err != nil {
		return fmt.Errorf("audit: id of %s: %w", e.Action, err)
	}
	if _, err := tx.Exec(ctx, qAdd, id, l.now().UTC().Truncate(time.Millisecond), e.Level, e.Category, e.Action,
		text(e.UserID), text(e.UserEmail), text(e.UserRole), text(e.IP), text(e.Status), details); err != nil {
		return fmt.Errorf("audit: record %s: %w", e.Action, err)
	}
	l.metrics.entries.WithLabelValues(e.Category, e.Level).Inc()
	select {
	case l.added <- struct{}{}:
	default:
	}
	return nil
}

// Record adds an entry that belongs to no other change, in a transaction of its own.
func (l *Log) Record(ctx context.Context, e Entry) error {
	if l.pool == nil {
		return errors.New("audit: Record needs a database pool")
	}
	return pg.InTx(ctx, l.pool, func(tx pgx.Tx) error { return l.Add(ctx, tx, e) })
}

// text makes a member fit for the database: valid, without NUL, of bounded length.
func text(s string) string {
	if len(s) > maxText {
		s = s[:maxText] + "…"
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// detailsText encodes details; members come in the order of their names, so that equal details have equal bytes.
func detailsText(d map[string]any) ([]byte, error) {
	clean := make(map[string]any, len(d))
	for k, v := range d {
		if s, ok := v.(string); ok {
			v = text(s)
		}
		clean[text(k)] = v
	}
	b, err := json.Marshal(clean)
	if err != nil {
		return nil, err
	}
	if len(b) > maxDetails || !utf8.Valid(b) {
		return json.Marshal(map[string]any{"details_dropped_bytes": len(b)})
	}
	return b, nil
}

// settle is how long after Add its transaction is taken to have committed. A longer one is found by the poll.
const settle = 100 * time.Millisecond

// Run chains entries and lets the file follow until ctx ends. Every hub process runs it.
func (l *Log) Run(ctx context.Context) error {
	if l.pool == nil {
		return errors.New("audit: Run needs a database pool")
	}
	defer func() {
		if err := l.file.close(); err != nil {
			l.log.WarnContext(ctx, "closing the audit file", "err", err)
		}
	}()
	wait := time.Duration(0)
	for {
		var added <-chan struct{}
		if wait > settle {
			added = l.added
		}
		select {
		case <-ctx.Done():
			// What this process added before it ends gets its place now, if that goes quickly; else the next process does it.
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			if err := l.step(last); err != nil {
				l.log.WarnContext(ctx, "audit entries not chained at the end, the next hub process does it", "err", err)
			}
			return nil
		case <-added:
			wait = settle
			continue
		case <-time.After(wait):
		}
		wait = l.poll
		if err := l.step(ctx); err != nil && ctx.Err() == nil {
			l.metrics.failed.Inc()
			l.log.WarnContext(ctx, "audit entries not chained, tried again", "err", err)
			wait = min(10*l.poll, 10*time.Second)
		}
	}
}

func (l *Log) step(ctx context.Context) error {
	if err := l.Chain(ctx); err != nil {
		return err
	}
	l.follow(ctx)
	return nil
}
