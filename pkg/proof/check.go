package proof

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Event is the contract's event HeadAnchored as a chain gives it.
type Event struct {
	Seq            uint64
	Hour           uint64 // since 1970 UTC, the hub's word
	PrevRoot, Root evidence.Hash
	Size           uint64
	BlockTime      int64 // s since 1970 UTC
	BlockNumber    uint64
	TxHash         [32]byte
	Finalized      bool
}

// Chain is what a checker knows of chains. Event returns the event that an anchor names. Any error but those below means that it could not be asked.
type Chain interface {
	Event(ctx context.Context, a Anchor) (Event, error)
}

// What a chain can say against an anchor.
var (
	ErrNoEvent    = errors.New("the chain has no such event")
	ErrWrongChain = errors.New("the chain is another one")
	ErrWrongCode  = errors.New("at the contract's address is other code")
	ErrNotFinal   = errors.New("the event's block is not final yet")
)

// Trust is what the checker brings himself; what he does not bring is taken from the file, and the report says so.
type Trust struct {
	Contract *[20]byte         // the log's contract, from the customer's own contract; without it nothing is proven
	Chain    Chain             // without it nothing is proven
	LogKey   ed25519.PublicKey // of checkpoints
	HubKey   ed25519.PublicKey // of statements
	SiteKeys []SiteKey         // of agents, all of the sites in the file
}

// SiteKey is a key that the checker knows as a site's. The zero site stands for any site that has no key of its own in the list: whoever has keys without knowing whose they are
// cannot tell a site's hours from what another site signed in its name.
type SiteKey struct {
	Site ident.SiteID
	Key  ed25519.PublicKey
}

// Trusts tells whether a key may sign for a site: all may if the checker brings none.
func (t *Trust) Trusts(site ident.SiteID, key ed25519.PublicKey) bool {
	own := slices.ContainsFunc(t.SiteKeys, func(k SiteKey) bool { return k.Site == site })
	if !own {
		site = ident.SiteID{}
	}
	return len(t.SiteKeys) == 0 || slices.ContainsFunc(t.SiteKeys, func(k SiteKey) bool { return k.Site == site && bytes.Equal(k.Key, key) })
}

// SLA computes a bundle's statement again. Package sla of the hub is what does it: this package cannot import it, and a browser has no such thing. Errors mean that the statement is not
// what its inputs give; those that wrap ErrUnchecked, that it cannot be told.
type SLA interface {
	// Begin takes the statement, its canonical bytes and its documents, all compared with their hashes.
	Begin(s *Statement, statement []byte, in *Inputs) error
	// Hour takes the next hour, in the statement's order: of an agreed one the leaves of Entries that are not bare, of a disputed one Miners. h is used again after the call. It is called only
	// if nothing is wrong with the hour.
	Hour(ref *HourRef, h *BundleHour) error
	// End compares the statement with what the hours gave.
	End() error
}

// ErrUnchecked means that something could not be computed, which makes it neither right nor wrong.
var ErrUnchecked = errors.New("could not be computed")

// Check checks a proof file. It reads r to its end, and holds of a bundle one hour at a time. sla may be nil: a bundle's statement is then not computed again, and a note says so.
func Check(ctx context.Context, r io.Reader, t Trust, sla SLA) Report {
	c := checker{ctx: ctx, t: t, sla: sla}
	if err := c.file(r); err != nil {
		state := Wrong
		if !errors.Is(err, ErrFormat) {
			state = Unknown // it cannot be read
		}
		return Report{Kind: c.r.Kind, Steps: []Step{{StepDecode, state, err.Error()}}}
	}
	c.r.finish()
	return c.r
}

type checker struct {
	ctx context.Context //nolint:containedctx // lives as long as one call
	t   Trust
	sla SLA
	r   Report

	entries int // that stand in the log
}

func (c *checker) file(r io.Reader) error {
	d, err := Open(r)
	c.r.Kind = d.Kind
	if err != nil {
		return err
	}
	note, signature, err := ParseCheckpoint(d.Head.Checkpoint)
	if err != nil {
		return malformed("%v", err)
	}
	c.r.Checkpoint, c.r.AnchorState, c.r.Anchor = note, d.Head.State, d.Head.Anchor
	c.r.SiteKeys = map[ident.SiteID][]ident.KeyID{}
	switch d.Kind {
	case KindHour:
		err = c.hour(d)
	case KindEntry:
		err = c.entry(d)
	default:
		err = c.statement(d)
	}
	if err != nil {
		return err
	}
	c.r.set(StepDecode, OK, "a proof file of a %s", d.Kind)
	c.r.set(StepLog, OK, "entries found in their places in the log %s of %d entries: %d", note.Origin, note.Size, c.entries)
	c.checkpoint(&d.Head, signature)
	c.anchor()
	c.notes(&d.Head)
	return nil
}

