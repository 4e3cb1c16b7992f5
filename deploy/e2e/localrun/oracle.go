package localrun

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/pkg/sim"
)

// verdict compares what miners answered with what the site committed and what the hub stored.
type verdict struct {
	Committed int // answers whose batch the site had committed
	Missing   int // of those not in the database, and answers that were lost without a kill to explain it
	Duplicate int // answers that the database holds more than once
	Lines     []string
}

// answerKey names one answer: a miner's address and its rising number.
type answerKey struct {
	address string
	serial  int64
}

// compare is called when the agent has ended (its spool can be read) while the hub still runs (its database can).
func (s *stack) compare(ctx context.Context) (verdict, error) {
	answers, err := s.answers()
	if err != nil {
		return verdict{}, err
	}
	committed, err := s.exported(ctx)
	if err != nil {
		return verdict{}, err
	}
	stored, err := s.stored(ctx, answers)
	if err != nil {
		return verdict{}, err
	}
	var v verdict
	last := lastCommitted(answers, committed, s.kills)
	var uncommitted, unexplained []sim.Answer
	for key, a := range answers {
		switch n := stored[key]; {
		case committed[key] && n == 0:
			v.Missing++
			v.Lines = append(v.Lines, fmt.Sprintf("missing: %s answer %d of %s is in the spool and not in the database", key.address, key.serial, a.At.Format(time.RFC3339Nano)))
		case n > 1:
			v.Duplicate++
			v.Lines = append(v.Lines, fmt.Sprintf("duplicate: %s answer %d is %d times in the database", key.address, key.serial, n))
		case !committed[key] && n > 0:
			v.Missing++ // the hub acknowledged what the site no longer has although it keeps a day
			v.Lines = append(v.Lines, fmt.Sprintf("missing: %s answer %d is in the database and not in the spool", key.address, key.serial))
		case !committed[key] && s.explained(a, last):
			uncommitted = append(uncommitted, a)
		case !committed[key]:
			unexplained = append(unexplained, a)
		}
		if committed[key] {
			v.Committed++
		}
	}
	for _, a := range uncommitted {
		s.countOpen(a)
	}
	if err := s.explain(ctx); err != nil {
		return verdict{}, err
	}
	v.Lines = append(v.Lines, name("answers never committed because of a kill", uncommitted)...)
	v.Lines = append(v.Lines, name("missing: answers never committed without a kill", unexplained)...)
	v.Missing += len(unexplained)
	const most = 40
	if len(v.Lines) > most {
		v.Lines = append(v.Lines[:most], fmt.Sprintf("and %d lines more", len(v.Lines)-most))
	}
	return v, nil
}

// name counts answers and names them by miner.
func name(what string, answers []sim.Answer) []string {
	if len(answers) == 0 {
		return nil
	}
	slices.SortFunc(answers, func(a, b sim.Answer) int { return a.At.Compare(b.At) })
	out := []string{fmt.Sprintf("%s: %d, from %s to %s", what, len(answers), answers[0].At.Format(time.RFC3339Nano), answers[len(answers)-1].At.Format(time.RFC3339Nano))}
	const perLine, most = 5, 50
	var row []string
	for i, a := range answers {
		if i == most {
			return append(out, fmt.Sprintf("  and %d more", len(answers)-most))
		}
		row = append(row, fmt.Sprintf("%s#%d", a.Miner, a.Serial))
		if len(row) == perLine || i == len(answers)-1 {
			out = append(out, "  "+strings.Join(row, " "))
			row = nil
		}
	}
	return out
}

// countOpen books a lost answer to the kill of the agent that took it.
func (s *stack) countOpen(a sim.Answer) {
	for _, h := range s.hits {
		if h.Victim == victimAgent && h.At.After(a.At.Add(-swap/4)) && h.At.Sub(a.At) < s.c.BatchInterval+s.c.Timeout {
			h.Open++
			return
		}
	}
}

// swap is by how much two readings of the clock may be in the wrong order: the miner's comes after its last write, and the
// kill's before the signal.
const swap = time.Second

// life names what one life of the agent took from one miner: lives end with kills and are counted by them.
type life struct {
	address string
	kill    int
}

// lifeOf is the number of the first kill that can have ended the life in which an answer was given.
func lifeOf(at time.Time, kills []time.Time) int {
	n, _ := slices.BinarySearchFunc(kills, at.Add(-swap/4), time.Time.Compare)
	return n
}

