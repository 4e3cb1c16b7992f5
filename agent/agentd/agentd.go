// Package agentd composes an agent: it opens inventory and spool, starts uplink, polling and the local status listener, and
// stops them in reverse order. It is the only package that knows all subjects, and holds no rules of its own. The
// command runs it as a program; tests start it in-process, with their own miners, hub and clock.
package agentd

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/agent/internal/asic"
	"github.com/hashinsight/hashinsight/agent/internal/cgminer"
	"github.com/hashinsight/hashinsight/agent/internal/enrol"
	"github.com/hashinsight/hashinsight/agent/internal/facts"
	"github.com/hashinsight/hashinsight/agent/internal/inventory"
	"github.com/hashinsight/hashinsight/agent/internal/keys"
	"github.com/hashinsight/hashinsight/agent/internal/poll"
	"github.com/hashinsight/hashinsight/agent/internal/spool"
	"github.com/hashinsight/hashinsight/agent/internal/tunnel"
	"github.com/hashinsight/hashinsight/agent/internal/uplink"
	"github.com/hashinsight/hashinsight/pkg/backoff"
	"github.com/hashinsight/hashinsight/pkg/diag"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/lifecycle"
	"github.com/hashinsight/hashinsight/pkg/wg"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// Miner is one address to poll.
type Miner struct {
	Address        string        // host:port
	Scan           bool          // from a network or range: a miner only once something answers there
	Interval       time.Duration // 0 means 10 s
	ConnectTimeout time.Duration // 0 means 3 s
	Timeout        time.Duration // of a whole poll; 0 means 10 s
}

// Ways are the ways to a hub.
type Ways struct {
	Direct []string // host:port, tried in turn: the fall-back where there is a tunnel, else the only way
	Tunnel *Tunnel  // nil means none
}

// Direct returns fixed addresses (host:port, or several separated by commas) without a tunnel, for Config.Hub.
func Direct(addresses string) func() Ways {
	w := Ways{Direct: strings.Split(addresses, ",")}
	return func() Ways { return w }
}

// Tunnel is a site's end of a tunnel.
type Tunnel = tunnel.Settings

// Config is everything an agent needs. It holds no file names but Dir: whoever builds it has read them.
type Config struct {
	Dir         string // made when missing; holds the spool and the inventory
	Site        ident.SiteID
	EvidenceKey ed25519.PrivateKey
	// HubKey returns the pinned hub evidence key with this id, or nil; nil means that there is no hub yet.
	HubKey func(ident.KeyID) ed25519.PublicKey
	// IdentityDir is where keys and the hub's answer lie, as the command enrol writes them. It gives Site, EvidenceKey, HubKey and, where they are
	// not set, Hub and HubTLS; the certificate is then renewed, and what the hub changes is taken. "" means that the caller keeps them.
	IdentityDir string
	identity    *keys.Identity // the same, loaded

	Miners      []Miner
	MaxInFlight int                                                                  // reads at the same time; 0 means 2048
	MinerDial   func(ctx context.Context, network, address string) (net.Conn, error) // nil means TCP

	BatchInterval time.Duration // 0 means 2 s
	MaxSamples    int           // of one batch; 0 means 20,000

	SpoolMaxBytes     int64         // 0 means 4 GiB
	SpoolSegmentBytes int64         // 0 means 16 MiB
	SpoolGrace        time.Duration // how long acknowledged data is kept; 0 means 24 h, negative none

	Hub     func() Ways                                                 // how the hub is reached now, asked at every dial; nil means no hub: data is kept up to the spool's limit
	HubTLS  *tls.Config                                                 // required with Hub
	HubDial func(ctx context.Context, address string) (net.Conn, error) // outside of the tunnel; nil means TCP
	// TunnelFrom is the address of this machine that the tunnel's packets leave from; zero means that the system chooses.
	TunnelFrom netip.Addr

	Listen string // of /metrics and /health; "" means none

	Now      func() time.Time     // wall clock; nil means time.Now
	Log      *slog.Logger         // nil means none
	Registry *prometheus.Registry // nil means a fresh one
}

func (c Config) withDefaults() (Config, error) {
	c, err := c.loadIdentity()
	if err != nil {
		return c, err
	}
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("no Dir"))
	}
	if c.Hub != nil && (c.HubTLS == nil || c.HubKey == nil) {
		errs = append(errs, errors.New("a Hub needs HubTLS and HubKey"))
	}
	if c.HubKey == nil {
		c.HubKey = func(ident.KeyID) ed25519.PublicKey { return nil }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, errors.Join(errs...)
}

