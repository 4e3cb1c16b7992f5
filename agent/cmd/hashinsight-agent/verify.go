package main

import (
	"crypto/ed25519"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/hashinsight/hashinsight/agent/agentd"
	"github.com/hashinsight/hashinsight/agent/internal/keys"
	"github.com/hashinsight/hashinsight/agent/internal/spool"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

func spoolVerify() *cobra.Command {
	var dir, identityDir, output string
	c := &cobra.Command{
		Use:   "verify",
		Short: "Check every stored batch: signature, payload, chain",
		Long: `Reads every stored batch and checks its header, signature and payload hash, that it names the header before it, and
that no sequence number is missing. Nothing is changed. The exit code is 1 when something is damaged, or was not read because
an agent is running. Batches that the hub has acknowledged are deleted after a while: such ranges are listed as absent, and are
no damage. Files that an agent has set aside as corrupt earlier are listed too.

Signatures are checked with the key that the spool itself names, which shows that nothing has changed by accident. To check
that the batches are this site's, name its identity directory.`,
		Example: `  hashinsight-agent spool verify --dir /var/lib/hashinsight-agent
  hashinsight-agent spool verify --dir /var/lib/hashinsight-agent --identity /var/lib/hashinsight-agent/identity -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkOutput(output, "table", "json"); err != nil {
				return err
			}
			key, err := verifyingKeys(dir, identityDir)
			if err != nil {
				return err
			}
			v, err := spool.Verify(c.Context(), agentd.SpoolDir(dir), key)
			if err != nil {
				return explainMissing(err, dir)
			}
			if output == "json" {
				err = printJSON(c.OutOrStdout(), v)
			} else {
				err = printVerification(c.OutOrStdout(), v)
			}
			if err != nil {
				return err
			}
			return v.Err()
		},
	}
	dataDirFlag(c, &dir)
	c.Flags().StringVar(&identityDir, "identity", "", "the site's identity directory (identity_dir), whose key must have signed everything")
	outputFlag(c, &output, "table", "table|json")
	return c
}

func verifyingKeys(dataDir, identityDir string) (func(ident.KeyID) ed25519.PublicKey, error) {
	if identityDir == "" {
		key, err := spool.Keys(agentd.SpoolDir(dataDir))
		return key, explainMissing(err, dataDir)
	}
	pub, err := keys.EvidenceKey(identityDir)
	if err != nil {
		return nil, err
	}
	return func(id ident.KeyID) ed25519.PublicKey {
		if id == ident.KeyIDOf(pub) {
			return pub
		}
		return nil
	}, nil
}

func printVerification(w io.Writer, v *spool.Verification) error {
	rows := make([][2]string, 0, len(v.Segments)+len(v.Absent)+len(v.Gaps)+len(v.Quarantined)+len(v.Problems)+4)
	row := func(what, format string, args ...any) {
		rows = append(rows, [2]string{what, fmt.Sprintf(format, args...)})
	}
	for _, g := range v.Segments {
		what := "good"
		if g.Problems > 0 {
			what = strconv.FormatUint(g.Problems, 10) + " problems"
		}
		if g.Last < g.First {
			row(g.File, "spool %s, empty, %s", g.Spool, what)
			continue
		}
		row(g.File, "spool %s, batches %d to %d, %d bytes: %s", g.Spool, g.First, g.Last, g.Bytes, what)
	}
	for _, a := range v.Absent {
		why := "not here: acknowledged and deleted"
		if a.Named {
			why = "dropped, and named by a gap record"
		}
		row("absent", "spool %s, batches %d to %d: %s", a.Spool, a.First, a.Last, why)
	}
	for _, g := range v.Gaps {
		row("gap record", "batch %d: spool %s, batches %d to %d, %s", g.Seq, g.Spool, g.First, g.Last, g.Reason)
	}
	for _, f := range v.Quarantined {
		row("quarantined", "%s: set aside as corrupt by an agent earlier", f)
	}
	for _, f := range v.Locked {
		row("in use by an agent", "%s: not checked", f)
	}
	for _, p := range v.Problems {
		row("PROBLEM", "%s: %s", p.File, p.Text)
	}
	if more := v.ProblemsN - uint64(len(v.Problems)); more > 0 {
		row("PROBLEM", "and %d more", more)
	}
	row("good", "%d batches, %d samples", v.Batches, v.Samples)
	return printTable(w, rows)
}
