package main

import (
	"bufio"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/hashinsight/hashinsight/hub/hubd"
	"github.com/hashinsight/hashinsight/hub/internal/config"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// evidencePlace is where the configuration keeps evidence.
func evidencePlace(c *config.Config) hubd.Evidence {
	return hubd.Evidence{URL: c.EvidenceURL, AccessKeyID: string(c.AWSAccessKeyID), SecretAccessKey: string(c.AWSSecretAccessKey), SessionToken: string(c.AWSSessionToken)}
}

func evidenceCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "evidence",
		Short: "Look at the signed batches of a site's hour, and write them to a file",
		Long: "An hour's batches are those whose first sample lies in it, by the site's clock: what was measured in its first seconds may\n" +
			"stand in the last batch of the hour before. They are found wherever their payloads lie: in the database, in the archive\n" +
			"that EVIDENCE_URL names, or in quarantine. Works beside a running hub.",
	}
	cmd.AddCommand(evidenceShowCommand(o), evidenceExportCommand(o))
	return cmd
}

// hourFlags are the flags that name an hour of a site.
type hourFlags struct{ site, hour string }

func (h *hourFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&h.site, "site", "", "the site's id, as site list shows it")
	cmd.Flags().StringVar(&h.hour, "hour", "", "the hour in UTC, such as 2026-03-10T12")
	for _, name := range []string{"site", "hour"} {
		_ = cmd.MarkFlagRequired(name) // fails only for a flag that does not exist
	}
}

func (h *hourFlags) parse() (hour hubd.EvidenceHour, err error) {
	if hour.Site, err = ident.ParseSiteID(h.site); err != nil {
		return hour, fmt.Errorf("--site: %w", err)
	}
	for _, form := range []string{"2006-01-02T15", time.RFC3339} {
		if hour.From, err = time.Parse(form, h.hour); err == nil && hour.From.Truncate(time.Hour).Equal(hour.From) {
			hour.From = hour.From.UTC()
			return hour, nil
		}
	}
	return hour, fmt.Errorf("--hour %.40q: want a full hour in UTC, such as 2026-03-10T12", h.hour)
}

// evidenceView is a batch as listed.
type evidenceView struct {
	Spool      string    `json:"spool"`
	Seq        uint64    `json:"seq"`
	Kind       string    `json:"kind"`
	Miners     int       `json:"miners"`
	Samples    int       `json:"samples"`
	FirstAt    time.Time `json:"first_at"`
	LastAt     time.Time `json:"last_at"`
	ReceivedAt time.Time `json:"received_at"`
	Bytes      int64     `json:"bytes"`
	Where      string    `json:"where"`
	Object     string    `json:"object,omitempty"`
}

func evidenceShowCommand(o *options) *cobra.Command {
	var of hourFlags
	var limit int
	cmd := &cobra.Command{
		Use:   "show --site SITE --hour HOUR",
		Short: "List the batches of a site's hour, and where each payload lies",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			hour, err := of.parse()
			if err != nil {
				return err
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			lines, more, err := hubd.EvidenceOf(cmd.Context(), database(c, commandLog()), hour, limit)
			if err != nil {
				return err
			}
			if more {
				fmt.Fprintf(cmd.ErrOrStderr(), "only the first %d are shown: raise --limit\n", len(lines))
			}
			views, rows := make([]evidenceView, len(lines)), make([]string, len(lines))
			for i, l := range lines {
				v := evidenceView{l.Spool.String(), l.Seq, l.Kind.String(), l.Miners, l.Samples, l.FirstAt.UTC(), l.LastAt.UTC(), l.ReceivedAt.UTC(), l.Bytes, string(l.Where), l.Object}
				views[i] = v
				rows[i] = fmt.Sprintf("%s\t%d\t%s\t%d\t%s\t%s\t%s\t%d\t%s\t%s", v.Spool, v.Seq, v.Kind, v.Samples,
					v.FirstAt.Format(time.RFC3339), v.LastAt.Format(time.RFC3339), v.ReceivedAt.Format(time.RFC3339), v.Bytes, v.Where, v.Object)
			}
			if o.output == "json" {
				return writeJSON(cmd.OutOrStdout(), views)
			}
			return writeTable(cmd.OutOrStdout(), "SPOOL\tSEQ\tKIND\tSAMPLES\tFIRST\tLAST\tRECEIVED\tBYTES\tWHERE\tOBJECT", rows)
		},
	}
	of.add(cmd)
	cmd.Flags().IntVar(&limit, "limit", 1000, "how many to show, at most 100000")
	return cmd
}

func evidenceExportCommand(o *options) *cobra.Command {
	var of hourFlags
	var out string
	var skip bool
	cmd := &cobra.Command{
		Use:   "export --site SITE --hour HOUR --out FILE",
		Short: "Write header, signature and payload of each batch of a site's hour to a file, each checked",
		Long: "The file has a line of JSON for each batch: what the site signed, its signature, and the public key that checks it. Its last\n" +
			"line says how many there are. Every payload is compared with its header and every signature checked before it is written;\n" +
			"a batch that fails ends the export without a file, unless --skip-damaged writes it without its payload.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			hour, err := of.parse()
			if err != nil {
				return err
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			file, err := makeFile(out, 0o600, false)
			if err != nil {
				return fmt.Errorf("the export's file: %w", err)
			}
			defer file.drop()
			w := bufio.NewWriterSize(file.tmp, 1<<20)
			tail, err := hubd.ExportEvidence(cmd.Context(), database(c, commandLog()), evidencePlace(c), hour, skip, w)
			if err != nil {
				return err
			}
			if err := errors.Join(w.Flush(), file.finish()); err != nil {
				return fmt.Errorf("writing the export: %w", err)
			}
			if o.output == "json" {
				return writeJSON(cmd.OutOrStdout(), tail)
			}
			if tail.Missing > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "%d batches have no payload: their lines say why\n", tail.Missing)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d checked batches with %d bytes of payload are in %s\n", tail.Batches, tail.Bytes, out)
			return err
		},
	}
	of.add(cmd)
	cmd.Flags().StringVar(&out, "out", "", "file to write to")
	_ = cmd.MarkFlagRequired("out") // fails only for a flag that does not exist
	cmd.Flags().BoolVar(&skip, "skip-damaged", false, "write batches whose payload is damaged or gone without it")
	return cmd
}
