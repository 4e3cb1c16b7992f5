package wg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// driver is what a kind of device does its own way. Everything else about changes is the ledger's.
type driver interface {
	// configure sets at most a chunk of peers. It may have set some of them when it fails.
	configure(peers []change) error
	// remove removes at most a chunk of peers; those it does not have are no error.
	remove(keys []Key) error
}

// change is one peer as the device shall be told.
type change struct {
	Peer
	endpoint netip.AddrPort // invalid: leave as it is
	allowed  bool           // replace AllowedIPs; otherwise they are what the device has
}

// ledger is what a device is believed to have: enough to refuse bad peers before the device sees them, which itself takes
// some without a word. Every snapshot corrects it.
type ledger struct {
	mu      sync.Mutex // held while the device is changed or read
	own     Key
	peers   map[Key]entry
	table   *table
	resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	only    netip.Addr // receives here only: endpoints of the other family are out of reach; zero: both
}

type entry struct {
	allowed []netip.Prefix // masked
	asked   string
}

func newLedger(c Config) *ledger {
	return &ledger{own: c.Private.Public(), peers: map[Key]entry{}, table: newTable(), resolve: c.Resolve, only: c.Listen}
}

// observe takes over what the device says, and completes it with what it was asked for.
func (l *ledger) observe(d *Device) {
	before := l.peers
	l.peers, l.table = make(map[Key]entry, len(d.Peers)), newTable()
	for i := range d.Peers {
		p := &d.Peers[i]
		p.Asked = before[p.PublicKey].asked
		l.peers[p.PublicKey] = entry{allowed: p.AllowedIPs, asked: p.Asked}
		for _, a := range p.AllowedIPs {
			l.table.add(a, p.PublicKey)
		}
	}
}

func (l *ledger) apply(ctx context.Context, c Changes, d driver) error {
	names := l.lookUp(ctx, c.Upsert)
	l.mu.Lock()
	defer l.mu.Unlock()
	upsert := make(map[Key]bool, len(c.Upsert))
	claimed := newTable()
	for _, p := range c.Upsert {
		upsert[p.PublicKey] = true
		for _, a := range p.AllowedIPs {
			if a.IsValid() {
				claimed.add(a.Masked(), p.PublicKey)
			}
		}
	}
	var first, last []Key
	for _, key := range c.Remove {
		if upsert[key] || l.claims(claimed, key) {
			first = append(first, key)
		} else {
			last = append(last, key)
		}
	}
	if err := l.removeAll(ctx, first, d); err != nil {
		return err
	}
	changes, errs := l.plan(c.Upsert, names)
	for len(changes) > 0 {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		n := min(chunk, len(changes))
		found, err := l.bisect(changes[:n], d)
		errs = append(errs, found...)
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		changes = changes[n:]
	}
	if err := l.removeAll(ctx, last, d); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (l *ledger) claims(claimed *table, key Key) bool {
	for _, a := range l.peers[key].allowed {
		if _, hit := claimed.overlap(a); hit {
			return true
		}
	}
	return false
}

func (l *ledger) removeAll(ctx context.Context, keys []Key, d driver) error {
	for len(keys) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(chunk, len(keys))
		if err := d.remove(keys[:n]); err != nil {
			return fmt.Errorf("remove %d peers: %w", n, err)
		}
		for _, key := range keys[:n] {
			l.drop(key)
		}
		keys = keys[n:]
	}
	return nil
}

func (l *ledger) drop(key Key) {
	for _, a := range l.peers[key].allowed {
		l.table.remove(a, key)
	}
	l.table.forget(key)
	delete(l.peers, key)
}

// plan checks peers against each other and against those that stay.
func (l *ledger) plan(peers []Peer, names map[string]answer) (changes []change, errs []error) {
	refuse := func(p Peer, err error) { errs = append(errs, &PeerError{p.PublicKey, err}) }
	seen := make(map[Key]bool, len(peers))
	room := MaxPeers - len(l.peers) // those that leave last still take room
	var sound []change
	for _, p := range peers {
		_, known := l.peers[p.PublicKey]
		ch := change{Peer: p}
		switch endpoint, err := l.endpoint(p, names); {
		case p.PublicKey.IsZero():
			refuse(p, ErrNoKey)
		case p.PublicKey == l.own:
			refuse(p, ErrOwnKey)
		case seen[p.PublicKey]:
			refuse(p, ErrTwice)
		case err != nil:
			refuse(p, err)
		case p.Keepalive < 0 || p.Keepalive > 65_535*time.Second || p.Keepalive%time.Second != 0:
			refuse(p, fmt.Errorf("%w: %s", ErrKeepalive, p.Keepalive))
		case !known && room <= 0:
			refuse(p, ErrTooMany)
		default:
			if !known {
				room--
			}
			ch.endpoint = endpoint
			sound = append(sound, ch)
		}
		seen[p.PublicKey] = true
	}
	// Addresses may change hands among these peers: none keeps what it had.
	for _, ch := range sound {
		for _, a := range l.peers[ch.PublicKey].allowed {
			l.table.remove(a, ch.PublicKey)
		}
	}
	for _, ch := range sound {
		before, known := l.peers[ch.PublicKey]
		allowed, err := l.take(ch.Peer)
		if err != nil {
			refuse(ch.Peer, err)
			for _, a := range before.allowed { // it keeps what nobody got
				if _, hit := l.table.overlap(a); !hit {
					l.table.add(a, ch.PublicKey)
				}
			}
			continue
		}
		ch.AllowedIPs = allowed
		ch.allowed = !known || !samePrefixes(before.allowed, allowed)
		changes = append(changes, ch)
	}
	return changes, errs
}

