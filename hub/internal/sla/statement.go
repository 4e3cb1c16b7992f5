package sla

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

const (
	formStatement = "hsi/statement/v1"
	maxStatement  = 64 << 20 // bytes: some 100,000 miners
	maxReason     = 1000     // bytes
)

// Statement is what the hub says of one contract and month, for good: the verdicts added up, and every input by id and hash, so that whoever has the
// inputs computes the same bytes. It is never changed, only superseded by another that names it. Its canonical encoding is what is signed
// (evidence.SignStatement) and its name the SHA-256 of that.
type Statement struct {
	Engine        int             `json:"engine"`
	Contract      ident.UUID      `json:"contract"`
	Customer      ident.UUID      `json:"customer"`
	Month         CalendarMonth   `json:"month"`
	IssuedMS      int64           `json:"issued_ms"`       // the hub's time; records made after it are no inputs
	AcceptUntilMS int64           `json:"accept_until_ms"` // of a restatement: facts that came until then count; 0: only those in time
	Supersedes    HexHash         `json:"supersedes"`
	Reason        string          `json:"reason"`      // why it supersedes
	Terms         []TermsRef      `json:"terms"`       // versions that hold in the month; the first is what Result and Credit follow
	Assignments   []RecordRef     `json:"assignments"` // as Assignment.Within the month
	Excuses       []ExcuseRef     `json:"excuses"`     // that could touch the contract's miners, with the records that end them
	Hours         []HourRef       `json:"hours"`
	Result        StatementResult `json:"result"`
	Credit        StatementCredit `json:"credit"`
	Totals        StatementTotals `json:"totals"`
	Miners        []StatementLine `json:"miners"`
}

// TermsRef names one version of the terms.
type TermsRef struct {
	Version int     `json:"version"`
	Hash    HexHash `json:"hash"`
}

// RecordRef names an assignment.
type RecordRef struct {
	ID   ident.UUID `json:"id"`
	Hash HexHash    `json:"hash"`
}

// ExcuseRef names an excuse and how many of the contract's slots it excused: none if it came late, was ended, or the cap was used up.
type ExcuseRef struct {
	ID      ident.UUID `json:"id"`
	Hash    HexHash    `json:"hash"`
	Counted int64      `json:"counted"`
}

// HourState is what the hub found when it computed an hour again.
type HourState string

// States of hours in statements.
const (
	HourAgreed   HourState = "agreed"
	HourDisputed HourState = "disputed"
)

// HourRef names a signed hour of one chain.
type HourRef struct {
	Site       ident.SiteID  `json:"site"`
	Hour       uint32        `json:"hour"`
	Spool      ident.SpoolID `json:"spool"`
	Root       HexHash       `json:"root"`
	HeaderHash HexHash       `json:"header_hash"`
	State      HourState     `json:"state"`
	Skewed     uint16        `json:"skewed"` // bit i: by the hub's measurement the site's clock was wrong in slot i
	ReceivedMS int64         `json:"received_ms"`
}

// Compare orders hours by site, hour, chain and header.
func (h *HourRef) Compare(o *HourRef) int {
	return cmp.Or(slices.Compare(h.Site[:], o.Site[:]), cmp.Compare(h.Hour, o.Hour), slices.Compare(h.Spool[:], o.Spool[:]),
		slices.Compare(h.HeaderHash[:], o.HeaderHash[:]))
}

// StatementSlots is Counts without the states that a closed month does not have.
type StatementSlots struct {
	NotContracted  int64 `json:"not_contracted"`
	Curtailment    int64 `json:"curtailment"`
	Maintenance    int64 `json:"maintenance"`
	Up             int64 `json:"up"`
	Degraded       int64 `json:"degraded"`
	Down           int64 `json:"down"`
	UnknownDown    int64 `json:"unknown_down"`
	UnknownExcused int64 `json:"unknown_excused"`
}

func slotsOf(c *Counts) StatementSlots {
	return StatementSlots{
		c[NotContracted], c[ExcusedCurtailment], c[ExcusedMaintenance], c[Up], c[Degraded], c[Down], c[UnknownAsDown], c[UnknownAsExcused],
	}
}

