package proof

import (
	"context"
	"errors"
)

// At returns the checkpoint of the log's first size entries: as it was signed, or, where that is not recorded, as it is signed now, which gives the same bytes. A
// database that was restored knows the entries again, and not every checkpoint there was. ok is false when the log has fewer entries. Package anchor asks, through hubd.
func (s *Store) At(ctx context.Context, size uint64) (c Checkpoint, ok bool, err error) {
	v, err := s.Status(ctx)
	if err != nil || size == 0 || size > v.Newest.Size {
		return c, false, err
	}
	p, err := s.Prover(ctx, size) // compares the tiles with what was signed
	if err != nil {
		return c, false, err
	}
	if c, ok, err = checkpoint(ctx, s.c.Pool, qCheckpointAt, clamp(size)); err != nil || ok {
		return c, ok, err
	}
	key := s.c.Key()
	if key == nil {
		return c, false, errors.New("this hub process has no key to sign checkpoints: set ENCRYPTION_PASSWORD")
	}
	c, err = signCheckpoint(&signer{v.Origin, key}, size, p.Root)
	return c, err == nil, err
}
