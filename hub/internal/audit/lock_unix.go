//go:build unix

package audit

import (
	"errors"
	"os"
	"syscall"
)

// tryLock takes the file's lock, which ends with this process, and reports whether nobody else has it.
func tryLock(f *os.File) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}
