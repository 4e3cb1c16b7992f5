package anchor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Problem is the one case of a Trouble that has come: what a reader's own language has a sentence for. Names are stable, and never given another meaning; Params
// are what the sentence needs.
type Problem string

// Problems, by their trouble.
const (
	ProblemNoEndpoint        Problem = "no_endpoint"         // unreachable: no endpoint gives an answer that can be used; endpoints
	ProblemTooFewEndpoints   Problem = "too_few_endpoints"   // unreachable: some do, and fewer than must agree; endpoints that do not, need, total
	ProblemNoFinality        Problem = "no_finality"         // unreachable: too few say which blocks are safe and final; chain_id
	ProblemEndpointsDisagree Problem = "endpoints_disagree"  // disagree: endpoints contradict each other; endpoints where it is known which
	ProblemEventMissing      Problem = "event_missing"       // disagree: the contract stands at head_seq and the event of anchor seq is not given
	ProblemEventHole         Problem = "event_hole"          // disagree: events are given with a hole at anchor seq
	ProblemEventOfBlock      Problem = "event_of_block"      // disagree: anchor seq is said to be in block, and its event is not given
	ProblemChainShorter      Problem = "chain_shorter"       // behind: the chain ends at latest_block, and anchor seq was in block
	ProblemContractBehind    Problem = "contract_behind"     // behind: the contract stands at head_seq, and stood at seq
	ProblemContractMoved     Problem = "contract_moved"      // behind: the contract went on while anchor seq was made
	ProblemOldBlockMissing   Problem = "old_block_missing"   // behind: an endpoint does not give a block that the chain has gone past
	ProblemWrongChain        Problem = "wrong_chain"         // wrong_chain: an endpoint does not serve chain_id; endpoints
	ProblemWrongContract     Problem = "wrong_contract"      // wrong_contract: no AnchorLog at contract on chain_id
	ProblemFeeCeiling        Problem = "fee_above_ceiling"   // fee: fee_wei is above ceiling_wei
	ProblemOutOfFunds        Problem = "out_of_funds"        // funds: account cannot pay on chain_id
	ProblemTxRefused         Problem = "transaction_refused" // refused: every endpoint refuses the transaction
	ProblemKeyDoesNotSign    Problem = "key_does_not_sign"   // refused: the signer gives no signature
	ProblemStuck             Problem = "stuck"               // stuck: tx_hash with nonce waits, and may not be replaced by a dearer one
	ProblemNonceBlocked      Problem = "nonce_blocked"       // stuck: a transaction that the database does not know has nonce, and only a dearer one than is allowed replaces it
	ProblemNonceTaken        Problem = "nonce_taken"         // nonce: something else used nonce of account
	ProblemContractRefuses   Problem = "contract_refuses"    // reverted: the contract refuses anchor seq of account; tried again once in interval_s
	ProblemNoRole            Problem = "no_role"             // reverted: account may not anchor in contract
	ProblemForeignRoot       Problem = "foreign_root"        // foreign: anchor seq, over size entries, has another root than this log
	ProblemHeadNotOurs       Problem = "head_not_ours"       // foreign: the contract's newest anchor seq is not the one that the database has
	ProblemDatabaseOlder     Problem = "database_older"      // ahead: anchor seq covers size entries, and the log reads back what it lacks
	ProblemContractAhead     Problem = "contract_ahead"      // ahead: so, and the log lacks nothing that it knows of: set back, or another log's contract; log_size
	ProblemReadingBack       Problem = "reading_back"        // ahead: anchors up to head_seq are read back, down to block so far
	ProblemLogUnreadable     Problem = "log_unreadable"      // log_behind: the log's first size entries cannot be read
	ProblemLogWaits          Problem = "log_waits"           // log_behind: the log has no checkpoint that may be anchored
	ProblemLogShorter        Problem = "log_shorter"         // log_behind: size entries are anchored, and the log has fewer
	ProblemLogNotLonger      Problem = "log_not_longer"      // log_behind: anchor seq is to be built again, once the log is longer than size entries
	ProblemLogChanged        Problem = "log_changed"         // log_fork: the log's first size entries are not those of anchor seq
	ProblemVanished          Problem = "vanished"            // vanished: anchor seq was final and is gone
)

