// Package access says who makes a request and what they may do: API keys, stored as hashes, and
// the page's sessions, which a key opens and which end with it. It knows nothing of HTTP beyond the
// text of a key or cookie; package api reads the headers, asks here, and compares the answer with the
// permission of the route. `hashinsight-hub apikey bootstrap` makes the first key through Bootstrap.
package access

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

// Times and bounds.
const (
	SessionLifetime = 12 * time.Hour  // of a sign-in on the page
	CacheFor        = 3 * time.Second // longest time a revoked key or ended session still works
	cacheEntries    = 4096            // credentials remembered; beyond it the cache starts again
	touchEvery      = time.Minute     // least time between two records of a key's last use
	sessionsPerKey  = 100             // open sessions of one key; the oldest end first
)

// Why a request is not let in. They come wrapped in coded errors.
var (
	ErrNoKey            = errors.New("this key is not known, or it was revoked")
	ErrExpired          = errors.New("this key has expired")
	ErrNoCertificateKey = errors.New("no API key stands for this client certificate, or it was revoked: make one with its identity")
	ErrSignedOut        = errors.New("the session has ended")
)

func refusal(code apperr.Code, why error) error {
	return apperr.E(apperr.Unauthenticated, code, "%w", why)
}

// ThrottledError says that an address has shown too many wrong keys.
type ThrottledError struct{ Wait time.Duration }

func (e *ThrottledError) Error() string {
	return fmt.Sprintf("too many wrong keys from this address, wait %s", e.Wait.Round(time.Second))
}

func throttled(wait time.Duration) error {
	return apperr.E(apperr.TooMany, "API_001", "%w", &ThrottledError{Wait: wait})
}

// Config is what New needs.
type Config struct {
	Pool       *pgxpool.Pool
	Audit      *audit.Log            // nil means one that hubs of the database read
	Env        string                // "prod" or "dev": only keys of this environment are read
	Secret     string                // SESSION_SECRET: one, or new and old separated by a comma
	Now        func() time.Time      // nil means time.Now
	Log        *slog.Logger          // nil means no log
	Registerer prometheus.Registerer // nil means no metrics
}

// Access checks keys and sessions. It is safe for concurrent use.
type Access struct {
	*Keys
	sealer   *sealer
	throttle *throttle

	mu    sync.Mutex
	cache map[credential]cached
	used  map[[16]byte]time.Time // when each key's last use was last written

	refusals refusals
	refused  *prometheus.CounterVec
	ending   *prometheus.GaugeVec
	old      prometheus.Gauge
}

// credential is what a caller shows: the hash of a key, a session's id, or a client certificate.
type credential struct {
	cert    bool // key is then the hash of the certificate's identity
	key     [32]byte
	session [16]byte
}

type cached struct {
	principal Principal
	at        time.Time
}

// New checks the configuration and returns an Access. It does not touch the database.
func New(c Config) (*Access, error) {
	keys, err := NewKeys(KeysConfig{Pool: c.Pool, Audit: c.Audit, Env: c.Env, Now: c.Now, Log: c.Log})
	if err != nil {
		return nil, err
	}
	s, err := newSealer(c.Secret)
	if err != nil {
		return nil, err
	}
	a := &Access{
		Keys: keys, sealer: s, throttle: newThrottle(),
		cache: make(map[credential]cached), used: make(map[[16]byte]time.Time),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hashinsight_auth_refused_total",
			Help: "Requests refused for their key or session, by reason.",
		}, []string{"reason"}),
		ending: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "hashinsight_apikeys_expiring", Help: "API keys that work and end within this time.",
		}, []string{"within"}),
		old: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "hashinsight_apikeys_old", Help: "API keys that work and are older than 90 days.",
		}),
	}
	keys.forget = a.forgetKey
	if c.Registerer != nil {
		for _, m := range []prometheus.Collector{a.refused, a.ending, a.old} {
			if err := c.Registerer.Register(m); err != nil {
				return nil, fmt.Errorf("register metrics: %w", err)
			}
		}
	}
	return a, nil
}

