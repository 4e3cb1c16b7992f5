package localrun

import (
	"context"
	"encoding/hex"
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// anchorsVerdict compares what the hub has in its books of anchors, and in its log, with the events of the contract.
type anchorsVerdict struct {
	Anchors   int // events of the contract, each of which must be in the books as it is
	Duplicate int // events beyond the first with a number, a size or a root of the log
	Wrong     int // events that are not in the books, or are there otherwise, or not of this log; booked ones without an event; what the log has lost
	Lines     []string
}

// anchorRow is one anchor, on the chain or in the hub's database.
type anchorRow struct {
	Seq, Hour, Size uint64
	Root, Prev      string // hex
}

const (
	// In HeadAnchored(uint64 indexed seq, uint64 hour, bytes32 prevRoot, bytes32 root, uint64 size). The contract's other events have none.
	eventWords = 4
	qAnchors   = `SELECT seq, hour, size, encode(root, 'hex'), encode(prev_root, 'hex'), state IN (4, 5, 6) FROM anchor
		WHERE chain_id = $1 AND contract = $2 ORDER BY seq`
)

// compareAnchors is called while the hub and the chain still run. An anchor under way is in the books alone, or on the chain a moment before the books
// say so: that is no error, and there is one at a time.
func (s *stack) compareAnchors(ctx context.Context) (v anchorsVerdict, err error) {
	if s.chain == nil {
		return v, nil
	}
	booked, mined, err := s.bookedAnchors(ctx)
	if err != nil {
		return v, err
	}
	events, err := s.anchorEvents(ctx)
	if err != nil {
		return v, err
	}
	v.compare(events, booked, mined)
	log, err := s.readLog(ctx)
	if err != nil {
		return v, err
	}
	v.compareLog(events, log, s.announced)
	return v, nil
}

func (v *anchorsVerdict) wrong(format string, args ...any) {
	v.Wrong++
	v.Lines = append(v.Lines, fmt.Sprintf("wrong: "+format, args...))
}

// compare takes the events in the chain's order, the booked anchors by number, and which of them are on the chain by the books.
func (v *anchorsVerdict) compare(events []anchorRow, booked map[uint64]anchorRow, mined map[uint64]bool) {
	seen, sizes, roots := map[uint64]bool{}, map[uint64]bool{}, map[string]bool{}
	for _, e := range events {
		v.Anchors++
		switch b, known := booked[e.Seq]; {
		case seen[e.Seq] || sizes[e.Size] || roots[e.Root]:
			v.Duplicate++
			v.Lines = append(v.Lines, fmt.Sprintf("duplicate: anchor %d repeats a number, a size or a root of the log", e.Seq))
		case !known:
			v.wrong("anchor %d is on the chain and not in the books", e.Seq)
		case b != e:
			v.wrong("anchor %d is %+v on the chain and %+v in the books", e.Seq, e, b)
		}
		seen[e.Seq], sizes[e.Size], roots[e.Root] = true, true, true
	}
	for seq := range booked {
		if mined[seq] && !seen[seq] {
			v.wrong("anchor %d is in the books and not on the chain", seq)
		}
	}
}

func (s *stack) bookedAnchors(ctx context.Context) (booked map[uint64]anchorRow, mined map[uint64]bool, err error) {
	contract, err := hex.DecodeString(s.contractHex())
	if err != nil {
		return nil, nil, fmt.Errorf("the contract's address: %w", err)
	}
	conn, err := pgx.Connect(ctx, s.databaseURL())
	if err != nil {
		return nil, nil, fmt.Errorf("look into the hub's database: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }() // nothing is under way
	rows, err := conn.Query(ctx, qAnchors, chainID, contract)
	if err != nil {
		return nil, nil, fmt.Errorf("look into the hub's database: %w", err)
	}
	booked, mined = map[uint64]anchorRow{}, map[uint64]bool{}
	var r anchorRow
	var inBlock bool // mined, safe or final
	_, err = pgx.ForEachRow(rows, []any{&r.Seq, &r.Hour, &r.Size, &r.Root, &r.Prev, &inBlock}, func() error {
		booked[r.Seq], mined[r.Seq] = r, inBlock
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("look into the hub's database: %w", err)
	}
	return booked, mined, nil
}

// anchorEvents reads the contract's events from the chain itself.
func (s *stack) anchorEvents(ctx context.Context) (all []anchorRow, err error) {
	var logs []struct {
		Topics []string `json:"topics"`
		Data   string   `json:"data"`
	}
	err = s.rpc(ctx, &logs, "eth_getLogs", map[string]any{"fromBlock": "0x0", "toBlock": "latest", "address": s.contractOf.Contract})
	for _, l := range logs {
		data := strings.TrimPrefix(l.Data, "0x")
		if len(l.Topics) != 2 || len(data) != eventWords*64 {
			continue // who may do what, at the deployment
		}
		r := anchorRow{Prev: data[64:128], Root: data[128:192]}
		for _, n := range []struct {
			word string
			into *uint64
		}{{strings.TrimPrefix(l.Topics[1], "0x"), &r.Seq}, {data[:64], &r.Hour}, {data[192:], &r.Size}} {
			if *n.into, err = strconv.ParseUint(n.word, 16, 64); err != nil {
				return nil, fmt.Errorf("an event of the contract: %w", err)
			}
		}
		all = append(all, r)
	}
	return all, err
}

// fsck has the hub check its log from the first entry to the last checkpoint.
func (s *stack) fsck(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, s.program("hub"), "log", "fsck")
	cmd.Env = append(cmd.Environ(), s.hubEnv()...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("the log is not in order: %w: %.2000s", err, out)
	}
	return nil
}
