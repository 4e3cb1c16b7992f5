package verify

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/hashinsight/hashinsight/hub/internal/statement/export"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/proof"
)

// ErrIncomplete means that a directory lacks a whole file, so that there is nothing to check.
var ErrIncomplete = errors.New("not a directory of hashinsight-hub statement export")

// exported checks a directory that hashinsight-hub statement export wrote.
type exported struct {
	ctx context.Context //nolint:containedctx // lives as long as one call
	dir fs.FS
	t   proof.Trust
	sla proof.SLA

	steps map[string]proof.Step
	r     proof.Report
	st    *proof.Statement
	who   map[ident.SiteID]map[ident.MinerID][]proof.Assignment
	hours []exportedHour // as the statement names them

	noAbsent     bool // the directory is older than absent.jsonl
	leaves, gone int
	disputed     int
	unshown      int // miner-hours without a leaf, of which only absent.jsonl could say why
}

// exportedHour is a signed hour with the key that lies beside it.
type exportedHour struct {
	proof.HourBody
	entry proof.PlacedEntry
	key   ed25519.PublicKey
}

// CheckExport checks a directory of hashinsight-hub statement export as proof.Check checks a bundle, as far as it holds what a bundle holds: it has no place in a log and no
// anchor. Every byte but those of README.txt and, in disputed hours, of the leaves that the hub computed is covered by the statement's hash, a signature or a signed root. An error means
// that it was not begun: ErrIncomplete where files are missing.
func CheckExport(ctx context.Context, dir fs.FS, t proof.Trust, sla proof.SLA) (proof.Report, error) {
	e := &exported{ctx: ctx, dir: dir, t: t, sla: sla, steps: map[string]proof.Step{}, who: map[ident.SiteID]map[ident.MinerID][]proof.Assignment{}}
	e.r.SiteKeys = map[ident.SiteID][]ident.KeyID{}
	if err := e.whole(); err != nil {
		return e.r, err
	}
	err := e.check()
	var bad *malformed
	switch {
	case errors.As(err, &bad):
		e.r.Steps = []proof.Step{{ID: proof.StepDecode, State: proof.Wrong, Text: bad.text}}
	case err != nil: // it cannot be read
		e.r.Steps = []proof.Step{{ID: proof.StepDecode, State: proof.Unknown, Text: err.Error()}}
	default:
		e.finish()
	}
	return e.r, nil
}

// whole tells which files are missing, all at once.
func (e *exported) whole() error {
	var missing []string
	for _, name := range []string{export.Statement, export.Signature, export.HubKey, export.Terms, export.Assignments, export.Excuses, export.Hours, export.Leaves} {
		info, err := fs.Stat(e.dir, name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, name)
		case err != nil:
			return err
		case !info.Mode().IsRegular():
			return fmt.Errorf("%w: %s is no file", ErrIncomplete, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: it has no %s. Ask for the directory again, or check the statement's bundle instead", ErrIncomplete, strings.Join(missing, ", "))
	}
	info, err := fs.Stat(e.dir, export.Absent)
	e.noAbsent = errors.Is(err, fs.ErrNotExist)
	if err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%w: %s is no file", ErrIncomplete, export.Absent)
	}
	if e.noAbsent {
		err = nil
	}
	return err
}

// set records what a step found: the gravest stays, of equals the first.
func (e *exported) set(id string, s proof.State, format string, args ...any) {
	rank := [...]int{proof.OK: 0, proof.Note: 1, proof.NotYet: 2, proof.Unknown: 3, proof.Wrong: 4}
	if old, ok := e.steps[id]; !ok || rank[s] > rank[old.State] {
		e.steps[id] = proof.Step{ID: id, State: s, Text: fmt.Sprintf(format, args...)}
	}
}

func (e *exported) wrong(id, format string, args ...any) { e.set(id, proof.Wrong, format, args...) }

