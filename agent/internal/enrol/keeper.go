package enrol

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/agent/internal/keys"
	"github.com/hashinsight/hashinsight/pkg/backoff"
	"github.com/hashinsight/hashinsight/pkg/identity"
	enrolv1 "github.com/hashinsight/hashinsight/proto/enrol/v1"
)

// Times of a Keeper.
const (
	firstSync   = 10 * time.Second // the first Sync comes within it, spread out
	minSync     = 30 * time.Second
	maxSync     = 24 * time.Hour
	lookAgain   = 10 * time.Second // how often the identity's files are looked at: an operator may enrol anew beside a running agent
	absentAgain = 6 * time.Hour    // until a hub that is too old to renew is asked again
	// A hub that is not reached is tried again at most this much later while there is no valid certificate: a site that was dark is
	// back within a minute, telemetry's own reconnecting included.
	darkMax    = 15 * time.Second
	refusedMin = 15 * time.Second
	refusedMax = 5 * time.Minute
)

// KeeperConfig configures a Keeper.
type KeeperConfig struct {
	Identity *keys.Identity
	// Addresses returns the hub's listeners, host:port, in the order to try; nil means those of the bundle, its fall-back last.
	Addresses func() []string
	Dial      Dialer // nil means TCP
	Version   string // of this program
	// Changed is called after the identity has changed, here or by a command beside: new certificate, new roots, new tunnel. It must
	// not block.
	Changed    func()
	Now        func() time.Time      // nil means time.Now
	Log        *slog.Logger          // nil means none
	Registerer prometheus.Registerer // nil means no metrics
}

// Keeper keeps a site's identity good. It is safe for use by several goroutines.
type Keeper struct {
	c       KeeperConfig
	id      *keys.Identity
	log     *slog.Logger
	metrics *keeperMetrics
	poke    chan struct{} // ask the hub now

	mu     sync.Mutex
	status KeeperStatus

	// Of Run's goroutine.
	serial  string    // of the certificate that the times below are for
	renewAt time.Time // half of its life ± 10 %
	syncAt  time.Time
	holdTo  time.Time // nothing is tried before
	must    action    // that the hub or a failure has asked for; none otherwise
	down    backoff.Backoff
	dark    backoff.Backoff
	refused backoff.Backoff
}

// KeeperStatus describes a Keeper at one moment.
type KeeperStatus struct {
	NotAfter time.Time // of the certificate
	LastSync time.Time // zero before the first
	Err      error     // why the last call failed; nil when it did not
}

// action is one thing that a Keeper does.
type action string

const (
	actNone    action = ""
	actSync    action = "sync"
	actRenew   action = "renew"
	actRecover action = "recover"
	actRotate  action = "rotate"
)

// NewKeeper returns a Keeper; Run makes it work.
func NewKeeper(c KeeperConfig) (*Keeper, error) {
	if c.Identity == nil {
		return nil, errors.New("enrol: Identity is required")
	}
	if c.Dial == nil {
		c.Dial = plainDialer()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Changed == nil {
		c.Changed = func() {}
	}
	if c.Addresses == nil {
		id := c.Identity
		c.Addresses = func() []string {
			b := id.Bundle()
			list := strings.Split(b.HubAddress, ",")
			if b.FallbackAddress != "" && !slices.Contains(list, b.FallbackAddress) {
				list = append(list, b.FallbackAddress)
			}
			return list
		}
	}
	k := &Keeper{c: c, id: c.Identity, log: c.Log, poke: make(chan struct{}, 1)}
	k.dark.Max, k.refused.Min, k.refused.Max = darkMax, refusedMin, refusedMax
	var err error
	k.metrics, err = newKeeperMetrics(k, c.Registerer)
	return k, err
}

// Sync makes the Keeper ask the hub now: on a Notice, or when the hub has refused the site's certificate.
func (k *Keeper) Sync() {
	select {
	case k.poke <- struct{}{}:
	default:
	}
}

// Status returns the present state.
func (k *Keeper) Status() KeeperStatus {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.status
	s.NotAfter = k.id.Bundle().Certificate[0].NotAfter
	return s
}

// Run works until ctx ends, and returns nil then.
func (k *Keeper) Run(ctx context.Context) error {
	k.look()
	k.syncAt = k.c.Now().Add(rand.N(firstSync)) //nolint:gosec // spreads agents out; it is no secret
	for {
		do, wait := k.next()
		if wait > 0 {
			t := time.NewTimer(min(wait, lookAgain))
			select {
			case <-t.C:
			case <-k.poke:
				k.syncAt = k.c.Now()
				if k.Status().Err == nil { // a hub that said no a moment ago is not asked again because telemetry heard the same
					k.holdTo = time.Time{}
				}
			case <-ctx.Done():
			}
			t.Stop()
			if ctx.Err() != nil {
				return nil //nolint:nilerr // told to end
			}
			if k.look() {
				k.c.Changed()
			}
			continue
		}
		err := k.act(ctx, do)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // told to end
		}
		k.settle(ctx, do, err)
	}
}

