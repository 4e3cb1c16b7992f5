// Package facts keeps what sites have signed about whole hours, and whether it is true. A site computes a leaf of facts for each miner and hour and
// signs the root over them (package evidence); ingest hands the signed hour to Keep; Judge recomputes the leaves from the batches of the
// chain, salts them with the miners' keys and compares the root. It owns site_hour, leaf_page, miner_salt, facts_changed and hour_dispute. It
// makes no verdict: package statement asks for Hours and leaves, and learns what has changed from notes. hubd runs Judge and Retain.
//
// An hour of a chain is in one of four states:
//   - pending: something it needs has not come, and may come: batches (the newest are sent first), salt keys;
//   - agreed: the batches give the signed root. That is proof enough, whatever else is missing;
//   - disputed: everything is there and gives another root, or the site signed two roots. The first signed one is compared, the leaves that the hub
//     computed are kept, the dispute stays;
//   - incomplete: nobody can recompute the root. Either the site has dropped batches (gap records name them) and what is left gives another root,
//     which proves nothing against it, or something has not come within 72 h of the hour's end. It is no dispute, and it holds up no statement:
//     its slots are unknown. What comes later is looked at again, and only a restatement takes it.
//
// Which batches an hour needs follows from how facts are computed: an observation reaches back one hour at most. They are those from the first
// one that the site says counts, and before it down to the first batch of samples that ends more than an hour before the hour, to the last one
// that the site says it had. Later ones of the chain do not count, whatever hour their polls are of. Where a clock was set back, batches before those
// can count as well: they are taken too when the hour does not agree without them.
package facts

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/hub/internal/archive"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/proof"
)

// Config describes a Store.
type Config struct {
	Pool     *pgxpool.Pool    // required
	Agents   *pgxpool.Pool    // for KeepSalts, which agents wait for; nil means Pool
	Jobs     *pgxpool.Pool    // for Judge and Retain, so that pages do not wait for them; nil means Pool
	Audit    *audit.Log       // required
	Archive  *archive.Archive // where payloads lie that are no longer in the database; nil: nowhere
	Password string           // ENCRYPTION_PASSWORD: seals salt keys; without it Judge, KeepSalts and Recompute fail
	// Keys returns the public key that checks a site's signatures, one that was revoked since too; without it Recompute fails.
	Keys func(context.Context, ident.SiteID, ident.KeyID) (ed25519.PublicKey, error)
	// Note puts signed hours into the transparency log, in the transaction that keeps them. Nil: there is no log.
	Note     func(ctx context.Context, tx pgx.Tx, entries ...proof.Entry) error
	Deadline time.Duration         // after an hour's end, when what it waits for is given up; 0 means 72 h
	Keep     time.Duration         // of hours and leaves, as of blocks; 0 means 400 days: 13 months
	Now      func() time.Time      // nil means time.Now
	Log      *slog.Logger          // nil discards
	Register prometheus.Registerer // nil means no metrics
}

// Store keeps and judges signed hours. It is safe for concurrent use, by any number of hubs.
type Store struct {
	c       Config
	metrics *metrics
	pack    *zstd.Encoder // of pages; both work on whole buffers, by any number of goroutines
	unpack  *zstd.Decoder
}

// Bounds. Whatever a site sends, its rows and what it takes to judge them are bounded by these.
const (
	// MaxLeaves is how many miners a signed hour may have; twice as many as a large site.
	MaxLeaves = 50_000
	// maxChains is how many chains may have leaves of one hour of a site. A chain ends when an agent loses its disk.
	maxChains = 16
	// ahead is how far a site's clock may be before the hub's for its signed hours to be kept: an hour is signed after its end.
	ahead = 24 * time.Hour
	// maxBatches bounds the batches of one hour: one a second takes two hours' 7,200. Farther apart two polls make no work.
	maxBatches = evidence.MaxSeqGap
	// maxPolls bounds the polls in them: MaxLeaves miners, each polled every 10 s in two hours, come to 36 million.
	maxPolls = 50_000_000
)

