package hubd

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/ingest"
	"github.com/hashinsight/hashinsight/hub/internal/jobs"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/pkg/lifecycle"
)

// backgroundDelay keeps background work away from a hub that has just started fast; log and anchor, which take little, do not wait.
const backgroundDelay = 5 * time.Second

// tasks is the background work of all subjects, and how often it is due.
func (h *Hub) tasks(s subjects) []jobs.Task {
	at := func(run func(context.Context, time.Time) error) func(context.Context) error {
		return func(ctx context.Context) error { return run(ctx, h.c.Now()) }
	}
	return []jobs.Task{
		{Kind: "seal", Every: time.Minute, Run: at(s.series.Seal)}, // open hours are written again every 5 minutes
		{Kind: "partitions", Every: 10 * time.Minute, Run: s.series.MakePartitions},
		{Kind: "retain", Every: 10 * time.Minute, Run: at(s.series.Retain)},
		{Kind: "sla", Every: time.Minute, Run: at(s.statements.Update)},
		{Kind: "facts", Every: time.Minute, Run: at(s.facts.Judge)},
		{Kind: "statements", Every: 5 * time.Minute, Run: at(s.statements.Close)},
		{Kind: "facts_retain", Every: time.Hour, Run: at(s.facts.Retain)},
		{Kind: "log", Every: h.logEvery(), Run: s.log.Run, Locked: true},
		{Kind: "links", Every: time.Minute, Run: func(ctx context.Context) error {
			return pg.InTx(ctx, s.pools.Jobs, func(tx pgx.Tx) error { return ingest.SweepLinks(ctx, tx) })
		}},
	}
}

// startJobs starts the background work.
func (h *Hub) startJobs(ctx context.Context, stack *lifecycle.Stack, s subjects) error {
	if s.pki == nil {
		return errors.New("ENCRYPTION_PASSWORD is required by the module jobs: it opens the miners' salt keys, with which signed hours are judged, and the key that signs statements")
	}
	tasks := h.tasks(s)
	if h.chain = h.openForJobs(ctx, stack); h.chain != nil {
		task, err := h.anchorTask(&s, h.chain)
		if err != nil {
			return err
		}
		tasks = append(tasks, task)
	}
	keys, err := access.NewKeys(access.KeysConfig{Pool: s.pools.Jobs, Audit: s.audit, Env: h.c.Env, Now: h.c.Now, Log: h.c.Log})
	if err != nil {
		return err
	}
	tasks = append(tasks, jobs.Task{Kind: "apikeys", Every: time.Hour, Run: keys.AnnounceEnds})
	if s.archive != nil {
		tasks = append(tasks, jobs.Task{Kind: "archive", Every: 10 * time.Minute, Run: func(ctx context.Context) error { return s.archive.Move(ctx, h.c.Now()) }})
	}
	c := jobs.Config{Pool: s.pools.Jobs, Tasks: tasks, Alone: h.alone, Log: h.c.Log, Registerer: h.c.Registry}
	if h.c.FastStartup {
		c.Delay = backgroundDelay
	}
	runner, err := jobs.New(c)
	if err != nil {
		return err
	}
	stack.Go("jobs", stopJobs, runner.Run)
	return nil
}
