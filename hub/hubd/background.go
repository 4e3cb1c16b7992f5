package hubd

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"time"

	"google.golang.org/grpc"

	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/config"
	"github.com/hashinsight/hashinsight/hub/internal/enrol"
	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/ingest"
	"github.com/hashinsight/hashinsight/hub/internal/peers"
	"github.com/hashinsight/hashinsight/hub/internal/pki"
	"github.com/hashinsight/hashinsight/pkg/backoff"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/lifecycle"
	enrolv1 "github.com/hashinsight/hashinsight/proto/enrol/v1"
)

// startBackground starts what needs the migrated database.
func (h *Hub) startBackground(ctx context.Context, stack *lifecycle.Stack, s subjects) error {
	stack.Go("audit log", stopAudit, s.audit.Run)
	if s.access != nil {
		stack.Go("API keys", 0, s.access.Run)
	}
	if s.tls != nil {
		stack.Go("web certificates", 0, s.tls.Run)
	}
	if s.limits != nil {
		stack.Go("rate limits", 0, s.limits.Run)
	}
	if s.pki != nil {
		if err := s.pki.Load(ctx); err != nil {
			return err
		}
	}
	if h.runs(config.ModuleJobs) { // after the keys: statements are signed
		if err := h.startJobs(ctx, stack, s); err != nil {
			return err
		}
	}
	revoked := func(pki.Ended) {}
	if h.runs(config.ModuleIngest) {
		if s.pki == nil {
			return errors.New("ENCRYPTION_PASSWORD is required by the module ingest: it opens the hub's keys")
		}
		agents := newGate(h.grpc)
		if h.also != nil {
			agents.attach(h.also)
		}
		var tunnel *peers.Manager
		if h.c.Tunnel.on() {
			var err error
			if tunnel, err = h.startTunnel(stack, s, agents); err != nil {
				return err
			}
		}
		var sync func(context.Context) error
		if tunnel != nil {
			sync = tunnel.Sync
		}
		server, err := h.startIngest(stack, s, agents, sync)
		if err != nil {
			return err
		}
		type goodbye struct {
			site ident.SiteID
			due  time.Time
		}
		ended := make(chan goodbye, 10_000) // revoked sites whose peer goes too
		if tunnel != nil {
			stack.Go("peers of revoked sites", 0, func(ctx context.Context) error {
				for {
					select {
					case e := <-ended:
						if backoff.Sleep(ctx, time.Until(e.due)) == nil {
							h.cutOff(ctx, tunnel, e.site)
						}
					case <-ctx.Done():
						return nil
					}
				}
			})
		}
		revoked = func(e pki.Ended) {
			if !e.Whole {
				server.Recheck(ctx, e.Site)
				return
			}
			server.Disconnect(e.Site, "this site was revoked: "+e.Why) // first: without its peer it would not hear why
			select {
			case ended <- goodbye{e.Site, time.Now().Add(peers.LastWords)}: // not here: a device that is slow must not keep other revocations waiting
			default: // the row has ended already, and the loop's next pass removes the peer
			}
		}
	}
	if s.pki != nil {
		// Stopped before ingest: a hub that stops ends its streams anyway.
		stack.Go("revocations", 0, func(ctx context.Context) error { return s.pki.Watch(ctx, revoked) })
	}
	return nil
}

// startIngest starts what takes telemetry and lets sites join: the agents' listener. syncPeers makes the tunnel's device take a new site; nil without one.
func (h *Hub) startIngest(stack *lifecycle.Stack, s subjects, agents net.Listener, syncPeers func(context.Context) error) (*ingest.Server, error) {
	sites, err := fleet.New(fleet.Config{Pool: s.pools.Ingest, Now: h.c.Now, Log: h.c.Log})
	if err != nil {
		return nil, err
	}
	latest, err := fleet.NewLatest(fleet.LatestConfig{Now: h.c.Now, Registerer: h.c.Registry})
	if err != nil {
		return nil, err
	}
	var joining *enrol.Server
	var register func(grpc.ServiceRegistrar)
	if s.enrol != nil {
		if joining, err = enrol.NewServer(enrol.ServerConfig{Store: s.enrol, SyncPeers: syncPeers, Registerer: h.c.Registry}); err != nil {
			return nil, err
		}
		register = func(r grpc.ServiceRegistrar) { enrolv1.RegisterEnrolServiceServer(r, joining) }
	}
	server, err := ingest.NewServer(ingest.Config{
		Pool: s.pools.Ingest, Fleet: sites, Latest: latest, Series: s.series, Facts: s.facts,
		Key: s.pki.EvidenceKey(), TLS: s.pki.ServerTLS(),
		CheckPeer: func(ctx context.Context, cert *x509.Certificate) error {
			_, err := s.pki.Verify(ctx, []*x509.Certificate{cert})
			return err
		},
		Enrol: register,
		Cloned: func(ctx context.Context, site ident.SiteID, remote string) {
			if err := s.audit.Record(ctx, audit.Entry{
				Level: audit.Security, Category: audit.Suspicious, Action: "agent_cloned", Status: audit.Denied, UserID: site.String(), IP: remote,
				Details: map[string]any{"site_id": site.String(), "remote": remote},
			}); err != nil {
				h.c.Log.ErrorContext(ctx, "a second agent with one identity is not in the audit log", "site", site, "err", err)
			}
		},
		Beacon: h.beacon(stack), Now: h.c.Now, Log: h.c.Log, Registerer: h.c.Registry,
	})
	if err != nil {
		return nil, err
	}
	stack.Go("ingest", stopIngest, func(ctx context.Context) error { return server.Serve(ctx, agents) })
	if joining != nil {
		every := 15 * time.Second
		if h.alone {
			every = time.Minute // virtual days have many seconds
		}
		stack.Go("notices to agents", 0, func(ctx context.Context) error { return joining.Watch(ctx, every, server.Notify) })
	}
	return server, nil
}
