package hubd

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/customer"
	"github.com/hashinsight/hashinsight/hub/internal/proof"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/hub/internal/statement"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// What operators do with customers, contracts and excuses from the command line.

// Shapes of package customer for the command line.
type (
	Customer        = customer.Customer
	Contract        = customer.Contract
	ContractSummary = customer.Summary
	ContractVersion = customer.Version
	ContractGap     = customer.Gap
	TermsOrder      = customer.TermsOrder
	Tier            = sla.Tier
	Assignment      = customer.Assignment
	Excuse          = customer.Excuse
)

// customers makes the store of customers, contracts and excuses: for the running hub and for commands alike. Package statement is told of every change, and keeps
// the months from changing of which it has issued statements.
func customers(pool *pgxpool.Pool, log *audit.Log, now func() time.Time) (*customer.Store, error) {
	if now == nil { // a command's
		now = time.Now
	}
	return customer.New(customer.Config{DB: pool, Audit: log, Changed: statement.Changed(now), Closed: statement.Closed, Note: proof.Note, Now: now})
}

func (c Database) withCustomers(ctx context.Context, work func(ctx context.Context, s *customer.Store) error) error {
	return c.do(ctx, true, func(ctx context.Context, pool *pgxpool.Pool, _ string) error {
		log, err := audit.New(audit.Config{Pool: pool, Now: c.Now, Log: c.Log})
		if err != nil {
			return err
		}
		s, err := customers(pool, log, c.Now)
		if err != nil {
			return err
		}
		return work(ctx, s)
	})
}

// AddCustomer adds a customer.
func AddCustomer(ctx context.Context, c Database, name string) (out Customer, err error) {
	err = c.withCustomers(ctx, func(ctx context.Context, s *customer.Store) error {
		out, err = s.AddCustomer(ctx, access.CommandLine(), name)
		return err
	})
	return out, err
}

// Customers lists all customers by name.
func Customers(ctx context.Context, c Database) (all []Customer, err error) {
	err = c.withCustomers(ctx, func(ctx context.Context, s *customer.Store) error {
		for after := (customer.Place{}); ; {
			page, err := s.Customers(ctx, after, customer.MaxPage)
			all = append(all, page...)
			if err != nil || len(page) < customer.MaxPage {
				return err
			}
			after = customer.Place{Name: page[len(page)-1].Name, ID: page[len(page)-1].ID}
		}
	})
	return all, err
}

// FindCustomer returns the id of the customer with an id or a name.
func FindCustomer(ctx context.Context, c Database, text string) (id uuid.UUID, err error) {
	err = c.withCustomers(ctx, func(ctx context.Context, s *customer.Store) error {
		id, err = s.FindCustomer(ctx, text)
		return err
	})
	return id, err
}

// FindContract returns the id of the contract with an id, or with a name that no other customer's has.
func FindContract(ctx context.Context, c Database, text string) (id uuid.UUID, err error) {
	err = c.withCustomers(ctx, func(ctx context.Context, s *customer.Store) error {
		id, err = s.FindContract(ctx, text)
		return err
	})
	return id, err
}

// FindSite returns the id of the site with an id or a name.
func FindSite(ctx context.Context, c Database, text string) (id ident.SiteID, err error) {
	err = c.withCustomers(ctx, func(ctx context.Context, s *customer.Store) error {
		id, err = s.FindSite(ctx, text)
		return err
	})
	return id, err
}

// AddContract adds a contract of a customer, named by its id or name.
func AddContract(ctx context.Context, c Database, of, name string, order *TermsOrder) (out Contract, v ContractVersion, err error) {
	err = c.withCustomers(ctx, func(ctx context.Context, s *customer.Store) error {
		id, err := s.FindCustomer(ctx, of)
		if err != nil {
			return err
		}
		out, v, err = s.AddContract(ctx, access.CommandLine(), id, name, order.Apply(sla.DefaultTerms()))
		return err
	})
	return out, v, err
}

// AmendContract adds a version to a contract's terms; what the order does not say stays.
func AmendContract(ctx context.Context, c Database, contract string, order *TermsOrder) (out Contract, v ContractVersion, err error) {
	err = c.withCustomers(ctx, func(ctx context.Context, s *customer.Store) error {
		id, err := s.FindContract(ctx, contract)
		if err != nil {
			return err
		}
		out, v, err = s.Amend(ctx, access.CommandLine(), id, order.Apply)
		return err
	})
	return out, v, err
}

// Contracts lists contracts by name: of one customer, named by its id or name, or with "" of all.
func Contracts(ctx context.Context, c Database, of string) (all []ContractSummary, err error) {
	err = c.withCustomers(ctx, func(ctx context.Context, s *customer.Store) error {
		id := uuid.Nil
		if of != "" {
			if id, err = s.FindCustomer(ctx, of); err != nil {
				return err
			}
		}
		for after := (customer.Place{}); ; {
			page, err := s.Summaries(ctx, id, after, customer.MaxPage)
			all = append(all, page...)
			if err != nil || len(page) < customer.MaxPage {
				return err
			}
			after = customer.Place{Name: page[len(page)-1].Name, ID: page[len(page)-1].ID}
		}
	})
	return all, err
}

// ContractDetail is a contract with its terms and gaps.
type ContractDetail struct {
	ContractSummary
	Versions []ContractVersion
	Gaps     []ContractGap
	GapsMore bool // there are more
}

