package hubd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/hub/hubd"
	"github.com/hashinsight/hashinsight/hub/internal/anchor"
	"github.com/hashinsight/hashinsight/hub/internal/anchor/anviltest"
	"github.com/hashinsight/hashinsight/hub/internal/api"
	settings "github.com/hashinsight/hashinsight/hub/internal/config"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// logOf collects a hub's log.
type logOf struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logOf) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logOf) await(t *testing.T, words ...string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; <-time.After(10 * time.Millisecond) {
		l.mu.Lock()
		text := l.text.String()
		l.mu.Unlock()
		for i, w := range words {
			if !strings.Contains(text, w) {
				if time.Now().After(end) {
					t.Fatalf("the log does not say %q:\n%s", w, text)
				}
				break
			}
			if i == len(words)-1 {
				return
			}
		}
	}
}

// chainSettings reads the settings of a chain as the program does.
func chainSettings(t *testing.T, env ...string) hubd.Chain {
	t.Helper()
	c, err := settings.Load(settings.Sources{Environ: append([]string{"HASHINSIGHT_ENV=dev", "DATA_DIR=/x", "BLOCKCHAIN_ENABLED=1", "BLOCKCHAIN_NETWORK=custom", "BLOCKCHAIN_CHAIN_ID=31337"}, env...)})
	if err != nil {
		t.Fatal(err)
	}
	return c.Chain()
}

