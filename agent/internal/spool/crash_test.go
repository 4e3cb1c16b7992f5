package spool

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

const crashChildMark = "HSI_TEST_SPOOL_WRITER"

// TestMain lets the test binary be the process that gets killed.
func TestMain(m *testing.M) {
	if os.Getenv(crashChildMark) != "" {
		crashChild(".")
		return
	}
	os.Exit(m.Run())
}

func crashConfig(dir string) Config {
	hub := testKey("hub").Public().(ed25519.PublicKey)
	return Config{
		Dir: dir, Site: ident.SiteID{1, 2, 3}, Key: testKey("site"), SegmentBytes: 64 << 10, MaxBytes: 1 << 30, Grace: -1,
		HubKey: func(ident.KeyID) ed25519.PublicKey { return hub }, Log: slog.New(slog.DiscardHandler),
	}
}

// crashChild appends until it is killed, acknowledges some, and says on standard output what had returned.
func crashChild(dir string) {
	s, err := Open(context.Background(), crashConfig(dir))
	if err != nil {
		fmt.Println("fail", err)
		os.Exit(1)
	}
	r := rand.New(rand.NewPCG(uint64(os.Getpid()), 1))
	var held []evidence.Header
	for n := uint64(0); ; n++ {
		h, err := s.Append(context.Background(), evidence.KindSamples, payloadOf(n, 1+r.IntN(12_000)), wire.Meta{FirstMS: 1, LastMS: 2})
		if err != nil {
			fmt.Println("fail", err)
			os.Exit(1)
		}
		hash := h.Hash()
		fmt.Printf("put %s %d %x\n", h.Spool, h.Seq, hash)
		held = append(held, h)
		for len(held) > 20 || r.IntN(3) == 0 && len(held) > 0 {
			h, held = held[0], held[1:]
			a := evidence.Ack{Site: h.Site, Spool: h.Spool, Seq: h.Seq, HeaderHash: h.Hash()}
			fmt.Printf("ack %d\n", h.Seq) // said before it is done: the model may forget it, the spool may keep it
			if err := s.Ack(a, ident.KeyIDOf(testKey("hub").Public().(ed25519.PublicKey)), a.Sign(testKey("hub"))); err != nil {
				fmt.Println("fail", err)
				os.Exit(1)
			}
		}
	}
}

// TestKilledWriterKeepsWhatItPromised kills a writing process with -9 at seeded moments. Every Append that had returned is
// there afterwards, with the same bytes, in one unbroken chain, and no sequence number is ever used twice.
func TestKilledWriterKeepsWhatItPromised(t *testing.T) {
	dir := t.TempDir()
	const seed = 20261123
	r := rand.New(rand.NewPCG(seed, 2))
	model := map[uint64]string{} // header hash of every sequence number that anyone has seen
	acked := map[uint64]bool{}
	var spoolID string
	kills, puts := 25, 0
	for round := range kills {
		puts += killOnce(t, dir, 1+r.IntN(20), time.Duration(r.IntN(4000))*time.Microsecond, model, acked, &spoolID)
		s, err := Open(context.Background(), crashConfig(dir))
		if err != nil {
			t.Fatalf("seed %d, kill %d: %v", seed, round, err)
		}
		found := map[uint64]bool{}
		var batches []Batch
		for _, g := range s.segs {
			if err := s.forReading(g); err != nil {
				t.Fatal(err)
			}
			for seq := g.first; seq <= g.last; seq++ {
				b, err := g.get(seq, true)
				if err != nil {
					t.Fatalf("seed %d, kill %d: %v", seed, round, err)
				}
				hash := b.Header.Hash()
				if want, ok := model[seq]; ok && want != hex.EncodeToString(hash[:]) {
					t.Fatalf("seed %d, kill %d: batch %d has other bytes than before", seed, round, seq)
				}
				model[seq] = hex.EncodeToString(hash[:]) // committed, whether or not Append had returned
				found[seq] = true
				batches = append(batches, b)
			}
		}
		for _, b := range batches { // acknowledged segments may be gone in between: the model knows what was there
			if prev := hex.EncodeToString(b.Header.Prev[:]); b.Header.Seq > 1 && model[b.Header.Seq-1] != prev {
				t.Fatalf("seed %d, kill %d: batch %d does not follow batch %d", seed, round, b.Header.Seq, b.Header.Seq-1)
			}
			wantChain(t, []Batch{b})
		}
		for seq := range model {
			if !found[seq] && !acked[seq] {
				t.Fatalf("seed %d, kill %d: batch %d is lost", seed, round, seq)
			}
		}
		if s.ID().String() != spoolID {
			t.Fatalf("seed %d, kill %d: the spool id changed", seed, round)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d kills, %d appends had returned, %d batches seen", kills, puts, len(model))
}

// killOnce kills a writer some time after it has said that so many appends had returned.
func killOnce(t *testing.T, dir string, promised int, after time.Duration, model map[uint64]string, acked map[uint64]bool, spoolID *string) (puts int) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), crashChildMark+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		switch {
		case f[0] == "put" && len(f) == 4 && len(f[3]) == 64: // a kill may cut the last line
			seq, _ := strconv.ParseUint(f[2], 10, 64)
			if old, ok := model[seq]; ok && old != f[3] {
				t.Fatalf("sequence number %d was used twice", seq)
			}
			model[seq], *spoolID = f[3], f[1]
			if puts++; puts == promised {
				time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
			}
		case f[0] == "ack":
			seq, _ := strconv.ParseUint(f[1], 10, 64)
			acked[seq] = true
		case f[0] == "fail":
			t.Fatal(lines.Text())
		}
	}
	_ = cmd.Wait() // killed
	return puts
}
