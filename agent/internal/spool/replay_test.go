package spool

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/pkg/ident"
)

func seqs(batches []Batch) (out []uint64) {
	for _, b := range batches {
		out = append(out, b.Header.Seq)
	}
	return out
}

func TestUnackedBatchesArePendingAgainAcrossRestarts(t *testing.T) {
	s := newSite(t, func(c *Config) { c.Grace = time.Hour })
	for n := range uint64(30) {
		s.ack(s.append(n, 20_000))
	}
	if n := len(s.pending()); n != 0 {
		t.Fatalf("%d pending", n)
	}
	u, err := s.Unack(s.ID(), 2, 14)
	if err != nil || u != (Unacked{Again: 13}) {
		t.Fatalf("%+v, %v; want 13 again", u, err)
	}
	if u, err = s.Unack(s.ID(), 10, 16); err != nil || u != (Unacked{Again: 2, Pending: 5}) {
		t.Fatalf("%+v, %v; want 2 again and 5 pending", u, err)
	}
	want := []uint64{2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	if got := seqs(s.pending()); !slices.Equal(got, want) {
		t.Fatalf("pending %v, want %v", got, want)
	}
	// A kill: what a new process knows is what the disk says now.
	known := readAcks(s.cfg.Dir)
	s.reopen()
	for _, g := range s.segs {
		fresh := &segment{path: g.path, spool: g.spool, first: g.first, last: g.last}
		known.apply(fresh)
		for seq := g.first; seq <= g.last; seq++ {
			if fresh.isAcked(seq) == slices.Contains(want, seq) {
				t.Errorf("after a kill batch %d is acknowledged: %v", seq, fresh.isAcked(seq))
			}
		}
	}
	// Their segments outlive the grace period, the others do not; and what is gone is counted.
	s.clock = s.clock.Add(2 * time.Hour)
	s.append(40, 20_000)
	if got := seqs(s.pending()); !slices.Equal(got[:len(want)], want) {
		t.Errorf("pending after the grace period %v, want %v", got, want)
	}
	for _, b := range s.pending() {
		s.ack(b.Header)
	}
	s.clock = s.clock.Add(2 * time.Hour)
	s.append(41, 20_000)
	u, err = s.Unack(s.ID(), 1, 31)
	if err != nil || u.Gone == 0 || u.Gone+u.Again+u.Pending != 31 {
		t.Errorf("%+v, %v; want most of 31 gone", u, err)
	}
}

func TestUnackOfAnImpossibleRangeChangesNothing(t *testing.T) {
	s := newSite(t)
	s.ack(s.append(1, 100))
	for _, r := range [][2]uint64{{0, 1}, {2, 1}, {1, 2}, {1, 1<<64 - 1}} {
		if _, err := s.Unack(s.ID(), r[0], r[1]); !errors.Is(err, ErrBadRange) {
			t.Errorf("range %v: %v, want ErrBadRange", r, err)
		}
	}
	if u, err := s.Unack(ident.SpoolID{5}, 1, 1<<64-1); err != nil || u != (Unacked{Gone: 1<<64 - 1}) {
		t.Errorf("a chain that is not here: %+v, %v", u, err)
	}
	if n := len(s.pending()); n != 0 {
		t.Errorf("%d pending", n)
	}
}

func TestRefusedBatchesRestForADayAcrossRestarts(t *testing.T) {
	s := newSite(t)
	for n := range uint64(6) {
		s.append(n, 100)
	}
	for _, seq := range []uint64{2, 3, 6} {
		if err := s.Refuse(Ref{s.ID(), seq}); err != nil {
			t.Fatal(err)
		}
	}
	want := func(seq ...uint64) {
		t.Helper()
		if got := seqs(s.pending()); !slices.Equal(got, seq) {
			t.Errorf("to send: %v, want %v", got, seq)
		}
	}
	want(1, 4, 5)
	s.reopen()
	want(1, 4, 5)
	if c := s.Chains()[0]; c.Pending != 6 || c.Refused != 3 || c.Oldest != 1 {
		t.Errorf("chain %+v", c)
	}
	if b, ok, err := s.Live(3, all); err != nil || !ok || b.Header.Seq != 5 {
		t.Errorf("the newest to send is %d, %v", b.Header.Seq, err)
	}
	if _, err := s.Unack(s.ID(), 3, 3); err != nil { // the hub asks for it itself
		t.Fatal(err)
	}
	want(1, 3, 4, 5)
	s.clock = s.clock.Add(25 * time.Hour)
	s.append(7, 100)
	want(1, 2, 3, 4, 5, 6, 7)
}
