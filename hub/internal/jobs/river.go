package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
)

// Times of the queue. River polls: a parked LISTEN would hold a connection and does not pass a transaction pooler.
const (
	fetchEvery = 5 * time.Second
	lookEvery  = 15 * time.Second // at the queue, for metrics
)

// unfinished are the states in which a job keeps another one of its kind from being made.
var unfinished = []rivertype.JobState{
	rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRunning, rivertype.JobStateRetryable, rivertype.JobStateScheduled,
}

// args is a job without arguments: its kind says it all.
type args struct{ kind string }

// Kind implements river.JobArgs.
func (a args) Kind() string { return a.kind }

// worker does the jobs of one kind.
type worker struct {
	river.WorkerDefaults[args]
	r    *Runner
	task Task
}

// Work implements river.Worker.
func (w worker) Work(ctx context.Context, _ *river.Job[args]) error { return w.r.do(ctx, w.task) }

func (r *Runner) river(ctx context.Context) error {
	work := river.NewWorkers()
	var periodic []*river.PeriodicJob
	for _, t := range r.c.Tasks {
		river.AddWorkerArgs(work, args{t.Kind}, worker{r: r, task: t}) // also of locked ones: an older hub may have left a job of the kind
		if t.Locked {
			continue
		}
		periodic = append(periodic, river.NewPeriodicJob(river.PeriodicInterval(t.Every), func() (river.JobArgs, *river.InsertOpts) {
			return args{t.Kind}, &river.InsertOpts{MaxAttempts: maxAttempts, UniqueOpts: river.UniqueOpts{ByState: unfinished}}
		}, &river.PeriodicJobOpts{ID: t.Kind, RunOnStart: true})) // a new leader does not know when the last one made a job
	}
	client, err := river.NewClient(riverpgxv5.New(r.c.Pool), &river.Config{
		Schema: pg.RiverSchema, PollOnly: true, FetchPollInterval: r.fetch, FetchCooldown: min(r.fetch, time.Second),
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: workers}}, Workers: work, PeriodicJobs: periodic,
		FetchOnlyKnownKinds: true, // beside a newer hub, its jobs are left to it
		JobTimeout:          runTimeout, RescueStuckJobsAfter: rescueAfter, SoftStopTimeout: softStop,
		Logger: slog.New(fromWarn{r.c.Log.Handler()}),
	})
	if err != nil {
		return fmt.Errorf("jobs: %w", err)
	}
	if err := client.Start(ctx); err != nil {
		return fmt.Errorf("jobs: %w", err)
	}
	stopped := client.Stopped()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-stopped:
			return nil
		case <-look.C:
			if err := r.look(ctx, client.ID()); err != nil && ctx.Err() == nil {
				r.metrics.lookedAt.Inc()
			}
		}
	}
}

const qLook = `
SELECT count(*) FILTER (WHERE state IN ('available', 'running', 'retryable')), min(scheduled_at) FILTER (WHERE state IN ('available', 'running', 'retryable')),
	count(*) FILTER (WHERE state = 'discarded'), EXISTS (SELECT FROM river.river_leader WHERE leader_id = $1 AND expires_at > statement_timestamp()), statement_timestamp()
FROM river.river_job WHERE state IN ('available', 'running', 'retryable', 'discarded')`

// look reads the queue's state. Ages are taken by the database's clock, as River takes its own.
func (r *Runner) look(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var waiting, givenUp int64
	var oldest *time.Time
	var leader bool
	var now time.Time
	if err := r.c.Pool.QueryRow(ctx, qLook, id).Scan(&waiting, &oldest, &givenUp, &leader, &now); err != nil {
		return err
	}
	m := r.metrics
	m.waiting.Set(float64(waiting))
	m.givenUp.Set(float64(givenUp))
	m.oldest.Set(0)
	if oldest != nil {
		m.oldest.Set(max(0, now.Sub(*oldest).Seconds()))
	}
	m.leader.Set(0)
	if leader {
		m.leader.Set(1)
	}
	return nil
}

// fromWarn drops what a library logs below Warn.
type fromWarn struct{ slog.Handler }

// Enabled implements slog.Handler.
func (h fromWarn) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && h.Handler.Enabled(ctx, l)
}

// WithAttrs implements slog.Handler.
func (h fromWarn) WithAttrs(a []slog.Attr) slog.Handler { return fromWarn{h.Handler.WithAttrs(a)} }

// WithGroup implements slog.Handler.
func (h fromWarn) WithGroup(name string) slog.Handler { return fromWarn{h.Handler.WithGroup(name)} }

// Job is one line of the list of jobs.
type Job struct {
	ID          int64      `json:"id"`
	Kind        string     `json:"kind"`
	State       string     `json:"state"` // available, running, retryable, completed, cancelled, discarded (given up), scheduled or pending
	Attempt     int        `json:"attempt"`
	MaxAttempts int        `json:"max_attempts"`
	DueAt       time.Time  `json:"due_at"`
	StartedAt   *time.Time `json:"started_at,omitempty"`
	EndedAt     *time.Time `json:"ended_at,omitempty"`
	By          string     `json:"by,omitempty"`         // the process that tried it last
	LastError   string     `json:"last_error,omitempty"` // of the last attempt that failed
}

// maxList bounds a list of jobs.
const maxList = 1000

// States lists the states of jobs.
func States() []string {
	var names []string
	for _, s := range rivertype.JobStates() {
		names = append(names, string(s))
	}
	return names
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

const qList = `
SELECT id, kind, state::text, attempt, max_attempts, scheduled_at, attempted_at, finalized_at,
	coalesce(attempted_by[array_upper(attempted_by, 1)], ''), coalesce(left(errors[array_upper(errors, 1)] ->> 'error', 500), '')
FROM river.river_job WHERE cardinality($1::text[]) = 0 OR state::text = ANY($1::text[])
ORDER BY id DESC LIMIT $2`

// List returns the newest jobs, the newest first; states empty means all.
func List(ctx context.Context, db querier, states []string, limit int) ([]Job, error) {
	if states == nil {
		states = []string{}
	}
	rows, err := db.Query(ctx, qList, states, min(max(limit, 1), maxList))
	if err != nil {
		return nil, fmt.Errorf("listing jobs: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Job])
	if err != nil {
		return nil, fmt.Errorf("listing jobs: %w", err)
	}
	return list, nil
}
