package verify

import (
	"bytes"
	"testing"

	"github.com/hashinsight/hashinsight/hub/internal/verify/verifytest"
	"github.com/hashinsight/hashinsight/pkg/proof"
)

// BenchmarkMonthBundle checks a month of 1,000 miners with the statement computed again: what hashinsight-verify bundle does, beside asking the chain. What it
// is to take is 2 s of CPU.
func BenchmarkMonthBundle(b *testing.B) {
	parts, w := verifytest.MonthOf{Seed: 1, Miners: 1000, Hours: 720}.Parts(b)
	file, err := parts.Bytes()
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(file)))
	for b.Loop() {
		r := proof.Check(b.Context(), bytes.NewReader(file), proof.Trust{Contract: &w.Chain.Contract, Chain: &w.Chain}, NewSLA())
		if r.Verdict() != proof.Proven {
			b.Fatalf("%v: %+v", r.Verdict(), r.Steps)
		}
	}
}
