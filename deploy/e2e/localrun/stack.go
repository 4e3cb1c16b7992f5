package localrun

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"text/template"
	"time"
)

// stack is one running system: its directories, addresses and programs.
type stack struct {
	c       Config
	dir     string // data, outside of the clone
	lock    *os.File
	ports   ports
	secrets []string
	key     string       // of the owner
	inside  *http.Client // for what runs at the site
	demo    contract
	live    time.Time // since when all miners are; zero before

	sim, hub, agent *child
	chain           *child     // nil: none
	contractOf      chainState // of the chain; zero: none

	mu        sync.Mutex
	pids      map[string]int
	kills     []time.Time   // of the agent, by whomever
	hits      []*hit        // of the kill loop; used by one goroutine
	announced [][16]byte    // by the kill loop: ids of excuses that the hub has confirmed; as hits
	readings  []reading     // of a soak run; as hits
	err       error         // why a program cannot be kept running
	broken    chan struct{} // closed when err is set
}

func openStack(ctx context.Context, c Config) (*stack, error) {
	s := &stack{c: c, dir: c.StateDir, pids: map[string]int{"run": os.Getpid()}, broken: make(chan struct{}), inside: http.DefaultClient}
	var err error
	if s.dir == "" {
		if s.dir, err = defaultStateDir(c.Name); err != nil {
			return nil, err
		}
	}
	if s.dir, err = filepath.Abs(s.dir); err != nil {
		return nil, fmt.Errorf("directory for the data of this run: %w", err)
	}
	if s.lock, err = openState(s.dir, c.Fresh); err != nil {
		return nil, err
	}
	if s.secrets, err = loadSecrets(s.dir); err != nil {
		return nil, err
	}
	if s.ports, err = choosePorts(ctx, s.dir, c.Web); err != nil {
		return nil, err
	}
	if c.site != nil && c.site.hub != "" {
		s.ports.GRPC, s.ports.WG = c.site.hub+":5443", c.site.hub+":51820"
	}
	if c.site != nil && c.site.namespace != "" {
		s.inside = &http.Client{Transport: &http.Transport{DialContext: c.site.dial}}
	}
	if err := os.MkdirAll(c.RunDir, 0o700); err != nil {
		return nil, fmt.Errorf("make %s: %w", c.RunDir, err)
	}
	return s, nil
}

func (s *stack) keyFile() string    { return filepath.Join(s.c.RunDir, "owner.key") }
func (s *stack) verifyPage() string { return "http://" + s.ports.Web + "/verify" }
func (s *stack) record() string     { return filepath.Join(s.dir, "sim", "record.jsonl") }

func (s *stack) program(name string) string { return filepath.Join(s.c.BinDir, "hashinsight-"+name) }

// hubEnv is the hub's configuration. Everything is on loopback, and the tunnel needs no privilege.
func (s *stack) hubEnv() []string {
	grpc, wg := s.told()
	env := append([]string{
		"HASHINSIGHT_ENV=dev", "DATABASE_URL=embedded:", "DATA_DIR=" + filepath.Join(s.dir, "hub"),
		"BIND_ADDR=" + s.ports.Web, "GRPC_ADDR=" + s.ports.GRPC, "PROMETHEUS_ADDR=" + s.ports.Metrics, "LOG_FORMAT=json",
		"WG_ADDR=" + s.ports.WG, "WG_BACKEND=netstack", "WG_ENDPOINT=" + wg, "HUB_ADDRESS=" + grpc, "FALLBACK_ADDRESS=" + grpc,
		"RATE_LIMIT_REQUESTS_PER_MINUTE=1000000", // page, tests and benchmarks share one key
		"TRANSPARENCY_LOG_PUBLIC=1",
	}, s.secrets...)
	if s.contractOf.Contract != "" {
		env = append(env, s.chainEnv(s.contractOf)...)
	}
	return env
}

// told is where the site finds the hub.
func (s *stack) told() (grpc, wg string) {
	grpc, wg = s.ports.GRPC, s.ports.WG
	if s.c.site != nil {
		grpc, wg = cmp.Or(s.c.site.grpc, grpc), cmp.Or(s.c.site.wg, wg)
	}
	return grpc, wg
}

