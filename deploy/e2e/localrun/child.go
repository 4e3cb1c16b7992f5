package localrun

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// child is a program that is kept running until stop: when it is killed it is started again.
type child struct {
	name    string
	argv    []string
	env     []string
	logPath string
	started func(pid int)      // after each start
	ended   func(at time.Time) // after each end that nobody here ordered
	broken  func(err error)    // once, when it ends again and again

	mu       sync.Mutex
	process  *os.Process
	since    time.Time // when process was started
	killed   bool      // process, by kill
	stopping bool
	done     chan struct{} // closed when the loop has ended
	exit     error         // of the last process, once done is closed
}

const (
	restartPause = 300 * time.Millisecond
	quickDeath   = 2 * time.Second
	quickDeaths  = 5 // in a row: something is wrong that a restart does not mend
)

// run starts the program and returns once it runs; restarts go on in the background until stop.
func (c *child) run() error {
	c.done = make(chan struct{})
	first := make(chan error, 1)
	go c.loop(first)
	return <-first
}

// loop stays on one thread for life: Linux sends the parent-death signal when the thread that started a process ends,
// not when the program does.
func (c *child) loop(first chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(c.done)
	quick := 0
	for {
		cmd, err := c.start()
		if first != nil {
			first <- err
			first = nil
		}
		if err != nil {
			c.giveUp(err)
			return
		}
		if cmd == nil {
			return // stopped meanwhile
		}
		began := time.Now()
		c.exit = cmd.Wait()
		c.mu.Lock()
		c.process = nil
		stopping, killed := c.stopping, c.killed
		c.mu.Unlock()
		if stopping {
			return
		}
		c.ended(time.Now())
		quick++
		if killed || time.Since(began) > quickDeath {
			quick = 0
		}
		if quick == quickDeaths {
			c.giveUp(fmt.Errorf("%s ended %d times within %s of its start: %w\n%s", c.name, quickDeaths, quickDeath, c.exit, c.lastLines()))
			return
		}
		time.Sleep(restartPause)
	}
}

// start returns nil without an error when stop was called first.
func (c *child) start() (*exec.Cmd, error) {
	log, err := os.OpenFile(c.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start the %s: %w", c.name, err)
	}
	defer func() { _ = log.Close() }()            // the child has its own descriptor
	cmd := exec.Command(c.argv[0], c.argv[1:]...) //nolint:noctx // it outlives every context: stop ends it
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Stdout, cmd.Stderr = log, log
	// A group of its own: Ctrl-C reaches only this program, which then stops the others in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopping {
		return nil, nil //nolint:nilnil // documented: neither started nor failed
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the %s: %w", c.name, err)
	}
	c.process, c.since, c.killed = cmd.Process, time.Now(), false
	c.started(cmd.Process.Pid)
	return cmd, nil
}

func (c *child) giveUp(err error) {
	c.exit = err
	c.broken(err)
}

// kill ends the running process with SIGKILL; it will be started again.
func (c *child) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != nil {
		c.killed = true
		_ = c.process.Kill() // it may have ended by itself at this moment, which serves as well
	}
}

// running returns the process id, 0 when none runs now, and when the last one was started.
func (c *child) running() (pid int, since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != nil {
		pid = c.process.Pid
	}
	return pid, c.since
}

// stop asks the program to end and waits. An exit code other than 0 is an error. It may be called again, and before run.
func (c *child) stop() error {
	c.mu.Lock()
	already := c.stopping
	c.stopping = true
	if c.process != nil && !already {
		_ = c.process.Signal(syscall.SIGTERM) // as in kill
	}
	c.mu.Unlock()
	if c.done == nil || already {
		return nil
	}
	select {
	case <-c.done:
	case <-time.After(stopTimeout):
		c.kill()
		<-c.done
		return fmt.Errorf("the %s did not end within %s of SIGTERM and was killed: see %s", c.name, stopTimeout, c.logPath)
	}
	if c.exit != nil {
		return fmt.Errorf("the %s ended with an error: %w\n%s", c.name, c.exit, c.lastLines())
	}
	return nil
}

// lastLines quotes the end of the program's log.
func (c *child) lastLines() string {
	const most = 12
	b, err := os.ReadFile(c.logPath)
	if err != nil {
		return ""
	}
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	if len(lines) > most {
		lines = lines[len(lines)-most:]
	}
	return "its last lines (" + c.logPath + "):\n" + string(bytes.Join(lines, []byte("\n")))
}

// runOnce runs a program to its end. What it says on standard error becomes the error's text.
func runOnce(ctx context.Context, env []string, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		if text := bytes.TrimSpace(stderr.Bytes()); len(text) > 0 {
			err = errors.New(string(text))
		}
		return fmt.Errorf("%s: %w", strings.Join(argv[:min(len(argv), 7)], " "), err)
	}
	return nil
}
