// Package export is the form of a file of signed batches that leaves the hub. It holds the form alone, so that whoever reads such files needs neither the archive nor its
// database: package archive writes them, hashinsight-verify reads them.
package export

import "time"

// Format names the form: lines of JSON, the first a Head, then an Entry for each batch by the time of its first sample, then a Tail, without which the file is not whole.
const Format = "hashinsight-evidence-1"

// Head is the first line.
type Head struct {
	Format string    `json:"format"`
	Site   string    `json:"site"`
	Hour   time.Time `json:"hour"`
}

// Entry is one batch: what the site signed, and nothing that the hub made of it. Signature is the key's over the tagged header, which holds the payload's
// SHA-256: whoever trusts the key needs nothing else.
type Entry struct {
	Spool      string    `json:"spool"`
	Seq        uint64    `json:"seq"`
	Kind       string    `json:"kind"`
	ReceivedAt time.Time `json:"received_at"`
	Where      string    `json:"where"`             // it came from
	Missing    string    `json:"missing,omitempty"` // why there is no payload
	Key        string    `json:"key"`
	PublicKey  []byte    `json:"public_key"`
	Header     []byte    `json:"header"`
	Signature  []byte    `json:"signature"`
	Payload    []byte    `json:"payload,omitempty"`
}

// Tail is the last line.
type Tail struct {
	End     bool  `json:"end"`
	Batches int   `json:"batches"`
	Bytes   int64 `json:"bytes"`   // of payloads
	Missing int   `json:"missing"` // batches without their payload
}
