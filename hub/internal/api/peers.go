package api

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/peers"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/wg"
)

// Peer is a site's end of the WireGuard tunnel.
type Peer struct {
	SiteID           string   `json:"site_id" format:"uuid"`
	SiteName         string   `json:"site_name"`
	State            string   `json:"state" enum:"connected,silent,never_seen,quarantined" doc:"connected: a handshake in the last 3 minutes; quarantined: the hub's device refuses the peer, for the reason given"`
	PublicKey        string   `json:"public_key" doc:"Base64, as wg prints it"`
	Address          string   `json:"address" doc:"The site's own inside the tunnel, for ever"`
	Networks         []string `json:"networks" nullable:"false" doc:"Behind the site, reached through the tunnel"`
	Endpoint         string   `json:"endpoint,omitempty" doc:"host:port where the hub calls the site; absent: the site calls"`
	KeepaliveS       int64    `json:"keepalive_s"`
	NextPublicKey    string   `json:"next_public_key,omitempty" doc:"The site has made it and may take it into use at any time"`
	RotateWantedAt   *Time    `json:"rotate_wanted_at,omitempty" doc:"Since when the site is asked for a new key"`
	QuarantinedAt    *Time    `json:"quarantined_at,omitempty"`
	QuarantineReason string   `json:"quarantine_reason,omitempty"`
	AddedAt          Time     `json:"added_at"`
	ChangedAt        Time     `json:"changed_at"`
	ObservedEndpoint string   `json:"observed_endpoint,omitempty" doc:"Where it last called from"`
	HandshakeAt      *Time    `json:"handshake_at,omitempty" doc:"The last one; absent: none yet"`
	HandshakeAgeS    *float64 `json:"handshake_age_s,omitempty" doc:"Its age when this answer was made, whole seconds"`
	ReceivedBytes    uint64   `json:"received_bytes" doc:"From the site, WireGuard's own included, over restarts of the hub"`
	SentBytes        uint64   `json:"sent_bytes"`
	ObservedAt       *Time    `json:"observed_at,omitempty" doc:"When the four members above were noted: half a minute ago at most, or when the peer last did something"`
}

// TunnelState is the hub's end of the tunnel.
type TunnelState struct {
	Enabled    bool     `json:"enabled"`
	Endpoint   string   `json:"endpoint,omitempty" doc:"host:port that sites are told"`
	HubKeys    []string `json:"hub_keys,omitempty" doc:"The one in use first; the one before it while the key is changed"`
	HubAddress string   `json:"hub_address,omitempty" doc:"Inside the tunnel"`
	Network    string   `json:"network,omitempty"`
	Host       string   `json:"host,omitempty" doc:"Of the hub process that has the WireGuard device"`
	Backend    string   `json:"backend,omitempty" enum:"kernel,tun,netstack"`
	Why        string   `json:"why,omitempty" doc:"That backend"`
	Problem    string   `json:"problem,omitempty" doc:"Absent when all is well"`
	SeenAt     *Time    `json:"seen_at,omitempty" doc:"When that process last looked at its device"`
}

// PeerList is one page of peers.
type PeerList struct {
	Tunnel TunnelState `json:"tunnel"`
	Items  []Peer      `json:"items" nullable:"false"`
	Next   string      `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
}

type peersInput struct {
	Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"500"`
	Cursor string `query:"cursor" maxLength:"400" doc:"next of the page before"`
}

type peersOutput struct{ Body PeerList }
type peerOutput struct{ Body Peer }

type peerInput struct {
	ID string `path:"id" format:"uuid" doc:"The site's id"`
}

// NewPeer is a peer to add by hand; enrolment does it by itself.
type NewPeer struct {
	SiteID    string `json:"site_id" format:"uuid"`
	PublicKey string `json:"public_key" minLength:"44" maxLength:"44" doc:"Of the key pair that was made at the site"`
	Endpoint  string `json:"endpoint,omitempty" maxLength:"260"`
}

type addPeerInput struct{ Body NewPeer }

// PeerChange is what may be changed of a peer; what is absent stays as it is.
type PeerChange struct {
	Endpoint   *string   `json:"endpoint,omitempty" maxLength:"260" doc:"Empty: the site calls"`
	KeepaliveS *int64    `json:"keepalive_s,omitempty" minimum:"0" maximum:"65535"`
	Networks   *[]string `json:"networks,omitempty" maxItems:"32" doc:"All of them"`
}

type changePeerInput struct {
	ID   string `path:"id" format:"uuid" doc:"The site's id"`
	Body PeerChange
}

