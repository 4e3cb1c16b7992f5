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
	Code string `json:"code,omitempty" doc:"Stable, such as BLOCKCHAIN_001"`
	Text string `json:"text"`
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
			st.Problem = &AnchorProblem{Code: st.Problem.Code, Text: "nothing is anchored at present; the operator sees why"}
		}
		return &anchorStatusOutput{st}, nil
	})
}
