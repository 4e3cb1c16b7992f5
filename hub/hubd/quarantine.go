package hubd

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/ingest"
	"github.com/hashinsight/hashinsight/hub/internal/series"
)

// BatchName names a batch of a site's spool.
type BatchName = ingest.BatchName

// Letter is a batch in quarantine.
type Letter = ingest.Letter

// Fork is the proof that a site signed two batches with one name.
type Fork = ingest.Fork

// DeadLetters lists batches in quarantine; more tells that there are further ones.
func DeadLetters(ctx context.Context, c Database, limit int) (letters []Letter, more bool, err error) {
	err = c.do(ctx, true, func(ctx context.Context, pool *pgxpool.Pool, _ string) error {
		letters, more, err = ingest.DeadLetters(ctx, pool, limit)
		return err
	})
	return letters, more, err
}

// DeadLetter returns one batch in quarantine with its bytes.
func DeadLetter(ctx context.Context, c Database, name BatchName) (l Letter, err error) {
	err = c.do(ctx, true, func(ctx context.Context, pool *pgxpool.Pool, _ string) error {
		l, err = ingest.DeadLetter(ctx, pool, name)
		return err
	})
	return l, err
}

// DropLetter deletes the payload of a batch in quarantine for good.
func DropLetter(ctx context.Context, c Database, name BatchName) error {
	return c.do(ctx, true, func(ctx context.Context, pool *pgxpool.Pool, _ string) error {
		return ingest.DropLetter(ctx, pool, name)
	})
}

// RetryLetter takes a batch out of quarantine into the series, if this version of the hub can use it, and returns its samples.
func RetryLetter(ctx context.Context, c Database, name BatchName) (samples int64, err error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	err = c.do(ctx, true, func(ctx context.Context, pool *pgxpool.Pool, _ string) error {
		r := ingest.RetryConfig{Pool: pool, Now: c.Now, Log: c.Log}
		if r.Fleet, err = fleet.New(fleet.Config{Pool: pool, Now: c.Now, Log: c.Log}); err != nil {
			return err
		}
		if r.Latest, err = fleet.NewLatest(fleet.LatestConfig{Now: c.Now}); err != nil {
			return err
		}
		if r.Series, err = series.New(series.Config{Pool: pool, Now: c.Now, Log: c.Log}); err != nil {
			return err
		}
		if r.Facts, err = c.facts(pool); err != nil {
			return err
		}
		samples, err = ingest.RetryLetter(ctx, r, name)
		return err
	})
	return samples, err
}

// Forks lists forks, the latest first; more tells that there are further ones, and notKept how often one came for whose proof there was no room.
func Forks(ctx context.Context, c Database, limit int) (forks []Fork, more bool, notKept int64, err error) {
	err = c.do(ctx, true, func(ctx context.Context, pool *pgxpool.Pool, _ string) error {
		if forks, more, err = ingest.Forks(ctx, pool, limit); err != nil {
			return err
		}
		notKept, err = ingest.ForksNotKept(ctx, pool)
		return err
	})
	return forks, more, notKept, err
}

// ForksOf returns the proofs of a batch's forks, each checked with the key that is returned with it.
func ForksOf(ctx context.Context, c Database, name BatchName) (forks []Fork, err error) {
	err = c.do(ctx, true, func(ctx context.Context, pool *pgxpool.Pool, _ string) error {
		keys, err := fleet.New(fleet.Config{Pool: pool, Now: c.Now, Log: c.Log})
		if err != nil {
			return err
		}
		forks, err = ingest.ForksOf(ctx, pool, keys, name)
		return err
	})
	return forks, err
}
