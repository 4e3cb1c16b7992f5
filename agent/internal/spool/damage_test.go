package spool

import (
	"os"
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
