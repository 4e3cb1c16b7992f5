package spool

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	berrors "go.etcd.io/bbolt/errors"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// maxProblems bounds what a report lists; the rest is only counted.
const maxProblems = 1000

// Verification is what Verify found.
type Verification struct {
	Segments []VerifiedSegment `json:"segments"`
	Batches  uint64            `json:"batches"` // whose header, signature and payload are right
	Samples  uint64            `json:"samples"`
	// Absent are ranges between stored batches that are not here: deleted after acknowledgement, unless a gap record names them.
	Absent []Absence `json:"absent"`
	Gaps   []GapNote `json:"gaps"`
	// Quarantined are the files that an agent set aside earlier, which were not read.
	Quarantined []string  `json:"quarantined"`
	Locked      []string  `json:"locked"` // held by a running agent, not read
	Problems    []Problem `json:"problems"`
	ProblemsN   uint64    `json:"problem_count"` // also those that are not listed
}

// VerifiedSegment is one segment file.
type VerifiedSegment struct {
	File     string        `json:"file"`
	Spool    ident.SpoolID `json:"spool"`
	First    uint64        `json:"first_seq"`
	Last     uint64        `json:"last_seq"` // first_seq-1 when empty
	Bytes    int64         `json:"bytes"`
	Problems uint64        `json:"problems"`
}

// Absence is a range of sequence numbers between stored batches that is not stored.
type Absence struct {
	Spool ident.SpoolID `json:"spool"`
	First uint64        `json:"first_seq"`
	Last  uint64        `json:"last_seq"`
	Named bool          `json:"named"` // a gap record here covers all of it
}

// GapNote is a stored gap record.
type GapNote struct {
	Seq    uint64        `json:"seq"` // of the batch that holds it
	Spool  ident.SpoolID `json:"spool"`
	First  uint64        `json:"first_seq"`
	Last   uint64        `json:"last_seq"`
	Reason string        `json:"reason"`
}

// Problem is something that is wrong with what is stored.
type Problem struct {
	File string `json:"file"`
	Seq  uint64 `json:"seq,omitempty"` // 0: the file as a whole
	Text string `json:"text"`
}

// Err returns what is wrong, in one error, or nil. Files that could not be read because an agent holds them count.
func (v *Verification) Err() error {
	switch {
	case v.ProblemsN > 0:
		return fmt.Errorf("spool is damaged: %d problems, the first in %s: %s", v.ProblemsN, v.Problems[0].File, v.Problems[0].Text)
	case len(v.Locked) > 0:
		return fmt.Errorf("%w: %s is being written by a running agent: stop the agent and verify again to check that one too", ErrIncomplete, strings.Join(v.Locked, ", "))
	}
	return nil
}

func (v *Verification) problem(file string, seq uint64, text string) {
	v.ProblemsN++
	if n := len(v.Segments); n > 0 && v.Segments[n-1].File == file {
		v.Segments[n-1].Problems++
	}
	if len(v.Problems) < maxProblems {
		v.Problems = append(v.Problems, Problem{file, seq, text})
	}
}

// Verify reads every segment of a directory and changes nothing. It checks each batch's header, signature and payload hash,
// that each header names the one before it, that no sequence number is missing within a segment, and the gap records. key
// returns the site's public key with an id, or nil. The error is about reading the directory; what is wrong with the batches
// stands in the result.
func Verify(ctx context.Context, dir string, key func(ident.KeyID) ed25519.PublicKey) (*Verification, error) {
	v := &Verification{Segments: []VerifiedSegment{}, Absent: []Absence{}, Gaps: []GapNote{}, Quarantined: []string{}, Locked: []string{}, Problems: []Problem{}}
	segs, aside, err := listSegments(dir)
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	v.Quarantined = append(v.Quarantined, aside...)
	c := &checker{v: v, key: key}
	for _, g := range segs {
		if err := c.segment(ctx, g); err != nil {
			return nil, fmt.Errorf("verify: %w", err)
		}
	}
	for i := range v.Absent {
		a := &v.Absent[i]
		next := a.First // gap records may touch or overlap
		for moved := true; moved; {
			moved = false
			for _, g := range v.Gaps {
				if g.Spool == a.Spool && g.First <= next && g.Last >= next {
					next, moved = g.Last+1, true
				}
			}
		}
		a.Named = next > a.Last
	}
	return v, nil
}

// listSegments returns a directory's segments, oldest first, and the names of those that were set aside.
func listSegments(dir string) (segs []*segment, aside []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		if chain, first, ok := parseSegmentName(e.Name()); ok {
			segs = append(segs, &segment{path: filepath.Join(dir, e.Name()), chain: chain, first: first})
		} else if strings.HasSuffix(e.Name(), segmentSuffix+corruptSuffix) {
			aside = append(aside, e.Name())
		}
	}
	slices.SortFunc(segs, func(a, b *segment) int { return strings.Compare(a.path, b.path) })
	return segs, aside, nil
}

// checker carries what one segment has to agree with in the next.
type checker struct {
	v     *Verification
	key   func(ident.KeyID) ed25519.PublicKey
	site  ident.SiteID // of the first batch
	spool ident.SpoolID
	last  uint64         // newest sequence number seen of spool; 0 before the first
	hash  *evidence.Hash // of its header; nil when that could not be read
}