// start brings everything up. The site is registered anew at every start, as certificates are short-lived.
func (s *stack) start(ctx context.Context) error {
	for _, d := range []string{"sim", "agent"} {
		if err := os.MkdirAll(filepath.Join(s.dir, d), 0o700); err != nil {
			return fmt.Errorf("make the directory for the data of this run: %w", err)
		}
	}
	// The record is this run's alone; the data of earlier runs stays in spool and database.
	if err := os.Remove(s.record()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the record of the run before: %w", err)
	}
	s.sim = s.newChild("sim", nil, s.program("sim"), "--miners", strconv.Itoa(s.c.Fleet), "--base", s.ports.SimBase, "--port", strconv.Itoa(s.ports.SimPort),
		"--seed", strconv.FormatUint(s.c.Seed, 10), "--faulty", "10%", "--record", s.record(), "--state", filepath.Join(s.dir, "sim", "state"), "--control", s.ports.Control)
	if err := s.sim.run(); err != nil {
		return err
	}
	if s.c.Anvil != "" {
		if err := s.startChain(ctx); err != nil {
			return err
		}
	}
	s.hub = s.newChild("hub", s.hubEnv(), s.program("hub"), "run")
	if err := s.hub.run(); err != nil {
		return err
	}
	if err := s.await(ctx, http.DefaultClient, "http://"+s.ports.Web+"/health/detailed"); err != nil {
		return fmt.Errorf("the hub: %w", err)
	}
	if err := s.ensureKey(ctx); err != nil {
		return err
	}
	if err := s.await(ctx, s.inside, "http://"+s.ports.Control+"/health"); err != nil {
		return fmt.Errorf("the simulator: %w", err)
	}
	if err := s.enrol(ctx); err != nil {
		return err
	}
	config, err := s.agentConfig(ctx)
	if err != nil {
		return err
	}
	s.agent = s.newChild("agent", nil, s.program("agent"), "run", "--config", config)
	return s.agent.run()
}

// close stops what still runs, in reverse order of start, and gives the data's lock up.
func (s *stack) close() error {
	var errs []error
	for _, c := range []*child{s.agent, s.sim, s.hub, s.chain} {
		if c != nil {
			errs = append(errs, c.stop())
		}
	}
	if err := os.Remove(filepath.Join(s.c.RunDir, "run.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	return errors.Join(append(errs, s.lock.Close())...)
}

func (s *stack) newChild(name string, env []string, argv ...string) *child {
	if name != "hub" && name != "chain" {
		argv = s.c.site.exec(argv)
	}
	return &child{
		name: name, argv: argv, env: env, logPath: filepath.Join(s.c.RunDir, name+".log"),
		started: func(pid int) { s.note(name, pid) },
		ended: func(at time.Time) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if name == "agent" {
				s.kills = append(s.kills, at)
			}
		},
		broken: func(err error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.err == nil {
				s.err = err
				close(s.broken)
			}
		},
	}
}

func (s *stack) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// note keeps run.json true. Scripts read from it where the page is and whom to signal.
func (s *stack) note(name string, pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pids[name] = pid
	told := map[string]any{"page": "http://" + s.ports.Web, "verify": s.verifyPage(), "owner_key": s.keyFile(), "pids": s.pids, "data": s.dir}
	if s.contractOf.Contract != "" {
		told["rpc"], told["contract"] = s.chainURL(), s.contractOf.Contract
	}
	b, err := json.MarshalIndent(told, "", "  ")
	if err == nil {
		err = writeFile(filepath.Join(s.c.RunDir, "run.json"), append(b, '\n'))
	}
	if err == nil && s.contractOf.Contract != "" {
		// The same for a shell. It stays when the run has ended: the chain can be started again.
		text := fmt.Sprintf("PAGE='http://%s'\nOWNER_KEY='%s'\nRPC='%s'\nCONTRACT='%s'\n", s.ports.Web, s.keyFile(), s.chainURL(), s.contractOf.Contract)
		err = writeFile(filepath.Join(s.c.RunDir, "run.env"), []byte(text))
	}
	if err != nil {
		fmt.Fprintf(s.c.Out, "run: %v\n", err)
	}
}

// await waits until an address answers 200.
func (s *stack) await(ctx context.Context, client *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return fmt.Errorf("ask %s: %w", url, err)
		}
		res, err := client.Do(req)
		if err == nil {
			_ = res.Body.Close() // nothing is read from it
			if res.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(res.Status)
		}
		select {
		case <-tick.C:
		case <-s.broken:
			return s.failed()
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer within %s: %w (see %s)", url, startTimeout, err, s.c.RunDir)
		}
	}
}

