// Package export is the form of the directory that a statement leaves the hub in. It holds the form alone, so that whoever reads such a directory needs neither the
// statements nor their database: package statement writes it, package verify reads it.
package export

import "time"

// Files of the directory. Lists have a line of JSON for each of their items, in the order in which the statement names them.
const (
	Statement   = "statement.json" // exactly the signed bytes
	Signature   = "statement.sig"  // hexadecimal, and a newline
	HubKey      = "hub.key"        // likewise
	Terms       = "terms.jsonl"    // canonical documents
	Assignments = "assignments.jsonl"
	Excuses     = "excuses.jsonl"
	Hours       = "hours.jsonl"  // Hour
	Leaves      = "leaves.jsonl" // Leaf, those of an hour together
	Absent      = "absent.jsonl" // Absent, likewise; directories that were written before it was thought of do not have it
	Evidence    = "evidence"     // a directory, only where it was asked for: files of package archive/export
)

// Hour is a line of hours.jsonl: what a site signed.
type Hour struct {
	Site      string `json:"site"`
	Hour      string `json:"hour"`
	Chain     string `json:"chain"`
	Key       []byte `json:"key"` // the site's public key
	Header    []byte `json:"header"`
	Signature []byte `json:"signature"`
	Payload   []byte `json:"payload"`
}

// Leaf is a line of leaves.jsonl.
type Leaf struct {
	Site  string   `json:"site"`
	Hour  string   `json:"hour"`
	Chain string   `json:"chain"`
	Miner string   `json:"miner"`
	Leaf  []byte   `json:"leaf"`
	Index int      `json:"index"`
	Size  int      `json:"size"`
	Path  []string `json:"path"` // hexadecimal; none in a disputed hour
}

// Neighbours is a line of absent.jsonl: the entries of an agreed hour's tree between which a miner's would be that was assigned then, and has none.
type Neighbours struct {
	Site    string   `json:"site"`
	Hour    string   `json:"hour"`
	Chain   string   `json:"chain"`
	Miner   string   `json:"miner"`
	Size    int      `json:"size"`
	Entries []Entry  `json:"entries"` // the one before and the one after, as far as there are both
	Hashes  []string `json:"hashes"`  // hexadecimal: of evidence.Tree.Multiproof
}

// Entry is one of a tree, of which it shows hashes alone.
type Entry struct {
	Index int    `json:"index"`
	Miner string `json:"miner"` // SHA-256 of the miner's id, hexadecimal
	Leaf  string `json:"leaf"`  // SHA-256 of the leaf
}

// HourName names an hour since 1970 in lines.
func HourName(hour uint32) string {
	return time.Unix(int64(hour)*3600, 0).UTC().Format(time.RFC3339)
}
