package verify

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/proof"
)

// maxDifferences bounds how many differences are named.
const maxDifferences = 5

// SLA computes a bundle's statement again: proof.Check hands it what the bundle holds.
type SLA struct {
	statement []byte
	st        *sla.Statement
	replay    *sla.Replay
	next      int // hour
}

// NewSLA returns a computation for one call of proof.Check.
func NewSLA() *SLA { return &SLA{} }

// Begin implements proof.SLA.
func (s *SLA) Begin(_ *proof.Statement, statement []byte, in *proof.Inputs) (err error) {
	s.statement = statement
	if s.st, err = sla.ParseStatement(statement); err != nil {
		return unknownEngine(err)
	}
	terms, err := documents(in.Terms, sla.ParseTerms)
	if err != nil {
		return err
	}
	assignments, err := documents(in.Assignments, sla.ParseAssignment)
	if err != nil {
		return err
	}
	excuses, err := documents(in.Excuses, sla.ParseExcuse)
	if err != nil {
		return err
	}
	s.replay, err = sla.NewReplay(s.st, terms, assignments, excuses)
	return unknownEngine(err)
}

func documents[T any](docs []proof.Document, parse func([]byte) (T, error)) ([]T, error) {
	all := make([]T, len(docs))
	for i := range docs {
		var err error
		if all[i], err = parse(docs[i].Bytes); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// unknownEngine tells what this program is too old for from what is wrong.
func unknownEngine(err error) error {
	if errors.Is(err, sla.ErrEngine) {
		return fmt.Errorf("%w: %w", proof.ErrUnchecked, err)
	}
	return err
}

// Hour implements proof.SLA.
func (s *SLA) Hour(_ *proof.HourRef, h *proof.BundleHour) error {
	return s.hour(h.State, func(take func(ident.MinerID, *[evidence.SlotsPerHour]evidence.Slot)) {
		for i := range h.Entries {
			if t := &h.Entries[i]; !t.Bare {
				take(t.Leaf.Miner, &t.Leaf.Slots)
			}
		}
		var nothing [evidence.SlotsPerHour]evidence.Slot
		for _, m := range h.Miners {
			take(m, &nothing)
		}
	})
}

// hour goes on to the next hour; each hands over what it says of its miners.
func (s *SLA) hour(state proof.HourState, each func(take func(ident.MinerID, *[evidence.SlotsPerHour]evidence.Slot))) error {
	if s.next >= len(s.st.Hours) {
		return errors.New("more hours than the statement names")
	}
	ref := &s.st.Hours[s.next]
	s.next++
	if (ref.State == sla.HourDisputed) != (state == proof.HourDisputed) {
		return fmt.Errorf("hour %d of site %s is %s by the statement", ref.Hour, ref.Site, ref.State)
	}
	if err := s.replay.Hour(ref); err != nil {
		return err
	}
	each(s.replay.Facts)
	return nil
}

// End implements proof.SLA.
func (s *SLA) End() error {
	got, err := s.replay.Statement()
	if err != nil {
		return err
	}
	if bytes.Equal(got.Canonical(), s.statement) {
		return nil
	}
	var text bytes.Buffer
	n := 0
	sla.Differences(s.st, got, func(format string, args ...any) {
		if n++; n <= maxDifferences {
			fmt.Fprintf(&text, "; "+format, args...)
		}
	})
	if n > maxDifferences {
		fmt.Fprintf(&text, "; and %d more", n-maxDifferences)
	}
	return fmt.Errorf("the statement is not what its inputs give%s", text.String())
}
