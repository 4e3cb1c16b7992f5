package main

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/hashinsight/hashinsight/hub/hubd"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// disputeView is a dispute as printed.
type disputeView struct {
	ID              int64     `json:"id"`
	Site            string    `json:"site"`
	SiteName        string    `json:"site_name"`
	Hour            time.Time `json:"hour"`
	Spool           string    `json:"spool"`
	Kind            string    `json:"kind"`
	Reason          string    `json:"reason"`
	FoundAt         time.Time `json:"found_at"`
	InSpool         string    `json:"in_spool"`
	InSeq           uint64    `json:"in_seq"`
	HeaderHash      string    `json:"header_hash"`
	Root            string    `json:"root"`
	OtherRoot       string    `json:"other_root"`
	OtherSpool      string    `json:"other_spool,omitempty"`
	OtherSeq        uint64    `json:"other_seq,omitempty"`
	OtherHeaderHash string    `json:"other_header_hash,omitempty"`
}

func viewDispute(d hubd.Dispute) disputeView {
	v := disputeView{
		d.ID, d.Site.String(), d.SiteName, d.At(), d.Spool.String(), d.Kind.String(), d.Reason, d.FoundAt, d.InSpool.String(), d.InSeq,
		hex.EncodeToString(d.Header[:]), hex.EncodeToString(d.Root[:]), hex.EncodeToString(d.OtherRoot[:]), "", d.OtherSeq, "",
	}
	if d.OtherSeq > 0 {
		v.OtherSpool, v.OtherHeaderHash = d.OtherSpool.String(), hex.EncodeToString(d.OtherHeader[:])
	}
	return v
}

func disputesCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "disputes",
		Short: "Look at hours for which a site's signed word and its batches do not agree",
		Long: "The hub recomputes the facts of every hour that a site has signed from the site's own batches. Where they give another root, or the site\n" +
			"signed two, the hour is disputed: its slots are unknown, and the dispute stays. evidence export shows the batches. Works beside a running hub.",
	}
	var limit int
	list := &cobra.Command{
		Use:   "list",
		Short: "List disputes, the latest found first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			disputes, more, err := hubd.Disputes(cmd.Context(), database(c, commandLog()), limit)
			if err != nil {
				return err
			}
			if more {
				fmt.Fprintf(cmd.ErrOrStderr(), "only the first %d are shown: raise --limit\n", len(disputes))
			}
			views, rows := make([]disputeView, len(disputes)), make([]string, len(disputes))
			for i, d := range disputes {
				v := viewDispute(d)
				views[i] = v
				rows[i] = fmt.Sprintf("%d\t%s\t%q\t%s\t%s\t%s\t%s", v.ID, v.Site, v.SiteName, v.Hour.Format(hourForm), v.Kind, v.FoundAt.Format(time.RFC3339), plain(v.Reason))
			}
			if o.output == "json" {
				return writeJSON(cmd.OutOrStdout(), views)
			}
			return writeTable(cmd.OutOrStdout(), "DISPUTE\tSITE\tNAME\tHOUR\tKIND\tFOUND\tREASON", rows)
		},
	}
	list.Flags().IntVar(&limit, "limit", 100, "how many to show, at most 999")
	show := &cobra.Command{
		Use:   "show DISPUTE",
		Short: "Show one dispute with both roots and the batches that say so, as JSON",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil || id < 1 {
				return fmt.Errorf("DISPUTE %.20q: want a number, as disputes list shows it", args[0])
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			d, err := hubd.DisputeOf(cmd.Context(), database(c, commandLog()), id)
			if err != nil {
				return err
			}
			return writeJSON(cmd.OutOrStdout(), viewDispute(d))
		},
	}
	cmd.AddCommand(list, show)
	return cmd
}

// hourForm is how commands write an hour.
const hourForm = "2006-01-02T15"

// hourView is a signed hour as printed.
type hourView struct {
	Hour       time.Time  `json:"hour"`
	Spool      string     `json:"spool"`
	State      string     `json:"state"`
	Reason     string     `json:"reason,omitempty"`
	Leaves     uint32     `json:"leaves"`
	FirstSeq   uint64     `json:"first_seq"`
	LastSeq    uint64     `json:"last_seq"`
	InSpool    string     `json:"in_spool"`
	InSeq      uint64     `json:"in_seq"`
	HeaderHash string     `json:"header_hash"`
	Root       string     `json:"root"`
	ReceivedAt time.Time  `json:"received_at"`
	CompleteAt *time.Time `json:"complete_at,omitempty"`
}

func hoursCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "hours", Short: "Look at hours whose facts sites have signed"}
	var site, from, to string
	list := &cobra.Command{
		Use:   "list --site SITE",
		Short: "List a site's signed hours and whether its batches give the signed root",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			id, err := ident.ParseSiteID(site)
			if err != nil {
				return fmt.Errorf("--site: %w", err)
			}
			last, err := parseHour("--to", to, time.Now().UTC().Truncate(time.Hour).Add(time.Hour))
			if err != nil {
				return err
			}
			first, err := parseHour("--from", from, last.Add(-24*time.Hour))
			if err != nil {
				return err
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			hours, err := hubd.SignedHours(cmd.Context(), database(c, commandLog()), id, uint32(first.Unix()/3600), uint32(last.Unix()/3600))
			if err != nil {
				return err
			}
			views, rows := make([]hourView, len(hours)), make([]string, len(hours))
			for i := range hours {
				h := &hours[i]
				v := hourView{
					h.At(), h.Spool.String(), h.State.String(), h.Reason, h.Leaves, h.FirstSeq, h.LastSeq, h.InSpool.String(), h.InSeq, hex.EncodeToString(h.Header[:]),
					hex.EncodeToString(h.Root[:]), h.ReceivedAt, nil,
				}
				if !h.CompleteAt.IsZero() {
					v.CompleteAt = &h.CompleteAt
				}
				views[i] = v
				rows[i] = fmt.Sprintf("%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s", v.Hour.Format(hourForm), v.Spool, v.State, v.Leaves, v.FirstSeq, v.LastSeq, v.ReceivedAt.Format(time.RFC3339), plain(v.Reason))
			}
			if o.output == "json" {
				return writeJSON(cmd.OutOrStdout(), views)
			}
			return writeTable(cmd.OutOrStdout(), "HOUR\tSPOOL\tSTATE\tLEAVES\tFIRST\tLAST\tRECEIVED\tREASON", rows)
		},
	}
	list.Flags().StringVar(&site, "site", "", "the site's id, as site list shows it")
	_ = list.MarkFlagRequired("site") // fails only for a flag that does not exist
	list.Flags().StringVar(&from, "from", "", "first hour in UTC, such as 2026-03-10T12; by default 24 hours before --to")
	list.Flags().StringVar(&to, "to", "", "the hour after the last; by default the next one")
	cmd.AddCommand(list)
	return cmd
}

func parseHour(flag, text string, otherwise time.Time) (time.Time, error) {
	if text == "" {
		return otherwise, nil
	}
	at, err := time.Parse(hourForm, text)
	if err != nil || at.Unix() < 0 {
		return at, fmt.Errorf("%s %.40q: want a full hour in UTC, such as 2026-03-10T12", flag, text)
	}
	return at, nil
}
