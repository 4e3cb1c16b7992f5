package access

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

// minSecret is the least length of a session secret, in characters.
const minSecret = 32

// sealer turns session claims into cookie values and back. AES-256-GCM both hides and
// authenticates them. The first secret seals; all of them open, so that a rotation ends no session.
type sealer struct{ aeads []cipher.AEAD }

// claims are what a cookie says. They are believed only together with the session's row.
type claims struct {
	session [16]byte
	expires time.Time // whole seconds
}

const claimsSize = 16 + 8

// sessionContext is bound to every sealed cookie, so that nothing else sealed with the same secret passes for one.
var sessionContext = []byte("hashinsight session v1")

// newSealer reads SESSION_SECRET: one secret, or two separated by a comma while one replaces the other.
func newSealer(secret string) (*sealer, error) {
	parts := strings.Split(secret, ",")
	if len(parts) > 2 {
		return nil, fmt.Errorf("SESSION_SECRET holds %d secrets, at most 2 are allowed: the new one, a comma, the old one", len(parts))
	}
	s := &sealer{}
	for _, p := range parts {
		p = strings.TrimSpace(p)
		if len(p) < minSecret {
			return nil, fmt.Errorf("SESSION_SECRET has a secret of %d characters, %d are needed: make one with `hashinsight-hub config generate`", len(p), minSecret)
		}
		key, err := hkdf.Key(sha256.New, []byte(p), nil, string(sessionContext), 32)
		if err != nil {
			return nil, fmt.Errorf("derive the session key: %w", err)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("session cipher: %w", err)
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, fmt.Errorf("session cipher: %w", err)
		}
		s.aeads = append(s.aeads, aead)
	}
	return s, nil
}

func (s *sealer) seal(c claims) string {
	plain := make([]byte, 0, claimsSize)
	plain = append(plain, c.session[:]...)
	plain = binary.BigEndian.AppendUint64(plain, uint64(c.expires.Unix()))
	return base64.RawURLEncoding.EncodeToString(s.aeads[0].Seal(nil, nil, plain, sessionContext)) //nolint:gosec // this AEAD makes its own random nonce
}

var errBadToken = errors.New("not a session cookie of this hub")

func (s *sealer) open(token string) (claims, error) {
	var c claims
	if len(token) > 256 {
		return c, errBadToken
	}
	sealed, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return c, errBadToken
	}
	for _, aead := range s.aeads {
		plain, err := aead.Open(nil, nil, sealed, sessionContext)
		if err != nil || len(plain) != claimsSize {
			continue
		}
		copy(c.session[:], plain)
		c.expires = time.Unix(int64(binary.BigEndian.Uint64(plain[16:])), 0).UTC()
		return c, nil
	}
	return c, errBadToken
}
