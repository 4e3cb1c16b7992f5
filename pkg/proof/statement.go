package proof

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf16"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Statement is what a check needs of a statement's canonical JSON, which the hub's package sla defines. The whole text is read, key by key in their fixed order, so that
// two readers cannot see two things in it; whether its sums and verdicts are right, only whoever computes it again can tell.
//
// Canonical JSON has no white space and no other keys than these, in this order. int: a decimal integer without leading zeros, at most 2^53 − 1 either way. id: a UUID in lower case, in
// quotation marks. hash: 64 hexadecimal digits in lower case, or nothing for none. text: printable ASCII; all else as \u and four lower-case hexadecimal digits, " and \ after a \. sum:
// a decimal integer of at most 39 digits without leading zeros, in quotation marks. month: "2026-11".
//
//	{"form":"hsi/statement/v1","engine":int,"contract":id,"customer":id,"month":month,"issued_ms":int,"accept_until_ms":int,"supersedes":hash,"reason":text,
//	 "terms":[{"version":int,"hash":hash}…],"assignments":[{"id":id,"hash":hash}…],"excuses":[{"id":id,"hash":hash,"counted":int}…],
//	 "hours":[{"site":id,"hour":int,"spool":id,"root":hash,"header_hash":hash,"state":"agreed" or "disputed","skewed":int,"received_ms":int}…],
//	 "result":{"metric":text,"target_ppm":int,FRACTION,"met":true or false},"credit":{"bp":int,"minor":int,"fee_minor":int,"currency":text},
//	 "totals":{TOTALS},"miners":[{"site":id,"miner":id,TOTALS,FRACTION}…]}
//
// TOTALS is "slots":{"not_contracted":int,"curtailment":int,"maintenance":int,"up":int,"degraded":int,"down":int,"unknown_down":int,"unknown_excused":int},"hashes":sum,"needed":sum
// and FRACTION "num":sum,"den":sum,"ppm":int. Terms, assignments and excuses ascend by version and id, hours by site, hour, spool and header hash; no two are equal. Hours lie in the month.
type Statement struct {
	Contract, Customer [16]byte
	Month              uint32 // months since January of the year 0
	IssuedMS           int64
	Supersedes         evidence.Hash
	Reason             string
	Terms              []TermsRef
	Assignments        []DocumentRef
	Excuses            []DocumentRef
	Hours              []HourRef
	Metric             string
	TargetPPM, PPM     int64
	Met                bool
	CreditBP           int64 // 1/100 % of the fee
	CreditMinor        int64
	Currency           string
	Miners             int
}

// TermsRef names one version of the terms.
type TermsRef struct {
	Version uint32
	Hash    evidence.Hash
}

// DocumentRef names an assignment or an excuse; of an excuse, how many slots it excused.
type DocumentRef struct {
	ID      [16]byte
	Hash    evidence.Hash
	Counted int64
}

// HourRef names a signed hour of one chain.
type HourRef struct {
	Site             ident.SiteID
	Hour             uint32
	Spool            ident.SpoolID
	Root, HeaderHash evidence.Hash
	State            HourState
	Skewed           uint16 // bit i: by the hub's measurement the site's clock was wrong in slot i
	ReceivedMS       int64
}

func (h *HourRef) compare(o *HourRef) int {
	return cmp.Or(bytes.Compare(h.Site[:], o.Site[:]), cmp.Compare(h.Hour, o.Hour), bytes.Compare(h.Spool[:], o.Spool[:]), bytes.Compare(h.HeaderHash[:], o.HeaderHash[:]))
}

// Bounds of documents: see package sla of the hub.
const (
	maxInt  = 1<<53 - 1
	maxYear = 9999
)

// fromMS returns the first millisecond of a month.
func fromMS(month uint32) int64 {
	return time.Date(int(month/12), time.Month(month%12+1), 1, 0, 0, 0, 0, time.UTC).UnixMilli()
}

// MonthName returns the text form of a month that is counted since January of the year 0: 2026-11.
func MonthName(month uint32) string { return fmt.Sprintf("%04d-%02d", month/12, month%12+1) }

