package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	berrors "go.etcd.io/bbolt/errors"
)

// ErrIncomplete means that an export could not read everything; the report says what.
var ErrIncomplete = errors.New("export is incomplete")

// ExportReport says what an export has read.
type ExportReport struct {
	Batches  uint64
	Segments int
	Locked   []string // file names of segments that a running agent holds: always its newest one
	Corrupt  []string // file names of segments, and of segments with batches, that could not be read
	Aside    []string // file names of segments that were set aside as corrupt earlier
}

// Export calls fn with every batch in a spool directory, acknowledged or not, oldest first, and changes nothing. While an
// agent runs, its newest segment is locked: Export reads the others and says so. It returns ErrIncomplete when something
// was left out, fn's error when that stopped it.
func Export(ctx context.Context, dir string, fn func(Batch) error) (ExportReport, error) {
	var rep ExportReport
	segs, aside, err := listSegments(dir)
	if err != nil {
		return rep, fmt.Errorf("export: %w", err)
	}
	rep.Aside = aside
	for _, g := range segs {
		if err := exportSegment(ctx, g, &rep, fn); err != nil {
			return rep, err
		}
	}
	switch {
	case len(rep.Locked) > 0:
		return rep, fmt.Errorf("%w: %s is being written by a running agent (%s): stop the agent and export again to read that one too",
			ErrIncomplete, strings.Join(rep.Locked, ", "), holder(dir))
	case len(rep.Corrupt) > 0:
		return rep, fmt.Errorf("%w: corrupt: %s", ErrIncomplete, strings.Join(rep.Corrupt, ", "))
	}
	return rep, nil
}

func exportSegment(ctx context.Context, g *segment, rep *ExportReport, fn func(Batch) error) error {
	name := filepath.Base(g.path)
	err := g.open(true, 0)
	if err == nil {
		err = g.load()
	}
	defer g.close()
	switch {
	case errors.Is(err, os.ErrNotExist): // acknowledged and deleted since the directory was read
		return nil
	case errors.Is(err, berrors.ErrTimeout):
		rep.Locked = append(rep.Locked, name)
		return nil
	case errors.Is(err, errCorrupt):
		rep.Corrupt = append(rep.Corrupt, name)
		return nil
	case err != nil:
		return fmt.Errorf("export: %w", err)
	}
	rep.Segments++
	for seq := g.first; seq <= g.last; seq++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := g.get(seq, true)
		if errors.Is(err, errBatch) || errors.Is(err, errCorrupt) {
			if !slices.Contains(rep.Corrupt, name) {
				rep.Corrupt = append(rep.Corrupt, name)
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("export: %w", err)
		}
		rep.Batches++
		if err := fn(b); err != nil {
			return err
		}
	}
	return nil
}