// Counts returns the slots by state.
func (s *StatementSlots) Counts() Counts {
	return Counts{
		NotContracted: s.NotContracted, ExcusedCurtailment: s.Curtailment, ExcusedMaintenance: s.Maintenance,
		Up: s.Up, Degraded: s.Degraded, Down: s.Down, UnknownAsDown: s.UnknownDown, UnknownAsExcused: s.UnknownExcused,
	}
}

// StatementTotals is what the month adds up to.
type StatementTotals struct {
	Slots  StatementSlots `json:"slots"`
	Hashes Sum            `json:"hashes"` // MH that count
	Needed Sum            `json:"needed"` // MH at the contracted rate
}

func (t *StatementTotals) totals() Totals {
	return Totals{Slots: t.Slots.Counts(), Hashes: t.Hashes, Needed: t.Needed}
}

// StatementFraction is an availability; num and den are 0 where nothing was due.
type StatementFraction struct {
	Num Sum   `json:"num"`
	Den Sum   `json:"den"`
	PPM int64 `json:"ppm"` // rounded down, for display
}

// StatementResult says whether the target was met.
type StatementResult struct {
	Metric    Metric `json:"metric"`
	TargetPPM int64  `json:"target_ppm"`
	StatementFraction
	Met bool `json:"met"`
}

// StatementCredit is what the customer gets back.
type StatementCredit struct {
	BP       int64  `json:"bp"`
	Minor    int64  `json:"minor"`
	FeeMinor int64  `json:"fee_minor"`
	Currency string `json:"currency"`
}

// StatementLine is the month of one miner.
type StatementLine struct {
	Site  ident.SiteID  `json:"site"`
	Miner ident.MinerID `json:"miner"`
	StatementTotals
	StatementFraction
}

// Issue is what a statement says beside its month.
type Issue struct {
	Supersedes HexHash // and Reason: of a restatement
	Reason     string
	Hours      []HourRef // of the month and the contract's sites, every one that days were judged with, in any order
}

// NewStatement makes the statement of a month that is closed. It is issued at the rules' AsOfMS.
func (r *Rules) NewStatement(m *MonthResult, issue Issue) (*Statement, error) {
	if closes := r.ClosesMS(); r.in.AsOfMS <= closes {
		return nil, fmt.Errorf("%s is open until %d ms, judged as of %d: issue its statement after that", r.in.Month, closes, r.in.AsOfMS)
	}
	if n := m.Slots.Open(); n > 0 {
		return nil, fmt.Errorf("%s has %d slots that are still open: judge their days again as of the time of issue", r.in.Month, n)
	}
	terms := r.MonthTerms()
	s := &Statement{
		Engine: r.in.Engine, Contract: terms.Contract, Customer: terms.Customer, Month: r.in.Month,
		IssuedMS: r.in.AsOfMS, AcceptUntilMS: r.in.AcceptUntilMS, Supersedes: issue.Supersedes, Reason: issue.Reason,
		Terms: []TermsRef{}, Assignments: []RecordRef{}, Excuses: []ExcuseRef{}, Hours: append([]HourRef{}, issue.Hours...), Miners: []StatementLine{},
		Result: StatementResult{terms.Metric, terms.TargetPPM, StatementFraction(m.Availability), m.Met},
		Credit: StatementCredit{m.Credit.BP, m.Credit.Minor, m.Credit.FeeMinor, m.Credit.Currency},
		Totals: StatementTotals{slotsOf(&m.Slots), m.Hashes, m.Needed},
	}
	for i := range r.terms {
		s.Terms = append(s.Terms, TermsRef{r.terms[i].Version, HexHash(r.terms[i].Hash())})
	}
	for _, a := range r.Assignments() {
		s.Assignments = append(s.Assignments, RecordRef{a.ID, HexHash(a.Hash())})
	}
	for i := range r.named {
		x := &r.named[i]
		s.Excuses = append(s.Excuses, ExcuseRef{x.ID, HexHash(x.Hash()), m.Excused[x.ID]})
	}
	slices.SortFunc(s.Hours, func(a, b HourRef) int { return a.Compare(&b) })
	for i := range m.Miners {
		l := &m.Miners[i]
		s.Miners = append(s.Miners, StatementLine{l.Site, l.Miner, StatementTotals{slotsOf(&l.Slots), l.Hashes, l.Needed}, StatementFraction(l.Availability)})
	}
	if err := s.Check(); err != nil {
		return nil, err
	}
	return s, nil
}

