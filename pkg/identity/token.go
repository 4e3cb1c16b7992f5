package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
)

// Token lets one site join a hub, once. Its text is hsi_{env}_join_{id}_{secret}: env is prod or dev, id names the token in
// lists, and secret is the base62 form of 32 random bytes followed by the SHA-256 of the hub's root certificate. So whoever
// holds a token knows the hub before telling it the token. A Token never shows its secret by itself: Reveal does.
type Token struct {
	Env    string
	ID     string
	Root   [sha256.Size]byte // of the hub's root certificate (DER)
	secret [32]byte
}

const (
	tokenIDDigits     = 10 // 59 random bits: it is a name, not a secret
	tokenSecretDigits = 86 // 512 bits in base62
	maxToken          = 160
)

// ErrNotToken means that a text does not have the form of a token.
var ErrNotToken = errors.New("not an enrolment token")

// NewToken makes a token for a hub with this root.
func NewToken(env string, root [sha256.Size]byte) Token {
	t := Token{Env: env, Root: root}
	_, _ = rand.Read(t.secret[:]) // never fails: it ends the program instead
	var id [8]byte
	_, _ = rand.Read(id[:])
	digits := base62(id[:], tokenIDDigits+1)
	t.ID = digits[len(digits)-tokenIDDigits:]
	return t
}

// Reveal returns the token's text.
func (t Token) Reveal() string {
	return "hsi_" + t.Env + "_join_" + t.ID + "_" + base62(append(t.secret[:], t.Root[:]...), tokenSecretDigits)
}

// String shows which token it is, not its secret.
func (t Token) String() string { return "hsi_" + t.Env + "_join_" + t.ID + "_…" }

// GoString hides the secret from %#v.
func (t Token) GoString() string { return t.String() }

// LogValue hides the secret from logs.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalText hides the secret from JSON.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// Hash is what a hub keeps of a token.
func (t Token) Hash() [sha256.Size]byte { return sha256.Sum256([]byte(t.Reveal())) }

// Fits reports whether a certificate is the root that the token names.
func (t Token) Fits(root *x509.Certificate) bool {
	sum := sha256.Sum256(root.Raw)
	return subtle.ConstantTimeCompare(sum[:], t.Root[:]) == 1
}

// ParseToken reads a token's text. Its errors never repeat the text, which is secret.
func ParseToken(text string) (Token, error) {
	text = strings.TrimSpace(text)
	if len(text) > maxToken {
		return Token{}, fmt.Errorf("%w: it has %d characters, a token has fewer than %d", ErrNotToken, len(text), maxToken)
	}
	part := strings.Split(text, "_")
	if len(part) != 5 || part[0] != "hsi" || part[2] != "join" {
		return Token{}, fmt.Errorf("%w: a token looks like hsi_prod_join_…: copy the whole line that hashinsight-hub token create printed", ErrNotToken)
	}
	t := Token{Env: part[1], ID: part[3]}
	if t.Env != "prod" && t.Env != "dev" {
		return Token{}, fmt.Errorf("%w: it is neither for prod nor for dev", ErrNotToken)
	}
	if len(t.ID) != tokenIDDigits || len(part[4]) != tokenSecretDigits || !isBase62(t.ID) || !isBase62(part[4]) {
		return Token{}, fmt.Errorf("%w: characters are missing or wrong: copy the whole line that hashinsight-hub token create printed", ErrNotToken)
	}
	n, ok := new(big.Int).SetString(part[4], 62)
	if !ok || n.BitLen() > 512 {
		return Token{}, fmt.Errorf("%w: characters are wrong: copy the whole line that hashinsight-hub token create printed", ErrNotToken)
	}
	var raw [64]byte
	n.FillBytes(raw[:])
	copy(t.secret[:], raw[:32])
	copy(t.Root[:], raw[32:])
	return t, nil
}

func base62(b []byte, digits int) string {
	text := new(big.Int).SetBytes(b).Text(62)
	return strings.Repeat("0", max(0, digits-len(text))) + text
}

func isBase62(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}
