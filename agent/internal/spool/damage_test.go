package spool

import (
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/hashinsight/hashinsight/pkg/evidence"
)

// Damage to the file that is being written shows in a running agent too. Whoever meets it first, reader or writer, the
// writer goes on under a new spool id, and what cannot be read is named.
func TestNewestSegmentIsDamagedWhileWriting(t *testing.T) {
	for _, readerFirst := range []bool{true, false} {
		s := newSite(t)
		for n := range uint64(20) {
			s.append(n, 20_000)
		}
		old, newest := s.ID(), s.segs[len(s.segs)-1]
		f, err := os.OpenFile(newest.path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		junk := payloadOf(99, int(newest.mustUsed(t))-8192)
		if _, err := f.WriteAt(junk, 8192); err != nil { // all but the two meta pages
			t.Fatal(err)
		}
		_ = f.Close()
		if readerFirst {
			if n := len(s.pending()); n != int(newest.first)-1 {
				t.Errorf("%d batches readable, want the %d of older segments", n, newest.first-1)
			}
		}
		h, err := s.Append(t.Context(), evidence.KindSamples, payloadOf(30, 100), metaOf(s))
		if err != nil { // the writer met it: the next attempt goes on
			h = s.append(30, 100)
		}
		if h.Spool == old {
			t.Fatalf("reader first %v: the chain goes on although its end cannot be read", readerFirst)
		}
		got := s.pending()
		wantChain(t, got)
		named := false
		for _, b := range got {
			if b.Header.Kind == evidence.KindGap {
				g, err := evidence.ParseGap(b.Payload)
				named = named || err == nil && g.Spool == old && g.FirstSeq == newest.first && g.LastSeq == newest.last
			}
		}
		if !named {
			t.Errorf("reader first %v: no gap record names batches %d to %d", readerFirst, newest.first, newest.last)
		}
	}
}

func (g *segment) mustUsed(t *testing.T) int64 {
	t.Helper()
	n, err := g.used()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Whatever happens to the files, the agent starts, goes on appending, hands out only batches that verify, and keeps what lies
// in the other segments.
func TestRandomDamageIsSurvived(t *testing.T) {
	const seed = 20261123
	r := rand.New(rand.NewPCG(seed, 71))
	for round := range 25 {
		s := newSite(t, func(c *Config) { c.SegmentBytes, c.Log = 128<<10, slog.New(slog.DiscardHandler) })
		for n := range uint64(24) {
			s.append(n, 10_000)
		}
		victim := s.segs[r.IntN(len(s.segs))]
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		how := damage(t, r, victim.path)
		s.reopen()
		for n := range uint64(3) {
			if _, err := s.Append(t.Context(), evidence.KindSamples, payloadOf(100+n, 10_000), metaOf(s)); err != nil {
				// The writer may be the one that meets the damage; its next attempt must succeed.
				s.append(100+n, 10_000)
			}
		}
		got := s.pending()
		intact := 0
		for _, b := range got {
			wantChain(t, []Batch{b})
			if b.Header.Spool == victim.spool && !victim.has(b.Header.Seq) && b.Header.Seq <= 24 {
				intact++
			}
		}
		if want := 24 - int(victim.count()); intact != want {
			t.Errorf("seed %d, round %d, %s: %d batches of other segments readable, want %d", seed, round, how, intact, want)
		}
		s.reopen()
		s.append(200, 100)
		_ = s.Close()
	}
}

// damage harms a file in one of the ways that disks and power cuts do.
func damage(t *testing.T, r *rand.Rand, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	how := ""
	switch at := r.IntN(len(raw)); r.IntN(5) {
	case 0:
		raw, how = raw[:at], "truncated"
	case 1:
		raw, how = raw[:0], "empty"
	case 2:
		how = "bits flipped"
		for range 1 + r.IntN(20) {
			raw[r.IntN(len(raw))] ^= 1 << r.IntN(8)
		}
	case 3:
		how = "a range of zeros"
		clear(raw[at:min(len(raw), at+1+r.IntN(40_000))])
	case 4:
		how = "pages exchanged"
		a, b := r.IntN(len(raw)/4096)*4096, r.IntN(len(raw)/4096)*4096
		page := slices.Clone(raw[a : a+4096])
		copy(raw[a:a+4096], raw[b:b+4096])
		copy(raw[b:b+4096], page)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return how
}
