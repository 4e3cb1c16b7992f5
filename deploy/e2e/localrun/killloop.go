package localrun

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Kills says how often the loop kills each program with SIGKILL. Of PostgreSQL every third kill takes one of its sessions and
// not the server: then all sessions end, the server recovers by itself, and the hub has to stay.
type Kills struct {
	Agent, Hub, PostgreSQL int
}

func (k Kills) total() int { return k.Agent + k.Hub + k.PostgreSQL }

// victim is what a kill takes.
type victim string

const (
	victimAgent   victim = "agent"
	victimHub     victim = "hub"
	victimServer  victim = "postgresql"
	victimSession victim = "session" // of PostgreSQL
)

// moment is how the time of a kill is chosen.
type moment int

const (
	anyMoment moment = iota // somewhere in a batch's time
	atWrite                 // around a commit: of the agent shortly after it wrote to its spool, else after PostgreSQL wrote its log
	starting                // shortly after the program was started again
	anchoring               // while an anchor is on its way to the chain
)

const (
	spoolReach    = 15 * time.Millisecond  // how long after a write to the spool atWrite reaches: commit, send, acknowledgement
	walReach      = 3 * time.Millisecond   // the same after a write to PostgreSQL's log: its fsync, the hub's acknowledgement
	startReach    = 400 * time.Millisecond // how long after a start starting reaches
	loopPatience  = 60 * time.Second       // for the system to store data again after a kill
	progressTick  = 20 * time.Millisecond
	progressFloor = 2 // batches stored since the kill: the first may be one from before it
)

// hit is one kill and what it met.
type hit struct {
	Victim   victim
	Moment   moment
	At       time.Time
	Pending  float64 // batches committed at the site and not acknowledged, just after; agent's own kills leave it 0
	Again    float64 // batches that came again after it and were known: stored, acknowledgement not kept at the site
	Late     int     // agent only: batches it had committed before and the hub stored after
	Open     int     // agent only: answers before it that were never committed
	Anchor   bool    // an anchor was on its way to the chain, just before
	Recovery time.Duration
}

// killLoop kills in a seeded order at seeded moments, and after each kill waits until data is stored again.
func (s *stack) killLoop(ctx context.Context) error {
	r := rand.New(rand.NewPCG(s.c.Seed, 2)) //nolint:gosec // the moments must be repeatable
	order := s.c.Loop.order(r)
	spool, err := watchWrites(filepath.Join(s.dir, "agent", "spool"))
	if err != nil {
		return err
	}
	defer func() { _ = spool.close() }() // only read
	wal, err := watchWrites(filepath.Join(s.dir, "hub", "postgres", "data", "pg_wal"))
	if err != nil {
		return err
	}
	defer func() { _ = wal.close() }() // only read
	look := &ledger{url: s.databaseURL}
	defer look.close(context.WithoutCancel(ctx))
	began, anchorers := time.Now(), 0
	for i := 0; i < len(order); i++ {
		h := hit{Victim: order[i], Moment: anyMoment}
		if r.IntN(3) > 0 {
			h.Moment = atWrite
		}
		if s.chain != nil && (h.Victim == victimHub || h.Victim == victimServer) {
			if anchorers++; anchorers%anchorEvery == 0 {
				h.Moment = anchoring
			}
		}
		before, err := s.duplicates(ctx)
		if err != nil {
			return err
		}
		if s.chain != nil {
			if err := s.announce(ctx); err != nil {
				return err
			}
			if err := look.ask(ctx, &h.Anchor, qUnderWay); err != nil {
				return err
			}
		}
		writes, reach := wal, walReach
		if h.Victim == victimAgent {
			writes, reach = spool, spoolReach
		}
		if h.Moment == anchoring {
			err = s.aimAtAnchor(ctx, r, look)
			if err == nil {
				err = look.ask(ctx, &h.Anchor, qUnderWay) // it may be over by now
			}
		} else {
			err = s.aim(ctx, r, h.Moment, writes, reach)
		}
		if err != nil {
			return err
		}
		hubBefore, _ := s.hub.running()
		if err := s.strike(ctx, &h, look); err != nil {
			return err
		}
		// The next one of the same kind may come while the program starts again.
		if again := i+1 < len(order) && order[i+1] == h.Victim && h.Victim != victimSession && r.IntN(2) == 0; again {
			i++
			second := hit{Victim: h.Victim, Moment: starting}
			if err := s.strikeAtStart(ctx, r, &second, h.At); err != nil {
				return err
			}
			s.hits = append(s.hits, &second)
		}
		if err := s.untilStored(ctx, look, progressFloor); err != nil {
			return fmt.Errorf("after kill %d (%s): %w", i+1, h.Victim, err)
		}
		h.Recovery = time.Since(h.At)
		after, err := s.duplicates(ctx)
		if err != nil {
			return err
		}
		hubNow, _ := s.hub.running()
		switch {
		case hubNow != hubBefore && h.Victim == victimSession:
			return errors.New("the hub ended when one session of PostgreSQL was killed: it has to stay and connect again")
		case hubNow == hubBefore && h.Victim == victimServer:
			return errors.New("the hub still runs without its PostgreSQL: it has to end so that it is started again")
		case hubNow == hubBefore:
			after -= before // counted by the same process
		}
		h.Again = after
		s.hits = append(s.hits, &h)
	}
	fmt.Fprintf(s.c.Out, "run: %d kills in %.0f s\n", len(s.hits), time.Since(began).Seconds())
	if s.chain == nil {
		return nil
	}
	if anchorers >= anchorEvery && metAnchor(s.hits) == 0 {
		return errors.New("no kill met an anchor on its way")
	}
	return s.untilAnchored(ctx, look)
}

