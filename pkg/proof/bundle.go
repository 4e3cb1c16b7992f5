package proof

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// AgreedHour makes the part of a bundle for a signed hour from all its leaves, in any order, and the contract's miners that are assigned in it (Assignment.In).
func AgreedHour(entry PlacedEntry, leaves []evidence.Leaf, assigned []ident.MinerID) (BundleHour, error) {
	h := BundleHour{State: HourAgreed, Entry: entry}
	body, err := ParseHourBody(entry.Body)
	if err != nil {
		return h, err
	}
	tree, err := evidence.NewTree(leaves)
	if err != nil {
		return h, err
	}
	if tree.Root() != body.Hour.Root || tree.Len() != int(body.Hour.Leaves) {
		return h, fmt.Errorf("the leaves of hour %d of site %s do not give the root that the site has signed", body.Hour.Hour, body.Hour.Site)
	}
	hashes := map[ident.MinerID]evidence.Hash{} // of assigned miners' ids
	var indexes []int
	for _, m := range assigned {
		hash := evidence.Hash(sha256.Sum256(m[:]))
		hashes[m] = hash
		at, found := tree.Find(hash)
		if !found && at > 0 {
			indexes = append(indexes, at-1)
		}
		if at < tree.Len() {
			indexes = append(indexes, at)
		}
	}
	slices.Sort(indexes)
	indexes = slices.Compact(indexes)
	full := map[evidence.Hash]*evidence.Leaf{}
	for i := range leaves {
		if hash, ok := hashes[leaves[i].Miner]; ok {
			full[hash] = &leaves[i]
		}
	}
	for _, i := range indexes {
		t := TreeEntry{Index: uint32(i), Bare: true}
		t.Miner, t.LeafHash = tree.Entry(i)
		if l := full[t.Miner]; l != nil {
			t.Bare, t.Leaf = false, *l
		}
		h.Entries = append(h.Entries, t)
	}
	h.Hashes = tree.Multiproof(indexes)
	return h, nil
}

// DisputedHour makes the part of a bundle for a disputed hour from the leaves that the hub computed.
func DisputedHour(entry PlacedEntry, leaves []evidence.Leaf, assigned []ident.MinerID) BundleHour {
	h := BundleHour{State: HourDisputed, Entry: entry}
	wanted := map[ident.MinerID]bool{}
	for _, m := range assigned {
		wanted[m] = true
	}
	for i := range leaves {
		if wanted[leaves[i].Miner] {
			h.Miners = append(h.Miners, leaves[i].Miner)
		}
	}
	slices.SortFunc(h.Miners, ident.MinerID.Compare)
	h.Miners = slices.Compact(h.Miners)
	return h
}

// siteMiner is a miner that is assigned to the contract at a site for some of the month.
type siteMiner struct {
	id      ident.MinerID
	hash    evidence.Hash
	periods []Assignment
}

// roster is who is assigned where: by site, in order of hashed ids.
type roster map[ident.SiteID][]siteMiner

func newRoster(assignments []Assignment) roster {
	r := roster{}
	type key struct {
		site  ident.SiteID
		miner ident.MinerID
	}
	at := map[key]int{}
	for i := range assignments {
		a := &assignments[i]
		k := key{a.Site, a.Miner}
		place, known := at[k]
		if !known {
			place = len(r[a.Site])
			at[k] = place
			r[a.Site] = append(r[a.Site], siteMiner{id: a.Miner, hash: sha256.Sum256(a.Miner[:])})
		}
		m := &r[a.Site][place]
		m.periods = append(m.periods, *a)
	}
	for _, miners := range r {
		slices.SortFunc(miners, func(a, b siteMiner) int { return bytes.Compare(a.hash[:], b.hash[:]) })
	}
	return r
}

// in returns who is assigned at a site in an hour, in order of hashed ids. It uses the room of into.
func (r roster) in(into []*siteMiner, site ident.SiteID, hour uint32) []*siteMiner {
	into = into[:0]
	miners := r[site]
	for i := range miners {
		for j := range miners[i].periods {
			if miners[i].periods[j].In(hour) {
				into = append(into, &miners[i])
				break
			}
		}
	}
	return into
}

