package scaleout

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/hub/hubd"
	"github.com/hashinsight/hashinsight/hub/pgtest"
)

// asHub holds the database's URL in the environment of this test binary where it is to be a hub.
const asHub = "HSI_TEST_AS_HUB"

const secret = "two hubs of one test share their secrets: 58213"

func TestMain(m *testing.M) {
	if url := os.Getenv(asHub); url != "" {
		if err := runHub(url); err != nil {
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

func database(url string) hubd.Database {
	return hubd.Database{DatabaseURL: url, EncryptionPassword: "enc " + secret, PoolSize: 2, PoolOverflow: 8}
}

// listening is what a hub process says when it listens.
type listening struct{ Web, Agents string }

// runHub is the hub process: all modules, on free ports, which it prints.
func runHub(url string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	db := database(url)
	db.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	h, err := hubd.New(ctx, hubd.Config{
		Database: db, Env: "dev", SessionSecret: secret, ServerNames: []string{"127.0.0.1"}, BindAddr: "127.0.0.1:0", GRPCAddr: "127.0.0.1:0",
		AccessLog: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(listening{h.WebAddr().String(), h.GRPCAddr().String()}); err != nil {
		return errors.Join(err, h.Close())
	}
	return h.Run(ctx)
}

// hub is a hub process.
type hub struct {
	listening
	t   *testing.T
	cmd *exec.Cmd
	key string // of the API
}

func startHub(t *testing.T, url string) *hub {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h := &hub{t: t, cmd: exec.Command(exe)}
	h.cmd.Env = append(os.Environ(), asHub+"="+url)
	h.cmd.Stderr = os.Stderr
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.kill)
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatalf("the hub process says nothing: %v", err)
	}
	if err := json.Unmarshal(line, &h.listening); err != nil {
		t.Fatal(err)
	}
	await(t, "ready hub", func() bool {
		status, _ := h.get("/health/detailed")
		return status == http.StatusOK
	})
	return h
}

// kill ends the process as a power cut would.
func (h *hub) kill() {
	_ = h.cmd.Process.Kill() // it may be dead already
	_ = h.cmd.Wait()         // says that it was killed
}

// get asks the hub's API. Status 0 means no answer.
func (h *hub) get(path string) (status int, body []byte) {
	h.t.Helper()
	res, err := h.open(h.t.Context(), path)
	if err != nil {
		return 0, nil
	}
	defer func() { _ = res.Body.Close() }()
	if body, err = io.ReadAll(res.Body); err != nil {
		return 0, nil
	}
	return res.StatusCode, body
}

func (h *hub) open(ctx context.Context, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+h.Web+path, nil)
	if err != nil {
		return nil, err
	}
	if h.key != "" {
		req.Header.Set("Authorization", "Bearer "+h.key)
	}
	return http.DefaultClient.Do(req)
}

// connected lists the sites that the hub's API shows as connected.
func (h *hub) connected() map[string]bool {
	h.t.Helper()
	_, body := h.get("/api/sites")
	var list struct {
		Items []struct {
			Name      string
			Connected bool
		}
	}
	_ = json.Unmarshal(body, &list) // no answer means no sites
	up := map[string]bool{}
	for _, s := range list.Items {
		up[s.Name] = s.Connected
	}
	return up
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("no %s within a minute", what)
		}
		<-time.After(50 * time.Millisecond)
	}
}
