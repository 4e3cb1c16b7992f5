package ingest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/hashinsight/hashinsight/pkg/backoff"
	"github.com/hashinsight/hashinsight/pkg/wire"
	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"
)

// stormBack is how soon a thousand agents must stream again: 16 s were measured with the race detector on two cores that three others used, and the
// rest is for machines that are busier still.
const stormBack = 2 * time.Minute

// asAgent keeps trying to have a batch stored, as agents do, and holds the stream until ctx ends.
func (h *hub) asAgent(ctx context.Context, s *site, b *telemetryv1.Batch, streaming func(attempts int)) {
	var wait backoff.Backoff
	for attempts := 1; ; attempts++ {
		err := h.attempt(ctx, s, b, func() { streaming(attempts) })
		if ctx.Err() != nil {
			return
		}
		d := wait.Next()
		for _, detail := range status.Convert(err).Details() {
			if info, ok := detail.(*errdetails.RetryInfo); ok {
				d = max(d, info.GetRetryDelay().AsDuration()+d)
			}
		}
		if backoff.Sleep(ctx, d) != nil {
			return
		}
	}
}

func (h *hub) attempt(ctx context.Context, s *site, b *telemetryv1.Batch, streaming func()) error {
	conn, err := grpc.NewClient("passthrough:///hub", grpc.WithTransportCredentials(credentials.NewTLS(h.ca.clientTLS(s.cert))),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return h.lis.DialContext(ctx) }))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing is left to lose
	stream, err := telemetryv1.NewTelemetryServiceClient(conn).Stream(ctx)
	if err != nil {
		return err
	}
	_ = stream.Send(&telemetryv1.StreamRequest{Message: &telemetryv1.StreamRequest_Hello{Hello: &telemetryv1.Hello{ // Recv tells why
		Protocol: 1, SpoolId: s.spool[:], AgentTimeMs: time.Now().UnixMilli(), PollIntervalMs: 10_000, OldestPendingSeq: 1, NewestSeq: 1,
	}}})
	if _, err := stream.Recv(); err != nil {
		return err
	}
	_ = stream.Send(&telemetryv1.StreamRequest{Message: &telemetryv1.StreamRequest_Batches{Batches: &telemetryv1.BatchGroup{Batches: []*telemetryv1.Batch{b}}}}) // as above
	for {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		if r.GetAck() != nil {
			streaming()
		}
	}
}

func TestThousandAgentsComeBackAtOnce(t *testing.T) {
	const agents = 1000
	h := newHub(t, func(c *Config) { c.Openings, c.MaxWaiting, c.Handshakes = 8, 300, 16 })
	sites, batches := make([]*site, agents), make([]*telemetryv1.Batch, agents)
	enc, err := wire.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	for i := range sites {
		sites[i] = h.newSiteWith(t, fmt.Sprintf("site %d", i), 0, enc)
		batches[i] = sites[i].light(0)
	}
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	goroutines := runtime.NumGoroutine()

	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	var most int
	began := time.Now()
	streaming := make(chan int, agents)
	for i, s := range sites {
		running.Go(func() {
			var once sync.Once
			h.asAgent(ctx, s, batches[i], func(attempts int) { once.Do(func() { streaming <- attempts }) })
		})
	}
	late := time.NewTimer(stormBack)
	defer late.Stop()
	for n := range agents {
		select {
		case attempts := <-streaming:
			most = max(most, attempts)
		case <-late.C:
			t.Fatalf("after %s only %d of %d agents stream", stormBack, n, agents)
		}
	}
	h.want(t, "connected agents", `SELECT count(*) FROM agent WHERE connected`, agents)
	h.want(t, "batches", `SELECT count(*) FROM batch`, agents)
	refused := h.metric(t, "hashinsight_ingest_bounds_total", "openings")
	runtime.GC()
	var during runtime.MemStats
	runtime.ReadMemStats(&during)
	t.Logf("all stream after %s, at most %d attempts each, %g refused for a moment, %d goroutines, heap %d kB an agent, both ends and the memory that is their link", time.Since(began).Round(time.Millisecond),
		most, refused, runtime.NumGoroutine(), (int64(during.HeapAlloc)-int64(before.HeapAlloc))/agents>>10)
	cancel()
	running.Wait()
	waitFor(t, "goroutines to end", func() bool { return runtime.NumGoroutine() <= goroutines+10 })
	waitFor(t, "the heap to be given back", func() bool {
		var after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&after)
		return int64(after.HeapAlloc)-int64(before.HeapAlloc) <= 16<<20
	})
	waitFor(t, "every place to be given back", func() bool {
		d := h.server.door
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.conns == 0 && d.shaking == 0 && len(d.addrs) == 0 && h.server.openings.Load() == 0 && h.server.held.Load() == 0
	})
}

func connections(d *door) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.conns
}

func TestTooManyOpeningsAreSentAwayWithATime(t *testing.T) {
	h := newHub(t, func(c *Config) { c.Openings, c.MaxWaiting = 1, 1 })
	h.server.openings.Add(2) // two are being opened or wait
	_, err := h.dial(t, h.newSite(t, "north", 1))
	var asked time.Duration
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			asked = info.GetRetryDelay().AsDuration()
		}
	}
	if status.Code(err) != codes.ResourceExhausted || asked != busyRetry {
		t.Errorf("refusal %v with the wait %s, want ResourceExhausted with %s", err, asked, busyRetry)
	}
	h.server.openings.Add(-2)
}

