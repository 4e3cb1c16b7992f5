package proof

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// patience is how long a process that has started waits for the chain to say how much of the log it has. A chain that stays away must not keep the log from growing.
const patience = 10 * time.Minute

// comparison is what a process remembers of having compared its log with the chain.
type comparison struct {
	mu     sync.Mutex
	done   bool
	signed uint64    // size of the newest checkpoint that this process has signed or found: when there is only a smaller one, the database is another one
	since  time.Time // when the chain was first asked in vain
}

// mayGrow asks the chain, before the first place that this process gives, whether it has more of the log than the rows and the tiles: a database that was restored together
// with its directory, or without one, does not show in either that entries were published which it lacks. Giving their places to others could not be undone.
func (s *Store) mayGrow(ctx context.Context, rows, newest uint64) error {
	if s.c.Anchored == nil {
		return nil
	}
	c := &s.compared
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done && newest >= c.signed {
		return nil
	}
	c.done = false
	size, ok, err := s.c.Anchored(ctx)
	now := s.c.Now()
	switch {
	case err != nil && ctx.Err() != nil:
		return err
	case err != nil && c.since.IsZero():
		c.since = now
		fallthrough
	case err != nil && now.Sub(c.since) < patience:
		return &blockedError{fmt.Sprintf("whether the chain has more of it than this database is not known since the start: %v: entries get their places as soon as it answers, or at %s at the latest",
			err, c.since.Add(patience).UTC().Format(time.RFC3339)), err}
	case err != nil:
		s.c.Log.ErrorContext(ctx, "the transparency log goes on without having been compared with the chain: where the database was restored to an earlier moment, compare them: hashinsight-hub anchor verify",
			"asked_since", c.since, "err", err)
	case ok && size > rows:
		return halt("the contract on the chain has a root of %d entries, the database and its tiles have %d. Either both were set back to an earlier moment, and what would be added now would contradict what "+
			"was published: restore a newer backup of the database, or the directory of tiles that has them. Or somebody else anchors in this contract, such as a copy of this hub with its key: hashinsight-hub anchor status "+
			"says what is there. Where neither can be undone, the log can only go on under a new contract: hashinsight-hub anchor deploy", size, rows)
	}
	c.done, c.since = true, time.Time{}
	return nil
}

// saw remembers the size of a checkpoint that this process has signed.
func (c *comparison) saw(size uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.signed = size
}

// found remembers the size of a checkpoint that another process may have signed. A smaller one than before is not remembered: it shows that the database is another one.
func (c *comparison) found(size uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.signed = max(c.signed, size)
}
