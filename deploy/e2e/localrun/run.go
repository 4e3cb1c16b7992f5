// Package localrun runs a whole HashInsight on one machine (simulated miners, an agent, a hub with its own PostgreSQL),
// restarts what is killed, and judges at the end: the simulator's record against the agent's spool and the hub's
// database. It drives the real programs through their command lines and the hub's API, as a user would. `make run`, the smoke
// test, the page's tests and a benchmark use it; it is no part of an installation.
package localrun

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// DefaultInterval is how often the agent polls each simulated miner.
const DefaultInterval = 10 * time.Second

// Config says what to run.
type Config struct {
	Fleet    int           // simulated miners
	Duration time.Duration // from the first page until the end; 0: until ctx ends
	Kills    int           // SIGKILLs of the agent and of the hub each, within Duration
	Seed     uint64
	Loop     Kills         // SIGKILLs one after the other, as fast as the system recovers; Duration is not used then
	Soak     bool          // judge heaps and tables at the end as well
	Interval time.Duration // poll interval; 0 means DefaultInterval
	// BatchInterval and Timeout (of one poll) are the agent's; together they bound what a kill of it may take.
	BatchInterval, Timeout time.Duration // 0 means 2 s and 10 s
	Name                   string        // keeps runs apart; may be empty
	Fresh                  bool          // remove the data of an earlier run first
	StateDir               string        // empty: one for each clone and name
	BinDir                 string        // of the programs
	RunDir                 string        // run.json, owner.key and logs
	Web                    string        // wanted address of the page
	Command                []string      // run this against the running system, then end
	Anvil                  string        // program of the chain; empty: the hub has none, and does not anchor
	Anchor                 time.Duration // between two anchors; 0 means a minute
	Out                    io.Writer

	site *site // nil: everything is on loopback
}

// site is where agent and simulator run when something lies between them and the hub.
type site struct {
	namespace string // network namespace; "" means none of its own
	hub       string // the hub's own address on the link; "" means loopback
	// What the hub tells the site of where it is, host:port; "" means its own addresses.
	grpc, wg string
}

// exec returns the command that runs argv at the site; of a nil site, argv.
func (s *site) exec(argv []string) []string {
	if s == nil || s.namespace == "" {
		return argv
	}
	return append([]string{"ip", "netns", "exec", s.namespace}, argv...) // becomes the program: no process in between
}

// ErrVerdict means that the run ended in order, but its verdict line does not say that all is well.
var ErrVerdict = errors.New("the run's verdict is not clean")

const (
	startTimeout = 3 * time.Minute  // until all healthy miners are fresh: seconds where the machine is not busy
	freshTimeout = time.Minute      // for the last look before the end
	stopTimeout  = 40 * time.Second // for a child to end after SIGTERM
	killMargin   = 25 * time.Second // after the last kill, so that the end is undisturbed
	killLead     = 5 * time.Second  // before the first kill
	maxCommand   = time.Hour        // for Config.Command: the page tests took 14 minutes where everything else ran beside them
)

func (c Config) withDefaults() Config {
	c.Interval, c.BatchInterval, c.Timeout = cmp.Or(c.Interval, DefaultInterval), cmp.Or(c.BatchInterval, 2*time.Second), cmp.Or(c.Timeout, 10*time.Second)
	return c
}

// Run runs the system until c.Duration is over, c.Command has ended or ctx ends, and prints the verdict.
func Run(ctx context.Context, c Config) (err error) {
	c = c.withDefaults()
	if c.Fleet < 1 || c.Fleet > 60000 {
		return fmt.Errorf("a fleet of %d miners: choose 1 to 60000", c.Fleet)
	}
	if need := killLead + killMargin + 5*time.Second; c.Kills > 0 && c.Duration < need {
		return fmt.Errorf("kills need a duration of at least %s", need)
	}
	s, err := openStack(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	// The children outlive ctx: they are stopped in order, not by its end.
	if err := s.start(ctx); err != nil {
		return err
	}
	if err := s.play(ctx); err != nil {
		return err
	}
	return s.judge()
}

// RunChain runs the chain of the last run alone until ctx ends: proofs can be checked against it with the whole hub off.
func RunChain(ctx context.Context, c Config) (err error) {
	s, err := openStack(ctx, c.withDefaults())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.reopenChain(ctx); err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "run: nothing but the chain of the last run, at %s, with the contract %s\n", s.chainURL(), s.contractOf.Contract)
	s.waitUntil(ctx, time.Time{})
	return s.failed()
}