// Canonical returns the one encoding of a statement.
func (s *Statement) Canonical() []byte {
	e := encoder{make([]byte, 0, 4096+300*len(s.Hours)+450*len(s.Miners)+130*(len(s.Assignments)+len(s.Excuses)))}
	e.open('{')
	e.text("form", formStatement)
	e.int("engine", int64(s.Engine))
	e.id("contract", s.Contract)
	e.id("customer", s.Customer)
	e.text("month", s.Month.String())
	e.int("issued_ms", s.IssuedMS)
	e.int("accept_until_ms", s.AcceptUntilMS)
	e.hash("supersedes", s.Supersedes)
	e.text("reason", s.Reason)
	list(&e, "terms", s.Terms, func(t *TermsRef) { e.int("version", int64(t.Version)); e.hash("hash", t.Hash) })
	list(&e, "assignments", s.Assignments, func(a *RecordRef) { e.id("id", a.ID); e.hash("hash", a.Hash) })
	list(&e, "excuses", s.Excuses, func(x *ExcuseRef) { e.id("id", x.ID); e.hash("hash", x.Hash); e.int("counted", x.Counted) })
	list(&e, "hours", s.Hours, func(h *HourRef) {
		e.id("site", h.Site)
		e.int("hour", int64(h.Hour))
		e.id("spool", h.Spool)
		e.hash("root", h.Root)
		e.hash("header_hash", h.HeaderHash)
		e.text("state", string(h.State))
		e.int("skewed", int64(h.Skewed))
		e.int("received_ms", h.ReceivedMS)
	})
	e.key("result")
	e.open('{')
	e.text("metric", string(s.Result.Metric))
	e.int("target_ppm", s.Result.TargetPPM)
	s.Result.encode(&e)
	e.bool("met", s.Result.Met)
	e.close('}')
	e.key("credit")
	e.open('{')
	e.int("bp", s.Credit.BP)
	e.int("minor", s.Credit.Minor)
	e.int("fee_minor", s.Credit.FeeMinor)
	e.text("currency", s.Credit.Currency)
	e.close('}')
	e.key("totals")
	e.open('{')
	s.Totals.encode(&e)
	e.close('}')
	list(&e, "miners", s.Miners, func(l *StatementLine) {
		e.id("site", l.Site)
		e.id("miner", l.Miner)
		l.StatementTotals.encode(&e)
		l.StatementFraction.encode(&e)
	})
	e.close('}')
	return e.b
}

func list[T any](e *encoder, key string, items []T, encode func(*T)) {
	e.key(key)
	e.open('[')
	for i := range items {
		e.open('{')
		encode(&items[i])
		e.close('}')
	}
	e.close(']')
}

func (t *StatementTotals) encode(e *encoder) {
	e.key("slots")
	e.open('{')
	e.int("not_contracted", t.Slots.NotContracted)
	e.int("curtailment", t.Slots.Curtailment)
	e.int("maintenance", t.Slots.Maintenance)
	e.int("up", t.Slots.Up)
	e.int("degraded", t.Slots.Degraded)
	e.int("down", t.Slots.Down)
	e.int("unknown_down", t.Slots.UnknownDown)
	e.int("unknown_excused", t.Slots.UnknownExcused)
	e.close('}')
	e.text("hashes", t.Hashes.String())
	e.text("needed", t.Needed.String())
}

func (f *StatementFraction) encode(e *encoder) {
	e.text("num", f.Num.String())
	e.text("den", f.Den.String())
	e.int("ppm", f.PPM)
}

// Hash returns SHA-256 of the canonical encoding: the statement's name.
func (s *Statement) Hash() evidence.Hash { return sha256.Sum256(s.Canonical()) }

// ParseStatement reads the canonical encoding of a statement and nothing else. It checks what the statement alone can show, see Check.
func ParseStatement(b []byte) (*Statement, error) {
	v := struct {
		Form string `json:"form"`
		Statement
	}{}
	if err := parseCanonical(b, maxStatement, formStatement, &v, &v.Form, v.Canonical); err != nil {
		return nil, err
	}
	if err := v.Check(); err != nil {
		return nil, err
	}
	return &v.Statement, nil
}

