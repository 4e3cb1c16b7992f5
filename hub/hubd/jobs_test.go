package hubd_test

import (
	"context"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/hubd"
	"github.com/hashinsight/hashinsight/hub/pgtest"
)

// A hub goes on with the log at once where another was killed that led the queue and was in the middle of its job: neither that one's lease nor its job
// is waited for, and the delay that keeps work away from a hub that starts fast is not either.
func TestTheLogDoesNotWaitForAHubThatWasKilled(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	c := config(url)
	c.FastStartup = true
	c.Transparency = hubd.Transparency{Dir: filepath.Join(t.TempDir(), "log"), Public: true}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }() // nothing is under way
	for _, left := range []string{
		`INSERT INTO river.river_leader (elected_at, expires_at, leader_id, name) VALUES (now(), now() + interval '1 hour', 'killed', 'default')`,
		`INSERT INTO river.river_job (kind, state, attempt, attempted_at, attempted_by, max_attempts, args) VALUES ('log', 'running', 1, now(), '{killed}', 4, '{}')`,
	} {
		if _, err := conn.Exec(t.Context(), left); err != nil {
			t.Fatal(err)
		}
	}
	h := start(t, c)
	awaitReady(t, h)
	for end := time.Now().Add(30 * time.Second); ; <-time.After(50 * time.Millisecond) {
		if status, _, text := get(t, http.DefaultClient, "http://"+h.WebAddr().String()+"/log/checkpoint", ""); status == http.StatusOK && strings.HasPrefix(text, "hashinsight.log/") {
			return
		}
		if time.Now().After(end) {
			t.Fatal("the log has no checkpoint")
		}
	}
}
