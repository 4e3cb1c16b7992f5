package proof

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/hashinsight/hashinsight/pkg/evidence"
)

// Checkpoint is the head of the log: how many entries it has and the root of their tree. As a signed note (C2SP tlog-checkpoint) it is three lines, an empty
// one and one signature:
//
//	hashinsight.log/<id of the log, 32 hexadecimal digits in lower case>\n
//	<size in decimal>\n
//	<base64 of the root>\n
//	\n
//	— <the first line> <base64 of key hash (4) ‖ Ed25519 signature (64) of the first three lines>\n
//
// The key hash is the first 4 bytes of SHA-256(first line without its end ‖ "\n" ‖ 0x01 ‖ public key). Base64 is the standard one, padded. Exactly one text
// stands for one checkpoint and signature; parsing accepts nothing else.
type Checkpoint struct {
	Origin string
	Size   uint64
	Root   evidence.Hash
}

const (
	originPrefix  = "hashinsight.log/"
	maxCheckpoint = 512 // bytes
	signatureLead = "— "
)

// OriginOf returns the first line of checkpoints of a log.
func OriginOf(log [16]byte) string { return originPrefix + hex.EncodeToString(log[:]) }

// body is what is signed.
func (c *Checkpoint) body() string {
	return c.Origin + "\n" + strconv.FormatUint(c.Size, 10) + "\n" + base64.StdEncoding.EncodeToString(c.Root[:]) + "\n"
}

// note returns the signed note.
func (c *Checkpoint) note(signature []byte) []byte {
	return []byte(c.body() + "\n" + signatureLead + c.Origin + " " + base64.StdEncoding.EncodeToString(signature) + "\n")
}

func (c *Checkpoint) keyHash(pub ed25519.PublicKey) []byte {
	sum := sha256.Sum256(append([]byte(c.Origin+"\n\x01"), pub...))
	return sum[:4]
}

// Sign returns the checkpoint as a signed note.
func (c *Checkpoint) Sign(key ed25519.PrivateKey) []byte {
	pub, _ := key.Public().(ed25519.PublicKey) // ed25519 has no other
	return c.note(append(c.keyHash(pub), ed25519.Sign(key, []byte(c.body()))...))
}

// ParseCheckpoint reads a signed note and accepts nothing but its one encoding. The signature, with the key hash before it, is not checked: see Verify.
func ParseCheckpoint(note []byte) (c Checkpoint, signature []byte, err error) {
	bad := func(what string) (Checkpoint, []byte, error) {
		return Checkpoint{}, nil, fmt.Errorf("not a checkpoint of this log's form: %s", what)
	}
	if len(note) > maxCheckpoint {
		return bad(fmt.Sprintf("%d bytes, at most %d", len(note), maxCheckpoint))
	}
	lines := strings.Split(string(note), "\n")
	if len(lines) != 6 || lines[5] != "" {
		return bad("three lines, an empty one and one signature are wanted")
	}
	c.Origin = lines[0]
	id, err := hex.DecodeString(strings.TrimPrefix(c.Origin, originPrefix))
	if err != nil || len(id) != 16 {
		return bad("its first line is not " + originPrefix + " and 32 hexadecimal digits")
	}
	if c.Size, err = strconv.ParseUint(lines[1], 10, 64); err != nil {
		return bad("its second line is not a number of entries")
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || copy(c.Root[:], root) != len(c.Root) {
		return bad("its third line is not a hash")
	}
	_, sig, _ := strings.Cut(strings.TrimPrefix(lines[4], signatureLead), " ")
	if signature, err = base64.StdEncoding.DecodeString(sig); err != nil || len(signature) != 4+ed25519.SignatureSize {
		return bad("its last line is not one signature")
	}
	if OriginOf([16]byte(id)) != c.Origin || string(c.note(signature)) != string(note) {
		return bad("it is written otherwise than logs write it")
	}
	return c, signature, nil
}

// Verify checks a checkpoint's signature as ParseCheckpoint returns it.
func (c *Checkpoint) Verify(pub ed25519.PublicKey, signature []byte) error {
	if len(pub) != ed25519.PublicKeySize || len(signature) != 4+ed25519.SignatureSize {
		return evidence.ErrSignature
	}
	if want := c.keyHash(pub); string(want) != string(signature[:4]) {
		return fmt.Errorf("the checkpoint is signed with the key %08x, not with %08x: %w", binary.BigEndian.Uint32(signature), binary.BigEndian.Uint32(want), evidence.ErrSignature)
	}
	if !ed25519.Verify(pub, []byte(c.body()), signature[4:]) {
		return evidence.ErrSignature
	}
	return nil
}

// OpenCheckpoint reads a signed note and checks its signature.
func OpenCheckpoint(note []byte, pub ed25519.PublicKey) (Checkpoint, error) {
	c, signature, err := ParseCheckpoint(note)
	if err != nil {
		return c, err
	}
	if err := c.Verify(pub, signature); err != nil {
		return c, fmt.Errorf("checkpoint of %s: %w", c.Origin, err)
	}
	return c, nil
}
