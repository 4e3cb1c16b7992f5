package verify

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/hub/internal/verify/verifytest"
	"github.com/hashinsight/hashinsight/pkg/proof"
)

// anchored is a chain with one anchor.
func anchored(t *testing.T) (a proof.Anchor, start func() *verifytest.Server) {
	t.Helper()
	a = proof.Anchor{ChainID: 8453, Contract: [20]byte{1, 2, 3}, Seq: 7, Block: 1000, Tx: [32]byte{9}}
	return a, func() *verifytest.Server {
		return verifytest.Start(t, a.ChainID, a.Contract, map[uint64]proof.Event{
			7: {Seq: 7, Hour: 480_000, PrevRoot: [32]byte{5}, Root: [32]byte{6}, Size: 1 << 40, BlockTime: 1_790_000_000, BlockNumber: 1000, TxHash: a.Tx},
		})
	}
}

func ask(t *testing.T, a proof.Anchor, c Config) (proof.Event, error) {
	t.Helper()
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return e.Event(t.Context(), a)
}

func TestAnEventIsReadFromTheChain(t *testing.T) {
	a, start := anchored(t)
	one, two := start(), start()
	for _, urls := range [][]string{{one.URL}, {one.URL, two.URL}} {
		got, err := ask(t, a, Config{URLs: urls})
		want := one.Events[7]
		want.Finalized = true
		if err != nil || got != want {
			t.Errorf("of %d endpoints: %+v, %v", len(urls), got, err)
		}
	}
	one.Finalized = 999
	if got, err := ask(t, a, Config{URLs: []string{one.URL}}); err != nil || got.Finalized {
		t.Errorf("a block that is not final yet: %+v, %v", got, err)
	}
	if got, err := ask(t, a, Config{URLs: []string{one.URL, two.URL}}); err != nil || got.Finalized {
		t.Errorf("a block that is final to one of two: %+v, %v", got, err)
	}
	if got, err := ask(t, a, Config{URLs: []string{one.URL, two.URL, start().URL}}); err != nil || !got.Finalized {
		t.Errorf("a block that is final to two of three: %+v, %v", got, err)
	}
}

// unchecked means an error by which nothing is called false.
var errUnchecked = errors.New("could not be checked")

