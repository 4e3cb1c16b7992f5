package evidence

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Kind says what a batch's payload is.
type Kind uint8

// Kinds of batches. The numbers are signed: never reuse one.
const (
	KindSamples Kind = 1 // observations, packed by package wire
	KindGap     Kind = 2 // a Gap: data the site had to drop
	KindHour    Kind = 3 // signed facts of an hour
	KindKey     Kind = 4 // a change of the site's evidence key
)

// String returns the documented name.
func (k Kind) String() string {
	switch k {
	case KindSamples:
		return "samples"
	case KindGap:
		return "gap"
	case KindHour:
		return "hour"
	case KindKey:
		return "key"
	default:
		return fmt.Sprintf("kind_%d", uint8(k))
	}
}

// Codec says how a payload is compressed.
type Codec uint8

// Codecs of a payload. The numbers are signed: never reuse one.
const (
	CodecNone Codec = 0
	CodecZstd Codec = 1
)

// Schemas of a payload: 1 is the first of each kind; samples of schema 2 have their values packed (package wire). A receiver reads
// every schema up to the newest it knows and keeps a newer one aside until it is upgraded.
const (
	SchemaFirst = 1
	Schema      = 2 // the newest
)

// Hash is a SHA-256 sum.
type Hash [sha256.Size]byte

// Beacon names the latest chain block the agent has heard of when it signed: the batch was not made before it.
// The zero Beacon means that no chain is known.
type Beacon struct {
	ChainID     uint64
	BlockNumber uint64
	BlockHash   Hash
}

// Header describes one batch; its signature makes the batch evidence.
//
//	offset width field
//	     0    13 tag "hsi/batch/v1\0"
//	    13     1 kind
//	    14     1 schema
//	    15     1 codec
//	    16    16 site id
//	    32     8 key id: first bytes of SHA-256 of the public key
//	    40    16 spool id
//	    56     8 sequence number, from 1, contiguous, never reused
//	    64    32 hash of the header before, zeros for sequence 1
//	    96    32 SHA-256 of the stored payload bytes
//	   128     4 payload length in bytes
//	   132     4 miners in the payload
//	   136     4 samples in the payload
//	   140     8 time of the first sample, ms since 1970 UTC
//	   148     8 time of the last sample, ms since 1970 UTC
//	   156     8 beacon: chain id
//	   164     8 beacon: block number
//	   172    32 beacon: block hash
type Header struct {
	Kind       Kind
	Schema     uint8
	Codec      Codec
	Site       ident.SiteID
	Key        ident.KeyID
	Spool      ident.SpoolID
	Seq        uint64
	Prev       Hash
	Payload    Hash
	PayloadLen uint32
	Miners     uint32
	Samples    uint32
	FirstMS    int64
	LastMS     int64
	Beacon     Beacon
}

const headerTag = "hsi/batch/v1\x00"

// HeaderSize is the length of an encoded header in bytes.
const HeaderSize = 204

// SignatureSize is the length of every signature here in bytes (Ed25519).
const SignatureSize = ed25519.SignatureSize

const signatureTag = "hsi/sig/v1\x00"

// AppendBinary appends the fixed form. It never fails; the error satisfies encoding.BinaryAppender.
func (h *Header) AppendBinary(b []byte) ([]byte, error) {
	be := binary.BigEndian
	b = append(b, headerTag...)
	b = append(b, byte(h.Kind), h.Schema, byte(h.Codec))
	b = append(b, h.Site[:]...)
	b = append(b, h.Key[:]...)
	b = append(b, h.Spool[:]...)
	b = be.AppendUint64(b, h.Seq)
	b = append(b, h.Prev[:]...)
	b = append(b, h.Payload[:]...)
	b = be.AppendUint32(b, h.PayloadLen)
	b = be.AppendUint32(b, h.Miners)
	b = be.AppendUint32(b, h.Samples)
	b = be.AppendUint64(b, uint64(h.FirstMS))
	b = be.AppendUint64(b, uint64(h.LastMS))
	b = be.AppendUint64(b, h.Beacon.ChainID)
	b = be.AppendUint64(b, h.Beacon.BlockNumber)
	return append(b, h.Beacon.BlockHash[:]...), nil
}

