// Package archive keeps payloads of batches, the evidence itself, outside of the database once their hour is over: unchanged, one object for each
// site and hour of first sample, further ones for late batches, in a directory or in a bucket of a store that speaks S3. The database keeps headers,
// signatures and where each payload lies; Find finds a batch wherever it is, and Export writes those of an hour to a file. It reads no payload beyond
// its hash and judges none. Background work calls Move; whoever needs evidence calls Find, List or Export.
package archive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"gocloud.dev/blob"

	"github.com/hashinsight/hashinsight/hub/internal/archive/place"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Config describes an Archive.
type Config struct {
	Pool        *pgxpool.Pool         // required
	URL         string                // as package place reads it
	Credentials Credentials           // of a bucket
	Delay       time.Duration         // how long after an hour's end its payloads are moved; 0 means 2 hours
	Log         *slog.Logger          // nil discards
	Registerer  prometheus.Registerer // nil means no metrics
}

// Credentials open a bucket. Without any, those are taken that the machine or the container has by its role.
type Credentials struct {
	AccessKeyID, SecretAccessKey string
	SessionToken                 string // only with temporary keys
}

// Archive moves and finds payloads. It is safe for concurrent use, and by any number of hubs that share the place.
type Archive struct {
	c       Config
	place   place.Place
	bucket  *blob.Bucket
	metrics *metrics
}

// Open opens the place that c.URL names. A directory is made; a store is not asked for anything yet: a hub starts while it is away.
func Open(ctx context.Context, c Config) (*Archive, error) {
	if c.Pool == nil {
		return nil, errors.New("archive: a database pool is required")
	}
	if c.Delay == 0 {
		c.Delay = 2 * time.Hour
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	p, err := place.Parse(c.URL)
	if err != nil {
		return nil, fmt.Errorf("the archive's place %w", err)
	}
	a := &Archive{c: c, place: p, metrics: newMetrics()}
	if a.bucket, err = openBucket(ctx, p, c.Credentials); err != nil {
		return nil, fmt.Errorf("opening the archive in %s: %w", p, err)
	}
	if c.Registerer != nil {
		if err := a.metrics.register(c.Registerer); err != nil {
			return nil, errors.Join(fmt.Errorf("metrics of archive: %w", err), a.bucket.Close())
		}
	}
	return a, nil
}

// Close closes the place.
func (a *Archive) Close() error { return a.bucket.Close() }

// Ref names a batch.
type Ref struct {
	Site  ident.SiteID
	Spool ident.SpoolID
	Seq   uint64
}

type metrics struct {
	moved  *prometheus.CounterVec
	failed *prometheus.CounterVec
}

// Where a move failed.
const (
	atStore    = "store"
	atDatabase = "database"
)

func newMetrics() *metrics {
	m := &metrics{
		moved: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hashinsight_archive_moved_total", Help: "What was moved from the database into the archive.",
		}, []string{"what"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hashinsight_archive_failures_total", Help: "Hours of a site that could not be moved and wait for the next try, by what failed.",
		}, []string{"at"}),
	}
	for _, at := range []string{atStore, atDatabase} {
		m.failed.WithLabelValues(at) // shown from the start: a counter that appears with its first failure rises unseen
	}
	return m
}

func (m *metrics) register(r prometheus.Registerer) error {
	return errors.Join(r.Register(m.moved), r.Register(m.failed))
}
