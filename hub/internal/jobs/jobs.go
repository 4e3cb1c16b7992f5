// Package jobs runs the hub's background work on schedules that all hub processes of a database share: River, a queue in
// PostgreSQL, elects one process that makes each job when it is due, and any process may do it. A job that fails is tried
// again a bounded number of times. Tasks with a lock of their own need no queue: each process runs them when it thinks they are due. The
// package knows no job's content: hubd hands it tasks of the subjects, each of which must be safe to run twice or in two processes at once.
package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

// Task is one kind of background work.
type Task struct {
	Kind  string                      // stable name, in rows, metrics and lists: lower case with underscores
	Every time.Duration               // at least a second
	Run   func(context.Context) error // does what is due and returns; repeating it changes nothing
	// Locked says that the task sees to it itself that one process at a time does it, by a lock that ends with its process. Every process then runs
	// it by its own clock, at once and past the queue. When a process is killed another one goes on the next time; through the queue it would
	// be when the leader's lease has run out (15 s), and after rescueAfter if the process was killed in the middle of the job.
	Locked bool
}

// Limits of all jobs.
const (
	// runTimeout ends a run. Tasks keep what they have done, and the next run goes on from there.
	runTimeout = 4 * time.Minute
	// rescueAfter is when a job of a process that was killed is given to another one; it must be longer than runTimeout.
	rescueAfter = 5 * time.Minute
	// maxAttempts bounds the retries of a failed job, at growing intervals; the next one comes when it is due anyway.
	maxAttempts = 4
	// softStop is how long running jobs may go on when the hub stops, before their contexts end.
	softStop = 10 * time.Second
	workers  = 4 // jobs that one process does at a time
	maxTasks = 64
)

// Config describes a Runner.
type Config struct {
	Pool  *pgxpool.Pool // required
	Tasks []Task
	Delay time.Duration // before the first task that is not Locked
	// Alone runs the tasks in one plain loop by this process's clock instead of through River. It is for hubs with a clock
	// of their own, such as those in virtual time: River goes by the database's clock, and its polling would be most of
	// what a virtual day costs.
	Alone      bool
	Log        *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil means no metrics
}

// Runner does background work.
type Runner struct {
	c       Config
	metrics *metrics
	fetch   time.Duration // a field for tests, which do not wait that long
}

// River accepts more; metrics and lists stay readable with this.
var kindForm = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

// New checks the tasks. It does not touch the database.
func New(c Config) (*Runner, error) {
	if c.Pool == nil {
		return nil, errors.New("jobs: a database pool is required")
	}
	if len(c.Tasks) == 0 || len(c.Tasks) > maxTasks {
		return nil, fmt.Errorf("jobs: %d tasks, want 1 to %d", len(c.Tasks), maxTasks)
	}
	seen := map[string]bool{}
	for _, t := range c.Tasks {
		switch {
		case !kindForm.MatchString(t.Kind) || seen[t.Kind]:
			return nil, fmt.Errorf("jobs: kind %q is malformed or taken", t.Kind)
		case t.Every < time.Second || t.Run == nil:
			return nil, fmt.Errorf("jobs: %s needs an interval of at least a second and something to run", t.Kind)
		}
		seen[t.Kind] = true
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	r := &Runner{c: c, metrics: newMetrics(c.Tasks), fetch: fetchEvery}
	if c.Registerer != nil {
		if err := c.Registerer.Register(r.metrics); err != nil {
			return nil, fmt.Errorf("metrics of jobs: %w", err)
		}
	}
	return r, nil
}

// Run does background work until ctx ends, and then lets running jobs of the queue finish, for a bounded time. Tasks that are Locked end at once.
func (r *Runner) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var locked sync.WaitGroup
	defer func() { cancel(); locked.Wait() }()
	if !r.c.Alone {
		for _, t := range r.c.Tasks {
			if t.Locked {
				locked.Go(func() { r.repeat(ctx, t) })
			}
		}
	}
	select {
	case <-time.After(r.c.Delay):
	case <-ctx.Done():
		return nil
	}
	if r.c.Alone {
		return r.loop(ctx)
	}
	return r.river(ctx)
}

// repeat runs one task again and again, in this process. A failure is told once, until another one takes its place.
func (r *Runner) repeat(ctx context.Context, t Task) {
	tick := time.NewTicker(t.Every)
	defer tick.Stop()
	for told := ""; ctx.Err() == nil; {
		text := ""
		if err := r.once(ctx, t); err != nil && ctx.Err() == nil {
			if text = err.Error(); text != told {
				r.c.Log.WarnContext(ctx, "job failed, it is tried again when it is next due", "kind", t.Kind, "err", err)
			}
		}
		told = text
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// do runs a task once and measures it. A panic of a task is a bug of it, and must not end the hub.
func (r *Runner) do(ctx context.Context, t Task) (err error) {
	begin := time.Now()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
		r.metrics.ran(ctx, t.Kind, time.Since(begin), err)
	}()
	return t.Run(ctx)
}

// loop is Run without River: the tasks one after the other, each when it is due.
func (r *Runner) loop(ctx context.Context) error {
	due := make([]time.Time, len(r.c.Tasks))
	for ctx.Err() == nil {
		next := time.Now().Add(time.Hour)
		for i, t := range r.c.Tasks {
			if now := time.Now(); !due[i].After(now) {
				due[i] = now.Add(t.Every)
				if err := r.once(ctx, t); err != nil && ctx.Err() == nil {
					r.c.Log.WarnContext(ctx, "job failed, it is tried again when it is next due", "kind", t.Kind, "err", err)
				}
			}
			if due[i].Before(next) {
				next = due[i]
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Until(next)):
		}
	}
	return nil
}

// once runs a task for at most runTimeout.
func (r *Runner) once(ctx context.Context, t Task) error {
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	return r.do(ctx, t)
}
