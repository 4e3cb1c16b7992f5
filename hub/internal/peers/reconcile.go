package peers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/wg"
)

const (
	// What follows is read after this: rows of transactions that end in between come again next time, and none is missed.
	qHorizon = `SELECT pg_snapshot_xmin(pg_current_snapshot())::text`
	qNews    = `SELECT EXISTS (SELECT FROM peer WHERE version >= $1::text::xid8)`
	qChanged = peerColumns + `WHERE p.version >= $1::text::xid8 ORDER BY p.site_id LIMIT 70000`
	qAll     = peerColumns + `WHERE p.removed_at IS NULL ORDER BY p.site_id LIMIT 70000`

	qObserve = `
INSERT INTO peer_observed (site_id, endpoint, handshake_at, received, sent, seen_at)
SELECT u.*, $6 FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::bigint[], $5::bigint[]) u (site_id, endpoint, handshake_at, received, sent)
ON CONFLICT (site_id) DO UPDATE SET endpoint = CASE WHEN excluded.endpoint = '' THEN peer_observed.endpoint ELSE excluded.endpoint END,
	handshake_at = greatest(peer_observed.handshake_at, excluded.handshake_at),
	received = peer_observed.received + excluded.received, sent = peer_observed.sent + excluded.sent, seen_at = excluded.seen_at`
)

// observeChunk is how many rows one statement writes.
const observeChunk = 2000

// wanted is what the device shall know of a row.
func wanted(r *record, k Keys) []wg.Peer {
	if !r.RemovedAt.IsZero() || !r.QuarantinedAt.IsZero() {
		return nil
	}
	p := wg.Peer{
		PublicKey: r.PublicKey, PSK: k.PSK, Endpoint: r.Endpoint,
		AllowedIPs: append([]netip.Prefix{netip.PrefixFrom(r.Address, r.Address.BitLen())}, r.Networks...),
	}
	if r.Endpoint != "" { // sites keep their NATs awake themselves; one with a fixed address may wait to be called
		p.Keepalive = r.Keepalive
	}
	out := []wg.Peer{p}
	if r.NextKey != (wg.Key{}) { // may shake hands, and gets the addresses when it has
		out = append(out, wg.Peer{PublicKey: r.NextKey, PSK: k.NextPSK})
	}
	return out
}

// become opens a row's secrets, unless nothing in it has changed since it was last read. What has not changed stays the same *applied.
func (m *Manager) become(r record) (*applied, error) {
	if old := m.applied[r.Site]; old != nil && old.Generation == r.Generation && old.QuarantinedAt.Equal(r.QuarantinedAt) && equalSealed(&old.record, &r) {
		return old, nil
	}
	a := &applied{record: r, noted: r.Observed}
	if old := m.applied[r.Site]; old != nil {
		a.noted = old.noted
	}
	var err error
	if a.keys, err = m.s.open(&r); err != nil {
		return nil, err
	}
	a.peers = wanted(&a.record, a.keys)
	return a, nil
}

// news reports whether rows have changed since the last pass.
func (m *Manager) news(ctx context.Context) (yes bool, err error) {
	if m.horizon == "" {
		return true, nil
	}
	return yes, m.s.c.DB.QueryRow(ctx, qNews, m.horizon).Scan(&yes)
}

// pass makes the devices agree with the rows: with those that have changed, or, when whole, with all, whatever the devices say. counted passes are
// those that other processes may wait for. again says that something is left for a pass that is to come, and that whoever waits waits for that.
func (m *Manager) pass(ctx context.Context, whole, counted bool) (again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, passDeadline)
	defer cancel()
	begun := time.Now()
	defer func() { m.metrics.passed(whole, time.Since(begun), err) }()
	var number int64
	if counted {
		if err := m.s.c.DB.QueryRow(ctx, qPassBegins, m.self).Scan(&number); err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return false, fmt.Errorf("numbering a pass: %w", err)
		}
	}
	if err := m.openDevices(ctx); err != nil {
		return false, err
	}
	var horizon string
	if err := m.s.c.DB.QueryRow(ctx, qHorizon).Scan(&horizon); err != nil {
		return false, fmt.Errorf("reading peers: %w", err)
	}
	doubt := m.doubt.Swap(false)
	whole = whole || doubt || m.horizon == ""
	for _, d := range m.devices {
		whole = whole || d.fresh
	}
	if whole {
		again, err = m.passWhole(ctx)
	} else {
		again, err = m.passChanged(ctx)
	}
	if err != nil {
		m.horizon = "" // the next one starts from nothing
		return false, err
	}
	if again {
		return true, nil // the horizon stays, and with it what was left
	}
	m.horizon = horizon
	if counted {
		if _, err := m.s.c.DB.Exec(ctx, qPassEnds, m.self, number); err != nil {
			return false, fmt.Errorf("numbering a pass: %w", err)
		}
	}
	return false, nil
}

