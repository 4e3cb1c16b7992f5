package api

import (
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/hub/internal/statement"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/proof"
)

// Transparency is what the routes of the log, of its anchors and of proof files ask: hubd fills it in, because neither the log nor a chain is in every
// process. A function that is nil answers that this process does not have it.
type Transparency struct {
	Public bool // the log and its anchors are read without a key

	Checkpoint  func(context.Context) (LogHead, error)                                            // the newest published one
	Entries     func(ctx context.Context, f LogFilter) ([]LogRecord, error)                       // the newest first
	Entry       func(ctx context.Context, index uint64) (LogRecord, error)                        // of the published log
	Inclusion   func(ctx context.Context, index, size uint64) ([]evidence.Hash, error)            // RFC 6962, 2.1.1
	Consistency func(ctx context.Context, from, to uint64) ([]evidence.Hash, error)               // RFC 6962, 2.1.2
	Anchors     func(ctx context.Context, cursor string, limit int) ([]Anchor, string, error)     // the newest first, and where the list goes on
	AnchorState func(context.Context) (AnchorStatus, error)                                       // of all of it
	EntryProof  func(ctx context.Context, index uint64) ([]byte, error)                           // a proof file
	HourProof   func(ctx context.Context, o HourProof) ([]byte, error)                            // a proof file
	Statement   func(ctx context.Context, s statement.Scope, h evidence.Hash) ([]byte, error)     // a proof file
	Bundle      func(ctx context.Context, s statement.Scope, h evidence.Hash) (Bundle, error)     // a proof file, written when it is wanted
	ProofState  func(ctx context.Context, s statement.Scope, h evidence.Hash) (ProofState, error) // how far a statement's proof is
}

// LogHead is the newest checkpoint.
type LogHead struct {
	Note      []byte // the signed note
	Origin    string
	Size      uint64
	Root      evidence.Hash
	At        time.Time
	PublicKey []byte // Ed25519, that signs it
	Behind    bool   // the database is older than the published log: nothing is added until it has caught up
	State     string // as in LogCheckpoint
}

// LogFilter chooses entries of the log.
type LogFilter struct {
	Kind   proof.EntryKind // 0: all
	Before uint64          // index; 0: from the newest on
	Limit  int
}

// LogRecord is an entry at its place.
type LogRecord struct {
	Index uint64
	proof.Entry
}

// HourProof asks for the proof of what a miner did in an hour.
type HourProof struct {
	Scope statement.Scope
	Miner statement.Miner
	Hour  uint32        // since 1970
	Chain ident.SpoolID // zero: the only one that the site has signed the hour in
}

// Bundle is a proof file that is too long to be held.
type Bundle struct {
	Month sla.CalendarMonth
	Write func(ctx context.Context, w io.Writer) error
}

// LogCheckpoint is the log's newest signed head.
type LogCheckpoint struct {
	Origin      string `json:"origin" doc:"The log's name"`
	Size        uint64 `json:"size" doc:"Entries"`
	Root        string `json:"root" doc:"Of the tree over all of them (RFC 6962), hexadecimal"`
	Note        string `json:"note" doc:"The signed note (C2SP tlog-checkpoint), to be checked as it stands"`
	PublicKey   string `json:"public_key" doc:"The Ed25519 key that signs checkpoints, hexadecimal. Compare it with the one you were given: what comes with a signature proves nothing about who made it"`
	PublishedAt Time   `json:"published_at"`
	Behind      bool   `json:"behind" doc:"The hub's database is older than what it has published: nothing is added or anchored until the missing entries are read back"`
	State       string `json:"state" enum:"growing,behind,blocked,halted" doc:"growing: entries get their places as they come; behind: as the member says; blocked: what is written cannot be kept at present, because a disk is full or away, or it is not known yet whether the log is the one that was anchored; halted: rows, tiles and checkpoints contradict each other, and a person has to look. In the last three nothing is added, and what was signed stands"`
	Public      bool   `json:"public" doc:"Whether the log is read without a key here"`
}

