package access

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// Wrong keys an address may show: a burst, then one more per interval. A right key costs nothing.
const (
	throttleBurst    = 10
	throttleInterval = 6 * time.Second
	throttleEntries  = 10_000 // addresses remembered; the least recently seen is forgotten first
)

// throttle counts wrong keys per address in token buckets. IPv6 addresses count per /64, which is
// what one customer line is given.
type throttle struct {
	mu      sync.Mutex
	entries map[netip.Prefix]*list.Element
	recent  *list.List // of *bucket, the most recently seen in front
}

type bucket struct {
	key    netip.Prefix
	failed float64 // tokens used, leaking at one per throttleInterval
	at     time.Time
}

func newThrottle() *throttle {
	return &throttle{entries: make(map[netip.Prefix]*list.Element), recent: list.New()}
}

// wait returns how long the address must wait before its next try; 0 means it may try now.
func (t *throttle) wait(addr netip.Addr, now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.entries[network(addr)]
	if !ok {
		return 0
	}
	b := e.Value.(*bucket)
	over := b.level(now) - (throttleBurst - 1)
	if over <= 0 {
		return 0
	}
	return time.Duration(over * float64(throttleInterval))
}

// fail counts one wrong key.
func (t *throttle) fail(addr netip.Addr, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := network(addr)
	e, ok := t.entries[key]
	if !ok {
		for len(t.entries) >= throttleEntries {
			oldest := t.recent.Back()
			delete(t.entries, oldest.Value.(*bucket).key)
			t.recent.Remove(oldest)
		}
		e = t.recent.PushFront(&bucket{key: key, at: now})
		t.entries[key] = e
	}
	t.recent.MoveToFront(e)
	b := e.Value.(*bucket)
	b.failed, b.at = min(b.level(now)+1, throttleBurst), now
}

func (b *bucket) level(now time.Time) float64 {
	return max(0, b.failed-float64(now.Sub(b.at))/float64(throttleInterval))
}

func network(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.Prefix(bits) // an invalid address gives the zero prefix: one bucket for all of them
	return p
}
