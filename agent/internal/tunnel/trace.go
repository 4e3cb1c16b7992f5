package tunnel

import (
	"context"
	"crypto/tls"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// Trace keeps the first error below a gRPC connection: gRPC tells of those as text only. Its zero value is ready; it serves one
// connection.
type Trace struct {
	mu  sync.Mutex
	err error
}

// First returns the error; nil when nothing went wrong below gRPC.
func (t *Trace) First() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

func (t *Trace) note(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
	}
}

// Options make a gRPC connection that is dialled with dial, spoken to over TLS, and traced.
func (t *Trace) Options(cfg *tls.Config, dial func(ctx context.Context, address string) (net.Conn, error)) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(tracedCreds{credentials.NewTLS(cfg), t}),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			c, err := dial(ctx, address)
			t.note(err)
			return c, err
		}),
		grpc.WithDisableServiceConfig(),
	}
}

// tracedCreds notes why a handshake failed. In TLS 1.3 a client whose certificate is refused sees its own handshake succeed
// and the refusal at its first read: that is noted too.
type tracedCreds struct {
	credentials.TransportCredentials
	trace *Trace
}

// ClientHandshake implements credentials.TransportCredentials.
func (c tracedCreds) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ClientHandshake(ctx, authority, raw)
	c.trace.note(err)
	if err != nil {
		return nil, nil, err
	}
	return tracedConn{conn, c.trace}, info, nil
}

// Clone implements credentials.TransportCredentials.
func (c tracedCreds) Clone() credentials.TransportCredentials {
	return tracedCreds{c.TransportCredentials.Clone(), c.trace}
}

type tracedConn struct {
	net.Conn
	trace *Trace
}

// Read implements net.Conn.
func (c tracedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.trace.note(err)
	return n, err
}