// LogEntry is an entry of the log. What it says of its subject depends on its kind; absent members are not of that kind.
type LogEntry struct {
	Index    uint64 `json:"index"`
	Kind     string `json:"kind" enum:"hour,site_key,hub_key,terms,excuse,statement,restatement,audit_head"`
	At       Time   `json:"at" doc:"The hub's time of recording"`
	LeafHash string `json:"leaf_hash" doc:"SHA-256 of a zero byte and the bytes, hexadecimal: the entry's leaf in the log's tree"`
	Bytes    []byte `json:"bytes" doc:"The entry, base64"`

	SiteID     string  `json:"site_id,omitempty" format:"uuid" doc:"hour, site_key"`
	Hour       *Time   `json:"hour,omitempty" doc:"hour: its beginning"`
	ChainID    string  `json:"spool_id,omitempty" format:"uuid" doc:"hour: the chain of batches that its leaves are of"`
	Root       string  `json:"root,omitempty" doc:"hour: over the leaves, as signed, hexadecimal"`
	Leaves     *uint32 `json:"leaves,omitempty" doc:"hour: miners with facts"`
	Event      string  `json:"event,omitempty" enum:"added,retired" doc:"site_key, hub_key"`
	Role       string  `json:"role,omitempty" enum:"evidence,checkpoint" doc:"hub_key: what it signs"`
	PublicKey  string  `json:"public_key,omitempty" doc:"site_key, hub_key; of a statement the key that signed it. Hexadecimal"`
	Replaces   string  `json:"replaces,omitempty" doc:"site_key: the key whose place it takes, hexadecimal"`
	ContractID string  `json:"contract_id,omitempty" format:"uuid" doc:"terms, statement, restatement"`
	Version    *uint32 `json:"version,omitempty" doc:"terms"`
	ExcuseID   string  `json:"excuse_id,omitempty" format:"uuid" doc:"excuse"`
	Hash       string  `json:"hash,omitempty" doc:"SHA-256 of what is recorded: terms, excuse, statement, restatement, audit_head. Hexadecimal"`
	Month      string  `json:"month,omitempty" doc:"statement, restatement: UTC, such as 2026-11"`
	Seq        *uint64 `json:"seq,omitempty" doc:"statement, restatement: number within the month; audit_head: of the last audited entry"`
	Supersedes string  `json:"supersedes,omitempty" doc:"restatement: hash of the one whose place it takes"`
}

// LogEntryList is one page of the log.
type LogEntryList struct {
	Items []LogEntry `json:"items" nullable:"false" doc:"The newest first"`
	Next  string     `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
}

// LogInclusion shows that an entry is in the log.
type LogInclusion struct {
	Index    uint64   `json:"index"`
	Size     uint64   `json:"size" doc:"Of the log that the path is for"`
	LeafHash string   `json:"leaf_hash" doc:"Hexadecimal"`
	Path     []string `json:"path" nullable:"false" doc:"RFC 6962, 2.1.1; hexadecimal"`
}

// LogConsistency shows that one state of the log begins with another.
type LogConsistency struct {
	From uint64   `json:"from"`
	To   uint64   `json:"to"`
	Path []string `json:"path" nullable:"false" doc:"RFC 6962, 2.1.2; hexadecimal"`
}

type logEntriesInput struct {
	Kind   string `query:"kind" enum:"hour,site_key,hub_key,terms,excuse,statement,restatement,audit_head" doc:"Only this kind"`
	Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"500"`
	Cursor string `query:"cursor" maxLength:"20" doc:"next of the page before"`
}

type logEntryInput struct {
	Index uint64 `path:"index" doc:"Place in the log, from 0"`
}

type logInclusionInput struct {
	Index uint64 `path:"index" doc:"Place in the log, from 0"`
	Size  uint64 `query:"size" doc:"Of the log to show it in; by default as of the newest checkpoint"`
}

type logConsistencyInput struct {
	From uint64 `query:"from" required:"true" minimum:"1"`
	To   uint64 `query:"to" required:"true" minimum:"1"`
}

type (
	logCheckpointOutput  struct{ Body LogCheckpoint }
	logEntriesOutput     struct{ Body LogEntryList }
	logEntryOutput       struct{ Body LogEntry }
	logInclusionOutput   struct{ Body LogInclusion }
	logConsistencyOutput struct{ Body LogConsistency }
)

// noLog answers where this process does not have what a route asks.
func noLog(what string) error {
	return apperr.E(apperr.Unavailable, "API_004", "this hub process does not have %s", what)
}

// logErrors are what reads of the log can answer.
func logErrors() []int {
	return []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity, http.StatusServiceUnavailable}
}

