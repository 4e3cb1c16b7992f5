package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hashinsight/hashinsight/hub/hubd"
	"github.com/hashinsight/hashinsight/hub/internal/config"
	"github.com/hashinsight/hashinsight/pkg/diag"
)

// options are what all commands share.
type options struct {
	yaml     string
	embedded bool
	output   string // table or json
	flags    *pflag.FlagSet
}

func newRoot() *cobra.Command {
	o := &options{}
	root := &cobra.Command{
		Use:           "hashinsight-hub",
		Short:         "The hub of HashInsight: takes signed telemetry from sites, keeps it in PostgreSQL, serves API and page",
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if o.output != "table" && o.output != "json" {
				return fmt.Errorf("output %.20q: want table or json", o.output)
			}
			return nil
		},
	}
	f := root.PersistentFlags()
	o.flags = f
	f.StringVar(&o.yaml, "config", os.Getenv("HASHINSIGHT_CONFIG"), "YAML file with settings (environment: HASHINSIGHT_CONFIG)")
	f.BoolVar(&o.embedded, "embedded-postgres", false, "run a PostgreSQL of the hub's own, as DATABASE_URL=embedded:")
	f.StringVarP(&o.output, "output", "o", "table", "table or json")
	for _, s := range config.Settings() {
		switch {
		case s.Secret: // a process list would show it
		case s.Bool:
			f.Bool(s.Flag(), s.Default == "1", s.Doc)
		default:
			f.String(s.Flag(), s.Default, s.Doc)
		}
	}
	helpWithoutSettings(root)
	root.AddCommand(runCommand(o), configCommand(o), migrateCommand(o), siteCommand(o), tokenCommand(o), caCommand(o), apikeyCommand(o), customerCommand(o), contractCommand(o), maintenanceCommand(o), curtailCommand(o), excusesCommand(o), auditCommand(o), anchorCommand(o), ratelimitCommand(o), jobsCommand(o), peersCommand(o), wgCommand(o), deadletterCommand(o), forksCommand(o), evidenceCommand(o), hoursCommand(o), disputesCommand(o), slaCommand(o), statementCommand(o), logCommand(o), proofCommand(o), versionCommand(o))
	return root
}

// helpWithoutSettings keeps the hub's settings, which every command takes as flags too, out of the help of single commands: dozens of them would
// hide the command's own. The help of the program and of run lists them.
func helpWithoutSettings(root *cobra.Command) {
	const inherited = `{{if .HasAvailableInheritedFlags}}

Global Flags:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}`
	const instead = `{{if .HasAvailableInheritedFlags}}{{if eq .Name "run"}}

Settings:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}{{else}}

Every command takes -o json, --config FILE and the hub's settings: {{.Root.Name}} --help lists them.{{end}}{{end}}`
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), inherited, instead, 1))
}

// load reads the configuration of every source.
func (o *options) load() (*config.Config, error) {
	given := map[string]string{}
	for _, s := range config.Settings() {
		if f := o.flags.Lookup(s.Flag()); s.Flag() != "" && f != nil && f.Changed {
			given[s.Name] = f.Value.String()
		}
	}
	if o.embedded {
		given["DATABASE_URL"] = "embedded:"
	}
	return config.Load(config.Sources{Flags: given, Environ: os.Environ(), DotEnv: config.DotEnvPath(), YAML: o.yaml})
}

// loadForWork reads the configuration for a command that uses the database.
func (o *options) loadForWork() (*config.Config, error) {
	c, err := o.load()
	if err != nil {
		return nil, err
	}
	return c, c.FillDevSecrets()
}

func database(c *config.Config, log *slog.Logger) hubd.Database {
	return hubd.Database{
		DatabaseURL: string(c.DatabaseURL), DatabaseURLDirect: string(c.DatabaseURLDirect), DataDir: c.DataDir, EmbeddedUser: c.EmbeddedUser,
		PoolSize: c.DBPoolSize, PoolOverflow: c.DBMaxOverflow, EncryptionPassword: string(c.EncryptionPassword), PKIURL: c.PKIURL, Log: log,
	}
}

func transparency(c *config.Config) hubd.Transparency {
	return hubd.Transparency{Dir: c.TransparencyLogDir, Public: c.TransparencyLogPublic}
}

