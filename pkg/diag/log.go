package diag

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

// LogConfig says where logs go. The zero value logs from info up to standard output, as text on a terminal, else as JSON.
type LogConfig struct {
	Level  string   // debug, info, warn or error, in any case; "" means info
	Format string   // json or text, in any case; "" means text on a terminal, else json
	Dir    string   // also write app.log, access.log and error.log here, rotated; "" means no files
	Stdout *os.File // nil means os.Stdout
	Stderr *os.File // nil means os.Stderr; gets errors too, unless it is the same file as Stdout
}

// Logs holds a program's loggers.
type Logs struct {
	App    *slog.Logger // everything but access records
	Access *slog.Logger // one record a request: to standard output and access.log
	files  []io.Closer
}

// Close closes the log files; the loggers must not be used after it.
func (l *Logs) Close() error {
	var errs []error
	for _, f := range l.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// ParseLevel reads a level name in any case; "" is info.
func ParseLevel(s string) (slog.Level, error) {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "debug":
		return slog.LevelDebug, nil
	case "", "info":
		return slog.LevelInfo, nil
	case "warn", "warning":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	default:
		return 0, fmt.Errorf("log level %.40q is none of debug, info, warn, error", s)
	}
}

// CheckFormat reports whether s names a log format: json or text in any case, or "" for the default.
func CheckFormat(s string) error {
	switch strings.ToLower(s) {
	case "", "json", "text":
		return nil
	default:
		return fmt.Errorf("log format %.40q is none of json, text", s)
	}
}

// OpenLogs sets up the loggers.
func OpenLogs(c LogConfig) (*Logs, error) {
	level, err := ParseLevel(c.Level)
	if err := errors.Join(err, CheckFormat(c.Format)); err != nil {
		return nil, err
	}
	if c.Stdout == nil {
		c.Stdout = os.Stdout
	}
	if c.Stderr == nil {
		c.Stderr = os.Stderr
	}
	format := strings.ToLower(c.Format)
	if format == "" {
		format = "json"
		if isTerminal(c.Stdout) {
			format = "text"
		}
	}
	make1 := func(w io.Writer, min slog.Level, format string) slog.Handler {
		o := &slog.HandlerOptions{Level: min, ReplaceAttr: withUnit}
		if format == "text" {
			return slog.NewTextHandler(w, o)
		}
		return slog.NewJSONHandler(w, o)
	}
	app := fanout{make1(c.Stdout, level, format)}
	access := fanout{make1(c.Stdout, slog.LevelInfo, format)}
	if !sameFile(c.Stdout, c.Stderr) {
		app = append(app, make1(c.Stderr, slog.LevelError, format))
	}
	l := &Logs{}
	if c.Dir != "" {
		if err := os.MkdirAll(c.Dir, 0o750); err != nil {
			return nil, fmt.Errorf("log directory: %w: create it and give it to the user this program runs as", err)
		}
		open := func(name string, min slog.Level) (slog.Handler, error) {
			f, err := openRotating(filepath.Join(c.Dir, name), rotateBytes, rotateKeep)
			if err != nil {
				return nil, fmt.Errorf("log file: %w: give %s to the user this program runs as", err, c.Dir)
			}
			l.files = append(l.files, f)
			return make1(f, min, "json"), nil
		}
		a, err1 := open("app.log", level)
		x, err2 := open("access.log", slog.LevelInfo)
		e, err3 := open("error.log", slog.LevelError)
		if err := errors.Join(err1, err2, err3); err != nil {
			return nil, errors.Join(err, l.Close())
		}
		app, access = append(app, a, e), append(access, x)
	}
	l.App, l.Access = slog.New(app), slog.New(access)
	return l, nil
}

// withUnit writes durations as 14.8s: JSON would have them as a number of nanoseconds without a unit.
func withUnit(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// fanout gives each record to every handler that wants its level.
type fanout []slog.Handler

func (f fanout) Enabled(ctx context.Context, l slog.Level) bool {
	for _, h := range f {
		if h.Enabled(ctx, l) {
			return true
		}
	}
	return false
}

func (f fanout) Handle(ctx context.Context, r slog.Record) error {
	var errs []error
	for _, h := range f {
		if h.Enabled(ctx, r.Level) {
			errs = append(errs, h.Handle(ctx, r.Clone()))
		}
	}
	return errors.Join(errs...)
}

func (f fanout) WithAttrs(as []slog.Attr) slog.Handler {
	out := make(fanout, len(f))
	for i, h := range f {
		out[i] = h.WithAttrs(as)
	}
	return out
}

func (f fanout) WithGroup(name string) slog.Handler {
	out := make(fanout, len(f))
	for i, h := range f {
		out[i] = h.WithGroup(name)
	}
	return out
}

// isTerminal takes any character device for a terminal: /dev/null is none, but nobody reads its format.
func isTerminal(f *os.File) bool {
	fi, err := f.Stat()
	return err == nil && fi.Mode()&os.ModeCharDevice != 0
}

// sameFile is true for a shared terminal, for 2>&1 and for the journal: there an error would be seen twice.
func sameFile(a, b *os.File) bool {
	x, err1 := a.Stat()
	y, err2 := b.Stat()
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}
