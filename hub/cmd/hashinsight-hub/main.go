// Command hashinsight-hub receives what agents measure, keeps it in PostgreSQL and serves API and page. main turns
// signals into a context and errors into an exit code; package hubd does the work.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	if err := newRoot().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "hashinsight-hub:", err)
		var coded *exitError
		if errors.As(err, &coded) {
			return coded.code
		}
		return 1
	}
	return 0
}

// exitUnchecked is the exit code of a check that could not be made: neither true nor false.
const exitUnchecked = 3

// exitError is an error that ends the program with a code of its own.
type exitError struct {
	error
	code int
}

// Unwrap gives the cause.
func (e *exitError) Unwrap() error { return e.error }

func withExit(code int, err error) error { return &exitError{err, code} }
