package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/proof"
)

// report is what is printed. Its JSON and its lines are documented in README.md: names are never changed.
type report struct {
	Verdict proof.Verdict `json:"verdict"` // the exit code
	Result  string        `json:"result"`  // its name
	Kind    string        `json:"kind"`
	Claims  []claim       `json:"claims"` // what the file says; only a verdict of 0 makes it proven
	Steps   []step        `json:"steps"`
}

type claim struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type step struct {
	ID    string `json:"id"`
	State string `json:"state"`
	Text  string `json:"text"`
}

func newReport(r *proof.Report) report {
	out := report{Verdict: r.Verdict(), Kind: r.Kind.String(), Claims: []claim{}, Steps: make([]step, len(r.Steps))}
	out.Result = out.Verdict.String()
	for i, s := range r.Steps {
		out.Steps[i] = step{s.ID, strings.ReplaceAll(s.State.String(), " ", "-"), s.Text}
	}
	say := func(name, format string, args ...any) {
		out.Claims = append(out.Claims, claim{name, fmt.Sprintf(format, args...)})
	}
	if e := r.Entry; e != nil {
		say("entry", "%d", r.EntryIndex)
		say("recorded", "%s", time.UnixMilli(e.AtMS).UTC().Format(time.RFC3339))
		say("what", "%s", e.Kind)
		describe(e, say)
	}
	if l := r.Leaf; l != nil {
		say("site", "%s", l.Site)
		say("miner", "%s", l.Miner)
		say("hour", "%s", hourName(l.Hour))
		var polls, answered int
		var hashes uint64
		for i := range l.Slots {
			s := &l.Slots[i]
			polls, answered, hashes = polls+int(s.Polls), answered+int(s.Answered), hashes+s.Hashes
			say("slot", "%s polls=%d answered=%d hashes=%d source=%d flags=0x%03x", slotName(l.Hour, i), s.Polls, s.Answered, s.Hashes, s.Source, uint16(s.Flags))
		}
		say("total", "polls=%d answered=%d hashes=%d MH", polls, answered, hashes)
	}
	if s := r.Statement; s != nil {
		say("statement", "%x", r.StatementHash)
		say("contract", "%s", ident.UUID(s.Contract))
		say("customer", "%s", ident.UUID(s.Customer))
		say("month", "%s", proof.MonthName(s.Month))
		say("issued", "%s", time.UnixMilli(s.IssuedMS).UTC().Format(time.RFC3339))
		if s.Supersedes != (evidence.Hash{}) {
			say("supersedes", "%x", s.Supersedes)
			say("reason", "%s", s.Reason)
		}
		say("availability", "%d ppm by %s, target %d ppm, met %t", s.PPM, s.Metric, s.TargetPPM, s.Met)
		say("credit", "%d/10000 of the fee, %d minor units %s", s.CreditBP, s.CreditMinor, s.Currency)
		say("miners", "%d", s.Miners)
		say("hours", "%d", len(s.Hours))
	}
	if c := &r.Checkpoint; c.Size > 0 {
		say("log", "%s", c.Origin)
		say("checkpoint", "%d entries, root %x", c.Size, c.Root)
	}
	if r.AnchorState == proof.AnchorMade {
		a := &r.Anchor
		say("anchor", "%d of contract 0x%x on chain %d, block %d, transaction 0x%x", a.Seq, a.Contract, a.ChainID, a.Block, a.Tx)
	}
	if e := r.Event; e != nil {
		say("anchored", "%s", time.Unix(min(max(e.BlockTime, 0), 253_402_300_799), 0).UTC().Format(time.RFC3339))
	}
	return out
}