// troubleOf is the trouble that each problem is a case of.
var troubleOf = map[Problem]Trouble{
	ProblemNoEndpoint: TroubleUnreachable, ProblemTooFewEndpoints: TroubleUnreachable, ProblemNoFinality: TroubleUnreachable,
	ProblemEndpointsDisagree: TroubleDisagree, ProblemEventMissing: TroubleDisagree, ProblemEventHole: TroubleDisagree, ProblemEventOfBlock: TroubleDisagree,
	ProblemChainShorter: TroubleBehind, ProblemContractBehind: TroubleBehind, ProblemContractMoved: TroubleBehind, ProblemOldBlockMissing: TroubleBehind,
	ProblemWrongChain: TroubleWrongChain, ProblemWrongContract: TroubleWrongContract, ProblemFeeCeiling: TroubleFee, ProblemOutOfFunds: TroubleFunds,
	ProblemTxRefused: TroubleRefused, ProblemKeyDoesNotSign: TroubleRefused, ProblemStuck: TroubleStuck, ProblemNonceBlocked: TroubleStuck, ProblemNonceTaken: TroubleNonce,
	ProblemContractRefuses: TroubleReverted, ProblemNoRole: TroubleReverted, ProblemForeignRoot: TroubleForeign, ProblemHeadNotOurs: TroubleForeign,
	ProblemDatabaseOlder: TroubleAhead, ProblemContractAhead: TroubleAhead, ProblemReadingBack: TroubleAhead,
	ProblemLogUnreadable: TroubleLogBehind, ProblemLogWaits: TroubleLogBehind, ProblemLogShorter: TroubleLogBehind, ProblemLogNotLonger: TroubleLogBehind,
	ProblemLogChanged: TroubleLogFork, ProblemVanished: TroubleVanished,
}

// Problems lists every problem that a status can have, sorted.
func Problems() []Problem {
	list := make([]Problem, 0, len(troubleOf))
	for p := range troubleOf {
		list = append(list, p)
	}
	slices.Sort(list)
	return list
}

// Params are the numbers and names in a problem's text. What a problem does not speak of is zero.
type Params struct {
	Seq         uint64   `json:"seq,omitempty"`          // number of the anchor
	Size        uint64   `json:"size,omitempty"`         // entries of the log
	LogSize     uint64   `json:"log_size,omitempty"`     // entries that this log has
	HeadSeq     uint64   `json:"head_seq,omitempty"`     // number of the contract's newest anchor
	Block       uint64   `json:"block,omitempty"`        // number
	LatestBlock uint64   `json:"latest_block,omitempty"` // number
	ChainID     uint64   `json:"chain_id,omitempty"`
	Contract    string   `json:"contract,omitempty"` // address
	Account     string   `json:"account,omitempty"`  // address
	TxHash      string   `json:"tx_hash,omitempty"`
	Nonce       *uint64  `json:"nonce,omitempty"`       // 0 is one
	FeeWei      string   `json:"fee_wei,omitempty"`     // for a unit of gas
	CeilingWei  string   `json:"ceiling_wei,omitempty"` // for a unit of gas
	Endpoints   []string `json:"endpoints,omitempty"`   // hosts; no URL, which can hold a key
	Need        int      `json:"need,omitempty"`        // endpoints that must agree
	Total       int      `json:"total,omitempty"`       // endpoints in all
	IntervalS   int64    `json:"interval_s,omitempty"`
}

// stop is an error that ends a run: the problem is told to the operator, and the next run looks whether it is gone.
type stop struct {
	problem Problem
	params  Params
	detail  string // what to do; no endpoint's URL, which can hold a key
	cause   error  // for the log
}

func (s *stop) code() Trouble { return troubleOf[s.problem] }

