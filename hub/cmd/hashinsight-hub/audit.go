package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hashinsight/hashinsight/hub/hubd"
)

func auditCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "Read, search, check and export the audit log"}
	cmd.AddCommand(auditTailCommand(o), auditSearchCommand(o), auditVerifyCommand(o), auditExportCommand(o))
	return cmd
}

// auditFilter is the flags that choose entries.
type auditFilter struct {
	hubd.AuditFilter
	since, until string
}

func (f *auditFilter) flags(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.User, "user", "", "only entries of this user, by id or e-mail; keys and sites by their id")
	fl.StringVar(&f.Action, "action", "", "only this action, such as login_failed")
	fl.StringVar(&f.Category, "category", "", "only this category: "+strings.Join(hubd.AuditCategories(), ", "))
	fl.StringVar(&f.Level, "level", "", "only this level: "+strings.Join(hubd.AuditLevels(), ", "))
	fl.StringVar(&f.since, "since", "", "only entries since then: 90m, 24h, 7d, 2026-05-01 or 2026-05-01T12:00:00Z")
	fl.StringVar(&f.until, "until", "", "only entries before then, in the same forms")
}

func (f *auditFilter) parse(now time.Time) (err error) {
	f.Level = strings.ToUpper(f.Level)
	if f.Level != "" && !slices.Contains(hubd.AuditLevels(), f.Level) {
		return fmt.Errorf("level %.40q: want one of %s", f.Level, strings.Join(hubd.AuditLevels(), ", "))
	}
	if f.Category != "" && !slices.Contains(hubd.AuditCategories(), f.Category) {
		return fmt.Errorf("category %.40q: want one of %s", f.Category, strings.Join(hubd.AuditCategories(), ", "))
	}
	if f.Since, err = parseWhen(f.since, now); err != nil {
		return fmt.Errorf("since: %w", err)
	}
	if f.Until, err = parseWhen(f.until, now); err != nil {
		return fmt.Errorf("until: %w", err)
	}
	return nil
}

// parseWhen reads a time, or how long ago it was.
func parseWhen(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := parseSpan(s); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%.40q: want a span such as 90m, 24h or 7d, or a time such as 2026-05-01 or 2026-05-01T12:00:00Z (UTC)", s)
}

// parseSpan reads a length of time in the forms of Go, or in days: 90d.
func parseSpan(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return 0, fmt.Errorf("%.40q: want a number of days such as 90d", s)
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%.40q: want a length of time such as 12h or 90d", s)
	}
	return d, nil
}

// writeAudit writes entries as a table, or as the lines of the audit file.
func writeAudit(w io.Writer, o *options, entries []hubd.AuditEntry, head bool) error {
	if o.output == "json" {
		for i := range entries {
			if _, err := fmt.Fprintf(w, "%s\n", entries[i].Line()); err != nil {
				return err
			}
		}
		return nil
	}
	rows := make([]string, len(entries))
	for i := range entries {
		e := &entries[i]
		who := e.UserID
		if e.UserEmail != "" {
			who = e.UserEmail
		}
		details := []rune(string(e.Details)) // JSON: control characters are escaped in it
		if len(details) > 120 {
			details = append(details[:119], '…')
		}
		rows[i] = fmt.Sprintf("%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s", e.Seq, e.At.UTC().Format(time.RFC3339), e.Level, e.Category, e.Action, plain(who), plain(e.IP), plain(e.Status), string(details))
	}
	title := "SEQ\tTIME\tLEVEL\tCATEGORY\tACTION\tWHO\tADDRESS\tSTATUS\tDETAILS"
	if !head {
		if len(rows) == 0 {
			return nil
		}
		title, rows = rows[0], rows[1:]
	}
	return writeTable(w, title, rows)
}

// plain keeps text from outside from moving the cursor or the columns.
func plain(s string) string {
	q := strconv.Quote(s)
	return q[1 : len(q)-1]
}

