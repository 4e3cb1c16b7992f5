package main

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/hashinsight/hashinsight/hub/hubd"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

func customerCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "customer", Short: "Add and list customers; apikey create --customer makes a key that reads one customer's rows only"}
	cmd.AddCommand(
		&cobra.Command{
			Use: "add NAME", Short: "Add a customer", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				c, err := o.loadForWork()
				if err != nil {
					return err
				}
				u, err := hubd.AddCustomer(cmd.Context(), database(c, commandLog()), args[0])
				if err != nil {
					return err
				}
				if o.output == "json" {
					return writeJSON(cmd.OutOrStdout(), customerView(&u))
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "customer %s (%q) added\nnext: hashinsight-hub contract add --customer %s --name NAME --rate-mhs N\n", u.ID, u.Name, u.ID)
				return err
			},
		},
		&cobra.Command{
			Use: "list", Short: "List customers by name", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				c, err := o.loadForWork()
				if err != nil {
					return err
				}
				all, err := hubd.Customers(cmd.Context(), database(c, commandLog()))
				if err != nil {
					return err
				}
				views, rows := make([]any, len(all)), make([]string, len(all))
				for i := range all {
					u := &all[i]
					views[i], rows[i] = customerView(u), fmt.Sprintf("%s\t%q\t%d\t%s", u.ID, u.Name, u.Contracts, when(u.CreatedAt))
				}
				return show(cmd.OutOrStdout(), o, views, "CUSTOMER\tNAME\tCONTRACTS\tADDED", rows)
			},
		})
	return cmd
}

func customerView(u *hubd.Customer) map[string]any {
	return map[string]any{"id": u.ID, "name": u.Name, "contracts": u.Contracts, "created_at": u.CreatedAt}
}

// show prints a list as asked for.
func show(w io.Writer, o *options, views any, head string, rows []string) error {
	if o.output == "json" {
		return writeJSON(w, views)
	}
	return writeTable(w, head, rows)
}

// parseMS reads a time as ms since 1970; an empty text is 0.
func parseMS(flag, text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || t.UnixMilli() == 0 {
		return 0, fmt.Errorf("%s %.40q: want a time such as 2026-11-01T00:00:00Z", flag, text)
	}
	return t.UnixMilli(), nil
}

// msText writes ms since 1970; 0 is open.
func msText(ms int64) string {
	if ms == 0 {
		return "open"
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.999Z07:00")
}

func contractCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "contract", Short: "Add, amend and list contracts, and say which miners belong to them"}
	miners := &cobra.Command{Use: "miners", Short: "Add, end and list the miners of a contract"}
	miners.AddCommand(minersAddCommand(o), minersEndCommand(o), minersListCommand(o))
	cmd.AddCommand(contractAddCommand(o), contractAmendCommand(o), contractListCommand(o), contractShowCommand(o), miners)
	return cmd
}

// termsFlags are terms as flags. order reads those that were given.
type termsFlags struct {
	cmd   *cobra.Command
	from  string
	text  map[string]*string
	count map[string]*int64
	tiers []string
}

func addTermsFlags(cmd *cobra.Command) *termsFlags {
	t := &termsFlags{cmd: cmd, text: map[string]*string{}, count: map[string]*int64{}}
	f := cmd.Flags()
	f.StringVar(&t.from, "from", "", "from when on it holds, such as 2026-11-01T00:00:00Z; default: now")
	f.StringArrayVar(&t.tiers, "tier", nil, "credit below an availability, as PPM:BP, such as 990000:500 for 5 % below 99 %; again for each, bounds descending; none for no credits")
	for name, doc := range map[string]string{
		"metric": "what counts: time (slots up) or hashrate (default time)", "unknown": "what a slot counts as that nobody knows about: down, excused or pool (default down)",
		"currency": "of the fee, ISO 4217",
	} {
		t.text[name] = f.String(name, "", doc)
	}
	for name, doc := range map[string]string{
		"rate-mhs": "contracted hashrate of a miner, MH/s", "target-ppm": "promised availability, parts per million (default 990000)",
		"theta-ppm": "of the contracted rate, from which a slot is up (default 800000)", "degraded-ppm": "of the contracted rate, from which a slot is degraded and not down (default 100000)",
		"backfill-s": "how long after an hour its facts count, s (default 259200)", "curtail-late-s": "how long after its beginning curtailment may be recorded, s (default 900)",
		"maintenance-notice-s": "how long before its beginning maintenance must be recorded, s (default 86400)",
		"curtail-cap-slots":    "most slots of a miner and month that curtailment excuses; -1 for no cap (default -1)", "maintenance-cap-slots": "the same of maintenance (default -1)",
		"credit-cap-bp": "most credit of a month, 1/100 % of the fee (default 10000)", "fee-minor": "hosting fee of a month in minor units of the currency (default 0)",
	} {
		t.count[name] = f.Int64(name, 0, doc)
	}
	return t
}

