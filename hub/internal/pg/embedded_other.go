//go:build !linux

package pg

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
)

const lockReady = "ready"

type account struct{}

type child struct {
	pid  int
	done chan struct{}
}

var errNoEmbedded = errors.New("a PostgreSQL of the hub's own needs Linux: set DATABASE_URL to a server")

func resolveAccount(context.Context, string) (account, error)              { return account{}, errNoEmbedded }
func makeDir(string, account) error                                        { return errNoEmbedded }
func takeLock(context.Context, EmbeddedConfig) (*os.File, error)           { return nil, errNoEmbedded }
func writeLock(*os.File, EmbeddedConfig, string) error                     { return errNoEmbedded }
func chooseServer(context.Context, []string, string) (string, error)       { return "", errNoEmbedded }
func createCluster(context.Context, EmbeddedConfig, string, account) error { return errNoEmbedded }
func awaitOldServer(context.Context, string, *slog.Logger) error           { return errNoEmbedded }
func makeSocketDir(string, account) error                                  { return errNoEmbedded }
func writeAccessFiles(string, account) (string, error)                     { return "", errNoEmbedded }
func startChild(string, []string, account, io.Writer) (*child, error)      { return nil, errNoEmbedded }
func (c *child) stop(context.Context) error                                { return errNoEmbedded }
