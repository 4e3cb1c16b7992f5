package facts

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hashinsight/hashinsight/agent/internal/faults"
	"github.com/hashinsight/hashinsight/agent/internal/spool"
	"github.com/hashinsight/hashinsight/pkg/evidence"
)

// Variables that make the test binary an agent to be killed.
const (
	childMark   = "HSI_TEST_FACTS_AGENT" // when it starts, seconds since begin
	childAt     = "HSI_TEST_FACTS_AT"    // when it is to die, likewise
	childDuring = "HSI_TEST_FACTS_IN"    // "samples" or "hour"
	childWhere  = "HSI_TEST_FACTS_WHERE" // name of a point
)

// killPoints are the system calls before which an agent dies while it stores readings, or signs an hour; nil: when it has done so.
var killPoints = map[string][]faults.Point{
	"before the pages of a batch are written": faults.OnData,
	"pages written, before they are durable":  {{Call: unix.SYS_FDATASYNC}},
	"pages durable, before the meta page":     faults.OnMeta,
	"committed, nobody knows":                 nil,
	"note written, before it is durable":      {{Call: unix.SYS_FSYNC}},
	"note durable, before it has its name":    faults.OnRename,
	"before a file is opened for the note":    faults.OnOpen,
}

// ofNote are those that a commit of readings does not come to.
var ofNote = []string{"note written, before it is durable", "note durable, before it has its name", "before a file is opened for the note"}

// TestAgentThatIsKilled is the child: it polls and signs until it dies.
func TestAgentThatIsKilled(t *testing.T) {
	from, err := strconv.Atoi(os.Getenv(childMark))
	if err != nil {
		t.Skip("the child of TestKilledAroundAnHour")
	}
	at, _ := strconv.Atoi(os.Getenv(childAt))
	s := newSite(t, 3, func(s *site) { s.spools.Dir, s.spools.SegmentBytes = ".", 256<<10 })
	s.pass(time.Duration(from) * time.Second)
	die := func(stage string) {
		if os.Getenv(childDuring) != stage || s.clock.Before(begin.Add(time.Duration(at)*time.Second)) {
			return
		}
		if points := killPoints[os.Getenv(childWhere)]; points == nil {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		} else if err := faults.Arm(faults.Kill, points...); err != nil {
			fmt.Println("skip", err)
			os.Exit(3)
		}
	}
	after := killPoints[os.Getenv(childWhere)] == nil
	for range 100 {
		s.pass(5 * time.Minute)
		if !after {
			die("samples")
		}
		s.poll()
		if after {
			die("samples")
		} else {
			die("hour")
		}
		if _, err := s.signer.step(t.Context()); err != nil {
			t.Fatal(err)
		}
		if after {
			die("hour")
		}
	}
}

// An agent dies at each named point while it stores the first readings after an hour, and while it signs the hour. What the next ones
// make of it: every hour once, as its batches say.
func TestKilledAroundAnHour(t *testing.T) {
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, 3, func(s *site) { s.spools.Dir, s.every = dir, 5*time.Minute })
	s.close()
	at, hits := 0, 0 // seconds since begin, of the newest poll
	for _, stage := range []string{"samples", "hour"} {
		for _, where := range slices.Sorted(maps.Keys(killPoints)) {
			if stage == "samples" && slices.Contains(ofNote, where) {
				continue
			}
			// The first poll at least a minute after the next full hour.
			when := begin.Add(time.Duration(at) * time.Second).Truncate(time.Hour).Add(time.Hour + time.Minute)
			cmd := exec.Command(exe, "-test.run=^TestAgentThatIsKilled$")
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), childMark+"="+strconv.Itoa(at), childAt+"="+strconv.Itoa(int(when.Sub(begin)/time.Second)), childDuring+"="+stage, childWhere+"="+where)
			out, err := cmd.CombinedOutput()
			if strings.Contains(string(out), "skip") {
				faults.Skip(t, "this kernel has no seccomp filters: %s", out)
			}
			var exit *exec.ExitError
			if killed := errors.As(err, &exit) && !exit.Exited(); !killed {
				t.Fatalf("%s, %s: the agent was not killed: %v\n%s", stage, where, err, out)
			}
			hits++
			_, err = spool.Export(t.Context(), dir, func(b spool.Batch) error {
				if b.Header.Kind == evidence.KindSamples {
					at = int(time.UnixMilli(b.Header.LastMS).Sub(begin) / time.Second)
				}
				return nil
			})
			if err != nil {
				t.Fatalf("%s, %s: %v", stage, where, err)
			}
		}
	}
	s.clock, s.real = begin.Add(time.Duration(at)*time.Second), time.Duration(at)*time.Second
	s.open()
	s.run(3 * time.Hour)
	var want []int
	for h := begin.Truncate(time.Hour).Add(time.Hour); endOf(uint32(h.UnixMilli()/hourMS))+60_000 <= s.clock.UnixMilli(); h = h.Add(time.Hour) {
		want = append(want, int(h.Sub(begin.Truncate(24*time.Hour))/time.Hour))
	}
	s.wantHours(want...)
	t.Logf("killed %d times, %d hours", hits, len(want))
}
