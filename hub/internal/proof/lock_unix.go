//go:build unix

package proof

import (
	"errors"
	"os"
	"syscall"
)

// tryLock takes the file's lock, which ends with its being closed, and reports whether nobody else has it.
func tryLock(f *os.File) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}
