package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/hashinsight/hashinsight/hub/hubd"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// contractMonth are the flags that name a contract's month.
type contractMonth struct{ contract, month string }

func (f *contractMonth) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.contract, "contract", "", "id or name of the contract")
	cmd.Flags().StringVar(&f.month, "month", "", "the month in UTC, such as 2026-11")
	for _, name := range []string{"contract", "month"} {
		_ = cmd.MarkFlagRequired(name) // fails only for a flag that does not exist
	}
}

func (f *contractMonth) find(ctx context.Context, db hubd.Database) (id uuid.UUID, m hubd.Month, err error) {
	if m, err = hubd.ParseMonth(f.month); err != nil {
		return id, m, fmt.Errorf("--month: %w", err)
	}
	id, err = hubd.FindContract(ctx, db, f.contract)
	return id, m, err
}

// ppm writes parts per million as per cent.
func ppm(v *int64) string {
	if v == nil {
		return "nothing due"
	}
	return fmt.Sprintf("%d.%04d %%", *v/10_000, *v%10_000)
}

// credit writes a credit in both its forms.
func credit(bp, minor int64, currency string) string {
	text := fmt.Sprintf("%d.%02d %%", bp/100, bp%100)
	if currency != "" {
		text += fmt.Sprintf(", %d minor units of %s", minor, currency)
	}
	return text
}

func slaCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sla",
		Short: "Look at what a contract's month has come to, and why a slot is what it is",
		Long: "The numbers are kept day by day and computed again as data arrives. They stay provisional until the month's statement is issued.\n" +
			"Works beside a running hub.",
	}
	cmd.AddCommand(slaShowCommand(o), slaWhyCommand(o))
	return cmd
}

func slaShowCommand(o *options) *cobra.Command {
	var of contractMonth
	cmd := &cobra.Command{
		Use:   "show --contract CONTRACT --month MONTH",
		Short: "Show a month's availability, allowance, burn-down and credit",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			id, m, err := of.find(cmd.Context(), database(c, commandLog()))
			if err != nil {
				return err
			}
			v, err := hubd.LiveSLA(cmd.Context(), database(c, commandLog()), id, m)
			if err != nil {
				return err
			}
			if o.output == "json" {
				return writeJSON(cmd.OutOrStdout(), v)
			}
			w := cmd.OutOrStdout()
			met := "nothing due"
			if v.Met != nil {
				met = map[bool]string{true: "met", false: "missed"}[*v.Met]
			}
			rows := []string{
				"state\t" + string(v.State), "metric\t" + string(v.Metric), "target\t" + ppm(&v.TargetPPM), "availability\t" + ppm(v.AvailabilityPPM), "target so far\t" + met,
				fmt.Sprintf("slots due\t%d", v.Due), fmt.Sprintf("allowance\t%d", v.Allowance), fmt.Sprintf("missed\t%d", v.Missed),
				"credit\t" + credit(v.CreditBP, v.CreditMinor, v.Currency),
				fmt.Sprintf("up, degraded, down\t%d, %d, %d", v.Slots.Up, v.Slots.Degraded, v.Slots.Down),
				fmt.Sprintf("unknown: open, down, excused\t%d, %d, %d", v.Slots.UnknownOpen, v.Slots.UnknownDown, v.Slots.UnknownExcused),
				fmt.Sprintf("curtailed, maintained\t%d, %d", v.Slots.Curtailment, v.Slots.Maintenance),
			}
			if v.Statement != "" {
				rows = append(rows, "statement\t"+v.Statement)
			}
			for _, t := range v.WaitingFor {
				rows = append(rows, "waits for\t"+t)
			}
			if err := writeTable(w, v.Month.String()+"\t"+id.String(), rows); err != nil {
				return err
			}
			days := make([]string, len(v.BurnDown))
			for i, d := range v.BurnDown {
				days[i] = fmt.Sprintf("%s\t%d\t%d", d.Day.Format(time.DateOnly), d.Missed, d.AllowanceLeft)
			}
			fmt.Fprintln(w)
			return writeTable(w, "DAY\tMISSED\tALLOWANCE LEFT", days)
		},
	}
	of.add(cmd)
	return cmd
}