// play lets the system run: until all is fresh, then for the duration or the command.
func (s *stack) play(ctx context.Context) error {
	began := time.Now()
	fmt.Fprintf(s.c.Out, "run: page    http://%s: sign in with the key that is in %s\n", s.ports.Web, s.keyFile())
	if s.chain != nil {
		fmt.Fprintf(s.c.Out, "run: chain   %s: the head of the hub's log goes into its contract %s every %s\n", s.chainURL(), s.contractOf.Contract, short(s.c.Anchor))
		fmt.Fprintf(s.c.Out, "run: verify  %s: checks proof files in the browser, without a key\n", s.verifyPage())
	}
	first, cancel := context.WithTimeout(ctx, startTimeout)
	f, err := s.waitFresh(first)
	cancel()
	switch {
	case ctx.Err() != nil:
		return nil //nolint:nilerr // Ctrl-C before all was up is no failure
	case s.failed() != nil:
		return s.failed()
	case err != nil:
		return fmt.Errorf("after %s: %w", startTimeout, err)
	}
	s.live = time.Now()
	fmt.Fprintf(s.c.Out, "run: all %d healthy miners of %d are live after %.1f s\n", f.Healthy, f.Miners, s.live.Sub(began).Seconds())
	if len(s.c.Command) > 0 { // which makes the contracts that it needs: a miner has one at a time
		return s.runCommand(ctx)
	}
	if err := s.ensureDemo(ctx); err != nil {
		return fmt.Errorf("the demo contract: %w", err)
	}
	fmt.Fprintf(s.c.Out, "run: Contracts, on the page, has %q of %q over all of them: slots of this hour are judged by %s UTC, when the site has signed it\n",
		demoContract, demoCustomer, s.live.UTC().Truncate(time.Hour).Add(time.Hour+signing+time.Minute).Format("15:04"))
	switch {
	case s.c.Loop.total() > 0:
		if err := s.killLoop(ctx); err != nil {
			return err
		}
	case s.c.Duration > 0:
		end := began.Add(s.c.Duration)
		if err := s.killAtSeededMoments(ctx, end); err != nil {
			return err
		}
		if s.c.Soak {
			if err := s.soak(ctx, end); err != nil {
				return err
			}
		}
		s.waitUntil(ctx, end)
	default:
		fmt.Fprintln(s.c.Out, "run: Ctrl-C stops everything; data is kept for the next run")
		s.tellAnchor(ctx)
		s.waitUntil(ctx, time.Time{})
	}
	return s.failed()
}

// tellAnchor waits for an anchor in a final block and says what can be tried from then on.
func (s *stack) tellAnchor(ctx context.Context) {
	if s.chain == nil {
		return
	}
	const patience = 10 * time.Minute // then the page says what keeps the hub from anchoring
	s.patientAt(ctx, time.Second, patience, func() bool {
		var list struct {
			Items []struct {
				State string `json:"state"`
				Size  uint64 `json:"size"`
				Block uint64 `json:"block_number"`
			} `json:"items"`
		}
		if s.get(ctx, "/api/anchors?limit=10", &list) != nil { // asked again
			return false
		}
		for _, a := range list.Items {
			if a.State == "finalized" {
				fmt.Fprintf(s.c.Out, "run: the first %d entries of the log are anchored in block %d, which is final: Log, on the page, shows them. Try now, in a second terminal, what README.md says under \"Do not trust us\"\n", a.Size, a.Block)
				return true
			}
		}
		return false
	})
}

// short is an interval between anchors for people.
func short(d time.Duration) string {
	text := cmp.Or(d, anchorDefault).String()
	if minutes, ok := strings.CutSuffix(text, "m0s"); ok {
		return minutes + " min"
	}
	return text
}

// waitUntil waits for the time (zero: for ever), the end of ctx, or a child that cannot be kept running.
func (s *stack) waitUntil(ctx context.Context, t time.Time) {
	var timer <-chan time.Time
	if !t.IsZero() {
		timer = time.After(time.Until(t))
	}
	select {
	case <-timer:
	case <-ctx.Done():
	case <-s.broken:
	}
}

