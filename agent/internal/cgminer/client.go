package cgminer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashinsight/hashinsight/pkg/telemetry"
)

// Defaults of a Client, and the waits that are not worth a setting.
const (
	DefaultConnectTimeout = 3 * time.Second
	DefaultTimeout        = 10 * time.Second // the whole exchange, connect included
	DefaultMaxReply       = 1 << 20          // bytes

	// A miner that neither closes nor sends a NUL is taken to be done when it has been silent this long
	// after a complete document.
	idleAfterDocument = time.Second
	// So long the miner may take to close after its NUL, so that the waiting (TIME_WAIT) is on its side.
	lingerForClose = 100 * time.Millisecond

	firstRead  = 2 << 10   // buffer of a connection that has not answered yet
	keepBuffer = 256 << 10 // larger buffers are not pooled
)

// Client asks miners. One connection carries one request; a client may be used for many miners at once,
// and the caller keeps to one request at a time for each. The zero Client works. It must not be copied.
type Client struct {
	Dial           func(ctx context.Context, network, address string) (net.Conn, error) // nil means a net.Dialer
	ConnectTimeout time.Duration                                                        // 0 means DefaultConnectTimeout
	Timeout        time.Duration                                                        // of the whole exchange; 0 means DefaultTimeout
	MaxReply       int                                                                  // bytes; 0 means DefaultMaxReply

	replies sync.Pool // *Reply
	firsts  sync.Pool // *[firstRead]byte
}

// Do sends one command ("summary", "summary+pools") and reads its reply. The error is an *Error; a reply
// in which the miner refuses is returned without error, its Part tells. The reply must be released.
func (c *Client) Do(ctx context.Context, address, command string) (*Reply, error) {
	r, err := c.exchange(ctx, address, command)
	if err != nil {
		return nil, err
	}
	if err := r.doc.parse(); err != nil {
		err = c.notADocument(r, err)
		r.Release()
		return nil, err
	}
	if !hasContent(r.doc.Root()) {
		// "{}" or ",\"id\":1}": the end of a reply whose beginning got lost.
		err := c.notADocument(r, fmt.Errorf("neither a status nor a section: %w", ErrCutOff))
		r.Release()
		return nil, err
	}
	return r, nil
}

// Raw sends one command and returns the bytes that came back, whatever they are, without the NUL. Bytes
// and an error are possible together.
func (c *Client) Raw(ctx context.Context, address, command string) ([]byte, error) {
	r, err := c.exchange(ctx, address, command)
	if r == nil {
		return nil, err
	}
	defer r.Release()
	raw := bytes.Clone(bytes.TrimRight(r.doc.buf, "\x00"))
	if err == nil {
		if perr := r.doc.parse(); perr != nil {
			err = c.notADocument(r, perr)
		}
	}
	return raw, err
}

func (c *Client) notADocument(r *Reply, err error) error {
	outcome := telemetry.OutcomeGarbage
	switch b := r.doc.buf; {
	case bytes.HasPrefix(b, []byte("HTTP/")):
		err = errors.New("an HTTP server answers here, no cgminer API (ePIC firmware does that)")
	case r.timedOut:
		outcome = telemetry.OutcomeTimeout
		err = fmt.Errorf("%d bytes and no complete reply before the deadline: %w", r.doc.size, err)
	case bytes.HasPrefix(b, []byte("Socket connect failed")):
		outcome = telemetry.OutcomeRefused
	}
	return &Error{r.command, outcome, err}
}

// exchange does everything up to the parsing. When it fails after bytes came it returns both.
func (c *Client) exchange(ctx context.Context, address, command string) (*Reply, error) {
	deadline := c.deadline(ctx)
	conn, err := c.dial(ctx, address, deadline)
	if err != nil {
		return nil, &Error{command, outcomeOfIO(err), err}
	}
	defer conn.Close()
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
		defer stop()
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, &Error{command, telemetry.OutcomeReset, err}
	}
	if ctx.Err() != nil { // the deadline just set may have covered the one that AfterFunc set
		return nil, &Error{command, telemetry.OutcomeTimeout, context.Cause(ctx)}
	}

	first, _ := c.firsts.Get().(*[firstRead]byte)
	if first == nil {
		first = new([firstRead]byte)
	}
	defer c.firsts.Put(first)
	request := append(append(append(first[:0], `{"command":"`...), command...), `"}`...)
	if _, err := conn.Write(request); err != nil {
		// A miner that denies us may have closed before the request arrived; what it sent, if anything,
		// is still worth reading.
		if o := outcomeOfIO(err); o != telemetry.OutcomeReset {
			return nil, &Error{command, o, err}
		}
	}

	// Most of a poll is waiting: it waits with the small buffer and takes the large one when bytes come.
	n, err := conn.Read(first[:])
	if n == 0 {
		switch {
		case err == nil:
			err = io.ErrNoProgress
		case errors.Is(err, io.EOF):
			return nil, &Error{command, telemetry.OutcomeDenied, err}
		}
		return nil, &Error{command, outcomeOfIO(err), err}
	}
	r := c.reply(command)
	r.doc.buf = append(r.doc.buf[:0], first[:n]...)
	r.received = time.Now()
	if err == nil {
		err = c.readRest(conn, r, deadline)
	}
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return r, nil
	case errors.Is(err, errTooLarge):
		return r, &Error{command, telemetry.OutcomeTooLarge, err}
	case outcomeOfIO(err) == telemetry.OutcomeTimeout:
		r.timedOut = true // a complete document at the deadline is a success: the parser decides
		return r, nil
	}
	return r, &Error{command, outcomeOfIO(err), err}
}

