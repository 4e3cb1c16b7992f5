package proof

import (
	"bytes"
	"cmp"
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
	Contract *[20]byte           // the log's contract, from the customer's own contract; without it nothing is proven
	Chain    Chain               // without it nothing is proven
	LogKey   ed25519.PublicKey   // of checkpoints
	HubKey   ed25519.PublicKey   // of statements
	SiteKeys []ed25519.PublicKey // of agents, all of the sites in the file
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

// maxAhead is how long before its end an hour may come into the log where the site's clock is wrong: hubs keep hours that begin at most a day ahead of their own clock.
const maxAhead = 25 * time.Hour

// maxOrderSkew is how far an entry's time may lie before that of entries with lower indexes: transactions end in another order than they begin.
const maxOrderSkew = 15 * time.Minute

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
	if len(c.t.SiteKeys) > 0 && !slices.ContainsFunc(c.t.SiteKeys, func(t ed25519.PublicKey) bool { return bytes.Equal(t, k.Public[:]) }) {
		c.r.wrong(StepSiteKey, "key %s of site %s is none of those given", id, k.Site)
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

// placedTime is a place in the log and a time before which nothing can have come there.
type placedTime struct {
	index uint64
	ms    int64
}

func (c *checker) bundle(d *Reader, p *StatementProof, s *Statement) error {
	in, err := d.Inputs(s)
	if err != nil {
		return err
	}
	assignments := c.documents(&in, s)
	who := newRoster(assignments)
	most := 0
	for _, miners := range who {
		most = max(most, len(miners))
	}
	keys, err := c.siteKeys(&in)
	if err != nil {
		return err
	}
	slaErr := errors.New("not begun")
	if c.sla != nil && !c.r.failed(StepStatement) {
		slaErr = c.sla.Begin(s, p.Statement, &in)
	}
	var h BundleHour
	var hc hourCheck
	var clock []placedTime
	leaves, disputed := 0, 0
	for i := 0; ; i++ {
		if err := d.NextHour(&h, most); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		if err := c.ctx.Err(); err != nil {
			return err
		}
		ref := &s.Hours[i]
		body, err := c.signedHour(ref, &h, keys)
		if err != nil {
			return err
		}
		clock = append(clock, placedTime{h.Entry.Index, ref.notBefore(h.Entry.AtMS)})
		hc.assigned = who.in(hc.assigned, ref.Site, ref.Hour)
		if h.State == HourAgreed {
			err = hc.agreed(&h, &body.Hour)
		} else {
			disputed++
			err = hc.disputed(&h)
		}
		if err != nil {
			c.r.wrong(StepLeaf, "hour %s of site %s, chain %s: %v", hourName(ref.Hour), ref.Site, ref.Spool, err)
		}
		for j := range h.Entries {
			if !h.Entries[j].Bare {
				leaves++
			}
		}
		if slaErr == nil && !c.r.failed(StepLeaf) && !c.r.failed(StepStatement) {
			slaErr = c.sla.Hour(ref, &h)
		}
	}
	for _, k := range keys {
		if !k.used {
			c.r.wrong(StepSiteKey, "key %s has signed no hour here", ident.KeyIDOf(k.Public[:]))
		}
	}
	n := len(s.Hours)
	c.r.set(StepLeaf, OK, "%d leaves lie under the roots of %d hours; every other assigned miner has none", leaves, n-disputed)
	c.r.set(StepSiteSignature, OK, "%d hours are signed", n)
	c.r.set(StepSiteKey, OK, "with %d keys that the log names as the sites'", len(keys))
	c.inOrder(&in, s, clock)
	c.hourNotes(s, who, disputed)
	if slaErr == nil && !c.r.failed(StepLeaf) && !c.r.failed(StepStatement) {
		slaErr = c.sla.End()
	}
	switch {
	case c.sla == nil:
		c.r.set(StepSLA, Note, "not computed again here: hashinsight-verify bundle does it")
	case slaErr == nil:
		c.r.set(StepSLA, OK, "terms, assignments, excuses and leaves give the statement, byte for byte")
	case c.r.failed(StepLeaf) || c.r.failed(StepStatement):
		c.r.set(StepSLA, Note, "not computed again: its inputs are wrong")
	case errors.Is(slaErr, ErrUnchecked):
		c.r.set(StepSLA, Unknown, "%v", slaErr)
	default:
		c.r.wrong(StepSLA, "%v", slaErr)
	}
	return nil
}

// documents compares the inputs with what the statement names, and their entries with the log; it returns the assignments.
func (c *checker) documents(in *Inputs, s *Statement) (assignments []Assignment) {
	wrong := func(format string, args ...any) { c.r.wrong(StepStatement, format, args...) }
	for i := range in.Terms {
		doc, ref := &in.Terms[i], &s.Terms[i]
		what := fmt.Sprintf("terms version %d", ref.Version)
		if sha256.Sum256(doc.Bytes) != ref.Hash {
			wrong("%s are not those that the statement names", what)
		}
		c.r.want(StepStatement, what, checkTerms(doc.Bytes, s.Contract, ref.Version))
		e := (&TermsBody{s.Contract, ref.Version, ref.Hash}).Entry(doc.AtMS)
		c.logged(StepLog, what, &e, &doc.Placed)
	}
	for i := range in.Assignments {
		doc, ref := &in.Assignments[i], &s.Assignments[i]
		a, err := ParseAssignment(doc.Bytes)
		c.r.want(StepStatement, fmt.Sprintf("assignment %s", ident.SiteID(ref.ID)), err)
		if sha256.Sum256(doc.Bytes) != ref.Hash || err == nil && (a.ID != ref.ID || a.Contract != s.Contract) {
			wrong("assignment %s is not the one that the statement names", ident.SiteID(ref.ID))
		}
		assignments = append(assignments, a)
	}
	for i := range in.Excuses {
		doc, ref := &in.Excuses[i], &s.Excuses[i]
		what := fmt.Sprintf("excuse %s", ident.SiteID(ref.ID))
		x, err := parseExcuse(doc.Bytes)
		c.r.want(StepStatement, what, err)
		if sha256.Sum256(doc.Bytes) != ref.Hash || err == nil && x.id != ref.ID {
			wrong("%s is not the one that the statement names", what)
		}
		doc.AtMS = x.recordedMS
		e := (&ExcuseBody{ref.ID, ref.Hash}).Entry(doc.AtMS)
		c.logged(StepLog, what, &e, &doc.Placed)
	}
	return assignments
}

type signingKey struct {
	SiteKeyBody
	index uint64
	used  bool
}

type signerID struct {
	site ident.SiteID
	key  ident.KeyID
}

func (c *checker) siteKeys(in *Inputs) (map[signerID]*signingKey, error) {
	keys := make(map[signerID]*signingKey, len(in.SiteKeys))
	var before signerID
	for i := range in.SiteKeys {
		p := &in.SiteKeys[i]
		k, err := ParseSiteKeyBody(p.Body)
		if err != nil {
			return nil, malformed("%v", err)
		}
		id := signerID{k.Site, ident.KeyIDOf(k.Public[:])}
		if i > 0 && cmp.Or(bytes.Compare(before.site[:], id.site[:]), bytes.Compare(before.key[:], id.key[:])) >= 0 {
			return nil, malformed("key %s of site %s is out of order", id.key, id.site)
		}
		before = id
		c.siteKey(&k, p)
		keys[id] = &signingKey{SiteKeyBody: k, index: p.Index}
	}
	return keys, nil
}

// signedHour compares an hour with what the statement names, and checks its signature and place.
func (c *checker) signedHour(ref *HourRef, h *BundleHour, keys map[signerID]*signingKey) (HourBody, error) {
	body, err := ParseHourBody(h.Entry.Body)
	if err != nil {
		return body, malformed("%v", err)
	}
	name := func() string {
		return fmt.Sprintf("hour %s of site %s, chain %s", hourName(ref.Hour), ref.Site, ref.Spool)
	}
	got := &body.Hour
	if got.Site != ref.Site || got.Hour != ref.Hour || got.Spool != ref.Spool || got.Root != ref.Root || sha256.Sum256(body.RawHeader) != ref.HeaderHash || h.State != ref.State {
		c.r.wrong(StepStatement, "%s: what is signed is not what the statement names", name())
	}
	if err := h.Entry.verify(h.Entry.LeafHash(), &c.r.Checkpoint); err != nil {
		c.r.wrong(StepLog, "%s: %v", name(), err)
	}
	c.entries++
	key := keys[signerID{got.Site, body.Header.Key}]
	if key == nil {
		c.r.wrong(StepSiteKey, "%s: signed with key %s, of which the file has no entry", name(), body.Header.Key)
		return body, nil
	}
	key.used = true
	if key.index > h.Entry.Index {
		c.r.set(NoteKeyLate, Note, "key %s entered the log after hours that it signed", body.Header.Key)
	}
	if err := evidence.VerifyHeader(key.Public[:], body.RawHeader, body.Signature); err != nil {
		c.r.wrong(StepSiteSignature, "%s: %v", name(), err)
	}
	if b := body.Header.Beacon; b != (evidence.Beacon{}) {
		c.r.set(NoteBeacon, Note, "hours were signed with knowledge of blocks of chain %d, so not before them; whether those blocks are on the chain was not asked", b.ChainID)
	}
	return body, nil
}

// notBefore returns a time in ms before which nothing can stand in the log behind an hour whose entry says that it was recorded at atMS: the hour's end. What the entry says is the hub's word,
// so it counts only where a site's clock was wrong, of which the statement tells, and within bounds.
func (h *HourRef) notBefore(atMS int64) int64 {
	end := (int64(h.Hour) + 1) * evidence.HourMS
	if h.Skewed == 0 {
		return end
	}
	return max(min(atMS, end), end-maxAhead.Milliseconds())
}

// inOrder compares the times of excuses with their places in the log. What stands behind an hour that had not ended cannot have been recorded before that: a hub that excuses in hindsight
// has to put the excuse behind what it has already anchored.
func (c *checker) inOrder(in *Inputs, s *Statement, clock []placedTime) {
	slices.SortFunc(clock, func(a, b placedTime) int { return cmp.Compare(a.index, b.index) })
	latest := int64(0)
	for i := range clock {
		latest = max(latest, clock[i].ms)
		clock[i].ms = latest
	}
	// notBefore returns the latest end of an hour that stands in the log before an index.
	notBefore := func(index uint64) int64 {
		i, _ := slices.BinarySearchFunc(clock, index, func(p placedTime, index uint64) int { return cmp.Compare(p.index, index) })
		if i == 0 {
			return 0
		}
		return clock[i-1].ms
	}
	for i := range in.Excuses {
		x := &in.Excuses[i]
		if after := notBefore(x.Index); s.Excuses[i].Counted > 0 && after > x.AtMS+maxOrderSkew.Milliseconds() {
			c.r.wrong(StepStatement, "excuse %s counts as recorded at %s, and stands in the log behind an hour that ended at %s", ident.SiteID(s.Excuses[i].ID), timeName(x.AtMS), timeName(after))
		}
	}
	for i := range in.Terms {
		t := &in.Terms[i]
		if after := notBefore(t.Index); after > t.AtMS+maxOrderSkew.Milliseconds() {
			c.r.set(NoteTermsLate, Note, "terms version %d say that they were recorded at %s, and stand in the log behind an hour that ended at %s", s.Terms[i].Version, timeName(t.AtMS), timeName(after))
		}
	}
}

// hourNotes says what the list of hours leaves open.
func (c *checker) hourNotes(s *Statement, who roster, disputed int) {
	type siteHour struct {
		site ident.SiteID
		hour uint32
	}
	named := make(map[siteHour]bool, len(s.Hours))
	for i := range s.Hours {
		named[siteHour{s.Hours[i].Site, s.Hours[i].Hour}] = true
	}
	missing, all := 0, 0
	var assigned []*siteMiner
	for site := range who {
		for hour := fromMS(s.Month) / evidence.HourMS; hour < fromMS(s.Month+1)/evidence.HourMS; hour++ {
			if assigned = who.in(assigned, site, uint32(hour)); len(assigned) > 0 {
				all++
				if !named[siteHour{site, uint32(hour)}] {
					missing++
				}
			}
		}
	}
	if missing > 0 {
		c.r.set(NoteHours, Note, "not proven: that sites signed nothing for %d of %d hours in which miners were assigned, of which the statement names no signed hour: look for them in the log, which has every one the hub has recorded", missing, all)
	} else {
		c.r.set(NoteHours, Note, "a signed hour is named for each of the %d hours in which miners were assigned; not proven: that sites signed nothing else for them, which the log would have", all)
	}
	if disputed > 0 {
		c.r.set(NoteDisputed, Note, "not proven: that the batches of %d disputed hours give other roots than were signed, which makes their slots unknown; hashinsight-verify recompute tells it from the archive", disputed)
	}
	c.r.set(NoteReceived, Note, "not proven: when facts came and in which slots a site's clock was wrong by the hub's measurement; both are the hub's word in the statement. When an excuse was recorded is known no better than hours came into the log behind it: the proof of its own log entry gives the block before whose time it stood there")
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
		set(Unknown, "the file names the contract 0x%x on chain %d: whether it is the log's only the address in your own contract tells; give it", a.Contract, a.ChainID)
		return
	case *c.t.Contract != a.Contract:
		set(Wrong, "the file names the contract 0x%x, not the one given, 0x%x", a.Contract, *c.t.Contract)
		return
	case c.t.Chain == nil:
		set(Unknown, "no endpoint of a chain was given")
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