// ShowContract returns a contract, named by its id or name.
func ShowContract(ctx context.Context, c Database, contract string) (d ContractDetail, err error) {
	err = c.withCustomers(ctx, func(ctx context.Context, s *customer.Store) error {
		id, err := s.FindContract(ctx, contract)
		if err != nil {
			return err
		}
		if d.ContractSummary, err = s.Summary(ctx, id); err != nil {
			return err
		}
		if d.Versions, err = s.Recorded(ctx, nil, id); err != nil {
			return err
		}
		d.Gaps, d.GapsMore, err = s.Gaps(ctx, id, uuid.Nil)
		return err
	})
	return d, err
}

// MinersOrder names miners of a site and a time.
type MinersOrder struct {
	Contract, Site string          // by id or name
	Miners         []ident.MinerID // none with All: all that the hub knows of the site
	All            bool
	FromMS, ToMS   int64 // ToMS 0: open
	RateMHs        int64 // 0: the terms'
}

// AssignMiners gives miners to a contract: all of them or none.
func AssignMiners(ctx context.Context, c Database, o MinersOrder) (made []Assignment, err error) {
	err = c.withCustomers(ctx, func(ctx context.Context, s *customer.Store) error {
		id, err := s.FindContract(ctx, o.Contract)
		if err != nil {
			return err
		}
		site, err := s.FindSite(ctx, o.Site)
		if err != nil {
			return err
		}
		if o.All {
			if o.Miners, err = s.SiteMiners(ctx, site); err != nil {
				return err
			}
		}
		list := make([]customer.NewAssignment, len(o.Miners))
		for i, m := range o.Miners {
			list[i] = customer.NewAssignment{Site: site, Miner: m, FromMS: o.FromMS, ToMS: o.ToMS, RateMHs: o.RateMHs}
		}
		made, err = s.Assign(ctx, access.CommandLine(), id, list)
		return err
	})
	return made, err
}

// EndMiners ends assignments of a contract at a time, 0 being now: all of them or none.
func EndMiners(ctx context.Context, c Database, contract string, ids []uuid.UUID, atMS int64) (ended []Assignment, err error) {
	err = c.withCustomers(ctx, func(ctx context.Context, s *customer.Store) error {
		id, err := s.FindContract(ctx, contract)
		if err != nil {
			return err
		}
		ended, err = s.EndAssignments(ctx, access.CommandLine(), id, ids, atMS)
		return err
	})
	return ended, err
}

// ContractMiners hands out a contract's assignments page by page; atMS, unless 0, picks those that hold then.
func ContractMiners(ctx context.Context, c Database, contract string, atMS int64, emit func([]Assignment)) error {
	return c.withCustomers(ctx, func(ctx context.Context, s *customer.Store) error {
		id, err := s.FindContract(ctx, contract)
		if err != nil {
			return err
		}
		for after := (customer.AssignmentPlace{}); ; {
			page, err := s.ListAssignments(ctx, id, atMS, after, customer.MaxPage)
			if err != nil {
				return err
			}
			emit(page)
			if len(page) < customer.MaxPage {
				return nil
			}
			last := &page[len(page)-1]
			after = customer.AssignmentPlace{Site: last.Site, Miner: last.Miner, FromMS: last.FromMS, ID: uuid.UUID(last.ID)}
		}
	})
}

// ExcuseOrder is an excuse to record.
type ExcuseOrder struct {
	ID           uuid.UUID // zero: a new one
	Maintenance  bool      // or else curtailment
	Site         string    // by id or name
	Miners       []ident.MinerID
	FromMS, ToMS int64
	Note         string
}

// RecordExcuse records an excuse, and says how the contracts that it concerns take it.
func RecordExcuse(ctx context.Context, c Database, o ExcuseOrder) (x Excuse, err error) {
	err = c.withCustomers(ctx, func(ctx context.Context, s *customer.Store) error {
		site, err := s.FindSite(ctx, o.Site)
		if err != nil {
			return err
		}
		kind := sla.Curtailment
		if o.Maintenance {
			kind = sla.Maintenance
		}
		x, err = s.Excuse(ctx, access.CommandLine(), customer.NewExcuse{ID: o.ID, Kind: kind, Site: site, Miners: o.Miners, FromMS: o.FromMS, ToMS: o.ToMS, Note: o.Note})
		return err
	})
	return x, err
}

// Excuses lists excuses whose windows overlap a time (toMS 0: open), the latest beginning first: of one site, named by its id or name, or with "" of all.
func Excuses(ctx context.Context, c Database, site string, fromMS, toMS int64) (all []Excuse, err error) {
	err = c.withCustomers(ctx, func(ctx context.Context, s *customer.Store) error {
		l := customer.ListedExcuses{FromMS: fromMS, ToMS: toMS, Limit: customer.MaxPage}
		if site != "" {
			if l.Site, err = s.FindSite(ctx, site); err != nil {
				return err
			}
		}
		for len(all) < maxListed {
			page, err := s.ListExcuses(ctx, l)
			all = append(all, page...)
			if err != nil || len(page) < customer.MaxPage {
				return err
			}
			l.After = customer.ExcusePlace{FromMS: page[len(page)-1].FromMS, ID: uuid.UUID(page[len(page)-1].ID)}
		}
		return nil
	})
	return all, err
}

// EndExcuse shortens an excuse, or calls it off.
func EndExcuse(ctx context.Context, c Database, id uuid.UUID, atMS int64) (x Excuse, err error) {
	err = c.withCustomers(ctx, func(ctx context.Context, s *customer.Store) error {
		x, err = s.EndExcuse(ctx, access.CommandLine(), id, atMS)
		return err
	})
	return x, err
}
