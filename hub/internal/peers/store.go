package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/internal/pki"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/wg"
)

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

const peerColumns = `
SELECT p.site_id, s.name, p.public_key, p.address, p.psk, p.next_key, p.next_psk, p.rotate_wanted_at, p.keepalive_s, p.endpoint, p.generation,
	p.quarantined_at, coalesce(p.quarantine_reason, ''), p.added_at, p.changed_at, p.removed_at,
	(SELECT array_agg(n.network ORDER BY n.network) FROM peer_network n WHERE n.site_id = p.site_id),
	coalesce(o.endpoint, ''), o.handshake_at, coalesce(o.received, 0), coalesce(o.sent, 0), o.seen_at
FROM peer p JOIN site s ON s.id = p.site_id LEFT JOIN peer_observed o ON o.site_id = p.site_id `

const (
	qLockSite = `SELECT name FROM site WHERE id = $1 FOR NO KEY UPDATE`
	qPeer     = peerColumns + `WHERE p.site_id = $1`
	qPage     = peerColumns + `WHERE (s.name, p.site_id) > ($1, $2) AND ($3 OR p.removed_at IS NULL) ORDER BY s.name, p.site_id LIMIT $4`
	qSiteID   = `SELECT id FROM site WHERE id::text = $1 OR name = $1 LIMIT 1`
	qByName   = peerColumns + `WHERE s.name = $1`

	qClaimKey  = `INSERT INTO peer_key (public_key, site_id, added_at) VALUES ($1, $2, $3) ON CONFLICT (public_key) DO NOTHING`
	qKeyHolder = `SELECT site_id FROM peer_key WHERE public_key = $1`
	qIsHubKey  = `SELECT EXISTS (SELECT FROM peer_hub_key WHERE public_key = $1)`

	qPutPeer = `
INSERT INTO peer (site_id, public_key, address, psk, keepalive_s, endpoint, version, added_at, changed_at)
VALUES ($1, $2, $3, $4, $5, $6, pg_current_xact_id(), $7, $7)
ON CONFLICT (site_id) DO UPDATE SET public_key = excluded.public_key, address = excluded.address, psk = excluded.psk, next_key = NULL, next_psk = NULL,
	rotate_wanted_at = NULL, keepalive_s = excluded.keepalive_s, endpoint = excluded.endpoint, generation = peer.generation + 1, version = excluded.version,
	quarantined_at = NULL, quarantine_reason = NULL, added_at = excluded.added_at, changed_at = excluded.changed_at, removed_at = NULL`
	qRemove = `
UPDATE peer SET removed_at = $2, changed_at = $2, next_key = NULL, next_psk = NULL, rotate_wanted_at = NULL, generation = generation + 1, version = pg_current_xact_id()
WHERE site_id = $1 AND removed_at IS NULL`
	qChange = `
UPDATE peer SET endpoint = $2, keepalive_s = $3, quarantined_at = NULL, quarantine_reason = NULL, generation = generation + 1, version = pg_current_xact_id(), changed_at = $4
WHERE site_id = $1 AND removed_at IS NULL`
	qWantRotation = `
UPDATE peer SET rotate_wanted_at = $2, generation = generation + 1, version = pg_current_xact_id(), changed_at = $2
WHERE site_id = $1 AND removed_at IS NULL AND rotate_wanted_at IS NULL`
	qKeysLately = `SELECT count(*) FROM peer_key WHERE site_id = $1 AND added_at > $2`
	qStage      = `
UPDATE peer SET next_key = $2, next_psk = $3, generation = generation + 1, version = pg_current_xact_id(), changed_at = $4
WHERE site_id = $1 AND removed_at IS NULL`
	qPromote = `
UPDATE peer SET public_key = next_key, psk = next_psk, next_key = NULL, next_psk = NULL, rotate_wanted_at = NULL, quarantined_at = NULL, quarantine_reason = NULL,
	generation = generation + 1, version = pg_current_xact_id(), changed_at = $3
WHERE site_id = $1 AND next_key = $2 AND removed_at IS NULL`
	qQuarantine = `
UPDATE peer SET quarantined_at = $3, quarantine_reason = $4, version = pg_current_xact_id()
WHERE site_id = $1 AND generation = $2 AND removed_at IS NULL AND quarantined_at IS NULL`

	qDropNetworks = `DELETE FROM peer_network WHERE site_id = $1 AND network <> ALL($2)`
	qAddNetwork   = `INSERT INTO peer_network (site_id, network, added_at) VALUES ($1, $2, $3) ON CONFLICT (site_id, network) DO NOTHING`
	qOverlapping  = `SELECT n.network, s.name FROM peer_network n JOIN site s ON s.id = n.site_id WHERE n.network && $1 AND n.site_id <> $2 ORDER BY n.network LIMIT 1`
	// Networks are changed one at a time: the answer to "does it overlap" must still hold at the commit. The number is this package's alone.
	qLockNetworks = `SELECT pg_advisory_xact_lock(7391204419)`

	qNotify = `SELECT pg_notify('hsi_peers', '')`
)