// New returns a Store. It does not touch the database.
func New(c Config) (*Store, error) {
	if c.Pool == nil || c.Audit == nil {
		return nil, errors.New("facts: Pool and Audit are required")
	}
	if c.Agents == nil {
		c.Agents = c.Pool
	}
	if c.Jobs == nil {
		c.Jobs = c.Pool
	}
	if c.Deadline == 0 {
		c.Deadline = 72 * time.Hour
	}
	if c.Keep == 0 {
		c.Keep = 400 * 24 * time.Hour
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{c: c, metrics: newMetrics()}
	var err error
	if s.pack, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1)); err == nil {
		s.unpack, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(pageLeaves*evidence.LeafSize))
	}
	if err != nil {
		return nil, fmt.Errorf("facts: setting up compression: %w", err)
	}
	if c.Register != nil {
		if err := s.metrics.register(c.Register); err != nil {
			return nil, fmt.Errorf("metrics of facts: %w", err)
		}
	}
	return s, nil
}

// State is what is known of a signed hour.
type State int16

// States; the package comment says what they mean. The numbers are stored.
const (
	Pending    State = 0
	Agreed     State = 1
	Disputed   State = 2
	Incomplete State = 3
)

// String returns the documented name.
func (s State) String() string {
	switch s {
	case Pending:
		return "pending"
	case Agreed:
		return "agreed"
	case Disputed:
		return "disputed"
	case Incomplete:
		return "incomplete"
	default:
		return fmt.Sprintf("state_%d", int16(s))
	}
}

// Key names a signed hour.
type Key struct {
	Site  ident.SiteID
	Hour  uint32 // since 1970 UTC
	Spool ident.SpoolID
}

func (k Key) String() string {
	return fmt.Sprintf("site %s, %s, spool %s", k.Site, k.At().Format("2006-01-02T15h"), k.Spool)
}

// At is the hour's beginning.
func (k Key) At() time.Time { return time.Unix(int64(k.Hour)*3600, 0).UTC() }

// Hour is a signed hour and what became of it.
type Hour struct {
	Key
	// As signed.
	InSpool           ident.SpoolID // where the batch of kind hour stands
	InSeq             uint64
	Header            evidence.Hash // of that batch
	Root              evidence.Hash
	Leaves            uint32
	FirstSeq, LastSeq uint64

	State          State
	Reason         string        // what it waits for, or why it is not agreed
	ComputedRoot   evidence.Hash // zero until it was computed
	ComputedLeaves uint32
	SkewSlots      uint16    // bit i: the hub has measured a wrong clock of the site in slot i
	ReceivedAt     time.Time // the hub's, of the batch of kind hour
	CompleteAt     time.Time // the hub's, when the last of what counts had come; zero while pending
	JudgedAt       time.Time // zero while pending

	twice bool
}

// Computed reports whether a root was computed from the batches.
func (h *Hour) Computed() bool { return h.ComputedRoot != evidence.Hash{} }

// EndsAt is the hour's end.
func (k Key) EndsAt() time.Time { return k.At().Add(time.Hour) }

// Received is the time that a deadline is compared with: when all of it had come; zero while something is missing.
func (h *Hour) Received() time.Time {
	if h.State == Pending || h.State == Incomplete {
		return time.Time{}
	}
	return h.CompleteAt
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

const hourColumns = `site_id, hour, spool_id, hour_spool, hour_seq, header_hash, root, leaves, first_seq, last_seq, state, reason, twice,
	coalesce(computed_root, ''), coalesce(computed_leaves, 0), skew_slots, received_at, complete_at, judged_at`

func scanHour(row pgx.CollectableRow) (h Hour, err error) {
	var hour, leaves, computed int32
	var seq, first, last int64
	var skew int16
	var header, root, own []byte
	var complete, judged *time.Time
	if err := row.Scan((*[16]byte)(&h.Site), &hour, (*[16]byte)(&h.Spool), (*[16]byte)(&h.InSpool), &seq, &header, &root, &leaves, &first, &last, (*int16)(&h.State), &h.Reason,
		&h.twice, &own, &computed, &skew, &h.ReceivedAt, &complete, &judged); err != nil {
		return h, err
	}
	copy(h.Header[:], header)
	copy(h.Root[:], root)
	copy(h.ComputedRoot[:], own)
	h.Hour, h.Leaves, h.ComputedLeaves, h.SkewSlots = uint32(hour), uint32(leaves), uint32(computed), uint16(skew)
	h.InSeq, h.FirstSeq, h.LastSeq = uint64(seq), uint64(first), uint64(last)
	h.ReceivedAt = h.ReceivedAt.UTC()
	if complete != nil {
		h.CompleteAt = complete.UTC()
	}
	if judged != nil {
		h.JudgedAt = judged.UTC()
	}
	return h, nil
}