// deadline of a whole exchange that begins now.
func (c *Client) deadline(ctx context.Context) time.Time {
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	deadline := time.Now().Add(timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	return deadline
}

func (c *Client) dial(ctx context.Context, address string, deadline time.Time) (net.Conn, error) {
	timeout := c.ConnectTimeout
	if timeout <= 0 {
		timeout = DefaultConnectTimeout
	}
	timeout = min(timeout, time.Until(deadline))
	if c.Dial == nil {
		return dialTCP(ctx, address, timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return c.Dial(ctx, "tcp", address)
}

func dialTCP(ctx context.Context, address string, timeout time.Duration) (net.Conn, error) {
	// A miner's connection lives for one exchange: keep-alive probes would only cost system calls.
	d := net.Dialer{KeepAlive: -1}
	if _, err := netip.ParseAddrPort(address); err != nil { // a host name
		d.Timeout = timeout
		return d.DialContext(ctx, "tcp", address)
	}
	// The deadline comes in the context, without a timer of its own: the dialer gives it to the socket. DialTCP would bind the socket first, to
	// a port that no other connection may then use, to whatever miner, for a minute after its end.
	return d.DialContext(&until{ctx, time.Now().Add(timeout)}, "tcp", address)
}

// until is a context with an earlier deadline that is only told, not kept: Done is the parent's.
type until struct {
	context.Context
	deadline time.Time
}

// Deadline implements context.Context.
func (u *until) Deadline() (time.Time, bool) {
	if d, ok := u.Context.Deadline(); ok && d.Before(u.deadline) {
		return d, true
	}
	return u.deadline, true
}

var errTooLarge = errors.New("more bytes than one reply may have")

// readRest reads until the first NUL, the end, the deadline, or silence after a complete document.
func (c *Client) readRest(conn net.Conn, r *Reply, deadline time.Time) error {
	limit := c.MaxReply
	if limit <= 0 {
		limit = DefaultMaxReply
	}
	armed := false // the read deadline is the idle one
	for fresh := true; ; {
		buf := r.doc.buf
		if fresh {
			if len(buf) > limit {
				return fmt.Errorf("%w (%d)", errTooLarge, limit)
			}
			if bytes.IndexByte(buf[r.scanned:], 0) >= 0 {
				c.awaitClose(conn, deadline)
				return nil
			}
			r.scanned = len(buf)
			if ends := endsLikeDocument(buf); ends || armed {
				until := deadline
				if idle := time.Now().Add(idleAfterDocument); ends && idle.Before(deadline) {
					until = idle
				}
				armed = ends
				// A connection that the other side has just closed may refuse a deadline (a pipe does); the next
				// read tells what really is.
				_ = conn.SetReadDeadline(until)
			}
		}
		if cap(buf)-len(buf) < 1<<10 {
			buf = append(make([]byte, 0, max(8<<10, 2*cap(buf))), buf...)
		}
		n, err := conn.Read(buf[len(buf):cap(buf)])
		r.doc.buf = buf[:len(buf)+n]
		if fresh = n > 0; fresh {
			r.received = time.Now()
		}
		if err == nil {
			continue
		}
		if n == 0 && armed && outcomeOfIO(err) == telemetry.OutcomeTimeout && time.Now().Before(deadline) {
			complete := r.doc.parse() == nil
			r.doc.buf = r.doc.buf[:r.doc.size]
			if complete {
				return nil
			}
			// It only seemed to end here: the rest may take until the deadline.
			armed = false
			_ = conn.SetReadDeadline(deadline) // as above
			continue
		}
		return err
	}
}

// endsLikeDocument reports whether the last byte that is no space is a closing brace.
func endsLikeDocument(buf []byte) bool {
	for i := len(buf) - 1; i >= 0; i-- {
		switch buf[i] {
		case ' ', '\r', '\n':
		case '}':
			return true
		default:
			return false
		}
	}
	return false
}

// awaitClose lets the miner close first, so that TIME_WAIT does not pile up here. What it still sends is
// discarded.
func (c *Client) awaitClose(conn net.Conn, deadline time.Time) {
	if until := time.Now().Add(lingerForClose); until.Before(deadline) {
		deadline = until
	}
	if conn.SetReadDeadline(deadline) != nil {
		return
	}
	var rest [256]byte
	for range 4 {
		if _, err := conn.Read(rest[:]); err != nil {
			return
		}
	}
}

func (c *Client) reply(command string) *Reply {
	r, _ := c.replies.Get().(*Reply)
	if r == nil {
		r = new(Reply)
	}
	r.command, r.client, r.timedOut, r.scanned = command, c, false, 0
	return r
}