func (s *Server) logRoutes() {
	register(s, ofTheLog, huma.Operation{
		OperationID: "get-log-checkpoint", Method: http.MethodGet, Path: "/api/log/checkpoint", Tags: []string{"log"},
		Summary: "The transparency log's newest signed head", Errors: logErrors(),
	}, s.logCheckpoint)
	register(s, ofTheLog, huma.Operation{
		OperationID: "list-log-entries", Method: http.MethodGet, Path: "/api/log/entries", Tags: []string{"log"},
		Summary: "Entries of the log, the newest first", Errors: logErrors(),
	}, s.logEntries)
	register(s, ofTheLog, huma.Operation{
		OperationID: "get-log-entry", Method: http.MethodGet, Path: "/api/log/entries/{index}", Tags: []string{"log"},
		Summary: "One entry", Errors: logErrors(),
	}, func(ctx context.Context, in *logEntryInput) (*logEntryOutput, error) {
		if s.transparency.Entry == nil {
			return nil, noLog("the log")
		}
		e, err := s.transparency.Entry(ctx, in.Index)
		if err != nil {
			return nil, err
		}
		return &logEntryOutput{logEntryOf(&e)}, nil
	})
	register(s, ofTheLog, huma.Operation{
		OperationID: "get-log-inclusion", Method: http.MethodGet, Path: "/api/log/entries/{index}/inclusion", Tags: []string{"log"},
		Summary: "Proof that an entry is in the log", Errors: logErrors(),
	}, s.logInclusion)
	register(s, ofTheLog, huma.Operation{
		OperationID: "get-log-consistency", Method: http.MethodGet, Path: "/api/log/consistency", Tags: []string{"log"},
		Summary: "Proof that the log has only grown between two sizes", Errors: logErrors(),
	}, func(ctx context.Context, in *logConsistencyInput) (*logConsistencyOutput, error) {
		if s.transparency.Consistency == nil {
			return nil, noLog("the log")
		}
		if in.From > in.To {
			return nil, apperr.E(apperr.Invalid, "VALID_001", "from %d to %d: want sizes in order", in.From, in.To)
		}
		path, err := s.transparency.Consistency(ctx, in.From, in.To)
		if err != nil {
			return nil, err
		}
		return &logConsistencyOutput{LogConsistency{From: in.From, To: in.To, Path: hexes(path)}}, nil
	})
}

func hexes(path []evidence.Hash) []string {
	out := make([]string, len(path))
	for i := range path {
		out[i] = hex.EncodeToString(path[i][:])
	}
	return out
}

func (s *Server) logCheckpoint(ctx context.Context, _ *struct{}) (*logCheckpointOutput, error) {
	if s.transparency.Checkpoint == nil {
		return nil, noLog("the log")
	}
	c, err := s.transparency.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	return &logCheckpointOutput{LogCheckpoint{
		Origin: c.Origin, Size: c.Size, Root: hex.EncodeToString(c.Root[:]), Note: string(c.Note), PublicKey: hex.EncodeToString(c.PublicKey), PublishedAt: Time{c.At},
		Behind: c.Behind, State: c.State, Public: s.transparency.Public,
	}}, nil
}

func (s *Server) logEntries(ctx context.Context, in *logEntriesInput) (*logEntriesOutput, error) {
	if s.transparency.Entries == nil {
		return nil, noLog("the log")
	}
	f := LogFilter{Limit: in.Limit + 1}
	for k := proof.EntryHour; in.Kind != "" && k <= proof.EntryAuditHead; k++ {
		if k.String() == in.Kind {
			f.Kind = k
		}
	}
	if in.Cursor != "" {
		var err error
		if f.Before, err = strconv.ParseUint(in.Cursor, 10, 63); err != nil || f.Before < 1 {
			return nil, apperr.E(apperr.Invalid, "VALID_001", "cursor: want next of the page before")
		}
	}
	list, err := s.transparency.Entries(ctx, f)
	if err != nil {
		return nil, err
	}
	out := &logEntriesOutput{LogEntryList{Items: make([]LogEntry, 0, len(list))}}
	if len(list) > in.Limit {
		list = list[:in.Limit]
		out.Body.Next = strconv.FormatUint(list[in.Limit-1].Index, 10)
	}
	for i := range list {
		out.Body.Items = append(out.Body.Items, logEntryOf(&list[i]))
	}
	return out, nil
}

