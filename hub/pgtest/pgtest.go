// Package pgtest gives tests a real PostgreSQL: one throw-away server for each test binary, started on demand on a Unix
// socket and gone with the binary even when it is killed, and in it a database for each test, cloned from a template
// that has all migrations. It uses no server that happens to run. Tests of the hub and of deploy/e2e call it.
package pgtest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
)

// server is the test binary's server. It is state of the package because a test binary has no other place that all its
// tests share; it is started once.
var server struct {
	once  sync.Once
	err   error
	base  string // URL of the server's administrative database
	clone sync.Mutex
	next  atomic.Int64
}

const template = "hsi_template"

// Start starts the server unless it runs already. Tests that use PostgreSQL inside a synctest bubble call it first,
// outside of the bubble (from TestMain, say): goroutines of the server must not belong to a bubble.
func Start() error {
	server.once.Do(func() { server.err = start() })
	return server.err
}

// URL returns the URL of a fresh database with all migrations applied, which is dropped when the test ends.
func URL(t testing.TB) string {
	t.Helper()
	return create(t, template)
}

// EmptyURL returns the URL of a fresh database without any table, which is dropped when the test ends.
func EmptyURL(t testing.TB) string {
	t.Helper()
	return create(t, "template0")
}

// New returns a pool to a fresh database with all migrations applied. Pool and database end with the test.
func New(t testing.TB) *pgxpool.Pool {
	t.Helper()
	cfg, err := pg.PoolConfig(URL(t))
	if err != nil {
		t.Fatalf("test database: %v", err)
	}
	pool, err := pgxpool.NewWithConfig(context.WithoutCancel(t.Context()), cfg)
	if err != nil {
		t.Fatalf("test database: %v", err)
	}
	t.Cleanup(pool.Close) // before the database is dropped: cleanups run last in, first out
	return pool
}

func create(t testing.TB, from string) string {
	t.Helper()
	if err := Start(); err != nil {
		t.Fatalf("this test needs PostgreSQL: %v", err)
	}
	ctx := context.WithoutCancel(t.Context())
	name := fmt.Sprintf("t%d", server.next.Add(1))
	if err := admin(ctx, fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", name, from)); err != nil {
		t.Fatalf("test database: %v", err)
	}
	t.Cleanup(func() {
		if err := admin(ctx, fmt.Sprintf("DROP DATABASE IF EXISTS %s WITH (FORCE)", name)); err != nil {
			t.Errorf("dropping the test database: %v", err)
		}
	})
	return database(name)
}

// admin runs one statement in the administrative database. One at a time: a template can only be cloned while nobody
// else uses it.
func admin(ctx context.Context, sql string) error {
	server.clone.Lock()
	defer server.clone.Unlock()
	conn, err := pgx.Connect(ctx, database("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, sql)
	return err
}

func database(name string) string {
	u, err := url.Parse(server.base)
	if err != nil {
		return server.base // it was made by url.String
	}
	u.Path = "/" + name
	return u.String()
}

func start() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	dir, err := makeDir()
	if err != nil {
		return err
	}
	e, err := pg.StartEmbedded(ctx, pg.EmbeddedConfig{Dir: dir, Throwaway: true, MaxConnections: 300})
	if err != nil {
		_ = os.RemoveAll(dir) // the first error is the one to tell
		return err
	}
	server.base = e.URL()
	if err := admin(ctx, "CREATE DATABASE "+template); err != nil {
		return err
	}
	if _, err := pg.Migrate(ctx, database(template), nil); err != nil {
		return err
	}
	return nil
}

// makeDir makes the server's directory with a short path, and a watcher that removes it when this process has ended in
// whatever way: its standard input ends with us.
func makeDir() (string, error) {
	base := os.TempDir()
	if st, err := os.Stat(base); err != nil || len(base) > 40 || os.Geteuid() == 0 && st.Mode().Perm()&0o001 == 0 {
		base = "/tmp"
	}
	dir, err := os.MkdirTemp(base, "hsi-pgtest-")
	if err != nil {
		return "", fmt.Errorf("directory for a test server: %w", err)
	}
	if os.Geteuid() == 0 { // the server runs under another account, which must pass
		if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // everything inside is closed
			return "", fmt.Errorf("directory for a test server: %w", err)
		}
	}
	// The kernel stops the server when we end; the watcher waits for that (at most 10 s), then clears up.
	script := `cat >/dev/null; i=0; while [ -e "$1/data/postmaster.pid" ] && [ $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done; rm -rf -- "$1"`
	watch := exec.Command("/bin/sh", "-c", script, "pgtest-watch", dir) //nolint:noctx // must outlive every context of this process
	watch.Dir = "/"
	watch.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C must not reach it
	if _, err := watch.StdinPipe(); err != nil {
		return "", fmt.Errorf("watcher of a test server: %w", err)
	}
	if err := watch.Start(); err != nil {
		return "", fmt.Errorf("watcher of a test server: %w", err)
	}
	go func() { _ = watch.Wait() }() // never returns while we live, unless someone ends the watcher
	return strings.TrimSuffix(filepath.Clean(dir), "/"), nil
}
