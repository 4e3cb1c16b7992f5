package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hashinsight/hashinsight/hub/hubd"
	"github.com/hashinsight/hashinsight/hub/internal/config"
	"github.com/hashinsight/hashinsight/pkg/identity"
)

func configCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Check and make settings"}
	cmd.AddCommand(
		&cobra.Command{
			Use:   "check",
			Short: "Check the whole configuration and show where each setting comes from; secrets are not shown",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				c, err := o.load()
				for _, w := range c.Warnings {
					fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w)
				}
				if err != nil {
					return err
				}
				chain := hubd.CheckChain(c.Chain()) // after the table: the hub starts in spite of it
				values := c.Values()
				if o.output == "json" {
					return errors.Join(writeJSON(cmd.OutOrStdout(), values), chain)
				}
				rows := make([]string, len(values))
				for i, v := range values {
					rows[i] = v.Name + "\t" + v.Value + "\t" + v.Source
				}
				return errors.Join(writeTable(cmd.OutOrStdout(), "SETTING\tVALUE\tFROM", rows), chain)
			},
		},
		&cobra.Command{
			Use:   "generate",
			Short: "Print fresh secrets of 256 bits, as lines for the .env file",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				_, err := io.WriteString(cmd.OutOrStdout(), config.Generate())
				return err
			},
		},
	)
	return cmd
}

func migrateCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "migrate", Short: "Bring the database's schema up to date, or show its state"}
	cmd.AddCommand(
		&cobra.Command{
			Use:   "up",
			Short: "Apply the migrations that are missing; a starting hub does so by itself",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				c, err := o.loadForWork()
				if err != nil {
					return err
				}
				applied, err := hubd.MigrateUp(cmd.Context(), database(c, commandLog()))
				return errors.Join(writeMigrations(cmd.OutOrStdout(), o, applied, "applied"), err)
			},
		},
		&cobra.Command{
			Use:   "status",
			Short: "Show every migration and when it was applied",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				c, err := o.loadForWork()
				if err != nil {
					return err
				}
				all, err := hubd.MigrateStatus(cmd.Context(), database(c, commandLog()))
				if err != nil {
					return err
				}
				return writeMigrations(cmd.OutOrStdout(), o, all, "")
			},
		},
	)
	return cmd
}

// writeMigrations lists migrations; state overrides the time of application.
func writeMigrations(w io.Writer, o *options, list []hubd.Migration, state string) error {
	if o.output == "json" {
		return writeJSON(w, list)
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "nothing to do: the schema is up to date")
		return err
	}
	rows := make([]string, len(list))
	for i, m := range list {
		text := state
		switch {
		case text != "":
		case m.AppliedAt.IsZero():
			text = "pending"
		default:
			text = m.AppliedAt.UTC().Format(time.RFC3339)
		}
		rows[i] = m.Name + "\t" + text
	}
	return writeTable(w, "MIGRATION\tAPPLIED", rows)
}

func siteCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "site", Short: "Approve, register, list and cut off sites"}
	cmd.AddCommand(siteRegisterCommand(o), siteDecideCommand(o, "approve", "Let in the agent that came with a token, after comparing its fingerprint", true),
		siteDecideCommand(o, "refuse", "Send away the agent that came with a token, and end the token", false), siteRevokeCommand(o), &cobra.Command{
			Use:   "list",
			Short: "List the registered sites",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				c, err := o.loadForWork()
				if err != nil {
					return err
				}
				sites, err := hubd.Sites(cmd.Context(), database(c, commandLog()))
				if err != nil {
					return err
				}
				if o.output == "json" {
					return writeJSON(cmd.OutOrStdout(), sites)
				}
				rows := make([]string, len(sites))
				for i, s := range sites {
					until := "none"
					if s.NotAfter != nil {
						until = s.NotAfter.UTC().Format(time.RFC3339)
					}
					rows[i] = fmt.Sprintf("%s\t%q\t%s\t%s", s.ID, s.Name, strings.Join(s.Keys, " "), until)
				}
				return writeTable(cmd.OutOrStdout(), "SITE\tNAME\tEVIDENCE KEY\tCERTIFICATE UNTIL", rows)
			},
		})
	return cmd
}

