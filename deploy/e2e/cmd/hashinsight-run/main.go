// Command hashinsight-run runs a simulated fleet, an agent and a hub on this machine and checks at the end that nothing
// was lost or stored twice. `make run` and the smoke test start it; package localrun is what it does.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/hashinsight/hashinsight/deploy/e2e/localrun"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// After the first signal the default handling comes back: a second Ctrl-C ends the program at once.
	context.AfterFunc(ctx, stop)
	if err := command().ExecuteContext(ctx); err != nil {
		if !errors.Is(err, localrun.ErrVerdict) { // its line has been printed
			fmt.Fprintf(os.Stderr, "run: %v\n", err)
		}
		os.Exit(1)
	}
}

func command() *cobra.Command {
	c := localrun.Config{Out: os.Stdout}
	var chain, chainOnly bool
	var contracts string
	cmd := &cobra.Command{
		Use:   "hashinsight-run [flags] [-- COMMAND ARGUMENT…]",
		Short: "Run a simulated fleet, an agent and a hub on this machine",
		Long: `Runs simulated miners, one agent, one hub with its own PostgreSQL and a development chain on this machine, all on loopback.
Without --duration it runs until Ctrl-C. At the end polling stops, the agent drains, and the simulator's record is
compared with the agent's spool and the hub's database, and what it knows of each slot of signed hours with the hub's
verdict; the hub's anchors are compared with the events of their contract, and its log is checked. The last line printed is the
verdict; the exit code is 0 only when nothing is missing or stored or anchored twice, no slot is wrong and every healthy miner is fresh. A first run without a COMMAND makes a contract over all miners.
With a COMMAND it runs that once every healthy miner is fresh, with HSI_PAGE_URL and HSI_PAGE_KEY_FILE set, then ends.`,
		SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			c.Command = args
			if chain || chainOnly {
				if c.Anvil = localrun.AnvilIn(contracts); c.Anvil == "" {
					return fmt.Errorf("no chain in %s: make installs it there, and --chain=false runs without", contracts)
				}
			}
			if chainOnly {
				return localrun.RunChain(cmd.Context(), c)
			}
			return localrun.Run(cmd.Context(), c)
		},
	}
	f := cmd.Flags()
	f.IntVar(&c.Fleet, "fleet", 200, "simulated miners")
	f.DurationVar(&c.Duration, "duration", 0, "end by itself after this time (0: at Ctrl-C)")
	f.IntVar(&c.Kills, "kills", 0, "kill the agent and the hub so often each, with SIGKILL, at seeded moments of the duration")
	f.IntVar(&c.Loop.Agent, "kill-agent", 0, "kill the agent so often, the next kill as soon as data is stored again; instead of --duration")
	f.IntVar(&c.Loop.Hub, "kill-hub", 0, "the same with the hub")
	f.IntVar(&c.Loop.PostgreSQL, "kill-postgres", 0, "the same with the hub's PostgreSQL; every third kill takes one session")
	f.BoolVar(&c.Soak, "soak", false, "check that heaps and tables stay within bounds over the duration")
	f.Uint64Var(&c.Seed, "seed", 1, "seed of the fleet and of the moments of kills")
	f.DurationVar(&c.Interval, "interval", localrun.DefaultInterval, "how often the agent polls each miner")
	f.DurationVar(&c.BatchInterval, "batch", 2*time.Second, "how long the agent gathers observations before it stores them")
	f.DurationVar(&c.Timeout, "timeout", 10*time.Second, "how long one poll may take")
	f.StringVar(&c.Name, "name", "", "keep the data of this run apart under this name")
	f.BoolVar(&c.Fresh, "fresh", false, "begin without the data of an earlier run of the same name")
	f.StringVar(&c.StateDir, "state", "", "directory for all data (default: one for each clone and name, outside of the clone)")
	f.StringVar(&c.BinDir, "bin", "bin", "directory of the programs")
	f.StringVar(&c.RunDir, "run-dir", ".run", "directory for run.json, the owner's key and logs")
	f.BoolVar(&chain, "chain", true, "run a development chain, in which the hub anchors its log")
	f.BoolVar(&chainOnly, "chain-only", false, "run only the chain of the last run, until Ctrl-C")
	f.DurationVar(&c.Anchor, "anchor", time.Minute, "how often the hub anchors its log")
	f.StringVar(&contracts, "contracts", "hub/contracts/node_modules", "where npm has installed the chain")
	f.StringVar(&c.Web, "web", "127.0.0.1:5000", "address of the page; another free port is taken when it is in use")
	return cmd
}