// record is a row as stored, its secrets sealed.
type record struct {
	Peer
	psk, nextPSK []byte
}

func scanRecord(row pgx.CollectableRow) (record, error) {
	var r record
	var key, next []byte
	var wanted, quarantined, removed, handshake, seen *time.Time
	var keepalive int32
	var received, sent int64
	err := row.Scan((*[16]byte)(&r.Site), &r.SiteName, &key, &r.Address, &r.psk, &next, &r.nextPSK, &wanted, &keepalive, &r.Endpoint, &r.Generation,
		&quarantined, &r.QuarantineReason, &r.AddedAt, &r.ChangedAt, &removed, &r.Networks, &r.Observed.Endpoint, &handshake, &received, &sent, &seen)
	copy(r.PublicKey[:], key)
	copy(r.NextKey[:], next)
	r.Keepalive = time.Duration(keepalive) * time.Second
	r.RotateWanted, r.QuarantinedAt, r.RemovedAt = at(wanted), at(quarantined), at(removed)
	r.Observed.Handshake, r.Observed.SeenAt = at(handshake), at(seen)
	r.Observed.Received, r.Observed.Sent = uint64(max(0, received)), uint64(max(0, sent))
	return r, err
}

func at(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

func records(ctx context.Context, q querier, sql string, args ...any) ([]record, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("reading peers: %w", err)
	}
	out, err := pgx.CollectRows(rows, scanRecord)
	if err != nil {
		return nil, fmt.Errorf("reading peers: %w", err)
	}
	return out, nil
}

// one returns a site's row; known is false when it never had one.
func (s *Store) one(ctx context.Context, q querier, site ident.SiteID) (r record, known bool, err error) {
	all, err := records(ctx, q, qPeer, site)
	if err != nil || len(all) == 0 {
		return r, false, err
	}
	return all[0], true, nil
}

func noPeer(site ident.SiteID) error {
	return apperr.E(apperr.NotFound, "NOTFOUND_001", "site %s has no peer", site)
}

// live locks a site's row and returns it, unless it was removed.
func (s *Store) live(ctx context.Context, tx pgx.Tx, site ident.SiteID) (record, error) {
	if err := s.lock(ctx, tx, site); err != nil {
		return record{}, err
	}
	r, known, err := s.one(ctx, tx, site)
	if err == nil && (!known || !r.RemovedAt.IsZero()) {
		err = noPeer(site)
	}
	return r, err
}

// lock makes changes of one site's peer follow each other.
func (s *Store) lock(ctx context.Context, tx pgx.Tx, site ident.SiteID) error {
	var name string
	err := tx.QueryRow(ctx, qLockSite, site).Scan(&name)
	if errors.Is(err, pgx.ErrNoRows) {
		return apperr.E(apperr.NotFound, "NOTFOUND_001", "site %s does not exist", site)
	}
	return wrap(err, "looking for the site")
}

