package hubd_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/grpc"

	"github.com/hashinsight/hashinsight/hub/hubd"
	"github.com/hashinsight/hashinsight/hub/internal/peers"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/wg"
)

// An agent's stream runs through the tunnel, and the hub sees its address there. Beside it sites that come over TCP are served as before.
func TestAStreamRunsThroughTheTunnel(t *testing.T) {
	url := pgtest.URL(t)
	free, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.LocalAddr().String()
	_ = free.Close()
	c := config(url)
	also, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	fallback := also.Addr().String()
	_ = also.Close()
	c.Tunnel = hubd.Tunnel{Addr: addr, Endpoint: addr, Backend: wg.KindNetstack, Fallback: fallback, FallbackListen: fallback}
	h := start(t, c)
	awaitReady(t, h)
	tlsConfig, bundle := site(t, c, "North", h.GRPCAddr().String())
	dial := join(t, c, url, bundle.Site)

	welcome := hello(t, tlsConfig, ident.NewSpoolID(), "passthrough:///10.8.0.1:5443", grpc.WithContextDialer(dial))
	if welcome == nil {
		t.Fatal("no welcome through the tunnel")
	}
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	var remote string
	if err := pool.QueryRow(t.Context(), `SELECT remote_address FROM agent WHERE site_id = $1`, bundle.Site).Scan(&remote); err != nil || !strings.HasPrefix(remote, "10.8.0.2") {
		t.Errorf("the hub says that the agent comes from %q: %v", remote, err)
	}
	other, _ := site(t, c, "South", h.GRPCAddr().String())
	if hello(t, other, ident.NewSpoolID(), h.GRPCAddr().String()) == nil {
		t.Error("no welcome over TCP beside it")
	}
	third, _ := site(t, c, "West", h.GRPCAddr().String())
	if hello(t, third, ident.NewSpoolID(), fallback) == nil {
		t.Error("no welcome at the fall-back's address")
	}
}

// join gives a site its peer as enrolment does, and returns a way to dial from its end of the tunnel.
func join(t *testing.T, c hubd.Config, url string, id ident.SiteID) func(context.Context, string) (net.Conn, error) {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	store, err := peers.NewStore(peers.Config{DB: pool, Password: c.EncryptionPassword, Listen: c.Tunnel.Addr, Endpoint: c.Tunnel.Endpoint})
	if err != nil {
		t.Fatal(err)
	}
	private := wg.NewPrivate()
	var p peers.Peer
	if err := pg.InTx(t.Context(), pool, func(tx pgx.Tx) (err error) {
		p, err = store.Add(t.Context(), tx, peers.New{Site: id, PublicKey: private.Public()})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; { // the hub's first pass may still be to come
		if err = store.Await(t.Context()); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
		<-time.After(50 * time.Millisecond)
	}
	keys, err := store.KeysOf(t.Context(), pool, id)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Settings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n, err := wg.OpenNetstack(wg.Config{Private: private, Addresses: []netip.Prefix{netip.PrefixFrom(p.Address, 32)}, Listen: netip.MustParseAddr("127.0.0.1"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	if err := n.Apply(t.Context(), wg.Changes{Upsert: []wg.Peer{{PublicKey: s.HubKeys[0], PSK: keys.PSK, AllowedIPs: []netip.Prefix{s.Network}, Endpoint: s.Endpoint}}}); err != nil {
		t.Fatal(err)
	}
	if s.GRPC != "10.8.0.1:5443" {
		t.Fatal(fmt.Sprint("the service is at ", s.GRPC))
	}
	return func(ctx context.Context, _ string) (net.Conn, error) { return n.DialContext(ctx, "tcp", s.GRPC) }
}
