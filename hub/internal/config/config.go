// Package config is everything an operator can set on a hub: one struct whose tags hold each setting's name, default and
// explanation, read from flags, the environment, a .env file beside the program and a YAML file, in this order of weight.
// All problems are found at once, and no secret is ever printed. It starts nothing; the command line loads it and hands
// its values to hubd.
package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/hashinsight/hashinsight/pkg/diag"
)

// Config holds the settings. In the environment a setting has the name of its tag; in YAML the same in lower case; as a flag
// the same in lower case with dashes. Secrets have no flag: a process list would show them.
type Config struct {
	Env string `env:"HASHINSIGHT_ENV" section:"Basics" default:"prod" doc:"prod or dev. dev may run its own PostgreSQL and make its own secrets; prod requires DATABASE_URL, SESSION_SECRET and ENCRYPTION_PASSWORD. Also the env part of API keys."`

	Modules string `env:"MODULES" section:"Basics" doc:"Modules that this process runs, separated by commas: ingest (takes telemetry from agents), api, page, jobs (background work). Default: all. Any number of processes, each with any modules, may share one database; jobs must run in at least one."`

	DatabaseURL       URL    `env:"DATABASE_URL" section:"Database" doc:"PostgreSQL URL, such as postgres://user:password@host:5432/database, or embedded: for a PostgreSQL of the hub's own (the default in dev)."`
	DatabaseURLDirect URL    `env:"DATABASE_URL_DIRECT" section:"Database" doc:"URL of the same database past a transaction pooler, for migrations; only where DATABASE_URL leads through one."`
	DBPoolSize        int    `env:"DB_POOL_SIZE" alias:"SQLALCHEMY_POOL_SIZE" section:"Database" default:"10" min:"1" max:"1000" doc:"Connections kept open in each pool; API and ingest have one each. Older name: SQLALCHEMY_POOL_SIZE."`
	DBMaxOverflow     int    `env:"DB_MAX_OVERFLOW" alias:"SQLALCHEMY_MAX_OVERFLOW" section:"Database" default:"20" min:"0" max:"1000" doc:"Connections opened on demand above DB_POOL_SIZE. Older name: SQLALCHEMY_MAX_OVERFLOW."`
	DataDir           string `env:"DATA_DIR" section:"Database" doc:"Directory for the embedded PostgreSQL. Default: as root /var/lib/hashinsight, else hashinsight in the user's state directory."`
	EmbeddedUser      string `env:"EMBEDDED_POSTGRES_USER" section:"Database" doc:"When the hub runs as root: the user that runs the embedded PostgreSQL. Default: postgres, else hashinsight, which is made if it does not exist."`

	EvidenceURL        string `env:"EVIDENCE_URL" section:"Evidence" doc:"Where signed payloads go once their hour is over: file:///directory, or a bucket of a store that speaks S3: s3://bucket/prefix?region=eu-central-1, or s3://bucket?endpoint=https://minio.example.com:9000 for a store of one's own (region is then us-east-1 and path_style true unless given). Hubs on several machines need a place that all of them reach. Default: the directory evidence in DATA_DIR."`
	AWSAccessKeyID     Secret `env:"AWS_ACCESS_KEY_ID" section:"Evidence" doc:"Opens the bucket of EVIDENCE_URL, with AWS_SECRET_ACCESS_KEY. Without both, the role that the machine or container has opens it."`
	AWSSecretAccessKey Secret `env:"AWS_SECRET_ACCESS_KEY" section:"Evidence" doc:"The secret half of AWS_ACCESS_KEY_ID."`
	AWSSessionToken    Secret `env:"AWS_SESSION_TOKEN" section:"Evidence" doc:"Belongs to temporary keys only."`

	TransparencyLogDir    string `env:"TRANSPARENCY_LOG_DIR" section:"Transparency log" default:"log" doc:"Directory of the transparency log's tiles; a relative path is below DATA_DIR. They can be made again from the database (hashinsight-hub log rebuild), but a database restored to an earlier moment gets from them what it lacks: back them up apart from it. Hubs on several machines need a directory that all of them reach."`
	TransparencyLogPublic bool   `env:"TRANSPARENCY_LOG_PUBLIC" section:"Transparency log" default:"0" doc:"1: anybody may read the log without a key, at /api/log/ and, as C2SP tlog-tiles, at /log/. It holds hashes, keys, site ids and hours, no readings and no names."`

	BlockchainEnabled          bool      `env:"BLOCKCHAIN_ENABLED" section:"Blockchain" default:"false" doc:"1: anchor the transparency log's checkpoints on a chain. What is wrong with the settings below is logged at the start, and shown by config check and anchor status; it stops anchoring and nothing else."`
	BlockchainDriver           string    `env:"BLOCKCHAIN_DRIVER" section:"Blockchain" default:"log-contract" doc:"log-contract: checkpoints go to a contract AnchorLog. none: they are signed and anchored nowhere, and proofs say so."`
	BlockchainNetwork          string    `env:"BLOCKCHAIN_NETWORK" section:"Blockchain" default:"base-sepolia" doc:"base-sepolia (84532), base-mainnet (8453), or custom with BLOCKCHAIN_CHAIN_ID and BASE_RPC_URL."`
	BlockchainChainID          string    `env:"BLOCKCHAIN_CHAIN_ID" section:"Blockchain" doc:"Chain id, for the network custom. What endpoints say is compared with it."`
	BaseRPCURL                 Endpoints `env:"BASE_RPC_URL" section:"Blockchain" doc:"JSON-RPC endpoints of the chain, http or https, separated by commas; of several, two must agree before anything is believed. Default: https://sepolia.base.org or https://mainnet.base.org by network. They are shown without path and password, which can be a key."`
	BlockchainContract         string    `env:"BLOCKCHAIN_CONTRACT" section:"Blockchain" doc:"Address of the contract; hashinsight-hub anchor deploy makes one. Customers compare it with the one in their own contract."`
	BlockchainPrivateKey       Secret    `env:"BLOCKCHAIN_PRIVATE_KEY" section:"Blockchain" doc:"Key of the account that anchors and pays, 0x and 64 hex digits. It can append to the contract and nothing else. Needed by the module jobs only."`
	BlockchainKeystore         string    `env:"BLOCKCHAIN_KEYSTORE" section:"Blockchain" doc:"Keystore file with that key (as geth and wallets write them), instead of BLOCKCHAIN_PRIVATE_KEY."`
	BlockchainKeystorePassword Secret    `env:"BLOCKCHAIN_KEYSTORE_PASSWORD" section:"Blockchain" doc:"Opens BLOCKCHAIN_KEYSTORE."`
	BlockchainMaxFeeGwei       string    `env:"BLOCKCHAIN_MAX_FEE_GWEI" section:"Blockchain" default:"100" doc:"The most that a unit of gas may cost, in gwei, such as 0.5. While gas costs more nothing is sent; the next anchor covers what waits. Endpoints suggest prices, and the default keeps one that lies from emptying the account: an anchor costs 0.004 ETH then."`
	BlockchainMaxUSDDay        string    `env:"BLOCKCHAIN_MAX_USD_DAY" section:"Blockchain" doc:"The most that a day's anchors may cost in USD, such as 0.50, by BLOCKCHAIN_ETH_USD; every anchor has its share of the day. Default: no limit."`
	BlockchainEthUSD           string    `env:"BLOCKCHAIN_ETH_USD" section:"Blockchain" doc:"What one ETH costs in USD, for BLOCKCHAIN_MAX_USD_DAY. Set rather too high than too low."`
	AnchorInterval             string    `env:"ANCHOR_INTERVAL" section:"Blockchain" default:"1h" doc:"How often a checkpoint is anchored, 1s to 24h."`

	FastStartup        bool `env:"FAST_STARTUP" section:"Start" default:"1" doc:"Listen at once; until migrations are done everything but /health answers 503 with Retry-After. 0: listen when everything is ready."`
	SkipDatabaseHealth bool `env:"SKIP_DATABASE_HEALTH_CHECK" section:"Start" default:"1" doc:"0: check that the database answers, writes and has room for our connections before listening. First start in production: 0, and FAST_STARTUP=0."`

	SessionSecret      Secret `env:"SESSION_SECRET" section:"Secrets" doc:"Signs and encrypts sessions. At least 32 characters; hashinsight-hub config generate makes one. Two values separated by a comma (new, old) during a change."`
	EncryptionPassword Secret `env:"ENCRYPTION_PASSWORD" section:"Secrets" doc:"Seals the hub's private keys in the database. At least 32 characters. If it is lost, so are they."`

	BindAddr       string         `env:"BIND_ADDR" section:"Network" default:"0.0.0.0:5000" doc:"Where the page and the API listen."`
	HTTPReusePort  bool           `env:"HTTP_REUSEPORT" section:"Network" default:"0" doc:"1: let two hub processes share BIND_ADDR. Not with the embedded PostgreSQL."`
	GRPCAddr       string         `env:"GRPC_ADDR" section:"Network" default:"0.0.0.0:5443" doc:"Where agents connect (gRPC, mutual TLS)."`
	HubAddress     string         `env:"HUB_ADDRESS" section:"Network" doc:"host:port under which agents reach GRPC_ADDR; written into the bundles of sites. Several, separated by commas, when several hub processes take telemetry. Default: GRPC_ADDR, with this machine's name where it names no host."`
	PKIURL         string         `env:"PKI_URL" section:"Network" doc:"http://host:port under which others reach this hub's /pki/ (revocation lists and OCSP, served without a key); written into the certificates that the hub issues. Default: none is written."`
	PrometheusPort int            `env:"PROMETHEUS_PORT" section:"Network" default:"9090" min:"0" max:"65535" doc:"Port of /metrics, on all addresses."`
	PrometheusAddr string         `env:"PROMETHEUS_ADDR" section:"Network" doc:"host:port of /metrics, instead of PROMETHEUS_PORT on all addresses."`
	TrustedProxies []netip.Prefix `env:"TRUSTED_PROXIES" section:"Network" doc:"Addresses or prefixes, separated by commas, whose X-Forwarded-For, X-Forwarded-Proto and Forwarded are believed."`

	WGAddr          string       `env:"WG_ADDR" section:"Tunnel" default:"0.0.0.0:51820" doc:"UDP address where sites' WireGuard tunnels end; off: no tunnel, sites come over TCP. While the hub's key is changed the next port is used too."`
	WGBackend       string       `env:"WG_BACKEND" section:"Tunnel" default:"auto" doc:"kernel, tun, netstack, or auto: the first of these that this machine and user can have. netstack needs no privilege."`
	WGNetwork       netip.Prefix `env:"WG_NETWORK" section:"Tunnel" default:"10.8.0.0/16" doc:"Where addresses inside the tunnel come from: the first is the hub's, each site gets one for ever. May be widened, /8 at most."`
	WGEndpoint      string       `env:"WG_ENDPOINT" section:"Tunnel" doc:"host:port under which sites reach WG_ADDR. Default: the host of HUB_ADDRESS and the port of WG_ADDR."`
	WGInterface     string       `env:"WG_INTERFACE" section:"Tunnel" default:"wg0" doc:"Name of the interface that the backends kernel and tun make. It must not be one that something else has set up."`
	FallbackListen  string       `env:"FALLBACK_LISTEN" section:"Tunnel" doc:"host:port where agents are taken as well as at GRPC_ADDR, such as 0.0.0.0:443. Not needed where FALLBACK_ADDRESS is forwarded to GRPC_ADDR."`
	FallbackAddress string       `env:"FALLBACK_ADDRESS" section:"Tunnel" doc:"host:port, usually port 443, that sites may use over TCP when UDP does not pass and the site allows it. Default: none."`

	TrustedClientCertHeader string `env:"TRUSTED_CLIENT_CERT_HEADER" section:"TLS of the web API" doc:"Header in which TRUSTED_PROXIES, and nobody else, forward the certificate of their client: Client-Cert (RFC 9440, with Client-Cert-Chain), or any name with URL-encoded PEM, such as nginx's $ssl_client_escaped_cert. The proxy must set or remove it on every request. The certificate is verified here like one that was shown here."`
	MTLSEnabled             bool   `env:"MTLS_ENABLED" section:"TLS of the web API" default:"false" doc:"Serve the page and the API with TLS, and verify clients' certificates. Files that change are read again."`
	MTLSCACert              string `env:"MTLS_CA_CERT_PATH" section:"TLS of the web API" default:"/app/certs/ca.crt" doc:"Files, separated by commas, with the CAs whose client certificates count (PEM, intermediate CAs too). The word hub stands for the hub's own CA for API clients (hashinsight-hub ca issue)."`
	MTLSServerCert          string `env:"MTLS_SERVER_CERT_PATH" section:"TLS of the web API" default:"/app/certs/server.crt" doc:"The server's certificate with its chain, PEM."`
	MTLSServerKey           string `env:"MTLS_SERVER_KEY_PATH" section:"TLS of the web API" default:"/app/certs/server.key" doc:"Its private key, PEM."`
	MTLSVerifyClient        bool   `env:"MTLS_VERIFY_CLIENT" section:"TLS of the web API" default:"true" doc:"0: TLS without client certificates."`
	MTLSRequiredFor         string `env:"MTLS_REQUIRED_FOR" section:"TLS of the web API" default:"admin" doc:"For what a client certificate is needed: admin (/api/admin/...) or api (all of the API). A certificate that is shown must count in any case. It stands for the API key that was made for it (apikey create --certificate)."`
	MTLSPatterns            string `env:"MTLS_ALLOWED_DN_PATTERNS" section:"TLS of the web API" doc:"Subjects that may come, such as CN=*.hashinsight.net,O=HashInsight,C=US. Several patterns are separated by semicolons; all attributes of one must match, * stands for any text. Default: any subject of these CAs."`
	MTLSCRL                 string `env:"MTLS_CRL" section:"TLS of the web API" doc:"Revocation lists of those CAs: files or http URLs, separated by commas. A list that cannot be read, or has run out, stops its CA's clients. The hub's own revocations always count."`
	MTLSOCSP                string `env:"MTLS_OCSP" section:"TLS of the web API" default:"soft" doc:"Whether the OCSP responder that a client certificate names is asked: off, soft (one that does not answer stops nobody) or hard (it stops its clients)."`

	RateLimitEnabled   bool `env:"RATE_LIMIT_ENABLED" section:"Limits" default:"1" doc:"Limit the requests to the API. 0: none is refused for being one too many."`
	RateLimitPerMinute int  `env:"RATE_LIMIT_REQUESTS_PER_MINUTE" section:"Limits" default:"600" min:"1" max:"1000000" doc:"Requests a minute per API key, or per address without one, counted over all hub processes. Changed at run time with hashinsight-hub ratelimit; keys can have a limit of their own."`

	LogLevel  string `env:"LOG_LEVEL" section:"Logs" default:"info" doc:"debug, info, warn or error."`
	LogFormat string `env:"LOG_FORMAT" section:"Logs" doc:"json or text. Default: text on a terminal, else json."`
	LogDir    string `env:"LOG_DIR" section:"Logs" doc:"Directory that also gets app.log, access.log and error.log, rotated."`

	AuditLogPath string `env:"AUDIT_LOG_PATH" section:"Logs" default:"logs/audit.jsonl" doc:"File of the audit log, one JSON object a line; a relative path is below DATA_DIR. It follows the audit log in the database; one hub process a host writes it, and rotates it at 100 MB. off: no file on this host."`

	// Sources says where each setting that is not a default came from, by name.
	Sources map[string]string `env:"-"`
	// Warnings are things that are probably mistakes and stop nothing.
	Warnings []string `env:"-"`
}

