package peers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Server is a machine that a hub is to have its tunnel on.
type Server struct {
	Listen       string // WG_ADDR
	Backend      string // WG_BACKEND
	Interface    string // WG_INTERFACE
	OpenFirewall bool   // change the firewall; else what to do is only said

	Root string                                                                 // of the file system; empty means /
	Run  func(ctx context.Context, name string, args ...string) (string, error) // a program, with its output; nil runs it
}

// States of a check.
const (
	CheckOK   = "ok"
	CheckNote = "note" // nothing has to be done
	CheckTodo = "todo" // a person must look
)

// Check is one thing that the tunnel needs, and how it is.
type Check struct {
	Name   string `json:"name"`
	State  string `json:"state"`
	Found  string `json:"found"`
	Advice string `json:"advice,omitempty"` // what to do, commands included
}

// errNoProgram says that a program is not installed.
var errNoProgram = errors.New("not installed")

// CheckServer looks at what a machine offers to the tunnel. It changes nothing but the firewall, and that only when asked.
func CheckServer(ctx context.Context, s Server) ([]Check, error) {
	_, text, err := net.SplitHostPort(s.Listen)
	port, perr := strconv.Atoi(text)
	if err != nil || perr != nil {
		return nil, fmt.Errorf("WG_ADDR is %.80q: want host:port", s.Listen)
	}
	if s.Root == "" {
		s.Root = "/"
	}
	if s.Run == nil {
		s.Run = run
	}
	if s.Interface == "" {
		s.Interface = "wg0"
	}
	kernel, kernelText := s.kernel(ctx)
	tun, tunText := s.tun()
	admin := s.mayAdminister()
	checks := []Check{s.backend(kernel, tun, admin, kernelText, tunText)}
	checks = append(checks, s.port(port))
	firewall, err := s.firewall(ctx, port)
	if err != nil {
		return nil, err
	}
	checks = append(checks, firewall...)
	checks = append(checks, Check{
		"outer firewall", CheckNote, "cannot be seen from here",
		fmt.Sprintf("where a cloud's security group or a router stands before this machine, let UDP %d in there too; no TCP port is needed for the tunnel", port),
	})
	checks = append(checks, s.reboot(ctx)...)
	return append(checks, s.forwarding(kernel && admin || tun && admin)), nil
}

