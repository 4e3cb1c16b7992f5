package agentd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hashinsight/hashinsight/agent/internal/enrol"
	"github.com/hashinsight/hashinsight/agent/internal/facts"
	"github.com/hashinsight/hashinsight/agent/internal/inventory"
	"github.com/hashinsight/hashinsight/agent/internal/keys"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
	"github.com/hashinsight/hashinsight/pkg/lifecycle"
	"github.com/hashinsight/hashinsight/pkg/wg"
)

// stopKeeper is how long a call about the identity may take to end.
const stopKeeper = 5 * time.Second

// loadIdentity fills what an identity directory says and nobody has said otherwise.
func (c Config) loadIdentity() (Config, error) {
	if c.identity == nil {
		if c.IdentityDir == "" {
			return c, nil
		}
		id, err := keys.Load(c.IdentityDir)
		if err != nil {
			return c, err
		}
		c.identity = id
	}
	id := c.identity
	c.Site, c.EvidenceKey, c.HubKey = id.Site, id.Evidence, id.HubKey
	if c.Hub == nil {
		c.Hub = ways(id, nil, true)
	}
	if c.HubTLS == nil {
		now := c.Now
		if now == nil {
			now = time.Now
		}
		c.HubTLS = id.TLS(now)
	}
	return c, nil
}

// ways says how a hub is reached by what it has told this site, and by the addresses that this site's configuration names instead
// of the hub's own. Without fallback a site that has a tunnel goes no other way.
func ways(id *keys.Identity, configured []string, fallback bool) func() Ways {
	return func() Ways {
		b := id.Bundle()
		w := Ways{Direct: configured}
		t, err := id.Tunnel()
		switch {
		case err != nil && len(configured) == 0: // no tunnel, or one whose secrets cannot be read
			w.Direct = strings.Split(b.HubAddress, ",")
		case err == nil && len(configured) == 0 && b.FallbackAddress != "":
			w.Direct = []string{b.FallbackAddress}
		}
		if err == nil {
			w.Tunnel = tunnelOf(t)
		}
		if w.Tunnel != nil && !fallback {
			w.Direct = nil
		}
		return w
	}
}

// tunnelOf is a site's end of the tunnel in the form of package tunnel; nil when it cannot be used, which package keys has checked.
func tunnelOf(t keys.Tunnel) *Tunnel {
	hub, err := wg.ParseKey(t.HubKeys[0])
	inside, errInside := netip.ParseAddrPort(t.HubAddress)
	if err != nil || errInside != nil {
		return nil
	}
	return &Tunnel{
		Private: t.Private, Address: t.Address, Inside: t.HubAddress,
		Hub: wg.Peer{
			PublicKey: hub, PSK: t.PSK, Endpoint: t.Endpoint, Keepalive: t.Keepalive,
			AllowedIPs: []netip.Prefix{netip.PrefixFrom(inside.Addr(), inside.Addr().BitLen())},
		},
	}
}

// keep starts what keeps the identity good, if there is one. It asks the hub on the way that telemetry takes, then directly where the
// site joined: a tunnel that does not come up any more, for whatever the hub has changed, is mended by that.
func (a *Agent) keep(stack *lifecycle.Stack, p *parts) error {
	c := a.cfg
	if c.identity == nil || p.link == nil {
		return nil
	}
	var err error
	p.keeper, err = enrol.NewKeeper(enrol.KeeperConfig{
		Identity: c.identity, Version: a.build.Version,
		Addresses: func() []string {
			list := p.link.Addresses()
			for _, more := range append(strings.Split(c.identity.Bundle().HubAddress, ","), c.Hub().Direct...) {
				if !slices.Contains(list, more) {
					list = append(list, more)
				}
			}
			return list
		},
		Dial: func(ctx context.Context, address string) (net.Conn, error) {
			if slices.Contains(p.link.Addresses(), address) {
				return p.link.DialContext(ctx, address)
			}
			if c.HubDial != nil {
				return c.HubDial(ctx, address)
			}
			var d net.Dialer
			return d.DialContext(ctx, "tcp", address)
		},
		Changed: p.uplinkAgain, Now: c.Now, Log: a.log, Registerer: c.Registry,
	})
	if err != nil {
		return err
	}
	stack.Go("identity", stopKeeper, func(ctx context.Context) error { return p.keeper.Run(ctx) })
	return nil
}

// tellSalts says how the hub gets salt keys; nil without a hub.
func (a *Agent) tellSalts(p *parts) func(context.Context, map[ident.MinerID]inventory.SaltKey) error {
	if p.link == nil {
		return nil
	}
	return func(ctx context.Context, keys map[ident.MinerID]inventory.SaltKey) error {
		out := make(map[ident.MinerID][32]byte, len(keys))
		for m, k := range keys {
			out[m] = k
		}
		var err error
		if p.keeper != nil {
			err = p.keeper.KeepSalts(ctx, out)
		} else {
			err = enrol.KeepSalts(ctx, p.link.Addresses(), p.link.DialContext, a.cfg.HubTLS, out)
		}
		var e *enrol.Error
		if errors.As(err, &e) && e.Reason == identity.ReasonKeyOther {
			return fmt.Errorf("%w: %w", facts.ErrOtherKey, err)
		}
		return err
	}
}

func (p *parts) uplinkAgain() { p.uplink.Again() }

// identityReason says what is wrong with the identity; "" when nothing is.
func (p *parts) identityReason(now time.Time) string {
	if p.keeper == nil {
		return ""
	}
	s := p.keeper.Status()
	var e *enrol.Error
	switch {
	case errors.As(s.Err, &e) && e.Permanent():
		return e.Error()
	case !now.Before(s.NotAfter):
		return "this site's certificate ran out on " + s.NotAfter.UTC().Format(time.RFC3339) + ": the agent recovers it once it reaches the hub"
	}
	return ""
}

// JoinConfig says how a site joins a hub, and Joined what came out of it.
type (
	JoinConfig = enrol.JoinConfig
	Joined     = enrol.Joined
)

// Join makes this machine a site's agent, with a token from the hub's operator; see package enrol. IdentityDir of a Config is then its Dir.
func Join(ctx context.Context, c JoinConfig) (Joined, error) { return enrol.Join(ctx, c) }
