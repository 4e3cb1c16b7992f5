package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
)

type event struct{ name, id, data string }

func (e event) patch(t *testing.T) Patch {
	t.Helper()
	var p Patch
	if e.name != "patch" {
		t.Fatalf("event %+v, want a patch", e)
	}
	if err := json.Unmarshal([]byte(e.data), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// listen opens a stream.
func (w *world) listen(headers ...string) *bufio.Reader {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	w.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+eventsPath, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := (&http.Transport{}).RoundTrip(r)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = res.Body.Close() })
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
		w.t.Fatalf("stream: %d %v", res.StatusCode, res.Header)
	}
	return bufio.NewReader(res.Body)
}

// next reads the next event, past comments and retry lines.
func next(t *testing.T, r *bufio.Reader) (event, error) {
	t.Helper()
	var e event
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return e, err
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch {
		case line == "\n" && e.data != "":
			return e, nil
		case line == "\n":
			e = event{}
		case name == "event":
			e.name = value
		case name == "id":
			e.id = value
		case name == "data":
			e.data = value
		}
	}
}

func mustNext(t *testing.T, r *bufio.Reader) event {
	t.Helper()
	e, err := next(t, r)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestPatchesBringWhatChangedCoalesced(t *testing.T) {
	w := newWorld(t)
	ids := w.miners(5)
	c, _, _ := w.signIn(w.owner)
	stream := w.listen("Cookie", c.Name+"="+c.Value)
	// Several polls of two miners between two patches: each comes once, with its newest values.
	for i := range 5 {
		w.observe(nil, w.poll(ids[1], float64(10+i)*1e12), w.poll(ids[3], float64(20+i)*1e12))
	}
	rates := map[string]float64{}
	var version int64
	for rates[ids[1].String()] != 14e12 || rates[ids[3].String()] != 24e12 {
		e := mustNext(t, stream)
		p := e.patch(t)
		if p.Version <= version || e.id != strconv.FormatInt(p.Version, 10) {
			t.Errorf("version %d after %d, id %s", p.Version, version, e.id)
		}
		version = p.Version
		seen := map[any]bool{}
		for _, row := range p.Rows {
			if seen[row[0]] {
				t.Errorf("miner %v is twice in one patch", row[0])
			}
			seen[row[0]] = true
			rates[row[0].(string)], _ = row[10].(float64)
		}
		w.clock.advance(time.Second)
	}
	if len(rates) != 2 {
		t.Errorf("patches held miners that did not change: %v", rates)
	}
	// Sites come along when their totals change.
	for i := 0; ; i++ {
		w.observe(nil, w.poll(ids[1], float64(30+i)*1e12))
		p := mustNext(t, stream).patch(t)
		if len(p.Sites) == 1 && p.Sites[0].Name == "North" && p.Sites[0].Miners.Total == 5 {
			break
		}
	}
}

func TestResumingGivesWhatWasMissedOrAReset(t *testing.T) {
	w := newWorld(t)
	ids := w.miners(5)
	w.clock.advance(time.Minute)
	res, body := w.get("/api/snapshot")
	s := want[Snapshot](t, res, body)
	w.clock.advance(time.Minute / 2)
	w.observe(nil, w.poll(ids[2], 33e12))
	auth := []string{"Authorization", "Bearer " + w.owner, "Last-Event-ID"}

	p := mustNext(t, w.listen(append(auth, strconv.FormatInt(s.Version, 10))...)).patch(t)
	found := false
	for _, row := range p.Rows {
		found = found || row[0] == ids[2].String() && row[10] == 33e12
	}
	if !found || len(p.Sites) != 1 {
		t.Errorf("what was missed: %+v", p)
	}
	for _, id := range []string{"1", strconv.FormatInt(w.clock.now().Add(time.Hour).UnixMilli(), 10), "abc"} {
		if e := mustNext(t, w.listen(append(auth, id)...)); e.name != "reset" || e.id == "" {
			t.Errorf("after %s: %+v", id, e)
		}
	}
}

func TestStreamTellsOfNewMiners(t *testing.T) {
	w := newWorld(t)
	w.miners(2)
	stream := w.listen("Authorization", "Bearer "+w.owner)
	fresh := ident.NewMinerID()
	w.observe([]telemetry.MinerInfo{{Miner: fresh, Address: "10.0.9.9:4028"}}, w.poll(fresh, 5e12))
	for {
		for _, row := range mustNext(t, stream).patch(t).Rows {
			if row[0] == fresh.String() && row[2] == "10.0.9.9:4028" {
				return
			}
		}
		w.clock.advance(time.Second)
	}
}

func TestStreamEndsWithItsKey(t *testing.T) {
	w := newWorld(t)
	w.miners(1)
	stream := w.listen("Authorization", "Bearer "+w.owner)
	if _, err := access.Bootstrap(t.Context(), access.BootstrapConfig{Pool: w.pool, Env: "dev", Now: w.clock.now, Replace: true}); err != nil {
		t.Fatal(err)
	}
	w.clock.advance(access.CacheFor)
	for {
		if _, err := next(t, stream); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Errorf("the stream broke off: %v", err)
			}
			return
		}
	}
}

func TestShutdownEndsStreamsAndAnswersNobodyHalf(t *testing.T) {
	w := newWorld(t)
	w.miners(1)
	stream := w.listen("Authorization", "Bearer "+w.owner)
	begin := time.Now()
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("stopping took %s", took)
	}
	for {
		if _, err := next(t, stream); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("the stream broke off: %v", err)
		}
	}
}

func TestStreamsAreBounded(t *testing.T) {
	var slots streamSlots
	one, two := [16]byte{1}, [16]byte{2}
	for range maxKeyStreams {
		if !slots.take(one) {
			t.Fatal("refused too early")
		}
	}
	if slots.take(one) {
		t.Error("one key takes all streams")
	}
	if !slots.take(two) {
		t.Error("another key is refused")
	}
	slots.giveBack(one)
	if !slots.take(one) {
		t.Error("a stream that ended still counts")
	}
}

// smallBuffers is a listener whose connections hold little that the client has not read.
type smallBuffers struct{ net.Listener }

func (l smallBuffers) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(4096)
	}
	return c, err
}

// A client that does not read is let go, and holds nothing.
func TestDeadClientIsLetGo(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorldOn(t, smallBuffers{l})
	w.server.eventTimeout = 100 * time.Millisecond
	ids := w.miners(3000)
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET /api/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+w.owner+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 12)
	if _, err := io.ReadFull(conn, first); err != nil || string(first) != "HTTP/1.1 200" {
		t.Fatalf("%s %v", first, err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for n := 0; testutil.ToFloat64(w.server.metrics.streams) != 0; n++ {
		if time.Now().After(deadline) {
			t.Fatal("the stream of a client that does not read is still open")
		}
		var polls []telemetry.Observation
		for _, id := range ids {
			polls = append(polls, w.poll(id, float64(n)*1e12))
		}
		w.observe(nil, polls...)
	}
}
