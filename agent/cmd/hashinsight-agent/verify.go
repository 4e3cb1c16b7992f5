package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/hashinsight/hashinsight/agent/agentd"
	"github.com/hashinsight/hashinsight/agent/internal/facts"
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
no damage. Files that an agent has set aside as corrupt earlier are listed too. Signed hours are computed again from the batches, as
far as these are still here.

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
			all := verification{Verification: v}
			if all.Hours, err = facts.Verify(c.Context(), dir, agentd.SpoolDir(dir)); err != nil {
				return err
			}
			if output == "json" {
				err = printJSON(c.OutOrStdout(), all)
			} else {
				err = printVerification(c.OutOrStdout(), &all)
			}
			if err != nil {
				return err
			}
			return all.err()
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

// verification is what is found of batches and of hours.
type verification struct {
	*spool.Verification
	Hours []facts.CheckedHour `json:"hours"`
}

func (v *verification) err() error {
	for _, h := range v.Hours {
		if h.Result == facts.HourDiffers {
			return errors.Join(v.Err(), fmt.Errorf("hour %s, signed by batch %d, is not what its batches say: %s: keep the directory and report it",
				h.Hour.Format(time.RFC3339), h.Seq, h.Why))
		}
	}
	return v.Err()
}

func printVerification(w io.Writer, v *verification) error {
	rows := make([][2]string, 0, len(v.Segments)+len(v.Absent)+len(v.Gaps)+len(v.Quarantined)+len(v.Problems)+len(v.Hours)+4)
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
	for _, h := range v.Hours {
		what, why := "hour", "as its batches say"
		switch h.Result {
		case facts.HourDiffers:
			what, why = "PROBLEM", "not what its batches say: "+h.Why
		case facts.HourUnchecked:
			why = "not checked: " + h.Why
		}
		row(what, "%s, signed by batch %d, %d miners: %s", h.Hour.Format(time.RFC3339), h.Seq, h.Miners, why)
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