func (s *stop) Error() string {
	if s.cause != nil {
		return fmt.Sprintf("%s: %v", s.problem, s.cause)
	}
	return string(s.problem) + ": " + s.detail
}

func (s *stop) Unwrap() error { return s.cause }

// chainTrouble says what a failed call means to an operator. The text of the error goes to the log only: it can name an endpoint.
func (m *Machine) chainTrouble(err error) error {
	s := &stop{cause: err}
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, ErrWrongChain):
		s.problem, s.params, s.detail = ProblemWrongChain, Params{ChainID: m.s.chainID, Endpoints: m.endpoints(true)}, fmt.Sprintf("an endpoint of BASE_RPC_URL does not serve chain %d: set it, or BLOCKCHAIN_CHAIN_ID, right", m.s.chainID)
	case errors.Is(err, ErrWrongContract):
		s.problem, s.params, s.detail = ProblemWrongContract, Params{ChainID: m.s.chainID, Contract: AddressText(m.s.contract)}, fmt.Sprintf("there is no AnchorLog at 0x%x on chain %d: set BLOCKCHAIN_CONTRACT to the address that hashinsight-hub anchor deploy has printed", m.s.contract, m.s.chainID)
	case errors.Is(err, ErrDisagree):
		s.problem, s.params, s.detail = ProblemEndpointsDisagree, Params{Endpoints: m.endpoints(false)}, "the endpoints of BASE_RPC_URL contradict each other: nothing is believed until they agree; take out the one that is wrong"
	case errors.Is(err, ErrNoFinality):
		s.problem, s.params, s.detail = ProblemNoFinality, Params{ChainID: m.s.chainID}, fmt.Sprintf("too few endpoints of BASE_RPC_URL say which blocks of chain %d are safe and final (the tags safe and finalized): add one that does; a chain without finality cannot be anchored on", m.s.chainID)
	case errors.Is(err, errNoBlock):
		s.problem, s.detail = ProblemOldBlockMissing, "an endpoint of BASE_RPC_URL does not give a block that the chain has gone past: it lags, or keeps no old blocks; add one that does"
	case errors.Is(err, ErrRefused):
		s.problem, s.detail = ProblemTxRefused, "every endpoint of BASE_RPC_URL refuses the transaction: the log says with which words"
	case errors.Is(err, ErrNoKey):
		s.problem, s.detail = ProblemKeyDoesNotSign, "the key does not sign: see BLOCKCHAIN_PRIVATE_KEY and BLOCKCHAIN_KEYSTORE"
	case errors.Is(err, ErrFunds):
		s.problem, s.params, s.detail = ProblemOutOfFunds, Params{Account: AddressText(m.account), ChainID: m.s.chainID}, fmt.Sprintf("the account 0x%x cannot pay for a transaction on chain %d: send it some ETH there", m.account, m.s.chainID)
	default:
		m.unreachable(s)
	}
	return s
}

// endpoints are the hosts of the endpoints that are set aside, or of those that are not.
func (m *Machine) endpoints(aside bool) (names []string) {
	list, _ := m.c.Chain.Endpoints()
	for _, e := range list {
		if aside == (e.Reason != "") {
			names = append(names, e.Name)
		}
	}
	return names
}

// unreachable says which endpoints do not answer, and what more of them would help.
func (m *Machine) unreachable(s *stop) {
	list, need := m.c.Chain.Endpoints()
	down := m.endpoints(true)
	s.params = Params{Endpoints: down, Need: need, Total: len(list)}
	if len(down) == 0 || len(down) == len(list) {
		s.problem, s.detail = ProblemNoEndpoint, "no endpoint of BASE_RPC_URL gives an answer that can be used: nothing is lost, one later anchor covers all"
		return
	}
	s.problem = ProblemTooFewEndpoints
	s.detail = fmt.Sprintf("%d endpoints of BASE_RPC_URL must agree, and of %d these give no answer that can be used: %s. Nothing is lost, one later anchor covers all; with an endpoint more, of another provider, one may fail",
		need, len(list), strings.Join(down, ", "))
}
