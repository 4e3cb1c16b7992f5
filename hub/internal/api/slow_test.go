package api

import (
	"bytes"
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/test/bufconn"
)

// Clients that let a request trickle in, each byte in good time for a rule that looks at silence only, are cut within a bound.
func TestRequestsThatTrickleInAreCut(t *testing.T) {
	const every = 2 * time.Second
	tests := map[string]struct {
		head string
		drip string
		most time.Duration
	}{
		"header":                 {"GET /health HTTP/1.1\r\nHost: x\r\nX-Filler: ", "x", readHeaderTimeout},
		"request line":           {"G", "E", readHeaderTimeout},
		"nothing at all":         {"", "", readHeaderTimeout},
		"body that is read":      {"POST /api/session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n", " ", bodyTimeout},
		"body that nobody wants": {"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", " ", bodyTimeout},
		"body of a GET":          {"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", " ", bodyTimeout},
		"chunked body":           {"POST /api/session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n", " ", bodyTimeout},
		"body for the page":      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", " ", bodyTimeout},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := withoutDatabase(t)
				l := bufconn.Listen(1 << 16)
				ctx, cancel := context.WithCancel(t.Context())
				served := make(chan error, 1)
				go func() { served <- s.Serve(ctx, l) }()
				conn, err := l.DialContext(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				dripped := make(chan struct{})
				go func() {
					defer close(dripped)
					_, err := io.WriteString(conn, c.head)
					for err == nil && time.Since(begin) < time.Hour {
						time.Sleep(every)
						_, err = io.WriteString(conn, c.drip)
					}
				}()
				answer, _ := io.ReadAll(conn) // however it ends
				if took := time.Since(begin); took > c.most+every {
					t.Errorf("cut after %s, want %s", took, c.most)
				}
				if bytes.Contains(answer, []byte("HTTP/1.1 5")) {
					t.Errorf("the client's fault is answered as the hub's: %.200s", answer)
				}
				if err := conn.Close(); err != nil {
					t.Error(err)
				}
				<-dripped
				cancel()
				if err := <-served; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
