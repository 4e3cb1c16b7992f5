package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hashinsight/hashinsight/pkg/proof"
)

// Bounds of what an endpoint may do.
const (
	MaxEndpoints = 8
	maxAnswer    = 1 << 20          // bytes; the largest honest one is the contract's code
	callTimeout  = 15 * time.Second // of one question
	maxRemark    = 200              // bytes of an endpoint's own words
)

// Config describes endpoints.
type Config struct {
	URLs    []string      // of JSON-RPC by HTTP, at most MaxEndpoints
	ChainID uint64        // that the contract is on by the checker's own knowledge; 0: not known, the file's is believed
	Timeout time.Duration // of one question; 0 means 15 s
}

// Endpoints asks a chain. Of several endpoints two must give the same answer, and none another. It implements proof.Chain.
type Endpoints struct {
	c    Config
	http *http.Client
	all  []endpoint
}

type endpoint struct {
	url  string
	name string // scheme and host: the rest may be a secret
}

// hostOf names who answers at an address, however it is written: paths and keys of one host are one witness.
func hostOf(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(strings.TrimSuffix(strings.ToLower(u.Hostname()), "."), port)
}

// New checks addresses; it asks nobody.
func New(c Config) (*Endpoints, error) {
	if c.Timeout == 0 {
		c.Timeout = callTimeout
	}
	if len(c.URLs) > MaxEndpoints {
		return nil, fmt.Errorf("%d endpoints: give at most %d", len(c.URLs), MaxEndpoints)
	}
	e := &Endpoints{c: c, http: &http.Client{
		Timeout: c.Timeout,
		// Whoever was named answers: a redirect would hand the question to somebody else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	seen := map[string]bool{}
	for i, text := range c.URLs {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("endpoint %d is not an address like https://host/path", i+1) // it may hold a secret: not shown
		}
		at := hostOf(u)
		if seen[at] {
			return nil, fmt.Errorf("host %s comes twice: agreeing with itself proves nothing", at)
		}
		seen[at] = true
		e.all = append(e.all, endpoint{u.String(), u.Scheme + "://" + u.Host})
	}
	return e, nil
}

// Len is the number of endpoints.
func (e *Endpoints) Len() int { return len(e.all) }

// answer is what one endpoint says.
type answer struct {
	from  string
	event proof.Event
	block string // hash
	err   error
}

// definite tells whether an endpoint has said something of the chain, rather than of itself.
func (a *answer) definite() bool {
	return a.err == nil || errors.Is(a.err, proof.ErrNoEvent) || errors.Is(a.err, proof.ErrWrongChain) || errors.Is(a.err, proof.ErrWrongCode) || errors.Is(a.err, proof.ErrNotFinal)
}

// same tells whether two answers say the same of what is final. One that does not have the block yet contradicts nobody.
func (a *answer) same(b *answer) bool {
	if a.err != nil || b.err != nil {
		for _, kind := range []error{proof.ErrNoEvent, proof.ErrWrongChain, proof.ErrWrongCode, proof.ErrNotFinal} {
			if errors.Is(a.err, kind) != errors.Is(b.err, kind) {
				return false
			}
		}
		return true
	}
	x, y := a.event, b.event
	x.Finalized, y.Finalized = false, false
	return x == y && a.block == b.block
}

func (a *answer) late() bool { return errors.Is(a.err, proof.ErrNotFinal) }

// Event asks for the event that an anchor names, at all endpoints at once, and compares what they say. What cannot be asked, or is answered by one of several
// endpoints only, or differently, is an error that is none of package proof's: it could not be checked.
func (e *Endpoints) Event(ctx context.Context, a proof.Anchor) (proof.Event, error) {
	if len(e.all) == 0 {
		return proof.Event{}, errors.New("no endpoint of a chain was given: --rpc https://…")
	}
	if e.c.ChainID != 0 && a.ChainID != e.c.ChainID {
		return proof.Event{}, fmt.Errorf("%w: the file names chain %d, given was %d", proof.ErrWrongChain, a.ChainID, e.c.ChainID)
	}
	answers := make(chan answer, len(e.all))
	for i := range e.all {
		go func() {
			from := &e.all[i]
			ans := answer{from: from.name}
			ans.event, ans.block, ans.err = e.ask(ctx, from, &a)
			answers <- ans
		}()
	}
	all := make([]answer, 0, len(e.all))
	for range e.all {
		all = append(all, <-answers)
	}
	return agree(all)
}

// agree makes one answer of several.
func agree(all []answer) (proof.Event, error) {
	var definite []*answer
	var failed []error
	for i := range all {
		if a := &all[i]; a.definite() {
			definite = append(definite, a)
		} else {
			failed = append(failed, fmt.Errorf("%s: %w", a.from, a.err))
		}
	}
	need := min(len(all), 2)
	if len(definite) < need {
		err := errors.Join(failed...)
		if len(definite) > 0 {
			return proof.Event{}, fmt.Errorf("of %d endpoints only %s answers, and two must agree: %w", len(all), definite[0].from, oneLine(err))
		}
		return proof.Event{}, oneLine(err)
	}
	var first *answer
	final := 0
	for _, a := range definite {
		if a.late() {
			continue
		}
		if first == nil {
			first = a
		} else if !first.same(a) {
			return proof.Event{}, fmt.Errorf("endpoints contradict each other: %s says %s, %s says %s", first.from, first.says(), a.from, a.says())
		}
		if a.err == nil && a.event.Finalized || a.err != nil {
			final++
		}
	}
	if first == nil {
		return proof.Event{}, fmt.Errorf("%s: %w", definite[0].from, definite[0].err)
	}
	if first.err != nil {
		if final < need { // the others do not know the block yet
			return proof.Event{}, fmt.Errorf("only %s knows the block, and two must agree: %s", first.from, first.says())
		}
		return proof.Event{}, fmt.Errorf("%w (%s)", first.err, first.from)
	}
	event := first.event
	event.Finalized = final >= need
	return event, nil
}

func (a *answer) says() string {
	if a.err != nil {
		return a.err.Error()
	}
	return fmt.Sprintf("anchor %d in block %d (%s) of %d s, transaction 0x%x, %d entries with root %x", a.event.Seq, a.event.BlockNumber, a.block, a.event.BlockTime, a.event.TxHash, a.event.Size, a.event.Root)
}

// oneLine keeps joined errors in one line.
func oneLine(err error) error {
	return errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
}

// ask asks one endpoint.
func (e *Endpoints) ask(ctx context.Context, p *endpoint, a *proof.Anchor) (event proof.Event, blockHash string, err error) {
	var id quantity
	if err := e.call(ctx, p, &id, "eth_chainId"); err != nil {
		return event, "", err
	}
	if uint64(id) != a.ChainID {
		if e.c.ChainID != 0 { // the file's chain is the right one: the endpoint is not
			return event, "", fmt.Errorf("it is an endpoint of chain %d, not %d: give one of that chain", id, a.ChainID)
		}
		return event, "", fmt.Errorf("%w: the endpoint is of chain %d, the file names %d", proof.ErrWrongChain, id, a.ChainID)
	}
	// What is final is asked first: a block that comes meanwhile makes the answer late, not wrong.
	var final block
	if err := e.call(ctx, p, &final, "eth_getBlockByNumber", "finalized", false); err != nil {
		return event, "", err
	}
	if final.Number == nil {
		return event, "", errors.New("it knows no final block")
	}
	contract := "0x" + hex.EncodeToString(a.Contract[:])
	var code data
	if err := e.call(ctx, p, &code, "eth_getCode", contract, "latest"); err != nil {
		return event, "", err
	}
	if len(code) == 0 {
		return event, "", fmt.Errorf("%w: none", proof.ErrWrongCode)
	}
	if got := sha256.Sum256(code); got != proof.AnchorLogCode {
		return event, "", fmt.Errorf("%w: its SHA-256 is %x, that of AnchorLog is %x", proof.ErrWrongCode, got, proof.AnchorLogCode)
	}
	var seq [32]byte
	binary.BigEndian.PutUint64(seq[24:], a.Seq)
	number := "0x" + strconv.FormatUint(a.Block, 16)
	var logs []logEntry
	if err := e.call(ctx, p, &logs, "eth_getLogs", map[string]any{
		"address": contract, "fromBlock": number, "toBlock": number, "topics": []string{hexData(proof.HeadAnchoredTopic[:]), hexData(seq[:])},
	}); err != nil {
		if uint64(*final.Number) < a.Block { // some say so of blocks that are not there yet
			return event, "", fmt.Errorf("%w: block %d, the last final one is %d, and %w", proof.ErrNotFinal, a.Block, *final.Number, err)
		}
		return event, "", err
	}
	var found *logEntry
	for i := range logs {
		l := &logs[i]
		if l.Removed {
			continue
		}
		if event, err = l.event(a); err != nil {
			return event, "", fmt.Errorf("its answer to eth_getLogs makes no sense: %w", err)
		}
		if found != nil {
			return event, "", errors.New("its answer to eth_getLogs makes no sense: the same anchor twice")
		}
		found = l
	}
	if found == nil {
		if uint64(*final.Number) < a.Block {
			return event, "", fmt.Errorf("%w: block %d has no such event so far, the last final one is %d", proof.ErrNotFinal, a.Block, *final.Number)
		}
		return event, "", fmt.Errorf("%w in block %d, which is final (a file that was made before the block was final may name one that a reorganisation took away: download it again)", proof.ErrNoEvent, a.Block)
	}
	blockHash = hexData(found.BlockHash)
	var b *block
	if err := e.call(ctx, p, &b, "eth_getBlockByHash", blockHash, false); err != nil {
		return event, "", err
	}
	if b == nil || b.Number == nil || uint64(*b.Number) != event.BlockNumber || !bytes.Equal(b.Hash, found.BlockHash) || b.Timestamp == nil || uint64(*b.Timestamp) > 1<<40 {
		return event, "", errors.New("its answer to eth_getBlockByHash is another block than the event's")
	}
	event.BlockTime = int64(*b.Timestamp)
	event.Finalized = event.BlockNumber <= uint64(*final.Number)
	return event, blockHash, nil
}

// logEntry is an event as eth_getLogs gives it.
type logEntry struct {
	Address     data     `json:"address"`
	Topics      []data   `json:"topics"`
	Data        data     `json:"data"`
	BlockNumber quantity `json:"blockNumber"`
	BlockHash   data     `json:"blockHash"`
	TxHash      data     `json:"transactionHash"`
	Removed     bool     `json:"removed"`
}

// event reads HeadAnchored: the topic, seq as the second one, and hour, root before, root and size of 32 bytes each as data.
func (l *logEntry) event(a *proof.Anchor) (v proof.Event, err error) {
	if !bytes.Equal(l.Address, a.Contract[:]) || uint64(l.BlockNumber) != a.Block || len(l.BlockHash) != 32 || len(l.TxHash) != 32 {
		return v, errors.New("an event of another contract or block than was asked for")
	}
	if len(l.Topics) != 2 || !bytes.Equal(l.Topics[0], proof.HeadAnchoredTopic[:]) || len(l.Topics[1]) != 32 || len(l.Data) != 4*32 {
		return v, errors.New("another event than was asked for")
	}
	var ok [3]bool
	v.Seq, ok[0] = word(l.Topics[1])
	v.Hour, ok[1] = word(l.Data[:32])
	copy(v.PrevRoot[:], l.Data[32:])
	copy(v.Root[:], l.Data[64:])
	v.Size, ok[2] = word(l.Data[96:])
	if ok != [3]bool{true, true, true} || v.Seq != a.Seq {
		return v, errors.New("an event of another anchor than was asked for")
	}
	v.BlockNumber = uint64(l.BlockNumber)
	copy(v.TxHash[:], l.TxHash)
	return v, nil
}

// word reads a uint64 of the contract's encoding.
func word(b []byte) (uint64, bool) {
	return binary.BigEndian.Uint64(b[24:]), bytes.Equal(b[:24], make([]byte, 24))
}

// block is what is asked of one.
type block struct {
	Number    *quantity `json:"number"`
	Hash      data      `json:"hash"`
	Timestamp *quantity `json:"timestamp"`
}

// quantity is a number in JSON-RPC: 0x and hexadecimal digits without leading zeros.
type quantity uint64

// UnmarshalText implements encoding.TextUnmarshaler.
func (q *quantity) UnmarshalText(b []byte) error {
	digits, ok := strings.CutPrefix(string(b), "0x")
	v, err := strconv.ParseUint(digits, 16, 64)
	if !ok || err != nil || strings.HasPrefix(digits, "+") || len(digits) > 1 && digits[0] == '0' {
		return fmt.Errorf("%.40q is not a number of JSON-RPC", b)
	}
	*q = quantity(v)
	return nil
}

// data is bytes in JSON-RPC: 0x and two hexadecimal digits for each.
type data []byte

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *data) UnmarshalText(b []byte) (err error) {
	digits, ok := strings.CutPrefix(string(b), "0x")
	if *d, err = hex.DecodeString(digits); !ok || err != nil {
		return fmt.Errorf("%.40q are not bytes of JSON-RPC", b)
	}
	return nil
}

