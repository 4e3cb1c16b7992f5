// Package peers is the hub's end of the tunnel: which sites have a WireGuard peer, with which key, address and networks, and the loop that makes
// the hub's device agree with that. Rows in PostgreSQL say what shall be; a device is only ever changed by the difference. It hands out addresses,
// one a site and never to another; it keeps the hub's own WireGuard key and changes it; it records what the device sees of a site. It does not
// enrol sites, does not speak WireGuard (pkg/wg does) and takes no telemetry. hubd runs it; enrolment, API and command line change rows through it.
package peers

import (
	"context"
	"crypto/ecdh"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/wg"
)

const (
	// Keepalive is how often a site's peer says that it is there, for NATs that forget: WireGuard's own advice.
	Keepalive = 25 * time.Second
	// MaxPeers is how many peers a device of pkg/wg takes; a site that changes its key has two for a moment.
	MaxPeers = 65_536
	// MaxNetworks is how many networks one site may have behind it.
	MaxNetworks = 32
)

// Peer is a site's end of the tunnel.
type Peer struct {
	Site      ident.SiteID
	SiteName  string
	PublicKey wg.Key
	Address   netip.Addr
	Networks  []netip.Prefix // behind the site, reached through the tunnel
	Endpoint  string         // host:port; empty: wherever the site calls from
	Keepalive time.Duration

	NextKey      wg.Key    // the site has made it and may take it into use at any time; zero when there is none
	RotateWanted time.Time // since when the site is asked for a new key; zero when it is not
	Generation   int64     // grows with every change

	QuarantinedAt    time.Time // zero unless the device refused it
	QuarantineReason string
	AddedAt          time.Time
	ChangedAt        time.Time
	RemovedAt        time.Time // zero while it is wanted

	Observed Observed
}

// Observed is what the hub's device last said of a peer.
type Observed struct {
	Endpoint  string    // address and port that it last called from; empty before it did
	Handshake time.Time // zero before the first
	Received  uint64    // bytes from the site, over restarts of the hub
	Sent      uint64
	SeenAt    time.Time // when the device was last looked at; zero when it never was
}

// ConnectedFor is how long after a handshake a peer counts as connected: WireGuard makes a new one every two minutes while there is traffic, and
// keepalives are.
const ConnectedFor = 3 * time.Minute

// Connected reports whether the site's end is there.
func (p *Peer) Connected(now time.Time) bool {
	return !p.Observed.Handshake.IsZero() && now.Sub(p.Observed.Handshake) < ConnectedFor
}

// States of a peer.
const (
	StateConnected   = "connected"
	StateSilent      = "silent"
	StateNever       = "never_seen"
	StateQuarantined = "quarantined"
)

// State says in one word how a peer is.
func (p *Peer) State(now time.Time) string {
	switch {
	case !p.QuarantinedAt.IsZero():
		return StateQuarantined
	case p.Observed.Handshake.IsZero():
		return StateNever
	case p.Connected(now):
		return StateConnected
	}
	return StateSilent
}

// Keys are the secrets that a site needs besides its own private key. Only the site itself may get them.
type Keys struct {
	PSK     wg.Secret
	NextPSK wg.Secret // goes with Peer.NextKey; zero when there is none
}

// New is a site that joins.
type New struct {
	Site      ident.SiteID
	PublicKey wg.Key
	Address   netip.Addr // zero: the site's own if it ever had one, else the next free one
	Endpoint  string     // host:port; usually empty
	PSK       wg.Secret  // zero: a fresh one
	NoPSK     bool       // none at all: an older set-up has none
	Replace   bool       // a site that has a peer with another key gets this one in its place, at once
	By        string     // who orders it, for the audit log
}

// Config describes a Store.
type Config struct {
	DB       *pgxpool.Pool
	Password string       // ENCRYPTION_PASSWORD: seals PSKs and the hub's key; without it this process can add no peer
	Network  netip.Prefix // WG_NETWORK; zero means 10.8.0.0/16. The first address is the hub's
	Listen   string       // WG_ADDR, host:port of the device; empty means that the hub has no tunnel
	Endpoint string       // WG_ENDPOINT: host:port under which sites reach Listen
	GRPCPort int          // inside the tunnel; 0 means 5443

	Audit *audit.Log       // gets an entry in the transaction of each change; nil means none
	Now   func() time.Time // nil means time.Now
	Log   *slog.Logger     // nil means no log
}

// DefaultNetwork is where addresses come from when nothing else is said.
var DefaultNetwork = netip.MustParsePrefix("10.8.0.0/16")

// Store is the rows: what shall be. All hub processes on one database have the same.
type Store struct {
	c    Config
	port int // of Listen
}