// lastCommitted finds the highest committed answer of every miner in every life of the agent.
func lastCommitted(answers map[answerKey]sim.Answer, committed map[answerKey]bool, kills []time.Time) map[life]int64 {
	out := map[life]int64{}
	for key, a := range answers {
		// Close to a kill the order of clock readings does not say which life it was.
		if n := lifeOf(a.At, kills); committed[key] && n == lifeOf(a.At.Add(swap/2), kills) {
			out[life{key.address, n}] = max(out[life{key.address, n}], key.serial)
		}
	}
	return out
}

// explained reports whether a kill of the agent explains that an answer was never committed: it comes within a batch's time
// and a request's after the answer, and in between no later answer of the miner was committed. s.kills is in order.
func (s *stack) explained(a sim.Answer, last map[life]int64) bool {
	n := lifeOf(a.At, s.kills)
	if last[life{a.Miner, n}] > int64(a.Serial) {
		return false
	}
	return slices.ContainsFunc(s.kills, func(k time.Time) bool {
		before := k.Sub(a.At)
		return before > -swap && before < s.c.BatchInterval+s.c.Timeout
	})
}

// answers reads the simulator's record: what it answered in full to this run's agent. Recorded folders carry no number.
func (s *stack) answers() (map[answerKey]sim.Answer, error) {
	f, err := os.Open(s.record())
	if err != nil {
		return nil, fmt.Errorf("the simulator's record: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	out := map[answerKey]sim.Answer{}
	_, err = sim.ReadAnswers(f, func(a sim.Answer) error {
		if a.Complete {
			out[answerKey{a.Miner, int64(a.Serial)}] = a
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("the simulator's record: %w", err)
	}
	return out, nil
}

// exported reads the agent's spool through its own command.
func (s *stack) exported(ctx context.Context) (map[answerKey]bool, error) {
	cmd := exec.CommandContext(ctx, s.program("agent"), "spool", "export", "--dir", filepath.Join(s.dir, "agent"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("export the spool: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("export the spool: %w", err)
	}
	out := map[answerKey]bool{}
	lines := bufio.NewScanner(pipe)
	lines.Buffer(make([]byte, 64<<10), 1<<20)
	for lines.Scan() {
		var l struct {
			Address   string `json:"address"`
			BestShare int64  `json:"best_share"`
		}
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return nil, errors.Join(fmt.Errorf("exported line %.200q: %w", lines.Text(), err), cmd.Process.Kill())
		}
		if l.BestShare > 0 {
			out[answerKey{l.Address, l.BestShare}] = true
		}
	}
	if err := errors.Join(lines.Err(), cmd.Wait()); err != nil {
		return nil, fmt.Errorf("export the spool: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

const qStored = `
SELECT m.address, h.best_share, count(*)
  FROM telemetry_hot h JOIN miner m ON m.site_id = h.site_id AND m.id = h.miner_id
 WHERE h.best_share > 0 AND h.ts >= $1
 GROUP BY 1, 2`

// stored reads the hub's database: how often it holds each answer since the first of this run.
func (s *stack) stored(ctx context.Context, answers map[answerKey]sim.Answer) (map[answerKey]int, error) {
	first := time.Now()
	for _, a := range answers {
		if a.At.Before(first) {
			first = a.At
		}
	}
	conn, err := pgx.Connect(ctx, s.databaseURL())
	if err != nil {
		return nil, fmt.Errorf("look into the hub's database: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, qStored, first.Add(-time.Minute))
	if err != nil {
		return nil, fmt.Errorf("look into the hub's database: %w", err)
	}
	out := map[answerKey]int{}
	var key answerKey
	var n int
	_, err = pgx.ForEachRow(rows, []any{&key.address, &key.serial, &n}, func() error {
		out[key] += n
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look into the hub's database: %w", err)
	}
	return out, nil
}

// databaseURL reads where the hub's PostgreSQL listens from the file that every PostgreSQL server writes.
func (s *stack) databaseURL() string {
	matches, _ := filepath.Glob(filepath.Join(s.dir, "hub", "*", "data", "postmaster.pid")) // the pattern is well-formed
	for _, m := range append(matches, filepath.Join(s.dir, "hub", "data", "postmaster.pid")) {
		b, err := os.ReadFile(m)
		if err != nil {
			continue
		}
		if l := strings.Split(string(b), "\n"); len(l) > 5 {
			return fmt.Sprintf("postgres:///hashinsight?host=%s&port=%s&user=hashinsight", strings.TrimSpace(l[4]), strings.TrimSpace(l[3]))
		}
	}
	return ""
}
