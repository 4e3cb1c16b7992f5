package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/hashinsight/hashinsight/hub/hubd"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// parseBatch reads the three arguments that name a batch.
func parseBatch(args []string) (name hubd.BatchName, err error) {
	if name.Site, err = ident.ParseSiteID(args[0]); err != nil {
		return name, fmt.Errorf("SITE: %w", err)
	}
	if name.Spool, err = ident.ParseSpoolID(args[1]); err != nil {
		return name, fmt.Errorf("SPOOL: %w", err)
	}
	if name.Seq, err = strconv.ParseUint(args[2], 10, 63); err != nil || name.Seq == 0 {
		return name, fmt.Errorf("SEQ %.20q: want a number from 1", args[2])
	}
	return name, nil
}

// letterView is a quarantined batch as printed.
type letterView struct {
	Site       string    `json:"site"`
	SiteName   string    `json:"site_name"`
	Spool      string    `json:"spool"`
	Seq        uint64    `json:"seq"`
	ReceivedAt time.Time `json:"received_at"`
	Bytes      int64     `json:"bytes"`
	Reason     string    `json:"reason"`
	Header     []byte    `json:"header,omitempty"`
	Signature  []byte    `json:"signature,omitempty"`
	Payload    []byte    `json:"payload,omitempty"`
}

func viewLetter(l hubd.Letter) letterView {
	return letterView{l.Site.String(), l.SiteName, l.Spool.String(), l.Seq, l.ReceivedAt.UTC(), l.Size, l.Reason, l.Header, l.Signature, l.Payload}
}

func deadletterCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "deadletter",
		Short: "Look at batches that the hub keeps aside because it cannot use them",
		Long: "Such a batch is authentic and acknowledged; its content could not be read or stored, and the reason is kept with it.\n" +
			"Where a newer hub can use it, retry moves it into the series. Works beside a running hub.",
	}
	cmd.AddCommand(deadletterListCommand(o), deadletterShowCommand(o), deadletterRetryCommand(o), deadletterDropCommand(o))
	return cmd
}

func deadletterListCommand(o *options) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List batches in quarantine with their reasons",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			letters, more, err := hubd.DeadLetters(cmd.Context(), database(c, commandLog()), limit)
			if err != nil {
				return err
			}
			if more {
				fmt.Fprintf(cmd.ErrOrStderr(), "only the first %d are shown: raise --limit\n", len(letters))
			}
			views, rows := make([]letterView, len(letters)), make([]string, len(letters))
			for i, l := range letters {
				views[i] = viewLetter(l)
				rows[i] = fmt.Sprintf("%s\t%s\t%d\t%q\t%s\t%d\t%q", l.Site, l.Spool, l.Seq, l.SiteName, l.ReceivedAt.UTC().Format(time.RFC3339), l.Size, l.Reason)
			}
			if o.output == "json" {
				return writeJSON(cmd.OutOrStdout(), views)
			}
			return writeTable(cmd.OutOrStdout(), "SITE\tSPOOL\tSEQ\tNAME\tRECEIVED\tBYTES\tREASON", rows)
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 100, "how many to show, at most 10000")
	return cmd
}

func deadletterShowCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "show SITE SPOOL SEQ",
		Short: "Show one batch in quarantine with its signed bytes, as JSON",
		Args:  cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := parseBatch(args)
			if err != nil {
				return err
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			l, err := hubd.DeadLetter(cmd.Context(), database(c, commandLog()), name)
			if err != nil {
				return err
			}
			return writeJSON(cmd.OutOrStdout(), viewLetter(l))
		},
	}
}

func deadletterRetryCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "retry SITE SPOOL SEQ",
		Short: "Try to use a batch in quarantine: read it again and move it into the series",
		Args:  cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := parseBatch(args)
			if err != nil {
				return err
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			samples, err := hubd.RetryLetter(cmd.Context(), database(c, commandLog()), name)
			if err != nil {
				return err
			}
			if o.output == "json" {
				return writeJSON(cmd.OutOrStdout(), map[string]any{"samples": samples})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "the batch is stored, %d of its samples are in the series\n", samples)
			return err
		},
	}
}

