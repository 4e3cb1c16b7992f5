package sla

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Canonical JSON has exactly one encoding per value, because its bytes are hashed and signed: keys in the fixed order of the encoder, no
// white space, integers only (those beyond 2^53 as decimal strings, so that no reader rounds them), UUIDs and hashes in lower case,
// and nothing but printable ASCII. Its first key, "form", names what it is: the bytes of one form never pass for another's, and the hash of
// a document is the plain SHA-256 that any tool computes of the file.

// encoder appends canonical JSON. It is written out rather than left to encoding/json, whose escapes have changed between versions of Go.
type encoder struct{ b []byte }

// sep puts the comma before an element that is not the first.
func (e *encoder) sep() {
	if n := len(e.b); n > 0 && e.b[n-1] != '{' && e.b[n-1] != '[' && e.b[n-1] != ':' {
		e.b = append(e.b, ',')
	}
}

func (e *encoder) open(c byte)  { e.sep(); e.b = append(e.b, c) }
func (e *encoder) close(c byte) { e.b = append(e.b, c) }

func (e *encoder) key(k string) {
	e.sep()
	e.b = append(e.b, '"')
	e.b = append(e.b, k...)
	e.b = append(e.b, '"', ':')
}

func (e *encoder) int(k string, v int64) { e.key(k); e.b = strconv.AppendInt(e.b, v, 10) }

func (e *encoder) bool(k string, v bool) { e.key(k); e.b = strconv.AppendBool(e.b, v) }

func (e *encoder) text(k, v string) { e.key(k); e.string(v) }

func (e *encoder) id(k string, v [16]byte) { e.key(k); e.uuid(v) }

func (e *encoder) uuid(v [16]byte) {
	e.sep()
	e.b = append(e.b, '"')
	e.b = append(e.b, ident.UUID(v).String()...)
	e.b = append(e.b, '"')
}

func (e *encoder) hash(k string, v HexHash) {
	e.key(k)
	e.b = append(e.b, '"')
	if v != (HexHash{}) {
		e.b = hex.AppendEncode(e.b, v[:])
	}
	e.b = append(e.b, '"')
}

// string escapes everything that is not printable ASCII as \u and four lower-case digits, so that no editor or normalisation can change
// the bytes unseen. Quotation mark and backslash have their short forms.
func (e *encoder) string(s string) {
	const digits = "0123456789abcdef"
	unit := func(u rune) {
		e.b = append(e.b, '\\', 'u', digits[u>>12&15], digits[u>>8&15], digits[u>>4&15], digits[u&15])
	}
	e.sep()
	e.b = append(e.b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			e.b = append(e.b, '\\', byte(r))
		case r >= 0x20 && r < 0x7f:
			e.b = append(e.b, byte(r))
		case r < 0x10000:
			unit(r)
		default:
			unit(0xd800 + (r-0x10000)>>10)
			unit(0xdc00 + (r-0x10000)&0x3ff)
		}
	}
	e.b = append(e.b, '"')
}

// ErrNotCanonical means that bytes are JSON of the right form but not its one encoding: they were not written by this program as they are.
var ErrNotCanonical = errors.New("not the canonical encoding: white space, order of keys, duplicates or escapes differ; use the bytes as they were issued")

// parseCanonical reads strictly: unknown keys, numbers that do not fit and what follows the document are refused by the decoder, and
// duplicate keys, their order and case, white space and escapes by comparing the bytes with what the value encodes to.
func parseCanonical(b []byte, limit int, what string, v any, form *string, encode func() []byte) error {
	if len(b) > limit {
		return fmt.Errorf("%s of %d bytes: more than %d are not read", what, len(b), limit)
	}
	if !utf8.Valid(b) {
		return fmt.Errorf("%s: %w", what, ErrNotCanonical)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: something follows the document: %w", what, ErrNotCanonical)
	}
	if *form != what {
		return fmt.Errorf("a document of the form %.40q, want %q", *form, what)
	}
	if !bytes.Equal(encode(), b) {
		return fmt.Errorf("%s: %w", what, ErrNotCanonical)
	}
	return nil
}

// HexHash is a hash in documents: 64 lower-case hex digits, the zero hash an empty string.
type HexHash evidence.Hash

// String returns the text form.
func (h HexHash) String() string {
	if h == (HexHash{}) {
		return ""
	}
	return hex.EncodeToString(h[:])
}

// MarshalText implements encoding.TextMarshaler.
func (h HexHash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *HexHash) UnmarshalText(b []byte) error {
	*h = HexHash{}
	if len(b) == 0 {
		return nil
	}
	if len(b) != 2*len(h) {
		return fmt.Errorf("hash of %d digits, want %d", len(b), 2*len(h))
	}
	_, err := hex.Decode(h[:], b)
	return err
}