// leaves reports whether a removed peer is still to stay for a moment, which begins when this process first hears of it: clocks of processes differ.
func (m *Manager) leaves(r *record) bool {
	if r.RemovedAt.IsZero() || m.applied[r.Site] == nil {
		return false
	}
	until, known := m.leaving[r.Site]
	if !known {
		until = time.Now().Add(LastWords)
		m.leaving[r.Site] = until
		m.background.Go(func() {
			sleep(m.life, LastWords)
			m.nudge()
		})
	}
	return time.Now().Before(until)
}

// passChanged applies what has changed. Peers that have just been removed stay for a moment; again says that there are some.
func (m *Manager) passChanged(ctx context.Context) (again bool, err error) {
	rows, err := records(ctx, m.s.c.DB, qChanged, m.horizon)
	if err != nil {
		return false, err
	}
	var c wg.Changes
	for _, r := range rows {
		if m.leaves(&r) {
			again = true
			continue
		}
		old := m.applied[r.Site]
		a, err := m.become(r)
		if err != nil {
			m.bad(ctx, r.Peer, err)
			continue
		}
		if a == old {
			continue
		}
		keep := map[wg.Key]bool{}
		for _, p := range a.peers {
			keep[p.PublicKey] = true
		}
		c.Upsert = append(c.Upsert, a.peers...)
		if old != nil {
			for _, p := range old.peers {
				if !keep[p.PublicKey] {
					c.Remove = append(c.Remove, p.PublicKey)
				}
			}
		}
		m.take(a)
	}
	if c.Empty() {
		return again, nil
	}
	var errs []error
	for _, d := range m.devices {
		errs = append(errs, m.apply(ctx, d, c))
	}
	return again, errors.Join(errs...)
}

// take notes what a row has become.
func (m *Manager) take(a *applied) {
	if !a.RemovedAt.IsZero() {
		m.forget(a.Site)
		return
	}
	if old := m.applied[a.Site]; a.NextKey == (wg.Key{}) {
		delete(m.staged, a.Site)
	} else if old == nil || old.NextKey != a.NextKey {
		m.staged[a.Site] = time.Now()
	}
	m.applied[a.Site] = a
	delete(m.leaving, a.Site)
	keys := make([]wg.Key, len(a.peers))
	for i, p := range a.peers {
		keys[i] = p.PublicKey
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys[a.Site] = keys
}

// forget drops a site that has no peer any more.
func (m *Manager) forget(site ident.SiteID) {
	delete(m.applied, site)
	delete(m.staged, site)
	delete(m.leaving, site)
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.keys, site)
}