// Add gives a site its peer: an address for ever, and a preshared key. The same site and key again change nothing. It tells no device: call
// Manager.Sync, or Notify, once the transaction is committed.
func (s *Store) Add(ctx context.Context, tx pgx.Tx, n New) (Peer, error) {
	if err := errors.Join(checkKey(n.PublicKey), checkEndpoint(n.Endpoint)); err != nil {
		return Peer{}, err
	}
	if err := s.lock(ctx, tx, n.Site); err != nil {
		return Peer{}, err
	}
	old, known, err := s.one(ctx, tx, n.Site)
	if err != nil {
		return Peer{}, err
	}
	if known && old.RemovedAt.IsZero() {
		switch {
		case old.PublicKey == n.PublicKey && (!n.Address.IsValid() || n.Address == old.Address):
			return old.Peer, nil
		case !n.Replace:
			return Peer{}, apperr.E(apperr.Conflict, "CONFLICT_001", "site %q has a peer with another key or address (%s, %s): rotate its key, or remove the peer first", old.SiteName, old.PublicKey, old.Address)
		}
	}
	if err := s.claimKey(ctx, tx, n.Site, n.PublicKey); err != nil {
		return Peer{}, err
	}
	address, err := s.allocate(ctx, tx, n.Site, n.Address)
	if err != nil {
		return Peer{}, err
	}
	if n.PSK.IsZero() && !n.NoPSK {
		n.PSK = wg.NewPSK()
	}
	sealed, err := s.sealPSK(n.Site, n.PSK)
	if err != nil {
		return Peer{}, err
	}
	if _, err := tx.Exec(ctx, qPutPeer, n.Site, n.PublicKey[:], address, sealed, int(Keepalive/time.Second), n.Endpoint, s.c.Now().UTC()); err != nil {
		return Peer{}, fmt.Errorf("storing the peer of site %s: %w", n.Site, err)
	}
	if err := s.record(ctx, tx, event{action: "peer_added", by: n.By, site: n.Site, details: map[string]any{
		"public_key": n.PublicKey.String(), "address": address.String(), "replaced": known && old.RemovedAt.IsZero(),
	}}); err != nil {
		return Peer{}, err
	}
	r, _, err := s.one(ctx, tx, n.Site)
	return r.Peer, err
}

// claimKey makes a key the site's own for ever, or refuses one that is somebody else's.
func (s *Store) claimKey(ctx context.Context, tx pgx.Tx, site ident.SiteID, key wg.Key) error {
	var hub bool
	if err := tx.QueryRow(ctx, qIsHubKey, key[:]).Scan(&hub); err != nil {
		return fmt.Errorf("looking for the key's holder: %w", err)
	}
	if hub {
		return apperr.E(apperr.Conflict, "CONFLICT_001", "WireGuard key %s is the hub's own: each site makes a key pair of its own", key)
	}
	if _, err := tx.Exec(ctx, qClaimKey, key[:], site, s.c.Now().UTC()); err != nil {
		return fmt.Errorf("recording a WireGuard key: %w", err)
	}
	var holder ident.SiteID
	if err := tx.QueryRow(ctx, qKeyHolder, key[:]).Scan((*[16]byte)(&holder)); err != nil {
		return fmt.Errorf("looking for the key's holder: %w", err)
	}
	if holder != site { // whose it is, the one who asks need not know
		return apperr.E(apperr.Conflict, "CONFLICT_001", "WireGuard key %s belongs to another site, or did: each site makes a key pair of its own", key)
	}
	return nil
}

// Remove ends a site's peer; without one it does nothing. Its address and its keys stay its own. Devices hear of it at the commit.
func (s *Store) Remove(ctx context.Context, tx pgx.Tx, site ident.SiteID, by string) error {
	tag, err := tx.Exec(ctx, qRemove, site, s.c.Now().UTC())
	if err != nil {
		return fmt.Errorf("removing the peer of site %s: %w", site, err)
	}
	if tag.RowsAffected() == 0 {
		return nil
	}
	if _, err := tx.Exec(ctx, qDropNetworks, site, []netip.Prefix{}); err != nil {
		return fmt.Errorf("removing the networks of site %s: %w", site, err)
	}
	if err := s.record(ctx, tx, event{action: "peer_removed", by: by, site: site}); err != nil {
		return err
	}
	return s.Notify(ctx, tx)
}

// Change is what an operator may change of a peer; nil leaves it as it is.
type Change struct {
	Endpoint  *string
	Keepalive *time.Duration
	Networks  *[]netip.Prefix // all of them
}

