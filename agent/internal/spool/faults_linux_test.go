package spool

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/hashinsight/hashinsight/agent/internal/faults"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// The disk refuses single operations at seeded moments: syncs, writes of data and meta pages, making, naming, growing and
// deleting files. The caller does what the agent does: it tries the same payload again. What had been promised is there
// afterwards, every payload once, in one unbroken chain.
func TestDiskErrorsLoseAndDoubleNothing(t *testing.T) {
	const seed, steps = 20261123, 400
	r := rand.New(rand.NewPCG(seed, 9))
	s := newSite(t, func(c *Config) { c.SegmentBytes, c.Grace, c.Log = 192<<10, -1, slog.New(slog.DiscardHandler) })
	type fault struct {
		name   string
		errno  syscall.Errno
		points []faults.Point
	}
	kinds := []fault{
		{"EIO on sync", syscall.EIO, faults.OnSync},
		{"EIO on write", syscall.EIO, faults.OnWrite},
		{"EIO on meta page", syscall.EIO, faults.OnMeta},
		{"ENOSPC on data", syscall.ENOSPC, faults.OnData},
		{"ENOSPC on open", syscall.ENOSPC, faults.OnOpen},
		{"EIO on rename", syscall.EIO, faults.OnRename},
		{"EIO on delete", syscall.EIO, faults.OnUnlink},
		{"ENOSPC on growth", syscall.ENOSPC, faults.OnGrow},
	}
	id := s.ID()
	committed := map[uint64]evidence.Header{} // by sequence number
	byPayload := map[evidence.Hash]uint64{}
	acked := map[uint64]bool{}
	unknown := map[evidence.Hash]bool{} // the caller gave up: it may be there or not
	hits := map[string]int{}
	for step := range uint64(steps) {
		payload := payloadOf(step, 200+r.IntN(9000))
		var h evidence.Header
		var err error
		do := func() {
			s.clock = s.clock.Add(3e9)
			h, err = s.Append(context.Background(), evidence.KindSamples, payload, wire.Meta{Samples: 1})
		}
		if f := kinds[r.IntN(len(kinds))]; r.IntN(3) > 0 {
			faults.Failing(t, f.errno, f.points, do)
			outcome := "survived by"
			if err != nil {
				outcome = "failed on"
			}
			hits[outcome+" "+f.name]++
			if err != nil && f.errno == syscall.ENOSPC && !errors.Is(err, ErrDiskFull) {
				t.Errorf("step %d, %s: %v is not ErrDiskFull", step, f.name, err)
			}
		} else {
			do()
		}
		if err != nil && r.IntN(10) == 0 {
			unknown[evidence.Hash(sha256.Sum256(payload))] = true
			continue
		}
		for tries := 0; err != nil; tries++ {
			if tries == 3 {
				t.Fatalf("seed %d, step %d: still failing without a fault: %v", seed, step, err)
			}
			do()
		}
		if old, ok := committed[h.Seq]; ok {
			t.Fatalf("seed %d, step %d: sequence number %d was used for %x and again", seed, step, h.Seq, old.Payload)
		}
		committed[h.Seq] = h
		if r.IntN(2) == 0 {
			for _, seq := range slices.Sorted(maps.Keys(committed)) {
				if !acked[seq] {
					acked[seq] = true
					s.ack(committed[seq])
					break
				}
			}
		}
		if r.IntN(60) == 0 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			f := kinds[r.IntN(len(kinds))]
			faults.Failing(t, f.errno, f.points, func() {
				if sp, err := Open(context.Background(), s.cfg); err == nil {
					_ = sp.Close()
				}
			})
			s.reopen()
		}
	}
	if s.ID() != id {
		t.Error("the spool id changed although nothing was corrupt")
	}
	stored := map[uint64]Batch{}
	for _, b := range s.everything() {
		stored[b.Header.Seq] = b
		wantChain(t, []Batch{b})
		if other, twice := byPayload[b.Header.Payload]; twice {
			t.Errorf("seed %d: one payload is stored as %d and %d", seed, other, b.Header.Seq)
		}
		byPayload[b.Header.Payload] = b.Header.Seq
		if _, ok := committed[b.Header.Seq]; !ok && !unknown[b.Header.Payload] {
			t.Errorf("seed %d: batch %d was never promised", seed, b.Header.Seq)
		}
		if p, ok := stored[b.Header.Seq-1]; ok && p.Header.Hash() != b.Header.Prev {
			t.Errorf("seed %d: batch %d does not follow batch %d", seed, b.Header.Seq, b.Header.Seq-1)
		}
	}
	for seq, h := range committed {
		b, ok := stored[seq]
		switch {
		case !ok && !acked[seq]:
			t.Errorf("seed %d: batch %d is lost", seed, seq)
		case ok && !bytes.Equal(b.HeaderBytes, h.Bytes()):
			t.Errorf("seed %d: batch %d has another header than promised", seed, seq)
		}
	}
	for _, what := range slices.Sorted(maps.Keys(hits)) {
		t.Logf("%4d × %s", hits[what], what)
	}
	for _, f := range kinds[:4] {
		if hits["failed on "+f.name] == 0 {
			t.Errorf("%s was never met", f.name)
		}
	}
}