// hourCheck checks the leaves of one hour after the other without asking for memory again.
type hourCheck struct {
	assigned []*siteMiner
	nodes    []Node
	needed   []bool // of each entry: why it is there
}

// agreed checks that the entries are exactly those that the assigned miners need, and that they lie under the root that the site has signed. It sets Miner of full entries.
func (c *hourCheck) agreed(h *BundleHour, hour *evidence.Hour) error {
	size := hour.Leaves
	c.nodes, c.needed = c.nodes[:0], c.needed[:0]
	left := c.assigned
	for i := range h.Entries {
		t := &h.Entries[i]
		if t.Index >= size {
			return fmt.Errorf("entry %d of %d", t.Index, size)
		}
		c.needed = append(c.needed, !t.Bare)
		if !t.Bare {
			if t.Leaf.Site != hour.Site || t.Leaf.Hour != hour.Hour || t.Leaf.Spool != hour.Spool {
				return fmt.Errorf("the leaf of miner %s is of another site, hour or chain", t.Leaf.Miner)
			}
			at := 0
			for at < len(left) && left[at].id != t.Leaf.Miner {
				at++
			}
			if at == len(left) {
				return fmt.Errorf("a leaf of miner %s, which is not assigned then, or out of order", t.Leaf.Miner)
			}
			t.Miner = left[at].hash
		}
		if i > 0 && bytes.Compare(h.Entries[i-1].Miner[:], t.Miner[:]) >= 0 {
			return fmt.Errorf("entry %d is out of order", t.Index)
		}
		for len(left) > 0 && bytes.Compare(left[0].hash[:], t.Miner[:]) < 0 { // miners between the entry before and this one
			if err := c.absent(h, left[0], i, size); err != nil {
				return err
			}
			left = left[1:]
		}
		if len(left) > 0 && left[0].hash == t.Miner {
			if t.Bare {
				return fmt.Errorf("the leaf of miner %s is held back", left[0].id)
			}
			left = left[1:]
		}
		c.nodes = append(c.nodes, Node{uint64(t.Index), evidence.HashEntry(&t.Miner, &t.LeafHash)})
	}
	for _, m := range left {
		if err := c.absent(h, m, len(h.Entries), size); err != nil {
			return err
		}
	}
	if slices.Contains(c.needed, false) {
		return errors.New("an entry that shows nothing")
	}
	root, err := MultiproofRoot(uint64(size), c.nodes, h.Hashes)
	if err == nil && root != hour.Root {
		err = ErrMultiproof
	}
	return err
}

// absent checks that the entries before and at i are neighbours in the tree, and so show that a miner whose hash lies between them has no leaf.
func (c *hourCheck) absent(h *BundleHour, m *siteMiner, i int, size uint32) error {
	before, after := int64(-1), int64(size)
	if i > 0 {
		before = int64(h.Entries[i-1].Index)
		c.needed[i-1] = true
	}
	if i < len(h.Entries) {
		after = int64(h.Entries[i].Index)
		c.needed[i] = true
	}
	if before+1 != after {
		return fmt.Errorf("neither a leaf of miner %s is there, nor that it has none", m.id)
	}
	return nil
}

// disputed checks that the miners are assigned ones, in order.
func (c *hourCheck) disputed(h *BundleHour) error {
	for i, m := range h.Miners {
		if i > 0 && h.Miners[i-1].Compare(m) >= 0 {
			return fmt.Errorf("miner %s is out of order", m)
		}
		hash := evidence.Hash(sha256.Sum256(m[:]))
		if _, found := slices.BinarySearchFunc(c.assigned, hash, func(a *siteMiner, h evidence.Hash) int { return bytes.Compare(a.hash[:], h[:]) }); !found {
			return fmt.Errorf("miner %s is not assigned then", m)
		}
	}
	return nil
}
