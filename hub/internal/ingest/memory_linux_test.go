package ingest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/wire"
	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"
)

// peersVariable names the file of a peersSetup. A test process with it is the agents of a test that measures the hub's memory.
const peersVariable = "HSI_TEST_PEERS"

// peersSetup is what the agents of a test know. Each of them opens a stream, and sends its batches when told to.
type peersSetup struct {
	Sites   []senderSetup
	Batches [][]*telemetryv1.Batch // without payload, which has Payload random bytes
	Payload int
}

// startPeers starts the agents and waits until all of them stream; send makes them send what they have. They end with the test.
func startPeers(t *testing.T, setup peersSetup) (send io.Writer) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "peers.json")
	b, err := json.Marshal(setup)
	must(err)
	must(os.WriteFile(file, b, 0o600))
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0], "-test.run=^TestIdleStreamsTakeLittleMemory$")
	cmd.Env, cmd.Stderr = append(os.Environ(), peersVariable+"="+file), os.Stderr
	in, err := cmd.StdinPipe()
	must(err)
	out, err := cmd.StdoutPipe()
	must(err)
	must(cmd.Start())
	t.Cleanup(func() {
		_ = in.Close() // its end of input is the end of the agents
		if err := cmd.Wait(); err != nil {
			t.Errorf("agents: %v", err)
		}
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "streaming\n" {
		t.Fatalf("the agents say %q: %v", line, err)
	}
	return in
}

// runPeers is the agents' process.
func runPeers(t *testing.T) {
	var setup peersSetup
	b, err := os.ReadFile(os.Getenv(peersVariable))
	if err == nil {
		err = json.Unmarshal(b, &setup)
	}
	if err != nil {
		t.Fatal(err)
	}
	senders := make([]*sender, len(setup.Sites))
	for i, s := range setup.Sites {
		if senders[i], err = dialSender(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Println("streaming")
	lines := bufio.NewScanner(os.Stdin)
	var sending sync.WaitGroup
	for lines.Scan() {
		for i, s := range senders {
			sending.Go(func() {
				for _, b := range setup.Batches[i] {
					b.Payload = payloadOf(i, setup.Payload)
					if s.send(b) != nil {
						return // the test is over
					}
				}
			})
		}
	}
	for _, s := range senders {
		_ = s.conn.Close() // nothing is left to lose
	}
	sending.Wait()
}

// payloadOf is the payload of an agent's batches, the same in both processes.
func payloadOf(agent, length int) []byte {
	b := make([]byte, length)
	for i := range b {
		b[i] = byte(i>>8) ^ byte(i) ^ byte(agent)
	}
	return b
}

func TestIdleStreamsTakeLittleMemory(t *testing.T) {
	if os.Getenv(peersVariable) != "" {
		runPeers(t)
		return
	}
	const (
		agents = 500
		most   = 100 << 10 // bytes of heap and stacks for each: 66 kB were measured, 86 with the race detector; with gRPC's own sizes of buffers 94 without it
	)
	h, address := newBenchHub(t, newHub(t, nil).pool, 0)
	setup := peersSetup{Batches: make([][]*telemetryv1.Batch, agents)}
	for i := range agents {
		s := h.newSite(t, fmt.Sprintf("site %d", i), 0)
		setup.Sites = append(setup.Sites, setupOf(t, h, s, address))
	}
	before := settled()
	startPeers(t, setup)
	each := (settled() - before) / agents
	if each > most {
		t.Errorf("%d bytes for each of %d idle streams, want at most %d", each, agents, most)
	}
	t.Logf("%d bytes of heap and stacks for each of %d idle streams", each, agents)
}

// settled is the least of several looks: without what handshakes and pools let go of little by little.
func settled() int64 {
	least := residentNow()
	for range 20 {
		least = min(least, residentNow())
	}
	return least
}

// residentNow is the memory in use, stacks too, after a collection.
func residentNow() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// As many agents as there are send the longest messages at once while the database hangs: the hub holds what its bound says and a little for each
// stream, and not a message for each of them.
func TestLongestMessagesOfManyStreamsStayWithinTheBound(t *testing.T) {
	const (
		agents = 24
		bound  = 48 << 20
	)
	pool := newHub(t, nil).pool
	h, address := newBenchHubWith(t, pool, func(c *Config) { c.MaxBytes = bound })
	setup := peersSetup{Payload: wire.MaxPayload}
	for i := range agents {
		s := h.newSite(t, fmt.Sprintf("site %d", i), 0)
		b := s.sign(evidence.KindHour, evidence.CodecNone, payloadOf(i, wire.MaxPayload), wire.Meta{})
		b.Payload = nil
		setup.Sites, setup.Batches = append(setup.Sites, setupOf(t, h, s, address)), append(setup.Batches, []*telemetryv1.Batch{b})
	}
	lock, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	unlock := sync.OnceFunc(func() {
		if err := lock.Rollback(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(unlock)
	if _, err := lock.Exec(t.Context(), `LOCK TABLE batch IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	peers := startPeers(t, setup)
	before := residentNow()
	if _, err := io.WriteString(peers, "send\n"); err != nil {
		t.Fatal(err)
	}
	var most int64
	// Both parts of the bound are full, but for what is less than a message.
	full := func() bool {
		most = max(most, residentNow()-before)
		return h.server.held.Load() > h.server.c.MaxBytes-wire.MaxPayload && h.server.incoming.Load() > 0
	}
	waitFor(t, "the memory to be full", full)
	for range 100 { // a little longer: everything that can come has come
		full()
		runtime.Gosched()
	}
	limit := int64(bound + agents*2*freeMessage + max(2, runtime.GOMAXPROCS(0))*maxMessage + 8<<20)
	if most > limit {
		t.Errorf("the hub has come to hold %d MiB more, want at most %d: %d of the bound, the rest for windows, messages being decoded and the database's copy", most>>20, limit>>20, bound>>20)
	}
	t.Logf("%d streams with messages of 8 MiB: at most %d MiB held, the bound is %d", agents, most>>20, bound>>20)
	unlock()
	waitFor(t, "all of them to be stored", func() bool { return h.count(t, `SELECT count(*) FROM batch`) == agents })
	waitFor(t, "the memory to be given back", func() bool { return h.server.held.Load() == 0 && h.server.incoming.Load() == 0 })
}
