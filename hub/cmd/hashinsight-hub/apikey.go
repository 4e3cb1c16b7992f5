package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/hashinsight/hashinsight/hub/hubd"
)

func apikeyCreateCommand(o *options) *cobra.Command {
	var order hubd.KeyOrder
	var permissions []string
	var expires, from, out, customer string
	var limit int
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make an API key and print it, once",
		Long: "The hub keeps only the key's hash: what is printed, or written to --out (mode 0600), is the only copy. With --copy-from the new key\n" +
			"takes the place of an old one, with its name, user and permissions unless others are given; both work for 7 days, then the old one\n" +
			"ends. The hub has no users yet: --user-id is kept as text beside the key, and is not checked.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, p := range permissions {
				order.Permissions = append(order.Permissions, hubd.Permission(strings.TrimSpace(p)))
			}
			var err error
			if order.ExpiresIn, err = parseSpan(expires); err != nil {
				return fmt.Errorf("expires-in: %w", err)
			}
			if from != "" {
				id, err := uuid.Parse(from)
				if err != nil {
					return errors.New("copy-from: want a key's id, as apikey list shows it")
				}
				order.CopyFrom = &id
			}
			if cmd.Flags().Changed("rate-limit") {
				order.RateLimit = &limit
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			var file *newFile
			if out != "" {
				if file, err = makeFile(out, 0o600, false); err != nil {
					return fmt.Errorf("the key's file: %w", err)
				}
				defer file.drop()
			}
			if customer != "" {
				id, err := hubd.FindCustomer(cmd.Context(), database(c, commandLog()), customer)
				if err != nil {
					return err
				}
				order.Customer = &id
			}
			key, info, err := hubd.CreateKey(cmd.Context(), database(c, commandLog()), c.Env, order)
			if err != nil {
				return err
			}
			if file != nil && key != "" {
				if err := file.put([]byte(key + "\n")); err != nil {
					return fmt.Errorf("key %s was made but not written (%w): revoke it and make another", info.ID, err)
				}
			}
			shown := key
			switch {
			case key == "":
				shown = "none: the client certificate " + info.Certificate + " stands for it"
			case file != nil:
				shown = "in " + out
			}
			if o.output == "json" {
				v := keyJSON(&info, time.Now())
				if file == nil && key != "" {
					v["key"] = key
				}
				return writeJSON(cmd.OutOrStdout(), v)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "id:      %s\nkey:     %s\nexpires: %s\n", info.ID, shown, info.ExpiresAt.Format(time.RFC3339))
			if err == nil && order.CopyFrom != nil {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "the old key %s works for 7 more days, or to its own end if that is earlier\n", from)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&order.Name, "name", "", "who uses the key for what")
	f.StringVar(&order.UserID, "user-id", "", "whose key it is; text, not checked: the hub has no users yet")
	f.StringSliceVar(&permissions, "permissions", nil, "what it may do, separated by commas, such as miners:read,sites:read; owner for everything")
	f.StringVar(&expires, "expires-in", "90d", "how long it works, such as 90d or 12h, at most 366d")
	f.StringVar(&from, "copy-from", "", "id of the key whose place it takes")
	f.IntVar(&limit, "rate-limit", 0, "requests a minute of its own; 0 for exempt")
	f.StringVar(&order.Certificate, "certificate", "", "identity of a client certificate that shall stand for the key: uri:URI or dn:SUBJECT; there is no secret then")
	f.StringVar(&customer, "customer", "", "id or name of a customer: the key reads that customer's rows and no others; its permissions are contracts:read,sla:read,statements:read or some of them")
	f.StringVar(&out, "out", "", "file for the key; default: standard output")
	return cmd
}

func keyJSON(k *hubd.KeyInfo, now time.Time) map[string]any {
	v := map[string]any{
		"id": k.ID, "name": k.Name, "user_id": k.UserID, "permissions": k.Permissions, "state": k.State(now), "old": k.Old(now), "created_at": k.CreatedAt, "created_by": k.CreatedBy,
	}
	for name, at := range map[string]time.Time{"expires_at": k.ExpiresAt, "revoked_at": k.RevokedAt, "last_used_at": k.LastUsedAt} {
		if !at.IsZero() {
			v[name] = at
		}
	}
	for name, text := range map[string]string{"revoked_why": k.RevokedWhy, "last_used_address": k.LastAddress, "certificate": k.Certificate} {
		if text != "" {
			v[name] = text
		}
	}
	if k.Customer != nil {
		v["customer_id"], v["customer"] = *k.Customer, k.CustomerName
	}
	if k.CopiedFrom != nil {
		v["copied_from"] = k.CopiedFrom
	}
	if k.RateLimit != nil {
		v["rate_limit"] = *k.RateLimit
	}
	return v
}