func TestAHubWhoseChainIsWrongSaysSoAndDoesTheRest(t *testing.T) {
	t.Parallel()
	chain := anviltest.Start(t, anviltest.Options{})
	_, key, err := anchor.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	const nowhere = "BLOCKCHAIN_CONTRACT=0x00000000000000000000000000000000000000a1"
	rpc := "BASE_RPC_URL=" + chain.URL
	for name, tt := range map[string]struct {
		env  []string
		says []string
		code string // in the API's status
	}{
		"no key":              {[]string{rpc, nowhere}, []string{"level=ERROR", "BLOCKCHAIN_001: chain key not configured: set BLOCKCHAIN_PRIVATE_KEY"}, `"code":"BLOCKCHAIN_001"`},
		"a malformed key":     {[]string{rpc, nowhere, "BLOCKCHAIN_PRIVATE_KEY=" + key[:60]}, []string{"level=ERROR", "BLOCKCHAIN_001: BLOCKCHAIN_PRIVATE_KEY is malformed"}, `"code":"BLOCKCHAIN_001"`},
		"a key off the curve": {[]string{rpc, nowhere, "BLOCKCHAIN_PRIVATE_KEY=0x" + strings.Repeat("f", 64)}, []string{"level=ERROR", "BLOCKCHAIN_001: BLOCKCHAIN_PRIVATE_KEY is not a key"}, `"code":"BLOCKCHAIN_001"`},
		"no keystore":         {[]string{rpc, nowhere, "BLOCKCHAIN_KEYSTORE=/nowhere/key.json"}, []string{"level=ERROR", "BLOCKCHAIN_001: BLOCKCHAIN_KEYSTORE"}, `"code":"BLOCKCHAIN_001"`},
		"no contract":         {[]string{rpc, nowhere, "BLOCKCHAIN_PRIVATE_KEY=" + key}, []string{"level=ERROR", "there is no AnchorLog at the address 0x00000000000000000000000000000000000000A1"}, `"code":"wrong_contract"`},
		"another chain":       {[]string{rpc, nowhere, "BLOCKCHAIN_CHAIN_ID=8453", "BLOCKCHAIN_PRIVATE_KEY=" + key}, []string{"level=ERROR", "another chain: it says 31337, want 8453"}, `"code":"wrong_chain"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := &logOf{}
			c := config(pgtest.URL(t))
			c.Chain, c.Log = chainSettings(t, tt.env...), slog.New(slog.NewTextHandler(log, nil))
			h := start(t, c)
			awaitReady(t, h)
			log.await(t, tt.says...)
			if code, _, _ := get(t, http.DefaultClient, "http://"+h.WebAddr().String()+"/health", ""); code != http.StatusOK {
				t.Errorf("health answers %d", code)
			}
			tlsConfig, _ := site(t, c, "north", h.GRPCAddr().String())
			hello(t, tlsConfig, ident.NewSpoolID(), h.GRPCAddr().String())
			admin, err := hubd.BootstrapKey(t.Context(), c.Database, c.Env, false)
			if err != nil {
				t.Fatal(err)
			}
			for end := time.Now().Add(time.Minute); ; <-time.After(100 * time.Millisecond) {
				_, _, body := get(t, http.DefaultClient, "http://"+h.WebAddr().String()+"/api/anchors/status", admin)
				if strings.Contains(body, tt.code) {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("the status does not say %q: %s", tt.code, body)
				}
			}
			if log.await(t, ""); strings.Contains(log.text.String(), key[2:20]) {
				t.Error("the log has the key")
			}
		})
	}
}

// wantAnchored waits until an anchor of the log is final, as the API and the command tell it.
func wantAnchored(t *testing.T, c hubd.Config, h *hubd.Hub) {
	t.Helper()
	key, err := hubd.BootstrapKey(t.Context(), c.Database, c.Env, false)
	if err != nil {
		t.Fatal(err)
	}
	web := "http://" + h.WebAddr().String()
	for end := time.Now().Add(time.Minute); ; <-time.After(100 * time.Millisecond) {
		var list struct {
			Items []struct {
				Seq, Size uint64
				State     string
			}
		}
		code, _, body := get(t, http.DefaultClient, web+"/api/anchors", key)
		if err := json.Unmarshal([]byte(body), &list); err != nil || code != http.StatusOK {
			t.Fatalf("anchors: %d %s %v", code, body, err)
		}
		if n := len(list.Items); n > 0 && list.Items[n-1].State == "finalized" && list.Items[n-1].Seq == 1 && list.Items[n-1].Size > 0 {
			break
		}
		if time.Now().After(end) {
			_, _, status := get(t, http.DefaultClient, web+"/api/anchors/status", key)
			t.Fatalf("no anchor is final: %s\n%s", body, status)
		}
	}
	if code, _, body := get(t, http.DefaultClient, web+"/api/anchors/status", key); code != http.StatusOK || strings.Contains(body, `"problem"`) || !strings.Contains(body, `"chain_id":31337`) {
		t.Errorf("status: %d %s", code, body)
	}
	st, err := hubd.AnchorStatus(t.Context(), c.Database, c.Chain, 5)
	if err != nil || len(st.Anchor) == 0 || st.Known.Problem != nil || st.Known.Last == nil {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestDeploymentWantsAColdAdminAndAgentsHearOfBlocks(t *testing.T) {
	t.Parallel()
	chain := anviltest.Start(t, anviltest.Options{BlockTime: time.Second})
	signer, key, err := anchor.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	account := anchor.AddressText(signer.Address())
	chain.Fund(account, 1e18)
	env := []string{"BASE_RPC_URL=" + chain.URL, "BLOCKCHAIN_PRIVATE_KEY=" + key}
	deploy := func(o hubd.ContractOrder) (hubd.Deployed, error) {
		return hubd.DeployContract(context.WithoutCancel(t.Context()), chainSettings(t, env...), o, slog.New(slog.DiscardHandler), nil)
	}
	for name, o := range map[string]hubd.ContractOrder{"no admin": {}, "the anchorer": {Admin: account}, "an address that is none": {Admin: "0x12"}, "nobody": {Admin: "0x" + strings.Repeat("0", 40)}} {
		if _, err := deploy(o); err == nil {
			t.Errorf("admin is %s, and it is deployed", name)
		}
	}
	d, err := deploy(hubd.ContractOrder{Admin: "0x00000000000000000000000000000000000000aa"})
	if err != nil || d.Anchorer != signer.Address() || d.GasUsed == 0 {
		t.Fatalf("%+v, %v", d, err)
	}
	env = append(env, "BLOCKCHAIN_CONTRACT="+anchor.AddressText(d.Contract))
	st := hubd.AskChain(t.Context(), chainSettings(t, env...), nil)
	if len(st.Problems) != 0 || !st.MayAnchor || st.Admin || st.Account != account || st.Agree != 1 || st.Balance.Sign() <= 0 {
		t.Errorf("%+v", st)
	}
	_, other, err := anchor.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	st = hubd.AskChain(t.Context(), chainSettings(t, append(env, "BLOCKCHAIN_PRIVATE_KEY="+other)...), nil)
	if len(st.Problems) != 2 { // neither role nor funds
		t.Errorf("with another key: %v", st.Problems)
	}

	log := &logOf{}
	c := config(pgtest.URL(t))
	c.Chain, c.Log = chainSettings(t, append(env, "ANCHOR_INTERVAL=1s")...), slog.New(slog.NewTextHandler(log, nil))
	c.Transparency.Dir = filepath.Join(t.TempDir(), "log")
	h := start(t, c)
	awaitReady(t, h)
	log.await(t, "the log is anchored")
	defer wantAnchored(t, c, h)
	tlsConfig, _ := site(t, c, "north", h.GRPCAddr().String())
	for end := time.Now().Add(30 * time.Second); ; <-time.After(50 * time.Millisecond) {
		b := hello(t, tlsConfig, ident.NewSpoolID(), h.GRPCAddr().String()).GetBeacon()
		if b.GetChainId() == anviltest.ChainID && len(b.GetBlockHash()) == 32 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the welcome says %v", b)
		}
	}
}

// Every problem that a status can have is one that the API's description lists, and no other is listed.
func TestTheAPIListsEveryProblemOfAnchoring(t *testing.T) {
	t.Parallel()
	want := []api.AnchorProblemCode{"no_key", "settings"}
	for _, p := range anchor.Problems() {
		want = append(want, api.AnchorProblemCode(p))
	}
	listed := api.AnchorProblemCodes()
	slices.Sort(want)
	slices.Sort(listed)
	if !slices.Equal(want, listed) {
		t.Errorf("listed are %v, want %v", listed, want)
	}
}
