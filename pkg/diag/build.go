// Package diag is what an operator sees of a running program beside its work: logs, version, and
// the metrics registry with its handler. It sets nothing global: every logger and registry is
// returned and passed on. Both programs' mains and composition roots call it.
package diag

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Set by the linker for releases: -ldflags "-X …/pkg/diag.version=v1.2.3 -X …/pkg/diag.commit=… -X …/pkg/diag.date=…".
// The linker leaves no other way than package variables; nothing else writes them.
var version, commit, date string

// Build says which program this is.
type Build struct {
	Version string `json:"version"` // "devel" when built outside a release
	Commit  string `json:"commit,omitempty"`
	Date    string `json:"date,omitempty"` // of the commit, RFC 3339
	Dirty   bool   `json:"dirty,omitempty"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

// ReadBuild returns what the linker was told, completed by what the Go toolchain recorded.
func ReadBuild() Build {
	b := Build{Version: version, Commit: commit, Date: date, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		if v := info.Main.Version; b.Version == "" && v != "" && v != "(devel)" {
			b.Version = v
		}
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				if b.Commit == "" {
					b.Commit = s.Value
				}
			case "vcs.time":
				if b.Date == "" {
					b.Date = s.Value
				}
			case "vcs.modified":
				b.Dirty = s.Value == "true" && commit == ""
			}
		}
	}
	if b.Version == "" {
		b.Version = "devel"
	}
	return b
}

// String is one line for people: "v1.2.3 (commit 0123456789ab, 2026-01-02T03:04:05Z, go1.26.8 linux/amd64)".
func (b Build) String() string {
	c := b.Commit
	if len(c) > 12 {
		c = c[:12]
	}
	if c == "" {
		c = "unknown"
	}
	if b.Dirty {
		c += "+changes"
	}
	s := fmt.Sprintf("%s (commit %s, ", b.Version, c)
	if b.Date != "" {
		s += b.Date + ", "
	}
	return s + fmt.Sprintf("%s %s/%s)", b.Go, b.OS, b.Arch)
}
