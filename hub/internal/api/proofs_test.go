package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/hub/internal/statement"
	"github.com/hashinsight/hashinsight/pkg/evidence"
)

// proofWorld serves what a test puts in the place of the log.
func proofWorld(t *testing.T, tr Transparency) *world {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return newWorldOn(t, l, func(c *Config) { c.Transparency = tr })
}

func TestProofsAreDownloadedUnderTheirNames(t *testing.T) {
	file := bytes.Repeat([]byte("proof"), 1000)
	w := proofWorld(t, Transparency{
		EntryProof: func(context.Context, uint64) ([]byte, error) { return file, nil },
		HourProof:  func(context.Context, HourProof) ([]byte, error) { return file, nil },
		Statement:  func(context.Context, statement.Scope, evidence.Hash) ([]byte, error) { return file, nil },
		Bundle: func(context.Context, statement.Scope, evidence.Hash) (Bundle, error) {
			return Bundle{Month: sla.NewCalendarMonth(2026, 3), Write: func(_ context.Context, w io.Writer) error {
				for range 500 {
					if _, err := w.Write(file); err != nil {
						return err
					}
				}
				return nil
			}}, nil
		},
	})
	m := w.closedMonth()
	for path, c := range map[string]struct {
		name string
		size int
	}{
		"/api/proofs/entries/7": {"entry-7.hsproof", len(file)},
		"/api/proofs/hours/" + m.site.String() + "/" + m.miner.String() + "/2026-03-10T12:00:00Z": {"hour-2026-03-10T12-" + m.miner.String()[:8] + ".hsproof", len(file)},
		"/api/proofs/hours/" + m.site.String() + "/" + m.miner.String() + "/492396":               {"hour-2026-03-04T12-" + m.miner.String()[:8] + ".hsproof", len(file)},
		"/api/statements/" + m.hash + "/proof":                                                    {"statement-2026-03-" + m.hash[:12] + ".hsproof", len(file)},
		"/api/statements/" + m.hash + "/bundle":                                                   {"bundle-2026-03-" + m.hash[:12] + ".hsproof", 500 * len(file)},
	} {
		for _, encoding := range []string{"identity", "gzip"} {
			res, body := w.request("GET", path, "", "Authorization", "Bearer "+w.owner, "Accept-Encoding", encoding)
			if res.Header.Get("Content-Encoding") == "gzip" {
				z, err := gzip.NewReader(bytes.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				if len(body) > c.size/5 {
					t.Errorf("%s: %d bytes compressed", path, len(body))
				}
				if body, err = io.ReadAll(z); err != nil {
					t.Fatal(err)
				}
			} else if encoding == "gzip" {
				t.Errorf("%s is not compressed for who can read that", path)
			}
			if res.StatusCode != http.StatusOK || len(body) != c.size || res.Header.Get("Content-Type") != "application/octet-stream" || res.Header.Get("Content-Disposition") != `attachment; filename="`+c.name+`"` {
				t.Errorf("%s: %d, %d bytes, %v", path, res.StatusCode, len(body), res.Header)
			}
		}
	}
	for path, text := range map[string]string{
		"/api/proofs/hours/" + m.site.String() + "/" + m.miner.String() + "/2026-03-10T12:30:00Z":                         "the beginning of one",
		"/api/proofs/hours/" + m.site.String() + "/" + m.miner.String() + "/2026-03-10T12:00:00Z?spool_id=not-one-at-all": "spool_id",
	} {
		res, body := w.get(path)
		if p := wantProblem(t, res, body, http.StatusBadRequest, "VALID_001"); !strings.Contains(p.Detail, text) {
			t.Errorf("%s: %s", path, body)
		}
	}
}

// A bundle that fails on its way ends the connection, so that nobody takes a part for the whole; and few are sent at the same time.
func TestABundleIsWholeOrNone(t *testing.T) {
	var fail error
	begun, goOn := make(chan struct{}), make(chan struct{})
	w := proofWorld(t, Transparency{Bundle: func(context.Context, statement.Scope, evidence.Hash) (Bundle, error) {
		return Bundle{Write: func(_ context.Context, w io.Writer) error {
			begun <- struct{}{}
			<-goOn
			_, err := w.Write(make([]byte, 1<<20))
			return errors.Join(err, fail)
		}}, nil
	}})
	m := w.closedMonth()
	path := "/api/statements/" + m.hash + "/bundle"
	ask := func() error {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+path, nil)
		if err != nil {
			return err
		}
		r.Header.Set("Authorization", "Bearer "+w.owner)
		res, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			return err
		}
		defer func() { _ = res.Body.Close() }()
		b, err := io.ReadAll(res.Body)
		if err == nil && len(b) != 1<<20 {
			err = io.ErrShortBuffer
		}
		return err
	}
	fail = errors.New("a row was changed")
	got := make(chan error, maxBundles)
	go func() { got <- ask() }()
	<-begun
	goOn <- struct{}{}
	if err := <-got; err == nil {
		t.Error("a part of a bundle came as a whole one")
	}
	if !strings.Contains(w.log.String(), "could not be written to its end") {
		t.Error("the log does not say so")
	}
	fail = nil
	for range maxBundles {
		go func() { got <- ask() }()
		<-begun
	}
	res, body := w.get(path)
	wantProblem(t, res, body, http.StatusTooManyRequests, "API_001")
	if res.Header.Get("Retry-After") != "30" {
		t.Errorf("Retry-After %q", res.Header.Get("Retry-After"))
	}
	for range maxBundles {
		goOn <- struct{}{}
	}
	for range maxBundles {
		if err := <-got; err != nil {
			t.Error(err)
		}
	}
	go func() { got <- ask() }()
	<-begun
	goOn <- struct{}{}
	if err := <-got; err != nil {
		t.Error(err)
	}
}

