// Package proof keeps the hub's transparency log: one append-only tree (RFC 6962, tiles as in C2SP tlog-tiles) of signed hours, keys, terms, excuses, statements
// and heads of the audit log, with signed checkpoints. It owns log_entry, log_checkpoint, log_state and the directory of tiles.
//
// A subject notes what it does through Note, in its own transaction: what was not committed is not in the log, and what was noted once is there once.
// These rows are the truth. Run, which any number of hubs may call, lets one at a time give rows their places, writes them into tiles (as tessera's POSIX
// driver does), computes the root from the rows and from the tiles, and signs a checkpoint only when both are the same. In this order, each step is repeated
// with the same bytes after a crash:
//
//  1. rows get places, committed;
//  2. entries without a tile are written, up to the last row with a place;
//  3. the checkpoint is signed, recorded, and put beside the tiles.
//
// Tiles that are behind the rows, or gone, are filled from them. Tiles that are ahead belong to a database that was restored to an earlier moment: the hub
// is Behind, gives no places and must not anchor until Run has read the missing entries back from the tiles, which it does by itself. Tiles, rows and
// checkpoints that contradict each other halt the log, with an alarm, until a person has looked: Fsck tells where. A directory that cannot be written or read, or a disk with less than
// 16 MB left, blocks it, with an alarm too: no further places are given, what was signed can be proven, and it goes on by itself.
//
// When a process starts that anchors, it asks (Anchored) how much of the log the chain has before it gives the first place: where both rows and tiles are older, only the chain shows it.
//
// It knows nothing of chains beyond that number, and decides nothing about what it records.
package proof

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	format "github.com/hashinsight/hashinsight/pkg/proof"
)

// Config describes a Store.
type Config struct {
	Pool *pgxpool.Pool // required; of reads
	Jobs *pgxpool.Pool // of Run; nil means Pool
	// Dir is where the tiles are, or will be. "": this process neither writes the log nor makes proofs. Hubs on several machines need one that all of them reach.
	Dir string
	// Key returns the key that signs checkpoints, Evidence the hub's key for statements and acknowledgements. Nil, or when one returns nil: this process adds
	// nothing to the log.
	Key, Evidence func() ed25519.PrivateKey
	// AuditHead returns the number and hash of the audit log's last entry, which is noted every hour. Nil: never.
	AuditHead func(context.Context) (seq int64, hash [32]byte, err error)
	// Anchored asks the chain how many entries of this log it has the root of. ok is false when none of its anchors is known. Nil: this process anchors nothing.
	Anchored   func(context.Context) (size uint64, ok bool, err error)
	Now        func() time.Time      // nil means time.Now
	Log        *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil means no metrics
}

// Store reads and writes the log. It is safe for concurrent use, and by any number of hubs on one database.
type Store struct {
	c       Config
	jobs    *pgxpool.Pool
	metrics *metrics
	room    func(dir string) (free uint64, ok bool) // on the disk of the tiles; nil: whatever there is will do

	compared comparison
}

// New checks the configuration. It touches neither the database nor the directory.
func New(c Config) (*Store, error) {
	if c.Pool == nil {
		return nil, errors.New("proof: a database pool is required")
	}
	if c.Jobs == nil {
		c.Jobs = c.Pool
	}
	none := func() ed25519.PrivateKey { return nil }
	if c.Key == nil {
		c.Key = none
	}
	if c.Evidence == nil {
		c.Evidence = none
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{c: c, jobs: c.Jobs, metrics: newMetrics(c.Now), room: freeBytes}
	if c.Registerer != nil {
		if err := c.Registerer.Register(s.metrics); err != nil {
			return nil, fmt.Errorf("metrics of the transparency log: %w", err)
		}
	}
	return s, nil
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

const qNote = `
INSERT INTO log_entry (kind, ref, noted_ms, body) SELECT * FROM unnest($1::smallint[], $2::bytea[], $3::bigint[], $4::bytea[]) ON CONFLICT (kind, ref) DO NOTHING`

// Note puts entries into the log, in the transaction of what they record: they get their places after its commit. One that was noted before stays as it was. An
// error is a fault of the caller or of the database, and the caller must not commit.
func Note(ctx context.Context, tx pgx.Tx, entries ...format.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	type row struct {
		kind int16
		ref  [32]byte
		ms   int64
		body []byte
	}
	rows := make([]row, len(entries))
	for i := range entries {
		e := &entries[i]
		if _, err := format.ParseEntry(e.Bytes()); err != nil {
			return fmt.Errorf("noting an entry of kind %s: %w", e.Kind, err)
		}
		rows[i] = row{int16(e.Kind), e.Ref(), e.AtMS, e.Body}
	}
	// In one order whoever notes: two transactions with the same entries must not wait for each other.
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), slices.Compare(a.ref[:], b.ref[:]))
	})
	kinds, refs, ms, bodies := make([]int16, len(rows)), make([][]byte, len(rows)), make([]int64, len(rows)), make([][]byte, len(rows))
	for i := range rows {
		kinds[i], refs[i], ms[i], bodies[i] = rows[i].kind, rows[i].ref[:], rows[i].ms, rows[i].body
	}
	if _, err := tx.Exec(ctx, qNote, kinds, refs, ms, bodies); err != nil {
		return fmt.Errorf("noting %d entries of the log: %w", len(rows), err)
	}
	return nil
}