// Change changes a peer, and takes it out of quarantine.
func (s *Store) Change(ctx context.Context, tx pgx.Tx, site ident.SiteID, c Change, by string) (Peer, error) {
	r, err := s.live(ctx, tx, site)
	if err != nil {
		return Peer{}, err
	}
	details := map[string]any{}
	if c.Endpoint != nil {
		if err := checkEndpoint(*c.Endpoint); err != nil {
			return Peer{}, err
		}
		r.Endpoint = *c.Endpoint
		details["endpoint"] = r.Endpoint
	}
	if c.Keepalive != nil {
		if *c.Keepalive < 0 || *c.Keepalive > 65535*time.Second || *c.Keepalive%time.Second != 0 {
			return Peer{}, apperr.E(apperr.Invalid, "VALID_001", "keepalive %v: want whole seconds, from 0 (none) to 65535", *c.Keepalive)
		}
		r.Keepalive = *c.Keepalive
		details["keepalive_s"] = int(r.Keepalive / time.Second)
	}
	if c.Networks != nil {
		if err := s.setNetworks(ctx, tx, site, *c.Networks); err != nil {
			return Peer{}, err
		}
		details["networks"] = *c.Networks
	}
	if _, err := tx.Exec(ctx, qChange, site, r.Endpoint, int(r.Keepalive/time.Second), s.c.Now().UTC()); err != nil {
		return Peer{}, fmt.Errorf("changing the peer of site %s: %w", site, err)
	}
	if err := s.record(ctx, tx, event{action: "peer_changed", by: by, site: site, details: details}); err != nil {
		return Peer{}, err
	}
	if err := s.Notify(ctx, tx); err != nil {
		return Peer{}, err
	}
	r, _, err = s.one(ctx, tx, site)
	return r.Peer, err
}

func (s *Store) setNetworks(ctx context.Context, tx pgx.Tx, site ident.SiteID, networks []netip.Prefix) error {
	if len(networks) > MaxNetworks {
		return apperr.E(apperr.Invalid, "VALID_001", "%d networks: a site may have %d behind it", len(networks), MaxNetworks)
	}
	for i, n := range networks {
		if err := s.checkSiteNetwork(n); err != nil {
			return err
		}
		for _, m := range networks[:i] {
			if m.Overlaps(n) {
				return apperr.E(apperr.Invalid, "VALID_001", "networks %s and %s overlap: name the larger one only", m, n)
			}
		}
	}
	if _, err := tx.Exec(ctx, qLockNetworks); err != nil {
		return fmt.Errorf("waiting for other changes of networks: %w", err)
	}
	if _, err := tx.Exec(ctx, qDropNetworks, site, networks); err != nil {
		return fmt.Errorf("removing networks of site %s: %w", site, err)
	}
	for _, n := range networks {
		var other netip.Prefix
		var name string
		err := tx.QueryRow(ctx, qOverlapping, n, site).Scan(&other, &name)
		if err == nil {
			return apperr.E(apperr.Conflict, "CONFLICT_001", "network %s overlaps %s of site %q: a packet can go to one of them only; give one of the sites another range", n, other, name)
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("looking for overlapping networks: %w", err)
		}
		if _, err := tx.Exec(ctx, qAddNetwork, site, n, s.c.Now().UTC()); err != nil {
			var pe *pgconn.PgError
			if errors.As(err, &pe) && pe.Code == "23P01" { // by something that did not wait for the lock
				return apperr.E(apperr.Conflict, "CONFLICT_001", "network %s overlaps one of another site", n)
			}
			return fmt.Errorf("adding a network of site %s: %w", site, err)
		}
	}
	return nil
}

// checkSiteNetwork refuses what cannot be behind a site.
func (s *Store) checkSiteNetwork(n netip.Prefix) error {
	a, least := n.Addr(), 8
	if a.Is6() {
		least = 16
	}
	switch {
	case !n.IsValid() || a.Is4In6():
		return apperr.E(apperr.Invalid, "VALID_001", "%s is not a network such as 192.168.7.0/24", n)
	case n != n.Masked():
		return apperr.E(apperr.Invalid, "VALID_001", "%s has bits beyond its length: write %s", n, n.Masked())
	case n.Bits() < least:
		return apperr.E(apperr.Invalid, "VALID_001", "%s is too large for the network of one site: want at least /%d", n, least)
	case a.IsLoopback() || a.IsMulticast() || a.IsUnspecified() || a.IsLinkLocalUnicast():
		return apperr.E(apperr.Invalid, "VALID_001", "no host of another network may have the addresses of %s", n)
	case n.Overlaps(s.c.Network):
		return apperr.E(apperr.Conflict, "CONFLICT_001", "network %s overlaps the tunnel's own addresses (%s): the site needs another range, or the hub another WG_NETWORK", n, s.c.Network)
	}
	return nil
}