func TestPeersThatStallAreCutAndHoldNobodyUp(t *testing.T) {
	raw := func(t *testing.T, h *hub, then func(net.Conn) error) {
		t.Helper()
		c, err := h.lis.DialContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() }) // closed by the hub already
		if err := then(c); err != nil {
			t.Fatal(err)
		}
	}
	tests := map[string]func(t *testing.T, h *hub, s *site){
		"silent before the handshake": func(t *testing.T, h *hub, _ *site) {
			raw(t, h, func(net.Conn) error { return nil })
		},
		"half a handshake": func(t *testing.T, h *hub, _ *site) {
			raw(t, h, func(c net.Conn) error { _, err := c.Write([]byte{22, 3, 1, 1, 0, 1, 0}); return err })
		},
		"silent after the handshake": func(t *testing.T, h *hub, s *site) {
			raw(t, h, func(c net.Conn) error {
				cfg := h.ca.clientTLS(s.cert)
				cfg.NextProtos = []string{"h2"}
				return tls.Client(c, cfg).HandshakeContext(t.Context())
			})
		},
		"a connection without a stream": func(t *testing.T, h *hub, s *site) {
			raw(t, h, func(c net.Conn) error {
				cfg := h.ca.clientTLS(s.cert)
				cfg.NextProtos = []string{"h2"}
				tc := tls.Client(c, cfg)
				_, err := tc.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"))
				return err
			})
		},
		"a stream without a Hello": func(t *testing.T, h *hub, s *site) {
			conn := h.client(t, s)
			if _, err := telemetryv1.NewTelemetryServiceClient(conn).Stream(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, stall := range tests {
		t.Run(name, func(t *testing.T) {
			virtualHub(t, func(t *testing.T, h *hub) {
				bad, good := h.newSite(t, "bad", 1), h.newSite(t, "good", 1)
				for range h.server.door.maxShakeAddr { // all that one address may take
					stall(t, h, bad)
				}
				begin := time.Now()
				l := h.connect(t, good)
				if took := time.Since(begin); took > connectTimeout {
					t.Errorf("an agent that comes meanwhile waits %s", took)
				}
				time.Sleep(3 * time.Minute)
				synctest.Wait()
				if n := connections(h.server.door); n != 1 {
					t.Errorf("%d connections are left, want the agent's one", n)
				}
				b := good.batch(t, time.Now())
				l.send(b)
				l.wantAcks(stored, b)
				l.close()
			})
		})
	}
}

func TestAgentThatReadsNoAnswersIsCut(t *testing.T) {
	virtualHub(t, func(t *testing.T, h *hub) {
		s := h.newSite(t, "north", 1)
		l := h.connect(t, s)
		var sender sync.WaitGroup
		sender.Go(func() {
			for {
				b := s.light(0)
				if l.stream.Send(&telemetryv1.StreamRequest{Message: &telemetryv1.StreamRequest_Batches{Batches: &telemetryv1.BatchGroup{Batches: []*telemetryv1.Batch{b}}}}) != nil {
					return
				}
			}
		})
		sender.Wait() // ends only when the hub ends the stream
		var err error
		for err == nil {
			_, err = l.stream.Recv()
		}
		if status.Code(err) != codes.Unavailable {
			t.Errorf("the stream ended with %v, want Unavailable", err)
		}
		l.close()
		time.Sleep(time.Minute)
		synctest.Wait()
		if h.server.held.Load() != 0 || connections(h.server.door) != 0 || len(h.server.sessions) != 0 {
			t.Errorf("left over: %d bytes, %d connections, %d sessions", h.server.held.Load(), connections(h.server.door), len(h.server.sessions))
		}
	})
}

func TestOneAddressDoesNotTakeTheDoorFromOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counts := map[string]int{}
		d := newDoor(Config{MaxConns: 10, MaxConnsPerAddress: 6, Handshakes: 8}, func(bound string) { counts[bound]++ })
		for n := range 8 {
			if ok := d.enter("a"); ok != (n < 6) {
				t.Errorf("connection %d of one address: let in %t", n, ok)
			}
		}
		if !d.enter("b") {
			t.Error("another address is not let in")
		}
		for range 2 {
			if _, err := d.await("a", time.Second); err != nil {
				t.Fatal(err)
			}
		}
		// a has its share of handshakes: its next one waits, b's does not.
		if _, err := d.await("a", time.Second); !errors.Is(err, errNoTurn) {
			t.Errorf("a third handshake of one address: %v", err)
		}
		done, err := d.await("b", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		done()
		if counts["connections_of_an_address"] != 2 || counts["handshakes"] != 1 || len(d.waiting) != 0 {
			t.Errorf("counted %v, %d wait", counts, len(d.waiting))
		}
	})
}

func TestALineWithManyAddressesIsOneCaller(t *testing.T) {
	of := func(s string) string { return addressOf(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s))) }
	for name, pair := range map[string][2]string{
		"ports of an address": {"192.0.2.1:1", "192.0.2.1:2"}, "a /64": {"[2001:db8::1]:1", "[2001:db8::ffff:0:0:2]:2"}, "IPv4 in IPv6": {"192.0.2.1:1", "[::ffff:192.0.2.1]:1"},
		"zones": {"[fe80::1%a]:1", "[fe80::1%b]:1"},
	} {
		if a, b := of(pair[0]), of(pair[1]); a != b {
			t.Errorf("%s: %s and %s", name, a, b)
		}
	}
	if a, b := of("[2001:db8::1]:1"), of("[2001:db8:0:1::1]:1"); a == b {
		t.Error("two lines are one caller")
	}
	if a, b := of("192.0.2.1:1"), of("192.0.2.2:1"); a == b {
		t.Error("two IPv4 addresses are one caller")
	}
}
