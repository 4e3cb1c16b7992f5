package diag

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"sync"
)

const (
	rotateBytes = 32 << 20 // a file that reaches this many bytes is put aside
	rotateKeep  = 5        // files put aside: name.1 is the youngest
)

// rotating is a log file of bounded size with a bounded number of predecessors.
type rotating struct {
	path string
	max  int64
	keep int

	mu   sync.Mutex
	f    *os.File
	size int64
}

func openRotating(path string, maxBytes int64, keep int) (*rotating, error) {
	r := &rotating{path: path, max: maxBytes, keep: keep}
	return r, r.open()
}

func (r *rotating) open() error {
	f, err := os.OpenFile(r.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640) //nolint:gosec // group may read logs
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	r.f, r.size = f, fi.Size()
	return nil
}

// Write appends one record, after rotating if it would not fit. If rotating fails, the record goes on into the old file.
func (r *rotating) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.f == nil {
		return 0, fs.ErrClosed
	}
	var rotErr error
	if r.size > 0 && r.size+int64(len(p)) > r.max {
		rotErr = r.rotate()
		if r.f == nil {
			return 0, rotErr
		}
	}
	n, err := r.f.Write(p)
	r.size += int64(n)
	return n, errors.Join(err, rotErr)
}

func (r *rotating) rotate() error {
	name := func(i int) string { return r.path + "." + strconv.Itoa(i) }
	var errs []error
	for i := r.keep - 1; i >= 1; i-- {
		if err := os.Rename(name(i), name(i+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	// Close first: Windows does not rename open files.
	errs = append(errs, r.f.Close())
	r.f = nil
	errs = append(errs, os.Rename(r.path, name(1)), r.open())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("rotate %s: %w", r.path, err)
	}
	return nil
}

// Close closes the file.
func (r *rotating) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.f == nil {
		return nil
	}
	f := r.f
	r.f = nil
	return f.Close()
}
