package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hashinsight/hashinsight/hub/hubd"
)

func jobsCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "jobs", Short: "Look at the background work that all hub processes share"}
	var states []string
	var limit int
	list := &cobra.Command{
		Use:   "list",
		Short: "List the newest jobs with their outcome",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, s := range states {
				if !slices.Contains(hubd.JobStates(), s) {
					return fmt.Errorf("state %.40q: want one of %s", s, strings.Join(hubd.JobStates(), ", "))
				}
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			jobs, err := hubd.Jobs(cmd.Context(), database(c, commandLog()), states, limit)
			if err != nil {
				return err
			}
			if o.output == "json" {
				return writeJSON(cmd.OutOrStdout(), jobs)
			}
			rows := make([]string, len(jobs))
			for i, j := range jobs {
				took := ""
				if j.StartedAt != nil && j.EndedAt != nil {
					took = j.EndedAt.Sub(*j.StartedAt).Round(time.Millisecond).String()
				}
				rows[i] = strings.Join([]string{
					strconv.FormatInt(j.ID, 10), j.Kind, j.State, fmt.Sprintf("%d/%d", j.Attempt, j.MaxAttempts), j.DueAt.UTC().Format(time.RFC3339), took,
					strings.Join(strings.Fields(j.LastError), " "),
				}, "\t")
			}
			return writeTable(cmd.OutOrStdout(), "JOB\tKIND\tSTATE\tATTEMPT\tDUE\tTOOK\tLAST ERROR", rows)
		},
	}
	list.Flags().StringSliceVar(&states, "state", nil, "only jobs in these states: "+strings.Join(hubd.JobStates(), ", "))
	list.Flags().IntVar(&limit, "limit", 50, "how many, at most 1000")
	cmd.AddCommand(list)
	return cmd
}
