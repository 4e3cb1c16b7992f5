//go:build !linux

package hubd

import (
	"errors"
	"syscall"
)

func reusePort(string, string, syscall.RawConn) error {
	return errors.New("HTTP_REUSEPORT needs Linux")
}

func portOwner(string) string { return "another process" }
