package pg

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// EmbeddedScheme is the DATABASE_URL that asks for a PostgreSQL of the hub's own.
const EmbeddedScheme = "embedded:"

// MinMajor is the oldest PostgreSQL that HashInsight runs on.
const MinMajor = 15

const (
	embeddedRole     = "hashinsight" // owner of everything in the embedded cluster
	embeddedDatabase = "hashinsight"
	embeddedPort     = 5432      // names the socket; nothing listens on TCP
	minFreeBytes     = 200 << 20 // a fresh cluster takes 40 MB; less than this cannot do useful work
)

// EmbeddedConfig says where and as whom the hub's own PostgreSQL runs.
type EmbeddedConfig struct {
	// Dir holds everything: data/ (the cluster), conf/ (who may connect), run/ (the socket, unless its path
	// would be too long) and the lock. It is made if missing. The server's account must be able to reach it.
	Dir string
	// User is the account that runs the server when this process is root; PostgreSQL refuses to run as root.
	// Empty means postgres, else hashinsight, which is made if neither exists. Ignored for ordinary users.
	User string
	// MaxConnections is the server's limit; 0 means 120.
	MaxConnections int
	// Command marks a short-lived user (a command line beside the hub); see Embedded.Owner.
	Command bool
	// Throwaway trades all safety for speed: no fsync. For tests.
	Throwaway bool
	// Search lists patterns of directories with the server's programs; nil means where Debian and Fedora put them, and PATH.
	Search []string
	Log    *slog.Logger
}

// Embedded is a PostgreSQL server that this process started, or found running under another process of the same hub.
type Embedded struct {
	url   string
	owner bool
	child *child
	lock  *os.File
	log   *slog.Logger
	tmp   string // socket directory outside Dir, removed at the end
	once  sync.Once
	err   error
}

// ErrInUse means that another hub process runs this embedded database.
var ErrInUse = errors.New("embedded PostgreSQL is in use")

// URL returns the connection URL (Unix socket).
func (e *Embedded) URL() string { return e.url }

// Owner reports whether this process runs the server; false when a command attached itself to a running hub's.
func (e *Embedded) Owner() bool { return e.owner }

// Done is closed when the server has ended, on order or by itself. It is nil, and so never ready, without ownership.
func (e *Embedded) Done() <-chan struct{} {
	if e.child == nil {
		return nil
	}
	return e.child.done
}

// Stop ends the server: clients are disconnected and everything is written out. When ctx ends first, the server is
// ended at once and recovers at its next start. Without ownership it does nothing.
func (e *Embedded) Stop(ctx context.Context) error {
	e.once.Do(func() {
		if !e.owner {
			return
		}
		e.err = e.child.stop(ctx)
		if e.tmp != "" {
			_ = os.Remove(e.tmp) // an empty leftover directory harms nobody
		}
		_ = e.lock.Close() // gives the lock up
	})
	return e.err
}

// StartEmbedded starts the server in c.Dir, creating the cluster at first use, and returns when it accepts connections.
// A server left behind by a killed hub is asked to stop and waited for. With c.Command it attaches to the server of a
// running hub instead; a hub finds ErrInUse.
func StartEmbedded(ctx context.Context, c EmbeddedConfig) (*Embedded, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = 120
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("embedded PostgreSQL: %w", err)
	}
	c.Dir = dir
	e, err := startEmbedded(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("embedded PostgreSQL in %s: %w", c.Dir, err)
	}
	return e, nil
}

