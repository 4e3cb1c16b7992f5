// Package pki is the hub's certificate authority and the keeper of its keys: a root that may lie offline, an intermediate that issues short-lived
// certificates to sites, to the hub's own gRPC listener and to API clients; renewal, counted recovery and revocation of these; the revocation list
// and OCSP responder; and the decision, on every call, whether a certificate counts. It also holds the Ed25519 key that signs acknowledgements.
// Names are SAN URIs (hsi://site/<uuid>, hsi://hub, hsi://client/<uuid>); common names are never trusted. It does not run listeners, does not read
// batches and does not check the proofs with which a site joins or recovers. hubd opens it; the command line works through it.
package pki

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
)

// Config describes an Authority.
type Config struct {
	DB         *pgxpool.Pool
	Password   string                // ENCRYPTION_PASSWORD, seals the private keys
	Names      []string              // DNS names and IP addresses for the hub's own certificate
	URL        string                // http://host of the handler's routes, written into certificates; "" writes none
	Audit      *audit.Log            // nil keeps no record
	Note       fleet.Note            // puts sites' keys into the transparency log; nil: there is no log
	Poll       time.Duration         // how often Watch asks the database beside its notices; 0 means 3 s
	PollOnly   bool                  // Watch does without notices: a parked read of a socket would stop virtual time
	Now        func() time.Time      // nil means time.Now
	Log        *slog.Logger          // nil means no log
	Registerer prometheus.Registerer // nil means no metrics
}

// Authority is the hub's certificate authority.
type Authority struct {
	c       Config
	db      *pgxpool.Pool
	now     func() time.Time
	log     *slog.Logger
	metrics *metrics

	set      atomic.Pointer[authorities]
	evidence ed25519.PrivateKey
	logKey   ed25519.PrivateKey // signs checkpoints of the transparency log
	revoked  revocations

	mu         sync.Mutex // guards the following
	server     *serverCert
	responders map[issuerID]*responder

	crlMu sync.Mutex
	crls  map[issuerID]*crlFile

	ocsp ocspCache
}

// New makes an Authority without touching the database; Load must succeed before it is of use.
func New(c Config) (*Authority, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Poll == 0 {
		c.Poll = 3 * time.Second
	}
	a := &Authority{c: c, db: c.DB, now: c.Now, log: c.Log, responders: map[issuerID]*responder{}, crls: map[issuerID]*crlFile{}}
	a.revoked.entries = map[serial]revocation{}
	a.ocsp.entries = map[ocspKey]ocspAnswer{}
	var err error
	if a.metrics, err = newMetrics(c.Registerer, a); err != nil {
		return nil, err
	}
	return a, nil
}

// Load reads the hub's keys from the database, making them at first use, and what is revoked.
func (a *Authority) Load(ctx context.Context) error {
	if err := a.loadAuthorities(ctx); err != nil {
		return err
	}
	var err error
	if a.evidence, err = a.loadKey(ctx, "evidence"); err != nil {
		return err
	}
	if a.logKey, err = a.loadKey(ctx, "log"); err != nil {
		return err
	}
	return a.reload(ctx)
}

// Open is New and Load.
func Open(ctx context.Context, c Config) (*Authority, error) {
	a, err := New(c)
	if err != nil {
		return nil, err
	}
	return a, a.Load(ctx)
}

// loadKey reads one of the hub's Ed25519 keys, making it at first use.
func (a *Authority) loadKey(ctx context.Context, name string) (ed25519.PrivateKey, error) {
	seed, pub, err := secret(ctx, a.db, a.c.Password, name, a.now(), func() ([]byte, []byte, error) {
		pub, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, nil, err
		}
		return key.Seed(), pub, nil
	})
	if err != nil {
		return nil, err
	}
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("hub's %s key has %d bytes, want %d", name, len(seed), ed25519.SeedSize)
	}
	key := ed25519.NewKeyFromSeed(seed)
	if !key.Public().(ed25519.PublicKey).Equal(ed25519.PublicKey(pub)) { //nolint:forcetypeassert // ed25519 has no other
		return nil, fmt.Errorf("hub's %s public key does not belong to its private key: hub_secret was tampered with or mixed from two databases", name)
	}
	return key, nil
}

// LogKey returns the key that signs checkpoints of the hub's transparency log; nil before Load.
func (a *Authority) LogKey() ed25519.PrivateKey { return a.logKey }

// EvidenceKey returns the key that signs the hub's acknowledgements.
func (a *Authority) EvidenceKey() ed25519.PrivateKey { return a.evidence }

// EvidencePublic returns the public part of EvidenceKey.
func (a *Authority) EvidencePublic() ed25519.PublicKey {
	return a.evidence.Public().(ed25519.PublicKey) //nolint:forcetypeassert // ed25519 has no other
}

// Roots returns the roots that sites shall trust, the active one first.
func (a *Authority) Roots() []*x509.Certificate { return a.set.Load().roots() }

// RootFingerprint is the SHA-256 of the active root: what tokens carry.
func (a *Authority) RootFingerprint() [sha256.Size]byte {
	return sha256.Sum256(a.set.Load().active().root.Raw)
}

// audit records a change in its transaction. by is who ordered it; "" is the hub itself, or the site.
func (a *Authority) audit(ctx context.Context, tx pgx.Tx, level, action, by string, details map[string]any) error {
	if a.c.Audit == nil {
		return nil
	}
	category := audit.Encryption
	if action == "certificate_key_copied" {
		category = audit.Suspicious
	}
	if err := a.c.Audit.Add(ctx, tx, audit.Entry{Level: level, Category: category, Action: action, UserID: by, Details: details}); err != nil {
		return fmt.Errorf("recording %s in the audit log: %w", action, err)
	}
	return nil
}

func (a *Authority) inTx(ctx context.Context, f func(tx pgx.Tx) error) error {
	return pg.InTx(ctx, a.db, f)
}

// equalKeys reports whether two public keys are the same.
func equalKeys(x, y crypto.PublicKey) bool {
	e, ok := x.(interface{ Equal(crypto.PublicKey) bool })
	return ok && e.Equal(y)
}
