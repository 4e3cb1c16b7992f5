package evidence

import (
	"errors"

	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Slots of an hour. Time is the agent's wall clock.
const (
	SlotsPerHour = 12
	SlotMS       = 300_000
	HourMS       = SlotsPerHour * SlotMS
)

// Source says where the number of hashes of a slot comes from.
type Source uint8

// Sources. The numbers are signed: never reuse one.
const (
	SourceNone    Source = 0 // nothing is known of the work
	SourceCounter Source = 1 // all of it from a counter that the driver's test has shown to be cumulative
	SourceRate    Source = 2 // some of it from the integral of the shortest-window rate
)

// SlotFlags are what polls of a slot have seen.
type SlotFlags uint16

// Flags of a slot. The bits are signed: never reuse one.
const (
	SlotReachable   SlotFlags = 1 << 0 // a poll was answered
	SlotHashing     SlotFlags = 1 << 1 // a state of hashing was read
	SlotSleeping    SlotFlags = 1 << 2
	SlotOverheated  SlotFlags = 1 << 3
	SlotBridged     SlotFlags = 1 << 4 // work comes from a counter between polls more than 15 min apart
	SlotClockStep   SlotFlags = 1 << 5 // the agent's clock was stepped
	SlotCurtailSeen SlotFlags = 1 << 6 // the agent knew of an order to curtail
	SlotSkewed      SlotFlags = 1 << 7 // the agent's clock was more than 30 s from the hub's
)

// Slot is the facts of one miner and 5 minutes: never a verdict, which needs a contract.
type Slot struct {
	Polls     uint16 // made; at its largest value it counts no further, as the next
	Answered  uint16
	Source    Source
	Flags     SlotFlags
	Hashes    uint64 // MH
	ShareDiff uint64 // difficulty of accepted shares: recorded, decides nothing
	Energy    uint64 // J
}

// Leaf is the facts of one miner and hour, of what one chain of batches says.
type Leaf struct {
	Site  ident.SiteID
	Miner ident.MinerID
	Hour  uint32        // since 1970 UTC
	Spool ident.SpoolID // the chain
	Slots [SlotsPerHour]Slot
	// The first batch that counts towards a slot, and the last one of the chain when the leaf was made, whether it counts or not.
	FirstSeq, LastSeq uint64
	Salt              [16]byte
}

// LeafSize is the length of an encoded leaf in bytes.
const LeafSize = 480

var errTODO = errors.New("not written yet")

// AppendBinary appends the fixed form.
func (l *Leaf) AppendBinary(b []byte) ([]byte, error) { return nil, errTODO }

// ParseLeaf reads the fixed form and accepts nothing else.
func ParseLeaf(b []byte) (Leaf, error) { return Leaf{}, errTODO }

// Hash returns SHA-256 of the leaf's fixed form.
func (l *Leaf) Hash() Hash { return Hash{} }

// SaltOf returns a leaf's salt: the first 16 bytes of HMAC-SHA256(key, "hsi/salt/v1\0" ‖ hour (4)).
func SaltOf(key [32]byte, hour uint32) [16]byte { return [16]byte{} }