func startEmbedded(ctx context.Context, c EmbeddedConfig) (_ *Embedded, err error) {
	acct, err := resolveAccount(ctx, c.User)
	if err != nil {
		return nil, err
	}
	if err := makeDir(c.Dir, acct); err != nil {
		return nil, err
	}
	lock, err := takeLock(ctx, c)
	if err != nil {
		return nil, err
	}
	if lock == nil { // a hub runs it and we are a command
		pid, err := readPostmaster(filepath.Join(c.Dir, "data"))
		if err != nil {
			return nil, fmt.Errorf("a hub holds the lock, but its server cannot be found: %w", err)
		}
		return &Embedded{url: pid.url(embeddedDatabase), log: c.Log}, nil
	}
	defer func() {
		if err != nil {
			_ = lock.Close() // the first error is the one to tell
		}
	}()

	data := filepath.Join(c.Dir, "data")
	bin, err := chooseServer(ctx, c.Search, data)
	if err != nil {
		return nil, err
	}
	if err := createCluster(ctx, c, bin, acct); err != nil {
		return nil, err
	}
	if err := awaitOldServer(ctx, data, c.Log); err != nil {
		return nil, err
	}
	sock, tmp := socketDir(c.Dir)
	if err := makeSocketDir(sock, acct); err != nil {
		return nil, err
	}
	conf, err := writeAccessFiles(c.Dir, acct)
	if err != nil {
		return nil, err
	}
	ch, err := launch(ctx, c, bin, acct, data, sock, conf)
	if err != nil {
		return nil, err
	}
	e := &Embedded{owner: true, child: ch, lock: lock, log: c.Log, tmp: tmp}
	pid := postmaster{port: embeddedPort, socket: sock}
	if err := errors.Join(ensureDatabase(ctx, pid.url("postgres")), writeLock(lock, c, lockReady)); err != nil {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		return nil, errors.Join(err, ch.stop(stopCtx))
	}
	e.url = pid.url(embeddedDatabase)
	return e, nil
}

