// Package config is the agent's configuration: one struct, from which the YAML keys, the environment
// variables, the flags, the commented example and the checks all follow. YAML is read first, the
// environment overrides it, flags override both; every problem is reported at once. It opens
// nothing and starts nothing; the command reads it and hands plain values to agentd.
package config

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hashinsight/hashinsight/pkg/diag"
)

// Config is everything an agent can be told. Tags: yaml is the key, doc its explanation, default and the bounds
// min and max are written as a user would write them.
type Config struct {
	DataDir     string   `yaml:"data_dir" default:"/var/lib/hashinsight-agent" doc:"Directory for the spool and the inventory. It must be on a disk that keeps its data: nothing here can be made again."`
	IdentityDir string   `yaml:"identity_dir" doc:"Directory for this site's keys and certificates, as 'enrol', or 'keys init' and 'keys install', write them. Empty means the folder identity in data_dir."`
	Targets     []Target `yaml:"targets" doc:"The miners. In the environment and as a flag: addresses separated by commas."`
	Poll        Poll     `yaml:"poll"`
	Batch       Batch    `yaml:"batch"`
	Spool       Spool    `yaml:"spool"`
	Hub         Hub      `yaml:"hub"`
	Listen      string   `yaml:"listen" default:"127.0.0.1:9101" doc:"Address of /metrics and /health. They need no password, so keep them on this machine. 'off' serves neither."`
	Log         Log      `yaml:"log"`
}

// Target is a group of addresses that are polled the same way.
type Target struct {
	Addresses []string      `yaml:"addresses" doc:"Single addresses (10.0.0.5, miner7.lan, 10.0.0.5:4029), networks (10.0.0.0/24) and ranges (10.0.1.1-10.0.1.50). A single address is a miner from the start; in networks and ranges an address becomes one when it first answers."`
	Port      int           `yaml:"port" default:"4028" min:"1" max:"65535" doc:"Port where the address names none."`
	Interval  time.Duration `yaml:"interval" min:"1s" max:"1h" doc:"Instead of poll.interval."`
	Timeout   time.Duration `yaml:"timeout" min:"1s" max:"2m" doc:"Instead of poll.timeout."`
}

// Poll says how miners are read.
type Poll struct {
	Interval       time.Duration `yaml:"interval" default:"10s" min:"1s" max:"1h" doc:"How often each miner is polled. Miners that do not answer are tried less often, at least once a minute."`
	ConnectTimeout time.Duration `yaml:"connect_timeout" default:"3s" min:"100ms" max:"1m" doc:"How long a connection may take to open."`
	Timeout        time.Duration `yaml:"timeout" default:"10s" min:"1s" max:"2m" doc:"How long one poll may take in all. Slow control boards need 5 to 8 s now and then."`
	MaxInFlight    int           `yaml:"max_in_flight" default:"2048" min:"8" max:"16384" doc:"How many miners are read at the same time. A quarter of it is for those that did not answer before, so that they never delay the others."`
}

// Batch says how observations become signed batches.
type Batch struct {
	Interval   time.Duration `yaml:"interval" default:"2s" min:"1s" max:"5s" doc:"How long observations are gathered before they are signed and stored. A crash loses at most this much."`
	MaxSamples int           `yaml:"max_samples" default:"20000" min:"100" max:"100000" doc:"A batch with this many observations is closed at once."`
}

// Spool says how much is kept on disk.
type Spool struct {
	MaxSize     Bytes         `yaml:"max_size" default:"10GiB" min:"64MiB" max:"16TiB" doc:"Disk space for batches. 10,000 miners every 10 s need about 2 GiB a day. When it is full the oldest data goes, with a signed record of the gap."`
	SegmentSize Bytes         `yaml:"segment_size" default:"64MiB" min:"1MiB" max:"1GiB" doc:"Size of one file of the spool."`
	Grace       time.Duration `yaml:"grace" default:"24h" min:"0s" max:"720h" doc:"How long data that the hub has confirmed is kept, so that a hub restored from a backup can ask for it again."`
}