// order is a seeded order of all kills, in which the same program may be next again.
func (k Kills) order(r *rand.Rand) []victim {
	var all []victim
	for range k.Agent {
		all = append(all, victimAgent)
	}
	for range k.Hub {
		all = append(all, victimHub)
	}
	for i := range k.PostgreSQL {
		if i%3 == 2 {
			all = append(all, victimSession)
		} else {
			all = append(all, victimServer)
		}
	}
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// aim waits until the moment of a kill.
func (s *stack) aim(ctx context.Context, r *rand.Rand, m moment, writes *writeWatch, reach time.Duration) error {
	wait := time.Duration(r.Int64N(int64(s.c.BatchInterval)))
	if m == atWrite {
		wait = time.Duration(r.Int64N(int64(reach)))
		if err := writes.next(5 * s.c.BatchInterval); err != nil {
			return err
		}
	}
	s.waitUntil(ctx, time.Now().Add(wait))
	return errors.Join(ctx.Err(), s.failed())
}

// strike kills and notes what the site had pending.
func (s *stack) strike(ctx context.Context, h *hit, look *ledger) error {
	h.At = time.Now()
	switch h.Victim {
	case victimAgent:
		s.agent.kill()
		return nil
	case victimHub:
		s.hub.kill()
	case victimServer:
		if pid := s.serverPID(); pid > 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL) // one that has ended already is as good
		}
	case victimSession:
		if err := look.killSession(ctx); err != nil {
			return err
		}
	}
	var err error
	h.Pending, err = s.metric(ctx, s.ports.Agent, "hashinsight_agent_spool_pending_batches")
	return err
}

// strikeAtStart kills once more, shortly after the program was started again.
func (s *stack) strikeAtStart(ctx context.Context, r *rand.Rand, h *hit, first time.Time) error {
	reach := time.Duration(r.Int64N(int64(startReach)))
	dead := s.serverPID()
	tick := time.NewTicker(progressTick / 4)
	defer tick.Stop()
	for deadline := first.Add(loopPatience); ; {
		var up bool
		switch h.Victim {
		case victimAgent:
			_, since := s.agent.running()
			up = since.After(first)
		case victimHub:
			_, since := s.hub.running()
			up = since.After(first)
		default:
			pid := s.serverPID()
			up = pid > 0 && pid != dead
		}
		if up {
			break
		}
		select {
		case <-tick.C:
		case <-s.broken:
			return s.failed()
		case <-ctx.Done():
			return ctx.Err()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the %s is not started again within %s of its kill", h.Victim, loopPatience)
		}
	}
	s.waitUntil(ctx, time.Now().Add(reach))
	h.At = time.Now()
	switch h.Victim {
	case victimAgent:
		s.agent.kill()
	case victimHub:
		s.hub.kill()
	default:
		if pid := s.serverPID(); pid > 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL) // as in strike
		}
	}
	return nil
}

// untilStored waits until the hub has stored so many batches more than now, or than at its first answer.
func (s *stack) untilStored(ctx context.Context, look *ledger, more int64) error {
	ctx, cancel := context.WithTimeout(ctx, loopPatience)
	defer cancel()
	tick := time.NewTicker(progressTick)
	defer tick.Stop()
	first, last := int64(-1), error(nil)
	for {
		n, err := look.batches(ctx)
		switch {
		case err != nil:
			last = err
		case first < 0:
			first = n
		case n >= first+more:
			return nil
		default:
			last = fmt.Errorf("%d batches are stored, %d more are awaited", n, first+more-n)
		}
		select {
		case <-tick.C:
		case <-s.broken:
			return s.failed()
		case <-ctx.Done():
			return fmt.Errorf("no data is stored within %s: %w", loopPatience, last)
		}
	}
}

