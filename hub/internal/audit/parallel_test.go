package audit

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/pgtest"
)

// 200 sites enrol at once, each in a transaction of a few statements with two entries, while a hub chains. The entries may not
// make them wait for each other: N2 leaves 50 ms for the whole. Measured here is what a transaction takes once it has a connection,
// beside the same without entries.
func TestTwoHundredChangesAtOnceDoNotQueueForTheChain(t *testing.T) {
	url := pgtest.URL(t)
	c, err := pg.PoolConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	c.MaxConns = 30 // as a hub's pool
	pool, err := pgxpool.NewWithConfig(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if _, err := pool.Exec(t.Context(), `CREATE TABLE change (n int PRIMARY KEY, text text)`); err != nil {
		t.Fatal(err)
	}
	l := newLog(t, pool, "")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	n := 0
	round := func(audited bool) (p95 time.Duration) {
		took := make([]time.Duration, 200)
		var wg sync.WaitGroup
		for i := range took {
			n++
			key := n
			wg.Go(func() {
				conn, err := pool.Acquire(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Release()
				begin := time.Now()
				err = pg.InTx(t.Context(), conn, func(tx pgx.Tx) error {
					for _, sql := range []string{`INSERT INTO change VALUES ($1, 'a')`, `UPDATE change SET text = 'b' WHERE n = $1`, `UPDATE change SET text = 'c' WHERE n = $1`} {
						if _, err := tx.Exec(t.Context(), sql, key); err != nil {
							return err
						}
					}
					for range 2 {
						if !audited {
							continue
						}
						if err := l.Add(t.Context(), tx, login(i)); err != nil {
							return err
						}
					}
					return nil
				})
				took[i] = time.Since(begin)
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		slices.Sort(took)
		return took[len(took)*95/100]
	}
	round(true) // connections, prepared statements
	var without, with []time.Duration
	for range 3 {
		without = append(without, round(false))
		with = append(with, round(true))
	}
	slices.Sort(without)
	slices.Sort(with)
	t.Logf("p95 of 200 at once, 30 connections: %s without entries, %s with two each", without[1], with[1])
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if v := verify(t, l); !v.OK() || v.Entries != 4*400 || v.Pending != 0 {
		t.Errorf("%+v", v)
	}
	// A lock held until the commit would make the last of 30 wait for 29 others. Generous, because the machine is shared.
	if with[1] > 5*without[1]+50*time.Millisecond {
		t.Errorf("entries make changes wait: %s instead of %s", with[1], without[1])
	}
}