// ParseStatement reads the canonical encoding of a statement and nothing else.
func ParseStatement(b []byte) (*Statement, error) {
	s := &Statement{}
	c := canonical{b: b}
	c.lit(`{"form":"hsi/statement/v1"`)
	c.int("engine")
	s.Contract, s.Customer = c.id("contract"), c.id("customer")
	s.Month = c.month("month")
	s.IssuedMS = c.int("issued_ms")
	c.int("accept_until_ms")
	s.Supersedes = c.hash("supersedes")
	s.Reason = c.text("reason")
	c.list("terms", func() {
		s.Terms = append(s.Terms, TermsRef{uint32(c.within("version", 1, 1<<31-1)), c.hash("hash")})
	})
	c.list("assignments", func() {
		s.Assignments = append(s.Assignments, DocumentRef{ID: c.id("id"), Hash: c.hash("hash")})
	})
	c.list("excuses", func() {
		s.Excuses = append(s.Excuses, DocumentRef{c.id("id"), c.hash("hash"), c.within("counted", 0, maxInt)})
	})
	first := fromMS(s.Month) / evidence.HourMS
	last := fromMS(s.Month+1)/evidence.HourMS - 1
	c.list("hours", func() {
		s.Hours = append(s.Hours, HourRef{
			ident.SiteID(c.id("site")), uint32(c.within("hour", first, last)), ident.SpoolID(c.id("spool")), c.hash("root"), c.hash("header_hash"),
			c.hourState(), uint16(c.within("skewed", 0, 1<<evidence.SlotsPerHour-1)), c.within("received_ms", 1, maxInt),
		})
	})
	c.object("result")
	s.Metric = c.text("metric")
	s.TargetPPM = c.int("target_ppm")
	s.PPM = c.fraction()
	s.Met = c.bool("met")
	c.lit("}")
	c.object("credit")
	s.CreditBP, s.CreditMinor = c.int("bp"), c.int("minor")
	c.int("fee_minor")
	s.Currency = c.text("currency")
	c.lit("}")
	c.object("totals")
	c.totals()
	c.lit("}")
	c.list("miners", func() {
		c.id("site")
		c.id("miner")
		c.totals()
		c.fraction()
		s.Miners++
	})
	c.lit("}")
	if err := c.end("statement"); err != nil {
		return nil, err
	}
	if !ascending(s.Terms, func(a, b *TermsRef) int { return cmp.Compare(a.Version, b.Version) }) || !ascending(s.Assignments, (*DocumentRef).compare) ||
		!ascending(s.Excuses, (*DocumentRef).compare) || !ascending(s.Hours, (*HourRef).compare) {
		return nil, errors.New("statement: a list is out of order, or names something twice")
	}
	return s, nil
}

func (r *DocumentRef) compare(o *DocumentRef) int { return bytes.Compare(r.ID[:], o.ID[:]) }

func ascending[T any](items []T, compare func(a, b *T) int) bool {
	for i := 1; i < len(items); i++ {
		if compare(&items[i-1], &items[i]) >= 0 {
			return false
		}
	}
	return true
}

// Terms' canonical JSON names contract and version; the rest is for whoever computes the statement again, and covered by the hash.
func checkTerms(b []byte, contract [16]byte, version uint32) error {
	c := canonical{b: b}
	c.lit(`{"form":"hsi/terms/v1"`)
	got := c.id("contract")
	c.id("customer")
	v := c.int("version")
	if c.err == nil && (got != contract || v != int64(version)) {
		c.fail("terms of another contract or version")
	}
	return c.err
}

// Assignment is what a check needs of an assignment's canonical JSON:
//
//	{"form":"hsi/assignment/v1","id":id,"contract":id,"site":id,"miner":id,"from_ms":int,"to_ms":int,"rate_mhs":int}
type Assignment struct {
	ID, Contract [16]byte
	Site         ident.SiteID
	Miner        ident.MinerID
	FromMS, ToMS int64 // 0: open
}

// ParseAssignment reads the canonical encoding of an assignment and nothing else.
func ParseAssignment(b []byte) (a Assignment, err error) {
	c := canonical{b: b}
	c.lit(`{"form":"hsi/assignment/v1"`)
	a.ID, a.Contract = c.id("id"), c.id("contract")
	a.Site, a.Miner = ident.SiteID(c.id("site")), ident.MinerID(c.id("miner"))
	a.FromMS, a.ToMS = c.within("from_ms", 1, maxInt), c.within("to_ms", 0, maxInt)
	c.int("rate_mhs")
	c.lit("}")
	return a, c.end("assignment")
}

