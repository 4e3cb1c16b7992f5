package sim_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/pkg/sim"
)

// serveTCP runs a fleet on loopback addresses and a free port.
func serveTCP(t testing.TB, c sim.Config, base string) (f *sim.Fleet, stop func()) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("needs all of 127.0.0.0/8, which only Linux has without setup")
	}
	l, err := net.Listen("tcp", base+":0")
	if err != nil {
		t.Fatal(err)
	}
	c.Base, c.Port = netip.MustParseAddr(base), l.Addr().(*net.TCPAddr).Port
	l.Close()
	if f, err = sim.New(c); err != nil {
		t.Fatal(err)
	}
	if err := f.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	return f, run(t, f)
}

var tcp net.Dialer

func TestTCPServesEveryAddress(t *testing.T) {
	f, stop := serveTCP(t, sim.Config{Miners: 300, Instant: true}, "127.32.0.200")
	for _, m := range f.Miners() {
		b, err := ask(t, tcp.DialContext, m.Address, `{"command":"summary"}`)
		if err != nil {
			t.Fatalf("%s: %v", m.Address, err)
		}
		decode(t, bytes.TrimRight(b, "\n"))
	}
	stop() // a client may have read an answer before it is counted
	if n := f.Stats().Answers; n != 300 {
		t.Errorf("%d answers", n)
	}
}

func TestTCPRequestInTwoSegmentsIsInvalidJSON(t *testing.T) {
	f, _ := serveTCP(t, only("cgminer", 1), "127.32.2.1")
	c, err := tcp.DialContext(t.Context(), "tcp", f.Miners()[0].Address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, `{"command":`)
	got, err := drain(c) // the reply comes before the second half is sent
	if err != nil || !bytes.Contains(got, []byte(`"Code":23,"Msg":"Invalid JSON"`)) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestTCPFaultsLookLikeFaultsOfANetwork(t *testing.T) {
	c := only("cgminer", 4)
	c.Port = 0
	f, _ := serveTCP(t, c, "127.32.3.1")
	m := f.Miners()
	fault := func(i int, d time.Duration, k sim.Kind) {
		t.Helper()
		if _, err := f.Schedule(sim.Fault{Select: sim.Selection{Addresses: []string{m[i].Address}}, For: d, Behaviour: sim.Behaviour{Kind: k}}); err != nil {
			t.Fatal(err)
		}
	}
	fault(0, 0, sim.Refuse)
	fault(1, 0, sim.Reset)
	fault(2, 300*time.Millisecond, sim.Hang)
	// The listener closes as soon as its goroutine sees the new plan; connections before that are reset.
	for {
		_, err := ask(t, tcp.DialContext, m[0].Address, `{"command":"summary"}`)
		if refused(err) {
			break
		}
		if err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("refusing miner: %v", err)
		}
	}
	if _, err := ask(t, tcp.DialContext, m[1].Address, `{"command":"summary"}`); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("resetting miner: %v", err)
	}
	if b, err := ask(t, tcp.DialContext, m[2].Address, `{"command":"summary"}`); len(b) != 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("hanging miner: %q, %v", b, err)
	}
	for _, i := range []int{2, 3} {
		if b, err := ask(t, tcp.DialContext, m[i].Address, `{"command":"summary"}`); err != nil || len(b) == 0 {
			t.Errorf("miner %d: %q, %v", i, b, err)
		}
	}
}

func TestTCPAnswerToAClientThatLeftIsNotRecorded(t *testing.T) {
	c := only("cgminer", 1)
	c.Instant = false
	c.Latency = sim.Latency{Min: 200 * time.Millisecond, Max: 200 * time.Millisecond}
	c.KeepLast = 10
	f, stop := serveTCP(t, c, "127.32.4.1")
	conn, err := tcp.DialContext(t.Context(), "tcp", f.Miners()[0].Address)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, `{"command":"summary"}`)
	conn.Close()
	if _, err := ask(t, tcp.DialContext, f.Miners()[0].Address, `{"command":"summary"}`); err != nil { // waits for the one before
		t.Fatal(err)
	}
	stop()
	if got := f.Answers(); len(got) != 1 || got[0].Serial != 2 {
		t.Errorf("recorded %+v, want the second answer only", got)
	}
}

func TestListenSaysWhichAddressIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := only("cgminer", 1)
	at := l.Addr().(*net.TCPAddr).AddrPort()
	c.Base, c.Port = at.Addr(), int(at.Port())
	f, err := sim.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Listen(t.Context()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("Listen: %v", err)
	}
}

func BenchmarkAnswer(b *testing.B) {
	for _, c := range []struct{ machine, request string }{
		{"antminer-s21", `{"command":"summary+stats+pools"}`},
		{"whatsminer-m50", `{"command":"summary+edevs+pools"}`},
		{"avalon-1246", `{"command":"summary+stats+pools"}`},
		{"braiins-s19", `{"command":"summary+temps+fans+pools"}`},
		{"cgminer", `{"command":"summary"}`},
	} {
		b.Run(c.machine, func(b *testing.B) {
			f := start(b, only(c.machine, 1))
			buf := make([]byte, 64<<10)
			b.ReportAllocs()
			for b.Loop() {
				conn, err := f.DialContext(context.Background(), "tcp", first)
				if err != nil {
					b.Fatal(err)
				}
				io.WriteString(conn, c.request)
				for {
					if _, err := conn.Read(buf); err != nil {
						break
					}
				}
				conn.Close()
			}
		})
	}
}

func BenchmarkAnswerTCP(b *testing.B) {
	f, _ := serveTCP(b, only("antminer-s21", 64), "127.32.5.1")
	miners := f.Miners()
	buf := make([]byte, 64<<10)
	n := 0
	for b.Loop() {
		conn, err := tcp.DialContext(context.Background(), "tcp", miners[n%len(miners)].Address)
		n++
		if err != nil {
			b.Fatal(err)
		}
		io.WriteString(conn, `{"command":"summary+stats+pools"}`)
		for {
			if _, err := conn.Read(buf); err != nil {
				break
			}
		}
		conn.Close()
	}
}