// Embedded reports whether the hub shall run its own PostgreSQL.
func (c *Config) Embedded() bool { return c.DatabaseURL == "embedded:" }

// Dev reports whether this is a development hub.
func (c *Config) Dev() bool { return c.Env == "dev" }

// MetricsAddr is where /metrics listens.
func (c *Config) MetricsAddr() string {
	if c.PrometheusAddr != "" {
		return c.PrometheusAddr
	}
	return net.JoinHostPort("", strconv.Itoa(c.PrometheusPort))
}

// VerifiesClients reports whether clients' certificates of the web API are looked at: those shown to us, or those that proxies forward.
func (c *Config) VerifiesClients() bool {
	return c.MTLSEnabled && c.MTLSVerifyClient || c.TrustedClientCertHeader != ""
}

// ClientCAs are the files of the CAs that may name clients of the web API, and whether the hub's own may.
func (c *Config) ClientCAs() (files []string, own bool) {
	for _, f := range list(c.MTLSCACert) {
		if f == "hub" {
			own = true
		} else {
			files = append(files, f)
		}
	}
	return files, own
}

// CRLs are the revocation lists of clients of the web API.
func (c *Config) CRLs() []string { return list(c.MTLSCRL) }

// list cuts at commas.
func list(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

// checkTLS returns what is wrong with the settings of the web API's TLS.
func (c *Config) checkTLS() (problems []error) {
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if h := c.TrustedClientCertHeader; h != "" {
		if len(c.TrustedProxies) == 0 {
			bad("TRUSTED_CLIENT_CERT_HEADER needs TRUSTED_PROXIES: without it nobody may forward a certificate")
		}
		if strings.ContainsFunc(h, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-'
		}) {
			bad("TRUSTED_CLIENT_CERT_HEADER is %.60q: want a header's name such as Client-Cert", h)
		}
	}
	if c.MTLSRequiredFor != "admin" && c.MTLSRequiredFor != "api" {
		bad("MTLS_REQUIRED_FOR is %.40q: want admin or api", c.MTLSRequiredFor)
	}
	if c.MTLSOCSP != "off" && c.MTLSOCSP != "soft" && c.MTLSOCSP != "hard" {
		bad("MTLS_OCSP is %.40q: want off, soft or hard", c.MTLSOCSP)
	}
	if files, own := c.ClientCAs(); c.VerifiesClients() && len(files) == 0 && !own {
		bad("MTLS_CA_CERT_PATH names no CA: want a file, or hub for the hub's own")
	}
	if c.MTLSEnabled && (c.MTLSServerCert == "" || c.MTLSServerKey == "") {
		bad("MTLS_ENABLED needs MTLS_SERVER_CERT_PATH and MTLS_SERVER_KEY_PATH")
	}
	return problems
}

