//go:build linux

package pg_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
)

// helperDir makes this test binary a hub that was started to be killed: it runs an embedded server and waits.
const helperDir = "PG_TEST_HELPER_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(helperDir); dir != "" {
		os.Exit(helper(dir))
	}
	os.Exit(m.Run())
}

func helper(dir string) int {
	e, err := pg.StartEmbedded(context.Background(), pg.EmbeddedConfig{Dir: dir, Throwaway: true})
	if err != nil {
		fmt.Println("failed:", err)
		return 1
	}
	fmt.Println("runs")
	<-e.Done()
	return 1
}

// openDir is a directory that the server's account can reach; t.TempDir is closed.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hsi-pg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // the server's account must pass
		t.Fatal(err)
	}
	return dir
}

func start(t *testing.T, c pg.EmbeddedConfig) *pg.Embedded {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	e, err := pg.StartEmbedded(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, e) })
	return e
}

func stop(t *testing.T, e *pg.Embedded) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	if err := e.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func query[T any](t *testing.T, url, sql string) (v T) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if err := conn.QueryRow(ctx, sql).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestEmbeddedServerKeepsItsDataAndNeverRunsAsRoot(t *testing.T) {
	dir := filepath.Join(openDir(t), "state", "postgres")
	begin := time.Now()
	e := start(t, pg.EmbeddedConfig{Dir: dir})
	t.Logf("first start %v", time.Since(begin))
	if want, err := pg.EmbeddedURL(dir); err != nil || want != e.URL() {
		t.Errorf("EmbeddedURL foretold %s, %v; the server has %s", want, err, e.URL())
	}
	query[bool](t, e.URL(), `WITH x AS (SELECT set_config('a.b', 'c', false)) SELECT true FROM x`)
	conn, err := pgx.Connect(t.Context(), e.URL())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `CREATE TABLE kept (n int); INSERT INTO kept VALUES (42)`); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if tcp := query[string](t, e.URL(), `SHOW listen_addresses`); tcp != "" {
		t.Errorf("the server listens on %q", tcp)
	}
	pid := postmasterPID(t, dir)
	st, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	if err != nil {
		t.Fatal(err)
	}
	if uid := st.Sys().(*syscall.Stat_t).Uid; uid == 0 { //nolint:forcetypeassert // this is Linux
		t.Error("the server runs as root")
	}
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err == nil && bytes.Contains(env, []byte("HOME=")) {
		t.Errorf("the server got our environment: %q", env)
	}
	begin = time.Now()
	stop(t, e)
	t.Logf("stop %v", time.Since(begin))
	begin = time.Now()
	e = start(t, pg.EmbeddedConfig{Dir: dir})
	t.Logf("second start %v", time.Since(begin))
	if n := query[int](t, e.URL(), `SELECT n FROM kept`); n != 42 {
		t.Errorf("the table holds %d", n)
	}
}

func postmasterPID(t *testing.T, dir string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(b), &pid); err != nil {
		t.Fatal(err)
	}
	return pid
}

// asHelper starts this test binary as a hub and waits until its server runs.
func asHelper(t *testing.T, dir string, attr *syscall.SysProcAttr) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if attr != nil { // the binary's own directory is closed to others
		b, err := os.ReadFile(exe)
		if err != nil {
			t.Fatal(err)
		}
		exe = filepath.Join(openDir(t), "helper")
		if err := os.WriteFile(exe, b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(exe)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), helperDir+"="+dir)
	cmd.SysProcAttr = attr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // dead already when the test killed it
		_ = cmd.Wait()         // as above
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "runs\n" {
		t.Fatalf("the other hub said %q, %v", line, err)
	}
	return cmd
}

func TestServerEndsWithAKilledHubAndTheNextHubWaits(t *testing.T) {
	dir := filepath.Join(openDir(t), "postgres")
	for range 3 {
		hub := asHelper(t, dir, nil)
		old := postmasterPID(t, dir)
		if err := hub.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		e := start(t, pg.EmbeddedConfig{Dir: dir, Throwaway: true})
		t.Logf("restart after kill -9: %v", time.Since(begin))
		if err := syscall.Kill(old, 0); !errors.Is(err, syscall.ESRCH) && postmasterPID(t, dir) != old {
			if st, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", old)); err == nil && !bytes.Contains(st, []byte(") Z ")) {
				t.Errorf("the killed hub's server %d still runs", old)
			}
		}
		query[int](t, e.URL(), `SELECT 1`)
		stop(t, e)
	}
	// Without a next hub the server ends too.
	hub := asHelper(t, dir, nil)
	if err := hub.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	pidFile := filepath.Join(dir, "data", "postmaster.pid")
	for end := time.Now().Add(20 * time.Second); ; {
		if _, err := os.Stat(pidFile); errors.Is(err, os.ErrNotExist) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the server outlives its killed hub")
		}
		<-time.After(20 * time.Millisecond)
	}
}

