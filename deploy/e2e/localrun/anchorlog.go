package localrun

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/proof"
)

const qLog = `SELECT kind, noted_ms, body FROM log_entry WHERE idx IS NOT NULL ORDER BY idx`

// readLog reads the entries that have a place in the hub's log, in order.
func (s *stack) readLog(ctx context.Context) (all []proof.Entry, err error) {
	conn, err := pgx.Connect(ctx, s.databaseURL())
	if err != nil {
		return nil, fmt.Errorf("look into the hub's database: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }() // nothing is under way
	rows, err := conn.Query(ctx, qLog)
	if err == nil {
		var kind int16
		var e proof.Entry
		_, err = pgx.ForEachRow(rows, []any{&kind, &e.AtMS, &e.Body}, func() error {
			e.Kind = proof.EntryKind(kind)
			all = append(all, e)
			e.Body = nil
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("look into the hub's database: %w", err)
	}
	return all, nil
}

// compareLog computes the log's root at the size of each event from the entries alone, and looks for what the hub has confirmed among them.
func (v *anchorsVerdict) compareLog(events []anchorRow, log []proof.Entry, announced [][16]byte) {
	at := map[uint64]string{}
	for _, e := range events {
		at[e.Size] = ""
	}
	var tree logTree
	excuses := map[[16]byte]bool{}
	for i := range log {
		tree.add(log[i].LeafHash())
		if _, asked := at[tree.size]; asked {
			root := tree.root()
			at[tree.size] = hex.EncodeToString(root[:])
		}
		if log[i].Kind == proof.EntryExcuse {
			if x, err := proof.ParseExcuseBody(log[i].Body); err == nil { // one that is none is missed below
				excuses[x.ID] = true
			}
		}
	}
	for _, e := range events {
		switch root := at[e.Size]; root {
		case e.Root:
		case "":
			v.wrong("anchor %d is of %d entries, the log has %d", e.Seq, e.Size, len(log))
		default:
			v.wrong("anchor %d says that the log's first %d entries have the root %s, they have %s", e.Seq, e.Size, e.Root, root)
		}
	}
	for _, id := range announced {
		if !excuses[id] {
			v.wrong("the hub has confirmed the excuse %x, and its log does not have it", id)
		}
	}
}

// logTree is the log's tree of RFC 6962 as it grows: the roots of its perfect subtrees, the largest first. It is written apart from the hub's.
type logTree struct {
	subtrees []evidence.Hash
	size     uint64
}

func (t *logTree) add(leaf evidence.Hash) {
	t.subtrees = append(t.subtrees, leaf)
	for n := t.size; n&1 == 1; n >>= 1 { // as a carry: two of one height are one of the next
		last := len(t.subtrees) - 1
		t.subtrees[last-1] = inner(t.subtrees[last-1], t.subtrees[last])
		t.subtrees = t.subtrees[:last]
	}
	t.size++
}

// root returns the root of a tree that is not empty.
func (t *logTree) root() evidence.Hash {
	last := len(t.subtrees) - 1
	root := t.subtrees[last]
	for i := last - 1; i >= 0; i-- {
		root = inner(t.subtrees[i], root)
	}
	return root
}

func inner(left, right evidence.Hash) evidence.Hash {
	b := append(append([]byte{1}, left[:]...), right[:]...)
	return sha256.Sum256(b)
}
