package proof

import (
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Kind says what a proof file proves.
type Kind uint8

// Kinds of proof files. The numbers are in files: never reuse one.
const (
	KindHour      Kind = 1 // HourProof
	KindStatement Kind = 2 // StatementProof
	KindBundle    Kind = 3 // a stream: what BundleWriter writes
	KindEntry     Kind = 4 // EntryProof
)

// String returns the documented name.
func (k Kind) String() string {
	switch k {
	case KindHour:
		return "miner-hour"
	case KindStatement:
		return "statement"
	case KindBundle:
		return "bundle"
	case KindEntry:
		return "log entry"
	default:
		return fmt.Sprintf("kind %d", uint8(k))
	}
}

// AnchorState says whether the checkpoint of a file stands on a chain.
type AnchorState uint8

// States of anchors in files. The numbers are in files: never reuse one.
const (
	AnchorNone  AnchorState = 0 // not yet
	AnchorMade  AnchorState = 1
	AnchorNever AnchorState = 2 // this hub does not anchor
)

// Anchor names the event of the contract that a checkpoint is compared with.
type Anchor struct {
	ChainID  uint64
	Contract [20]byte
	Seq      uint64 // number of the anchor in the contract, from 1
	Block    uint64
	Tx       [32]byte
}

// Head begins every file.
//
//	offset width field
//	     0    13 tag "hsi/proof/v1\0"
//	    13     1 kind
//	    14     2 length of the checkpoint, at most 512
//	    16       checkpoint (Checkpoint)
//	     …    32 public key of the log, Ed25519
//	     …     1 anchor: 0 none yet, 1 made, 2 the hub does not anchor
//	             only if it is 1:
//	     …     8 chain id
//	     …    20 address of the contract
//	     …     8 number of the anchor
//	     …     8 number of its block
//	     …    32 hash of its transaction
type Head struct {
	Checkpoint []byte // as the log publishes it
	Key        [ed25519.PublicKeySize]byte
	State      AnchorState
	Anchor     Anchor
}

const (
	fileTag  = "hsi/proof/v1\x00"
	hourSize = entryHead + evidence.HeaderSize + evidence.SignatureSize + evidence.HourSize

	// MaxStatement is the most bytes that a statement has: some 100,000 miners.
	MaxStatement = 64 << 20
	maxDocument  = 4 << 20   // bytes of terms, an assignment or an excuse
	maxDocuments = 256 << 20 // bytes of all of them
)

// Extension is what names of proof files end in.
const Extension = ".hsproof"

// PlacedEntry is an entry and its place: the entry (Entry), of the length that its kind has, and Placed.
type PlacedEntry struct {
	Entry
	Placed
}

// HourProof proves what a site signed of one miner and hour, and that it stood in the log. After the head:
//
//	width field
//	  480 leaf (evidence.Leaf)
//	    4 its index in the hour's tree
//	    1 number of hashes, at most 64
//	   32 each: the path from the leaf's neighbour to the root's child
//	  388 entry of kind hour, placed
//	  101 entry of kind site_key, placed: the key that signed the hour
type HourProof struct {
	Head
	Leaf      evidence.Leaf
	LeafIndex uint32
	LeafPath  []evidence.Hash
	Hour      PlacedEntry
	SiteKey   PlacedEntry
}

// StatementProof proves that the hub issued a statement. After the head:
//
//	width field
//	    4 length of the statement, at most 64 MiB
//	      statement, its canonical bytes
//	  204 entry of kind statement or restatement, placed
//	   54 entry of kind hub_key, placed: the key that signed the statement
type StatementProof struct {
	Head
	Statement []byte
	Entry     PlacedEntry
	HubKey    PlacedEntry
}

// Document is an input of a statement. Terms have a time and a place: their entry is made of contract, version, hash and time. Excuses have a place: their entry is made
// of id and hash, and its time is the excuse's recorded_ms. Assignments have neither, they are not in the log.
type Document struct {
	Bytes []byte // canonical JSON
	AtMS  int64
	Placed
}

// Inputs is what a bundle has between what a statement's file has and its hours. Lists of documents are in the statement's order.
//
//	width field
//	    2 number of terms; of each:
//	        4 length, at most 4 MiB; canonical JSON; 8 the entry's time in ms; placed
//	    4 number of assignments; of each:
//	        4 length, at most 4 MiB; canonical JSON
//	    4 number of excuses; of each:
//	        4 length, at most 4 MiB; canonical JSON; placed
//	    4 number of site keys, ascending by (site, key id), each the key of an hour; of each:
//	      101 entry of kind site_key, placed
//	    4 number of hours (BundleHour)
type Inputs struct {
	Terms       []Document
	Assignments []Document
	Excuses     []Document
	SiteKeys    []PlacedEntry
	Hours       uint32
}

// HourState says what the hub found when it computed an hour again.
type HourState uint8

// States of hours. The numbers are in files: never reuse one.
const (
	HourAgreed   HourState = 1
	HourDisputed HourState = 2
)

// BundleHour is one signed hour in a bundle. Hours are in the statement's order.
//
//	width field
//	    1 state: 1 agreed, 2 disputed
//	  388 entry of kind hour, placed
//	      agreed:
//	    4 number of full entries of the hour's tree
//	    4 number of bare ones
//	      all of them in ascending order of index; of each:
//	        4 index
//	        1 form: 1 full, 2 bare
//	          full: 480 leaf;  bare: 32 SHA-256(miner id), 32 SHA-256(leaf)
//	    4 number of hashes of the multiproof (MultiproofRoot)
//	   32 each
//	      disputed, which makes the hour unknown for these miners whatever their leaves say:
//	    4 number of miners
//	   16 each: miner id, ascending: those that are assigned in the hour and have a leaf in it by what the hub computed
//
// Of an agreed hour, every miner that is assigned to the contract at the site at the start of a slot of the hour has a full entry, or its neighbours are there:
// the entries with the next lower and the next higher hash, whose indexes follow each other, or the first or last entry of the tree alone. Nothing else is there: no leaf of another
// miner, and no bare entry that is not such a neighbour.
type BundleHour struct {
	State   HourState
	Entry   PlacedEntry
	Entries []TreeEntry
	Hashes  []evidence.Hash
	Miners  []ident.MinerID
}

// TreeEntry is one entry of an hour's tree.
type TreeEntry struct {
	Index    uint32
	Bare     bool
	Leaf     evidence.Leaf // zero if bare
	Miner    evidence.Hash // SHA-256 of the miner's id; a reader sets it of bare entries only
	LeafHash evidence.Hash // SHA-256 of the leaf
}

// EntryProof proves that an entry stands in the log. After the head:
//
//	width field
//	      entry of any kind (Entry), placed
type EntryProof struct {
	Head
	Entry PlacedEntry
}

// ErrFormat means that bytes are not a proof file that this program reads.
var ErrFormat = errors.New("not a proof file in its one form")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

func allowed(k EntryKind, kinds []EntryKind) bool {
	for _, want := range kinds {
		if k == want {
			return true
		}
	}
	return false
}