const principalColumns = `SELECT k.id, k.name, k.hash, k.permissions, k.expires_at, k.last_used_at, k.rate_limit, k.customer_id, coalesce(c.name, '')
	FROM api_key k LEFT JOIN customer c ON c.id = k.customer_id `

const (
	qKeyByHash    = principalColumns + `WHERE k.hash = $1 AND k.revoked_at IS NULL`
	qKeyBySession = principalColumns + `JOIN api_session s ON s.key_id = k.id WHERE s.id = $1 AND s.expires_at > $2 AND k.revoked_at IS NULL`
)

// Key returns the principal of a key shown from an address.
func (a *Access) Key(ctx context.Context, key string, from netip.Addr) (Principal, error) {
	hash, ok := hashKey(a.env, key)
	if !ok {
		return Principal{}, a.wrongKey(ctx, from)
	}
	cred := credential{key: hash}
	if p, ok := a.cached(cred); ok {
		return p, nil
	}
	// A key that was right a moment ago is asked for again even where a neighbour behind the same address has shown wrong ones.
	if wait := a.throttle.wait(from, a.now()); wait > 0 && !a.known(cred) {
		a.refused.WithLabelValues("throttled").Inc()
		return Principal{}, throttled(wait)
	}
	p, err := a.lookup(ctx, cred, qKeyByHash, from, hash[:])
	if errors.Is(err, pgx.ErrNoRows) {
		a.forget(cred)
		return Principal{}, a.wrongKey(ctx, from)
	}
	return p, err
}

// wrongKey counts a wrong key against its address.
func (a *Access) wrongKey(ctx context.Context, from netip.Addr) error {
	now := a.now()
	if wait := a.throttle.wait(from, now); wait > 0 {
		a.refused.WithLabelValues("throttled").Inc()
		return throttled(wait)
	}
	a.throttle.fail(from, now)
	a.refused.WithLabelValues("key").Inc()
	a.recordRefusal(ctx, audit.Entry{
		Level: audit.Warning, Category: audit.Authentication, Action: "login_failed", Status: audit.Failure, IP: addressText(from),
		Details: map[string]any{"login_method": "api_key", "two_factor": false},
	})
	return refusal("AUTH_001", ErrNoKey)
}

// Session returns the principal of a session cookie.
func (a *Access) Session(ctx context.Context, token string, from netip.Addr) (Principal, error) {
	c, err := a.sealer.open(token)
	if err != nil || !a.now().Before(c.expires) {
		a.refused.WithLabelValues("session").Inc()
		return Principal{}, refusal("AUTH_003", ErrSignedOut)
	}
	cred := credential{session: c.session}
	if p, ok := a.cached(cred); ok {
		return p, nil
	}
	p, err := a.lookup(ctx, cred, qKeyBySession, from, c.session[:], a.now().UTC())
	if errors.Is(err, pgx.ErrNoRows) || errors.Is(err, ErrExpired) {
		a.forget(cred)
		a.refused.WithLabelValues("session").Inc()
		return Principal{}, refusal("AUTH_003", ErrSignedOut)
	}
	if err != nil {
		return Principal{}, err
	}
	// The cookie's own end is in the token, not in the row that was cached.
	if end := c.expires.Unix(); p.Expires == 0 || end < p.Expires {
		p.Expires = end
		a.remember(cred, p)
	}
	return p, nil
}

const (
	qKeyByID          = principalColumns + `WHERE k.id = $1 AND k.revoked_at IS NULL`
	qKeyByCertificate = principalColumns + `WHERE k.certificate = $1 AND k.revoked_at IS NULL`
)

