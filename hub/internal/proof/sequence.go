package proof

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/client"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	format "github.com/hashinsight/hashinsight/pkg/proof"
)

const (
	// One hub at a time. The lock is a transaction's, because a session's would not pass a transaction pooler. The number is this package's alone.
	qTryLock = `SELECT pg_try_advisory_xact_lock(7391204448)`

	// Signed hours come last: an excuse behind the end of an hour is taken for one that was thought of later, and what is noted of old records together with hours as they
	// come (catchup.go) must not look so.
	qAssign = `
WITH p AS (SELECT id, kind = 1 AS hour FROM log_entry WHERE idx IS NULL ORDER BY kind = 1, id LIMIT $1),
	n AS (SELECT id, (SELECT coalesce(max(idx) + 1, 0) FROM log_entry) + row_number() OVER (ORDER BY hour, id) - 1 AS idx FROM p)
UPDATE log_entry e SET idx = n.idx FROM n WHERE e.id = n.id AND e.idx IS NULL`
	qRows = `SELECT idx, kind, noted_ms, body FROM log_entry WHERE idx >= $1 AND idx < $2 ORDER BY idx`
	// What the tiles have is what was published: a row that waits has been noted again since the database was restored, at another time.
	qReadBack = `
INSERT INTO log_entry AS e (kind, ref, noted_ms, body, idx) SELECT * FROM unnest($1::smallint[], $2::bytea[], $3::bigint[], $4::bytea[], $5::bigint[])
ON CONFLICT (kind, ref) DO UPDATE SET noted_ms = excluded.noted_ms, idx = excluded.idx WHERE e.idx IS NULL`
	qLastAuditHead = `SELECT noted_ms FROM log_entry WHERE kind = $1 ORDER BY id DESC LIMIT 1`
)

// maxRun bounds the rows that one Run gives places, so that a run ends; the next one goes on.
const maxRun = 100_000

// assignChunk is how many rows get their places in one transaction.
const assignChunk = 10_000

// auditEvery is how often the head of the audit log is noted.
const auditEvery = time.Hour

// Run does what is due: it announces the hub's keys, notes the audit log's head and what is older than the log, gives entries their places, writes tiles and signs a
// checkpoint. It is safe to call at any time by any number of hubs: one at a time does it, the others return at once.
func (s *Store) Run(ctx context.Context) error {
	key := s.c.Key()
	if s.c.Dir == "" || key == nil {
		return nil
	}
	begin := time.Now()
	err := pg.InTx(ctx, s.jobs, func(lock pgx.Tx) error {
		var first bool
		if err := lock.QueryRow(ctx, qTryLock).Scan(&first); err != nil || !first {
			return err
		}
		st, err := s.state(ctx, s.jobs)
		if err != nil {
			return err
		}
		err = s.unread(s.run(ctx, &st, &signer{st.origin, key}))
		if errors.Is(err, errLocked) { // whoever has it does what is due
			return nil
		}
		return s.looked(ctx, &st, err)
	})
	s.metrics.runs.Observe(time.Since(begin).Seconds())
	return err
}

// looked records what a run has found.
func (s *Store) looked(ctx context.Context, st *state, err error) error {
	var h *haltError
	var b *blockedError
	halted, blocked := "", ""
	if errors.As(err, &h) {
		halted = h.err.Error()
		s.c.Log.ErrorContext(ctx, "the transparency log is halted: nothing is added to it until a person has looked; hashinsight-hub log fsck tells where it does not fit", "why", halted)
	} else if errors.As(err, &b) { // which says nothing about what is in it
		halted, blocked = st.halted, b.text
	} else if err != nil {
		return err // a database that is away says nothing about the log
	}
	s.metrics.stands(halted != "", blocked != "")
	if st.halted == halted && st.blocked == blocked && st.behind == 0 {
		return err
	}
	behind := int64(0)
	if err != nil {
		behind = st.behind
	}
	_, uerr := s.jobs.Exec(ctx, qLooked, s.c.Now().UTC(), behind, halted, blocked)
	return errors.Join(err, uerr)
}

