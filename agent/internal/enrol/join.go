package enrol

import (
	"context"
	"crypto/ecdh"
	"errors"
	"fmt"
	"time"

	"github.com/hashinsight/hashinsight/agent/internal/keys"
	"github.com/hashinsight/hashinsight/pkg/backoff"
	"github.com/hashinsight/hashinsight/pkg/identity"
	enrolv1 "github.com/hashinsight/hashinsight/proto/enrol/v1"
)

// JoinConfig says how a site joins.
type JoinConfig struct {
	Dir       string // identity directory, made when missing
	Token     identity.Token
	Addresses []string // host:port of the hub's gRPC listeners
	Dial      Dialer   // nil means TCP
	Version   string   // of this program
	// Patience is how long a hub that is not reached is tried again; 0 means 2 min.
	Patience time.Duration
	Now      func() time.Time // nil means time.Now

	Fingerprint func(fingerprint string)                  // told before anything is sent; nil: not told
	Waiting     func(fingerprint string, until time.Time) // told once when a person at the hub has to approve; nil: not told
	Trouble     func(err error, again time.Duration)      // told when the hub is not reached and tried again; nil: not told
}

// Joined is what came out of it.
type Joined struct {
	Bundle      identity.Bundle
	Fingerprint string
	Already     bool // it was this hub's already, and the token was not needed
}

// maxPending is the longest wait that a hub may ask between two questions whether somebody has approved.
const maxPending = time.Minute

// Join makes this machine a site's agent. It may be run again at any time: keys are made once, the same token and keys give the
// same answer, and a site that is let in already needs no token.
func Join(ctx context.Context, c JoinConfig) (Joined, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Dial == nil {
		c.Dial = plainDialer()
	}
	if c.Patience == 0 {
		c.Patience = 2 * time.Minute
	}
	h := hub{c.Addresses, c.Dial}
	if done, ok, err := c.already(ctx, h); ok || err != nil {
		return done, err
	}
	set, err := keys.Make(c.Dir)
	if err != nil {
		return Joined{}, err
	}
	raw, err := set.Request()
	if err != nil {
		return Joined{}, err
	}
	request, err := identity.ParseRequest(raw)
	if err != nil {
		return Joined{}, err
	}
	out := Joined{Fingerprint: request.Fingerprint(set.WireGuard.PublicKey().Bytes())}
	if c.Fingerprint != nil {
		c.Fingerprint(out.Fingerprint)
	}
	g, err := c.ask(ctx, h, set, raw, out.Fingerprint)
	if err != nil {
		return out, err
	}
	out.Bundle, err = keys.Store(c.Dir, g, c.Now())
	return out, err
}

// already finds out whether this machine has an identity that the hub lets in.
func (c *JoinConfig) already(ctx context.Context, h hub) (Joined, bool, error) {
	id, err := keys.Load(c.Dir)
	if errors.Is(err, keys.ErrNotInstalled) {
		return Joined{}, false, nil
	}
	if err != nil {
		return Joined{}, false, err
	}
	ours := false
	for _, root := range id.Bundle().CA {
		ours = ours || c.Token.Fits(root)
	}
	if !ours { // perhaps of the same hub, whose CA was exchanged: the token decides; Store refuses another site's answer
		return Joined{}, false, nil
	}
	if !c.Now().Before(id.Bundle().Certificate[0].NotAfter) {
		return Joined{}, false, nil
	}
	var g *enrolv1.Grant
	err = h.do(ctx, siteTLS(id, c.Now), func(ctx context.Context, client enrolv1.EnrolServiceClient) error {
		r, err := client.Sync(ctx, &enrolv1.SyncRequest{Protocol: identity.EnrolProtocol, AgentVersion: c.Version, Generation: id.Generation()})
		g = r.GetGrant()
		return err
	})
	if err != nil {
		return Joined{}, false, nil //nolint:nilerr // the token says whether the hub is reached, and whether it wants this site
	}
	b := id.Bundle()
	if g != nil {
		if b, err = id.Store(grantOf(g), c.Now()); err != nil {
			return Joined{}, false, err
		}
	}
	if b.Tunnel == nil { // registered by hand, perhaps: the token gives it a tunnel too
		return Joined{}, false, nil
	}
	return Joined{Bundle: b, Already: true}, true, nil
}