func (s *Server) logInclusion(ctx context.Context, in *logInclusionInput) (*logInclusionOutput, error) {
	t := &s.transparency
	if t.Inclusion == nil || t.Entry == nil || t.Checkpoint == nil {
		return nil, noLog("the log")
	}
	if in.Size == 0 {
		c, err := t.Checkpoint(ctx)
		if err != nil {
			return nil, err
		}
		in.Size = c.Size
	}
	e, err := t.Entry(ctx, in.Index)
	if err != nil {
		return nil, err
	}
	if in.Index >= in.Size {
		return nil, apperr.E(apperr.Invalid, "VALID_001", "a log of %d entries has none at %d: indexes begin at 0", in.Size, in.Index)
	}
	path, err := t.Inclusion(ctx, in.Index, in.Size)
	if err != nil {
		return nil, err
	}
	leaf := e.LeafHash()
	return &logInclusionOutput{LogInclusion{Index: in.Index, Size: in.Size, LeafHash: hex.EncodeToString(leaf[:]), Path: hexes(path)}}, nil
}

// logEntryOf maps an entry. One that this program cannot read is still told of, by its bytes.
func logEntryOf(r *LogRecord) LogEntry {
	leaf := r.LeafHash()
	e := LogEntry{Index: r.Index, Kind: r.Kind.String(), At: Time{time.UnixMilli(r.AtMS)}, LeafHash: hex.EncodeToString(leaf[:]), Bytes: r.Bytes()}
	switch r.Kind {
	case proof.EntryHour:
		if b, err := proof.ParseHourBody(r.Body); err == nil {
			e.SiteID, e.ChainID, e.Root, e.Leaves = b.Hour.Site.String(), b.Hour.Spool.String(), hex.EncodeToString(b.Hour.Root[:]), &b.Hour.Leaves
			e.Hour = &Time{time.Unix(int64(b.Hour.Hour)*3600, 0)}
		}
	case proof.EntrySiteKey:
		if b, err := proof.ParseSiteKeyBody(r.Body); err == nil {
			e.SiteID, e.Event, e.PublicKey = b.Site.String(), keyEvent(b.Event), hex.EncodeToString(b.Public[:])
			if b.Replaces != [32]byte{} {
				e.Replaces = hex.EncodeToString(b.Replaces[:])
			}
		}
	case proof.EntryHubKey:
		if b, err := proof.ParseHubKeyBody(r.Body); err == nil {
			e.Event, e.PublicKey, e.Role = keyEvent(b.Event), hex.EncodeToString(b.Public[:]), "evidence"
			if b.Role == proof.HubKeyCheckpoint {
				e.Role = "checkpoint"
			}
		}
	case proof.EntryTerms:
		if b, err := proof.ParseTermsBody(r.Body); err == nil {
			e.ContractID, e.Version, e.Hash = uuid.UUID(b.Contract).String(), &b.Version, hex.EncodeToString(b.Hash[:])
		}
	case proof.EntryExcuse:
		if b, err := proof.ParseExcuseBody(r.Body); err == nil {
			e.ExcuseID, e.Hash = uuid.UUID(b.ID).String(), hex.EncodeToString(b.Hash[:])
		}
	case proof.EntryStatement, proof.EntryRestatement:
		if b, err := proof.ParseStatementBody(r.Body); err == nil {
			seq := uint64(b.Seq)
			e.ContractID, e.Month, e.Seq = uuid.UUID(b.Contract).String(), sla.CalendarMonth(b.Month).String(), &seq
			e.Hash, e.PublicKey = hex.EncodeToString(b.Hash[:]), hex.EncodeToString(b.Public[:])
			if r.Kind == proof.EntryRestatement {
				e.Supersedes = hex.EncodeToString(b.Supersedes[:])
			}
		}
	case proof.EntryAuditHead:
		if b, err := proof.ParseAuditHeadBody(r.Body); err == nil {
			e.Seq, e.Hash = &b.Seq, hex.EncodeToString(b.Hash[:])
		}
	}
	return e
}

func keyEvent(e proof.KeyEvent) string {
	if e == proof.KeyRetired {
		return "retired"
	}
	return "added"
}
