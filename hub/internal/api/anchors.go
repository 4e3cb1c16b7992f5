package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// Anchor is a checkpoint of the log on its way to a chain, or there.
type Anchor struct {
	ChainID     uint64 `json:"chain_id"`
	Contract    string `json:"contract" doc:"Address, hexadecimal with 0x"`
	Seq         uint64 `json:"seq" doc:"Number in the contract, from 1"`
	State       string `json:"state" enum:"built,sent,mined,safe,finalized,orphaned,failed" doc:"Only a finalized anchor proves anything for good"`
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
	LateReason  string `json:"late_reason,omitempty" doc:"Why it covers more than one interval; text from outside may be in it, never markup"`
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
	Driver       string         `json:"driver" enum:"log-contract,none" doc:"none: this hub signs its checkpoints and anchors none of them"`
	Problem      *AnchorProblem `json:"problem,omitempty" doc:"What keeps it from anchoring; absent: nothing does"`
	Network      string         `json:"network,omitempty"`
	ChainID      uint64         `json:"chain_id,omitempty"`
	Contract     string         `json:"contract,omitempty" doc:"Address, hexadecimal with 0x. Compare it with the one in your contract"`
	Account      string         `json:"account,omitempty" doc:"Address that pays"`
	Endpoints    int            `json:"endpoints" doc:"RPC endpoints that are asked: with one alone, nobody disagrees with it"`
	IntervalS    int64          `json:"interval_s"`
	LogSize      uint64         `json:"log_size" doc:"Entries in the newest checkpoint"`
	AnchoredSize uint64         `json:"anchored_size" doc:"Entries that a finalized anchor covers"`
	Newest       *Anchor        `json:"newest,omitempty"`
	Finalized    *Anchor        `json:"finalized,omitempty" doc:"The newest finalized one"`
	LateSince    *Time          `json:"late_since,omitempty" doc:"Since when an anchor is due and has not been made"`
	LateReason   string         `json:"late_reason,omitempty" doc:"Why; text from outside may be in it, never markup"`
	CheckedAt    *Time          `json:"checked_at,omitempty" doc:"When the chain was last asked"`
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
		return &anchorStatusOutput{st}, nil
	})
}
