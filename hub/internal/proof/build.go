package proof

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/hub/internal/statement"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	format "github.com/hashinsight/hashinsight/pkg/proof"
)

// BuilderConfig describes a Builder.
type BuilderConfig struct {
	Log        *Store
	Pool       *pgxpool.Pool
	Statements *statement.Store
	Facts      *facts.Store
	// Key returns the public key that checks the log's checkpoints.
	Key func() ed25519.PublicKey
	// SiteKey returns the public key that checks a site's signatures, one that was revoked since too.
	SiteKey func(context.Context, ident.SiteID, ident.KeyID) (ed25519.PublicKey, error)
	// Covering returns an anchor in a final block whose checkpoint covers the entry at an index; ok is false while there is none. Nil: this hub does not anchor.
	Covering func(ctx context.Context, index uint64) (c Covered, ok bool, err error)
}

// Covered is an anchored checkpoint.
type Covered struct {
	Checkpoint []byte // the signed note
	Anchor     format.Anchor
}

// Builder makes proof files from what the database, the log and the anchors have. Whatever it takes from there it compares with what it is said to be: a row that
// was changed gives an error, and never a file. It is safe for concurrent use.
type Builder struct {
	c     BuilderConfig
	trees chan struct{} // a place in it for each tree of a whole site that is in memory
}

// maxTrees is how many trees of leaves are in memory for proofs of miner-hours: one of 50,000 miners takes some 50 MB.
const maxTrees = 4

// NewBuilder checks the configuration. It touches nothing.
func NewBuilder(c BuilderConfig) (*Builder, error) {
	if c.Log == nil || c.Pool == nil || c.Statements == nil || c.Facts == nil || c.Key == nil || c.SiteKey == nil {
		return nil, errors.New("proof: Log, Pool, Statements, Facts, Key and SiteKey are required")
	}
	return &Builder{c: c, trees: make(chan struct{}, maxTrees)}, nil
}

// waits says that something will be there later.
func waits(text string, args ...any) error {
	return apperr.E(apperr.Conflict, "CONFLICT_001", text, args...)
}

// differs says that the database is not what was signed, or what the log has.
func differs(text string, args ...any) error {
	return fmt.Errorf("no proof is made of it: "+text+": hashinsight-hub log fsck and statement recompute show more", args...)
}

// head chooses the checkpoint of a file whose last entry in the log is at an index: of an anchor that covers it, or else the newest.
func (b *Builder) head(ctx context.Context, last uint64) (h format.Head, p *places, err error) {
	var covered Covered
	var ok bool
	h.State = format.AnchorNever
	if b.c.Covering != nil {
		h.State = format.AnchorNone
		if covered, ok, err = b.c.Covering(ctx, last); err != nil {
			return h, nil, err
		}
	}
	if ok {
		h.State, h.Anchor, h.Checkpoint = format.AnchorMade, covered.Anchor, covered.Checkpoint
	} else {
		c, err := b.c.Log.Checkpoint(ctx)
		if err != nil {
			return h, nil, err
		}
		h.Checkpoint = c.Note
	}
	key := b.c.Key()
	if len(key) != ed25519.PublicKeySize {
		return h, nil, apperr.E(apperr.Unavailable, "API_004", "this hub process does not have the log's key")
	}
	copy(h.Key[:], key)
	c, err := format.OpenCheckpoint(h.Checkpoint, key)
	switch {
	case err != nil:
		return h, nil, differs("%w", err)
	case c.Size <= last && ok:
		return h, nil, differs("anchor %d covers %d entries of the log, and not entry %d", covered.Anchor.Seq, c.Size, last)
	case c.Size <= last:
		return h, nil, waits("entry %d waits for the log's next checkpoint, which is signed within a minute: ask again then", last)
	}
	p = &places{log: b.c.Log, want: c}
	return h, p, p.open(ctx)
}

// places proves that entries are in the log of one checkpoint. It remembers tiles, so that the many entries of a bundle do not read them again and again.
type places struct {
	log  *Store
	want format.Checkpoint
	p    *Prover
	made int
}

// maxMade is after how many proofs remembered tiles are let go: each may have brought a tile of 8 kB.
const maxMade = 2000

func (p *places) open(ctx context.Context) (err error) {
	if p.p, err = p.log.Prover(ctx, p.want.Size); err != nil {
		return err
	}
	if p.p.Root != p.want.Root {
		return differs("the log's %d entries have the root %x, the checkpoint has %x", p.want.Size, p.p.Root, p.want.Root)
	}
	p.made = 0
	return nil
}

// place gives an entry its path. One that is not what the log has is refused.
func (p *places) place(ctx context.Context, e *Placed) (format.PlacedEntry, error) {
	if p.made >= maxMade {
		if err := p.open(ctx); err != nil {
			return format.PlacedEntry{}, err
		}
	}
	p.made++
	path, err := p.p.Inclusion(ctx, e)
	return format.PlacedEntry{Entry: e.Entry, Placed: format.Placed{Index: e.Index, Path: path}}, err
}

