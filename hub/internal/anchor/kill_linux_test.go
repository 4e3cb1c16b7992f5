package anchor

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
)

// Variables that make the test binary a hub that anchors once and gets killed.
const (
	childURL      = "HSI_TEST_ANCHOR_DATABASE"
	childRPC      = "HSI_TEST_ANCHOR_RPC"
	childKey      = "HSI_TEST_ANCHOR_KEY"
	childContract = "HSI_TEST_ANCHOR_CONTRACT"
	childLog      = "HSI_TEST_ANCHOR_LOG" // size
	childNow      = "HSI_TEST_ANCHOR_NOW" // seconds since 1970
	childStop     = "HSI_TEST_ANCHOR_STOP"
)

// TestMain lets the test binary be the process that gets killed.
func TestMain(m *testing.M) {
	if url := os.Getenv(childURL); url != "" {
		if err := child(context.Background(), url); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child does the task once. At the place that it is told it says so, and waits for its end.
func child(ctx context.Context, url string) error {
	pc, err := pg.PoolConfig(url)
	if err != nil {
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return err
	}
	defer pool.Close()
	var numbers [2]int64
	for i, name := range []string{childLog, childNow} {
		if numbers[i], err = strconv.ParseInt(os.Getenv(name), 10, 64); err != nil {
			return err
		}
	}
	key, err := crypto.HexToECDSA(os.Getenv(childKey))
	if err != nil {
		return err
	}
	chain, err := chainOf([]string{os.Getenv(childRPC)}, common.HexToAddress(os.Getenv(childContract)), key, nil)
	if err != nil {
		return err
	}
	log := &testLog{salt: 1, size: uint64(numbers[0])}
	m, err := NewMachine(MachineConfig{Pool: pool, Chain: chain, LogHead: log.head, LogAt: log.at, Now: func() time.Time { return time.Unix(numbers[1], 0).UTC() }})
	if err != nil {
		return err
	}
	m.at = func(ctx context.Context, where string) error {
		if where == os.Getenv(childStop) {
			fmt.Println("at " + where)
			_, _ = io.Copy(io.Discard, os.Stdin) // the parent kills it here
		}
		return ctx.Err()
	}
	return m.Run(ctx)
}

func keyHex(key *ecdsa.PrivateKey) string { return hex.EncodeToString(crypto.FromECDSA(key)) }

// killAt runs the task in a process of its own, and kills that with SIGKILL at a place; it reports whether the process came there.
func (w *world) killAt(url, where string) bool {
	w.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childURL+"="+url, childRPC+"="+w.end.URL, childKey+"="+keyHex(w.key), childContract+"="+w.contract.Hex(),
		childLog+"="+strconv.FormatUint(w.log.size, 10), childNow+"="+strconv.FormatInt(w.now.Unix(), 10), childStop+"="+where)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var text strings.Builder
	cmd.Stderr = &text
	in, err := cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	came := strings.TrimSpace(line) == "at "+where
	if came {
		_ = cmd.Process.Kill()
	}
	_ = in.Close()
	if err := cmd.Wait(); err != nil && !came {
		w.t.Errorf("the process ended by itself with %v: %s", err, text.String())
	}
	for held := true; held; { // until PostgreSQL has seen that it is gone
		if err := w.pool.QueryRow(w.t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`).Scan(&held); err != nil {
			w.t.Fatal(err)
		}
	}
	return came
}

// Kill -9 at every place between two things that are kept or sent, in every state. What another process makes of it is what one that was never killed would have.
func TestKilledInEveryState(t *testing.T) {
	w := freshWorld(t)
	w.mustBeStored()
	url := w.pool.Config().ConnString()
	w.log.grow(10)
	killed := func(where string, want State) {
		t.Helper()
		if !w.killAt(url, where) {
			t.Fatalf("the process did not come to %q\n%s", where, w.rows())
		}
		if a, ok, err := w.m.s.anchor(t.Context(), w.pool, qNewest); err != nil || (want == 0) == ok || a.State != want {
			t.Fatalf("killed at %q the anchor is %s, want %s (%v)", where, a.State, want, err)
		}
		w.now = w.now.Add(10 * time.Second)
	}
	killed("step", 0)
	killed("built", Built)
	killed("signed", Signed)
	killed("send", Signed)
	killed("passed on", Signed) // the node has it, the database does not say so
	killed("sent", Sent)
	w.anvil.DropPool(common.Hash(w.txs(1)[0].hash).Hex())
	w.now = w.now.Add(10 * time.Minute)
	killed("resent", Sent)
	killed("signed", Signed) // it has waited for long: a dearer one
	if txs := w.txs(1); len(txs) < 2 || txs[1].state != txReplaced {
		t.Fatalf("the transactions are %+v", txs)
	}
	w.run(10 * time.Second)
	w.mine(1)
	killed("mined", Mined)
	w.anvil.Reorg(1)
	killed("gone", Orphaned)
	killed("send", Orphaned)
	w.run(10 * time.Second)
	w.mine(1)
	killed("mined", Mined)
	w.mine(1)
	killed("safe", Safe)
	w.mine(1)
	killed("finalized", Finalized)
	w.anvil.Reorg(70)
	w.now = w.now.Add(time.Minute) // while nothing is due the chain is asked once a minute
	killed("gone", Vanished)
	killed("passed on", Vanished)
	w.settle()
	w.check()

	w.log.grow(10)
	w.now = w.now.Add(2 * time.Hour)
	w.run(10 * time.Second)
	w.anvil.DropPool(common.Hash(w.txs(2)[0].hash).Hex())
	w.spend(true) // the nonce is gone
	killed("void", Sent)
	w.run(10 * time.Second)
	w.mine(3)
	w.settle()
	w.check()

	w.log.grow(10)
	w.run(2 * time.Hour)
	w.revokeFirst(3)
	w.run(time.Minute)
	w.mine(1)
	killed("failed", Failed)
	w.grant(w.address(), true)
	w.now = w.now.Add(2 * time.Hour)
	killed("signed", Failed)
	w.settle()
	w.check()

	r := &seeded{world: w, did: map[string]int{}}
	r.backup = r.save()
	w.log.grow(10)
	w.now = w.now.Add(2 * time.Hour)
	w.settle()
	newest := w.status().Newest.Seq
	r.restore()
	killed("adopted", Mined)
	w.settle()
	w.check()
	if a := w.anchor(newest); !a.Adopted {
		t.Errorf("the anchor that the database did not know is %+v", a)
	}
}