// Why nothing is anchored names settings and endpoints: the operator reads it, others read that it is so.
func TestWhyNothingIsAnchoredIsTheOperatorsBusiness(t *testing.T) {
	w := proofWorld(t, Transparency{Public: true, AnchorState: func(context.Context) (AnchorStatus, error) {
		return AnchorStatus{Driver: "log-contract", Problem: &AnchorProblem{
			Code: "BLOCKCHAIN_001", ProblemCode: "no_key", Params: &AnchorProblemParams{Endpoints: []string{"rpc.example"}}, Text: "BLOCKCHAIN_PRIVATE_KEY is missing",
		}}, nil
	}})
	ask := func(headers ...string) AnchorStatus {
		t.Helper()
		res, body := w.request("GET", "/api/anchors/status", "", headers...)
		return want[AnchorStatus](t, res, body)
	}
	cookie, _, _ := w.signIn(w.owner)
	for _, headers := range [][]string{{"Authorization", "Bearer " + w.owner}, {"Cookie", cookie.Name + "=" + cookie.Value}} {
		if st := ask(headers...); st.Problem == nil || !strings.Contains(st.Problem.Text, "PRIVATE_KEY") || st.Problem.Params == nil {
			t.Errorf("the operator reads %+v", st.Problem)
		}
	}
	party := w.party("Acme")
	for _, headers := range [][]string{nil, {"Authorization", "Bearer " + w.customerKey(party.customer).Key}} {
		if st := ask(headers...); st.Problem == nil || st.Problem.Code != "BLOCKCHAIN_001" || st.Problem.ProblemCode != "no_key" || st.Problem.Params != nil || strings.Contains(st.Problem.Text, "PRIVATE_KEY") {
			t.Errorf("others read %+v", st.Problem)
		}
	}
}

func TestOneCustomerDoesNotTakeEveryBundle(t *testing.T) {
	var s sending
	one, other := uuid.New(), uuid.New()
	var done []func()
	take := func(customer uuid.UUID, want bool) {
		t.Helper()
		d, err := s.take(customer)
		if (err == nil) != want {
			t.Fatalf("taken: %v, want %v", err, want)
		}
		if err == nil {
			done = append(done, d)
		}
	}
	take(one, true)
	take(one, true)
	take(one, false)
	take(other, true)
	take(uuid.Nil, true)
	take(uuid.Nil, false)
	done[0]()
	take(uuid.Nil, true)
	for _, d := range done[1:] {
		d()
	}
	if s.all != 0 || len(s.of) != 0 {
		t.Errorf("%d are still counted, of %d", s.all, len(s.of))
	}
}
