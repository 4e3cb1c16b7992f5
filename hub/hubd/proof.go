package hubd

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hashinsight/hashinsight/hub/internal/api"
	"github.com/hashinsight/hashinsight/hub/internal/pki"
	"github.com/hashinsight/hashinsight/hub/internal/proof"
	"github.com/hashinsight/hashinsight/hub/internal/statement"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// anchors is what proofs and the API read of anchors. The zero value is a hub that anchors nothing.
type anchors struct {
	covering func(ctx context.Context, index uint64) (proof.Covered, api.Anchor, bool, error) // in a block
	list     func(ctx context.Context, cursor string, limit int) ([]api.Anchor, string, error)
	status   func(ctx context.Context) (api.AnchorStatus, error)
}

// builder makes proof files.
func builder(l *proof.Store, sc *statement.Config, s *statement.Store, logKey func() ed25519.PrivateKey, a anchors) (*proof.Builder, error) {
	c := proof.BuilderConfig{
		Log: l, Pool: sc.Pool, Statements: s, Facts: sc.Facts, SiteKey: sc.SiteKey,
		Key: func() ed25519.PublicKey {
			if key := logKey(); key != nil {
				return key.Public().(ed25519.PublicKey) //nolint:forcetypeassert // ed25519 has no other
			}
			return nil
		},
	}
	if a.covering != nil {
		c.Covering = func(ctx context.Context, index uint64) (proof.Covered, bool, error) {
			covered, view, ok, err := a.covering(ctx, index)
			return covered, ok && final(&view), err
		}
	}
	return proof.NewBuilder(c)
}

// logKeyOf returns the key that signs checkpoints, in a process that has it.
func logKeyOf(a *pki.Authority) func() ed25519.PrivateKey {
	if a == nil {
		return func() ed25519.PrivateKey { return nil }
	}
	return a.LogKey
}

// published is what the API tells of the log, of its anchors and of proofs.
func (h *Hub) published(s *subjects) (t api.Transparency, err error) {
	t.Public = h.c.Transparency.Public
	a := s.anchors
	b, err := builder(s.log, &statement.Config{Pool: s.pools.API, Facts: s.facts, SiteKey: keysOf(s.fleet)}, s.statements, logKeyOf(s.pki), a)
	if err != nil {
		return t, err
	}
	t.Checkpoint = func(ctx context.Context) (api.LogHead, error) { return logHead(ctx, s) }
	t.Entries = func(ctx context.Context, f api.LogFilter) ([]api.LogRecord, error) {
		list, err := s.log.Entries(ctx, f.Kind, f.Before, f.Limit)
		out := make([]api.LogRecord, len(list))
		for i := range list {
			out[i] = api.LogRecord{Index: list[i].Index, Entry: list[i].Entry}
		}
		return out, err
	}
	t.Entry = func(ctx context.Context, index uint64) (api.LogRecord, error) {
		e, err := s.log.Entry(ctx, index)
		return api.LogRecord{Index: e.Index, Entry: e.Entry}, err
	}
	t.Inclusion, t.Consistency = s.log.Inclusion, s.log.Consistency
	t.EntryProof = b.Entry
	t.HourProof = func(ctx context.Context, o api.HourProof) ([]byte, error) {
		return b.Hour(ctx, o.Scope, o.Miner, o.Hour, o.Chain)
	}
	t.Statement = b.Statement
	t.Bundle = func(ctx context.Context, scope statement.Scope, hash evidence.Hash) (api.Bundle, error) {
		u, err := b.Bundle(ctx, scope, hash)
		if err != nil {
			return api.Bundle{}, err
		}
		return api.Bundle{Month: u.Month, Write: u.Write}, nil
	}
	t.ProofState = func(ctx context.Context, scope statement.Scope, hash evidence.Hash) (api.ProofState, error) {
		l, err := b.Logged(ctx, scope, hash)
		if err != nil {
			return api.ProofState{}, err
		}
		return proofState(ctx, a, hash, l)
	}
	t.Anchors, t.AnchorState = a.list, a.status
	if a.covering == nil {
		t.Anchors = func(context.Context, string, int) ([]api.Anchor, string, error) { return nil, "", nil }
		t.AnchorState = func(ctx context.Context) (api.AnchorStatus, error) {
			st, err := s.log.Status(ctx)
			return api.AnchorStatus{Driver: "none", LogSize: st.Newest.Size}, err
		}
	}
	return t, nil
}

func logHead(ctx context.Context, s *subjects) (api.LogHead, error) {
	c, err := s.log.Checkpoint(ctx)
	if err != nil {
		return api.LogHead{}, err
	}
	st, err := s.log.Status(ctx)
	out := api.LogHead{Note: c.Note, Origin: c.Origin, Size: c.Size, Root: c.Root, At: c.PublishedAt, Behind: st.Behind > 0, State: "growing"}
	switch {
	case st.Halted != "":
		out.State = "halted"
	case out.Behind:
		out.State = "behind"
	case st.Blocked != "":
		out.State = "blocked"
	}
	if key := logKeyOf(s.pki)(); key != nil {
		out.PublicKey = key.Public().(ed25519.PublicKey) //nolint:forcetypeassert // ed25519 has no other
	}
	return out, err
}

