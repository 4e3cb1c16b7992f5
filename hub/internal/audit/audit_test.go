package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/pgtest"
)

func TestMain(m *testing.M) {
	if err := pgtest.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "these tests need PostgreSQL:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func newLog(t testing.TB, pool *pgxpool.Pool, path string) *Log {
	t.Helper()
	l, err := New(Config{Pool: pool, Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.file.close() })
	return l
}

func login(i int) Entry {
	return Entry{
		Category: Authentication, Action: "login", UserID: fmt.Sprint("u", i), UserEmail: "a@example.org", UserRole: "admin", IP: "203.0.113.7",
		Details: map[string]any{"login_method": "password", "two_factor": true, "n": i},
	}
}

// add records n entries and chains them.
func add(t testing.TB, l *Log, n int) {
	t.Helper()
	for i := range n {
		if err := l.Record(t.Context(), login(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Chain(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func verify(t testing.TB, l *Log, kept ...Head) Verdict {
	t.Helper()
	v, err := l.Verify(t.Context(), kept...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Four processes write at once and all chain: no number twice, none left out, every hash fits, and what was rolled back left nothing.
func TestManyProcessesMakeOneChain(t *testing.T) {
	url := pgtest.URL(t)
	const processes, writers, each = 4, 5, 20
	var logs []*Log
	var pools []*pgxpool.Pool
	for range processes {
		c, err := pg.PoolConfig(url)
		if err != nil {
			t.Fatal(err)
		}
		c.MaxConns = writers + 2
		pool, err := pgxpool.NewWithConfig(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close)
		logs, pools = append(logs, newLog(t, pool, "")), append(pools, pool)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running, writing sync.WaitGroup
	undo := errors.New("undo")
	for p, l := range logs {
		running.Go(func() {
			if err := l.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		for w := range writers {
			writing.Go(func() {
				for i := range each {
					err := pg.InTx(t.Context(), pools[p], func(tx pgx.Tx) error {
						if err := l.Add(t.Context(), tx, login(w*each+i)); err != nil {
							return err
						}
						if i%4 == 3 {
							return undo
						}
						return nil
					})
					if err != nil && !errors.Is(err, undo) {
						t.Error(err)
					}
					if i%5 == 0 {
						if err := l.Chain(t.Context()); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
	}
	writing.Wait()
	stop()
	running.Wait() // a process that ends chains what it added
	v := verify(t, logs[0])
	if !v.OK() || v.Entries != processes*writers*each*3/4 || v.Pending != 0 {
		t.Errorf("%+v", v)
	}
}

func TestTheFirstBadEntryIsNamed(t *testing.T) {
	const edit = `UPDATE audit_entry SET `
	// redo writes the whole chain anew after a change, as somebody would who knows how it is made.
	redo := func(ctx context.Context, l *Log) error {
		all, err := l.After(ctx, 0, Filter{}, MaxPage)
		prev := Head{}
		for i := range all {
			c := &all[i]
			c.Seq = prev.Seq + 1
			prev = Head{Seq: c.Seq, Hash: hashOf(prev.Hash, c)}
			if err == nil {
				_, err = l.pool.Exec(ctx, edit+`seq = $2, hash = $3 WHERE event_id = $1`, c.EventID, prev.Seq, prev.Hash[:])
			}
		}
		return err
	}
	for name, c := range map[string]struct {
		sql  []string
		redo bool
		kept int64 // number of the entry whose head was kept; 0: none
		bad  int64
		gone bool // the bad entry is missing
	}{
		"nothing done":                          {},
		"nothing done, a head kept":             {kept: 20},
		"status edited":                         {sql: []string{edit + `status = 'failure' WHERE seq = 7`}, bad: 7},
		"detail edited":                         {sql: []string{edit + `details = '{"n": 6}' WHERE seq = 7`}, bad: 7},
		"space in details":                      {sql: []string{edit + `details = (details::text || ' ')::json WHERE seq = 7`}, bad: 7},
		"time edited":                           {sql: []string{edit + `at = at - interval '1 ms' WHERE seq = 7`}, bad: 7},
		"text moved from one member to another": {sql: []string{edit + `user_id = user_id || 'a', user_email = substr(user_email, 2) WHERE seq = 7`}, bad: 7},
		"address edited":                        {sql: []string{edit + `ip_address = '203.0.113.8' WHERE seq = 1`}, bad: 1},
		"deleted":                               {sql: []string{`DELETE FROM audit_entry WHERE seq = 7`}, bad: 7, gone: true},
		"first deleted":                         {sql: []string{`DELETE FROM audit_entry WHERE seq = 1`}, bad: 1, gone: true},
		"deleted and closed up":                 {sql: []string{`DELETE FROM audit_entry WHERE seq = 7`, edit + `seq = -seq - 1000 WHERE false`, edit + `seq = seq - 1 WHERE seq = 8`}, bad: 7},
		"two exchanged":                         {sql: []string{edit + `seq = 1000 WHERE seq = 7`, edit + `seq = 7 WHERE seq = 8`, edit + `seq = 8 WHERE seq = 1000`}, bad: 7},
		"hash edited":                           {sql: []string{edit + `hash = sha256(hash) WHERE seq = 7`}, bad: 7},
		"end cut off":                           {sql: []string{`DELETE FROM audit_entry WHERE seq > 15`}, kept: 20, bad: 16, gone: true},
		"end cut off after the head that was kept": {sql: []string{`DELETE FROM audit_entry WHERE seq > 15`}, kept: 15},
		"edited and the chain written anew":        {sql: []string{edit + `status = 'failure' WHERE seq = 7`}, redo: true, kept: 12, bad: 12},
		"deleted and the chain written anew":       {sql: []string{`DELETE FROM audit_entry WHERE seq = 7`}, redo: true, kept: 12, bad: 12},
		"all deleted":                              {sql: []string{`DELETE FROM audit_entry`}, kept: 20, bad: 1, gone: true},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLog(t, pgtest.New(t), "")
			add(t, l, 20)
			all, err := l.After(t.Context(), 0, Filter{}, MaxPage)
			if err != nil || len(all) != 20 {
				t.Fatal(len(all), err)
			}
			var kept []Head
			if c.kept > 0 {
				h, err := ParseHead(Head{Seq: c.kept, Hash: all[c.kept-1].Hash}.String())
				if err != nil {
					t.Fatal(err)
				}
				kept = append(kept, h)
			}
			for _, sql := range c.sql {
				if _, err := l.pool.Exec(t.Context(), sql); err != nil {
					t.Fatal(err)
				}
			}
			if c.redo {
				if err := redo(t.Context(), l); err != nil {
					t.Fatal(err)
				}
			}
			v := verify(t, l, kept...)
			if v.BadSeq != c.bad || v.OK() != (c.bad == 0) || c.bad != 0 && (v.BadID == "") != c.gone || !v.OK() && v.Why == "" {
				t.Errorf("%+v", v)
			}
		})
	}
}

func TestWhatIsFoundAndHowItReads(t *testing.T) {
	l := newLog(t, pgtest.New(t), "")
	long := strings.Repeat("ä", 5000)
	at := time.Date(2026, 5, 1, 12, 0, 0, 123_456_789, time.UTC)
	l.now = func() time.Time { at = at.Add(time.Second); return at }
	add(t, l, 3)
	for _, e := range []Entry{
		{Level: Warning, Category: Authentication, Action: "login_failed", Status: Failure, IP: "203.0.113.9", Details: map[string]any{"text": long + "\x00\xff", "html": "<b>&"}},
		{Level: Security, Category: Suspicious, Action: "burst", UserID: "k\x00\xff", Details: map[string]any{"list": strings.Split(long+long, "ä")}},
	} {
		if err := l.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	for name, e := range map[string]Entry{
		"level":    {Level: "LOUD", Category: Authentication, Action: "login"},
		"category": {Category: "things", Action: "login"},
		"action":   {Category: Authentication, Action: "Log in"},
		"details":  {Category: Authentication, Action: "login", Details: map[string]any{"f": func() {}}},
	} {
		if err := l.Record(t.Context(), e); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("a bad %s: %v", name, err)
		}
	}
	if err := l.Chain(t.Context()); err != nil {
		t.Fatal(err)
	}
	find := func(f Filter, want ...int64) {
		t.Helper()
		got, err := l.Before(t.Context(), 0, f, 10)
		if err != nil {
			t.Fatal(err)
		}
		var seqs []int64
		for i := range got {
			seqs = append(seqs, got[i].Seq)
		}
		if fmt.Sprint(seqs) != fmt.Sprint(want) {
			t.Errorf("%+v finds %v, want %v", f, seqs, want)
		}
	}
	find(Filter{}, 5, 4, 3, 2, 1)
	find(Filter{Action: "login_failed"}, 4)
	find(Filter{User: "u1"}, 2)
	find(Filter{User: "a@example.org", Category: Authentication}, 3, 2, 1)
	find(Filter{Level: Security}, 5)
	find(Filter{Since: time.Date(2026, 5, 1, 12, 0, 2, 0, time.UTC), Until: time.Date(2026, 5, 1, 12, 0, 4, 0, time.UTC)}, 3, 2)
	page, err := l.Before(t.Context(), 4, Filter{}, 2)
	if err != nil || len(page) != 2 || page[0].Seq != 3 {
		t.Errorf("the page after 4: %v %v", page, err)
	}
	all, err := l.After(t.Context(), 0, Filter{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"timestamp":"2026-05-01T12:00:01.123Z","event_id":"%s","level":"INFO","category":"authentication","action":"login","user_id":"u0",` +
		`"user_email":"a@example.org","user_role":"admin","ip_address":"203.0.113.7","status":"success","details":{"login_method":"password","n":0,"two_factor":true}}`
	if got := string(all[0].Line()); got != fmt.Sprintf(want, all[0].EventID) {
		t.Errorf("line\n%s\nwant\n"+want, got, all[0].EventID)
	}
	if got := string(all[3].Line()); !strings.Contains(got, `"user_id":null`) || len(got) > 2000 || !strings.Contains(got, "…") {
		t.Errorf("nobody known, long text: %s", got)
	}
	if got := string(all[4].Line()); len(got) > 2000 || !strings.Contains(got, "details_dropped_bytes") {
		t.Errorf("too many details: %.300s", got)
	}
	if v := verify(t, l); !v.OK() {
		t.Errorf("%+v", v)
	}
	if n := testutil.ToFloat64(l.metrics.entries.WithLabelValues(Authentication, Info)); n != 3 {
		t.Errorf("%v sign-ins counted", n)
	}
}

func TestStatementsFitTheSchema(t *testing.T) {
	if n := len(pgtest.PrepareStatements(t, pgtest.New(t))); n < 8 {
		t.Errorf("only %d statements found", n)
	}
}

// The hash is what outsiders compute too: its form may not change.
func TestHashHasAKnownAnswer(t *testing.T) {
	c := Chained{
		Seq: 7, At: time.UnixMilli(1_777_777_777_123), Level: Info, Category: APIKey, Action: "apikey_create", UserID: "u", IP: "192.0.2.1",
		Status: Success, Details: []byte(`{"name":"x"}`),
	}
	copy(c.EventID[:], "0123456789abcdef")
	var prev [32]byte
	prev[0] = 1
	const want = "1e3827233eb9eb729d865a103d2357bac4bdfbdae5276fd3175d989aeb3d0096" // computed apart from this code
	if got := fmt.Sprintf("%x", hashOf(prev, &c)); got != want {
		t.Errorf("hash %s, want %s", got, want)
	}
}