// Certificate returns the principal of the key that a client certificate stands for: the one that it was issued for where the hub's own
// CA did, or else the one that names its identity. Whether the certificate itself counts has been decided.
func (a *Access) Certificate(ctx context.Context, identity string, issuedFor [16]byte, from netip.Addr) (Principal, error) {
	query, arg := qKeyByCertificate, any(identity)
	name := identity
	if issuedFor != ([16]byte{}) {
		query, arg = qKeyByID, uuid.UUID(issuedFor)
		name = "key:" + uuid.UUID(issuedFor).String() // no identity begins so
	}
	cred := credential{cert: true, key: sha256.Sum256([]byte(name))}
	if p, ok := a.cached(cred); ok {
		return p, nil
	}
	p, err := a.lookup(ctx, cred, query, from, arg)
	if errors.Is(err, pgx.ErrNoRows) {
		a.forget(cred)
		a.refused.WithLabelValues("certificate").Inc()
		return Principal{}, refusal("AUTH_001", ErrNoCertificateKey)
	}
	return p, err
}

// lookup reads the key behind a credential, records its use and remembers the answer for CacheFor.
func (a *Access) lookup(ctx context.Context, cred credential, query string, from netip.Addr, args ...any) (Principal, error) {
	p := Principal{Session: cred.session}
	var hash []byte
	var granted []string
	var expires, lastUsed *time.Time
	var customer *uuid.UUID
	err := a.pool.QueryRow(ctx, query, args...).Scan((*uuid.UUID)(&p.KeyID), &p.Name, &hash, &granted, &expires, &lastUsed, &p.RateLimit, &customer, &p.CustomerName)
	if err != nil {
		return Principal{}, fmt.Errorf("look up the key: %w", err)
	}
	if customer != nil {
		p.Customer = *customer
	}
	if cred.session == ([16]byte{}) && !cred.cert && subtle.ConstantTimeCompare(hash, cred.key[:]) != 1 {
		return Principal{}, refusal("AUTH_001", ErrNoKey)
	}
	for _, g := range granted {
		p.Granted = append(p.Granted, Permission(g))
	}
	now := a.now()
	if expires != nil {
		if !now.Before(*expires) {
			return Principal{}, refusal("AUTH_003", ErrExpired)
		}
		p.Expires = expires.Unix()
	}
	a.touch(ctx, p.KeyID, from, now, lastUsed)
	a.remember(cred, p)
	return p, nil
}

func (a *Access) cached(cred credential) (Principal, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e, ok := a.cache[cred]
	now := a.now()
	if !ok || now.Sub(e.at) >= CacheFor || (e.principal.Expires != 0 && now.Unix() >= e.principal.Expires) {
		return Principal{}, false
	}
	return e.principal, true
}

// known reports whether a credential was right when it was last looked up.
func (a *Access) known(cred credential) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.cache[cred]
	return ok
}

func (a *Access) remember(cred credential, p Principal) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.cache) >= cacheEntries {
		clear(a.cache)
	}
	a.cache[cred] = cached{principal: p, at: a.now()}
}

func (a *Access) forget(cred credential) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.cache, cred)
}

const qTouch = `UPDATE api_key SET last_used_at = $2, last_used_address = $3
	WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $4)`

// touch records that a key was used, at most once per touchEvery. A request does not fail for it.
func (a *Access) touch(ctx context.Context, key [16]byte, from netip.Addr, now time.Time, lastUsed *time.Time) {
	due := now.Add(-touchEvery)
	if lastUsed != nil && lastUsed.After(due) {
		return
	}
	a.mu.Lock()
	tried := a.used[key]
	if len(a.used) >= cacheEntries {
		clear(a.used)
	}
	if tried.After(due) {
		a.mu.Unlock()
		return
	}
	a.used[key] = now
	a.mu.Unlock()
	if _, err := a.pool.Exec(ctx, qTouch, uuid.UUID(key), now.UTC(), from.Unmap().String(), due.UTC()); err != nil {
		a.log.WarnContext(ctx, "last use of an API key not recorded", "key_id", uuid.UUID(key).String(), "err", err)
	}
}