// final says whether a proof file may name an anchor. A file that names a block which a reorganisation takes away would be called false when another block is final in its
// place; one without an anchor is not proven yet, and is to be downloaded again.
func final(a *api.Anchor) bool { return a.State == "finalized" }

// proofState tells how far a statement's proof is.
func proofState(ctx context.Context, a anchors, hash evidence.Hash, l proof.Logged) (api.ProofState, error) {
	st := api.ProofState{Hash: fmt.Sprintf("%x", hash)}
	if !l.Placed {
		st.Stage, st.Text = "recorded", "It waits for its place in the log, which it gets within a minute."
		return st, nil
	}
	at := api.Time{Time: time.UnixMilli(l.AtMS)}
	st.LogIndex, st.LoggedAt = &l.Index, &at
	if l.Size <= l.Index {
		st.Stage, st.Text = "logged", "It waits for the log's next checkpoint, which is signed within a minute."
		return st, nil
	}
	st.Ready, st.CheckpointSize = true, l.Size
	if a.covering == nil {
		st.Stage, st.Text = "not_anchored", "It is in the log's newest checkpoint. This hub anchors none of them on a chain."
		return st, nil
	}
	_, anchor, ok, err := a.covering(ctx, l.Index)
	if err != nil {
		return st, err
	}
	if ok {
		st.Stage, st.Anchor, st.Final = anchor.State, &anchor, final(&anchor)
		if st.Final {
			st.CheckpointSize = anchor.Size
		}
		st.Text = map[string]string{
			"mined": "Its anchor is in a block that may still change.", "safe": "Its anchor is in a block that will hardly change.", "finalized": "Its anchor is in a final block.",
		}[anchor.State]
		return st, nil
	}
	st.Stage, st.Text = "checkpointed", "It waits for the next anchor."
	if list, _, err := a.list(ctx, "", 1); err != nil {
		return st, err
	} else if len(list) > 0 && list[0].Size > l.Index {
		st.Stage, st.Text, st.Anchor = "sent", "Its anchor is on its way to the chain ("+list[0].State+").", &list[0]
	}
	return st, nil
}

// ProofOrder says which proof file a command makes: of exactly one of the three.
type ProofOrder struct {
	Entry     *uint64        // place in the log
	Miner     *ContractMiner // with Hour and Chain
	Hour      uint32         // since 1970
	Chain     ident.SpoolID  // zero: the only one
	Statement *StatementHash
	Bundle    bool // of the statement: with everything it was made from
}

// WriteProof makes a proof file, whole or not at all, and returns its length.
func WriteProof(ctx context.Context, c Database, t Transparency, ch Chain, o ProofOrder, path string) (n int64, err error) {
	err = withOpened(ctx, c, Evidence{}, true, func(ctx context.Context, with *opened) error {
		l, err := proof.New(proof.Config{Pool: with.config.Pool, Dir: t.Dir, Now: c.Now, Log: c.Log})
		if err != nil {
			return err
		}
		b, err := builder(l, &with.config, with.statements, with.keys.LogKey, anchorsOf(&ch, nil, with.config.Pool, l, c.Now))
		if err != nil {
			return err
		}
		n, err = writeWhole(path, func(w io.Writer) error { return writeProof(ctx, b, &o, w) })
		return err
	})
	return n, err
}

func writeProof(ctx context.Context, b *proof.Builder, o *ProofOrder, w io.Writer) error {
	var file []byte
	var err error
	switch {
	case o.Entry != nil:
		file, err = b.Entry(ctx, *o.Entry)
	case o.Miner != nil:
		file, err = b.Hour(ctx, statement.Scope{}, *o.Miner, o.Hour, o.Chain)
	case o.Statement != nil && o.Bundle:
		u, err := b.Bundle(ctx, statement.Scope{}, *o.Statement)
		if err != nil {
			return err
		}
		return u.Write(ctx, w)
	case o.Statement != nil:
		file, err = b.Statement(ctx, statement.Scope{}, *o.Statement)
	default:
		err = errors.New("no proof was ordered")
	}
	if err != nil {
		return err
	}
	_, err = w.Write(file)
	return err
}

// writeWhole makes a file that is there when it is whole. One that is there already stays: somebody may have sent it.
func writeWhole(path string, write func(io.Writer) error) (n int64, err error) {
	if _, err := os.Lstat(path); err == nil {
		return 0, fmt.Errorf("%s is there already: name another file", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := errors.Join(write(f), f.Chmod(0o644), f.Sync()); err != nil {
		return 0, errors.Join(err, f.Close())
	}
	info, err := f.Stat()
	if err := errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	return info.Size(), os.Rename(f.Name(), path)
}
