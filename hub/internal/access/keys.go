package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
)

// Lives of keys.
const (
	KeyLifetime    = 90 * 24 * time.Hour  // unless the order says otherwise
	KeyLifetimeMax = 366 * 24 * time.Hour // only the owner's bootstrap key has no end
	KeyGrace       = 7 * 24 * time.Hour   // for which a key works on beside its copy
	KeyOld         = 90 * 24 * time.Hour  // age from which a key is listed as old
	maxKeys        = 10_000               // that work at the same time
	maxName        = 100                  // bytes
	maxIdentity    = 1024                 // bytes of a certificate's identity
)

// Announcements of a key's end, in days before it.
const (
	announceFirst = 14
	announceLast  = 3
)

// KeysConfig is what NewKeys needs.
type KeysConfig struct {
	Pool  *pgxpool.Pool
	Audit *audit.Log       // nil means one that hubs of the database read
	Env   string           // "prod" or "dev": the env part of new keys
	Now   func() time.Time // nil means time.Now
	Log   *slog.Logger     // nil means no log
}

// Keys makes, lists and ends API keys. An Access holds one; commands and jobs, which let nobody in, use it alone.
type Keys struct {
	pool   *pgxpool.Pool
	audit  *audit.Log
	env    string
	now    func() time.Time
	log    *slog.Logger
	forget func(uuid.UUID) // drops what this process remembers of a key
}