func (s *Store) run(ctx context.Context, st *state, sg *signer) error {
	if err := s.prepare(ctx, st); err != nil {
		return err
	}
	file, published, err := s.file(st.origin)
	if err != nil {
		return err
	}
	newest, recorded, err := s.newest(ctx, s.jobs, st.origin)
	if err != nil {
		return err
	}
	s.compared.found(newest.Size)
	var size, pending int64
	if err := errors.Join(s.jobs.QueryRow(ctx, qSize).Scan(&size), s.jobs.QueryRow(ctx, qPending).Scan(&pending)); err != nil {
		return fmt.Errorf("counting entries of the log: %w", err)
	}
	s.metrics.look(&newest, pending)
	same := published == recorded && file.Size == newest.Size && file.Root == newest.Root
	if same && pending == 0 && uint64(size) == newest.Size {
		return nil
	}
	if err := s.checkDir(published, file.Size, uint64(size)); err != nil {
		return err
	}
	t, err := openTiles(ctx, s.c.Dir)
	if err != nil {
		return err
	}
	defer t.close()
	from := t.size
	if t.size > uint64(size) {
		if err := s.catchBehind(ctx, st, t, uint64(size), &newest, &file); err != nil {
			return err
		}
		size = int64(t.size)
	}
	tree, err := s.verify(ctx, t, &newest, uint64(size))
	if err != nil {
		return err
	}
	if err := s.hasRoom(); err != nil {
		return err
	}
	if err := s.mayGrow(ctx, uint64(size), newest.Size); err != nil {
		return err
	}
	for done := 0; ; {
		if err := s.fill(ctx, t, tree, uint64(size)); err != nil {
			return err
		}
		if done >= maxRun {
			break
		}
		tag, err := s.jobs.Exec(ctx, qAssign, assignChunk)
		if err != nil {
			return fmt.Errorf("giving entries of the log their places: %w", err)
		}
		if tag.RowsAffected() == 0 {
			break
		}
		s.metrics.sequenced.Add(float64(tag.RowsAffected()))
		size, done = size+tag.RowsAffected(), done+int(tag.RowsAffected())
	}
	if err := s.sign(ctx, t, tree, sg, &newest); err != nil {
		return err
	}
	return t.sweep(min(from, file.Size), t.size)
}

// prepare notes what the log itself has to say: the hub's keys, the audit log's head, what is older than the log.
func (s *Store) prepare(ctx context.Context, st *state) error {
	if err := s.noteHubKeys(ctx); err != nil {
		return err
	}
	if err := s.noteAuditHead(ctx); err != nil {
		return err
	}
	return s.catchUp(ctx, st)
}

func (s *Store) noteAuditHead(ctx context.Context) error {
	if s.c.AuditHead == nil {
		return nil
	}
	now := s.c.Now().UnixMilli()
	var last int64
	err := s.jobs.QueryRow(ctx, qLastAuditHead, int16(format.EntryAuditHead)).Scan(&last)
	switch {
	case err == nil && max(now-last, last-now) < auditEvery.Milliseconds(): // either way: clocks are set
		return nil
	case err != nil && !errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("looking for the audit log's head in the log: %w", err)
	}
	seq, hash, err := s.c.AuditHead(ctx)
	if err != nil || seq == 0 {
		return err
	}
	b := format.AuditHeadBody{Seq: uint64(seq), Hash: hash}
	return s.inTx(ctx, func(tx pgx.Tx) error { return Note(ctx, tx, b.Entry(now)) })
}

// checkDir refuses a directory that has lost tessera's state while it has a checkpoint that the rows do not reach: opened, it would look like an empty one, and
// what was published would be written over.
func (s *Store) checkDir(published bool, file, rows uint64) error {
	if !published || file <= rows {
		return nil
	}
	if _, err := os.Stat(filepath.Join(s.c.Dir, stateName)); errors.Is(err, os.ErrNotExist) {
		return halt("%s has a checkpoint of %d entries, the database has %d, and the file %s is gone: restore the directory, or a newer backup of the database", s.c.Dir, file, rows, stateName)
	}
	return nil
}

