package api

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/customer"
)

// Customer is whom the hub's operator serves.
type Customer struct {
	ID        string `json:"id" format:"uuid"`
	Name      string `json:"name"`
	CreatedAt Time   `json:"created_at"`
	Contracts int64  `json:"contracts" doc:"How many it has"`
}

// CustomerList is one page of customers.
type CustomerList struct {
	Items []Customer `json:"items" nullable:"false"`
	Next  string     `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
}

// NewCustomer is a customer to add.
type NewCustomer struct {
	Name string `json:"name" minLength:"1" maxLength:"100" doc:"Unique; a name that is taken is refused, and the id of the customer that has it told"`
}

type customersInput struct {
	Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"500"`
	Cursor string `query:"cursor" maxLength:"400" doc:"next of the page before"`
}

type customerListOutput struct{ Body CustomerList }
type newCustomerInput struct{ Body NewCustomer }
type customerOutput struct{ Body Customer }

type customerInput struct {
	ID string `path:"id" format:"uuid" doc:"The customer's id"`
}

func (s *Server) customerRoutes() {
	register(s, audience(access.CustomersRead), huma.Operation{
		OperationID: "list-customers", Method: http.MethodGet, Path: "/api/customers", Tags: []string{"customers"},
		Summary: "Customers, by name", Errors: []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusUnprocessableEntity},
	}, func(ctx context.Context, in *customersInput) (*customerListOutput, error) {
		after, err := parsePlace(in.Cursor)
		if err != nil {
			return nil, err
		}
		list, err := s.customers.Customers(ctx, after, in.Limit+1)
		if err != nil {
			return nil, err
		}
		out := &customerListOutput{Body: CustomerList{Items: make([]Customer, 0, len(list))}}
		if len(list) > in.Limit {
			list = list[:in.Limit]
			out.Body.Next = placeText(list[in.Limit-1].Name, list[in.Limit-1].ID)
		}
		for i := range list {
			out.Body.Items = append(out.Body.Items, customerBody(&list[i]))
		}
		return out, nil
	})
	register(s, audience(access.CustomersRead), huma.Operation{
		OperationID: "get-customer", Method: http.MethodGet, Path: "/api/customers/{id}", Tags: []string{"customers"},
		Summary: "One customer", Errors: []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusUnprocessableEntity},
	}, func(ctx context.Context, in *customerInput) (*customerOutput, error) {
		id, err := parseID("id", in.ID)
		if err != nil {
			return nil, err
		}
		c, err := s.customers.Customer(ctx, nil, id)
		if err != nil {
			return nil, err
		}
		return &customerOutput{Body: customerBody(&c)}, nil
	})
	register(s, audience(access.CustomersWrite), huma.Operation{
		OperationID: "add-customer", Method: http.MethodPost, Path: "/api/customers", Tags: []string{"customers"},
		Summary: "Add a customer", DefaultStatus: http.StatusCreated, MaxBodyBytes: 16 << 10,
		Errors: []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict, http.StatusUnprocessableEntity},
	}, func(ctx context.Context, in *newCustomerInput) (*customerOutput, error) {
		c, err := s.customers.AddCustomer(ctx, actor(ctx), in.Body.Name)
		if err != nil {
			return nil, err
		}
		return &customerOutput{Body: customerBody(&c)}, nil
	})
}

func customerBody(c *customer.Customer) Customer {
	return Customer{ID: c.ID.String(), Name: c.Name, CreatedAt: Time{c.CreatedAt}, Contracts: c.Contracts}
}

// parseID reads the id of a thing that has no type of its own.
func parseID(member, text string) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil {
		return id, apperr.E(apperr.Invalid, "VALID_001", "%s: want an id such as 6f1de7c6-2c9b-4a7e-9a55-3f2f6f0a7c11", member)
	}
	return id, nil
}

// placeText is the cursor after a row of a list by name: its id, 36 characters, and its name.
func placeText(name string, id uuid.UUID) string {
	return base64.RawURLEncoding.EncodeToString([]byte(id.String() + name))
}

func parsePlace(cursor string) (p customer.Place, err error) {
	if cursor == "" {
		return p, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err == nil && len(b) > 36 {
		if p.ID, err = uuid.Parse(string(b[:36])); err == nil {
			p.Name = strings.ToValidUTF8(strings.ReplaceAll(string(b[36:]), "\x00", ""), "")
			return p, nil
		}
	}
	return p, badCursor()
}

func badCursor() error {
	return apperr.E(apperr.Invalid, "VALID_001", "cursor: want next of the page before")
}
