//go:build unix

package poll_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/hashinsight/hashinsight/agent/internal/asic"
	"github.com/hashinsight/hashinsight/agent/internal/cgminer"
	"github.com/hashinsight/hashinsight/agent/internal/inventory"
	"github.com/hashinsight/hashinsight/agent/internal/poll"
	"github.com/hashinsight/hashinsight/agent/internal/spool"
	"github.com/hashinsight/hashinsight/pkg/bench"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// fleet starts hashinsight-sim as a process of its own, so that the CPU time of this process is the agent's alone.
func fleet(t *testing.T, flags ...string) []string {
	t.Helper()
	if os.Getenv(bench.FileVariable) == "" {
		t.Skipf("a benchmark: set %s to the file that shall receive the result", bench.FileVariable)
	}
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux, where all of 127.0.0.0/8 answers")
	}
	program := filepath.Join(os.Getenv("HSI_TEST_BIN"), "hashinsight-sim")
	if os.Getenv("HSI_TEST_BIN") == "" {
		program = filepath.Join(t.TempDir(), "hashinsight-sim")
		build := exec.Command("go", "build", "-o", program, "./cmd/hashinsight-sim")
		build.Dir = "../../../pkg"
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build the simulator: %v\n%s", err, out)
		}
	}
	ready := filepath.Join(t.TempDir(), "ready.json")
	sim := exec.Command(program, append(flags, "--ready-file", ready)...)
	sim.Stderr = os.Stderr
	if err := sim.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = sim.Process.Signal(os.Interrupt) // it may have ended; Wait tells
		if err := sim.Wait(); err != nil {
			t.Errorf("simulator: %v", err)
		}
	})
	var list struct {
		Miners []struct {
			Address string `json:"address"`
		} `json:"miners"`
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) { // the simulator is another process
		if b, err := os.ReadFile(ready); err == nil && json.Unmarshal(b, &list) == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the simulator did not get ready")
		}
	}
	out := make([]string, len(list.Miners))
	for i, m := range list.Miners {
		out[i] = m.Address
	}
	return out
}

// cpu is the processor time that this process has used, in seconds.
func cpu(t *testing.T) float64 {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// agent is everything between the miners and the disk.
type agent struct {
	poller   *poll.Poller
	spool    *spool.Spool
	registry *prometheus.Registry
	stop     func()
}

func startAgent(t *testing.T, addresses []string, interval time.Duration) *agent {
	t.Helper()
	dir := t.TempDir()
	percent := debug.SetGCPercent(50) // as the program does
	a := &agent{registry: prometheus.NewRegistry()}
	var err error
	a.spool, err = spool.Open(t.Context(), spool.Config{
		Dir: filepath.Join(dir, "spool"), Site: ident.SiteID{1}, Key: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)),
		HubKey: func(ident.KeyID) ed25519.PublicKey { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	inv, err := inventory.Open(inventory.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	client := &cgminer.Client{}
	c := poll.Config{
		Inventory: inv, Registerer: a.registry,
		Open: func(t poll.Target) poll.Reader {
			return asic.NewReader(asic.Config{Address: t.Address, Client: client}).Read
		},
		Append: func(ctx context.Context, payload []byte, m wire.Meta) error {
			_, err := a.spool.Append(ctx, evidence.KindSamples, payload, m)
			return err
		},
	}
	for _, address := range addresses {
		c.Targets = append(c.Targets, poll.Target{Address: address, Interval: interval, ConnectTimeout: 3 * time.Second, Timeout: 10 * time.Second})
	}
	if a.poller, err = poll.New(c); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.poller.Run(ctx) }()
	a.stop = func() {
		cancel()
		debug.SetGCPercent(percent)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := a.spool.Close(); err != nil {
			t.Error(err)
		}
	}
	return a
}

// metric sums a counter over its labels that contain only.
func (a *agent) metric(t *testing.T, name, only string) float64 {
	t.Helper()
	sum := 0.0
	for _, m := range a.gather(t, name) {
		if only == "" || slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetValue() == only }) {
			sum += m.GetCounter().GetValue()
		}
	}
	return sum
}

func (a *agent) gather(t *testing.T, name string) []*dto.Metric {
	t.Helper()
	families, err := a.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return nil
}

