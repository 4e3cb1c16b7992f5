package cgminer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashinsight/hashinsight/pkg/telemetry"
)

const okReply = `{"STATUS":[{"STATUS":"S","When":1,"Code":11,"Msg":"Summary","Description":"x"}],"SUMMARY":[{"Elapsed":7}],"id":1}`

// pipe returns a client whose connections are served by serve, in memory.
func pipe(serve func(conn net.Conn)) *Client {
	return &Client{Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go serve(theirs)
		return ours, nil
	}}
}

func readRequest(conn net.Conn) string {
	var b [4095]byte
	n, _ := conn.Read(b[:])
	return string(b[:n])
}

// TestWaysToAnswer runs in virtual time, so that deadlines cost nothing.
func TestWaysToAnswer(t *testing.T) {
	tests := []struct {
		name  string
		serve func(conn net.Conn)
		want  telemetry.Outcome // OK: a reply
		took  time.Duration     // of the virtual clock
	}{
		{"NUL and close", func(c net.Conn) { readRequest(c); io.WriteString(c, okReply+"\x00"); c.Close() }, telemetry.OutcomeOK, 0},
		{"close without NUL", func(c net.Conn) { readRequest(c); io.WriteString(c, okReply); c.Close() }, telemetry.OutcomeOK, 0},
		{"NUL, and kept open", func(c net.Conn) { readRequest(c); io.WriteString(c, okReply+"\x00") }, telemetry.OutcomeOK, lingerForClose},
		{"neither NUL nor close", func(c net.Conn) { readRequest(c); io.WriteString(c, okReply) }, telemetry.OutcomeOK, idleAfterDocument},
		{"slowly, with a pause where it seems to end", func(c net.Conn) {
			readRequest(c)
			io.WriteString(c, `{"STATUS":[{"STATUS":"S"}`)
			time.Sleep(3 * time.Second)
			io.WriteString(c, `],"id":1}`)
			c.Close()
		}, telemetry.OutcomeOK, 3 * time.Second},
		{"complete only at the deadline", func(c net.Conn) {
			readRequest(c)
			for i := 0; i < len(okReply); i += 10 {
				io.WriteString(c, okReply[i:min(i+10, len(okReply))])
				time.Sleep(900 * time.Millisecond)
			}
		}, telemetry.OutcomeOK, 10 * time.Second},
		{"hangs after accepting", func(c net.Conn) { readRequest(c) }, telemetry.OutcomeTimeout, 10 * time.Second},
		{"hangs in the middle", func(c net.Conn) { readRequest(c); io.WriteString(c, okReply[:40]) }, telemetry.OutcomeTimeout, 10 * time.Second},
		{"closes without an answer", func(c net.Conn) { readRequest(c); c.Close() }, telemetry.OutcomeDenied, 0},
		{"closes in the middle", func(c net.Conn) { readRequest(c); io.WriteString(c, okReply[:40]); c.Close() }, telemetry.OutcomeGarbage, 0},
		{"never stops", func(c net.Conn) {
			readRequest(c)
			for {
				if _, err := io.WriteString(c, strings.Repeat(`{"a":[`, 1000)); err != nil {
					return
				}
			}
		}, telemetry.OutcomeTooLarge, 0},
		{"plain words", func(c net.Conn) { readRequest(c); io.WriteString(c, "hello"); c.Close() }, telemetry.OutcomeGarbage, 0},
		{"HTTP", func(c net.Conn) { readRequest(c); io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }, telemetry.OutcomeGarbage, 10 * time.Second},
		{"words of a broken connection", func(c net.Conn) {
			readRequest(c)
			io.WriteString(c, "Socket connect failed: Connection refused")
			c.Close()
		}, telemetry.OutcomeRefused, 0},
		{"JSON that is no reply", func(c net.Conn) { readRequest(c); io.WriteString(c, "[1]\x00"); c.Close() }, telemetry.OutcomeGarbage, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var held net.Conn
				var served sync.WaitGroup
				served.Add(1)
				c := pipe(func(conn net.Conn) { held = conn; tt.serve(conn); served.Done() })
				start := time.Now()
				r, err := c.Do(t.Context(), "m:4028", "summary")
				if took := time.Since(start); took != tt.took {
					t.Errorf("took %v, want %v", took, tt.took)
				}
				if got := OutcomeOf(err); got != tt.want {
					t.Errorf("outcome %v (%v), want %v", got, err, tt.want)
				}
				if r != nil {
					if !r.Part("summary").Value.Exists() {
						t.Error("the reply holds no part")
					}
					r.Release()
				}
				served.Wait()
				held.Close()
			})
		})
	}
}

func TestOneRequestInOneWrite(t *testing.T) {
	got := make(chan string, 1)
	c := pipe(func(conn net.Conn) {
		got <- readRequest(conn)
		io.WriteString(conn, okReply+"\x00")
		conn.Close()
	})
	r, err := c.Do(t.Context(), "m:4028", "summary+pools")
	if err != nil {
		t.Fatal(err)
	}
	r.Release()
	if want := `{"command":"summary+pools"}`; <-got != want {
		t.Errorf("request is not %s", want)
	}
}