func slaWhyCommand(o *options) *cobra.Command {
	var contract, site, miner, at string
	cmd := &cobra.Command{
		Use:   "why --contract CONTRACT --site SITE --miner MINER --at TIME",
		Short: "Say why a slot is up, or not: rule, numbers, excuses, polls and their batches",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var m hubd.ContractMiner
			var err error
			if m.Miner, err = ident.ParseMinerID(miner); err != nil {
				return fmt.Errorf("--miner: %w", err)
			}
			t, err := parseWhen(at, time.Now())
			if err != nil {
				return fmt.Errorf("--at: %w", err)
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			id, err := hubd.FindContract(cmd.Context(), database(c, commandLog()), contract)
			if err != nil {
				return err
			}
			if m.Site, err = hubd.FindSite(cmd.Context(), database(c, commandLog()), site); err != nil {
				return err
			}
			why, err := hubd.WhySlot(cmd.Context(), database(c, commandLog()), evidencePlace(c), id, m, t)
			if err != nil {
				return err
			}
			if o.output == "json" {
				return writeJSON(cmd.OutOrStdout(), why)
			}
			return writeTable(cmd.OutOrStdout(), "SLOT FROM\t"+msText(why.SlotMS), whyRows(&why))
		},
	}
	f := cmd.Flags()
	f.StringVar(&contract, "contract", "", "id or name of the contract")
	f.StringVar(&site, "site", "", "id or name of the site")
	f.StringVar(&miner, "miner", "", "the miner's id")
	f.StringVar(&at, "at", "", "a moment in the slot, such as 2026-11-03T12:07:00Z, or how long ago, such as 2h")
	for _, name := range []string{"contract", "site", "miner", "at"} {
		_ = cmd.MarkFlagRequired(name)
	}
	return cmd
}

// slotReasons are the reasons of package sla in words.
var slotReasons = map[string]string{
	"no_assignment":   "the miner did not belong to the contract when the slot began",
	"no_terms":        "no terms of the contract held",
	"curtailment":     "it was curtailed on order",
	"maintenance":     "maintenance was announced in time",
	"enough_work":     "the miner did enough work",
	"some_work":       "the miner did too little work to be up",
	"too_little_work": "the miner did too little work to be degraded",
	"no_answer":       "the miner was polled and did not answer",
	"not_measurable":  "the miner answered, and nothing it told measures its work",
	"not_over":        "the slot has not ended",
	"no_record":       "no signed hour has this miner yet",
	"no_polls":        "the site signed that it made no poll",
	"too_late":        "the site's facts came after the backfill deadline",
	"clock_wrong":     "the site's clock was more than 30 s from the hub's",
	"disputed":        "the site signed something else than its batches say",
}

func whyRows(w *hubd.SlotWhy) []string {
	rows := []string{"verdict\t" + string(w.State.Letter()), "because\t" + cmp.Or(slotReasons[string(w.Reason)], string(w.Reason))}
	if w.NeedMH > 0 {
		rows = append(rows, fmt.Sprintf("work\t%d MH; up from %d, degraded from %d, contracted %d", w.Facts.Hashes, w.UpMH, w.DegradedMH, w.NeedMH),
			fmt.Sprintf("polls\t%d made, %d answered", w.Facts.Polls, w.Facts.Answered), "facts count until\t"+msText(w.DeadlineMS))
	}
	for i := range w.Excuses {
		x := &w.Excuses[i]
		rows = append(rows, fmt.Sprintf("excuse\t%s %s, recorded %s: %s", x.Excuse.Kind, x.Excuse.ID, msText(x.Excuse.RecordedMS), x.Reason))
	}
	for i := range w.Hours {
		h := &w.Hours[i]
		rows = append(rows, fmt.Sprintf("signed hour\t%s, batch %d of spool %s, header %x", h.State, h.InSeq, h.InSpool, h.Header))
	}
	if w.PollsGone != "" {
		rows = append(rows, "polls\t"+w.PollsGone)
	}
	for i := range w.Polls {
		p := &w.Polls[i]
		rate := "no hashrate"
		if v, ok := p.Hashrate.Get(); ok {
			rate = fmt.Sprintf("%.1f TH/s", v.Terahashes())
		}
		rows = append(rows, fmt.Sprintf("poll\t%s %s %s, %s, batch %d of spool %s", p.At.UTC().Format(time.RFC3339), p.Outcome, p.State, rate, p.Seq, p.Spool))
	}
	return rows
}

func statementCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "statement",
		Short: "List, issue, check and export signed statements of contracts' months",
		Long: "A statement is issued by the hub by itself once its month is over, the backfill deadline has passed and all evidence of its hours is there.\n" +
			"It is never changed: statement restate issues one that supersedes it. Works beside a running hub.",
	}
	cmd.AddCommand(statementListCommand(o), statementShowCommand(o), statementIssueCommand(o), statementRestateCommand(o), statementRecomputeCommand(o), statementExportCommand(o))
	return cmd
}

// statementView is a statement as printed.
type statementView struct {
	Hash            string    `json:"hash"`
	Contract        string    `json:"contract"`
	ContractName    string    `json:"contract_name"`
	Month           string    `json:"month"`
	Seq             int       `json:"seq"`
	IssuedAt        time.Time `json:"issued_at"`
	Key             string    `json:"key_id"`
	Supersedes      string    `json:"supersedes,omitempty"`
	SupersededBy    string    `json:"superseded_by,omitempty"`
	Reason          string    `json:"reason,omitempty"`
	AvailabilityPPM *int64    `json:"availability_ppm,omitempty"`
	Met             bool      `json:"met"`
	CreditBP        int64     `json:"credit_bp"`
	CreditMinor     int64     `json:"credit_minor"`
	Currency        string    `json:"currency,omitempty"`
}

func viewStatement(l *hubd.StatementLine) statementView {
	v := statementView{
		Hash: hex.EncodeToString(l.Hash[:]), Contract: l.Contract.String(), ContractName: l.ContractName, Month: l.Month.String(), Seq: l.Seq, IssuedAt: l.IssuedAt.UTC(), Key: l.Key.String(),
		Reason: l.Reason, AvailabilityPPM: l.AvailabilityPPM, Met: l.Met, CreditBP: l.CreditBP, CreditMinor: l.CreditMinor, Currency: l.Currency,
	}
	if l.Supersedes != (hubd.StatementHash{}) {
		v.Supersedes = hex.EncodeToString(l.Supersedes[:])
	}
	if l.SupersededBy != (hubd.StatementHash{}) {
		v.SupersededBy = hex.EncodeToString(l.SupersededBy[:])
	}
	return v
}

func statementListCommand(o *options) *cobra.Command {
	var contract string
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List statements, the newest first, and the months that wait for one",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			var id uuid.UUID
			if contract != "" {
				if id, err = hubd.FindContract(cmd.Context(), database(c, commandLog()), contract); err != nil {
					return err
				}
			}
			list, waiting, err := hubd.Statements(cmd.Context(), database(c, commandLog()), id, limit)
			if err != nil {
				return err
			}
			views, rows := make([]statementView, len(list)), make([]string, 0, len(list)+len(waiting))
			for _, w := range waiting {
				rows = append(rows, fmt.Sprintf("(waits)\t%s\t%s\t\t\t\t\t%s", w.Month, w.Contract, strings.Join(w.For, "; ")))
			}
			for i := range list {
				v := viewStatement(&list[i])
				views[i] = v
				counts := "counts"
				if v.SupersededBy != "" {
					counts = "superseded"
				}
				rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s", v.Hash, v.Month, v.Contract, v.Seq, v.IssuedAt.Format(time.RFC3339), ppm(v.AvailabilityPPM),
					credit(v.CreditBP, v.CreditMinor, v.Currency), counts))
			}
			if o.output == "json" {
				return writeJSON(cmd.OutOrStdout(), map[string]any{"statements": views, "waiting": waiting})
			}
			return writeTable(cmd.OutOrStdout(), "STATEMENT\tMONTH\tCONTRACT\tSEQ\tISSUED\tAVAILABILITY\tCREDIT\tSTATE", rows)
		},
	}
	cmd.Flags().StringVar(&contract, "contract", "", "only this contract's, by id or name")
	cmd.Flags().IntVar(&limit, "limit", 100, "how many, at most 1000")
	return cmd
}

// parseStatement reads a statement's hash.
func parseStatement(text string) (h hubd.StatementHash, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(h) {
		return h, fmt.Errorf("STATEMENT %.80q: want the 64 hexadecimal digits that statement list shows", text)
	}
	return hubd.StatementHash(b), nil
}

