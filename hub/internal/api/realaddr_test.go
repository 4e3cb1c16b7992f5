package api

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

func TestRealAddress(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct {
		name, remote string
		headers      map[string]string
		want         string
		tls          bool
	}{
		{name: "direct", remote: "192.0.2.9:1", want: "192.0.2.9"},
		{name: "header from a stranger is ignored", remote: "192.0.2.9:1",
			headers: map[string]string{"X-Forwarded-For": "203.0.113.5", "X-Forwarded-Proto": "https"}, want: "192.0.2.9"},
		{name: "header from a proxy", remote: "10.1.2.3:1",
			headers: map[string]string{"X-Forwarded-For": "203.0.113.5", "X-Forwarded-Proto": "https"}, want: "203.0.113.5", tls: true},
		{name: "what the client wrote itself is not believed", remote: "10.1.2.3:1",
			headers: map[string]string{"X-Forwarded-For": "198.51.100.1, 203.0.113.5, 10.9.9.9"}, want: "203.0.113.5"},
		{name: "IPv6 through Forwarded", remote: "[fd00::1]:1",
			headers: map[string]string{"Forwarded": `for="[2001:db8::7]:4711";proto=https`}, want: "2001:db8::7", tls: true},
		{name: "hidden hop stops the walk", remote: "10.1.2.3:1",
			headers: map[string]string{"Forwarded": `for=203.0.113.5, for=_hidden, for=10.2.2.2`}, want: "10.2.2.2"},
		{name: "protocol alone", remote: "10.1.2.3:1", headers: map[string]string{"X-Forwarded-Proto": "https"}, want: "10.1.2.3", tls: true},
		{name: "mapped address", remote: "[::ffff:192.0.2.9]:1", want: "192.0.2.9"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr = c.remote
			for k, v := range c.headers {
				r.Header.Set(k, v)
			}
			got := originOf(r, trusted)
			if got.addr.String() != c.want || got.tls != c.tls {
				t.Errorf("got %v tls=%v, want %s tls=%v", got.addr, got.tls, c.want, c.tls)
			}
		})
	}
}
