package proof_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/hashinsight/hashinsight/pkg/proof"
	"github.com/hashinsight/hashinsight/pkg/proof/prooftest"
)

var kinds = []proof.Kind{proof.KindHour, proof.KindStatement, proof.KindBundle, proof.KindEntry}

func TestValidFilesAreProven(t *testing.T) {
	for _, kind := range kinds {
		for seed := range uint64(30) {
			c, parts, _ := prooftest.Valid(kind, seed)
			r := c.Check()
			if r.Verdict() != proof.Proven {
				t.Fatalf("%s %d: %s: %+v", kind, seed, r.Verdict(), r.Steps)
			}
			again, err := prooftest.Take(c.File)
			if err != nil {
				t.Fatalf("%s %d: %v", kind, seed, err)
			}
			if b, err := again.Bytes(); err != nil || !bytes.Equal(b, c.File) {
				t.Fatalf("%s %d: written again it is another file: %v", kind, seed, err)
			}
			if again.Kind() != parts.Kind() {
				t.Fatalf("%s read as %s", parts.Kind(), again.Kind())
			}
		}
	}
}

// What each mutator must come to; the others' is False, or Proven where a file has not what they change.
var verdicts = map[string]proof.Verdict{
	"event not final": proof.NotFinal, "chain down": proof.Unchecked, "no contract given": proof.Unchecked, "not anchored yet": proof.NotFinal, "never anchored": proof.NotFinal,
	"hour signed anew after a change": proof.Proven,
}

func TestEveryLieIsRefused(t *testing.T) {
	for _, kind := range kinds {
		for _, name := range prooftest.Mutators(kind) {
			want, ok := verdicts[name]
			if !ok {
				want = proof.False
			}
			came := 0
			for seed := uint64(0); seed < 40 && came < 3; seed++ {
				c := prooftest.Mutated(kind, seed, name)
				r := c.Check()
				got := r.Verdict()
				if got == want {
					came++
					continue
				}
				valid, _, _ := prooftest.Valid(kind, seed)
				if got != proof.Proven || !bytes.Equal(c.File, valid.File) || fmt.Sprint(c.Chain) != fmt.Sprint(valid.Chain) {
					t.Errorf("%s %d, %s: %s, want %s: %+v", kind, seed, name, got, want, r.Steps)
				}
			}
			if came < 3 {
				t.Errorf("%s, %s: came to %s %d times only", kind, name, want, came)
			}
		}
	}
}

func flipped(t *testing.T, c *prooftest.Case, bits []int) {
	t.Helper()
	for _, bit := range bits {
		b := bytes.Clone(c.File)
		b[bit/8] ^= 1 << (bit % 8)
		changed := prooftest.Case{File: b, Contract: c.Contract, Chain: c.Chain}
		if r := changed.Check(); r.Verdict() != proof.False {
			t.Fatalf("bit %d of byte %d: %s: %+v", bit%8, bit/8, r.Verdict(), r.Steps)
		}
	}
}

// Everything in a file is covered by a hash or a signature, or compared with something that is.
func TestEverySingleBitOfAFileCounts(t *testing.T) {
	for _, kind := range kinds {
		total := 0
		for seed := uint64(0); total < 1200; seed++ {
			c, _, w := prooftest.Valid(kind, seed)
			var bits []int
			for range 100 {
				bits = append(bits, w.IntN(8*len(c.File)))
			}
			flipped(t, &c, bits)
			total += len(bits)
		}
	}
}

func TestRandomCasesComeToAllVerdicts(t *testing.T) {
	for _, kind := range kinds {
		verdicts := map[proof.Verdict]int{}
		for seed := range uint64(200) {
			c := prooftest.Random(kind, seed)
			r := c.Check()
			if c.What == "valid" && r.Verdict() != proof.Proven {
				t.Fatalf("%s %d: %+v", kind, seed, r.Steps)
			}
			verdicts[r.Verdict()]++
		}
		if len(verdicts) != 4 {
			t.Errorf("%s: %v", kind, verdicts)
		}
		t.Logf("%s: %v", kind, verdicts)
	}
}

type brokenReader struct{ r io.Reader }

func (b brokenReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if errors.Is(err, io.EOF) {
		err = errors.New("the disk is gone")
	}
	return n, err
}

func TestAFileThatCannotBeReadIsNotFalse(t *testing.T) {
	for _, kind := range kinds {
		c, _, _ := prooftest.Valid(kind, 1)
		r := proof.Check(context.Background(), brokenReader{bytes.NewReader(c.File[:len(c.File)/2])}, proof.Trust{}, nil)
		if r.Verdict() != proof.Unchecked {
			t.Errorf("%s: %s: %+v", kind, r.Verdict(), r.Steps)
		}
	}
}

// Steps have stable ids in a stable order, and each kind has those that belong to it.
func TestStepsOfEachKind(t *testing.T) {
	for kind, want := range map[proof.Kind]string{
		proof.KindHour:      "decode leaf site-signature site-key log checkpoint anchor time",
		proof.KindEntry:     "decode log checkpoint anchor time",
		proof.KindStatement: "decode log checkpoint anchor time statement",
		proof.KindBundle:    "decode leaf site-signature site-key log checkpoint anchor time statement sla",
	} {
		c, _, _ := prooftest.Valid(kind, 3)
		var got []string
		for _, s := range c.Check().Steps {
			t.Logf("%s %s: %s", s.State, s.ID, s.Text)
			if !strings.HasPrefix(s.ID, "note-") {
				got = append(got, s.ID)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", kind, got, want)
		}
	}
}

// A hub writes the times of entries itself: one that dates its hours back must not make room for an excuse that it has thought of later.
func TestHoursDatedBackDoNotHideAnExcuseInHindsight(t *testing.T) {
	name := "an excuse logged in hindsight by a hub that dates hours back"
	came := 0
	for seed := range uint64(60) {
		c := prooftest.Mutated(proof.KindBundle, seed, name)
		valid, _, _ := prooftest.Valid(proof.KindBundle, seed)
		if bytes.Equal(c.File, valid.File) {
			continue
		}
		came++
		if r := c.Check(); r.Verdict() != proof.False {
			t.Errorf("seed %d: %s: %+v", seed, r.Verdict(), r.Steps)
		}
	}
	if came < 3 {
		t.Errorf("only %d files had an excuse that counts", came)
	}
}
