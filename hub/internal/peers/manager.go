package peers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/wg"
)

// ManagerConfig describes a Manager. Store, Direct and Attach are required.
type ManagerConfig struct {
	Store  *Store
	Direct string // database URL past a pooler: the right to the device is held by a session of its own

	Backend   string // WG_BACKEND; empty means auto
	Interface string // WG_INTERFACE; empty means wg0
	// Attach takes a listener inside the tunnel, on the hub's address there, and serves it until it is closed.
	Attach func(net.Listener)
	// HostServed says that the telemetry service listens on every address of the machine, on the port that it has in the tunnel: a device that
	// is an interface of the machine needs no listener of its own.
	HostServed bool
	// Every is how long from one full pass to the next; 0 means 30 s.
	Every time.Duration
	// Alone means that the clock is the caller's: nothing waits on a socket, changes are looked for every second.
	Alone bool

	Open       func(kind string, c wg.Config) (t wg.Tunnel, chosen, why string, err error) // nil means wg.Open
	Log        *slog.Logger                                                                // nil means no log
	Registerer prometheus.Registerer                                                       // nil means no metrics
}

// Rhythm of the loop.
const (
	fullEvery    = 30 * time.Second       // a full pass, which trusts nothing
	pollEvery    = 2 * time.Second        // a look for changes whose NOTIFY was lost
	pollAlone    = time.Second            // where there is none
	claimEvery   = 2 * time.Second        // a look whether the device is free
	stagedEvery  = 200 * time.Millisecond // a look whether a site uses its next key, for as long as stagedWatch
	stagedWatch  = 10 * time.Minute       // afterwards the full pass looks
	passDeadline = 60 * time.Second
	syncPatience = 5 * time.Second // for another process to make a pass
	lastLook     = 3 * time.Second
)

// Manager makes the hub's device agree with the rows. Of all hub processes on a database one has the device; the others' managers wait for it to
// be free, and pass Sync on to the one that has it.
type Manager struct {
	c       ManagerConfig
	s       *Store
	log     *slog.Logger
	metrics *metrics
	self    uuid.UUID

	wake  chan struct{}     // something may have changed
	syncs chan chan<- error // Sync waits for a pass

	// Run's goroutine alone uses these.
	applied map[ident.SiteID]*applied // what the devices were told
	horizon string                    // xid8: rows from here on may be news; empty: everything may be
	staged  map[ident.SiteID]time.Time
	leaving map[ident.SiteID]time.Time // removed peers that stay until then
	warmed  bool
	life    context.Context //nolint:containedctx // Run's, for what runs beside its loop

	background sync.WaitGroup // what runs beside the loop
	resolving  sync.Mutex     // one round of names at a time

	doubt atomic.Bool // the devices may not be as Run believes

	mu      sync.Mutex // never held while a database or a device is asked
	owner   bool
	devices []*device
	keys    map[ident.SiteID][]wg.Key // that the devices may have
}

// device is a running WireGuard device.
type device struct {
	key      HubKey
	tunnel   wg.Tunnel
	kind     string
	why      string
	counters map[wg.Key]counters
	fresh    bool // not reconciled yet
}

type counters struct{ received, sent uint64 }

// applied is a row and what it became.
type applied struct {
	record
	keys  Keys
	peers []wg.Peer
	noted Observed // as last written
}

// NewManager checks its configuration; Run makes it work.
func NewManager(c ManagerConfig) (*Manager, error) {
	if c.Store == nil || c.Direct == "" || c.Attach == nil {
		return nil, errors.New("peers: Store, Direct and Attach are required")
	}
	if c.Every == 0 {
		c.Every = fullEvery
	}
	if c.Open == nil {
		c.Open = wg.Open
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	m := &Manager{
		c: c, s: c.Store, log: c.Log, self: uuid.New(), wake: make(chan struct{}, 1), syncs: make(chan chan<- error),
		applied: map[ident.SiteID]*applied{}, staged: map[ident.SiteID]time.Time{}, leaving: map[ident.SiteID]time.Time{}, keys: map[ident.SiteID][]wg.Key{},
	}
	m.metrics = newMetrics(m)
	if c.Registerer != nil {
		if err := c.Registerer.Register(m.metrics); err != nil {
			return nil, fmt.Errorf("peers metrics: %w", err)
		}
	}
	return m, nil
}

// Owner reports whether this process has the device.
func (m *Manager) Owner() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.owner
}

