package proof

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/hub/internal/statement"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	format "github.com/hashinsight/hashinsight/pkg/proof"
)

// Bundle is a statement's bundle before it is written: everything that it needs was found and compared, the leaves of its hours aside.
type Bundle struct {
	Month sla.CalendarMonth

	b        *Builder
	st       *sla.Statement
	p        issued
	in       format.Inputs
	places   *places
	hours    []uint64 // place in the log of each of the statement's hours
	assigned map[ident.SiteID][]format.Assignment
}

// Bundle prepares the proof of a statement with everything it was made from. What the statement names and the database does not have is an error, as is what is not in
// the log yet.
func (b *Builder) Bundle(ctx context.Context, scope statement.Scope, hash evidence.Hash) (*Bundle, error) {
	made, err := b.c.Statements.Made(ctx, scope, hash)
	if err != nil {
		return nil, err
	}
	u := &Bundle{Month: made.Month, b: b, st: made.Statement, assigned: map[ident.SiteID][]format.Assignment{}}
	if u.p, err = b.issued(ctx, &made.Issued); err != nil {
		return nil, err
	}
	terms, excuses, err := u.documents(ctx, &made)
	if err != nil {
		return nil, err
	}
	keys, err := u.findHours(ctx)
	if err != nil {
		return nil, err
	}
	all := []*Placed{&u.p.entry, &u.p.key}
	for _, list := range [][]Placed{terms, excuses, keys} {
		for i := range list {
			all = append(all, &list[i])
		}
	}
	end := last(all...)
	for _, index := range u.hours {
		end = max(end, index)
	}
	if u.p.Head, u.places, err = b.head(ctx, end); err != nil {
		return nil, err
	}
	if err := u.p.place(ctx, u.places); err != nil {
		return nil, err
	}
	return u, u.place(ctx, terms, excuses, keys)
}

// documents puts the statement's inputs in, without their paths, and finds their entries.
func (u *Bundle) documents(ctx context.Context, made *statement.Made) (terms, excuses []Placed, err error) {
	for i := range made.Terms {
		t := &made.Terms[i]
		body := format.TermsBody{Contract: t.Contract, Version: uint32(t.Version), Hash: t.Hash()}
		e, err := u.b.find(ctx, body.Entry(0), fmt.Sprintf("version %d of the terms", t.Version))
		if err != nil {
			return nil, nil, err
		}
		terms = append(terms, e)
		u.in.Terms = append(u.in.Terms, format.Document{Bytes: t.Canonical(), AtMS: e.Entry.AtMS})
	}
	for i := range made.Assignments {
		doc := made.Assignments[i].Canonical()
		a, err := format.ParseAssignment(doc)
		if err != nil {
			return nil, nil, err
		}
		u.assigned[a.Site] = append(u.assigned[a.Site], a)
		u.in.Assignments = append(u.in.Assignments, format.Document{Bytes: doc})
	}
	for i := range made.Excuses {
		x := &made.Excuses[i]
		body := format.ExcuseBody{ID: x.ID, Hash: x.Hash()}
		e, err := u.b.find(ctx, body.Entry(0), "excuse "+x.ID.String())
		if err != nil {
			return nil, nil, err
		}
		if e.Entry.AtMS != x.RecordedMS {
			return nil, nil, differs("excuse %s was recorded at %d ms, and stands in the log with %d ms", x.ID, x.RecordedMS, e.Entry.AtMS)
		}
		excuses = append(excuses, e)
		u.in.Excuses = append(u.in.Excuses, format.Document{Bytes: x.Canonical(), AtMS: e.Entry.AtMS})
	}
	return terms, excuses, nil
}

// bySite calls f with the statement's hours of each site.
func (u *Bundle) bySite(f func(site ident.SiteID, first int, refs []sla.HourRef) error) error {
	hours := u.st.Hours
	for i := 0; i < len(hours); {
		n := i
		for n < len(hours) && hours[n].Site == hours[i].Site {
			n++
		}
		if err := f(hours[i].Site, i, hours[i:n]); err != nil {
			return err
		}
		i = n
	}
	return nil
}

// chainHour names a signed hour of a site.
type chainHour struct {
	hour  uint32
	spool ident.SpoolID
}

