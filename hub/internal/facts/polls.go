package facts

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/archive"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// Poll is one poll of a miner and the batch that tells of it: the last answer to "why".
type Poll struct {
	Spool      ident.SpoolID
	Seq        uint64
	Header     evidence.Hash // names the batch
	ReceivedAt time.Time     // the hub's
	Skewed     bool          // the hub measured a wrong clock of the site when the batch came
	Where      archive.Where // the batch's payload lies
	telemetry.Observation
}

// Bounds of one question about polls.
const (
	maxPollSpan    = 2 * time.Hour
	maxPollBatches = 10_000
	// longestBatch is how long the polls of one batch may span for it to be found. Agents close one after seconds.
	longestBatch = 2 * time.Hour
)

const qPollBatches = `
SELECT spool_id, seq FROM batch
WHERE site_id = $1 AND first_at >= $2 AND first_at <= $3 AND last_at >= $4 AND kind = 1 AND disposition = 1 ORDER BY spool_id, seq LIMIT $5`

// Polls returns the polls of a miner with fromMS <= time < toMS (the agent's clock), in order of time, from the signed batches.
func (s *Store) Polls(ctx context.Context, site ident.SiteID, miner ident.MinerID, fromMS, toMS int64) ([]Poll, error) {
	from, to := time.UnixMilli(fromMS), time.UnixMilli(toMS)
	if to.Before(from) || to.Sub(from) > maxPollSpan {
		return nil, apperr.E(apperr.Invalid, "VALID_001", "polls of %s were asked for: ask for at most %s", to.Sub(from), maxPollSpan)
	}
	rows, err := s.c.Pool.Query(ctx, qPollBatches, site, from.Add(-longestBatch), to, from, maxPollBatches+1)
	if err != nil {
		return nil, fmt.Errorf("finding batches of polls: %w", err)
	}
	type stretch struct {
		spool ident.SpoolID
		seqRange
	}
	var stretches []stretch
	var spool ident.SpoolID
	var seq int64
	batches := 0
	if _, err := pgx.ForEachRow(rows, []any{(*[16]byte)(&spool), &seq}, func() error {
		batches++
		if n := len(stretches); n > 0 && stretches[n-1].spool == spool && stretches[n-1].last+1 == uint64(seq) {
			stretches[n-1].last++
			return nil
		}
		stretches = append(stretches, stretch{spool, seqRange{uint64(seq), uint64(seq)}})
		return nil
	}); err != nil {
		return nil, fmt.Errorf("finding batches of polls: %w", err)
	}
	if batches > maxPollBatches {
		return nil, apperr.E(apperr.Invalid, "VALID_001", "more than %d batches have polls of this time: ask for a shorter one", maxPollBatches)
	}
	decoder, err := wire.NewDecoder()
	if err != nil {
		return nil, err
	}
	defer decoder.Close()
	var polls []Poll
	for _, r := range stretches {
		if err := archive.Chain(ctx, s.c.Pool, s.c.Archive, site, r.spool, r.first, r.last, func(b *archive.Batch, err error) error {
			if err != nil || b.Header.Kind != evidence.KindSamples {
				return err
			}
			polls, err = appendPolls(polls, b, decoder, miner, fromMS, toMS)
			return err
		}); err != nil {
			return nil, fmt.Errorf("reading polls: %w", err)
		}
	}
	slices.SortStableFunc(polls, func(a, b Poll) int { return a.At.Compare(b.At) })
	return polls, nil
}

func appendPolls(polls []Poll, b *archive.Batch, decoder *wire.Decoder, miner ident.MinerID, fromMS, toMS int64) ([]Poll, error) {
	samples, err := decoder.Samples(b.Payload)
	if err != nil {
		return polls, fmt.Errorf("batch %d: %w", b.Seq, err)
	}
	of, found := slices.BinarySearchFunc(samples.Miners, miner, ident.MinerID.Compare)
	if !found {
		return polls, nil
	}
	for i := range samples.Len() {
		if samples.MinerOf[i] == int32(of) && samples.TimeMS[i] >= fromMS && samples.TimeMS[i] < toMS {
			polls = append(polls, Poll{b.Spool, b.Seq, b.Header.Hash(), b.ReceivedAt.UTC(), b.Skewed, b.Where, samples.Observation(i)})
		}
	}
	return polls, nil
}

// Recomputed is what the evidence alone says of a signed hour.
type Recomputed struct {
	Signed evidence.Hour
	Header evidence.Hash   // of the batch that signs it
	Leaves []evidence.Leaf // salted, in order of miners
	Root   evidence.Hash   // of their tree; zero without leaves
	Agreed bool            // it is the signed one
	// What was read for it.
	FirstSeq uint64
	Batches  int
	Polls    int64
	Dropped  string // batches that the site has dropped; "" none
}

