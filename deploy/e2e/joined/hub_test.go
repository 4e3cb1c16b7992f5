package joined

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/hubd"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/bench"
)

// asHub holds the settings of the hub in the environment of this test binary where it is to be one.
const asHub = "HSI_TEST_AS_HUB"

const secret = "sites that have joined share no secret: 90417"

func TestMain(m *testing.M) {
	if text := os.Getenv(asHub); text != "" {
		if err := runHub(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if err := pgtest.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "these tests need PostgreSQL:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func needBench(t *testing.T) {
	t.Helper()
	if os.Getenv(bench.FileVariable) == "" {
		t.Skip("a measurement of minutes: set " + bench.FileVariable + " to the file for its results")
	}
}

func measured(t *testing.T, r bench.Result) {
	t.Helper()
	if err := bench.Record(r); err != nil {
		t.Error(err)
	}
}

// settings of the hub process: a hub that is started again has the same.
type settings struct{ URL, Web, Agents, WireGuard string }

func (s settings) database() hubd.Database {
	return hubd.Database{DatabaseURL: s.URL, EncryptionPassword: "enc " + secret}
}

func (s settings) tunnel() hubd.Tunnel {
	return hubd.Tunnel{Addr: s.WireGuard, Backend: "netstack", Endpoint: s.WireGuard}
}

// runHub is the hub process.
func runHub(text string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the test's process
		stop()
	}()
	var s settings
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	db := s.database()
	db.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	return hubd.Run(ctx, hubd.Config{
		Database: db, Env: "dev", SessionSecret: secret, ServerNames: []string{"127.0.0.1"}, BindAddr: s.Web, GRPCAddr: s.Agents, HubAddress: s.Agents,
		Tunnel: s.tunnel(), AccessLog: slog.New(slog.DiscardHandler),
	})
}

// hub is a hub on a database of its own, with the tunnel on netstack.
type hub struct {
	settings
	t   *testing.T
	cmd *exec.Cmd // the process that runs now
	key string    // of the API, to make tokens
}

func newHub(t *testing.T) *hub {
	t.Helper()
	h := &hub{t: t}
	h.URL = pgtest.URL(t)
	h.Web, h.Agents, h.WireGuard = freeTCP(t), freeTCP(t), freeUDP(t)
	var err error
	if h.key, _, err = hubd.CreateKey(t.Context(), h.database(), "dev", hubd.KeyOrder{Name: "test", UserID: "test", Permissions: []hubd.Permission{"sites:write"}}); err != nil {
		t.Fatal(err)
	}
	h.start()
	t.Cleanup(func() { h.end(syscall.SIGKILL) })
	return h
}

// freeTCP names an address that was free a moment ago, with a port below those that the system gives away by itself: nobody gets it while the hub is
// down.
func freeTCP(t *testing.T) string {
	t.Helper()
	var lc net.ListenConfig
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(12_000))
		if l, err := lc.Listen(t.Context(), "tcp", addr); err == nil {
			_ = l.Close() // it was only to learn whether it is free
			return addr
		}
	}
	t.Fatal("no free port from 20000 to 32000")
	return ""
}

// freeUDP names an address that was free a moment ago, and the next port too: a hub whose key changes needs both.
func freeUDP(t *testing.T) string {
	t.Helper()
	var lc net.ListenConfig
	for range 100 {
		l, err := lc.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		next, err := lc.ListenPacket(t.Context(), "udp", fmt.Sprintf("127.0.0.1:%d", l.LocalAddr().(*net.UDPAddr).Port+1))
		_ = l.Close() // it was only to learn a port
		if err == nil {
			_ = next.Close() // as above
			return l.LocalAddr().String()
		}
	}
	t.Fatal("no two neighbouring UDP ports are free")
	return ""
}

// start starts the hub's process; ready waits for it.
func (h *hub) start() {
	h.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		h.t.Fatal(err)
	}
	text, err := json.Marshal(h.settings)
	if err != nil {
		h.t.Fatal(err)
	}
	h.cmd = exec.Command(exe)
	h.cmd.Env = append(os.Environ(), asHub+"="+string(text))
	h.cmd.Stderr = os.Stderr
	if _, err := h.cmd.StdinPipe(); err != nil { // closed when this process ends, in whatever way: see runHub
		h.t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	await(h.t, "ready hub", time.Minute, func() bool {
		res, err := http.Get("http://" + h.Web + "/health/detailed")
		if err != nil {
			return false
		}
		_ = res.Body.Close() // only the status counts
		return res.StatusCode == http.StatusOK
	})
}

// end ends the hub's process by a signal and waits until it has ended.
func (h *hub) end(s syscall.Signal) {
	_ = h.cmd.Process.Signal(s) // it may have ended already
	_ = h.cmd.Wait()            // says how it ended
}

// token makes a token for a site at the hub's API.
func (h *hub) token(site string) (string, error) {
	body, err := json.Marshal(map[string]any{"site_name": site})
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(h.t.Context(), http.MethodPost, "http://"+h.Web+"/api/join-tokens", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+h.key)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	var made struct{ Token, Detail string }
	if err := json.NewDecoder(res.Body).Decode(&made); err != nil {
		return "", err
	}
	if made.Token == "" {
		return "", errors.New("no token was made: " + res.Status + " " + made.Detail)
	}
	return made.Token, nil
}

// query asks the database for rows and calls row for each.
func (h *hub) query(sql string, args, scan []any, row func()) {
	h.t.Helper()
	ctx := context.WithoutCancel(h.t.Context())
	conn, err := pgx.Connect(ctx, h.URL)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := pgx.ForEachRow(rows, scan, func() error { row(); return nil }); err != nil {
		h.t.Fatal(err)
	}
}

func (h *hub) count(sql string, args ...any) (n int) {
	h.t.Helper()
	h.query(sql, args, []any{&n}, func() {})
	return n
}

func await(t *testing.T, what string, within time.Duration, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(within); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("no %s within %s", what, within)
		}
	}
}
