package config

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write .env.example")

const good = "kV2m8Qe1_rT7uY4pA9sD3fG6hJ0lZ5xC"

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFlagsWinOverEnvironmentOverDotEnvOverYAML(t *testing.T) {
	src := Sources{
		YAML:    write(t, "hub.yaml", "hashinsight_env: dev\nbind_addr: 127.0.0.1:1\ngrpc_addr: 127.0.0.1:1\nprometheus_port: 1\nlog_level: debug\ntrusted_proxies: [10.0.0.0/8, 127.0.0.1]\n"),
		DotEnv:  write(t, ".env", "BIND_ADDR=127.0.0.1:2\nGRPC_ADDR=127.0.0.1:2\nPROMETHEUS_PORT=2\nBIND_ADR=x\n"),
		Environ: []string{"GRPC_ADDR=127.0.0.1:3", "PROMETHEUS_PORT=3", "SQLALCHEMY_POOL_SIZE=7", "LOG_FORMAT="},
		Flags:   map[string]string{"PROMETHEUS_PORT": "4"},
	}
	c, err := Load(src)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(c.LogLevel, c.BindAddr, c.GRPCAddr, c.PrometheusPort, c.DBPoolSize, c.TrustedProxies, c.HubAddress, c.Embedded())
	want := "debug127.0.0.1:2127.0.0.1:34 7 [10.0.0.0/8 127.0.0.1/32]127.0.0.1:3true"
	if strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(want, " ", "") {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "did you mean BIND_ADDR?") {
		t.Errorf("a misspelt name in .env gives %q", c.Warnings)
	}
	if c.Sources["PROMETHEUS_PORT"] != "flag" || c.Sources["GRPC_ADDR"] != "environment" {
		t.Errorf("sources are %v", c.Sources)
	}
}

func TestAllProblemsAtOnceAndNoSecretShown(t *testing.T) {
	const url = "postgres//user:hunter2@host/db"
	_, err := Load(Sources{
		YAML: write(t, "hub.yaml", "databse_url: x\nlog_dir: {a: b}\n"),
		Environ: []string{
			"DATABASE_URL=" + url, "SESSION_SECRET=tooshort-hunter2", "ENCRYPTION_PASSWORD=your-encryption-password-goes-here-hunter2",
			"BIND_ADDR=5000", "PROMETHEUS_PORT=70000", "FAST_STARTUP=maybe", "TRUSTED_PROXIES=10.1.2.3/8,nonsense", "LOG_LEVEL=loud", "DATA_DIR=here", "DB_POOL_SIZE=ten",
		},
	})
	var p ProblemsError
	if !errors.As(err, &p) {
		t.Fatalf("got %v", err)
	}
	text := err.Error()
	for _, want := range []string{
		`unknown key "databse_url" (did you mean database_url?)`, "log_dir has a block", "DATABASE_URL is not a PostgreSQL URL", "SESSION_SECRET has 16 characters",
		"ENCRYPTION_PASSWORD is a published placeholder", `BIND_ADDR is "5000"`, "PROMETHEUS_PORT (from environment) is 70000", "FAST_STARTUP", `write 10.0.0.0/8; has "nonsense"`,
		"LOG_LEVEL", "DATA_DIR", "DB_POOL_SIZE",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("not named: %s", want)
		}
	}
	if strings.Contains(text, "hunter2") {
		t.Errorf("a secret is shown:\n%s", text)
	}
}

func TestProductionNamesAllThatIsMissing(t *testing.T) {
	_, err := Load(Sources{})
	for _, name := range []string{"DATABASE_URL", "SESSION_SECRET", "ENCRYPTION_PASSWORD"} {
		if err == nil || !strings.Contains(err.Error(), name+" is required in prod") {
			t.Errorf("%s is not named: %v", name, err)
		}
	}
	c, err := Load(Sources{Environ: []string{"DATABASE_URL=embedded:", "SESSION_SECRET=" + good + ",old" + good, "ENCRYPTION_PASSWORD=enc" + good}})
	if err != nil || !c.Embedded() {
		t.Errorf("a complete production configuration is refused: %v", err)
	}
	_, err = Load(Sources{Environ: []string{"DATABASE_URL=embedded:", "HTTP_REUSEPORT=1", "SESSION_SECRET=" + good, "ENCRYPTION_PASSWORD=" + good}})
	if err == nil || !strings.Contains(err.Error(), "are the same") || !strings.Contains(err.Error(), "HTTP_REUSEPORT") {
		t.Errorf("got %v", err)
	}
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	c, err := Load(Sources{Environ: []string{"DATABASE_URL=postgres://me:" + good + "@db:5432/x?password=" + good, "SESSION_SECRET=" + good, "ENCRYPTION_PASSWORD=enc" + good}})
	if err != nil {
		t.Fatal(err)
	}
	j, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for form, text := range map[string]string{
		"%v": fmt.Sprintf("%v", c), "%+v": fmt.Sprintf("%+v", *c), "%#v": fmt.Sprintf("%#v", *c), "%q": fmt.Sprintf("%q", c.SessionSecret),
		"json": string(j), "values": fmt.Sprint(c.Values()),
	} {
		if strings.Contains(text, good) {
			t.Errorf("%s shows a secret: %s", form, text)
		}
	}
	if !strings.Contains(fmt.Sprint(c.Values()), "postgres://db:5432/x") {
		t.Errorf("the server's name is hidden too: %v", c.Values())
	}
}

func TestDevelopmentSecretsLast(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	load := func() *Config {
		c, err := Load(Sources{Environ: []string{"HASHINSIGHT_ENV=dev", "DATA_DIR=" + dir}})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.FillDevSecrets(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	a, b := load(), load()
	if a.SessionSecret != b.SessionSecret || a.EncryptionPassword != b.EncryptionPassword || len(a.SessionSecret) < 43 {
		t.Error("the second start has other secrets")
	}
	st, err := os.Stat(filepath.Join(dir, "secrets.env"))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", st, err)
	}
	left, _ := filepath.Glob(filepath.Join(dir, ".secrets-*")) // the pattern is right
	if len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestExampleIsUpToDate(t *testing.T) {
	path := filepath.Join("..", "..", ".env.example")
	if *update {
		if err := os.WriteFile(path, []byte(Example()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != Example() {
		t.Errorf("%s differs from the configuration struct (%v): run `make gen`, or go test ./internal/config -update in hub", path, err)
	}
	for _, s := range Settings() {
		if s.Doc == "" || s.Section == "" {
			t.Errorf("%s has no explanation or section", s.Name)
		}
	}
	// The example itself starts nothing: its secrets are empty.
	if _, err := Load(Sources{DotEnv: path}); err == nil {
		t.Error("the example is a valid production configuration")
	}
}
