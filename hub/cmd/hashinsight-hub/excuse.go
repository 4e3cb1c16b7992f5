package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/hashinsight/hashinsight/hub/hubd"
)

func maintenanceCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "maintenance", Short: "Announce maintenance"}
	cmd.AddCommand(excuseRecordCommand(o, "announce", "Announce maintenance: miners may stand still then, for contracts whose notice it keeps", true))
	return cmd
}

func curtailCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "curtail", Short: "Order curtailment"}
	cmd.AddCommand(excuseRecordCommand(o, "order", "Record an order to curtail: miners may stand still then. It switches nothing", false))
	return cmd
}

func excuseRecordCommand(o *options, use, short string, maintenance bool) *cobra.Command {
	order := hubd.ExcuseOrder{Maintenance: maintenance}
	var miners []string
	var file, from, to, id string
	cmd := &cobra.Command{
		Use: use + " --site SITE --from TIME --to TIME", Short: short, Args: cobra.NoArgs,
		Long: "It is recorded as of now, by the hub's clock. For a contract that it comes too late for it is on record and counts for nothing; the answer says so, and by which term.\n" +
			"With --id, an id of your choice, the command can be repeated without harm.",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if order.Miners, err = readMiners(miners, file); err != nil {
				return err
			}
			if order.FromMS, err = parseMS("from", from); err != nil {
				return err
			}
			if order.ToMS, err = parseMS("to", to); err != nil {
				return err
			}
			if id != "" {
				if order.ID, err = uuid.Parse(id); err != nil {
					return fmt.Errorf("id %.60q: want a UUID", id)
				}
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			x, err := hubd.RecordExcuse(cmd.Context(), database(c, commandLog()), order)
			if err != nil {
				return err
			}
			return showExcuses(cmd.OutOrStdout(), o, []hubd.Excuse{x})
		},
	}
	f := cmd.Flags()
	f.StringVar(&order.Site, "site", "", "id or name of the site")
	f.StringSliceVar(&miners, "miner", nil, "id of a miner, several separated by commas; default: all of the site")
	f.StringVar(&file, "file", "", "file with the id of a miner on each line")
	f.StringVar(&from, "from", "", "from when on, such as 2026-11-01T00:00:00Z")
	f.StringVar(&to, "to", "", "until when, at most 31 days later")
	f.StringVar(&order.Note, "note", "", "why; customers whose miners it concerns read it")
	f.StringVar(&id, "id", "", "UUID for the record; default: a new one")
	for _, name := range []string{"site", "from", "to"} {
		_ = cmd.MarkFlagRequired(name) // fails only for a flag that does not exist
	}
	return cmd
}

// showExcuses prints excuses with how contracts take them.
func showExcuses(w io.Writer, o *options, list []hubd.Excuse) error {
	views, rows := make([]any, len(list)), make([]string, 0, len(list))
	for i := range list {
		x := &list[i]
		taken := make([]map[string]any, len(x.Judged))
		state := "no contract concerned"
		for k := range x.Judged {
			j := &x.Judged[k]
			taken[k] = map[string]any{
				"contract_id": j.Contract, "contract": j.Name, "version": j.Version, "honoured": j.Honoured(), "why": j.Why, "term": j.Term, "term_s": j.TermS, "record_by": msText(j.RecordedByMS),
			}
			if k == 0 {
				state = "honoured"
			}
			if !j.Honoured() {
				state = "NOT honoured by " + strconv.Quote(j.Name) + ": " + j.Term + " is " + strconv.FormatInt(j.TermS, 10) + ", recorded after " + msText(j.RecordedByMS)
			}
		}
		miners, end := "all", msText(x.ToMS)
		if len(x.Miners) > 0 {
			miners = strconv.Itoa(len(x.Miners))
		}
		view := map[string]any{
			"id": x.ID, "kind": x.Kind, "site_id": x.Site, "site": x.SiteName, "miner_ids": x.Miners, "from": msText(x.FromMS), "to": msText(x.ToMS), "recorded_at": msText(x.RecordedMS),
			"recorded_by": x.RecordedBy, "note": x.Note, "contracts": taken,
		}
		if x.EndedMS != 0 {
			view["ended_at"] = msText(x.EndedMS)
			end = msText(x.EndedMS) + " (shortened)"
		}
		views[i] = view
		rows = append(rows, strings.Join([]string{x.ID.String(), string(x.Kind), plain(x.SiteName), miners, msText(x.FromMS), end, msText(x.RecordedMS), state, plain(x.Note)}, "\t"))
	}
	return show(w, o, views, "EXCUSE\tKIND\tSITE\tMINERS\tFROM\tTO\tRECORDED\tCONTRACTS\tNOTE", rows)
}

func excusesCommand(o *options) *cobra.Command {
	var site, from, to, at string
	cmd := &cobra.Command{Use: "excuses", Short: "List announced maintenance and ordered curtailment, and shorten them"}
	list := &cobra.Command{
		Use: "list", Short: "List excuses with how contracts take them, the latest beginning first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			begin, err := parseMS("from", from)
			if err != nil {
				return err
			}
			end, err := parseMS("to", to)
			if err != nil {
				return err
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			all, err := hubd.Excuses(cmd.Context(), database(c, commandLog()), site, begin, end)
			if err != nil {
				return err
			}
			return showExcuses(cmd.OutOrStdout(), o, all)
		},
	}
	list.Flags().StringVar(&site, "site", "", "only this site's, by id or name")
	list.Flags().StringVar(&from, "from", "", "only what ends after this time")
	list.Flags().StringVar(&to, "to", "", "only what begins before this time")
	end := &cobra.Command{
		Use: "end EXCUSE --at TIME", Short: "Shorten an excuse; at its beginning it is called off", Args: cobra.ExactArgs(1),
		Long: "A time before now is now: what was excused until then stays so.",
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := uuid.Parse(args[0])
			if err != nil {
				return errors.New("want an excuse's id, as excuses list shows it")
			}
			ms, err := parseMS("at", at)
			if err != nil {
				return err
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			x, err := hubd.EndExcuse(cmd.Context(), database(c, commandLog()), id, ms)
			if err != nil {
				return err
			}
			return showExcuses(cmd.OutOrStdout(), o, []hubd.Excuse{x})
		},
	}
	end.Flags().StringVar(&at, "at", "", "when, such as 2026-11-01T00:00:00Z")
	_ = end.MarkFlagRequired("at") // fails only for a flag that does not exist
	cmd.AddCommand(list, end)
	return cmd
}
