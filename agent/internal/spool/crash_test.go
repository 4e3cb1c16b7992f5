package spool

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// Variables that make the test binary a writer to be killed, and say where.
const (
	crashChildMark = "HSI_TEST_SPOOL_WRITER"
	crashPointMark = "HSI_TEST_SPOOL_KILL_AT"    // name of a point; empty: the parent kills at a moment
	crashAfterMark = "HSI_TEST_SPOOL_KILL_AFTER" // so many appends before that
	crashCapMark   = "HSI_TEST_SPOOL_CAP"        // size cap in bytes
)

// TestMain lets the test binary be the process that gets killed.
func TestMain(m *testing.M) {
	if os.Getenv(crashChildMark) != "" {
		crashChild(".")
		return
	}
	if os.Getenv(memoryChildMark) != "" {
		memoryChild(".")
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
	c := crashConfig(dir)
	clock := time.Now()
	c.Now = func() time.Time { clock = clock.Add(time.Second); return clock } // acknowledgements are saved and segments deleted often
	if n, err := strconv.ParseInt(os.Getenv(crashCapMark), 10, 64); err == nil {
		c.MaxBytes = n
	}
	at, _ := strconv.ParseUint(os.Getenv(crashAfterMark), 10, 64)
	s, err := Open(context.Background(), c)
	if err != nil {
		fmt.Println("fail", err)
		os.Exit(1)
	}
	r := rand.New(rand.NewPCG(uint64(os.Getpid()), 1))
	var held []evidence.Header
	for n := uint64(0); ; n++ {
		if where := os.Getenv(crashPointMark); where != "" && n == at {
			if err := armToKill(where); err != nil {
				fmt.Println("skip", err)
				os.Exit(1)
			}
		}
		h, err := s.Append(context.Background(), evidence.KindSamples, payloadOf(n, 1+r.IntN(12_000)), wire.Meta{FirstMS: 1, LastMS: 2})
		if err != nil {
			fmt.Println("fail", err)
			os.Exit(1)
		}
		hash := h.Hash()
		if os.Getenv(crashPointMark) == killCommitted && n >= at {
			killSelf()
		}
		fmt.Printf("put %s %d %x\n", h.Spool, h.Seq, hash)
		held = append(held, h)
		for len(held) > 20 || r.IntN(3) == 0 && len(held) > 0 {
			h, held = held[0], held[1:]
			a := evidence.Ack{Site: h.Site, Spool: h.Spool, Seq: h.Seq, HeaderHash: h.Hash()}
			fmt.Printf("ack %d\n", h.Seq)                                                                                                                        // said before it is done: the model may forget it, the spool may keep it
			if err := s.Ack(a, ident.KeyIDOf(testKey("hub").Public().(ed25519.PublicKey)), a.Sign(testKey("hub"))); err != nil && !errors.Is(err, ErrNotFound) { // dropped at the cap
				fmt.Println("fail", err)
				os.Exit(1)
			}
			if os.Getenv(crashPointMark) == killAcked && n >= at {
				killSelf()
			}
		}
	}
}

// Points after a call has returned; the others are system calls.
const (
	killCommitted = "a batch is committed, nobody knows"
	killAcked     = "an acknowledgement was taken"
)

func killSelf() {
	p, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = p.Kill()
	}
	fmt.Println("fail", err)
	select {}
}

// TestKilledWriterKeepsWhatItPromised kills a writing process with -9 at seeded moments. Every Append that had returned is
// there afterwards, with the same bytes, in one unbroken chain, and no sequence number is ever used twice.
func TestKilledWriterKeepsWhatItPromised(t *testing.T) {
	const seed = 20261123
	r := rand.New(rand.NewPCG(seed, 2))
	k := newKills(t)
	for round := range 25 {
		k.killOnce(1+r.IntN(20), time.Duration(r.IntN(4000))*time.Microsecond)
		k.check(fmt.Sprintf("seed %d, kill %d", seed, round))
	}
	t.Logf("%d appends had returned, %d batches seen", k.puts, len(k.model))
}

