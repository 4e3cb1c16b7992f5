package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
)

// Anchor is a checkpoint of the log on its way to a chain, or there.
type Anchor struct {
	ChainID     uint64 `json:"chain_id"`
	Contract    string `json:"contract" doc:"Address, hexadecimal with 0x"`
	Seq         uint64 `json:"seq" doc:"Number in the contract, from 1"`
	State       string `json:"state" enum:"built,signed,sent,mined,safe,finalized,orphaned,failed,vanished" doc:"built, signed, sent: on its way; mined, safe: in a block that may still change; finalized: for good; orphaned: its block is gone, it is sent again; failed: the contract refused it; vanished: it was final and is gone, which is an alarm"`
	Hour        Time   `json:"hour" doc:"The whole hour of anchoring, as the contract records it"`
	Size        uint64 `json:"size" doc:"Entries of the log that it covers"`
	Root        string `json:"root" doc:"Of the log's tree over them, hexadecimal"`
	PrevRoot    string `json:"prev_root" doc:"The root of the anchor before, hexadecimal"`
	BuiltAt     Time   `json:"built_at"`
	MinedAt     *Time  `json:"mined_at,omitempty" doc:"When the hub saw it in a block"`
	FinalizedAt *Time  `json:"finalized_at,omitempty" doc:"When the hub saw its block finalized"`
	TxHash      string `json:"tx_hash,omitempty" doc:"Hexadecimal with 0x"`
	BlockNumber uint64 `json:"block_number,omitempty"`
	BlockHash   string `json:"block_hash,omitempty" doc:"Hexadecimal with 0x"`
	BlockTime   *Time  `json:"block_time,omitempty" doc:"By the chain: nothing that the anchor covers was made up after it"`
	DueAt       Time   `json:"due_at" doc:"When it was to be made"`
	LateReason  string `json:"late_reason,omitempty" doc:"Why it came late, such as fee, funds, unreachable; absent: it did not"`
	Vanished    int    `json:"vanished,omitempty" doc:"How often it was final and then gone"`
	Adopted     bool   `json:"adopted,omitempty" doc:"The hub has read it back from the chain: its database did not know it"`
}