// NewStore checks its configuration and touches nothing.
func NewStore(c Config) (*Store, error) {
	if c.DB == nil {
		return nil, errors.New("peers: the database is required")
	}
	if !c.Network.IsValid() {
		c.Network = DefaultNetwork
	}
	if err := CheckNetwork(c.Network); err != nil {
		return nil, fmt.Errorf("WG_NETWORK %w", err)
	}
	if c.GRPCPort == 0 {
		c.GRPCPort = 5443
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{c: c}
	if c.Listen != "" {
		_, port, err := net.SplitHostPort(c.Listen)
		if err != nil {
			return nil, fmt.Errorf("WG_ADDR is %.80q: want host:port", c.Listen)
		}
		if s.port, err = strconv.Atoi(port); err != nil {
			return nil, fmt.Errorf("WG_ADDR is %.80q: its port is not a number", c.Listen)
		}
	}
	return s, nil
}

// event is a change, for the audit log.
type event struct {
	action  string
	by      string       // a user's, key's or site's id, "command" or "hub"
	site    ident.SiteID // zero for the hub's own key
	details map[string]any
}

// record adds an entry to the audit log, in the transaction of the change.
func (s *Store) record(ctx context.Context, tx pgx.Tx, e event) error {
	if s.c.Audit == nil {
		return nil
	}
	details := map[string]any{}
	maps.Copy(details, e.details)
	if e.site != (ident.SiteID{}) {
		details["site_id"] = e.site.String()
	}
	entry := audit.Entry{Category: audit.Configuration, Action: e.action, UserID: e.by, Details: details}
	if e.action == "peer_quarantined" {
		entry.Level, entry.Status = audit.Warning, audit.Failure
	}
	return s.c.Audit.Add(ctx, tx, entry)
}

// Settings are what a site needs to know of the hub's end.
type Settings struct {
	Enabled    bool
	HubKeys    []wg.Key   // the one to use first; while the hub's key is changed the one before it too
	Endpoint   string     // host:port of the first key's device, for agents
	HubAddress netip.Addr // inside the tunnel
	GRPC       string     // host:port of the telemetry service inside the tunnel
	Network    netip.Prefix
}

// Settings returns what a site needs to know of the hub's end, making the hub's key at first use.
func (s *Store) Settings(ctx context.Context) (Settings, error) {
	hub := HubAddress(s.c.Network)
	out := Settings{
		Enabled: s.c.Listen != "", HubAddress: hub, Network: s.c.Network,
		GRPC: net.JoinHostPort(hub.String(), strconv.Itoa(s.c.GRPCPort)),
	}
	if !out.Enabled {
		return out, nil
	}
	keys, err := s.hubKeys(ctx)
	if err != nil {
		return out, err
	}
	for _, k := range keys {
		out.HubKeys = append(out.HubKeys, k.Public)
	}
	out.Endpoint = shiftPort(s.c.Endpoint, keys[0].shift)
	return out, nil
}

// shiftPort adds to the port of host:port.
func shiftPort(addr string, shift int) string {
	host, port, err := net.SplitHostPort(addr)
	n, perr := strconv.Atoi(port)
	if err != nil || perr != nil || shift == 0 {
		return addr
	}
	return net.JoinHostPort(host, strconv.Itoa(n+shift))
}

// needPassword refuses what needs a secret in a process that cannot seal it.
func (s *Store) needPassword() error {
	if s.c.Password == "" {
		return apperr.E(apperr.Unavailable, "API_004", "this hub process cannot seal secrets: it has no ENCRYPTION_PASSWORD; a process that runs the module ingest can do this")
	}
	return nil
}

func invalid(format string, args ...any) error {
	return apperr.E(apperr.Invalid, "VALID_001", format, args...)
}

// refusal reports whether an error is about what was asked, not about the database.
func refusal(err error) bool {
	var e *apperr.Error
	return errors.As(err, &e) && e.Kind != apperr.Internal && e.Kind != apperr.Unavailable
}

// checkKey refuses what is no key of a site.
func checkKey(k wg.Key) error {
	// Points of small order give everyone the same shared secret, which crypto/ecdh finds out.
	probe := wg.NewPrivate()
	private, err := ecdh.X25519().NewPrivateKey(probe[:])
	if err != nil {
		return err
	}
	public, err := ecdh.X25519().NewPublicKey(k[:])
	if err == nil {
		_, err = private.ECDH(public)
	}
	if err != nil {
		return apperr.E(apperr.Invalid, "VALID_001", "%s is not a WireGuard public key that can be used: make a key pair at the site (hashinsight-agent enrol does)", k)
	}
	return nil
}

// checkEndpoint accepts host:port, or nothing.
func checkEndpoint(endpoint string) error {
	if endpoint == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(endpoint)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || perr != nil || n == 0 || host == "" || len(host) > 253 || !plainHost(host) {
		return apperr.E(apperr.Invalid, "VALID_001", "endpoint %.80q: want host:port, such as site.example.com:51820, or nothing", endpoint)
	}
	return nil
}

// plainHost accepts letters, digits and what addresses and names are made of: the text reaches resolvers and configuration files.
func plainHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	for _, c := range []byte(host) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	return true
}
