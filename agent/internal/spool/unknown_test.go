package spool

import (
	"context"
	"testing"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// An error of a commit means unknown, not absent. Here the file is lost under the writer, so that the commit fails and the
// batch is absent.
func TestFailedCommitIsTriedAgain(t *testing.T) {
	s := newSite(t)
	s.append(1, 5000)
	if err := s.segs[0].db.Close(); err != nil {
		t.Fatal(err)
	}
	payload := payloadOf(2, 5000)
	if _, err := s.Append(context.Background(), evidence.KindSamples, payload, wire.Meta{}); err == nil {
		t.Fatal("an append to a closed file succeeded")
	}
	if s.Stats().LastError == nil {
		t.Error("the error is not in the stats")
	}
	h, err := s.Append(context.Background(), evidence.KindSamples, payload, wire.Meta{})
	if err != nil || h.Seq != 2 {
		t.Fatalf("second attempt: batch %d, %v; want 2", h.Seq, err)
	}
	got := s.pending()
	wantChain(t, got)
	if len(got) != 2 {
		t.Errorf("%d batches, want 2", len(got))
	}
}

// A commit that reports an error may have reached the disk all the same (measured: one that returned EIO had). Then the
// caller's second attempt finds it, other data gets the number after it, and nothing is stored twice.
func TestCommitThatFailedAndIsThereAllTheSame(t *testing.T) {
	for _, same := range []bool{true, false} {
		s := newSite(t)
		s.append(1, 5000)
		before := s.lastHash
		payload := payloadOf(2, 5000)
		stored, err := s.Append(context.Background(), evidence.KindSamples, payload, wire.Meta{})
		if err != nil {
			t.Fatal(err)
		}
		// What the writer knows after an error: the state before, and a batch in doubt.
		s.segs[0].last, s.lastHash, s.suspect, s.doubt = 1, before, true, stored.Bytes()

		next := payload
		if !same {
			next = payloadOf(3, 5000)
		}
		h, err := s.Append(context.Background(), evidence.KindSamples, next, wire.Meta{})
		if err != nil {
			t.Fatal(err)
		}
		want := 2
		if !same {
			want = 3
		}
		got := s.pending()
		wantChain(t, got)
		if int(h.Seq) != want || len(got) != want || got[1].Header != stored {
			t.Errorf("same payload %v: batch %d and %d stored, want %d", same, h.Seq, len(got), want)
		}
	}
}