var peerErrors = []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity}

func (s *Server) peerRoutes() {
	register(s, audience(access.PeersRead), huma.Operation{
		OperationID: "list-peers", Method: http.MethodGet, Path: "/api/peers", Tags: []string{"peers"},
		Summary: "Sites' ends of the tunnel, by the site's name, and the hub's end", Errors: []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusUnprocessableEntity},
	}, s.listPeers)
	register(s, audience(access.PeersRead), huma.Operation{
		OperationID: "get-peer", Method: http.MethodGet, Path: "/api/peers/{id}", Tags: []string{"peers"},
		Summary: "One site's end of the tunnel", Errors: []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound},
	}, func(ctx context.Context, in *peerInput) (*peerOutput, error) {
		site, err := siteID(in.ID)
		if err != nil {
			return nil, err
		}
		p, err := s.peers.Get(ctx, site)
		return s.peerAnswer(&p, err)
	})
	register(s, audience(access.PeersWrite), huma.Operation{
		OperationID: "add-peer", Method: http.MethodPost, Path: "/api/peers", Tags: []string{"peers"},
		Summary: "Add a site's peer by hand", Description: "The same site and key again change nothing. The preshared key is made by the hub and reaches the site when its agent next asks, or with hashinsight-hub peers add.",
		Errors: peerErrors,
	}, func(ctx context.Context, in *addPeerInput) (*peerOutput, error) {
		site, err := siteID(in.Body.SiteID)
		if err != nil {
			return nil, err
		}
		key, err := wg.ParseKey(in.Body.PublicKey)
		if err != nil {
			return nil, apperr.E(apperr.Invalid, "VALID_001", "public_key: %w", err)
		}
		return s.changePeer(ctx, func(tx pgx.Tx, by string) (peers.Peer, error) {
			return s.peers.Add(ctx, tx, peers.New{Site: site, PublicKey: key, Endpoint: in.Body.Endpoint, By: by})
		})
	})
	register(s, audience(access.PeersWrite), huma.Operation{
		OperationID: "change-peer", Method: http.MethodPatch, Path: "/api/peers/{id}", Tags: []string{"peers"},
		Summary: "Change a peer's endpoint, keepalive or networks; takes it out of quarantine", Errors: peerErrors,
	}, func(ctx context.Context, in *changePeerInput) (*peerOutput, error) {
		site, err := siteID(in.ID)
		if err != nil {
			return nil, err
		}
		c := peers.Change{Endpoint: in.Body.Endpoint}
		if in.Body.KeepaliveS != nil {
			d := time.Duration(*in.Body.KeepaliveS) * time.Second
			c.Keepalive = &d
		}
		if in.Body.Networks != nil {
			list := make([]netip.Prefix, len(*in.Body.Networks))
			for i, text := range *in.Body.Networks {
				if list[i], err = netip.ParsePrefix(text); err != nil {
					return nil, apperr.E(apperr.Invalid, "VALID_001", "networks: %.60q is not a network such as 192.168.7.0/24", text)
				}
			}
			c.Networks = &list
		}
		return s.changePeer(ctx, func(tx pgx.Tx, by string) (peers.Peer, error) { return s.peers.Change(ctx, tx, site, c, by) })
	})
	register(s, audience(access.PeersWrite), huma.Operation{
		OperationID: "remove-peer", Method: http.MethodDelete, Path: "/api/peers/{id}", Tags: []string{"peers"},
		Summary: "Remove a site's peer", Description: "The site keeps its address, should it join again. Its certificate stays valid: revoke the site to shut it out.",
		DefaultStatus: http.StatusNoContent, Errors: peerErrors,
	}, func(ctx context.Context, in *peerInput) (*struct{}, error) {
		site, err := siteID(in.ID)
		if err != nil {
			return nil, err
		}
		_, err = s.changePeer(ctx, func(tx pgx.Tx, by string) (peers.Peer, error) {
			return peers.Peer{}, s.peers.Remove(ctx, tx, site, by)
		})
		return nil, err
	})
	register(s, audience(access.PeersWrite), huma.Operation{
		OperationID: "rotate-peer", Method: http.MethodPost, Path: "/api/peers/{id}/rotate", Tags: []string{"peers"},
		Summary: "Ask a site for a new key and preshared key", Description: "The present ones count until the site has taken the new ones into use.", Errors: peerErrors,
	}, func(ctx context.Context, in *peerInput) (*peerOutput, error) {
		site, err := siteID(in.ID)
		if err != nil {
			return nil, err
		}
		return s.changePeer(ctx, func(tx pgx.Tx, by string) (peers.Peer, error) { return s.peers.Rotate(ctx, tx, site, by) })
	})
}

