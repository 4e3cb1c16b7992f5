package spool

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hashinsight/hashinsight/agent/internal/faults"
)

// killPoints names the moments that matter by the system call before which the writer dies; nil: it kills itself.
var killPoints = map[string][]faults.Point{
	"before the pages of a batch are written":        faults.OnData,
	"pages written, before they are durable":         {{Call: unix.SYS_FDATASYNC}},
	"pages durable, before the meta page":            faults.OnMeta,
	"before a file grows":                            faults.OnGrow,
	"before a new file has its name":                 faults.OnRename,
	"new segment named, before its folder is synced": {{Call: unix.SYS_FSYNC}},
	"before a segment is deleted":                    faults.OnUnlink,
	killCommitted:                                    nil,
	killAcked:                                        nil,
}

func armToKill(where string) error {
	points, ok := killPoints[where]
	if !ok {
		return fmt.Errorf("no such point: %q", where)
	}
	if points == nil {
		return nil
	}
	return faults.Arm(faults.Kill, points...)
}

// The writer dies at each named point, several times, with and without a size cap that makes it drop data. What it had
// promised is there or named by a gap record, and no sequence number is used twice.
func TestKilledAtEveryNamedPoint(t *testing.T) {
	const seed, rounds = 20261123, 2
	r := rand.New(rand.NewPCG(seed, 3))
	hits := map[string]int{}
	for _, limit := range []int{0, 512 << 10} {
		k := newKills(t)
		for round := range rounds {
			for _, where := range slices.Sorted(maps.Keys(killPoints)) {
				env := []string{crashPointMark + "=" + where, crashAfterMark + "=" + strconv.Itoa(r.IntN(30))}
				if limit > 0 {
					env = append(env, crashCapMark+"="+strconv.Itoa(limit))
				}
				// A thousand appends are enough for any point; a writer that is still alive then has not met it.
				if !k.killOnce(1000, 0, env...) {
					t.Errorf("the point %q was not reached", where)
				}
				hits[where]++
				k.check(fmt.Sprintf("seed %d, cap %d, round %d, %s", seed, limit, round, where))
			}
		}
		if limit > 0 && len(k.gaps) == 0 {
			t.Error("nothing was dropped at the size cap")
		}
	}
	for _, where := range slices.Sorted(maps.Keys(hits)) {
		t.Logf("%3d × killed %s", hits[where], where)
	}
}
