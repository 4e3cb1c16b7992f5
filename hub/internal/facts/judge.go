package facts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/archive"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// What one call of Judge does. What is more waits for the next.
const (
	maxJudged   = 4096
	ofSite      = 16               // hours of one site at a time: one with a long backlog does not keep the others waiting
	leaveBefore = 30 * time.Second // the call's deadline: an hour begun then would be cut short
)

// When an hour that waits is looked at again: soon while it is new, later and later the longer nothing comes.
const (
	soonestLook = 30 * time.Second
	latestLook  = 10 * time.Minute
	rarestLook  = 6 * time.Hour // once it is given up
)

const (
	qDue = `
SELECT h.site_id, h.hour, h.spool_id FROM site s, LATERAL (
	SELECT site_id, hour, spool_id, look_at FROM site_hour WHERE site_id = s.id AND look_at <= $1 ORDER BY look_at LIMIT $2) h
ORDER BY h.look_at LIMIT $3`
	qHourDue  = `SELECT ` + hourColumns + ` FROM site_hour WHERE site_id = $1 AND hour = $2 AND spool_id = $3 AND look_at <= $4`
	qLock     = `SELECT pg_try_advisory_xact_lock($1, hashtext($2))`
	qPostpone = `UPDATE site_hour SET state = $4, reason = $5, look_at = $6 WHERE site_id = $1 AND hour = $2 AND spool_id = $3 AND look_at IS NOT NULL`
	qJudged   = `
UPDATE site_hour SET state = $4, reason = $5, computed_root = $6, computed_leaves = $7, skew_slots = $8, complete_at = $9, judged_at = $10, look_at = NULL
WHERE site_id = $1 AND hour = $2 AND spool_id = $3`
	qNoPages = `DELETE FROM leaf_page WHERE site_id = $1 AND hour = $2 AND spool_id = $3`
	qPage    = `
INSERT INTO leaf_page (site_id, hour, spool_id, first_miner, last_miner, miners, payload)
SELECT $1, $2, $3, u.* FROM unnest($4::uuid[], $5::uuid[], $6::smallint[], $7::bytea[]) u`
	qPending = `SELECT count(*), coalesce(min(hour), 0) FROM (SELECT hour FROM site_hour WHERE look_at IS NOT NULL AND state = 0 LIMIT 100000) h`
)

const lockHourJudge = 730_522_131 // the advisory locks of signed hours; arbitrary but fixed

// Judge recomputes signed hours that are due from their batches and says what is true of each. It is safe to call at any time by any number of hubs:
// each hour is judged by one of them, in one transaction with its leaves and its note. An error tells of the hours that failed; the
// others are done, and those that failed are due again later.
func (s *Store) Judge(ctx context.Context, now time.Time) error {
	if s.c.Password == "" {
		return errors.New("facts: judging signed hours needs ENCRYPTION_PASSWORD, which opens the miners' salt keys")
	}
	var errs []error
	tried := map[Key]bool{}
	for len(tried) < maxJudged {
		due, err := s.due(ctx, now)
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		before := len(tried)
		for _, k := range due {
			if deadline, ok := ctx.Deadline(); ctx.Err() != nil || ok && time.Until(deadline) < leaveBefore {
				return errors.Join(append(errs, ctx.Err())...)
			}
			if tried[k] {
				continue
			}
			tried[k] = true
			if err := s.judge(ctx, k, now); err != nil {
				s.metrics.failed.Inc()
				errs = append(errs, fmt.Errorf("judging %s: %w", k, err))
				errs = append(errs, s.later(ctx, k, now))
			}
		}
		if len(tried) == before { // none is left, or other hubs are at them, or they failed
			break
		}
	}
	return errors.Join(append(errs, s.observe(ctx, now))...)
}

func (s *Store) due(ctx context.Context, now time.Time) ([]Key, error) {
	rows, err := s.c.Jobs.Query(ctx, qDue, now, ofSite, 4*ofSite)
	if err != nil {
		return nil, fmt.Errorf("finding signed hours to judge: %w", err)
	}
	due, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (k Key, err error) {
		var hour int32
		err = row.Scan((*[16]byte)(&k.Site), &hour, (*[16]byte)(&k.Spool))
		k.Hour = uint32(hour)
		return k, err
	})
	if err != nil {
		return nil, fmt.Errorf("finding signed hours to judge: %w", err)
	}
	return due, nil
}