// everything returns every batch of an open spool, acknowledged or not.
func (s *site) everything() (out []Batch) {
	s.t.Helper()
	for _, g := range s.segs {
		for seq := g.first; seq <= g.last; seq++ {
			b, err := s.Read(Ref{g.spool, seq})
			if err != nil {
				s.t.Fatal(err)
			}
			out = append(out, b)
		}
	}
	return out
}

func TestNoInodesLeft(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m,nr_inodes=12"); err != nil {
		t.Skipf("a file system with few inodes cannot be mounted (needs root on Linux): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	s := newSite(t, func(c *Config) {
		c.Dir, c.SegmentBytes, c.MaxBytes = filepath.Join(dir, "spool"), 64<<10, 6<<20
	})
	var stored []evidence.Header
	var full error
	for n := uint64(0); full == nil && n < 1000; n++ {
		var h evidence.Header
		if h, full = s.Append(t.Context(), evidence.KindSamples, payloadOf(n, 20_000), wire.Meta{}); full == nil {
			stored = append(stored, h)
		}
	}
	if !errors.Is(full, ErrDiskFull) || !strings.Contains(full.Error(), "free space") {
		t.Fatalf("error without inodes: %v", full)
	}
	want := func(n int) {
		t.Helper()
		got := s.pending()
		wantChain(t, got)
		if len(got) != n {
			t.Errorf("%d batches pending, want %d", len(got), n)
		}
	}
	want(len(stored))
	s.reopen() // a restart works too
	want(len(stored))
	first := s.segs[0].last
	for _, h := range stored[:first] { // acknowledgements count although they cannot be saved, and make room at once
		s.ack(h)
	}
	if h := s.append(2000, 20_000); h.Seq != uint64(len(stored))+1 {
		t.Errorf("sequence number %d, want %d", h.Seq, len(stored)+1)
	}
	want(len(stored) - int(first) + 1)
	left, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		if strings.HasSuffix(e.Name(), tmpSuffix) {
			t.Errorf("%s is left over", e.Name())
		}
	}
}

// A thousand steps of the wall clock by a day, in both directions, change neither order nor what is kept.
func TestClockStepsByADayUnderAcknowledgements(t *testing.T) {
	s := newSite(t, func(c *Config) { c.Log = slog.New(slog.DiscardHandler) })
	r := rand.New(rand.NewPCG(20261123, 4))
	var last uint64
	open := map[uint64]evidence.Header{}
	for n := range uint64(300) {
		s.clock = s.clock.AddDate(0, 0, r.IntN(3)-1)
		h := s.append(n, 4000)
		if h.Seq != last+1 {
			t.Fatalf("batch %d after %d", h.Seq, last)
		}
		last, open[h.Seq] = h.Seq, h
		if r.IntN(2) == 0 {
			first := slices.Min(slices.Collect(maps.Keys(open)))
			s.ack(open[first])
			delete(open, first)
		}
		if n%100 == 50 {
			s.reopen()
		}
	}
	got := s.pending()
	wantChain(t, got)
	if want := slices.Sorted(maps.Keys(open)); !slices.Equal(seqs(got), want) {
		t.Errorf("pending %v, want %v", fmt.Sprint(seqs(got)), want)
	}
}