// AnchorList is one page of anchors.
type AnchorList struct {
	Items []Anchor `json:"items" nullable:"false" doc:"The newest first"`
	Next  string   `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
}

// AnchorProblem is why nothing is anchored.
type AnchorProblem struct {
	Code        string               `json:"code,omitempty" doc:"Stable: the kind of trouble, as late_reason has it, or BLOCKCHAIN_001"`
	ProblemCode AnchorProblemCode    `json:"problem_code,omitempty"`
	Params      *AnchorProblemParams `json:"params,omitempty" doc:"What the case is about; the operator sees them"`
	Text        string               `json:"text" doc:"In English, with what to do"`
}

// AnchorProblemCode is one case of what keeps a hub from anchoring. Codes are stable; package anchor gives them, and hubd those of the settings.
type AnchorProblemCode string

// anchorProblems is every code, with what it means and which params it has.
var anchorProblems = [...]struct{ code, meaning string }{
	{"no_endpoint", "no RPC endpoint gives an answer that can be used: endpoints, need, total"},
	{"too_few_endpoints", "fewer endpoints answer than must agree; an endpoint more would help: endpoints (those that do not), need, total"},
	{"no_finality", "too few endpoints say which blocks are safe and final: chain_id"},
	{"endpoints_disagree", "endpoints contradict each other: endpoints"},
	{"event_missing", "the contract stands at head_seq, and no endpoint gives the event of anchor seq: seq, head_seq"},
	{"event_hole", "the events are given with a hole: seq"},
	{"event_of_block", "an anchor is said to be in a block, and its event is not given: seq, block"},
	{"chain_shorter", "the chain is said to end before the block of an anchor: seq, block, latest_block"},
	{"contract_behind", "the contract is said to stand at head_seq, and stood at seq: seq, head_seq"},
	{"contract_moved", "the contract went on while an anchor was made; it is looked at again: seq"},
	{"old_block_missing", "an endpoint does not give a block that the chain has gone past"},
	{"wrong_chain", "an endpoint serves another chain: chain_id (the right one), endpoints"},
	{"wrong_contract", "at the address there is no AnchorLog: contract, chain_id"},
	{"fee_above_ceiling", "gas costs more than is allowed: fee_wei, ceiling_wei"},
	{"out_of_funds", "the account cannot pay: account, chain_id"},
	{"transaction_refused", "every endpoint refuses the transaction; the hub's log says why"},
	{"key_does_not_sign", "the chain key gives no signature"},
	{"stuck", "a transaction waits for a block and may not be replaced by a dearer one: tx_hash, nonce"},
	{"nonce_blocked", "a transaction that this database does not know waits, and may not be replaced by a dearer one: nonce, account"},
	{"nonce_taken", "something else has used a nonce of the account: nonce, account"},
	{"contract_refuses", "the contract refuses an anchor: seq, account, interval_s (when it is tried again)"},
	{"no_role", "the account may not anchor in the contract: account, contract"},
	{"foreign_root", "an anchor in the contract has another root than this log has over as many entries: seq, size"},
	{"head_not_ours", "the contract's newest anchor is another one than the database has under its number: seq"},
	{"database_older", "the contract covers more than this log has, which reads back what its database lacks: seq, size, log_size"},
	{"contract_ahead", "the contract covers more than this log has, which knows of nothing that it lacks: it was set back with its directory, or another log is anchored there: seq, size, log_size, account (that anchored)"},
	{"reading_back", "anchors that the database lacks are read back from the chain: head_seq, block (so far)"},
	{"log_unreadable", "the log's first entries cannot be read: size"},
	{"log_waits", "the log has no checkpoint that may be anchored"},
	{"log_shorter", "more entries are anchored than the log has: size, log_size"},
	{"log_not_longer", "an anchor is to be made again once the log is longer: seq, size"},
	{"log_changed", "the log's first entries are not those that were anchored: an alarm: seq, size"},
	{"vanished", "an anchor was final and is gone from the chain: an alarm, and it is being anchored again: seq"},
	{"no_key", "the chain key is missing, or cannot be used; text says which setting"},
	{"settings", "settings of the chain are wrong; text says which"},
}

// Schema implements huma.SchemaProvider.
func (AnchorProblemCode) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString, Description: "Stable: the one case of the problem, with the members of params that it has. Absent: one that has no name yet."}
	for _, p := range anchorProblems {
		s.Enum = append(s.Enum, p.code)
		s.Description += "\n- `" + p.code + "`: " + p.meaning
	}
	return s
}

// AnchorProblemCodes lists every code.
func AnchorProblemCodes() []AnchorProblemCode {
	list := make([]AnchorProblemCode, len(anchorProblems))
	for i, p := range anchorProblems {
		list[i] = AnchorProblemCode(p.code)
	}
	return list
}

// AnchorProblemParams are the numbers and names in a problem's text. The code says which are there.
type AnchorProblemParams struct {
	Seq         uint64   `json:"seq,omitempty" doc:"Number of an anchor in the contract"`
	Size        uint64   `json:"size,omitempty" doc:"Entries of the log"`
	LogSize     uint64   `json:"log_size,omitempty" doc:"Entries that this hub's log has"`
	HeadSeq     uint64   `json:"head_seq,omitempty" doc:"Number of the contract's newest anchor"`
	Block       uint64   `json:"block,omitempty" doc:"Number of a block"`
	LatestBlock uint64   `json:"latest_block,omitempty" doc:"Number of the newest block"`
	ChainID     uint64   `json:"chain_id,omitempty"`
	Contract    string   `json:"contract,omitempty" doc:"Address, hexadecimal with 0x"`
	Account     string   `json:"account,omitempty" doc:"Address, hexadecimal with 0x"`
	TxHash      string   `json:"tx_hash,omitempty" doc:"Hexadecimal with 0x"`
	Nonce       *uint64  `json:"nonce,omitempty"`
	FeeWei      string   `json:"fee_wei,omitempty" doc:"Price of a unit of gas, a decimal number"`
	CeilingWei  string   `json:"ceiling_wei,omitempty" doc:"The most that a unit of gas may cost, a decimal number"`
	Endpoints   []string `json:"endpoints,omitempty" nullable:"false" doc:"Hosts of RPC endpoints"`
	Need        int      `json:"need,omitempty" doc:"Endpoints that must agree"`
	Total       int      `json:"total,omitempty" doc:"Endpoints that are set"`
	IntervalS   int64    `json:"interval_s,omitempty"`
}

// AnchorStatus is how anchoring goes.
type AnchorStatus struct {
	Driver         string         `json:"driver" enum:"log-contract,none" doc:"none: this hub signs its checkpoints and anchors none of them"`
	Problem        *AnchorProblem `json:"problem,omitempty" doc:"What keeps it from anchoring; absent: nothing does"`
	ProblemSince   *Time          `json:"problem_since,omitempty"`
	Overdue        bool           `json:"overdue" doc:"For 6 hours nothing has come into a block, and something should have"`
	Network        string         `json:"network,omitempty"`
	ChainID        uint64         `json:"chain_id,omitempty"`
	Contract       string         `json:"contract,omitempty" doc:"Address, hexadecimal with 0x. Compare it with the one in your contract"`
	Account        string         `json:"account,omitempty" doc:"Address that pays, hexadecimal with 0x"`
	Endpoints      int            `json:"endpoints" doc:"RPC endpoints that are asked: with one alone, nobody disagrees with it"`
	IntervalS      int64          `json:"interval_s"`
	LogSize        uint64         `json:"log_size" doc:"Entries in the newest checkpoint"`
	CoveredAt      *Time          `json:"covered_at,omitempty" doc:"When a block last held the whole log"`
	Newest         *Anchor        `json:"newest,omitempty" doc:"In whatever state"`
	Last           *Anchor        `json:"last,omitempty" doc:"The newest that is in a block"`
	Vanished       int            `json:"vanished" doc:"Anchors that were final and are in no block now: an alarm"`
	LatestBlock    uint64         `json:"latest_block,omitempty" doc:"As the chain last answered, as the next two"`
	SafeBlock      uint64         `json:"safe_block,omitempty"`
	FinalizedBlock uint64         `json:"finalized_block,omitempty"`
	CheckedAt      *Time          `json:"checked_at,omitempty" doc:"When the hub last looked"`
	AnsweredAt     *Time          `json:"answered_at,omitempty" doc:"When the chain last answered"`
}

type anchorsInput struct {
	Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"500"`
	Cursor string `query:"cursor" maxLength:"100" doc:"next of the page before"`
}

