package facts

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/agent/internal/faults"
	"github.com/hashinsight/hashinsight/agent/internal/spool"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// The disk fails while an hour is signed, or while readings are stored, and the other of the two appends next: what was in doubt and is
// there is not stored again, whoever finds it.
func TestADoubtfulCommitCountsOnceWhoeverFindsIt(t *testing.T) {
	kinds := map[string]struct {
		errno  syscall.Errno
		points []faults.Point
	}{
		"EIO on sync":      {syscall.EIO, faults.OnSync},
		"EIO on meta page": {syscall.EIO, faults.OnMeta},
		"EIO on data":      {syscall.EIO, faults.OnData},
		"ENOSPC on data":   {syscall.ENOSPC, faults.OnData},
	}
	for name, k := range kinds {
		s := newSite(t, 2)
		s.every = 2 * time.Minute
		s.run(62 * time.Minute) // 11:00
		s.wantHours()
		s.pass(time.Minute)
		var err error
		faults.Failing(t, k.errno, k.points, func() { err = s.step() }) // the hour's commit
		if err == nil {
			t.Errorf("%s: an hour was signed on a disk that fails", name)
		}
		if st := s.signer.Status(); st.Err == nil || st.Waiting != 1 {
			t.Errorf("%s: status %+v", name, st)
		}
		s.pass(time.Minute)
		s.poll() // somebody else finds it, or does not
		s.mustStep()
		s.mustStep()
		s.wantHours(10)
		if st := s.signer.Status(); st.Err != nil || st.Waiting != 0 {
			t.Errorf("%s: status %+v", name, st)
		}

		s.run(58 * time.Minute)
		s.pass(2 * time.Minute) // 12:02
		payload, meta := s.payload()
		faults.Failing(t, k.errno, k.points, func() { _, err = s.Append(t.Context(), evidence.KindSamples, payload, meta) })
		if err == nil {
			t.Errorf("%s: readings were stored on a disk that fails", name)
		}
		s.mustStep() // the hour finds them
		if _, err := s.Append(t.Context(), evidence.KindSamples, payload, meta); err != nil {
			t.Fatal(err)
		}
		s.mustStep()
		s.restart()
		s.run(62 * time.Minute)
		s.wantHours(10, 11, 12)
		seen := map[evidence.Hash]bool{}
		for _, b := range s.hub {
			if seen[b.Header.Payload] {
				t.Errorf("%s: the payload of batch %d is stored twice", name, b.Header.Seq)
			}
			seen[b.Header.Payload] = true
		}
	}
}

// The disk is full when the hour ends: readings and the hour wait, and come when there is space. Salt keys and the note too.
func TestAFullDiskAtTheEndOfAnHour(t *testing.T) {
	var unstored time.Time
	s := newSite(t, 2, func(s *site) { s.facts.Unstored = func() time.Time { return unstored } })
	s.every = 2 * time.Minute
	s.run(58 * time.Minute) // 10:56
	s.pass(time.Minute)
	payload, meta := s.payload()
	s.miners = append(s.miners, miner{id: ident.MinerID{99}, rate: 1_000_000, since: s.real}) // one without a salt key
	var err error
	faults.Failing(t, syscall.ENOSPC, faults.OnData, func() { _, err = s.Append(t.Context(), evidence.KindSamples, payload, meta) })
	if !errors.Is(err, spool.ErrDiskFull) {
		t.Fatal(err)
	}
	unstored = s.clock
	s.pass(10 * time.Minute) // 11:07
	faults.Failing(t, syscall.ENOSPC, append(faults.OnData, faults.OnOpen...), func() { err = s.step() })
	if err != nil {
		t.Errorf("waiting is no error: %v", err)
	}
	s.wantHours()
	if _, err := s.Append(t.Context(), evidence.KindSamples, payload, meta); err != nil {
		t.Fatal(err)
	}
	unstored = time.Time{}
	// There is room for readings, and none for a new file.
	faults.Failing(t, syscall.ENOSPC, faults.OnOpen, func() { err = s.step() })
	if err == nil {
		t.Error("salt keys that are not on the disk were used")
	}
	s.mustStep()
	got := s.wantHours(10)
	if p := got[0].leaves[0].Slots[11].Polls; p != 2 { // 10:56 and 10:57
		t.Errorf("%d polls in the last slot, want 2", p)
	}
	s.restart()
	s.run(2 * time.Hour)
	s.wantHours(10, 11, 12)
}