func hexData(b []byte) string { return "0x" + hex.EncodeToString(b) }

// call asks one question. Errors name neither path nor query of the address, which may hold a secret.
func (e *Endpoints) call(ctx context.Context, p *endpoint, into any, method string, params ...any) error {
	if params == nil {
		params = []any{}
	}
	question, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, e.c.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(question))
	if err != nil {
		return errors.New("its address cannot be asked")
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := e.http.Do(req)
	if err != nil {
		if u := (*url.Error)(nil); errors.As(err, &u) {
			if u.Timeout() {
				return fmt.Errorf("%s: no answer within %s", method, e.c.Timeout)
			}
			err = u.Err
		}
		return fmt.Errorf("%s: %w", method, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("%s: the answer ends early: %w", method, err)
	case len(body) > maxAnswer:
		return fmt.Errorf("%s: an answer of more than %d bytes", method, maxAnswer)
	}
	var got struct {
		Result json.RawMessage `json:"result"`
		Error  *struct {
			Code    int64  `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.Unmarshal(body, &got); err != nil || got.Error == nil && got.Result == nil {
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: HTTP status %d", method, resp.StatusCode)
		}
		return fmt.Errorf("%s: the answer is not JSON-RPC", method)
	}
	if got.Error != nil {
		return fmt.Errorf("%s: error %d: %.*q", method, got.Error.Code, maxRemark, got.Error.Message)
	}
	if _, may := into.(**block); !may && string(got.Result) == "null" {
		return fmt.Errorf("%s: it knows nothing", method)
	}
	if err := json.Unmarshal(got.Result, into); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	return nil
}
