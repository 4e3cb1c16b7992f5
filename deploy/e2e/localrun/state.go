package localrun

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// ports are this run's addresses, kept with its data so that miners keep their addresses from run to run.
type ports struct {
	Web     string `json:"web"`
	GRPC    string `json:"grpc"`
	WG      string `json:"wg"`      // UDP, of the hub's tunnel
	Metrics string `json:"metrics"` // of the hub
	Agent   string `json:"agent"`   // metrics and health of the agent
	Control string `json:"control"` // of the simulator
	Chain   string `json:"chain"`
	SimBase string `json:"sim_base"`
	SimPort int    `json:"sim_port"`
}

// defaultStateDir returns the directory for the data of this clone's runs. As root it is below /var/lib, where the account of
// PostgreSQL can reach it even when the clone lies under a closed home directory.
func defaultStateDir(name string) (string, error) {
	clone, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find this clone: %w", err)
	}
	sum := sha256.Sum256([]byte(clone))
	leaf := "run-" + hex.EncodeToString(sum[:4])
	if name != "" {
		leaf += "-" + name
	}
	if os.Geteuid() == 0 {
		return filepath.Join("/var/lib/hashinsight", leaf), nil
	}
	base := os.Getenv("XDG_STATE_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("no place for the data of this run: %w (set XDG_STATE_HOME)", err)
		}
		base = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(base, "hashinsight", leaf), nil
}

// openState makes the directory and takes its lock. The lock is given up when the file is closed.
func openState(dir string, fresh bool) (*os.File, error) {
	// Others may pass through, not list: the account of PostgreSQL must reach its own folder inside.
	if err := os.MkdirAll(dir, 0o711); err != nil { //nolint:gosec // secrets inside are 0600
		return nil, fmt.Errorf("make the directory for the data of this run: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data of this run: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close() // the first error is the one to tell
		return nil, fmt.Errorf("another run of this clone uses %s: end it first, or give this one a --name", dir)
	}
	if !fresh {
		return lock, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("remove the data of an earlier run: %w", err)
	}
	for _, e := range entries {
		if e.Name() == "lock" {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return nil, fmt.Errorf("remove the data of an earlier run: %w", err)
		}
	}
	return lock, nil
}

// loadSecrets returns the hub's secrets as environment lines, made at the first run.
func loadSecrets(dir string) ([]string, error) {
	path := filepath.Join(dir, "secrets.env")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		var text strings.Builder
		for _, name := range []string{"SESSION_SECRET", "ENCRYPTION_PASSWORD"} {
			raw := make([]byte, 32)
			_, _ = rand.Read(raw) // never fails
			fmt.Fprintf(&text, "%s=%s\n", name, hex.EncodeToString(raw))
		}
		b = []byte(text.String())
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("secrets of this run: %w", err)
	}
	return strings.Fields(string(b)), nil
}

// choosePorts keeps the addresses of the run before where they are free, and finds others where not.
func choosePorts(ctx context.Context, dir, web string) (ports, error) {
	path := filepath.Join(dir, "ports.json")
	var p ports
	if b, err := os.ReadFile(path); err == nil {
		if err := json.Unmarshal(b, &p); err != nil {
			return p, fmt.Errorf("addresses of the run before: %w (remove %s)", err, path)
		}
	}
	if p.SimBase == "" {
		// A network of its own for each directory: two clones can run side by side.
		sum := sha256.Sum256([]byte(dir))
		p.SimBase, p.SimPort = fmt.Sprintf("127.%d.0.1", 16+int(sum[0])%200), 4028
	}
	p.Web = web
	for _, a := range []*string{&p.Web, &p.GRPC, &p.Metrics, &p.Agent, &p.Control, &p.Chain} {
		free, err := freeAddress(ctx, *a)
		if err != nil {
			return p, err
		}
		*a = free
	}
	free, err := freeUDP(ctx, p.WG)
	if err != nil {
		return p, err
	}
	p.WG = free
	b, err := json.Marshal(p)
	if err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		return p, fmt.Errorf("note the addresses of this run: %w", err)
	}
	return p, nil
}

// freeAddress returns want when it is free, else a free loopback address. Its port is below those that the system gives away by itself: nobody gets it
// while the program that listens there is killed and started again.
func freeAddress(ctx context.Context, want string) (string, error) {
	var config net.ListenConfig
	listen := func(address string) (net.Listener, error) { return config.Listen(ctx, "tcp", address) }
	if want != "" && !strings.HasSuffix(want, ":0") {
		if l, err := listen(want); err == nil {
			return want, l.Close()
		}
	}
	var last error
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 20_000+mathrand.IntN(12_000)) //nolint:gosec // a port is no secret
		l, err := listen(address)
		if err == nil {
			return address, l.Close()
		}
		last = err
	}
	return "", fmt.Errorf("find a free port: %w", last)
}

// freeUDP is freeAddress for UDP.
func freeUDP(ctx context.Context, want string) (string, error) {
	var config net.ListenConfig
	if want != "" {
		if c, err := config.ListenPacket(ctx, "udp", want); err == nil {
			return want, c.Close()
		}
	}
	c, err := config.ListenPacket(ctx, "udp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return c.LocalAddr().String(), c.Close()
}

// writeFile replaces a file as a whole, so that a reader sees the old or the new one.
func writeFile(path string, b []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
