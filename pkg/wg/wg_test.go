package wg

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"strconv"
	"testing"
)

func TestTCPThroughNetstack(t *testing.T) {
	a, b := NewPrivate(), NewPrivate()
	open := func(private Secret, addr string) *Netstack {
		n, err := OpenNetstack(Config{Private: private, Addresses: []netip.Prefix{netip.MustParsePrefix(addr)}, Listen: netip.MustParseAddr("127.0.0.1"), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = n.Close() })
		return n
	}
	na, nb := open(a, "10.8.0.1/16"), open(b, "10.8.0.2/32")
	ctx := t.Context()
	da, err := na.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	psk := NewPSK()
	if err := na.Apply(ctx, Changes{Upsert: []Peer{{PublicKey: b.Public(), PSK: psk, AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.8.0.2/32")}}}}); err != nil {
		t.Fatal(err)
	}
	if err := nb.Apply(ctx, Changes{Upsert: []Peer{{PublicKey: a.Public(), PSK: psk, AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.8.0.1/32")}, Endpoint: "127.0.0.1:" + strconv.Itoa(da.Port)}}}); err != nil {
		t.Fatal(err)
	}
	l, err := na.Listen(ctx, "tcp", "10.8.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, _ = c.Write([]byte("hello"))
			_ = c.Close()
		}
	}()
	c, err := nb.DialContext(context.Background(), "tcp", "10.8.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "hello" {
		t.Fatalf("%q %v", got, err)
	}
}
