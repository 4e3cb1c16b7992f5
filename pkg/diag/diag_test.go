package diag

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func tempFile(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestErrorsReachStandardErrorAndTheirFile(t *testing.T) {
	out, errs, dir := tempFile(t, "out"), tempFile(t, "err"), t.TempDir()
	l, err := OpenLogs(LogConfig{Level: "WaRn", Dir: dir, Stdout: out, Stderr: errs})
	if err != nil {
		t.Fatal(err)
	}
	l.App.Info("quiet")
	l.App.With("site", "north").Warn("careful")
	l.App.Error("broken")
	l.Access.Info("request", "status", 200)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][3]bool{ // careful, broken, request
		out.Name():                       {true, true, true},
		errs.Name():                      {false, true, false},
		filepath.Join(dir, "app.log"):    {true, true, false},
		filepath.Join(dir, "error.log"):  {false, true, false},
		filepath.Join(dir, "access.log"): {false, false, true},
	} {
		got := read(t, path)
		for i, word := range []string{`"careful","site":"north"`, `"broken"`, `"request"`} {
			if strings.Contains(got, word) != want[i] {
				t.Errorf("%s: has %s = %v, want %v", filepath.Base(path), word, !want[i], want[i])
			}
		}
		if strings.Contains(got, "quiet") {
			t.Errorf("%s holds a record below the level", filepath.Base(path))
		}
	}
}

func TestDurationsHaveTheirUnit(t *testing.T) {
	for _, format := range []string{"json", "text"} {
		out := tempFile(t, "out")
		l, err := OpenLogs(LogConfig{Format: format, Stdout: out, Stderr: out})
		if err != nil {
			t.Fatal(err)
		}
		l.App.Warn("waiting", "retry_in", 14800*time.Millisecond)
		if got := read(t, out.Name()); !strings.Contains(got, "14.8s") {
			t.Errorf("%s: %s", format, got)
		}
	}
}

func TestErrorsAreNotDoubledOnOneStream(t *testing.T) {
	out := tempFile(t, "out")
	l, err := OpenLogs(LogConfig{Format: "TEXT", Stdout: out, Stderr: out})
	if err != nil {
		t.Fatal(err)
	}
	l.App.Error("broken")
	if n := strings.Count(read(t, out.Name()), "msg=broken"); n != 1 {
		t.Fatalf("the error appears %d times, want once", n)
	}
}

func TestWrongLogSettingsAreAllNamed(t *testing.T) {
	_, err := OpenLogs(LogConfig{Level: "loud", Format: "xml"})
	if err == nil || !strings.Contains(err.Error(), "loud") || !strings.Contains(err.Error(), "xml") {
		t.Fatalf("error %v does not name both wrong settings", err)
	}
}

func TestRotationKeepsABoundedNumberOfFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	r, err := openRotating(path, 10, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"first 1\n", "second\n", "third 3\n", "fourth\n"} {
		if _, err := io.WriteString(r, line); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]string{path: "fourth\n", path + ".1": "third 3\n", path + ".2": "second\n"} {
		if got := read(t, p); got != want {
			t.Errorf("%s holds %q, want %q", filepath.Base(p), got, want)
		}
	}
	if _, err := os.Stat(path + ".3"); err == nil {
		t.Error("a third old file was kept")
	}
}

func TestMetricsCarryTheBuild(t *testing.T) {
	w := httptest.NewRecorder()
	MetricsHandler(NewRegistry("agent")).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{`hashinsight_build_info{`, `program="agent"`, "go_goroutines", "process_cpu_seconds_total"} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if s := ReadBuild().String(); !strings.Contains(s, "go1.") {
		t.Errorf("version line %q lacks the toolchain", s)
	}
}
