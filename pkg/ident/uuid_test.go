package ident

import (
	"strings"
	"testing"

	"github.com/google/uuid"
)

// TestUUIDsHaveOneTextForm: ids stand in documents that are hashed and signed, so that no second text may mean the same.
func TestUUIDsHaveOneTextForm(t *testing.T) {
	const text = "6f1d2c3b-4a5e-4f60-8a7b-9c0d1e2f3a4b"
	want := UUID{0x6f, 0x1d, 0x2c, 0x3b, 0x4a, 0x5e, 0x4f, 0x60, 0x8a, 0x7b, 0x9c, 0x0d, 0x1e, 0x2f, 0x3a, 0x4b}
	if u, err := ParseUUID(text); err != nil || u != want || u.String() != text {
		t.Errorf("read %s: %s, %v", text, u, err)
	}
	for name, bad := range map[string]string{
		"empty": "", "capitals": strings.ToUpper(text), "one capital": text[:35] + "B", "no hyphens": strings.ReplaceAll(text, "-", ""),
		"braces": "{" + text + "}", "a URN": "urn:uuid:" + text, "space behind": text + " ", "too short": text[:35], "too long": text + "0",
		"a hyphen moved": "6f1d2c3-b4a5e-4f60-8a7b-9c0d1e2f3a4b", "another separator": strings.ReplaceAll(text, "-", "_"), "not hex": "g" + text[1:],
		"a sign": "+" + text[1:], "not ASCII": "é" + text[2:], "a NUL": "\x00" + text[1:],
	} {
		if u, err := ParseUUID(bad); err == nil {
			t.Errorf("%s: %q is read as %s", name, bad, u)
		}
		if _, err := ParseMinerID(bad); err == nil || !strings.Contains(err.Error(), "miner id") {
			t.Errorf("%s: %v does not name what was read", name, err)
		}
	}
}

func TestUUIDsAreThoseOfTheLibrary(t *testing.T) {
	for range 1000 {
		u := NewUUID()
		theirs, err := uuid.Parse(u.String())
		if err != nil || theirs != uuid.UUID(u) || theirs.String() != u.String() || theirs.Version() != 4 || theirs.Variant() != uuid.RFC4122 {
			t.Fatalf("%s is %s of version %d to the library: %v", u, theirs, theirs.Version(), err)
		}
		var back UUID
		b, _ := u.MarshalText()
		if err := back.UnmarshalText(b); err != nil || back != u {
			t.Fatalf("%s comes back as %s: %v", u, back, err)
		}
	}
}

// FuzzUUID: what is read has exactly the text that was read, and means what the library says.
func FuzzUUID(f *testing.F) {
	f.Add("6f1d2c3b-4a5e-4f60-8a7b-9c0d1e2f3a4b")
	f.Add("6F1D2C3B-4A5E-4F60-8A7B-9C0D1E2F3A4B")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseUUID(s)
		theirs, theirErr := uuid.Parse(s)
		if ok := theirErr == nil && theirs.String() == s; ok != (err == nil) || ok && (uuid.UUID(u) != theirs || u.String() != s) {
			t.Errorf("%q: %s, %v; the library says %s, %v", s, u, err, theirs, theirErr)
		}
	})
}
