package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/hashinsight/hashinsight/hub/hubd"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/proof"
)

func logCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Read and check the transparency log",
		Long: "The hub keeps one append-only log of what sites signed and what it issued: signed hours, keys, hashes of terms and excuses, statements, heads of the\n" +
			"audit log. Every checkpoint is signed, and holds the hub to all that is under it. Works beside a running hub.",
	}
	cmd.AddCommand(logCheckpointCommand(o), logListCommand(o), logShowCommand(o), logFsckCommand(o), logRebuildCommand(o))
	return cmd
}

// logView is how the log is, as printed.
type logView struct {
	Origin      string     `json:"origin"`
	PublicKey   string     `json:"public_key"` // as tools for signed notes take it
	Size        uint64     `json:"size"`
	Root        string     `json:"root,omitempty"`
	PublishedAt *time.Time `json:"published_at,omitempty"`
	Checkpoint  string     `json:"checkpoint,omitempty"`
	Entries     int64      `json:"entries"`
	Pending     int64      `json:"pending"`
	Behind      int64      `json:"behind"`
	Halted      string     `json:"halted,omitempty"`
	Blocked     string     `json:"blocked,omitempty"`
}

func logCheckpointCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "checkpoint",
		Short: "Show the newest signed checkpoint and how the log is",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			st, key, err := hubd.TransparencyLog(cmd.Context(), database(c, commandLog()), transparency(c))
			if err != nil {
				return err
			}
			v := logView{Origin: st.Origin, PublicKey: key, Size: st.Newest.Size, Entries: st.Entries, Pending: st.Pending, Behind: st.Behind, Halted: st.Halted, Blocked: st.Blocked}
			if v.Size > 0 {
				v.Root, v.PublishedAt, v.Checkpoint = hex.EncodeToString(st.Newest.Root[:]), &st.Newest.PublishedAt, string(st.Newest.Note)
			}
			if o.output == "json" {
				return writeJSON(cmd.OutOrStdout(), v)
			}
			w := cmd.OutOrStdout()
			if v.Size == 0 {
				fmt.Fprintln(w, "no checkpoint has been signed yet")
			} else {
				fmt.Fprintf(w, "%s\nsigned at %s\n", v.Checkpoint, v.PublishedAt.Format(time.RFC3339))
			}
			fmt.Fprintf(w, "public key %s\n%d entries have their place, %d wait for it\n", v.PublicKey, v.Entries, v.Pending)
			if v.Behind > 0 {
				fmt.Fprintf(w, "BEHIND: the tiles have %d entries that the database lacks; a running hub reads them back\n", v.Behind)
			}
			if v.Halted != "" {
				fmt.Fprintf(w, "HALTED: %s\n", plain(v.Halted))
			}
			if v.Blocked != "" {
				fmt.Fprintf(w, "BLOCKED: %s\n", plain(v.Blocked))
			}
			return nil
		},
	}
}

// logEntryView is an entry as printed.
type logEntryView struct {
	Index    uint64    `json:"index"`
	Kind     string    `json:"kind"`
	At       time.Time `json:"at"`
	Says     string    `json:"says"`
	LeafHash string    `json:"leaf_hash"`
	Bytes    string    `json:"bytes"`
}

func viewLogEntry(e *hubd.LogEntry) logEntryView {
	leaf := e.Entry.LeafHash()
	return logEntryView{
		e.Index, e.Entry.Kind.String(), time.UnixMilli(e.Entry.AtMS).UTC(), entrySays(&e.Entry), hex.EncodeToString(leaf[:]), hex.EncodeToString(e.Entry.Bytes()),
	}
}

// entrySays says for a person what an entry records.
func entrySays(e *proof.Entry) string {
	event := map[proof.KeyEvent]string{proof.KeyAdded: "added", proof.KeyRetired: "retired"}
	switch e.Kind {
	case proof.EntryHour:
		if b, err := proof.ParseHourBody(e.Body); err == nil {
			return fmt.Sprintf("site %s signed %d leaves of %s", b.Hour.Site, b.Hour.Leaves, time.Unix(int64(b.Hour.Hour)*3600, 0).UTC().Format(hourForm))
		}
	case proof.EntrySiteKey:
		if b, err := proof.ParseSiteKeyBody(e.Body); err == nil {
			return fmt.Sprintf("key %s of site %s %s", ident.KeyIDOf(b.Public[:]), b.Site, event[b.Event])
		}
	case proof.EntryHubKey:
		if b, err := proof.ParseHubKeyBody(e.Body); err == nil {
			role := map[proof.HubKeyRole]string{proof.HubKeyEvidence: "acknowledgements and statements", proof.HubKeyCheckpoint: "checkpoints"}[b.Role]
			return fmt.Sprintf("the hub's key %x for %s %s", b.Public, role, event[b.Event])
		}
	case proof.EntryTerms:
		if b, err := proof.ParseTermsBody(e.Body); err == nil {
			return fmt.Sprintf("version %d of contract %s: %x", b.Version, uuid.UUID(b.Contract), b.Hash)
		}
	case proof.EntryExcuse:
		if b, err := proof.ParseExcuseBody(e.Body); err == nil {
			return fmt.Sprintf("excuse %s: %x", uuid.UUID(b.ID), b.Hash)
		}
	case proof.EntryStatement, proof.EntryRestatement:
		if b, err := proof.ParseStatementBody(e.Body); err == nil {
			text := fmt.Sprintf("statement %x of contract %s for %s", b.Hash, uuid.UUID(b.Contract), hubd.Month(b.Month))
			if e.Kind == proof.EntryRestatement {
				text += fmt.Sprintf(", supersedes %x", b.Supersedes)
			}
			return text
		}
	case proof.EntryAuditHead:
		if b, err := proof.ParseAuditHeadBody(e.Body); err == nil {
			return fmt.Sprintf("audit log up to entry %d: %x", b.Seq, b.Hash)
		}
	}
	return "bytes that no entry of this kind has"
}

