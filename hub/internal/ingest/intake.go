package ingest

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/hashinsight/hashinsight/pkg/wire"
	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"
)

// What may be held of messages that are on their way in. gRPC lets a peer send a whole message as soon as it is asked for the next one, and the
// length is not known before. So the length is read below gRPC, and a stream asks for a message only when there is memory for it.
//
// Outside of that memory a stream holds at most two times freeMessage (what came before it was asked for, and a small message being handled) and
// a connection its buffers; and as many messages as there are processors are held twice while they are decoded.
const (
	freeMessage  = 64 << 10                // up to this length a message needs no memory of its own: it is HTTP/2's window, which comes unasked
	maxMessage   = wire.MaxPayload + 1<<20 // agents send a batch of any allowed size, or a group of up to 1 MiB
	maxHello     = freeMessage
	longMessage  = 1<<20 + 128<<10  // longer than a group with its headers: one large batch, as few true agents make them
	messageTime  = 30 * time.Second // in which a message must arrive that memory was set aside for, and
	messageSpeed = 32 << 10         // bytes a second, longer by its length
)

// intake follows the frames of one connection and knows the lengths of the messages of its stream. A connection carries one stream in its life,
// as agents have always had it, so that whose messages these are is not in doubt.
type intake struct {
	// Of the goroutine that reads the connection.
	skip     int // bytes that say nothing
	frame    [9]byte
	framed   int  // bytes of frame that are there
	padded   bool // the next byte is the length of the padding
	data     int  // bytes of messages left in the frame
	padding  int
	last     bool // the frame ends the stream
	prefix   [5]byte
	prefixed int
	message  int64 // bytes left of a message

	mu      sync.Mutex
	stream  uint32 // 0 before the first
	taken   bool   // a session has the intake
	second  bool   // another stream was begun
	ended   bool   // the peer sends no more
	lengths []uint32
	news    chan struct{} // has room for one
}

const (
	prefaceLength = 24
	frameData     = 0
	frameHeaders  = 1
	flagEndStream = 1
	flagPadded    = 8
	maxAnnounced  = 1 << 15 // messages that wait; more do not fit into the window
)

func newIntake() *intake { return &intake{skip: prefaceLength, news: make(chan struct{}, 1)} }

var errTooManyMessages = errors.New("the peer sends more than it may")

// read takes note of bytes as gRPC gets them.
func (in *intake) read(b []byte) error {
	for len(b) > 0 {
		switch {
		case in.skip > 0:
			n := min(in.skip, len(b))
			in.skip, b = in.skip-n, b[n:]
		case in.padded:
			in.padded = false
			in.padding = min(int(b[0]), in.data) // more is an error, which gRPC finds
			in.data, b = in.data-in.padding, b[1:]
			in.endOfData()
		case in.data > 0:
			n := min(in.data, len(b))
			if err := in.content(b[:n]); err != nil {
				return err
			}
			in.data, b = in.data-n, b[n:]
			in.endOfData()
		default:
			n := copy(in.frame[in.framed:], b)
			in.framed, b = in.framed+n, b[n:]
			if in.framed == len(in.frame) {
				in.framed = 0
				in.begin()
			}
		}
	}
	return nil
}

// begin reads the head of a frame.
func (in *intake) begin() {
	length := int(in.frame[0])<<16 | int(in.frame[1])<<8 | int(in.frame[2])
	kind, flags := in.frame[3], in.frame[4]
	stream := binary.BigEndian.Uint32(in.frame[5:]) & (1<<31 - 1)
	if kind != frameData && kind != frameHeaders {
		in.skip = length
		return
	}
	in.mu.Lock()
	if in.stream == 0 {
		in.stream = stream
	}
	other := stream != in.stream
	if other {
		in.second = true
		in.tell()
	}
	in.mu.Unlock()
	if other {
		in.skip = length
		return
	}
	in.last = flags&flagEndStream != 0
	if kind == frameHeaders {
		in.skip = length
		in.endOfData()
		return
	}
	in.data = length
	if in.padded = flags&flagPadded != 0 && length > 0; in.padded {
		in.data--
		return
	}
	in.endOfData()
}

// endOfData goes on behind the messages of a frame when there is nothing left of them.
func (in *intake) endOfData() {
	if in.data > 0 || in.padded {
		return
	}
	in.skip += in.padding
	in.padding = 0
	if in.last {
		in.mu.Lock()
		in.ended = true
		in.tell()
		in.mu.Unlock()
	}
}

