package proof

import (
	"fmt"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Verdict is what a check comes to. The numbers are exit codes of hashinsight-verify.
type Verdict int

// Verdicts.
const (
	Proven    Verdict = 0
	False     Verdict = 1 // something in the file contradicts something else, the chain or what the checker brought
	NotFinal  Verdict = 2 // nothing is wrong, and no block of a chain that is final holds the checkpoint yet
	Unchecked Verdict = 3 // nothing is wrong as far as it could be checked
)

// String returns the documented name.
func (v Verdict) String() string {
	return [...]string{"proven", "false", "not yet final", "could not check"}[v]
}

// State is what a step found.
type State uint8

// States of steps.
const (
	OK      State = 1
	Wrong   State = 2
	NotYet  State = 3
	Unknown State = 4 // could not be checked
	Note    State = 5 // says something and decides nothing
)

// String returns the documented name.
func (s State) String() string {
	return [...]string{"", "ok", "wrong", "not yet", "unknown", "note"}[s]
}

// Ids of steps, in the order in which a report has them. Steps that a kind does not have are left out; after them come notes.
const (
	StepDecode        = "decode"         // the file has its one form
	StepLeaf          = "leaf"           // leaves lie under the roots that the site has signed
	StepSiteSignature = "site-signature" // hours are signed
	StepSiteKey       = "site-key"       // with a key that the log names as the site's
	StepLog           = "log"            // entries stand in the log
	StepCheckpoint    = "checkpoint"     // the head of the log is signed
	StepAnchor        = "anchor"         // and is the contract's event in a final block
	StepTime          = "time"           // which came after what is proven
	StepStatement     = "statement"      // is signed by the hub, is the one in the log, and names what the file has
	StepSLA           = "sla"            // is what its inputs give, byte for byte
)

var stepOrder = [...]string{
	StepDecode, StepLeaf, StepSiteSignature, StepSiteKey, StepLog, StepCheckpoint, StepAnchor, StepTime, StepStatement, StepSLA,
}

// Ids of notes: what a file of its kind does not prove, and what is remarkable.
const (
	NoteSite       = "note-site"       // that the site measured right
	NoteSiteKey    = "note-site-key"   // that the key is the site's own
	NoteKeyLate    = "note-key-late"   // the key entered the log after what it signed
	NoteEntry      = "note-entry"      // that what an entry says is true
	NoteBeacon     = "note-beacon"     // the site knew a block when it signed
	NoteLogKey     = "note-log-key"    // that the key is the log's
	NoteHubKey     = "note-hub-key"    // that the key is the hub's
	NoteChain      = "note-chain"      // that the endpoint tells what the chain has
	NoteHistory    = "note-history"    // that the log went on from here
	NoteSuperseded = "note-superseded" // that no later statement takes this one's place
	NoteFigures    = "note-figures"    // that the figures follow from facts
	NoteContract   = "note-contract"   // that terms and assignments are the agreed ones
	NoteTermsLate  = "note-terms-late" // terms entered the log after hours they hold for
	NoteHours      = "note-hours"      // that the site signed nothing for hours that are not named
	NoteDisputed   = "note-disputed"   // that disputed hours are
	NoteReceived   = "note-received"   // when facts came, and which slots had a wrong clock
)

// Step is one part of a check.
type Step struct {
	ID    string
	State State
	Text  string
}

// Report is what a check found. Beside Kind and Steps it tells what the file claims; only a verdict of Proven makes that true.
type Report struct {
	Kind  Kind
	Steps []Step

	Leaf          *evidence.Leaf // of a miner-hour
	EndMS         int64          // of the hour or the month; an entry's time
	Entry         *Entry         // of a log entry
	EntryIndex    uint64
	Statement     *Statement // of a statement or bundle
	StatementHash evidence.Hash
	SiteKeys      map[ident.SiteID][]ident.KeyID // that signed, as far as the log says whose they are
	Checkpoint    Checkpoint
	AnchorState   AnchorState
	Anchor        Anchor
	Event         *Event // as the chain gave it
}

// Verdict returns what the steps come to: what is wrong outweighs what is unknown, and that what is not final.
func (r *Report) Verdict() Verdict {
	v := Proven
	for _, s := range r.Steps {
		switch {
		case s.State == Wrong:
			return False
		case s.State == Unknown:
			v = Unchecked
		case s.State == NotYet && v == Proven:
			v = NotFinal
		}
	}
	return v
}

// set records what a step found. Of several findings the gravest stays, of equals the first.
func (r *Report) set(id string, s State, format string, args ...any) {
	for i := range r.Steps {
		if r.Steps[i].ID != id {
			continue
		}
		if graver(s, r.Steps[i].State) {
			r.Steps[i] = Step{id, s, fmt.Sprintf(format, args...)}
		}
		return
	}
	r.Steps = append(r.Steps, Step{id, s, fmt.Sprintf(format, args...)})
}

func graver(a, b State) bool {
	rank := [...]int{OK: 0, Note: 1, NotYet: 2, Unknown: 3, Wrong: 4}
	return rank[a] > rank[b]
}

func (r *Report) wrong(id, format string, args ...any) { r.set(id, Wrong, format, args...) }

// want records that a step is wrong if err is not nil.
func (r *Report) want(id, what string, err error) {
	if err != nil {
		r.wrong(id, "%s: %v", what, err)
	}
}

// failed tells whether a step is wrong.
func (r *Report) failed(id string) bool {
	for _, s := range r.Steps {
		if s.ID == id && s.State == Wrong {
			return true
		}
	}
	return false
}

// finish puts steps in their order, notes in that in which they were made.
func (r *Report) finish() {
	ordered := make([]Step, 0, len(r.Steps))
	for _, id := range stepOrder {
		for _, s := range r.Steps {
			if s.ID == id {
				ordered = append(ordered, s)
			}
		}
	}
	for _, s := range r.Steps {
		if len(s.ID) > 5 && s.ID[:5] == "note-" {
			ordered = append(ordered, s)
		}
	}
	r.Steps = ordered
}
