package facts

import (
	"context"
	"time"

	"github.com/hashinsight/hashinsight/pkg/backoff"
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

// tell tells the hub every key that it does not have.
func (s *Signer) tell(ctx context.Context) error {
	s.telling.Lock()
	defer s.telling.Unlock()
	for {
		keys := s.cfg.Salts.Untold(tellAtOnce)
		if len(keys) == 0 {
			return nil
		}
		err := s.cfg.Tell(ctx, keys)
		if err == nil {
			err = s.cfg.Salts.Told(keys)
		}
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