func deadletterDropCommand(o *options) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "drop SITE SPOOL SEQ --yes",
		Short: "Delete the content of a batch in quarantine for good; its signed header stays",
		Args:  cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := parseBatch(args)
			if err != nil {
				return err
			}
			if !yes {
				return errors.New("the content would be gone for good, here and at the site: look at it with deadletter show, then give --yes")
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			return hubd.DropLetter(cmd.Context(), database(c, commandLog()), name)
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "yes, delete it")
	return cmd
}

func forksCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "forks", Short: "Look at proofs that a site signed two different batches with one name"}
	var limit int
	var out string
	list := &cobra.Command{
		Use:   "list",
		Short: "List forks, the latest found first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			forks, more, notKept, err := hubd.Forks(cmd.Context(), database(c, commandLog()), limit)
			if err != nil {
				return err
			}
			if more {
				fmt.Fprintf(cmd.ErrOrStderr(), "only the first %d are shown: raise --limit\n", len(forks))
			}
			if notKept > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "%d times a further fork came when enough proofs of its spool or site were kept\n", notKept)
			}
			views, rows := make([]forkView, len(forks)), make([]string, len(forks))
			for i, f := range forks {
				views[i] = viewFork(f)
				rows[i] = fmt.Sprintf("%s\t%s\t%d\t%q\t%s\t%s", f.Site, f.Spool, f.Seq, f.SiteName, f.FoundAt.UTC().Format(time.RFC3339), f.Key)
			}
			if o.output == "json" {
				return writeJSON(cmd.OutOrStdout(), views)
			}
			return writeTable(cmd.OutOrStdout(), "SITE\tSPOOL\tSEQ\tNAME\tFOUND\tKEY", rows)
		},
	}
	list.Flags().IntVar(&limit, "limit", 100, "how many to show, at most 10000")
	export := &cobra.Command{
		Use:   "export SITE SPOOL SEQ --out FILE",
		Short: "Write the proof of a batch's forks to a file: both signed headers and the public key that checks them",
		Args:  cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := parseBatch(args)
			if err != nil {
				return err
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			forks, err := hubd.ForksOf(cmd.Context(), database(c, commandLog()), name)
			if err != nil {
				return err
			}
			views := make([]forkView, len(forks))
			for i, f := range forks {
				views[i] = viewFork(f)
			}
			text, err := json.MarshalIndent(views, "", "  ")
			if err != nil {
				return fmt.Errorf("the proof: %w", err)
			}
			file, err := makeFile(out, 0o644, false)
			if err != nil {
				return fmt.Errorf("the proof's file: %w", err)
			}
			defer file.drop()
			if err := file.put(append(text, '\n')); err != nil {
				return fmt.Errorf("writing the proof: %w", err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d checked proofs are in %s\n", len(forks), out)
			return err
		},
	}
	export.Flags().StringVar(&out, "out", "", "file to write the proof to")
	_ = export.MarkFlagRequired("out") // fails only for a flag that does not exist
	cmd.AddCommand(list, export)
	return cmd
}

// forkView is the proof of a fork as printed and exported: anyone can check both signatures with the public key.
type forkView struct {
	Site       string    `json:"site"`
	SiteName   string    `json:"site_name"`
	Spool      string    `json:"spool"`
	Seq        uint64    `json:"seq"`
	FoundAt    time.Time `json:"found_at"`
	Key        string    `json:"key"`
	PublicKey  []byte    `json:"public_key,omitempty"`
	HeaderA    []byte    `json:"header_a"`
	SignatureA []byte    `json:"signature_a"`
	HeaderB    []byte    `json:"header_b"`
	SignatureB []byte    `json:"signature_b"`
}

func viewFork(f hubd.Fork) forkView {
	p := &f.Proof
	return forkView{f.Site.String(), f.SiteName, f.Spool.String(), f.Seq, f.FoundAt.UTC(), f.Key.String(), f.PublicKey, p.HeaderA, p.SignatureA, p.HeaderB, p.SignatureB}
}