// duplicates counts what the running hub process was sent again. 0 while it cannot be asked: a process that was just killed.
func (s *stack) duplicates(ctx context.Context) (float64, error) {
	return s.metric(ctx, s.ports.Metrics, `hashinsight_ingest_batches_total{result="duplicate"}`)
}

// ledger asks the hub's database how much is stored, over one connection that it makes anew after an error.
type ledger struct {
	url  func() string
	conn *pgx.Conn
}

const (
	qBatches = `SELECT coalesce(sum(batches), 0)::bigint FROM batch_total`
	qSession = `SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
		ORDER BY xact_start NULLS LAST, query_start DESC NULLS LAST LIMIT 1`
)

func (l *ledger) ask(ctx context.Context, into any, query string, args ...any) error {
	if l.conn == nil {
		conn, err := pgx.Connect(ctx, l.url())
		if err != nil {
			return fmt.Errorf("look into the hub's database: %w", err)
		}
		l.conn = conn
	}
	if err := l.conn.QueryRow(ctx, query, args...).Scan(into); err != nil {
		l.close(ctx)
		return fmt.Errorf("look into the hub's database: %w", err)
	}
	return nil
}

func (l *ledger) batches(ctx context.Context) (n int64, err error) {
	return n, l.ask(ctx, &n, qBatches)
}

// killSession kills a session of the hub's, one in a transaction when there is one.
func (l *ledger) killSession(ctx context.Context) error {
	var pid int
	if err := l.ask(ctx, &pid, qSession); err != nil {
		return err
	}
	_ = syscall.Kill(pid, syscall.SIGKILL) // as in strike
	return nil
}

func (l *ledger) close(ctx context.Context) {
	if l.conn != nil {
		_ = l.conn.Close(ctx) // nothing is under way
		l.conn = nil
	}
}

const qLate = `SELECT count(*) FROM batch WHERE last_at < $1 AND last_at > $1 - interval '1 hour' AND received_at > $1`

// explain finds out what the kills of the agent met: batches it had committed that came to the hub after.
func (s *stack) explain(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.databaseURL())
	if err != nil {
		return fmt.Errorf("look into the hub's database: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }() // nothing is under way
	for _, h := range s.hits {
		if h.Victim != victimAgent {
			continue
		}
		if err := conn.QueryRow(ctx, qLate, h.At).Scan(&h.Late); err != nil {
			return fmt.Errorf("look into the hub's database: %w", err)
		}
	}
	return nil
}

// histogram is a table of what the kills met. A kill can have met several states.
func histogram(hits []*hit) []string {
	states := []struct {
		name string
		met  func(h *hit) bool
	}{
		{"kills", func(*hit) bool { return true }},
		{"while it started", func(h *hit) bool { return h.Moment == starting }},
		{"around a commit", func(h *hit) bool { return h.Moment == atWrite }},
		{"answers in the agent's open batch", func(h *hit) bool { return h.Open > 0 }},
		{"batch at the site, not stored", func(h *hit) bool { return h.Late > 0 || h.Pending > h.Again }},
		{"batch stored, not acknowledged", func(h *hit) bool { return h.Again > 0 }},
		{"anchor on its way", func(h *hit) bool { return h.Anchor }},
		{"every batch acknowledged", func(h *hit) bool { return h.Moment != starting && h.Late == 0 && h.Pending == 0 && h.Again == 0 }},
	}
	victims := [...]victim{victimAgent, victimHub, victimServer, victimSession}
	out := []string{fmt.Sprintf("%-36s%12s%12s%12s%12s", "killed when", victims[0], victims[1], victims[2], victims[3])}
	for _, st := range states {
		var row strings.Builder
		fmt.Fprintf(&row, "%-36s", st.name)
		for _, v := range victims {
			n := 0
			for _, h := range hits {
				if h.Victim == v && st.met(h) {
					n++
				}
			}
			fmt.Fprintf(&row, "%12d", n)
		}
		out = append(out, row.String())
	}
	var longest time.Duration
	for _, h := range hits {
		longest = max(longest, h.Recovery)
	}
	return append(out, fmt.Sprintf("longest time from a kill until new data was stored: %.1f s", longest.Seconds()))
}
