package facts

import (
	"math/rand/v2"
	"testing"

	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

func newStore(t testing.TB) *Store {
	t.Helper()
	entries, err := audit.New(audit.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Pool: pgtest.New(t), Audit: entries, Password: "a password of the tests, long enough"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSlotsThatASpanTouches(t *testing.T) {
	const hour, begin = 500_000, 500_000 * evidence.HourMS
	for _, c := range []struct {
		first, last int64
		want        uint16
	}{
		{begin, begin, 1}, {begin - 1, begin - 1, 0}, {begin - 1, begin, 1}, {begin + evidence.SlotMS - 1, begin + evidence.SlotMS, 3},
		{begin + evidence.HourMS - 1, begin + 2*evidence.HourMS, 1 << 11}, {begin + evidence.HourMS, begin + evidence.HourMS, 0}, {0, begin * 2, 1<<12 - 1},
	} {
		if got := slotsOf(hour, c.first, c.last); got != c.want {
			t.Errorf("%d to %d: %012b, want %012b", c.first-begin, c.last-begin, got, c.want)
		}
	}
}

func leavesOf(n int, hour uint32) (leaves []evidence.Leaf) {
	site, spool := ident.NewSiteID(), ident.NewSpoolID()
	for range n {
		l := evidence.Leaf{Site: site, Miner: ident.NewMinerID(), Hour: hour, Spool: spool, FirstSeq: 1, LastSeq: 400}
		for i := range l.Slots {
			l.Slots[i] = evidence.Slot{
				Polls: 5, Answered: 5, Source: evidence.SourceCounter, Flags: evidence.SlotReachable | evidence.SlotHashing, Hashes: 30_000_000_000 + rand.Uint64N(1<<28),
				ShareDiff: rand.Uint64N(1 << 22), Energy: 975_000 + rand.Uint64N(1<<12),
			}
		}
		for i := range l.Salt {
			l.Salt[i] = byte(rand.Uint32())
		}
		leaves = append(leaves, l)
	}
	return leaves
}

// A page that was damaged is found out, whatever is wrong with it, and never takes more memory than a page has.
func TestDamagedPagesAreRefused(t *testing.T) {
	s := newStore(t)
	leaves := leavesOf(pageLeaves, 500_000)
	packed, err := s.packPage(nil, leaves)
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := s.unpackPage(nil, packed, len(leaves)); err != nil || len(raw) != len(leaves)*evidence.LeafSize {
		t.Fatalf("%d bytes, %v", len(raw), err)
	}
	t.Logf("%d leaves take %d bytes", len(leaves), len(packed))
	bomb := s.pack.EncodeAll(make([]byte, 64<<20), nil)
	for name, b := range map[string][]byte{"cut": packed[:len(packed)/2], "empty": nil, "a bomb": bomb} {
		if _, err := s.unpackPage(nil, b, len(leaves)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
