package hubd_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/test/bufconn"

	"github.com/hashinsight/hashinsight/hub/hubd"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"
)

func TestMain(m *testing.M) {
	if err := pgtest.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "these tests need PostgreSQL:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

const secret = "kV2m8Qe1_rT7uY4pA9sD3fG6hJ0lZ5xC"

func config(url string) hubd.Config {
	return hubd.Config{
		Database: hubd.Database{DatabaseURL: url, EncryptionPassword: "enc" + secret, PoolSize: 1, PoolOverflow: 9},
		Env:      "dev", SessionSecret: secret, ServerNames: []string{"127.0.0.1"},
		BindAddr: "127.0.0.1:0", GRPCAddr: "127.0.0.1:0", MetricsAddr: "127.0.0.1:0",
	}
}

// start runs a hub until the test ends and fails the test if it does not end well.
func start(t *testing.T, c hubd.Config) *hubd.Hub {
	t.Helper()
	h, err := hubd.New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the hub ended with %v", err)
		}
	})
	return h
}

func get(t *testing.T, client *http.Client, url, key string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(b)
}

func awaitReady(t *testing.T, h *hubd.Hub) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !h.Ready(); {
		if time.Now().After(end) {
			t.Fatal("the hub does not become ready")
		}
		<-time.After(10 * time.Millisecond)
	}
}

// site is an agent's identity, made as the agent makes it.
func site(t *testing.T, c hubd.Config, name, hubAddress string) (*tls.Config, identity.Bundle) {
	t.Helper()
	_, evidence, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return siteWith(t, c, name, hubAddress, evidence)
}

// siteWith is site with a key of the caller's, who signs batches.
func siteWith(t *testing.T, c hubd.Config, name, hubAddress string, evidence ed25519.PrivateKey) (*tls.Config, identity.Bundle) {
	t.Helper()
	key, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	request, err2 := identity.NewRequest(key, evidence)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	file, err := hubd.RegisterSite(t.Context(), c.Database, hubd.SiteOrder{Name: name, Request: request, HubAddress: hubAddress})
	if err != nil {
		t.Fatal(err)
	}
	b, err := identity.ParseBundle(file)
	if err != nil {
		t.Fatal(err)
	}
	return identity.Client{
		Certificate: func() (*tls.Certificate, error) {
			return &tls.Certificate{Certificate: [][]byte{b.Certificate[0].Raw}, PrivateKey: key, Leaf: b.Certificate[0]}, nil
		},
		CA: func() []*x509.Certificate { return b.CA },
	}.TLS(), b
}

// hello opens a telemetry stream and returns the hub's Welcome.
func hello(t *testing.T, cfg *tls.Config, spool ident.SpoolID, addr string, opts ...grpc.DialOption) *telemetryv1.Welcome {
	t.Helper()
	conn, err := grpc.NewClient(addr, append(opts, grpc.WithTransportCredentials(credentials.NewTLS(cfg)))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	stream, err := telemetryv1.NewTelemetryServiceClient(conn).Stream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = stream.Send(&telemetryv1.StreamRequest{Message: &telemetryv1.StreamRequest_Hello{Hello: &telemetryv1.Hello{
		Protocol: 1, SpoolId: spool[:], AgentVersion: "test", AgentTimeMs: time.Now().UnixMilli(), PollIntervalMs: 10_000,
	}}})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if answer.GetWelcome() == nil {
		t.Fatalf("the hub answered %v", answer)
	}
	return answer.GetWelcome()
}

func TestAHubServesPageAPIAgentsAndMetrics(t *testing.T) {
	c := config(pgtest.EmptyURL(t))
	h := start(t, c)
	awaitReady(t, h)
	web := "http://" + h.WebAddr().String()

	if code, _, body := get(t, http.DefaultClient, web+"/health/detailed", ""); code != 200 || !strings.Contains(body, `"connected"`) {
		t.Errorf("health: %d %s", code, body)
	}
	if code, _, body := get(t, http.DefaultClient, web+"/", ""); code != 200 || !strings.Contains(strings.ToLower(body), "<html") {
		t.Errorf("page: %d %.200s", code, body)
	}
	if code, _, _ := get(t, http.DefaultClient, web+"/api/sites", ""); code != 401 {
		t.Errorf("the API answers %d without a key", code)
	}
	key, err := hubd.BootstrapKey(t.Context(), c.Database, c.Env, false)
	if err != nil {
		t.Fatal(err)
	}

	tlsConfig, bundle := site(t, c, "north", h.GRPCAddr().String())
	welcome := hello(t, tlsConfig, ident.NewSpoolID(), h.GRPCAddr().String())
	if id := ident.KeyIDOf(bundle.HubEvidence[0]); string(welcome.GetHubKeyId()) != string(id[:]) {
		t.Errorf("the hub signs with %x, the bundle has %s", welcome.GetHubKeyId(), id)
	}
	code, _, body := get(t, http.DefaultClient, web+"/api/sites", key)
	var list struct {
		Items []struct {
			Name      string `json:"name"`
			Connected bool   `json:"connected"`
		} `json:"items"`
	}
	if err := json.Unmarshal([]byte(body), &list); err != nil || code != 200 || len(list.Items) != 1 || list.Items[0].Name != "north" || !list.Items[0].Connected {
		t.Errorf("sites: %d %s %v", code, body, err)
	}
	sites, err := hubd.Sites(t.Context(), c.Database)
	if err != nil || len(sites) != 1 || sites[0].ID != bundle.Site {
		t.Errorf("the command lists %+v, %v", sites, err)
	}
	_, _, metrics := get(t, http.DefaultClient, "http://"+h.MetricsAddr().String()+"/metrics", "")
	for _, name := range []string{"hashinsight_build_info", "hashinsight_db_connection_status 1", "hashinsight_db_query_duration_seconds_count", "hashinsight_requests_total"} {
		if !strings.Contains(metrics, name) {
			t.Errorf("metrics lack %s", name)
		}
	}
}

// Requests that wait for the database hold all of the API's connections; agents have theirs.
func TestSlowRequestsDoNotKeepAgentsOut(t *testing.T) {
	c := config(pgtest.EmptyURL(t))
	h := start(t, c)
	awaitReady(t, h)
	key, err := hubd.BootstrapKey(t.Context(), c.Database, c.Env, false)
	if err != nil {
		t.Fatal(err)
	}
	tlsConfig, _ := site(t, c, "north", h.GRPCAddr().String())

	conn, err := pgx.Connect(t.Context(), c.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "LOCK TABLE api_key"); err != nil {
		t.Fatal(err)
	}
	var slow sync.WaitGroup
	unlock := sync.OnceFunc(func() {
		if err := errors.Join(tx.Rollback(context.WithoutCancel(t.Context())), conn.Close(context.WithoutCancel(t.Context()))); err != nil {
			t.Error(err)
		}
		slow.Wait()
	})
	defer unlock()
	for range c.PoolSize + c.PoolOverflow + 5 {
		slow.Go(func() {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+h.WebAddr().String()+"/api/sites", nil)
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Authorization", "Bearer "+key)
			if res, err := http.DefaultClient.Do(req); err == nil {
				_ = res.Body.Close()
			}
		})
	}
	const active = `hashinsight_db_connection_pool_active{pool="api"} 10`
	for end := time.Now().Add(20 * time.Second); ; {
		if _, _, metrics := get(t, http.DefaultClient, "http://"+h.MetricsAddr().String()+"/metrics", ""); strings.Contains(metrics, active) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the API's connections are not all in use")
		}
		<-time.After(20 * time.Millisecond)
	}
	begin := time.Now()
	hello(t, tlsConfig, ident.NewSpoolID(), h.GRPCAddr().String())
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("an agent was let in after %s", took)
	}
	unlock()
}