func run(ctx context.Context, name string, args ...string) (string, error) {
	if _, err := exec.LookPath(name); err != nil {
		return "", errNoProgram
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput() // names are this package's, arguments checked: see word
	return string(out), err
}

func (s Server) kernel(ctx context.Context) (bool, string) {
	if _, err := os.Stat(filepath.Join(s.Root, "sys/module/wireguard")); err == nil {
		return true, "the kernel has WireGuard"
	}
	if _, err := s.Run(ctx, "modprobe", "--dry-run", "--quiet", "wireguard"); err == nil {
		return true, "the kernel's WireGuard module is loaded on demand"
	}
	return false, "the kernel has no WireGuard module"
}

func (s Server) tun() (bool, string) {
	f, err := os.OpenFile(filepath.Join(s.Root, "dev/net/tun"), os.O_RDWR, 0)
	if err != nil {
		return false, "no TUN device (" + err.Error() + ")"
	}
	_ = f.Close() // nothing was written
	return true, "/dev/net/tun can be opened"
}

// mayAdminister reports whether this process has CAP_NET_ADMIN, the capability with the number 12.
func (s Server) mayAdminister() bool {
	b, err := os.ReadFile(filepath.Join(s.Root, "proc/self/status"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if hex, ok := strings.CutPrefix(line, "CapEff:"); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
			return err == nil && n&(1<<12) != 0
		}
	}
	return false
}

func (s Server) backend(kernel, tun, admin bool, kernelText, tunText string) Check {
	c := Check{Name: "backend", State: CheckOK}
	rights := "this user may not make interfaces (no CAP_NET_ADMIN)"
	if admin {
		rights = "this user may make interfaces"
	}
	best := "netstack"
	switch {
	case kernel && admin:
		best = "kernel"
	case tun && admin:
		best = "tun"
	}
	c.Found = strings.Join([]string{kernelText, tunText, rights, "so the best backend here is " + best}, "; ")
	switch s.Backend {
	case "", "auto", best, "netstack":
	case "tun":
		if !tun || !admin {
			c.State = CheckTodo
		}
	default:
		c.State = CheckTodo
	}
	switch {
	case c.State == CheckTodo:
		c.Advice = fmt.Sprintf("WG_BACKEND=%s cannot work for this user here: set it to auto, or give the hub's user CAP_NET_ADMIN (systemd: AmbientCapabilities=CAP_NET_ADMIN)", s.Backend)
	case best == "netstack":
		c.Advice = "nothing has to be done: netstack needs no privilege. For more throughput give the hub's user CAP_NET_ADMIN (systemd: AmbientCapabilities=CAP_NET_ADMIN)"
	}
	return c
}

func (s Server) port(port int) Check {
	l, err := net.ListenPacket("udp", s.Listen) //nolint:noctx // no name is looked up
	if err != nil {
		return Check{"UDP port", CheckNote, fmt.Sprintf("%s cannot be had: %v", s.Listen, err), "in use is right while a hub runs here; else find out by whom: ss -lunp sport = :" + strconv.Itoa(port)}
	}
	_ = l.Close() // it was only a trial
	return Check{Name: "UDP port", State: CheckOK, Found: s.Listen + " is free"}
}

// firewall looks for one that keeps sites out, and opens it when asked.
func (s Server) firewall(ctx context.Context, port int) ([]Check, error) {
	rule := strconv.Itoa(port) + "/udp"
	if out, err := s.Run(ctx, "ufw", "status"); err == nil && strings.Contains(out, "Status: active") {
		if strings.Contains(out, rule) {
			return []Check{{Name: "firewall", State: CheckOK, Found: "ufw lets " + rule + " in"}}, nil
		}
		if !s.OpenFirewall {
			return []Check{{"firewall", CheckTodo, "ufw is active and has no rule for " + rule, "ufw allow " + rule + " comment HashInsight   (or run this command again with --open-firewall)"}}, nil
		}
		if out, err := s.Run(ctx, "ufw", "allow", rule, "comment", "HashInsight"); err != nil {
			return nil, fmt.Errorf("ufw allow %s: %w: %s", rule, err, strings.TrimSpace(out))
		}
		return []Check{{Name: "firewall", State: CheckOK, Found: "ufw now lets " + rule + " in, after a reboot too"}}, nil
	}
	out, err := s.Run(ctx, "nft", "list", "ruleset")
	switch {
	case errors.Is(err, errNoProgram):
		return []Check{{"firewall", CheckNote, "neither an active ufw nor nft is here", "if another firewall is, let UDP " + strconv.Itoa(port) + " in (firewalld: firewall-cmd --permanent --add-port=" + rule + " && firewall-cmd --reload)"}}, nil
	case err != nil:
		return []Check{{"firewall", CheckTodo, "the nftables rules cannot be read: " + firstLine(out), "run this command as root"}}, nil //nolint:nilerr // it is what was found
	}
	chains := dropping(out)
	if len(chains) == 0 {
		return []Check{{Name: "firewall", State: CheckOK, Found: "nftables has no input chain that drops by default"}}, nil
	}
	if strings.Contains(out, "udp dport "+strconv.Itoa(port)+" accept") {
		return []Check{{Name: "firewall", State: CheckOK, Found: fmt.Sprintf("nftables lets UDP %d in", port)}}, nil
	}
	var checks []Check
	for _, c := range chains {
		args := []string{"insert", "rule", c.family, c.table, c.name, "udp", "dport", strconv.Itoa(port), "accept", "comment", `"HashInsight"`}
		line := "nft " + strings.Join(args, " ")
		if !s.OpenFirewall {
			checks = append(checks, Check{"firewall", CheckTodo, fmt.Sprintf("nftables drops what no rule lets in (%s %s %s), and none is for UDP %d", c.family, c.table, c.name, port), line + "   (or run this command again with --open-firewall); for after a reboot put the rule into /etc/nftables.conf"})
			continue
		}
		if out, err := s.Run(ctx, "nft", args...); err != nil {
			return nil, fmt.Errorf("%s: %w: %s", line, err, strings.TrimSpace(out))
		}
		checks = append(checks, Check{"firewall", CheckOK, fmt.Sprintf("nftables now lets UDP %d in (%s %s %s)", port, c.family, c.table, c.name), "until a reboot: put the rule into /etc/nftables.conf too: " + line})
	}
	return checks, nil
}

type chain struct{ family, table, name string }

// dropping finds the input chains of a ruleset that drop by default, as nft prints them.
func dropping(ruleset string) (out []chain) {
	var at chain
	for line := range strings.Lines(ruleset) {
		f := strings.Fields(line)
		switch {
		case len(f) >= 3 && f[0] == "table":
			at = chain{family: f[1], table: f[2]}
		case len(f) >= 2 && f[0] == "chain":
			at.name = f[1]
		case strings.Contains(line, "hook input") && strings.Contains(line, "policy drop"):
			if word(at.family) && word(at.table) && word(at.name) {
				out = append(out, at)
			}
		}
	}
	return out
}

// word accepts what nft takes for a name without quotes.
func word(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' && c != '.' && c != '/' {
			return false
		}
	}
	return s != "" && s[0] != '-'
}

func (s Server) reboot(ctx context.Context) []Check {
	c := Check{Name: "after a reboot", State: CheckNote, Found: "the hub makes " + s.Interface + " and its peers at every start; nothing else has to keep them", Advice: "let the hub itself start with the machine: systemctl enable hashinsight-hub"}
	if out, err := s.Run(ctx, "systemctl", "is-enabled", "hashinsight-hub"); err == nil && strings.TrimSpace(out) == "enabled" {
		c.State, c.Advice = CheckOK, ""
		c.Found += "; the hub's service is enabled"
	}
	checks := []Check{c}
	conf := filepath.Join(s.Root, "etc/wireguard", s.Interface+".conf")
	if _, err := os.Stat(conf); err == nil {
		checks = append(checks, Check{"older set-up", CheckTodo, "/etc/wireguard/" + s.Interface + ".conf exists: wg-quick would make the same interface", fmt.Sprintf(
			"take it over with hashinsight-hub peers import /etc/wireguard/%s.conf --hub-key, then systemctl disable --now wg-quick@%s; or set WG_INTERFACE and WG_ADDR to others", s.Interface, s.Interface)})
	}
	return checks
}

func (s Server) forwarding(device bool) Check {
	b, err := os.ReadFile(filepath.Join(s.Root, "proc/sys/net/ipv4/ip_forward"))
	on := err == nil && strings.TrimSpace(string(b)) == "1"
	c := Check{Name: "forwarding", State: CheckNote, Found: "IP forwarding is off, as it should be unless others on this machine's network use sites' networks through it"}
	if on {
		c.Found = "IP forwarding is on: other machines can reach sites through this one where routes and firewall let them"
	}
	if !device {
		c.Found += "; with netstack the tunnel is open to the hub's own service only"
	}
	return c
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return truncate(line, 200)
}