func siteID(text string) (ident.SiteID, error) {
	id, err := ident.ParseSiteID(text)
	if err != nil {
		return id, apperr.E(apperr.Invalid, "VALID_001", "%w", err)
	}
	return id, nil
}

// changePeer makes a change and waits a moment until the device has it.
func (s *Server) changePeer(ctx context.Context, change func(tx pgx.Tx, by string) (peers.Peer, error)) (*peerOutput, error) {
	by := uuid.UUID(principal(ctx).KeyID).String()
	p, err := s.peers.Make(ctx, func(tx pgx.Tx) (peers.Peer, error) { return change(tx, by) })
	return s.peerAnswer(&p, err)
}

func (s *Server) listPeers(ctx context.Context, in *peersInput) (*peersOutput, error) {
	after, err := peerPosition(in.Cursor)
	if err != nil {
		return nil, err
	}
	list, err := s.peers.List(ctx, after, false, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &peersOutput{Body: PeerList{Items: make([]Peer, 0, len(list))}}
	if len(list) > in.Limit {
		list = list[:in.Limit]
		last := list[len(list)-1]
		out.Body.Next = base64.RawURLEncoding.EncodeToString([]byte(last.Site.String() + last.SiteName))
	}
	now := s.now()
	for i := range list {
		out.Body.Items = append(out.Body.Items, peerBody(&list[i], now))
	}
	set, err := s.peers.Settings(ctx)
	if err != nil {
		return nil, err
	}
	owner, err := s.peers.Owner(ctx)
	if err != nil {
		return nil, err
	}
	t := &out.Body.Tunnel
	t.Enabled = set.Enabled
	if set.Enabled {
		t.Endpoint, t.HubAddress, t.Network = set.Endpoint, set.HubAddress.String(), set.Network.String()
		for _, k := range set.HubKeys {
			t.HubKeys = append(t.HubKeys, k.String())
		}
		t.Host, t.Backend, t.Why, t.Problem, t.SeenAt = owner.Host, owner.Backend, owner.Why, owner.Problem, timeOf(owner.SeenAt)
	}
	return out, nil
}

// peerPosition reads a cursor: the id of the last site, 36 characters, and its name.
func peerPosition(cursor string) (peers.Position, error) {
	if cursor == "" {
		return peers.Position{}, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err == nil && len(b) > 36 {
		var site ident.SiteID
		if site, err = ident.ParseSiteID(string(b[:36])); err == nil {
			return peers.Position{Site: site, SiteName: strings.ToValidUTF8(strings.ReplaceAll(string(b[36:]), "\x00", ""), "")}, nil
		}
	}
	return peers.Position{}, apperr.E(apperr.Invalid, "VALID_001", "cursor: want next of the page before")
}

func (s *Server) peerAnswer(p *peers.Peer, err error) (*peerOutput, error) {
	if err != nil {
		return nil, err
	}
	return &peerOutput{Body: peerBody(p, s.now())}, nil
}

func peerBody(p *peers.Peer, now time.Time) Peer {
	out := Peer{
		SiteID: p.Site.String(), SiteName: p.SiteName, State: p.State(now), PublicKey: p.PublicKey.String(), Address: p.Address.String(), Networks: []string{}, Endpoint: p.Endpoint,
		KeepaliveS: int64(p.Keepalive / time.Second), RotateWantedAt: timeOf(p.RotateWanted), QuarantinedAt: timeOf(p.QuarantinedAt), QuarantineReason: p.QuarantineReason,
		AddedAt: Time{p.AddedAt}, ChangedAt: Time{p.ChangedAt}, ObservedEndpoint: p.Observed.Endpoint, HandshakeAt: timeOf(p.Observed.Handshake),
		ReceivedBytes: p.Observed.Received, SentBytes: p.Observed.Sent, ObservedAt: timeOf(p.Observed.SeenAt),
	}
	for _, n := range p.Networks {
		out.Networks = append(out.Networks, n.String())
	}
	if !p.NextKey.IsZero() {
		out.NextPublicKey = p.NextKey.String()
	}
	if !p.Observed.Handshake.IsZero() {
		out.HandshakeAgeS = secondsOf(max(0, now.Sub(p.Observed.Handshake)).Truncate(time.Second))
	}
	return out
}
