package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/google/uuid"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// ProofState is how far the proof of a statement is.
type ProofState struct {
	Hash           string  `json:"hash" doc:"The statement's, hexadecimal"`
	Stage          string  `json:"stage" enum:"recorded,logged,checkpointed,sent,mined,safe,finalized,not_anchored" doc:"recorded: it waits for its place in the log; logged: for a checkpoint; checkpointed: for an anchor; sent, mined, safe: the anchor is under way; finalized: proven for good; not_anchored: in the newest checkpoint, and this hub anchors none"`
	Text           string  `json:"text" doc:"What it waits for, in words"`
	Ready          bool    `json:"ready" doc:"Whether there is a proof file: from checkpointed on. One that is downloaded before the anchor is finalized names none, and is to be downloaded again: the block could still be taken away"`
	Final          bool    `json:"final" doc:"Whether its anchor is finalized"`
	LogIndex       *uint64 `json:"log_index,omitempty"`
	LoggedAt       *Time   `json:"logged_at,omitempty" doc:"The time in the log's entry"`
	CheckpointSize uint64  `json:"checkpoint_size,omitempty" doc:"Entries in the checkpoint of the proof file"`
	Anchor         *Anchor `json:"anchor,omitempty" doc:"Of that checkpoint"`
}

type hourProofInput struct {
	Site  string `path:"site" format:"uuid" doc:"The site's id"`
	Miner string `path:"miner" format:"uuid" doc:"The miner's id"`
	Hour  string `path:"hour" maxLength:"30" doc:"A whole hour, RFC 3339, or its number since 1970 UTC"`
	Chain string `query:"spool_id" maxLength:"36" doc:"The chain of batches, where the site has signed the hour in several"`
}

type proofFileOutput struct {
	ContentType string `header:"Content-Type"`
	Disposition string `header:"Content-Disposition"`
	Body        []byte
}

type proofStateOutput struct{ Body ProofState }

// proofType is what proof files are to whoever stores them.
const proofType = "application/octet-stream"

// bundleSuffix ends the path of bundles, whose time to send has no fixed bound.
const bundleSuffix = "/bundle"

// Bounds of bundles.
const (
	maxBundles    = 4                // sent at the same time by a process: each reads a month of facts
	maxBundlesOf  = 2                // of these to one customer, however slowly it takes them
	bundleTimeout = 30 * time.Second // for a client to take a piece; a dead one is let go then
	maxBundle     = 2 * time.Hour    // for all of it
)

// isBundle reports whether a request is for a bundle. It may take longer than other requests, as long as its client keeps taking.
func isBundle(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/api/statements/") && strings.HasSuffix(r.URL.Path, bundleSuffix)
}

func proofFile(description string) map[string]*huma.Response {
	return map[string]*huma.Response{"200": {Description: description, Content: map[string]*huma.MediaType{proofType: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}}}
}

// proofErrors are what a proof that cannot be had answers: it does not exist, it waits, or this process has no log.
func proofErrors() []int {
	return append(slaErrors(), http.StatusConflict, http.StatusServiceUnavailable)
}

const proofDoc = "Check it with hashinsight-verify, or on the page's Verify tab, against a chain endpoint and a contract address of your own choice: neither needs this hub. "