// floor polls like a program that only fetches: the same request at the same pace, the reply's bytes appended to a file
// and synced every 2 s, nothing looked at. It returns processor seconds and polls.
func floor(t *testing.T, addresses []string, interval, lasting time.Duration, request string) (seconds, polls float64) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }() // synced below
	replies := make(chan []byte, 256)
	free := sync.Pool{New: func() any { return make([]byte, 0, 16<<10) }}
	var wg, writer sync.WaitGroup
	begin := time.Now()
	for i, address := range addresses {
		wg.Go(func() {
			phase := interval * time.Duration(i) / time.Duration(len(addresses))
			for at := begin.Add(phase); at.Before(begin.Add(lasting)); at = at.Add(interval) {
				time.Sleep(time.Until(at)) // the pace is what is simulated
				if b := fetch(address, request, free.Get().([]byte)[:0]); b != nil {
					replies <- b
				}
			}
		})
	}
	count := 0
	writer.Go(func() {
		synced := time.Now()
		for b := range replies {
			if _, err := out.Write(b); err != nil {
				t.Error(err)
			}
			count++
			free.Put(b) //nolint:staticcheck // the header's allocation is the same on both sides
			if time.Since(synced) >= 2*time.Second {
				if err := out.Sync(); err != nil {
					t.Error(err)
				}
				synced = time.Now()
			}
		}
		if err := out.Sync(); err != nil {
			t.Error(err)
		}
	})
	before := cpu(t)
	wg.Wait()
	close(replies)
	writer.Wait()
	return cpu(t) - before, float64(count)
}

func fetch(address, request string, b []byte) []byte {
	dialer := net.Dialer{Timeout: 3 * time.Second, KeepAlive: -1}
	conn, err := dialer.Dial("tcp", address)
	if err != nil {
		return nil
	}
	defer func() { _ = conn.Close() }() // everything was read
	if conn.SetDeadline(time.Now().Add(10*time.Second)) != nil {
		return nil
	}
	if _, err := conn.Write([]byte(request)); err != nil {
		return nil
	}
	for {
		if len(b) == cap(b) {
			b = slices.Grow(b, 8<<10)
		}
		n, err := conn.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err != nil {
			return b
		}
	}
}

