package api

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/customer"
	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/peers"
	"github.com/hashinsight/hashinsight/hub/internal/series"
	"github.com/hashinsight/hashinsight/hub/internal/statement"
)

const testSecret = "a-secret-that-only-these-tests-use-0123456789"

// documentOnly is the description of the API, which needs no database.
func documentOnly(t *testing.T) []byte {
	t.Helper()
	return withoutDatabase(t).Document()
}

// withoutDatabase makes a server that never meets a database.
func withoutDatabase(t *testing.T) *Server {
	t.Helper()
	pool, err := pgxpool.New(context.Background(), "postgres://nobody@127.0.0.1:1/none")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	a, err := access.New(access.Config{Pool: pool, Env: "dev", Secret: testSecret})
	if err != nil {
		t.Fatal(err)
	}
	f, err := fleet.New(fleet.Config{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	sr, err := series.New(series.Config{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	au, err := audit.New(audit.Config{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	ps, err := peers.NewStore(peers.Config{DB: pool})
	if err != nil {
		t.Fatal(err)
	}
	fs, err := facts.New(facts.Config{Pool: pool, Audit: au})
	if err != nil {
		t.Fatal(err)
	}
	cs, err := customer.New(customer.Config{DB: pool, Audit: au})
	if err != nil {
		t.Fatal(err)
	}
	ss, err := statement.New(statement.Config{Pool: pool, Customers: cs, Facts: fs, Audit: au})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Access: a, Audit: au, Fleet: f, Peers: ps, Series: sr, Facts: fs, Customers: cs, Statements: ss, Ping: pool.Ping})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func uuidOf(t *testing.T, s string) uuid.UUID {
	t.Helper()
	id, err := uuid.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
