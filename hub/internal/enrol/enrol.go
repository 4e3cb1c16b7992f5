// Package enrol lets sites join the hub and keeps their agents in it: one-time tokens and the approvals that wait for a person,
// the EnrolService that agents call to join, renew, recover and hear of changes, and the revocation of a site. It owns the table
// enrol_token. It issues nothing itself (package pki does), gives no address (package peers does), and takes no telemetry. hubd
// serves it beside package ingest; package api and the command line make tokens, approve and revoke through its Store.
package enrol

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/peers"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/internal/pki"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
	"github.com/hashinsight/hashinsight/pkg/wg"
)

// Config describes a Store.
type Config struct {
	DB    *pgxpool.Pool
	CA    *pki.Authority
	Audit *audit.Log
	Peers *peers.Store // nil: this hub has no tunnel
	Facts *facts.Store // keeps salt keys; nil: they are refused
	Note  fleet.Note   // puts sites' keys into the transparency log; nil: there is no log

	Env             string // prod or dev: only tokens of this environment count
	HubAddress      string // host:port that agents dial without a tunnel, or several, separated by commas
	FallbackAddress string // host:port on TCP 443 for sites that let no UDP pass; "" where that is not allowed

	Now func() time.Time // nil means time.Now
	Log *slog.Logger     // nil means no log
}

// Store makes and decides on tokens, and ends sites. It is safe for concurrent use and keeps no state.
type Store struct{ c Config }

// New checks the configuration.
func New(c Config) (*Store, error) {
	if c.DB == nil || c.CA == nil || c.Audit == nil {
		return nil, errors.New("enrol: DB, CA and Audit are required")
	}
	if c.Env != "prod" && c.Env != "dev" {
		return nil, fmt.Errorf("enrol: environment %q is neither prod nor dev: set HASHINSIGHT_ENV", c.Env)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Store{c}, nil
}

// HubAddress is what the operator of a site gives to its agent beside the token: host:port, or several, separated by commas.
func (s *Store) HubAddress() string { return s.c.HubAddress }

// Actor is who orders something, for the audit log.
type Actor struct {
	Name string // of a key or a person; "command" from the command line
	ID   string // of the key; may be empty
	Role string // may be empty
	IP   string // may be empty
}

// agent is the actor for what an agent does itself.
func agent(site ident.SiteID, ip string) Actor {
	return Actor{Name: "agent", ID: site.String(), IP: ip}
}

func (s *Store) audit(ctx context.Context, tx pgx.Tx, by Actor, level, action string, details map[string]any) error {
	status := audit.Success
	if action == "enrol_refused" {
		status = audit.Denied
	}
	id := by.ID
	if id == "" {
		id = by.Name
	}
	return s.c.Audit.Add(ctx, tx, audit.Entry{Level: level, Category: audit.Permission, Action: action, Status: status, UserID: id, UserRole: by.Role, IP: by.IP, Details: details})
}

// Revoke cuts a site off: its certificates end, its tunnel goes, its live stream is closed by every hub process within a second.
// Its data stays, and so does its evidence key: the site comes back by a new enrolment under the same name. Tokens for that name that were made before
// end too: whoever is cut off may hold one.
func (s *Store) Revoke(ctx context.Context, site ident.SiteID, why string, by Actor) error {
	return pg.InTx(ctx, s.c.DB, func(tx pgx.Tx) error {
		// Tokens first: whoever joins holds its token's row before the site's, and would else be waited for by turns.
		rows, err := tx.Query(ctx, qEndTokens, site, s.c.Now().UTC(), by.Name)
		if err != nil {
			return fmt.Errorf("ending the tokens of site %s: %w", site, err)
		}
		ended, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return fmt.Errorf("ending the tokens of site %s: %w", site, err)
		}
		if err := s.c.CA.RevokeSite(ctx, tx, site, why, by.Name); err != nil {
			return err
		}
		if s.c.Peers != nil {
			if err := s.c.Peers.Remove(ctx, tx, site, by.Name); err != nil {
				return err
			}
		}
		return s.audit(ctx, tx, by, audit.Security, "site_cut_off", map[string]any{"site_id": site.String(), "why": why, "tokens": ended})
	})
}

