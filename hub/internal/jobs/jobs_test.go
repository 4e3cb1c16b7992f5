package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hashinsight/hashinsight/hub/pgtest"
)

func TestMain(m *testing.M) {
	if err := pgtest.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "these tests need PostgreSQL:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func runner(t *testing.T, pool *pgxpool.Pool, tasks ...Task) *Runner {
	t.Helper()
	r, err := New(Config{Pool: pool, Tasks: tasks})
	if err != nil {
		t.Fatal(err)
	}
	r.fetch = 100 * time.Millisecond
	return r
}

// start runs r; the returned function stops it and waits.
func start(t *testing.T, r *Runner) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the runner ended with %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("no %s within a minute", what)
		}
		<-time.After(20 * time.Millisecond)
	}
}

func list(t *testing.T, pool *pgxpool.Pool, states ...string) []Job {
	t.Helper()
	all, err := List(t.Context(), pool, states, 100)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Two hub processes share the work: never two jobs of a kind at once, and when the one that makes the jobs leaves, the other
// takes over. Nothing of it listens.
func TestTwoProcessesDoEachJobOnceAndTakeOver(t *testing.T) {
	pool := pgtest.New(t)
	var running, most, runs atomic.Int32
	task := Task{Kind: "count", Every: time.Second, Run: func(context.Context) error {
		most.Store(max(most.Load(), running.Add(1)))
		defer running.Add(-1)
		<-time.After(50 * time.Millisecond)
		runs.Add(1)
		return nil
	}}
	first := runner(t, pool, task)
	stopFirst := start(t, first)
	await(t, "run of the first process", func() bool { return runs.Load() >= 1 })
	second := runner(t, pool, task)
	start(t, second)
	await(t, "third run", func() bool { return runs.Load() >= 3 })
	var listening int
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE query ILIKE 'listen%'`).Scan(&listening); err != nil || listening != 0 {
		t.Errorf("%d connections listen, %v", listening, err)
	}
	stopFirst()
	before := runs.Load()
	await(t, "run after the first process left", func() bool { return runs.Load() >= before+2 })
	if most.Load() != 1 {
		t.Errorf("%d jobs of one kind ran at once", most.Load())
	}
	for _, r := range []*Runner{first, second} {
		if n := testutil.ToFloat64(r.metrics.runs.WithLabelValues("count", outcomeFailed)); n != 0 {
			t.Errorf("%v runs failed", n)
		}
	}
}

// A failing job is tried again, later each time, while the others go on; the list says what happened.
func TestAFailingJobIsTriedAgainAndShown(t *testing.T) {
	pool := pgtest.New(t)
	var failed, panicked, fine atomic.Int32
	r := runner(t, pool,
		Task{Kind: "fails", Every: time.Second, Run: func(context.Context) error { failed.Add(1); return errors.New("the disk is full") }},
		Task{Kind: "panics", Every: time.Hour, Run: func(context.Context) error { panicked.Add(1); panic("index out of range") }},
		Task{Kind: "works", Every: time.Second, Run: func(context.Context) error { fine.Add(1); return nil }},
	)
	start(t, r)
	await(t, "second attempt", func() bool { return failed.Load() >= 2 && panicked.Load() >= 2 && fine.Load() >= 5 })
	waiting := list(t, pool, "retryable", "running", "available")
	var texts []string
	for _, j := range waiting {
		texts = append(texts, fmt.Sprintf("%s %d/%d %s", j.Kind, j.Attempt, j.MaxAttempts, j.LastError))
	}
	all := strings.Join(texts, "\n")
	if !strings.Contains(all, "the disk is full") || !strings.Contains(all, "panic: index out of range") || !strings.Contains(all, "/4") {
		t.Errorf("listed are\n%s", all)
	}
	if n := failed.Load(); n > 3 {
		t.Errorf("a failing job ran %d times at once", n)
	}
	if err := r.look(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if n, age := testutil.ToFloat64(r.metrics.waiting), testutil.ToFloat64(r.metrics.oldest); n < 2 || age < 0 || age > 60 {
		t.Errorf("%v jobs wait, the oldest for %v s", n, age)
	}
	if done := list(t, pool, "completed"); len(done) == 0 || done[0].Kind != "works" || done[0].EndedAt == nil || done[0].By == "" {
		t.Errorf("completed are %+v", done)
	}
}

// A process that is told to stop finishes what it does.
func TestStoppingFinishesTheRunningJob(t *testing.T) {
	pool := pgtest.New(t)
	began, release := make(chan struct{}), make(chan struct{})
	r := runner(t, pool, Task{Kind: "slow", Every: time.Hour, Run: func(ctx context.Context) error {
		close(began)
		<-release
		return ctx.Err()
	}})
	stop := start(t, r)
	<-began
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	<-time.After(200 * time.Millisecond)
	close(release)
	<-stopped
	if done := list(t, pool, "completed"); len(done) != 1 {
		t.Errorf("jobs are %+v, want one that is completed", list(t, pool))
	}
}

// Without River the same tasks run by this process's clock alone.
func TestAloneInVirtualTime(t *testing.T) {
	pool := pgtest.New(t)
	synctest.Test(t, func(t *testing.T) {
		var minutes, hours, failures int
		r, err := New(Config{Pool: pool, Alone: true, Tasks: []Task{
			{Kind: "minutes", Every: time.Minute, Run: func(context.Context) error { minutes++; return nil }},
			{Kind: "hours", Every: time.Hour, Run: func(context.Context) error { hours++; return nil }},
			{Kind: "fails", Every: time.Hour, Run: func(context.Context) error { failures++; panic("no") }},
		}})
		if err != nil {
			t.Fatal(err)
		}
		stop := start(t, r)
		time.Sleep(24*time.Hour - time.Second)
		stop()
		if minutes != 24*60 || hours != 24 || failures != 24 {
			t.Errorf("a day had %d minutes, %d hours, %d failures", minutes, hours, failures)
		}
		if n := testutil.ToFloat64(r.metrics.runs.WithLabelValues("fails", outcomeFailed)); n != 24 {
			t.Errorf("%v failures counted", n)
		}
	})
}

// What has a lock of its own neither waits for the queue nor goes through it; it ends with its process, and a failure is told once.
func TestLockedTasksRunByTheirOwnClock(t *testing.T) {
	pool := pgtest.New(t)
	synctest.Test(t, func(t *testing.T) {
		var runs, failures, queued atomic.Int32
		var log strings.Builder
		r, err := New(Config{Pool: pool, Delay: time.Hour, Log: slog.New(slog.NewTextHandler(&log, nil)), Tasks: []Task{
			{Kind: "locked", Every: 10 * time.Second, Locked: true, Run: func(context.Context) error { runs.Add(1); return nil }},
			{Kind: "fails", Every: 10 * time.Second, Locked: true, Run: func(context.Context) error {
				return fmt.Errorf("half %d", failures.Add(1)/31) // another failure after 30 runs
			}},
			{Kind: "hangs", Every: 10 * time.Second, Locked: true, Run: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
			{Kind: "queued", Every: time.Second, Run: func(context.Context) error { queued.Add(1); return nil }},
		}})
		if err != nil {
			t.Fatal(err)
		}
		stop := start(t, r)
		synctest.Wait()
		if runs.Load() != 1 || failures.Load() != 1 {
			t.Errorf("%d runs, %d failures at the start", runs.Load(), failures.Load())
		}
		time.Sleep(10*time.Minute - time.Second)
		stop()
		if runs.Load() != 60 || failures.Load() != 60 || queued.Load() != 0 {
			t.Errorf("%d runs, %d failures, %d runs of the queue, which was not to begin yet", runs.Load(), failures.Load(), queued.Load())
		}
		if n := strings.Count(log.String(), "kind=fails"); n != 2 {
			t.Errorf("two failures were told %d times:\n%s", n, log.String())
		}
		if n := testutil.ToFloat64(r.metrics.runs.WithLabelValues("hangs", outcomeTimeout)); n != 2 {
			t.Errorf("%v runs that hang were ended", n)
		}
	})
}

func TestTasksAreChecked(t *testing.T) {
	pool := pgtest.New(t)
	run := func(context.Context) error { return nil }
	for name, tasks := range map[string][]Task{
		"none":             nil,
		"kind twice":       {{Kind: "a", Every: time.Minute, Run: run}, {Kind: "a", Every: time.Minute, Run: run}},
		"kind with spaces": {{Kind: "a b", Every: time.Minute, Run: run}},
		"no interval":      {{Kind: "a", Run: run}},
		"nothing to run":   {{Kind: "a", Every: time.Minute}},
	} {
		if _, err := New(Config{Pool: pool, Tasks: tasks}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestStatementsFitTheSchema(t *testing.T) {
	if n := len(pgtest.PrepareStatements(t, pgtest.New(t))); n != 2 {
		t.Errorf("%d statements found, want 2", n)
	}
}
