package proof

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/jackc/pgx/v5"
	"github.com/transparency-dev/tessera/api/layout"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	format "github.com/hashinsight/hashinsight/pkg/proof"
)

// Verdict is what Fsck found.
type Verdict struct {
	Entries     uint64   // compared with their tiles
	Tiles       int      // of hashes and of entries, compared byte for byte
	Checkpoints int      // whose roots and signatures are right
	Records     int      // of subjects, that have their entries
	Pending     int64    // entries that have no place yet
	Problems    []string // at most maxProblems
	More        int      // further problems
}

// OK reports whether everything fits.
func (v *Verdict) OK() bool { return len(v.Problems) == 0 }

// maxProblems bounds the list: one fault at the beginning of a log makes all that follows wrong.
const maxProblems = 100

func (v *Verdict) bad(format string, args ...any) {
	if len(v.Problems) == maxProblems {
		v.More++
		return
	}
	v.Problems = append(v.Problems, fmt.Sprintf(format, args...))
}

// levels builds all tiles of a tree from its leaves and compares them with files.
type levels struct {
	dir  tileDir
	v    *Verdict
	rows [][]evidence.Hash // the last, unfinished tile of each level
	at   []uint64          // its index
}

func (l *levels) add(ctx context.Context, level int, h evidence.Hash) error {
	if level == len(l.rows) {
		l.rows, l.at = append(l.rows, nil), append(l.at, 0)
	}
	l.rows[level] = append(l.rows[level], h)
	if len(l.rows[level]) < layout.TileWidth {
		return nil
	}
	root, err := l.compare(ctx, level, 0)
	if err != nil {
		return err
	}
	l.rows[level] = l.rows[level][:0]
	l.at[level]++
	return l.add(ctx, level+1, root)
}

// compare compares the tile of a level with its file and returns its root.
func (l *levels) compare(ctx context.Context, level int, p uint8) (root evidence.Hash, err error) {
	b, err := l.dir.ReadTile(ctx, uint64(level), l.at[level], p)
	name := layout.TilePath(uint64(level), l.at[level], p)
	switch {
	case err != nil:
		l.v.bad("tile %s cannot be read: %v", name, err)
	case !equalHashes(b, l.rows[level]):
		l.v.bad("tile %s does not have the hashes of the rows", name)
	default:
		l.v.Tiles++
	}
	return rowRoot(l.rows[level])
}

// Fsck reads the whole log: every row, every tile that the newest checkpoint rests on, every checkpoint with its signature, and every record of a subject that must have
// an entry. public is the log's key; nil: signatures are not checked. w is told each step.
func (s *Store) Fsck(ctx context.Context, public ed25519.PublicKey, w io.Writer) (v Verdict, err error) {
	say := func(text string, args ...any) { _, _ = fmt.Fprintf(w, text+"\n", args...) }
	st, err := s.state(ctx, s.jobs)
	if err != nil {
		return v, err
	}
	say("log %s", st.origin)
	if st.halted != "" {
		v.bad("the log is halted: %s", st.halted)
	}
	if err := s.fsckTree(ctx, &st, public, &v); err != nil {
		return v, err
	}
	say("%d entries, %d tiles and %d checkpoints compared", v.Entries, v.Tiles, v.Checkpoints)
	if err := s.jobs.QueryRow(ctx, qPending).Scan(&v.Pending); err != nil {
		return v, fmt.Errorf("counting entries of the log: %w", err)
	}
	if st.caughtUp.IsZero() {
		say("what is older than the log is still being noted: its records are not compared")
		return v, nil
	}
	if err := s.fsckRecords(ctx, &v); err != nil {
		return v, err
	}
	say("%d records of keys, terms, excuses, statements and hours have their entries", v.Records)
	return v, s.fsckEntries(ctx, &v)
}