func (t *termsFlags) order() (*hubd.TermsOrder, error) {
	out := &hubd.TermsOrder{}
	if t.from != "" {
		ms, err := parseMS("from", t.from)
		if err != nil {
			return nil, err
		}
		out.FromMS = &ms
	}
	changed := func(name string) bool { return t.cmd.Flags().Changed(name) }
	for name, to := range map[string]**string{"metric": &out.Metric, "unknown": &out.Unknown, "currency": &out.Currency} {
		if changed(name) {
			*to = t.text[name]
		}
	}
	for name, to := range map[string]**int64{
		"rate-mhs": &out.RateMHs, "target-ppm": &out.TargetPPM, "theta-ppm": &out.ThetaPPM, "degraded-ppm": &out.DegradedPPM, "backfill-s": &out.BackfillS, "curtail-late-s": &out.CurtailLateS,
		"maintenance-notice-s": &out.MaintenanceNoticeS, "curtail-cap-slots": &out.CurtailCapSlots, "maintenance-cap-slots": &out.MaintenanceCapSlots,
		"credit-cap-bp": &out.CreditCapBP, "fee-minor": &out.FeeMinor,
	} {
		if changed(name) {
			*to = t.count[name]
		}
	}
	if !changed("tier") {
		return out, nil
	}
	tiers := []hubd.Tier{}
	for _, text := range t.tiers {
		if text == "none" && len(t.tiers) == 1 {
			break
		}
		below, credit, _ := strings.Cut(text, ":")
		b, berr := strconv.ParseInt(below, 10, 64)
		c, cerr := strconv.ParseInt(credit, 10, 64)
		if err := errors.Join(berr, cerr); err != nil {
			return nil, fmt.Errorf("tier %.40q: want PPM:BP, such as 990000:500", text)
		}
		tiers = append(tiers, hubd.Tier{BelowPPM: b, CreditBP: c})
	}
	out.Tiers = &tiers
	return out, nil
}

func contractAddCommand(o *options) *cobra.Command {
	var customer, name string
	cmd := &cobra.Command{
		Use: "add --customer CUSTOMER --name NAME --rate-mhs N", Short: "Add a contract with its first terms", Args: cobra.NoArgs,
		Long: "Terms that are not given have their defaults. A name that the customer has a contract of already is refused, so the command can be repeated.",
	}
	terms := addTermsFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		order, err := terms.order()
		if err != nil {
			return err
		}
		c, err := o.loadForWork()
		if err != nil {
			return err
		}
		k, v, err := hubd.AddContract(cmd.Context(), database(c, commandLog()), customer, name, order)
		if err != nil {
			return err
		}
		return sayVersion(cmd.OutOrStdout(), o, &k, &v)
	}
	cmd.Flags().StringVar(&customer, "customer", "", "id or name of the customer")
	cmd.Flags().StringVar(&name, "name", "", "the contract's name, unique among the customer's")
	for _, name := range []string{"customer", "name", "rate-mhs"} {
		_ = cmd.MarkFlagRequired(name) // fails only for a flag that does not exist
	}
	return cmd
}

func contractAmendCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use: "amend CONTRACT", Short: "Add a version to a contract's terms", Args: cobra.ExactArgs(1),
		Long: "What is not given stays as it was. A version begins after the last one, and after every month of which a statement was issued; earlier versions never change.\n" +
			"It begins before now only in the week after the contract was recorded.",
	}
	terms := addTermsFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		order, err := terms.order()
		if err != nil {
			return err
		}
		c, err := o.loadForWork()
		if err != nil {
			return err
		}
		k, v, err := hubd.AmendContract(cmd.Context(), database(c, commandLog()), args[0], order)
		if err != nil {
			return err
		}
		return sayVersion(cmd.OutOrStdout(), o, &k, &v)
	}
	return cmd
}

func sayVersion(w io.Writer, o *options, k *hubd.Contract, v *hubd.ContractVersion) error {
	if o.output == "json" {
		view := versionView(v)
		view["contract_id"], view["contract"], view["customer_id"], view["customer"] = k.ID, k.Name, k.Customer, k.CustomerName
		return writeJSON(w, view)
	}
	_, err := fmt.Fprintf(w, "contract %s (%q of %q): version %d from %s\nhash: %x\n", k.ID, k.Name, k.CustomerName, v.Version, msText(v.FromMS), v.Hash)
	return err
}

func versionView(v *hubd.ContractVersion) map[string]any {
	return map[string]any{
		"version": v.Version, "from": msText(v.FromMS), "hash": hex.EncodeToString(v.Hash[:]), "recorded_at": v.RecordedAt, "recorded_by": v.RecordedBy, "terms": v.Terms,
	}
}

