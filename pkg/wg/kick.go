package wg

import (
	"fmt"
	"sync"
	"time"
)

// kickAgain is when a kick without a handshake is repeated, once. The other side drops a handshake that comes within 20 ms of
// the one before or whose timestamp, in steps of 16.8 ms, is not newer: so it does to a kick right after another, or after a
// handshake that the device began by itself. Without the repetition the device would wait for 5 s.
const kickAgain = 60 * time.Millisecond

// kicker kicks peers, and looks once at all that it kicked lately: with many peers a look is not cheap.
type kicker struct {
	attempt func(Key) error // begins a handshake, and makes answers to the one before worthless
	read    func() (Device, error)

	mu      sync.Mutex
	pending map[Key]time.Time // kicked when; of peers the device has
	timer   *time.Timer       // nil: nothing pending
	closed  bool
	wait    sync.WaitGroup
}

func newKicker(attempt func(Key) error, read func() (Device, error)) *kicker {
	return &kicker{attempt: attempt, read: read, pending: map[Key]time.Time{}}
}

func (k *kicker) kick(key Key) error {
	began := time.Now()
	if err := k.attempt(key); err != nil {
		return fmt.Errorf("kick %s: %w", key, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.closed {
		k.pending[key] = began
		k.arm(kickAgain)
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
	due, next := map[Key]time.Time{}, kickAgain
	for key, began := range k.pending {
		if age := time.Since(began); age >= kickAgain {
			due[key] = began
			delete(k.pending, key)
		} else {
			next = min(next, kickAgain-age)
		}
	}
	k.timer = nil
	if len(k.pending) > 0 && !k.closed {
		k.arm(next)
	}
	closed := k.closed
	k.mu.Unlock()
	if closed || len(due) == 0 {
		return
	}
	d, err := k.read()
	if err != nil {
		return // closed; there is nothing to repeat
	}
	for i := range d.Peers {
		p := &d.Peers[i]
		if began, ok := due[p.PublicKey]; ok && !p.LastHandshake.After(began) {
			_ = k.attempt(p.PublicKey) // the device goes on by itself
		}
	}
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