func (e *exported) failed(id string) bool { return e.steps[id].State == proof.Wrong }

func (e *exported) finish() {
	for _, id := range []string{proof.StepDecode, proof.StepLeaf, proof.StepSiteSignature, proof.StepSiteKey, proof.StepStatement, proof.StepSLA} {
		if s, ok := e.steps[id]; ok {
			e.r.Steps = append(e.r.Steps, s)
		}
	}
	note := func(id, format string, args ...any) {
		e.r.Steps = append(e.r.Steps, proof.Step{ID: id, State: proof.Note, Text: fmt.Sprintf(format, args...)})
	}
	note("note-log", "not proven: that statement, hours, terms and excuses stood in the hub's log, and since when: the statement's bundle shows that against a chain")
	note(proof.NoteSite, "not proven: that the site measured right; proven is what its agent signed")
	if len(e.t.SiteKeys) == 0 {
		note(proof.NoteSiteKey, "not proven: that the keys are the sites' own: they lie beside what they signed; ask each site for its key, and give it with --site-key")
	} else if slices.ContainsFunc(e.t.SiteKeys, func(k proof.SiteKey) bool { return k.Site == ident.SiteID{} }) {
		note(proof.NoteSiteKey, "not proven: that each key is that site's for which it signed: some were given without saying whose they are; give them as --site-key SITE=KEY")
	}
	if e.t.HubKey == nil {
		note(proof.NoteHubKey, "not proven: that the key is this hub's: it lies beside what it signed; give the hub's key with --hub-key")
	}
	note(proof.NoteSuperseded, "not proven: that no later statement takes this one's place: look for restatements in the log")
	note(proof.NoteContract, "not proven: that terms and assignments are the agreed ones and all there are, and that no record shortens an excuse which is not named: compare them with your contract")
	note(proof.NoteHours, "not proven: that the sites signed no other hours: the log has every one that the hub recorded")
	if e.disputed > 0 {
		note(proof.NoteDisputed, "not proven: that the batches of %d disputed hours give other roots than were signed, which makes their slots unknown", e.disputed)
	}
	note(proof.NoteReceived, "not proven: when facts came and in which slots a site's clock was wrong by the hub's measurement; both are the hub's word in the statement")
}

func (e *exported) check() error {
	statement, err := e.bytes(export.Statement, maxStatement)
	if err != nil {
		return err
	}
	if e.st, err = proof.ParseStatement(statement); err != nil {
		return bad("%s: %v", export.Statement, err)
	}
	e.r.Statement, e.r.StatementHash = e.st, sha256.Sum256(statement)
	if err := e.signature(statement); err != nil {
		return err
	}
	in, err := e.documents()
	if err != nil {
		return err
	}
	if in.SiteKeys, err = e.signedHours(); err != nil {
		return err
	}
	slaErr := errors.New("not begun")
	if !e.failed(proof.StepStatement) {
		slaErr = e.sla.Begin(e.st, statement, &in)
	}
	if slaErr, err = e.facts(slaErr); err != nil {
		return err
	}
	e.set(proof.StepDecode, proof.OK, "a directory of hashinsight-hub statement export")
	e.set(proof.StepLeaf, proof.OK, "%d leaves lie under the roots of %d hours; %d times it is shown that an assigned miner has none", e.leaves, len(e.hours)-e.disputed, e.gone)
	if e.unshown > 0 {
		e.set(proof.StepLeaf, proof.Unknown, "%d times a miner has no leaf in an hour in which it was assigned, and nothing shows that there was none: the directory is of a hub that wrote no %s; have it exported again",
			e.unshown, export.Absent)
	}
	e.set(proof.StepSiteSignature, proof.OK, "%d hours are signed", len(e.hours))
	e.set(proof.StepSiteKey, proof.OK, "with %d keys", len(in.SiteKeys))
	e.set(proof.StepStatement, proof.OK, "statement %x of contract %s for %s is signed, and what the directory holds is what it names: %d ppm, credit %d/10000",
		e.r.StatementHash, ident.UUID(e.st.Contract), proof.MonthName(e.st.Month), e.st.PPM, e.st.CreditBP)
	e.result(slaErr)
	return nil
}