// describe says what an entry records.
func describe(e *proof.Entry, say func(name, format string, args ...any)) {
	event := func(e proof.KeyEvent) string {
		if e == proof.KeyRetired {
			return "retired"
		}
		return "added"
	}
	switch e.Kind { // a body that cannot be read says nothing beyond its bytes
	case proof.EntryHour:
		if h, err := proof.ParseHourBody(e.Body); err == nil {
			say("site", "%s", h.Hour.Site)
			say("hour", "%s", hourName(h.Hour.Hour))
			say("root", "%x over %d miners", h.Hour.Root, h.Hour.Leaves)
		}
	case proof.EntrySiteKey:
		if k, err := proof.ParseSiteKeyBody(e.Body); err == nil {
			say("site", "%s", k.Site)
			say("key", "%s %s, public key %x", ident.KeyIDOf(k.Public[:]), event(k.Event), k.Public)
		}
	case proof.EntryHubKey:
		if k, err := proof.ParseHubKeyBody(e.Body); err == nil {
			say("key", "%s %s, public key %x", ident.KeyIDOf(k.Public[:]), event(k.Event), k.Public)
		}
	case proof.EntryTerms:
		if t, err := proof.ParseTermsBody(e.Body); err == nil {
			say("contract", "%s", ident.UUID(t.Contract))
			say("terms", "version %d, SHA-256 %x", t.Version, t.Hash)
		}
	case proof.EntryExcuse:
		if x, err := proof.ParseExcuseBody(e.Body); err == nil {
			say("excuse", "%s, SHA-256 %x", ident.UUID(x.ID), x.Hash)
		}
	case proof.EntryStatement, proof.EntryRestatement:
		if s, err := proof.ParseStatementBody(e.Body); err == nil {
			say("contract", "%s", ident.UUID(s.Contract))
			say("month", "%s", proof.MonthName(s.Month))
			say("statement", "%x, number %d of its month", s.Hash, s.Seq)
		}
	case proof.EntryAuditHead:
		if a, err := proof.ParseAuditHeadBody(e.Body); err == nil {
			say("audit", "%d entries, head %x", a.Seq, a.Hash)
		}
	}
}

func hourName(hour uint32) string {
	return time.Unix(int64(hour)*3600, 0).UTC().Format("2006-01-02T15:04Z")
}

func slotName(hour uint32, slot int) string {
	return time.UnixMilli(int64(hour)*evidence.HourMS + int64(slot)*evidence.SlotMS).UTC().Format("15:04")
}

// write prints the report: a line for each claim and step, the verdict last.
func (r *report) write(w io.Writer, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(true)
		return e.Encode(r.safe())
	}
	b := bufio.NewWriter(w)
	for _, c := range r.Claims {
		fmt.Fprintf(b, "%-8s%-16s%s\n", "claim", safe(c.Name), safe(c.Value))
	}
	for _, s := range r.Steps {
		fmt.Fprintf(b, "%-8s%-16s%s\n", safe(s.State), safe(s.ID), safe(s.Text))
	}
	fmt.Fprintf(b, "%-8s%-16d%s\n", "verdict", int(r.Verdict), safe(r.Result))
	return b.Flush()
}

// safe returns the report with safe texts. JSON escapes control characters by itself; those that reorder or hide text it does not.
func (r *report) safe() *report {
	out := *r
	out.Claims, out.Steps = make([]claim, len(r.Claims)), make([]step, len(r.Steps))
	for i, c := range r.Claims {
		out.Claims[i] = claim{c.Name, safe(c.Value)}
	}
	for i, s := range r.Steps {
		out.Steps[i] = step{s.ID, s.State, safe(s.Text)}
	}
	return &out
}

// maxLine is how many bytes of a text are shown.
const maxLine = 4000

// safe makes text that a file or an endpoint supplied fit for a terminal: whatever is no printable character of its own is escaped, so that it cannot move the
// cursor, begin a line, reorder or hide what stands beside it.
func safe(s string) string {
	plain := true
	for _, c := range []byte(s) {
		plain = plain && c >= 0x20 && c < 0x7f && len(s) <= maxLine
	}
	if plain {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		if b.Len() > maxLine {
			fmt.Fprintf(&b, " … and %d more bytes", len(s)-i)
			break
		}
		switch {
		case r == utf8.RuneError:
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				b.WriteString(`\x` + hex.EncodeToString([]byte{s[i]}))
				continue
			}
			b.WriteRune(r)
		case unicode.IsGraphic(r) && !unicode.In(r, unicode.Zl, unicode.Zp, unicode.Mn, unicode.Me) && (r == ' ' || !unicode.IsSpace(r)):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\u{%x}`, r)
		}
	}
	return b.String()
}