func TestWhatAnEndpointSaysAgainstAFile(t *testing.T) {
	replace := func(method, text string) func(*verifytest.Server, *Config) {
		return func(s *verifytest.Server, _ *Config) {
			s.Instead[method] = func(w http.ResponseWriter) bool { _, _ = io.WriteString(w, text); return true }
		}
	}
	result := func(method, json string) func(*verifytest.Server, *Config) {
		return replace(method, `{"jsonrpc":"2.0","id":1,"result":`+json+`}`)
	}
	field := func(name string, value any) func(*verifytest.Server, *Config) {
		return func(s *verifytest.Server, _ *Config) {
			s.Change = func(method string, r any) any {
				if method == "eth_getLogs" {
					r.([]any)[0].(map[string]any)[name] = value
				}
				return r
			}
		}
	}
	for name, c := range map[string]struct {
		lie  func(*verifytest.Server, *Config)
		want error
		says string
	}{
		"another chain":                      {func(s *verifytest.Server, _ *Config) { s.ChainID = 1 }, proof.ErrWrongChain, "of chain 1"},
		"another chain than the customer's":  {func(_ *verifytest.Server, c *Config) { c.ChainID = 1 }, proof.ErrWrongChain, "given was 1"},
		"an endpoint that is not the file's": {func(s *verifytest.Server, c *Config) { s.ChainID, c.ChainID = 1, 8453 }, errUnchecked, "give one of that chain"},
		"no contract":                        {func(s *verifytest.Server, _ *Config) { s.Code = nil }, proof.ErrWrongCode, "none"},
		"another contract":                   {func(s *verifytest.Server, _ *Config) { s.Code = s.Code[1:] }, proof.ErrWrongCode, "SHA-256"},
		"no event":                           {func(s *verifytest.Server, _ *Config) { s.Events = nil }, proof.ErrNoEvent, "block 1000"},
		"no event in a block to come":        {func(s *verifytest.Server, _ *Config) { s.Events, s.Finalized = nil, 999 }, proof.ErrNotFinal, "final"},
		"logs of a block to come refused": {func(s *verifytest.Server, c *Config) {
			s.Finalized = 999
			replace("eth_getLogs", `{"error":{"code":-32000,"message":"unknown block"}}`)(s, c)
		}, proof.ErrNotFinal, "unknown block"},
		"a removed event":              {field("removed", true), proof.ErrNoEvent, ""},
		"an event of another contract": {field("address", "0x0000000000000000000000000000000000000001"), errUnchecked, "another contract"},
		"an event of another block":    {field("blockNumber", "0x1"), errUnchecked, "another contract or block"},
		"data cut short":               {field("data", "0x00"), errUnchecked, "another event"},
		"odd digits":                   {field("data", "0x0"), errUnchecked, "not bytes"},
		"a number beyond 64 bits":      {field("data", "0x"+strings.Repeat("f", 256)), errUnchecked, "another anchor"},
		"the anchor twice": {func(s *verifytest.Server, _ *Config) {
			s.Change = func(method string, r any) any {
				if method == "eth_getLogs" {
					return append(r.([]any), r.([]any)...)
				}
				return r
			}
		}, errUnchecked, "twice"},
		"an event's block that is another":  {result("eth_getBlockByHash", `{"number":"0x3e7","hash":"0x00","timestamp":"0x1"}`), errUnchecked, "another block"},
		"an event's block that is not":      {result("eth_getBlockByHash", `null`), errUnchecked, "another block"},
		"nothing final":                     {result("eth_getBlockByNumber", `null`), errUnchecked, "knows nothing"},
		"no chain id":                       {result("eth_chainId", `null`), errUnchecked, "knows nothing"},
		"no answer about code":              {result("eth_getCode", `null`), errUnchecked, "knows nothing"},
		"leading zeros":                     {result("eth_chainId", `"0x02105"`), errUnchecked, "not a number"},
		"not JSON":                          {replace("eth_chainId", "<html>"), errUnchecked, "not JSON-RPC"},
		"neither result nor error":          {replace("eth_chainId", "{}"), errUnchecked, "not JSON-RPC"},
		"an error":                          {replace("eth_getLogs", `{"error":{"code":-32005,"message":"limit \u001b[31mexceeded"}}`), errUnchecked, `limit \x1b[31mexceeded`},
		"an endless answer":                 {replace("eth_getLogs", strings.Repeat(" ", 2<<20)), errUnchecked, "more than 1048576 bytes"},
		"a block of a time that nobody has": {result("eth_getBlockByHash", `{"number":"0x3e8","hash":"0x00","timestamp":"0xffffffffffffffff"}`), errUnchecked, "another block"},
		"a redirect": {func(s *verifytest.Server, _ *Config) {
			s.Instead["eth_chainId"] = func(w http.ResponseWriter) bool {
				w.Header().Set("Location", "http://elsewhere.invalid/")
				w.WriteHeader(http.StatusTemporaryRedirect)
				return true
			}
		}, errUnchecked, "HTTP status 307"},
		"too many questions": {func(s *verifytest.Server, _ *Config) {
			s.Instead["eth_chainId"] = func(w http.ResponseWriter) bool { w.WriteHeader(http.StatusTooManyRequests); return true }
		}, errUnchecked, "HTTP status 429"},
	} {
		t.Run(name, func(t *testing.T) {
			a, start := anchored(t)
			s, config := start(), Config{}
			c.lie(s, &config)
			config.URLs = []string{s.URL}
			_, err := ask(t, a, config)
			if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("says %v, want %q", err, c.says)
			}
			for _, kind := range []error{proof.ErrNoEvent, proof.ErrNotFinal, proof.ErrWrongChain, proof.ErrWrongCode} {
				if errors.Is(err, kind) != (kind == c.want) { //nolint:errorlint // compares the table's entry
					t.Errorf("%v is %v", err, kind)
				}
			}
		})
	}
}

