package facts

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashinsight/hashinsight/agent/internal/inventory"
	"github.com/hashinsight/hashinsight/agent/internal/spool"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

func TestAnHourIsSignedAMinuteAfterItsEnd(t *testing.T) {
	s := newSite(t, 3)
	s.run(2 * time.Minute) // 10:00
	s.wantHours()
	s.run(time.Minute)
	s.wantHours(9)
	s.run(59 * time.Minute) // 11:00
	s.pass(59 * time.Second)
	s.mustStep()
	s.wantHours(9)
	s.pass(time.Second)
	s.mustStep()
	got := s.wantHours(9, 10)
	for _, m := range s.miners {
		if sum, want := got[1].hashes(m.id), uint64(m.rate)*3600; sum != want {
			t.Errorf("miner %s did %d MH, want %d", m.id, sum, want)
		}
	}
	if st := s.signer.Status(); st.Waiting != 0 || st.Last == nil || st.Last.Hour.Hour() != 10 || st.Last.Miners != 3 {
		t.Errorf("status %+v, last %+v", st, st.Last)
	}
	s.run(3 * time.Hour)
	s.wantHours(9, 10, 11, 12, 13)
}

// Leaves depend on the batches alone, not on when the program that made them was started.
func TestRestartsChangeNoLeaf(t *testing.T) {
	const seed = 20261126
	r := rand.New(rand.NewPCG(seed, 1))
	quiet, restless := newSite(t, 4), newSite(t, 4)
	id := restless.ID()
	for minute := range 200 {
		for _, s := range []*site{quiet, restless} {
			s.pass(time.Minute)
			s.miners[1].off = minute > 30 && minute < 80
			if minute == 95 {
				s.miners[2].since = s.real // its program was started again
			}
			s.poll()
			if s == restless && r.IntN(12) == 0 {
				s.restart()
			}
			s.mustStep()
		}
	}
	a, b := quiet.wantHours(9, 10, 11, 12), restless.wantHours(9, 10, 11, 12)
	if restless.ID() != id {
		t.Fatal("the spool id changed")
	}
	for i := range a {
		if a[i].FirstSeq != b[i].FirstSeq || a[i].LastSeq != b[i].LastSeq {
			t.Errorf("hour %d: batches %d to %d and %d to %d", i, a[i].FirstSeq, a[i].LastSeq, b[i].FirstSeq, b[i].LastSeq)
		}
		for j := range a[i].leaves {
			x, y := a[i].leaves[j], b[i].leaves[j]
			x.Spool, x.Salt = y.Spool, y.Salt
			if x != y {
				t.Errorf("seed %d, hour %d: leaf\n%+v without restarts,\n%+v with", seed, i, x, y)
			}
		}
	}
}

func TestAnHourThatEndedWhileTheAgentWasOff(t *testing.T) {
	s := newSite(t, 2)
	s.run(52 * time.Minute) // 10:50
	s.close()
	s.pass(100 * time.Minute) // 12:30
	s.open()
	s.mustStep() // before anything new is polled
	got := s.wantHours(9, 10)
	if want := got[1].seq - 1; got[1].LastSeq != want {
		t.Errorf("hour 10 says that the chain ended with batch %d, want %d", got[1].LastSeq, want)
	}
	s.run(35 * time.Minute)
	s.wantHours(9, 10, 12)

	s.close() // once more, and the first thing after the start is a batch
	s.pass(3 * time.Hour)
	s.open()
	s.poll()
	s.mustStep()
	s.wantHours(9, 10, 12, 13)
}

