package proof

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/client"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	format "github.com/hashinsight/hashinsight/pkg/proof"
)

// MaxPage is the most entries that one query returns.
const MaxPage = 1000

// Placed is an entry with its place in the log.
type Placed struct {
	Index uint64
	Entry format.Entry
}

const (
	entryColumns = `idx, kind, noted_ms, body`
	qEntry       = `SELECT ` + entryColumns + ` FROM log_entry WHERE idx = $1`
	qFind        = `SELECT ` + entryColumns + ` FROM log_entry WHERE kind = $1 AND ref = $2 AND idx IS NOT NULL`
	qFindAll     = `SELECT ` + entryColumns + ` FROM log_entry WHERE kind = $1 AND ref = ANY($2) AND idx IS NOT NULL`
	qSiteKey     = `SELECT ` + entryColumns + ` FROM log_entry WHERE kind = 2 AND substring(body FROM 1 FOR 49) = $1 AND idx IS NOT NULL ORDER BY idx LIMIT 1`
	qEntries     = `SELECT ` + entryColumns + ` FROM log_entry WHERE idx < $1 ORDER BY idx DESC LIMIT $2`
	qOfKind      = `SELECT ` + entryColumns + ` FROM log_entry WHERE kind = $3 AND idx < $1 ORDER BY idx DESC LIMIT $2`
)

func scanEntry(row pgx.CollectableRow) (p Placed, err error) {
	var idx int64
	var kind int16
	err = row.Scan(&idx, &kind, &p.Entry.AtMS, &p.Entry.Body)
	p.Index, p.Entry.Kind = uint64(idx), format.EntryKind(kind)
	return p, err
}

func (s *Store) entries(ctx context.Context, sql string, args ...any) ([]Placed, error) {
	rows, err := s.c.Pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("reading entries of the log: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanEntry)
	if err != nil {
		return nil, fmt.Errorf("reading entries of the log: %w", err)
	}
	return list, nil
}

// Entry returns the entry at a place.
func (s *Store) Entry(ctx context.Context, index uint64) (Placed, error) {
	list, err := s.entries(ctx, qEntry, clamp(index))
	if err == nil && len(list) == 0 {
		err = apperr.E(apperr.NotFound, "NOTFOUND_001", "the log has no entry %d", index)
	}
	if err != nil {
		return Placed{}, err
	}
	return list[0], nil
}

// Find returns the entry of a kind with a body, by the body's SHA-256; ok is false while it has no place, or when there is none.
func (s *Store) Find(ctx context.Context, kind format.EntryKind, ref evidence.Hash) (p Placed, ok bool, err error) {
	list, err := s.entries(ctx, qFind, int16(kind), ref[:])
	if err != nil || len(list) == 0 {
		return p, false, err
	}
	return list[0], true, nil
}

// FindAll is Find for many of one kind, at most 10,000; those that have no place are not in the answer.
func (s *Store) FindAll(ctx context.Context, kind format.EntryKind, refs []evidence.Hash) (map[evidence.Hash]Placed, error) {
	if len(refs) > 10_000 {
		return nil, fmt.Errorf("looking for %d entries of the log at once, want at most 10,000", len(refs))
	}
	raw := make([][]byte, len(refs))
	for i := range refs {
		raw[i] = refs[i][:]
	}
	list, err := s.entries(ctx, qFindAll, int16(kind), raw)
	if err != nil {
		return nil, err
	}
	found := make(map[evidence.Hash]Placed, len(list))
	for i := range list {
		found[list[i].Entry.Ref()] = list[i]
	}
	return found, nil
}

// FindSiteKey returns the first entry that says what happened to a site's key. What it replaced need not be known.
func (s *Store) FindSiteKey(ctx context.Context, b format.SiteKeyBody) (p Placed, ok bool, err error) {
	list, err := s.entries(ctx, qSiteKey, b.Entry(0).Body[:49])
	if err != nil || len(list) == 0 {
		return p, false, err
	}
	return list[0], true, nil
}

// Entries lists entries with places before one (0: the newest), the newest first, of a kind or, with 0, of all.
func (s *Store) Entries(ctx context.Context, kind format.EntryKind, before uint64, limit int) ([]Placed, error) {
	if before == 0 {
		before = math.MaxInt64
	}
	limit = min(max(limit, 1), MaxPage)
	if kind == 0 {
		return s.entries(ctx, qEntries, clamp(before), limit)
	}
	return s.entries(ctx, qOfKind, clamp(before), limit, int16(kind))
}

// Prover makes proofs for the tree of one size. It remembers tiles, and serves one goroutine.
type Prover struct {
	Size uint64
	Root evidence.Hash
	dir  tileDir
	b    *client.ProofBuilder
}

// Prover opens the tree of a size. Where a checkpoint of it was signed, the tiles must have its root.
func (s *Store) Prover(ctx context.Context, size uint64) (*Prover, error) {
	if s.c.Dir == "" {
		return nil, s.unavailable("it is not set")
	}
	newest, err := s.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	if size == 0 || size > newest.Size {
		return nil, apperr.E(apperr.NotFound, "NOTFOUND_001", "the log has no checkpoint of %d entries: the newest has %d", size, newest.Size)
	}
	p := &Prover{Size: size, dir: tileDir(s.c.Dir)}
	r, err := p.dir.rangeAt(ctx, size)
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", s.unavailable("those of "+s.c.Dir+" do not reach so far"), err)
	}
	if p.Root, err = rootOf(r); err != nil {
		return nil, err
	}
	signed, ok, err := checkpoint(ctx, s.c.Pool, qCheckpointAt, clamp(size))
	if err != nil {
		return nil, err
	}
	if ok && signed.Root != p.Root {
		return nil, fmt.Errorf("the log's tiles of %d entries have the root %x, the checkpoint that was signed has %x: hashinsight-hub log fsck", size, p.Root, signed.Root)
	}
	p.b, err = client.NewProofBuilder(ctx, size, p.dir.ReadTile)
	return p, err
}