// observe brings the gauges up to date.
func (s *Store) observe(ctx context.Context, now time.Time) error {
	var pending, disputes int64
	var oldest int32
	err := s.c.Jobs.QueryRow(ctx, qPending).Scan(&pending, &oldest)
	if err == nil {
		err = s.c.Jobs.QueryRow(ctx, qCount, 100_000).Scan(&disputes)
	}
	if err != nil {
		return fmt.Errorf("counting signed hours: %w", err)
	}
	s.metrics.pending.Set(float64(pending))
	s.metrics.disputed.Set(float64(disputes))
	s.metrics.oldest.Set(0)
	if pending > 0 {
		s.metrics.oldest.Set(max(0, now.Sub(Key{Hour: uint32(oldest)}.EndsAt()).Seconds()))
	}
	return nil
}

// laterTakes is how long putting an hour off may take.
const laterTakes = 10 * time.Second

// later puts an hour off whose judgement failed, so that those behind it have their turn: also when it failed because it took all the time there
// was, or it would take that of every call.
func (s *Store) later(ctx context.Context, k Key, now time.Time) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), laterTakes)
	defer cancel()
	return pg.InTx(ctx, s.c.Jobs, func(tx pgx.Tx) error {
		h, err := lockHour(ctx, tx, k)
		if err != nil {
			return err
		}
		return s.postpone(ctx, tx, &h, &waitError{reason: "the hub could not judge it, its log says why"}, now)
	})
}

// waitError says what an hour waits for.
type waitError struct {
	reason string
	rarely bool // to look again costs much
}

func (e *waitError) Error() string { return e.reason }

func wait(format string, args ...any) error { return &waitError{reason: fmt.Sprintf(format, args...)} }

// verdict is what a judgement comes to.
type verdict struct {
	state  State
	reason string
	found  computed
	whole  time.Time // when the last of what counts had come
}

// judge judges one hour, unless another hub is at it or it is not due any more.
func (s *Store) judge(ctx context.Context, k Key, now time.Time) error {
	var v verdict
	var found []Dispute
	judged := false
	err := pg.InTx(ctx, s.c.Jobs, func(tx pgx.Tx) error {
		var mine bool
		if err := tx.QueryRow(ctx, qLock, lockHourJudge, k.String()).Scan(&mine); err != nil || !mine {
			return err
		}
		rows, err := tx.Query(ctx, qHourDue, k.Site, int32(k.Hour), k.Spool, now)
		if err != nil {
			return err
		}
		h, err := pgx.CollectExactlyOneRow(rows, scanHour)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		v, err = s.verdict(ctx, tx, &h, now)
		var waits *waitError
		if errors.As(err, &waits) {
			if h, err = lockHour(ctx, tx, k); err != nil {
				return err
			}
			return s.postpone(ctx, tx, &h, waits, now)
		}
		if err != nil {
			return err
		}
		judged = true
		found, err = s.write(ctx, tx, k, &v, now)
		return err
	})
	if err != nil || !judged {
		return err
	}
	s.metrics.judged.WithLabelValues(v.state.String()).Inc()
	s.Alarm(ctx, found)
	return nil
}

// postpone has an hour that waits looked at again; when its time is over it becomes incomplete.
func (s *Store) postpone(ctx context.Context, tx pgx.Tx, h *Hour, why *waitError, now time.Time) error {
	state, next := h.State, now.Add(min(max(now.Sub(h.ReceivedAt)/2, soonestLook), latestLook))
	if why.rarely {
		next = now.Add(rarestLook)
	}
	if over := now.Sub(h.EndsAt().Add(s.c.Deadline)); over >= 0 {
		state, next = Incomplete, now.Add(min(max(over/8, latestLook), rarestLook))
	}
	if _, err := tx.Exec(ctx, qPostpone, h.Site, int32(h.Hour), h.Spool, int16(state), why.reason, next); err != nil {
		return fmt.Errorf("postponing: %w", err)
	}
	if state == h.State {
		return nil
	}
	s.metrics.judged.WithLabelValues(state.String()).Inc()
	return note(ctx, tx, h.Key)
}

// verdict computes an hour. A waitError says that it cannot be computed yet. It reads only.
func (s *Store) verdict(ctx context.Context, tx pgx.Tx, h *Hour, now time.Time) (v verdict, err error) {
	r, err := s.reach(ctx, tx, h)
	if err != nil {
		return v, err
	}
	v.whole = r.whole
	if r.tooMany != "" {
		s.metrics.bounds.WithLabelValues(boundRange).Inc()
		v.state, v.reason = Incomplete, r.tooMany
		return v, nil
	}
	if v.found, err = s.find(ctx, tx, h, r.first, nil); err != nil {
		var many *manyMinersError
		if errors.As(err, &many) {
			s.metrics.bounds.WithLabelValues(boundMiners).Inc()
			v.state, v.reason = Incomplete, many.Error()
			return v, nil
		}
		return v, err
	}
	f := &v.found
	switch {
	case f.unsalted > 0:
		return v, wait("salt keys of %d of %d miners have not come, that of miner %s is one", f.unsalted, len(f.leaves), f.miner)
	case f.agrees(h):
		v.state = Agreed
	case r.dropped != "":
		v.state, v.reason = Incomplete, "the site has dropped "+r.dropped+", and what is left does not give the root that it signed"
	case f.older && now.Before(h.EndsAt().Add(s.c.Deadline-rarestLook)):
		return v, &waitError{fmt.Sprintf("batches from %d on do not give the root that was signed, and of those before some that may count have not come: a clock may have been set back", f.first), true}
	case f.root == h.Root:
		v.state = Disputed
		v.reason = fmt.Sprintf("the site signed %d leaves from batch %d on; with the root that it signed there are %d, from batch %d on", h.Leaves, h.FirstSeq, len(f.leaves), firstSeq(f.leaves))
	default:
		v.state = Disputed
		v.reason = fmt.Sprintf("the site signed %d leaves with root %x; batches %d to %d give %d with root %x", h.Leaves, h.Root, f.first, h.LastSeq, len(f.leaves), f.root)
	}
	return v, nil
}

