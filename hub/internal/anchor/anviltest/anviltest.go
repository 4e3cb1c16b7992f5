// Package anviltest gives a test a chain of its own: anvil on loopback, at a free port, gone with the test and with the test binary even when that is killed.
// It speaks plain JSON-RPC and imports nothing of the chain's libraries, so that tests of programs which may not have those can use it too. It holds no keys.
// Tests of the hub call it.
package anviltest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ChainID is the id of test chains that ask for no other.
const ChainID = 31337

// Options describe a chain.
type Options struct {
	ChainID   uint64        // 0 means ChainID
	BlockTime time.Duration // a block every so often, whole seconds; 0: blocks come only from Mine
	Load      string        // file of a state that Dump wrote; empty: a new chain
	Args      []string      // further arguments of anvil
}

// Chain is a running anvil. The latest block but one is safe, the one before that finalized.
type Chain struct {
	URL string

	t    testing.TB
	stop func()
}

// Binary is the path of anvil: HSI_TEST_ANVIL, or where npm ci in hub/contracts puts it; empty when there is none.
func Binary() string {
	if path := os.Getenv("HSI_TEST_ANVIL"); path != "" {
		return path
	}
	_, file, _, ok := runtime.Caller(0)
	dir := "."
	if ok && filepath.IsAbs(file) {
		dir = filepath.Dir(file)
	} else if wd, err := os.Getwd(); err == nil { // built with -trimpath: tests run in their package's directory
		dir = wd
	}
	for {
		path := filepath.Join(dir, "hub", "contracts", "node_modules", "@foundry-rs", "anvil-linux-amd64", "bin", "anvil")
		if _, err := os.Stat(path); err == nil {
			return path
		}
		up := filepath.Dir(dir)
		if up == dir {
			return ""
		}
		dir = up
	}
}

// Start starts a chain, which ends with the test. Without anvil the test is skipped, or fails where HSI_TEST_NO_SKIP says that everything has to be there.
func Start(t testing.TB, o Options) *Chain {
	t.Helper()
	path := Binary()
	if path == "" {
		if os.Getenv("HSI_TEST_NO_SKIP") != "" {
			t.Fatal("this test needs anvil, and HSI_TEST_NO_SKIP forbids to skip it: npm ci in hub/contracts, or set HSI_TEST_ANVIL")
		}
		t.Skip("this test needs anvil: npm ci in hub/contracts, or set HSI_TEST_ANVIL")
	}
	if o.ChainID == 0 {
		o.ChainID = ChainID
	}
	args := []string{
		"--host", "127.0.0.1", "--port", "0", "--chain-id", strconv.FormatUint(o.ChainID, 10), "--slots-in-an-epoch", "1", "--accounts", "0",
		"--hardfork", "prague", // what Base runs
	}
	if o.BlockTime > 0 {
		args = append(args, "--block-time", strconv.Itoa(int(o.BlockTime/time.Second)))
	} else {
		args = append(args, "--no-mining")
	}
	if o.Load != "" {
		args = append(args, "--load-state", o.Load)
	}
	c := &Chain{t: t}
	addr, stop, err := run(path, append(args, o.Args...))
	if err != nil {
		t.Fatalf("start anvil: %v", err)
	}
	c.URL, c.stop = "http://"+addr, stop
	t.Cleanup(stop)
	return c
}

// run starts anvil from one locked thread that lives as long as it does: the kernel sends Pdeathsig when the thread that forked ends.
func run(path string, args []string) (addr string, stop func(), err error) {
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 5 * time.Second
	var last bytes.Buffer
	cmd.Stderr = &last
	out, err := cmd.StdoutPipe()
	if err != nil {
		cancel()
		return "", nil, err
	}
	listening, ended := make(chan string, 1), make(chan struct{})
	var failed error // read after ended is closed
	go func() {
		defer close(ended)
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine, after the program
		if failed = cmd.Start(); failed != nil {
			return
		}
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if at, ok := strings.CutPrefix(lines.Text(), "Listening on "); ok {
				listening <- at
				break
			}
		}
		_, _ = io.Copy(io.Discard, out) // or anvil would stand still when the pipe is full
		failed = errors.Join(cmd.Wait(), ctx.Err())
	}()
	stop = func() {
		cancel()
		<-ended
	}
	select {
	case addr = <-listening:
		return addr, stop, nil
	case <-ended:
		cancel()
		return "", nil, fmt.Errorf("%w\n%s", failed, last.String())
	case <-time.After(time.Minute):
		stop()
		return "", nil, errors.New("does not listen after a minute")
	}
}

// Stop ends the chain before the test does. It may be called again.
func (c *Chain) Stop() { c.stop() }

// Call asks the chain, and fails the test when it refuses. result may be nil.
func (c *Chain) Call(result any, method string, params ...any) {
	c.t.Helper()
	if err := c.Try(result, method, params...); err != nil {
		c.t.Fatal(err)
	}
}

// Try is Call for what may be refused.
func (c *Chain) Try(result any, method string, params ...any) error {
	if params == nil {
		params = []any{}
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // cleanups call it after the test's context has ended
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	defer func() { _ = res.Body.Close() }()
	var reply struct {
		Result json.RawMessage `json:"result"`
		Error  *struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, 64<<20)).Decode(&reply); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	if reply.Error != nil {
		return fmt.Errorf("%s: %s (%d)", method, reply.Error.Message, reply.Error.Code)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(reply.Result, result)
}

// Fund gives an address (0x and 40 hex digits) so many wei.
func (c *Chain) Fund(address string, wei uint64) {
	c.t.Helper()
	c.Call(nil, "anvil_setBalance", address, fmt.Sprintf("0x%x", wei))
}

// Mine adds blocks, one second apart, with the transactions that wait.
func (c *Chain) Mine(blocks int) {
	c.t.Helper()
	c.Call(nil, "anvil_mine", fmt.Sprintf("0x%x", blocks), "0x1")
}

// Reorg replaces the latest blocks by as many empty ones. Their transactions are gone, also from the pool.
func (c *Chain) Reorg(depth int) {
	c.t.Helper()
	c.Call(nil, "anvil_reorg", depth, []any{})
}

// Snapshot remembers the chain as it is; Revert goes back to it, once.
func (c *Chain) Snapshot() (id string) {
	c.t.Helper()
	c.Call(&id, "evm_snapshot")
	return id
}

// Revert goes back to a snapshot. Pending transactions are forgotten.
func (c *Chain) Revert(id string) {
	c.t.Helper()
	var ok bool
	c.Call(&ok, "evm_revert", id)
	if !ok {
		c.t.Fatalf("anvil has no snapshot %s", id)
	}
}

// BaseFee sets the base fee of the next block in wei.
func (c *Chain) BaseFee(wei uint64) {
	c.t.Helper()
	c.Call(nil, "anvil_setNextBlockBaseFeePerGas", fmt.Sprintf("0x%x", wei))
}

// NextBlockTime sets the time of the next block, in seconds since 1970; it must be after the latest block's.
func (c *Chain) NextBlockTime(unix int64) {
	c.t.Helper()
	c.Call(nil, "evm_setNextBlockTimestamp", unix)
}

// DropPool forgets a transaction that waits, as a node does that is restarted.
func (c *Chain) DropPool(hash string) {
	c.t.Helper()
	c.Call(nil, "anvil_dropTransaction", hash)
}

// Height is the number of the latest block.
func (c *Chain) Height() uint64 {
	c.t.Helper()
	var hex string
	c.Call(&hex, "eth_blockNumber")
	n, err := strconv.ParseUint(strings.TrimPrefix(hex, "0x"), 16, 64)
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}
