package peers

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// The address plan: the network's first address is the hub's, each site gets one of the others, for ever. The lowest (the network itself) and the
// highest (its broadcast address) are nobody's.

// CheckNetwork says what is wrong with a network to take addresses from.
func CheckNetwork(n netip.Prefix) error {
	switch {
	case !n.IsValid() || !n.Addr().Is4():
		return errors.New("is not an IPv4 network such as 10.8.0.0/16")
	case n != n.Masked():
		return fmt.Errorf("is %s, which has bits beyond its length: write %s", n, n.Masked())
	case n.Bits() < 8 || n.Bits() > 30:
		return fmt.Errorf("is %s: want a length from /8 to /30", n)
	case n.Addr().IsLoopback() || n.Addr().IsMulticast() || n.Addr().IsUnspecified() || n.Addr().IsLinkLocalUnicast():
		return fmt.Errorf("is %s: no host may have these addresses: want a private network such as 10.8.0.0/16", n)
	}
	return nil
}

// HubAddress is the hub's own address in the tunnel.
func HubAddress(n netip.Prefix) netip.Addr { return nth(n, 1) }

// nth returns the address that many places after the network's beginning.
func nth(n netip.Prefix, offset uint32) netip.Addr {
	b := n.Masked().Addr().As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+offset)
	return netip.AddrFrom4(b)
}

// size is how many addresses a network has.
func size(n netip.Prefix) int64 { return int64(1) << (32 - n.Bits()) }

// forSites reports whether an address may be a site's.
func forSites(n netip.Prefix, a netip.Addr) bool {
	return n.Contains(a) && a != nth(n, 0) && a != nth(n, 1) && a != nth(n, uint32(size(n)-1))
}

const (
	qNextOffset = `SELECT nextval('peer_address_offset')`
	qGive       = `INSERT INTO peer_address (address, site_id, given_at) VALUES ($1, $2, $3) ON CONFLICT (address) DO NOTHING`
	qHolder     = `SELECT site_id FROM peer_address WHERE address = $1`
	qOwnAddress = `SELECT address FROM peer_address WHERE site_id = $1 AND address << $2 ORDER BY given_at, address LIMIT 1`
	// One at a time looks for addresses that were left out; the number is this package's alone.
	qLockGaps = `SELECT pg_advisory_xact_lock(7391204418)`
	// The first address that follows one that is given and is not given itself; the hub's counts as given. (Values of inet with masks of
	// different lengths are not compared as addresses.)
	qGaps = `
SELECT address + 1 FROM (
	SELECT address, lead(address) OVER (ORDER BY address) AS following
	FROM (SELECT address FROM peer_address WHERE address << $1 UNION SELECT $2::inet) given
) pairs
WHERE following IS DISTINCT FROM address + 1 AND address + 1 < set_masklen(broadcast($1::inet), 32)
ORDER BY address LIMIT 1`
)

// maxTries bounds how many numbers of the sequence one Add may skip: addresses that were imported, or given under another WG_NETWORK.
const maxTries = 64

// allocate gives a site its address. Sites that join at once do not wait for each other: numbers come from a sequence, and one that is lost with its
// transaction is found again once the sequence has passed the end.
func (s *Store) allocate(ctx context.Context, tx pgx.Tx, site ident.SiteID, wanted netip.Addr) (netip.Addr, error) {
	if wanted.IsValid() {
		return wanted, s.claim(ctx, tx, site, wanted)
	}
	var a netip.Addr
	err := tx.QueryRow(ctx, qOwnAddress, site, s.c.Network).Scan(&a)
	if err == nil || !errors.Is(err, pgx.ErrNoRows) {
		return a, wrap(err, "looking for the site's address")
	}
	now := s.c.Now().UTC()
	for range maxTries {
		var offset int64
		if err := tx.QueryRow(ctx, qNextOffset).Scan(&offset); err != nil {
			return a, fmt.Errorf("next tunnel address: %w", err)
		}
		if offset >= size(s.c.Network)-1 {
			break
		}
		a = nth(s.c.Network, uint32(offset))
		tag, err := tx.Exec(ctx, qGive, a, site, now)
		if err != nil {
			return a, fmt.Errorf("giving tunnel address %s: %w", a, err)
		}
		if tag.RowsAffected() == 1 {
			return a, nil
		}
	}
	if _, err := tx.Exec(ctx, qLockGaps); err != nil {
		return a, fmt.Errorf("looking for a free tunnel address: %w", err)
	}
	for range maxTries { // another may still be given one by the sequence
		err := tx.QueryRow(ctx, qGaps, s.c.Network, HubAddress(s.c.Network)).Scan(&a)
		if errors.Is(err, pgx.ErrNoRows) {
			break
		}
		if err != nil {
			return a, fmt.Errorf("looking for a free tunnel address: %w", err)
		}
		tag, err := tx.Exec(ctx, qGive, a, site, now)
		if err != nil {
			return a, fmt.Errorf("giving tunnel address %s: %w", a, err)
		}
		if tag.RowsAffected() == 1 {
			return a, nil
		}
	}
	return a, apperr.E(apperr.Conflict, "PEER_001", "all %d tunnel addresses of WG_NETWORK (%s) have been given, and none is given twice: widen WG_NETWORK to a network that holds this one",
		size(s.c.Network)-3, s.c.Network)
}

// claim gives a site the address that it is said to have.
func (s *Store) claim(ctx context.Context, tx pgx.Tx, site ident.SiteID, a netip.Addr) error {
	if !forSites(s.c.Network, a) {
		return apperr.E(apperr.Invalid, "VALID_001", "%s cannot be a site's tunnel address: want one of WG_NETWORK (%s) that is neither its first two nor its last", a, s.c.Network)
	}
	if _, err := tx.Exec(ctx, qGive, a, site, s.c.Now().UTC()); err != nil {
		return fmt.Errorf("giving tunnel address %s: %w", a, err)
	}
	var holder ident.SiteID
	if err := tx.QueryRow(ctx, qHolder, a).Scan((*[16]byte)(&holder)); err != nil {
		return fmt.Errorf("giving tunnel address %s: %w", a, err)
	}
	if holder != site {
		return apperr.E(apperr.Conflict, "CONFLICT_001", "tunnel address %s belongs to site %s: an address is never given to another", a, holder)
	}
	return nil
}

func wrap(err error, what string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
