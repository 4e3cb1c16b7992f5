package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hashinsight/hashinsight/hub/hubd"
)

func caCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ca",
		Short: "The hub's certificate authority: its root, certificates for API clients, roll-over, revocation",
		Long: "The root signs an intermediate, and that issues certificates to sites (24 hours, renewed by the agents), to the hub itself and to API\n" +
			"clients. The root's private key is needed to roll over only and can lie offline. All commands work beside a running hub.",
	}
	cmd.AddCommand(caInitCommand(o), caStatusCommand(o), caIssueCommand(o), caRotateCommand(o), caRevokeCommand(o), caAllowCommand(o), caCRLCommand(o))
	return cmd
}

// sure refuses what cannot be undone without the flag --yes.
func sure(yes bool, what string) error {
	if yes {
		return nil
	}
	return fmt.Errorf("this %s: run it again with --yes", what)
}

// passphrase reads the first line of a file, or of standard input for "-".
func passphrase(path string, stdin io.Reader) ([]byte, error) {
	if path == "" {
		return nil, errors.New("--passphrase-file is needed: a file that holds the passphrase, or - for standard input")
	}
	in := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("the passphrase: %w", err)
		}
		defer func() { _ = f.Close() }() // it was only read
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, 4<<10))
	if err != nil {
		return nil, fmt.Errorf("the passphrase: %w", err)
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), nil
}

// rootFile prepares the file that takes a root's key; done removes what was begun and not finished.
func rootFile(path, pass string, stdin io.Reader) (to hubd.RootFile, done func(), err error) {
	if to.Passphrase, err = passphrase(pass, stdin); err != nil {
		return to, nil, err
	}
	if len(to.Passphrase) < hubd.MinPassphrase {
		return to, nil, fmt.Errorf("the passphrase has %d bytes, want at least %d", len(to.Passphrase), hubd.MinPassphrase)
	}
	file, err := makeFile(path, 0o600, false)
	if err != nil {
		return to, nil, fmt.Errorf("the root's file: %w", err)
	}
	to.Put = file.put
	return to, file.drop, nil
}

func caInitCommand(o *options) *cobra.Command {
	var out, pass string
	var yes bool
	cmd := &cobra.Command{
		Use:   "init --root-out FILE --passphrase-file FILE",
		Short: "Take the root's private key offline: into an encrypted file, and out of the database",
		Long: "Writes the root's private key, encrypted with the passphrase, to a file (mode 0600) and removes it from the database; where there is no\n" +
			"certificate authority yet, it is made and the key is never stored there. Keep the file and the passphrase apart, and away from the hub: they are\n" +
			"needed to roll over. Standard tools read it: openssl pkey -in FILE.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := sure(yes, "removes the root's private key from the hub; the file becomes its only copy"); err != nil {
				return err
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			to, done, err := rootFile(out, pass, cmd.InOrStdin())
			if err != nil {
				return err
			}
			defer done()
			st, err := hubd.CAInit(cmd.Context(), database(c, commandLog()), to)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "the root's private key is in %s: move it away from this machine\n", out)
			return writeCAStatus(cmd, o, st)
		},
	}
	cmd.Flags().StringVar(&out, "root-out", "", "file for the root's encrypted private key")
	cmd.Flags().StringVar(&pass, "passphrase-file", "", "file with the passphrase in its first line, or - for standard input")
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	_ = cmd.MarkFlagRequired("root-out") // fails only for a flag that does not exist
	return cmd
}

func caStatusCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show roots, where their keys lie, how a roll-over stands, and API clients' certificates",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			st, err := hubd.CAGetStatus(cmd.Context(), database(c, commandLog()))
			if err != nil {
				return err
			}
			return writeCAStatus(cmd, o, st)
		},
	}
}

func writeCAStatus(cmd *cobra.Command, o *options, st hubd.CAStatus) error {
	w := cmd.OutOrStdout()
	if o.output == "json" {
		return writeJSON(w, st)
	}
	day := func(t time.Time) string { return t.UTC().Format(time.DateOnly) }
	rows := make([]string, len(st.Authorities))
	for i, a := range st.Authorities {
		rows[i] = strings.Join([]string{string(a.State), a.Root, a.Fingerprint, day(a.RootNotAfter), a.RootKey, a.Issuer, day(a.IssuerNotAfter), strconv.Itoa(a.Live)}, "\t")
	}
	if err := writeTable(w, "STATE\tROOT\tSHA-256\tROOT UNTIL\tROOT KEY\tISSUER\tISSUER UNTIL\tCERTIFICATES", rows); err != nil {
		return err
	}
	if len(st.Clients) > 0 {
		clients := make([]string, len(st.Clients))
		for i, cl := range st.Clients {
			until := cl.NotAfter.UTC().Format(time.RFC3339)
			if cl.Revoked {
				until = "revoked"
			}
			clients[i] = fmt.Sprintf("%s\t%q\t%s\t%s", cl.Serial, cl.Name, cl.Key, until)
		}
		fmt.Fprintln(w)
		if err := writeTable(w, "CLIENT CERTIFICATE\tNAME\tAPI KEY\tUNTIL", clients); err != nil {
			return err
		}
	}
	fmt.Fprintf(w, "\n%d certificates are revoked and have not expired\n", st.Revoked)
	if len(st.NotReady) > 0 {
		fmt.Fprintf(w, "%d sites do not know the next root yet: %q\n", len(st.NotReady), st.NotReady)
	}
	for _, warning := range st.Warnings {
		if _, err := fmt.Fprintln(w, "warning:", warning); err != nil {
			return err
		}
	}
	return nil
}