// launch starts the server and waits until it accepts connections. A server that is still recovering from a crash is
// waited for as long as ctx allows.
func launch(ctx context.Context, c EmbeddedConfig, bin string, acct account, data, sock, conf string) (*child, error) {
	set := []string{
		"listen_addresses=", "unix_socket_directories=" + sock, "unix_socket_permissions=0700", "port=" + strconv.Itoa(embeddedPort),
		"hba_file=" + filepath.Join(conf, "pg_hba.conf"), "ident_file=" + filepath.Join(conf, "pg_ident.conf"),
		"max_connections=" + strconv.Itoa(c.MaxConnections), "timezone=UTC", "log_timezone=UTC", "jit=off",
		"logging_collector=off", "log_destination=stderr", "log_line_prefix=",
		// Statements and the details of errors can hold customers' data: the hub's own errors say enough.
		"log_min_error_statement=panic", "log_error_verbosity=terse",
	}
	if c.Throwaway {
		set = append(set, "fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off", "shared_buffers=32MB", "max_wal_senders=0", "wal_level=minimal")
	} else {
		set = append(set, "shared_buffers=256MB", "max_wal_size=2GB", "wal_compression=on")
	}
	args := []string{"-D", data}
	for _, s := range set {
		args = append(args, "-c", s)
	}
	tail := newServerLog(c.Log)
	ch, err := startChild(filepath.Join(bin, "postgres"), args, acct, tail)
	if err != nil {
		return nil, fmt.Errorf("starting the server: %w", err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	slow := time.NewTicker(10 * time.Second)
	defer slow.Stop()
	for {
		select {
		case <-ctx.Done():
			stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			return nil, errors.Join(fmt.Errorf("waiting for the server to accept connections: %w", ctx.Err()), ch.stop(stopCtx))
		case <-ch.done:
			return nil, startError(tail.String())
		case <-slow.C:
			c.Log.WarnContext(ctx, "embedded database is still starting; it may be recovering from a crash", "dir", data)
		case <-tick.C:
			if pid, err := readPostmaster(data); err == nil && pid.pid == ch.pid && pid.ready {
				return ch, nil
			}
		}
	}
}

// startError turns the server's last words into an error that says what to do.
func startError(said string) error {
	switch {
	case strings.Contains(said, "No space left on device"):
		return fmt.Errorf("the disk is full: make room and start again; the data is unharmed (%s)", said)
	case strings.Contains(said, "shared memory"):
		return fmt.Errorf("the server could not get shared memory, or processes of an earlier server still run: %s", said)
	case said == "":
		return errors.New("the server ended while starting and said nothing")
	default:
		return fmt.Errorf("the server ended while starting: %s", said)
	}
}

// EmbeddedURL returns the URL that a server in dir will have, so that pools can be made before it runs.
func EmbeddedURL(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("embedded PostgreSQL: %w", err)
	}
	sock, _ := socketDir(dir)
	return postmaster{port: embeddedPort, socket: sock}.url(embeddedDatabase), nil
}

// socketPathMax is what fits into a socket's address with the name that PostgreSQL gives it.
const socketPathMax = 107 - len("/.s.PGSQL.5432.lock")

// socketDir returns a directory with a short path for the socket. tmp is the same when it lies outside dir, and should be
// removed at the end.
func socketDir(dir string) (path, tmp string) {
	path = filepath.Join(dir, "run")
	if len(path) <= socketPathMax {
		return path, ""
	}
	base := os.Getenv("XDG_RUNTIME_DIR")
	if base == "" || os.Geteuid() == 0 || len(base) > socketPathMax-30 { // root's is closed to the server's account
		base = "/tmp"
	}
	path = filepath.Join(base, fmt.Sprintf("hsi-pg-%d-%s", os.Geteuid(), shortHash(dir)))
	return path, path
}

func ensureDatabase(ctx context.Context, adminURL string) error {
	conn, err := pgx.Connect(ctx, adminURL)
	if err != nil {
		return fmt.Errorf("connecting to the new server: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var exists bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)`, embeddedDatabase).Scan(&exists); err != nil {
		return fmt.Errorf("looking for database %s: %w", embeddedDatabase, err)
	}
	if exists {
		return nil
	}
	if _, err := conn.Exec(ctx, `CREATE DATABASE `+embeddedDatabase); err != nil {
		return fmt.Errorf("creating database %s: %w", embeddedDatabase, err)
	}
	return nil
}

// postmaster is what a running server writes into postmaster.pid.
type postmaster struct {
	pid    int
	port   int
	socket string
	ready  bool
}

func readPostmaster(data string) (postmaster, error) {
	b, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return postmaster{}, fmt.Errorf("no server runs: %w", err)
	}
	line := strings.Split(string(b), "\n")
	if len(line) < 5 {
		return postmaster{}, errors.New("postmaster.pid is incomplete")
	}
	var p postmaster
	p.pid, _ = strconv.Atoi(strings.TrimSpace(line[0])) // a pid of 0 is refused below
	p.port, _ = strconv.Atoi(strings.TrimSpace(line[3]))
	p.socket = strings.TrimSpace(line[4])
	p.ready = len(line) > 7 && strings.TrimSpace(line[7]) == "ready"
	if p.pid <= 0 || p.port <= 0 {
		return postmaster{}, errors.New("postmaster.pid is malformed")
	}
	return p, nil
}

func (p postmaster) url(database string) string {
	q := url.Values{"host": {p.socket}, "port": {strconv.Itoa(p.port)}, "user": {embeddedRole}}
	return "postgres:///" + database + "?" + q.Encode()
}

// serverLog passes the server's lines to the hub's log and keeps the last ones for an error text.
type serverLog struct {
	log *slog.Logger
	mu  sync.Mutex
	end []string
	buf []byte
}

const serverLogKeep = 12 // lines quoted when the server does not start

func newServerLog(log *slog.Logger) *serverLog { return &serverLog{log: log} }

func (s *serverLog) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf = append(s.buf, b...)
	for {
		n, line, _ := bufio.ScanLines(s.buf, false) // ScanLines never fails
		if n == 0 {
			break
		}
		s.add(string(line))
		s.buf = s.buf[n:]
	}
	if len(s.buf) > 64<<10 { // no line of the server is as long; never keep more
		s.buf = nil
	}
	return len(b), nil
}

func (s *serverLog) add(line string) {
	if line == "" {
		return
	}
	level := slog.LevelDebug
	switch {
	case strings.HasPrefix(line, "PANIC:"):
		level = slog.LevelError
	case strings.Contains(line, "terminating connection due to administrator command"): // we are stopping it
	case strings.HasPrefix(line, "FATAL:"), strings.HasPrefix(line, "WARNING:"): // FATAL ends one connection, not the server
		level = slog.LevelWarn
	}
	s.log.Log(context.Background(), level, "postgres", "line", line)
	s.end = append(s.end, line)
	if len(s.end) > serverLogKeep {
		s.end = s.end[1:]
	}
}

// String returns the last lines.
func (s *serverLog) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.end, "; ")
}