func siteRegisterCommand(o *options) *cobra.Command {
	var order hubd.SiteOrder
	var request, out string
	cmd := &cobra.Command{
		Use:   "register --name NAME --request FILE --out FILE",
		Short: "Give a site its certificate: from its agent's request to the bundle that its agent installs",
		Long: "Reads the request that hashinsight-agent keys init made at the site, records the site, and writes the bundle for\n" +
			"hashinsight-agent keys install: certificate, CA, the hub's evidence key and address. Neither file holds a secret.\n" +
			"Registering a known site with the same evidence key issues a new certificate. Works beside a running hub.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			order.HubAddress = c.HubAddress
			if order.Request, err = readBounded(request); err != nil {
				return fmt.Errorf("the site's request: %w", err)
			}
			file, err := makeFile(out, 0o644, true)
			if err != nil {
				return fmt.Errorf("the bundle's file: %w", err)
			}
			defer file.drop()
			bundle, err := hubd.RegisterSite(cmd.Context(), database(c, commandLog()), order)
			if err != nil {
				return err
			}
			if err := file.put(bundle); err != nil {
				return fmt.Errorf("writing the bundle: %w", err)
			}
			b, err := identity.ParseBundle(bundle)
			if err != nil {
				return err
			}
			if o.output == "json" {
				return writeJSON(cmd.OutOrStdout(), map[string]any{"site_id": b.Site, "bundle": out, "certificate_not_after": b.Certificate[0].NotAfter, "hub_address": b.HubAddress})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "site %s (%q) registered, certificate until %s\nbundle: %s\nnext, at the site: hashinsight-agent keys install --bundle %s\n",
				b.Site, b.SiteName, b.Certificate[0].NotAfter.UTC().Format(time.RFC3339), out, out)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&order.Name, "name", "", "the site's name, unique on this hub")
	f.StringVar(&request, "request", "", "file from hashinsight-agent keys init")
	f.StringVar(&out, "out", "", "file to write the bundle to")
	f.DurationVar(&order.ValidFor, "valid-for", 90*24*time.Hour, "lifetime of the certificate; long, because a site cannot renew by itself yet")
	f.BoolVar(&order.ReplaceKey, "replace-key", false, "the site has a new evidence key: the old one and its certificates end")
	for _, name := range []string{"name", "request", "out"} {
		_ = cmd.MarkFlagRequired(name) // fails only for a flag that does not exist
	}
	return cmd
}

func readBounded(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() > identity.MaxFileSize {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, identity.MaxFileSize)
	}
	return os.ReadFile(path)
}

func apikeyCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "apikey", Short: "Make, list and revoke API keys"}
	var out string
	var replace bool
	bootstrap := &cobra.Command{
		Use:   "bootstrap --out FILE",
		Short: "Make the owner's key, which may do everything and does not expire, and write it to a file",
		Long: "The hub keeps only the key's hash: the file (mode 0600) is the only copy. If it is lost, --replace makes another\n" +
			"and ends the old one. Works beside a running hub.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			file, err := makeFile(out, 0o600, replace)
			if err != nil {
				return fmt.Errorf("the key's file: %w", err)
			}
			defer file.drop()
			key, err := hubd.BootstrapKey(cmd.Context(), database(c, commandLog()), c.Env, replace)
			if err != nil {
				return err
			}
			if err := file.put([]byte(key + "\n")); err != nil {
				return fmt.Errorf("the key was made but not written (%w): run again with --replace", err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "the owner's key is in %s\n", out)
			return err
		},
	}
	bootstrap.Flags().StringVar(&out, "out", "", "file for the key")
	bootstrap.Flags().BoolVar(&replace, "replace", false, "end the present owner's key and write over the file")
	_ = bootstrap.MarkFlagRequired("out") // fails only for a flag that does not exist
	cmd.AddCommand(bootstrap, apikeyCreateCommand(o), apikeyListCommand(o), apikeyRevokeCommand(o), apikeyLimitCommand(o))
	return cmd
}
