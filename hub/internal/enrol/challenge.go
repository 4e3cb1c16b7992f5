package enrol

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// A challenge is a hub's X25519 key of one exchange, sealed for all hub processes: nonce (12), AES-256-GCM over version (1), end
// in Unix milliseconds (8) and the private key (32). The hub remembers none: strangers cost it no memory, and any process can
// check the proof. A challenge may be used again within its life: what it is bound to (keys, requests) then gives the same again.
const (
	challengeVersion = 1
	challengeLife    = 5 * time.Minute
	challengeInfo    = "hsi/enrol-challenge/v1\x00"
	maxChallenge     = 512
	challengePlain   = 1 + 8 + 32
)

// sealer makes and opens challenges.
type sealer struct{ aead cipher.AEAD }

// newSealer derives its key from the hub's evidence key, which all processes of a hub share.
func newSealer(evidence ed25519.PrivateKey) (*sealer, error) {
	key, err := hkdf.Key(sha256.New, evidence.Seed(), nil, challengeInfo, 32)
	if err != nil {
		return nil, fmt.Errorf("deriving the key of challenges: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("deriving the key of challenges: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("deriving the key of challenges: %w", err)
	}
	return &sealer{aead}, nil
}

// make returns a fresh challenge and the public half of its key.
func (s *sealer) make(now time.Time) (challenge, public []byte, err error) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making a challenge: %w", err)
	}
	plain := make([]byte, 0, challengePlain)
	plain = append(plain, challengeVersion)
	plain = binary.BigEndian.AppendUint64(plain, uint64(now.Add(challengeLife).UnixMilli()))
	plain = append(plain, key.Bytes()...)
	return s.aead.Seal(nil, nil, plain, []byte(challengeInfo)), key.PublicKey().Bytes(), nil //nolint:gosec // this AEAD makes its own random nonce
}

var errChallenge = errors.New("the challenge is not this hub's, or has ended")

// open returns the key of a challenge that holds now.
func (s *sealer) open(challenge []byte, now time.Time) (*ecdh.PrivateKey, error) {
	if len(challenge) > maxChallenge {
		return nil, errChallenge
	}
	plain, err := s.aead.Open(nil, nil, challenge, []byte(challengeInfo))
	if err != nil || len(plain) != challengePlain || plain[0] != challengeVersion {
		return nil, errChallenge
	}
	end := time.UnixMilli(int64(binary.BigEndian.Uint64(plain[1:9])))
	if now.After(end) || end.Sub(now) > challengeLife {
		return nil, errChallenge
	}
	key, err := ecdh.X25519().NewPrivateKey(plain[9:])
	if err != nil {
		return nil, errChallenge
	}
	return key, nil
}