// catchBehind reads entries that an older database lacks back from the tiles.
func (s *Store) catchBehind(ctx context.Context, st *state, t *tiles, size uint64, newest, file *Checkpoint) error {
	missing := int64(t.size - size)
	s.metrics.behind.Set(float64(missing))
	s.c.Log.ErrorContext(ctx, "the database is older than its own transparency log: it was restored to an earlier moment, or lost its last transactions; "+
		"the missing entries are read back from the tiles, and until then nothing is added or anchored", "entries", size, "tiles", t.size, "missing", missing)
	st.behind = missing
	if _, err := s.jobs.Exec(ctx, qLooked, s.c.Now().UTC(), missing, st.halted, ""); err != nil {
		return fmt.Errorf("recording that the database is older than the log: %w", err)
	}
	// What both have must be the same, before anything is taken over; and what was published must be what is taken.
	if _, err := s.verify(ctx, t, newest, size); err != nil {
		return err
	}
	if file.Size > 0 && file.Size <= t.size {
		r, err := t.rangeAt(ctx, file.Size)
		if err != nil {
			return err
		}
		if root, err := rootOf(r); err != nil || root != file.Root {
			return errors.Join(err, halt("the tiles do not have the root of the checkpoint of %d entries that lies beside them", file.Size))
		}
	}
	for at := size; at < t.size; {
		entries, err := t.bundle(ctx, at/layout.EntryBundleWidth, t.size)
		if err != nil {
			return err
		}
		entries = entries[at%layout.EntryBundleWidth:]
		if err := s.readBack(ctx, t, at, entries); err != nil {
			return err
		}
		at += uint64(len(entries))
		s.metrics.readBack.Add(float64(len(entries)))
		s.metrics.behind.Set(float64(t.size - at))
	}
	s.c.Log.WarnContext(ctx, "the database has the entries of the log again that it lacked", "entries", t.size, "read_back", missing)
	return nil
}

func (s *Store) readBack(ctx context.Context, t *tiles, at uint64, entries [][]byte) error {
	leaves, err := client.FetchLeafHashes(ctx, t.ReadTile, at, uint64(len(entries)), t.size)
	if err != nil {
		return fmt.Errorf("reading the log's tiles: %w", err)
	}
	n := len(entries)
	kinds, refs, ms, bodies, places := make([]int16, n), make([][]byte, n), make([]int64, n), make([][]byte, n), make([]int64, n)
	for i, b := range entries {
		e, err := format.ParseEntry(b)
		if err != nil {
			return halt("entry %d of the tiles: %w", at+uint64(i), err)
		}
		if e.LeafHash() != evidence.Hash(leaves[i]) {
			return halt("entry %d of the tiles is not the one that their tree has", at+uint64(i))
		}
		ref := e.Ref()
		kinds[i], refs[i], ms[i], bodies[i], places[i] = int16(e.Kind), ref[:], e.AtMS, e.Body, int64(at)+int64(i)
	}
	return s.inTx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, qReadBack, kinds, refs, ms, bodies, places)
		if err != nil {
			return fmt.Errorf("reading entries back from the log's tiles: %w", err)
		}
		if tag.RowsAffected() != int64(n) {
			return halt("of entries %d to %d of the tiles %d have another place in the database", at, at+uint64(n)-1, int64(n)-tag.RowsAffected())
		}
		return nil
	})
}

// each calls f with the rows from one place to another, in order, and fails when one is missing.
func (s *Store) each(ctx context.Context, from, to uint64, f func(index uint64, e *format.Entry) error) error {
	for from < to {
		end := min(to, from+assignChunk)
		rows, err := s.jobs.Query(ctx, qRows, clamp(from), clamp(end))
		if err != nil {
			return fmt.Errorf("reading entries of the log: %w", err)
		}
		var idx int64
		var kind int16
		var e format.Entry
		if _, err := pgx.ForEachRow(rows, []any{&idx, &kind, &e.AtMS, &e.Body}, func() error {
			if uint64(idx) != from {
				return halt("entry %d is missing in the database", from)
			}
			from++
			e.Kind = format.EntryKind(kind)
			return f(uint64(idx), &e)
		}); err != nil {
			return err
		}
		if from < end {
			return halt("entry %d is missing in the database", from)
		}
	}
	return nil
}

