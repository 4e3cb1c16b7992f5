//go:build linux

package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// smallDisk mounts a file system of a few MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=3m"); err != nil {
		t.Skipf("a small file system cannot be mounted (needs root on Linux): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

func TestFullDiskLosesNothingCommitted(t *testing.T) {
	dir := smallDisk(t)
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSite(t, func(c *Config) { c.Dir = filepath.Join(dir, "spool") })
	var stored []evidence.Header
	var full error
	for n := uint64(0); full == nil; n++ {
		var h evidence.Header
		if h, full = s.Append(context.Background(), evidence.KindSamples, payloadOf(n, 20_000), wire.Meta{}); full == nil {
			stored = append(stored, h)
		}
		if n > 1000 {
			t.Fatal("the disk never fills up")
		}
	}
	if !errors.Is(full, ErrDiskFull) || !strings.Contains(full.Error(), "free space") {
		t.Fatalf("error on a full disk: %v", full)
	}
	for range 3 { // it stays full, and says so each time
		if _, err := s.Append(context.Background(), evidence.KindSamples, payloadOf(9000, 20_000), wire.Meta{}); !errors.Is(err, ErrDiskFull) {
			t.Fatalf("second error on a full disk: %v", err)
		}
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

	// Acknowledged segments are given up at once, without their grace period.
	first := s.segs[0].last
	for _, h := range stored[:first] {
		s.ack(h)
	}
	h := s.append(9001, 20_000)
	if h.Seq != stored[len(stored)-1].Seq+1 {
		t.Errorf("sequence number %d after the disk was full, want %d", h.Seq, stored[len(stored)-1].Seq+1)
	}
	want(len(stored) - int(first) + 1)

	for full = nil; full == nil; {
		_, full = s.Append(context.Background(), evidence.KindSamples, payloadOf(9002, 20_000), wire.Meta{})
	}
	n := len(s.pending())
	s.reopen() // a restart on a full disk works too
	want(n)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	s.append(9003, 20_000)
	want(n + 1)
}

func TestAcknowledgedSegmentsMakeRoomForOthersOnAFullDisk(t *testing.T) {
	s := newSite(t)
	var headers []evidence.Header
	for n := uint64(0); len(s.segs) < 3; n++ {
		headers = append(headers, s.append(n, 20_000))
	}
	if full := fmt.Errorf("inventory: %w", syscall.ENOSPC); s.MakeRoom(full) {
		t.Error("room was made of data that the hub does not have")
	}
	for _, h := range headers {
		s.ack(h)
	}
	if s.MakeRoom(fs.ErrPermission) || len(s.segs) != 3 {
		t.Errorf("%d segments after an error that room does not mend", len(s.segs))
	}
	if full := fmt.Errorf("inventory: %w", syscall.ENOSPC); !s.MakeRoom(full) || len(s.segs) != 1 {
		t.Errorf("%d segments after a full disk, want the newest only", len(s.segs))
	}
	s.append(1000, 10)
}
