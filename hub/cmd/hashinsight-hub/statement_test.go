package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/customer"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/hub/internal/statement"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// contractOf makes a contract since three months ago with a miner of whose site nothing has come, and returns its id and the month before the last.
func contractOf(t *testing.T, url string) (contract, site, miner string, month sla.CalendarMonth) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, now, by := t.Context(), time.Now(), access.CommandLine()
	month = sla.MonthOf(now.UnixMilli()) - 2
	pool, err := pgxpool.New(ctx, url)
	must(err)
	defer pool.Close()
	s, m := ident.NewSiteID(), ident.NewMinerID()
	_, err = pool.Exec(ctx, `INSERT INTO site (id, name, created_at) VALUES ($1, 'north', $2)`, s[:], now)
	must(err)
	_, err = pool.Exec(ctx, `INSERT INTO miner (site_id, id, address, first_seen_at, info_at) VALUES ($1, $2, '10.0.0.1', $3, $3)`, s[:], m[:], now)
	must(err)
	l, err := audit.New(audit.Config{Pool: pool})
	must(err)
	c, err := customer.New(customer.Config{DB: pool, Audit: l, Changed: statement.Changed(time.Now), Closed: statement.Closed})
	must(err)
	u, err := c.AddCustomer(ctx, by, "Acme")
	must(err)
	terms := sla.DefaultTerms()
	terms.FromMS, terms.RateMHs = month.FromMS(), 100_000_000
	k, _, err := c.AddContract(ctx, by, u.ID, "Hosting", terms)
	must(err)
	_, err = c.Assign(ctx, by, k.ID, []customer.NewAssignment{{Site: s, Miner: m, FromMS: month.FromMS()}})
	must(err)
	return k.ID.String(), s.String(), m.String(), month
}

func TestStatementCommands(t *testing.T) {
	url := pgtest.URL(t)
	env := append(environment(t), "DATABASE_URL="+url)
	contract, site, miner, month := contractOf(t, url)
	run := func(args ...string) string {
		t.Helper()
		out, stderr, err := output(t, env, args...)
		if err != nil {
			t.Fatalf("%v: %v %s%s", args, err, out, stderr)
		}
		return out
	}
	refused := func(code int, text string, args ...string) {
		t.Helper()
		out, stderr, err := output(t, env, args...)
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != code || !strings.Contains(stderr, text) {
			t.Errorf("%v: %v, %s%s: want exit code %d and %q", args, err, out, stderr, code, text)
		}
	}
	of := []string{"--contract", contract, "--month", month.String()}
	hash := strings.TrimSpace(run(append([]string{"statement", "issue"}, of...)...))
	if again := strings.TrimSpace(run(append([]string{"statement", "issue"}, of...)...)); len(hash) != 64 || again != hash {
		t.Errorf("issued %q and then %q", hash, again)
	}
	refused(1, "until", "statement", "issue", "--contract", contract, "--month", (month + 2).String())
	if out := run("statement", "list"); !strings.Contains(out, hash) || !strings.Contains(out, "counts") {
		t.Errorf("listed: %s", out)
	}
	if out := run("statement", "show", hash); !strings.Contains(out, "0.0000 %") || !strings.Contains(out, "25.00 %") {
		t.Errorf("shown: %s", out)
	}
	if out := run(append([]string{"sla", "show"}, of...)...); !strings.Contains(out, "closed") || !strings.Contains(out, hash) {
		t.Errorf("the month: %s", out)
	}
	at := time.UnixMilli(month.FromMS()).UTC().Format(time.RFC3339)
	why := []string{"sla", "why", "--contract", contract, "--site", site, "--miner", miner, "--at", at}
	if out := run(why...); !strings.Contains(out, "no signed hour has this miner yet") {
		t.Errorf("why: %s", out)
	}
	if out := run(append(why, "-o", "json")...); !json.Valid([]byte(out)) || !strings.Contains(out, "no_record") {
		t.Errorf("why: %s", out)
	}
	if out := run("statement", "recompute", hash); !strings.Contains(out, "byte for byte") {
		t.Errorf("recomputed: %s", out)
	}
	dir := filepath.Join(t.TempDir(), "export")
	run("statement", "export", hash, "--out", dir)
	signed, err := os.ReadFile(filepath.Join(dir, "statement.json"))
	if err != nil || string(signed) != run("statement", "show", hash, "--bytes") {
		t.Errorf("exported %d bytes, %v", len(signed), err)
	}
	refused(1, "exists already", "statement", "export", hash, "--out", dir)
	refused(1, "would say what the one before says", append([]string{"statement", "restate", "--reason", "a test"}, of...)...)
	refused(1, "contract list shows them", "sla", "show", "--contract", "x", "--month", "2026-11")
	refused(1, "2026-11", "sla", "show", "--contract", contract, "--month", "2026-13")
	refused(1, "64 hexadecimal digits", "statement", "show", "12")
	refused(3, "no such statement", "statement", "recompute", strings.Repeat("0", 64))

	// No hub has run here: what was issued is noted for the log, and has no place in it.
	file := filepath.Join(dir, "proof.hsproof")
	refused(1, "no place in the log yet", "proof", "statement", hash, "-f", file)
	refused(1, "no place in the log yet", "proof", "bundle", hash, "-f", file)
	refused(1, "no facts are signed", "proof", "hour", site, miner, at, "-f", file)
	refused(1, "the beginning of an hour", "proof", "hour", site, miner, "2026-11-26T10:30:00Z", "-f", file)
	refused(1, "the log has no entry 7", "proof", "entry", "7", "-f", file)
	refused(1, "name another file", "proof", "statement", hash, "-f", filepath.Join(dir, "statement.json"))
	if left, err := filepath.Glob(filepath.Join(dir, "*proof*")); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}

	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if _, err := pool.Exec(t.Context(), `UPDATE sla_day SET states = set_byte(states, 3, 51) WHERE day = $1`, month.FirstDay()); err != nil {
		t.Fatal(err)
	}
	refused(1, "is not what the evidence gives", "statement", "recompute", hash)
}
