package sla

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Whole is all of something in parts per million, and WholeBP in 1/100 %.
const (
	Whole   = 1_000_000
	WholeBP = 10_000
)

// Bounds of terms. They keep every product of the arithmetic within its integers: a month of 31 days at twice MaxRateMHs is below 2^63 MH.
const (
	MaxRateMHs   = 1_000_000_000_000     // 1 EH/s for one miner
	MaxFeeMinor  = 1_000_000_000_000_000 // below 2^53: readers of JSON keep it exactly
	MaxWindowMS  = 366 * DayMS           // of one excuse
	MaxExcuseFor = 100_000               // miners that one excuse names; for more, all of the site
	maxSeconds   = 31 * 24 * 3600        // of the deadlines in terms
	maxMonth     = 31 * SlotsPerDay      // slots
	maxTiers     = 16
	maxDocument  = 64 << 10 // bytes of terms or of an assignment
	maxExcuse    = maxDocument + 39*MaxExcuseFor
)

const (
	formTerms      = "hsi/terms/v1"
	formAssignment = "hsi/assignment/v1"
	formExcuse     = "hsi/excuse/v1"
)

// DefaultTerms returns what terms say when they do not say otherwise. Contract, customer, version, from and rate have no default.
func DefaultTerms() Terms {
	return Terms{
		Metric: MetricTime, TargetPPM: 990_000, ThetaPPM: 800_000, DegradedPPM: 100_000, Unknown: UnknownDown,
		BackfillS: 72 * 3600, CurtailLateS: 15 * 60, MaintenanceNoticeS: 24 * 3600, CurtailCapSlots: -1, MaintenanceCapSlots: -1,
		Tiers:       []Tier{{BelowPPM: 990_000, CreditBP: 500}, {BelowPPM: 980_000, CreditBP: 1_000}, {BelowPPM: 950_000, CreditBP: 2_500}},
		CreditCapBP: WholeBP,
	}
}

// Check tells everything that is wrong with terms, and what would be right.
func (t *Terms) Check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	within := func(name string, v, low, high int64) {
		if v < low || v > high {
			bad("%s is %d: give %d to %d", name, v, low, high)
		}
	}
	if t.Contract == (ident.UUID{}) || t.Customer == (ident.UUID{}) {
		bad("terms belong to a contract and a customer: name both")
	}
	within("version", int64(t.Version), 1, math.MaxInt32)
	within("from_ms", t.FromMS, 1, MaxMS)
	within("rate_mhs", t.RateMHs, 1, MaxRateMHs)
	if t.Metric != MetricTime && t.Metric != MetricHashrate {
		bad("metric is %.20q: give %q or %q", t.Metric, MetricTime, MetricHashrate)
	}
	within("target_ppm", t.TargetPPM, 1, Whole)
	within("theta_ppm", t.ThetaPPM, 1, Whole)
	if t.DegradedPPM < 1 || t.DegradedPPM > t.ThetaPPM {
		bad("degraded_ppm is %d: give 1 to theta_ppm, which is %d", t.DegradedPPM, t.ThetaPPM)
	}
	if t.Unknown != UnknownDown && t.Unknown != UnknownExcused && t.Unknown != UnknownPool {
		bad("unknown is %.20q: give %q, %q or %q", t.Unknown, UnknownDown, UnknownExcused, UnknownPool)
	}
	within("backfill_s", t.BackfillS, 0, maxSeconds)
	within("curtail_late_s", t.CurtailLateS, 0, maxSeconds)
	within("maintenance_notice_s", t.MaintenanceNoticeS, 0, maxSeconds)
	within("curtail_cap_slots", t.CurtailCapSlots, -1, maxMonth)
	within("maintenance_cap_slots", t.MaintenanceCapSlots, -1, maxMonth)
	errs = append(errs, t.checkMoney()...)
	return errors.Join(errs...)
}

