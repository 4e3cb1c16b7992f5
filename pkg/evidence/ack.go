package evidence

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Ack is the hub's statement that it has committed a batch. Only a valid Ack lets the agent delete.
//
//	offset width field
//	     0    11 tag "hsi/ack/v1\0"
//	    11    16 site id
//	    27    16 spool id
//	    43     8 sequence number
//	    51    32 header hash
//	    83     8 hub time, ms since 1970 UTC
type Ack struct {
	Site       ident.SiteID
	Spool      ident.SpoolID
	Seq        uint64
	HeaderHash Hash
	HubMS      int64
}

const ackTag = "hsi/ack/v1\x00"

// Bytes returns the fixed form, which is what the hub signs: its own tag keeps it apart from every other signed form.
func (a *Ack) Bytes() []byte {
	b := make([]byte, 0, 91)
	b = append(b, ackTag...)
	b = append(b, a.Site[:]...)
	b = append(b, a.Spool[:]...)
	b = binary.BigEndian.AppendUint64(b, a.Seq)
	b = append(b, a.HeaderHash[:]...)
	return binary.BigEndian.AppendUint64(b, uint64(a.HubMS))
}

// Sign signs the acknowledgement with the hub's evidence key.
func (a *Ack) Sign(key ed25519.PrivateKey) []byte { return sign(key, "", a.Bytes()) }

// Verify checks the hub's signature.
func (a *Ack) Verify(pub ed25519.PublicKey, signature []byte) error {
	return verify(pub, "", a.Bytes(), signature)
}

// GapReason says why a site had to drop data.
type GapReason uint8

// Reasons of a gap. The numbers are signed: never reuse one.
const (
	GapSizeCap GapReason = 1 // the spool reached its size cap before the hub could be reached
	GapCorrupt GapReason = 2 // stored bytes could not be read back
)

// String returns the documented name.
func (r GapReason) String() string {
	switch r {
	case GapSizeCap:
		return "size_cap"
	case GapCorrupt:
		return "corrupt"
	default:
		return fmt.Sprintf("reason_%d", uint8(r))
	}
}

// Gap is the payload of a batch of kind gap: a range of batches that the site no longer has. It lets the hub tell
// "unknown" from "down"; a hole without one is not accepted.
//
//	offset width field
//	     0    11 tag "hsi/gap/v1\0"
//	    11     1 reason
//	    12    16 spool id of the dropped batches
//	    28     8 first dropped sequence number
//	    36     8 last dropped sequence number
//	    44     8 time of the first dropped sample, ms since 1970 UTC
//	    52     8 time of the last dropped sample, ms since 1970 UTC
//	    60     4 miners in the largest dropped batch
//	    64     8 samples dropped
//	    72    32 hash of the last dropped header
type Gap struct {
	Reason   GapReason
	Spool    ident.SpoolID
	FirstSeq uint64
	LastSeq  uint64
	FirstMS  int64
	LastMS   int64
	Miners   uint32
	Samples  uint64
	LastHash Hash
}

const gapTag = "hsi/gap/v1\x00"

// GapSize is the length of an encoded gap record in bytes.
const GapSize = 104

// Bytes returns the fixed form.
func (g *Gap) Bytes() []byte {
	be := binary.BigEndian
	b := make([]byte, 0, GapSize)
	b = append(b, gapTag...)
	b = append(b, byte(g.Reason))
	b = append(b, g.Spool[:]...)
	b = be.AppendUint64(b, g.FirstSeq)
	b = be.AppendUint64(b, g.LastSeq)
	b = be.AppendUint64(b, uint64(g.FirstMS))
	b = be.AppendUint64(b, uint64(g.LastMS))
	b = be.AppendUint32(b, g.Miners)
	b = be.AppendUint64(b, g.Samples)
	return append(b, g.LastHash[:]...)
}

// ParseGap reads the fixed form.
func ParseGap(b []byte) (Gap, error) {
	if len(b) != GapSize || string(b[:len(gapTag)]) != gapTag {
		return Gap{}, fmt.Errorf("gap record: %d bytes without the tag %q, want %d bytes", len(b), gapTag, GapSize)
	}
	be := binary.BigEndian
	g := Gap{
		Reason: GapReason(b[11]), Spool: ident.SpoolID(b[12:28]), FirstSeq: be.Uint64(b[28:]), LastSeq: be.Uint64(b[36:]),
		FirstMS: int64(be.Uint64(b[44:])),
		LastMS:  int64(be.Uint64(b[52:])),
		Miners:  be.Uint32(b[60:]), Samples: be.Uint64(b[64:]), LastHash: Hash(b[72:104]),
	}
	switch {
	case g.Reason != GapSizeCap && g.Reason != GapCorrupt:
		return Gap{}, fmt.Errorf("gap record: reason %d is not known: is the sender newer than this program?", b[11])
	case g.FirstSeq == 0 || g.LastSeq < g.FirstSeq:
		return Gap{}, fmt.Errorf("gap record: batches %d to %d are no range", g.FirstSeq, g.LastSeq)
	case g.LastMS < g.FirstMS:
		return Gap{}, errors.New("gap record: its time span ends before it begins")
	}
	return g, nil
}

// Fork proves that the holder of a site's evidence key signed two different batches with the same name. Anyone with the
// public key can check it.
type Fork struct {
	HeaderA, SignatureA []byte
	HeaderB, SignatureB []byte
}

// Verify checks that the two headers differ, name the same (key, spool, sequence), and are both signed by pub.
func (f Fork) Verify(pub ed25519.PublicKey) error {
	a, err := ParseHeader(f.HeaderA)
	if err != nil {
		return fmt.Errorf("fork proof, first header: %w", err)
	}
	b, err := ParseHeader(f.HeaderB)
	if err != nil {
		return fmt.Errorf("fork proof, second header: %w", err)
	}
	if a.Key != b.Key || a.Spool != b.Spool || a.Seq != b.Seq || a == b {
		return errors.New("fork proof: not two different headers of one key, spool and sequence number")
	}
	return errors.Join(VerifyHeader(pub, f.HeaderA, f.SignatureA), VerifyHeader(pub, f.HeaderB, f.SignatureB))
}
