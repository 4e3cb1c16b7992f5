//go:build unix

package proof_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/pkg/bench"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/proof"
	"github.com/hashinsight/hashinsight/pkg/proof/prooftest"
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

// monthFile writes the bundle of a month of 31 days of n miners at one site, and returns it with what checks it.
func monthFile(t testing.TB, miners int) (file string, trust proof.Trust, leaves int) {
	t.Helper()
	w := prooftest.New(19)
	begin := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	month, first, hours := uint32(2026*12+9), uint32(begin/evidence.HourMS), uint32(31*24)
	site, spool, contract := w.Site(begin), ident.SpoolID(w.ID()), w.ID()
	ids := make([]ident.MinerID, miners)
	for i := range ids {
		ids[i] = ident.MinerID(w.ID())
	}
	all := make([]evidence.Leaf, miners)
	leavesOf := func(hour uint32) []evidence.Leaf {
		for i := range all {
			l := &all[i]
			*l = evidence.Leaf{Site: site, Miner: ids[i], Hour: hour, Spool: spool, FirstSeq: 1, LastSeq: 9}
			binary.BigEndian.PutUint32(l.Salt[:], hour)
			for j := range l.Slots {
				l.Slots[j] = evidence.Slot{Polls: 30, Answered: 30, Source: evidence.SourceCounter, Flags: evidence.SlotReachable | evidence.SlotHashing, Hashes: 33_000_000_000 + uint64(i), Energy: 1_000_000}
			}
		}
		return all
	}
	end := begin + int64(hours)*evidence.HourMS
	m := prooftest.Month{Contract: contract, Customer: w.ID(), Month: month, IssuedMS: end + 73*3_600_000}
	key := w.HubKeyEntry(begin)
	terms := fmt.Appendf(nil, `{"form":"hsi/terms/v1","contract":"%s","customer":"%s","version":1}`, ident.SiteID(contract), ident.SiteID(m.Customer))
	m.Terms = []prooftest.Doc{{Bytes: terms, Index: w.Add((&proof.TermsBody{Contract: contract, Version: 1, Hash: sha256.Sum256(terms)}).Entry(begin))}}
	for _, id := range ids {
		a := w.ID()
		m.Assignments = append(m.Assignments, prooftest.Doc{ID: a, Bytes: fmt.Appendf(nil,
			`{"form":"hsi/assignment/v1","id":"%s","contract":"%s","site":"%s","miner":"%s","from_ms":%d,"to_ms":%d,"rate_mhs":0}`, ident.SiteID(a), ident.SiteID(contract), site, id, begin, end)})
	}
	for hour := first; hour < first+hours; hour++ {
		h := w.Hour(leavesOf(hour), (int64(hour)+1)*evidence.HourMS+90_000)
		h.Leaves = nil
		m.Hours = append(m.Hours, h)
		w.Noise(40, int64(hour)*evidence.HourMS)
	}
	statement := m.Statement(w)
	at := w.Issue(statement, m.Seq(), m.IssuedMS)
	head := w.Anchor(m.IssuedMS + 60_000)
	_, siteKey := w.SiteKey(site)
	indexes := []uint64{at, key, m.Terms[0].Index, siteKey}
	for i := range m.Hours {
		indexes = append(indexes, m.Hours[i].Index)
	}
	placed := w.PlacedAll(indexes)
	in := proof.Inputs{Terms: []proof.Document{{Bytes: terms, AtMS: begin, Placed: placed[2].Placed}}, SiteKeys: placed[3:4], Hours: hours}
	for i := range m.Assignments {
		in.Assignments = append(in.Assignments, proof.Document{Bytes: m.Assignments[i].Bytes})
	}
	file = filepath.Join(t.TempDir(), "month"+proof.Extension)
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	out, err := proof.NewBundleWriter(f, &proof.StatementProof{Head: head, Statement: statement, Entry: placed[0], HubKey: placed[1]}, &in)
	if err != nil {
		t.Fatal(err)
	}
	for i := range m.Hours {
		h, err := proof.AgreedHour(placed[4+i], leavesOf(m.Hours[i].Hour.Hour), ids)
		if err == nil {
			err = out.Hour(&h)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return file, proof.Trust{Contract: &w.Chain.Contract, Chain: &w.Chain}, miners * int(hours)
}

func checkFile(t testing.TB, file string, trust proof.Trust) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // it was read
	if r := proof.Check(context.Background(), f, trust, nil); r.Verdict() != proof.Proven {
		t.Fatalf("%+v", r.Steps)
	}
}

// A bundle may be of any length: what a check keeps does not grow with its hours.
func TestABundleIsCheckedHourByHour(t *testing.T) {
	file, trust, leaves := monthFile(t, 20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	checkFile(t, file, trust)
	runtime.ReadMemStats(&after)
	if perLeaf := float64(after.TotalAlloc-before.TotalAlloc) / float64(leaves); perLeaf > 400 {
		t.Errorf("%.0f bytes were asked for with each of %d leaves: the hours are kept, or every leaf costs memory", perLeaf, leaves)
	} else {
		t.Logf("%.0f bytes with each of %d leaves", perLeaf, leaves)
	}
}

func BenchmarkBundle(b *testing.B) {
	file, trust, _ := monthFile(b, 100)
	b.ReportAllocs()
	for b.Loop() {
		checkFile(b, file, trust)
	}
}

// What a check costs: of one miner-hour, and of a month of 1,000 miners without computing its SLA again.
func TestBenchProof(t *testing.T) {
	if os.Getenv(bench.FileVariable) == "" {
		t.Skipf("a benchmark: set %s to the file that shall receive the result", bench.FileVariable)
	}
	var one []float64
	size := 0
	for seed := range uint64(9) {
		c, _, _ := prooftest.Valid(proof.KindHour, seed)
		size = max(size, len(c.File))
		begin := cpu(t)
		const n = 50
		for range n {
			if r := c.Check(); r.Verdict() != proof.Proven {
				t.Fatalf("%+v", r.Steps)
			}
		}
		one = append(one, float64((cpu(t)-begin).Microseconds())/1000/n)
	}
	file, trust, leaves := monthFile(t, 1000)
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	var whole, floor, allocated []float64
	for range 5 {
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		begin := cpu(t)
		checkFile(t, file, trust)
		whole = append(whole, (cpu(t) - begin).Seconds())
		runtime.ReadMemStats(&after)
		allocated = append(allocated, float64(after.TotalAlloc-before.TotalAlloc)/(1<<20))
		// The bytes that have to go through SHA-256, and nothing else.
		begin = cpu(t)
		var b [evidence.LeafSize]byte
		for range leaves {
			sum := sha256.Sum256(b[:])
			b[0] = sum[0]
			for range 2 {
				sum = sha256.Sum256(b[:1+2*sha256.Size])
				b[1] = sum[0]
			}
		}
		floor = append(floor, (cpu(t) - begin).Seconds())
	}
	for _, r := range []bench.Result{
		{
			ID: "proof-hour", Unit: "ms CPU", Value: bench.Median(one), Floor: 10, Ratio: bench.Median(one) / 10, Target: "≤ 10 ms",
			What: fmt.Sprintf("a miner-hour's proof of at most %d bytes checked, the chain's answer being there", size), Met: bench.Median(one) <= 10,
			Samples: map[string][]float64{"ms": one},
		},
		{
			ID: "proof-bundle", Unit: "CPU-s", Value: bench.Median(whole), Floor: bench.Median(floor), Ratio: bench.Median(whole) / bench.Median(floor), Target: "≤ 2 s",
			What:    fmt.Sprintf("the bundle of 1,000 miners and 31 days, %d leaves and %d MB, checked without computing the SLA; floor: SHA-256 of the same lengths", leaves, info.Size()>>20),
			Met:     bench.Median(whole) <= 2,
			Samples: map[string][]float64{"CPU-s": whole, "CPU-s of SHA-256": floor, "MB asked for": allocated},
		},
	} {
		t.Logf("%s: %v", r.ID, r.Samples)
		if err := bench.Record(r); err != nil {
			t.Fatal(err)
		}
	}
}
