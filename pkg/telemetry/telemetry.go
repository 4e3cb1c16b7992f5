// Package telemetry holds what one poll of one miner says, in units that no longer depend on the
// firmware. The agent's drivers make Observations, package wire packs them into signed batches,
// the hub's ingest unpacks them. It holds types and their closed lists, no behaviour.
package telemetry

import (
	"fmt"
	"time"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// Observation is one attempted poll of one miner. An absent Opt was not reported; zero means measured zero.
type Observation struct {
	Miner   ident.MinerID
	At      time.Time     // the agent's clock, UTC, when the last byte arrived or the attempt ended
	Took    time.Duration // from dial to the last byte or the failure
	Outcome Outcome
	State   State
	Flags   Flags
	Repairs Repairs // what the tolerant decoder had to mend

	Hashrate       unit.Opt[unit.Hashrate] // over the shortest window the firmware reports
	HashrateWindow unit.Opt[time.Duration] // length of that window
	HashrateAvg    unit.Opt[unit.Hashrate] // since the mining program started
	IdealHashrate  unit.Opt[unit.Hashrate] // nominal, factory or expected rate
	Hashes         unit.Opt[int64]         // MH done since the program started; only where the driver's test has shown the counter to be cumulative
	Uptime         unit.Opt[time.Duration] // since the mining program started ("Elapsed"), whole seconds
	TempBoard      unit.Opt[unit.Celsius]  // hottest board sensor
	TempChip       unit.Opt[unit.Celsius]  // hottest chip sensor
	TempInlet      unit.Opt[unit.Celsius]  // environment or inlet air
	Power          unit.Opt[unit.Watts]    // at the wall where the firmware says so
	PowerLimit     unit.Opt[unit.Watts]    // what the firmware is set to draw at most
	Energy         unit.Opt[int64]         // J since the agent began to poll this miner: Power integrated over polls at most two intervals apart
	Accepted       unit.Opt[int64]         // shares since the program started
	Rejected       unit.Opt[int64]         // shares
	Stale          unit.Opt[int64]         // shares
	DiffAccepted   unit.Opt[int64]         // sum of share difficulty, fraction cut off
	DiffRejected   unit.Opt[int64]         // sum of share difficulty
	DiffStale      unit.Opt[int64]         // sum of share difficulty
	HardwareErrors unit.Opt[int64]         // count since the program started
	BestShare      unit.Opt[int64]         // difficulty of the best share
	FanPercent     unit.Opt[int32]         // duty, where only that or both are given
	FanDuty        []unit.Opt[int32]       // % by position, where each fan's is told; at most MaxFans
	Fans           []unit.Opt[unit.RPM]    // by position; at most MaxFans
	Boards         []Board                 // at most MaxBoards
	Pools          []Pool                  // at most MaxPools, in the miner's order; entries without a URL are left out
	Errors         []string                // codes and texts the miner or the poll reported; at most MaxErrors of MaxText bytes
}

// Bounds of what one observation may carry; drivers cut what is beyond and wire refuses it.
const (
	MaxFans       = 16 // a stack of ten modules has ten
	MaxBoards     = 16
	MaxBoardTemps = 8
	MaxPools      = 16
	MaxErrors     = 16
	MaxText       = 256 // bytes of any text that a miner supplied
)

// Board is one hash board of a miner.
type Board struct {
	Index          int32 // as the firmware numbers it
	Chips          unit.Opt[int32]
	ChipsWorking   unit.Opt[int32]
	Hashrate       unit.Opt[unit.Hashrate]
	FrequencyMHz   unit.Opt[float64]
	HardwareErrors unit.Opt[int64]
	Power          unit.Opt[unit.Watts] // behind the power supply: the sum of the boards is less than the wall's
	Temps          []unit.Celsius       // sensors that answered; board sensors first, then chips
}

// Pool is one mining pool as the miner sees it.
type Pool struct {
	URL          string // without scheme
	Worker       string
	Priority     unit.Opt[int32]
	Alive        unit.Opt[bool]
	Active       unit.Opt[bool]  // the one being mined on
	Enabled      unit.Opt[bool]  // not switched off by the operator or the firmware
	Group        unit.Opt[int32] // pools are tried in turn within a group, and groups share the work
	Fee          unit.Opt[bool]  // true: the firmware's maker mines there for itself; never false, for nobody tells
	Accepted     unit.Opt[int64]
	Rejected     unit.Opt[int64]
	Stale        unit.Opt[int64]
	DiffAccepted unit.Opt[int64]
}

// MinerInfo describes a miner. Its fields are attributes: none of them is its identity.
type MinerInfo struct {
	Miner           ident.MinerID
	Address         string // host:port as the agent reaches it
	MAC             string // upper case, colons
	Serial          string
	Maker           string
	Model           string
	Firmware        string // family: "stock", "Braiins OS", …
	FirmwareVersion string
	Hostname        string
	ControlBoard    string // type of the computer in it: it decides which firmware fits
	APIVersion      string // of the interface that was read
	FirmwareBuilt   string // when, in the firmware's own words
}

// Outcome says how the poll itself went.
type Outcome uint8

// Outcomes of a poll. The numbers are stored and signed: never reuse one.
const (
	OutcomeOK          Outcome = 1  // everything asked for was answered
	OutcomePartial     Outcome = 2  // some replies were read, a later one failed
	OutcomeRefused     Outcome = 3  // connection refused: no mining program, or none with a pool
	OutcomeTimeout     Outcome = 4  // connected or not, nothing complete before the deadline
	OutcomeDenied      Outcome = 5  // accepted and closed with 0 bytes: this address is not allowed
	OutcomeGarbage     Outcome = 6  // bytes that no repair makes a reply
	OutcomeAPIError    Outcome = 7  // a well-formed refusal (status E or F)
	OutcomeReset       Outcome = 8  // connection reset
	OutcomeUnreachable Outcome = 9  // no route, host down, name unknown
	OutcomeTooLarge    Outcome = 10 // more than the cap of one reply
)

var outcomeNames = map[Outcome]string{
	OutcomeOK: "ok", OutcomePartial: "partial", OutcomeRefused: "refused", OutcomeTimeout: "timeout",
	OutcomeDenied: "denied", OutcomeGarbage: "garbage", OutcomeAPIError: "api_error", OutcomeReset: "reset",
	OutcomeUnreachable: "unreachable", OutcomeTooLarge: "too_large",
}

// String returns the documented name.
func (o Outcome) String() string { return name(outcomeNames, o) }

// Answered reports whether the miner gave readings.
func (o Outcome) Answered() bool { return o == OutcomeOK || o == OutcomePartial }

// State says what the miner is doing, as far as its replies can tell.
type State uint8

// States of a miner. The numbers are stored and signed: never reuse one.
const (
	StateUnknown    State = 0 // the replies do not tell, or there were none
	StateHashing    State = 1 // hashing, nothing wrong reported
	StateDegraded   State = 2 // hashing with a board, chips or a fan missing, or well below its nominal rate
	StateSleeping   State = 3 // put to sleep, where the firmware says so
	StateOverheated State = 4 // stopped or reporting a fault because of heat, where the firmware says so
	StateFaulty     State = 5 // not hashing and reporting a fault
	StateNoPool     State = 6 // no pool alive
	StateStarting   State = 7 // the program runs for less than 5 minutes and does not hash yet
)

var stateNames = map[State]string{
	StateUnknown: "unknown", StateHashing: "hashing", StateDegraded: "degraded", StateSleeping: "sleeping",
	StateOverheated: "overheated", StateFaulty: "faulty", StateNoPool: "no_pool", StateStarting: "starting",
}

// String returns the documented name.
func (s State) String() string { return name(stateNames, s) }

// ParseState reads a documented state name.
func ParseState(s string) (State, error) {
	for k, v := range stateNames {
		if v == s {
			return k, nil
		}
	}
	return 0, fmt.Errorf("state %.40q is none of hashing, degraded, sleeping, overheated, faulty, no_pool, starting, unknown", s)
}

// Flags are facts about a poll that an SLA slot needs later.
type Flags uint32

// Flags of an observation. The bits are stored and signed: never reuse one.
const (
	FlagClockStep Flags = 1 << 0 // the agent's clock was stepped by more than 2 s since the poll before
	FlagSkewed    Flags = 1 << 1 // the agent's clock was more than 30 s from the hub's, by the hub's last acknowledgement
)

// Repairs is the set of repairs that the tolerant decoder applied to the replies of one poll.
type Repairs uint32

// Repairs, named after the fault they mend. The bits are stored and signed: never reuse one.
const (
	RepairSecondDocument Repairs = 1 << iota // more bytes after the first document
	RepairMissingComma                       // "}{" or "\"\"key" without a comma
	RepairExtraComma                         // ",}" or "[,"
	RepairNotANumber                         // bare nan, inf: read as missing
	RepairBadEscape                          // an escape JSON does not know, such as \'
	RepairControlChar                        // raw control character in a string
	RepairListAsMap                          // "[key:value]": a list written like a map
	RepairMissingBrace                       // reply begins with a comma
	RepairInvalidUTF8                        // bytes replaced
	RepairDuplicateKey                       // the last one won
)

var repairNames = []string{
	"second_document", "missing_comma", "extra_comma", "not_a_number", "bad_escape", "control_character",
	"list_as_map", "missing_brace", "invalid_utf8", "duplicate_key",
}

// Names returns the documented names of the set, in a fixed order.
func (r Repairs) Names() []string {
	var out []string
	for i, n := range repairNames {
		if r&(1<<i) != 0 {
			out = append(out, n)
		}
	}
	return out
}

func name[K ~uint8](names map[K]string, k K) string {
	if n, ok := names[k]; ok {
		return n
	}
	return fmt.Sprintf("code_%d", k)
}
