package hubd

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/peers"
	"github.com/hashinsight/hashinsight/pkg/wg"
)

// What operators do with peers from the command line. The hub process that has the device, if one runs, follows within moments.

// Peer is a site's end of the tunnel.
type Peer = peers.Peer

// TunnelOwner is the hub process that has the WireGuard device.
type TunnelOwner = peers.Owner

// HubKey is a WireGuard key of the hub.
type HubKey = peers.HubKey

// ImportedPeers is what an import did.
type ImportedPeers = peers.Imported

// MaxPeersFile is how large a file to import may be.
const MaxPeersFile = peers.MaxConf

var errNoTunnel = errors.New("the hub has no tunnel: WG_ADDR is off")

func (c Database) withPeers(ctx context.Context, t Tunnel, work func(ctx context.Context, s *peers.Store) error) error {
	return c.do(ctx, true, func(ctx context.Context, pool *pgxpool.Pool, _ string) error {
		log, err := audit.New(audit.Config{Pool: pool, Now: c.Now, Log: c.Log})
		if err != nil {
			return err
		}
		s, err := t.store(pool, c, log)
		if err != nil {
			return err
		}
		return work(ctx, s)
	})
}

// Peers lists peers by their sites' names, and who has the device.
func Peers(ctx context.Context, c Database, t Tunnel, removed bool, emit func([]Peer) error) (owner TunnelOwner, err error) {
	err = c.withPeers(ctx, t, func(ctx context.Context, s *peers.Store) error {
		if owner, err = s.Owner(ctx); err != nil {
			return err
		}
		for after := (peers.Position{}); ; {
			page, err := s.List(ctx, after, removed, peers.MaxPage)
			if err != nil {
				return err
			}
			if err := emit(page); err != nil || len(page) < peers.MaxPage {
				return err
			}
			last := page[len(page)-1]
			after = peers.Position{SiteName: last.SiteName, Site: last.Site}
		}
	})
	return owner, err
}

// FindPeer returns the peer of a site, by its name or id.
func FindPeer(ctx context.Context, c Database, t Tunnel, site string) (p Peer, err error) {
	err = c.withPeers(ctx, t, func(ctx context.Context, s *peers.Store) error {
		p, err = s.Find(ctx, site)
		return err
	})
	return p, err
}

// PeerOrder is a peer to add by hand.
type PeerOrder struct {
	Site      string // name or id of a site that exists
	PublicKey string
	Address   netip.Addr // zero: the next free one
	Endpoint  string
	Networks  []netip.Prefix
	Replace   bool // a peer with another key gives way
}

// AddPeer adds a peer and returns it with the configuration of the site's end, which holds the preshared key.
func AddPeer(ctx context.Context, c Database, t Tunnel, o PeerOrder) (p Peer, conf []byte, err error) {
	key, err := wg.ParseKey(o.PublicKey)
	if err != nil {
		return p, nil, err
	}
	err = c.withPeers(ctx, t, func(ctx context.Context, s *peers.Store) error {
		p, err = s.Make(ctx, func(tx pgx.Tx) (peers.Peer, error) {
			site, err := s.SiteID(ctx, tx, o.Site)
			if err != nil {
				return peers.Peer{}, err
			}
			p, err := s.Add(ctx, tx, peers.New{Site: site, PublicKey: key, Address: o.Address, Endpoint: o.Endpoint, Replace: o.Replace, By: byCommand})
			if err != nil || len(o.Networks) == 0 {
				return p, err
			}
			return s.Change(ctx, tx, site, peers.Change{Networks: &o.Networks}, byCommand)
		})
		if err != nil {
			return err
		}
		conf, err = s.SiteConf(ctx, p)
		return err
	})
	return p, conf, err
}

// RotatePeer asks a site for a new key.
func RotatePeer(ctx context.Context, c Database, t Tunnel, site string) (p Peer, err error) {
	err = c.withPeers(ctx, t, func(ctx context.Context, s *peers.Store) error {
		p, err = s.Make(ctx, func(tx pgx.Tx) (peers.Peer, error) {
			id, err := s.SiteID(ctx, tx, site)
			if err != nil {
				return peers.Peer{}, err
			}
			return s.Rotate(ctx, tx, id, byCommand)
		})
		return err
	})
	return p, err
}

