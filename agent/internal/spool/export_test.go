package spool

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestExportReadsEverythingAndSaysWhatItCannot(t *testing.T) {
	s := newSite(t)
	for n := range uint64(40) {
		h := s.append(n, 20_000)
		if n < 5 {
			s.ack(h)
		}
	}
	ctx := context.Background()
	var got []Batch
	collect := func(b Batch) error { got = append(got, b); return nil }
	rep, err := Export(ctx, s.cfg.Dir, collect)
	if !errors.Is(err, ErrIncomplete) || !strings.Contains(err.Error(), "stop the agent") || len(rep.Locked) != 1 {
		t.Errorf("export beside a running agent: %v, %+v", err, rep)
	}
	if n := s.segs[len(s.segs)-1].first - 1; rep.Batches != n {
		t.Errorf("%d batches read beside a running agent, want the %d of the older segments", rep.Batches, n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	got = nil
	rep, err = Export(ctx, s.cfg.Dir, collect)
	if err != nil || rep.Batches != 40 || len(got) != 40 {
		t.Errorf("export of a stopped agent's spool: %v, %+v", err, rep)
	}
	wantChain(t, got)
}
