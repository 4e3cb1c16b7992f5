package hubd

import (
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/customer"
	"github.com/hashinsight/hashinsight/hub/internal/statement"
)

// customers makes the store of customers, contracts and excuses: for the running hub and for commands alike. Package statement is told of every change, and keeps
// the months from changing of which it has issued statements.
func customers(pool *pgxpool.Pool, log *audit.Log, now func() time.Time) (*customer.Store, error) {
	return customer.New(customer.Config{DB: pool, Audit: log, Changed: statement.Changed(now), Closed: statement.Closed, Now: now})
}
