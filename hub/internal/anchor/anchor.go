// Package anchor puts checkpoints of the hub's transparency log on a blockchain, so that what the log says cannot be dated back: one transaction an hour
// for the whole hub, to a contract (AnchorLog) that holds the newest checkpoint and emits each one as an event. It knows what the log's head is, not what is
// in the log; it makes no proof and checks none (package proof does). hubd runs Machine.Run as a background task; Store is read by package proof, the API and
// the commands.
//
// Machine is a state machine in PostgreSQL. Everything is stored before it is sent, every row is changed under its version, and every run begins with what the
// chain says: a process may be killed at any line, and any number of them may run, with the same result as one that is not. An anchor is
//
//   - built: which checkpoint it is. As long as nothing is signed, a later hour puts the newest checkpoint in its place: one anchor covers all that was missed;
//   - signed: a transaction for it, with its nonce and fee, is stored;
//   - sent: at least one endpoint has taken the transaction. It is sent again in every run until it is in a block, the same bytes; one that stays away is
//     replaced by one of the same nonce whose fees are at least an eighth higher;
//   - mined, safe, finalized: it is in a block, which the chain says may, hardly, and will not change. The next anchor is built after that;
//   - orphaned: its block is no longer part of the chain: the same bytes are sent again;
//   - vanished: so, although it was final. That is an alarm, and proofs are not made over it until it is in a block again;
//   - failed: the contract refused it, and does not hold it either. It is tried again once in an interval.
//
// When the contract holds more than the database knows (the database was restored, or another hub with another database has anchored), the anchors are
// read back from its events, provided that their roots are those of this log, one that repeats the log's head too; when the log is not that long yet, the machine
// waits; when a root over as many entries as the log has is another one, it stops: two logs would use one contract.
package anchor

import (
	"fmt"
	"time"
)

// State says how far an anchor has come.
type State uint8

// States. The numbers are in the database.
const (
	Built     State = 1
	Signed    State = 2
	Sent      State = 3
	Mined     State = 4
	Safe      State = 5
	Finalized State = 6
	Orphaned  State = 7
	Failed    State = 8
	Vanished  State = 9
)

var stateNames = [...]string{
	Built: "built", Signed: "signed", Sent: "sent", Mined: "mined", Safe: "safe", Finalized: "finalized", Orphaned: "orphaned", Failed: "failed", Vanished: "vanished",
}

// String returns the documented name.
func (s State) String() string {
	if int(s) < len(stateNames) && stateNames[s] != "" {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// InBlock says whether an anchor in the state is in a block of the chain.
func (s State) InBlock() bool { return s == Mined || s == Safe || s == Finalized }

// Anchor is one checkpoint's way to the chain.
type Anchor struct {
	ChainID     uint64
	Contract    [20]byte
	Seq         uint64 // counts in the contract, from 1
	Hour        uint64 // since 1970 UTC, by the hub's clock
	Size        uint64 // of the log
	Root        [32]byte
	PrevRoot    [32]byte // zero for the first
	State       State
	Adopted     bool      // read back from the chain
	Vanished    int       // how often it was final and then gone
	Late        Trouble   // why it was mined late; empty: it was not
	DueAt       time.Time // when it was to be built
	BuiltAt     time.Time
	MinedAt     time.Time // when the hub saw it in a block; zero: not yet, and so the next ones
	FinalizedAt time.Time
	VanishedAt  time.Time // when it last vanished
	TxHash      [32]byte  // zero as long as it is in no block, and so the next ones
	Block       uint64
	BlockHash   [32]byte
	BlockTime   time.Time

	version int64
}

// LogHead is a checkpoint of the log.
type LogHead struct {
	Size       uint64
	Root       [32]byte
	Checkpoint []byte // the signed note
}

// Trouble says why anchoring does not go on, or did not go on for a while. The set is fixed: it labels metrics.
type Trouble string

// Troubles.
const (
	TroubleUnreachable   Trouble = "unreachable"    // no endpoint answers
	TroubleDisagree      Trouble = "disagree"       // endpoints contradict each other
	TroubleBehind        Trouble = "behind"         // the endpoint does not know blocks that were known before
	TroubleWrongChain    Trouble = "wrong_chain"    // the endpoint serves another chain
	TroubleWrongContract Trouble = "wrong_contract" // there is no AnchorLog at the address
	TroubleFee           Trouble = "fee"            // gas costs more than is allowed
	TroubleFunds         Trouble = "funds"          // the account cannot pay
	TroubleRefused       Trouble = "refused"        // no endpoint takes the transaction
	TroubleStuck         Trouble = "stuck"          // the transaction was replaced as often as is allowed and is in no block
	TroubleNonce         Trouble = "nonce"          // the account's transactions are not the ones that were sent
	TroubleReverted      Trouble = "reverted"       // the contract refuses
	TroubleForeign       Trouble = "foreign"        // the contract holds roots of another log
	TroubleAhead         Trouble = "ahead"          // the contract holds more than this log has: it is an older one, or another
	TroubleLogBehind     Trouble = "log_behind"     // the log reads back what its database has lost, or is not there
	TroubleLogFork       Trouble = "log_fork"       // the log does not continue what was anchored
	TroubleVanished      Trouble = "vanished"       // final anchors are gone from the chain
	TroubleDown          Trouble = "down"           // no hub ran; only as the reason of a late anchor
	TroubleSlow          Trouble = "slow"           // blocks came late, or were full; only as the reason of a late anchor
)

// troubles is every Trouble, for metrics.
var troubles = [...]Trouble{
	TroubleUnreachable, TroubleDisagree, TroubleBehind, TroubleWrongChain, TroubleWrongContract, TroubleFee, TroubleFunds, TroubleRefused, TroubleStuck, TroubleNonce,
	TroubleReverted, TroubleForeign, TroubleAhead, TroubleLogBehind, TroubleLogFork, TroubleVanished,
}
