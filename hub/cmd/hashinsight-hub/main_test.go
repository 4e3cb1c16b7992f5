package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asProgram makes this test binary the program itself.
const asProgram = "HUB_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(run())
	}
	os.Exit(m.Run())
}

// environment is a development hub's in a directory that the embedded server's account can reach.
func environment(t *testing.T) []string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hsi-hub-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // the server's account must pass
		t.Fatal(err)
	}
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, asProgram + "=1", "HASHINSIGHT_ENV=dev", "DATA_DIR=" + filepath.Join(dir, "state"),
		"BIND_ADDR=" + freeAddr(t), "GRPC_ADDR=" + freeAddr(t), "PROMETHEUS_ADDR=" + freeAddr(t), "WG_ADDR=off", "DB_POOL_SIZE=2",
	}
}

// freeAddr names an address that was free a moment ago. Its port is below those that the system gives away by itself: nobody gets it until the hub
// listens there, which takes as long as a start of PostgreSQL.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(12_000))
		if l, err := net.Listen("tcp", addr); err == nil {
			_ = l.Close() // it was only to learn whether it is free
			return addr
		}
	}
	t.Fatal("no free port from 20000 to 32000")
	return ""
}

func value(env []string, name string) string {
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}

func program(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = env
	return cmd
}

func output(t *testing.T, env []string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := program(t, env, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// hub starts `run` and waits until it is ready.
func hub(t *testing.T, env []string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	cmd := program(t, env, "run")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // dead already where the test ended it
		_ = cmd.Wait()         // as above
	})
	for end := time.Now().Add(time.Minute); ; {
		res, err := http.Get("http://" + value(env, "BIND_ADDR") + "/health/detailed")
		if err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return cmd, &log
			}
		}
		if time.Now().After(end) {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			t.Fatalf("the hub does not become ready:\n%s", log.String())
		}
		<-time.After(20 * time.Millisecond)
	}
}

func TestHubRunsCommandsAndSurvivesKills(t *testing.T) {
	env := environment(t)
	keyFile := filepath.Join(value(env, "HOME"), "owner.key")

	// Before any hub: the command makes the database itself.
	if _, stderr, err := output(t, env, "apikey", "bootstrap", "--out", keyFile); err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	st, err := os.Stat(keyFile)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("the key's file: %v %v", st.Mode(), err)
	}
	key, err := os.ReadFile(keyFile)
	if err != nil || !strings.HasPrefix(string(key), "hsi_dev_key_") {
		t.Fatalf("the key is %.12s…, %v", key, err)
	}

	cmd, _ := hub(t, env)
	if code := ask(t, env, string(bytes.TrimSpace(key))); code != http.StatusOK {
		t.Errorf("the owner's key is answered with %d", code)
	}
	// Beside a running hub: its database is used.
	if _, stderr, err := output(t, env, "apikey", "bootstrap", "--out", keyFile+"2"); err == nil || !strings.Contains(stderr, "--replace") {
		t.Errorf("a second owner's key: %v %s", err, stderr)
	}
	if _, err := os.Stat(keyFile + "2"); !errors.Is(err, os.ErrNotExist) {
		t.Error("a refused key left a file")
	}
	// Where the new key could not be written, the old one must not end.
	if _, stderr, err := output(t, env, "apikey", "bootstrap", "--replace", "--out", t.TempDir()); err == nil || !strings.Contains(stderr, "is a directory") {
		t.Errorf("a key for a directory: %v %s", err, stderr)
	}
	if code := ask(t, env, string(bytes.TrimSpace(key))); code != http.StatusOK {
		t.Errorf("after a command that failed the owner's key is answered with %d", code)
	}
	stdout, stderr, err := output(t, env, "migrate", "status", "-o", "json")
	var all []map[string]any
	if jerr := json.Unmarshal([]byte(stdout), &all); err != nil || jerr != nil || len(all) == 0 {
		t.Errorf("migrate status: %v %v %s", err, jerr, stderr)
	}

	// kill -9, at any moment: the next hub has the data.
	for range 2 {
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed
		cmd, _ = hub(t, env)
		if code := ask(t, env, string(bytes.TrimSpace(key))); code != http.StatusOK {
			t.Errorf("after a kill the owner's key is answered with %d", code)
		}
	}

	if _, stderr, err := output(t, env, "apikey", "bootstrap", "--replace", "--out", keyFile); err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	fresh, err := os.ReadFile(keyFile)
	if err != nil || bytes.Equal(fresh, key) {
		t.Fatalf("--replace gave the same key, %v", err)
	}
	if code := ask(t, env, string(bytes.TrimSpace(fresh))); code != http.StatusOK {
		t.Errorf("the new key is answered with %d", code)
	}

	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM the hub ends with %v", err)
	}
	if _, err := os.Stat(filepath.Join(value(env, "DATA_DIR"), "postgres", "data", "postmaster.pid")); !errors.Is(err, os.ErrNotExist) {
		t.Error("the embedded server outlives its hub")
	}
}

func ask(t *testing.T, env []string, key string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+value(env, "BIND_ADDR")+"/api/sites", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	return res.StatusCode
}

func TestConfigCommands(t *testing.T) {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), asProgram + "=1"}
	_, stderr, err := output(t, append(env, "BIND_ADDR=nowhere"), "config", "check")
	for _, want := range []string{"4 problem(s)", "DATABASE_URL is required", "SESSION_SECRET is required", "ENCRYPTION_PASSWORD is required", `BIND_ADDR is "nowhere"`} {
		if err == nil || !strings.Contains(stderr, want) {
			t.Errorf("%q is missing: %v\n%s", want, err, stderr)
		}
	}
	// run refuses with the same words.
	if _, again, err := output(t, append(env, "BIND_ADDR=nowhere"), "run"); err == nil || again != stderr {
		t.Errorf("run says %q", again)
	}
	secrets, _, err := output(t, env, "config", "generate")
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr, err := output(t, append(env, strings.Fields(secrets)...), "config", "check", "--embedded-postgres", "--prometheus-port", "9191")
	if err != nil || !strings.Contains(stdout, "9191") || !strings.Contains(stdout, "embedded:") {
		t.Errorf("%v %s\n%s", err, stderr, stdout)
	}
	for line := range strings.FieldsSeq(secrets) {
		if _, s, _ := strings.Cut(line, "="); len(s) < 43 || strings.Contains(stdout, s) {
			t.Errorf("a secret is short or shown by config check:\n%s", stdout)
		}
	}
	if _, stderr, err := output(t, env, "run", "--encryption-password", "x"); err == nil || !strings.Contains(stderr, "unknown flag") {
		t.Errorf("a secret is taken as a flag: %v %s", err, stderr)
	}
}
