package proof

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// EntryKind says what a log entry records.
type EntryKind uint8

// Kinds of entries. The numbers are in the log: never reuse one.
const (
	EntryHour        EntryKind = 1 // a signed hour of a site: HourBody
	EntrySiteKey     EntryKind = 2 // SiteKeyBody
	EntryHubKey      EntryKind = 3 // HubKeyBody
	EntryTerms       EntryKind = 4 // TermsBody
	EntryExcuse      EntryKind = 5 // ExcuseBody
	EntryStatement   EntryKind = 6 // StatementBody without Supersedes
	EntryRestatement EntryKind = 7 // StatementBody with Supersedes
	EntryAuditHead   EntryKind = 8 // AuditHeadBody
)

// bodies is the length of each kind's body in bytes.
var bodies = map[EntryKind]int{
	EntryHour: evidence.HeaderSize + evidence.SignatureSize + evidence.HourSize, EntrySiteKey: 81, EntryHubKey: 34, EntryTerms: 52, EntryExcuse: 48,
	EntryStatement: 184, EntryRestatement: 184, EntryAuditHead: 40,
}

// names are the documented names of kinds.
var names = map[EntryKind]string{
	EntryHour: "hour", EntrySiteKey: "site_key", EntryHubKey: "hub_key", EntryTerms: "terms", EntryExcuse: "excuse", EntryStatement: "statement",
	EntryRestatement: "restatement", EntryAuditHead: "audit_head",
}

