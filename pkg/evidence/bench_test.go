//go:build unix

package evidence

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/pkg/bench"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// cpu returns the processor time that this process has used.
func cpu(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// fleetFacts adds polls of 10,000 miners, 60 s apart, and closes each hour a minute after its end.
type fleetFacts struct {
	f     *Facts
	miner [10_000]ident.MinerID
	o     telemetry.Observation
	n     int64
}

func newFleetFacts() *fleetFacts {
	b := &fleetFacts{f: NewFacts(ident.SiteID{1}, ident.SpoolID{2})}
	for i := range b.miner {
		sum := sha256.Sum256(binary.BigEndian.AppendUint32(nil, uint32(i)))
		b.miner[i] = ident.MinerID(sum[:16])
	}
	return b
}

func (b *fleetFacts) round() {
	b.n++
	at := testHour*HourMS + b.n*60_000
	b.o.Outcome, b.o.State, b.o.Hashrate = telemetry.OutcomeOK, telemetry.StateHashing, unit.Some(110*unit.TerahashPerSecond)
	for i := range b.miner {
		b.o.Miner, b.o.At = b.miner[i], time.UnixMilli(at+int64(i)*5)
		b.o.Hashes, b.o.Uptime = unit.Some(b.n*60*110_000_000), unit.Some(time.Duration(9000+60*b.n)*time.Second)
		b.o.DiffAccepted, b.o.Energy = unit.Some(b.n*1_500_000), unit.Some(b.n*180_000)
		b.f.Add(uint64(b.n), &b.o)
	}
	if hours := b.f.Hours(); len(hours) > 1 && b.n%60 == 1 {
		b.f.Close(hours[0], uint64(b.n))
	}
}

func BenchmarkAdd(b *testing.B) {
	fleet := newFleetFacts()
	for range 70 {
		fleet.round()
	}
	b.ReportAllocs()
	for b.Loop() {
		fleet.round()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(fleet.miner)), "ns/poll")
}

// What facts cost where polls are read: processor time for each poll, and memory for each miner; and what 1,000,000 leaves cost that are
// hashed and become a tree.
func TestBenchFacts(t *testing.T) {
	if os.Getenv(bench.FileVariable) == "" {
		t.Skipf("a benchmark: set %s to the file that shall receive the result", bench.FileVariable)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	fleet := newFleetFacts()
	for range 60 {
		fleet.round() // the last one is the first of the next hour: two hours of each miner are open
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	perMiner := float64(after.HeapAlloc-before.HeapAlloc) / float64(len(fleet.miner))
	var add []float64
	for range 5 {
		begin := cpu(t)
		for range 120 {
			fleet.round()
		}
		add = append(add, float64((cpu(t)-begin).Nanoseconds())/120/float64(len(fleet.miner)))
	}
	const leaves = 1_000_000
	all := testLeaves(leaves)
	var hashed, tree, floor []float64
	for range 3 {
		begin := cpu(t)
		for i := range all {
			h := all[i].Hash()
			all[i].Salt[0] = h[0]
		}
		hashed = append(hashed, (cpu(t) - begin).Seconds())
		begin = cpu(t)
		built, err := NewTree(all)
		if err != nil {
			t.Fatal(err)
		}
		tree = append(tree, (cpu(t) - begin).Seconds())
		if built.Len() != leaves {
			t.Fatalf("%d leaves", built.Len())
		}
		// The bytes that have to go through SHA-256, and nothing else.
		begin = cpu(t)
		var b [LeafSize]byte
		for range leaves {
			sum := sha256.Sum256(b[:])
			b[0] = sum[0]
			sum = sha256.Sum256(b[:16])
			b[1] = sum[0]
			for range 2 {
				sum = sha256.Sum256(b[:1+2*sha256.Size])
				b[2] = sum[0]
			}
		}
		floor = append(floor, (cpu(t) - begin).Seconds())
	}
	for _, r := range []bench.Result{
		{
			ID: "facts-add", Unit: "ns CPU", Value: bench.Median(add), Floor: 1000, Ratio: bench.Median(add) / 1000, Target: "< 1 µs a poll",
			What:    fmt.Sprintf("a poll added to the facts of 10,000 miners polled every 60 s, hours closed; %.0f B for each miner with two hours open", perMiner),
			Met:     bench.Median(add) < 1000,
			Samples: map[string][]float64{"ns for each poll": add, "bytes for each miner": {perMiner}},
		},
		{
			ID: "facts-tree", Unit: "CPU-s", Value: bench.Median(tree), Floor: bench.Median(floor), Ratio: bench.Median(tree) / bench.Median(floor),
			What:   "1,000,000 leaves of 480 bytes hashed and their tree built; floor: SHA-256 of the same lengths",
			Target: "reported, none", Met: true,
			Samples: map[string][]float64{"CPU-s": tree, "CPU-s of hashing the leaves alone": hashed, "CPU-s of SHA-256": floor},
		},
	} {
		t.Logf("%s: %v", r.ID, r.Samples)
		if err := bench.Record(r); err != nil {
			t.Fatal(err)
		}
	}
}
