package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/apperr"
)

// Problem is every error answer: RFC 9457 problem details with three members of ours.
type Problem struct { //nolint:errname // the name of RFC 9457, and of the schema in the OpenAPI document
	Type      string         `json:"type" default:"about:blank" doc:"Always about:blank: code tells errors apart"`
	Title     string         `json:"title" doc:"The status in words"`
	Status    int            `json:"status" doc:"HTTP status"`
	Detail    string         `json:"detail" doc:"What happened"`
	Code      string         `json:"code,omitempty" doc:"Stable code that clients may branch on" example:"NOTFOUND_001"`
	RequestID string         `json:"request_id" doc:"Names this request in the hub's log"`
	Help      string         `json:"help,omitempty" doc:"What to do next"`
	Errors    []ProblemField `json:"errors,omitempty" doc:"Which parts of the request are not valid"`

	retryAfter time.Duration
}

// ProblemField is one part of a request that is not valid. It never repeats the value, which may be a secret.
type ProblemField struct {
	Location string `json:"location,omitempty" doc:"Where, such as query.limit or body.key"`
	Message  string `json:"message" doc:"What is wrong"`
}

// Error implements error.
func (p *Problem) Error() string { return p.Detail }

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// GetHeaders implements huma.HeadersError.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{"Cache-Control": {"no-store"}}
	if p.retryAfter > 0 {
		seconds := int64((p.retryAfter + time.Second - 1) / time.Second)
		h.Set("Retry-After", strconv.FormatInt(seconds, 10))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="hashinsight"`)
	}
	return h
}

// ContentType implements huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// problemOf maps an error to what the client sees. What it may not see is logged, here and only here.
func problemOf(ctx context.Context, err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	pub := apperr.Of(err)
	p = newProblem(ctx, pub.HTTP, pub.Code, pub.Text)
	p.Help = pub.Help
	if who := requestOf(ctx).principal; pub.Operator != "" && who != nil && who.May(access.Owner) {
		p.Help = pub.Operator
	}
	var throttled *access.ThrottledError
	if errors.As(err, &throttled) {
		p.retryAfter = throttled.Wait
	}
	var limited *access.RateError
	if errors.As(err, &limited) {
		p.retryAfter = limited.Wait
	}
	// A client that went away is not a fault of the hub.
	if pub.HTTP >= http.StatusInternalServerError && !errors.Is(ctx.Err(), context.Canceled) {
		requestOf(ctx).log.ErrorContext(ctx, "request failed", "request_id", p.RequestID, "code", string(pub.Code), "err", err)
	}
	return p
}

func newProblem(ctx context.Context, status int, code apperr.Code, detail string) *Problem {
	return &Problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail,
		Code: string(code), RequestID: requestOf(ctx).id, Help: helpFor(code),
	}
}

func helpFor(code apperr.Code) string {
	for _, info := range apperr.Codes() {
		if info.Code == code {
			return info.Help
		}
	}
	return ""
}

// writeProblem answers a request that reached no operation.
func writeProblem(w http.ResponseWriter, p *Problem) {
	h := w.Header()
	for name, values := range p.GetHeaders() {
		h[name] = values
	}
	h.Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client is gone
}

// humaErrors sets huma's hooks, which are package variables of huma: there is no other way to give its own
// errors (validation, bodies, content types) our form. What they need of a server they find in the request's context.
var humaErrors = sync.OnceFunc(func() {
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		return fromHuma(context.Background(), status, msg, errs)
	}
	huma.NewErrorWithContext = func(ctx huma.Context, status int, msg string, errs ...error) huma.StatusError {
		return fromHuma(ctx.Context(), status, msg, errs)
	}
})

func fromHuma(ctx context.Context, status int, msg string, errs []error) *Problem {
	if status >= http.StatusInternalServerError {
		return problemOf(ctx, errors.Join(append([]error{errors.New(msg)}, errs...)...))
	}
	p := newProblem(ctx, status, "VALID_001", msg)
	var texts []string
	for _, err := range errs {
		if err == nil {
			continue
		}
		field := ProblemField{Message: err.Error()}
		var d huma.ErrorDetailer
		if errors.As(err, &d) {
			field = ProblemField{Location: d.ErrorDetail().Location, Message: d.ErrorDetail().Message}
		}
		p.Errors = append(p.Errors, field)
		texts = append(texts, strings.TrimPrefix(field.Location+": "+field.Message, ": "))
	}
	if len(texts) > 0 {
		p.Detail += ": " + strings.Join(texts, "; ")
	}
	return p
}
