// Package verifytest is a JSON-RPC endpoint for tests, over real HTTP, that answers what a node would about one contract's events and can be made to lie, to be slow and to
// fail. It knows the five questions that package verify asks. Tests of verify and of the program hashinsight-verify start it; with real chains others test them.
package verifytest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hashinsight/hashinsight/pkg/proof"
)

// Server is an endpoint. Its fields may be changed between questions, under Lock.
type Server struct {
	URL string

	sync.Mutex
	ChainID   uint64
	Contract  [20]byte
	Code      []byte
	Events    map[uint64]proof.Event
	Finalized uint64                                         // number of the last final block
	Instead   map[string]func(http.ResponseWriter) (ok bool) // by method: answers instead; not ok goes on as usual
	Change    func(method string, result any) any            // of what is answered
	Asked     []string                                       // methods, in order
}

// Code is the contract's runtime code as it was committed, found from a directory of the module hub.
func Code(t testing.TB) []byte {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; ; dir = filepath.Dir(dir) {
		text, err := os.ReadFile(filepath.Join(dir, "contracts", "out", "AnchorLog.runtime.bin"))
		if err == nil {
			code, err := hex.DecodeString(strings.TrimPrefix(strings.TrimSpace(string(text)), "0x"))
			if err != nil {
				t.Fatal(err)
			}
			return code
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("contracts/out/AnchorLog.runtime.bin is not above the test's directory")
		}
	}
}

// Start serves events until the test ends. All blocks up to the highest event's are final.
func Start(t testing.TB, chainID uint64, contract [20]byte, events map[uint64]proof.Event) *Server {
	t.Helper()
	s := &Server{ChainID: chainID, Contract: contract, Code: Code(t), Events: events, Instead: map[string]func(http.ResponseWriter) bool{}}
	for _, e := range events {
		s.Finalized = max(s.Finalized, e.BlockNumber)
	}
	h := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(h.Close)
	s.URL = h.URL
	return s
}

// BlockHash is that of the block with a number.
func BlockHash(number uint64) [32]byte { return sha256.Sum256(fmt.Appendf(nil, "block %d", number)) }

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	var q struct {
		ID     int               `json:"id"`
		Method string            `json:"method"`
		Params []json.RawMessage `json:"params"`
	}
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.Lock()
	s.Asked = append(s.Asked, q.Method)
	instead, change := s.Instead[q.Method], s.Change
	result := s.answer(q.Method, q.Params)
	s.Unlock()
	if instead != nil && instead(w) {
		return
	}
	if change != nil {
		result = change(q.Method, result)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"jsonrpc": "2.0", "id": q.ID, "result": result})
}

func number(v uint64) string { return fmt.Sprintf("0x%x", v) }

func block(n uint64, seconds int64) map[string]any {
	return map[string]any{"number": number(n), "hash": fmt.Sprintf("0x%x", BlockHash(n)), "timestamp": number(uint64(seconds)), "transactions": []string{}}
}

func (s *Server) answer(method string, params []json.RawMessage) any {
	var text string
	if len(params) > 0 {
		_ = json.Unmarshal(params[0], &text)
	}
	switch method {
	case "eth_chainId":
		return number(s.ChainID)
	case "eth_getBlockByNumber":
		return block(s.Finalized, 1)
	case "eth_getCode":
		if text != fmt.Sprintf("0x%x", s.Contract) {
			return "0x"
		}
		return fmt.Sprintf("0x%x", s.Code)
	case "eth_getBlockByHash":
		for _, e := range s.Events {
			if text == fmt.Sprintf("0x%x", BlockHash(e.BlockNumber)) {
				return block(e.BlockNumber, e.BlockTime)
			}
		}
		return nil
	case "eth_getLogs":
		return s.logs(params)
	}
	return nil
}

func (s *Server) logs(params []json.RawMessage) any {
	var f struct {
		Address   string   `json:"address"`
		FromBlock string   `json:"fromBlock"`
		ToBlock   string   `json:"toBlock"`
		Topics    []string `json:"topics"`
	}
	found := []any{}
	if len(params) != 1 || json.Unmarshal(params[0], &f) != nil || f.FromBlock != f.ToBlock || f.Address != fmt.Sprintf("0x%x", s.Contract) {
		return found
	}
	for _, e := range s.Events {
		topics := []string{fmt.Sprintf("0x%x", proof.HeadAnchoredTopic), fmt.Sprintf("0x%064x", e.Seq)}
		if number(e.BlockNumber) != f.FromBlock || len(f.Topics) != 2 || f.Topics[0] != topics[0] || f.Topics[1] != topics[1] {
			continue
		}
		found = append(found, map[string]any{
			"address": f.Address, "topics": topics, "data": fmt.Sprintf("0x%064x%x%x%064x", e.Hour, e.PrevRoot, e.Root, e.Size),
			"blockNumber": f.FromBlock, "blockHash": fmt.Sprintf("0x%x", BlockHash(e.BlockNumber)), "transactionHash": fmt.Sprintf("0x%x", e.TxHash),
			"logIndex": "0x0", "transactionIndex": "0x0", "removed": false,
		})
	}
	return found
}
