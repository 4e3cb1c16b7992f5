package proof

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// maxAhead is how long before its end an hour may come into the log where the site's clock is wrong: hubs keep hours that begin at most a day ahead of their own clock.
const maxAhead = 25 * time.Hour

// maxOrderSkew is how far an entry's time may lie before that of entries with lower indexes: transactions end in another order than they begin.
const maxOrderSkew = 15 * time.Minute

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
