package localrun

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"golang.org/x/crypto/sha3"
)

// A chain of this run's own, on loopback: anvil, a development node of Ethereum. It makes a block a second, and a block is final two blocks
// later, so that whoever tries the system sees a final anchor within minutes. What is on it has no value.
const (
	chainID       = 31337
	chainWriting  = 30 * time.Second // how often the chain is written to disk: so much of it may be lost with a kill
	chainAccount  = "0x56bc75e2d63100000"
	anchorDefault = time.Minute
	chainAnswer   = 10 * time.Second // for one request
)

// AnvilIn returns the program that npm has installed in a folder, "" when there is none.
func AnvilIn(modules string) string {
	matches, _ := filepath.Glob(filepath.Join(modules, "@foundry-rs", "anvil-*", "bin", "anvil")) // the pattern is well-formed
	if len(matches) == 0 {
		return ""
	}
	return matches[0]
}

// chainState is what a run keeps of its chain beside the chain itself. The keys are as valuable as the chain, and secret all the same: they are
// handled as keys of a real one would be.
type chainState struct {
	AnchorerKey string `json:"anchorer_key"`
	AdminKey    string `json:"admin_key"` // cold: signs nothing here
	Contract    string `json:"contract,omitempty"`
}

func (s *stack) chainFile() string { return filepath.Join(s.dir, "chain.json") }
func (s *stack) chainURL() string  { return "http://" + s.ports.Chain }

// contractHex is the contract's address without its prefix.
func (s *stack) contractHex() string { return strings.TrimPrefix(s.contractOf.Contract, "0x") }

// startChain starts the chain and deploys the contract unless an earlier run has, on the same chain.
func (s *stack) startChain(ctx context.Context) error {
	err := s.reopenChain(ctx)
	if errors.Is(err, errNoContract) {
		return s.deploy(ctx)
	}
	return err
}

var errNoContract = errors.New("the chain has no contract of an earlier run: make run deploys one")

// reopenChain starts the chain of an earlier run.
func (s *stack) reopenChain(ctx context.Context) error {
	b, err := os.ReadFile(s.chainFile())
	if err == nil {
		err = json.Unmarshal(b, &s.contractOf)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the chain's keys: %w (remove %s)", err, s.chainFile())
	}
	if err := s.runChain(ctx); err != nil || s.contractOf.Contract == "" {
		return cmp.Or(err, errNoContract)
	}
	var code string
	if err := s.rpc(ctx, &code, "eth_getCode", s.contractOf.Contract, "latest"); err != nil {
		return err
	}
	if code == "0x" {
		fmt.Fprintln(s.c.Out, "run: the chain of the last run is lost, and its anchors with it")
		return errNoContract
	}
	return nil
}

// runChain starts the node with what it had, and waits until it answers.
func (s *stack) runChain(ctx context.Context) error {
	state := filepath.Join(s.dir, "chain", "state.json")
	if err := os.MkdirAll(filepath.Dir(state), 0o700); err != nil {
		return fmt.Errorf("make the directory for the chain: %w", err)
	}
	// The node refuses to start with a file whose writing a kill has cut off.
	if b, err := os.ReadFile(state); err == nil && !json.Valid(b) {
		if err := os.Rename(state, state+".broken"); err != nil {
			return fmt.Errorf("put the broken file of the chain aside: %w", err)
		}
	}
	host, port, err := net.SplitHostPort(s.ports.Chain)
	if err != nil {
		return fmt.Errorf("the chain's address: %w", err)
	}
	s.chain = s.newChild("chain", nil, s.c.Anvil, "--host", host, "--port", port, "--chain-id", strconv.Itoa(chainID), "--accounts", "0", "--quiet",
		"--block-time", "1", "--slots-in-an-epoch", "1", "--state", state, "--state-interval", strconv.Itoa(int(chainWriting.Seconds())))
	if err := s.chain.run(); err != nil {
		return err
	}
	if !s.patient(ctx, startTimeout, func() bool {
		var id string
		return s.rpc(ctx, &id, "eth_chainId") == nil && id == "0x"+strconv.FormatInt(chainID, 16)
	}) {
		return errors.Join(fmt.Errorf("the chain does not answer at %s: see %s", s.chainURL(), s.chain.logPath), ctx.Err(), s.failed())
	}
	return nil
}

// patient looks until it is so. It reports false when the time is over, ctx ends or a program cannot be kept running.
func (s *stack) patient(ctx context.Context, within time.Duration, look func() bool) bool {
	return s.patientAt(ctx, 100*time.Millisecond, within, look)
}