// In tells whether a slot of the hour begins within the assignment.
func (a *Assignment) In(hour uint32) bool {
	from, to := (a.FromMS+evidence.SlotMS-1)/evidence.SlotMS, (a.ToMS+evidence.SlotMS-1)/evidence.SlotMS
	first := int64(hour) * evidence.SlotsPerHour
	return from < first+evidence.SlotsPerHour && (a.ToMS == 0 || from < to && to > first)
}

// excuse is what a check needs of an excuse's canonical JSON:
//
//	{"form":"hsi/excuse/v1","id":id,"kind":text,"site":id,"miners":["id"…],"from_ms":int,"to_ms":int,"recorded_ms":int,"ends":id}
type excuse struct {
	id         [16]byte
	recordedMS int64
}

func parseExcuse(b []byte) (x excuse, err error) {
	c := canonical{b: b}
	c.lit(`{"form":"hsi/excuse/v1"`)
	x.id = c.id("id")
	c.text("kind")
	c.id("site")
	c.key("miners")
	c.lit("[")
	for first := true; c.err == nil && !c.at("]"); first = false {
		if !first {
			c.lit(",")
		}
		c.uuid()
	}
	c.lit("]")
	c.int("from_ms")
	c.int("to_ms")
	x.recordedMS = c.within("recorded_ms", 1, maxInt)
	c.id("ends")
	c.lit("}")
	return x, c.end("excuse")
}

// canonical reads canonical JSON from its beginning to its end; the first error stays.
type canonical struct {
	b    []byte
	pos  int
	open bool // the last thing read began a list or an object: no comma follows
	err  error
}

func (c *canonical) fail(what string) {
	if c.err == nil {
		c.err = fmt.Errorf("at byte %d: %s", c.pos, what)
	}
}

func (c *canonical) end(what string) error {
	if c.err == nil && c.pos != len(c.b) {
		c.fail("something follows its end")
	}
	if c.err != nil {
		return fmt.Errorf("%s in another form than the canonical one: %w", what, c.err)
	}
	return nil
}

func (c *canonical) at(s string) bool {
	return c.err == nil && len(c.b)-c.pos >= len(s) && string(c.b[c.pos:c.pos+len(s)]) == s
}

func (c *canonical) lit(s string) {
	if !c.at(s) {
		c.fail("want " + s)
		return
	}
	c.pos += len(s)
	c.open = s == "{" || s == "["
}

// key reads a comma where one belongs, and a key.
func (c *canonical) key(k string) {
	if !c.open {
		c.lit(",")
	}
	c.lit(`"`)
	c.lit(k)
	c.lit(`":`)
}

func (c *canonical) object(k string) { c.key(k); c.lit("{") }

// list reads a list of objects, each with item.
func (c *canonical) list(k string, item func()) {
	c.key(k)
	c.lit("[")
	for first := true; c.err == nil && !c.at("]"); first = false {
		if !first {
			c.lit(",")
		}
		c.lit("{")
		item()
		c.lit("}")
	}
	c.lit("]")
}

// span returns what stands from here on of the characters that ok names.
func (c *canonical) span(ok func(byte) bool) string {
	begin := c.pos
	for c.pos < len(c.b) && ok(c.b[c.pos]) {
		c.pos++
	}
	c.open = false
	return string(c.b[begin:c.pos])
}

func digit(b byte) bool { return b >= '0' && b <= '9' }

func (c *canonical) int(k string) int64 {
	c.key(k)
	text := c.span(func(b byte) bool { return digit(b) || b == '-' })
	v, err := strconv.ParseInt(text, 10, 64)
	if err != nil || v > maxInt || v < -maxInt || strconv.FormatInt(v, 10) != text {
		c.fail(k + " is not an integer as it is written here")
		return 0
	}
	return v
}

func (c *canonical) within(k string, low, high int64) int64 {
	v := c.int(k)
	if c.err == nil && (v < low || v > high) {
		c.fail(fmt.Sprintf("%s is %d, want %d to %d", k, v, low, high))
	}
	if c.err != nil {
		return low
	}
	return v
}