// NewKeys checks the configuration. It does not touch the database.
func NewKeys(c KeysConfig) (*Keys, error) {
	if c.Pool == nil {
		return nil, errors.New("access: a database pool is needed")
	}
	if err := checkEnv(c.Env); err != nil {
		return nil, err
	}
	k := &Keys{pool: c.Pool, audit: c.Audit, env: c.Env, now: c.Now, log: c.Log, forget: func(uuid.UUID) {}}
	if k.now == nil {
		k.now = time.Now
	}
	if k.log == nil {
		k.log = slog.New(slog.DiscardHandler)
	}
	if k.audit == nil {
		var err error
		if k.audit, err = audit.New(audit.Config{Pool: c.Pool, Now: k.now, Log: c.Log}); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// KeyOrder is what somebody orders for a new key.
type KeyOrder struct {
	Name        string
	UserID      string        // whose key it is; text, until the hub has users
	Permissions []Permission  // empty with CopyFrom: those of that key
	ExpiresIn   time.Duration // 0 means KeyLifetime
	CopyFrom    *uuid.UUID    // the key whose place it takes: that one ends after KeyGrace
	RateLimit   *int          // requests a minute; 0 is exempt, nil is everyone's; needs RateLimitsWrite
	Customer    *uuid.UUID    // whose rows it may read, and no others; its permissions are then of CustomerPermissions. A copy keeps it
	// Certificate is the identity of a client certificate (as package webtls names it) that shall stand for the key. There is then no
	// secret.
	Certificate string
}

// KeyInfo is a key as lists show it.
type KeyInfo struct {
	ID          uuid.UUID
	Name        string
	UserID      string
	Permissions []Permission
	Bootstrap   bool
	CreatedAt   time.Time
	CreatedBy   string
	CopiedFrom  *uuid.UUID
	ExpiresAt   time.Time // zero: never
	RevokedAt   time.Time // zero: not
	RevokedWhy  string
	LastUsedAt  time.Time // zero: never, or not since the hub notes it
	LastAddress string
	RateLimit   *int
	Certificate string
	Customer    *uuid.UUID // nil: the operator's
	// CustomerName is the customer's name, for lists.
	CustomerName string
}

// State says what a key is at a time: active, expiring (in 14 days or less), expired or revoked.
func (k *KeyInfo) State(now time.Time) string {
	switch {
	case !k.RevokedAt.IsZero():
		return "revoked"
	case k.ExpiresAt.IsZero():
		return "active"
	case !now.Before(k.ExpiresAt):
		return "expired"
	case k.ExpiresAt.Sub(now) <= announceFirst*24*time.Hour:
		return "expiring"
	}
	return "active"
}

// Old reports whether a key that still works is older than KeyOld.
func (k *KeyInfo) Old(now time.Time) bool {
	s := k.State(now)
	return (s == "active" || s == "expiring") && now.Sub(k.CreatedAt) > KeyOld
}

const keyColumns = `SELECT k.id, k.name, k.user_id, k.permissions, k.bootstrap, k.created_at, k.created_by, k.copied_from, k.expires_at, k.revoked_at, k.revoked_why,
	k.last_used_at, coalesce(k.last_used_address, ''), k.rate_limit, coalesce(k.certificate, ''), k.customer_id, coalesce(c.name, '')
	FROM api_key k LEFT JOIN customer c ON c.id = k.customer_id `

const (
	qKeys       = keyColumns + `WHERE (k.created_at, k.id) < ($1, $2) ORDER BY k.created_at DESC, k.id DESC LIMIT $3`
	qKeyForWork = keyColumns + `WHERE k.id = $1 FOR UPDATE OF k`
	qCountKeys  = `SELECT count(*) FROM api_key WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $1)`
	qInsertKey  = `INSERT INTO api_key (id, name, user_id, hash, permissions, created_at, created_by, copied_from, expires_at, rate_limit, certificate, customer_id)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, nullif($11, ''), $12)`
	qKeyCustomer = `SELECT name FROM customer WHERE id = $1`
	qEndKey      = `UPDATE api_key SET expires_at = $2 WHERE id = $1 AND (expires_at IS NULL OR expires_at > $2)`
	qRevokeKey   = `UPDATE api_key SET revoked_at = $2, revoked_by = $3, revoked_why = $4 WHERE id = $1`
	qLimitKey    = `UPDATE api_key SET rate_limit = $2 WHERE id = $1`
	// A certificate moves from the old key to its copy.
	qFreeCertificate = `UPDATE api_key SET certificate = NULL WHERE id = $1`
)

func scanKey(r pgx.CollectableRow) (k KeyInfo, err error) {
	var granted []string
	var expires, revoked, used *time.Time
	err = r.Scan(&k.ID, &k.Name, &k.UserID, &granted, &k.Bootstrap, &k.CreatedAt, &k.CreatedBy, &k.CopiedFrom, &expires, &revoked, &k.RevokedWhy, &used, &k.LastAddress, &k.RateLimit, &k.Certificate,
		&k.Customer, &k.CustomerName)
	for _, g := range granted {
		k.Permissions = append(k.Permissions, Permission(g))
	}
	for to, from := range map[*time.Time]*time.Time{&k.ExpiresAt: expires, &k.RevokedAt: revoked, &k.LastUsedAt: used} {
		if from != nil {
			*to = from.UTC()
		}
	}
	k.CreatedAt = k.CreatedAt.UTC()
	return k, err
}

// MaxKeyPage is the most keys that one call of ListKeys returns.
const MaxKeyPage = 500

// KeyPlace is where a page of keys ends.
type KeyPlace struct {
	CreatedAt time.Time
	ID        uuid.UUID
}

// ListKeys lists keys, the newest first, after a place; the zero place begins. Those that have ended are in the list: who had
// access stays known.
func (ks *Keys) ListKeys(ctx context.Context, after KeyPlace, limit int) ([]KeyInfo, error) {
	if after.CreatedAt.IsZero() {
		after = KeyPlace{CreatedAt: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}
	}
	rows, err := ks.pool.Query(ctx, qKeys, after.CreatedAt, after.ID, min(max(limit, 1), MaxKeyPage+1))
	if err != nil {
		return nil, fmt.Errorf("list the keys: %w", err)
	}
	all, err := pgx.CollectRows(rows, scanKey)
	if err != nil {
		return nil, fmt.Errorf("list the keys: %w", err)
	}
	return all, nil
}

// covers reports whether who holds granted may give away, or decide about, all of what.
func covers(granted, what []Permission) bool {
	if slices.Contains(granted, Owner) {
		return true
	}
	for _, p := range what {
		if p == Owner || !slices.Contains(granted, p) {
			return false
		}
	}
	return true
}

// check makes an order complete, or says what is wrong with it.
func (o *KeyOrder) check(old *KeyInfo) error {
	invalid := func(format string, args ...any) error {
		return apperr.E(apperr.Unprocessable, "VALID_001", format, args...)
	}
	if old != nil {
		if len(o.Permissions) == 0 {
			o.Permissions = old.Permissions
		}
		if o.Name == "" {
			o.Name = old.Name
		}
		if o.UserID == "" {
			o.UserID = old.UserID
		}
		if o.RateLimit == nil {
			o.RateLimit = old.RateLimit
		}
		if o.Certificate == "" {
			o.Certificate = old.Certificate
		}
		if o.Customer == nil {
			o.Customer = old.Customer
		}
		if (o.Customer == nil) != (old.Customer == nil) || o.Customer != nil && *o.Customer != *old.Customer {
			return invalid("a copy takes the old key's place and belongs to whom that one does: leave the customer out, or make a new key without copying")
		}
	}
	for name, s := range map[string]string{"name": o.Name, "user id": o.UserID} {
		if len(s) > maxName || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return invalid("%s: want at most %d bytes of text without control characters", name, maxName)
		}
	}
	if len(o.Certificate) > maxIdentity || !utf8.ValidString(o.Certificate) || strings.ContainsRune(o.Certificate, 0) ||
		o.Certificate != "" && !strings.HasPrefix(o.Certificate, "uri:") && !strings.HasPrefix(o.Certificate, "dn:") {
		return invalid("certificate: want uri: and the certificate's URI, or dn: and its subject as RFC 4514 writes it, such as dn:CN=ops.example.net,O=Example")
	}
	if o.Name == "" {
		o.Name = o.UserID
	}
	if o.Name == "" {
		return invalid("a key needs a name that says who uses it for what (--name), or whose it is (--user-id)")
	}
	if o.ExpiresIn == 0 {
		o.ExpiresIn = KeyLifetime
	}
	if o.ExpiresIn < time.Minute || o.ExpiresIn > KeyLifetimeMax {
		return invalid("a key lives for a minute to %d days", KeyLifetimeMax/(24*time.Hour))
	}
	if o.RateLimit != nil && (*o.RateLimit < 0 || *o.RateLimit > MaxRate) {
		return invalid("a key's rate limit is 0 (exempt) to %d requests a minute", MaxRate)
	}
	if len(o.Permissions) == 0 && o.Customer != nil {
		o.Permissions = CustomerPermissions()
	}
	if len(o.Permissions) == 0 {
		return invalid("a key needs at least one permission, or a key to copy them from")
	}
	o.Permissions = slices.Compact(slices.Sorted(slices.Values(o.Permissions)))
	for _, p := range o.Permissions {
		if p != Owner && !slices.Contains(Permissions(), p) {
			return invalid("permission %.60q does not exist: there are %s, and %s for all of them", string(p), joinPermissions(Permissions()), Owner)
		}
		if o.Customer != nil && !slices.Contains(CustomerPermissions(), p) {
			return invalid("a customer's key may not hold the permission %s: it may hold %s", p, joinPermissions(CustomerPermissions()))
		}
	}
	return nil
}

func joinPermissions(list []Permission) string {
	texts := make([]string, len(list))
	for i, p := range list {
		texts[i] = string(p)
	}
	return strings.Join(texts, ", ")
}

// beyond is the refusal to somebody who would give away, or touch, more than they hold.
func beyond(what string) error {
	return apperr.E(apperr.Forbidden, "AUTH_002", "%s may do something that your own key may not: ask somebody who holds all of its permissions", what)
}

// CreateKey makes a key, which never grants more than its maker holds, and returns it; it is stored nowhere. A key for a
// certificate has no text: key is empty. The maker's own end does not end it.
func (ks *Keys) CreateKey(ctx context.Context, by Actor, o KeyOrder) (key string, info KeyInfo, err error) {
	if by.Customer != uuid.Nil {
		return "", KeyInfo{}, apperr.E(apperr.Forbidden, "AUTH_002", "a customer's key makes no keys")
	}
	now := ks.now().UTC().Truncate(time.Microsecond)
	key = newKey(ks.env)
	hash, _ := hashKey(ks.env, key)
	err = pg.InTx(ctx, ks.pool, func(tx pgx.Tx) error {
		var old *KeyInfo
		if o.CopyFrom != nil {
			k, err := keyForWork(ctx, tx, *o.CopyFrom)
			if err != nil {
				return err
			}
			if s := k.State(now); s == "revoked" || s == "expired" {
				return apperr.E(apperr.Conflict, "CONFLICT_001", "key %s has ended (%s): make a new one without copying", k.ID, s)
			}
			if !covers(by.Granted, k.Permissions) {
				return beyond("the key to copy")
			}
			old = &k
		}
		if err := o.check(old); err != nil {
			return err
		}
		if !covers(by.Granted, o.Permissions) {
			return beyond("the new key")
		}
		if o.RateLimit != nil && (old == nil || old.RateLimit == nil || *old.RateLimit != *o.RateLimit) && !covers(by.Granted, []Permission{RateLimitsWrite}) {
			return apperr.E(apperr.Forbidden, "AUTH_002", "a rate limit of its own for a key needs the permission %s, which your key does not have", RateLimitsWrite)
		}
		var n int
		if err := tx.QueryRow(ctx, qCountKeys, now).Scan(&n); err != nil {
			return err
		}
		if n >= maxKeys {
			return apperr.E(apperr.Conflict, "CONFLICT_001", "there are %d keys already: revoke some first", n)
		}
		info = KeyInfo{
			ID: uuid.New(), Name: o.Name, UserID: o.UserID, Permissions: o.Permissions, CreatedAt: now, CreatedBy: by.ID, CopiedFrom: o.CopyFrom,
			ExpiresAt: now.Add(o.ExpiresIn), RateLimit: o.RateLimit, Certificate: o.Certificate, Customer: o.Customer,
		}
		if o.Customer != nil {
			err := tx.QueryRow(ctx, qKeyCustomer, *o.Customer).Scan(&info.CustomerName)
			if errors.Is(err, pgx.ErrNoRows) {
				return apperr.E(apperr.NotFound, "NOTFOUND_001", "customer %s does not exist", *o.Customer)
			}
			if err != nil {
				return err
			}
		}
		details := map[string]any{
			"key_id": info.ID.String(), "name": info.Name, "permissions": joinPermissions(info.Permissions), "expires_at": info.ExpiresAt.Format(time.RFC3339),
		}
		if old != nil {
			if old.Certificate != "" && old.Certificate == o.Certificate { // the certificate itself works on, as the new key
				if _, err := tx.Exec(ctx, qFreeCertificate, old.ID); err != nil {
					return err
				}
			}
			if _, err := tx.Exec(ctx, qEndKey, old.ID, now.Add(KeyGrace)); err != nil {
				return err
			}
			details["copied_from"] = old.ID.String()
		}
		if o.RateLimit != nil {
			details["rate_limit"] = *o.RateLimit
		}
		if o.Certificate != "" {
			details["certificate"] = o.Certificate
		}
		if o.Customer != nil {
			details["customer_id"], details["customer"] = o.Customer.String(), info.CustomerName
		}
		if o.UserID != "" {
			details["for_user"] = o.UserID
		}
		if _, err := tx.Exec(ctx, qInsertKey, info.ID, info.Name, info.UserID, hash[:], permissionTexts(info.Permissions), now, by.ID, o.CopyFrom, info.ExpiresAt, o.RateLimit, o.Certificate, o.Customer); err != nil {
			return err
		}
		return ks.audit.Add(ctx, tx, by.Entry(audit.Entry{Category: audit.APIKey, Action: "apikey_create", Details: details}))
	})
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.ConstraintName == "api_key_certificate" {
		err = apperr.E(apperr.Conflict, "CONFLICT_001", "another key that is not revoked stands for this certificate: revoke it, or copy from it")
	}
	if err != nil {
		return "", KeyInfo{}, fmt.Errorf("make a key: %w", err)
	}
	if o.CopyFrom != nil {
		ks.forget(*o.CopyFrom)
	}
	if o.Certificate != "" {
		key = ""
	}
	return key, info, nil
}

func permissionTexts(list []Permission) []string {
	texts := make([]string, len(list))
	for i, p := range list {
		texts[i] = string(p)
	}
	return texts
}

func keyForWork(ctx context.Context, tx pgx.Tx, id uuid.UUID) (KeyInfo, error) {
	rows, err := tx.Query(ctx, qKeyForWork, id)
	if err != nil {
		return KeyInfo{}, err
	}
	k, err := pgx.CollectExactlyOneRow(rows, scanKey)
	if errors.Is(err, pgx.ErrNoRows) {
		return KeyInfo{}, apperr.E(apperr.NotFound, "NOTFOUND_001", "key %s does not exist", id)
	}
	return k, err
}

// RevokeKey ends a key and its sessions: in this process at once, in others within CacheFor. Revoking it again changes nothing.
func (ks *Keys) RevokeKey(ctx context.Context, by Actor, id uuid.UUID, why string) (info KeyInfo, err error) {
	if by.Customer != uuid.Nil {
		return KeyInfo{}, apperr.E(apperr.Forbidden, "AUTH_002", "a customer's key revokes no keys")
	}
	now := ks.now().UTC().Truncate(time.Microsecond)
	if len(why) > maxIdentity {
		why = why[:maxIdentity]
	}
	why = strings.ReplaceAll(strings.ToValidUTF8(why, "\uFFFD"), "\x00", "\uFFFD")
	err = pg.InTx(ctx, ks.pool, func(tx pgx.Tx) error {
		if info, err = keyForWork(ctx, tx, id); err != nil {
			return err
		}
		if !covers(by.Granted, info.Permissions) && by.ID != id.String() {
			return beyond("that key")
		}
		if !info.RevokedAt.IsZero() {
			return nil
		}
		info.RevokedAt, info.RevokedWhy = now, why
		if _, err := tx.Exec(ctx, qRevokeKey, id, now, by.ID, why); err != nil {
			return err
		}
		return ks.audit.Add(ctx, tx, by.Entry(audit.Entry{
			Level: audit.Security, Category: audit.APIKey, Action: "apikey_revoke",
			Details: map[string]any{"key_id": id.String(), "name": info.Name, "why": why},
		}))
	})
	if err != nil {
		return KeyInfo{}, fmt.Errorf("revoke a key: %w", err)
	}
	ks.forget(id)
	return info, nil
}

// LimitKey gives a key a rate limit of its own: requests a minute, 0 for none at all, nil for everyone's.
func (ks *Keys) LimitKey(ctx context.Context, by Actor, id uuid.UUID, limit *int) error {
	if limit != nil && (*limit < 0 || *limit > MaxRate) {
		return apperr.E(apperr.Unprocessable, "VALID_001", "a key's rate limit is 0 (exempt) to %d requests a minute", MaxRate)
	}
	err := pg.InTx(ctx, ks.pool, func(tx pgx.Tx) error {
		k, err := keyForWork(ctx, tx, id)
		if err != nil {
			return err
		}
		if !covers(by.Granted, k.Permissions) {
			return beyond("that key")
		}
		if _, err := tx.Exec(ctx, qLimitKey, id, limit); err != nil {
			return err
		}
		return ks.audit.Add(ctx, tx, by.Entry(audit.Entry{
			Category: audit.Configuration, Action: "rate_limit_key", Details: map[string]any{"key_id": id.String(), "name": k.Name, "rate_limit": limit, "before": k.RateLimit},
		}))
	})
	if err != nil {
		return fmt.Errorf("limit a key: %w", err)
	}
	ks.forget(id)
	return nil
}

// forgetKey drops what this process remembers of a key and its sessions.
func (a *Access) forgetKey(id uuid.UUID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for cred, c := range a.cache {
		if c.principal.KeyID == id {
			delete(a.cache, cred)
		}
	}
}

const (
	qAnnounce = `UPDATE api_key SET announced = $1 WHERE id IN (
			SELECT id FROM api_key WHERE revoked_at IS NULL AND expires_at > $2 AND expires_at <= $3 AND (announced = 0 OR announced > $1) LIMIT 100 FOR UPDATE SKIP LOCKED)
		RETURNING id, name, user_id, expires_at`
	qCountEnding = `SELECT count(*) FILTER (WHERE expires_at <= $2), count(*) FILTER (WHERE expires_at <= $3), count(*) FILTER (WHERE created_at < $4)
		FROM api_key WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $1)`
)

// AnnounceEnds announces, 14 and 3 days before, that keys end: in the log and as audit entries, each once whichever hub process
// does it.
func (ks *Keys) AnnounceEnds(ctx context.Context) error {
	now := ks.now().UTC()
	for _, days := range []int{announceLast, announceFirst} { // a key that ends in 2 days is announced once
		err := pg.InTx(ctx, ks.pool, func(tx pgx.Tx) error {
			rows, err := tx.Query(ctx, qAnnounce, days, now, now.Add(time.Duration(days)*24*time.Hour))
			if err != nil {
				return err
			}
			ending, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (k KeyInfo, err error) {
				err = r.Scan(&k.ID, &k.Name, &k.UserID, &k.ExpiresAt)
				return k, err
			})
			if err != nil {
				return err
			}
			for i := range ending {
				k := &ending[i]
				if err := ks.audit.Add(ctx, tx, audit.Entry{
					Level: audit.Warning, Category: audit.APIKey, Action: "apikey_expiring",
					Details: map[string]any{"key_id": k.ID.String(), "name": k.Name, "for_user": k.UserID, "expires_at": k.ExpiresAt.UTC().Format(time.RFC3339), "days": days},
				}); err != nil {
					return err
				}
				ks.log.WarnContext(ctx, "an API key ends soon: make another with hashinsight-hub apikey create --copy-from",
					"key_id", k.ID.String(), "name", k.Name, "expires_at", k.ExpiresAt.UTC(), "days", days)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("announce the ends of keys: %w", err)
		}
	}
	return nil
}

// countKeys brings the gauges of keys up to date.
func (a *Access) countKeys(ctx context.Context) error {
	now := a.now().UTC()
	day := 24 * time.Hour
	var soon, sooner, old int
	err := a.pool.QueryRow(ctx, qCountEnding, now, now.Add(announceFirst*day), now.Add(announceLast*day), now.Add(-KeyOld)).Scan(&soon, &sooner, &old)
	if err != nil {
		return fmt.Errorf("count the keys: %w", err)
	}
	a.ending.WithLabelValues("14d").Set(float64(soon))
	a.ending.WithLabelValues("3d").Set(float64(sooner))
	a.old.Set(float64(old))
	return nil
}

// countEvery is how often the gauges of keys are brought up to date.
const countEvery = time.Minute

// Run keeps the gauges of keys current until ctx ends. Every process that serves the API runs it.
func (a *Access) Run(ctx context.Context) error {
	for {
		if err := a.countKeys(ctx); err != nil && ctx.Err() == nil {
			a.log.WarnContext(ctx, "API keys not counted, tried again", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(countEvery):
		}
	}
}