// killAtSeededMoments spreads the kills over the time until end: each program in turn, one in each equal part.
func (s *stack) killAtSeededMoments(ctx context.Context, end time.Time) error {
	if s.c.Kills == 0 {
		return nil
	}
	r := rand.New(rand.NewPCG(s.c.Seed, 1)) //nolint:gosec // the moments must be repeatable
	begin := time.Now().Add(killLead)
	part := max(end.Add(-killMargin).Sub(begin)/time.Duration(2*s.c.Kills), time.Second) // a slow start makes the run longer
	for i := range 2 * s.c.Kills {
		at := begin.Add(time.Duration(i)*part + time.Duration(r.Int64N(int64(part))))
		s.waitUntil(ctx, at)
		if ctx.Err() != nil || s.failed() != nil {
			return s.failed()
		}
		victim := []*child{s.agent, s.hub}[i%2]
		victim.kill()
		fmt.Fprintf(s.c.Out, "run: killed the %s with SIGKILL\n", victim.name)
	}
	return nil
}

func (s *stack) runCommand(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, maxCommand)
	defer cancel()
	key, err := filepath.Abs(s.keyFile())
	if err != nil {
		return fmt.Errorf("find the owner's key: %w", err)
	}
	cmd := exec.CommandContext(ctx, s.c.Command[0], s.c.Command[1:]...)
	cmd.Env = append(os.Environ(), "HSI_PAGE_URL=http://"+s.ports.Web, "HSI_PAGE_KEY_FILE="+key,
		fmt.Sprintf("HSI_POLL_INTERVAL_MS=%d", s.c.Interval.Milliseconds()))
	cmd.Stdout, cmd.Stderr = s.c.Out, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", s.c.Command[0], err)
	}
	return nil
}

// judge stops polling, lets the agent drain, compares, and prints the verdict.
func (s *stack) judge() error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute) // the run's own context has ended by now
	defer cancel()
	look, cancelLook := context.WithTimeout(ctx, freshTimeout)
	f, freshErr := s.waitFresh(look)
	cancelLook()
	if f.Miners == 0 && freshErr != nil {
		return fmt.Errorf("before the end: %w", freshErr)
	}
	slots, err := s.compareSlots(ctx, s.live)
	if err != nil {
		return fmt.Errorf("the slots of the demo contract: %w", err)
	}
	if err := s.agent.stop(); err != nil {
		return err
	}
	if err := s.sim.stop(); err != nil {
		return err
	}
	v, err := s.compare(ctx)
	if err != nil {
		return err
	}
	if len(s.hits) > 0 {
		v.Lines = append(v.Lines, histogram(s.hits)...)
	}
	for _, line := range v.Lines {
		fmt.Fprintln(s.c.Out, "run: "+line)
	}
	if freshErr != nil {
		fmt.Fprintf(s.c.Out, "run: %v\n", freshErr)
	}
	if slots.Hours > 0 {
		fmt.Fprintf(s.c.Out, "run: signed hours=%d slots=%d wrong=%d %s\n", slots.Hours, slots.Slots, slots.Wrong, slots.Example)
	}
	anchors, err := s.compareAnchors(ctx)
	if err != nil {
		return err
	}
	for _, line := range anchors.Lines {
		fmt.Fprintln(s.c.Out, "run: "+line)
	}
	if err := s.fsck(ctx); err != nil {
		return err
	}
	if err := s.hub.stop(); err != nil {
		return err
	}
	if s.c.Soak {
		lines, err := bounds(s.readings)
		for _, line := range lines {
			fmt.Fprintln(s.c.Out, "run: "+line)
		}
		if err != nil {
			return err
		}
	}
	fmt.Fprintf(s.c.Out, "run: miners=%d healthy=%d fresh=%d committed=%d missing=%d duplicate=%d anchors=%d duplicate_anchors=%d\n",
		f.Miners, f.Healthy, f.Fresh, v.Committed, v.Missing, v.Duplicate, anchors.Anchors, anchors.Duplicate)
	if freshErr != nil || v.Missing != 0 || v.Duplicate != 0 || slots.Wrong != 0 || f.Fresh != f.Healthy || anchors.Wrong != 0 || anchors.Duplicate != 0 ||
		s.c.Loop.total() > 0 && s.chain != nil && anchors.Anchors == 0 {
		return ErrVerdict
	}
	return nil
}