// Rotate asks a site for a new key and preshared key. Until it has taken them into use the present ones stay.
func (s *Store) Rotate(ctx context.Context, tx pgx.Tx, site ident.SiteID, by string) (Peer, error) {
	if _, err := s.live(ctx, tx, site); err != nil {
		return Peer{}, err
	}
	tag, err := tx.Exec(ctx, qWantRotation, site, s.c.Now().UTC())
	if err != nil {
		return Peer{}, fmt.Errorf("ordering a new key of site %s: %w", site, err)
	}
	if tag.RowsAffected() == 1 {
		if err := s.record(ctx, tx, event{action: "peer_rotation_ordered", by: by, site: site}); err != nil {
			return Peer{}, err
		}
	}
	r, _, err := s.one(ctx, tx, site)
	return r.Peer, err
}

// maxKeysHour is how many new keys a site may come with in an hour: each is remembered for ever, and is an entry of the audit log.
const maxKeysHour = 10

// StageKey takes a site's next key, which it has made and not used yet, and makes the preshared key that goes with it (KeysOf gives it). The device
// knows both keys from then on, and changes over at the first handshake with the new one: so neither end waits for the other. The same key again
// changes nothing; call Manager.Sync once the transaction is committed and before the site is answered.
func (s *Store) StageKey(ctx context.Context, tx pgx.Tx, site ident.SiteID, next wg.Key, by string) (Peer, error) {
	if err := checkKey(next); err != nil {
		return Peer{}, err
	}
	r, err := s.live(ctx, tx, site)
	if err != nil {
		return Peer{}, err
	}
	if r.NextKey == next || r.PublicKey == next {
		return r.Peer, nil
	}
	now := s.c.Now().UTC()
	var lately int
	if err := tx.QueryRow(ctx, qKeysLately, site, now.Add(-time.Hour)).Scan(&lately); err != nil {
		return Peer{}, fmt.Errorf("counting the keys of site %s: %w", site, err)
	}
	if lately >= maxKeysHour {
		return Peer{}, apperr.E(apperr.TooMany, "API_001", "site %q has had %d WireGuard keys within an hour, which are kept for ever: wait before the next", r.SiteName, lately)
	}
	if err := s.claimKey(ctx, tx, site, next); err != nil {
		return Peer{}, err
	}
	sealed, err := s.sealPSK(site, wg.NewPSK())
	if err != nil {
		return Peer{}, err
	}
	if _, err := tx.Exec(ctx, qStage, site, next[:], sealed, now); err != nil {
		return Peer{}, fmt.Errorf("storing the next key of site %s: %w", site, err)
	}
	if err := s.record(ctx, tx, event{action: "peer_key_staged", by: by, site: site, details: map[string]any{"public_key": next.String()}}); err != nil {
		return Peer{}, err
	}
	r, _, err = s.one(ctx, tx, site)
	return r.Peer, err
}

// promote makes a site's next key its only one; false when somebody else did, or it is no longer the next one.
func (s *Store) promote(ctx context.Context, tx pgx.Tx, site ident.SiteID, next wg.Key) (bool, error) {
	tag, err := tx.Exec(ctx, qPromote, site, next[:], s.c.Now().UTC())
	if err != nil {
		return false, fmt.Errorf("changing over to the next key of site %s: %w", site, err)
	}
	if tag.RowsAffected() == 0 {
		return false, nil
	}
	return true, s.record(ctx, tx, event{action: "peer_key_rotated", by: site.String(), site: site, details: map[string]any{"public_key": next.String()}})
}

// quarantine sets a peer aside, unless it was changed since.
func (s *Store) quarantine(ctx context.Context, tx pgx.Tx, p Peer, reason string) (bool, error) {
	reason = strings.ToValidUTF8(reason, "?")
	if len(reason) > 500 {
		reason = strings.ToValidUTF8(reason[:500], "")
	}
	tag, err := tx.Exec(ctx, qQuarantine, p.Site, p.Generation, s.c.Now().UTC(), reason)
	if err != nil {
		return false, fmt.Errorf("quarantining the peer of site %s: %w", p.Site, err)
	}
	if tag.RowsAffected() == 0 {
		return false, nil
	}
	return true, s.record(ctx, tx, event{action: "peer_quarantined", by: "hub", site: p.Site, details: map[string]any{"reason": reason}})
}

// Make makes a change in a transaction of its own and waits a moment until the device has it. That it has not yet is no error: it will.
func (s *Store) Make(ctx context.Context, change func(tx pgx.Tx) (Peer, error)) (p Peer, err error) {
	if err := pg.InTx(ctx, s.c.DB, func(tx pgx.Tx) error { p, err = change(tx); return err }); err != nil {
		return Peer{}, err
	}
	if err := s.Await(ctx); err != nil {
		s.c.Log.InfoContext(ctx, "a change of a peer is stored, and not on the device yet", "err", err)
	}
	return p, nil
}

