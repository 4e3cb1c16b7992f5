package ingest

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/hashinsight/hashinsight/pkg/identity"
)

// Callers that enrol say so in the handshake, by the TLS application protocol, and are handed to a gRPC server of their own: it reads a few
// kilobytes of a call and no more, while a telemetry message may have tens of megabytes, which gRPC reads before anybody can ask who calls.
const (
	maxEnrolMessage = 64 << 10
	enrolIdle       = 20 * time.Second
	enrolAge        = 2 * time.Minute // of a connection: an exchange takes a second
)

// newEnrolServer returns the gRPC server of callers that enrol.
func newEnrolServer(register func(grpc.ServiceRegistrar)) *grpc.Server {
	g := grpc.NewServer(
		grpc.Creds(handedCreds{}),
		grpc.MaxRecvMsgSize(maxEnrolMessage),
		grpc.MaxConcurrentStreams(2),
		grpc.MaxHeaderListSize(8<<10),
		grpc.ConnectionTimeout(connectTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: 20 * time.Second, Timeout: 10 * time.Second, MaxConnectionIdle: enrolIdle, MaxConnectionAge: enrolAge, MaxConnectionAgeGrace: enrolIdle,
		}),
	)
	register(g)
	return g
}

// handedConn is a connection whose handshake is done.
type handedConn struct {
	net.Conn
	info peerInfo
}

// handedListener gives out connections that another server has taken.
type handedListener struct {
	conns chan handedConn
	done  chan struct{}
	once  sync.Once
	addr  net.Addr
}

func newHandedListener(addr net.Addr) *handedListener {
	return &handedListener{conns: make(chan handedConn), done: make(chan struct{}), addr: addr}
}

// hand gives a connection over; false when nobody takes them any more.
func (l *handedListener) hand(c handedConn) bool {
	select {
	case l.conns <- c:
		return true
	case <-l.done:
		return false
	}
}

// Accept implements net.Listener.
func (l *handedListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *handedListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr implements net.Listener.
func (l *handedListener) Addr() net.Addr { return l.addr }

// handedCreds takes the handshake as done.
type handedCreds struct{}

// ServerHandshake implements credentials.TransportCredentials.
func (handedCreds) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, ok := raw.(handedConn)
	if !ok {
		return nil, nil, errors.New("a connection without a handshake")
	}
	return c.Conn, c.info, nil
}

// ClientHandshake implements credentials.TransportCredentials.
func (handedCreds) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("only servers have these")
}

// Info implements credentials.TransportCredentials.
func (handedCreds) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (c handedCreds) Clone() credentials.TransportCredentials { return c }

// OverrideServerName implements credentials.TransportCredentials.
func (handedCreds) OverrideServerName(string) error { return nil }

// enrols reports whether a peer asked for the enrolment service.
func (p peerInfo) enrols() bool { return p.State.NegotiatedProtocol == identity.EnrolALPN }