// ensureKey reads the owner's key and replaces it when it is lost or no longer the hub's.
func (s *stack) ensureKey(ctx context.Context) error {
	if b, err := os.ReadFile(s.keyFile()); err == nil {
		s.key = string(bytes.TrimSpace(b))
		if err := s.get(ctx, "/api/session", nil); err == nil {
			return nil
		}
	}
	if err := runOnce(ctx, s.hubEnv(), s.program("hub"), "apikey", "bootstrap", "--replace", "--out", s.keyFile()); err != nil {
		return err
	}
	b, err := os.ReadFile(s.keyFile())
	if err != nil {
		return fmt.Errorf("read the new owner's key: %w", err)
	}
	s.key = string(bytes.TrimSpace(b))
	return nil
}

// identity is the directory of the site's keys.
func (s *stack) identity() string { return filepath.Join(s.dir, "agent", "identity") }

// enrol does what an operator and a technician do for a site: a token at the hub, and joining with it at the site. A site that has
// joined in an earlier run stays what it is.
func (s *stack) enrol(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(s.identity(), "bundle.json")); err == nil {
		return nil
	}
	return s.join(ctx, "local", s.identity(), s.c.site)
}

// join makes a site's agent join with a token of its own.
func (s *stack) join(ctx context.Context, name, identity string, at *site) error {
	token := filepath.Join(s.dir, name+".token")
	if err := runOnce(ctx, s.hubEnv(), s.program("hub"), "token", "create", "--site", name, "--out", token); err != nil {
		return err
	}
	grpc, _ := s.told()
	err := runOnce(ctx, nil, at.exec([]string{s.program("agent"), "enrol", "--hub", grpc, "--token-file", token, "--dir", identity})...)
	return errors.Join(err, os.Remove(token))
}

var agentConfig = template.Must(template.New("agent.yaml").Parse(`# Written by hashinsight-run for the simulated fleet.
data_dir: {{printf "%q" .Dir}}
listen: {{.Listen}}
targets:
  - addresses:
{{- range .Addresses}}
      - {{.}}
{{- end}}
poll:
  interval: {{.Interval}}
  timeout: {{.Timeout}}
  connect_timeout: {{.Connect}}
batch:
  interval: {{.Batch}}
hub:
  address: {{.Hub}}
log:
  format: json
`))

// agentConfig writes agent.yaml for the simulator's miners, recorded ones included.
func (s *stack) agentConfig(ctx context.Context) (string, error) {
	fleet, err := s.fleet(ctx, time.Time{})
	if err != nil {
		return "", err
	}
	var addresses []string
	for _, m := range fleet {
		addresses = append(addresses, m.Address)
	}
	var b bytes.Buffer
	err = agentConfig.Execute(&b, map[string]any{"Dir": filepath.Join(s.dir, "agent"), "Listen": s.ports.Agent, "Addresses": addresses,
		"Interval": s.c.Interval, "Timeout": s.c.Timeout, "Connect": min(3*time.Second, s.c.Timeout), "Batch": s.c.BatchInterval, "Hub": s.ports.GRPC})
	if err != nil {
		return "", fmt.Errorf("write agent.yaml: %w", err)
	}
	path := filepath.Join(s.dir, "agent", "agent.yaml")
	return path, writeFile(path, b.Bytes())
}
