package api

import (
	"net/http"
	"net/netip"
	"strings"
)

// maxForwarded bounds how many hops of a forwarding header are read.
const maxForwarded = 32

// origin is where a request really came from, as far as it can be believed.
type origin struct {
	addr netip.Addr // invalid when the connection has none, as in-memory ones
	tls  bool       // TLS reached this program or a trusted proxy
}

// originOf reads the forwarding headers only when the connection comes from a trusted proxy, and then from the right:
// the last address that no trusted proxy has is the client's. What stands further left anybody may have written.
func originOf(r *http.Request, trusted []netip.Prefix) origin {
	o := origin{tls: r.TLS != nil}
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		o.addr = ap.Addr().Unmap().WithZone("")
	}
	if !contains(trusted, o.addr) {
		return o
	}
	hops, proto := forwarded(r.Header)
	if proto != "" {
		o.tls = strings.EqualFold(proto, "https")
	}
	for i := len(hops) - 1; i >= 0; i-- {
		addr, ok := parseHop(hops[i])
		if !ok {
			break // an unknown or hidden hop: what is left of it is hearsay
		}
		o.addr = addr
		if !contains(trusted, addr) {
			break
		}
	}
	return o
}

// forwarded returns the hops, nearest last, and the protocol that the nearest proxy saw.
func forwarded(h http.Header) (hops []string, proto string) {
	if xff := h.Values("X-Forwarded-For"); len(xff) > 0 {
		hops = split(strings.Join(xff, ","), ',')
		protos := split(strings.Join(h.Values("X-Forwarded-Proto"), ","), ',')
		if len(protos) > 0 {
			proto = protos[len(protos)-1]
		}
		return hops, proto
	}
	for _, element := range split(strings.Join(h.Values("Forwarded"), ","), ',') {
		hop := ""
		for _, pair := range split(element, ';') {
			name, value, _ := strings.Cut(pair, "=")
			value = strings.Trim(strings.TrimSpace(value), `"`)
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "for":
				hop = value
			case "proto":
				proto = value
			}
		}
		hops = append(hops, hop)
	}
	if len(hops) == 0 {
		if protos := split(strings.Join(h.Values("X-Forwarded-Proto"), ","), ','); len(protos) > 0 {
			proto = protos[len(protos)-1]
		}
	}
	return hops, proto
}

func split(s string, sep byte) []string {
	var out []string
	for part := range strings.SplitSeq(s, string(sep)) {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out[max(0, len(out)-maxForwarded):]
}

// parseHop reads "192.0.2.1", "192.0.2.1:1234", "2001:db8::1" and "[2001:db8::1]:1234".
func parseHop(s string) (netip.Addr, bool) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	addr, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return addr.Unmap().WithZone(""), err == nil
}

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
