package facts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/hashinsight/hashinsight/agent/internal/inventory"
	"github.com/hashinsight/hashinsight/agent/internal/spool"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// What a check of a signed hour has found.
const (
	HourEqual     = "equal"     // its batches give what was signed
	HourDiffers   = "differs"   // they give something else
	HourUnchecked = "unchecked" // they, or salt keys, are not all here; Why says which
)

// whyLast stands until a check has come so far.
const whyLast = "its last batch is not here"

// CheckedHour is a signed hour that is stored.
type CheckedHour struct {
	Hour     time.Time     `json:"hour"` // its beginning
	Spool    ident.SpoolID `json:"spool"`
	Seq      uint64        `json:"seq"` // of the batch that signs it
	FirstSeq uint64        `json:"first_seq"`
	LastSeq  uint64        `json:"last_seq"`
	Miners   uint32        `json:"miners"`
	Result   string        `json:"result"`
	Why      string        `json:"why,omitempty"`

	signed evidence.Hour
}

// Verify computes the stored hours of an agent's data directory again from the stored batches, oldest first. It changes nothing. What
// spool.Verify reports, damage and files that a running agent holds, counts here as not stored.
func Verify(ctx context.Context, dataDir, spoolDir string) ([]CheckedHour, error) {
	salts, err := inventory.OpenSalts(dataDir)
	if err != nil {
		return nil, err
	}
	n, err := readNote(spoolDir, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	v := &verifier{salts: salts, chains: map[ident.SpoolID]*verified{}}
	for _, c := range n.Chains {
		v.chain(c.Spool).floor = c.floor
	}
	if v.decoder, err = wire.NewDecoder(); err != nil {
		return nil, err
	}
	defer v.decoder.Close()
	_, err = spool.Export(ctx, spoolDir, func(b spool.Batch) error {
		if b.Header.Kind != evidence.KindHour {
			return nil
		}
		h, err := evidence.ParseHour(b.Payload)
		if err != nil {
			return nil //nolint:nilerr // of a newer agent: there is nothing to compare
		}
		c := v.chain(h.Spool)
		c.hours = append(c.hours, &CheckedHour{
			Hour: timeOf(h.Hour), Spool: h.Spool, Seq: b.Header.Seq, FirstSeq: h.FirstSeq, LastSeq: h.LastSeq, Miners: h.Leaves, Result: HourUnchecked,
			Why: whyLast, signed: h,
		})
		return nil
	})
	if err == nil || errors.Is(err, spool.ErrIncomplete) {
		_, err = spool.Export(ctx, spoolDir, v.add)
	}
	if err != nil && !errors.Is(err, spool.ErrIncomplete) {
		return nil, err
	}
	var out []CheckedHour
	for _, c := range v.chains {
		v.closeUpTo(c, c.last)
		for _, h := range c.hours {
			out = append(out, *h)
		}
	}
	slices.SortFunc(out, func(a, b CheckedHour) int {
		if d := a.Hour.Compare(b.Hour); d != 0 {
			return d
		}
		return slices.Compare(a.Spool[:], b.Spool[:])
	})
	return out, nil
}

type verifier struct {
	salts   *inventory.Salts
	decoder *wire.Decoder
	chains  map[ident.SpoolID]*verified
}

// verified is one chain on its way through a check.
type verified struct {
	hours []*CheckedHour
	floor floor
	facts *evidence.Facts
	last  uint64 // batch that was read; 0 before the first
	sound int64  // hours before it lack batches
	holed bool
}

func (v *verifier) chain(id ident.SpoolID) *verified {
	if v.chains[id] == nil {
		v.chains[id] = &verified{}
	}
	return v.chains[id]
}

func (v *verifier) add(b spool.Batch) error {
	h := &b.Header
	c := v.chain(h.Spool)
	v.closeUpTo(c, h.Seq-1)
	if c.facts == nil {
		c.facts = evidence.NewFacts(h.Site, h.Spool)
		c.holed = h.Seq > 1
		c.floor.known = h.Seq <= c.floor.Seq
	} else if h.Seq != c.last+1 {
		c.holed, c.floor.known = true, false
	}
	c.last = h.Seq
	if h.Kind != evidence.KindSamples {
		return nil
	}
	samples, err := v.decoder.Samples(b.Payload)
	if err != nil {
		c.holed, c.floor.known = true, false
		return nil //nolint:nilerr // of a newer agent: what it says is missing here
	}
	if c.holed {
		c.holed, c.sound = false, c.floor.sound(h.FirstMS)
	}
	samples.EachFact(func(o *telemetry.Observation) { c.facts.Add(h.Seq, o) })
	for _, hour := range c.facts.Hours() { // what nobody signed takes no room
		if !slices.ContainsFunc(c.hours, func(x *CheckedHour) bool { return x.signed.Hour == hour && x.LastSeq >= h.Seq }) {
			c.facts.Close(hour, h.Seq)
		}
	}
	return nil
}

// closeUpTo compares the hours that were closed at or before a batch.
func (v *verifier) closeUpTo(c *verified, seq uint64) {
	for _, h := range c.hours {
		if h.LastSeq > seq || h.Why != whyLast {
			continue
		}
		h.Why = ""
		switch {
		case c.facts == nil || h.LastSeq > c.last || int64(h.signed.Hour) < c.sound || c.holed:
			h.Why = "batches of it, or of the hour before, are not here any more"
		default:
			h.Result, h.Why = v.compare(h, c.facts.Close(h.signed.Hour, h.LastSeq))
		}
	}
}

func (v *verifier) compare(h *CheckedHour, leaves []evidence.Leaf) (result, why string) {
	if len(leaves) == 0 {
		return HourDiffers, fmt.Sprintf("%d miners were signed, its batches tell of none", h.Miners)
	}
	first := leaves[0].FirstSeq
	for i := range leaves {
		l := &leaves[i]
		key, known := v.salts.Key(l.Miner)
		if !known {
			return HourUnchecked, fmt.Sprintf("the salt key of miner %s is not here", l.Miner)
		}
		l.Salt, first = evidence.SaltOf(key, h.signed.Hour), min(first, l.FirstSeq)
	}
	tree, err := evidence.NewTree(leaves)
	switch {
	case err != nil:
		return HourDiffers, err.Error()
	case int(h.Miners) != len(leaves):
		return HourDiffers, fmt.Sprintf("%d miners were signed, its batches tell of %d", h.Miners, len(leaves))
	case tree.Root() != h.signed.Root:
		return HourDiffers, fmt.Sprintf("root %x was signed, its batches give %x", h.signed.Root, tree.Root())
	case first != h.FirstSeq:
		return HourDiffers, fmt.Sprintf("it was signed from batch %d on, its batches say %d", h.FirstSeq, first)
	}
	return HourEqual, ""
}

// Census counts the hours of a spool directory from its batches, for spool.Export.
type Census struct {
	Last *Signed // the hour that was signed last

	done    map[ident.SpoolID]*hourSet
	touched map[ident.SpoolID]*hourSet
}

// NewCensus reads what is noted of a spool directory's hours.
func NewCensus(spoolDir string) (*Census, error) {
	n, err := readNote(spoolDir, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	c := &Census{Last: n.Last, done: map[ident.SpoolID]*hourSet{}, touched: map[ident.SpoolID]*hourSet{}}
	for _, x := range n.Chains {
		c.done[x.Spool] = &x.Done
	}
	return c, nil
}

// Add takes the next batch.
func (c *Census) Add(b *spool.Batch) {
	put := func(to map[ident.SpoolID]*hourSet, id ident.SpoolID, hour uint32) {
		if to[id] == nil {
			to[id] = &hourSet{}
		}
		to[id].add(hour)
	}
	switch b.Header.Kind {
	case evidence.KindSamples:
		put(c.touched, b.Header.Spool, uint32(hourOf(b.Header.FirstMS)))
		put(c.touched, b.Header.Spool, uint32(hourOf(b.Header.LastMS)))
	case evidence.KindHour:
		h, err := evidence.ParseHour(b.Payload)
		if err != nil {
			return
		}
		put(c.done, h.Spool, h.Hour)
		if c.Last == nil || timeOf(h.Hour).After(c.Last.Hour) {
			c.Last = &Signed{Hour: timeOf(h.Hour), Spool: h.Spool, Seq: b.Header.Seq, Miners: h.Leaves, At: time.UnixMilli(b.Header.LastMS).UTC()}
		}
	}
}

// Waiting returns how many hours with readings were over at an instant and are neither signed nor known to be lost.
func (c *Census) Waiting(now time.Time) (n int) {
	for id, hours := range c.touched {
		for _, r := range *hours {
			for hour := int64(r[0]); hour <= int64(r[1]); hour++ {
				done := c.done[id] != nil && c.done[id].has(uint32(hour))
				if !done && endOf(uint32(hour))+settleAfter.Milliseconds() <= now.UnixMilli() {
					n++
				}
			}
		}
	}
	return n
}