func (e *exported) result(slaErr error) {
	inputs := !e.failed(proof.StepLeaf) && !e.failed(proof.StepStatement)
	if slaErr == nil && inputs {
		slaErr = e.sla.End()
	}
	switch {
	case !inputs:
		e.set(proof.StepSLA, proof.Note, "not computed again: its inputs are wrong")
	case slaErr == nil:
		e.set(proof.StepSLA, proof.OK, "terms, assignments, excuses and leaves give the statement, byte for byte")
	case errors.Is(slaErr, proof.ErrUnchecked):
		e.set(proof.StepSLA, proof.Unknown, "%v", slaErr)
	default:
		e.wrong(proof.StepSLA, "%v", slaErr)
	}
}

func (e *exported) signature(statement []byte) error {
	signature, err := e.hex(export.Signature, ed25519.SignatureSize)
	if err != nil {
		return err
	}
	key, err := e.hex(export.HubKey, ed25519.PublicKeySize)
	if err != nil {
		return err
	}
	if err := evidence.VerifyStatement(key, statement, signature); err != nil {
		e.wrong(proof.StepStatement, "the hub's signature: %v", err)
	}
	if e.t.HubKey != nil && !bytes.Equal(e.t.HubKey, key) {
		e.wrong(proof.StepStatement, "the statement is signed with key %s, not with the hub's that was given, %s", ident.KeyIDOf(key), ident.KeyIDOf(e.t.HubKey))
	}
	return nil
}

// documents reads terms, assignments and excuses, each with the hash that the statement names for it.
func (e *exported) documents() (in proof.Inputs, err error) {
	st := e.st
	list := func(name string, n int, hash func(int) evidence.Hash, what func(int) string) (docs []proof.Document) {
		if err != nil {
			return nil
		}
		var l *lines
		if l, err = e.open(name); err != nil {
			return nil
		}
		defer l.close()
		for i := range n {
			var line []byte
			if line, err = l.next(maxDocument); err != nil {
				if errors.Is(err, io.EOF) {
					err = bad("%s: %s, which the statement names, is not there", name, what(i))
				}
				return nil
			}
			if sha256.Sum256(line) != hash(i) {
				e.wrong(proof.StepStatement, "%s: line %d is not %s as the statement names it", name, i+1, what(i))
			}
			docs = append(docs, proof.Document{Bytes: bytes.Clone(line)})
		}
		err = l.end()
		return docs
	}
	in.Terms = list(export.Terms, len(st.Terms), func(i int) evidence.Hash { return st.Terms[i].Hash }, func(i int) string { return fmt.Sprintf("version %d of the terms", st.Terms[i].Version) })
	in.Assignments = list(export.Assignments, len(st.Assignments), func(i int) evidence.Hash { return st.Assignments[i].Hash },
		func(i int) string { return fmt.Sprintf("assignment %s", ident.UUID(st.Assignments[i].ID)) })
	in.Excuses = list(export.Excuses, len(st.Excuses), func(i int) evidence.Hash { return st.Excuses[i].Hash },
		func(i int) string { return fmt.Sprintf("excuse %s", ident.UUID(st.Excuses[i].ID)) })
	if err != nil {
		return in, err
	}
	for i := range in.Assignments {
		a, err := proof.ParseAssignment(in.Assignments[i].Bytes)
		if err != nil || a.Contract != st.Contract {
			e.wrong(proof.StepStatement, "%s: line %d is no assignment of the contract", export.Assignments, i+1)
			continue
		}
		if e.who[a.Site] == nil {
			e.who[a.Site] = map[ident.MinerID][]proof.Assignment{}
		}
		e.who[a.Site][a.Miner] = append(e.who[a.Site][a.Miner], a)
	}
	return in, nil
}

