package wg

import (
	"context"
	"fmt"
	"time"
)

const (
	// The other side drops a handshake that comes within 20 ms of the one before or whose timestamp, in steps of 16.8 ms, is
	// not newer; a device that has just been told of a peer may have started by itself. What is lost that way is tried again
	// once, and not sooner than an answer takes on an ordinary line.
	kickAgain = 60 * time.Millisecond
	kickWait  = time.Second // for the answer; the device goes on by itself, every 5 s
)

// kick tries until there was a handshake since it began. Every attempt makes answers to the one before worthless.
func kick(ctx context.Context, key Key, attempt func() error, handshake func() (time.Time, error)) error {
	began := time.Now()
	if err := attempt(); err != nil {
		return fmt.Errorf("kick %s: %w", key, err)
	}
	again, end := time.NewTimer(kickAgain), time.NewTimer(kickWait)
	defer again.Stop()
	defer end.Stop()
	look := time.NewTimer(time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end.C:
			return nil
		case <-again.C:
			if err := attempt(); err != nil {
				return fmt.Errorf("kick %s: %w", key, err)
			}
		case <-look.C:
		}
		asked := time.Now()
		at, err := handshake()
		if err != nil {
			return fmt.Errorf("kick %s: %w", key, err)
		}
		if at.After(began) {
			return nil
		}
		look.Reset(max(time.Millisecond, 4*time.Since(asked))) // with many peers a look is not cheap
	}
}

// handshake returns when the last one with a peer was; zero if never, or if there is no such peer.
func (d *Device) handshake(key Key) time.Time {
	for i := range d.Peers {
		if d.Peers[i].PublicKey == key {
			return d.Peers[i].LastHandshake
		}
	}
	return time.Time{}
}
