package ingest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/wire"
	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"
)

// peerBytes are a connection's bytes as a peer makes them.
type peerBytes struct{ b []byte }

func newPeerBytes() *peerBytes { return &peerBytes{[]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")} }

func (p *peerBytes) frame(kind, flags byte, stream uint32, payload []byte) {
	n := len(payload)
	p.b = append(p.b, byte(n>>16), byte(n>>8), byte(n), kind, flags)
	p.b = append(binary.BigEndian.AppendUint32(p.b, stream), payload...)
}

func messageOf(n int) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(n)), make([]byte, n)...)
}

func TestIntakeKnowsLengthsHoweverTheBytesCome(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 5))
	for round := range 200 {
		p := newPeerBytes()
		p.frame(4, 0, 0, make([]byte, 18)) // settings
		p.frame(frameHeaders, 4, 1, make([]byte, 40))
		var want []uint32
		var content []byte
		for range 1 + r.IntN(20) {
			n := r.IntN(300)
			if r.IntN(5) == 0 {
				n = r.IntN(40_000)
			}
			want, content = append(want, uint32(n)), append(content, messageOf(n)...)
		}
		for len(content) > 0 {
			n := min(len(content), 1+r.IntN(16_000))
			switch part := content[:n]; r.IntN(4) {
			case 0:
				p.frame(6, 0, 0, make([]byte, 8)) // a ping in between
				p.frame(frameData, 0, 1, part)
			case 1:
				padding := r.IntN(200)
				p.frame(frameData, flagPadded, 1, append(append([]byte{byte(padding)}, part...), make([]byte, padding)...))
			default:
				p.frame(frameData, 0, 1, part)
			}
			content = content[n:]
		}
		if r.IntN(2) == 0 {
			p.frame(frameData, flagEndStream, 1, nil)
		} else {
			p.frame(frameHeaders, flagEndStream|4, 1, make([]byte, 9))
		}
		in := newIntake()
		for b := p.b; len(b) > 0; {
			n := min(len(b), 1+r.IntN(1+round*100))
			if err := in.read(b[:n]); err != nil {
				t.Fatal(err)
			}
			b = b[n:]
		}
		for i, n := range want {
			if got, err := in.next(t.Context()); err != nil || got != int64(n) {
				t.Fatalf("round %d: message %d has %d bytes, want %d: %v", round, i, got, n, err)
			}
		}
		if got, err := in.next(t.Context()); err != nil || got != 0 || !in.ended || in.second {
			t.Fatalf("round %d: after the last message %d, %v", round, got, err)
		}
	}
}

func TestIntakeIsForOneStreamAndBounded(t *testing.T) {
	p := newPeerBytes()
	p.frame(frameHeaders, 4, 1, make([]byte, 40))
	p.frame(frameData, 0, 1, messageOf(10))
	in := newIntake()
	if err := errors.Join(in.read(p.b), in.take()); err != nil {
		t.Fatal(err)
	}
	if err := in.take(); status.Code(err) != codes.Unavailable {
		t.Errorf("a second session takes the intake: %v", err)
	}
	p.b = nil
	p.frame(frameHeaders, 4, 3, make([]byte, 40))
	if err := in.read(p.b); err != nil {
		t.Fatal(err)
	}
	if _, err := in.next(t.Context()); status.Code(err) != codes.Unavailable {
		t.Errorf("a session goes on beside a second stream: %v", err)
	}
	// Whoever heeds no window is cut.
	in = newIntake()
	p = newPeerBytes()
	for range maxAnnounced + 1 {
		p.frame(frameData, 0, 1, messageOf(0))
	}
	if err := in.read(p.b); !errors.Is(err, errTooManyMessages) {
		t.Errorf("%d unread messages: %v", maxAnnounced+1, err)
	}
}

// stallingConn passes on a number of bytes and then nothing any more.
type stallingConn struct {
	net.Conn
	left atomic.Int64
}

