package api

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/statement"
	"github.com/hashinsight/hashinsight/pkg/evidence"
)

// Statement is a signed statement of a contract's month, in a list.
type Statement struct {
	Hash            string `json:"hash" doc:"SHA-256 of its bytes, hexadecimal: its name"`
	ContractID      string `json:"contract_id" format:"uuid"`
	ContractName    string `json:"contract_name"`
	Month           string `json:"month" doc:"UTC, such as 2026-11"`
	Seq             int    `json:"seq" doc:"1 is the first of the month, further ones are restatements"`
	IssuedAt        Time   `json:"issued_at"`
	KeyID           string `json:"key_id" doc:"Of the hub's evidence key that signed it"`
	Supersedes      string `json:"supersedes,omitempty" doc:"Hash of the statement whose place it takes"`
	SupersededBy    string `json:"superseded_by,omitempty" doc:"Hash of the statement that took its place; only the newest of a month counts"`
	Reason          string `json:"reason,omitempty" doc:"Of a restatement; text from outside, never markup"`
	AvailabilityPPM *int64 `json:"availability_ppm,omitempty" doc:"Rounded down; absent: nothing was due"`
	Met             bool   `json:"met"`
	Credit          Credit `json:"credit"`
}

// StatementList is one page of statements.
type StatementList struct {
	Items []Statement `json:"items" nullable:"false"`
	Next  string      `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
}

// StatementDetail is one statement with what it says.
type StatementDetail struct {
	Statement
	Engine      int             `json:"engine" doc:"Version of the rules it was computed by"`
	PublicKey   string          `json:"public_key" doc:"The Ed25519 key that signed it, hexadecimal"`
	Signature   string          `json:"signature" doc:"Ed25519 over hsi/statement/v1, a zero byte, and the bytes; hexadecimal"`
	BytesLength int             `json:"bytes_length"`
	Changes     *Changes        `json:"changes,omitempty" doc:"Of a restatement, against the statement that it supersedes"`
	Content     json.RawMessage `json:"statement" doc:"The signed bytes, as JSON"`
}

// Changes is what a restatement changed.
type Changes struct {
	AvailabilityPPM *int64     `json:"availability_ppm,omitempty" doc:"New minus old; absent where one has none"`
	CreditBP        int64      `json:"credit_bp" doc:"New minus old"`
	CreditMinor     int64      `json:"credit_minor" doc:"New minus old: what is still to be credited, or below zero was credited too much"`
	Slots           SlotCounts `json:"slots" doc:"New minus old"`
	Miners          int        `json:"miners" doc:"Miners whose month changed, appeared or went"`
	Hours           int        `json:"hours" doc:"Signed hours that changed, appeared or went"`
	Inputs          []string   `json:"inputs" nullable:"false" doc:"Terms, assignments and excuses that changed, appeared or went"`
}

// Restatement orders a restatement.
type Restatement struct {
	Month       string     `json:"month" maxLength:"7" doc:"UTC, such as 2026-11; its statement was issued"`
	Reason      string     `json:"reason" minLength:"1" maxLength:"500" doc:"Stands in the statement, for the customer to read"`
	AcceptUntil *time.Time `json:"accept_until,omitempty" doc:"Facts that had come until then count, past the terms' deadline. Absent: as in the statement before; never earlier than there"`
}

type statementsInput struct {
	ContractID string `query:"contract_id" format:"uuid" doc:"Only this contract's"`
	Limit      int    `query:"limit" default:"50" minimum:"1" maximum:"500"`
	Cursor     string `query:"cursor" maxLength:"100" doc:"next of the page before"`
}

type statementInput struct {
	Hash string `path:"hash" minLength:"64" maxLength:"64" doc:"The statement's hash, hexadecimal"`
}

type restateInput struct {
	ID   string `path:"id" format:"uuid" doc:"The contract's id"`
	Body Restatement
}

type (
	statementsOutput struct{ Body StatementList }
	statementOutput  struct{ Body StatementDetail }
	downloadOutput   struct {
		ContentType string `header:"Content-Type"`
		Disposition string `header:"Content-Disposition"`
		Signature   string `header:"X-Statement-Signature" doc:"Hexadecimal"`
		KeyID       string `header:"X-Statement-Key-Id" doc:"Of the hub's evidence key"`
		Body        []byte
	}
)

func (s *Server) statementRoutes() {
	register(s, audience(access.StatementsRead), huma.Operation{
		OperationID: "list-statements", Method: http.MethodGet, Path: "/api/statements", Tags: []string{"statements"},
		Summary: "Statements, the newest first", Errors: []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusUnprocessableEntity},
	}, s.listStatements)
	register(s, audience(access.StatementsRead), huma.Operation{
		OperationID: "get-statement", Method: http.MethodGet, Path: "/api/statements/{hash}", Tags: []string{"statements"},
		Summary: "One statement, and what it changed", Errors: slaErrors(),
	}, func(ctx context.Context, in *statementInput) (*statementOutput, error) {
		hash, err := statementHash(in.Hash)
		if err != nil {
			return nil, err
		}
		return s.statementAnswer(ctx, hash)
	})
	register(s, audience(access.StatementsRead), huma.Operation{
		OperationID: "download-statement", Method: http.MethodGet, Path: "/api/statements/{hash}/download", Tags: []string{"statements"},
		Summary: "The signed bytes of a statement", Description: "The signature, and the id of the key, come as headers.", Errors: slaErrors(),
		Responses: map[string]*huma.Response{"200": {Description: "The bytes", Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}}},
	}, func(ctx context.Context, in *statementInput) (*downloadOutput, error) {
		hash, err := statementHash(in.Hash)
		if err != nil {
			return nil, err
		}
		st, err := s.statements.Statement(ctx, scope(ctx), hash)
		if err != nil {
			return nil, err
		}
		return &downloadOutput{
			ContentType: "application/json", Disposition: `attachment; filename="statement-` + st.Month.String() + "-" + in.Hash[:12] + `.json"`,
			Signature: hex.EncodeToString(st.Signature), KeyID: st.Key.String(), Body: st.Bytes,
		}, nil
	})
	register(s, audience(access.StatementsWrite), huma.Operation{
		OperationID: "restate", Method: http.MethodPost, Path: "/api/contracts/{id}/statements", Tags: []string{"statements"},
		Summary:       "Issue a statement that supersedes a month's newest one",
		Description:   "The one before stays as it is. The month is computed anew from the signed facts, which takes a while for a large contract.",
		DefaultStatus: http.StatusCreated, MaxBodyBytes: 16 << 10,
		Errors: []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity},
	}, func(ctx context.Context, in *restateInput) (*statementOutput, error) {
		id, err := contractID(in.ID)
		if err != nil {
			return nil, err
		}
		m, err := s.month(in.Body.Month)
		if err != nil {
			return nil, err
		}
		o := statement.Restatement{Contract: id, Month: m, Reason: in.Body.Reason, By: uuid.UUID(principal(ctx).KeyID).String()}
		if in.Body.AcceptUntil != nil {
			o.AcceptUntil = *in.Body.AcceptUntil
		}
		hash, err := s.statements.Restate(ctx, scope(ctx), o)
		if err != nil {
			return nil, err
		}
		return s.statementAnswer(ctx, hash)
	})
}

func statementHash(text string) (h evidence.Hash, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(h) {
		return h, apperr.E(apperr.Invalid, "VALID_001", "hash: want 64 hexadecimal digits")
	}
	return evidence.Hash(b), nil
}

func (s *Server) listStatements(ctx context.Context, in *statementsInput) (*statementsOutput, error) {
	f := statement.Filter{Limit: in.Limit + 1}
	var err error
	if in.ContractID != "" {
		if f.Contract, err = contractID(in.ContractID); err != nil {
			return nil, err
		}
	}
	if in.Cursor != "" {
		if f.Before, err = statement.ParsePlace(in.Cursor); err != nil {
			return nil, apperr.E(apperr.Invalid, "VALID_001", "cursor: want next of the page before")
		}
	}
	list, err := s.statements.Statements(ctx, scope(ctx), f)
	if err != nil {
		return nil, err
	}
	out := &statementsOutput{Body: StatementList{Items: make([]Statement, 0, len(list))}}
	if len(list) > in.Limit {
		list = list[:in.Limit]
		out.Body.Next = list[in.Limit-1].Place().String()
	}
	for i := range list {
		out.Body.Items = append(out.Body.Items, statementBody(&list[i]))
	}
	return out, nil
}

func (s *Server) statementAnswer(ctx context.Context, hash evidence.Hash) (*statementOutput, error) {
	st, err := s.statements.Statement(ctx, scope(ctx), hash)
	if err != nil {
		return nil, err
	}
	out := &statementOutput{Body: StatementDetail{
		Statement: statementBody(&st.Line), Engine: st.Engine, PublicKey: hex.EncodeToString(st.PublicKey), Signature: hex.EncodeToString(st.Signature),
		BytesLength: len(st.Bytes), Content: json.RawMessage(st.Bytes),
	}}
	if c := st.Changes; c != nil {
		out.Body.Changes = &Changes{
			AvailabilityPPM: c.AvailabilityPPM, CreditBP: c.CreditBP, CreditMinor: c.CreditMinor, Slots: slotCounts(&c.Slots), Miners: c.Miners, Hours: c.Hours,
			Inputs: append([]string{}, c.Inputs...),
		}
	}
	return out, nil
}

func statementBody(l *statement.Line) Statement {
	out := Statement{
		Hash: hex.EncodeToString(l.Hash[:]), ContractID: l.Contract.String(), ContractName: l.ContractName, Month: l.Month.String(), Seq: l.Seq, IssuedAt: Time{l.IssuedAt},
		KeyID: l.Key.String(), Reason: l.Reason, AvailabilityPPM: l.AvailabilityPPM, Met: l.Met,
		Credit: Credit{BP: l.CreditBP, Minor: l.CreditMinor, Currency: l.Currency},
	}
	if l.Supersedes != (evidence.Hash{}) {
		out.Supersedes = hex.EncodeToString(l.Supersedes[:])
	}
	if l.SupersededBy != (evidence.Hash{}) {
		out.SupersededBy = hex.EncodeToString(l.SupersededBy[:])
	}
	return out
}
