package agentd_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashinsight/hashinsight/agent/agentd"
	"github.com/hashinsight/hashinsight/agent/internal/facts"
	"github.com/hashinsight/hashinsight/pkg/sim"
)

// A whole agent over two hours, five times restarted in one of them and once off when an hour ends: every hour is signed once, as its
// batches say, and its status tells of it.
func TestAnAgentSignsEveryHourOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // begins at midnight UTC
		s := newSite(t, sim.Config{Miners: 8, Faulty: 0.25})
		for range 5 {
			s.run(9 * time.Minute)
			time.Sleep(time.Minute)
		}
		time.Sleep(15 * time.Minute) // 01:05
		s.run(30 * time.Minute)
		s.run(30 * time.Minute)

		a, err := agentd.New(s.config)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if h := a.Health(); h.Hours.Last == nil || h.Hours.Last.Hour.Hour() != 1 || h.Hours.Waiting != 0 || h.Hours.Recovering || h.Hours.Skipped != 0 {
			t.Errorf("hours %+v, last %+v", h.Hours, h.Hours.Last)
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		hours, err := facts.Verify(t.Context(), s.config.Dir, agentd.SpoolDir(s.config.Dir))
		if err != nil || len(hours) != 2 {
			t.Fatalf("hours %+v, %v", hours, err)
		}
		for _, h := range hours {
			if h.Result != facts.HourEqual || h.Miners != 8 {
				t.Errorf("hour %+v", h)
			}
		}
	})
}
