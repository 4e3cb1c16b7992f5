package peers

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/wg"
)

const testPassword = "a password of the tests, long enough"

// book is a store over a real database.
type book struct {
	*Store
	t     testing.TB
	pool  *pgxpool.Pool
	audit *audit.Log
}

func newBook(t testing.TB, network string) *book {
	t.Helper()
	return openBook(t, pgtest.New(t), network)
}

func openBook(t testing.TB, pool *pgxpool.Pool, network string) *book {
	t.Helper()
	b := &book{t: t, pool: pool}
	var err error
	if b.audit, err = audit.New(audit.Config{Pool: pool}); err != nil {
		t.Fatal(err)
	}
	b.Store, err = NewStore(Config{
		DB: pool, Password: testPassword, Network: netip.MustParsePrefix(network), Listen: "127.0.0.1:51820", Endpoint: "hub.example.com:51820",
		Audit: b.audit,
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// tx runs f in a transaction that must commit.
func (b *book) tx(f func(tx pgx.Tx) error) {
	b.t.Helper()
	if err := b.try(f); err != nil {
		b.t.Fatal(err)
	}
}

func (b *book) try(f func(tx pgx.Tx) error) error {
	return pg.InTx(context.WithoutCancel(b.t.Context()), b.pool, f)
}

// entries counts audit entries of an action that wait for their place: nobody gives it to them here.
func (b *book) entries(action string) (n int) {
	b.t.Helper()
	if err := b.pool.QueryRow(b.t.Context(), `SELECT count(*) FROM audit_pending WHERE action = $1`, action).Scan(&n); err != nil {
		b.t.Fatal(err)
	}
	return n
}

// site makes a site that may join.
func (b *book) site(name string) (site ident.SiteID) {
	b.t.Helper()
	b.tx(func(tx pgx.Tx) (err error) {
		site, _, err = fleet.PlanSite(b.t.Context(), tx, name, time.Now())
		return err
	})
	return site
}

func newKey() wg.Key { return wg.NewPrivate().Public() }

// add gives a site a peer.
func (b *book) add(site ident.SiteID, key wg.Key) Peer {
	b.t.Helper()
	p, err := b.tryAdd(New{Site: site, PublicKey: key, By: "test"})
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

func (b *book) tryAdd(n New) (p Peer, err error) {
	err = b.try(func(tx pgx.Tx) error { p, err = b.Add(b.t.Context(), tx, n); return err })
	return p, err
}

// wantCode checks a refusal.
func wantCode(t testing.TB, err error, code apperr.Code, text string) {
	t.Helper()
	var e *apperr.Error
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Text, text) {
		t.Errorf("got %v, want %s with %q", err, code, text)
	}
}

func TestASiteGetsOneAddressForEver(t *testing.T) {
	b := newBook(t, "10.8.0.0/16")
	north, south := b.site("North"), b.site("South")
	key := newKey()
	p := b.add(north, key)
	if p.Address.String() != "10.8.0.2" || p.PublicKey != key || p.Keepalive != Keepalive || p.SiteName != "North" {
		t.Errorf("the first peer is %+v", p)
	}
	if again := b.add(north, key); again.Address != p.Address || again.Generation != p.Generation || b.entries("peer_added") != 1 {
		t.Errorf("the same site and key again gave %+v, with %d audit entries", again, b.entries("peer_added"))
	}
	if q := b.add(south, newKey()); q.Address.String() != "10.8.0.3" {
		t.Errorf("the second address is %s", q.Address)
	}
	_, err := b.tryAdd(New{Site: north, PublicKey: newKey()})
	wantCode(t, err, "CONFLICT_001", "another key")

	keys, err := b.KeysOf(t.Context(), b.pool, north)
	if err != nil || keys.PSK == (wg.Secret{}) || keys.NextPSK != (wg.Secret{}) {
		t.Errorf("the site's secrets: %t, %v", keys.PSK == (wg.Secret{}), err)
	}
	b.tx(func(tx pgx.Tx) error { return b.Remove(t.Context(), tx, north, "test") })
	if _, err := b.Get(t.Context(), north); err == nil {
		t.Error("a removed peer is still found")
	}
	if back := b.add(north, newKey()); back.Address != p.Address {
		t.Errorf("the site joined again and has %s, it had %s", back.Address, p.Address)
	}
	if other := b.add(b.site("West"), newKey()); other.Address.String() != "10.8.0.4" {
		t.Errorf("the third site has %s", other.Address)
	}
	if after, err := b.KeysOf(t.Context(), b.pool, north); err != nil || after.PSK == keys.PSK {
		t.Errorf("the preshared key of a removed peer came back: %v", err)
	}
	var stored int
	if err := b.pool.QueryRow(t.Context(), `SELECT count(*) FROM peer WHERE position($1 IN psk) > 0`, keys.PSK[:]).Scan(&stored); err != nil || stored != 0 {
		t.Errorf("preshared keys lie open in the database: %d, %v", stored, err)
	}
}

func TestAKeyOfSomebodyElseIsRefused(t *testing.T) {
	b := newBook(t, "10.8.0.0/16")
	north, south := b.site("North"), b.site("South")
	key := newKey()
	b.add(north, key)
	_, err := b.tryAdd(New{Site: south, PublicKey: key})
	wantCode(t, err, "CONFLICT_001", "another site")
	b.tx(func(tx pgx.Tx) error { return b.Remove(t.Context(), tx, north, "test") })
	_, err = b.tryAdd(New{Site: south, PublicKey: key})
	wantCode(t, err, "CONFLICT_001", "another site")
	b.add(north, key) // its own may come back

	hub, err := b.HubKeys(t.Context())
	if err != nil || len(hub) != 1 {
		t.Fatalf("the hub's keys: %v, %v", hub, err)
	}
	_, err = b.tryAdd(New{Site: south, PublicKey: hub[0].Public})
	wantCode(t, err, "CONFLICT_001", "the hub's own")
	for _, weak := range []wg.Key{{}, {1}} {
		_, err = b.tryAdd(New{Site: south, PublicKey: weak})
		wantCode(t, err, "VALID_001", "not a WireGuard public key")
	}
	_, err = b.tryAdd(New{Site: ident.NewSiteID(), PublicKey: newKey()})
	wantCode(t, err, "NOTFOUND_001", "does not exist")
}

// N2, its half about addresses; some transactions are rolled back, as those of tokens that were lost in a race are.
func TestParallelAddsNeverShareAnAddress(t *testing.T) {
	b := newBook(t, "10.8.0.0/24")
	const n = 200
	sites := make([]ident.SiteID, n)
	for i := range sites {
		sites[i] = b.site(fmt.Sprintf("site %d", i))
	}
	errLost := errors.New("lost a race")
	var wait sync.WaitGroup
	got := make([]netip.Addr, n)
	for i := range n {
		wait.Go(func() {
			for lost := i%3 == 0; ; lost = false {
				err := b.try(func(tx pgx.Tx) error {
					p, err := b.Add(t.Context(), tx, New{Site: sites[i], PublicKey: newKey()})
					got[i] = p.Address
					if err == nil && lost {
						err = errLost
					}
					return err
				})
				if err == nil {
					return
				}
				if !errors.Is(err, errLost) {
					t.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
	seen := map[netip.Addr]bool{}
	for _, a := range got {
		if seen[a] || !forSites(netip.MustParsePrefix("10.8.0.0/24"), a) {
			t.Errorf("address %s was given twice, or is nobody's to give", a)
		}
		seen[a] = true
	}
	t.Logf("%d sites, %d addresses; 253 exist, and %d numbers were taken by transactions that were lost", n, len(seen), (n+2)/3)
}

// Two callers with the same new site and key are one site with one address.
func TestTheSameAddInParallelIsOne(t *testing.T) {
	b := newBook(t, "10.8.0.0/16")
	site, key := b.site("North"), newKey()
	var wait sync.WaitGroup
	got := make([]Peer, 20)
	for i := range got {
		wait.Go(func() {
			var err error
			if got[i], err = b.tryAdd(New{Site: site, PublicKey: key}); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	for _, p := range got {
		if p.Address != got[0].Address || p.Generation != 1 {
			t.Errorf("one caller got %+v", p)
		}
	}
}

func TestAddressSpaceUsedUp(t *testing.T) {
	b := newBook(t, "10.8.0.0/29") // 8: network, hub, five sites, broadcast
	var sites []ident.SiteID
	for i := range 6 {
		sites = append(sites, b.site(fmt.Sprintf("site %d", i)))
	}
	// Two numbers are lost with their transactions, and are found again at the end.
	for range 2 {
		_ = b.try(func(tx pgx.Tx) error {
			if _, err := b.Add(t.Context(), tx, New{Site: sites[0], PublicKey: newKey()}); err != nil {
				t.Error(err)
			}
			return errors.New("lost")
		})
	}
	var got []string
	for _, s := range sites[:5] {
		got = append(got, b.add(s, newKey()).Address.String())
	}
	slices.Sort(got)
	if strings.Join(got, " ") != "10.8.0.2 10.8.0.3 10.8.0.4 10.8.0.5 10.8.0.6" {
		t.Errorf("addresses given: %v", got)
	}
	_, err := b.tryAdd(New{Site: sites[5], PublicKey: newKey()})
	wantCode(t, err, "PEER_001", "widen WG_NETWORK")
	b.tx(func(tx pgx.Tx) error { return b.Remove(t.Context(), tx, sites[0], "test") })
	_, err = b.tryAdd(New{Site: sites[5], PublicKey: newKey()})
	wantCode(t, err, "PEER_001", "none is given twice")

	wider := openBook(t, b.pool, "10.8.0.0/28")
	if p, err := wider.tryAdd(New{Site: sites[5], PublicKey: newKey()}); err != nil || !p.Address.IsValid() || p.Address.Less(netip.MustParseAddr("10.8.0.7")) {
		t.Errorf("with a wider network the site has %s, %v", p.Address, err)
	}
}

func TestSiteNetworksMustNotOverlap(t *testing.T) {
	b := newBook(t, "10.8.0.0/16")
	north, south := b.site("North"), b.site("South")
	b.add(north, newKey())
	b.add(south, newKey())
	set := func(site ident.SiteID, networks ...string) error {
		var list []netip.Prefix
		for _, n := range networks {
			list = append(list, netip.MustParsePrefix(n))
		}
		return b.try(func(tx pgx.Tx) error {
			_, err := b.Change(t.Context(), tx, site, Change{Networks: &list}, "test")
			return err
		})
	}
	if err := set(north, "192.168.7.0/24", "fd00:7::/64"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, set(south, "192.168.0.0/16"), "CONFLICT_001", `of site "North"`)
	wantCode(t, set(south, "192.168.7.128/25"), "CONFLICT_001", `of site "North"`)
	wantCode(t, set(south, "10.8.3.0/24"), "CONFLICT_001", "the tunnel's own")
	wantCode(t, set(south, "10.1.0.0/24", "10.1.0.128/25"), "VALID_001", "overlap")
	wantCode(t, set(south, "0.0.0.0/0"), "VALID_001", "too large")
	wantCode(t, set(south, "192.168.8.1/24"), "VALID_001", "192.168.8.0/24")
	wantCode(t, set(south, "127.0.0.0/8"), "VALID_001", "no host")
	if err := set(south, "192.168.8.0/24"); err != nil {
		t.Error(err)
	}
	p, err := b.Get(t.Context(), north)
	if err != nil || len(p.Networks) != 2 {
		t.Errorf("North has %v, %v", p.Networks, err)
	}
	if err := set(north, "192.168.7.0/25"); err != nil { // a part of what it had
		t.Error(err)
	}
	b.tx(func(tx pgx.Tx) error { return b.Remove(t.Context(), tx, north, "test") })
	if err := set(south, "192.168.0.0/16"); err != nil {
		t.Errorf("the networks of a removed peer are still taken: %v", err)
	}
}

// Of two sites that claim overlapping networks at the same moment one gets them.
func TestOverlappingNetworksRaced(t *testing.T) {
	b := newBook(t, "10.8.0.0/16")
	const n = 10
	errs := make([]error, n)
	var sites []ident.SiteID
	for i := range n {
		sites = append(sites, b.site(fmt.Sprintf("site %d", i)))
		b.add(sites[i], newKey())
	}
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() {
			list := []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("192.168.0.0/%d", 16+i%5))}
			errs[i] = b.try(func(tx pgx.Tx) error {
				_, err := b.Change(t.Context(), tx, sites[i], Change{Networks: &list}, "test")
				return err
			})
		})
	}
	wait.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
			continue
		}
		wantCode(t, err, "CONFLICT_001", "overlaps")
	}
	if won != 1 {
		t.Errorf("%d sites got the network", won)
	}
}

func TestAKeyIsRotatedWithoutAGap(t *testing.T) {
	b := newBook(t, "10.8.0.0/16")
	site, old, next := b.site("North"), newKey(), newKey()
	b.add(site, old)
	before, err := b.KeysOf(t.Context(), b.pool, site)
	if err != nil {
		t.Fatal(err)
	}
	b.tx(func(tx pgx.Tx) error { _, err := b.Rotate(t.Context(), tx, site, "test"); return err })
	if p, err := b.Get(t.Context(), site); err != nil || p.RotateWanted.IsZero() {
		t.Fatalf("the order is not there: %+v, %v", p, err)
	}
	for range 2 { // the answer was lost, the site asks again
		b.tx(func(tx pgx.Tx) error { _, err := b.StageKey(t.Context(), tx, site, next, "site"); return err })
	}
	staged, err := b.KeysOf(t.Context(), b.pool, site)
	if err != nil || staged.PSK != before.PSK || staged.NextPSK == (wg.Secret{}) || staged.NextPSK == before.PSK {
		t.Fatalf("while both keys count the secrets are wrong: %v", err)
	}
	err = b.try(func(tx pgx.Tx) error {
		_, err := b.StageKey(t.Context(), tx, site, b.add(b.site("South"), newKey()).PublicKey, "site")
		return err
	})
	wantCode(t, err, "CONFLICT_001", "another site")
	b.tx(func(tx pgx.Tx) error {
		done, err := b.promote(t.Context(), tx, site, next)
		if !done {
			t.Error("not promoted")
		}
		return err
	})
	b.tx(func(tx pgx.Tx) error {
		if done, err := b.promote(t.Context(), tx, site, next); done || err != nil {
			t.Errorf("promoted twice: %v", err)
		}
		return nil
	})
	p, err := b.Get(t.Context(), site)
	after, kerr := b.KeysOf(t.Context(), b.pool, site)
	if err != nil || kerr != nil || p.PublicKey != next || p.NextKey != (wg.Key{}) || !p.RotateWanted.IsZero() || after.PSK != staged.NextPSK {
		t.Errorf("after the change: %+v, %v, %v", p, err, kerr)
	}
}

func TestTheHubsKeyIsChangedBesideTheOld(t *testing.T) {
	b := newBook(t, "10.8.0.0/16")
	var wait sync.WaitGroup
	first := make([]Settings, 8)
	for i := range first { // several hub processes start on an empty database
		wait.Go(func() {
			var err error
			if first[i], err = b.Settings(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	s := first[0]
	for _, other := range first {
		if len(other.HubKeys) != 1 || other.HubKeys[0] != s.HubKeys[0] {
			t.Fatalf("hub processes disagree: %v and %v", other.HubKeys, s.HubKeys)
		}
	}
	if !s.Enabled || s.Endpoint != "hub.example.com:51820" || s.HubAddress.String() != "10.8.0.1" || s.GRPC != "10.8.0.1:5443" {
		t.Errorf("settings are %+v", s)
	}
	if _, err := b.EndHubRotation(t.Context(), "test"); err == nil {
		t.Error("the only key was retired")
	}
	next, err := b.BeginHubRotation(t.Context(), "test")
	if err != nil || next.Port != 51821 {
		t.Fatalf("the next key is %+v, %v", next, err)
	}
	if again, err := b.BeginHubRotation(t.Context(), "test"); err != nil || again.Public != next.Public {
		t.Errorf("a second order made another key: %v", err)
	}
	if s, err = b.Settings(t.Context()); err != nil || len(s.HubKeys) != 2 || s.HubKeys[0] != next.Public || s.Endpoint != "hub.example.com:51821" {
		t.Errorf("while it is changed settings are %+v, %v", s, err)
	}
	for _, k := range []HubKey{next} {
		if private, err := b.private(t.Context(), k); err != nil || private.Public() != next.Public {
			t.Errorf("its private half: %v", err)
		}
	}
	if _, err := b.EndHubRotation(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	if s, err = b.Settings(t.Context()); err != nil || len(s.HubKeys) != 1 || s.HubKeys[0] != next.Public || s.Endpoint != "hub.example.com:51821" {
		t.Errorf("after it settings are %+v, %v", s, err)
	}
	if third, err := b.BeginHubRotation(t.Context(), "test"); err != nil || third.Port != 51820 {
		t.Errorf("the change after that uses %+v, %v", third, err)
	}
}

func TestAnOlderSetUpsKeyIsAdopted(t *testing.T) {
	b := newBook(t, "10.8.0.0/16")
	private := wg.NewPrivate()
	if key, err := b.AdoptHubKey(t.Context(), private, "test"); err != nil || key != private.Public() {
		t.Fatalf("%v, %v", key, err)
	}
	if s, err := b.Settings(t.Context()); err != nil || s.HubKeys[0] != private.Public() {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := b.AdoptHubKey(t.Context(), private, "test"); err != nil {
		t.Errorf("the same again: %v", err)
	}
	_, err := b.AdoptHubKey(t.Context(), wg.NewPrivate(), "test")
	wantCode(t, err, "CONFLICT_001", "already")
}

func TestNetworksToTakeAddressesFrom(t *testing.T) {
	for text, ok := range map[string]bool{
		"10.8.0.0/16": true, "10.0.0.0/8": true, "10.8.0.0/30": true, "10.8.0.0/31": false, "10.0.0.0/7": false, "10.8.0.1/16": false,
		"127.0.0.0/8": false, "224.0.0.0/8": false, "fd00::/64": false,
	} {
		if err := CheckNetwork(netip.MustParsePrefix(text)); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, s := range texts {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}