// find returns the entry with the body of another, which the log must have.
func (b *Builder) find(ctx context.Context, e format.Entry, what string) (Placed, error) {
	p, ok, err := b.c.Log.Find(ctx, e.Kind, e.Ref())
	if err == nil && !ok {
		err = waits("%s has no place in the log yet: it gets one within a minute, or, where it is older than the log, when the log has caught up", what)
	}
	return p, err
}

// siteKey returns the entry of the key that signed a header, after having checked the signature.
func (b *Builder) siteKey(ctx context.Context, h *format.HourBody) (p Placed, err error) {
	public, err := b.c.SiteKey(ctx, h.Header.Site, h.Header.Key)
	if err != nil {
		return p, err
	}
	if err := evidence.VerifyHeader(public, h.RawHeader, h.Signature); err != nil {
		return p, differs("the signed hour %s of site %s: %w", hourName(h.Hour.Hour), h.Header.Site, err)
	}
	k := format.SiteKeyBody{Site: h.Header.Site, Event: format.KeyAdded, Public: [ed25519.PublicKeySize]byte(public)}
	p, ok, err := b.c.Log.FindSiteKey(ctx, k)
	if err == nil && !ok {
		err = waits("the key %s of site %s has no place in the log yet: ask again in a minute", h.Header.Key, h.Header.Site)
	}
	return p, err
}

// last is the highest index of entries.
func last(entries ...*Placed) (index uint64) {
	for _, e := range entries {
		index = max(index, e.Index)
	}
	return index
}

func hourName(hour uint32) string { return time.Unix(int64(hour)*3600, 0).UTC().Format(time.RFC3339) }

const qSigned = `
SELECT spool_id, seq, header, signature FROM batch WHERE site_id = $1 AND (spool_id, seq) IN (SELECT * FROM unnest($2::uuid[], $3::bigint[]))`

// batchKey names a batch of a site.
type batchKey struct {
	spool ident.SpoolID
	seq   uint64
}

// signed returns what a site signed of its hours, as it stands in the log's entries: the payload of such a batch is made again from the row, and belongs to the
// signed header or the row was changed.
func (b *Builder) signed(ctx context.Context, site ident.SiteID, hours []facts.Hour) ([]format.HourBody, error) {
	spools, seqs := make([][16]byte, len(hours)), make([]int64, len(hours))
	for i := range hours {
		spools[i], seqs[i] = hours[i].InSpool, int64(hours[i].InSeq)
	}
	rows, err := b.c.Pool.Query(ctx, qSigned, site, spools, seqs)
	if err != nil {
		return nil, fmt.Errorf("reading signed hours: %w", err)
	}
	type signature struct{ header, signature []byte }
	found := make(map[batchKey]signature, len(hours))
	var k batchKey
	var seq int64
	var s signature
	if _, err := pgx.ForEachRow(rows, []any{(*[16]byte)(&k.spool), &seq, &s.header, &s.signature}, func() error {
		k.seq = uint64(seq)
		found[k] = s
		s = signature{}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("reading signed hours: %w", err)
	}
	out := make([]format.HourBody, len(hours))
	for i := range hours {
		h := &hours[i]
		s, ok := found[batchKey{h.InSpool, h.InSeq}]
		if !ok {
			return nil, differs("the batch that signs hour %s of site %s is gone", hourName(h.Hour), site)
		}
		payload := evidence.Hour{Site: site, Hour: h.Hour, Spool: h.Spool, FirstSeq: h.FirstSeq, LastSeq: h.LastSeq, Leaves: h.Leaves, Root: h.Root}
		body := make([]byte, 0, len(s.header)+len(s.signature)+evidence.HourSize)
		body = append(append(append(body, s.header...), s.signature...), payload.Bytes()...)
		if out[i], err = format.ParseHourBody(body); err != nil {
			return nil, differs("hour %s of site %s is not as the site signed it: %w", hourName(h.Hour), site, err)
		}
		if out[i].Header.Hash() != h.Header {
			return nil, differs("hour %s of site %s is signed in another batch than the database says", hourName(h.Hour), site)
		}
	}
	return out, nil
}

// leaves returns the leaves of a signed hour, all miners'.
func (b *Builder) leaves(ctx context.Context, site ident.SiteID, hour uint32, spool ident.SpoolID) (leaves []evidence.Leaf, err error) {
	err = b.c.Facts.Each(ctx, b.c.Pool, site, hour, hour+1, nil, func(_ *facts.Hour, l *evidence.Leaf) error {
		if l.Spool == spool {
			leaves = append(leaves, *l)
		}
		return nil
	})
	return leaves, err
}