func (s *Server) proofRoutes() {
	register(s, ofTheLog, huma.Operation{
		OperationID: "get-entry-proof", Method: http.MethodGet, Path: "/api/proofs/entries/{index}", Tags: []string{"proofs"},
		Summary: "Proof that an entry is in the log", Description: proofDoc, Errors: logErrors(), Responses: proofFile("A proof file"),
	}, func(ctx context.Context, in *logEntryInput) (*proofFileOutput, error) {
		if s.transparency.EntryProof == nil {
			return nil, noLog("the log")
		}
		b, err := s.transparency.EntryProof(ctx, in.Index)
		if err != nil {
			return nil, err
		}
		return &proofFileOutput{proofType, attachment("entry-%d", in.Index), b}, nil
	})
	register(s, audience(access.SLARead), huma.Operation{
		OperationID: "get-hour-proof", Method: http.MethodGet, Path: "/api/proofs/hours/{site}/{miner}/{hour}", Tags: []string{"proofs"},
		Summary:     "Proof of what a site signed about a miner's hour",
		Description: proofDoc + "A customer's key gets the hours in which the miner belonged to one of its contracts. An hour that is not in the log yet, or is disputed, answers 409 and says what it waits for.",
		Errors:      proofErrors(), Responses: proofFile("A proof file, at most 4 kB"),
	}, s.hourProof)
	register(s, audience(access.StatementsRead), huma.Operation{
		OperationID: "get-statement-proof", Method: http.MethodGet, Path: "/api/statements/{hash}/proof", Tags: []string{"proofs"},
		Summary:     "Proof that a statement was issued, and when",
		Description: proofDoc + "It holds the statement, and nothing that it was made from: the bundle does.",
		Errors:      proofErrors(), Responses: proofFile("A proof file"),
	}, func(ctx context.Context, in *statementInput) (*proofFileOutput, error) {
		hash, err := statementHash(in.Hash)
		if err != nil {
			return nil, err
		}
		st, err := s.statements.Statement(ctx, scope(ctx), hash)
		if err != nil {
			return nil, err
		}
		if s.transparency.Statement == nil {
			return nil, noLog("the log")
		}
		b, err := s.transparency.Statement(ctx, scope(ctx), hash)
		if err != nil {
			return nil, err
		}
		return &proofFileOutput{proofType, attachment("statement-%s-%s", st.Month, in.Hash[:12]), b}, nil
	})
	register(s, audience(access.StatementsRead), huma.Operation{
		OperationID: "get-proof-state", Method: http.MethodGet, Path: "/api/statements/{hash}/proof/status", Tags: []string{"proofs"},
		Summary: "How far the proof of a statement is", Errors: proofErrors(),
	}, func(ctx context.Context, in *statementInput) (*proofStateOutput, error) {
		hash, err := statementHash(in.Hash)
		if err != nil {
			return nil, err
		}
		if _, err := s.statements.Statement(ctx, scope(ctx), hash); err != nil {
			return nil, err
		}
		if s.transparency.ProofState == nil {
			return nil, noLog("the log")
		}
		st, err := s.transparency.ProofState(ctx, scope(ctx), hash)
		if err != nil {
			return nil, err
		}
		return &proofStateOutput{st}, nil
	})
	register(s, audience(access.StatementsRead), huma.Operation{
		OperationID: "get-statement-bundle", Method: http.MethodGet, Path: "/api/statements/{hash}" + bundleSuffix, Tags: []string{"proofs"},
		Summary: "A statement with the proof of everything it was made from",
		Description: proofDoc + "With hashinsight-verify the statement is computed again from it to the same bytes. It is made while it is sent: some 400 kB for each miner's month. " +
			"Where the connection ends early, what was received is no proof. Few are sent at the same time; 429 says when to ask again.",
		Errors: append(proofErrors(), http.StatusTooManyRequests), Responses: proofFile("A proof file"),
	}, s.bundle)
}

// attachment names a download. What is put in are ids and times, never text from outside.
func attachment(format string, args ...any) string {
	return `attachment; filename="` + fmt.Sprintf(format, args...) + `.hsproof"`
}