// String returns the documented name.
func (k EntryKind) String() string {
	if s, ok := names[k]; ok {
		return s
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

const (
	entryTag  = "hsi/log/v1\x00"
	entryHead = len(entryTag) + 1 + 8
)

// Entry is one record of the hub's transparency log.
//
//	offset width field
//	     0    11 tag "hsi/log/v1\0"
//	    11     1 kind
//	    12     8 the hub's time of recording, ms since 1970 UTC
//	    20       body, of the length that the kind has
type Entry struct {
	Kind EntryKind
	AtMS int64
	Body []byte
}

// Bytes returns the fixed form, which is what the log holds.
func (e *Entry) Bytes() []byte { return e.append(make([]byte, 0, entryHead+len(e.Body))) }

func (e *Entry) append(b []byte) []byte {
	b = append(append(b, entryTag...), byte(e.Kind))
	b = binary.BigEndian.AppendUint64(b, uint64(e.AtMS))
	return append(b, e.Body...)
}

// Ref returns SHA-256 of the body: with the kind it is what an entry is known by, so that nothing is recorded twice.
func (e *Entry) Ref() evidence.Hash { return sha256.Sum256(e.Body) }

// LeafHash returns the entry's leaf in the log's tree (RFC 6962).
func (e *Entry) LeafHash() evidence.Hash {
	return sha256.Sum256(append([]byte{0}, e.Bytes()...))
}

// EntrySize returns the length of an encoded entry of a kind in bytes; 0 for an unknown kind.
func EntrySize(k EntryKind) int {
	if n, ok := bodies[k]; ok {
		return entryHead + n
	}
	return 0
}

// ParseEntry reads the fixed form and accepts nothing else; the body is checked as well.
func ParseEntry(b []byte) (Entry, error) {
	if len(b) < entryHead || string(b[:len(entryTag)]) != entryTag {
		return Entry{}, errors.New("not a log entry")
	}
	e := Entry{Kind: EntryKind(b[len(entryTag)]), AtMS: int64(binary.BigEndian.Uint64(b[len(entryTag)+1:])), Body: bytes.Clone(b[entryHead:])}
	if n, ok := bodies[e.Kind]; !ok || len(e.Body) != n || e.AtMS < 0 {
		return Entry{}, fmt.Errorf("a log entry of kind %d with %d bytes at %d ms: none has that form", e.Kind, len(e.Body), e.AtMS)
	}
	return e, e.check()
}

// check reads the body, for its form.
func (e *Entry) check() (err error) {
	switch e.Kind {
	case EntryHour:
		_, err = ParseHourBody(e.Body)
	case EntrySiteKey:
		_, err = ParseSiteKeyBody(e.Body)
	case EntryHubKey:
		_, err = ParseHubKeyBody(e.Body)
	case EntryTerms:
		_, err = ParseTermsBody(e.Body)
	case EntryExcuse:
		_, err = ParseExcuseBody(e.Body)
	case EntryStatement, EntryRestatement:
		var s StatementBody
		if s, err = ParseStatementBody(e.Body); err == nil && (s.Supersedes != evidence.Hash{}) != (e.Kind == EntryRestatement) {
			err = fmt.Errorf("an entry of kind %s: a restatement, and only that, names what it supersedes", e.Kind)
		}
	case EntryAuditHead:
		_, err = ParseAuditHeadBody(e.Body)
	}
	return err
}

// HourBody is a signed hour: the batch of kind hour, whole.
//
//	offset width field
//	     0   204 header (evidence.Header)
//	   204    64 the site's signature of it
//	   268   100 payload (evidence.Hour)
type HourBody struct {
	RawHeader, Signature, Payload []byte

	Header evidence.Header // as parsed
	Hour   evidence.Hour
}

// ParseHourBody reads the fixed form. That header and payload belong together is checked, the signature is not.
func ParseHourBody(b []byte) (h HourBody, err error) {
	if len(b) != bodies[EntryHour] {
		return h, fmt.Errorf("a signed hour of %d bytes, want %d", len(b), bodies[EntryHour])
	}
	h.RawHeader, h.Signature, h.Payload = b[:evidence.HeaderSize], b[evidence.HeaderSize:evidence.HeaderSize+evidence.SignatureSize], b[evidence.HeaderSize+evidence.SignatureSize:]
	if h.Header, err = evidence.ParseHeader(h.RawHeader); err != nil {
		return h, err
	}
	if h.Hour, err = evidence.ParseHour(h.Payload); err != nil {
		return h, err
	}
	if h.Header.Kind != evidence.KindHour || h.Header.Site != h.Hour.Site {
		return h, errors.New("the header of a signed hour is of another kind or site than its payload")
	}
	return h, h.Header.CheckPayload(h.Payload)
}

// Entry returns the log entry.
func (h *HourBody) Entry(atMS int64) Entry {
	return Entry{EntryHour, atMS, slices.Concat(h.RawHeader, h.Signature, h.Payload)}
}

// KeyEvent is what happened to a key.
type KeyEvent uint8

// Events of keys. The numbers are in the log: never reuse one.
const (
	KeyAdded   KeyEvent = 1
	KeyRetired KeyEvent = 2 // revoked, or replaced: what it signed before stays checkable
)

// SiteKeyBody says that the hub has taken a key as a site's, or takes it no longer.
//
//	offset width field
//	     0    16 site id
//	    16     1 event
//	    17    32 public key, Ed25519
//	    49    32 the key whose place it takes, zeros for none
type SiteKeyBody struct {
	Site     ident.SiteID
	Event    KeyEvent
	Public   [ed25519.PublicKeySize]byte
	Replaces [ed25519.PublicKeySize]byte
}

// ParseSiteKeyBody reads the fixed form.
func ParseSiteKeyBody(b []byte) (k SiteKeyBody, err error) {
	if len(b) != bodies[EntrySiteKey] {
		return k, fmt.Errorf("a site's key of %d bytes, want %d", len(b), bodies[EntrySiteKey])
	}
	copy(k.Site[:], b)
	k.Event = KeyEvent(b[16])
	copy(k.Public[:], b[17:])
	copy(k.Replaces[:], b[49:])
	if k.Event != KeyAdded && k.Event != KeyRetired {
		return k, fmt.Errorf("event %d of a site's key is unknown", k.Event)
	}
	return k, nil
}

// Entry returns the log entry.
func (k *SiteKeyBody) Entry(atMS int64) Entry {
	return Entry{EntrySiteKey, atMS, slices.Concat(k.Site[:], []byte{byte(k.Event)}, k.Public[:], k.Replaces[:])}
}

// HubKeyRole is what one of the hub's keys signs.
type HubKeyRole uint8

// Roles of the hub's keys. The numbers are in the log: never reuse one.
const (
	HubKeyEvidence   HubKeyRole = 1 // acknowledgements and statements
	HubKeyCheckpoint HubKeyRole = 2 // checkpoints of the log
)

// HubKeyBody announces one of the hub's keys.
//
//	offset width field
//	     0     1 role
//	     1     1 event
//	     2    32 public key, Ed25519
type HubKeyBody struct {
	Role   HubKeyRole
	Event  KeyEvent
	Public [ed25519.PublicKeySize]byte
}

// ParseHubKeyBody reads the fixed form.
func ParseHubKeyBody(b []byte) (k HubKeyBody, err error) {
	if len(b) != bodies[EntryHubKey] {
		return k, fmt.Errorf("a hub's key of %d bytes, want %d", len(b), bodies[EntryHubKey])
	}
	k.Role, k.Event = HubKeyRole(b[0]), KeyEvent(b[1])
	copy(k.Public[:], b[2:])
	if k.Role != HubKeyEvidence && k.Role != HubKeyCheckpoint || k.Event != KeyAdded && k.Event != KeyRetired {
		return k, fmt.Errorf("a hub's key of role %d and event %d is unknown", k.Role, k.Event)
	}
	return k, nil
}

// Entry returns the log entry.
func (k *HubKeyBody) Entry(atMS int64) Entry {
	return Entry{EntryHubKey, atMS, slices.Concat([]byte{byte(k.Role), byte(k.Event)}, k.Public[:])}
}

// TermsBody records one version of a contract's terms by its hash: the terms themselves are the parties' business.
//
//	offset width field
//	     0    16 contract id
//	    16     4 version, from 1
//	    20    32 SHA-256 of the canonical encoding
type TermsBody struct {
	Contract [16]byte
	Version  uint32
	Hash     evidence.Hash
}

// ParseTermsBody reads the fixed form.
func ParseTermsBody(b []byte) (t TermsBody, err error) {
	if len(b) != bodies[EntryTerms] {
		return t, fmt.Errorf("terms of %d bytes, want %d", len(b), bodies[EntryTerms])
	}
	copy(t.Contract[:], b)
	t.Version = binary.BigEndian.Uint32(b[16:])
	copy(t.Hash[:], b[20:])
	return t, nil
}

// Entry returns the log entry.
func (t *TermsBody) Entry(atMS int64) Entry {
	return Entry{EntryTerms, atMS, slices.Concat(t.Contract[:], binary.BigEndian.AppendUint32(nil, t.Version), t.Hash[:])}
}

// ExcuseBody records an excuse, or a record that shortens one, by its hash. The entry's time is the excuse's time of recording: an excuse counts from its
// place in the log.
//
//	offset width field
//	     0    16 id
//	    16    32 SHA-256 of the canonical encoding
type ExcuseBody struct {
	ID   [16]byte
	Hash evidence.Hash
}

// ParseExcuseBody reads the fixed form.
func ParseExcuseBody(b []byte) (x ExcuseBody, err error) {
	if len(b) != bodies[EntryExcuse] {
		return x, fmt.Errorf("an excuse of %d bytes, want %d", len(b), bodies[EntryExcuse])
	}
	copy(x.ID[:], b)
	copy(x.Hash[:], b[16:])
	return x, nil
}

// Entry returns the log entry.
func (x *ExcuseBody) Entry(atMS int64) Entry {
	return Entry{EntryExcuse, atMS, slices.Concat(x.ID[:], x.Hash[:])}
}

// StatementBody records a statement with the hub's signature of it (evidence.SignStatement), so that the log alone shows that the hub said two things.
//
//	offset width field
//	     0    16 contract id
//	    16     4 month, counted since January of the year 0
//	    20     4 number within the month: 1 is the first, further ones are restatements
//	    24    32 SHA-256 of the statement's canonical bytes
//	    56    32 the same of the one whose place it takes, zeros for none
//	    88    32 the hub's public key, Ed25519
//	   120    64 its signature of the statement
type StatementBody struct {
	Contract   [16]byte
	Month, Seq uint32
	Hash       evidence.Hash
	Supersedes evidence.Hash
	Public     [ed25519.PublicKeySize]byte
	Signature  [ed25519.SignatureSize]byte
}

// ParseStatementBody reads the fixed form.
func ParseStatementBody(b []byte) (s StatementBody, err error) {
	if len(b) != bodies[EntryStatement] {
		return s, fmt.Errorf("a statement's record of %d bytes, want %d", len(b), bodies[EntryStatement])
	}
	copy(s.Contract[:], b)
	s.Month, s.Seq = binary.BigEndian.Uint32(b[16:]), binary.BigEndian.Uint32(b[20:])
	copy(s.Hash[:], b[24:])
	copy(s.Supersedes[:], b[56:])
	copy(s.Public[:], b[88:])
	copy(s.Signature[:], b[120:])
	return s, nil
}

// Entry returns the log entry: a restatement if it supersedes something.
func (s *StatementBody) Entry(atMS int64) Entry {
	kind := EntryStatement
	if s.Supersedes != (evidence.Hash{}) {
		kind = EntryRestatement
	}
	return Entry{kind, atMS, slices.Concat(s.Contract[:], binary.BigEndian.AppendUint32(nil, s.Month), binary.BigEndian.AppendUint32(nil, s.Seq), s.Hash[:], s.Supersedes[:], s.Public[:], s.Signature[:])}
}

// AuditHeadBody records the head of the hub's audit log: nothing up to it can be changed later unseen.
//
//	offset width field
//	     0     8 number of the last entry
//	     8    32 its chained hash
type AuditHeadBody struct {
	Seq  uint64
	Hash evidence.Hash
}

// ParseAuditHeadBody reads the fixed form.
func ParseAuditHeadBody(b []byte) (a AuditHeadBody, err error) {
	if len(b) != bodies[EntryAuditHead] {
		return a, fmt.Errorf("a head of the audit log of %d bytes, want %d", len(b), bodies[EntryAuditHead])
	}
	a.Seq = binary.BigEndian.Uint64(b)
	copy(a.Hash[:], b[8:])
	return a, nil
}

// Entry returns the log entry.
func (a *AuditHeadBody) Entry(atMS int64) Entry {
	return Entry{EntryAuditHead, atMS, slices.Concat(binary.BigEndian.AppendUint64(nil, a.Seq), a.Hash[:])}
}