func (t *Terms) checkMoney() (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(t.Tiers) > maxTiers {
		bad("tiers has %d entries: give at most %d", len(t.Tiers), maxTiers)
	}
	for i, tier := range t.Tiers {
		switch {
		case tier.BelowPPM < 1 || tier.BelowPPM > t.TargetPPM:
			bad("tiers[%d].below_ppm is %d: give 1 to target_ppm, which is %d: a target that is met earns no credit", i, tier.BelowPPM, t.TargetPPM)
		case tier.CreditBP < 1 || tier.CreditBP > WholeBP:
			bad("tiers[%d].credit_bp is %d: give 1 to %d, in 1/100 %%", i, tier.CreditBP, WholeBP)
		case i > 0 && tier.BelowPPM >= t.Tiers[i-1].BelowPPM:
			bad("tiers[%d].below_ppm is %d: give the tiers in descending order of it, each once", i, tier.BelowPPM)
		case i > 0 && tier.CreditBP <= t.Tiers[i-1].CreditBP:
			bad("tiers[%d].credit_bp is %d: less availability earns more credit; give more than %d", i, tier.CreditBP, t.Tiers[i-1].CreditBP)
		}
	}
	if t.CreditCapBP < 0 || t.CreditCapBP > WholeBP {
		bad("credit_cap_bp is %d: give 0 to %d, in 1/100 %%", t.CreditCapBP, WholeBP)
	}
	if t.FeeMinor < 0 || t.FeeMinor > MaxFeeMinor {
		bad("fee_minor is %d: give 0 to %d", t.FeeMinor, int64(MaxFeeMinor))
	}
	if err := checkCurrency(t.Currency, t.FeeMinor); err != nil {
		errs = append(errs, err)
	}
	return errs
}

func checkCurrency(currency string, feeMinor int64) error {
	if currency == "" && feeMinor == 0 {
		return nil // credits are told in 1/100 % only
	}
	if len(currency) != 3 || strings.ContainsFunc(currency, func(r rune) bool { return r < 'A' || r > 'Z' }) {
		return fmt.Errorf("currency is %.10q: give a code of ISO 4217 like EUR, or no fee and no currency", currency)
	}
	return nil
}

// Canonical returns the one encoding of terms.
func (t *Terms) Canonical() []byte {
	var e encoder
	e.open('{')
	e.text("form", formTerms)
	e.id("contract", t.Contract)
	e.id("customer", t.Customer)
	e.int("version", int64(t.Version))
	e.int("from_ms", t.FromMS)
	e.int("rate_mhs", t.RateMHs)
	e.text("metric", string(t.Metric))
	e.int("target_ppm", t.TargetPPM)
	e.int("theta_ppm", t.ThetaPPM)
	e.int("degraded_ppm", t.DegradedPPM)
	e.text("unknown", string(t.Unknown))
	e.int("backfill_s", t.BackfillS)
	e.int("curtail_late_s", t.CurtailLateS)
	e.int("maintenance_notice_s", t.MaintenanceNoticeS)
	e.int("curtail_cap_slots", t.CurtailCapSlots)
	e.int("maintenance_cap_slots", t.MaintenanceCapSlots)
	e.key("tiers")
	e.open('[')
	for _, tier := range t.Tiers {
		e.open('{')
		e.int("below_ppm", tier.BelowPPM)
		e.int("credit_bp", tier.CreditBP)
		e.close('}')
	}
	e.close(']')
	e.int("credit_cap_bp", t.CreditCapBP)
	e.int("fee_minor", t.FeeMinor)
	e.text("currency", t.Currency)
	e.close('}')
	return e.b
}

// Hash returns SHA-256 of the canonical encoding: what statements name the terms by.
func (t *Terms) Hash() evidence.Hash { return sha256.Sum256(t.Canonical()) }

// ParseTerms reads the canonical encoding of valid terms and nothing else.
func ParseTerms(b []byte) (Terms, error) {
	v := struct {
		Form string `json:"form"`
		Terms
	}{}
	if err := parseCanonical(b, maxDocument, formTerms, &v, &v.Form, v.Canonical); err != nil {
		return Terms{}, err
	}
	if err := v.Check(); err != nil {
		return Terms{}, fmt.Errorf("terms: %w", err)
	}
	return v.Terms, nil
}

// Check tells what is wrong with an assignment.
func (a *Assignment) Check() error {
	switch {
	case a.ID == (ident.UUID{}) || a.Contract == (ident.UUID{}) || a.Site == (ident.SiteID{}) || a.Miner == (ident.MinerID{}):
		return errors.New("an assignment has an id, a contract, a site and a miner: name all")
	case a.FromMS < 1 || a.FromMS > MaxMS:
		return fmt.Errorf("assignment %s: from_ms is %d: give a time after 1970", a.ID, a.FromMS)
	case a.ToMS != 0 && (a.ToMS < a.FromMS || a.ToMS > MaxMS): // what ends at its beginning was called off
		return fmt.Errorf("assignment %s: to_ms is %d: give 0 for no end, or a time not before its beginning at %d", a.ID, a.ToMS, a.FromMS)
	case a.RateMHs < 0 || a.RateMHs > MaxRateMHs:
		return fmt.Errorf("assignment %s: rate_mhs is %d: give 0 for the terms' rate, or 1 to %d", a.ID, a.RateMHs, int64(MaxRateMHs))
	}
	return nil
}

