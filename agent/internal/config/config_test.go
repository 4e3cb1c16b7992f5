package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTheExampleIsValidAndIsTheDefault(t *testing.T) {
	c, err := Load(write(t, Example()), nil, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, Example())
	}
	want := Default()
	want.Targets = c.Targets
	if !reflect.DeepEqual(c, want) {
		t.Errorf("the example gives\n%+v\nthe defaults are\n%+v", c, want)
	}
	for _, f := range configFields() {
		if f.doc == "" {
			t.Errorf("%s has no documentation", f.path)
		}
		if !strings.Contains(Example(), "# Environment: "+f.env+"\n") {
			t.Errorf("the example does not name %s", f.env)
		}
	}
}

func TestEveryProblemIsReportedAtOnceWithItsLine(t *testing.T) {
	_, err := Load(write(t, `data_dir: /data
polls:
  interval: 10s
poll:
  interval: 10
  timout: 5s
batch:
  max_samples: many
spool:
  max_size: 100
targets:
  - addresses: 10.0.0.1
  - addresses: ["10.0.0.2"]
    prot: 4028
  - addresses: ["10.0.0.300"]
    interval: 1ms
hub: {address: nowhere}
`), []string{"HSI_POLL_TIMEOUT=soon", "HSI_POL_INTERVAL=10s", "PATH=/bin"}, nil)
	want := []string{
		`line 2: unknown key "polls": did you mean poll?`,
		`line 5: poll.interval: "10" has no unit: write 10s for seconds, 10m for minutes`,
		`line 6: unknown key "poll.timout": did you mean timeout?`,
		`line 8: batch.max_samples: "many" is not a whole number`,
		`line 10: spool.max_size: "100" has no unit: write 100MiB or 100GiB`,
		`line 12: targets[0].addresses must be a list, such as [a, b]`,
		`line 14: unknown key "targets[1].prot": did you mean port?`,
		`HSI_POLL_TIMEOUT: "soon" is not a duration such as 10s, 500ms or 24h`,
		`HSI_POL_INTERVAL: is not a setting of the agent: did you mean HSI_POLL_INTERVAL?; 'config example' lists all`,
		`targets[2].interval: 1ms is outside 1s to 1h`,
		`hub.address: "nowhere" is not host:port`,
		`targets[2].addresses: "10.0.0.300" is no address, network, range or host name`,
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want *Error", err)
	}
	if !reflect.DeepEqual(e.Problems, want) {
		t.Errorf("problems:\n%s\nwant:\n%s", strings.Join(e.Problems, "\n"), strings.Join(want, "\n"))
	}
}

func TestOneWrongThingGivesOneClearError(t *testing.T) {
	const base = "targets: [{addresses: [10.0.0.1]}]\n"
	for name, c := range map[string]struct{ yaml, want string }{
		"no target":             {"poll: {interval: 10s}", "targets: is empty"},
		"not yaml":              {"a: [", "is not YAML"},
		"a list":                {"- a", "line 1: the file must be keys with values"},
		"two documents":         {base + "---\nlisten: off\n", "a second document"},
		"duplicate key":         {base + "listen: off\nlisten: off\n", "listen"},
		"null":                  {base + "listen:\n", "line 2: listen has no value"},
		"anchor":                {base + "listen: &a off\n", "anchors"},
		"too fast":              {base + "poll: {interval: 10ms}", "poll.interval: 10ms is outside 1s to 1h"},
		"batch too long":        {base + "batch: {interval: 1m}", "batch.interval: 1m0s is outside 1s to 5s"},
		"connect over total":    {base + "poll: {connect_timeout: 20s}", "poll.connect_timeout: 20s is longer than poll.timeout, 10s"},
		"segment over spool":    {base + "spool: {max_size: 64MiB, segment_size: 64MiB}", "spool.segment_size: 64MiB is more than a quarter"},
		"hub without port":      {base + "hub: {address: hub.example.com}", `hub.address: "hub.example.com" is not host:port`},
		"second hub":            {base + "hub: {address: 'a:1, b'}", `hub.address: "b" is not host:port`},
		"hub port":              {base + "hub: {address: 'hub:99999'}", "hub.address"},
		"listen":                {base + "listen: ':9101'", "listen"},
		"level":                 {base + "log: {level: loud}", "log.level"},
		"address":               {"targets: [{addresses: [10.0.0.256]}]", `targets[0].addresses: "10.0.0.256" is no address`},
		"network":               {"targets: [{addresses: [10.0.0.0/33]}]", `"10.0.0.0/33" is not a network`},
		"range backwards":       {"targets: [{addresses: [10.0.0.9-10.0.0.1]}]", "the lower address first"},
		"port in address":       {"targets: [{addresses: ['10.0.0.1:0']}]", "the port must be a number from 1 to 65535"},
		"too many":              {"targets: [{addresses: [10.0.0.0/15]}]", "more than 65536"},
		"too many together":     {"targets: [{addresses: [10.0.0.0/16, 10.1.0.0/24]}]", "more than 65536"},
		"an ocean of addresses": {"targets: [{addresses: ['fd00::/8']}]", "more than 65536"},
		"overlap":               {"targets: [{addresses: [10.0.0.0/24]}, {addresses: [10.0.0.128/25]}]", "is in targets[0] already"},
		"empty addresses":       {"targets: [{port: 4028}]", "targets[0].addresses: is empty"},
		"target port":           {"targets: [{addresses: [a], port: 70000}]", "targets[0].port: 70000 is outside"},
		"target interval":       {"targets: [{addresses: [a], interval: 1ms}]", "targets[0].interval: 1ms is outside"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(write(t, c.yaml), nil, nil)
			var e *Error
			if !errors.As(err, &e) || len(e.Problems) != 1 || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want exactly one problem with %q", err, c.want)
			}
		})
	}
}

