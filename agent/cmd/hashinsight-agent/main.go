// Command hashinsight-agent polls a site's miners, signs and keeps what they say, and sends it to the hub. It parses
// flags, reads configuration and keys, turns signals into a context and prints results; package agentd is the agent.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/hashinsight/hashinsight/pkg/diag"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second Ctrl-C ends the process at once
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "hashinsight-agent:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	c := &cobra.Command{
		Use:           "hashinsight-agent",
		Short:         "The site's part of HashInsight: polls miners, signs and keeps what they say, sends it to the hub",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	c.AddCommand(runCommand(), probeCommand(), configCommand(), enrolCommand(), identityCommand(), keysCommand(), spoolCommand(), versionCommand())
	return c
}

func versionCommand() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "version",
		Short: "Say which build this is",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkOutput(output, "text", "json"); err != nil {
				return err
			}
			b := diag.ReadBuild()
			if output == "json" {
				return printJSON(c.OutOrStdout(), b)
			}
			_, err := fmt.Fprintln(c.OutOrStdout(), "hashinsight-agent", b)
			return err
		},
	}
	outputFlag(c, &output, "text", "text|json")
	return c
}

func outputFlag(c *cobra.Command, to *string, def, choices string) {
	c.Flags().StringVarP(to, "output", "o", def, "form of the output: "+choices)
}

func checkOutput(got string, choices ...string) error {
	for _, c := range choices {
		if got == c {
			return nil
		}
	}
	return fmt.Errorf("--output %.40q is none of %s", got, strings.Join(choices, ", "))
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// printTable prints rows of cells as aligned columns.
func printTable(w io.Writer, rows [][2]string) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%s\n", r[0], r[1])
	}
	return t.Flush()
}

// printable makes text of a miner harmless on a terminal: no escape sequences, no line that it did not send as one.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, s)
}