// Bytes returns the fixed form.
func (h *Header) Bytes() []byte {
	b, _ := h.AppendBinary(make([]byte, 0, HeaderSize)) // AppendBinary never fails
	return b
}

// ParseHeader reads the fixed form. It checks what the bytes alone can tell (tag, length, known kind and codec, a sequence
// number, a previous hash exactly where one belongs, an ordered time span), not the signature.
func ParseHeader(b []byte) (Header, error) {
	if len(b) != HeaderSize {
		return Header{}, fmt.Errorf("batch header of %d bytes, want %d", len(b), HeaderSize)
	}
	if string(b[:len(headerTag)]) != headerTag {
		return Header{}, fmt.Errorf("batch header begins with %q, want %q: not a batch of this version", b[:len(headerTag)], headerTag)
	}
	be := binary.BigEndian
	h := Header{
		Kind: Kind(b[13]), Schema: b[14], Codec: Codec(b[15]),
		Site: ident.SiteID(b[16:32]), Key: ident.KeyID(b[32:40]), Spool: ident.SpoolID(b[40:56]),
		Seq: be.Uint64(b[56:]), Prev: Hash(b[64:96]), Payload: Hash(b[96:128]),
		PayloadLen: be.Uint32(b[128:]), Miners: be.Uint32(b[132:]), Samples: be.Uint32(b[136:]),
		FirstMS: int64(be.Uint64(b[140:])),
		LastMS:  int64(be.Uint64(b[148:])),
		Beacon:  Beacon{ChainID: be.Uint64(b[156:]), BlockNumber: be.Uint64(b[164:]), BlockHash: Hash(b[172:204])},
	}
	switch {
	case h.Kind < KindSamples || h.Kind > KindKey:
		return Header{}, fmt.Errorf("batch header: kind %d is not known: is the sender newer than this program?", b[13])
	case h.Codec > CodecZstd:
		return Header{}, fmt.Errorf("batch header: codec %d is not known: is the sender newer than this program?", b[15])
	case h.Schema == 0:
		return Header{}, errors.New("batch header: schema 0 does not exist")
	case h.Seq == 0:
		return Header{}, errors.New("batch header: sequence numbers begin with 1")
	case (h.Seq == 1) != (h.Prev == Hash{}):
		return Header{}, errors.New("batch header: exactly the first batch of a spool has no batch before it")
	case h.LastMS < h.FirstMS:
		return Header{}, fmt.Errorf("batch header: last sample (%d ms) before the first (%d ms)", h.LastMS, h.FirstMS)
	}
	return h, nil
}

// Hash returns SHA-256 of the header's fixed form: the name of the batch in acknowledgements and in the next header.
func (h *Header) Hash() Hash { return sha256.Sum256(h.Bytes()) }

// ErrSignature means that a signature does not fit its key and bytes.
var ErrSignature = errors.New("signature does not verify")

// SignHeader signs the fixed form of a header with a site's evidence key.
func SignHeader(key ed25519.PrivateKey, header []byte) []byte { return sign(key, signatureTag, header) }

// VerifyHeader checks a header's signature. The caller has found pub by the header's key id.
func VerifyHeader(pub ed25519.PublicKey, header, signature []byte) error {
	return verify(pub, signatureTag, header, signature)
}

// CheckPayload compares payload bytes with what the header promises.
func (h *Header) CheckPayload(payload []byte) error {
	if uint64(len(payload)) != uint64(h.PayloadLen) {
		return fmt.Errorf("batch %d: payload of %d bytes, the header says %d", h.Seq, len(payload), h.PayloadLen)
	}
	if sha256.Sum256(payload) != h.Payload {
		return fmt.Errorf("batch %d: payload does not have the hash in its header", h.Seq)
	}
	return nil
}

// sign separates what is signed by tag, so that a signature over one form can never pass for another.
func sign(key ed25519.PrivateKey, tag string, msg []byte) []byte {
	return ed25519.Sign(key, append([]byte(tag), msg...))
}

func verify(pub ed25519.PublicKey, tag string, msg, signature []byte) error {
	if len(pub) != ed25519.PublicKeySize || len(signature) != SignatureSize ||
		!ed25519.Verify(pub, append([]byte(tag), msg...), signature) {
		return ErrSignature
	}
	return nil
}