// Agent is a composed agent.
type Agent struct {
	cfg     Config
	log     *slog.Logger
	build   diag.Build
	running atomic.Pointer[parts] // nil until Run has opened everything
}

// parts are the subjects of a running agent.
type parts struct {
	began     time.Time
	spool     *spool.Spool
	inventory *inventory.Inventory
	poller    *poll.Poller
	link      *tunnel.Link   // nil without a hub
	uplink    *uplink.Uplink // as link
	keeper    *enrol.Keeper  // nil without an identity of its own
	signer    *facts.Signer
}

// New checks the configuration. Nothing is opened before Run.
func New(c Config) (*Agent, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	return &Agent{cfg: c, log: c.Log, build: diag.ReadBuild()}, nil
}

// Deadlines of stopping. Polls in flight may take their whole timeout; it is added to stopPoll.
const (
	stopPoll   = 15 * time.Second
	stopFacts  = 15 * time.Second
	stopDrain  = 15 * time.Second
	stopUplink = 5 * time.Second
)

// Run runs the agent until ctx ends, then stops: no new polls, polls in flight are waited for, the last batch is stored, what is
// pending is sent while the hub takes it. It returns nil after a clean end.
func (a *Agent) Run(ctx context.Context) error {
	stack := lifecycle.New(ctx, a.log)
	if err := a.start(ctx, stack); err != nil {
		return errors.Join(err, stack.Stop())
	}
	a.log.InfoContext(ctx, "agent started", "version", a.build.Version, "site", a.cfg.Site, "addresses", len(a.cfg.Miners),
		"hub", cmp.Or(strings.Join(a.running.Load().addresses(), ","), "none: data is kept in the spool"))
	err := stack.Run(ctx)
	a.log.InfoContext(context.WithoutCancel(ctx), "agent stopped", "pending_batches", a.running.Load().pending())
	return err
}

func (a *Agent) start(ctx context.Context, stack *lifecycle.Stack) error {
	c := a.cfg
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w: create it and give it to the user this program runs as", err)
	}
	beacon := &uplink.Beacon{}
	p := &parts{began: c.Now()}
	var err error
	p.spool, err = spool.Open(ctx, spool.Config{
		Dir: SpoolDir(c.Dir), Site: c.Site, Key: c.EvidenceKey, TellKey: true, HubKey: c.HubKey, MaxBytes: c.SpoolMaxBytes, SegmentBytes: c.SpoolSegmentBytes,
		Grace: c.SpoolGrace, Hold: true, Now: c.Now, Beacon: beacon.Load, Log: a.log, Registerer: c.Registry,
	})
	if err != nil {
		return err
	}
	stack.OnStop("spool", 0, func(context.Context) error { return p.spool.Close() })
	if p.inventory, err = inventory.Open(inventory.Config{Dir: c.Dir, Now: c.Now, Log: a.log, Registerer: c.Registry}); err != nil {
		return err
	}
	salts, err := inventory.OpenSalts(c.Dir)
	if err != nil {
		return err
	}
	targets := a.targets()
	p.poller, err = poll.New(poll.Config{
		Targets: targets, Open: a.reader(targets), MaxInFlight: c.MaxInFlight, BatchInterval: c.BatchInterval, MaxSamples: c.MaxSamples,
		Inventory: p.inventory, MakeRoom: p.spool.MakeRoom, Skewed: func() bool { return p.uplink != nil && p.uplink.Skewed() }, Now: c.Now, Log: a.log, Registerer: c.Registry,
		Append: func(ctx context.Context, payload []byte, m wire.Meta) error {
			_, err := p.spool.Append(ctx, evidence.KindSamples, payload, m)
			return err
		},
	})
	if err != nil {
		return err
	}
	longest := poll.Target{Interval: time.Second}
	for _, t := range targets {
		longest.Interval, longest.Timeout = max(longest.Interval, t.Interval), max(longest.Timeout, t.Timeout)
	}
	if c.Hub != nil {
		if p.link, err = tunnel.New(tunnel.Config{
			Settings: func() (tunnel.Settings, bool) {
				if t := c.Hub().Tunnel; t != nil {
					return *t, true
				}
				return tunnel.Settings{}, false
			},
			Direct: func() []string { return c.Hub().Direct }, Dial: c.HubDial,
			Device: func(w wg.Config) (wg.Tunnel, error) {
				w.Listen = c.TunnelFrom
				return wg.OpenNetstack(w)
			}, Now: c.Now, Log: a.log, Registerer: c.Registry,
		}); err != nil {
			return err
		}
		stack.OnStop("tunnel", 0, func(context.Context) error { return p.link.Close() })
		stack.Go("tunnel's watch", 0, p.link.Run)
		if p.uplink, err = uplink.New(uplink.Config{
			Spool: p.spool, Addresses: p.link.Addresses, TLS: c.HubTLS, DialContext: p.link.DialContext, Version: a.build.Version,
			PollInterval: longest.Interval, Beacon: beacon, Sync: func() {
				if p.keeper != nil {
					p.keeper.Sync()
				}
			}, Now: c.Now, Log: a.log, Registerer: c.Registry,
		}); err != nil {
			return err
		}
		if err := a.keep(stack, p); err != nil {
			return err
		}
		stack.Go("uplink", stopUplink, p.uplink.Run)
		stack.OnStop("drain", stopDrain+stopUplink, func(ctx context.Context) error { return p.drain(ctx, a.log) })
	}
	if p.signer, err = facts.New(facts.Config{
		Spool: p.spool, Salts: salts, Tell: a.tellSalts(p), Unstored: func() time.Time { return p.poller.Status().Unstored },
		Now: c.Now, Log: a.log, Registerer: c.Registry,
	}); err != nil {
		return err
	}
	stack.Go("facts", stopFacts, p.signer.Run)
	a.running.Store(p)
	if c.Listen != "" {
		if err := a.serve(ctx, stack); err != nil {
			return err
		}
	}
	stack.Go("poll", stopPoll+longest.Timeout, p.poller.Run)
	return nil
}

