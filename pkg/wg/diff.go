package wg

import (
	"bytes"
	"net/netip"
	"slices"
)

// Diff returns what turns now into desired. Peers that are as desired are not in it: equal sets give nothing. Removed peers
// whose addresses somebody else gets come first in Remove. A desired peer without endpoint keeps the one the device has, and
// one whose endpoint was already asked for keeps where it has roamed to since.
func Diff(desired []Peer, now Device) Changes {
	var c Changes
	have := make(map[Key]*PeerState, len(now.Peers))
	for i := range now.Peers {
		have[now.Peers[i].PublicKey] = &now.Peers[i]
	}
	wanted := make(map[Key]bool, len(desired))
	taken := map[netip.Prefix]bool{}
	for _, p := range desired {
		wanted[p.PublicKey] = true
		if state := have[p.PublicKey]; state == nil || differs(p, state) {
			c.Upsert = append(c.Upsert, p)
			for _, a := range p.AllowedIPs {
				taken[a.Masked()] = true
			}
		}
	}
	for i := range now.Peers {
		if key := now.Peers[i].PublicKey; !wanted[key] {
			c.Remove = append(c.Remove, key)
		}
	}
	moved := func(k Key) bool {
		return slices.ContainsFunc(have[k].AllowedIPs, func(a netip.Prefix) bool { return taken[a.Masked()] })
	}
	slices.SortFunc(c.Remove, func(a, b Key) int {
		switch ma, mb := moved(a), moved(b); {
		case ma == mb:
			return bytes.Compare(a[:], b[:])
		case ma:
			return -1
		default:
			return 1
		}
	})
	return c
}

func differs(p Peer, s *PeerState) bool {
	return p.PSK != s.PSK || p.Keepalive != s.Keepalive || !samePrefixes(p.AllowedIPs, s.AllowedIPs) ||
		p.Endpoint != "" && p.Endpoint != s.Asked && p.Endpoint != s.Endpoint
}

// samePrefixes compares sets; the device gives them back in its own order.
func samePrefixes(a, b []netip.Prefix) bool {
	if len(a) == 1 && len(b) == 1 { // nearly every peer
		return a[0].Masked() == b[0].Masked()
	}
	return slices.Equal(normal(a), normal(b))
}

func normal(ps []netip.Prefix) []netip.Prefix {
	out := make([]netip.Prefix, len(ps))
	for i, p := range ps {
		out[i] = p.Masked()
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}