// Check tells what a statement alone can show to be wrong: lists out of order, lines that do not add up, fractions and money that do not follow
// from the lines. Whether the lines are right only its inputs can show.
func (s *Statement) Check() error {
	if s.Engine != 1 {
		return fmt.Errorf("statement of sla engine %d, which %w", s.Engine, ErrEngine)
	}
	for _, check := range []func() error{s.checkHead, s.checkInputs, s.checkLines, s.checkResult} {
		if err := check(); err != nil {
			return fmt.Errorf("statement of contract %s for %s: %w", s.Contract, s.Month, err)
		}
	}
	return nil
}

func (s *Statement) checkHead() error {
	switch {
	case s.Contract == (ident.UUID{}) || s.Customer == (ident.UUID{}):
		return errors.New("it names no contract or no customer")
	case s.IssuedMS <= s.Month.ToMS() || s.IssuedMS > MaxMS:
		return fmt.Errorf("issued at %d ms, not after the month's end at %d", s.IssuedMS, s.Month.ToMS())
	case s.AcceptUntilMS < 0 || s.AcceptUntilMS > s.IssuedMS:
		return fmt.Errorf("it accepts facts until %d ms, which is not before it was issued at %d", s.AcceptUntilMS, s.IssuedMS)
	case (s.Supersedes == HexHash{}) != (s.Reason == ""):
		return errors.New("a statement that supersedes another names it and the reason, and no other statement does: give both or neither")
	case s.AcceptUntilMS != 0 && s.Supersedes == HexHash{}:
		return errors.New("only a restatement accepts late facts: name what it supersedes")
	case len(s.Reason) > maxReason || !utf8.ValidString(s.Reason):
		return fmt.Errorf("reason of %d bytes: give at most %d of UTF-8", len(s.Reason), maxReason)
	}
	for _, r := range s.Reason {
		// Control characters, and those that turn the direction of what follows: a reason is one line that reads as it is written.
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return fmt.Errorf("reason with the control character %U: give one line of text", r)
		}
	}
	return nil
}

func (s *Statement) checkInputs() error {
	if len(s.Terms) == 0 {
		return errors.New("it names no terms")
	}
	if !ascending(s.Terms, func(a, b *TermsRef) int { return cmp.Compare(a.Version, b.Version) }) ||
		!ascending(s.Assignments, func(a, b *RecordRef) int { return slices.Compare(a.ID[:], b.ID[:]) }) ||
		!ascending(s.Excuses, func(a, b *ExcuseRef) int { return slices.Compare(a.ID[:], b.ID[:]) }) ||
		!ascending(s.Hours, (*HourRef).Compare) ||
		!ascending(s.Miners, func(a, b *StatementLine) int { return MinerKey{a.Site, a.Miner}.Compare(MinerKey{b.Site, b.Miner}) }) {
		return errors.New("one of its lists is out of order or names something twice")
	}
	for i := range s.Terms {
		if s.Terms[i].Version < 1 || s.Terms[i].Hash == (HexHash{}) {
			return fmt.Errorf("terms version %d without a hash", s.Terms[i].Version)
		}
	}
	for i := range s.Assignments {
		if s.Assignments[i].Hash == (HexHash{}) {
			return fmt.Errorf("assignment %s without a hash", s.Assignments[i].ID)
		}
	}
	excused := int64(0)
	for i := range s.Excuses {
		x := &s.Excuses[i]
		if x.Hash == (HexHash{}) || x.Counted < 0 || x.Counted > int64(len(s.Miners))*maxMonth {
			return fmt.Errorf("excuse %s without a hash, or for %d slots", x.ID, x.Counted)
		}
		excused += x.Counted
	}
	if excused != s.Totals.Slots.Curtailment+s.Totals.Slots.Maintenance {
		return fmt.Errorf("its excuses count for %d slots, its totals say %d", excused, s.Totals.Slots.Curtailment+s.Totals.Slots.Maintenance)
	}
	first, last := s.Month.FromMS()/evidence.HourMS, s.Month.ToMS()/evidence.HourMS
	for i := range s.Hours {
		h := &s.Hours[i]
		switch {
		case int64(h.Hour) < first || int64(h.Hour) >= last:
			return fmt.Errorf("hour %d is not in the month, whose hours are %d to %d", h.Hour, first, last-1)
		case h.State != HourAgreed && h.State != HourDisputed:
			return fmt.Errorf("hour %d of site %s is %.20q: wait until it is agreed or disputed", h.Hour, h.Site, h.State)
		case h.Root == HexHash{} || h.HeaderHash == HexHash{} || h.Skewed >= 1<<evidence.SlotsPerHour:
			return fmt.Errorf("hour %d of site %s without root or header hash, or with slots it does not have", h.Hour, h.Site)
		case h.ReceivedMS < 1 || h.ReceivedMS > s.IssuedMS:
			return fmt.Errorf("hour %d of site %s came at %d ms, after the statement was issued at %d", h.Hour, h.Site, h.ReceivedMS, s.IssuedMS)
		}
	}
	return nil
}