// Get returns a site's peer; one that was removed is not found.
func (s *Store) Get(ctx context.Context, site ident.SiteID) (Peer, error) {
	r, known, err := s.one(ctx, s.c.DB, site)
	if err == nil && (!known || !r.RemovedAt.IsZero()) {
		err = noPeer(site)
	}
	return r.Peer, err
}

// Find returns the peer of the site with an id or a name.
func (s *Store) Find(ctx context.Context, site string) (Peer, error) {
	if id, err := ident.ParseSiteID(site); err == nil {
		return s.Get(ctx, id)
	}
	all, err := records(ctx, s.c.DB, qByName, site)
	if err == nil && (len(all) == 0 || !all[0].RemovedAt.IsZero()) {
		return Peer{}, apperr.E(apperr.NotFound, "NOTFOUND_001", "there is no peer of a site with the name or id %.100q: hashinsight-hub peers list shows them", site)
	}
	if err != nil {
		return Peer{}, err
	}
	return all[0].Peer, nil
}

// SiteID finds a site by its name or id.
func (s *Store) SiteID(ctx context.Context, q querier, site string) (id ident.SiteID, err error) {
	err = q.QueryRow(ctx, qSiteID, site).Scan((*[16]byte)(&id))
	if errors.Is(err, pgx.ErrNoRows) {
		return id, apperr.E(apperr.NotFound, "NOTFOUND_001", "there is no site with the name or id %.100q", site)
	}
	return id, wrap(err, "looking for the site")
}

// KeysOf returns the preshared keys of a site's peer, for the site itself.
func (s *Store) KeysOf(ctx context.Context, q querier, site ident.SiteID) (Keys, error) {
	r, known, err := s.one(ctx, q, site)
	if err == nil && (!known || !r.RemovedAt.IsZero()) {
		err = noPeer(site)
	}
	if err != nil {
		return Keys{}, err
	}
	return s.open(&r)
}

// Position is where a page of the list begins: after this one.
type Position struct {
	SiteName string
	Site     ident.SiteID
}

// MaxPage is how many peers List returns at most.
const MaxPage = 1000

// List returns peers by their sites' names; removed ones only when asked.
func (s *Store) List(ctx context.Context, after Position, removed bool, limit int) ([]Peer, error) {
	all, err := records(ctx, s.c.DB, qPage, after.SiteName, after.Site, removed, min(max(limit, 1), MaxPage))
	if err != nil {
		return nil, err
	}
	out := make([]Peer, len(all))
	for i := range all {
		out[i] = all[i].Peer
	}
	return out, nil
}

// Notify tells the hub process that has the device that something has changed: at the commit of a transaction, or at once.
func (s *Store) Notify(ctx context.Context, q querier) error {
	var nothing any
	return wrap(q.QueryRow(ctx, qNotify).Scan(&nothing), "telling the hub of changed peers")
}

// pskName is what a sealed PSK is bound to.
func pskName(site ident.SiteID) string { return "peer-psk/" + site.String() }

func (s *Store) sealPSK(site ident.SiteID, psk wg.Secret) ([]byte, error) {
	if err := s.needPassword(); err != nil {
		return nil, err
	}
	sealed, err := pki.Seal(s.c.Password, pskName(site), psk[:])
	return sealed, wrap(err, "sealing a preshared key")
}

func (s *Store) openPSK(site ident.SiteID, sealed []byte) (psk wg.Secret, err error) {
	if sealed == nil {
		return psk, nil
	}
	plain, err := pki.Unseal(s.c.Password, pskName(site), sealed)
	if err != nil {
		return psk, fmt.Errorf("preshared key of site %s: %w", site, err)
	}
	if len(plain) != len(psk) {
		return psk, fmt.Errorf("preshared key of site %s has %d bytes", site, len(plain))
	}
	copy(psk[:], plain)
	return psk, nil
}

func (s *Store) open(r *record) (k Keys, err error) {
	if k.PSK, err = s.openPSK(r.Site, r.psk); err == nil {
		k.NextPSK, err = s.openPSK(r.Site, r.nextPSK)
	}
	return k, err
}

// equalSealed reports whether two rows hold the same secrets, without opening them: sealing anew gives other bytes.
func equalSealed(a, b *record) bool {
	return bytes.Equal(a.psk, b.psk) && bytes.Equal(a.nextPSK, b.nextPSK)
}
