package e2e

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/agent/agentd"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/sim"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// wantEveryAnswerInEvidenceOnce checks what the hub keeps for as long as statements can be disputed: every answer is in one
// stored batch, signed. Hot samples cover the last days only.
func (w *world) wantEveryAnswerInEvidenceOnce() {
	t := w.t
	t.Helper()
	address := map[ident.MinerID]string{}
	var miner [16]byte
	var at string
	w.query(`SELECT id, address FROM miner`, []any{&miner, &at}, func() { address[ident.MinerID(miner)] = at })
	decoder, err := wire.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	type key struct {
		address string
		serial  int64
	}
	kept := map[key]int{}
	var payload []byte
	w.query(`SELECT payload FROM batch WHERE kind = 1 ORDER BY spool_id, seq`, []any{&payload}, func() {
		s, err := decoder.Samples(payload)
		if err != nil {
			t.Errorf("payload of a stored batch: %v", err)
			return
		}
		for i := range s.Len() {
			o := s.Observation(i)
			if n, ok := o.BestShare.Get(); ok {
				kept[key{address[o.Miner], n}]++
			}
		}
	})
	for _, a := range w.answered() {
		k := key{a.Miner, int64(a.Serial)}
		if kept[k] != 1 {
			t.Errorf("answer %d of %s at %s is %d times in the evidence", a.Serial, a.Miner, a.At, kept[k])
		}
		delete(kept, k)
	}
	for k, n := range kept {
		t.Errorf("%s: answer %d is %d times in the evidence and was never given", k.address, k.serial, n)
	}
}

// Late data is evidence first: all of a week comes to the ledger, and what is younger than hot samples reach becomes hot.
func TestWeekLongCutLosesNothing(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, url, sim.Config{Miners: 2, Seed: 11})
		time.Sleep(2 * time.Hour)
		w.link.set(true)
		time.Sleep(7 * 24 * time.Hour)
		w.link.set(false)
		time.Sleep(time.Minute + 2*pollInterval)
		if late := w.count(`SELECT count(*) FROM miner_latest WHERE at < (SELECT max(at) FROM miner_latest) - interval '10 minutes'`); late != 0 {
			t.Errorf("%d miners are still shown with an old value after the link is back", late)
		}
		time.Sleep(6 * time.Hour)
		end := time.Now()
		w.stop()

		w.wantEveryAnswerInEvidenceOnce()
		w.wantNoTrouble()
		from := end.Add(-72 * time.Hour)
		w.forgetAnswersBefore(from)
		w.wantEverySlotOnceSince(from, end)
	})
}

// A site's clock that is a day wrong, either way and back: order comes from sequence numbers, nothing is lost or refused, no
// duration is negative, the skew is known, and the latest values are those of the true time again at the end.
func TestClockSteps(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	synctest.Test(t, func(t *testing.T) {
		var step atomic.Int64 // of the site's clock, ns
		w := newWorld(t, url, sim.Config{Miners: 10, Seed: 5}, func(c *agentd.Config) {
			c.Now = func() time.Time { return time.Now().Add(time.Duration(step.Load())) }
		})
		time.Sleep(2 * time.Hour)
		for _, d := range []time.Duration{24 * time.Hour, 0, -24 * time.Hour, 0} {
			step.Store(int64(d))
			w.link.set(true) // the hub learns the site's clock when a stream is opened
			time.Sleep(time.Minute)
			w.link.set(false)
			time.Sleep(3 * time.Hour)
			var skew int64
			w.query(`SELECT clock_skew_ms FROM agent`, []any{&skew}, func() {})
			if got := time.Duration(skew) * time.Millisecond; (got - d).Abs() > time.Second {
				t.Errorf("the site's clock is %s off, the hub says %s", d, got)
			}
		}
		now := time.Now()
		w.stop()

		w.wantEveryAnswerInEvidenceOnce()
		w.wantNoTrouble()
		if n := w.count(`SELECT count(*) FROM telemetry_hot WHERE took_ms < 0 OR uptime_s < 0`); n != 0 {
			t.Errorf("%d samples with a negative duration", n)
		}
		if n := w.count(`SELECT count(*) FROM batch WHERE last_at < first_at`); n != 0 {
			t.Errorf("%d batches end before they begin", n)
		}
		var at time.Time
		w.query(`SELECT at FROM miner_latest`, []any{&at}, func() {
			if age := now.Sub(at); age < 0 || age > 2*pollInterval {
				t.Errorf("a miner is shown with a value %s old", age)
			}
		})
	})
}

