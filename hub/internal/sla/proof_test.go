package sla

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/proof"
)

// TestAProofReadsWhatStatementsAre: the check of a proof file has a reader of its own for these documents. What is written here it takes, and sees the same in it.
func TestAProofReadsWhatStatementsAre(t *testing.T) {
	golden, err := os.ReadFile(filepath.Join("testdata", "statement.json"))
	require.NoError(t, err)
	same := func(b []byte) bool {
		want, err := ParseStatement(b)
		if err != nil {
			return false
		}
		got, err := proof.ParseStatement(b)
		require.NoError(t, err, "%s", b)
		require.Equal(t, [16]byte(want.Contract), got.Contract)
		require.Equal(t, int(want.Month), int(got.Month))
		require.Equal(t, evidence.Hash(want.Supersedes), got.Supersedes)
		require.Equal(t, want.Reason, got.Reason)
		require.Equal(t, want.Result.PPM, got.PPM)
		require.Equal(t, len(want.Miners), got.Miners)
		require.Equal(t, []int{len(want.Terms), len(want.Assignments), len(want.Excuses), len(want.Hours)}, []int{len(got.Terms), len(got.Assignments), len(got.Excuses), len(got.Hours)})
		for i := range want.Hours {
			w, g := &want.Hours[i], &got.Hours[i]
			state := proof.HourAgreed
			if w.State == HourDisputed {
				state = proof.HourDisputed
			}
			require.Equal(t, proof.HourRef{
				Site: w.Site, Hour: w.Hour, Spool: w.Spool, Root: evidence.Hash(w.Root), HeaderHash: evidence.Hash(w.HeaderHash), State: state, Skewed: w.Skewed, ReceivedMS: w.ReceivedMS,
			}, *g)
		}
		for i := range want.Excuses {
			require.Equal(t, proof.DocumentRef{ID: [16]byte(want.Excuses[i].ID), Hash: evidence.Hash(want.Excuses[i].Hash), Counted: want.Excuses[i].Counted}, got.Excuses[i])
		}
		return true
	}
	require.True(t, same(golden))
	changed := 0
	for i := range golden {
		for _, c := range []byte("0189af\" {") {
			if golden[i] == c {
				continue
			}
			b := []byte(string(golden))
			b[i] = c
			if same(b) {
				changed++
			}
		}
	}
	assert.Positive(t, changed, "no change of a byte gives another statement")
	assignment, err := os.ReadFile(filepath.Join("testdata", "assignment.json"))
	require.NoError(t, err)
	a, err := proof.ParseAssignment(assignment)
	require.NoError(t, err)
	want, err := ParseAssignment(assignment)
	require.NoError(t, err)
	assert.Equal(t, proof.Assignment{ID: [16]byte(want.ID), Contract: [16]byte(want.Contract), Site: want.Site, Miner: want.Miner, FromMS: want.FromMS, ToMS: want.ToMS}, a)
	// An hour has a slot of the assignment exactly if one begins in it.
	for hour := a.FromMS/evidence.HourMS - 2; hour < a.ToMS/evidence.HourMS+2; hour++ {
		some := false
		for slot := hour * evidence.SlotsPerHour; slot < (hour+1)*evidence.SlotsPerHour; slot++ {
			ms := slot * evidence.SlotMS
			some = some || a.FromMS <= ms && ms < a.ToMS
		}
		require.Equal(t, some, a.In(uint32(hour)), "hour %d", hour)
	}
}
