package spool

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

func siteKey(id ident.KeyID) ed25519.PublicKey {
	if pub := testKey("site").Public().(ed25519.PublicKey); ident.KeyIDOf(pub) == id {
		return pub
	}
	return nil
}

func TestVerifyOfASoundSpool(t *testing.T) {
	s := newSite(t, func(c *Config) { c.Grace = -1 })
	for n := range uint64(60) {
		h := s.append(n, 20_000)
		if n < 15 || n > 25 && n < 45 { // deleted at the front and in the middle
			s.ack(h)
		}
	}
	s.tidy(true)
	v, err := Verify(t.Context(), s.cfg.Dir, siteKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Err(); !errors.Is(err, ErrIncomplete) || len(v.Locked) != 1 {
		t.Errorf("while an agent runs: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	key, err := Keys(s.cfg.Dir) // the spool's own word
	if err != nil {
		t.Fatal(err)
	}
	v, err = Verify(t.Context(), s.cfg.Dir, key)
	if err != nil || v.Err() != nil {
		t.Fatalf("%v, %v", err, v.Err())
	}
	var absent uint64
	for _, a := range v.Absent {
		absent += a.Last + 1 - a.First
		if a.Named {
			t.Errorf("%+v has no gap record", a)
		}
	}
	if len(v.Absent) != 2 || v.Batches+absent != 60 || v.Samples != 10*v.Batches {
		t.Errorf("%d batches, absent %+v, %d samples", v.Batches, v.Absent, v.Samples)
	}
	v, err = Verify(t.Context(), s.cfg.Dir, func(ident.KeyID) ed25519.PublicKey { return nil })
	if err != nil || v.ProblemsN != uint64(len(seqs(s.stored()))) || !strings.Contains(v.Err().Error(), "not known") {
		t.Errorf("without the key: %d problems, %v", v.ProblemsN, err)
	}
}

// stored returns every batch of a closed or open spool directory that can be read.
func (s *site) stored() (out []Batch) {
	s.t.Helper()
	_, err := Export(context.Background(), s.cfg.Dir, func(b Batch) error {
		out = append(out, b)
		return nil
	})
	if err != nil && !errors.Is(err, ErrIncomplete) {
		s.t.Fatal(err)
	}
	return out
}

func TestVerifyNamesGapsAndQuarantine(t *testing.T) {
	s := newSite(t, func(c *Config) { c.Log = slog.New(slog.DiscardHandler) })
	for n := range uint64(40) {
		s.append(n, 20_000)
	}
	middle := s.segs[1]
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(middle.path, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	v, err := Verify(t.Context(), s.cfg.Dir, siteKey)
	if err != nil || v.ProblemsN != 1 || v.Problems[0].File != filepath.Base(middle.path) {
		t.Errorf("with junk: %+v, %v", v.Problems, err)
	}
	s.reopen() // sets it aside, with a gap record
	_ = s.Close()
	v, err = Verify(t.Context(), s.cfg.Dir, siteKey)
	if err != nil || v.Err() != nil {
		t.Fatalf("%v, %v", err, v.Err())
	}
	if len(v.Quarantined) != 1 || len(v.Gaps) != 1 || len(v.Absent) != 1 || !v.Absent[0].Named || v.Absent[0].First != middle.first || v.Absent[0].Last != middle.last {
		t.Errorf("quarantined %v, gaps %+v, absent %+v", v.Quarantined, v.Gaps, v.Absent)
	}
}

// Every flipped bit, and every truncation, is either found by Verify or harmless: what is read is what was stored.
func TestEveryFlippedBitIsFoundOrHarmless(t *testing.T) {
	const seed, rounds = 20261123, 600
	r := rand.New(rand.NewPCG(seed, 5))
	s := newSite(t, func(c *Config) { c.SegmentBytes = 256 << 10 })
	for n := range uint64(40) {
		s.append(n, 3000+r.IntN(12_000))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	want := s.stored()
	segs, _, err := listSegments(s.cfg.Dir)
	if err != nil || len(segs) < 2 || len(want) != 40 {
		t.Fatalf("%d segments, %d batches, %v", len(segs), len(want), err)
	}
	raw := make([][]byte, len(segs))
	for i, g := range segs {
		if raw[i], err = os.ReadFile(g.path); err != nil {
			t.Fatal(err)
		}
	}
	found, harmless := 0, 0
	for round := range rounds {
		i := r.IntN(len(segs))
		bad := bytes.Clone(raw[i])
		at := r.IntN(len(bad))
		for page := at &^ 4095; !bytes.ContainsFunc(bad[page:page+4096], func(c rune) bool { return c != 0 }); page = at &^ 4095 {
			at = r.IntN(len(bad)) // never written: nothing to learn there
		}
		if round%10 == 0 {
			bad = bad[:at]
		} else {
			bad[at] ^= 1 << r.IntN(8)
		}
		if err := os.WriteFile(segs[i].path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := Verify(t.Context(), s.cfg.Dir, siteKey)
		if err != nil {
			t.Fatalf("seed %d, round %d: %v", seed, round, err)
		}
		if v.ProblemsN > 0 {
			found++
		} else {
			harmless++
			got := s.stored()
			if len(got) != len(want) {
				t.Fatalf("seed %d, round %d, %s at %d: nothing found, %d batches of %d", seed, round, filepath.Base(segs[i].path), at, len(got), len(want))
			}
			for k := range got {
				if !bytes.Equal(got[k].HeaderBytes, want[k].HeaderBytes) || !bytes.Equal(got[k].Signature, want[k].Signature) || !bytes.Equal(got[k].Payload, want[k].Payload) {
					t.Fatalf("seed %d, round %d, %s at %d: nothing found, batch %d differs", seed, round, filepath.Base(segs[i].path), at, got[k].Header.Seq)
				}
			}
		}
		if err := os.WriteFile(segs[i].path, raw[i], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d of %d found, %d harmless (free pages, the older meta page, the ends of pages)", found, rounds, harmless)
	if found < rounds/2 {
		t.Errorf("only %d of %d were found: most bytes of a segment are of batches", found, rounds)
	}
}

func TestVerifyFindsAChainThatDoesNotHold(t *testing.T) {
	s := newSite(t)
	for n := range uint64(5) {
		s.append(n, 100)
	}
	// Someone with the key replaces a batch by another: each is right on its own, the chain is not.
	b, err := s.Read(Ref{s.ID(), 3})
	if err != nil {
		t.Fatal(err)
	}
	h := b.Header
	h.FirstMS -= time.Hour.Milliseconds()
	value := append(append(h.Bytes(), evidence.SignHeader(s.cfg.Key, h.Bytes())...), b.Payload...)
	g := s.segs[0]
	err = g.db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketBatches).Bucket(seqKey(3)).Put(keyBatch, value)
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	v, err := Verify(t.Context(), s.cfg.Dir, siteKey)
	if err != nil || v.ProblemsN != 1 || v.Problems[0].Seq != 4 {
		t.Errorf("problems %+v, %v; want one at batch 4", v.Problems, err)
	}
}
