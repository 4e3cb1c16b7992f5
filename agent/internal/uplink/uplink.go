// Package uplink sends what the spool holds to the hub over one gRPC stream and gives the hub's signed acknowledgements back
// to the spool. The newest batches go first, the backlog in the room that is left; what was not acknowledged when a stream
// ends is sent again on the next one. It decides neither what is stored nor what may be deleted: package spool does. The
// agent's composition root runs one Uplink.
//
// New batches make dashboards right at once after an outage. The backlog behind them goes oldest first, although newest first
// would show the last hours sooner: the oldest hours are the nearest to the deadline after which a slot that is still unknown
// counts against the site, and they are what the spool drops first at its size cap; a link that fails again half-way must not
// have left them for last. The hub finds what it lost by looking from below for holes that no longer change, and would take
// the old end of a backlog that fills from above for lost.
package uplink

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/agent/internal/spool"
	"github.com/hashinsight/hashinsight/agent/internal/tunnel"
	"github.com/hashinsight/hashinsight/pkg/backoff"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Config configures an uplink.
type Config struct {
	Spool *spool.Spool
	// Addresses returns host:port of the hub's gRPC listeners, tried in turn. It is asked before every dial; none means that there is no
	// way to the hub now.
	Addresses func() []string
	TLS       *tls.Config // see identity.Client
	// DialContext opens the connection below TLS; nil means plain TCP.
	DialContext  func(ctx context.Context, address string) (net.Conn, error)
	Version      string        // of the agent, told to the hub
	PollInterval time.Duration // how often each miner is polled, told to the hub
	Beacon       *Beacon       // receives the hub's latest chain block; nil drops it
	// Sync is called when the hub says that something waits for this site beside telemetry, and when it refuses the site's
	// certificate. It must not block; nil means that nobody is told.
	Sync func()

	// What may be on its way unacknowledged, whatever the hub allows. 0 means 256 batches and 8 MiB.
	WindowBatches int
	WindowBytes   int
	// AckTimeout ends a stream on which batches wait and the hub says nothing; 0 means 5 min.
	AckTimeout time.Duration

	Now        func() time.Time      // nil means time.Now
	Log        *slog.Logger          // nil means slog.Default
	Registerer prometheus.Registerer // nil means no metrics
}

// MaxSkew is how far the two clocks may be apart: beyond it the hub cannot tell to which time readings belong.
const MaxSkew = 30 * time.Second

// Limits and times that need no configuration.
const (
	liveDepth    = 8       // batches behind the newest that still count as live
	groupBatches = 32      // in one message of backlog
	groupBytes   = 1 << 20 // in one message of backlog, unless a single batch is larger
	dialTimeout  = 20 * time.Second
	helloTimeout = 30 * time.Second
	pingAfter    = 8 * time.Second  // without an answer; a dead peer is found pingTimeout later
	pingTimeout  = 8 * time.Second  // both before the hub's own ping at 20 s, which would pass for an answer where only this way is cut
	maxPause     = 10 * time.Minute // of what a hub may ask with retry_after
	refusedMin   = 15 * time.Second // first wait after a failure that a person has to mend
	refusedMax   = 5 * time.Minute
	maxReplays   = 256              // requests for old batches that one stream is listened to
	olderTurn    = 20 * time.Second // of a stream for an older chain, so that live data never waits longer
	olderPause   = time.Minute      // after one that brought nothing
	maxOthers    = 16               // older chains named in a greeting, the latest ones
)

// Beacon holds the latest chain block the hub has told of. Its zero value is ready; it is safe for several goroutines.
type Beacon struct {
	v atomic.Pointer[evidence.Beacon]
}

// Load returns the block, the zero Beacon without any. It fits spool.Config.Beacon.
func (b *Beacon) Load() evidence.Beacon {
	if v := b.v.Load(); v != nil {
		return *v
	}
	return evidence.Beacon{}
}

// Status describes an uplink at one moment.
type Status struct {
	Connected bool
	Since     time.Time     // of the present state; zero before the first attempt
	LastAck   time.Time     // zero before the first one
	Skew      time.Duration // hub's clock minus this one's, when the latest stream was opened
	InFlight  int           // batches sent and not yet acknowledged
	Err       error         // why the last session ended; nil while connected
}

// Uplink sends a spool's batches to the hub.
type Uplink struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	turn    int                      // index of the address to try next
	older   time.Time                // not before this time is an older chain tried again
	top     map[ident.SpoolID]uint64 // the newest batch of each chain that may have been sent, by this Uplink or one before
	skewed  atomic.Bool              // this clock is more than MaxSkew from the hub's, for sure
	again   chan struct{}            // connect at once

	mu     sync.Mutex
	status Status
}