// ErrNotRecomputed means that the evidence of an hour is not whole here.
var ErrNotRecomputed = errors.New("its evidence is not whole here")

const qHour = `SELECT ` + hourColumns + ` FROM site_hour WHERE site_id = $1 AND hour = $2 AND spool_id = $3`

// Recompute computes a signed hour from its batches, wherever they lie, and believes nothing else: each payload is compared with its header, each header
// with the site's key and with the one before. Only the salt keys and the names of the batches come from tables.
func (s *Store) Recompute(ctx context.Context, site ident.SiteID, hour uint32, spool ident.SpoolID) (r Recomputed, err error) {
	k := Key{site, hour, spool}
	if s.c.Keys == nil || s.c.Password == "" {
		return r, errors.New("facts: recomputing a signed hour needs Keys and ENCRYPTION_PASSWORD")
	}
	rows, err := s.c.Pool.Query(ctx, qHour, site, int64(hour), spool)
	if err != nil {
		return r, fmt.Errorf("reading %s: %w", k, err)
	}
	h, err := pgx.CollectExactlyOneRow(rows, scanHour)
	if errors.Is(err, pgx.ErrNoRows) {
		return r, apperr.E(apperr.NotFound, "NOTFOUND_001", "%s is not signed", k)
	}
	if err != nil {
		return r, fmt.Errorf("reading %s: %w", k, err)
	}
	c := checker{keys: map[ident.KeyID]ed25519.PublicKey{}, find: s.c.Keys}
	err = archive.Chain(ctx, s.c.Pool, s.c.Archive, site, h.InSpool, h.InSeq, h.InSeq, func(b *archive.Batch, err error) error {
		if err == nil {
			err = c.signature(ctx, b)
		}
		if err == nil {
			r.Header = b.Header.Hash()
			r.Signed, err = CheckHour(&b.Header, b.Payload)
		}
		return err
	})
	if err == nil && (r.Signed.Hour != hour || r.Signed.Spool != spool) {
		err = fmt.Errorf("batch %d of spool %s does not sign it: the table site_hour was changed", h.InSeq, h.InSpool)
	}
	if err != nil {
		return r, fmt.Errorf("the batch that signs %s: %w", k, err)
	}
	h.Root, h.Leaves, h.FirstSeq, h.LastSeq = r.Signed.Root, r.Signed.Leaves, r.Signed.FirstSeq, r.Signed.LastSeq
	if err := s.recompute(ctx, &h, &c, &r); err != nil {
		var waits *waitError
		var many *manyMinersError
		if errors.As(err, &waits) || errors.As(err, &many) {
			err = fmt.Errorf("%w: %w", ErrNotRecomputed, err)
		}
		return r, fmt.Errorf("recomputing %s: %w", k, err)
	}
	return r, nil
}

func (s *Store) recompute(ctx context.Context, h *Hour, c *checker, r *Recomputed) error {
	reach, err := s.reach(ctx, s.c.Pool, h)
	if err != nil {
		return err
	}
	if reach.tooMany != "" {
		return wait("%s", reach.tooMany)
	}
	r.Dropped = reach.dropped
	found, err := s.find(ctx, s.c.Pool, h, reach.first, func(b *archive.Batch) error { return c.check(ctx, b) })
	if err != nil {
		return err
	}
	r.FirstSeq, r.Leaves, r.Batches, r.Polls, r.Root, r.Agreed = found.first, found.leaves, found.batches, found.polls, found.root, found.agrees(h)
	if found.unsalted > 0 {
		return wait("salt keys of %d of %d miners are not kept, that of miner %s is one", found.unsalted, len(found.leaves), found.miner)
	}
	return nil
}

// checker checks batches of one chain that come in order.
type checker struct {
	keys   map[ident.KeyID]ed25519.PublicKey // of which a site has few
	find   func(context.Context, ident.SiteID, ident.KeyID) (ed25519.PublicKey, error)
	before *evidence.Header // the last one checked
}

func (c *checker) signature(ctx context.Context, b *archive.Batch) (err error) {
	key, ok := c.keys[b.Header.Key]
	if !ok {
		if key, err = c.find(ctx, b.Site, b.Header.Key); err != nil {
			return err
		}
		c.keys[b.Header.Key] = key
	}
	if err := evidence.VerifyHeader(key, b.RawHeader, b.Signature); err != nil {
		return fmt.Errorf("batch %d: %w with key %s", b.Seq, err, b.Header.Key)
	}
	return nil
}

func (c *checker) check(ctx context.Context, b *archive.Batch) error {
	if err := c.signature(ctx, b); err != nil {
		return err
	}
	if p := c.before; p != nil && p.Seq+1 == b.Seq && p.Hash() != b.Header.Prev {
		return fmt.Errorf("batch %d does not follow batch %d: the chain is broken", b.Seq, p.Seq)
	}
	h := b.Header
	c.before = &h
	return nil
}