// SpoolDir is where an agent with this data directory keeps its batches.
func SpoolDir(dataDir string) string { return filepath.Join(dataDir, "spool") }

func (a *Agent) targets() []poll.Target {
	out := make([]poll.Target, len(a.cfg.Miners))
	for i, m := range a.cfg.Miners {
		out[i] = poll.Target{
			Address: m.Address, Scan: m.Scan, Interval: cmp.Or(m.Interval, 10*time.Second),
			ConnectTimeout: cmp.Or(m.ConnectTimeout, 3*time.Second), Timeout: cmp.Or(m.Timeout, 10*time.Second),
		}
	}
	return out
}

// reader opens readers that share one client for each pair of timeouts. The poller calls it from several goroutines.
func (a *Agent) reader(targets []poll.Target) func(poll.Target) poll.Reader {
	type timeouts struct{ connect, total time.Duration }
	clients := map[timeouts]*cgminer.Client{}
	for _, t := range targets {
		k := timeouts{t.ConnectTimeout, t.Timeout}
		if clients[k] == nil {
			clients[k] = &cgminer.Client{Dial: a.cfg.MinerDial, ConnectTimeout: k.connect, Timeout: k.total}
		}
	}
	return func(t poll.Target) poll.Reader {
		return asic.NewReader(asic.Config{Address: t.Address, Client: clients[timeouts{t.ConnectTimeout, t.Timeout}], Now: a.cfg.Now}).Read
	}
}

// Sync makes a running agent ask its hub now what has changed for this site, which it does every few minutes by itself.
func (a *Agent) Sync() {
	if p := a.running.Load(); p != nil && p.keeper != nil {
		p.keeper.Sync()
	}
}

// drain waits until the hub has acknowledged everything, at most for stopDrain. Where it does not take it, nothing is lost:
// the spool keeps it.
func (p *parts) drain(ctx context.Context, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, stopDrain)
	defer cancel()
	for p.pending() > 0 && p.uplink.Status().Connected {
		if backoff.Sleep(ctx, 20*time.Millisecond) != nil {
			log.WarnContext(ctx, "stopping before the hub has everything; the rest is sent after the next start", "pending_batches", p.pending())
			return nil
		}
	}
	return nil
}

// addresses are where the hub is reached now; none without a hub.
func (p *parts) addresses() []string {
	if p.link == nil {
		return nil
	}
	return p.link.Addresses()
}

func (p *parts) pending() uint64 { return p.spool.Stats().Pending }
