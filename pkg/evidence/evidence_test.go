package evidence

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hashinsight/hashinsight/pkg/ident"
)

// testKey is made from a fixed seed so that the vectors below can be recomputed by anyone.
func testKey(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func testHeader() Header {
	return Header{
		Kind: KindSamples, Schema: 1, Codec: CodecZstd,
		Site: ident.SiteID{0x11}, Key: ident.KeyID{0x22}, Spool: ident.SpoolID{0x33}, Seq: 2,
		Prev: Hash{0x44}, Payload: sha256.Sum256([]byte("payload")), PayloadLen: 7, Miners: 3, Samples: 5,
		FirstMS: 1767225600000, LastMS: 1767225601000, Beacon: Beacon{ChainID: 8453, BlockNumber: 10, BlockHash: Hash{0x55}},
	}
}

// The header's bytes, written by hand from the table in its comment.
const headerVector = "6873692f62617463682f763100" + "01" + "01" + "01" +
	"11000000000000000000000000000000" + "2200000000000000" + "33000000000000000000000000000000" + "0000000000000002" +
	"4400000000000000000000000000000000000000000000000000000000000000" +
	"239f59ed55e737c77147cf55ad0c1b030b6d7ee748a7426952f9b852d5a935e5" +
	"00000007" + "00000003" + "00000005" + "0000019b76da" + "a800" + "0000019b76daabe8" +
	"0000000000002105" + "000000000000000a" + "5500000000000000000000000000000000000000000000000000000000000000"

func TestHeaderBytesAreTheDocumentedOnes(t *testing.T) {
	h := testHeader()
	if got := hex.EncodeToString(h.Bytes()); got != headerVector {
		t.Fatalf("got  %s\nwant %s", got, headerVector)
	}
	raw, err := hex.DecodeString(headerVector)
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseHeader(raw)
	if err != nil || back != h {
		t.Fatalf("parsed %+v, %v", back, err)
	}
	if len(raw) != HeaderSize {
		t.Fatalf("HeaderSize is %d, the vector has %d bytes", HeaderSize, len(raw))
	}
}

func TestAcceptedHeadersHaveOneEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := testHeader()
		raw := h.Bytes()
		for range rapid.IntRange(0, 3).Draw(t, "changes") {
			raw[rapid.IntRange(0, HeaderSize-1).Draw(t, "offset")] = rapid.Byte().Draw(t, "byte")
		}
		back, err := ParseHeader(raw)
		if err == nil && !bytes.Equal(back.Bytes(), raw) {
			t.Fatalf("accepted % x, which encodes as % x", raw, back.Bytes())
		}
	})
}

func TestBadHeadersAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Header)
		want   string
	}{
		"unknown kind":                 {func(h *Header) { h.Kind = 9 }, "kind 9"},
		"unknown codec":                {func(h *Header) { h.Codec = 9 }, "codec 9"},
		"schema 0":                     {func(h *Header) { h.Schema = 0 }, "schema 0"},
		"sequence 0":                   {func(h *Header) { h.Seq = 0 }, "begin with 1"},
		"first with one before":        {func(h *Header) { h.Seq = 1 }, "exactly the first"},
		"later without one before":     {func(h *Header) { h.Prev = Hash{} }, "exactly the first"},
		"last sample before the first": {func(h *Header) { h.LastMS = h.FirstMS - 1 }, "before the first"},
	} {
		t.Run(name, func(t *testing.T) {
			h := testHeader()
			c.change(&h)
			if _, err := ParseHeader(h.Bytes()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
	h := testHeader()
	if _, err := ParseHeader(append(h.Bytes(), 0)); err == nil {
		t.Error("a header with a byte too many was accepted")
	}
}

func TestEverySingleBitOfASignedHeaderCounts(t *testing.T) {
	key := testKey(1)
	h := testHeader()
	raw := h.Bytes()
	sig := SignHeader(key, raw)
	pub, _ := key.Public().(ed25519.PublicKey)
	if err := VerifyHeader(pub, raw, sig); err != nil {
		t.Fatal(err)
	}
	for bit := range 8 * (len(raw) + len(sig)) {
		r, s := bytes.Clone(raw), bytes.Clone(sig)
		if i := bit / 8; i < len(r) {
			r[i] ^= 1 << (bit % 8)
		} else {
			s[i-len(r)] ^= 1 << (bit % 8)
		}
		if !errors.Is(VerifyHeader(pub, r, s), ErrSignature) {
			t.Fatalf("bit %d changed and the signature still verifies", bit)
		}
	}
}

func TestSignaturesOfOneFormNeverPassForAnother(t *testing.T) {
	key := testKey(1)
	pub, _ := key.Public().(ed25519.PublicKey)
	ack := Ack{Site: ident.SiteID{1}, Spool: ident.SpoolID{2}, Seq: 3, HeaderHash: Hash{4}, HubMS: 5}
	sig := ack.Sign(key)
	if err := ack.Verify(pub, sig); err != nil {
		t.Fatal(err)
	}
	if VerifyHeader(pub, ack.Bytes(), sig) == nil {
		t.Error("an acknowledgement's signature passed for a header's")
	}
	other := ack
	other.Seq++
	if other.Verify(pub, sig) == nil {
		t.Error("an acknowledgement of batch 3 passed for one of batch 4")
	}
	const vector = "6873692f61636b2f763100" + "01000000000000000000000000000000" + "02000000000000000000000000000000" + "0000000000000003" +
		"0400000000000000000000000000000000000000000000000000000000000000" + "0000000000000005"
	if got := hex.EncodeToString(ack.Bytes()); got != vector {
		t.Errorf("acknowledgement\n got %s\nwant %s", got, vector)
	}
}

func TestPayloadMustBeTheOneInTheHeader(t *testing.T) {
	h := testHeader()
	if err := h.CheckPayload([]byte("payload")); err != nil {
		t.Error(err)
	}
	for _, wrong := range []string{"payloae", "payload ", ""} {
		if h.CheckPayload([]byte(wrong)) == nil {
			t.Errorf("payload %q passed", wrong)
		}
	}
}

func TestGapRecord(t *testing.T) {
	g := Gap{Reason: GapSizeCap, Spool: ident.SpoolID{0x33}, FirstSeq: 5, LastSeq: 9, FirstMS: 1, LastMS: 2, Miners: 3, Samples: 4, LastHash: Hash{0x66}}
	const vector = "6873692f6761702f763100" + "01" + "33000000000000000000000000000000" + "0000000000000005" + "0000000000000009" +
		"0000000000000001" + "0000000000000002" + "00000003" + "0000000000000004" +
		"6600000000000000000000000000000000000000000000000000000000000000"
	if got := hex.EncodeToString(g.Bytes()); got != vector {
		t.Fatalf("got  %s\nwant %s", got, vector)
	}
	back, err := ParseGap(g.Bytes())
	if err != nil || back != g {
		t.Fatalf("parsed %+v, %v", back, err)
	}
	for name, bad := range map[string]Gap{
		"unknown reason": {Reason: 7, FirstSeq: 1, LastSeq: 1}, "no range": {Reason: GapSizeCap, FirstSeq: 2, LastSeq: 1},
		"from 0": {Reason: GapSizeCap, LastSeq: 1}, "time backwards": {Reason: GapSizeCap, FirstSeq: 1, LastSeq: 1, FirstMS: 2, LastMS: 1},
	} {
		if _, err := ParseGap(bad.Bytes()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestForkIsProvenOnlyByTwoSignedHeaders(t *testing.T) {
	key := testKey(1)
	pub, _ := key.Public().(ed25519.PublicKey)
	a, b := testHeader(), testHeader()
	b.Payload = Hash{9}
	proof := Fork{a.Bytes(), SignHeader(key, a.Bytes()), b.Bytes(), SignHeader(key, b.Bytes())}
	if err := proof.Verify(pub); err != nil {
		t.Error(err)
	}
	same := Fork{proof.HeaderA, proof.SignatureA, proof.HeaderA, proof.SignatureA}
	if same.Verify(pub) == nil {
		t.Error("one header twice passed for a fork")
	}
	forged := proof
	forged.SignatureB = SignHeader(testKey(2), b.Bytes())
	if forged.Verify(pub) == nil {
		t.Error("a header that another key signed passed for a fork")
	}
}