// verify compares rows, tiles and the newest checkpoint, as far as both reach, and returns the tree of the tiles. Rows under the checkpoint that the tiles have are
// not read again: that is Fsck's work.
func (s *Store) verify(ctx context.Context, t *tiles, newest *Checkpoint, size uint64) (*compact.Range, error) {
	common := min(t.size, size)
	if newest.Size > size {
		return nil, halt("the newest checkpoint in the database has %d entries, and the database %d", newest.Size, size)
	}
	if newest.Size <= common { // and what follows it is compared entry by entry
		r, err := t.rangeAt(ctx, newest.Size)
		if err != nil {
			return nil, err
		}
		root, err := rootOf(r)
		if err != nil {
			return nil, err
		}
		if newest.Size > 0 && root != newest.Root {
			return nil, halt("the tiles of %d entries have the root %x, the checkpoint that was signed of them has %x", newest.Size, root, newest.Root)
		}
		if err := s.each(ctx, newest.Size, common, func(_ uint64, e *format.Entry) error {
			h := e.LeafHash()
			return r.Append(h[:], nil)
		}); err != nil {
			return nil, err
		}
		if err := s.sameRoot(ctx, t, r); err != nil {
			return nil, err
		}
		if r.End() == t.size {
			return r, nil
		}
		return t.rangeAt(ctx, t.size)
	}
	// The tiles are behind a checkpoint that was signed: what they lack must lead to it, before anything is written.
	tree, err := t.rangeAt(ctx, t.size)
	if err != nil {
		return nil, err
	}
	r, err := ranges.NewRange(0, t.size, tree.Hashes())
	if err != nil {
		return nil, err
	}
	if err := s.each(ctx, t.size, newest.Size, func(_ uint64, e *format.Entry) error {
		h := e.LeafHash()
		return r.Append(h[:], nil)
	}); err != nil {
		return nil, err
	}
	root, err := rootOf(r)
	if err != nil {
		return nil, err
	}
	if root != newest.Root {
		return nil, halt("the tiles of %d entries, with the rows after them, have the root %x at entry %d, the checkpoint that was signed has %x", t.size, root, newest.Size, newest.Root)
	}
	return tree, nil
}

// sameRoot compares a tree of rows with the tiles.
func (s *Store) sameRoot(ctx context.Context, t *tiles, r *compact.Range) error {
	theirs, err := t.rangeAt(ctx, r.End())
	if err != nil {
		return err
	}
	mine, err := rootOf(r)
	if err != nil {
		return err
	}
	other, err := rootOf(theirs)
	if err != nil {
		return err
	}
	if mine != other {
		return halt("of %d entries the rows give the root %x, and the tiles %x", r.End(), mine, other)
	}
	return nil
}

// fill writes entries that have a place and no tile, and adds them to the tree.
func (s *Store) fill(ctx context.Context, t *tiles, tree *compact.Range, size uint64) error {
	entries := make([][]byte, 0, chunk)
	write := func() error {
		err := t.add(entries)
		entries = entries[:0]
		return err
	}
	if err := s.each(ctx, t.size, size, func(_ uint64, e *format.Entry) error {
		h := e.LeafHash()
		if err := tree.Append(h[:], nil); err != nil {
			return err
		}
		if entries = append(entries, e.Bytes()); len(entries) == chunk {
			return write()
		}
		return nil
	}); err != nil || len(entries) == 0 {
		return err
	}
	return write()
}

// sign compares the tree of the rows with the tiles and signs it, unless that was done.
func (s *Store) sign(ctx context.Context, t *tiles, tree *compact.Range, sg *signer, newest *Checkpoint) error {
	if tree.End() == 0 {
		return nil
	}
	if tree.End() != t.size {
		return halt("the tree has %d entries and the tiles have %d", tree.End(), t.size)
	}
	if err := s.sameRoot(ctx, t, tree); err != nil {
		return err
	}
	root, err := rootOf(tree)
	if err != nil {
		return err
	}
	c := *newest
	if newest.Size < t.size {
		if c, err = signCheckpoint(sg, t.size, root); err != nil {
			return err
		}
		c.PublishedAt = s.c.Now().UTC()
		if _, err := s.jobs.Exec(ctx, qPutCheckpoint, clamp(c.Size), c.Root[:], string(c.Note), c.PublishedAt); err != nil {
			return fmt.Errorf("recording a checkpoint: %w", err)
		}
		s.metrics.checkpoints.Inc()
	}
	if err := s.publish(&c); err != nil {
		return err
	}
	s.compared.saw(c.Size)
	s.metrics.look(&c, 0)
	s.metrics.behind.Set(0)
	return nil
}
