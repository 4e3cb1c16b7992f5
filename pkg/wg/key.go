package wg

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
)

// Key is a public key. It prints as `wg` prints it.
type Key [32]byte

// ParseKey reads what String wrote: base64 of 32 bytes, nothing else.
func ParseKey(s string) (Key, error) {
	b, err := parse32(s)
	if err != nil {
		return Key{}, fmt.Errorf("WireGuard public key: %w", err)
	}
	return b, nil
}

func (k Key) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// IsZero says that this is no key.
func (k Key) IsZero() bool { return k == Key{} }

// MarshalText makes a key readable in JSON and logs.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText is ParseKey.
func (k *Key) UnmarshalText(b []byte) error {
	parsed, err := ParseKey(string(b))
	if err == nil {
		*k = parsed
	}
	return err
}

// Secret is a private or preshared key. Only Reveal shows it: printed, logged or marshalled it is a placeholder. (In an
// unexported field fmt goes around that: do not print such structs.)
type Secret [32]byte

const hidden = "(secret)"

// NewPrivate makes a private key.
func NewPrivate() Secret {
	s := NewPSK()
	s[0] &= 248 // clamped as WireGuard keeps them, so that it reads back as it was written
	s[31] = s[31]&127 | 64
	return s
}

// NewPSK makes a preshared key.
func NewPSK() Secret {
	var s Secret
	_, _ = rand.Read(s[:]) // never fails: crypto/rand ends the program instead
	return s
}

// ParseSecret reads what Reveal wrote. Its errors do not repeat it.
func ParseSecret(s string) (Secret, error) {
	b, err := parse32(s)
	if err != nil {
		return Secret{}, fmt.Errorf("WireGuard secret key: %w", err)
	}
	return b, nil
}

// Reveal returns the key as `wg` writes it: for the file or the sealed row it is kept in.
func (s Secret) Reveal() string { return base64.StdEncoding.EncodeToString(s[:]) }

// IsZero says that there is no key.
func (s Secret) IsZero() bool { return s == Secret{} }

// Public returns the public key of a private one.
func (s Secret) Public() Key {
	private, err := ecdh.X25519().NewPrivateKey(s[:])
	if err != nil {
		panic(fmt.Sprintf("wg: X25519 refuses 32 bytes: %v", err)) // it refuses other lengths only
	}
	return Key(private.PublicKey().Bytes())
}

func (s Secret) String() string { return hidden }

// Format covers every verb: %x would otherwise print the bytes.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(hidden)) }

// LogValue hides the key from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText hides the key from JSON.
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

func parse32(s string) (out [32]byte, err error) {
	const length = 44 // base64 of 32 bytes
	if len(s) != length {
		return out, fmt.Errorf("%d characters, not %d", len(s), length)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != len(out) {
		return out, errors.New("not base64 of 32 bytes")
	}
	return [32]byte(b), nil
}