// patientAt is patient that looks so often.
func (s *stack) patientAt(ctx context.Context, every, within time.Duration, look func() bool) bool {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for deadline := time.After(within); !look(); {
		select {
		case <-tick.C:
		case <-deadline:
			return false
		case <-ctx.Done():
			return false
		case <-s.broken:
			return false
		}
	}
	return true
}

var contractAddress = regexp.MustCompile(`^0x[0-9a-fA-F]{40}$`)

// deploy makes new keys and has the hub's own command deploy the contract. With keys of an earlier chain the contract would get the address that it had
// there, and pass for the one whose anchors the hub has in its books.
func (s *stack) deploy(ctx context.Context) error {
	made := chainState{AnchorerKey: newChainKey(), AdminKey: newChainKey()}
	anchorer, err := chainAddress(made.AnchorerKey)
	if err != nil {
		return err
	}
	admin, err := chainAddress(made.AdminKey)
	if err != nil {
		return err
	}
	if err := s.rpc(ctx, nil, "anvil_setBalance", anchorer, chainAccount); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.program("hub"), "anchor", "deploy", "--admin", admin)
	cmd.Env = append(append(os.Environ(), s.hubEnv()...), s.chainEnv(made)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("deploy the contract: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	made.Contract = strings.TrimSpace(stdout.String())
	if !contractAddress.MatchString(made.Contract) {
		return fmt.Errorf("deploy the contract: %.200q is no address", stdout.String())
	}
	b, err := json.MarshalIndent(made, "", "  ")
	if err == nil {
		err = writeFile(s.chainFile(), append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("note the contract: %w", err)
	}
	s.contractOf = made
	return nil
}

// chainEnv is the hub's configuration of its chain.
func (s *stack) chainEnv(c chainState) []string {
	env := []string{"BLOCKCHAIN_ENABLED=true", "BLOCKCHAIN_NETWORK=custom", "BLOCKCHAIN_CHAIN_ID=" + strconv.Itoa(chainID), "BASE_RPC_URL=" + s.chainURL(),
		"BLOCKCHAIN_PRIVATE_KEY=" + c.AnchorerKey, "ANCHOR_INTERVAL=" + cmp.Or(s.c.Anchor, anchorDefault).String()}
	if c.Contract != "" {
		env = append(env, "BLOCKCHAIN_CONTRACT="+c.Contract)
	}
	return env
}

func (s *stack) rpc(ctx context.Context, into any, method string, params ...any) error {
	return Ask(ctx, s.chainURL(), into, method, params...)
}

// Ask asks a chain's endpoint. into may be nil.
func Ask(ctx context.Context, url string, into any, method string, params ...any) error {
	if params == nil {
		params = []any{}
	}
	question, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return fmt.Errorf("ask the chain for %s: %w", method, err)
	}
	ctx, cancel := context.WithTimeout(ctx, chainAnswer)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(question))
	if err != nil {
		return fmt.Errorf("ask the chain for %s: %w", method, err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask the chain for %s: %w", method, err)
	}
	defer func() { _ = res.Body.Close() }() // read to its end or given up
	answer, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	if err != nil {
		return fmt.Errorf("the chain's answer to %s: %w", method, err)
	}
	var out struct {
		Result json.RawMessage `json:"result"`
		Error  json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(answer, &out); err != nil {
		return fmt.Errorf("the chain's answer to %s: %w", method, err)
	}
	if out.Error != nil {
		return fmt.Errorf("the chain refuses %s: %.300s", method, out.Error)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(out.Result, into); err != nil {
		return fmt.Errorf("the chain's answer to %s: %w", method, err)
	}
	return nil
}

func newChainKey() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails; a number outside of the curve's order comes once in 2^128
	return "0x" + hex.EncodeToString(b[:])
}

// chainAddress is the account of a key: the last 20 bytes of the Keccak hash of its point.
func chainAddress(key string) (string, error) {
	b, err := hex.DecodeString(strings.TrimPrefix(key, "0x"))
	if err != nil || len(b) != 32 {
		return "", errors.New("a key of the chain is not 0x and 64 hex digits")
	}
	h := sha3.NewLegacyKeccak256()
	_, _ = h.Write(secp256k1.PrivKeyFromBytes(b).PubKey().SerializeUncompressed()[1:]) // a hash takes everything
	return "0x" + hex.EncodeToString(h.Sum(nil)[12:]), nil
}
