package evidence

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

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

const knownSlotFlags = SlotReachable | SlotHashing | SlotSleeping | SlotOverheated | SlotBridged | SlotClockStep | SlotCurtailSeen | SlotSkewed

// MaxAmount is the largest sum in a slot. A sum beyond it stays there: no miner comes near, and what is signed fits every signed 64-bit
// integer (PostgreSQL's, Java's).
const MaxAmount = math.MaxInt64

// Slot is the facts of one miner and 5 minutes: never a verdict, which needs a contract.
//
//	offset width field
//	     0     2 polls made; at 65,535 they count no further
//	     2     2 polls answered, likewise; at most as many as were made
//	     4     1 source of the hashes
//	     5     1 zero
//	     6     2 flags
//	     8     8 hashes, MH, at most 2^63 − 1; zero where the source is none
//	    16     8 difficulty of accepted shares, at most 2^63 − 1
//	    24     8 energy, J, at most 2^63 − 1
type Slot struct {
	Polls     uint16
	Answered  uint16
	Source    Source // of the hashes; it is told also where they are known to be zero
	Flags     SlotFlags
	Hashes    uint64 // MH
	ShareDiff uint64 // difficulty of accepted shares: recorded, decides nothing
	Energy    uint64 // J
}

const slotSize = 32

// Leaf is the facts of one miner and hour, of what one chain of batches says.
//
//	offset width field
//	     0    12 tag "hsi/leaf/v1\0"
//	    12    16 site id
//	    28    16 miner id
//	    44     4 hour since 1970 UTC
//	    48    16 spool id of the chain
//	    64   384 12 slots of 32 bytes, in order of time (Slot)
//	   448     8 first sequence number that counts towards a slot
//	   456     8 last sequence number of the chain when the leaf was made
//	   464    16 salt
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

const leafTag = "hsi/leaf/v1\x00"

// LeafSize is the length of an encoded leaf in bytes.
const LeafSize = 480

// AppendBinary appends the fixed form. It refuses what ParseLeaf would refuse, so that nothing is signed that nobody can read.
func (l *Leaf) AppendBinary(b []byte) ([]byte, error) {
	if err := l.check(); err != nil {
		return b, err
	}
	return l.append(b), nil
}

func (l *Leaf) append(b []byte) []byte {
	be := binary.BigEndian
	b = append(b, leafTag...)
	b = append(b, l.Site[:]...)
	b = append(b, l.Miner[:]...)
	b = be.AppendUint32(b, l.Hour)
	b = append(b, l.Spool[:]...)
	for i := range l.Slots {
		s := &l.Slots[i]
		b = be.AppendUint16(b, s.Polls)
		b = be.AppendUint16(b, s.Answered)
		b = append(b, byte(s.Source), 0)
		b = be.AppendUint16(b, uint16(s.Flags))
		b = be.AppendUint64(b, s.Hashes)
		b = be.AppendUint64(b, s.ShareDiff)
		b = be.AppendUint64(b, s.Energy)
	}
	b = be.AppendUint64(b, l.FirstSeq)
	b = be.AppendUint64(b, l.LastSeq)
	return append(b, l.Salt[:]...)
}

// check refuses what no Facts makes.
func (l *Leaf) check() error {
	if l.FirstSeq == 0 || l.LastSeq < l.FirstSeq {
		return fmt.Errorf("leaf of miner %s: batches %d to %d are no range", l.Miner, l.FirstSeq, l.LastSeq)
	}
	for i := range l.Slots {
		if err := l.Slots[i].check(); err != nil {
			return fmt.Errorf("leaf of miner %s, slot %d: %w", l.Miner, i, err)
		}
	}
	return nil
}

func (s *Slot) check() error {
	switch {
	case s.Answered > s.Polls:
		return fmt.Errorf("%d polls answered of %d made", s.Answered, s.Polls)
	case s.Source > SourceRate:
		return fmt.Errorf("source %d is not known: is its maker newer than this program?", s.Source)
	case s.Flags&^knownSlotFlags != 0:
		return fmt.Errorf("flags %#x are not known: is its maker newer than this program?", uint16(s.Flags&^knownSlotFlags))
	case s.Source == SourceNone && s.Hashes != 0:
		return fmt.Errorf("%d MH without a source", s.Hashes)
	case s.Hashes > MaxAmount || s.ShareDiff > MaxAmount || s.Energy > MaxAmount:
		return errors.New("a sum is beyond 2^63 - 1")
	}
	return nil
}

// ParseLeaf reads the fixed form and accepts nothing else.
func ParseLeaf(b []byte) (Leaf, error) {
	if len(b) != LeafSize || string(b[:len(leafTag)]) != leafTag {
		return Leaf{}, fmt.Errorf("leaf: %d bytes without the tag %q, want %d bytes", len(b), leafTag, LeafSize)
	}
	be := binary.BigEndian
	l := Leaf{
		Site: ident.SiteID(b[12:28]), Miner: ident.MinerID(b[28:44]), Hour: be.Uint32(b[44:]), Spool: ident.SpoolID(b[48:64]),
		FirstSeq: be.Uint64(b[448:]), LastSeq: be.Uint64(b[456:]), Salt: [16]byte(b[464:480]),
	}
	for i := range l.Slots {
		s := b[64+i*slotSize:]
		if s[5] != 0 {
			return Leaf{}, fmt.Errorf("leaf of miner %s, slot %d: a reserved byte is not zero: is its maker newer than this program?", l.Miner, i)
		}
		l.Slots[i] = Slot{
			Polls: be.Uint16(s), Answered: be.Uint16(s[2:]), Source: Source(s[4]), Flags: SlotFlags(be.Uint16(s[6:])),
			Hashes: be.Uint64(s[8:]), ShareDiff: be.Uint64(s[16:]), Energy: be.Uint64(s[24:]),
		}
	}
	if err := l.check(); err != nil {
		return Leaf{}, err
	}
	return l, nil
}

// Hash returns SHA-256 of the leaf's fixed form.
func (l *Leaf) Hash() Hash {
	var b [LeafSize]byte
	return sha256.Sum256(l.append(b[:0]))
}

const saltTag = "hsi/salt/v1\x00"

// SaltOf returns a leaf's salt: the first 16 bytes of HMAC-SHA256(key, "hsi/salt/v1\0" ‖ hour (4)). Log and chain hold only salted hashes;
// who deletes the miner's key makes its leaves unfindable.
func SaltOf(key [32]byte, hour uint32) [16]byte {
	h := hmac.New(sha256.New, key[:])
	h.Write(binary.BigEndian.AppendUint32([]byte(saltTag), hour)) // a hash never fails to take bytes
	return [16]byte(h.Sum(nil))
}
