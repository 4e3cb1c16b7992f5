package batches

import (
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/proof"
)

// maxFindings bounds how many findings of one sort are told.
const maxFindings = 5

// Compared compares the leaves of a bundle with what the batches of its hours give, and hands the bundle on: it is a proof.SLA around another one.
type Compared struct {
	proof.SLA
	dir  *Dir
	keys map[ident.SiteID]map[ident.KeyID]ed25519.PublicKey

	hours, batches, disputed, shown int
	leaves                          int
	polls                           int64
	wrong, missing                  []string
	more                            int // findings that are not told
}

// Compare returns one for one call of proof.Check.
func Compare(dir *Dir, sla proof.SLA) *Compared {
	return &Compared{SLA: sla, dir: dir, keys: map[ident.SiteID]map[ident.KeyID]ed25519.PublicKey{}}
}

// Begin implements proof.SLA.
func (c *Compared) Begin(s *proof.Statement, statement []byte, in *proof.Inputs) error {
	for i := range in.SiteKeys {
		k, err := proof.ParseSiteKeyBody(in.SiteKeys[i].Body)
		if err != nil {
			return err
		}
		if c.keys[k.Site] == nil {
			c.keys[k.Site] = map[ident.KeyID]ed25519.PublicKey{}
		}
		c.keys[k.Site][ident.KeyIDOf(k.Public[:])] = k.Public[:]
	}
	return c.SLA.Begin(s, statement, in)
}

// Hour implements proof.SLA.
func (c *Compared) Hour(ref *proof.HourRef, h *proof.BundleHour) error {
	if err := c.hour(ref, h); errors.Is(err, ErrMissing) {
		c.missing = c.tell(c.missing, ref, err)
	} else if err != nil {
		c.wrong = c.tell(c.wrong, ref, err)
	}
	return c.SLA.Hour(ref, h)
}

func (c *Compared) tell(to []string, ref *proof.HourRef, err error) []string {
	if len(to) == maxFindings {
		c.more++
		return to
	}
	return append(to, fmt.Sprintf("hour %d of site %s: %v", ref.Hour, ref.Site, err))
}

func (c *Compared) hour(ref *proof.HourRef, h *proof.BundleHour) error {
	body, err := proof.ParseHourBody(h.Entry.Body)
	if err != nil {
		return err
	}
	var differs error
	found, err := c.dir.Hour(&body.Hour, c.keys[ref.Site], func(leaves []evidence.Leaf) bool {
		differs = compare(&body.Hour, h, leaves)
		return differs == nil
	})
	if err != nil {
		return err
	}
	c.hours, c.batches, c.polls = c.hours+1, c.batches+found.Batches, c.polls+found.Polls
	if h.State == proof.HourDisputed {
		c.disputed++
		if differs != nil {
			c.shown++
		}
		return nil
	}
	for i := range h.Entries {
		if !h.Entries[i].Bare {
			c.leaves++
		}
	}
	return compare(&body.Hour, h, found.Leaves)
}

// compare compares what batches give with what is signed: how many leaves there are, from which batch on, and every leaf that the bundle shows, but for its salt, which they do not hold.
func compare(signed *evidence.Hour, h *proof.BundleHour, leaves []evidence.Leaf) error {
	first := uint64(0)
	byMiner := make(map[ident.MinerID]*evidence.Leaf, len(leaves))
	for i := range leaves {
		l := &leaves[i]
		byMiner[l.Miner] = l
		if first == 0 || l.FirstSeq < first {
			first = l.FirstSeq
		}
	}
	if len(leaves) != int(signed.Leaves) || first != signed.FirstSeq {
		return fmt.Errorf("its batches give %d leaves from batch %d on, signed are %d from %d", len(leaves), first, signed.Leaves, signed.FirstSeq)
	}
	for i := range h.Entries {
		t := &h.Entries[i]
		if t.Bare {
			continue
		}
		l := byMiner[t.Leaf.Miner]
		if l == nil {
			return fmt.Errorf("its batches have no poll of miner %s, of which it has a leaf", t.Leaf.Miner)
		}
		got := *l
		if got.Salt = t.Leaf.Salt; got != t.Leaf {
			return fmt.Errorf("the leaf of miner %s is not what its batches give", t.Leaf.Miner)
		}
	}
	return nil
}

// Step says what the comparison came to; ok is false if proof.Check did not come to it.
func (c *Compared) Step() (s proof.Step, ok bool) {
	s = proof.Step{ID: "evidence", State: proof.OK, Text: fmt.Sprintf("%d leaves of %d hours are what %d batches with %d polls give", c.leaves, c.hours-c.disputed, c.batches, c.polls)}
	if c.disputed > 0 {
		s.Text += fmt.Sprintf("; of %d disputed hours %d have other leaves than were signed by number or first batch alone: the rest depends on salts", c.disputed, c.shown)
	}
	findings := c.wrong
	switch {
	case len(c.wrong) > 0:
		s.State = proof.Wrong
	case len(c.missing) > 0:
		s.State, findings = proof.Unknown, c.missing
	default:
		return s, len(c.keys) > 0
	}
	s.Text = ""
	for _, f := range findings {
		s.Text += f + "; "
	}
	s.Text += fmt.Sprintf("%d further ones; %d hours could be computed", c.more, c.hours)
	return s, true
}