// passWhole compares all rows with what each device says, and notes what the devices have seen; again is as of passChanged.
func (m *Manager) passWhole(ctx context.Context) (again bool, err error) {
	rows, err := records(ctx, m.s.c.DB, qAll)
	if err != nil {
		return false, err
	}
	desired := make([]wg.Peer, 0, len(rows)+16)
	seen := make(map[ident.SiteID]bool, len(rows))
	for _, r := range rows {
		seen[r.Site] = true
		a, err := m.become(r)
		if err != nil {
			m.bad(ctx, r.Peer, err)
			continue
		}
		m.take(a)
		desired = append(desired, a.peers...)
	}
	for site, a := range m.applied {
		switch {
		case seen[site]:
		case time.Now().Before(m.leaving[site]):
			again = true
			desired = append(desired, a.peers...)
		default:
			m.forget(site)
		}
	}
	var errs []error
	states := make([]wg.Device, len(m.devices))
	for i, d := range m.devices {
		now, err := d.tunnel.Snapshot(ctx)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if now.PublicKey != d.key.Public {
			errs = append(errs, fmt.Errorf("the device on UDP port %d has the key %s, not the hub's: it is somebody else's, and nothing on it is changed: choose another WG_INTERFACE, or remove that one", now.Port, now.PublicKey))
			continue
		}
		states[i] = now
		if d.fresh { // an interface that was there before has counted already
			for _, p := range now.Peers {
				d.counters[p.PublicKey] = counters{p.Received, p.Sent}
			}
		}
		if c := wg.Diff(desired, now); !c.Empty() {
			if err := m.apply(ctx, d, c); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		d.fresh = false
	}
	if err := errors.Join(errs...); err != nil {
		return false, err
	}
	if err := m.promoteSeen(ctx, states); err != nil {
		return false, err
	}
	m.resolveSilent(states)
	return again, m.observe(ctx, states)
}

// maxResolved is how many names of silent sites are looked up after one pass.
const maxResolved = 16

// resolveSilent looks names of endpoints up again whose sites have been silent for longer than a session lasts: a device resolves a name once. It does
// so beside the loop, one round at a time: a resolver may be slow.
func (m *Manager) resolveSilent(states []wg.Device) {
	named := map[wg.Key]string{}
	for _, a := range m.applied {
		if a.Endpoint != "" && len(a.peers) > 0 {
			if _, err := netip.ParseAddrPort(a.Endpoint); err != nil {
				named[a.PublicKey] = a.Endpoint
			}
		}
	}
	if len(named) == 0 || !m.resolving.TryLock() {
		return
	}
	var silent []wg.Resolver
	for i := range states {
		for j := range states[i].Peers {
			p := &states[i].Peers[j]
			endpoint, ok := named[p.PublicKey]
			if ok && p.Asked == endpoint && time.Since(p.LastHandshake) > wg.StaleAfter {
				silent = append(silent, wg.Resolver{Tunnel: m.devices[i].tunnel, Peer: p.PublicKey, Endpoint: endpoint, Log: m.log})
			}
		}
	}
	rand.Shuffle(len(silent), func(i, j int) { silent[i], silent[j] = silent[j], silent[i] }) //nolint:gosec // each has its turn
	m.background.Go(func() {
		defer m.resolving.Unlock()
		ctx, cancel := context.WithTimeout(m.life, passDeadline)
		defer cancel()
		for i := range silent[:min(len(silent), maxResolved)] {
			if _, err := silent[i].Step(ctx); err != nil && ctx.Err() == nil {
				m.metrics.unresolved.Inc()
			}
		}
	})
}

// apply changes a device. A peer that it refuses is set aside with its reason; when it refuses many at once, it is the device that is at fault.
func (m *Manager) apply(ctx context.Context, d *device, c wg.Changes) error {
	refused, rest := wg.PeerErrors(d.tunnel.Apply(ctx, c))
	m.metrics.changed(len(c.Upsert)-len(refused), len(c.Remove))
	if rest != nil {
		return fmt.Errorf("changing the device on UDP port %d: %w", d.key.Port, rest)
	}
	if len(refused) == 0 {
		return nil
	}
	if len(refused) > 10 && len(refused) > len(m.applied)/10 {
		return fmt.Errorf("the device on UDP port %d refuses %d peers of %d, the first because %w", d.key.Port, len(refused), len(c.Upsert), refused[0])
	}
	byKey := map[wg.Key]*applied{}
	for _, a := range m.applied {
		byKey[a.PublicKey] = a
		if a.NextKey != (wg.Key{}) {
			byKey[a.NextKey] = a
		}
	}
	var again []wg.Peer
	for _, e := range refused {
		a := byKey[e.Key]
		if a == nil {
			continue
		}
		if errors.Is(e.Err, wg.ErrEndpoint) && a.PublicKey == e.Key {
			// A name that cannot be resolved now is no reason to keep a site out: it may call. The next full pass asks for the name again.
			m.metrics.unresolved.Inc()
			m.log.WarnContext(ctx, "tunnel: a site's endpoint cannot be resolved; the site can still call", "site", a.Site, "endpoint", a.Endpoint, "err", e.Err)
			p := a.peers[0]
			p.Endpoint = ""
			again = append(again, p)
			continue
		}
		m.bad(ctx, a.Peer, e.Err)
		a.peers = nil
		a.Generation = -1 // read again
	}
	if len(again) == 0 {
		return nil
	}
	refused, rest = wg.PeerErrors(d.tunnel.Apply(ctx, wg.Changes{Upsert: again}))
	for _, e := range refused {
		if a := byKey[e.Key]; a != nil {
			m.bad(ctx, a.Peer, e.Err)
		}
	}
	return rest
}

// bad quarantines a peer.
func (m *Manager) bad(ctx context.Context, p Peer, reason error) {
	var done bool
	err := pg.InTx(ctx, m.s.c.DB, func(tx pgx.Tx) (err error) {
		done, err = m.s.quarantine(ctx, tx, p, reason.Error())
		return err
	})
	if err != nil {
		m.log.ErrorContext(ctx, "tunnel: a bad peer could not be quarantined", "site", p.Site, "reason", reason, "err", err)
		return
	}
	if done {
		m.metrics.quarantined.Inc()
		m.log.ErrorContext(ctx, "tunnel: peer quarantined: its site has no tunnel until the peer is changed", "site", p.Site, "reason", reason)
	}
}

// watchStaged looks whether sites have taken their next keys into use, and returns when to look again.
func (m *Manager) watchStaged(ctx context.Context) time.Duration {
	recent := false
	for _, since := range m.staged {
		recent = recent || time.Since(since) < stagedWatch
	}
	if !recent {
		return stagedEvery
	}
	begun := time.Now()
	states := make([]wg.Device, 0, len(m.devices))
	for _, d := range m.devices {
		now, err := d.tunnel.Snapshot(ctx)
		if err != nil {
			continue // the full pass reports it
		}
		states = append(states, now)
	}
	if err := m.promoteSeen(ctx, states); err != nil && ctx.Err() == nil {
		m.log.WarnContext(ctx, "tunnel: changing over to a site's next key failed, it is tried again", "err", err)
	}
	return max(stagedEvery, 10*time.Since(begun)) // with very many peers a look is dear
}

// promoteSeen makes next keys with which hands were shaken their sites' only ones.
func (m *Manager) promoteSeen(ctx context.Context, states []wg.Device) error {
	if len(m.staged) == 0 {
		return nil
	}
	shaken := map[wg.Key]bool{}
	for _, d := range states {
		for i := range d.Peers {
			if !d.Peers[i].LastHandshake.IsZero() {
				shaken[d.Peers[i].PublicKey] = true
			}
		}
	}
	for site := range m.staged {
		a := m.applied[site]
		if a == nil || !shaken[a.NextKey] {
			continue
		}
		next := a.NextKey
		var done bool
		if err := pg.InTx(ctx, m.s.c.DB, func(tx pgx.Tx) (err error) {
			done, err = m.s.promote(ctx, tx, site, next)
			return err
		}); err != nil {
			return err
		}
		r, known, err := m.s.one(ctx, m.s.c.DB, site)
		if err != nil || !known {
			return err
		}
		old := a.peers
		if a, err = m.become(r); err != nil {
			return err
		}
		m.take(a)
		c := wg.Changes{Upsert: a.peers}
		for _, p := range old {
			if p.PublicKey != a.PublicKey {
				c.Remove = append(c.Remove, p.PublicKey)
			}
		}
		for _, d := range m.devices {
			if err := m.apply(ctx, d, c); err != nil {
				return err
			}
		}
		if done {
			m.metrics.rotated.Inc()
			m.log.InfoContext(ctx, "tunnel: a site uses its new key", "site", site, "key", next)
		}
	}
	return nil
}

// observe writes what the devices have seen since the last time.
func (m *Manager) observe(ctx context.Context, states []wg.Device) error {
	type sight struct {
		endpoint       string
		handshake      time.Time
		received, sent uint64
	}
	sights := make(map[wg.Key]sight, len(m.applied))
	for i, now := range states {
		counted := make(map[wg.Key]counters, len(now.Peers))
		for j := range now.Peers {
			p := &now.Peers[j]
			was := m.devices[i].counters[p.PublicKey]
			if p.Received < was.received || p.Sent < was.sent {
				was = counters{} // the peer was taken off and came back
			}
			x := sights[p.PublicKey]
			x.received += p.Received - was.received
			x.sent += p.Sent - was.sent
			if p.LastHandshake.After(x.handshake) { // of two devices the one that it used last
				x.handshake, x.endpoint = p.LastHandshake, p.Endpoint
			}
			sights[p.PublicKey] = x
			counted[p.PublicKey] = counters{p.Received, p.Sent}
		}
		m.devices[i].counters = counted
	}
	var sites []ident.SiteID
	var endpoints []string
	var handshakes []*time.Time
	var received, sent []int64
	at := m.s.c.Now().UTC()
	m.metrics.clear(m.s.c.Now)
	for _, a := range m.applied {
		m.metrics.count(a, sights[a.PublicKey].handshake)
		x, ok := sights[a.PublicKey]
		if !ok || x.handshake.IsZero() || x.received == 0 && x.sent == 0 && !x.handshake.After(a.noted.Handshake) && x.endpoint == a.noted.Endpoint {
			continue
		}
		m.metrics.traffic(x.received, x.sent)
		if a.noted.Endpoint != "" && host(a.noted.Endpoint) != host(x.endpoint) {
			m.metrics.roamed.Inc()
		}
		a.noted.Endpoint, a.noted.Handshake = x.endpoint, x.handshake
		sites, endpoints, handshakes = append(sites, a.Site), append(endpoints, x.endpoint), append(handshakes, &x.handshake)
		received, sent = append(received, int64(x.received)), append(sent, int64(x.sent))
	}
	for begin := 0; begin < len(sites); begin += observeChunk {
		end := min(begin+observeChunk, len(sites))
		ids := make([][16]byte, 0, end-begin)
		for _, s := range sites[begin:end] {
			ids = append(ids, s)
		}
		if _, err := m.s.c.DB.Exec(ctx, qObserve, ids, endpoints[begin:end], handshakes[begin:end], received[begin:end], sent[begin:end], at); err != nil {
			return fmt.Errorf("storing what the tunnel has seen: %w", err)
		}
	}
	return nil
}

// warmth is how long ago a site may have been heard for the hub to call it after a start; kickEvery spreads the calls.
const (
	warmth    = 10 * time.Minute
	kickEvery = 2 * time.Millisecond
)

// call is a site to be called.
type call struct {
	key wg.Key
	to  netip.AddrPort
}

// calls lists the sites that were there before this process had the device, and where. Their ends hold sessions that the new device knows nothing of,
// and would find out only after 15 s.
func (m *Manager) calls() []call {
	var calls []call
	now := m.s.c.Now()
	for _, a := range m.applied {
		to, err := netip.ParseAddrPort(a.Observed.Endpoint)
		if err == nil && len(a.peers) > 0 && a.Endpoint == "" && now.Sub(a.Observed.Handshake) < warmth {
			calls = append(calls, call{a.PublicKey, to})
		}
	}
	return calls
}

// call starts a handshake with each of the sites.
func (m *Manager) call(ctx context.Context, calls []call) {
	m.mu.Lock()
	devices := m.devices
	m.mu.Unlock()
	for _, c := range calls {
		for _, d := range devices {
			if err := d.tunnel.SetEndpoint(ctx, c.key, c.to); err == nil { // else it has been closed, or the peer removed
				_ = d.tunnel.Kick(ctx, c.key) // the site will find out by itself
			}
		}
		sleep(ctx, kickEvery)
		if ctx.Err() != nil {
			return
		}
	}
}

func host(endpoint string) string {
	i := strings.LastIndexByte(endpoint, ':')
	return endpoint[:max(i, 0)]
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return truncate(name, 200)
}

func truncate(s string, n int) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "")
	}
	return s
}
