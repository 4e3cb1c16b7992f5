package sim_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/pkg/sim"
)

// start runs a fleet until the test ends, in memory only.
func start(t testing.TB, c sim.Config) *sim.Fleet {
	t.Helper()
	f, err := sim.New(c)
	if err != nil {
		t.Fatal(err)
	}
	run(t, f)
	return f
}

// run serves f until the test ends or stop is called. Under synctest the caller must call stop itself.
func run(t testing.TB, f *sim.Fleet) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

const patience = 12 * time.Second

// ask sends one request in one write and reads until the connection ends, a NUL, 1 MiB or 12 s.
func ask(t testing.TB, dial dialer, addr, req string) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, req); err != nil {
		return nil, err
	}
	return drain(c)
}

type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

func drain(c net.Conn) ([]byte, error) {
	var got []byte
	buf := make([]byte, 64<<10)
	for len(got) < 1<<20 {
		n, err := c.Read(buf)
		got = append(got, buf[:n]...)
		if i := bytes.IndexByte(got, 0); i >= 0 {
			return got[:i], nil
		}
		if errors.Is(err, io.EOF) {
			return got, nil
		}
		if err != nil {
			return got, err
		}
	}
	return got, errTooMuch
}

var errTooMuch = errors.New("more than 1 MiB")

// must is ask for a miner that answers.
func must(t testing.TB, f *sim.Fleet, addr, req string) []byte {
	t.Helper()
	b, err := ask(t, f.DialContext, addr, req)
	if err != nil {
		t.Fatalf("%s to %s: %v", req, addr, err)
	}
	return b
}

// doc is a reply with one section, decoded.
type doc struct {
	Status []struct {
		STATUS string
		Code   int
		Msg    string
	} `json:"STATUS"`
	Summary []map[string]any `json:"SUMMARY"`
	Pools   []map[string]any `json:"POOLS"`
	Stats   []map[string]any `json:"STATS"`
}

func decode(t testing.TB, b []byte) doc {
	t.Helper()
	var d doc
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatalf("%v in %.300q", err, b)
	}
	return d
}

// summary asks one miner and returns the members of its summary.
func summary(t testing.TB, f *sim.Fleet, addr string) map[string]any {
	t.Helper()
	d := decode(t, must(t, f, addr, `{"command":"summary"}`))
	if len(d.Summary) != 1 {
		t.Fatalf("no summary: %+v", d)
	}
	return d.Summary[0]
}

// only is a fleet of n miners of one machine.
func only(machine string, n int) sim.Config {
	return sim.Config{Miners: n, Mix: machine, Seed: 7, Instant: true, Base: netip.MustParseAddr("127.31.0.1")}
}

const first = "127.31.0.1:4028"

func refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

func parse(t testing.TB, s string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
