package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/hashinsight/hashinsight/agent/agentd"
	"github.com/hashinsight/hashinsight/agent/internal/config"
	"github.com/hashinsight/hashinsight/agent/internal/keys"
	"github.com/hashinsight/hashinsight/pkg/diag"
)

func runCommand() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use:   "run",
		Short: "Poll the site's miners and send what they say to the hub",
		Long: `Runs the agent until it gets SIGTERM or Ctrl-C. It then starts no new poll, waits for those in flight, stores and
sends what it has, and exits with 0. A second Ctrl-C ends it at once; nothing that was stored is lost.

Settings come from the file, then from HSI_… environment variables, then from flags. 'config example' lists all.`,
		Example: "  hashinsight-agent run --config /etc/hashinsight/agent.yaml",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			tradeTimeForMemory()
			conf, err := config.Load(path, os.Environ(), c.Flags())
			if err != nil {
				return err
			}
			id, err := keys.Load(conf.Identity())
			if err != nil {
				return err
			}
			logs, err := diag.OpenLogs(diag.LogConfig{Level: conf.Log.Level, Format: conf.Log.Format, Dir: conf.Log.Dir})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, logs.Close()) }()
			a, err := agentd.New(agentd.FromConfig(conf, id, logs.App, diag.NewRegistry("agent")))
			if err != nil {
				return err
			}
			return a.Run(c.Context())
		},
	}
	configFlags(c, &path)
	return c
}

// tradeTimeForMemory makes the collector begin when the heap has grown by a half instead of doubled, unless the operator chose by
// GOGC: an agent shares a small computer at the site with others. It buys memory
// with processor time; with it an agent of 10,000 miners every 10 s stayed at 127 MB (deploy/BENCHMARKS.md, P2). There is no limit in bytes: what a fleet of any size needs is not known here, and a limit
// below it would keep the collector running all the time.
func tradeTimeForMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
}

func configFlags(c *cobra.Command, path *string) {
	c.Flags().StringVar(path, "config", "", "configuration file (YAML)")
	config.Flags(c.Flags())
}

func configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Check or write a configuration"}
	var path string
	check := &cobra.Command{
		Use:   "check",
		Short: "Check the whole configuration and name every problem",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			conf, err := config.Load(path, os.Environ(), c.Flags())
			if err != nil {
				return err
			}
			single, scanned := 0, 0
			for _, m := range conf.Miners() {
				if m.Scan {
					scanned++
				} else {
					single++
				}
			}
			out := c.OutOrStdout()
			fmt.Fprintf(out, "configuration is good: %d single addresses, %d in networks and ranges, polled every %v\n", single, scanned, conf.Poll.Interval)
			if _, err := keys.Load(conf.Identity()); err != nil {
				fmt.Fprintf(out, "not ready to run: %v\n", err)
			}
			return nil
		},
	}
	configFlags(check, &path)
	example := &cobra.Command{
		Use:     "example",
		Short:   "Write a commented configuration file with every setting",
		Example: "  hashinsight-agent config example > agent.yaml",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(c.OutOrStdout(), config.Example())
			return err
		},
	}
	c.AddCommand(check, example)
	return c
}
