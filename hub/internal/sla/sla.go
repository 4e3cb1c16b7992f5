// Package sla computes what a contract makes of signed facts: for each miner and 5-minute slot a verdict, for each month the availability, the
// allowance and the credit. Pure functions over integers: no clock, no database, no float. An engine that was ever used for a statement
// stays runnable. Package statement calls it with what the database has, and so does whoever recomputes a statement.
package sla

import (
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// EngineVersion is the newest version of the rules.
const EngineVersion = 1

// Metric says what a contract's availability counts.
type Metric string

// Metrics.
const (
	MetricTime     Metric = "time"     // slots up ÷ (contracted − excused)
	MetricHashrate Metric = "hashrate" // min(1, hashes ÷ (rate × time contracted and not excused)), the minimum taken over the month and all miners
)

// UnknownPolicy says what a slot counts as that nobody knows about when its backfill deadline has passed.
type UnknownPolicy string

// Policies for unknown slots.
const (
	UnknownDown    UnknownPolicy = "down"
	UnknownExcused UnknownPolicy = "excused" // a site that says nothing owes nothing: for contracts that trust it
	UnknownPool    UnknownPolicy = "pool"    // credited pool work may turn it up; without such data it is down
)

// Tier gives a credit when availability lies below a bound.
type Tier struct {
	BelowPPM int64 `json:"below_ppm"`
	CreditBP int64 `json:"credit_bp"` // of the fee, in 1/100 %
}

// Terms is one version of a contract's terms. Times are ms since 1970 UTC.
type Terms struct {
	Contract            ident.UUID    `json:"contract"`
	Customer            ident.UUID    `json:"customer"`
	Version             int           `json:"version"`  // from 1
	FromMS              int64         `json:"from_ms"`  // holds for slots that start at or after this, until the next version's
	RateMHs             int64         `json:"rate_mhs"` // contracted hashrate of a miner whose assignment names none
	Metric              Metric        `json:"metric"`
	TargetPPM           int64         `json:"target_ppm"`
	ThetaPPM            int64         `json:"theta_ppm"`    // of the contracted rate: at or above it a slot is up; 800,000 by default
	DegradedPPM         int64         `json:"degraded_ppm"` // at or above it degraded, else down; 100,000 by default
	Unknown             UnknownPolicy `json:"unknown"`
	BackfillS           int64         `json:"backfill_s"`           // after an hour's end until which its facts count; 259,200 (72 h) by default
	CurtailLateS        int64         `json:"curtail_late_s"`       // an order to curtail counts if it was recorded at most this after its start; 900 by default
	MaintenanceNoticeS  int64         `json:"maintenance_notice_s"` // maintenance counts if it was recorded at least this before its start; 86,400 by default
	CurtailCapSlots     int64         `json:"curtail_cap_slots"`    // most excused slots of a miner and month; -1 is no cap
	MaintenanceCapSlots int64         `json:"maintenance_cap_slots"`
	Tiers               []Tier        `json:"tiers"` // bounds descending, credits ascending
	CreditCapBP         int64         `json:"credit_cap_bp"`
	FeeMinor            int64         `json:"fee_minor"` // hosting fee of a month in minor units; 0: credits are told in 1/100 % only
	Currency            string        `json:"currency"`  // ISO 4217
}

// Assignment says that a miner belongs to a contract for a time. A slot belongs to the contract that the miner has at the slot's start.
type Assignment struct {
	ID       ident.UUID    `json:"id"`
	Contract ident.UUID    `json:"contract"`
	Site     ident.SiteID  `json:"site"`
	Miner    ident.MinerID `json:"miner"`
	FromMS   int64         `json:"from_ms"`
	ToMS     int64         `json:"to_ms"`    // 0: open
	RateMHs  int64         `json:"rate_mhs"` // 0: the terms'
}

// ExcuseKind is why miners may stand still.
type ExcuseKind string

// Kinds of excuses.
const (
	Curtailment ExcuseKind = "curtailment"
	Maintenance ExcuseKind = "maintenance"
)

// Excuse is a window in which miners of a site may stand still, as it was recorded. It changes by a later record only: a record with Ends set
// shortens the window it names, to its own ToMS, but never to before it was recorded: what was excused until then stays so, and nobody picks in
// hindsight. Of such a record Kind and Site must be the window's; FromMS and Miners decide nothing.
type Excuse struct {
	ID         ident.UUID      `json:"id"`
	Kind       ExcuseKind      `json:"kind"`
	Site       ident.SiteID    `json:"site"`
	Miners     []ident.MinerID `json:"miners"` // none: all of the site
	FromMS     int64           `json:"from_ms"`
	ToMS       int64           `json:"to_ms"`
	RecordedMS int64           `json:"recorded_ms"` // the hub's time
	Ends       ident.UUID      `json:"ends"`        // zero: a window of its own
}

// State is the verdict on one miner and slot.
type State uint8

// States of a slot, first match. The numbers and letters are stored and signed: never reuse one.
const (
	NotContracted      State = 0 // '.'
	ExcusedCurtailment State = 1 // 'c'
	ExcusedMaintenance State = 2 // 'm'
	Up                 State = 3 // 'U'
	Degraded           State = 4 // 'd'
	Down               State = 5 // 'D'
	Unknown            State = 6 // '?' open until the backfill deadline
	UnknownAsDown      State = 7 // 'X' unknown for good, and down by the contract
	UnknownAsExcused   State = 8 // 'x' unknown for good, and excused by the contract
	Future             State = 9 // ' ' contracted, not excused and not over
)

// StateCount is the number of states.
const StateCount = 10

const letters = ".cmUdD?Xx "

// Letter returns the state's letter in slot maps.
func (s State) Letter() byte {
	if int(s) >= len(letters) {
		return '!'
	}
	return letters[s]
}

// HourFacts is what one chain says of one miner and hour. Usually there is one chain; after a reinstallation within the hour there are more.
type HourFacts struct {
	Hour       uint32
	Spool      ident.SpoolID // the chain
	Slots      [evidence.SlotsPerHour]evidence.Slot
	Skewed     uint16 // bit i: slot i is unknown because the clock was wrong, by the site's flag or the hub's measurement
	Disputed   bool   // the site's root is not what the batches give: the hour is unknown
	ReceivedMS int64  // the hub's time when all of it had come
}
