package hubd

import (
	"net"
	"os"
	"syscall"
	"testing"
)

// tired is a listener that finds no file descriptor a few times.
type tired struct {
	net.Listener
	times int
}

func (l *tired) Accept() (net.Conn, error) {
	if l.times > 0 {
		l.times--
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return l.Listener.Accept()
}

func TestAFallBackOutlivesAWantOfFiles(t *testing.T) {
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	g, also := newGate(listen()), &tired{listen(), 2}
	g.attach(also)
	t.Cleanup(func() { _ = g.Close() })
	c, err := net.Dial("tcp", also.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	in, err := g.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if in.RemoteAddr().String() != c.LocalAddr().String() {
		t.Errorf("got a connection from %s, not from %s", in.RemoteAddr(), c.LocalAddr())
	}
}