// Sync returns when the device has everything that was committed before the call: in this process, or in the one that has the device. An error
// means that it may not have yet, and will when it can: what was committed stays committed.
func (m *Manager) Sync(ctx context.Context) error {
	if m.s.c.Listen == "" {
		return nil
	}
	if !m.Owner() {
		return m.s.Await(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, syncPatience)
	defer cancel()
	done := make(chan error, 1)
	select {
	case m.syncs <- done:
	case <-ctx.Done():
		return notYet(ctx.Err())
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return notYet(ctx.Err())
	}
}

func notYet(cause error) error {
	return apperr.E(apperr.Unavailable, "API_003", "the change is stored, and the tunnel will have it as soon as the hub process that runs it is there: %w", cause)
}

// LastWords is how long a removed peer stays on the device: a stream that ends in the tunnel tells its agent why, and that takes its way.
const LastWords = 500 * time.Millisecond

// RemoveSite takes a site's peer off the devices of this process at once, whatever the rows say, and ends the row too. It is what revocation calls
// in every hub process, after the streams of the site were closed. A row that is younger than a late message of its revocation stays: the site has
// joined again.
func (m *Manager) RemoveSite(ctx context.Context, site ident.SiteID) error {
	if m.s.c.Listen == "" {
		return nil
	}
	m.mu.Lock()
	keys, devices := m.keys[site], m.devices
	m.mu.Unlock()
	var errs []error
	for _, d := range devices {
		if len(keys) > 0 {
			errs = append(errs, d.tunnel.Apply(ctx, wg.Changes{Remove: keys}))
		}
	}
	m.doubt.Store(true) // a pass under way may put it back, and a row that lives on must come back
	errs = append(errs, pg.InTx(ctx, m.s.c.DB, func(tx pgx.Tx) error {
		r, known, err := m.s.one(ctx, tx, site)
		if err != nil || !known || !r.RemovedAt.IsZero() || m.s.c.Now().Sub(r.AddedAt) < lateRevocation {
			return err
		}
		return m.s.Remove(ctx, tx, site, "revocation")
	}))
	m.nudge()
	return errors.Join(errs...)
}

// lateRevocation is longer than the message of a revocation may take.
const lateRevocation = 10 * time.Second

// nudge makes the loop look for changes.
func (m *Manager) nudge() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Run has the device whenever it is free, until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	m.life = ctx
	defer func() {
		if len(m.devices) > 0 { // so that whoever comes next knows where sites were last
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastLook)
			defer cancel()
			if _, err := m.pass(last, true, false); err != nil {
				m.log.WarnContext(ctx, "tunnel: the last look at the device failed", "err", err)
			}
		}
		m.background.Wait()
		m.close(ctx)
	}()
	wait := time.Second
	for ctx.Err() == nil {
		begun := time.Now()
		err := m.claim(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			m.metrics.failures.Inc()
			m.log.ErrorContext(ctx, "tunnel", "err", err)
		}
		if time.Since(begun) > time.Minute {
			wait = time.Second
		}
		sleep(ctx, wait/2+rand.N(wait)) //nolint:gosec // so that processes do not try in step
		wait = min(2*wait, 30*time.Second)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

const (
	qClaim  = `SELECT pg_try_advisory_lock(7391204420)` // the number is this package's alone
	qListen = `LISTEN hsi_peers`
	qAlive  = `SELECT 1`
	qOwn    = `
INSERT INTO peer_owner (holder, host, backend, why, problem, pass_begun, pass_done, seen_at) VALUES ($1, $2, $3, $4, $5, 0, 0, $6)
ON CONFLICT (one) DO UPDATE SET holder = excluded.holder, host = excluded.host, backend = excluded.backend, why = excluded.why, problem = excluded.problem,
	seen_at = excluded.seen_at`
	qPassBegins = `UPDATE peer_owner SET pass_begun = pass_begun + 1 WHERE holder = $1 RETURNING pass_begun` //nolint:gosec // a statement, not a credential
	qPassEnds   = `UPDATE peer_owner SET pass_done = greatest(pass_done, $2) WHERE holder = $1`              //nolint:gosec // as above
	qOwner      = `SELECT host, backend, why, problem, pass_begun, pass_done, seen_at FROM peer_owner`
)

// session opens the connection that holds the right to the device. A server on another machine finds out within half a minute that this one is gone.
func (m *Manager) session(ctx context.Context) (*pgx.Conn, error) {
	pc, err := pg.PoolConfig(m.c.Direct)
	if err != nil {
		return nil, err
	}
	cc := pc.ConnConfig
	cc.RuntimeParams["tcp_keepalives_idle"] = "10"
	cc.RuntimeParams["tcp_keepalives_interval"] = "5"
	cc.RuntimeParams["tcp_keepalives_count"] = "3"
	conn, err := pgx.ConnectConfig(ctx, cc)
	if err != nil {
		return nil, fmt.Errorf("database session for the tunnel: %w", err)
	}
	return conn, nil
}

// claim waits for the device to be free and works with it until the database session ends. Devices outlive the session: a database that is away
// cuts no site off. They are closed when another process turns out to have taken over.
func (m *Manager) claim(ctx context.Context) (err error) {
	conn, err := m.session(ctx)
	if err != nil {
		return err
	}
	defer func() {
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		_ = conn.Close(bye) // whatever it says, the session is over
	}()
	for told := false; ; told = true {
		var got bool
		if err := conn.QueryRow(ctx, qClaim).Scan(&got); err != nil {
			return fmt.Errorf("asking for the tunnel: %w", err)
		}
		if got {
			break
		}
		m.lose(ctx)
		if !told {
			o, _ := m.s.Owner(ctx) // for the log only
			m.log.InfoContext(ctx, "another hub process has the tunnel: this one takes telemetry over TCP only, until that one ends", "host", o.Host, "backend", o.Backend)
		}
		sleep(ctx, claimEvery)
		if ctx.Err() != nil {
			return nil
		}
	}
	if err := m.openDevices(ctx); err != nil {
		m.note(ctx, err.Error())
		m.close(ctx) // another process may be able to
		return err
	}
	m.horizon = ""
	m.mu.Lock()
	m.owner = true
	m.mu.Unlock()
	defer func() { // until the lock is had again, Sync asks whoever has it
		m.mu.Lock()
		m.owner = false
		m.mu.Unlock()
	}()
	m.note(ctx, "")
	lost := make(chan error, 1)
	var others sync.WaitGroup
	defer others.Wait()
	work, stop := context.WithCancel(ctx)
	defer stop()
	if !m.c.Alone {
		if _, err := conn.Exec(ctx, qListen); err != nil {
			return fmt.Errorf("listening for changes of peers: %w", err)
		}
		others.Go(func() {
			for {
				if _, err := conn.WaitForNotification(work); err != nil {
					lost <- err
					return
				}
				m.nudge()
			}
		})
	}
	return m.loop(work, conn, lost, &others)
}

// loop makes passes. Its first is a full one.
func (m *Manager) loop(ctx context.Context, conn *pgx.Conn, lost <-chan error, others *sync.WaitGroup) error {
	pollTime := pollEvery
	if m.c.Alone {
		pollTime = pollAlone
	}
	poll, full, staged := time.NewTicker(pollTime), time.NewTimer(0), time.NewTimer(stagedEvery)
	defer poll.Stop()
	defer full.Stop()
	defer staged.Stop()
	first := true
	var waiting []chan<- error // for a pass that leaves nothing to do
	defer func() {
		for _, done := range waiting {
			done <- errors.New("the tunnel's loop has ended")
		}
	}()
	for {
		whole, counted := false, false
		select {
		case <-ctx.Done():
			return nil
		case err := <-lost:
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("the database session that holds the tunnel has ended; the tunnel goes on: %w", err)
		case done := <-m.syncs:
			waiting = append(waiting, done)
			for more := true; more; { // all who wait are served by one pass
				select {
				case done := <-m.syncs:
					waiting = append(waiting, done)
				default:
					more = false
				}
			}
		case <-m.wake:
			counted = true
		case <-poll.C:
			news, err := m.news(ctx)
			if err == nil && !news {
				continue
			}
			counted = true
		case <-staged.C:
			staged.Reset(m.watchStaged(ctx))
			continue
		case <-full.C:
			whole = true
			full.Reset(m.c.Every)
			if m.c.Alone && !first {
				if _, err := conn.Exec(ctx, qAlive); err != nil && ctx.Err() == nil {
					return fmt.Errorf("the database session that holds the tunnel has ended; the tunnel goes on: %w", err)
				}
			}
		}
		again, err := m.pass(ctx, whole, counted || whole)
		if !again {
			for _, done := range waiting {
				done <- err
			}
			waiting = nil
		}
		if err != nil && ctx.Err() == nil {
			m.metrics.failures.Inc()
			m.log.WarnContext(ctx, "tunnel: reconciling failed, it is tried again", "err", err)
		}
		if whole {
			text := ""
			if err != nil {
				text = err.Error()
			}
			m.note(ctx, text)
			first = false
		}
		if err == nil && !m.warmed {
			m.warmed = true
			calls := m.calls()
			others.Go(func() { m.call(ctx, calls) })
		}
	}
}

// note tells the other processes, and operators, who has the device and how it is.
func (m *Manager) note(ctx context.Context, problem string) {
	kind, why := "", ""
	if len(m.devices) > 0 { // written by this goroutine only
		kind, why = m.devices[0].kind, m.devices[0].why
	}
	if _, err := m.s.c.DB.Exec(ctx, qOwn, m.self, hostname(), kind, why, truncate(problem, 500), m.s.c.Now().UTC()); err != nil && ctx.Err() == nil {
		m.log.WarnContext(ctx, "tunnel: its state could not be stored", "err", err)
	}
}

// openDevices makes the running devices those of the hub's keys: the newest first, which gets the configured backend; a further one, which runs while
// the hub's key is changed, is a network stack in this process, as two interfaces cannot have the same addresses.
func (m *Manager) openDevices(ctx context.Context) error {
	keys, err := m.s.hubKeys(ctx)
	if err != nil {
		return err
	}
	var kept []*device
	for _, d := range m.devices {
		wanted := false
		for _, k := range keys {
			wanted = wanted || k.Public == d.key.Public
		}
		if wanted {
			kept = append(kept, d)
			continue
		}
		m.log.InfoContext(ctx, "tunnel: the device of a retired key ends", "port", d.key.Port, "key", d.key.Public)
		m.end(ctx, d)
	}
	var errs []error
	for _, k := range keys {
		if running(kept, k.Public) {
			continue
		}
		d, err := m.openDevice(ctx, k, len(kept) > 0)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		kept = append(kept, d)
	}
	m.hold(kept)
	if len(kept) == 0 {
		return errors.Join(errs...)
	}
	for _, err := range errs { // one runs: that is better than none
		m.metrics.failures.Inc()
		m.log.ErrorContext(ctx, "tunnel: the device of one of the hub's keys cannot run", "err", err)
	}
	return nil
}

// hold makes devices those that run.
func (m *Manager) hold(devices []*device) {
	m.metrics.ran(devices)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.devices = devices
}

func (m *Manager) end(ctx context.Context, d *device) {
	if err := d.tunnel.Close(); err != nil {
		m.log.WarnContext(ctx, "tunnel: closing a device", "err", err)
	}
}

func running(devices []*device, key wg.Key) bool {
	for _, d := range devices {
		if d.key.Public == key {
			return true
		}
	}
	return false
}

func (m *Manager) openDevice(ctx context.Context, k HubKey, further bool) (*device, error) {
	private, err := m.s.private(ctx, k)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(m.s.c.Listen)
	if err != nil {
		return nil, fmt.Errorf("WG_ADDR: %w", err)
	}
	hub := HubAddress(m.s.c.Network)
	c := wg.Config{
		Private: private, Addresses: []netip.Prefix{netip.PrefixFrom(hub, m.s.c.Network.Bits())}, ListenPort: k.Port, Interface: m.c.Interface, UAPI: true, Log: m.log,
	}
	if ip, err := netip.ParseAddr(host); err == nil && !ip.IsUnspecified() {
		c.Listen = ip
	}
	kind := m.c.Backend
	if further {
		kind = wg.KindNetstack
	}
	t, chosen, why, err := m.c.Open(kind, c)
	if err != nil {
		return nil, fmt.Errorf("the tunnel cannot listen on UDP port %d (WG_ADDR) with backend %q (WG_BACKEND): %w", k.Port, kind, err)
	}
	if further {
		why = "beside the other key's device"
	}
	if chosen == wg.KindNetstack || !m.c.HostServed {
		l, err := t.Listen(ctx, "tcp", net.JoinHostPort(hub.String(), strconv.Itoa(m.s.c.GRPCPort)))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listening inside the tunnel: %w", err), t.Close())
		}
		m.c.Attach(l)
	}
	m.log.InfoContext(ctx, "tunnel is up", "backend", chosen, "why", why, "udp_port", k.Port, "key", k.Public, "address", hub, "network", m.s.c.Network)
	return &device{key: k, tunnel: t, kind: chosen, why: why, counters: map[wg.Key]counters{}, fresh: true}, nil
}