// take gives a peer its addresses, all or none.
func (l *ledger) take(p Peer) ([]netip.Prefix, error) {
	for _, a := range p.AllowedIPs {
		if !a.IsValid() || a.Addr().Is4In6() {
			return nil, fmt.Errorf("allowed address %s is none", a)
		}
	}
	allowed := normal(p.AllowedIPs)
	for _, a := range allowed {
		if other, hit := l.table.overlap(a); hit && other != p.PublicKey {
			return nil, fmt.Errorf("%w: %s, which %s has", ErrOverlap, a, other)
		}
	}
	for _, a := range allowed {
		l.table.add(a, p.PublicKey)
	}
	return allowed, nil
}

// bisect configures peers, and where that fails halves until it is one peer's fault. A device that is gone is nobody's: that
// error comes apart.
func (l *ledger) bisect(changes []change, d driver) (errs []error, gone error) {
	err := d.configure(changes)
	switch {
	case err == nil:
		for _, ch := range changes {
			l.peers[ch.PublicKey] = entry{allowed: ch.AllowedIPs, asked: l.asked(ch)}
		}
		return nil, nil
	case errors.Is(err, net.ErrClosed) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ECONNREFUSED):
		return nil, err
	case len(changes) > 1:
		half := len(changes) / 2
		errs, gone = l.bisect(changes[:half], d)
		if gone != nil {
			return errs, gone
		}
		more, gone := l.bisect(changes[half:], d)
		return append(errs, more...), gone
	}
	ch := changes[0]
	errs = []error{&PeerError{ch.PublicKey, err}}
	for _, a := range ch.AllowedIPs {
		l.table.remove(a, ch.PublicKey)
	}
	if before, known := l.peers[ch.PublicKey]; known {
		for _, a := range before.allowed {
			if _, hit := l.table.overlap(a); !hit {
				l.table.add(a, ch.PublicKey)
			}
		}
		return errs, nil
	}
	l.table.forget(ch.PublicKey)
	// Part of it may be there: a key without addresses, or with them and without a preshared key.
	if err := d.remove([]Key{ch.PublicKey}); err != nil {
		return errs, fmt.Errorf("remove half-made peer %s: %w", ch.PublicKey, err)
	}
	return errs, nil
}

func (l *ledger) asked(ch change) string {
	if ch.Endpoint == "" {
		return l.peers[ch.PublicKey].asked
	}
	return ch.Endpoint
}

type answer struct {
	addrs []netip.Addr
	err   error
}

const (
	lookUps       = 16              // names looked up at once
	lookUpTimeout = 5 * time.Second // each
)

// lookUp resolves the names among the endpoints, before any lock is taken: a dead resolver delays only who asks it.
func (l *ledger) lookUp(ctx context.Context, peers []Peer) map[string]answer {
	names := map[string]answer{}
	for _, p := range peers {
		host, _, err := net.SplitHostPort(p.Endpoint)
		if err != nil || host == "" {
			continue
		}
		if _, err := netip.ParseAddr(host); err != nil {
			names[host] = answer{}
		}
	}
	if len(names) == 0 {
		return nil
	}
	var mu sync.Mutex
	var wait sync.WaitGroup
	slots := make(chan struct{}, lookUps)
	hosts := make([]string, 0, len(names))
	for host := range names {
		hosts = append(hosts, host)
	}
	for _, host := range hosts {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, lookUpTimeout)
			defer cancel()
			addrs, err := l.resolve(ctx, host)
			mu.Lock()
			defer mu.Unlock()
			names[host] = answer{addrs, err}
		})
	}
	wait.Wait()
	return names
}

// endpoint returns where to send; nothing if the device was told this address already, since it may have learnt better, or
// if a name it was told has none now.
func (l *ledger) endpoint(p Peer, names map[string]answer) (netip.AddrPort, error) {
	if p.Endpoint == "" {
		return netip.AddrPort{}, nil
	}
	told := p.Endpoint == l.peers[p.PublicKey].asked
	host, port, err := net.SplitHostPort(p.Endpoint)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%w: %q", ErrEndpoint, p.Endpoint)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return netip.AddrPort{}, fmt.Errorf("%w: %q has no port between 1 and 65535", ErrEndpoint, p.Endpoint)
	}
	addrs := []netip.Addr{}
	if literal, err := netip.ParseAddr(host); err == nil {
		addrs = append(addrs, literal)
		if told {
			return netip.AddrPort{}, nil
		}
	} else if a := names[host]; a.err != nil && told {
		return netip.AddrPort{}, nil
	} else if a.err != nil {
		return netip.AddrPort{}, fmt.Errorf("%w: %w", ErrEndpoint, a.err)
	} else {
		addrs = a.addrs
	}
	for _, a := range addrs {
		if a = a.Unmap(); l.reaches(a) {
			return netip.AddrPortFrom(a, uint16(number)), nil
		}
	}
	return netip.AddrPort{}, fmt.Errorf("%w: %q has no address that this device sends to", ErrEndpoint, p.Endpoint)
}

func (l *ledger) reaches(a netip.Addr) bool {
	if a.IsUnspecified() || a.IsMulticast() {
		return false
	}
	return !l.only.IsValid() || l.only.IsUnspecified() || l.only.Is4() == a.Is4()
}

// outside returns the allowed addresses that lie in none of these networks: they need a route. Not everything (a /0): that
// would take the machine's way to the peer itself.
func (l *ledger) outside(networks []netip.Prefix) map[netip.Prefix]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[netip.Prefix]bool{}
	for _, e := range l.peers {
	next:
		for _, a := range e.allowed {
			if a.Bits() == 0 {
				continue
			}
			for _, n := range networks {
				if n.Bits() <= a.Bits() && n.Contains(a.Addr()) {
					continue next
				}
			}
			out[a] = true
		}
	}
	return out
}
