package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hashinsight/hashinsight/hub/hubd"
)

func tokenCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "Make, list and end the tokens with which sites join"}
	cmd.AddCommand(tokenCreateCommand(o), tokenListCommand(o), tokenRevokeCommand(o))
	return cmd
}

func tokenCreateCommand(o *options) *cobra.Command {
	var n hubd.NewToken
	var from, out string
	cmd := &cobra.Command{
		Use:   "create --site NAME",
		Short: "Make a token with which one site joins, once",
		Long: "Prints the token, and nothing else, on standard output; the hub keeps only its hash. It holds the fingerprint of the hub's CA: the\n" +
			"agent checks the hub by it. A known site comes back under its id, a revoked one too. Works beside a running hub.",
		Example: "  hashinsight-hub token create --site north --out token.txt\n  hashinsight-hub token create --site north --from 203.0.113.0/24 --approve",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			if from != "" {
				if n.Source, err = netip.ParsePrefix(from); err != nil {
					return fmt.Errorf("--from %.50q: want a network such as 203.0.113.0/24", from)
				}
			}
			var file *newFile
			if out != "" {
				if file, err = makeFile(out, 0o600, false); err != nil {
					return fmt.Errorf("the token's file: %w", err)
				}
				defer file.drop()
			}
			text, info, err := hubd.CreateToken(cmd.Context(), database(c, commandLog()), c.Env, n)
			if err != nil {
				return err
			}
			if file != nil {
				if err := file.put([]byte(text + "\n")); err != nil {
					return fmt.Errorf("the token was made but not written (%w): revoke it with hashinsight-hub token revoke %s and make another", err, info.ID)
				}
				text = ""
			}
			if o.output == "json" {
				v := tokenLine(&info)
				v.Token = text
				return writeJSON(cmd.OutOrStdout(), v)
			}
			if text != "" {
				if _, err := fmt.Fprintln(cmd.OutOrStdout(), text); err != nil {
					return err
				}
			}
			_, err = fmt.Fprintf(cmd.ErrOrStderr(), "token %s for site %q, good once until %s. At the site:\n  hashinsight-agent enrol --hub %s --token-file FILE\n",
				info.ID, info.SiteName, info.ExpiresAt.UTC().Format(time.RFC3339), c.HubAddress)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&n.SiteName, "site", "", "the site's name, unique on this hub")
	f.DurationVar(&n.ValidFor, "valid-for", time.Hour, "how long the token can be used, at most 24h")
	f.StringVar(&from, "from", "", "network that it may be used from, such as 203.0.113.0/24")
	f.BoolVar(&n.Approval, "approve", false, "let the site in only after its fingerprint was compared (site approve)")
	f.BoolVar(&n.ReplaceKey, "replace-key", false, "the site's machine is a new one: its other evidence keys end")
	f.StringVar(&out, "out", "", "file for the token (mode 0600) instead of standard output")
	_ = cmd.MarkFlagRequired("site") // fails only for a flag that does not exist
	return cmd
}

// tokenJSON is a token as commands print it.
type tokenJSON struct {
	ID          string     `json:"id"`
	SiteName    string     `json:"site_name"`
	State       string     `json:"state"`
	Source      string     `json:"source,omitempty"`
	Approval    bool       `json:"approval"`
	ReplaceKey  bool       `json:"replace_key"`
	CreatedBy   string     `json:"created_by"`
	ExpiresAt   time.Time  `json:"expires_at"`
	UsedAt      *time.Time `json:"used_at,omitempty"`
	UsedFrom    string     `json:"used_from,omitempty"`
	Fingerprint string     `json:"fingerprint,omitempty"`
	CameFrom    string     `json:"came_from,omitempty"`
	Token       string     `json:"token,omitempty"`
}

func tokenLine(t *hubd.Token) tokenJSON {
	out := tokenJSON{
		ID: t.ID, SiteName: t.SiteName, State: string(t.State), Approval: t.Approval, ReplaceKey: t.ReplaceKey, CreatedBy: t.CreatedBy, ExpiresAt: t.ExpiresAt.UTC(),
		UsedFrom: t.UsedFrom, Fingerprint: t.Fingerprint, CameFrom: t.ClaimedFrom,
	}
	if t.Source.IsValid() {
		out.Source = t.Source.String()
	}
	if !t.UsedAt.IsZero() {
		out.UsedAt = &t.UsedAt
	}
	return out
}

