package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hashinsight/hashinsight/agent/agentd"
	"github.com/hashinsight/hashinsight/agent/internal/config"
	"github.com/hashinsight/hashinsight/agent/internal/keys"
	"github.com/hashinsight/hashinsight/pkg/diag"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
)

// errTokenShown refuses a token on the command line.
var errTokenShown = errors.New("a token on the command line is seen by everybody who can list processes, and stays in the shell's history: " +
	"write it to a file that only you can read and give --token-file FILE, or pipe it in with --token-file -; " +
	"this token should be revoked at the hub (hashinsight-hub token revoke) and replaced")

func enrolCommand() *cobra.Command {
	var dir, configPath, hub, tokenFile, token, output string
	var patience time.Duration
	c := &cobra.Command{
		Use:   "enrol --hub HOST:PORT --token-file FILE",
		Short: "Join a hub with a one-time token",
		Long: `Makes this site's keys, checks that the server at HOST:PORT is the hub that the token names, joins, and stores what the hub
answers. The private keys never leave this machine. The command may be run again at any time: it goes on where it was.

The fingerprint it prints names this site's keys. Where the hub asks for approval, its operator compares the fingerprint with
the one shown there; the command waits meanwhile.`,
		Example: "  hashinsight-agent enrol --hub hub.example.com:5443 --token-file token.txt\n" +
			"  pass show north-token | hashinsight-agent enrol --hub hub.example.com:5443 --token-file -",
		Args: func(_ *cobra.Command, args []string) error {
			for _, a := range args {
				if strings.HasPrefix(a, "hsi_") {
					return errTokenShown
				}
			}
			if len(args) > 0 {
				return errors.New("enrol takes no arguments, only flags: --hub and --token-file")
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error {
			if token != "" || strings.HasPrefix(tokenFile, "hsi_") {
				return errTokenShown
			}
			if err := checkOutput(output, "text", "json"); err != nil {
				return err
			}
			if dir == "" {
				var err error
				if dir, err = config.IdentityDir(configPath, os.Environ()); err != nil {
					return err
				}
			}
			t, err := readToken(tokenFile, c.InOrStdin(), c.ErrOrStderr())
			if err != nil {
				return err
			}
			say := c.OutOrStdout()
			if output == "json" {
				say = c.ErrOrStderr()
			}
			joined, err := agentd.Join(c.Context(), agentd.JoinConfig{
				Dir: dir, Token: t, Addresses: strings.Split(hub, ","), Version: diag.ReadBuild().Version, Patience: patience,
				Fingerprint: func(f string) { fmt.Fprintf(say, "fingerprint of this site's keys: %s\n", f) },
				Waiting: func(f string, until time.Time) {
					fmt.Fprintf(say, "waiting for approval until %s. At the hub, once the fingerprint there is the same as here:\n"+
						"  hashinsight-hub site approve %s --fingerprint %s\n", until.UTC().Format(time.RFC3339), t.ID, f)
				},
				Trouble: func(err error, again time.Duration) {
					fmt.Fprintf(c.ErrOrStderr(), "%s; trying again in %s\n", printable(err.Error()), again.Round(time.Second))
				},
			})
			if err != nil {
				return err
			}
			if output == "json" {
				return printJSON(c.OutOrStdout(), identityOf(joined.Bundle, joined.Fingerprint))
			}
			verb := "joined"
			if joined.Already {
				verb = "this machine has joined already, nothing to do:"
			}
			b := joined.Bundle
			tunnel := "no tunnel"
			if b.Tunnel != nil {
				tunnel = "tunnel address " + b.Tunnel.Address.Addr().String()
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s as site %q (%s), %s, certificate until %s; it is renewed by itself\nnext: hashinsight-agent run\n",
				verb, printable(b.SiteName), b.Site, tunnel, b.Certificate[0].NotAfter.UTC().Format(time.RFC3339))
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&hub, "hub", "", "host:port of the hub's listener for agents, or several separated by commas")
	f.StringVar(&tokenFile, "token-file", "", "file with the token from the hub's operator; - reads standard input")
	f.StringVar(&dir, "dir", "", "identity directory, made when missing (default: the configuration's)")
	f.StringVar(&configPath, "config", "", "configuration file (YAML), for the identity directory")
	f.DurationVar(&patience, "patience", 2*time.Minute, "how long a hub that is not reached is tried again")
	f.StringVar(&token, "token", "", "")
	must(f.MarkHidden("token")) // there only to say why it is not there
	outputFlag(c, &output, "text", "text|json")
	must(c.MarkFlagRequired("hub"))
	c.MarkFlagsOneRequired("token-file", "token")
	return c
}

// readToken reads a token from a file or standard input. What is wrong with it is said without repeating it.
func readToken(path string, stdin io.Reader, warn io.Writer) (identity.Token, error) {
	in := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return identity.Token{}, fmt.Errorf("the token: %w", err)
		}
		defer f.Close()
		if fi, err := f.Stat(); err == nil && runtime.GOOS != "windows" && fi.Mode().IsRegular() && fi.Mode().Perm()&0o077 != 0 {
			fmt.Fprintf(warn, "warning: %s can be read by others: chmod 600 it, and remove it when the site has joined\n", path)
		}
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, 4096))
	if err != nil {
		return identity.Token{}, fmt.Errorf("the token: %w", err)
	}
	return identity.ParseToken(string(b))
}