// firstSeq is the first batch that counts. A site that named a later one would hide that the first had come late.
func firstSeq(leaves []evidence.Leaf) (first uint64) {
	for i := range leaves {
		if i == 0 || leaves[i].FirstSeq < first {
			first = leaves[i].FirstSeq
		}
	}
	return first
}

// write keeps a verdict with the leaves, and notes it.
func (s *Store) write(ctx context.Context, tx pgx.Tx, k Key, v *verdict, now time.Time) (found []Dispute, err error) {
	h, err := lockHour(ctx, tx, k) // as it is now: a second root may have come meanwhile
	if err != nil {
		return nil, err
	}
	if v.state == Disputed {
		d := Dispute{Key: k, Kind: DisputeRoot, Reason: v.reason, FoundAt: now.UTC(), InSpool: h.InSpool, InSeq: h.InSeq, Header: h.Header, Root: h.Root, OtherRoot: v.found.root}
		kept, err := s.dispute(ctx, tx, &d)
		if err != nil {
			return nil, err
		}
		if kept {
			found = append(found, d)
		}
	}
	if h.twice && v.state == Agreed {
		v.state, v.reason = Disputed, "the site signed two roots; its batches give the first one that came"
	}
	if _, err := tx.Exec(ctx, qNoPages, k.Site, int32(k.Hour), k.Spool); err != nil {
		return nil, fmt.Errorf("keeping leaves: %w", err)
	}
	if v.state != Incomplete {
		if err := s.writePages(ctx, tx, k, v.found.leaves); err != nil {
			return nil, fmt.Errorf("keeping leaves: %w", err)
		}
	}
	whole := v.whole
	if h.ReceivedAt.After(whole) {
		whole = h.ReceivedAt
	}
	if _, err := tx.Exec(ctx, qJudged, k.Site, int32(k.Hour), k.Spool, int16(v.state), v.reason, v.found.root[:], int32(len(v.found.leaves)), int16(v.found.skew), whole, now.UTC()); err != nil {
		return nil, fmt.Errorf("keeping a verdict: %w", err)
	}
	return found, note(ctx, tx, k)
}

func (s *Store) writePages(ctx context.Context, tx pgx.Tx, k Key, leaves []evidence.Leaf) error {
	slices.SortFunc(leaves, byMiner)
	var first, last []ident.MinerID
	var counts []int16
	var pages [][]byte
	for page := range slices.Chunk(leaves, pageLeaves) {
		packed, err := s.packPage(nil, page)
		if err != nil {
			return err
		}
		first, last = append(first, page[0].Miner), append(last, page[len(page)-1].Miner)
		counts, pages = append(counts, int16(len(page))), append(pages, packed)
	}
	if len(pages) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, qPage, k.Site, int32(k.Hour), k.Spool, first, last, counts, pages)
	return err
}

// reach is what the batches of an hour come to, before any is read.
type reach struct {
	first   uint64 // the first one needed
	whole   time.Time
	dropped string // which the site has dropped; "" none
	tooMany string // what it would take is more than is done for one hour
}

const (
	// qBefore finds the last batch of samples before those that count which ends more than an hour before the hour: nothing up to it matters.
	qBefore = `
SELECT coalesce((SELECT seq FROM batch WHERE site_id = $1 AND spool_id = $2 AND seq < $3 AND seq >= $3 - $5::bigint AND kind = 1 AND last_at < $4
	ORDER BY seq DESC LIMIT 1), 0)`
	qThere = `
SELECT count(*), coalesce(min(seq) FILTER (WHERE disposition = 2), 0), max(received_at) FILTER (WHERE seq >= $5), coalesce(sum(samples), 0)
FROM batch WHERE site_id = $1 AND spool_id = $2 AND seq >= $3 AND seq <= $4`
	qHoles = `
SELECT first_seq, last_seq FROM (
	SELECT lag(seq, 1, $3::bigint - 1) OVER (ORDER BY seq) + 1 AS first_seq, seq - 1 AS last_seq FROM (
		SELECT seq FROM batch WHERE site_id = $1 AND spool_id = $2 AND seq >= $3 AND seq <= $4 UNION ALL SELECT $4::bigint + 1) b) h
WHERE last_seq >= first_seq ORDER BY first_seq LIMIT $5`
	qGaps = `SELECT first_seq, last_seq FROM batch_gap WHERE site_id = $1 AND spool_id = $2 AND last_seq >= $3 AND first_seq <= $4 ORDER BY first_seq LIMIT $5`
)