// RateLimit is everyone's limit of requests a minute; 0 means none.
func (c *Config) RateLimit() int {
	if !c.RateLimitEnabled {
		return 0
	}
	return c.RateLimitPerMinute
}

// ServerNames are the names of the hub's own certificate.
func (c *Config) ServerNames() []string {
	names := []string{"localhost", "127.0.0.1"}
	for _, addr := range append(strings.Split(c.HubAddress, ","), c.GRPCAddr) {
		host, _, err := net.SplitHostPort(addr)
		if ip, perr := netip.ParseAddr(host); err != nil || host == "" || perr == nil && ip.IsUnspecified() {
			continue
		}
		if host != "localhost" && host != "127.0.0.1" && !slices.Contains(names, host) {
			names = append(names, host)
		}
	}
	return names
}

// RequiredError is the lack of a setting that a hub needs, and a command perhaps not.
type RequiredError struct{ Name, Advice string }

// Error implements error.
func (e *RequiredError) Error() string {
	return fmt.Sprintf("%s is required in prod: %s", e.Name, e.Advice)
}

// finish fills in defaults that depend on others, and returns every problem.
func (c *Config) finish(home func() (string, error)) []error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }

	if c.Env != "prod" && c.Env != "dev" {
		bad("HASHINSIGHT_ENV is %.40q: want prod or dev", c.Env)
	}
	if c.DatabaseURL == "" && c.Dev() {
		c.DatabaseURL = "embedded:"
	}
	required := func(name string, empty bool, advice string) {
		if empty && !c.Dev() {
			problems = append(problems, &RequiredError{name, advice})
		}
	}
	modules, err := ParseModules(c.Modules)
	if err != nil {
		bad("MODULES %w", err)
		modules = AllModules()
	}
	c.Modules = strings.Join(modules, ",")
	required("DATABASE_URL", c.DatabaseURL == "", "set the URL of a PostgreSQL server, or embedded: for one of the hub's own")
	// A secret is required where it is used: the fewer processes know it, the better.
	required("SESSION_SECRET", c.SessionSecret == "" && slices.Contains(modules, ModuleAPI), "hashinsight-hub config generate makes one")
	required("ENCRYPTION_PASSWORD", c.EncryptionPassword == "" && (slices.Contains(modules, ModuleIngest) || slices.Contains(modules, ModuleJobs)), "hashinsight-hub config generate makes one")
	for _, s := range strings.Split(string(c.SessionSecret), ",") {
		if err := checkSecret(s); c.SessionSecret != "" && err != nil {
			bad("SESSION_SECRET %w", err)
			break
		}
	}
	if strings.Count(string(c.SessionSecret), ",") > 1 {
		bad("SESSION_SECRET has more than two values: during a change it holds the new and the old one")
	}
	if err := checkSecret(string(c.EncryptionPassword)); c.EncryptionPassword != "" && err != nil {
		bad("ENCRYPTION_PASSWORD %w", err)
	}
	if c.EncryptionPassword != "" && c.SessionSecret == c.EncryptionPassword {
		bad("SESSION_SECRET and ENCRYPTION_PASSWORD are the same: make two (hashinsight-hub config generate)")
	}
	for name, u := range map[string]URL{"DATABASE_URL": c.DatabaseURL, "DATABASE_URL_DIRECT": c.DatabaseURLDirect} {
		if err := u.check(); err != nil && (name == "DATABASE_URL_DIRECT" || !c.Embedded()) {
			bad("%s %w", name, err)
		}
	}
	if c.DataDir == "" {
		dir, err := home()
		if err != nil {
			bad("DATA_DIR has no default here: %w: set it", err)
		}
		c.DataDir = dir
	} else if !filepath.IsAbs(c.DataDir) {
		bad("DATA_DIR is %.80q: want an absolute path", c.DataDir)
	}
	switch {
	case c.AuditLogPath == "off":
		c.AuditLogPath = ""
	case !filepath.IsAbs(c.AuditLogPath):
		c.AuditLogPath = filepath.Join(c.DataDir, c.AuditLogPath)
	}
	if c.TransparencyLogDir == "" {
		bad("TRANSPARENCY_LOG_DIR is empty: want a directory, such as the default log")
	} else if !filepath.IsAbs(c.TransparencyLogDir) {
		c.TransparencyLogDir = filepath.Join(c.DataDir, c.TransparencyLogDir)
	}
	problems = append(problems, c.finishEvidence()...)
	for name, addr := range map[string]string{"BIND_ADDR": c.BindAddr, "GRPC_ADDR": c.GRPCAddr, "PROMETHEUS_ADDR": c.MetricsAddr()} {
		if err := checkAddr(addr); err != nil {
			bad("%s is %.80q: %w", name, addr, err)
		}
	}
	if c.HubAddress == "" {
		c.HubAddress = defaultHubAddress(c.GRPCAddr)
	} else {
		addrs := strings.Split(c.HubAddress, ",")
		for i, addr := range addrs {
			addrs[i] = strings.TrimSpace(addr)
			if err := checkAddr(addrs[i]); err != nil {
				bad("HUB_ADDRESS has %.80q: %w", addr, err)
			}
		}
		c.HubAddress = strings.Join(addrs, ",")
	}
	problems = append(problems, c.finishTunnel()...)
	c.warnChain() // what is wrong with the chain's settings stops nothing but anchoring: Chain tells it
	if u, err := url.Parse(c.PKIURL); c.PKIURL != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "") {
		bad("PKI_URL is %.80q: want http://host:port and nothing after it", c.PKIURL)
	}
	if c.HTTPReusePort && c.Embedded() {
		bad("HTTP_REUSEPORT=1 does not go with the embedded PostgreSQL, which serves one hub process: set DATABASE_URL to a server")
	}
	problems = append(problems, c.checkTLS()...)
	if _, err := diag.ParseLevel(c.LogLevel); err != nil {
		bad("LOG_LEVEL: %w", err)
	}
	if err := diag.CheckFormat(c.LogFormat); err != nil {
		bad("LOG_FORMAT: %w", err)
	}
	return problems
}

