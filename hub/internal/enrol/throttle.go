package enrol

import (
	"net/netip"
	"sync"
	"time"
)

// Refused attempts an address may make: a burst, then one more per interval. A call that succeeds costs nothing, so that many
// sites behind one address can join at once.
const (
	throttleBurst    = 20
	throttleInterval = 6 * time.Second
	throttleEntries  = 10_000 // addresses remembered; when there are more, all are forgotten: an attacker with so many addresses needs no burst
)

// throttle counts refused attempts per address. IPv6 addresses count per /64, which is what one line is given.
type throttle struct {
	mu      sync.Mutex
	entries map[netip.Prefix]level
}

type level struct {
	failed float64 // attempts, one leaking away per interval
	at     time.Time
}

func (l level) now(now time.Time) float64 {
	passed := max(0, now.Sub(l.at))
	return max(0, l.failed-float64(passed)/float64(throttleInterval))
}

func networkOf(a netip.Addr) netip.Prefix {
	a = a.Unmap()
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // of no address: all those share one
	}
	return p
}

// wait returns how long the address must wait before its next attempt; 0: none.
func (t *throttle) wait(a netip.Addr, now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	over := t.entries[networkOf(a)].now(now) - (throttleBurst - 1)
	return time.Duration(max(0, over) * float64(throttleInterval))
}

// fail counts a refused attempt.
func (t *throttle) fail(a netip.Addr, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := networkOf(a)
	l, known := t.entries[k]
	if !known && len(t.entries) >= throttleEntries {
		clear(t.entries)
	}
	t.entries[k] = level{l.now(now) + 1, now}
}