// maxHoles is how many holes of one hour are looked at, and gap records for them.
const maxHoles = 1000

// reach finds out whether the batches that an hour needs are there. A waitError says that some have not come.
func (s *Store) reach(ctx context.Context, q querier, h *Hour) (r reach, err error) {
	begin := h.At().Add(-time.Hour)
	var before int64
	if err := q.QueryRow(ctx, qBefore, h.Site, h.Spool, int64(h.FirstSeq), begin, maxBatches).Scan(&before); err != nil {
		return r, fmt.Errorf("finding its first batch: %w", err)
	}
	r.first = uint64(before) + 1
	if h.LastSeq-r.first >= maxBatches {
		if before == 0 && h.LastSeq-h.FirstSeq < maxBatches { // what lies before has not come: only then does it show where to begin
			return r, wait("batches have not come: none before batch %d that ends before %s", h.FirstSeq, begin.Format(time.RFC3339))
		}
		r.tooMany = fmt.Sprintf("it needs batches %d to %d, more than the %d that are recomputed for one hour", r.first, h.LastSeq, maxBatches)
		return r, nil
	}
	var there, quarantined, polls int64
	var whole *time.Time
	if err := q.QueryRow(ctx, qThere, h.Site, h.Spool, int64(r.first), int64(h.LastSeq), int64(h.FirstSeq)).Scan(&there, &quarantined, &whole, &polls); err != nil {
		return r, fmt.Errorf("counting its batches: %w", err)
	}
	if whole != nil {
		r.whole = whole.UTC()
	}
	if polls > maxPolls {
		r.tooMany = fmt.Sprintf("batches %d to %d hold %d polls, more than the %d that are recomputed for one hour", r.first, h.LastSeq, polls, maxPolls)
		return r, nil
	}
	if quarantined != 0 {
		return r, wait("batch %d lies in quarantine: hashinsight-hub deadletter list shows why", quarantined)
	}
	if uint64(there) == h.LastSeq-r.first+1 {
		return r, nil
	}
	holes, err := s.ranges(ctx, q, qHoles, h, r.first)
	if err != nil {
		return r, err
	}
	if len(holes) == maxHoles {
		return r, wait("batches have not come: of %d to %d, %d are missing, the first is %d", r.first, h.LastSeq, h.LastSeq-r.first+1-uint64(there), holes[0].first)
	}
	gaps, err := s.ranges(ctx, q, qGaps, h, r.first)
	if err != nil {
		return r, err
	}
	dropped := uint64(0)
	for _, hole := range holes {
		at := hole.first
		for _, g := range gaps { // by their beginnings
			if g.first <= at && g.last >= at {
				at = g.last + 1
			}
		}
		if at <= hole.last {
			return r, wait("batches have not come: of %d to %d, %d are missing, the first is %d", r.first, h.LastSeq, h.LastSeq-r.first+1-uint64(there), at)
		}
		dropped += hole.last - hole.first + 1
	}
	r.dropped = fmt.Sprintf("%d of batches %d to %d, the first is %d", dropped, r.first, h.LastSeq, holes[0].first)
	return r, nil
}

type seqRange struct{ first, last uint64 }

func (s *Store) ranges(ctx context.Context, q querier, sql string, h *Hour, first uint64) ([]seqRange, error) {
	rows, err := q.Query(ctx, sql, h.Site, h.Spool, int64(first), int64(h.LastSeq), maxHoles)
	if err != nil {
		return nil, fmt.Errorf("finding missing batches: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (seqRange, error) {
		var first, last int64
		err := row.Scan(&first, &last)
		return seqRange{uint64(first), uint64(last)}, err
	})
	if err != nil {
		return nil, fmt.Errorf("finding missing batches: %w", err)
	}
	return list, nil
}

// evidenceError tells what cannot be had of a batch from what cannot be had now.
func evidenceError(err error) error {
	if errors.Is(err, archive.ErrDamaged) || errors.Is(err, archive.ErrNoObject) || errors.Is(err, archive.ErrDropped) || errors.Is(err, archive.ErrNoArchive) {
		return wait("%v", err)
	}
	return err
}