func checkAddr(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return errors.New("want host:port, such as 127.0.0.1:5000 or [::1]:5000")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("port %.20q is not a number up to 65535", port)
	} else if n == 0 {
		return nil // any free port; tests use it
	}
	return nil
}

func defaultHubAddress(grpcAddr string) string {
	host, port, err := net.SplitHostPort(grpcAddr)
	if err != nil {
		return grpcAddr // named as a problem already
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		if host, err = os.Hostname(); err != nil {
			host = "localhost"
		}
	}
	return net.JoinHostPort(host, port)
}

// DefaultDataDir is where a hub keeps its data when nothing else is said.
func DefaultDataDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/hashinsight", nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "hashinsight"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".local", "state", "hashinsight"), nil
}

// Secret is text that nothing prints: not fmt, not slog, not JSON.
type Secret string

// What is shown of a secret.
const (
	hidden  = "[set, not shown]"
	missing = "[missing]"
)

// String implements fmt.Stringer.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hidden
}

// GoString implements fmt.GoStringer.
func (s Secret) GoString() string { return s.String() }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON implements json.Marshaler.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// URL is a database URL, which prints without its password and parameters.
type URL string

// String implements fmt.Stringer.
func (u URL) String() string {
	if u == "" || u == "embedded:" {
		return string(u)
	}
	p, err := url.Parse(string(u))
	if err != nil || p.Host == "" && p.Path == "" {
		return hidden
	}
	return (&url.URL{Scheme: p.Scheme, Host: p.Host, Path: p.Path}).String()
}

// GoString implements fmt.GoStringer.
func (u URL) GoString() string { return u.String() }

// LogValue implements slog.LogValuer.
func (u URL) LogValue() slog.Value { return slog.StringValue(u.String()) }

// MarshalJSON implements json.Marshaler.
func (u URL) MarshalJSON() ([]byte, error) { return json.Marshal(u.String()) }

func (u URL) check() error {
	if u == "" {
		return nil
	}
	p, err := url.Parse(string(u))
	if err != nil || p.Scheme != "postgres" && p.Scheme != "postgresql" { // the parser's text could hold the password
		return errors.New("is not a PostgreSQL URL: it looks like postgres://user:password@host:5432/database (special characters in the password as %XX)")
	}
	return nil
}
