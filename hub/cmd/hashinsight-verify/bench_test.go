//go:build unix

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"testing"

	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/hub/internal/verify/verifytest"
	"github.com/hashinsight/hashinsight/pkg/bench"
)

// TestBenchMonthBundle measures what a customer waits for: the program itself, from its start to its exit code, over the bundle of a month of 1,000 miners and a chain's
// endpoint. Without the statement computed again means a statement of an engine that the program does not know: all else is checked, and that is told.
func TestBenchMonthBundle(t *testing.T) {
	if os.Getenv(bench.FileVariable) == "" {
		t.Skipf("a benchmark: set %s to the file that shall receive the result", bench.FileVariable)
	}
	program := built(t)
	month := verifytest.MonthOf{Seed: 19, Miners: 1000, Hours: 30 * 24}
	with := bundle(t, month)
	month.Change = func(st *sla.Statement) { st.Engine = 999 }
	without := bundle(t, month)
	info, err := os.Stat(with.file)
	if err != nil {
		t.Fatal(err)
	}
	measure := func(c *checked, code int, line string) float64 {
		cmd := exec.CommandContext(t.Context(), program, c.args("bundle")...)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err := cmd.Run()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		if got := cmd.ProcessState.ExitCode(); got != code || !regexp.MustCompile("(?m)^"+line).MatchString(out.String()) {
			t.Fatalf("it ends with %d, want %d and %q:\n%s", got, code, line, out.String())
		}
		return (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	}
	var whole, checks []float64
	for range 5 { // in turns: what the machine does beside it hits both
		whole = append(whole, measure(with, 0, "ok      sla "))
		checks = append(checks, measure(without, 3, "unknown sla "))
	}
	r := bench.Result{
		ID: "verify-bundle", Unit: "CPU-s", Value: bench.Median(whole), Floor: bench.Median(checks), Ratio: bench.Median(whole) / bench.Median(checks), Target: "≤ 2 s",
		What: fmt.Sprintf("hashinsight-verify bundle from start to exit code (user and system), a month of 30 days of 1,000 miners, %d MB, its statement computed again; floor: the same without that", info.Size()>>20),
		Met:  bench.Median(whole) <= 2, Samples: map[string][]float64{"CPU-s": whole, "CPU-s without the SLA": checks},
	}
	t.Logf("%v", r.Samples)
	if err := bench.Record(r); err != nil {
		t.Fatal(err)
	}
}