func TestOneHubManyCommands(t *testing.T) {
	dir := filepath.Join(openDir(t), "postgres")
	hub := start(t, pg.EmbeddedConfig{Dir: dir, Throwaway: true})
	_, err := pg.StartEmbedded(t.Context(), pg.EmbeddedConfig{Dir: dir})
	if !errors.Is(err, pg.ErrInUse) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Errorf("a second hub got %v", err)
	}
	command := start(t, pg.EmbeddedConfig{Dir: dir, Command: true})
	if command.Owner() || command.URL() != hub.URL() {
		t.Errorf("a command beside a hub owns %v, uses %s", command.Owner(), command.URL())
	}
	query[int](t, command.URL(), `SELECT 1`)
	stop(t, command)
	query[int](t, hub.URL(), `SELECT 1`)
	stop(t, hub)

	// Without a hub a command runs the server itself, and a starting hub waits for it.
	command = start(t, pg.EmbeddedConfig{Dir: dir, Throwaway: true, Command: true})
	if !command.Owner() {
		t.Fatal("a command without a hub does not run the server")
	}
	done := make(chan error, 1)
	go func() {
		e, err := pg.StartEmbedded(context.WithoutCancel(t.Context()), pg.EmbeddedConfig{Dir: dir, Throwaway: true})
		if err == nil {
			err = e.Stop(context.WithoutCancel(t.Context()))
		}
		done <- err
	}()
	select {
	case err := <-done:
		t.Errorf("the hub did not wait for the command: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	stop(t, command)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestEmbeddedErrorsSayWhatToDo(t *testing.T) {
	root := os.Geteuid() == 0
	for name, c := range map[string]struct {
		prepare func(t *testing.T, dir string) pg.EmbeddedConfig
		want    []string
		root    bool // only root can set the case up
	}{
		"not installed": {prepare: func(t *testing.T, dir string) pg.EmbeddedConfig {
			return pg.EmbeddedConfig{Dir: dir, Search: []string{filepath.Join(dir, "nowhere")}}
		}, want: []string{"apt-get install postgresql"}},
		"another major version": {prepare: func(t *testing.T, dir string) pg.EmbeddedConfig {
			mkdir(t, filepath.Join(dir, "data"))
			write(t, filepath.Join(dir, "data", "PG_VERSION"), "9\n")
			return pg.EmbeddedConfig{Dir: dir}
		}, want: []string{"is of PostgreSQL 9", "pg_upgrade"}},
		"not a data directory": {prepare: func(t *testing.T, dir string) pg.EmbeddedConfig {
			mkdir(t, filepath.Join(dir, "data"))
			write(t, filepath.Join(dir, "data", "PG_VERSION"), "hello\n")
			return pg.EmbeddedConfig{Dir: dir}
		}, want: []string{"not a PostgreSQL data directory"}},
		"below a closed home": {root: true, prepare: func(t *testing.T, dir string) pg.EmbeddedConfig {
			home := filepath.Join(dir, "home")
			mkdir(t, home)
			if err := os.Chmod(home, 0o700); err != nil {
				t.Fatal(err)
			}
			return pg.EmbeddedConfig{Dir: filepath.Join(home, "clone", "data")}
		}, want: []string{"cannot pass", "/home (mode 0700)", "DATA_DIR"}},
		"no such user": {root: true, prepare: func(t *testing.T, dir string) pg.EmbeddedConfig {
			return pg.EmbeddedConfig{Dir: dir, User: "nobody-of-that-name"}
		}, want: []string{"does not exist"}},
		"as root": {root: true, prepare: func(t *testing.T, dir string) pg.EmbeddedConfig {
			return pg.EmbeddedConfig{Dir: dir, User: "root"}
		}, want: []string{"refuses to run as root"}},
		"disk full": {root: true, prepare: func(t *testing.T, dir string) pg.EmbeddedConfig {
			small := filepath.Join(dir, "small")
			mkdir(t, small)
			if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=16m,mode=0755"); err != nil {
				t.Skipf("a small file system cannot be mounted here: %v", err)
			}
			t.Cleanup(func() { _ = syscall.Unmount(small, syscall.MNT_DETACH) })
			return pg.EmbeddedConfig{Dir: filepath.Join(small, "postgres")}
		}, want: []string{"disk is full", " MB free"}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.root && !root {
				t.Skip("only root can set this case up")
			}
			dir := openDir(t)
			_, err := pg.StartEmbedded(t.Context(), c.prepare(t, dir))
			if err == nil {
				t.Fatal("the server started")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is missing in: %v", w, err)
				}
			}
		})
	}
}

func TestOrdinaryUserAndLongPath(t *testing.T) {
	if os.Geteuid() != 0 {
		dir := filepath.Join(openDir(t), strings.Repeat("long-", 30))
		query[int](t, start(t, pg.EmbeddedConfig{Dir: dir, Throwaway: true}).URL(), `SELECT 1`)
		return
	}
	// As root: become nobody.
	const nobody = 65534
	base := openDir(t)
	if err := os.Chown(base, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(base, strings.Repeat("long-", 30))
	asHelper(t, dir, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}})
	st, err := os.Stat(fmt.Sprintf("/proc/%d", postmasterPID(t, dir)))
	if err != nil || st.Sys().(*syscall.Stat_t).Uid != nobody { //nolint:forcetypeassert // this is Linux
		t.Errorf("the server of an ordinary user runs as somebody else: %v", err)
	}
}

func mkdir(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil { // the server's account must pass
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