func logListCommand(o *options) *cobra.Command {
	var kind string
	var before uint64
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List entries, the newest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			list, err := hubd.LogEntries(cmd.Context(), database(c, commandLog()), kind, before, min(limit, hubd.MaxLogPage))
			if err != nil {
				return err
			}
			views, rows := make([]logEntryView, len(list)), make([]string, len(list))
			for i := range list {
				v := viewLogEntry(&list[i])
				views[i] = v
				rows[i] = fmt.Sprintf("%d\t%s\t%s\t%s", v.Index, v.Kind, v.At.Format(time.RFC3339), v.Says)
			}
			if o.output == "json" {
				return writeJSON(cmd.OutOrStdout(), views)
			}
			return writeTable(cmd.OutOrStdout(), "INDEX\tKIND\tAT\tSAYS", rows)
		},
	}
	cmd.Flags().StringVar(&kind, "kind", "", "only entries of this kind, such as hour or statement")
	cmd.Flags().Uint64Var(&before, "before", 0, "only entries before this one")
	cmd.Flags().IntVar(&limit, "limit", 50, fmt.Sprintf("how many to show, at most %d", hubd.MaxLogPage))
	return cmd
}

func logShowCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "show INDEX",
		Short: "Show one entry with its bytes, as JSON",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			index, err := strconv.ParseUint(args[0], 10, 63)
			if err != nil {
				return fmt.Errorf("INDEX %.30q: want a number, as log list shows it", args[0])
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			e, err := hubd.LogEntryAt(cmd.Context(), database(c, commandLog()), index)
			if err != nil {
				return err
			}
			return writeJSON(cmd.OutOrStdout(), viewLogEntry(&e))
		},
	}
}

// fsckView is what a check found, as printed.
type fsckView struct {
	OK          bool     `json:"ok"`
	Entries     uint64   `json:"entries"`
	Tiles       int      `json:"tiles"`
	Checkpoints int      `json:"checkpoints"`
	Records     int      `json:"records"`
	Pending     int64    `json:"pending"`
	Problems    []string `json:"problems"`
	More        int      `json:"more_problems"`
}

func logFsckCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "fsck",
		Short: "Read the whole log and compare rows, tiles, checkpoints and what they record; fails when something does not fit",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			v, err := hubd.CheckLog(cmd.Context(), database(c, commandLog()), transparency(c), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if o.output == "json" {
				err = writeJSON(cmd.OutOrStdout(), fsckView{v.OK(), v.Entries, v.Tiles, v.Checkpoints, v.Records, v.Pending, append([]string{}, v.Problems...), v.More})
			} else {
				for _, p := range v.Problems {
					fmt.Fprintln(cmd.OutOrStdout(), plain(p))
				}
				if v.More > 0 {
					fmt.Fprintf(cmd.OutOrStdout(), "and %d more\n", v.More)
				}
			}
			if err == nil && !v.OK() {
				return errors.New("the log does not fit: keep the database and the tiles as they are, and compare with checkpoints and anchors kept elsewhere")
			}
			if err == nil && o.output != "json" {
				fmt.Fprintln(cmd.OutOrStdout(), "everything fits")
			}
			return err
		},
	}
}

func logRebuildCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "rebuild DIR",
		Short: "Write the log's tiles from the database into an empty directory, byte for byte",
		Long: "A running hub fills an empty TRANSPARENCY_LOG_DIR by itself. This writes another directory, to compare with or to put in its place while no hub runs.\n" +
			"Nothing is signed: rows that do not give the newest checkpoint's root are an error.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			n, err := hubd.RebuildLog(cmd.Context(), database(c, commandLog()), dir)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d entries written to %s\n", n, dir)
			return err
		},
	}
}
