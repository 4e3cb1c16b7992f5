//go:build linux

package poll_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
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

// fleet starts hashinsight-sim, at addresses of 127.0.0.0/8, all of which answer on Linux, as a process of its own, so that the CPU time of this process is the agent's alone.
func fleet(t *testing.T, flags ...string) []string {
	t.Helper()
	if os.Getenv(bench.FileVariable) == "" {
		t.Skipf("a benchmark: set %s to the file that shall receive the result", bench.FileVariable)
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
	halt     func() // polling alone; stop does it too
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
	a.halt = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	a.stop = func() {
		a.halt()
		debug.SetGCPercent(percent)
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

// bare polls like floor with nothing but system calls, in one thread that starts connections every 50 ms: socket, connect, write, reads, close, and epoll to
// wait. What it takes is what these connections cost on this machine whatever the program is. It returns the thread's processor seconds in
// the program and in the kernel, and the replies.
func bare(t *testing.T, addresses []string, interval, lasting time.Duration, request string) (user, kernel, replies float64) {
	t.Helper()
	type conn struct {
		fd      int
		started time.Time
	}
	to := make([]syscall.SockaddrInet4, len(addresses))
	for i, a := range addresses {
		ip := netip.MustParseAddrPort(a)
		to[i] = syscall.SockaddrInet4{Port: int(ip.Port()), Addr: ip.Addr().As4()}
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	times := func() (user, kernel float64) {
		var u syscall.Rusage
		if err := syscall.Getrusage(1, &u); err != nil { // RUSAGE_THREAD
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano()).Seconds(), time.Duration(u.Stime.Nano()).Seconds()
	}
	waiter, err := syscall.EpollCreate1(0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(waiter) }() // nothing is in it
	open, asked := map[int]time.Time{}, map[int]bool{}
	var order []conn // as started, for the deadline
	end := func(fd int) {
		delete(open, fd)
		delete(asked, fd)
		_ = syscall.Close(fd) // everything was read, or never will be
	}
	events, buf, text := make([]syscall.EpollEvent, 256), make([]byte, 64<<10), []byte(request)
	user0, kernel0 := times()
	begin, next := time.Now(), 0
	total := int(float64(len(addresses)) * lasting.Seconds() / interval.Seconds())
	for next < total || len(open) > 0 {
		now := time.Now()
		for ; next < total && next <= int(float64(now.Sub(begin).Milliseconds()/50*50)/interval.Seconds()/1000*float64(len(addresses))); next++ {
			fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := syscall.Connect(fd, &to[next%len(to)]); err != nil && err != syscall.EINPROGRESS {
				t.Fatal(err)
			}
			const edge = 1 << 31 // EPOLLET, whose constant is negative
			if err := syscall.EpollCtl(waiter, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLOUT | syscall.EPOLLRDHUP | edge, Fd: int32(fd)}); err != nil {
				t.Fatal(err)
			}
			open[fd] = now
			order = append(order, conn{fd, now})
		}
		for len(order) > 0 && now.Sub(order[0].started) > 10*time.Second {
			if open[order[0].fd].Equal(order[0].started) {
				end(order[0].fd)
			}
			order = order[1:]
		}
		n, err := syscall.EpollWait(waiter, events, 50-int(now.Sub(begin).Milliseconds()%50))
		if err != nil && err != syscall.EINTR {
			t.Fatal(err)
		}
		for _, e := range events[:max(n, 0)] {
			fd := int(e.Fd)
			if e.Events&syscall.EPOLLOUT != 0 && !asked[fd] {
				_, err := syscall.Write(fd, text)
				asked[fd] = err == nil
			}
			for e.Events&(syscall.EPOLLIN|syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0 {
				if n, err := syscall.Read(fd, buf); n > 0 {
					continue
				} else if err != syscall.EAGAIN {
					replies++
					end(fd)
				}
				break
			}
		}
	}
	user, kernel = times()
	return user - user0, kernel - kernel0, replies
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
	// firmware takes three connections. A hung miner holds its connection on both sides. In turn, because machines are noisy.
	const request = `{"command":"summary+pools+stats"}`
	var floors, loops, kernels, perReply []float64
	for range 2 {
		seconds, _ := floor(t, addresses, interval, 2*interval, request)
		floors = append(floors, seconds/(2*interval).Seconds()*100)
		user, kernel, replies := bare(t, addresses, interval, 2*interval, request)
		loops = append(loops, (user+kernel)/(2*interval).Seconds()*100)
		kernels = append(kernels, kernel/(user+kernel)*100)
		perReply = append(perReply, (user+kernel)/replies*1e6)
	}
	fetching, loop, core := bench.Median(floors), bench.Median(loops), used/took.Seconds()*100
	err := bench.Record(bench.Result{
		ID: "P2", What: fmt.Sprintf("10,000 miners every 10 s, 10 %% dead: share of a core; %.2f %% of %d live miners polled a cycle, start delay p99 ≤ %g s, RSS %.0f MB. "+
			"Fetching one reply of each in Go (floor) and looking at nothing; the bare connect-write-read-close loop of system calls takes %.1f %%, %.0f %% of it in the kernel: the agent takes %.1f × that, %.0f µs a poll",
			served*100, state.Answering, p99, rss, loop, bench.Median(kernels), core/loop, used/done*1e6),
		Floor: fetching, Value: core, Unit: "% of a core", Ratio: core / fetching, Target: "≥ 99.9 % polled, p99 < 1 s, ≤ 15 % of a core, RSS ≤ 160 MB",
		Met: served >= 0.999 && p99 < 1 && core <= 15 && rss <= 160,
		Samples: map[string][]float64{"cpu_percent": {core}, "served_percent": {served * 100}, "start_delay_p99_s": {p99}, "rss_mb": {rss},
			"rss_anonymous_mb": {anonymous}, "fetching_percent": floors, "bare_percent": loops, "bare_kernel_share_percent": kernels, "bare_us_per_reply": perReply},
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