// content reads a part of the stream's messages, each of them behind a byte and its length.
func (in *intake) content(b []byte) error {
	for len(b) > 0 {
		if in.message > 0 {
			n := min(in.message, int64(len(b)))
			in.message, b = in.message-n, b[n:]
			continue
		}
		n := copy(in.prefix[in.prefixed:], b)
		in.prefixed, b = in.prefixed+n, b[n:]
		if in.prefixed < len(in.prefix) {
			return nil
		}
		in.prefixed = 0
		length := binary.BigEndian.Uint32(in.prefix[1:])
		in.message = int64(length)
		in.mu.Lock()
		in.lengths = append(in.lengths, length)
		n = len(in.lengths)
		in.tell()
		in.mu.Unlock()
		if n > maxAnnounced {
			return errTooManyMessages
		}
	}
	return nil
}

// tell wakes the session. The caller holds mu.
func (in *intake) tell() {
	select {
	case in.news <- struct{}{}:
	default:
	}
}

var errSecondStream = status.Error(codes.Unavailable, "a connection carries one stream in its life: connect again")

// take gives the intake to the session of the connection's stream.
func (in *intake) take() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.taken || in.second {
		return errSecondStream
	}
	in.taken = true
	return nil
}

// next waits for the beginning of the next message and returns its length; 0 also at the end of the stream.
func (in *intake) next(ctx context.Context) (length int64, err error) {
	for {
		in.mu.Lock()
		switch {
		case in.second:
			in.mu.Unlock()
			return 0, errSecondStream
		case len(in.lengths) > 0:
			length = int64(in.lengths[0])
			in.lengths = in.lengths[1:]
			in.mu.Unlock()
			return length, nil
		case in.ended:
			in.mu.Unlock()
			return 0, nil
		}
		in.lengths = nil // lets the array go
		in.mu.Unlock()
		select {
		case <-in.news:
		case <-ctx.Done():
			return 0, status.FromContextError(ctx.Err()).Err()
		}
	}
}

// watchedConn lets an intake see what is read.
type watchedConn struct {
	net.Conn
	intake *intake
}

// Read implements net.Conn.
func (c watchedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if e := c.intake.read(b[:n]); e != nil {
		return 0, e
	}
	return n, err
}

// recv returns the next message; done gives its memory back. Its parts may be kept longer where memory for batches is taken for them.
func (ss *session) recv(ctx context.Context) (msg *telemetryv1.StreamRequest, done func(), err error) {
	n, err := ss.intake.next(ctx)
	if err != nil {
		return nil, nil, err
	}
	done = func() {}
	if n > freeMessage && n <= maxMessage { // gRPC refuses longer ones before it takes them
		s := ss.server
		if done, err = s.receive(ctx, n); err != nil {
			return nil, nil, status.FromContextError(err).Err()
		}
		patience := messageTime + time.Duration(n)*time.Second/messageSpeed
		late := time.AfterFunc(patience, func() {
			s.metrics.bounds.WithLabelValues("slow_message").Inc()
			ss.end(status.Errorf(codes.DeadlineExceeded, "a message of %d bytes did not arrive within %s: connect again", n, patience))
		})
		defer late.Stop()
	}
	if msg, err = ss.stream.Recv(); err != nil {
		done()
		return nil, nil, err
	}
	return msg, done, nil
}

// receive waits for the memory of a message of n bytes on its way in; done gives it back. Long ones together get half of it, and wait for that
// elsewhere: a handful of sites that begin such messages and send the rest drop by drop would else hold everybody up for minutes.
func (s *Server) receive(ctx context.Context, n int64) (done func(), err error) {
	var long int64
	if n > longMessage {
		long = min(n, max(1, s.receiveBytes/2))
		if err := s.acquire(ctx, s.receivingLong, long, "long_messages"); err != nil {
			return nil, err
		}
	}
	memory := min(n, s.receiveBytes)
	if err := s.acquire(ctx, s.receiving, memory, "messages"); err != nil {
		s.receivingLong.Release(long)
		return nil, err
	}
	s.incoming.Add(memory)
	return func() {
		s.incoming.Add(-memory)
		s.receiving.Release(memory)
		s.receivingLong.Release(long)
	}, nil
}

// turnCodec decodes as many messages at a time as there are turns: a message is held twice meanwhile.
type turnCodec struct {
	encoding.CodecV2
	turns chan struct{}
}

// Unmarshal implements encoding.CodecV2.
func (c turnCodec) Unmarshal(data mem.BufferSlice, v any) error {
	c.turns <- struct{}{}
	defer func() { <-c.turns }()
	return c.CodecV2.Unmarshal(data, v)
}