type (
	anchorsOutput      struct{ Body AnchorList }
	anchorStatusOutput struct{ Body AnchorStatus }
)

func (s *Server) anchorRoutes() {
	register(s, ofTheLog, huma.Operation{
		OperationID: "list-anchors", Method: http.MethodGet, Path: "/api/anchors", Tags: []string{"anchors"},
		Summary: "Checkpoints that were anchored on a chain, or are on their way, the newest first", Errors: logErrors(),
	}, func(ctx context.Context, in *anchorsInput) (*anchorsOutput, error) {
		if s.transparency.Anchors == nil {
			return nil, noLog("the anchors")
		}
		list, next, err := s.transparency.Anchors(ctx, in.Cursor, in.Limit)
		if err != nil {
			return nil, err
		}
		return &anchorsOutput{AnchorList{Items: append([]Anchor{}, list...), Next: next}}, nil
	})
	register(s, ofTheLog, huma.Operation{
		OperationID: "get-anchor-status", Method: http.MethodGet, Path: "/api/anchors/status", Tags: []string{"anchors"},
		Summary: "How anchoring goes: where, up to what, and what keeps it", Errors: logErrors(),
	}, func(ctx context.Context, _ *struct{}) (*anchorStatusOutput, error) {
		if s.transparency.AnchorState == nil {
			return nil, noLog("the anchors")
		}
		st, err := s.transparency.AnchorState(ctx)
		if err != nil {
			return nil, err
		}
		if p := requestOf(ctx).principal; st.Problem != nil && (p == nil || p.Customer != uuid.Nil) { // settings and endpoints are the operator's business
			st.Problem = &AnchorProblem{Code: st.Problem.Code, ProblemCode: st.Problem.ProblemCode, Text: "nothing is anchored at present; the operator sees why"}
		}
		return &anchorStatusOutput{st}, nil
	})
}