func TestFlagsWinOverEnvironmentOverFile(t *testing.T) {
	fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
	Flags(fs)
	if err := fs.Parse([]string{"--poll-interval=30s"}); err != nil {
		t.Fatal(err)
	}
	c, err := Load(write(t, "targets: [{addresses: [10.0.0.1]}]\npoll: {interval: 5s, timeout: 6s}\nspool: {max_size: 1GB}\n"),
		[]string{"HSI_POLL_INTERVAL=20s", "HSI_POLL_TIMEOUT=7s", "HSI_TARGETS=10.0.0.8, 10.0.0.9:4029", "HSI_LISTEN=off"}, fs)
	if err != nil {
		t.Fatal(err)
	}
	if c.Poll.Interval != 30*time.Second || c.Poll.Timeout != 7*time.Second || c.Spool.MaxSize != 1e9 || c.ListenAddress() != "" {
		t.Errorf("got %+v", c)
	}
	ms := c.Miners()
	if len(ms) != 2 || ms[0].Address != "10.0.0.8:4028" || ms[1].Address != "10.0.0.9:4029" || ms[0].Interval != 30*time.Second {
		t.Errorf("miners %+v", ms)
	}
}

func TestAddressesExpand(t *testing.T) {
	c, err := Load(write(t, `targets:
  - addresses: [10.0.0.0/30, 10.0.1.254-10.0.2.1, "127.0.0.0/31", "fd00::1"]
  - addresses: [10.0.1.255, "miner-7.lan:4029"]
    interval: 1m
    timeout: 2s
    port: 4028
`), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]Miner{}
	for _, m := range c.Miners() {
		got[m.Address] = m
	}
	want := map[string]bool{ // address: scanned
		"10.0.0.1:4028": true, "10.0.0.2:4028": true, "10.0.1.254:4028": true, "10.0.1.255:4028": false, "10.0.2.0:4028": true,
		"10.0.2.1:4028": true, "127.0.0.0:4028": true, "127.0.0.1:4028": true, "[fd00::1]:4028": false, "miner-7.lan:4029": false,
	}
	if len(got) != len(want) {
		t.Errorf("%d addresses, want %d: %v", len(got), len(want), got)
	}
	for a, scan := range want {
		if m, ok := got[a]; !ok || m.Scan != scan {
			t.Errorf("%s: present %v, scan %v, want scan %v", a, ok, m.Scan, scan)
		}
	}
	if m := got["10.0.1.255:4028"]; m.Interval != time.Minute || m.Timeout != 2*time.Second || m.ConnectTimeout != 2*time.Second {
		t.Errorf("the single address does not have its own target's settings: %+v", m)
	}
}

func TestLargestSiteFits(t *testing.T) {
	c, err := Load(write(t, "targets: [{addresses: [10.0.0.0/16]}]"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(c.Miners()); n != 65534 {
		t.Errorf("a /16 has %d addresses, want 65534", n)
	}
}

func TestAnAgentMayKnowSeveralAddressesOfItsHub(t *testing.T) {
	for text, want := range map[string]string{"": "", "a:1": "a:1", "a:1, b:2,[::1]:3": "a:1|b:2|[::1]:3"} {
		if got := strings.Join(Hub{Address: text}.Addresses(), "|"); got != want {
			t.Errorf("%q gives %q, want %q", text, got, want)
		}
	}
}