// fsckTree compares rows, tiles and checkpoints.
func (s *Store) fsckTree(ctx context.Context, st *state, public ed25519.PublicKey, v *Verdict) error {
	newest, ok, err := s.newest(ctx, s.jobs, st.origin)
	if err != nil {
		return err
	}
	if !ok {
		return nil
	}
	file, published, err := s.file(st.origin)
	var h *haltError
	switch {
	case errors.As(err, &h):
		v.bad("%v", h.err)
	case err != nil:
		return err
	case published && file.Size > newest.Size:
		v.bad("the checkpoint beside the tiles has %d entries, the newest in the database %d: the database is older than the log", file.Size, newest.Size)
	case s.c.Dir != "" && !published:
		v.bad("there is no checkpoint beside the tiles in %s", s.c.Dir)
	}
	dir := tileDir(s.c.Dir)
	l := &levels{dir: dir, v: v}
	tree := ranges.NewEmptyRange(0)
	var next []Checkpoint
	var bundle [][]byte
	err = s.each(ctx, 0, newest.Size, func(index uint64, e *format.Entry) error {
		b := e.Bytes()
		if _, err := format.ParseEntry(b); err != nil {
			v.bad("entry %d: %v", index, err)
		}
		if index%layout.EntryBundleWidth == 0 {
			if bundle, err = dir.bundle(ctx, index/layout.EntryBundleWidth, newest.Size); err != nil {
				v.bad("%v", err)
				bundle = nil
			} else {
				v.Tiles++
			}
		}
		if i := int(index % layout.EntryBundleWidth); bundle != nil && string(bundle[i]) != string(b) {
			v.bad("entry %d in the database is not the one in the tiles", index)
		}
		leaf := e.LeafHash()
		if err := l.add(ctx, 0, leaf); err != nil {
			return err
		}
		if err := tree.Append(leaf[:], nil); err != nil {
			return err
		}
		v.Entries++
		if len(next) == 0 {
			if next, err = s.checkpoints(ctx, index, MaxPage); err != nil {
				return err
			}
		}
		if len(next) > 0 && next[0].Size == tree.End() {
			root, err := rootOf(tree)
			if err != nil {
				return err
			}
			s.fsckCheckpoint(&next[0], st.origin, root, public, v)
			next = next[1:]
		}
		return nil
	})
	if errors.As(err, &h) {
		v.bad("%v", h.err)
		return nil
	}
	if err != nil {
		return err
	}
	for level := range l.rows {
		if n := len(l.rows[level]); n > 0 {
			if _, err := l.compare(ctx, level, uint8(n)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Store) fsckCheckpoint(c *Checkpoint, origin string, root evidence.Hash, public ed25519.PublicKey, v *Verdict) {
	said, err := parseCheckpoint(c.Note)
	switch {
	case err != nil:
		v.bad("the checkpoint of %d entries: %v", c.Size, err)
	case said.Size != c.Size || said.Root != c.Root || said.Origin != origin:
		v.bad("the checkpoint of %d entries does not say what its row says", c.Size)
	case c.Root != root:
		v.bad("the checkpoint of %d entries has the root %x, the rows give %x: something up to there was changed", c.Size, c.Root, root)
	default:
		if public != nil {
			if err := said.verify(public); err != nil {
				v.bad("%v", err)
				return
			}
		}
		v.Checkpoints++
	}
}

// checkpoints returns those above a size, the smallest first.
func (s *Store) checkpoints(ctx context.Context, above uint64, limit int) ([]Checkpoint, error) {
	rows, err := s.c.Pool.Query(ctx, qCheckpoints, clamp(above), limit)
	if err != nil {
		return nil, fmt.Errorf("reading checkpoints of the log: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanCheckpoint)
	if err != nil {
		return nil, fmt.Errorf("reading checkpoints of the log: %w", err)
	}
	return list, nil
}

// fsckRecords looks for the entries of subjects' rows.
func (s *Store) fsckRecords(ctx context.Context, v *Verdict) error {
	for _, src := range sources() {
		for at := first(); ; {
			list, err := src.page(ctx, s.jobs, at, catchPage)
			if err != nil {
				return err
			}
			if len(list) == 0 {
				break
			}
			at = list[len(list)-1].at
			if err := s.fsckPage(ctx, list, v); err != nil {
				return err
			}
		}
	}
	return nil
}

const qNoted = `SELECT kind, ref FROM log_entry WHERE (kind, ref) IN (SELECT * FROM unnest($1::smallint[], $2::bytea[]))`

func (s *Store) fsckPage(ctx context.Context, list []record, v *Verdict) error {
	type name struct {
		kind int16
		ref  evidence.Hash
	}
	var kinds []int16
	var refs [][]byte
	var keys []format.Entry
	for i := range list {
		for j := range list[i].entries {
			e := &list[i].entries[j]
			if list[i].key {
				keys = append(keys, *e)
				continue
			}
			ref := e.Ref()
			kinds, refs = append(kinds, int16(e.Kind)), append(refs, ref[:])
		}
	}
	noted, err := keysNoted(ctx, s.jobs, keys)
	if err != nil {
		return err
	}
	rows, err := s.jobs.Query(ctx, qNoted, kinds, refs)
	if err != nil {
		return fmt.Errorf("looking for entries of the log: %w", err)
	}
	found := map[name]bool{}
	var kind int16
	var ref []byte
	if _, err := pgx.ForEachRow(rows, []any{&kind, &ref}, func() error {
		found[name{kind, evidence.Hash(ref)}] = true
		return nil
	}); err != nil {
		return fmt.Errorf("looking for entries of the log: %w", err)
	}
	for i := range list {
		r := &list[i]
		there := r.bad == ""
		if r.bad != "" {
			v.bad("%s: %s", r.name, r.bad)
		}
		for j := range r.entries {
			e := &r.entries[j]
			if r.key && !noted[string(e.Body[:49])] || !r.key && !found[name{int16(e.Kind), e.Ref()}] {
				v.bad("%s is not in the log as it is: it was changed, or put in without the log", r.name)
				there = false
			}
		}
		if there {
			v.Records++
		}
	}
	return nil
}

const (
	qLostTerms = `SELECT idx FROM log_entry e WHERE kind = 4 AND idx IS NOT NULL AND NOT EXISTS (SELECT FROM contract_version v
		WHERE uuid_send(v.contract_id) = substring(e.body FROM 1 FOR 16) AND v.hash = substring(e.body FROM 21 FOR 32)) ORDER BY idx LIMIT $1`
	qLostExcuses    = `SELECT idx FROM log_entry e WHERE kind = 5 AND idx IS NOT NULL AND NOT EXISTS (SELECT FROM excuse x WHERE uuid_send(x.id) = substring(e.body FROM 1 FOR 16)) ORDER BY idx LIMIT $1`
	qLostStatements = `SELECT idx FROM log_entry e WHERE kind IN (6, 7) AND idx IS NOT NULL AND NOT EXISTS (SELECT FROM statement s WHERE s.hash = substring(e.body FROM 25 FOR 32)) ORDER BY idx LIMIT $1`
)

// fsckEntries looks for the rows of entries that are never deleted: hours are, when they are old enough.
func (s *Store) fsckEntries(ctx context.Context, v *Verdict) error {
	for _, q := range []struct{ what, sql string }{{"terms", qLostTerms}, {"an excuse", qLostExcuses}, {"a statement", qLostStatements}} {
		rows, err := s.jobs.Query(ctx, q.sql, math.MaxInt16)
		if err != nil {
			return fmt.Errorf("looking for what entries of the log record: %w", err)
		}
		var idx int64
		if _, err := pgx.ForEachRow(rows, []any{&idx}, func() error {
			v.bad("entry %d records %s that is not in the database any more", idx, q.what)
			return nil
		}); err != nil {
			return fmt.Errorf("looking for what entries of the log record: %w", err)
		}
	}
	return nil
}