func contractListCommand(o *options) *cobra.Command {
	var customer string
	cmd := &cobra.Command{
		Use: "list", Short: "List contracts with the terms in force", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			all, err := hubd.Contracts(cmd.Context(), database(c, commandLog()), customer)
			if err != nil {
				return err
			}
			views, rows := make([]any, len(all)), make([]string, len(all))
			for i := range all {
				k := &all[i]
				views[i] = summaryView(k)
				rows[i] = fmt.Sprintf("%s\t%q\t%q\t%d\t%s\t%s\t%d\t%d", k.ID, k.CustomerName, k.Name, k.Terms.Version, msText(k.Terms.FromMS), k.Terms.Metric, k.Terms.TargetPPM, k.Miners)
			}
			return show(cmd.OutOrStdout(), o, views, "CONTRACT\tCUSTOMER\tNAME\tVERSION\tFROM\tMETRIC\tTARGET PPM\tMINERS", rows)
		},
	}
	cmd.Flags().StringVar(&customer, "customer", "", "only this customer's, by id or name")
	return cmd
}

func summaryView(k *hubd.ContractSummary) map[string]any {
	sites := make([]map[string]any, len(k.Sites))
	for i, s := range k.Sites {
		sites[i] = map[string]any{"id": s.ID, "name": s.Name}
	}
	return map[string]any{
		"id": k.ID, "customer_id": k.Customer, "customer": k.CustomerName, "name": k.Name, "created_at": k.CreatedAt, "version": k.Terms.Version, "miners": k.Miners, "sites": sites,
	}
}

func contractShowCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "show CONTRACT", Short: "Show a contract with its terms, sites, and times in which its miners have no contract", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			d, err := hubd.ShowContract(cmd.Context(), database(c, commandLog()), args[0])
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			if o.output == "json" {
				view := summaryView(&d.ContractSummary)
				versions, gaps := make([]any, len(d.Versions)), make([]any, len(d.Gaps))
				for i := range d.Versions {
					versions[i] = versionView(&d.Versions[i])
				}
				for i, g := range d.Gaps {
					gaps[i] = map[string]any{"site_id": g.Site, "miner_id": g.Miner, "from": msText(g.FromMS), "to": msText(g.ToMS)}
				}
				view["versions"], view["gaps"], view["gaps_more"] = versions, gaps, d.GapsMore
				return writeJSON(w, view)
			}
			fmt.Fprintf(w, "contract %s: %q of %q, %d miners now\n", d.ID, d.Name, d.CustomerName, d.Miners)
			for _, s := range d.Sites {
				fmt.Fprintf(w, "site %s (%s)\n", s.ID, plain(s.Name))
			}
			rows := make([]string, 0, len(d.Versions))
			for i := range d.Versions {
				v := &d.Versions[i]
				rows = append(rows, fmt.Sprintf("%d\t%s\t%x\t%s\t%s", v.Version, msText(v.FromMS), v.Hash, v.RecordedBy, v.Canonical()))
			}
			if err := writeTable(w, "VERSION\tFROM\tHASH\tRECORDED BY\tTERMS", rows); err != nil || len(d.Gaps) == 0 {
				return err
			}
			fmt.Fprintln(w, "\nminers without any contract:")
			rows = make([]string, 0, len(d.Gaps)+1)
			for _, g := range d.Gaps {
				rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s", g.Site, g.Miner, msText(g.FromMS), msText(g.ToMS)))
			}
			if d.GapsMore {
				rows = append(rows, "and more\t\t\t")
			}
			return writeTable(w, "SITE\tMINER\tFROM\tTO", rows)
		},
	}
}

// maxIDsFile bounds a file of ids.
const maxIDsFile = 1 << 20

// readMiners reads ids of miners from flags and from a file with one on each line.
func readMiners(ids []string, file string) ([]ident.MinerID, error) {
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }() // only read
		lines := bufio.NewScanner(io.LimitReader(f, maxIDsFile))
		for lines.Scan() {
			if line := strings.TrimSpace(lines.Text()); line != "" {
				ids = append(ids, line)
			}
		}
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	out := make([]ident.MinerID, len(ids))
	for i, id := range ids {
		var err error
		if out[i], err = ident.ParseMinerID(id); err != nil {
			return nil, fmt.Errorf("miner %.60q: want an id, as the page and /api/miners show it", id)
		}
	}
	return out, nil
}

