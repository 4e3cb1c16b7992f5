package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/hashinsight/hashinsight/agent/internal/keys"
	"github.com/hashinsight/hashinsight/pkg/identity"
)

func keysCommand() *cobra.Command {
	c := &cobra.Command{Use: "keys", Short: "Make this site's keys, install its certificate"}
	c.AddCommand(keysInit(), keysInstall())
	return c
}

func keysInit() *cobra.Command {
	var dir, name, out string
	c := &cobra.Command{
		Use:   "init",
		Short: "Make the site's keys where they are missing, and the request for the hub",
		Long: `Makes the site's TLS key and evidence key and writes a request that holds no secret. The private keys never leave
this machine. Keys that exist are kept, so the command may be run again.`,
		Example: "  hashinsight-agent keys init --dir /var/lib/hashinsight-agent/identity --site-name north",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			request, err := keys.Init(dir)
			if err != nil {
				return err
			}
			if out == "" {
				out = filepath.Join(dir, "request.pem")
			}
			if err := os.WriteFile(out, request, 0o644); err != nil { //nolint:gosec // it holds no secret and is to be sent
				return fmt.Errorf("write the request: %w", err)
			}
			fmt.Fprintf(c.OutOrStdout(), "request written to %s\nnext, at the hub:  hashinsight-hub site register --name %s --request %s --out bundle.json\n"+
				"then here:         hashinsight-agent keys install --dir %s --bundle bundle.json\n", out, name, filepath.Base(out), dir)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&dir, "dir", "", "identity directory, made when missing")
	f.StringVar(&name, "site-name", "SITE", "name of the site, for the hint about what to do next: the hub gives the name")
	f.StringVar(&out, "out", "", "where to write the request (default: request.pem in the directory)")
	must(c.MarkFlagRequired("dir"))
	return c
}

func keysInstall() *cobra.Command {
	var dir, bundle string
	c := &cobra.Command{
		Use:     "install",
		Short:   "Check the hub's answer and store it",
		Example: "  hashinsight-agent keys install --dir /var/lib/hashinsight-agent/identity --bundle bundle.json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			fi, err := os.Stat(bundle)
			if err != nil {
				return fmt.Errorf("the hub's answer: %w", err)
			}
			if fi.Size() > identity.MaxFileSize {
				return fmt.Errorf("%s has %d bytes and is no bundle", bundle, fi.Size())
			}
			b, err := os.ReadFile(bundle)
			if err != nil {
				return fmt.Errorf("the hub's answer: %w", err)
			}
			got, err := keys.Install(dir, b, time.Now())
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "site %q (%s), hub %s, certificate valid until %s\n",
				printable(got.SiteName), got.Site, got.HubAddress, got.Certificate[0].NotAfter.UTC().Format(time.RFC3339))
			return nil
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "identity directory, as given to keys init")
	c.Flags().StringVar(&bundle, "bundle", "", "file that the hub's operator sent back")
	must(c.MarkFlagRequired("dir"))
	must(c.MarkFlagRequired("bundle"))
	return c
}

// must is for mistakes in this program that any call would show.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
