package agentd_test

import (
	"context"
	"log/slog"
	"strings"
)

// addressLog finds the listener's address in the log, where an operator finds it too.
type addressLog struct{ found chan string }

func (l *addressLog) logger() *slog.Logger { return slog.New(l) }

func (l *addressLog) Enabled(context.Context, slog.Level) bool { return true }

func (l *addressLog) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "address" && strings.HasPrefix(a.Value.String(), "http://") {
			l.found <- a.Value.String()
			return false
		}
		return true
	})
	return nil
}

func (l *addressLog) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l *addressLog) WithGroup(string) slog.Handler      { return l }
