// Command hashinsight-hub receives what agents measure, keeps it in PostgreSQL and serves API and page. main turns
// signals into a context and errors into an exit code; package hubd does the work.
package main

import (
	"context"
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
		return 1
	}
	return 0
}