// kills is a directory whose writers get killed, and the model of what they had promised.
type kills struct {
	t     *testing.T
	dir   string
	model map[uint64]string // header hash of every sequence number that anyone has seen
	acked map[uint64]bool
	spool string
	puts  int
	gaps  []evidence.Gap
}

func newKills(t *testing.T) *kills {
	return &kills{t: t, dir: t.TempDir(), model: map[uint64]string{}, acked: map[uint64]bool{}}
}

// check opens the directory as the next process does and compares it with the model.
func (k *kills) check(when string) {
	t := k.t
	t.Helper()
	s, err := Open(context.Background(), crashConfig(k.dir))
	if err != nil {
		t.Fatalf("%s: %v", when, err)
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
				t.Fatalf("%s: %v", when, err)
			}
			hash := b.Header.Hash()
			if want, ok := k.model[seq]; ok && want != hex.EncodeToString(hash[:]) {
				t.Fatalf("%s: batch %d has other bytes than before", when, seq)
			}
			k.model[seq] = hex.EncodeToString(hash[:]) // committed, whether or not Append had returned
			found[seq] = true
			batches = append(batches, b)
			if b.Header.Kind == evidence.KindGap {
				gap, err := evidence.ParseGap(b.Payload)
				if err != nil {
					t.Fatal(err)
				}
				k.gaps = append(k.gaps, gap)
			}
		}
	}
	for _, b := range batches { // acknowledged segments may be gone in between: the model knows what was there
		if prev := hex.EncodeToString(b.Header.Prev[:]); b.Header.Seq > 1 && k.model[b.Header.Seq-1] != "" && k.model[b.Header.Seq-1] != prev {
			t.Fatalf("%s: batch %d does not follow batch %d", when, b.Header.Seq, b.Header.Seq-1)
		}
		wantChain(t, []Batch{b})
	}
	for seq := range k.model {
		if !found[seq] && !k.acked[seq] && !k.named(seq) {
			t.Fatalf("%s: batch %d is lost", when, seq)
		}
	}
	if k.spool != "" && s.ID().String() != k.spool {
		t.Fatalf("%s: the spool id changed", when)
	}
	k.spool = s.ID().String()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// named reports whether a gap record tells of a batch.
func (k *kills) named(seq uint64) bool {
	return slices.ContainsFunc(k.gaps, func(g evidence.Gap) bool { return seq >= g.FirstSeq && seq <= g.LastSeq })
}

// killOnce kills a writer some time after it has said that so many appends had returned. With more in its environment the
// writer ends itself at a point. It reports whether the writer was killed.
func (k *kills) killOnce(promised int, after time.Duration, env ...string) (killed bool) {
	t := k.t
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Dir, cmd.Env = k.dir, append(append(os.Environ(), crashChildMark+"=1"), env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines, n := bufio.NewScanner(out), 0
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		switch {
		case len(f) == 4 && f[0] == "put" && len(f[3]) == 64: // a kill may cut the last line
			seq, _ := strconv.ParseUint(f[2], 10, 64)
			if old, ok := k.model[seq]; ok && old != f[3] {
				t.Fatalf("sequence number %d was used twice", seq)
			}
			k.model[seq], k.spool = f[3], f[1]
			if n++; n == promised {
				time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
			}
		case len(f) == 2 && f[0] == "ack":
			seq, _ := strconv.ParseUint(f[1], 10, 64)
			k.acked[seq] = true
		case len(f) > 0 && f[0] == "fail":
			t.Fatal(lines.Text())
		case len(f) > 0 && f[0] == "skip":
			t.Skipf("a writer cannot be killed at a system call: this kernel has no seccomp filters: %s", lines.Text())
		}
	}
	_ = cmd.Wait() // killed
	k.puts += n
	return !cmd.ProcessState.Exited() && (promised == 0 || n < promised)
}
