package proof

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Rebuild writes the tiles of the newest checkpoint into an empty directory, from the rows alone, byte for byte, and puts the checkpoint beside them. It signs nothing: a root
// that is another than the checkpoint's is an error.
func (s *Store) Rebuild(ctx context.Context, dir string) (Checkpoint, error) {
	names, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return Checkpoint{}, fmt.Errorf("rebuilding the log's tiles: %w", err)
	}
	if len(names) > 0 {
		return Checkpoint{}, fmt.Errorf("rebuilding the log's tiles: %s is not empty: name a new directory, and put it in the place of the old one when it is done", dir)
	}
	c, err := s.Checkpoint(ctx)
	if err != nil {
		return c, err
	}
	t, err := openTiles(ctx, dir)
	if err != nil {
		return c, err
	}
	defer t.close()
	tree := ranges.NewEmptyRange(0)
	if err := s.fill(ctx, t, tree, c.Size); err != nil {
		return c, err
	}
	if err := s.sameRoot(ctx, t, tree); err != nil {
		return c, err
	}
	root, err := rootOf(tree)
	if err != nil {
		return c, err
	}
	if root != c.Root {
		return c, halt("the rows give %d entries the root %x, the checkpoint that was signed has %x", c.Size, root, c.Root)
	}
	if err := t.sweep(0, c.Size); err != nil {
		return c, err
	}
	return c, (&Store{c: Config{Dir: dir}}).publish(&c)
}
