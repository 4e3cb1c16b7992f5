package anchor

import (
	"context"
	"fmt"
	"time"
)

// next builds the next anchor when it is due, after reading back what the chain has and the database has not.
func (m *Machine) next(ctx context.Context, r *round, open bool) (more bool, err error) {
	switch {
	case r.head.Seq > r.newest.Seq:
		return m.adopt(ctx, r, r.newest.Seq+1, nil)
	case r.head.Seq < r.newest.Seq:
		return false, m.lag(r, r.newest.Seq)
	case r.some && r.head.Root != r.newest.Root:
		return false, m.headNotOurs(r.head.Seq)
	case !r.logOK:
		if r.now.Before(r.dueAt) {
			return false, nil
		}
		return false, m.logWaits()
	case open || r.now.Before(r.dueAt) || r.log.Size == 0 || r.log.Size == r.newest.Size:
		return false, nil
	case r.log.Size < r.newest.Size:
		return false, &stop{problem: ProblemLogShorter, params: Params{Size: r.newest.Size, LogSize: r.log.Size}, detail: fmt.Sprintf("the log has %d entries and %d are anchored: it reads back what its database has lost", r.log.Size, r.newest.Size)}
	}
	if r.some {
		if err := m.continues(ctx, &r.newest); err != nil {
			return false, err
		}
	}
	tag, err := m.c.Pool.Exec(ctx, qBuild, m.s.args(int64(r.newest.Seq+1), hourOf(r.now), int64(r.log.Size), r.log.Root[:], r.newest.Root[:], r.log.Checkpoint, r.dueAt, r.now)...)
	if err != nil {
		return false, fmt.Errorf("building anchor %d: %w", r.newest.Seq+1, err)
	}
	if tag.RowsAffected() == 0 {
		return false, errLost
	}
	return true, m.here(ctx, "built")
}

func (m *Machine) logWaits() error {
	return &stop{problem: ProblemLogWaits, detail: "the log has no checkpoint that may be anchored: hashinsight-hub log checkpoint says what it waits for"}
}

// continues looks whether the log still begins with what an anchor says of it.
func (m *Machine) continues(ctx context.Context, a *Anchor) error {
	was, ok, err := m.c.LogAt(ctx, a.Size)
	switch {
	case err != nil:
		return &stop{problem: ProblemLogUnreadable, params: Params{Size: a.Size}, detail: fmt.Sprintf("the log's first %d entries cannot be read: hashinsight-hub log checkpoint says why", a.Size), cause: err}
	case !ok:
		return &stop{problem: ProblemLogShorter, params: Params{Size: a.Size}, detail: fmt.Sprintf("the log has fewer than the %d entries that are anchored: it reads back what its database has lost", a.Size)}
	case was.Root != a.Root:
		return &stop{problem: ProblemLogChanged, params: Params{Seq: a.Seq, Size: a.Size}, detail: fmt.Sprintf("the log's first %d entries are not those that anchor %d says: entries were changed; hashinsight-hub log fsck shows where. Nothing is anchored until they are as they were", a.Size, a.Seq)}
	}
	return nil
}

func hourOf(t time.Time) int64 { return t.Unix() / 3600 }

// rebuild puts the newest checkpoint in the place of one for which nothing is signed.
func (m *Machine) rebuild(ctx context.Context, r *round, a *Anchor) error {
	if err := m.s.change(ctx, m.c.Pool, a, qRebuild, hourOf(r.now), int64(r.log.Size), r.log.Root[:], a.PrevRoot[:], r.log.Checkpoint, r.now); err != nil {
		return err
	}
	return m.here(ctx, "built")
}

// rebase is for an anchor that was built on another root than the contract now holds: the one before it came to the chain with a later checkpoint than this
// database knew, and was read back. No transaction of it can succeed any more.
func (m *Machine) rebase(ctx context.Context, r *round, a *Anchor, live *transaction) (bool, error) {
	before, ok, err := m.s.anchor(ctx, m.c.Pool, qAnchor, int64(a.Seq-1))
	if err != nil {
		return false, err
	}
	if a.Seq > 1 && !ok || r.head.Root != before.Root {
		return false, m.headNotOurs(r.head.Seq)
	}
	if !r.logOK || r.log.Size <= before.Size {
		return false, &stop{problem: ProblemLogNotLonger, params: Params{Seq: a.Seq, Size: before.Size}, detail: fmt.Sprintf("anchor %d is to be built again, for which the log must be longer than %d entries", a.Seq, before.Size)}
	}
	if live != nil {
		return true, m.setTx(ctx, a, live, txVoid)
	}
	a.PrevRoot = before.Root
	return true, m.rebuild(ctx, r, a)
}

// headNotOurs says that the contract's newest anchor is another one than this database has under its number.
func (m *Machine) headNotOurs(seq uint64) error {
	return &stop{problem: ProblemHeadNotOurs, params: Params{Seq: seq}, detail: fmt.Sprintf("anchor %d in the contract is another one than this hub's database has: another hub anchors there, or this one's log was made anew. %s", seq, ownContract)}
}

// foreignRoot says that the contract is another log's, too: a root over as many entries as this log has is another one.
func (m *Machine) foreignRoot(seq, size uint64) error {
	return &stop{problem: ProblemForeignRoot, params: Params{Seq: seq, Size: size}, detail: fmt.Sprintf("anchor %d in the contract is not of this log, whose first %d entries have another root: another hub anchors there, or this one's log was made anew. %s", seq, size, ownContract)}
}

// ownContract is what to do where another log is in the contract.
const ownContract = "Take the key away from the other one, or deploy a contract of this log's own: hashinsight-hub anchor deploy"
