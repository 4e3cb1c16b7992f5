package facts

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/hashinsight/hashinsight/agent/internal/inventory"
	"github.com/hashinsight/hashinsight/pkg/backoff"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// tellAll tells the hub salt keys that it does not have, until ctx ends.
func (s *Signer) tellAll(ctx context.Context) {
	retry := backoff.Backoff{Min: 5 * time.Second, Max: 10 * time.Minute}
	for {
		wait := time.Hour
		if err := s.tell(ctx); err != nil {
			wait = retry.Next()
		} else {
			retry.Reset()
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-s.poke:
		case <-ctx.Done():
		}
		t.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// tellBefore tells keys before they are used, as far as the hub takes them soon. Otherwise they are told later.
func (s *Signer) tellBefore(ctx context.Context) {
	if s.cfg.Tell == nil || s.cfg.Salts.UntoldLen() == 0 {
		return
	}
	soon, cancel := context.WithTimeout(ctx, tellFor)
	defer cancel()
	if s.tell(soon) != nil {
		select {
		case s.poke <- struct{}{}:
		default:
		}
	}
}

// ErrOtherKey means that the hub keeps another salt key of a miner than this site has now.
var ErrOtherKey = errors.New("the hub has another salt key of this miner")

// tell tells the hub every key that it does not have, but for those that it refuses.
func (s *Signer) tell(ctx context.Context) error {
	s.telling.Lock()
	defer s.telling.Unlock()
	for {
		keys := s.cfg.Salts.Untold(tellAtOnce, s.refused)
		if len(keys) == 0 {
			return nil
		}
		err := s.tellSome(ctx, keys)
		s.mu.Lock()
		before := s.status.TellErr
		s.status.TellErr = err
		s.mu.Unlock()
		if err != nil {
			if before == nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "the hub does not have the salt keys of some miners and cannot check their hours; they are told again", "miners", s.cfg.Salts.UntoldLen(), "err", err)
			}
			return err
		}
	}
}

// tellSome tells keys in one call. The hub takes all or none, so that a key that it refuses is looked for by halves.
func (s *Signer) tellSome(ctx context.Context, keys map[ident.MinerID]inventory.SaltKey) error {
	err := s.cfg.Tell(ctx, keys)
	switch {
	case err == nil:
		return s.cfg.Salts.Told(keys)
	case !errors.Is(err, ErrOtherKey):
		return err
	case len(keys) == 1:
		for m := range keys {
			s.refused[m] = true // until the next start
			s.log.ErrorContext(ctx, "the hub keeps another salt key of a miner than this site: it cannot check the miner's hours; restore salts.json from a backup of the time before it was lost",
				"miner", m, "err", err)
		}
		return nil
	}
	half := make(map[ident.MinerID]inventory.SaltKey, len(keys)/2)
	for m, k := range keys {
		if len(half) == len(keys)/2 {
			break
		}
		half[m] = k
	}
	rest := maps.Clone(keys)
	maps.DeleteFunc(rest, func(m ident.MinerID, _ inventory.SaltKey) bool { _, is := half[m]; return is })
	if err := s.tellSome(ctx, half); err != nil {
		return err
	}
	return s.tellSome(ctx, rest)
}
