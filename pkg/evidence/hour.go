package evidence

import (
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Hour is the payload of a batch of kind hour: the root of the leaves of one site, hour and chain. The batch's signature makes it the site's word.
//
//	offset width field
//	     0    12 tag "hsi/hour/v1\0"
//	    12    16 site id
//	    28     4 hour since 1970 UTC
//	    32    16 spool id of the chain that the leaves are of; the batch itself may stand in a later chain of the same site
//	    48     8 first sequence number that counts towards a leaf
//	    56     8 last sequence number of the chain when the leaves were made
//	    64     4 number of leaves, at least 1
//	    68    32 root of their tree
type Hour struct {
	Site              ident.SiteID
	Hour              uint32
	Spool             ident.SpoolID
	FirstSeq, LastSeq uint64
	Leaves            uint32
	Root              Hash
}

// HourSize is the length of an encoded hour in bytes.
const HourSize = 100

// Bytes returns the fixed form.
func (h *Hour) Bytes() []byte { return nil }

// ParseHour reads the fixed form and accepts nothing else.
func ParseHour(b []byte) (Hour, error) { return Hour{}, errTODO }

// Tree is the tree over the leaves of one hour: RFC 6962 (SHA-256, 0x00 before entries, 0x01 before nodes) over the entries
// SHA-256(miner id) ‖ SHA-256(leaf), strictly ascending.
type Tree struct{}

// NewTree builds the tree. Leaves may come in any order; two of one miner are an error.
func NewTree(leaves []Leaf) (*Tree, error) { return nil, errTODO }

// Root returns the tree's root.
func (t *Tree) Root() Hash { return Hash{} }

// Len returns the number of leaves.
func (t *Tree) Len() int { return 0 }

// Inclusion proves that the miner's leaf is in the tree: its place among the entries, and the path of RFC 6962 section 2.1.1.
func (t *Tree) Inclusion(m ident.MinerID) (index int, path []Hash, err error) { return 0, nil, errTODO }

// VerifyInclusion checks that a leaf is one of size entries of the tree with this root.
func VerifyInclusion(l *Leaf, index, size int, path []Hash, root Hash) error { return errTODO }