func tunnel(c *config.Config) hubd.Tunnel {
	return hubd.Tunnel{Addr: c.WGAddr, Backend: c.WGBackend, Network: c.WGNetwork, Endpoint: c.WGEndpoint, Interface: c.WGInterface, Fallback: c.FallbackAddress,
		FallbackListen: c.FallbackListen,
	}
}

func webTLS(c *config.Config) hubd.WebTLS {
	w := hubd.WebTLS{
		VerifyClient: c.VerifiesClients(), Patterns: c.MTLSPatterns, CRLs: c.CRLs(), OCSP: c.MTLSOCSP, RequiredFor: c.MTLSRequiredFor, ClientHeader: c.TrustedClientCertHeader,
	}
	if c.MTLSEnabled {
		w.Cert, w.Key = c.MTLSServerCert, c.MTLSServerKey
	}
	w.CAs, w.OwnCA = c.ClientCAs()
	return w
}

// commandLog is for commands beside a hub: what a person should see, on standard error.
func commandLog() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func runCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Run the hub until it is told to stop",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			c, err := o.loadForWork()
			if err != nil {
				return err
			}
			logs, err := diag.OpenLogs(diag.LogConfig{Level: c.LogLevel, Format: c.LogFormat, Dir: c.LogDir})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, logs.Close()) }()
			for _, w := range c.Warnings {
				logs.App.WarnContext(cmd.Context(), "configuration", "warning", w)
			}
			return hubd.Run(cmd.Context(), hubd.Config{
				Database: database(c, logs.App), Modules: strings.Split(c.Modules, ","), Evidence: evidencePlace(c), AuditPath: c.AuditLogPath, Transparency: transparency(c), Chain: c.Chain(), RateLimit: c.RateLimit(), WebTLS: webTLS(c), Env: c.Env, SessionSecret: string(c.SessionSecret),
				BindAddr: c.BindAddr, GRPCAddr: c.GRPCAddr, MetricsAddr: c.MetricsAddr(), ReusePort: c.HTTPReusePort,
				ServerNames: c.ServerNames(), TrustedProxies: c.TrustedProxies,
				Tunnel: tunnel(c), HubAddress: c.HubAddress,
				FastStartup: c.FastStartup, SkipDatabaseHealthCheck: c.SkipDatabaseHealth, AccessLog: logs.Access,
			})
		},
	}
}

func versionCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show which version this is",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := diag.ReadBuild()
			if o.output == "json" {
				return writeJSON(cmd.OutOrStdout(), b)
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "hashinsight-hub", b)
			return err
		},
	}
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// writeTable writes aligned columns.
func writeTable(w io.Writer, head string, rows []string) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	_, err := fmt.Fprintln(t, head)
	for _, r := range rows {
		if err == nil {
			_, err = fmt.Fprintln(t, r)
		}
	}
	return errors.Join(err, t.Flush())
}

// newFile is a file that appears under its name whole or not at all. Making it first shows that the place can be written
// before anything is done that cannot be undone.
type newFile struct {
	path string
	tmp  *os.File
}

// makeFile begins a file. An existing one is replaced only on order.
func makeFile(path string, mode os.FileMode, replace bool) (*newFile, error) {
	if st, err := os.Lstat(path); err == nil {
		if !replace {
			return nil, fmt.Errorf("%s exists already: choose another name or remove it", path)
		}
		if st.IsDir() {
			return nil, fmt.Errorf("%s is a directory: name a file in it", path)
		}
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".hsi-*") // mode 0600
	if err != nil {
		return nil, err
	}
	if err := tmp.Chmod(mode); err != nil {
		return nil, errors.Join(err, tmp.Close(), os.Remove(tmp.Name()))
	}
	return &newFile{path, tmp}, nil
}

// put writes the contents and gives the file its name.
func (f *newFile) put(data []byte) error {
	if _, err := f.tmp.Write(data); err != nil {
		return errors.Join(err, f.tmp.Close())
	}
	return f.finish()
}

// finish gives what was written its name.
func (f *newFile) finish() error {
	if err := errors.Join(f.tmp.Sync(), f.tmp.Close()); err != nil {
		return err
	}
	return os.Rename(f.tmp.Name(), f.path)
}

// drop removes what was begun and not put.
func (f *newFile) drop() {
	_ = f.tmp.Close()           // closed already after put
	_ = os.Remove(f.tmp.Name()) // gone already after put
}