func statementShowCommand(o *options) *cobra.Command {
	var raw bool
	cmd := &cobra.Command{
		Use:   "show STATEMENT",
		Short: "Show a statement, and of a restatement what it changed; with --bytes the signed bytes alone",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			hash, err := parseStatement(args[0])
			if err != nil {
				return err
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			st, err := hubd.Statement(cmd.Context(), database(c, commandLog()), hash)
			if err != nil {
				return err
			}
			if raw {
				_, err := cmd.OutOrStdout().Write(st.Bytes)
				return err
			}
			v := viewStatement(&st.Line)
			if o.output == "json" {
				return writeJSON(cmd.OutOrStdout(), map[string]any{
					"statement": v, "engine": st.Engine, "bytes": st.Bytes, "signature": st.Signature, "public_key": st.PublicKey, "changes": st.Changes,
				})
			}
			return writeTable(cmd.OutOrStdout(), "STATEMENT\t"+v.Hash, statementRows(&v, &st))
		},
	}
	cmd.Flags().BoolVar(&raw, "bytes", false, "write the signed bytes and nothing else")
	return cmd
}

func statementRows(v *statementView, st *hubd.IssuedStatement) []string {
	rows := []string{
		"contract\t" + v.Contract + " " + plain(v.ContractName), "month\t" + v.Month, fmt.Sprintf("number of the month\t%d", v.Seq), "issued\t" + v.IssuedAt.Format(time.RFC3339),
		fmt.Sprintf("engine\t%d", st.Engine), "availability\t" + ppm(v.AvailabilityPPM), fmt.Sprintf("target met\t%t", v.Met), "credit\t" + credit(v.CreditBP, v.CreditMinor, v.Currency),
		"signed with key\t" + v.Key, fmt.Sprintf("bytes\t%d", len(st.Bytes)),
	}
	if v.Supersedes != "" {
		rows = append(rows, "supersedes\t"+v.Supersedes, "reason\t"+plain(v.Reason))
	}
	if v.SupersededBy != "" {
		rows = append(rows, "superseded by\t"+v.SupersededBy)
	}
	if ch := st.Changes; ch != nil {
		rows = append(rows, fmt.Sprintf("credit changed by\t%+d in 1/10000 of the fee, %+d in minor units", ch.CreditBP, ch.CreditMinor),
			fmt.Sprintf("slots changed by\t%+d up, %+d degraded, %+d down, %+d unknown and down, %+d unknown and excused, %+d curtailed, %+d maintained",
				ch.Slots.Up, ch.Slots.Degraded, ch.Slots.Down, ch.Slots.UnknownDown, ch.Slots.UnknownExcused, ch.Slots.Curtailment, ch.Slots.Maintenance),
			fmt.Sprintf("miners, hours changed\t%d, %d", ch.Miners, ch.Hours))
		if ch.AvailabilityPPM != nil {
			rows = append(rows, fmt.Sprintf("availability changed by\t%+d ppm", *ch.AvailabilityPPM))
		}
		for _, in := range ch.Inputs {
			rows = append(rows, "input changed\t"+plain(in))
		}
	}
	return rows
}

func statementIssueCommand(o *options) *cobra.Command {
	var of contractMonth
	cmd := &cobra.Command{
		Use:   "issue --contract CONTRACT --month MONTH",
		Short: "Issue a month's statement now, if nothing keeps it; the hub does so by itself within minutes",
		Long:  "What it waits for cannot be skipped: a statement that leaves out evidence on its way would have to be restated.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			id, m, err := of.find(cmd.Context(), database(c, commandLog()))
			if err != nil {
				return err
			}
			hash, err := hubd.IssueStatement(cmd.Context(), database(c, commandLog()), id, m)
			if err != nil {
				return err
			}
			return printHash(cmd, o, hash)
		},
	}
	of.add(cmd)
	return cmd
}