func (c *canonical) bool(k string) bool {
	c.key(k)
	v := c.at("true")
	if v {
		c.lit("true")
	} else {
		c.lit("false")
	}
	return v
}

// hexadecimal reads digits of n bytes into out.
func (c *canonical) hexadecimal(out []byte) {
	n := 2 * len(out)
	if c.err != nil || len(c.b)-c.pos < n {
		c.fail("hexadecimal digits are wanted")
		return
	}
	text := c.b[c.pos : c.pos+n]
	if _, err := hex.Decode(out, text); err != nil || bytes.ContainsAny(text, "ABCDEF") {
		c.fail("hexadecimal digits in lower case are wanted")
	}
	c.pos += n
	c.open = false
}

func (c *canonical) uuid() (id [16]byte) {
	c.lit(`"`)
	for i, part := range [][]byte{id[:4], id[4:6], id[6:8], id[8:10], id[10:]} {
		if i > 0 {
			c.lit("-")
		}
		c.hexadecimal(part)
	}
	c.lit(`"`)
	return id
}

func (c *canonical) id(k string) [16]byte { c.key(k); return c.uuid() }

func (c *canonical) hash(k string) (h evidence.Hash) {
	c.key(k)
	c.lit(`"`)
	if !c.at(`"`) {
		c.hexadecimal(h[:])
		if h == (evidence.Hash{}) {
			c.fail("the hash of zeros is written as nothing")
		}
	}
	c.lit(`"`)
	return h
}

func (c *canonical) month(k string) uint32 {
	c.key(k)
	c.lit(`"`)
	text := c.span(func(b byte) bool { return digit(b) || b == '-' })
	c.lit(`"`)
	t, err := time.Parse("2006-01", text)
	if err != nil || len(text) != 7 || t.Year() < 1970 || t.Year() > maxYear {
		c.fail(k + " is not a month like 2026-11")
		return 1970 * 12
	}
	return uint32(t.Year())*12 + uint32(t.Month()) - 1
}

func (c *canonical) hourState() HourState {
	switch c.text("state") {
	case "agreed":
		return HourAgreed
	case "disputed":
		return HourDisputed
	}
	c.fail("an hour is agreed or disputed")
	return 0
}

func (c *canonical) sum(k string) {
	c.key(k)
	c.lit(`"`)
	text := c.span(digit)
	if len(text) == 0 || len(text) > 39 || len(text) > 1 && text[0] == '0' {
		c.fail(k + " is not a sum as it is written here")
	}
	c.lit(`"`)
}

func (c *canonical) totals() {
	c.object("slots")
	for _, k := range [...]string{"not_contracted", "curtailment", "maintenance", "up", "degraded", "down", "unknown_down", "unknown_excused"} {
		c.int(k)
	}
	c.lit("}")
	c.sum("hashes")
	c.sum("needed")
}

func (c *canonical) fraction() (ppm int64) {
	c.sum("num")
	c.sum("den")
	return c.int("ppm")
}

// text reads a text. An escape stands for what printable ASCII cannot be written as, and surrogates come in pairs.
func (c *canonical) text(k string) string {
	c.key(k)
	c.lit(`"`)
	var out []rune
	for c.err == nil && !c.at(`"`) {
		if c.pos >= len(c.b) || c.b[c.pos] < 0x20 || c.b[c.pos] > 0x7e {
			c.fail(k + " holds what is not printable ASCII")
			break
		}
		if c.b[c.pos] != '\\' {
			out = append(out, rune(c.b[c.pos]))
			c.pos++
			continue
		}
		r := c.escape()
		if utf16.IsSurrogate(r) {
			low := rune(0)
			if c.at(`\u`) {
				low = c.escape()
			}
			if r = utf16.DecodeRune(r, low); r == 0xfffd {
				c.fail("half of a pair of surrogates")
			}
		}
		out = append(out, r)
	}
	c.lit(`"`)
	return string(out)
}

func (c *canonical) escape() rune {
	c.pos++
	if c.at(`"`) || c.at(`\`) {
		c.pos++
		return rune(c.b[c.pos-1])
	}
	var u [2]byte
	c.lit("u")
	c.hexadecimal(u[:])
	r := rune(u[0])<<8 | rune(u[1])
	if r >= 0x20 && r < 0x7f {
		c.fail("an escape of a character that needs none")
	}
	return r
}
