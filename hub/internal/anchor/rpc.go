package anchor

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxAnswer bounds an endpoint's answer in bytes. The largest that is asked for is the list of events of a range of blocks.
const maxAnswer = 8 << 20

// How long an endpoint is set aside: after one failure, and at most.
const (
	asideFirst = 15 * time.Second
	asideMost  = 10 * time.Minute
)

// vouchFor is how long an endpoint's word is taken for which chain it serves: behind its name may be another one tomorrow.
const vouchFor = 10 * time.Minute

// node is one JSON-RPC endpoint. It is spoken to in plain HTTP: of a block we want the hash that the chain has, not one computed from the fields that a library
// knows, and an answer's size must have a bound. Its URL can hold a key, and is in no text.
type node struct {
	name string // the URL's host, and a number where several have it
	url  string
	http *http.Client
	now  func() time.Time

	mu       sync.Mutex
	verified time.Time // when it last said that it serves our chain; zero since it failed
	reason   string    // why it is set aside; empty: it is in service
	since    time.Time
	until    time.Time // when it is asked again
	failures int       // in a row
}

// answerError is an endpoint's answer that it will not, or cannot, do what was asked.
type answerError struct {
	code    int
	message string
	data    []byte // what a contract reverted with
}

func (e *answerError) Error() string { return fmt.Sprintf("%.200q (%d)", e.message, e.code) }

// call asks once. What comes back is data: nothing of it is trusted to be short or well-formed.
func (n *node) call(ctx context.Context, result any, method string, params ...any) error {
	if params == nil {
		params = []any{}
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.url, bytes.NewReader(body))
	if err != nil {
		return errors.New("the URL cannot be used")
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := n.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the URL
		}
		return fmt.Errorf("%s: %w", method, err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("%s: the answer broke off: %w", method, err)
	}
	if len(text) > maxAnswer {
		return fmt.Errorf("%s: the answer is larger than %d bytes", method, maxAnswer)
	}
	var reply struct {
		Result json.RawMessage `json:"result"`
		Error  *struct {
			Code    int             `json:"code"`
			Message string          `json:"message"`
			Data    json.RawMessage `json:"data"`
		} `json:"error"`
	}
	if err := json.Unmarshal(text, &reply); err != nil || reply.Error == nil && reply.Result == nil {
		return fmt.Errorf("%s: status %d, and no JSON-RPC answer", method, res.StatusCode)
	}
	if reply.Error != nil {
		e := &answerError{code: reply.Error.Code, message: reply.Error.Message}
		var data string
		if json.Unmarshal(reply.Error.Data, &data) == nil { // others put words or objects there
			e.data, _ = hex.DecodeString(strings.TrimPrefix(data, "0x"))
		}
		return e
	}
	if err := json.Unmarshal(reply.Result, result); err != nil {
		return fmt.Errorf("%s: the answer has another form than expected", method)
	}
	return nil
}

// chainID asks which chain the endpoint serves.
func (n *node) chainID(ctx context.Context) (uint64, error) {
	var id quantity
	err := n.call(ctx, &id, "eth_chainId")
	return uint64(id), err
}

// down sets the endpoint aside.
func (n *node) down(reason string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.now()
	if n.reason == "" {
		n.since = now
	}
	n.reason, n.verified = reason, time.Time{}
	n.until = now.Add(min(asideFirst<<min(n.failures, 10), asideMost))
	n.failures++
}

// up puts the endpoint in service.
func (n *node) up() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.reason, n.failures = "", 0
}

// vouched notes that the endpoint serves our chain.
func (n *node) vouched() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.verified = n.now()
}

// serves reports whether the endpoint is in service, or due to be asked again.
func (n *node) serves() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.reason == "" || !n.now().Before(n.until)
}

func (n *node) isVerified() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.verified.IsZero() && n.now().Sub(n.verified) < vouchFor
}

// quantity is a number as the protocol writes it.
type quantity uint64

// UnmarshalJSON implements json.Unmarshaler.
func (q *quantity) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	v, err := strconv.ParseUint(strings.TrimPrefix(s, "0x"), 16, 64)
	*q = quantity(v)
	return err
}

// amount is a number that may be larger.
type amount struct{ *big.Int }

// UnmarshalJSON implements json.Unmarshaler.
func (a *amount) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	v, ok := new(big.Int).SetString(strings.TrimPrefix(s, "0x"), 16)
	if !ok || v.Sign() < 0 || v.BitLen() > 256 {
		return fmt.Errorf("%.80q is no amount", s)
	}
	a.Int = v
	return nil
}

// octets are bytes as the protocol writes them.
type octets []byte

// UnmarshalJSON implements json.Unmarshaler.
func (o *octets) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	v, err := hex.DecodeString(strings.TrimPrefix(s, "0x"))
	*o = v
	return err
}

// word is a hash.
type word [32]byte

// UnmarshalJSON implements json.Unmarshaler.
func (w *word) UnmarshalJSON(b []byte) error {
	var o octets
	if err := o.UnmarshalJSON(b); err != nil {
		return err
	}
	if len(o) != len(w) {
		return fmt.Errorf("a hash of %d bytes", len(o))
	}
	*w = word(o)
	return nil
}

func hexOf(b []byte) string { return "0x" + hex.EncodeToString(b) }

func hexNumber64(n uint64) string { return "0x" + strconv.FormatUint(n, 16) }