// A spool of a version that signed no hours: what is over is signed once, each hour with the batches until then.
func TestHoursOfAnOldSpoolAreSignedOnce(t *testing.T) {
	s := newSite(t, 2)
	poll := func(minutes int) {
		for range minutes {
			s.pass(time.Minute)
			s.poll()
		}
	}
	poll(4*60 + 20) // 14:18
	s.mustStep()
	got := s.wantHours(9, 10, 11, 12, 13)
	for i, h := range got[1:] {
		if h.LastSeq-h.FirstSeq > 64 {
			t.Errorf("hour %d is of batches %d to %d", i+10, h.FirstSeq, h.LastSeq)
		}
		if sum := h.hashes(s.miners[0].id); sum != uint64(s.miners[0].rate)*3600 {
			t.Errorf("hour %d: %d MH", i+10, sum)
		}
	}
	s.restart()
	s.mustStep()
	s.wantHours(9, 10, 11, 12, 13)
}

// Hours whose beginning was deleted by a version that did not keep it, or the hour before of which is needed, are not signed.
func TestHoursThatArePartlyGoneAreNotSigned(t *testing.T) {
	s := newSite(t, 2, func(s *site) { s.spools.Hold, s.spools.Grace, s.spools.SegmentBytes = false, -1, 128<<10 })
	for range 140 { // until 12:18
		s.pass(time.Minute)
		s.poll()
		if s.clock.Hour() < 11 {
			s.ackAll()
		}
	}
	s.read[s.ID()] = s.Chains()[0].Kept - 1 // the hub looks from there on
	kept := s.Chains()[0].Kept
	if kept < 20 || kept > 135 {
		t.Fatalf("the oldest batch kept is %d: the test wants some gone and some there", kept)
	}
	s.spools.Hold = true
	s.restart()
	gone := begin.Add(time.Duration(kept-1) * time.Minute) // about when the oldest kept batch is of
	first := gone.Add(time.Hour).Hour() + 1
	s.run(4 * time.Hour) // until 16:18
	var want []int
	for h := first; h < 16; h++ {
		want = append(want, h)
	}
	s.wantHours(want...)
	if st := s.signer.Status(); st.Skipped == 0 {
		t.Error("nobody is told that hours are not signed")
	}
	s.restart()
	s.mustStep()
	s.wantHours(want...)
	if st := s.signer.Status(); st.Skipped != 0 {
		t.Errorf("%d hours are given up again after a restart", st.Skipped)
	}
}

func TestTheClockIsSet(t *testing.T) {
	for _, by := range []time.Duration{time.Hour, -time.Hour, 24 * time.Hour, -24 * time.Hour} {
		for _, again := range []bool{false, true} { // and back, after half an hour
			s := newSite(t, 2)
			s.every = 3 * time.Minute
			s.run(150 * time.Minute) // 12:28
			s.set(by)
			s.run(30 * time.Minute)
			s.restart()
			s.run(5 * time.Minute)
			if again {
				s.set(-by)
			}
			s.run(5 * time.Hour)
			s.restart()
			s.run(2 * time.Hour)
			got := s.hours() // no hour twice, all as the hub computes them
			if len(got) < 7 {
				t.Errorf("clock set by %v, back %v: %d hours are signed", by, again, len(got))
			}
			now := s.clock.UnixMilli()
			for _, h := range got {
				if !again && by > 0 && endOf(h.Hour.Hour) > now {
					t.Errorf("clock set by %v: hour %s is signed before it is over", by, timeOf(h.Hour.Hour))
				}
			}
			var have []time.Time
			for _, h := range got {
				have = append(have, timeOf(h.Hour.Hour))
			}
			// The last hours, long after the clock was set, are all there.
			for back := 2 * time.Hour; back <= 4*time.Hour; back += time.Hour {
				if want := s.clock.Truncate(time.Hour).Add(-back); !slices.Contains(have, want) {
					t.Errorf("clock set by %v, back %v: hour %v is not signed: %v", by, again, want, have)
				}
			}
		}
	}
}

