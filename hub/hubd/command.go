package hubd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/jobs"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/internal/pki"
	"github.com/hashinsight/hashinsight/hub/internal/proof"
	"github.com/hashinsight/hashinsight/pkg/identity"
)

// What operators do from the command line, beside a running hub or without one. The embedded database is used where it
// runs, and else started for as long as the command takes.

// commandTimeout bounds a command's work in the database, migrations included.
const commandTimeout = 5 * time.Minute

func (c Database) do(ctx context.Context, migrate bool, work func(ctx context.Context, pool *pgxpool.Pool, direct string) error) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	return c.use(ctx, migrate, work)
}

// use is do for work that lasts as long as ctx.
func (c Database) use(ctx context.Context, migrate bool, work func(ctx context.Context, pool *pgxpool.Pool, direct string) error) (err error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	d, err := c.prepare(nil)
	if err != nil {
		return err
	}
	defer func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopDatabase)
		defer cancel()
		err = errors.Join(err, d.stop(stop))
	}()
	if err := d.open(ctx, true); err != nil {
		return err
	}
	if migrate {
		if _, err := pg.Migrate(ctx, d.direct(), d.c.Log); err != nil {
			return err
		}
	}
	pc, err := pg.PoolConfig(d.pools.URL)
	if err != nil {
		return err
	}
	pc.MinConns, pc.MaxConns = 0, 2
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return fmt.Errorf("database: %w", err)
	}
	defer pool.Close()
	return work(ctx, pool, d.direct())
}

// openPKI opens the certificate authority for a command; what it changes is recorded.
func openPKI(ctx context.Context, c Database, pool *pgxpool.Pool) (*pki.Authority, error) {
	pc, err := pkiConfig(c, pool)
	if err != nil {
		return nil, err
	}
	return pki.Open(ctx, pc)
}

func pkiConfig(c Database, pool *pgxpool.Pool) (pki.Config, error) {
	l, err := audit.New(audit.Config{Now: c.Now, Log: c.Log})
	return pki.Config{DB: pool, Password: c.EncryptionPassword, URL: c.PKIURL, Audit: l, Note: proof.Note, Now: c.Now, Log: c.Log}, err
}

// SiteOrder is what an operator orders for a site.
type SiteOrder struct {
	Name       string        // unique among the hub's sites
	Request    []byte        // the file that hashinsight-agent keys init made
	HubAddress string        // host:port that the site's agent dials
	ValidFor   time.Duration // of the certificate; 0 means 90 days
	ReplaceKey bool          // the site's evidence key may change
}

// RegisterSite registers a site, or renews a known one, and returns the bundle file for its agent.
func RegisterSite(ctx context.Context, c Database, o SiteOrder) (bundle []byte, err error) {
	request, err := identity.ParseRequest(o.Request)
	if err != nil {
		return nil, err
	}
	err = c.do(ctx, true, func(ctx context.Context, pool *pgxpool.Pool, _ string) error {
		a, err := openPKI(ctx, c, pool)
		if err != nil {
			return err
		}
		b, err := a.Register(ctx, pki.Registration{Name: o.Name, Request: request, HubAddress: o.HubAddress, ValidFor: o.ValidFor, ReplaceKey: o.ReplaceKey})
		if err != nil {
			return err
		}
		bundle, err = b.Encode()
		return err
	})
	return bundle, err
}

// Site is one line of the list of sites.
type Site = pki.Site

// Sites lists the registered sites by name.
func Sites(ctx context.Context, c Database) (sites []Site, err error) {
	err = c.do(ctx, true, func(ctx context.Context, pool *pgxpool.Pool, _ string) error {
		a, err := openPKI(ctx, c, pool)
		if err != nil {
			return err
		}
		sites, err = a.Sites(ctx)
		return err
	})
	return sites, err
}

// BootstrapKey makes the owner's API key and returns it; the hub keeps only its hash. With replace it takes the place of
// the present one.
func BootstrapKey(ctx context.Context, c Database, env string, replace bool) (key string, err error) {
	err = c.do(ctx, true, func(ctx context.Context, pool *pgxpool.Pool, _ string) error {
		key, err = access.Bootstrap(ctx, access.BootstrapConfig{Pool: pool, Env: env, Replace: replace, Now: c.Now})
		return err
	})
	return key, err
}

// Migration is the state of one migration of the schema.
type Migration = pg.Migration

// MigrateUp brings the schema up to date and returns what it applied.
func MigrateUp(ctx context.Context, c Database) (applied []Migration, err error) {
	err = c.do(ctx, false, func(ctx context.Context, _ *pgxpool.Pool, direct string) error {
		applied, err = pg.Migrate(ctx, direct, c.Log)
		return err
	})
	return applied, err
}

// MigrateStatus lists all migrations.
func MigrateStatus(ctx context.Context, c Database) (all []Migration, err error) {
	err = c.do(ctx, false, func(ctx context.Context, _ *pgxpool.Pool, direct string) error {
		all, err = pg.MigrationStatus(ctx, direct)
		return err
	})
	return all, err
}

// Job is one line of the list of jobs.
type Job = jobs.Job

// JobStates lists the states a job can be in.
func JobStates() []string { return jobs.States() }

// Jobs lists the newest jobs, the newest first; states empty means all.
func Jobs(ctx context.Context, c Database, states []string, limit int) (list []Job, err error) {
	err = c.do(ctx, true, func(ctx context.Context, pool *pgxpool.Pool, _ string) error {
		list, err = jobs.List(ctx, pool, states, limit)
		return err
	})
	return list, err
}