// A hub restored from yesterday's backup asks its sites for what it had acknowledged since, and gets it once.
func TestRestoredHubGetsEverythingBack(t *testing.T) {
	t.Parallel()
	original := pgtest.URL(t)
	backup := copyOf(t, original)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, original, sim.Config{Miners: 7, Seed: 13})
		begin := time.Now()
		time.Sleep(3 * time.Hour)
		w.stopHub()
		backup.make(t)
		w.startHub()
		time.Sleep(15 * time.Hour)
		w.stopHub()
		before := w.count(`SELECT count(*) FROM batch`)
		w.url = backup.url
		lost := before - w.count(`SELECT count(*) FROM batch`)
		w.startHub()
		time.Sleep(3 * time.Hour)
		end := time.Now()
		w.stop()
		if lost < 500 {
			t.Errorf("the backup lacked %d batches: too few to show anything", lost)
		}
		w.wantEverySlotOnce(begin, end)
		w.wantEveryAnswerInEvidenceOnce()
		w.wantNoTrouble()
		t.Logf("%d batches came back", lost)
	})
}

// A hub restored to a moment before its site began a new spool gets back what it had acknowledged of the old one too, although the agent has nothing
// left to send of that.
func TestRestoredHubGetsAnOlderSpoolBack(t *testing.T) {
	t.Parallel()
	original := pgtest.URL(t)
	backup := copyOf(t, original)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, original, sim.Config{Miners: 5, Seed: 17})
		time.Sleep(2 * time.Hour)
		w.stopHub()
		backup.make(t)
		w.startHub()
		time.Sleep(4 * time.Hour)
		agent := len(w.stops) - 1
		w.stops[agent]()
		// Without this file the agent does not know which spool it was writing: it begins another, and keeps the segments of the first.
		if err := os.Remove(filepath.Join(agentd.SpoolDir(w.agent.Dir), "spool.json")); err != nil {
			t.Fatal(err)
		}
		w.stops[agent] = w.startAgent()
		time.Sleep(time.Hour)
		w.stopHub()
		if n := w.count(`SELECT count(DISTINCT spool_id) FROM batch`); n != 2 {
			t.Errorf("%d spools, want two", n)
		}
		before := w.count(`SELECT count(*) FROM batch`)
		w.url = backup.url
		lost := before - w.count(`SELECT count(*) FROM batch`)
		w.startHub()
		time.Sleep(2 * time.Hour)
		w.stop()
		if lost < 200 {
			t.Errorf("the backup lacked %d batches: too few to show anything", lost)
		}
		w.wantEveryAnswerInEvidenceOnce()
		w.wantNoTrouble()
		t.Logf("%d batches came back", lost)
	})
}

// backupCopy is a database that is made as a copy of another.
type backupCopy struct{ from, name, admin, url string }

func copyOf(t *testing.T, from string) backupCopy {
	t.Helper()
	u, err := url.Parse(from)
	if err != nil {
		t.Fatal(err)
	}
	b := backupCopy{from: strings.TrimPrefix(u.Path, "/")}
	b.name = b.from + "_backup"
	u.Path = "/postgres"
	b.admin = u.String()
	u.Path = "/" + b.name
	b.url = u.String()
	t.Cleanup(func() { b.exec(t, "DROP DATABASE IF EXISTS "+b.name+" WITH (FORCE)") })
	return b
}

// make copies; nobody may be connected to the original.
func (b backupCopy) make(t *testing.T) {
	t.Helper()
	b.exec(t, "CREATE DATABASE "+b.name+" TEMPLATE "+b.from)
}

func (b backupCopy) exec(t *testing.T, sql string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, b.admin)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }() // nothing is under way
	if _, err := conn.Exec(ctx, sql); err != nil {
		t.Fatal(err)
	}
}