func TestLateReadingsCountInNoHour(t *testing.T) {
	s := newSite(t, 2)
	s.run(64 * time.Minute) // 11:02
	before := s.wantHours(9, 10)
	s.set(-10 * time.Minute) // 10:52 again
	s.run(6 * time.Minute)
	s.set(10 * time.Minute)
	s.run(time.Hour)
	after := s.wantHours(9, 10, 11)
	if before[1].Root != after[1].Root {
		t.Error("the hour's root has changed")
	}
}

// A reading that waits to be stored when its hour ends keeps the hour open.
func TestAnHourWaitsForReadingsThatAreNotStored(t *testing.T) {
	var unstored time.Time
	s := newSite(t, 2, func(s *site) { s.facts.Unstored = func() time.Time { return unstored } })
	s.run(57 * time.Minute) // 10:55
	s.pass(time.Minute)
	payload, meta := s.payload()
	unstored = s.clock
	s.pass(9 * time.Minute) // 11:05
	s.mustStep()
	s.wantHours(9)
	if st := s.signer.Status(); st.Waiting != 1 {
		t.Errorf("%d hours wait", st.Waiting)
	}
	if _, err := s.Append(t.Context(), evidence.KindSamples, payload, meta); err != nil {
		t.Fatal(err)
	}
	unstored = time.Time{}
	s.mustStep()
	got := s.wantHours(9, 10)
	if p := got[1].leaves[0].Slots[11].Polls; p != 2 { // 10:55 and 10:56
		t.Errorf("%d polls in the last slot, want 2", p)
	}
}

// Segments stay until nothing is to be computed from them; then they go as before.
func TestSegmentsStayUntilTheirHoursAreSigned(t *testing.T) {
	s := newSite(t, 40, func(s *site) { s.spools.Grace, s.spools.SegmentBytes = -1, 96<<10 })
	for range 4 * 30 {
		s.pass(2 * time.Minute)
		s.poll()
		s.mustStep()
		s.ackAll()
		kept, err := s.Stored(s.ID(), 1, 1<<16, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(kept, func(b spool.Batch) bool { return b.Header.Kind == evidence.KindSamples })
		// What an hour that is not signed needs: its own readings, and those of the hour before.
		open := s.clock.Add(-settleAfter - time.Second).Truncate(time.Hour)
		need := max(open.Add(-time.Hour).UnixMilli(), begin.Add(2*time.Minute).UnixMilli())
		if first := kept[i].Header.FirstMS; first > need {
			t.Fatalf("at %v the oldest reading is of %v", s.clock, time.UnixMilli(first).UTC())
		}
		if s.clock.Minute()%20 == 0 {
			s.restart()
		}
	}
	s.wantHours(10, 11, 12)
	if n := s.Chains()[0].Kept; n < 15 {
		t.Errorf("nothing is ever deleted: the oldest batch is %d", n)
	}
}

// At the size cap the oldest data goes all the same. Hours that were counted are signed; what a restart finds gone is not.
func TestAtTheSizeCapHoursOfWhatWasCountedAreSigned(t *testing.T) {
	for _, restart := range []bool{false, true} {
		s := newSite(t, 60, func(s *site) { s.spools.SegmentBytes, s.spools.MaxBytes = 128<<10, 256<<10 })
		s.run(130 * time.Minute) // 12:08: nothing is acknowledged
		if n := s.Chains()[0].Kept; n < 2 {
			t.Fatalf("nothing was dropped: the oldest batch is %d", n)
		}
		if restart {
			s.restart()
		}
		s.run(55 * time.Minute) // 13:03
		want := []int{9, 10, 11, 12}
		if restart { // what it needs of hour 12, and of the hour before, is gone
			want = want[:3]
		}
		s.wantHours(want...)
	}
}

// The end of the chain cannot be read: a new one begins. Both sign their part of the hour, the old one's in the new chain.
func TestEachChainSignsItsPartOfAnHour(t *testing.T) {
	s := newSite(t, 2)
	s.run(32 * time.Minute) // 10:30
	old := s.ID()
	s.breakNewest()
	s.pass(time.Minute)
	p, m := s.payload()
	if _, err := s.Append(t.Context(), evidence.KindSamples, p, m); err != nil {
		if _, err := s.Append(t.Context(), evidence.KindSamples, p, m); err != nil {
			t.Fatal(err)
		}
	}
	if s.ID() == old {
		t.Fatal("the chain goes on although its end cannot be read")
	}
	s.run(31 * time.Minute) // 11:02
	got := s.wantHours(9, 10, 10)
	for _, h := range got {
		if in := s.hub[spool.Ref{Spool: s.ID(), Seq: h.seq}]; h.Spool == old && h.Hour.Hour == got[1].Hour.Hour && in.Header.Kind != evidence.KindHour {
			t.Errorf("the old chain's hour is not in the new one")
		}
	}
	s.restart()
	s.run(70 * time.Minute)
	s.wantHours(9, 10, 10, 11)
}

// breakNewest makes the segment that is being written unreadable, but for its first two pages.
func (s *site) breakNewest() {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(s.Dir(), "*.seg"))
	if err != nil || len(files) == 0 {
		s.t.Fatal(files, err)
	}
	slices.Sort(files)
	f, err := os.OpenFile(files[len(files)-1], os.O_RDWR, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		s.t.Fatal(err)
	}
	junk := make([]byte, info.Size()-8192)
	for i := range junk {
		junk[i] = byte(i*7 + 3)
	}
	if _, err := f.WriteAt(junk, 8192); err != nil {
		s.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		s.t.Fatal(err)
	}
}

