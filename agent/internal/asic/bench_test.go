package asic

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"testing"

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
		b.ReportAllocs()
		for b.Loop() {
			floor(b)
		}
	})
	b.Run("read", func(b *testing.B) {
		r := NewReader(Config{Address: address, Client: &cgminer.Client{}})
		b.ReportAllocs()
		for b.Loop() {
			if obs, _ := r.Read(context.Background()); len(obs.Boards) != 3 {
				b.Fatal(obs.Errors)
			}
		}
	})
	b.Run("encoding-json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			all := floor(b)
			var v any
			if err := json.Unmarshal(all[:len(all)-1], &v); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkDecode measures parsing, and parsing and normalising, without a connection.
func BenchmarkDecode(b *testing.B) {
	m := &miner{replies: loadBench(b)}
	joined, _ := m.answer("summary+stats+pools")
	text := []byte(joined)
	b.Run("parse", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		b.ReportAllocs()
		var d cgminer.Doc
		for b.Loop() {
			if err := d.Parse(text); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding-json", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		b.ReportAllocs()
		for b.Loop() {
			var v any
			if err := json.Unmarshal(text, &v); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func loadBench(b *testing.B) map[string]string {
	b.Helper()
	return loadFolder(b, "testdata/antminer-s21")
}