func TestOfSeveralEndpointsTwoMustAgreeAndNoneContradict(t *testing.T) {
	a, start := anchored(t)
	honest, other := start(), start()
	dead := httptest.NewServer(nil)
	dead.Close()
	gone := httptest.NewServer(nil)
	gone.Close()
	lying := start()
	lie := lying.Events[7]
	lie.Root[0]++
	lying.Events[7] = lie
	silent := start()
	silent.Events = nil
	behind := start()
	behind.Events, behind.Finalized = nil, 10
	for name, c := range map[string]struct {
		urls []string
		want string // "" agreed
	}{
		"one of two is dead":             {[]string{honest.URL, dead.URL}, "two must agree"},
		"one of three is dead":           {[]string{honest.URL, dead.URL, other.URL}, ""},
		"one lies":                       {[]string{honest.URL, lying.URL}, "contradict"},
		"one of three lies":              {[]string{honest.URL, other.URL, lying.URL}, "contradict"},
		"one knows no such event":        {[]string{silent.URL, honest.URL}, "contradict"},
		"one of three is behind":         {[]string{behind.URL, honest.URL, other.URL}, ""},
		"all are dead":                   {[]string{dead.URL, gone.URL}, "refused"},
		"one is behind, one knows of no": {[]string{behind.URL, silent.URL}, "two must agree"},
	} {
		_, err := ask(t, a, Config{URLs: c.urls})
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", name, err, c.want)
		case err != nil && (errors.Is(err, proof.ErrNoEvent) || errors.Is(err, proof.ErrNotFinal)):
			t.Errorf("%s: %v calls the file false", name, err)
		}
	}
	if _, err := ask(t, a, Config{URLs: []string{silent.URL, start().URL + "/"}}); err == nil {
		t.Error("a contradiction passes")
	}
	second := start()
	second.Events = nil
	if _, err := ask(t, a, Config{URLs: []string{silent.URL, second.URL}}); !errors.Is(err, proof.ErrNoEvent) {
		t.Errorf("two that agree that there is no event: %v", err)
	}
}

func TestASlowEndpointIsGivenUp(t *testing.T) {
	a, start := anchored(t)
	s := start()
	hang := make(chan struct{})
	defer close(hang)
	s.Instead["eth_getLogs"] = func(http.ResponseWriter) bool { <-hang; return true }
	_, err := ask(t, a, Config{URLs: []string{s.URL}, Timeout: 50 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "no answer within 50ms") {
		t.Errorf("%v", err)
	}
	e, _ := New(Config{URLs: []string{s.URL}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Event(ctx, a); err == nil {
		t.Error("asks although it was cancelled")
	}
}

// TestErrorsKeepAnEndpointsSecret: a provider's address holds the customer's key.
func TestErrorsKeepAnEndpointsSecret(t *testing.T) {
	a, _ := anchored(t)
	dead := httptest.NewServer(nil)
	dead.Close()
	_, err := ask(t, a, Config{URLs: []string{strings.Replace(dead.URL, "http://", "http://user:hunter2@", 1) + "/v2/hunter2?key=hunter2"}})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"ftp://hunter2/", "hunter2", "http://", "http://h\x7funter2/", ""} {
		if _, err := New(Config{URLs: []string{bad}}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, twice := range []string{"http://a/", "http://a", "http://A./other?key=1", "http://a:80/"} {
		if _, err := New(Config{URLs: []string{"http://a/", twice}}); err == nil {
			t.Errorf("the same endpoint counts twice, as %s", twice)
		}
	}
	if _, err := New(Config{URLs: make([]string, MaxEndpoints+1)}); err == nil {
		t.Error("any number of endpoints")
	}
}
