package facts

import (
	"testing"
	"time"
)

func TestAnHourIsSignedAMinuteAfterItsEnd(t *testing.T) {
	s := newSite(t, 3)
	s.run(2 * time.Minute) // 10:00
	s.run(time.Minute)     // 10:01: hour 9 is over
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