func auditTailCommand(o *options) *cobra.Command {
	var f auditFilter
	var n int
	var follow bool
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Show the newest entries, and with --follow those that come",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.parse(time.Now()); err != nil {
				return err
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			first := true
			return hubd.AuditTail(cmd.Context(), database(c, commandLog()), f.AuditFilter, n, follow, func(e []hubd.AuditEntry) error {
				defer func() { first = false }()
				return writeAudit(cmd.OutOrStdout(), o, e, first)
			})
		},
	}
	f.flags(cmd)
	cmd.Flags().IntVarP(&n, "lines", "n", 20, "how many, at most 1000")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until Ctrl-C")
	return cmd
}

func auditSearchCommand(o *options) *cobra.Command {
	var f auditFilter
	var limit int
	cmd := &cobra.Command{
		Use:   "search",
		Short: "Find entries, the newest first; -o json prints the lines of the audit file",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.parse(time.Now()); err != nil {
				return err
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			found, more, err := hubd.AuditSearch(cmd.Context(), database(c, commandLog()), f.AuditFilter, limit)
			if err != nil {
				return err
			}
			if err := writeAudit(cmd.OutOrStdout(), o, found, true); err != nil {
				return err
			}
			if more {
				fmt.Fprintf(cmd.ErrOrStderr(), "there are more: narrow the search, raise --limit (up to 999), or use audit export\n")
			}
			return nil
		},
	}
	f.flags(cmd)
	cmd.Flags().IntVar(&limit, "limit", 100, "how many, at most 999")
	return cmd
}

func auditVerifyCommand(o *options) *cobra.Command {
	var heads []string
	var noFile bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check the hash chain of the whole audit log and name the first entry that does not fit",
		Long: "Every entry's hash covers the hash before it, so that an entry that was edited, removed, moved or put in shows. That the end was\n" +
			"not cut off, or the chain written anew, shows against heads that were kept elsewhere: the one beside this host's audit file is used\n" +
			"by itself, others are given with --head. A head is what this command prints. Exit code 1 when anything does not fit.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			kept := make([]hubd.AuditHead, len(heads))
			for i, s := range heads {
				var err error
				if kept[i], err = hubd.ParseAuditHead(s); err != nil {
					return err
				}
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			path := c.AuditLogPath
			if noFile {
				path = ""
			}
			v, err := hubd.AuditVerify(cmd.Context(), database(c, commandLog()), path, kept)
			if err != nil {
				return err
			}
			if o.output == "json" {
				err = writeJSON(cmd.OutOrStdout(), map[string]any{"ok": v.OK(), "entries": v.Entries, "head": v.Head.String(), "bad_seq": v.BadSeq, "bad_event_id": v.BadID, "why": v.Why, "pending": v.Pending})
			} else {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d entries in order, head %s\n", v.Entries, v.Head)
			}
			if v.OK() {
				return err
			}
			id := ""
			if v.BadID != "" {
				id = " (" + v.BadID + ")"
			}
			return errors.Join(err, fmt.Errorf("the audit log is not as it was written: entry %d%s: %s. Keep the database as it is, and compare with a backup, the audit file or an export", v.BadSeq, id, v.Why))
		},
	}
	cmd.Flags().StringArrayVar(&heads, "head", nil, "a head that was kept, such as 120:9f86…; may be given several times")
	cmd.Flags().BoolVar(&noFile, "no-file", false, "leave the head beside this host's audit file out")
	return cmd
}

func auditExportCommand(o *options) *cobra.Command {
	var f auditFilter
	var out string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write entries as JSON lines, the oldest first, to a file or standard output",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.parse(time.Now()); err != nil {
				return err
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			var file *newFile
			if out != "" {
				if file, err = makeFile(out, 0o600, false); err != nil {
					return fmt.Errorf("the export's file: %w", err)
				}
				defer file.drop()
				w = file.tmp
			}
			n := 0
			head, err := hubd.AuditExport(cmd.Context(), database(c, commandLog()), f.AuditFilter, func(page []hubd.AuditEntry) error {
				n += len(page)
				lines := options{output: "json"}
				return writeAudit(w, &lines, page, false)
			})
			if err != nil {
				return err
			}
			if file != nil {
				if err := file.put(nil); err != nil {
					return fmt.Errorf("writing the export: %w", err)
				}
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%d entries, head %s\n", n, head)
			return nil
		},
	}
	f.flags(cmd)
	cmd.Flags().StringVar(&out, "out", "", "file to write; default: standard output")
	return cmd
}
