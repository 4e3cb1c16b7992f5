package verify

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/hub/internal/verify/verifytest"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/proof"
	"github.com/hashinsight/hashinsight/pkg/proof/prooftest"
)

func check(t *testing.T, parts *prooftest.Parts, w *prooftest.World) proof.Report {
	t.Helper()
	file, err := parts.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return proof.Check(t.Context(), bytes.NewReader(file), proof.Trust{Contract: &w.Chain.Contract, Chain: &w.Chain}, NewSLA())
}

func stepOf(r *proof.Report, id string) proof.Step {
	i := slices.IndexFunc(r.Steps, func(s proof.Step) bool { return s.ID == id })
	if i < 0 {
		return proof.Step{}
	}
	return r.Steps[i]
}

func TestABundlesStatementIsComputedAgainToTheSameBytes(t *testing.T) {
	for _, o := range []verifytest.MonthOf{
		{Seed: 1, Miners: 3, Others: 4, Hours: 60}, {Seed: 2, Miners: 1, Hours: 1}, {Seed: 3, Miners: 2, Hours: 0}, {Seed: 4, Miners: 2, Others: 1, Hours: 720},
	} {
		parts, w := o.Parts(t)
		r := check(t, parts, w)
		if r.Verdict() != proof.Proven || stepOf(&r, proof.StepSLA).State != proof.OK {
			t.Errorf("%d miners, %d hours: %v %+v", o.Miners, o.Hours, r.Verdict(), r.Steps)
		}
	}
}

// TestAStatementThatDoesNotFollowFromItsFactsIsFalse: the hub signs it with its own keys, puts it into the log and anchors it.
func TestAStatementThatDoesNotFollowFromItsFactsIsFalse(t *testing.T) {
	for name, c := range map[string]struct {
		lie  func(*sla.Statement)
		says string
	}{
		"a slot more that was up": {func(st *sla.Statement) {
			for _, s := range []*sla.StatementTotals{&st.Totals, &st.Miners[0].StatementTotals} {
				s.Slots.Up, s.Slots.Down = s.Slots.Up+1, s.Slots.Down-1
			}
			recount(st, &st.Miners[0].StatementFraction, &st.Miners[0].StatementTotals)
			recount(st, &st.Result.StatementFraction, &st.Totals)
		}, "the month of miner"},
		"another excuse's slots": {func(st *sla.Statement) { st.Excuses[0].Counted++ }, ""},
		"a smaller credit":       {func(st *sla.Statement) { st.Credit.BP, st.Credit.Minor = 0, 0 }, "the credit is"},
		"an hour skewed":         {func(st *sla.Statement) { st.Hours[0].Skewed = 0xfff }, "the month of miner"},
		"an hour too late":       {func(st *sla.Statement) { st.Hours[0].ReceivedMS = st.IssuedMS }, "the month of miner"},
	} {
		t.Run(name, func(t *testing.T) {
			parts, w := verifytest.MonthOf{Seed: 5, Miners: 3, Others: 2, Hours: 30, Change: c.lie}.Parts(t)
			r := check(t, parts, w)
			s := stepOf(&r, proof.StepSLA)
			if r.Verdict() != proof.False || s.State != proof.Wrong || !strings.Contains(s.Text, c.says) {
				t.Errorf("%v: %+v", r.Verdict(), s)
			}
			for _, other := range r.Steps {
				if other.State == proof.Wrong && other.ID != proof.StepSLA {
					t.Errorf("and %+v", other)
				}
			}
		})
	}
}

func recount(st *sla.Statement, f *sla.StatementFraction, s *sla.StatementTotals) {
	totals := sla.Totals{Slots: s.Slots.Counts(), Hashes: s.Hashes, Needed: s.Needed}
	*f = sla.StatementFraction(totals.Availability(st.Result.Metric))
}

// TestOtherFactsGiveAnotherStatement: the bytes are of these facts and no others.
func TestOtherFactsGiveAnotherStatement(t *testing.T) {
	o := verifytest.MonthOf{Seed: 6, Miners: 2, Hours: 30}
	parts, _ := o.Parts(t)
	o.Leaves = func(hour uint32, leaves []evidence.Leaf) {
		for i := range leaves {
			leaves[i].Slots = [evidence.SlotsPerHour]evidence.Slot{}
		}
	}
	other, _ := o.Parts(t)
	s, err := proof.ParseStatement(parts.Statement.Statement)
	if err != nil {
		t.Fatal(err)
	}
	replay := NewSLA()
	if err := replay.Begin(s, parts.Statement.Statement, parts.Inputs); err != nil {
		t.Fatal(err)
	}
	for i := range s.Hours {
		h := &parts.Hours[i]
		if i == 3 {
			h = &other.Hours[i]
		}
		if err := replay.Hour(&s.Hours[i], h); err != nil {
			t.Fatal(err)
		}
	}
	if err := replay.End(); err == nil {
		t.Error("facts of another month give the same statement")
	}
}

func TestAnEngineThatIsNotKnownIsNoLie(t *testing.T) {
	parts, w := verifytest.MonthOf{Seed: 7, Miners: 1, Hours: 2, Change: func(st *sla.Statement) { st.Engine = 2 }}.Parts(t)
	r := check(t, parts, w)
	if s := stepOf(&r, proof.StepSLA); r.Verdict() != proof.Unchecked || !strings.Contains(s.Text, "upgrade") {
		t.Errorf("%v: %+v", r.Verdict(), s)
	}
	if !errors.Is(unknownEngine(sla.ErrEngine), proof.ErrUnchecked) {
		t.Error("an engine that is not known is not ErrUnchecked")
	}
}
