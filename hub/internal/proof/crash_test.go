package proof

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	format "github.com/hashinsight/hashinsight/pkg/proof"
)

const (
	crashURLMark = "HSI_TEST_LOG_URL" // the database of a child that writes the log until it is killed
	crashDirMark = "HSI_TEST_LOG_DIR"
)

// TestMain is the child, when it is one.
func TestMain(m *testing.M) {
	if url := os.Getenv(crashURLMark); url != "" {
		if err := writeUntilKilled(context.Background(), url, os.Getenv(crashDirMark)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// writeUntilKilled notes entries and runs the log, and tells each checkpoint that it has recorded on standard output.
func writeUntilKilled(ctx context.Context, url, dir string) error {
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return err
	}
	s, err := New(Config{Pool: pool, Dir: dir, Key: func() ed25519.PrivateKey { return testKey }})
	if err != nil {
		return err
	}
	w := &world{}
	for {
		var list []format.Entry
		for range 1 + rand.IntN(400) {
			n := rand.Uint64()
			list = append(list, w.entry(n, time.Now().UnixMilli()))
		}
		if err := pg.InTx(ctx, pool, func(tx pgx.Tx) error { return Note(ctx, tx, list...) }); err != nil {
			return err
		}
		if err := s.Run(ctx); err != nil {
			return err
		}
		c, err := s.Checkpoint(ctx)
		if err != nil {
			return err
		}
		fmt.Printf("%d %x\n", c.Size, c.Root)
	}
}

// A process that writes the log is killed with -9, twenty times, at whatever it does. Each checkpoint that it had published stands, everything after is consistent with it, and
// rows, tiles and checkpoints agree.
func TestKilledWritersLeaveOneLog(t *testing.T) {
	url := pgtest.URL(t)
	w := newWorld(t)
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	w.pool, w.store = pool, w.open(pool, w.dir)
	published := map[uint64]string{}
	for range 20 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), crashURLMark+"="+url, crashDirMark+"="+w.dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			var size uint64
			var root string
			if _, err := fmt.Sscan(lines.Text(), &size, &root); err == nil {
				published[size] = root
			}
			if n == 0 { // it is at work
				time.AfterFunc(time.Duration(rand.IntN(200_000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
			}
		}
		if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() > 0 {
			t.Fatalf("the child ended by itself: %v", err)
		}
	}
	// The database may still be undoing what the last child had begun: its lock goes with its connection.
	newest := uint64(0)
	for size := range published {
		newest = max(newest, size)
	}
	for end := time.Now().Add(30 * time.Second); ; <-time.After(20 * time.Millisecond) {
		w.run()
		var pending int
		if err := pool.QueryRow(t.Context(), qPending).Scan(&pending); err != nil {
			t.Fatal(err)
		}
		if pending == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d entries wait", pending)
		}
	}
	if c := w.checkpoint(); c.Size < newest {
		t.Errorf("the checkpoint has %d entries, one of %d was published", c.Size, newest)
	}
	for size, root := range published {
		c, err := w.store.CheckpointAt(t.Context(), size)
		if err != nil || fmt.Sprintf("%x", c.Root) != root {
			t.Errorf("the checkpoint of %d entries is another one now: %v", size, err)
		}
		if _, err := w.store.Consistency(t.Context(), size, w.checkpoint().Size); err != nil {
			t.Error(err)
		}
	}
	w.wantFsck(w.store, "")
	t.Logf("%d checkpoints, %d entries", len(published), w.checkpoint().Size)
}