// logged checks that an entry stands in the log.
func (c *checker) logged(step, what string, e *Entry, p *Placed) {
	c.entries++
	c.r.want(step, what, p.verify(e.LeafHash(), &c.r.Checkpoint))
}

func (c *checker) hour(d *Reader) error {
	p, err := d.HourProof()
	if err != nil {
		return err
	}
	body, err := ParseHourBody(p.Hour.Body)
	if err != nil {
		return malformed("%v", err)
	}
	h := &body.Hour
	c.r.Leaf = &p.Leaf
	c.r.EndMS = (int64(h.Hour) + 1) * evidence.HourMS
	if p.Leaf.Site != h.Site || p.Leaf.Hour != h.Hour || p.Leaf.Spool != h.Spool {
		c.r.wrong(StepLeaf, "the leaf is of another site, hour or chain than the signed hour")
	}
	c.r.want(StepLeaf, "the leaf is not under the root", evidence.VerifyInclusion(&p.Leaf, int(p.LeafIndex), int(h.Leaves), p.LeafPath, h.Root))
	c.r.set(StepLeaf, OK, "the leaf of miner %s is entry %d of %d of the hour %s of site %s, root %x", p.Leaf.Miner, p.LeafIndex, h.Leaves, hourName(h.Hour), h.Site, h.Root)
	c.logged(StepLog, "the signed hour", &p.Hour.Entry, &p.Hour.Placed)
	key, err := ParseSiteKeyBody(p.SiteKey.Body)
	if err != nil {
		return malformed("%v", err)
	}
	c.siteKey(&key, &p.SiteKey)
	if key.Site != h.Site || ident.KeyIDOf(key.Public[:]) != body.Header.Key {
		c.r.wrong(StepSiteKey, "the hour of site %s is signed with key %s, the file has %s of site %s", h.Site, body.Header.Key, ident.KeyIDOf(key.Public[:]), key.Site)
	}
	c.r.want(StepSiteSignature, "the hour", evidence.VerifyHeader(key.Public[:], body.RawHeader, body.Signature))
	c.r.set(StepSiteSignature, OK, "the site has signed the hour with key %s", body.Header.Key)
	c.r.set(StepSiteKey, OK, "the log names key %s as the site's", body.Header.Key)
	if p.SiteKey.Index > p.Hour.Index {
		c.r.set(NoteKeyLate, Note, "the key entered the log after the hour that it signed")
	}
	if b := body.Header.Beacon; b != (evidence.Beacon{}) {
		c.r.set(NoteBeacon, Note, "the site signed the hour with knowledge of block %d of chain %d (%x), so not before it; whether that block is on the chain was not asked", b.BlockNumber, b.ChainID, b.BlockHash)
	}
	return nil
}

func (c *checker) entry(d *Reader) error {
	p, err := d.EntryProof()
	if err != nil {
		return err
	}
	c.r.Entry, c.r.EntryIndex, c.r.EndMS = &p.Entry.Entry, p.Entry.Index, p.Entry.AtMS
	c.logged(StepLog, "the entry", &p.Entry.Entry, &p.Entry.Placed)
	return nil
}

// siteKey checks what the log says of a key.
func (c *checker) siteKey(k *SiteKeyBody, p *PlacedEntry) {
	id := ident.KeyIDOf(k.Public[:])
	c.logged(StepSiteKey, fmt.Sprintf("key %s", id), &p.Entry, &p.Placed)
	if k.Event != KeyAdded {
		c.r.wrong(StepSiteKey, "the entry of key %s does not say that it is the site's", id)
	}
	if !c.t.Trusts(k.Site, k.Public[:]) {
		c.r.wrong(StepSiteKey, "key %s of site %s is none of those given for it", id, k.Site)
	}
	c.r.SiteKeys[k.Site] = append(c.r.SiteKeys[k.Site], id)
}