// With the database away a fast hub listens, says that it lives, and asks everyone else to come back.
func TestFastStartupListensBeforeTheDatabaseIsThere(t *testing.T) {
	c := config("postgres:///nothing?host=" + t.TempDir() + "&user=nobody")
	c.FastStartup, c.SkipDatabaseHealthCheck = true, true
	h := start(t, c)
	web := "http://" + h.WebAddr().String()
	if code, _, body := get(t, http.DefaultClient, web+"/health", ""); code != 200 || !strings.Contains(body, `"healthy"`) {
		t.Errorf("/health: %d %s", code, body)
	}
	code, header, body := get(t, http.DefaultClient, web+"/api/sites", "")
	if code != 503 || header.Get("Retry-After") == "" || !strings.Contains(body, "API_003") {
		t.Errorf("/api/sites: %d, Retry-After %q, %s", code, header.Get("Retry-After"), body)
	}
	if h.Ready() {
		t.Error("a hub without a database calls itself ready")
	}
}

func TestAPortInUseNamesItsOwner(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c := config(pgtest.URL(t))
	c.BindAddr, c.MetricsAddr = l.Addr().String(), l.Addr().String()
	_, err = hubd.New(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) || !strings.Contains(err.Error(), "BIND_ADDR") || !strings.Contains(err.Error(), "PROMETHEUS_PORT") {
		t.Errorf("got %v", err)
	}
}

func TestAWrongEncryptionPasswordEndsTheHub(t *testing.T) {
	c := config(pgtest.URL(t))
	if _, err := hubd.Sites(t.Context(), c.Database); err != nil { // makes the keys
		t.Fatal(err)
	}
	c.EncryptionPassword = "another" + secret
	err := hubd.Run(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), "ENCRYPTION_PASSWORD") {
		t.Errorf("got %v", err)
	}
}

// Without the password nobody would judge signed hours, and nobody would see it.
func TestJobsDoNotStartWithoutTheEncryptionPassword(t *testing.T) {
	c := config(pgtest.URL(t))
	c.Modules, c.EncryptionPassword = []string{"jobs"}, ""
	if err := hubd.Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), "ENCRYPTION_PASSWORD is required by the module jobs") {
		t.Errorf("got %v", err)
	}
}

// A whole hub lives in virtual time: nothing in it holds a parked socket read or sleeps by the real clock.
func TestVirtualHours(t *testing.T) {
	url := pgtest.EmptyURL(t)
	synctest.Test(t, func(t *testing.T) {
		c := config(url)
		web, agents := bufconn.Listen(64<<10), bufconn.Listen(64<<10)
		c.WebListener, c.GRPCListener, c.MetricsAddr = web, agents, ""
		c.Now = time.Now // virtual
		h := start(t, c)
		awaitReady(t, h)
		cfg, _ := site(t, c, "north", "hub:5443")
		spool := ident.NewSpoolID()
		dial := grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return agents.DialContext(ctx) })
		hello(t, cfg, spool, "passthrough:///hub", dial)
		transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return web.DialContext(ctx) }}
		t.Cleanup(transport.CloseIdleConnections)
		client := &http.Client{Transport: transport}
		began := time.Now()
		for range 13 {
			time.Sleep(time.Hour)
			if code, _, body := get(t, client, "http://hub/health/detailed", ""); code != 200 {
				t.Fatalf("after %v: %d %s", time.Since(began), code, body)
			}
		}
		// The hub's own certificate has been replaced meanwhile (after 12 hours), and the site's still counts.
		hello(t, cfg, spool, "passthrough:///hub", dial)
		if got := time.Since(began); got < 13*time.Hour || got > 14*time.Hour {
			t.Errorf("13 virtual hours took %v", got)
		}
	})
}