// The check of what is stored finds what was signed, as far as the batches are here, and a leaf that says something else.
func TestStoredHoursAreComputedAgain(t *testing.T) {
	s := newSite(t, 30, func(s *site) { s.spools.Grace, s.spools.SegmentBytes = 210*time.Minute, 96<<10 })
	s.every = 3 * time.Minute
	verify := func() (got []string) {
		t.Helper()
		hours, err := Verify(t.Context(), s.spools.Dir, s.spools.Dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range hours {
			got = append(got, h.Result)
			if h.Result != HourEqual {
				t.Log(h.Hour, h.Why)
			}
		}
		return got
	}
	run := func(n int) {
		for range n {
			s.run(6 * time.Minute)
			s.ackAll()
		}
	}
	run(31) // 13:04
	s.close()
	if got := verify(); !slices.Equal(got, []string{HourEqual, HourEqual, HourEqual}) {
		t.Errorf("hours are %v", got)
	}
	s.open()
	run(29) // 15:58: the first hours' batches are gone, the last hour's and those before it are here
	if n := s.Chains()[0].Kept; n < 10 {
		t.Fatalf("nothing is deleted: the oldest batch is %d", n)
	}
	c, err := NewCensus(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	s.close()
	if _, err := spool.Export(t.Context(), s.spools.Dir, func(b spool.Batch) error { c.Add(&b); return nil }); err != nil {
		t.Fatal(err)
	}
	if c.Last == nil || c.Last.Hour.Hour() != 14 || c.Waiting(s.clock) != 0 || c.Waiting(s.clock.Add(time.Hour)) != 1 {
		t.Errorf("last hour %+v, %d waiting", c.Last, c.Waiting(s.clock))
	}
	got := verify()
	if len(got) == 0 || got[len(got)-1] != HourEqual || slices.Contains(got, HourDiffers) {
		t.Errorf("hours are %v", got)
	}

	// Salt keys that are another site's: nothing that was signed is right.
	other, err := inventory.OpenSalts(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	v := &verifier{salts: other}
	leaf := evidence.Leaf{Site: s.spools.Site, Miner: s.miners[0].id, Hour: 1, FirstSeq: 1, LastSeq: 1}
	if result, why := v.compare(&CheckedHour{Miners: 1}, []evidence.Leaf{leaf}); result != HourUnchecked {
		t.Errorf("without a salt key: %s, %s", result, why)
	}
	if _, err := other.Keys([]ident.MinerID{leaf.Miner}); err != nil {
		t.Fatal(err)
	}
	if result, why := v.compare(&CheckedHour{Miners: 1, FirstSeq: 1}, []evidence.Leaf{leaf}); result != HourDiffers {
		t.Errorf("with another root: %s, %s", result, why)
	}
}

// Whatever happens to an agent, clocks set by hours and days among it: no hour is signed twice, and none otherwise than a hub computes it.
func TestWhateverHappensEveryHourIsWhatItsBatchesSay(t *testing.T) {
	const seed = 20261126
	for round := range uint64(2) {
		r := rand.New(rand.NewPCG(seed, round))
		s := newSite(t, 3, func(s *site) { s.spools.Grace, s.spools.SegmentBytes = time.Duration(r.IntN(8)-1)*time.Hour, 96<<10 })
		for range 300 {
			s.pass(time.Duration(1+r.IntN(15)) * time.Minute)
			if m := &s.miners[r.IntN(len(s.miners))]; r.IntN(10) == 0 {
				m.off, m.since = !m.off, s.real
			}
			switch r.IntN(24) {
			case 0, 1, 2:
				s.restart()
			case 3:
				s.set([]time.Duration{time.Hour, -time.Hour, 24 * time.Hour, -24 * time.Hour, 10 * time.Minute, -10 * time.Minute}[r.IntN(6)])
			case 4:
				s.pass(time.Duration(r.IntN(300)) * time.Minute)
			case 5:
				continue
			}
			s.poll()
			if r.IntN(5) > 0 {
				s.mustStep()
			}
			if r.IntN(3) == 0 {
				s.collect()
				s.ackAll()
			}
		}
		if n := len(s.hours()); n < 10 || t.Failed() { // after a clock set back by a day, with what is needed deleted, hours are not signed
			t.Errorf("seed %d, round %d: %d hours are signed", seed, round, n)
		}
	}
}

// A clock far ahead for a moment keeps the batches of that moment only until its hours are given up, or the spool would keep everything after them.
func TestAMomentFarAheadIsNotKeptForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, whole := range []bool{false, true} {
			s := newSite(t, 2, func(s *site) { s.spools.Grace, s.spools.SegmentBytes, s.every = -1, 64<<10, 6*time.Minute })
			s.run(30 * time.Minute)
			s.set(365 * 24 * time.Hour)
			if whole { // hours that are signed there
				s.run(3 * time.Hour)
			} else {
				s.run(6 * time.Minute)
			}
			s.set(-365 * 24 * time.Hour)
			for i := range 34 {
				time.Sleep(time.Hour) // maxAhead is by the computer's own clock
				s.run(time.Hour)
				s.ackAll()
				if i == 5 { // with the moment's batches as the first ones that are kept
					s.restart()
				}
			}
			floor := s.signer.floors[s.ID()]
			kept, err := s.Stored(s.ID(), floor.Seq, 1, 1<<20)
			if err != nil || len(kept) != 1 {
				t.Fatal(len(kept), err)
			}
			if age := s.clock.Sub(time.UnixMilli(kept[0].Header.LastMS)); age < 0 || age > 4*time.Hour {
				t.Errorf("whole %v: the oldest batch that is needed is of %v ago", whole, age)
			}
			s.restart()
			s.run(3 * time.Hour)
			got := s.hours()
			for back := 2 * time.Hour; back <= 35*time.Hour; back += time.Hour {
				want := s.clock.Truncate(time.Hour).Add(-back)
				if !slices.ContainsFunc(got, func(h signedHour) bool { return timeOf(h.Hour.Hour).Equal(want) }) {
					t.Errorf("whole %v: hour %v is not signed", whole, want)
				}
			}
			s.close()
		}
	})
}