// look notices a certificate that is not the one of before. That is also how an operator's new enrolment ends a long wait.
func (k *Keeper) look() (changed bool) {
	c := k.id.Bundle().Certificate[0]
	serial := c.SerialNumber.String()
	if serial == k.serial {
		return false
	}
	changed = k.serial != ""
	k.serial = serial
	life := c.NotAfter.Sub(c.NotBefore)
	k.renewAt = c.NotBefore.Add(life/2 - life/10 + rand.N(life/5+1)) //nolint:gosec // spreads agents out; it is no secret
	k.holdTo, k.must = time.Time{}, actNone
	k.refused.Reset()
	k.dark.Reset()
	k.down.Reset()
	return changed
}

// next says what is to be done now, or how long there is nothing.
func (k *Keeper) next() (action, time.Duration) {
	now := k.c.Now()
	if wait := k.holdTo.Sub(now); wait > 0 {
		return actNone, min(wait, refusedMax+absentAgain)
	}
	until := k.id.Bundle().Certificate[0].NotAfter
	switch {
	case !now.Before(until):
		return actRecover, 0
	case k.must != actNone:
		return k.must, 0
	case !now.Before(k.renewAt):
		return actRenew, 0
	case !now.Before(k.syncAt):
		return actSync, 0
	}
	first := k.syncAt
	for _, t := range []time.Time{k.renewAt, until} {
		if t.Before(first) {
			first = t
		}
	}
	return actNone, max(first.Sub(now), time.Millisecond)
}

func (k *Keeper) act(ctx context.Context, do action) error {
	switch do {
	case actRenew:
		return k.renew(ctx)
	case actRecover:
		return k.recover(ctx)
	case actRotate:
		return k.rotate(ctx)
	default:
		return k.sync(ctx, nil)
	}
}

// settle draws the conclusions from an attempt: what is next, and when.
func (k *Keeper) settle(ctx context.Context, do action, err error) {
	now := k.c.Now()
	k.mu.Lock()
	k.status.Err = err
	if err == nil && (do == actSync || do == actRotate) {
		k.status.LastSync = now
	}
	k.mu.Unlock()
	k.metrics.count(do, err)
	if err == nil {
		k.refused.Reset()
		k.dark.Reset()
		k.down.Reset()
		return
	}
	var e *Error
	if !errors.As(err, &e) {
		k.holdTo = now.Add(k.refused.Next())
		k.log.ErrorContext(ctx, "the site's identity was not kept up", "action", string(do), "err", err, "again_at", k.holdTo)
		return
	}
	valid := now.Before(k.id.Bundle().Certificate[0].NotAfter)
	switch {
	case e.Reason == identity.ReasonCertExpired && do != actRecover:
		k.must = actRecover // by the hub's clock
		return
	case e.Absent:
		k.must, k.holdTo = actNone, now.Add(absentAgain)
		k.log.InfoContext(ctx, "the hub does not renew certificates: it is older than this agent; install a new bundle before the certificate runs out",
			"not_after", k.id.Bundle().Certificate[0].NotAfter)
		return
	case e.Down && valid:
		k.holdTo = now.Add(k.down.Next())
	case e.Down:
		k.holdTo = now.Add(k.dark.Next())
	case e.Permanent():
		k.holdTo = now.Add(max(k.refused.Next(), e.Retry))
		k.log.ErrorContext(ctx, "the hub refuses this site; polling and buffering go on", "action", string(do), "reason", e.Reason, "err", err, "again_at", k.holdTo)
		return
	default:
		k.holdTo = now.Add(max(k.down.Next(), e.Retry))
	}
	level := slog.LevelWarn
	if !valid {
		level = slog.LevelError
	}
	k.log.Log(ctx, level, "the hub was not asked about this site's identity", "action", string(do), "err", err, "certificate_until", k.id.Bundle().Certificate[0].NotAfter, "again_at", k.holdTo)
}

