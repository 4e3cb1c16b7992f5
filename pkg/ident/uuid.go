package ident

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
)

// UUID is 16 bytes with the one text form that ids have here. It is our own: what outsiders check proofs with has no dependency to be trusted beside the
// standard library. Ids that package ident does not name, such as a contract's, are of this type; a uuid.UUID of another library converts to it.
type UUID [16]byte

var errUUID = errors.New("not a UUID like 6f1d2c3b-4a5e-4f60-8a7b-9c0d1e2f3a4b, with lower-case digits")

// textSize is the length of the text form.
const textSize = 36

// NewUUID returns a random UUID: version 4 of RFC 9562.
func NewUUID() (u UUID) {
	_, _ = rand.Read(u[:]) // never fails: it ends the program instead
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return u
}

// ParseUUID reads the text form, in lower case, and nothing else: no braces, no URN, no capitals. Any version passes.
func ParseUUID(s string) (u UUID, err error) {
	if len(s) != textSize {
		return UUID{}, errUUID
	}
	at, n := 0, 0
	for _, digits := range [...]int{8, 4, 4, 4, 12} {
		if at > 0 {
			if s[at] != '-' {
				return UUID{}, errUUID
			}
			at++
		}
		for end := at + digits; at < end; at += 2 {
			high, low := nibble(s[at]), nibble(s[at+1])
			if high|low > 15 {
				return UUID{}, errUUID
			}
			u[n] = high<<4 | low
			n++
		}
	}
	return u, nil
}

// nibble returns the value of a lower-case hex digit, over 15 for anything else.
func nibble(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}

// String returns the text form.
func (u UUID) String() string {
	b, _ := u.MarshalText()
	return string(b)
}

// MarshalText implements encoding.TextMarshaler.
func (u UUID) MarshalText() ([]byte, error) {
	var b [textSize]byte
	hex.Encode(b[:8], u[:4])
	hex.Encode(b[9:13], u[4:6])
	hex.Encode(b[14:18], u[6:8])
	hex.Encode(b[19:23], u[8:10])
	hex.Encode(b[24:], u[10:])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return b[:], nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (u *UUID) UnmarshalText(b []byte) (err error) {
	*u, err = ParseUUID(string(b))
	return err
}
