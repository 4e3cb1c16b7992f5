package proof

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// chainSays lets a store hear of a chain that has a root of some entries. asked counts how often it was asked.
type chainSays struct {
	size  uint64
	known bool
	err   error
	asked int
}

func (c *chainSays) anchored(context.Context) (uint64, bool, error) {
	c.asked++
	return c.size, c.known, c.err
}

// setBack is a hub that has published 601 entries and anchored them, whose database and directory were then restored to the moment of 301. The newer directory is kept.
func setBack(t *testing.T, c *chainSays) (w *world, kept string) {
	w = newWorld(t)
	w.note(300)
	w.run()
	older, kept := filepath.Join(t.TempDir(), "older"), filepath.Join(t.TempDir(), "kept")
	if err := os.CopyFS(older, os.DirFS(w.dir)); err != nil {
		t.Fatal(err)
	}
	w.note(300)
	w.run()
	w.exec(`DELETE FROM log_checkpoint WHERE size > 301`)
	w.exec(`DELETE FROM log_entry WHERE idx >= 301`)
	if err := errors.Join(os.Rename(w.dir, kept), os.Rename(older, w.dir)); err != nil {
		t.Fatal(err)
	}
	c.size, c.known = 601, true
	w.store = w.open(w.pool, w.dir) // the hub starts again
	w.store.c.Anchored = c.anchored
	w.next = 10_000
	w.note(1)
	return w, kept
}

func (w *world) wantPending(n int) {
	w.t.Helper()
	var pending int
	if err := w.pool.QueryRow(w.t.Context(), qPending).Scan(&pending); err != nil || pending != n {
		w.t.Errorf("%d entries wait, want %d: %v", pending, n, err)
	}
}

// A database that was restored together with its directory, or without one, looks whole. Only the chain shows that more was published; a hub that starts asks it before it gives
// the first place, and goes on when it has the missing entries.
func TestADatabaseAndTilesOlderThanTheChainAddNothing(t *testing.T) {
	for _, lost := range []bool{false, true} {
		c := &chainSays{}
		w, kept := setBack(t, c)
		if lost {
			if err := os.RemoveAll(w.dir); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			var h *haltError
			if err := w.store.Run(t.Context()); !errors.As(err, &h) || !strings.Contains(err.Error(), "a root of 601 entries, the database and its tiles have 301") {
				t.Fatalf("the tiles are lost: %t: the run ended with %v", lost, err)
			}
		}
		w.wantPending(1)
		if _, ok, err := w.store.Head(t.Context()); err != nil || ok {
			t.Errorf("it is given for anchoring: %t, %v", ok, err)
		}
		if err := errors.Join(os.RemoveAll(w.dir), os.Rename(kept, w.dir)); err != nil {
			t.Fatal(err)
		}
		w.run()
		w.wantSize(602)
		w.wantFsck(w.store, "")
		if st, err := w.store.Status(t.Context()); err != nil || st.Halted != "" {
			t.Errorf("it goes on, and says %q: %v", st.Halted, err)
		}
	}
}

// A chain that does not answer is waited for, and not for ever: entries are noted all the while.
func TestAChainThatStaysAwayDoesNotStopTheLog(t *testing.T) {
	w := newWorld(t)
	w.note(10)
	w.run()
	c, now := &chainSays{err: errors.New("no endpoint answers")}, time.Unix(1_800_000_000, 0)
	w.store = w.open(w.pool, w.dir)
	w.store.c.Anchored, w.store.c.Now = c.anchored, func() time.Time { return now }
	w.note(5)
	for _, after := range []time.Duration{0, time.Minute, patience - 2*time.Minute} {
		now = now.Add(after)
		var b *blockedError
		if err := w.store.Run(t.Context()); !errors.As(err, &b) || !strings.Contains(err.Error(), "no endpoint answers") {
			t.Fatalf("the run ended with %v", err)
		}
		w.wantPending(5)
	}
	if st, err := w.store.Status(t.Context()); err != nil || !strings.Contains(st.Blocked, "is not known since the start") {
		t.Errorf("the log says %q: %v", st.Blocked, err)
	}
	now = now.Add(2 * time.Minute)
	w.run()
	w.wantSize(16)
	asked := c.asked
	w.note(1)
	w.run()
	w.wantSize(17)
	if c.asked != asked {
		t.Error("it is asked again and again")
	}
}

// Once it has compared, a process asks no more, until its database is set back under it.
func TestTheChainIsAskedOnceAndWhenTheDatabaseIsSetBack(t *testing.T) {
	w := newWorld(t)
	c := &chainSays{}
	w.store.c.Anchored = c.anchored
	for range 3 {
		w.note(100)
		w.run()
	}
	w.wantSize(301)
	if c.asked != 1 {
		t.Errorf("it was asked %d times", c.asked)
	}
	c.size, c.known = 301, true
	w.wantHaltWhenSetBack(w.store, 201)
}

// Of two processes one may give all places for a long time. The other one remembers what it has found, and does not take a database that is set back for the one it knew.
func TestAProcessThatGaveNoPlaceLatelySeesTheDatabaseSetBack(t *testing.T) {
	w := newWorld(t)
	c := &chainSays{}
	idle := w.open(w.pool, w.dir)
	idle.c.Anchored = c.anchored
	w.note(100)
	if err := idle.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		w.note(100)
		w.run()
	}
	w.wantSize(301)
	if err := idle.Run(t.Context()); err != nil || c.asked != 1 {
		t.Fatalf("it was asked %d times: %v", c.asked, err)
	}
	c.size, c.known = 301, true
	w.wantHaltWhenSetBack(idle, 201)
}

// wantHaltWhenSetBack sets the database back to a size, without its tiles, and wants the store to give no further place.
func (w *world) wantHaltWhenSetBack(s *Store, size int) {
	w.t.Helper()
	w.exec(`DELETE FROM log_checkpoint WHERE size > $1`, size)
	w.exec(`DELETE FROM log_entry WHERE idx >= $1`, size)
	if err := os.RemoveAll(w.dir); err != nil {
		w.t.Fatal(err)
	}
	w.note(1)
	var h *haltError
	if err := s.Run(w.t.Context()); !errors.As(err, &h) {
		w.t.Errorf("the run ended with %v", err)
	}
	w.wantPending(1)
}
