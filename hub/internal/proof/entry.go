package proof

import (
	"context"

	format "github.com/hashinsight/hashinsight/pkg/proof"
)

// Entry makes the proof that an entry is in the log.
func (b *Builder) Entry(ctx context.Context, index uint64) ([]byte, error) {
	e, err := b.c.Log.Entry(ctx, index)
	if err != nil {
		return nil, err
	}
	var p format.EntryProof
	var places *places
	if p.Head, places, err = b.head(ctx, e.Index); err != nil {
		return nil, err
	}
	if p.Entry, err = places.place(ctx, &e); err != nil {
		return nil, err
	}
	return p.AppendBinary(nil)
}