func tokenListCommand(o *options) *cobra.Command {
	var waiting bool
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List tokens, the newest first; --waiting shows who waits for approval",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			list, err := hubd.Tokens(cmd.Context(), database(c, commandLog()), c.Env, waiting, limit)
			if err != nil {
				return err
			}
			lines, rows := make([]tokenJSON, len(list)), make([]string, len(list))
			for i := range list {
				l := tokenLine(&list[i])
				lines[i] = l
				from := l.UsedFrom
				if from == "" {
					from = l.CameFrom
				}
				rows[i] = fmt.Sprintf("%s\t%q\t%s\t%s\t%s\t%s", l.ID, l.SiteName, l.State, l.ExpiresAt.Format(time.RFC3339), from, l.Fingerprint)
			}
			if o.output == "json" {
				return writeJSON(cmd.OutOrStdout(), lines)
			}
			return writeTable(cmd.OutOrStdout(), "TOKEN\tSITE\tSTATE\tUNTIL\tFROM\tFINGERPRINT", rows)
		},
	}
	cmd.Flags().BoolVar(&waiting, "waiting", false, "only tokens whose sites wait for approval")
	cmd.Flags().IntVar(&limit, "limit", 100, "how many, at most 1000")
	return cmd
}

func tokenRevokeCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke TOKEN-ID",
		Short: "End a token that was not used",
		Args:  tokenID,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			if err := hubd.RevokeToken(cmd.Context(), database(c, commandLog()), c.Env, args[0]); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "token %s is revoked\n", args[0])
			return err
		},
	}
}

// tokenID takes a token's id, and refuses the token itself.
func tokenID(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return errors.New("want the token's id: hashinsight-hub token list shows them")
	}
	if strings.HasPrefix(args[0], "hsi_") {
		return errors.New("that is a token, not its id: command lines are seen by everybody who can list processes; give the part between join_ and the next _")
	}
	return nil
}

func siteDecideCommand(o *options, name, short string, approve bool) *cobra.Command {
	var fingerprint string
	cmd := &cobra.Command{
		Use:   name + " TOKEN-ID --fingerprint FINGERPRINT",
		Short: short,
		Long:  "The fingerprint is the one that the site's screen shows; hashinsight-hub token list --waiting shows what the hub was given.",
		Args:  tokenID,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			if err := hubd.DecideSite(cmd.Context(), database(c, commandLog()), c.Env, args[0], fingerprint, approve); err != nil {
				return err
			}
			text := "approved: the agent joins within seconds"
			if !approve {
				text = "refused: the token is good for nobody any more"
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
			return err
		},
	}
	cmd.Flags().StringVar(&fingerprint, "fingerprint", "", "as the site's screen shows it")
	_ = cmd.MarkFlagRequired("fingerprint") // fails only for a flag that does not exist
	return cmd
}

func siteRevokeCommand(o *options) *cobra.Command {
	var why string
	var yes bool
	cmd := &cobra.Command{
		Use:   "revoke SITE --why TEXT --yes",
		Short: "Cut a site off: its certificates and its tunnel end, its stream is closed",
		Long: "Within a second no process of a running hub lets the site in. Its agent goes on polling and buffering, and says why it is refused.\n" +
			"The site's data stays. It comes back by a new token for the same name (token create --site NAME).",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			if !yes {
				return fmt.Errorf("this cuts site %q off at once: say --yes if that is meant", args[0])
			}
			id, err := hubd.RevokeSite(cmd.Context(), database(c, commandLog()), c.Env, args[0], why)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "site %s is cut off; to let it in again: hashinsight-hub token create --site NAME\n", id)
			return err
		},
	}
	cmd.Flags().StringVar(&why, "why", "", "reason, which the site's agent shows")
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	_ = cmd.MarkFlagRequired("why") // fails only for a flag that does not exist
	return cmd
}