// state is what the log knows of itself.
type state struct {
	origin   string
	behind   int64
	halted   string
	blocked  string
	caughtUp time.Time // when the first look at what is older than the log ended; zero: not yet
	source   string    // where catching up is
	a, c     [16]byte
	b        int64
}

const (
	qMakeState = `INSERT INTO log_state (id, log_id, made_at) VALUES (1, $1, $2) ON CONFLICT (id) DO NOTHING`
	qState     = `SELECT log_id, behind, halted, blocked, caught_up_at, catch_source, catch_a, coalesce(catch_b, 0), catch_c FROM log_state WHERE id = 1`
	qLooked    = `UPDATE log_state SET looked_at = $1, behind = $2, halted = $3, blocked = $4 WHERE id = 1`
)

// originPrefix begins the origin line of every checkpoint.
const originPrefix = "hashinsight.log/"

// state reads what the log is called and how it is, making it at first use: with several hubs on an empty database, the first one's name is everyone's.
func (s *Store) state(ctx context.Context, db *pgxpool.Pool) (st state, err error) {
	var id []byte
	var a, c *[16]byte
	var caught *time.Time
	read := func() error {
		return db.QueryRow(ctx, qState).Scan(&id, &st.behind, &st.halted, &st.blocked, &caught, &st.source, &a, &st.b, &c)
	}
	err = read()
	if errors.Is(err, pgx.ErrNoRows) {
		fresh := make([]byte, 16)
		if _, err = rand.Read(fresh); err == nil {
			if _, err = db.Exec(ctx, qMakeState, fresh, s.c.Now().UTC()); err == nil {
				err = read()
			}
		}
	}
	if err != nil {
		return st, fmt.Errorf("reading the state of the log: %w", err)
	}
	if caught != nil {
		st.caughtUp = *caught
	}
	if a != nil {
		st.a = *a
	}
	if c != nil {
		st.c = *c
	}
	st.origin = originPrefix + hex.EncodeToString(id)
	return st, nil
}

// Origin returns what the log is called in its checkpoints.
func (s *Store) Origin(ctx context.Context) (string, error) {
	st, err := s.state(ctx, s.c.Pool)
	return st.origin, err
}

// Status is how the log is.
type Status struct {
	Origin  string
	Entries int64 // with a place
	Pending int64 // without one yet, at most 100,000
	Behind  int64 // entries that the tiles have and the database does not
	Halted  string
	Blocked string // why the tiles cannot be written or read now; the log goes on by itself when they can
	// Newest is the newest checkpoint; Size 0: there is none yet.
	Newest Checkpoint
}

const (
	qSize    = `SELECT coalesce(max(idx) + 1, 0)::bigint FROM log_entry`
	qPending = `SELECT count(*) FROM (SELECT FROM log_entry WHERE idx IS NULL LIMIT 100000) p`
)

// Status reads how the log is.
func (s *Store) Status(ctx context.Context) (v Status, err error) {
	st, err := s.state(ctx, s.c.Pool)
	if err != nil {
		return v, err
	}
	v.Origin, v.Behind, v.Halted, v.Blocked = st.origin, st.behind, st.halted, st.blocked
	if err := errors.Join(s.c.Pool.QueryRow(ctx, qSize).Scan(&v.Entries), s.c.Pool.QueryRow(ctx, qPending).Scan(&v.Pending)); err != nil {
		return v, fmt.Errorf("counting entries of the log: %w", err)
	}
	v.Newest, _, err = s.newest(ctx, s.c.Pool, st.origin)
	if err != nil {
		return v, err
	}
	if file, ok, err := s.file(st.origin); err == nil && ok && file.Size > v.Newest.Size { // nobody has looked since the database was restored
		v.Behind = max(v.Behind, int64(file.Size)-v.Entries, 1)
	}
	return v, nil
}

// Behind reports whether the database lacks entries that the log had published: it was restored to an earlier moment. It adds nothing and must not anchor
// until they are read back.
func (s *Store) Behind(ctx context.Context) (bool, error) {
	v, err := s.Status(ctx)
	return v.Behind > 0, err
}

// Head returns the newest checkpoint for who would anchor it. ok is false while there is none, while the database is behind and while the log is halted.
func (s *Store) Head(ctx context.Context) (c Checkpoint, ok bool, err error) {
	v, err := s.Status(ctx)
	if err != nil {
		return c, false, err
	}
	return v.Newest, v.Newest.Size > 0 && v.Behind == 0 && v.Halted == "", nil
}

// unavailable says that this process has no tiles.
func (s *Store) unavailable(what string) error {
	return apperr.E(apperr.Unavailable, "API_004", "this hub process cannot read the log's tiles (%s): set TRANSPARENCY_LOG_DIR to the directory that the process with the module jobs writes", what)
}

func (s *Store) inTx(ctx context.Context, f func(tx pgx.Tx) error) error {
	return pg.InTx(ctx, s.jobs, f)
}
