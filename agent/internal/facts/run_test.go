package facts

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashinsight/hashinsight/agent/internal/inventory"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// hubOfSalts takes salt keys, or does not.
type hubOfSalts struct {
	mu    sync.Mutex
	err   error
	keys  map[ident.MinerID]inventory.SaltKey
	calls int
}

func (h *hubOfSalts) tell(ctx context.Context, keys map[ident.MinerID]inventory.SaltKey) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls++
	if h.err != nil {
		return h.err
	}
	for m, k := range keys {
		if old, has := h.keys[m]; has && old != k {
			return fmt.Errorf("%w: %s", ErrOtherKey, m)
		}
	}
	maps.Copy(h.keys, keys)
	return ctx.Err()
}

func (h *hubOfSalts) set(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
}

func (h *hubOfSalts) len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.keys)
}

// running runs a signer in virtual time, with the clock as the wall clock is.
func running(t *testing.T, miners int, hub *hubOfSalts) (s *site, stop func()) {
	s = newSite(t, miners, func(s *site) {
		s.spools.Now, s.facts.Now = time.Now, time.Now
		if hub != nil {
			s.facts.Tell = hub.tell
		}
	})
	s.clock = time.Now()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.signer.Run(ctx) }()
	return s, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		s.collect()
	}
}

// sleep polls every minute for d.
func (s *site) sleep(d time.Duration) {
	s.t.Helper()
	for range int(d / time.Minute) {
		time.Sleep(time.Minute)
		s.clock, s.real = time.Now(), s.real+time.Minute
		s.poll()
	}
}

func TestASignerWakesByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // begins at midnight UTC
		s, stop := running(t, 2, nil)
		s.sleep(60 * time.Minute)
		synctest.Wait()
		if st := s.signer.Status(); st.Last != nil || st.Recovering {
			t.Errorf("status %+v before the hour is over for a minute", st)
		}
		time.Sleep(settleAfter + time.Second) // nothing is polled
		synctest.Wait()
		if st := s.signer.Status(); st.Last == nil || time.Since(st.Last.At) > 2*time.Second {
			t.Errorf("status %+v, last %+v", st, st.Last)
		}
		s.sleep(2 * time.Hour)
		stop()
		if got := s.hours(); len(got) != 3 {
			t.Errorf("%d hours are signed, want 3", len(got))
		}
		s.close()
	})
}

func TestSaltKeysAreToldBeforeTheyAreUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := &hubOfSalts{keys: map[ident.MinerID]inventory.SaltKey{}}
		s, stop := running(t, 3, hub)
		s.sleep(62 * time.Minute)
		synctest.Wait()
		if st := s.signer.Status(); st.Last == nil || st.Untold != 0 || hub.len() != 3 {
			t.Errorf("%d keys told, status %+v", hub.len(), st)
		}
		// The hub is away: hours are signed all the same, and keys are told when it is back.
		hub.set(errors.New("the hub is away"))
		s.miners = append(s.miners, miner{id: ident.MinerID{77}, rate: 5, since: s.real})
		s.sleep(2 * time.Hour)
		synctest.Wait()
		if st := s.signer.Status(); st.Untold != 1 || st.TellErr == nil || st.Last.Miners != 4 {
			t.Errorf("status %+v, last %+v", st, st.Last)
		}
		hub.set(nil)
		s.sleep(15 * time.Minute)
		synctest.Wait()
		if st := s.signer.Status(); st.Untold != 0 || st.TellErr != nil || hub.len() != 4 {
			t.Errorf("%d keys told, status %+v", hub.len(), st)
		}
		stop()
		for _, h := range s.hours() {
			for _, l := range h.leaves {
				if l.Salt != evidence.SaltOf(hub.keys[l.Miner], l.Hour) {
					t.Errorf("hour %s, miner %s: its salt is not of the key that the hub was told", timeOf(l.Hour), l.Miner)
				}
			}
		}
		s.close()
	})
}

// The hub has another key of some miners, as after salts.json was lost: all others are told, and hours go on being signed.
func TestKeysThatTheHubRefusesKeepNoOtherBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := &hubOfSalts{keys: map[ident.MinerID]inventory.SaltKey{}}
		for _, n := range []byte{3, 4, 17} {
			hub.keys[ident.MinerID{n, 7}] = inventory.SaltKey{1}
		}
		s, stop := running(t, 20, hub)
		s.sleep(122 * time.Minute)
		synctest.Wait()
		if st := s.signer.Status(); st.Untold != 3 || hub.len() != 20 || st.Last == nil || st.Last.Hour.Hour() != 1 {
			t.Errorf("%d keys at the hub, status %+v, last %+v", hub.len(), st, st.Last)
		}
		if hub.calls > 60 {
			t.Errorf("%d calls", hub.calls)
		}
		stop()
		s.close()
	})
}