// New checks the configuration. Nothing is dialled before Run.
func New(c Config) (*Uplink, error) {
	switch {
	case c.Spool == nil:
		return nil, errors.New("uplink: Spool is missing")
	case c.Addresses == nil:
		return nil, errors.New("uplink: Addresses is missing")
	case c.TLS == nil:
		return nil, errors.New("uplink: TLS is missing")
	case c.PollInterval < time.Millisecond:
		return nil, errors.New("uplink: PollInterval is missing")
	}
	if c.DialContext == nil {
		d := &net.Dialer{}
		c.DialContext = func(ctx context.Context, address string) (net.Conn, error) { return d.DialContext(ctx, "tcp", address) }
	}
	if c.WindowBatches <= 0 {
		c.WindowBatches = 256
	}
	if c.WindowBytes <= 0 {
		c.WindowBytes = 8 << 20
	}
	if c.AckTimeout <= 0 {
		c.AckTimeout = 5 * time.Minute
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Beacon == nil {
		c.Beacon = &Beacon{}
	}
	if c.Sync == nil {
		c.Sync = func() {}
	}
	u := &Uplink{cfg: c, log: c.Log, again: make(chan struct{}, 1), top: make(map[ident.SpoolID]uint64)}
	for _, c := range c.Spool.Chains() {
		u.top[c.ID] = c.Newest
	}
	m, err := newMetrics(u, c.Registerer)
	if err != nil {
		return nil, err
	}
	u.metrics = m
	return u, nil
}

// Status returns the present state.
func (u *Uplink) Status() Status {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.status
}

// Skewed reports whether this machine's clock is known to be more than MaxSkew from the hub's, by what the hub said last.
func (u *Uplink) Skewed() bool { return u.skewed.Load() }

// heard takes a time of the hub's clock that was read between two instants of this one's. Where the way to the hub takes so long that it
// proves neither, what was known stays.
func (u *Uplink) heard(hub, before, after time.Time) {
	least, most := hub.Sub(after), hub.Sub(before) // that the hub's clock is ahead
	switch {
	case least > MaxSkew || most < -MaxSkew:
		u.skewed.Store(true)
	case least >= -MaxSkew && most <= MaxSkew:
		u.skewed.Store(false)
	}
}

// Again makes an Uplink that waits before it connects again do so at once: the site has a new certificate, or a new way to the
// hub. A stream that is open goes on.
func (u *Uplink) Again() {
	select {
	case u.again <- struct{}{}:
	default:
	}
}

// pause waits, unless Again ends it.
func (u *Uplink) pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-u.again:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (u *Uplink) setStatus(change func(*Status)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	change(&u.status)
}

// Run keeps a stream to the hub until ctx is done, and returns nil then.
func (u *Uplink) Run(ctx context.Context) error {
	lost := &backoff.Backoff{}
	refused := &backoff.Backoff{Min: refusedMin, Max: refusedMax}
	for {
		select {
		case <-u.again: // this is it
		default:
		}
		chain, current := u.chain()
		worked, err := u.session(ctx, chain, current)
		if ctx.Err() != nil {
			u.disconnected(nil)
			return nil //nolint:nilerr // a stream that was told to end
		}
		if errors.Is(err, spool.ErrClosed) {
			u.disconnected(err)
			return err
		}
		u.disconnected(err)
		if errors.Is(err, errOtherChain) || worked && (errors.Is(err, tunnel.ErrMoved) || superseded(err)) {
			continue
		}
		reason := reasonOf(err)
		u.metrics.reconnects.WithLabelValues(reason).Inc()
		if worked {
			lost.Reset()
			refused.Reset()
		}
		wait := lost
		if reason == reasonAuth || reason == reasonProtocol {
			wait = refused // a person has to mend it: keep trying, slowly
		}
		if reason == reasonAuth {
			u.cfg.Sync() // or the agent can: a certificate that has run out is recovered
		}
		d := wait.Next()
		if asked := askedWait(err); asked > 0 {
			// Spread over as long again: it asks the same of everybody who comes in this moment.
			d = max(d, asked+rand.N(asked)) //nolint:gosec // spreads agents out; it is no secret
		}
		u.log.WarnContext(ctx, "no stream to the hub; polling and buffering go on", "reason", reason, "err", err,
			"pending_batches", u.cfg.Spool.Stats().Pending, "retry_in", d.Round(100*time.Millisecond))
		if u.pause(ctx, d) != nil {
			return nil //nolint:nilerr // cancelled
		}
	}
}

func (u *Uplink) connected() {
	u.setStatus(func(s *Status) { s.Connected, s.Since, s.Err = true, u.cfg.Now(), nil })
}

func (u *Uplink) disconnected(err error) {
	u.setStatus(func(s *Status) {
		if s.Connected || s.Since.IsZero() {
			s.Since = u.cfg.Now()
		}
		s.Connected, s.InFlight, s.Err = false, 0, err
	})
}
