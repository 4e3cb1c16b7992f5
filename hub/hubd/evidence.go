package hubd

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/archive"
	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Evidence is the place that keeps payloads of closed hours.
type Evidence struct {
	URL string // file:///directory, or s3://bucket?region=…
	// Of a bucket: without them, the role that the machine has.
	AccessKeyID, SecretAccessKey, SessionToken string
}

func (e Evidence) open(ctx context.Context, c archive.Config) (*archive.Archive, error) {
	c.URL, c.Credentials = e.URL, archive.Credentials{AccessKeyID: e.AccessKeyID, SecretAccessKey: e.SecretAccessKey, SessionToken: e.SessionToken}
	a, err := archive.Open(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("EVIDENCE_URL: %w", err)
	}
	return a, nil
}

// EvidenceHour names the batches of one site whose first sample lies in one hour.
type EvidenceHour = archive.Hour

// EvidenceLine is a batch in a list of evidence.
type EvidenceLine = archive.Line

// EvidenceTail says what an export holds.
type EvidenceTail = archive.Tail

// EvidenceOf lists the batches of a site's hour; more tells that there are further ones.
func EvidenceOf(ctx context.Context, c Database, hour EvidenceHour, limit int) (lines []EvidenceLine, more bool, err error) {
	err = c.do(ctx, true, func(ctx context.Context, pool *pgxpool.Pool, _ string) error {
		if _, err := fleetWith(ctx, pool, hour.Site); err != nil {
			return err
		}
		lines, more, err = archive.List(ctx, pool, hour, limit)
		return err
	})
	return lines, more, err
}

// fleetWith returns the fleet, if it has a site: else a mistyped id would look like a site without evidence.
func fleetWith(ctx context.Context, pool *pgxpool.Pool, site ident.SiteID) (*fleet.Store, error) {
	s, err := fleet.New(fleet.Config{Pool: pool})
	if err != nil {
		return nil, err
	}
	if _, err = s.Site(ctx, site); errors.Is(err, fleet.ErrNotFound) {
		return nil, fmt.Errorf("site %s does not exist: hashinsight-hub site list shows those that do", site)
	}
	return s, err
}

// keysOf finds the keys that check sites' signatures.
func keysOf(f *fleet.Store) func(context.Context, ident.SiteID, ident.KeyID) (ed25519.PublicKey, error) {
	return func(ctx context.Context, site ident.SiteID, id ident.KeyID) (ed25519.PublicKey, error) {
		key, err := f.Key(ctx, site, id)
		return key.Public, err
	}
}

// ExportEvidence writes the batches of a site's hour, wherever they lie, each checked, as package archive describes. With skipDamaged a batch whose payload is damaged
// or gone is written without it, else it ends the export.
func ExportEvidence(ctx context.Context, c Database, e Evidence, hour EvidenceHour, skipDamaged bool, w io.Writer) (tail EvidenceTail, err error) {
	err = c.do(ctx, true, func(ctx context.Context, pool *pgxpool.Pool, _ string) (err error) {
		keys, err := fleetWith(ctx, pool, hour.Site)
		if err != nil {
			return err
		}
		a, err := e.open(ctx, archive.Config{Pool: pool, Log: c.Log})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, a.Close()) }()
		tail, err = a.Export(ctx, w, archive.ExportConfig{
			Hour: hour, SkipDamaged: skipDamaged,
			Key: keysOf(keys),
		})
		return err
	})
	return tail, err
}
