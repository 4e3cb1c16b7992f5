package pgtest_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashinsight/hashinsight/hub/pgtest"
)

func TestMain(m *testing.M) {
	if err := pgtest.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "this test needs PostgreSQL:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func TestEveryTestHasItsOwnDatabase(t *testing.T) {
	a, b := pgtest.New(t), pgtest.New(t)
	ctx := context.Background()
	if _, err := a.Exec(ctx, `CREATE TABLE only_here (n int)`); err != nil {
		t.Fatal(err)
	}
	var there *string
	if err := b.QueryRow(ctx, `SELECT to_regclass('only_here')::text`).Scan(&there); err != nil || there != nil {
		t.Fatalf("the other database has the table too: %v, %v", there, err)
	}
	var migrated *string
	if err := b.QueryRow(ctx, `SELECT to_regclass('hub_secret')::text`).Scan(&migrated); err != nil || migrated == nil {
		t.Fatalf("a fresh database lacks the migrations: %v", err)
	}
}

func TestWorksInsideABubble(t *testing.T) {
	url := pgtest.URL(t)
	_ = url
	synctest.Test(t, func(t *testing.T) {
		pool := pgtest.New(t)
		began := time.Now()
		for range 24 {
			var one int
			if err := pool.QueryRow(t.Context(), `SELECT 1`).Scan(&one); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour) // virtual
		}
		if got := time.Since(began); got != 24*time.Hour {
			t.Fatalf("a virtual day took %v", got)
		}
	})
}