// P1: processor time per poll, from dial to durable commit, with summary, stats and pools decoded and normalised, against
// fetching the same bytes and keeping them raw. Both sides poll the same 1,000 miners a second in turn.
func TestBenchP1(t *testing.T) {
	const (
		miners, rounds = 1000, 5
		interval       = time.Second
		lasting        = 6 * time.Second
	)
	addresses := fleet(t, "--miners", strconv.Itoa(miners), "--base", "127.60.0.1", "--mix", "antminer-s9")
	samples := map[string][]float64{}
	for range rounds {
		runtime.GC()
		seconds, polls := floor(t, addresses, interval, lasting, `{"command":"summary+pools+stats"}`)
		if polls < miners*lasting.Seconds()*0.99 {
			t.Fatalf("the floor read %v replies", polls)
		}
		samples["floor"] = append(samples["floor"], seconds/polls*1e6)

		runtime.GC()
		a := startAgent(t, addresses, interval)
		time.Sleep(2500 * time.Millisecond) // identification, first batch: once in a miner's life
		before, polled := cpu(t), a.metric(t, "hashinsight_agent_polls_total", "ok")
		time.Sleep(lasting)
		used, done := cpu(t)-before, a.metric(t, "hashinsight_agent_polls_total", "ok")-polled
		a.stop()
		if done < miners*lasting.Seconds()*0.99 {
			t.Fatalf("the agent made %v good polls", done)
		}
		samples["agent"] = append(samples["agent"], used/done*1e6)
	}
	ratios := make([]float64, rounds)
	for i := range ratios {
		ratios[i] = samples["agent"][i] / samples["floor"][i]
	}
	ratio := bench.Median(ratios)
	err := bench.Record(bench.Result{
		ID: "P1", What: "agent CPU per poll, dial to durable commit; 1,000 miners a second, joined summary, pools and stats",
		Floor: bench.Median(samples["floor"]), Value: bench.Median(samples["agent"]), Unit: "µs", Ratio: ratio,
		Target: "≤ 2.0 × the no-decode floor", Met: ratio <= 2, Samples: samples,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// P2: 10,000 miners of all families, a tenth of them accepting and silent, the worst way to be dead, each every 10 s.
func TestBenchP2(t *testing.T) {
	const (
		miners   = 10000
		interval = 10 * time.Second
		cycles   = 6
	)
	schedule := filepath.Join(t.TempDir(), "faults.json")
	if err := os.WriteFile(schedule, []byte(`[{"all":true,"share":"10%","behaviour":"hang"}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	var addresses []string
	for _, base := range []string{"127.60.0.1", "127.61.0.1"} { // two processes: each miner takes two of the files one may have open
		addresses = append(addresses, fleet(t, "--miners", strconv.Itoa(miners/2), "--base", base, "--latency", "200ms-500ms,1%:5s-8s", "--schedule", schedule)...)
	}
	debug.FreeOSMemory()
	a := startAgent(t, addresses, interval)
	time.Sleep(3 * interval)
	state := a.poller.Status()
	before, polled, began := cpu(t), a.metric(t, "hashinsight_agent_polls_total", "ok"), time.Now()
	late := a.histogram(t, "hashinsight_agent_poll_start_delay_seconds")
	rss, anonymous := 0.0, 0.0
	for range cycles * 10 {
		time.Sleep(interval / 10)
		rss, anonymous = max(rss, resident(t, "VmRSS:")), max(anonymous, resident(t, "RssAnon:"))
	}
	took := time.Since(began)
	used, done := cpu(t)-before, a.metric(t, "hashinsight_agent_polls_total", "ok")-polled
	served := done / (float64(state.Answering) * took.Seconds() / interval.Seconds())
	p99 := late.quantile(a.histogram(t, "hashinsight_agent_poll_start_delay_seconds"), 0.99)
	memory := []metrics.Sample{{Name: "/memory/classes/heap/stacks:bytes"}, {Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(memory)
	a.stop()
	for _, m := range memory {
		t.Logf("%s %.1f MB", m.Name, float64(m.Value.Uint64())/1e6)
	}
	// What fetching the same replies costs when nothing is looked at: one joined request for each miner, although some
	// firmware takes three connections. A hung miner holds its connection on both sides.
	seconds, replies := floor(t, addresses, interval, 3*interval, `{"command":"summary+pools+stats"}`)
	bare := seconds / (3 * interval).Seconds()
	core := used / took.Seconds()
	err := bench.Record(bench.Result{
		ID: "P2", What: fmt.Sprintf("10,000 miners every 10 s, 10 %% dead: share of a core; %.2f %% of %d live miners polled a cycle, start delay p99 ≤ %g s, RSS %.0f MB",
			served*100, state.Answering, p99, rss),
		Floor: bare * 100, Value: core * 100, Unit: "% of a core", Ratio: core / bare, Target: "≥ 99.9 % polled, p99 < 1 s, ≤ 15 % of a core, RSS ≤ 160 MB",
		Met: served >= 0.999 && p99 < 1 && core <= 0.15 && rss <= 160,
		Samples: map[string][]float64{"cpu_percent": {core * 100}, "served_percent": {served * 100}, "start_delay_p99_s": {p99}, "rss_mb": {rss},
			"rss_anonymous_mb": {anonymous}, "floor_replies_percent": {replies / (3 * miners) * 100}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

type histogram map[float64]float64 // upper bound: observations up to it

func (a *agent) histogram(t *testing.T, name string) histogram {
	t.Helper()
	h := histogram{}
	for _, m := range a.gather(t, name) {
		for _, b := range m.GetHistogram().GetBucket() {
			h[b.GetUpperBound()] = float64(b.GetCumulativeCount())
		}
	}
	return h
}

// quantile is the upper bound under which a share q of what happened between h and later lies.
func (h histogram) quantile(later histogram, q float64) float64 {
	bounds := make([]float64, 0, len(later))
	for b := range later {
		bounds = append(bounds, b)
	}
	slices.Sort(bounds)
	top := bounds[len(bounds)-1]
	for _, b := range bounds {
		if later[b]-h[b] >= q*(later[top]-h[top]) {
			return b
		}
	}
	return top
}

// resident is the memory of this process by a line of its status, MB.
func resident(t *testing.T, line string) float64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(l, line); ok {
			kb, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
			if err != nil {
				t.Fatal(err)
			}
			return kb / 1024
		}
	}
	t.Fatalf("no %s", line)
	return 0
}
