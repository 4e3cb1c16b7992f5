package hubd

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/ingest"
	"github.com/hashinsight/hashinsight/hub/internal/jobs"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/pkg/lifecycle"
)

// backgroundDelay keeps background work away from a hub that has just started fast.
const backgroundDelay = 5 * time.Second

// tasks is the background work of all subjects, and how often it is due.
func (s subjects) tasks() []jobs.Task {
	return []jobs.Task{
		{Kind: "partitions_ahead", Every: 10 * time.Minute, Run: s.series.MakePartitions},
		{Kind: "partitions_behind", Every: 10 * time.Minute, Run: s.series.DropPartitions},
		{Kind: "blocks", Every: time.Minute, Run: s.series.WriteBlocks},
		{Kind: "links", Every: time.Minute, Run: func(ctx context.Context) error {
			return pg.InTx(ctx, s.pools.Jobs, func(tx pgx.Tx) error { return ingest.SweepLinks(ctx, tx) })
		}},
	}
}

// startJobs starts the background work.
func (h *Hub) startJobs(stack *lifecycle.Stack, s subjects) error {
	runner, err := jobs.New(jobs.Config{Pool: s.pools.Jobs, Tasks: s.tasks(), Alone: h.alone, Log: h.c.Log, Registerer: h.c.Registry})
	if err != nil {
		return err
	}
	stack.Go("jobs", stopJobs, func(ctx context.Context) error {
		if h.c.FastStartup {
			select {
			case <-time.After(backgroundDelay):
			case <-ctx.Done():
				return nil
			}
		}
		return runner.Run(ctx)
	})
	return nil
}