// lose closes the devices because another process has them.
func (m *Manager) lose(ctx context.Context) {
	if len(m.devices) > 0 {
		m.log.WarnContext(ctx, "another hub process has taken the tunnel over while this one could not reach the database")
		m.close(ctx)
	}
}

func (m *Manager) close(ctx context.Context) {
	for _, d := range m.devices {
		m.end(ctx, d)
	}
	m.hold(nil)
	m.applied, m.staged, m.horizon, m.warmed = map[ident.SiteID]*applied{}, map[ident.SiteID]time.Time{}, "", false
	m.mu.Lock()
	defer m.mu.Unlock()
	m.owner, m.keys = false, map[ident.SiteID][]wg.Key{}
}

// Owner is the process that has the device.
type Owner struct {
	Host    string // empty when none ever had it
	Backend string
	Why     string // that backend
	Problem string // empty when all is well
	SeenAt  time.Time

	begun, done int64
}

// Owner says which hub process has the device, as it last said itself.
func (s *Store) Owner(ctx context.Context) (o Owner, err error) {
	err = s.c.DB.QueryRow(ctx, qOwner).Scan(&o.Host, &o.Backend, &o.Why, &o.Problem, &o.begun, &o.done, &o.SeenAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return Owner{}, nil
	}
	return o, wrap(err, "reading who has the tunnel")
}

// ownerSilent is after how long without a full pass nobody is taken to have the device.
const ownerSilent = 3 * fullEvery

// Await asks the process that has the device for a pass, and waits until one has ended that began after the call.
func (s *Store) Await(ctx context.Context) error {
	if s.c.Listen == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, syncPatience)
	defer cancel()
	before, err := s.Owner(ctx)
	if err != nil {
		return err
	}
	if before.Host == "" || s.c.Now().Sub(before.SeenAt) > ownerSilent {
		return notYet(errors.New("none runs it"))
	}
	if err := s.Notify(ctx, s.c.DB); err != nil {
		return err
	}
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		sleep(ctx, wait)
		now, err := s.Owner(ctx)
		if ctx.Err() != nil {
			return notYet(ctx.Err())
		}
		if err != nil {
			return err
		}
		if now.done > before.begun {
			return nil
		}
	}
}