// identityInfo is what identity show prints.
type identityInfo struct {
	Site             ident.SiteID `json:"site_id"`
	SiteName         string       `json:"site_name"`
	Hub              string       `json:"hub_address"`
	Fingerprint      string       `json:"fingerprint,omitempty"`
	EvidenceKey      string       `json:"evidence_key,omitempty"`
	CertificateUntil time.Time    `json:"certificate_not_after"`
	TunnelAddress    string       `json:"tunnel_address,omitempty"`
	TunnelKey        string       `json:"tunnel_public_key,omitempty"`
	Roots            int          `json:"trusted_roots"`
}

func identityOf(b identity.Bundle, fingerprint string) identityInfo {
	i := identityInfo{
		Site: b.Site, SiteName: b.SiteName, Hub: b.HubAddress, Fingerprint: fingerprint, CertificateUntil: b.Certificate[0].NotAfter.UTC(), Roots: len(b.CA),
	}
	if b.Tunnel != nil {
		i.TunnelAddress, i.TunnelKey = b.Tunnel.Address.Addr().String(), b.Tunnel.PublicKey
	}
	return i
}

func identityCommand() *cobra.Command {
	c := &cobra.Command{Use: "identity", Short: "Show who this site is to its hub"}
	var dir, configPath, output string
	show := &cobra.Command{
		Use:   "show",
		Short: "Show site, fingerprint, certificate and tunnel address; no secret",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkOutput(output, "text", "json"); err != nil {
				return err
			}
			if dir == "" {
				var err error
				if dir, err = config.IdentityDir(configPath, os.Environ()); err != nil {
					return err
				}
			}
			id, err := keys.Load(dir)
			if err != nil {
				return err
			}
			i := identityOf(id.Bundle(), id.Fingerprint())
			i.EvidenceKey = ident.KeyIDOf(id.EvidencePublic()).String()
			if output == "json" {
				return printJSON(c.OutOrStdout(), i)
			}
			until := i.CertificateUntil.Format(time.RFC3339)
			if !time.Now().Before(i.CertificateUntil) {
				until += " (it has run out: a running agent recovers it once it reaches the hub)"
			}
			rows := [][2]string{
				{"site", printable(i.SiteName)}, {"id", i.Site.String()}, {"hub", i.Hub}, {"fingerprint", i.Fingerprint}, {"evidence key", i.EvidenceKey},
				{"certificate until", until},
			}
			if i.TunnelAddress != "" {
				rows = append(rows, [2]string{"tunnel address", i.TunnelAddress}, [2]string{"tunnel key", i.TunnelKey})
			}
			return printTable(c.OutOrStdout(), rows)
		},
	}
	show.Flags().StringVar(&dir, "dir", "", "identity directory (default: the configuration's)")
	show.Flags().StringVar(&configPath, "config", "", "configuration file (YAML), for the identity directory")
	outputFlag(show, &output, "text", "text|json")
	c.AddCommand(show)
	return c
}