func (k *Keeper) call(ctx context.Context, cfg *tls.Config, calls func(context.Context, enrolv1.EnrolServiceClient) error) error {
	return hub{k.c.Addresses(), k.c.Dial}.do(ctx, cfg, calls)
}

// store takes a grant.
func (k *Keeper) store(g *enrolv1.Grant) error {
	if g == nil {
		return errors.New("the hub's answer has no grant: compare the versions of agent and hub")
	}
	if _, err := k.id.Store(grantOf(g), k.c.Now()); err != nil {
		return err
	}
	k.look()
	k.c.Changed()
	return nil
}

// sync asks what has changed.
func (k *Keeper) sync(ctx context.Context, rotate func(context.Context, enrolv1.EnrolServiceClient) (*enrolv1.WireGuardKey, error)) error {
	var r *enrolv1.SyncResponse
	err := k.call(ctx, siteTLS(k.id, k.c.Now), func(ctx context.Context, client enrolv1.EnrolServiceClient) (err error) {
		q := &enrolv1.SyncRequest{Protocol: identity.EnrolProtocol, AgentVersion: k.c.Version, Generation: k.id.Generation()}
		if rotate != nil {
			if q.Wireguard, err = rotate(ctx, client); err != nil {
				return err
			}
		}
		r, err = client.Sync(ctx, q)
		return err
	})
	if err != nil {
		return err
	}
	next := min(max(time.Duration(r.GetNextMs())*time.Millisecond, minSync), maxSync)
	k.syncAt = k.c.Now().Add(next - next/10 + rand.N(next/5)) //nolint:gosec // spreads agents out; it is no secret
	k.must = actNone
	if r.GetGrant() != nil && !bytes.Equal(r.GetGrant().GetGeneration(), k.id.Generation()) {
		if err := k.store(r.GetGrant()); err != nil {
			return err
		}
		k.log.InfoContext(ctx, "the hub has changed what this site uses")
	}
	switch {
	case rotate == nil && slices.Contains(r.GetOrders(), enrolv1.Order_ORDER_ROTATE_WIREGUARD):
		k.must = actRotate
	case slices.Contains(r.GetOrders(), enrolv1.Order_ORDER_RENEW):
		k.must = actRenew
	}
	return nil
}

// rotate makes a new WireGuard key and tells the hub, which takes both until the new one is used.
func (k *Keeper) rotate(ctx context.Context) error {
	key, err := keys.NextWireGuard(k.id.Dir())
	if err != nil {
		return err
	}
	err = k.sync(ctx, func(ctx context.Context, client enrolv1.EnrolServiceClient) (*enrolv1.WireGuardKey, error) {
		b, err := client.Begin(ctx, &enrolv1.BeginRequest{Protocol: identity.EnrolProtocol, AgentVersion: k.c.Version})
		if err != nil {
			return nil, err
		}
		return prove(key, b, nil)
	})
	if err == nil {
		k.log.InfoContext(ctx, "the site's WireGuard key was rotated, as the hub ordered")
	}
	return err
}

