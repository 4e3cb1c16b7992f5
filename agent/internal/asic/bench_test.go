//go:build unix

package asic

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/agent/internal/cgminer"
)

// BenchmarkPoll measures one poll of one joined reply over a real socket: the floor connects, asks and reads
// the bytes to their end; read adds parsing and normalising; encoding-json adds only its parsing to the
// floor. The server's share is in all three.
func BenchmarkPoll(b *testing.B) {
	m := &miner{replies: loadBench(b)}
	joined, _ := m.answer("summary+stats+pools")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			m.serve(conn)
		}
	}()
	defer func() { l.Close(); <-done }()
	m.override = func(command string) (string, bool) { return joined, command == "summary+stats+pools" }
	address := l.Addr().String()
	b.Logf("joined reply: %d bytes", len(joined))

	floor := func(b *testing.B) []byte {
		d := net.Dialer{KeepAlive: -1}
		conn, err := d.DialContext(context.Background(), "tcp", address)
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte(`{"command":"summary+stats+pools"}`)); err != nil {
			b.Fatal(err)
		}
		all, err := io.ReadAll(conn)
		if err != nil || len(all) != len(joined)+1 {
			b.Fatal(len(all), err)
		}
		return all
	}
	b.Run("floor", func(b *testing.B) {
		cpu(b, func() { floor(b) })
	})
	b.Run("read", func(b *testing.B) {
		r := NewReader(Config{Address: address, Client: &cgminer.Client{}})
		cpu(b, func() {
			if obs, _ := r.Read(context.Background()); len(obs.Boards) != 3 {
				b.Fatal(obs.Errors)
			}
		})
	})
	b.Run("encoding-json", func(b *testing.B) {
		cpu(b, func() {
			all := floor(b)
			var v any
			if err := json.Unmarshal(all[:len(all)-1], &v); err != nil {
				b.Fatal(err)
			}
		})
	})
}

// BenchmarkDecode measures parsing, and parsing and normalising, without a connection.
func BenchmarkDecode(b *testing.B) {
	m := &miner{replies: loadBench(b)}
	joined, _ := m.answer("summary+stats+pools")
	text := []byte(joined)
	b.Run("parse", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		var d cgminer.Doc
		cpu(b, func() {
			if err := d.Parse(text); err != nil {
				b.Fatal(err)
			}
		})
	})
	b.Run("encoding-json", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		cpu(b, func() {
			var v any
			if err := json.Unmarshal(text, &v); err != nil {
				b.Fatal(err)
			}
		})
	})
}

// BenchmarkNormalise measures a read over connections in memory that have the reply ready, which leaves parsing,
// normalising and what a pipe costs.
func BenchmarkNormalise(b *testing.B) {
	m := &miner{replies: loadBench(b)}
	joined, _ := m.answer("summary+stats+pools")
	reply := append([]byte(joined), 0)
	r := NewReader(Config{Address: "192.0.2.1:4028", Client: m.start(b)})
	r.Read(b.Context())
	r.c.Client.Dial = func(context.Context, string, string) (net.Conn, error) { return &ready{reply: reply}, nil }
	cpu(b, func() {
		if obs, _ := r.Read(context.Background()); len(obs.Boards) != 3 {
			b.Fatal(obs.Errors)
		}
	})
}

// loadBench returns replies whose joined form has the 6.4 kB of a real one: the S21 with more pools.
func loadBench(b *testing.B) map[string]string {
	b.Helper()
	replies := loadFolder(b, filepath.Join("testdata", "antminer-s21"))
	open := strings.Index(replies["pools"], `{"POOL":0`)
	end := strings.Index(replies["pools"], `{"POOL":1`)
	pool := replies["pools"][open:end]
	replies["pools"] = strings.Replace(replies["pools"], pool, strings.Repeat(pool, 4), 1)
	return replies
}

// cpu runs f b.N times and reports the processor time of the whole process for each, which on a busy machine
// says more than the wall time.
func cpu(b *testing.B, f func()) {
	b.ReportAllocs()
	before := processorTime()
	for b.Loop() {
		f()
	}
	b.ReportMetric(float64((processorTime()-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