// RemovePeer removes a site's peer, and returns what it was.
func RemovePeer(ctx context.Context, c Database, t Tunnel, site string) (p Peer, err error) {
	err = c.withPeers(ctx, t, func(ctx context.Context, s *peers.Store) error {
		if p, err = s.Find(ctx, site); err != nil {
			return err
		}
		_, err = s.Make(ctx, func(tx pgx.Tx) (peers.Peer, error) { return peers.Peer{}, s.Remove(ctx, tx, p.Site, byCommand) })
		return err
	})
	return p, err
}

// RotateHubKey begins to change the hub's own key, or ends that: then the older one is retired. It returns the key that sites are told.
func RotateHubKey(ctx context.Context, c Database, t Tunnel, finish bool) (k HubKey, endpoint string, err error) {
	if !t.on() {
		return k, "", errNoTunnel
	}
	err = c.withPeers(ctx, t, func(ctx context.Context, s *peers.Store) error {
		if finish {
			k, err = s.EndHubRotation(ctx, byCommand)
		} else {
			k, err = s.BeginHubRotation(ctx, byCommand)
		}
		if err != nil {
			return err
		}
		set, err := s.Settings(ctx)
		endpoint = set.Endpoint
		return err
	})
	return k, endpoint, err
}

// ImportPeers takes over the peers of a wg-quick file, all or none.
func ImportPeers(ctx context.Context, c Database, t Tunnel, file []byte, adoptKey, dry bool) (out ImportedPeers, err error) {
	conf, err := peers.ParseConf(bytes.NewReader(file))
	if err != nil {
		return out, err
	}
	err = c.withPeers(ctx, t, func(ctx context.Context, s *peers.Store) error {
		out, err = s.Import(ctx, conf, adoptKey, dry, byCommand)
		return err
	})
	return out, err
}

// ExportPeers writes the peers as a wg-quick file; with secrets it holds the hub's private key and every preshared key.
func ExportPeers(ctx context.Context, c Database, t Tunnel, secrets bool) (file []byte, err error) {
	err = c.withPeers(ctx, t, func(ctx context.Context, s *peers.Store) error {
		file, err = s.Export(ctx, secrets)
		return err
	})
	return file, err
}

// TunnelFacts are the hub's end of the tunnel as the database has it.
type TunnelFacts struct {
	PublicKey wg.Key
	Endpoint  string
	Address   netip.Addr
	Network   netip.Prefix
	Owner     TunnelOwner
}

// TunnelOf returns the hub's end of the tunnel, making its key at first use.
func TunnelOf(ctx context.Context, c Database, t Tunnel) (f TunnelFacts, err error) {
	err = c.withPeers(ctx, t, func(ctx context.Context, s *peers.Store) error {
		set, err := s.Settings(ctx)
		if err != nil {
			return err
		}
		if !set.Enabled {
			return errNoTunnel
		}
		f.PublicKey, f.Endpoint, f.Address, f.Network = set.HubKeys[0], set.Endpoint, set.HubAddress, set.Network
		f.Owner, err = s.Owner(ctx)
		return err
	})
	return f, err
}

// TunnelCheck is one thing that a server needs for the tunnel, and how it is.
type TunnelCheck = peers.Check

// CheckTunnelServer looks at what this machine offers to the tunnel, and with open opens its firewall.
func CheckTunnelServer(ctx context.Context, t Tunnel, open bool) ([]TunnelCheck, error) {
	if !t.on() {
		return nil, errNoTunnel
	}
	return peers.CheckServer(ctx, peers.Server{Listen: t.Addr, Backend: t.Backend, Interface: t.Interface, OpenFirewall: open})
}

// Stale reports whether the process that had the device has been silent for longer than it should.
func Stale(o TunnelOwner, now time.Time) bool {
	return o.Host == "" || now.Sub(o.SeenAt) > 90*time.Second
}