// renew replaces the certificate before it ends.
func (k *Keeper) renew(ctx context.Context) error {
	key, err := keys.NextTLS(k.id.Dir())
	if err != nil {
		return err
	}
	csr, err := identity.NewCSR(key)
	if err != nil {
		return err
	}
	var r *enrolv1.RenewResponse
	err = k.call(ctx, siteTLS(k.id, k.c.Now), func(ctx context.Context, client enrolv1.EnrolServiceClient) (err error) {
		r, err = client.Renew(ctx, &enrolv1.RenewRequest{Protocol: identity.EnrolProtocol, Csr: csr})
		return err
	})
	if err != nil {
		return err
	}
	if err := k.store(r.GetGrant()); err != nil {
		return err
	}
	k.log.InfoContext(ctx, "certificate renewed", "not_after", k.id.Bundle().Certificate[0].NotAfter)
	return nil
}

// recover gets a certificate after the last one has ended, by the site's registered keys.
func (k *Keeper) recover(ctx context.Context) error {
	key, err := keys.NextTLS(k.id.Dir())
	if err != nil {
		return err
	}
	csr, err := identity.NewCSR(key)
	if err != nil {
		return err
	}
	var r *enrolv1.RecoverResponse
	old := k.id.Bundle().Certificate[0]
	err = k.call(ctx, strangerTLS(k.id, k.c.Now), func(ctx context.Context, client enrolv1.EnrolServiceClient) error {
		b, err := client.Begin(ctx, &enrolv1.BeginRequest{Protocol: identity.EnrolProtocol, AgentVersion: k.c.Version})
		if err != nil {
			return err
		}
		q, err := k.recovery(b.GetChallenge(), csr, old)
		if err != nil {
			return err
		}
		r, err = client.Recover(ctx, q)
		return err
	})
	if err != nil {
		return err
	}
	k.must = actNone
	if err := k.store(r.GetGrant()); err != nil {
		return err
	}
	k.syncAt = k.c.Now() // it was away: what else has changed?
	k.log.WarnContext(ctx, "the certificate had run out and was recovered", "old_not_after", old.NotAfter, "not_after", k.id.Bundle().Certificate[0].NotAfter)
	return nil
}

func (k *Keeper) recovery(challenge, csr []byte, old *x509.Certificate) (*enrolv1.RecoverRequest, error) {
	message := identity.RecoverMessage(challenge, csr, old.Raw)
	byTLS, err := identity.SignRecovery(k.id.TLSKey(), message)
	if err != nil {
		return nil, err
	}
	return &enrolv1.RecoverRequest{
		Protocol: identity.EnrolProtocol, AgentVersion: k.c.Version, Challenge: challenge, Certificate: old.Raw, Csr: csr,
		EvidenceKey: k.id.EvidencePublic(), TlsSignature: byTLS, EvidenceSignature: k.id.SignRecovery(message),
	}, nil
}

// keeperMetrics are a Keeper's.
type keeperMetrics struct{ attempts *prometheus.CounterVec }

func newKeeperMetrics(k *Keeper, reg prometheus.Registerer) (*keeperMetrics, error) {
	m := &keeperMetrics{prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hashinsight_agent_identity_calls_total", Help: "Calls about this site's identity by action and outcome: ok, down, error, or the reason of a refusal.",
	}, []string{"action", "outcome"})}
	until := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hashinsight_agent_certificate_not_after_seconds", Help: "When this site's certificate ends, Unix seconds.",
	}, func() float64 { return float64(k.id.Bundle().Certificate[0].NotAfter.Unix()) })
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.attempts, until} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("enrol metrics: %w", err)
		}
	}
	return m, nil
}

func (m *keeperMetrics) count(do action, err error) {
	outcome := "ok"
	var e *Error
	switch {
	case err == nil:
	case errors.As(err, &e) && e.Down:
		outcome = "down"
	case errors.As(err, &e) && identity.WhatNext(e.Reason) != "": // a closed list
		outcome = e.Reason
	default:
		outcome = "error"
	}
	m.attempts.WithLabelValues(string(do), outcome).Inc()
}
