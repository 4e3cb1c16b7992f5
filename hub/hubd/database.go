package hubd

import (
	"context"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
)

// Database says where the hub's data is, and what opens the secrets in it.
type Database struct {
	DatabaseURL        string // postgres://…, or embedded: for a server of the hub's own
	DatabaseURLDirect  string // past a transaction pooler, for migrations; empty means DatabaseURL
	DataDir            string // for the embedded server
	EmbeddedUser       string // account of the embedded server when the hub is root; empty means postgres or hashinsight
	PoolSize           int    // connections kept open in each pool; 0 means 10
	PoolOverflow       int    // opened on demand above PoolSize; 0 means 20
	EncryptionPassword string
	PKIURL             string // http://host:port of /pki/, written into certificates; empty writes none

	// Now is a clock of the caller's; nil means time.Now. A hub that is given one does its background work by that clock
	// alone, in one plain loop: tests in virtual time do so. Other hubs share jobs by the database's clock.
	Now func() time.Time
	Log *slog.Logger // nil means no log
}

// database is a Database on its way to being used. Its URL is known before the server runs.
type database struct {
	c        Database
	embedded bool
	pools    pg.Config
	server   *pg.Embedded
}

const serverRoom = 30 // connections of the embedded server beyond one hub's pools: commands, migrations, a person

func (c Database) prepare(reg prometheus.Registerer) (*database, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.PoolSize == 0 {
		c.PoolSize = 10
	}
	if c.PoolOverflow == 0 {
		c.PoolOverflow = 20
	}
	d := &database{c: c, embedded: c.DatabaseURL == pg.EmbeddedScheme}
	d.pools = pg.Config{URL: c.DatabaseURL, MinConns: int32(c.PoolSize), ExtraConns: int32(c.PoolOverflow), Registerer: reg}
	if d.embedded {
		var err error
		if d.pools.URL, err = pg.EmbeddedURL(d.dir()); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (d *database) dir() string { return filepath.Join(d.c.DataDir, "postgres") }

// start starts the embedded server if there is one, and checks that the database can be worked with.
func (d *database) start(ctx context.Context) error { return d.open(ctx, false) }

func (d *database) open(ctx context.Context, command bool) error {
	if d.embedded {
		begin := time.Now()
		e, err := pg.StartEmbedded(ctx, pg.EmbeddedConfig{
			Dir: d.dir(), User: d.c.EmbeddedUser, MaxConnections: d.pools.Connections() + serverRoom, Command: command, Log: d.c.Log,
		})
		if err != nil {
			return err
		}
		d.server = e
		if !command {
			d.c.Log.InfoContext(ctx, "embedded database runs", "dir", d.dir(), "after_ms", time.Since(begin).Milliseconds())
		}
	}
	connections := d.pools.Connections()
	if command {
		connections = 2
	}
	return pg.Await(ctx, d.direct(), connections, d.c.Log)
}

// direct is the URL for what needs a session of its own.
func (d *database) direct() string {
	if d.c.DatabaseURLDirect != "" && !d.embedded {
		return d.c.DatabaseURLDirect
	}
	return d.pools.URL
}

func (d *database) ended() <-chan struct{} {
	if d.server == nil {
		return nil
	}
	return d.server.Done()
}

func (d *database) stop(ctx context.Context) error {
	if d.server == nil {
		return nil
	}
	return d.server.Stop(ctx)
}

func (d *database) describe() string {
	if d.embedded {
		return "embedded"
	}
	return "server"
}