func (s *Server) hourProof(ctx context.Context, in *hourProofInput) (*proofFileOutput, error) {
	o := HourProof{Scope: scope(ctx)}
	var err error
	if o.Miner.Site, err = ident.ParseSiteID(in.Site); err != nil {
		return nil, apperr.E(apperr.Invalid, "VALID_001", "site: %w", err)
	}
	if o.Miner.Miner, err = ident.ParseMinerID(in.Miner); err != nil {
		return nil, apperr.E(apperr.Invalid, "VALID_001", "miner: %w", err)
	}
	if o.Hour, err = wholeHour(in.Hour); err != nil {
		return nil, err
	}
	if in.Chain != "" {
		if o.Chain, err = ident.ParseSpoolID(in.Chain); err != nil {
			return nil, apperr.E(apperr.Invalid, "VALID_001", "spool_id: %w", err)
		}
	}
	if err := s.statements.MayReadHour(ctx, o.Scope, o.Miner, o.Hour); err != nil {
		return nil, err
	}
	if s.transparency.HourProof == nil {
		return nil, noLog("the log")
	}
	b, err := s.transparency.HourProof(ctx, o)
	if err != nil {
		return nil, err
	}
	at := time.Unix(int64(o.Hour)*3600, 0).UTC()
	return &proofFileOutput{proofType, attachment("hour-%s-%s", at.Format("2006-01-02T15"), o.Miner.Miner.String()[:8]), b}, nil
}

// wholeHour reads an hour, counted since 1970.
func wholeHour(text string) (uint32, error) {
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return uint32(n), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || at.Unix() < 0 || at.Unix()/3600 >= 1<<31 || !at.Equal(at.Truncate(time.Hour)) {
		return 0, apperr.E(apperr.Invalid, "VALID_001", "hour: want the beginning of one, such as 2026-11-26T10:00:00Z, or its number since 1970")
	}
	return uint32(at.Unix() / 3600), nil
}

func (s *Server) bundle(ctx context.Context, in *statementInput) (*huma.StreamResponse, error) {
	hash, err := statementHash(in.Hash)
	if err != nil {
		return nil, err
	}
	if _, err := s.statements.Statement(ctx, scope(ctx), hash); err != nil {
		return nil, err
	}
	if s.transparency.Bundle == nil {
		return nil, noLog("the log")
	}
	done, err := s.bundles.take(scope(ctx).Customer)
	if err != nil {
		s.metrics.bundles.Inc()
		p := problemOf(ctx, err)
		p.retryAfter = bundleTimeout
		return nil, p
	}
	b, err := s.transparency.Bundle(ctx, scope(ctx), hash)
	if err != nil {
		done()
		return nil, err
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		defer done()
		r, w := humago.Unwrap(hc)
		h := w.Header()
		h.Set("Content-Type", proofType)
		h.Set("Content-Disposition", attachment("bundle-%s-%s", b.Month, in.Hash[:12]))
		ctx, cancel := context.WithTimeout(r.Context(), maxBundle)
		defer cancel()
		if err := b.Write(ctx, &patient{w, http.NewResponseController(w)}); err != nil {
			if r.Context().Err() == nil {
				s.log.ErrorContext(r.Context(), "a bundle could not be written to its end", "request_id", requestOf(r.Context()).id, "err", err)
			}
			panic(http.ErrAbortHandler) // the client must not take what it has for the whole
		}
	}}, nil
}

// sending counts the bundles that are being sent, by customer. The zero value is ready.
type sending struct {
	mu  sync.Mutex
	all int
	of  map[uuid.UUID]int
}

// take makes room for one more, of the operator with uuid.Nil; done gives it back.
func (s *sending) take(customer uuid.UUID) (done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.all == maxBundles:
		return nil, apperr.E(apperr.TooMany, "API_001", "%d bundles are being sent, which is as many as this hub process sends at the same time", maxBundles)
	case customer != uuid.Nil && s.of[customer] == maxBundlesOf:
		return nil, apperr.E(apperr.TooMany, "API_001", "%d bundles are being sent to you, which is as many as one customer gets at the same time", maxBundlesOf)
	case s.of == nil:
		s.of = map[uuid.UUID]int{}
	}
	s.all++
	s.of[customer]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all--
		if s.of[customer]--; s.of[customer] == 0 {
			delete(s.of, customer)
		}
	}, nil
}

// patient writes to a client that may take long, but not forever over one piece.
type patient struct {
	w   io.Writer
	ctl *http.ResponseController
}

func (p *patient) Write(b []byte) (int, error) {
	if err := p.ctl.SetWriteDeadline(time.Now().Add(bundleTimeout)); err != nil {
		return 0, err
	}
	return p.w.Write(b)
}