func ascending[T any](items []T, compare func(a, b *T) int) bool {
	for i := 1; i < len(items); i++ {
		if compare(&items[i-1], &items[i]) >= 0 {
			return false
		}
	}
	return true
}

func (s *Statement) checkLines() error {
	if len(s.Miners) > len(s.Assignments) {
		return fmt.Errorf("%d miners with %d assignments", len(s.Miners), len(s.Assignments))
	}
	month := int64(s.Month.Days()) * SlotsPerDay
	var sum Totals
	for i := range s.Miners {
		l := &s.Miners[i]
		t := l.totals()
		var slots int64
		for _, n := range t.Slots {
			if n < 0 || n > month {
				return fmt.Errorf("miner %s has %d slots of one state in a month of %d", l.Miner, n, month)
			}
			slots += n
		}
		if slots != month {
			return fmt.Errorf("miner %s has %d slots, the month has %d", l.Miner, slots, month)
		}
		// What bounds a slot bounds the line, and keeps the sum over lines within its integers.
		due := Sum{}.Plus(t.Slots.Due() * MaxRateMHs * (evidence.SlotMS / 1000))
		if due.Less(l.Needed) || l.Needed.plus(l.Needed).Less(l.Hashes) {
			return fmt.Errorf("miner %s counts %s MH for the %s MH of %d slots: more than can be", l.Miner, l.Hashes, l.Needed, t.Slots.Due())
		}
		if l.StatementFraction != StatementFraction(t.Availability(s.Result.Metric)) {
			return fmt.Errorf("miner %s: its availability does not follow from its slots and hashes", l.Miner)
		}
		sum.Add(&t)
	}
	if sum != s.Totals.totals() {
		return errors.New("its totals are not the sum of its miners")
	}
	return nil
}

func (s *Statement) checkResult() error {
	a := Availability(s.Result.StatementFraction)
	switch {
	case s.Result.Metric != MetricTime && s.Result.Metric != MetricHashrate:
		return fmt.Errorf("metric %.20q is not known", s.Result.Metric)
	case s.Result.TargetPPM < 1 || s.Result.TargetPPM > Whole:
		return fmt.Errorf("target of %d ppm", s.Result.TargetPPM)
	}
	t := s.Totals.totals()
	switch {
	case a != t.Availability(s.Result.Metric):
		return errors.New("its availability does not follow from its totals")
	case s.Result.Met != !a.Below(s.Result.TargetPPM):
		return errors.New("whether the target is met does not follow from its availability")
	case s.Credit.BP < 0 || s.Credit.BP > WholeBP || s.Credit.FeeMinor < 0 || s.Credit.FeeMinor > MaxFeeMinor ||
		s.Credit.Minor != roundUpBP(s.Credit.FeeMinor, s.Credit.BP):
		return fmt.Errorf("a credit of %d for %d/10000 of a fee of %d", s.Credit.Minor, s.Credit.BP, s.Credit.FeeMinor)
	case s.Result.Met && s.Credit.BP != 0:
		return errors.New("a credit although the target is met")
	}
	return checkCurrency(s.Credit.Currency, s.Credit.FeeMinor)
}
