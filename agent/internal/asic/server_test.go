package asic

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/agent/internal/cgminer"
)

const invalidCommand = `{"STATUS":[{"STATUS":"E","When":1,"Code":14,"Msg":"Invalid command","Description":"cgminer 4.9.0"}],"id":1}`

// miner serves recorded or written replies as real servers do: one connection at a time, one read, reply,
// NUL, close.
type miner struct {
	replies  map[string]string
	noJoin   bool            // answers joined requests with an error of its own
	dropAll  map[string]bool // accepts these commands and closes without an answer
	override func(command string) (reply string, ok bool)

	mu       sync.Mutex // one connection at a time
	requests atomic.Int64
	asked    sync.Map // command → true
}

func (m *miner) answer(command string) (string, bool) {
	m.asked.Store(command, true)
	if m.override != nil {
		if r, ok := m.override(command); ok {
			return r, r != ""
		}
	}
	if m.dropAll[command] {
		return "", false
	}
	if r, ok := m.replies[command]; ok {
		return r, true
	}
	if !strings.Contains(command, "+") {
		return invalidCommand, true
	}
	if m.noJoin {
		return invalidCommand, true
	}
	var b strings.Builder
	b.WriteByte('{')
	for _, c := range strings.Split(command, "+") {
		r, ok := m.answer(c)
		if !ok {
			return "", false
		}
		b.WriteString(`"` + c + `":[` + strings.TrimSpace(r) + `],`)
	}
	b.WriteString(`"id":1}`)
	return b.String(), true
}

func (m *miner) serve(conn net.Conn) {
	defer conn.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.requests.Add(1)
	var request [4095]byte
	n, err := conn.Read(request[:])
	if err != nil {
		return
	}
	var q struct{ Command string }
	if err := json.Unmarshal(request[:n], &q); err != nil {
		return
	}
	if reply, ok := m.answer(q.Command); ok {
		_, _ = conn.Write(append([]byte(reply), 0))
	}
}

// serveFramed answers one request of Whatsminer's API 3.
func (m *miner) serveFramed(conn net.Conn) {
	defer conn.Close()
	m.requests.Add(1)
	var request [512]byte
	n, err := conn.Read(request[:])
	if err != nil || n < 4 || int(binary.LittleEndian.Uint32(request[:])) != n-4 {
		return
	}
	var q struct{ Cmd, Param string }
	if err := json.Unmarshal(request[4:n], &q); err != nil {
		return
	}
	if q.Param != "" {
		q.Cmd += "-" + q.Param
	}
	reply := m.replies[q.Cmd]
	_, _ = conn.Write(append(binary.LittleEndian.AppendUint32(nil, uint32(len(reply))), reply...))
}

// start serves m over in-memory connections and returns a client for it.
func (m *miner) start(t testing.TB) *cgminer.Client {
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	return &cgminer.Client{
		Timeout: 5 * time.Second,
		Dial: func(_ context.Context, _, address string) (net.Conn, error) {
			serve := m.serve
			if _, api3 := m.replies["get.miner.status-summary"]; api3 {
				if strings.HasSuffix(address, ":4028") {
					return nil, syscall.ECONNREFUSED
				}
				serve = m.serveFramed
			}
			ours, theirs := net.Pipe()
			wg.Go(func() { serve(theirs) })
			return ours, nil
		},
	}
}

// compact makes one line of a JSON file that was written for people, and leaves malformed text as it is.
func compact(b []byte) string {
	var out bytes.Buffer
	if json.Compact(&out, b) != nil {
		return string(b)
	}
	return out.String()
}

// ready is a connection whose answer has already arrived.
type ready struct{ reply []byte }

func (c *ready) Read(p []byte) (int, error) {
	if len(c.reply) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.reply)
	c.reply = c.reply[n:]
	return n, nil
}

func (c *ready) Write(p []byte) (int, error)      { return len(p), nil }
func (c *ready) Close() error                     { return nil }
func (c *ready) LocalAddr() net.Addr              { return nil }
func (c *ready) RemoteAddr() net.Addr             { return nil }
func (c *ready) SetDeadline(time.Time) error      { return nil }
func (c *ready) SetReadDeadline(time.Time) error  { return nil }
func (c *ready) SetWriteDeadline(time.Time) error { return nil }
