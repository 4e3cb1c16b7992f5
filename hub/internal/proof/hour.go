package proof

import (
	"context"
	"slices"
	"strings"

	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/hub/internal/statement"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	format "github.com/hashinsight/hashinsight/pkg/proof"
)

// Hour makes the proof of what a site signed about a miner's hour. Chain says which of the site's chains, where several have signed a leaf of it; zero: the only one.
func (b *Builder) Hour(ctx context.Context, scope statement.Scope, m statement.Miner, hour uint32, chain ident.SpoolID) ([]byte, error) {
	if err := b.c.Statements.MayReadHour(ctx, scope, m, hour); err != nil {
		return nil, err
	}
	select {
	case b.trees <- struct{}{}:
		defer func() { <-b.trees }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	h, leaves, err := b.signedHour(ctx, m, hour, chain)
	if err != nil {
		return nil, err
	}
	tree, err := evidence.NewTree(leaves)
	if err != nil {
		return nil, differs("hour %s of site %s: %w", hourName(hour), m.Site, err)
	}
	if tree.Root() != h.Root || tree.Len() != int(h.Leaves) {
		return nil, differs("the leaves that are kept of hour %s of site %s do not give the root that the site signed", hourName(hour), m.Site)
	}
	bodies, err := b.signed(ctx, m.Site, []facts.Hour{*h})
	if err != nil {
		return nil, err
	}
	body := &bodies[0]
	key, err := b.siteKey(ctx, body)
	if err != nil {
		return nil, err
	}
	entry, err := b.find(ctx, body.Entry(0), "the signed hour")
	if err != nil {
		return nil, err
	}
	var p format.HourProof
	at := slices.IndexFunc(leaves, func(l evidence.Leaf) bool { return l.Miner == m.Miner })
	p.Leaf = leaves[at]
	index, path, err := tree.Inclusion(m.Miner)
	if err != nil {
		return nil, err
	}
	p.LeafIndex, p.LeafPath = uint32(index), path
	var places *places
	if p.Head, places, err = b.head(ctx, last(&entry, &key)); err != nil {
		return nil, err
	}
	if p.Hour, err = places.place(ctx, &entry); err != nil {
		return nil, err
	}
	if p.SiteKey, err = places.place(ctx, &key); err != nil {
		return nil, err
	}
	return p.AppendBinary(nil)
}

// signedHour returns the signed hour that has a leaf of a miner, with all its leaves.
func (b *Builder) signedHour(ctx context.Context, m statement.Miner, hour uint32, chain ident.SpoolID) (*facts.Hour, []evidence.Leaf, error) {
	hours, err := b.c.Facts.SiteHours(ctx, m.Site, hour, hour+1)
	if err != nil {
		return nil, nil, err
	}
	leaves := map[ident.SpoolID][]evidence.Leaf{}
	has := map[ident.SpoolID]bool{}
	if err := b.c.Facts.Each(ctx, b.c.Pool, m.Site, hour, hour+1, nil, func(h *facts.Hour, l *evidence.Leaf) error {
		if h.State != facts.Agreed || chain != (ident.SpoolID{}) && l.Spool != chain {
			return nil
		}
		leaves[l.Spool] = append(leaves[l.Spool], *l)
		has[l.Spool] = has[l.Spool] || l.Miner == m.Miner
		return nil
	}); err != nil {
		return nil, nil, err
	}
	var found *facts.Hour
	var names, open []string
	for i := range hours {
		h := &hours[i]
		switch {
		case chain != (ident.SpoolID{}) && h.Spool != chain:
		case has[h.Spool]:
			found = h
			names = append(names, h.Spool.String())
		case h.State != facts.Agreed:
			text := "chain " + h.Spool.String() + " is " + h.State.String()
			if h.Reason != "" {
				text += " (" + h.Reason + ")"
			}
			open = append(open, text)
		}
	}
	switch {
	case len(names) > 1:
		return nil, nil, waits("the site has signed facts of this miner and hour in %d chains: name one with spool_id: %s", len(names), strings.Join(names, ", "))
	case found != nil:
		return found, leaves[found.Spool], nil
	case len(open) > 0:
		return nil, nil, waits("hour %s of site %s has no signed root that its batches give: %s", hourName(hour), m.Site, strings.Join(open, "; "))
	default:
		return nil, nil, statement.NoHour(m, hour)
	}
}
