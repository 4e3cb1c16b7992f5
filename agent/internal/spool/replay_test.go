package spool

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/pkg/evidence"
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

// With Hold, acknowledged segments stay until they are released; a full disk takes those that nobody needs first, then the held ones.
func TestHeldSegmentsStayUntilTheyAreReleased(t *testing.T) {
	s := newSite(t, func(c *Config) { c.Hold, c.Grace = true, -1 })
	var headers []evidence.Header
	for n := uint64(0); len(s.segs) < 5; n++ {
		headers = append(headers, s.append(n, 20_000))
	}
	for _, h := range headers {
		s.ack(h)
	}
	s.tidy(true)
	if len(s.segs) != 5 {
		t.Fatalf("%d segments, want 5: nothing was released", len(s.segs))
	}
	s.Release(Ref{s.ID(), s.segs[1].first + 1}) // in the middle of the second
	s.tidy(true)
	if len(s.segs) != 4 || s.segs[0].first == 1 {
		t.Fatalf("%d segments from batch %d, want 4: the first alone was released", len(s.segs), s.segs[0].first)
	}
	second := s.segs[1].first
	s.Release(Ref{s.ID(), second})
	s.Release(Ref{s.ID(), 1}) // takes nothing back
	full := fmt.Errorf("write: %w", syscall.ENOSPC)
	if !s.MakeRoom(full) || s.segs[0].first != second || len(s.segs) != 3 {
		t.Errorf("%d segments from batch %d: the one that nobody needs goes first, alone", len(s.segs), s.segs[0].first)
	}
	if !s.MakeRoom(full) || len(s.segs) != 2 {
		t.Errorf("%d segments: on a full disk a held one goes too, one at a time", len(s.segs))
	}
	s.reopen()
	s.tidy(true)
	if len(s.segs) != 2 {
		t.Errorf("%d segments after a restart, before anybody has said what is needed", len(s.segs))
	}
	if got, err := s.Stored(s.ID(), 0, 1000, 1<<30); err != nil || len(got) == 0 || got[0].Header.Seq != s.segs[0].first || got[len(got)-1].Header.Seq != headers[len(headers)-1].Seq {
		t.Errorf("%d batches are stored, %v", len(got), err)
	}
}