func hashes(raw [][]byte) []evidence.Hash {
	out := make([]evidence.Hash, len(raw))
	for i := range raw {
		out[i] = evidence.Hash(raw[i])
	}
	return out
}

// Inclusion proves that an entry is in the tree. A row that is not what was written is refused.
func (p *Prover) Inclusion(ctx context.Context, e *Placed) ([]evidence.Hash, error) {
	if e.Index >= p.Size {
		return nil, apperr.E(apperr.NotFound, "NOTFOUND_001", "entry %d is not in the log of %d entries", e.Index, p.Size)
	}
	raw, err := p.b.InclusionProof(ctx, e.Index)
	if err != nil {
		return nil, fmt.Errorf("proving entry %d of the log: %w", e.Index, err)
	}
	leaf := e.Entry.LeafHash()
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, e.Index, p.Size, leaf[:], raw, p.Root[:]); err != nil {
		return nil, fmt.Errorf("entry %d in the database is not the one in the log: it was changed, or the tiles were: hashinsight-hub log fsck: %w", e.Index, err)
	}
	return hashes(raw), nil
}

// Inclusion proves that the entry at a place is in the tree of a size.
func (s *Store) Inclusion(ctx context.Context, index, size uint64) ([]evidence.Hash, error) {
	p, err := s.Prover(ctx, size)
	if err != nil {
		return nil, err
	}
	if index >= size {
		return nil, apperr.E(apperr.NotFound, "NOTFOUND_001", "entry %d is not in the log of %d entries", index, size)
	}
	e, err := s.Entry(ctx, index)
	if err != nil {
		return nil, err
	}
	return p.Inclusion(ctx, &e)
}

// Consistency proves that the tree of one size begins with the tree of another.
func (s *Store) Consistency(ctx context.Context, from, to uint64) ([]evidence.Hash, error) {
	if from == 0 || from > to {
		return nil, apperr.E(apperr.Invalid, "VALID_001", "from %d to %d entries: want 1 or more, and no more than to", from, to)
	}
	p, err := s.Prover(ctx, to)
	if err != nil {
		return nil, err
	}
	if from == to {
		return nil, nil
	}
	raw, err := p.b.ConsistencyProof(ctx, from, to)
	if err != nil {
		return nil, fmt.Errorf("proving that the log only grew: %w", err)
	}
	smaller, err := p.dir.rangeAt(ctx, from)
	if err != nil {
		return nil, err
	}
	root, err := rootOf(smaller)
	if err != nil {
		return nil, err
	}
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, from, to, raw, root[:], p.Root[:]); err != nil {
		return nil, errors.Join(errors.New("the log's tiles do not fit each other: hashinsight-hub log fsck"), err)
	}
	return hashes(raw), nil
}

// Kinds lists the documented names of kinds of entries.
func Kinds() []string {
	var names []string
	for k := format.EntryHour; format.EntrySize(k) > 0; k++ {
		names = append(names, k.String())
	}
	return names
}

// ParseKind reads the documented name of a kind; "" is all kinds, which is 0.
func ParseKind(name string) (format.EntryKind, error) {
	if name == "" {
		return 0, nil
	}
	if i := slices.Index(Kinds(), name); i >= 0 {
		return format.EntryHour + format.EntryKind(i), nil
	}
	return 0, fmt.Errorf("%.40q is no kind of entry: there are %s", name, strings.Join(Kinds(), ", "))
}
