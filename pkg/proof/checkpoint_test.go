package proof

import (
	"bytes"
	"crypto/ed25519"
	"strings"
	"testing"
)

func testKey(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func publicOf(key ed25519.PrivateKey) ed25519.PublicKey {
	pub, _ := key.Public().(ed25519.PublicKey)
	return pub
}

func testCheckpoint() Checkpoint {
	c := Checkpoint{Origin: OriginOf([16]byte{0xab, 15: 1}), Size: 1234}
	c.Root[0], c.Root[31] = 7, 9
	return c
}

func TestCheckpointsHaveOneText(t *testing.T) {
	key := testKey(1)
	want := testCheckpoint()
	note := want.Sign(key)
	got, err := OpenCheckpoint(note, publicOf(key))
	if err != nil || got != want {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := OpenCheckpoint(note, publicOf(testKey(2))); err == nil {
		t.Error("another key passed")
	}
	lines := strings.SplitAfter(string(note), "\n")
	for name, text := range map[string]string{
		"a size with a zero before it": strings.Replace(string(note), "\n1234\n", "\n01234\n", 1),
		"a size with a sign":           strings.Replace(string(note), "\n1234\n", "\n+1234\n", 1),
		"a line more":                  lines[0] + lines[1] + lines[2] + "extension\n" + lines[3] + lines[4],
		"two signatures":               string(note) + lines[4],
		"carriage returns":             strings.ReplaceAll(string(note), "\n", "\r\n"),
		"no end of line":               strings.TrimSuffix(string(note), "\n"),
		"another first line":           strings.ReplaceAll(string(note), "hashinsight.log/ab", "hashinsight.log/AB"),
		"a signer of another name":     strings.Replace(string(note), "— hashinsight.log/ab", "— hashinsight.log/ac", 1),
		"a hyphen for the dash":        strings.Replace(string(note), "— ", "- ", 1),
		"base64 without padding":       strings.Replace(string(note), "=\n", "\n", 1),
		"nothing":                      "",
		"too much":                     strings.Repeat("a", 600),
	} {
		if text == string(note) {
			t.Fatalf("%s: the case changes nothing", name)
		}
		if c, _, err := ParseCheckpoint([]byte(text)); err == nil {
			t.Errorf("%s: accepted as %+v", name, c)
		}
	}
}

func TestEverySingleBitOfACheckpointCounts(t *testing.T) {
	key := testKey(1)
	c := testCheckpoint()
	note := c.Sign(key)
	for bit := range 8 * len(note) {
		b := bytes.Clone(note)
		b[bit/8] ^= 1 << (bit % 8)
		if _, err := OpenCheckpoint(b, publicOf(key)); err == nil {
			t.Fatalf("bit %d changed and the checkpoint is accepted", bit)
		}
	}
}

func FuzzCheckpoint(f *testing.F) {
	c := testCheckpoint()
	f.Add(c.Sign(testKey(1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, signature, err := ParseCheckpoint(b); err == nil && !bytes.Equal(c.note(signature), b) {
			t.Errorf("accepted %q, which is written as %q", b, c.note(signature))
		}
	})
}