// signedHours reads the signed hours in the statement's order and returns the keys that signed them, as a log would name them.
func (e *exported) signedHours() ([]proof.PlacedEntry, error) {
	l, err := e.open(export.Hours)
	if err != nil {
		return nil, err
	}
	defer l.close()
	keys := map[string]proof.PlacedEntry{} // by site and key
	for i := range e.st.Hours {
		ref := &e.st.Hours[i]
		var line export.Hour
		if err := l.item(&line); errors.Is(err, io.EOF) {
			return nil, bad("%s: hour %s of site %s, which the statement names, is not there", export.Hours, export.HourName(ref.Hour), ref.Site)
		} else if err != nil {
			return nil, err
		}
		if line.Site != ref.Site.String() || line.Hour != export.HourName(ref.Hour) || line.Chain != ref.Spool.String() {
			return nil, bad("%s: line %d is not hour %s of site %s, which the statement names there", export.Hours, i+1, export.HourName(ref.Hour), ref.Site)
		}
		body, err := proof.ParseHourBody(slices.Concat(line.Header, line.Signature, line.Payload))
		if err != nil || len(line.Key) != ed25519.PublicKeySize || len(line.Header) != evidence.HeaderSize || len(line.Signature) != evidence.SignatureSize {
			return nil, bad("%s: line %d is no signed hour: %v", export.Hours, i+1, err)
		}
		h := exportedHour{HourBody: body, key: line.Key}
		h.entry.Entry = body.Entry(0)
		e.hours = append(e.hours, h)
		e.signedHour(ref, &h)
		k := proof.SiteKeyBody{Site: ref.Site, Event: proof.KeyAdded, Public: [ed25519.PublicKeySize]byte(line.Key)}
		if id := string(ref.Site[:]) + string(line.Key); keys[id].Body == nil {
			keys[id] = proof.PlacedEntry{Entry: k.Entry(0)}
			e.siteKey(ref.Site, line.Key)
		}
	}
	out := make([]proof.PlacedEntry, 0, len(keys))
	for _, id := range slices.Sorted(maps.Keys(keys)) {
		out = append(out, keys[id])
	}
	return out, l.end()
}

// signedHour compares an hour with what the statement names, and its signature.
func (e *exported) signedHour(ref *proof.HourRef, h *exportedHour) {
	name := fmt.Sprintf("hour %s of site %s, chain %s", export.HourName(ref.Hour), ref.Site, ref.Spool)
	got := &h.Hour
	if got.Site != ref.Site || got.Hour != ref.Hour || got.Spool != ref.Spool || got.Root != ref.Root || sha256.Sum256(h.RawHeader) != ref.HeaderHash {
		e.wrong(proof.StepStatement, "%s: what is signed is not what the statement names", name)
	}
	if id := ident.KeyIDOf(h.key); id != h.Header.Key {
		e.wrong(proof.StepSiteKey, "%s: signed with key %s, beside it lies %s", name, h.Header.Key, id)
	}
	if err := evidence.VerifyHeader(h.key, h.RawHeader, h.Signature); err != nil {
		e.wrong(proof.StepSiteSignature, "%s: %v", name, err)
	}
}

func (e *exported) siteKey(site ident.SiteID, key ed25519.PublicKey) {
	id := ident.KeyIDOf(key)
	if !e.t.Trusts(site, key) {
		e.wrong(proof.StepSiteKey, "key %s of site %s is none of those given for it", id, site)
	}
	e.r.SiteKeys[site] = append(e.r.SiteKeys[site], id)
}

func unhex(text string, size int) ([]byte, bool) {
	b, err := hex.DecodeString(text)
	return b, err == nil && len(b) == size && hex.EncodeToString(b) == text // one form: no capitals
}