func caIssueCommand(o *options) *cobra.Command {
	var order hubd.ClientOrder
	var csr, keyOut, out string
	cmd := &cobra.Command{
		Use:   "issue --key-id ID --name NAME --out FILE (--csr FILE | --key-out FILE)",
		Short: "Make a certificate for an API client, with the permissions of an API key",
		Long: "With --csr the client has made its key itself (openssl req -new); the names in its request are ignored. With --key-out a key pair is made here\n" +
			"and its private half written to that file (mode 0600). Subject attributes are for filters of allowed names; what the certificate may do is\n" +
			"decided by the API key alone.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (csr == "") == (keyOut == "") {
				return errors.New("give either --csr, for a key the client has made, or --key-out, for one made here")
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			var private *newFile
			var secret []byte
			if csr != "" {
				if order.Request, err = readBounded(csr); err != nil {
					return fmt.Errorf("the request: %w", err)
				}
			} else {
				if order.Request, secret, err = newClientKey(); err != nil {
					return err
				}
				if private, err = makeFile(keyOut, 0o600, false); err != nil {
					return fmt.Errorf("the private key's file: %w", err)
				}
				defer private.drop()
			}
			file, err := makeFile(out, 0o644, false)
			if err != nil {
				return fmt.Errorf("the certificate's file: %w", err)
			}
			defer file.drop()
			chain, leaf, err := hubd.CAIssue(cmd.Context(), database(c, commandLog()), order)
			if err != nil {
				return err
			}
			if private != nil {
				err = private.put(secret)
			}
			if err == nil {
				err = file.put([]byte(chain))
			}
			if err != nil {
				return fmt.Errorf("certificate %032x was made and not written: %w", leaf.SerialNumber, err)
			}
			if o.output == "json" {
				return writeJSON(cmd.OutOrStdout(), map[string]any{"serial": fmt.Sprintf("%032x", leaf.SerialNumber), "subject": leaf.Subject.String(), "not_after": leaf.NotAfter, "certificate": out, "private_key": keyOut})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "certificate %032x for %q, until %s: %s\n", leaf.SerialNumber, order.Name, leaf.NotAfter.UTC().Format(time.RFC3339), out)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&order.KeyID, "key-id", "", "id of the API key whose permissions the certificate has")
	f.StringVar(&order.Name, "name", "", "what the client is called in lists")
	f.StringVar(&csr, "csr", "", "the client's request, PKCS #10 as PEM")
	f.StringVar(&keyOut, "key-out", "", "make a key pair and write the private key here")
	f.StringVar(&out, "out", "", "file for the certificate and the intermediate")
	f.StringVar(&order.CommonName, "cn", "", "common name of the subject")
	f.StringVar(&order.Organization, "o", "", "organization of the subject")
	f.StringVar(&order.Country, "c", "", "country of the subject, two letters")
	f.DurationVar(&order.ValidFor, "valid-for", 90*24*time.Hour, "lifetime of the certificate")
	for _, name := range []string{"key-id", "name", "out"} {
		_ = cmd.MarkFlagRequired(name) // fails only for a flag that does not exist
	}
	return cmd
}

