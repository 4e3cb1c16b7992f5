package config

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// interfaceName is what Linux takes for the name of an interface, less what shells and file names would trip over.
var interfaceName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_-]{0,14}$`)

// Tunnel reports whether sites may come through WireGuard.
func (c *Config) Tunnel() bool { return c.WGAddr != "off" }

// finishTunnel fills in the tunnel's defaults and returns what is wrong with its settings.
func (c *Config) finishTunnel() (problems []error) {
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	for name, addr := range map[string]string{"FALLBACK_ADDRESS": c.FallbackAddress, "FALLBACK_LISTEN": c.FallbackListen} {
		if err := checkAddr(addr); addr != "" && err != nil {
			bad("%s is %.80q: %w", name, addr, err)
		}
	}
	if c.FallbackListen != "" && c.FallbackAddress == "" {
		bad("FALLBACK_LISTEN is set and FALLBACK_ADDRESS is not: no site would be told of it")
	}
	if strings.EqualFold(c.WGAddr, "off") {
		c.WGAddr = "off"
	}
	if !c.Tunnel() {
		return problems
	}
	host, port, err := net.SplitHostPort(c.WGAddr)
	if err != nil {
		bad("WG_ADDR is %.80q: want host:port, such as 0.0.0.0:51820, or off", c.WGAddr)
	} else if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || n == 65535 {
		bad("WG_ADDR is %.80q: want a port from 1 to 65534 (the next one is used while the hub's key is changed)", c.WGAddr)
	} else if _, err := netip.ParseAddr(host); host != "" && err != nil {
		bad("WG_ADDR is %.80q: want an IP address of this machine before the port, or 0.0.0.0 for all", c.WGAddr)
	}
	if !slices.Contains([]string{"auto", "kernel", "tun", "netstack"}, c.WGBackend) {
		bad("WG_BACKEND is %.40q: want auto, kernel, tun or netstack", c.WGBackend)
	}
	if !interfaceName.MatchString(c.WGInterface) {
		bad("WG_INTERFACE is %.40q: want up to 15 letters, digits, - and _", c.WGInterface)
	}
	n := c.WGNetwork
	switch {
	case !n.IsValid() || !n.Addr().Is4() || n.Bits() < 8 || n.Bits() > 30:
		bad("WG_NETWORK is %s: want an IPv4 network from /8 to /30, such as 10.8.0.0/16", n)
	case n.Addr().IsLoopback() || n.Addr().IsMulticast() || n.Addr().IsUnspecified() || n.Addr().IsLinkLocalUnicast():
		bad("WG_NETWORK is %s: no host may have these addresses: want a private network such as 10.8.0.0/16", n)
	}
	if c.WGEndpoint == "" {
		first, _, _ := strings.Cut(c.HubAddress, ",")
		if host, _, err := net.SplitHostPort(first); err == nil {
			c.WGEndpoint = net.JoinHostPort(host, port)
		}
	} else if err := checkAddr(c.WGEndpoint); err != nil {
		bad("WG_ENDPOINT is %.80q: %w", c.WGEndpoint, err)
	}
	return problems
}