func (c *checker) statement(d *Reader) error {
	p, err := d.StatementProof()
	if err != nil {
		return err
	}
	s, err := ParseStatement(p.Statement)
	if err != nil {
		return malformed("%v", err)
	}
	body, err := ParseStatementBody(p.Entry.Body)
	if err != nil {
		return malformed("%v", err)
	}
	key, err := ParseHubKeyBody(p.HubKey.Body)
	if err != nil {
		return malformed("%v", err)
	}
	c.r.Statement, c.r.StatementHash, c.r.EndMS = s, sha256.Sum256(p.Statement), fromMS(s.Month+1)
	wrong := func(format string, args ...any) { c.r.wrong(StepStatement, format, args...) }
	switch {
	case body.Hash != c.r.StatementHash:
		wrong("the statement has the hash %x, its entry in the log %x", c.r.StatementHash, body.Hash)
	case body.Contract != s.Contract || body.Month != s.Month || body.Supersedes != s.Supersedes:
		wrong("the statement is of another contract or month than its entry in the log, or takes another one's place")
	case (body.Seq == 1) != (body.Supersedes == evidence.Hash{}):
		wrong("number %d of its month: the first statement, and only that, takes no other's place", body.Seq)
	}
	if key.Role != HubKeyEvidence || key.Event != KeyAdded || key.Public != body.Public {
		wrong("the key that signed the statement is not the hub's by the entry in the file")
	}
	if c.t.HubKey != nil && !bytes.Equal(c.t.HubKey, body.Public[:]) {
		wrong("the statement is signed with key %s, not with the hub's that was given, %s", ident.KeyIDOf(body.Public[:]), ident.KeyIDOf(c.t.HubKey))
	}
	c.r.want(StepStatement, "the hub's signature", evidence.VerifyStatement(body.Public[:], p.Statement, body.Signature[:]))
	c.logged(StepLog, "the statement's entry", &p.Entry.Entry, &p.Entry.Placed)
	c.logged(StepLog, "the hub's key", &p.HubKey.Entry, &p.HubKey.Placed)
	if d.Kind == KindBundle {
		if err := c.bundle(d, &p, s); err != nil {
			return err
		}
	}
	c.r.set(StepStatement, OK, "the hub has signed statement %x of contract %s for %s: %d ppm, credit %d/10000", c.r.StatementHash, ident.SiteID(s.Contract), MonthName(s.Month), s.PPM, s.CreditBP)
	return nil
}

func (c *checker) checkpoint(h *Head, signature []byte) {
	c.r.want(StepCheckpoint, "the checkpoint", c.r.Checkpoint.Verify(h.Key[:], signature))
	if c.t.LogKey != nil && !bytes.Equal(c.t.LogKey, h.Key[:]) {
		c.r.wrong(StepCheckpoint, "the log's key in the file is %s, not the one given, %s", ident.KeyIDOf(h.Key[:]), ident.KeyIDOf(c.t.LogKey))
	}
	c.r.set(StepCheckpoint, OK, "the log has signed %d entries with root %x", c.r.Checkpoint.Size, c.r.Checkpoint.Root)
}

// anchor compares the checkpoint with the chain, and the block's time with the end of what is proven.
func (c *checker) anchor() {
	set := func(s State, format string, args ...any) { c.r.set(StepAnchor, s, format, args...) }
	a := &c.r.Anchor
	switch {
	case c.r.AnchorState == AnchorNone:
		set(NotYet, "the checkpoint was not anchored when the file was made: download it again later")
		return
	case c.r.AnchorState == AnchorNever:
		set(NotYet, "this hub anchors nothing: that the log was not written later only its own signature says")
		return
	case c.t.Contract == nil:
		set(Unknown, "the file names the contract 0x%x on chain %d: whether it is the log's only the address in your own contract tells: give that (--contract 0x…)", a.Contract, a.ChainID)
		return
	case *c.t.Contract != a.Contract:
		set(Wrong, "the file names the contract 0x%x, not the one given, 0x%x", a.Contract, *c.t.Contract)
		return
	case c.t.Chain == nil:
		set(Unknown, "no endpoint of a chain was given (--rpc https://…)")
		return
	}
	e, err := c.t.Chain.Event(c.ctx, *a)
	switch {
	case errors.Is(err, ErrNoEvent) || errors.Is(err, ErrWrongChain) || errors.Is(err, ErrWrongCode):
		set(Wrong, "anchor %d of contract 0x%x on chain %d: %v", a.Seq, a.Contract, a.ChainID, err)
		return
	case errors.Is(err, ErrNotFinal):
		set(NotYet, "anchor %d of contract 0x%x on chain %d: %v", a.Seq, a.Contract, a.ChainID, err)
		return
	case err != nil:
		set(Unknown, "the chain could not be asked: %v", err)
		return
	}
	c.r.Event = &e
	switch {
	case e.Seq != a.Seq || e.BlockNumber != a.Block || e.TxHash != a.Tx:
		c.r.wrong(StepAnchor, "anchor %d is in block %d, transaction %x; the file says %d, block %d, %x", e.Seq, e.BlockNumber, e.TxHash, a.Seq, a.Block, a.Tx)
	case e.Root != c.r.Checkpoint.Root || e.Size != c.r.Checkpoint.Size:
		c.r.wrong(StepAnchor, "anchor %d says %d entries with root %x, which is not the checkpoint", e.Seq, e.Size, e.Root)
	case !e.Finalized:
		c.r.set(StepAnchor, NotYet, "anchor %d is in block %d, which is not final yet", e.Seq, e.BlockNumber)
	default:
		c.r.set(StepAnchor, OK, "the checkpoint is anchor %d of contract 0x%x on chain %d, in the final block %d", a.Seq, a.Contract, a.ChainID, a.Block)
	}
	what := map[Kind]string{KindHour: "the hour's end", KindStatement: "the month's end", KindBundle: "the month's end", KindEntry: "the entry's time"}[c.r.Kind]
	// Compared in seconds and not as a duration, which has no room for a lying endpoint's times.
	if end := c.r.EndMS / 1000; e.BlockTime < end {
		c.r.wrong(StepTime, "the block is of %s, before %s, %s", timeName(min(e.BlockTime, maxUnix)*1000), what, timeName(c.r.EndMS))
	} else {
		c.r.set(StepTime, OK, "the block is of %s, %s after %s", timeName(min(e.BlockTime, maxUnix)*1000), seconds(e.BlockTime-end), what)
	}
}