func TestDialFailures(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want telemetry.Outcome
	}{
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, telemetry.OutcomeRefused},
		{&net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}, telemetry.OutcomeUnreachable},
		{&net.DNSError{Err: "no such host", Name: "m", IsNotFound: true}, telemetry.OutcomeUnreachable},
		{&net.OpError{Op: "dial", Err: syscall.ETIMEDOUT}, telemetry.OutcomeTimeout},
		{context.DeadlineExceeded, telemetry.OutcomeTimeout},
		{&net.OpError{Op: "dial", Err: syscall.ECONNRESET}, telemetry.OutcomeReset},
	} {
		c := &Client{Dial: func(context.Context, string, string) (net.Conn, error) { return nil, tt.err }}
		_, err := c.Do(t.Context(), "m:4028", "summary")
		if got := OutcomeOf(err); got != tt.want {
			t.Errorf("%v: outcome %v, want %v", tt.err, got, tt.want)
		}
	}
}

// TestRealSockets shows what the in-memory connections cannot: refusal and reset by the kernel.
func TestRealSockets(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			readRequest(conn)
			if i == 0 {
				_, _ = io.WriteString(conn, okReply+"\x00")
			} else {
				_ = conn.(*net.TCPConn).SetLinger(0) // reset
			}
			_ = conn.Close()
		}
	}()
	var c Client
	r, err := c.Do(t.Context(), address, "summary")
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := r.Part("summary").Record("SUMMARY").Get("Elapsed").Int(); n != 7 || !ok {
		t.Errorf("Elapsed %d, %v", n, ok)
	}
	r.Release()
	_, err = c.Do(t.Context(), address, "summary")
	if got := OutcomeOf(err); got != telemetry.OutcomeReset {
		t.Errorf("reset: %v (%v)", got, err)
	}
	l.Close()
	<-done
	_, err = c.Do(t.Context(), address, "summary")
	if got := OutcomeOf(err); got != telemetry.OutcomeRefused {
		t.Errorf("refused: %v (%v)", got, err)
	}
}

func TestCancelledContextEndsTheExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var held net.Conn
		c := pipe(func(conn net.Conn) { held = conn; readRequest(conn) })
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		_, err := c.Do(ctx, "m:4028", "summary")
		if OutcomeOf(err) != telemetry.OutcomeTimeout || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		held.Close()
	})
}

func TestStatusShapes(t *testing.T) {
	for _, tt := range []struct {
		name, reply string
		code        int64
		refused     bool
	}{
		{"list", `{"STATUS":[{"STATUS":"S","Code":11}],"SUMMARY":[{}]}`, 11, false},
		{"flat, message an object", `{"STATUS":"S","When":1,"Code":131,"Msg":{"btmineroff":"true"}}`, 131, false},
		{"warning", `{"STATUS":[{"STATUS":"W","Code":7}],"POOLS":[]}`, 7, false},
		{"refusal", `{"STATUS":[{"STATUS":"E","Code":45,"Msg":"Access denied"}],"id":1}`, 45, true},
		{"flat refusal", `{"STATUS":"E","Code":14,"Msg":"invalid cmd"}`, 14, true},
		{"fatal, yet with a payload", `{"STATUS":[{"STATUS":"F","Code":90}],"DBGSTATS":[{"a":1}]}`, 90, false},
		{"a plain word", `{"STATUS":"RESTART","id":1}`, 0, false},
	} {
		c := pipe(func(conn net.Conn) { readRequest(conn); io.WriteString(conn, tt.reply+"\x00"); conn.Close() })
		r, err := c.Do(t.Context(), "m:4028", "x")
		if err != nil {
			t.Fatal(err)
		}
		part := r.Part("x")
		if s := part.Status(); s.Code != tt.code {
			t.Errorf("%s: code %d", tt.name, s.Code)
		}
		api, refused := errors.AsType[*APIError](part.Err())
		if refused != tt.refused || refused && api.Code != tt.code {
			t.Errorf("%s: %v", tt.name, part.Err())
		}
		r.Release()
	}
}

func TestJoinedParts(t *testing.T) {
	reply := fmt.Sprintf(`{"summary":[%s],"config":[{"STATUS":[{"STATUS":"E","Code":45,"Msg":"Access denied to 'config' command"}],"id":1}],"pools":%s,"id":1}`, okReply, okReply)
	c := pipe(func(conn net.Conn) { readRequest(conn); io.WriteString(conn, reply+"\x00"); conn.Close() })
	r, err := c.Do(t.Context(), "m:4028", "summary+config+pools+devs")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	for _, command := range []string{"summary", "pools"} { // as measured, and as the API's paper shows it
		if n, _ := r.Part(command).Record("SUMMARY").Get("Elapsed").Int(); n != 7 || r.Part(command).Err() != nil {
			t.Errorf("%s: Elapsed %d, %v", command, n, r.Part(command).Err())
		}
	}
	if e, ok := errors.AsType[*APIError](r.Part("config").Err()); !ok || e.Code != CodeAccessDenied {
		t.Errorf("config: %v", r.Part("config").Err())
	}
	if r.Part("devs").Err() == nil {
		t.Error("a part that is not there is no success")
	}
}