// SiteByName finds a site by its name or id.
func (s *Store) SiteByName(ctx context.Context, name string) (ident.SiteID, error) {
	if id, err := ident.ParseSiteID(name); err == nil {
		return id, nil
	}
	var id ident.SiteID
	err := s.c.DB.QueryRow(ctx, qSiteID, name).Scan((*[16]byte)(&id))
	if errors.Is(err, pgx.ErrNoRows) {
		return id, apperr.E(apperr.NotFound, "NOTFOUND_001", "there is no site %.100q: hashinsight-hub site list shows them", name)
	}
	if err != nil {
		return id, fmt.Errorf("looking for site %q: %w", name, err)
	}
	return id, nil
}

const (
	qSiteID   = `SELECT id FROM site WHERE name = $1`
	qSiteName = `SELECT name FROM site WHERE id = $1`

	//nolint:gosec // no credential: a statement
	qEndTokens = `
UPDATE enrol_token SET revoked_at = $2, revoked_by = $3
WHERE site_name = (SELECT name FROM site WHERE id = $1) AND used_at IS NULL AND revoked_at IS NULL AND expires_at > $2 RETURNING id`
)

// grant is what an agent gets.
type grant struct {
	bundle     []byte
	psk        []byte
	generation []byte
	orders     orders
}

// orders are what the agent shall do by itself.
type orders struct{ rotate bool }

// grantFor writes down what a site shall use. chain is its certificate.
func (s *Store) grantFor(ctx context.Context, site ident.SiteID, chain []*x509.Certificate) (grant, error) {
	b := identity.Bundle{
		Site: site, HubAddress: s.c.HubAddress, FallbackAddress: s.c.FallbackAddress, CA: s.c.CA.Roots(),
		HubEvidence: []ed25519.PublicKey{s.c.CA.EvidencePublic()},
	}
	if err := s.c.DB.QueryRow(ctx, qSiteName, site).Scan(&b.SiteName); err != nil {
		return grant{}, fmt.Errorf("reading site %s: %w", site, err)
	}
	var g grant
	if err := s.tunnelFor(ctx, site, &b, &g); err != nil {
		return grant{}, err
	}
	// Without the certificate, which changes by itself: the root stands in its place.
	b.Certificate = b.CA[:1]
	rest, err := b.Encode()
	if err != nil {
		return grant{}, err
	}
	sum := sha256.Sum256(append(rest, g.psk...))
	g.generation = sum[:16]
	b.Certificate = chain
	g.bundle, err = b.Encode()
	return g, err
}

// tunnelFor adds the site's end of the tunnel, if it has one.
func (s *Store) tunnelFor(ctx context.Context, site ident.SiteID, b *identity.Bundle, g *grant) error {
	if s.c.Peers == nil {
		return nil
	}
	set, err := s.c.Peers.Settings(ctx)
	if err != nil {
		return err
	}
	if !set.Enabled {
		return nil
	}
	p, keys, err := s.peer(ctx, site)
	var coded *apperr.Error
	if errors.As(err, &coded) && coded.Kind == apperr.NotFound || err == nil && !p.RemovedAt.IsZero() { // registered by hand
		return nil
	}
	if err != nil {
		return err
	}
	public, psk := p.PublicKey, keys.PSK
	if p.NextKey != (wg.Key{}) { // the site has made it: from now on it uses that one
		public, psk = p.NextKey, keys.NextPSK
	}
	g.psk = psk[:]
	g.orders.rotate = !p.RotateWanted.IsZero() && p.NextKey == (wg.Key{})
	b.Tunnel = &identity.Tunnel{
		PublicKey: public.String(), Address: netip.PrefixFrom(p.Address, p.Address.BitLen()), Endpoint: set.Endpoint, HubAddress: set.GRPC, Keepalive: p.Keepalive, PresharedKey: identity.PSKID(psk[:]),
	}
	for _, k := range set.HubKeys {
		b.Tunnel.HubKeys = append(b.Tunnel.HubKeys, k.String())
	}
	return nil
}

// peer reads a peer and its secrets of one moment.
func (s *Store) peer(ctx context.Context, site ident.SiteID) (p peers.Peer, keys peers.Keys, err error) {
	for range 3 { // more often only if somebody changes it all the time
		if p, err = s.c.Peers.Get(ctx, site); err != nil || !p.RemovedAt.IsZero() {
			return p, keys, err
		}
		if keys, err = s.c.Peers.KeysOf(ctx, s.c.DB, site); err != nil {
			return p, keys, err
		}
		again, err := s.c.Peers.Get(ctx, site)
		if err != nil || again.Generation == p.Generation {
			return p, keys, err
		}
	}
	return p, keys, apperr.E(apperr.Unavailable, "CONFLICT_001", "the tunnel of site %s is being changed: try again", site)
}