// Hub says where batches go.
type Hub struct {
	Address  string `yaml:"address" doc:"host:port of the hub's agent listener; of a hub with several processes all of them, separated by commas: they are tried in turn. Empty means the address in the bundle that 'keys install' stored; before that nothing is sent, and data is kept in the spool up to its size limit."`
	Fallback string `yaml:"fallback" default:"on" doc:"on or off: whether telemetry may go directly over TCP while the WireGuard tunnel does not work; renewing the certificate always may. It is encrypted and both sides are known either way."`
}

// maxHubAddresses bounds the processes of one hub that an agent tries.
const maxHubAddresses = 16

// Addresses returns the hub's addresses one by one; none means those of the bundle.
func (h Hub) Addresses() []string {
	if h.Address == "" {
		return nil
	}
	all := strings.Split(h.Address, ",")
	for i := range all {
		all[i] = strings.TrimSpace(all[i])
	}
	return all
}

// Log says where logs go.
type Log struct {
	Level  string `yaml:"level" default:"info" doc:"debug, info, warn or error."`
	Format string `yaml:"format" doc:"json or text. Empty means text on a terminal, else json."`
	Dir    string `yaml:"dir" doc:"Directory for app.log, access.log and error.log as well. Empty means no files."`
}

// Identity returns the directory of the site's keys.
func (c *Config) Identity() string {
	if c.IdentityDir != "" {
		return c.IdentityDir
	}
	return filepath.Join(c.DataDir, "identity")
}

// ListenAddress returns the address to serve metrics on, or "" when that is off.
func (c *Config) ListenAddress() string {
	if c.Listen == "off" {
		return ""
	}
	return c.Listen
}

// check finds what a single field's bounds cannot tell.
func (c *Config) check(p *problems) {
	if c.DataDir == "" {
		p.add("data_dir", "is empty: name the directory that keeps spool and inventory")
	}
	if len(c.Targets) == 0 && p.read("targets") {
		p.add("targets", "is empty: there is nothing to poll; name at least one address")
	}
	if c.Poll.ConnectTimeout > c.Poll.Timeout && p.read("poll.connect_timeout", "poll.timeout") {
		p.add("poll.connect_timeout", fmt.Sprintf("%v is longer than poll.timeout, %v", c.Poll.ConnectTimeout, c.Poll.Timeout))
	}
	if c.Spool.SegmentSize > c.Spool.MaxSize/4 && p.read("spool.segment_size", "spool.max_size") {
		p.add("spool.segment_size", fmt.Sprintf("%v is more than a quarter of spool.max_size, %v", c.Spool.SegmentSize, c.Spool.MaxSize))
	}
	if c.Hub.Fallback != "on" && c.Hub.Fallback != "off" && p.read("hub.fallback") {
		p.add("hub.fallback", fmt.Sprintf("%.40q is neither on nor off", c.Hub.Fallback))
	}
	if addresses := c.Hub.Addresses(); len(addresses) > maxHubAddresses {
		p.add("hub.address", fmt.Sprintf("has %d addresses, want at most %d", len(addresses), maxHubAddresses))
	} else {
		for _, a := range addresses {
			checkHostPort(p, "hub.address", a)
		}
	}
	if a := c.ListenAddress(); a != "" {
		checkHostPort(p, "listen", a)
	} else if c.Listen == "" && p.read("listen") {
		p.add("listen", "is empty: write an address such as 127.0.0.1:9101, or off")
	}
	if _, err := diag.ParseLevel(c.Log.Level); err != nil {
		p.add("log.level", err.Error())
	}
	if err := diag.CheckFormat(c.Log.Format); err != nil {
		p.add("log.format", err.Error())
	}
	_ = expand(c, p)
}

func checkHostPort(p *problems, path, s string) {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		p.add(path, fmt.Sprintf("%.60q is not host:port", s))
		return
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		p.add(path, fmt.Sprintf("%.60q: the port must be a number from 1 to 65535", s))
	}
}