func (c *stallingConn) Write(b []byte) (int, error) {
	if c.left.Add(-int64(len(b))) < 0 {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// stall opens a stream and sends a batch with a payload of so many bytes, of which only the first 300 kB or so arrive.
func (h *hub) stall(t *testing.T, s *site, length int) (stream grpc.BidiStreamingClient[telemetryv1.StreamRequest, telemetryv1.StreamResponse], hangUp func()) {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///hub", grpc.WithTransportCredentials(credentials.NewTLS(h.ca.clientTLS(s.cert))),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			c, err := h.lis.DialContext(ctx)
			stalling := &stallingConn{Conn: c}
			stalling.left.Store(300 << 10)
			return stalling, err
		}))
	if err != nil {
		t.Fatal(err)
	}
	if stream, err = telemetryv1.NewTelemetryServiceClient(conn).Stream(t.Context()); err != nil {
		t.Fatal(err)
	}
	hello := &telemetryv1.Hello{Protocol: 1, SpoolId: s.spool[:], AgentTimeMs: time.Now().UnixMilli(), PollIntervalMs: 10_000}
	if err := stream.Send(&telemetryv1.StreamRequest{Message: &telemetryv1.StreamRequest_Hello{Hello: hello}}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	group := &telemetryv1.BatchGroup{Batches: []*telemetryv1.Batch{s.sign(evidence.KindHour, evidence.CodecNone, make([]byte, length), wire.Meta{})}}
	if err := stream.Send(&telemetryv1.StreamRequest{Message: &telemetryv1.StreamRequest_Batches{Batches: group}}); err != nil {
		t.Fatal(err)
	}
	return stream, func() { _ = conn.Close() } // nothing is left to lose
}

// A peer that begins a large message and does not go on is cut, and the memory set aside for it is given back.
func TestMessageThatStallsGivesItsMemoryBack(t *testing.T) {
	virtualHub(t, func(t *testing.T, h *hub) {
		begin := time.Now()
		stream, hangUp := h.stall(t, h.newSite(t, "north", 1), 1<<20)
		defer hangUp()
		time.Sleep(time.Second)
		if n := h.server.incoming.Load(); n < 1<<20 {
			t.Errorf("%d bytes are set aside for a message of 1 MiB", n)
		}
		_, err := stream.Recv()
		// By then the hub's pings go unanswered too.
		if took := time.Since(begin); err == nil || took > messageTime+time.Minute {
			t.Errorf("the stream ended after %s with %v", took, err)
		}
		time.Sleep(time.Second)
		if n := h.server.incoming.Load(); n != 0 {
			t.Errorf("%d bytes are still set aside", n)
		}
	})
}

// As many sites as would fill the memory for messages on their way in begin the longest ones and do not go on. Another site's message, longer than
// what needs no memory and no longer than agents make them, does not wait for theirs.
func TestLongMessagesThatStallHoldNoOthersUp(t *testing.T) {
	virtualHub(t, func(t *testing.T, h *hub) {
		for n := range h.server.receiveBytes/wire.MaxPayload + 1 {
			_, hangUp := h.stall(t, h.newSite(t, fmt.Sprintf("stalling %d", n), 1), wire.MaxPayload)
			defer hangUp()
		}
		time.Sleep(time.Second)
		if h.server.incoming.Load() < wire.MaxPayload {
			t.Fatal("no memory is set aside for the messages that stall")
		}
		s := h.newSite(t, "north", 1)
		l := h.connect(t, s)
		begin := time.Now()
		b := s.sign(evidence.KindHour, evidence.CodecNone, make([]byte, 1<<20), wire.Meta{})
		l.send(b)
		l.wantAcks(quarantined, b)
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("a message of 1 MiB waited %s", took)
		}
		l.close()
	})
}

func TestGreetingIsSmall(t *testing.T) {
	h := newHub(t, nil)
	s := h.newSite(t, "north", 1)
	_, err := h.dialWith(t, s, &telemetryv1.StreamRequest{Message: &telemetryv1.StreamRequest_Hello{Hello: &telemetryv1.Hello{
		Protocol: 1, SpoolId: s.spool[:], AgentVersion: string(make([]byte, 1<<20)), PollIntervalMs: 10_000,
	}}})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("a greeting of 1 MiB: %v, want InvalidArgument", err)
	}
}
