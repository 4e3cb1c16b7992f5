//go:build unix

package facts

import (
	"crypto/sha256"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/pkg/bench"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// cpu is the time that this process has computed, s. The database is a process of its own.
func cpu(t *testing.T) float64 {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

const benchHour = 500_000

// benchChain stores two hours of polls every minute, one batch a minute, and returns the second as the site would sign it.
func benchChain(t *testing.T, s *Store, miners int) (h Hour, payloads [][]byte) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	enc, err := wire.NewEncoder()
	must(err)
	h = Hour{Key: Key{ident.NewSiteID(), benchHour, ident.NewSpoolID()}, FirstSeq: 60, LastSeq: 121}
	polls := make([]telemetry.Observation, miners)
	for i := range polls {
		polls[i] = telemetry.Observation{
			Miner: ident.NewMinerID(), Outcome: telemetry.OutcomeOK, State: telemetry.StateHashing, HashrateWindow: unit.Some(5 * time.Second), TempBoard: unit.Some(unit.Celsius(61.5)),
			Fans: []unit.Opt[unit.RPM]{unit.Some(unit.RPM(5880)), unit.Some(unit.RPM(6000))}, Power: unit.Some(unit.Watts(3250)), Accepted: unit.Some(int64(10)),
			Pools: []telemetry.Pool{{URL: "pool.example:3333", Worker: "farm.001", Active: unit.Some(true)}},
		}
		for n := range 3 {
			polls[i].Boards = append(polls[i].Boards, telemetry.Board{Index: int32(n), Chips: unit.Some(int32(110)), Temps: []unit.Celsius{61.5, 62}})
		}
	}
	for n := range 121 {
		for i := range polls {
			o := &polls[i]
			o.At = h.At().Add(time.Duration(n-60)*time.Minute + time.Duration(i%20_000)*time.Millisecond)
			o.Hashrate = unit.Some(unit.Hashrate(100+(i*7+n*13)%9) * unit.TerahashPerSecond)
			o.Hashes, o.Uptime = unit.Some(int64(n+1)*6_000_000_000+int64(i*n)), unit.Some(time.Duration(n+100)*time.Minute)
			o.Energy, o.DiffAccepted = unit.Some(int64(n)*195_000+int64(i%40)), unit.Some(int64(n)*1_000_000)
		}
		payload, meta, err := enc.Samples(polls, nil)
		must(err)
		payloads = append(payloads, payload)
		e := evidence.Header{
			Kind: evidence.KindSamples, Schema: evidence.Schema, Codec: evidence.CodecZstd, Site: h.Site, Spool: h.Spool, Seq: uint64(n + 1), PayloadLen: uint32(len(payload)),
			Payload: sha256.Sum256(payload), Miners: meta.Miners, Samples: meta.Samples, FirstMS: meta.FirstMS, LastMS: meta.LastMS,
		}
		if n > 0 {
			e.Prev = evidence.Hash{1}
		}
		hash := e.Hash()
		_, err = s.c.Pool.Exec(t.Context(), `INSERT INTO batch (site_id, spool_id, seq, kind, disposition, link_state, miners, samples, first_at, last_at, received_at, key_id,
			header_hash, header, signature, payload) VALUES ($1, $2, $3, 1, 1, 1, $4, $4, $5, $6, $6, '', $7, $8, '', $9)`,
			h.Site, h.Spool, n+1, miners, time.UnixMilli(e.FirstMS), time.UnixMilli(e.LastMS), hash[:], e.Bytes(), payload)
		must(err)
	}
	return h, payloads
}

// What the hub pays for facts: once for each hour from its batches, and again whenever verdicts are made from the kept leaves.
func TestBenchFactsHub(t *testing.T) {
	if os.Getenv(bench.FileVariable) == "" {
		t.Skip("a benchmark: make bench")
	}
	s := newStore(t)
	const miners = 5000
	h, payloads := benchChain(t, s, miners)
	decoder, err := wire.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	var rates, floors []float64
	for range 5 {
		before := cpu(t)
		for _, p := range payloads {
			if _, err := decoder.Samples(p); err != nil {
				t.Fatal(err)
			}
		}
		middle := cpu(t)
		c, err := s.compute(t.Context(), s.c.Pool, &h, 1, nil)
		if err != nil || len(c.leaves) != miners || c.polls != 121*miners {
			t.Fatalf("%d leaves of %d polls, %v", len(c.leaves), c.polls, err)
		}
		if _, err := evidence.NewTree(c.leaves); err != nil {
			t.Fatal(err)
		}
		floors, rates = append(floors, miners/(middle-before)), append(rates, miners/(cpu(t)-middle))
	}
	v, f := bench.Median(rates), bench.Median(floors)
	if err := bench.Record(bench.Result{
		ID: "FACTS-HUB-1", What: fmt.Sprintf("an hour of %d miners recomputed from its batches of 60 s polls and of the hour before, to the tree (floor: the batches only unpacked)", miners),
		Floor: f, Value: v, Unit: "miner-hours/CPU-s", Ratio: v / f, Target: "≥ 0.25 × floor", Met: v >= f/4, Samples: map[string][]float64{"hub": rates, "unpacked": floors},
	}); err != nil {
		t.Fatal(err)
	}
	benchLeaves(t, s)
}

func benchLeaves(t *testing.T, s *Store) {
	const pages = 1_000_000/pageLeaves + 1
	leaves := leavesOf(pageLeaves, benchHour)
	packed, err := s.packPage(nil, leaves)
	if err != nil {
		t.Fatal(err)
	}
	var rates, floors []float64
	var raw []byte
	var sum uint64
	for range 5 {
		before := cpu(t)
		for range pages {
			if raw, err = s.unpackPage(raw[:0], packed, pageLeaves); err != nil {
				t.Fatal(err)
			}
			for b := raw; len(b) > 0; b = b[evidence.LeafSize:] {
				h := sha256.Sum256(b[:evidence.LeafSize])
				sum += uint64(h[0])
			}
		}
		middle := cpu(t)
		for range pages {
			if raw, err = s.unpackPage(raw[:0], packed, pageLeaves); err != nil {
				t.Fatal(err)
			}
			for b := raw; len(b) > 0; b = b[evidence.LeafSize:] {
				l, err := evidence.ParseLeaf(b[:evidence.LeafSize])
				if err != nil {
					t.Fatal(err)
				}
				h := l.Hash()
				sum += uint64(h[0]) + l.Slots[3].Hashes
			}
		}
		floors, rates = append(floors, pages*pageLeaves/(middle-before)), append(rates, pages*pageLeaves/(cpu(t)-middle))
	}
	if sum == 0 {
		t.Fatal("nothing was computed")
	}
	v, f := bench.Median(rates), bench.Median(floors)
	if err := bench.Record(bench.Result{
		ID: "FACTS-HUB-2", What: fmt.Sprintf("%d kept leaves of miner-hours unpacked, read and hashed (floor: unpacked and hashed)", pages*pageLeaves),
		Floor: f, Value: v, Unit: "miner-hours/CPU-s", Ratio: v / f, Target: "≥ 0.5 × floor", Met: v >= f/2, Samples: map[string][]float64{"hub": rates, "hashed": floors},
	}); err != nil {
		t.Fatal(err)
	}
}