func printHash(cmd *cobra.Command, o *options, hash hubd.StatementHash) error {
	if o.output == "json" {
		return writeJSON(cmd.OutOrStdout(), map[string]any{"hash": hex.EncodeToString(hash[:])})
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%x\n", hash)
	return err
}

func statementRestateCommand(o *options) *cobra.Command {
	var of contractMonth
	var reason, until string
	cmd := &cobra.Command{
		Use:   "restate --contract CONTRACT --month MONTH --reason TEXT",
		Short: "Issue a statement that supersedes a month's newest one, computed anew from the signed facts",
		Long: "The one before stays as it is, and the new one names it. With --accept-until facts count that had come until then, although the terms'\n" +
			"deadline had passed. Money moves by the difference, which statement show tells.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			accept, err := parseWhen(until, time.Now())
			if err != nil {
				return fmt.Errorf("--accept-until: %w", err)
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			id, m, err := of.find(cmd.Context(), database(c, commandLog()))
			if err != nil {
				return err
			}
			hash, err := hubd.RestateStatement(cmd.Context(), database(c, commandLog()), hubd.Restatement{Contract: id, Month: m, Reason: reason, AcceptUntil: accept})
			if err != nil {
				return err
			}
			return printHash(cmd, o, hash)
		},
	}
	of.add(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the customer: it stands in the statement")
	cmd.Flags().StringVar(&until, "accept-until", "", "facts that came until this time count: a time such as 2026-12-20T12:00:00Z, or how long ago; default: as in the statement before")
	_ = cmd.MarkFlagRequired("reason")
	return cmd
}

func statementRecomputeCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "recompute STATEMENT",
		Short: "Compute a statement again from the archived evidence alone, and compare every byte",
		Long: "Reads the signed batches, from the database or the archive, checks the sites' signatures, makes the facts of every hour from them, compares\n" +
			"them with the signed roots, and computes days, month and statement; nothing that the hub has kept of its own computations is used. Each step\n" +
			"is printed. Exit code 0: the same bytes; 1: different; 3: it could not be checked.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			hash, err := parseStatement(args[0])
			if err != nil {
				return withExit(exitUnchecked, err)
			}
			c, err := o.loadForWork()
			if err != nil {
				return withExit(exitUnchecked, err)
			}
			w := cmd.OutOrStdout()
			if o.output == "json" {
				w = cmd.ErrOrStderr()
			}
			v, err := hubd.RecomputeStatement(cmd.Context(), database(c, commandLog()), evidencePlace(c), hash, w)
			if err != nil {
				return withExit(exitUnchecked, fmt.Errorf("statement %x could not be checked: %w", hash[:8], err))
			}
			if o.output == "json" {
				if err := writeJSON(cmd.OutOrStdout(), map[string]any{"same": v.Same, "differences": v.Differences}); err != nil {
					return err
				}
			}
			if !v.Same {
				return fmt.Errorf("statement %x is not what the evidence gives: %d differences. Keep database and archive as they are, and compare with a backup", hash[:8], len(v.Differences))
			}
			return nil
		},
	}
}

func statementExportCommand(o *options) *cobra.Command {
	var out string
	var batches bool
	cmd := &cobra.Command{
		Use:   "export STATEMENT --out DIRECTORY",
		Short: "Write a statement with everything it was made from to a new directory, for somebody else to check",
		Long: "hashinsight-verify recompute DIRECTORY checks it, without this hub. With --batches it computes the facts from the signed batches as well; these hold all\n" +
			"miners of the sites, those of other customers too, and are some gigabytes for a large site's month. EVIDENCE_URL says where they lie.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			hash, err := parseStatement(args[0])
			if err != nil {
				return err
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			if _, err := os.Lstat(out); err == nil {
				return fmt.Errorf("--out: %s exists already: name a directory that does not", out)
			}
			tmp, err := os.MkdirTemp(filepath.Dir(filepath.Clean(out)), ".hsi-*") // whole under its name or not at all
			if err != nil {
				return fmt.Errorf("--out: %w", err)
			}
			defer func() {
				if err != nil {
					err = errors.Join(err, os.RemoveAll(tmp))
				}
			}()
			files, err := hubd.ExportStatement(cmd.Context(), database(c, commandLog()), evidencePlace(c), hash, tmp, batches)
			if err != nil {
				return err
			}
			if err := os.Rename(tmp, out); err != nil {
				return fmt.Errorf("--out: %w", err)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%d files: hashinsight-verify recompute checks them, README.txt says how\n", files)
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "the directory to make")
	_ = cmd.MarkFlagRequired("out")
	cmd.Flags().BoolVar(&batches, "batches", false, "write the signed batches too, of all miners of the sites")
	return cmd
}
