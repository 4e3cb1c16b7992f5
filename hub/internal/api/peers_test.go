package api

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/peers"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/wg"
)

// withPeer gives the world's site a peer.
func (w *world) withPeer() peers.Peer {
	w.t.Helper()
	p, err := w.peers.Get(w.t.Context(), w.site)
	if err != nil {
		p, err = w.peers.Make(w.t.Context(), func(tx pgx.Tx) (peers.Peer, error) {
			return w.peers.Add(w.t.Context(), tx, peers.New{Site: w.site, PublicKey: wg.NewPrivate().Public(), By: "test"})
		})
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *world) write(method, path, body string) (*http.Response, []byte) {
	w.t.Helper()
	return w.request(method, path, body, "Authorization", "Bearer "+w.owner, "Content-Type", "application/json")
}

func TestPeersAreAddedChangedRotatedAndRemoved(t *testing.T) {
	w := newWorld(t)
	key := wg.NewPrivate().Public().String()
	add := fmt.Sprintf(`{"site_id":%q,"public_key":%q}`, w.site, key)
	var p Peer
	for range 2 { // the second is the same again
		res, body := w.write("POST", "/api/peers", add)
		p = want[Peer](t, res, body)
	}
	if p.Address != "10.8.0.2" || p.PublicKey != key || p.State != "never_seen" || p.SiteName != "North" || p.KeepaliveS != 25 {
		t.Errorf("added: %+v", p)
	}
	res, body := w.write("POST", "/api/peers", fmt.Sprintf(`{"site_id":%q,"public_key":%q}`, w.site, wg.NewPrivate().Public()))
	wantProblem(t, res, body, http.StatusConflict, "CONFLICT_001")
	res, body = w.write("POST", "/api/peers", fmt.Sprintf(`{"site_id":%q,"public_key":%q}`, ident.NewSiteID(), wg.NewPrivate().Public()))
	wantProblem(t, res, body, http.StatusNotFound, "NOTFOUND_001")
	res, body = w.write("POST", "/api/peers", fmt.Sprintf(`{"site_id":%q,"public_key":%q}`, w.site, strings.Repeat("!", 44)))
	wantProblem(t, res, body, http.StatusBadRequest, "VALID_001")

	path := "/api/peers/" + w.site.String()
	res, body = w.write("PATCH", path, `{"networks":["192.168.7.0/24"],"endpoint":"north.example.com:51820","keepalive_s":30}`)
	if p = want[Peer](t, res, body); len(p.Networks) != 1 || p.Endpoint != "north.example.com:51820" || p.KeepaliveS != 30 {
		t.Errorf("changed: %+v", p)
	}
	res, body = w.write("PATCH", path, `{"networks":["10.8.4.0/24"]}`)
	wantProblem(t, res, body, http.StatusConflict, "CONFLICT_001")
	res, body = w.write("PATCH", path, `{"endpoint":"north; rm -rf:1"}`)
	wantProblem(t, res, body, http.StatusBadRequest, "VALID_001")
	res, body = w.write("POST", path+"/rotate", "")
	if p = want[Peer](t, res, body); p.RotateWantedAt == nil || p.PublicKey != key {
		t.Errorf("rotation ordered: %+v", p)
	}
	res, body = w.get("/api/peers")
	l := want[PeerList](t, res, body)
	if len(l.Items) != 1 || !l.Tunnel.Enabled || l.Tunnel.HubAddress != "10.8.0.1" || len(l.Tunnel.HubKeys) != 1 {
		t.Errorf("listed: %s", body)
	}
	if res, body = w.write("DELETE", path, ""); res.StatusCode != http.StatusNoContent {
		t.Errorf("removed: %d %s", res.StatusCode, body)
	}
	res, body = w.get(path)
	wantProblem(t, res, body, http.StatusNotFound, "NOTFOUND_001")
	if err := w.audit.Chain(t.Context()); err != nil {
		t.Fatal(err)
	}
	res, body = w.get("/api/audit?category=configuration")
	var actions []string
	for _, e := range want[AuditList](t, res, body).Items {
		if e.UserID == "" || e.Details["site_id"] != w.site.String() {
			t.Errorf("the entry does not say who and what: %+v", e)
		}
		actions = append(actions, e.Action)
	}
	if got := strings.Join(actions, " "); got != "peer_removed peer_rotation_ordered peer_changed peer_added" {
		t.Errorf("audit entries: %s", got)
	}
	if strings.Contains(string(body), "psk") || strings.Contains(w.log.String(), "psk") {
		t.Error("something speaks of preshared keys")
	}
}

func TestPeersArePaged(t *testing.T) {
	w := newWorld(t)
	for i := range 7 {
		if _, err := w.peers.Make(t.Context(), func(tx pgx.Tx) (peers.Peer, error) {
			site, _, err := fleet.PlanSite(t.Context(), tx, fmt.Sprintf("Süd %d", i/2*10+i%2), w.clock.now())
			if err != nil {
				return peers.Peer{}, err
			}
			return w.peers.Add(t.Context(), tx, peers.New{Site: site, PublicKey: wg.NewPrivate().Public()})
		}); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	cursor := ""
	for {
		res, body := w.get("/api/peers?limit=3&cursor=" + cursor)
		l := want[PeerList](t, res, body)
		for _, p := range l.Items {
			names = append(names, p.SiteName)
		}
		if cursor = l.Next; cursor == "" {
			break
		}
	}
	if len(names) != 7 {
		t.Errorf("all pages have %v", names)
	}
	res, body := w.get("/api/peers?cursor=nonsense")
	wantProblem(t, res, body, http.StatusBadRequest, "VALID_001")
}
