package fleet

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/proof"
)

// Registration is what the hub must know of a site before it takes batches from it.
type Registration struct {
	Site ident.SiteID
	Name string            // unique among sites; 1 to 100 bytes
	Key  ed25519.PublicKey // evidence key
	At   time.Time

	Replaces ed25519.PublicKey // the key whose place it takes, for the log; nil: none's
	Note     Note              // nil: there is no log
}

// Note puts what happens to keys into the transparency log, in the transaction in which it happens.
type Note = func(ctx context.Context, tx pgx.Tx, entries ...proof.Entry) error

// noteKey notes what happened to a key of a site.
func noteKey(ctx context.Context, tx pgx.Tx, note Note, site ident.SiteID, event proof.KeyEvent, key, replaces ed25519.PublicKey, at time.Time) error {
	if note == nil {
		return nil
	}
	b := proof.SiteKeyBody{Site: site, Event: event}
	copy(b.Public[:], key)
	copy(b.Replaces[:], replaces)
	return note(ctx, tx, b.Entry(at.UnixMilli()))
}

const qInsertSite = `
INSERT INTO site (id, name, created_at) VALUES ($1, $2, $3)
ON CONFLICT (id) DO UPDATE SET name = excluded.name`

const qInsertKey = `
INSERT INTO site_key (site_id, key_id, public_key, added_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (site_id, key_id) DO NOTHING`

const qKeyRevoked = `SELECT revoked_at IS NOT NULL FROM site_key WHERE site_id = $1 AND key_id = $2`

// RegisterSite records a site and its evidence key, in the caller's transaction. The same registration again changes nothing, a new key
// is added beside the old ones, a new name replaces the old one. It returns ErrNameTaken when another site has the name, and
// refuses a key that was revoked.
func RegisterSite(ctx context.Context, tx pgx.Tx, r Registration) error {
	name := strings.TrimSpace(r.Name)
	if name == "" || len(name) > 100 {
		return fmt.Errorf("a site's name has 1 to 100 bytes, this one has %d", len(name))
	}
	if len(r.Key) != ed25519.PublicKeySize {
		return fmt.Errorf("site %s: its evidence key has %d bytes, an Ed25519 key has %d", name, len(r.Key), ed25519.PublicKeySize)
	}
	if _, err := tx.Exec(ctx, qInsertSite, uuidOf(r.Site), name, r.At); err != nil {
		var pe *pgconn.PgError
		if errors.As(err, &pe) && pe.ConstraintName == "site_name_key" {
			return fmt.Errorf("site %q: %w: choose another name", name, ErrNameTaken)
		}
		return fmt.Errorf("registering site %s: %w", name, err)
	}
	id := ident.KeyIDOf(r.Key)
	tag, err := tx.Exec(ctx, qInsertKey, uuidOf(r.Site), id[:], []byte(r.Key), r.At)
	if err != nil {
		return fmt.Errorf("registering the key of site %s: %w", name, err)
	}
	var revoked bool
	if err := tx.QueryRow(ctx, qKeyRevoked, uuidOf(r.Site), id[:]).Scan(&revoked); err != nil {
		return fmt.Errorf("registering the key of site %s: %w", name, err)
	}
	if revoked {
		return fmt.Errorf("site %s: key %s was revoked and cannot be registered again: make a new one", name, id)
	}
	if tag.RowsAffected() == 0 {
		return nil
	}
	return noteKey(ctx, tx, r.Note, r.Site, proof.KeyAdded, r.Key, r.Replaces, r.At)
}

const (
	qSiteNamed   = `SELECT id FROM site WHERE name = $1`
	qPlannedSite = `INSERT INTO site (id, name, created_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING`
)

// PlanSite returns the site of a name, making one without keys if there is none: a site that is to join. What it sends is refused until it has.
func PlanSite(ctx context.Context, tx pgx.Tx, name string, at time.Time) (site ident.SiteID, made bool, err error) {
	name = strings.TrimSpace(name)
	if name == "" || len(name) > 100 {
		return site, false, fmt.Errorf("a site's name has 1 to 100 bytes, this one has %d", len(name))
	}
	tag, err := tx.Exec(ctx, qPlannedSite, uuidOf(ident.NewSiteID()), name, at)
	if err == nil {
		err = tx.QueryRow(ctx, qSiteNamed, name).Scan((*[16]byte)(&site))
	}
	if err != nil {
		return site, false, fmt.Errorf("planning site %q: %w", name, err)
	}
	return site, tag.RowsAffected() == 1, nil
}

const qRevokeKey = `UPDATE site_key SET revoked_at = $3 WHERE site_id = $1 AND key_id = $2 AND revoked_at IS NULL RETURNING public_key`

// RevokeKey makes the hub refuse new batches signed with a key, in the caller's transaction. What it signed before stays evidence.
// Running hub processes notice within the time they cache keys; ingest's ForgetKeys makes one of them notice at once.
// It returns the key itself. A nil note: there is no log.
func RevokeKey(ctx context.Context, tx pgx.Tx, site ident.SiteID, key ident.KeyID, at time.Time, note Note) (ed25519.PublicKey, error) {
	var public []byte
	err := tx.QueryRow(ctx, qRevokeKey, uuidOf(site), key[:], at).Scan(&public)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("key %s of site %s: %w", key, site, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("revoking key %s: %w", key, err)
	}
	return public, noteKey(ctx, tx, note, site, proof.KeyRetired, public, nil, at)
}

const qKey = `SELECT public_key, added_at, revoked_at FROM site_key WHERE site_id = $1 AND key_id = $2`

// Key returns one key of a site, revoked or not; ErrNotFound if the site has none of that id.
func (s *Store) Key(ctx context.Context, site ident.SiteID, id ident.KeyID) (Key, error) {
	k := Key{Site: site, ID: id}
	var revoked *time.Time
	err := s.pool.QueryRow(ctx, qKey, uuidOf(site), id[:]).Scan(&k.Public, &k.AddedAt, &revoked)
	if errors.Is(err, pgx.ErrNoRows) {
		return Key{}, fmt.Errorf("key %s of site %s: %w", id, site, ErrNotFound)
	}
	if err != nil {
		return Key{}, fmt.Errorf("reading key %s: %w", id, err)
	}
	if revoked != nil {
		k.RevokedAt = *revoked
	}
	return k, nil
}