func minersAddCommand(o *options) *cobra.Command {
	var order hubd.MinersOrder
	var miners []string
	var file, from, to string
	cmd := &cobra.Command{
		Use: "add CONTRACT --site SITE --from TIME (--miner ID | --file FILE | --all)", Short: "Give miners of a site to a contract: all of them or none", Args: cobra.ExactArgs(1),
		Long: "A miner has one contract at a time: one that has another then is refused, and that named. The same command again changes nothing.\n" +
			"--from may lie before now in the week after the contract was recorded, and not later: nobody adds miners that are known to have been up.",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			order.Contract = args[0]
			if order.Miners, err = readMiners(miners, file); err != nil {
				return err
			}
			if order.All == (len(order.Miners) > 0) {
				return errors.New("name miners with --miner or --file, or give --all for all of the site")
			}
			if order.FromMS, err = parseMS("from", from); err != nil {
				return err
			}
			if order.ToMS, err = parseMS("to", to); err != nil {
				return err
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			made, err := hubd.AssignMiners(cmd.Context(), database(c, commandLog()), order)
			if err != nil {
				return err
			}
			return showAssignments(cmd.OutOrStdout(), o, made)
		},
	}
	f := cmd.Flags()
	f.StringVar(&order.Site, "site", "", "id or name of the site")
	f.StringSliceVar(&miners, "miner", nil, "id of a miner; several separated by commas")
	f.StringVar(&file, "file", "", "file with the id of a miner on each line")
	f.BoolVar(&order.All, "all", false, "all miners that the hub knows of the site")
	f.StringVar(&from, "from", "", "from when on, such as 2026-11-01T00:00:00Z")
	f.StringVar(&to, "to", "", "until when; default: open")
	f.Int64Var(&order.RateMHs, "rate-mhs", 0, "contracted hashrate of each, MH/s; default: the terms'")
	for _, name := range []string{"site", "from"} {
		_ = cmd.MarkFlagRequired(name) // fails only for a flag that does not exist
	}
	return cmd
}

func assignmentRow(a *hubd.Assignment) (map[string]any, string) {
	var ended any // none
	if !a.EndedAt.IsZero() {
		ended = a.EndedAt
	}
	return map[string]any{
		"id": a.ID, "site_id": a.Site, "site": a.SiteName, "miner_id": a.Miner, "address": a.Address, "from": msText(a.FromMS), "to": msText(a.ToMS), "rate_mhs": a.RateMHs, "recorded_at": a.RecordedAt, "ended_at": ended,
	}, fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s", a.ID, plain(a.SiteName), a.Miner, plain(a.Address), msText(a.FromMS), msText(a.ToMS), a.RateMHs, when(a.RecordedAt))
}

const assignmentHead = "ASSIGNMENT\tSITE\tMINER\tADDRESS\tFROM\tTO\tRATE MH/S\tRECORDED"

func showAssignments(w io.Writer, o *options, list []hubd.Assignment) error {
	views, rows := make([]any, len(list)), make([]string, len(list))
	for i := range list {
		views[i], rows[i] = assignmentRow(&list[i])
	}
	return show(w, o, views, assignmentHead, rows)
}

func minersEndCommand(o *options) *cobra.Command {
	var ids []string
	var at string
	cmd := &cobra.Command{
		Use: "end CONTRACT --assignment ID", Short: "End miners' time in a contract: all of them or none", Args: cobra.ExactArgs(1),
		Long: "What a miner owed until now stays owed: --at does not lie in the past. To call an assignment off give its own beginning, before that or within an hour of its recording.\n" +
			"To replace a miner, end its assignment and add the other's.",
		RunE: func(cmd *cobra.Command, args []string) error {
			ms, err := parseMS("at", at)
			if err != nil {
				return err
			}
			list := make([]uuid.UUID, len(ids))
			for i, id := range ids {
				if list[i], err = uuid.Parse(id); err != nil {
					return fmt.Errorf("assignment %.60q: want an id, as contract miners list shows it", id)
				}
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			ended, err := hubd.EndMiners(cmd.Context(), database(c, commandLog()), args[0], list, ms)
			if err != nil {
				return err
			}
			return showAssignments(cmd.OutOrStdout(), o, ended)
		},
	}
	cmd.Flags().StringSliceVar(&ids, "assignment", nil, "id of an assignment; several separated by commas")
	cmd.Flags().StringVar(&at, "at", "", "when, such as 2026-11-01T00:00:00Z; default: now")
	_ = cmd.MarkFlagRequired("assignment") // fails only for a flag that does not exist
	return cmd
}

func minersListCommand(o *options) *cobra.Command {
	var at string
	cmd := &cobra.Command{
		Use: "list CONTRACT", Short: "List which miners belong to a contract from when to when, those that left too", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ms, err := parseMS("at", at)
			if err != nil {
				return err
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			var all []hubd.Assignment
			if err := hubd.ContractMiners(cmd.Context(), database(c, commandLog()), args[0], ms, func(page []hubd.Assignment) { all = append(all, page...) }); err != nil {
				return err
			}
			return showAssignments(cmd.OutOrStdout(), o, all)
		},
	}
	cmd.Flags().StringVar(&at, "at", "", "only those that belong to it at this time")
	return cmd
}
