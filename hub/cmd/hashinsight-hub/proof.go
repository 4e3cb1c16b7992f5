package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/hashinsight/hashinsight/hub/hubd"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

func proofCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "proof",
		Short: "Make proof files of miner-hours, statements and log entries, for somebody else to check",
		Long: "A proof file is checked with hashinsight-verify, or on the page's Verify tab, against a chain endpoint and a contract address of the reader's own choice:\n" +
			"neither needs this hub. One that is made before its anchor is in a final block says so when it is checked. Works beside a running hub, and needs\n" +
			"TRANSPARENCY_LOG_DIR as that hub has it.",
	}
	cmd.AddCommand(proofHourCommand(o), proofStatementCommand(o), proofBundleCommand(o), proofEntryCommand(o))
	return cmd
}

// proofFile is where a proof goes.
func proofFile(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVarP(file, "file", "f", "", "the file to write, such as proof.hsproof; one that is there already stays")
	_ = cmd.MarkFlagRequired("file") // fails only for a flag that does not exist
}

func writeProof(cmd *cobra.Command, o *options, order hubd.ProofOrder, file string) error {
	c, err := o.loadForWork()
	if err != nil {
		return err
	}
	n, err := hubd.WriteProof(cmd.Context(), database(c, commandLog()), transparency(c), c.Chain(), order, file)
	if err != nil {
		return err
	}
	if o.output == "json" {
		return writeJSON(cmd.OutOrStdout(), map[string]any{"file": file, "bytes": n})
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d bytes\n", file, n)
	return err
}

func proofHourCommand(o *options) *cobra.Command {
	var file, spool string
	cmd := &cobra.Command{
		Use:     "hour SITE MINER HOUR -f FILE",
		Short:   "Prove what a site signed about a miner's hour",
		Example: "  hashinsight-hub proof hour north 6f1c… 2026-11-26T10:00:00Z -f proof.hsproof",
		Args:    cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			var m hubd.ContractMiner
			var err error
			if m.Miner, err = ident.ParseMinerID(args[1]); err != nil {
				return fmt.Errorf("MINER: %w", err)
			}
			at, err := parseWhen(args[2], time.Now())
			if err != nil {
				return fmt.Errorf("HOUR: %w", err)
			}
			if at.Unix() < 0 || at.Unix()/3600 >= 1<<31 || !at.Equal(at.Truncate(time.Hour)) {
				return errors.New("HOUR: want the beginning of an hour in UTC, such as 2026-11-26T10:00:00Z")
			}
			order := hubd.ProofOrder{Miner: &m, Hour: uint32(at.Unix() / 3600)}
			if spool != "" {
				if order.Chain, err = ident.ParseSpoolID(spool); err != nil {
					return fmt.Errorf("--spool: %w", err)
				}
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			if m.Site, err = hubd.FindSite(cmd.Context(), database(c, commandLog()), args[0]); err != nil {
				return err
			}
			return writeProof(cmd, o, order, file)
		},
	}
	proofFile(cmd, &file)
	cmd.Flags().StringVar(&spool, "spool", "", "id of the chain of batches, where the site has signed the hour in several")
	return cmd
}

func proofStatementCommand(o *options) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "statement STATEMENT -f FILE",
		Short: "Prove that a statement was issued, and when",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			hash, err := parseStatement(args[0])
			if err != nil {
				return err
			}
			return writeProof(cmd, o, hubd.ProofOrder{Statement: &hash}, file)
		},
	}
	proofFile(cmd, &file)
	return cmd
}

func proofBundleCommand(o *options) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "bundle STATEMENT -f FILE",
		Short: "Prove a statement with everything it was made from, so that it can be computed again",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			hash, err := parseStatement(args[0])
			if err != nil {
				return err
			}
			return writeProof(cmd, o, hubd.ProofOrder{Statement: &hash, Bundle: true}, file)
		},
	}
	proofFile(cmd, &file)
	return cmd
}

func proofEntryCommand(o *options) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "entry INDEX -f FILE",
		Short: "Prove that an entry is in the transparency log",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			index, err := strconv.ParseUint(args[0], 10, 63)
			if err != nil {
				return errors.New("INDEX: want an entry's place in the log, from 0")
			}
			return writeProof(cmd, o, hubd.ProofOrder{Entry: &index}, file)
		},
	}
	proofFile(cmd, &file)
	return cmd
}