// newClientKey makes a key pair: a request for its certificate, and the private key, PEM.
func newClientKey() (request, private []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func caRotateCommand(o *options) *cobra.Command {
	var out, outPass, in, inPass string
	var activate, finish, cancel, intermediate, force, yes bool
	cmd := &cobra.Command{
		Use:   "rotate [--intermediate | --activate | --finish | --cancel]",
		Short: "Roll over to a new root, in three steps, or replace the intermediate",
		Long: "rotate              makes a new root; agents learn it beside the present one with their next certificate, within a day\n" +
			"rotate --activate   lets the new root issue, the hub's own certificate too; refused while sites do not know it\n" +
			"rotate --finish     retires the old root; refused while certificates under it count\n" +
			"rotate --cancel     gives up a new root that was not activated\n" +
			"rotate --intermediate  replaces the issuing key under the same root; sites notice nothing\n" +
			"Where the present root's key lies offline, give its file with --root-in: it certifies the new intermediate too, so that sites that were dark all\n" +
			"the time find their way back. ca status shows how far it is.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			r := hubd.CARotation{Step: hubd.CABegin, Force: force}
			what, steps := "makes a new root that every site will trust", 0
			for _, s := range []struct {
				on   bool
				step hubd.CAStep
				what string
			}{
				{activate, hubd.CAActivate, "makes the new root issue everything"},
				{finish, hubd.CAFinish, "ends the old root: certificates under it are refused from then on"},
				{cancel, hubd.CACancel, "drops the new root"},
				{intermediate, hubd.CAIntermediate, "replaces the key that issues certificates"},
			} {
				if s.on {
					r.Step, what = s.step, s.what
					steps++
				}
			}
			if steps > 1 {
				return errors.New("one step at a time: --activate, --finish, --cancel or --intermediate")
			}
			if err := sure(yes, what); err != nil {
				return err
			}
			if outPass == "-" && inPass == "-" {
				return errors.New("only one passphrase can come from standard input")
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			if in != "" {
				if r.OldRoot, err = readBounded(in); err != nil {
					return fmt.Errorf("the present root's file: %w", err)
				}
				if r.Passphrase, err = passphrase(inPass, cmd.InOrStdin()); err != nil {
					return fmt.Errorf("present root: %w", err)
				}
			}
			if out != "" {
				if r.Step != hubd.CABegin {
					return errors.New("--root-out goes with the first step, which makes the root")
				}
				to, done, err := rootFile(out, outPass, cmd.InOrStdin())
				if err != nil {
					return err
				}
				defer done()
				r.To = &to
			}
			st, err := hubd.CARotate(cmd.Context(), database(c, commandLog()), r)
			if err != nil {
				return err
			}
			return writeCAStatus(cmd, o, st)
		},
	}
	f := cmd.Flags()
	f.StringVar(&out, "root-out", "", "file for the new root's encrypted private key; without it the key lies sealed in the database")
	f.StringVar(&outPass, "passphrase-file", "", "file with the new root's passphrase, or - for standard input")
	f.StringVar(&in, "root-in", "", "the present root's file, where its key lies offline")
	f.StringVar(&inPass, "root-in-passphrase-file", "", "file with the present root's passphrase, or - for standard input")
	f.BoolVar(&activate, "activate", false, "second step")
	f.BoolVar(&finish, "finish", false, "third step")
	f.BoolVar(&cancel, "cancel", false, "instead of the second step")
	f.BoolVar(&intermediate, "intermediate", false, "replace the issuing key only")
	f.BoolVar(&force, "force", false, "with --activate or --finish: cut off the sites that are not ready")
	f.BoolVar(&yes, "yes", false, "do it")
	return cmd
}

func caRevokeCommand(o *options) *cobra.Command {
	var serial, site, why string
	var yes bool
	cmd := &cobra.Command{
		Use:   "revoke (--serial HEX | --site NAME) --reason TEXT",
		Short: "End one certificate, or all certificates of a site, now",
		Long: "Live streams end within a second, calls are refused from the moment of this command on, at every hub process. A site comes back by enrolling anew;\n" +
			"what it has measured meanwhile is kept there.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (serial == "") == (site == "") {
				return errors.New("give either --serial or --site")
			}
			if strings.TrimSpace(why) == "" {
				return errors.New("--reason is needed: the agent shows it, and the audit log keeps it")
			}
			if err := sure(yes, "cannot be undone, only followed by a new certificate"); err != nil {
				return err
			}
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			if site != "" { // as site revoke: its peer and its open tokens end with its certificates, also while no hub runs
				_, err = hubd.RevokeSite(cmd.Context(), database(c, commandLog()), c.Env, site, why)
			} else {
				err = hubd.CARevoke(cmd.Context(), database(c, commandLog()), strings.ToLower(serial), "", why)
			}
			if err != nil {
				return err
			}
			if o.output == "json" {
				return writeJSON(cmd.OutOrStdout(), map[string]any{"revoked": serial + site})
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "revoked:", serial+site)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&serial, "serial", "", "serial number of one certificate, 32 hexadecimal digits")
	f.StringVar(&site, "site", "", "name or id of a site, which is cut off as by site revoke")
	f.StringVar(&why, "reason", "", "why; the site's agent shows it")
	f.BoolVar(&yes, "yes", false, "do it")
	return cmd
}

func caAllowCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "allow-recovery SITE",
		Short: "Let a site recover its certificate once more, though it did so three times in 30 days",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			if err := hubd.CAAllowRecovery(cmd.Context(), database(c, commandLog()), args[0]); err != nil {
				return err
			}
			if o.output == "json" {
				return writeJSON(cmd.OutOrStdout(), map[string]any{"site_id": args[0], "allowed": 1})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "site %s may recover once more\n", args[0])
			return err
		},
	}
}

func caCRLCommand(o *options) *cobra.Command {
	var out string
	var asDER bool
	cmd := &cobra.Command{
		Use:   "crl",
		Short: "Print the revocation list, signed now",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			list, err := hubd.CARevocationList(cmd.Context(), database(c, commandLog()))
			if err != nil {
				return err
			}
			if !asDER {
				list = pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list})
			}
			if out == "" {
				_, err = cmd.OutOrStdout().Write(list)
				return err
			}
			file, err := makeFile(out, 0o644, true)
			if err != nil {
				return fmt.Errorf("the revocation list's file: %w", err)
			}
			defer file.drop()
			return file.put(list)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file to write to, instead of standard output")
	cmd.Flags().BoolVar(&asDER, "der", false, "DER instead of PEM")
	return cmd
}
