package statement

import (
	"context"
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/archive"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/customer"
	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/hub/internal/facts/factstest"
	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// world is a hub's database with what makes statements, a clock that the test moves, and sites that sign real batches.
type world struct {
	*factstest.World
	t         *testing.T
	pool      *pgxpool.Pool
	customers *customer.Store
	store     *Store
	archive   *archive.Archive // nil unless a test opens one
	key       ed25519.PrivateKey
	by        access.Actor
	customer  uuid.UUID
}

func newWorld(t *testing.T, now time.Time) *world {
	t.Helper()
	w := &world{t: t, pool: pgtest.New(t), by: access.Actor{ID: "test"}}
	w.World = factstest.New(t, w.pool, now)
	w.Register = func(ctx context.Context, tx pgx.Tx, site ident.SiteID, name string, key ed25519.PublicKey, at time.Time) error {
		return fleet.RegisterSite(ctx, tx, fleet.Registration{Site: site, Name: name, Key: key, At: at})
	}
	var err error
	_, w.key, err = ed25519.GenerateKey(nil)
	w.must(err)
	w.store = w.hub()
	u, err := w.customers.AddCustomer(t.Context(), w.by, "Acme")
	w.must(err)
	w.customer = u.ID
	return w
}

// hub is a further hub process on the database.
func (w *world) hub() *Store {
	w.t.Helper()
	l, err := audit.New(audit.Config{Pool: w.pool, Now: w.now})
	w.must(err)
	w.customers, err = customer.New(customer.Config{DB: w.pool, Audit: l, Now: w.now, Changed: Changed(w.now), Closed: Closed})
	w.must(err)
	w.Facts, err = facts.New(facts.Config{Pool: w.pool, Audit: l, Password: factstest.Password, Keys: w.siteKey, Now: w.now})
	w.must(err)
	s, err := New(Config{
		Pool: w.pool, Customers: w.customers, Facts: w.Facts, Audit: l, Key: func() ed25519.PrivateKey { return w.key }, SiteKey: w.siteKey, Archive: w.archive, Now: w.now,
	})
	w.must(err)
	return s
}

func (w *world) siteKey(ctx context.Context, site ident.SiteID, id ident.KeyID) (ed25519.PublicKey, error) {
	f, err := fleet.New(fleet.Config{Pool: w.pool})
	if err != nil {
		return nil, err
	}
	k, err := f.Key(ctx, site, id)
	return k.Public, err
}

func (w *world) must(err error) {
	w.t.Helper()
	w.Must(err)
}

func (w *world) now() time.Time { return w.Now() }

// terms are those of a contract from a time on.
func (w *world) terms(from time.Time) sla.Terms {
	t := sla.DefaultTerms()
	t.FromMS, t.RateMHs, t.FeeMinor, t.Currency = from.UnixMilli(), factstest.Contracted, 100_000, "EUR"
	return t
}

func (w *world) contract(name string, t sla.Terms) uuid.UUID {
	w.t.Helper()
	c, _, err := w.customers.AddContract(w.t.Context(), w.by, w.customer, name, t)
	w.must(err)
	return c.ID
}

// assign gives miners of a site to a contract.
func (w *world) assign(contract uuid.UUID, s *factstest.Site, miners []int, from, to time.Time) {
	w.t.Helper()
	var list []customer.NewAssignment
	for _, i := range miners {
		a := customer.NewAssignment{Site: s.ID, Miner: s.Miners[i], FromMS: from.UnixMilli()}
		if !to.IsZero() {
			a.ToMS = to.UnixMilli()
		}
		list = append(list, a)
	}
	_, err := w.customers.Assign(w.t.Context(), w.by, contract, list)
	w.must(err)
}

// update does what the jobs do.
func (w *world) update() {
	w.t.Helper()
	w.must(w.Facts.Judge(w.t.Context(), w.now()))
	w.must(w.store.Update(w.t.Context(), w.now()))
}