// notes says what a file of its kind does not prove.
func (c *checker) notes(h *Head) {
	note := func(id, format string, args ...any) { c.r.set(id, Note, format, args...) }
	if c.r.Kind == KindHour || c.r.Kind == KindBundle {
		note(NoteSite, "not proven: that the site measured right; proven is what its agent signed, and that it stood in the log by the block's time")
		if len(c.t.SiteKeys) == 0 {
			note(NoteSiteKey, "not proven: that the keys are the sites' own (%s): the log says so; ask the site for the id of its key, or give the keys", keyNames(c.r.SiteKeys))
		} else if slices.ContainsFunc(c.t.SiteKeys, func(k SiteKey) bool { return k.Site == ident.SiteID{} }) {
			note(NoteSiteKey, "not proven: that each key is that site's for which it signed (%s): some were given without saying whose they are", keyNames(c.r.SiteKeys))
		}
	}
	if c.r.Kind == KindEntry {
		note(NoteEntry, "not proven: that what the entry says is true; proven is that the hub recorded it, and that it stood in the log by the block's time")
	}
	if c.r.Kind == KindStatement || c.r.Kind == KindBundle {
		if c.t.HubKey == nil {
			note(NoteHubKey, "not proven: that the key is this hub's: the log says so; give the hub's key to compare")
		}
		note(NoteSuperseded, "not proven: that no later statement takes this one's place, and that there is no other one for the month: look for restatements in the log")
		if c.r.Kind == KindStatement {
			note(NoteFigures, "not proven: that the statement's figures follow from signed facts: its bundle tells")
		} else {
			note(NoteContract, "not proven: that terms and assignments are the agreed ones and all there are, and that no record shortens an excuse which is not named: compare them with your contract")
		}
	}
	if c.t.LogKey == nil {
		note(NoteLogKey, "the log's key %s is the file's own: the anchor, not the key, is what binds the hub", ident.KeyIDOf(h.Key[:]))
	}
	if c.r.Event != nil {
		note(NoteChain, "the chain's answers are as trustworthy as the endpoints that gave them")
	}
	note(NoteHistory, "not proven: that the log was only appended to after this checkpoint, and that nothing later in it takes back what is shown here, such as a key retired: compare it with a later one by a consistency proof")
}

func keyNames(keys map[ident.SiteID][]ident.KeyID) string {
	var names []string
	for site, ids := range keys {
		for _, id := range ids {
			names = append(names, fmt.Sprintf("%s of site %s", id, site))
		}
	}
	slices.Sort(names)
	if len(names) > 5 {
		names = append(names[:5], fmt.Sprintf("and %d more", len(names)-5))
	}
	var b bytes.Buffer
	for i, n := range names {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(n)
	}
	return b.String()
}

// maxUnix is the end of the year 9999, the last time that is shown.
const maxUnix = 253_402_300_799

func hourName(hour uint32) string {
	return time.Unix(int64(hour)*3600, 0).UTC().Format("2006-01-02T15")
}

func timeName(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

func seconds(s int64) string {
	if s >= 48*3600 {
		return fmt.Sprintf("%d days %d h", s/86400, s%86400/3600)
	}
	return (time.Duration(s) * time.Second).String()
}