// findHours finds the entries of the statement's hours and, which it returns, of the keys that signed them.
func (u *Bundle) findHours(ctx context.Context) (keys []Placed, err error) {
	type siteKey struct {
		site ident.SiteID
		key  ident.KeyID
	}
	found := map[siteKey]Placed{}
	u.hours = make([]uint64, len(u.st.Hours))
	err = u.bySite(func(site ident.SiteID, first int, refs []sla.HourRef) error {
		kept, err := u.b.c.Facts.SiteHours(ctx, site, refs[0].Hour, refs[len(refs)-1].Hour+1)
		if err != nil {
			return err
		}
		place := make(map[chainHour]*facts.Hour, len(kept))
		for i := range kept {
			place[chainHour{kept[i].Hour, kept[i].Spool}] = &kept[i]
		}
		hours := make([]facts.Hour, len(refs))
		for i := range refs {
			h := place[chainHour{refs[i].Hour, refs[i].Spool}]
			if h == nil || sla.HexHash(h.Header) != refs[i].HeaderHash || sla.HexHash(h.Root) != refs[i].Root {
				return differs("hour %s of site %s is not as the statement names it", hourName(refs[i].Hour), site)
			}
			hours[i] = *h
		}
		bodies, err := u.b.signed(ctx, site, hours)
		if err != nil {
			return err
		}
		hashes := make([]evidence.Hash, len(bodies))
		for i := range bodies {
			e := bodies[i].Entry(0)
			hashes[i] = e.Ref()
		}
		entries := make(map[evidence.Hash]Placed, len(hashes))
		for part := range slices.Chunk(hashes, 5000) {
			some, err := u.b.c.Log.FindAll(ctx, format.EntryHour, part)
			if err != nil {
				return err
			}
			for h, e := range some {
				entries[h] = e
			}
		}
		for i := range bodies {
			e, ok := entries[hashes[i]]
			if !ok {
				return waits("the signed hour %s of site %s has no place in the log yet: ask again when the log has caught up", hourName(refs[i].Hour), site)
			}
			u.hours[first+i] = e.Index
			k := siteKey{site, bodies[i].Header.Key}
			if _, ok := found[k]; ok {
				continue
			}
			if found[k], err = u.b.siteKey(ctx, &bodies[i]); err != nil {
				return err
			}
		}
		return nil
	})
	order := make([]siteKey, 0, len(found))
	for k := range found {
		order = append(order, k)
	}
	slices.SortFunc(order, func(a, b siteKey) int {
		return cmp.Or(bytes.Compare(a.site[:], b.site[:]), bytes.Compare(a.key[:], b.key[:]))
	})
	for _, k := range order {
		keys = append(keys, found[k])
	}
	return keys, err
}

// place gives the inputs their paths.
func (u *Bundle) place(ctx context.Context, terms, excuses, keys []Placed) error {
	for i := range terms {
		e, err := u.places.place(ctx, &terms[i])
		if err != nil {
			return err
		}
		u.in.Terms[i].Placed = e.Placed
	}
	for i := range excuses {
		e, err := u.places.place(ctx, &excuses[i])
		if err != nil {
			return err
		}
		u.in.Excuses[i].Placed = e.Placed
	}
	for i := range keys {
		e, err := u.places.place(ctx, &keys[i])
		if err != nil {
			return err
		}
		u.in.SiteKeys = append(u.in.SiteKeys, e)
	}
	u.in.Hours = uint32(len(u.st.Hours))
	return nil
}

const qPlaces = `SELECT ` + entryColumns + ` FROM log_entry WHERE idx = ANY($1)`

// entriesAtOnce is how many signed hours are read from the log in one go.
const entriesAtOnce = 1000

// Write writes the bundle, hour by hour: one hour of one site is in memory at a time. An error means that what was written is not a bundle.
func (u *Bundle) Write(ctx context.Context, w io.Writer) error {
	out, err := format.NewBundleWriter(w, &u.p.StatementProof, &u.in)
	if err != nil {
		return err
	}
	if err := u.bySite(func(site ident.SiteID, first int, refs []sla.HourRef) error {
		for i := 0; i < len(refs); i += entriesAtOnce {
			n := min(len(refs), i+entriesAtOnce)
			if err := u.write(ctx, out, refs[i:n], u.hours[first+i:first+n]); err != nil {
				return fmt.Errorf("site %s: %w", site, err)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	return out.Close()
}

// write writes some hours of one site.
func (u *Bundle) write(ctx context.Context, out *format.BundleWriter, refs []sla.HourRef, places []uint64) error {
	indexes := make([]int64, len(places))
	for i := range places {
		indexes[i] = clamp(places[i])
	}
	list, err := u.b.c.Log.entries(ctx, qPlaces, indexes)
	if err != nil {
		return err
	}
	entries := make(map[uint64]*Placed, len(list))
	for i := range list {
		entries[list[i].Index] = &list[i]
	}
	for i := range refs {
		ref := &refs[i]
		e := entries[places[i]]
		if e == nil {
			return errors.New("an entry of the log is gone")
		}
		placed, err := u.places.place(ctx, e)
		if err != nil {
			return err
		}
		h, err := u.hour(ctx, ref, placed)
		if err != nil {
			return fmt.Errorf("hour %s: %w", hourName(ref.Hour), err)
		}
		if err := out.Hour(&h); err != nil {
			return err
		}
	}
	return nil
}

// hour makes one hour of the bundle.
func (u *Bundle) hour(ctx context.Context, ref *sla.HourRef, e format.PlacedEntry) (h format.BundleHour, err error) {
	leaves, err := u.b.leaves(ctx, ref.Site, ref.Hour, ref.Spool)
	if err != nil {
		return h, err
	}
	var assigned []ident.MinerID
	for i := range u.assigned[ref.Site] {
		if a := &u.assigned[ref.Site][i]; a.In(ref.Hour) {
			assigned = append(assigned, a.Miner)
		}
	}
	slices.SortFunc(assigned, ident.MinerID.Compare)
	assigned = slices.Compact(assigned)
	if ref.State == sla.HourDisputed {
		return format.DisputedHour(e, leaves, assigned), nil
	}
	if h, err = format.AgreedHour(e, leaves, assigned); err != nil {
		return h, differs("%w", err)
	}
	return h, nil
}