func grantOf(g *enrolv1.Grant) keys.Grant {
	return keys.Grant{Bundle: g.GetBundle(), PSK: g.GetPresharedKey(), Generation: g.GetGeneration()}
}

// ask asks until the hub has decided: while it is not reached, for the caller's patience; while a person has to approve, until
// the token ends.
func (c *JoinConfig) ask(ctx context.Context, h hub, set keys.Set, raw []byte, fingerprint string) (keys.Grant, error) {
	wait := &backoff.Backoff{Max: 10 * time.Second}
	reached := c.Now()
	told := false
	for {
		r, err := c.once(ctx, h, set, raw)
		var e *Error
		switch {
		case err == nil && r.GetGrant() != nil:
			return grantOf(r.GetGrant()), nil
		case err == nil && r.GetPending() != nil:
			reached = c.Now()
			wait.Reset()
			p := r.GetPending()
			if p.GetFingerprint() != fingerprint {
				return keys.Grant{}, errors.New("the hub has another fingerprint for this agent's keys than this agent: compare the versions of agent and hub")
			}
			if !told && c.Waiting != nil {
				c.Waiting(fingerprint, time.UnixMilli(p.GetUntilMs()))
			}
			told = true
			pause := min(max(time.Duration(p.GetRetryAfterMs())*time.Millisecond, time.Second), maxPending)
			if err := backoff.Sleep(ctx, pause); err != nil {
				return keys.Grant{}, stopped(err)
			}
		case err == nil:
			return keys.Grant{}, errors.New("the hub's answer is not understood: compare the versions of agent and hub")
		case ctx.Err() != nil:
			return keys.Grant{}, stopped(ctx.Err())
		case errors.As(err, &e) && (e.Down || e.Retry > 0 || e.Reason == identity.ReasonChallenge):
			again := max(wait.Next(), e.Retry)
			if c.Now().Add(again).Sub(reached) > c.Patience {
				return keys.Grant{}, err
			}
			if c.Trouble != nil {
				c.Trouble(err, again)
			}
			if err := backoff.Sleep(ctx, again); err != nil {
				return keys.Grant{}, stopped(err)
			}
		default:
			return keys.Grant{}, err
		}
	}
}

func stopped(err error) error {
	return fmt.Errorf("stopped: run the command again with the same token, it goes on where it was: %w", err)
}

// once makes one attempt on one connection.
func (c *JoinConfig) once(ctx context.Context, h hub, set keys.Set, raw []byte) (r *enrolv1.EnrolResponse, err error) {
	err = h.do(ctx, joinTLS(c.Token, c.Now), func(ctx context.Context, client enrolv1.EnrolServiceClient) error {
		b, err := client.Begin(ctx, &enrolv1.BeginRequest{Protocol: identity.EnrolProtocol, AgentVersion: c.Version})
		if err != nil {
			return err
		}
		key, err := prove(set.WireGuard, b, raw)
		if err != nil {
			return err
		}
		r, err = client.Enrol(ctx, &enrolv1.EnrolRequest{
			Protocol: identity.EnrolProtocol, AgentVersion: c.Version, Token: c.Token.Reveal(), Request: raw, Wireguard: key,
		})
		return err
	})
	return r, err
}

// prove shows that this site holds a WireGuard key.
func prove(key *ecdh.PrivateKey, b *enrolv1.BeginResponse, bound []byte) (*enrolv1.WireGuardKey, error) {
	hubKey, err := ecdh.X25519().NewPublicKey(b.GetHubKey())
	if err != nil {
		return nil, fmt.Errorf("the hub's challenge is malformed: %w", err)
	}
	public := key.PublicKey().Bytes()
	proof, err := identity.WireGuardProof(key, hubKey, public, b.GetChallenge(), bound)
	if err != nil {
		return nil, err
	}
	return &enrolv1.WireGuardKey{PublicKey: public, Challenge: b.GetChallenge(), Proof: proof}, nil
}