// Canonical returns the one encoding of an assignment.
func (a *Assignment) Canonical() []byte {
	var e encoder
	e.open('{')
	e.text("form", formAssignment)
	e.id("id", a.ID)
	e.id("contract", a.Contract)
	e.id("site", a.Site)
	e.id("miner", a.Miner)
	e.int("from_ms", a.FromMS)
	e.int("to_ms", a.ToMS)
	e.int("rate_mhs", a.RateMHs)
	e.close('}')
	return e.b
}

// Hash returns SHA-256 of the canonical encoding.
func (a *Assignment) Hash() evidence.Hash { return sha256.Sum256(a.Canonical()) }

// ParseAssignment reads the canonical encoding of a valid assignment and nothing else.
func ParseAssignment(b []byte) (Assignment, error) {
	v := struct {
		Form string `json:"form"`
		Assignment
	}{}
	if err := parseCanonical(b, maxDocument, formAssignment, &v, &v.Form, v.Canonical); err != nil {
		return Assignment{}, err
	}
	return v.Assignment, v.Check()
}

// Check tells what is wrong with an excuse. Whether it counts is another question, which Rules answers: a late one is a good record.
func (x *Excuse) Check() error {
	switch {
	case x.ID == (ident.UUID{}) || x.Site == (ident.SiteID{}):
		return errors.New("an excuse has an id and a site: name both")
	case x.Kind != Curtailment && x.Kind != Maintenance:
		return fmt.Errorf("excuse %s: kind is %.20q: give %q or %q", x.ID, x.Kind, Curtailment, Maintenance)
	case x.FromMS < 1 || x.FromMS > MaxMS || x.ToMS < 1 || x.ToMS > MaxMS || x.RecordedMS < 1 || x.RecordedMS > MaxMS:
		return fmt.Errorf("excuse %s: from_ms, to_ms and recorded_ms are times after 1970", x.ID)
	case x.Ends == (ident.UUID{}) && x.ToMS <= x.FromMS: // what ends a window before it begins is a cancellation
		return fmt.Errorf("excuse %s: it ends at %d, not after its beginning at %d: give a later to_ms", x.ID, x.ToMS, x.FromMS)
	case x.Ends == (ident.UUID{}) && x.ToMS-x.FromMS > MaxWindowMS:
		return fmt.Errorf("excuse %s: a window of more than 366 days: give several", x.ID)
	case x.Ends == x.ID:
		return fmt.Errorf("excuse %s: ends names the record itself: name the window to shorten", x.ID)
	case len(x.Miners) > MaxExcuseFor:
		return fmt.Errorf("excuse %s: it names %d miners: give at most %d, or none for all of the site", x.ID, len(x.Miners), MaxExcuseFor)
	}
	return nil
}

// Canonical returns the one encoding of an excuse: its miners are a set, in order and each once.
func (x *Excuse) Canonical() []byte {
	miners := slices.Clone(x.Miners)
	slices.SortFunc(miners, ident.MinerID.Compare)
	var e encoder
	e.open('{')
	e.text("form", formExcuse)
	e.id("id", x.ID)
	e.text("kind", string(x.Kind))
	e.id("site", x.Site)
	e.key("miners")
	e.open('[')
	for _, m := range slices.Compact(miners) {
		e.uuid(m)
	}
	e.close(']')
	e.int("from_ms", x.FromMS)
	e.int("to_ms", x.ToMS)
	e.int("recorded_ms", x.RecordedMS)
	e.id("ends", x.Ends)
	e.close('}')
	return e.b
}

// Hash returns SHA-256 of the canonical encoding.
func (x *Excuse) Hash() evidence.Hash { return sha256.Sum256(x.Canonical()) }

// ParseExcuse reads the canonical encoding of a valid excuse and nothing else.
func ParseExcuse(b []byte) (Excuse, error) {
	v := struct {
		Form string `json:"form"`
		Excuse
	}{}
	if err := parseCanonical(b, maxExcuse, formExcuse, &v, &v.Form, v.Canonical); err != nil {
		return Excuse{}, err
	}
	return v.Excuse, v.Check()
}