func (c *checker) segment(ctx context.Context, g *segment) error {
	name := filepath.Base(g.path)
	err := g.open(true, 0)
	if err == nil {
		err = g.load()
	}
	defer g.close()
	switch {
	case errors.Is(err, fs.ErrNotExist): // acknowledged and deleted since the directory was read
		return nil
	case errors.Is(err, berrors.ErrTimeout):
		c.v.Locked = append(c.v.Locked, name)
		c.hash = nil
		return nil
	}
	c.v.Segments = append(c.v.Segments, VerifiedSegment{File: name, Spool: g.spool, First: g.first, Last: g.last, Bytes: g.size})
	switch {
	case errors.Is(err, errCorrupt):
		c.v.problem(name, 0, err.Error())
		c.hash = nil
		return nil
	case err != nil:
		return err
	}
	c.join(g, name)
	for seq := g.first; seq <= g.last; seq++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := g.get(seq, true)
		switch {
		case errors.Is(err, errCorrupt):
			c.v.problem(name, seq, err.Error())
			c.last, c.hash = g.last, nil
			return nil // the file cannot be read any further
		case errors.Is(err, errBatch):
			c.v.problem(name, seq, err.Error())
			c.last, c.hash = seq, nil
		case err != nil:
			return err
		default:
			c.batch(name, &b)
		}
	}
	return nil
}

// join compares the beginning of a segment with the end of the one before.
func (c *checker) join(g *segment, name string) {
	switch {
	case g.spool != c.spool:
		c.spool, c.last, c.hash = g.spool, 0, nil
		if (g.first == 1) != (g.prev == evidence.Hash{}) {
			c.v.problem(name, 0, "exactly the first segment of a chain has no header before it")
		}
		if g.first > 1 {
			c.v.Absent = append(c.v.Absent, Absence{Spool: g.spool, First: 1, Last: g.first - 1})
		}
	case g.first <= c.last:
		c.v.problem(name, 0, fmt.Sprintf("begins with batch %d, but %d is stored before it", g.first, c.last))
	case g.first > c.last+1 && c.last > 0:
		c.v.Absent = append(c.v.Absent, Absence{Spool: g.spool, First: c.last + 1, Last: g.first - 1})
		c.hash = nil
	case c.hash != nil && *c.hash != g.prev:
		c.v.problem(name, 0, fmt.Sprintf("does not follow batch %d: the hash of its header differs", c.last))
	}
	c.last, c.hash = g.first-1, &g.prev // the file's own word for what comes before is what its first header has to name
}

func (c *checker) batch(name string, b *Batch) {
	h := &b.Header
	if c.site == (ident.SiteID{}) {
		c.site = h.Site
	}
	pub := c.key(h.Key)
	bad := ""
	switch {
	case h.Site != c.site:
		bad = fmt.Sprintf("is of site %s, those before are of %s", h.Site, c.site)
	case pub == nil:
		bad = fmt.Sprintf("is signed with key %s, which is not known: name the site's identity directory", h.Key)
	case evidence.VerifyHeader(pub, b.HeaderBytes, b.Signature) != nil:
		bad = "its signature does not verify"
	case c.hash != nil && h.Prev != *c.hash:
		bad = "does not name the header before it"
	}
	if h.Kind == evidence.KindGap && bad == "" {
		if g, err := evidence.ParseGap(b.Payload); err != nil {
			bad = err.Error()
		} else {
			c.v.Gaps = append(c.v.Gaps, GapNote{Seq: h.Seq, Spool: g.Spool, First: g.FirstSeq, Last: g.LastSeq, Reason: g.Reason.String()})
		}
	}
	hash := h.Hash()
	c.last, c.hash = h.Seq, &hash
	if bad != "" {
		c.v.problem(name, h.Seq, fmt.Sprintf("batch %d: %s", h.Seq, bad))
		return
	}
	c.v.Batches++
	if h.Kind == evidence.KindSamples {
		c.v.Samples += uint64(h.Samples)
	}
}

// Keys returns the public keys with which a directory's batches were signed, as its spool.json says. They show that the
// batches are whole, not who made them: for that, compare with the site's identity.
func Keys(dir string) (func(ident.KeyID) ed25519.PublicKey, error) {
	b, err := os.ReadFile(filepath.Join(dir, metaName))
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	var m meta
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("spool: %s: %w", metaName, err)
	}
	return func(id ident.KeyID) ed25519.PublicKey {
		pub, err := hex.DecodeString(m.Keys[id.String()])
		if err != nil || len(pub) != ed25519.PublicKeySize || ident.KeyIDOf(pub) != id {
			return nil
		}
		return pub
	}, nil
}

// rememberKey puts the public key into spool.json, for Verify.
func (s *Spool) rememberKey(m *meta) (news bool) {
	pub := hex.EncodeToString(s.cfg.Key.Public().(ed25519.PublicKey))
	if m.Keys[s.key.String()] == pub {
		return false
	}
	if m.Keys == nil {
		m.Keys = make(map[string]string)
	}
	m.Keys[s.key.String()] = pub
	return true
}
