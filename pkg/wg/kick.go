package wg

import (
	"fmt"
	"sync"
	"time"
)

// A kick without a handshake is repeated after kickAgain, then after four times as long; kickTries in all. The other side drops
// a handshake that comes within 20 ms of the one before or whose timestamp, in steps of 16.8 ms, is not newer: so it does to a
// kick right after another, or after a handshake that the device began by itself. Without repetitions the device would wait
// for 5 s.
//
// A repetition makes the answer to the one before worthless, and one that coincides with that answer can leave the two sides
// with different keys until the protocol notices after 15 s: wireguard-go takes an answer in two steps. So repetitions are
// few, and come later than an answer does on any line: with 200 ms, seven of these tests at once on two cores met that every other
// time, and nothing went through the tunnel for 6 to 17 s.
const (
	kickAgain = 600 * time.Millisecond
	kickTries = 3

	// When more than this many are pending, a restarted hub calls all of its sites: their answers come late for being many, and
	// repetitions would make them worthless. Devices repeat by themselves after 5 s.
	kickMany = 32
)

// kicker kicks peers, and looks at once at all whose repetition is due: with many peers a look is not cheap.
type kicker struct {
	attempt func(Key) error // begins a handshake, and makes answers to the one before worthless
	read    func() (Device, error)

	mu      sync.Mutex
	pending map[Key]kicked // of peers the device has
	timer   *time.Timer    // nil: nothing pending
	closed  bool
	wait    sync.WaitGroup
}

type kicked struct {
	began time.Time
	due   time.Time
	pause time.Duration // before due
	tries int
}

func newKicker(attempt func(Key) error, read func() (Device, error)) *kicker {
	return &kicker{attempt: attempt, read: read, pending: map[Key]kicked{}}
}

func (k *kicker) kick(key Key) error {
	began := time.Now()
	if err := k.attempt(key); err != nil {
		return fmt.Errorf("kick %s: %w", key, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.closed {
		k.pending[key] = kicked{began: began, due: began.Add(kickAgain), pause: kickAgain, tries: 1}
		if k.timer != nil && k.timer.Stop() { // it may be for a later one
			k.timer = nil
			k.wait.Done()
		}
		k.next()
	}
	return nil
}

// arm is called with mu held.
func (k *kicker) arm(in time.Duration) {
	if k.timer == nil {
		k.wait.Add(1)
		k.timer = time.AfterFunc(in, k.look)
	}
}

func (k *kicker) look() {
	defer k.wait.Done()
	k.mu.Lock()
	now := time.Now()
	due := map[Key]kicked{}
	for key, p := range k.pending {
		if !p.due.After(now) {
			due[key] = p
			delete(k.pending, key)
		}
	}
	k.timer = nil
	closed, many := k.closed, len(due)+len(k.pending) > kickMany
	if many && !closed {
		k.next()
	}
	k.mu.Unlock()
	if closed || many {
		return
	}
	d, err := k.read()
	if err != nil {
		return // closed; there is nothing to repeat
	}
	for i := range d.Peers {
		key := d.Peers[i].PublicKey
		if p, ok := due[key]; ok && !d.Peers[i].LastHandshake.After(p.began) && k.attempt(key) == nil {
			k.again(key, p)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.next()
}

// again keeps a peer for another look, unless it was tried often enough or has been kicked anew meanwhile.
func (k *kicker) again(key Key, p kicked) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if p.tries++; p.tries >= kickTries {
		return
	}
	if _, anew := k.pending[key]; !anew {
		p.pause *= 4
		p.due = time.Now().Add(p.pause)
		k.pending[key] = p
	}
}

// next is called with mu held: it arms the timer for what is due first.
func (k *kicker) next() {
	if len(k.pending) == 0 || k.closed {
		return
	}
	first := time.Now().Add(time.Hour)
	for _, p := range k.pending {
		if p.due.Before(first) {
			first = p.due
		}
	}
	k.arm(time.Until(first))
}

// close waits for what is going on.
func (k *kicker) close() {
	k.mu.Lock()
	k.closed = true
	if k.timer != nil && k.timer.Stop() {
		k.timer = nil
		k.wait.Done()
	}
	k.mu.Unlock()
	k.wait.Wait()
}
