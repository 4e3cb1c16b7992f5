package localrun

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// writeWatch tells when files of a directory are written.
type writeWatch struct{ file *os.File }

func watchWrites(dir string) (*writeWatch, error) {
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	file := os.NewFile(uintptr(fd), "inotify")
	if _, err := syscall.InotifyAddWatch(fd, dir, syscall.IN_MODIFY); err != nil {
		return nil, errors.Join(fmt.Errorf("watch %s: %w", dir, err), file.Close())
	}
	return &writeWatch{file}, nil
}

// next waits for the next write from now on, but no longer than patience.
func (w *writeWatch) next(patience time.Duration) error {
	var b [4096]byte
	past := true
	for {
		deadline := time.Now().Add(patience)
		if past {
			deadline = time.Now().Add(time.Millisecond) // what was written before is passed over
		}
		if err := w.file.SetReadDeadline(deadline); err != nil {
			return fmt.Errorf("watch for writes: %w", err)
		}
		_, err := w.file.Read(b[:])
		switch late := errors.Is(err, os.ErrDeadlineExceeded); {
		case err != nil && !late:
			return fmt.Errorf("watch for writes: %w", err)
		case past && late:
			past = false
		case !past:
			return nil
		}
	}
}

func (w *writeWatch) close() error { return w.file.Close() }

// serverPID is the process of the hub's PostgreSQL, 0 when none is known.
func (s *stack) serverPID() int {
	b, err := os.ReadFile(filepath.Join(s.dir, "hub", "postgres", "data", "postmaster.pid"))
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	pid, _ := strconv.Atoi(line) // an unreadable one is none
	return pid
}

// metric reads one value of a program's metrics. A program that cannot be asked, or has not counted yet, has 0.
func (s *stack) metric(ctx context.Context, address, name string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return 0, fmt.Errorf("ask for metrics: %w", err)
	}
	client := http.DefaultClient
	if address == s.ports.Agent {
		client = s.inside
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, nil // documented: killed, or not up yet
	}
	defer func() { _ = res.Body.Close() }() // read to its end or given up
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			v, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return 0, fmt.Errorf("metric %s of %s: %w", name, address, err)
			}
			return v, nil
		}
	}
	return 0, nil
}
