package proof

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/note"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/pkg/evidence"
)

// Checkpoint is a signed statement of the log's size and root.
type Checkpoint struct {
	Origin      string
	Size        uint64
	Root        evidence.Hash
	Note        []byte // as signed
	PublishedAt time.Time
}

// text is what is signed.
func (c *Checkpoint) text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
}

// signCheckpoint signs a size and root. The same gives the same bytes.
func signCheckpoint(sg *signer, size uint64, root evidence.Hash) (Checkpoint, error) {
	c := Checkpoint{Origin: sg.origin, Size: size, Root: root}
	var err error
	if c.Note, err = note.Sign(&note.Note{Text: c.text()}, sg); err != nil {
		return c, fmt.Errorf("signing a checkpoint: %w", err)
	}
	return c, nil
}

// parseCheckpoint reads a signed note and accepts nothing but the one encoding. The signature is not checked.
func parseCheckpoint(b []byte) (c Checkpoint, err error) {
	lines := strings.SplitN(string(b), "\n", 5)
	if len(b) > 512 || len(lines) != 5 || lines[3] != "" {
		return c, errors.New("not a checkpoint: want three lines, an empty one and a signature")
	}
	c.Origin, c.Note = lines[0], b
	if c.Size, err = strconv.ParseUint(lines[1], 10, 63); err != nil {
		return c, fmt.Errorf("not a checkpoint: its size %.30q is no number", lines[1])
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != len(c.Root) {
		return c, errors.New("not a checkpoint: its root is no hash in base64")
	}
	copy(c.Root[:], root)
	if !strings.HasPrefix(string(b), c.text()) {
		return c, errors.New("not a checkpoint: it has another encoding than the one there is")
	}
	return c, nil
}

// verify checks the signature.
func (c *Checkpoint) verify(public ed25519.PublicKey) error {
	v, err := verifier(c.Origin, public)
	if err != nil {
		return err
	}
	if _, err := note.Open(c.Note, note.VerifierList(v)); err != nil {
		return fmt.Errorf("the checkpoint of size %d: %w", c.Size, err)
	}
	return nil
}

const (
	qNewestCheckpoint = `SELECT size, root, note, published_at FROM log_checkpoint ORDER BY size DESC LIMIT 1`
	qCheckpointAt     = `SELECT size, root, note, published_at FROM log_checkpoint WHERE size = $1`
	qCheckpoints      = `SELECT size, root, note, published_at FROM log_checkpoint WHERE size > $1 ORDER BY size LIMIT $2`
	qPutCheckpoint    = `INSERT INTO log_checkpoint (size, root, note, published_at) VALUES ($1, $2, $3, $4) ON CONFLICT (size) DO NOTHING`
)

func scanCheckpoint(row pgx.CollectableRow) (c Checkpoint, err error) {
	var size int64
	var root []byte
	err = row.Scan(&size, &root, &c.Note, &c.PublishedAt)
	c.Size, c.PublishedAt = uint64(size), c.PublishedAt.UTC()
	c.Origin, _, _ = strings.Cut(string(c.Note), "\n")
	copy(c.Root[:], root)
	return c, err
}

func checkpoint(ctx context.Context, q querier, sql string, args ...any) (c Checkpoint, ok bool, err error) {
	rows, err := q.Query(ctx, sql, args...)
	if err == nil {
		c, err = pgx.CollectExactlyOneRow(rows, scanCheckpoint)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return Checkpoint{}, false, nil
	}
	if err != nil {
		return c, false, fmt.Errorf("reading a checkpoint of the log: %w", err)
	}
	return c, true, nil
}

// newest returns the newest checkpoint that was recorded.
func (s *Store) newest(ctx context.Context, q querier, origin string) (Checkpoint, bool, error) {
	c, ok, err := checkpoint(ctx, q, qNewestCheckpoint)
	if err == nil && ok && c.Origin != origin {
		return c, false, halt("the newest checkpoint in the database is of the log %s, this one is %s: tables of two databases were mixed", c.Origin, origin)
	}
	return c, ok, err
}

// Checkpoint returns the newest checkpoint.
func (s *Store) Checkpoint(ctx context.Context) (Checkpoint, error) {
	c, ok, err := checkpoint(ctx, s.c.Pool, qNewestCheckpoint)
	if err == nil && !ok {
		err = apperr.E(apperr.NotFound, "NOTFOUND_001", "the log has no checkpoint yet: the first one is signed soon after the module jobs has started with ENCRYPTION_PASSWORD and TRANSPARENCY_LOG_DIR")
	}
	return c, err
}

// CheckpointAt returns the checkpoint of a size, if one was signed.
func (s *Store) CheckpointAt(ctx context.Context, size uint64) (Checkpoint, error) {
	c, ok, err := checkpoint(ctx, s.c.Pool, qCheckpointAt, clamp(size))
	if err == nil && !ok {
		err = apperr.E(apperr.NotFound, "NOTFOUND_001", "the log has no checkpoint of size %d", size)
	}
	return c, err
}

// clamp is a size as the database can hold it.
func clamp(n uint64) int64 { return int64(min(n, 1<<63-1)) }

// checkpointName is the newest checkpoint's file beside the tiles.
const checkpointName = "checkpoint"

// file reads the checkpoint beside the tiles and checks that it is this log's. ok is false when there is none, or one of an empty tree.
func (s *Store) file(origin string) (c Checkpoint, ok bool, err error) {
	if s.c.Dir == "" {
		return c, false, nil
	}
	b, err := os.ReadFile(filepath.Join(s.c.Dir, checkpointName))
	if errors.Is(err, os.ErrNotExist) {
		return c, false, nil
	}
	if err != nil {
		return c, false, fmt.Errorf("reading the checkpoint beside the log's tiles: %w", err)
	}
	if c, err = parseCheckpoint(b); err != nil {
		return c, false, halt("%s: %w", filepath.Join(s.c.Dir, checkpointName), err)
	}
	if c.Origin != origin {
		return c, false, halt("the tiles in %s are of the log %s, and this database has the log %s: set TRANSPARENCY_LOG_DIR to another directory, or restore the database that belongs to these tiles",
			s.c.Dir, c.Origin, origin)
	}
	if key := s.c.Key(); key != nil {
		if err := c.verify(key.Public().(ed25519.PublicKey)); err != nil { //nolint:forcetypeassert // ed25519 has no other
			return c, false, halt("%s is not signed with this hub's key: %w", filepath.Join(s.c.Dir, checkpointName), err)
		}
	}
	return c, c.Size > 0, nil
}

// publish puts a checkpoint beside the tiles, whole or not at all.
func (s *Store) publish(c *Checkpoint) error {
	f, err := os.CreateTemp(s.c.Dir, checkpointName+".*.tmp")
	if err != nil {
		return blocked(s.c.Dir, fmt.Errorf("publishing a checkpoint: %w", err))
	}
	_, err = f.Write(c.Note)
	err = errors.Join(err, f.Chmod(filePerm), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(s.c.Dir, checkpointName))
	}
	if err != nil {
		return blocked(s.c.Dir, fmt.Errorf("publishing a checkpoint: %w", errors.Join(err, os.Remove(f.Name()))))
	}
	return blocked(s.c.Dir, syncDir(s.c.Dir))
}

// haltError is a contradiction that a person must look at.
type haltError struct{ err error }

func halt(text string, args ...any) error { return &haltError{fmt.Errorf(text, args...)} }

// Error implements error.
func (e *haltError) Error() string {
	return "the transparency log is halted: " + e.err.Error()
}

// Unwrap gives the cause.
func (e *haltError) Unwrap() error { return e.err }
