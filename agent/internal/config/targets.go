package config

import (
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MaxAddresses bounds the addresses of all targets together: one /16.
const MaxAddresses = 65536

// Miner is one address to poll, with everything that its target and the poll section say about it.
type Miner struct {
	Address        string // host:port
	Scan           bool   // from a network or range: a miner only once it has answered
	Interval       time.Duration
	ConnectTimeout time.Duration
	Timeout        time.Duration

	target int // index in Targets, for messages
}

// Miners lists the addresses of all targets in a fixed order. A single address that also lies in a network or range counts
// once, as the single address. The configuration has been loaded without an error.
func (c *Config) Miners() []Miner { return expand(c, &problems{}) }

func expand(c *Config, p *problems) []Miner {
	byAddress := map[string]Miner{}
	total := 0
	for i, t := range c.Targets {
		where := fmt.Sprintf("targets[%d].addresses", i)
		if len(t.Addresses) == 0 && p.read(fmt.Sprintf("targets[%d]", i)) {
			p.add(where, "is empty: name at least one address, network or range")
		}
		m := Miner{Interval: c.Poll.Interval, ConnectTimeout: c.Poll.ConnectTimeout, Timeout: c.Poll.Timeout, target: i}
		if t.Interval > 0 {
			m.Interval = t.Interval
		}
		if t.Timeout > 0 {
			m.Timeout, m.ConnectTimeout = t.Timeout, min(m.ConnectTimeout, t.Timeout)
		}
		for _, a := range t.Addresses {
			span, err := parseSpan(a)
			if err != nil {
				p.add(where, err.Error())
				continue
			}
			if total += span.count; total > MaxAddresses || span.count < 0 {
				p.add(where, fmt.Sprintf("%s brings the addresses to more than %d: split the site over several agents, or name smaller ranges", a, MaxAddresses))
				return nil
			}
			port := t.Port
			if span.port != 0 {
				port = span.port
			}
			for host := range span.hosts {
				m.Address, m.Scan = net.JoinHostPort(host, strconv.Itoa(port)), span.scan
				old, twice := byAddress[m.Address]
				switch {
				case !twice || old.Scan && !m.Scan:
					byAddress[m.Address] = m
				case old.Scan == m.Scan && old.target != m.target:
					p.add(where, fmt.Sprintf("%s is in targets[%d] already: a miner is polled by one target", m.Address, old.target))
					return nil // an overlapping network would name each of its addresses
				}
			}
		}
	}
	out := make([]Miner, 0, len(byAddress))
	for _, m := range byAddress {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b Miner) int { return strings.Compare(a.Address, b.Address) })
	return out
}

// span is one entry of addresses, understood.
type span struct {
	hosts func(yield func(string) bool)
	count int // -1: far too many
	port  int // 0: the target's
	scan  bool
}

func parseSpan(s string) (span, error) {
	if strings.Contains(s, "/") {
		prefix, err := netip.ParsePrefix(s)
		if err != nil {
			return span{}, fmt.Errorf("%.60q is not a network such as 10.0.0.0/24", s)
		}
		first, last := prefix.Masked().Addr(), lastOf(prefix)
		if first.Is4() && prefix.Bits() < 31 { // the network's own and the broadcast address are no miners
			first, last = first.Next(), last.Prev()
		}
		return between(first, last), nil
	}
	if a, b, ok := strings.Cut(s, "-"); ok {
		first, err1 := netip.ParseAddr(strings.TrimSpace(a))
		last, err2 := netip.ParseAddr(strings.TrimSpace(b))
		switch {
		case err1 == nil && err2 == nil && first.Is4() == last.Is4() && !last.Less(first):
			return between(first, last), nil
		case err1 == nil: // a name may contain a dash, an address may not
			return span{}, fmt.Errorf("%.60q is not a range such as 10.0.1.1-10.0.1.50, the lower address first", s)
		}
	}
	host, port := s, 0
	if addr, err := netip.ParseAddr(s); err == nil {
		return single(addr.String(), 0), nil
	}
	if h, ps, err := net.SplitHostPort(s); err == nil {
		n, err := strconv.Atoi(ps)
		if err != nil || n < 1 || n > 65535 {
			return span{}, fmt.Errorf("%.60q: the port must be a number from 1 to 65535", s)
		}
		host, port = h, n
	}
	if _, err := netip.ParseAddr(host); err != nil && !isHostname(host) {
		return span{}, fmt.Errorf("%.60q is no address, network, range or host name", s)
	}
	return single(host, port), nil
}

func single(host string, port int) span {
	return span{hosts: func(yield func(string) bool) { yield(host) }, count: 1, port: port}
}

func between(first, last netip.Addr) span {
	n := new(big.Int).Sub(new(big.Int).SetBytes(last.AsSlice()), new(big.Int).SetBytes(first.AsSlice()))
	count := -1
	if n.IsInt64() && n.Int64() < MaxAddresses {
		count = int(n.Int64()) + 1
	}
	return span{scan: true, count: count, hosts: func(yield func(string) bool) {
		for a := first; yield(a.String()) && a != last; a = a.Next() {
		}
	}}
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b) // the length is that of an address
	return a
}

// isHostname follows RFC 1123, underscores allowed. A name that is all digits and dots is a mistyped address.
func isHostname(s string) bool {
	if s == "" || len(s) > 253 || strings.Trim(s, "0123456789.") == "" {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, r := range label {
			if r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
				return false
			}
		}
	}
	return true
}