func apikeyListCommand(o *options) *cobra.Command {
	var all, old, expiring bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List API keys; OLD marks those older than 90 days, expiring those that end in 14 days or less",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			keys, err := hubd.ListKeys(cmd.Context(), database(c, commandLog()), c.Env)
			if err != nil {
				return err
			}
			now := time.Now()
			shown := []map[string]any{}
			var rows []string
			for i := range keys {
				k := &keys[i]
				state := k.State(now)
				ended := state == "revoked" || state == "expired"
				if ended && !all || old && !k.Old(now) || expiring && state != "expiring" {
					continue
				}
				shown = append(shown, keyJSON(k, now))
				permissions := make([]string, len(k.Permissions))
				for i, p := range k.Permissions {
					permissions[i] = string(p)
				}
				mark := ""
				if k.Old(now) {
					mark = " OLD"
				}
				rows = append(rows, fmt.Sprintf("%s\t%q\t%s\t%s\t%s%s\t%s\t%s\t%s\t%s\t%s", k.ID, k.Name, plain(k.UserID), plain(k.CustomerName), state, mark, when(k.CreatedAt), when(k.ExpiresAt), when(k.LastUsedAt), plain(k.LastAddress), strings.Join(permissions, ",")))
			}
			if o.output == "json" {
				return writeJSON(cmd.OutOrStdout(), shown)
			}
			return writeTable(cmd.OutOrStdout(), "KEY\tNAME\tUSER\tCUSTOMER\tSTATE\tCREATED\tEXPIRES\tLAST USE\tFROM\tPERMISSIONS", rows)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&all, "all", false, "those too that are revoked or expired")
	f.BoolVar(&old, "old", false, "only those older than 90 days")
	f.BoolVar(&expiring, "expiring", false, "only those that end in 14 days or less")
	return cmd
}

func when(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}

func apikeyRevokeCommand(o *options) *cobra.Command {
	var id, why string
	cmd := &cobra.Command{
		Use:   "revoke --key-id ID",
		Short: "End an API key and the sessions it opened; running hubs let it in no longer within 3 s",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := uuid.Parse(id)
			if err != nil {
				return errors.New("key-id: want a key's id, as apikey list shows it")
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			info, err := hubd.RevokeKey(cmd.Context(), database(c, commandLog()), c.Env, key, why)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "key %s (%q) is revoked since %s\n", info.ID, info.Name, when(info.RevokedAt))
			return err
		},
	}
	cmd.Flags().StringVar(&id, "key-id", "", "the key's id")
	cmd.Flags().StringVar(&why, "why", "", "reason, for the list and the audit log")
	_ = cmd.MarkFlagRequired("key-id") // fails only for a flag that does not exist
	return cmd
}

// parseLimit reads a number of requests a minute, or default.
func parseLimit(s string) (*int, error) {
	if s == "default" {
		return nil, nil //nolint:nilnil // no limit of its own
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return nil, fmt.Errorf("%.40q: want a number of requests a minute, 0 for none, or default", s)
	}
	return &n, nil
}

func apikeyLimitCommand(o *options) *cobra.Command {
	var id, limit string
	cmd := &cobra.Command{
		Use:   "limit --key-id ID --requests-per-minute N",
		Short: "Give a key a rate limit of its own: a number, 0 for exempt, or default",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := uuid.Parse(id)
			if err != nil {
				return errors.New("key-id: want a key's id, as apikey list shows it")
			}
			n, err := parseLimit(limit)
			if err != nil {
				return err
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			return hubd.LimitKey(cmd.Context(), database(c, commandLog()), c.Env, key, n)
		},
	}
	cmd.Flags().StringVar(&id, "key-id", "", "the key's id")
	cmd.Flags().StringVar(&limit, "requests-per-minute", "", "a number, 0 for exempt, or default for everyone's")
	for _, name := range []string{"key-id", "requests-per-minute"} {
		_ = cmd.MarkFlagRequired(name) // fails only for a flag that does not exist
	}
	return cmd
}

func ratelimitCommand(o *options) *cobra.Command {
	var limit string
	cmd := &cobra.Command{
		Use:   "ratelimit",
		Short: "Show everyone's rate limit, or with --set change it in all running hubs",
		Long: "A limit that was set here holds before RATE_LIMIT_REQUESTS_PER_MINUTE until --set default takes it away. Under attack, 10 keeps out\n" +
			"most of what comes without a key. Single keys: apikey limit. Hubs with RATE_LIMIT_ENABLED=0 have no limit.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var n *int
			if limit != "" {
				var err error
				if n, err = parseLimit(limit); err != nil {
					return err
				}
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			current, err := hubd.RateLimit(cmd.Context(), database(c, commandLog()), c.RateLimitPerMinute, limit != "", n)
			if err != nil {
				return err
			}
			if o.output == "json" {
				return writeJSON(cmd.OutOrStdout(), map[string]any{"enabled": c.RateLimitEnabled, "requests_per_minute": current, "configured_per_minute": c.RateLimitPerMinute})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d requests a minute (settings: %d, enabled: %t)\n", current, c.RateLimitPerMinute, c.RateLimitEnabled)
			return err
		},
	}
	cmd.Flags().StringVar(&limit, "set", "", "requests a minute, 0 for no limit, or default")
	return cmd
}
