package hubd

import (
	"context"
	"crypto/ed25519"
	"io"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/proof"
)

// What operators do with the transparency log from the command line.

// Shapes of package proof for the command line.
type (
	LogStatus  = proof.Status
	LogEntry   = proof.Placed
	LogVerdict = proof.Verdict
)

// MaxLogPage is the most entries of the log that one list shows.
const MaxLogPage = proof.MaxPage

// withLog opens the log for a command. With keys it opens the hub's keys too.
func (c Database) withLog(ctx context.Context, t Transparency, keys bool, work func(ctx context.Context, s *proof.Store, key ed25519.PrivateKey) error) error {
	return c.use(ctx, true, func(ctx context.Context, pool *pgxpool.Pool, _ string) error {
		lc := proof.Config{Pool: pool, Dir: t.Dir, Now: c.Now, Log: c.Log}
		var key ed25519.PrivateKey
		if keys {
			a, err := openPKI(ctx, c, pool)
			if err != nil {
				return err
			}
			key, lc.Key = a.LogKey(), a.LogKey
		}
		s, err := proof.New(lc)
		if err != nil {
			return err
		}
		return work(ctx, s, key)
	})
}

// TransparencyLog tells how the log is, and its public key in the form that tools for signed notes take.
func TransparencyLog(ctx context.Context, c Database, t Transparency) (st LogStatus, verifier string, err error) {
	err = c.withLog(ctx, t, true, func(ctx context.Context, s *proof.Store, key ed25519.PrivateKey) error {
		if st, err = s.Status(ctx); err != nil {
			return err
		}
		verifier = proof.VerifierKey(st.Origin, key.Public().(ed25519.PublicKey)) //nolint:forcetypeassert // ed25519 has no other
		return nil
	})
	return st, verifier, err
}

// LogEntries lists entries of the log before a place (0: the newest), the newest first, of a kind, or with "" of all.
func LogEntries(ctx context.Context, c Database, kind string, before uint64, limit int) (list []LogEntry, err error) {
	err = c.withLog(ctx, Transparency{}, false, func(ctx context.Context, s *proof.Store, _ ed25519.PrivateKey) error {
		k, err := proof.ParseKind(kind)
		if err != nil {
			return err
		}
		list, err = s.Entries(ctx, k, before, limit)
		return err
	})
	return list, err
}

// LogEntryAt returns the entry at a place of the log.
func LogEntryAt(ctx context.Context, c Database, index uint64) (e LogEntry, err error) {
	err = c.withLog(ctx, Transparency{}, false, func(ctx context.Context, s *proof.Store, _ ed25519.PrivateKey) error {
		e, err = s.Entry(ctx, index)
		return err
	})
	return e, err
}

// CheckLog reads the whole log and compares its rows, tiles, checkpoints and what it records with each other; w is told each step.
func CheckLog(ctx context.Context, c Database, t Transparency, w io.Writer) (v LogVerdict, err error) {
	err = c.withLog(ctx, t, true, func(ctx context.Context, s *proof.Store, key ed25519.PrivateKey) error {
		v, err = s.Fsck(ctx, key.Public().(ed25519.PublicKey), w) //nolint:forcetypeassert // ed25519 has no other
		return err
	})
	return v, err
}

// RebuildLog writes the tiles of the newest checkpoint into an empty directory, from the database alone, and returns the number of entries.
func RebuildLog(ctx context.Context, c Database, dir string) (entries uint64, err error) {
	err = c.withLog(ctx, Transparency{}, true, func(ctx context.Context, s *proof.Store, _ ed25519.PrivateKey) error {
		made, err := s.Rebuild(ctx, dir)
		entries = made.Size
		return err
	})
	return entries, err
}
