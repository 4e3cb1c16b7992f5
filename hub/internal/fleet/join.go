package fleet

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/proof"
)

// Why a site cannot join with a key.
var (
	// ErrKeyTaken means that the key is another site's.
	ErrKeyTaken = errors.New("this evidence key belongs to another site")
	// ErrKeyOther means that the site has another key, and nobody ordered to replace it.
	ErrKeyOther = errors.New("this site has another evidence key")
	// ErrKeyEnded means that the key was revoked, and cannot come back.
	ErrKeyEnded = errors.New("this evidence key was revoked")
	// ErrFull means that there are as many sites as lists can show.
	ErrFull = errors.New("there is no room for another site")
)

// MaxSites is how many sites a hub takes.
const MaxSites = maxSites

// Join is a site that comes with its evidence key.
type Join struct {
	Name       string            // of a known site or a new one
	Key        ed25519.PublicKey // evidence key
	ReplaceKey bool              // a known site's other keys end
	At         time.Time
	Note       Note // nil: there is no log
}

// Joined is what became of it.
type Joined struct {
	Site     ident.SiteID
	New      bool
	Replaced []ident.KeyID // keys that ended
}

const (
	qLockKey = `SELECT pg_advisory_xact_lock($1)`
	qAddSite = `
INSERT INTO site (id, name, created_at) SELECT $1, $2, $3 WHERE (SELECT count(*) FROM site) < $4 ON CONFLICT (name) DO NOTHING`
	qLockSiteByName = `SELECT id FROM site WHERE name = $1 FOR NO KEY UPDATE`
	qKeysOf         = `SELECT site_id, key_id, revoked_at IS NOT NULL FROM site_key WHERE site_id = $1 OR public_key = $2 LIMIT 1000`
)

// JoinSite finds or makes the site of that name and makes the key its own, in the caller's transaction. The same again changes
// nothing.
func JoinSite(ctx context.Context, tx pgx.Tx, j Join) (Joined, error) {
	name := strings.TrimSpace(j.Name)
	if name == "" || len(name) > 100 {
		return Joined{}, fmt.Errorf("a site's name has 1 to 100 bytes, this one has %d", len(name))
	}
	if len(j.Key) != ed25519.PublicKeySize {
		return Joined{}, fmt.Errorf("site %s: its evidence key has %d bytes, an Ed25519 key has %d", name, len(j.Key), ed25519.PublicKeySize)
	}
	// Two sites that come with one key at one moment would not see each other.
	if _, err := tx.Exec(ctx, qLockKey, int64(binary.BigEndian.Uint64(j.Key))); err != nil {
		return Joined{}, fmt.Errorf("site %s joins: %w", name, err)
	}
	out := Joined{Site: ident.NewSiteID()}
	tag, err := tx.Exec(ctx, qAddSite, uuidOf(out.Site), name, j.At, MaxSites)
	if err != nil {
		return Joined{}, fmt.Errorf("site %s joins: %w", name, err)
	}
	out.New = tag.RowsAffected() == 1
	err = tx.QueryRow(ctx, qLockSiteByName, name).Scan((*[16]byte)(&out.Site))
	if errors.Is(err, pgx.ErrNoRows) {
		return Joined{}, fmt.Errorf("site %s: %w: there are %d", name, ErrFull, MaxSites)
	}
	if err != nil {
		return Joined{}, fmt.Errorf("site %s joins: %w", name, err)
	}
	id := ident.KeyIDOf(j.Key)
	others, err := keysBeside(ctx, tx, out.Site, j.Key, id)
	if err != nil {
		return Joined{}, fmt.Errorf("site %s: key %s: %w", name, id, err)
	}
	if len(others) > 0 && !j.ReplaceKey {
		return Joined{}, fmt.Errorf("site %s: key %s: %w (%s)", name, id, ErrKeyOther, others[0])
	}
	var replaces ed25519.PublicKey
	for _, k := range others {
		if replaces, err = RevokeKey(ctx, tx, out.Site, k, j.At, j.Note); err != nil {
			return Joined{}, err
		}
	}
	out.Replaced = others
	if tag, err = tx.Exec(ctx, qInsertKey, uuidOf(out.Site), id[:], []byte(j.Key), j.At); err != nil {
		return Joined{}, fmt.Errorf("registering the key of site %s: %w", name, err)
	}
	if tag.RowsAffected() == 0 {
		return out, nil
	}
	return out, noteKey(ctx, tx, j.Note, out.Site, proof.KeyAdded, j.Key, replaces, j.At)
}

// keysBeside returns the site's other valid keys, and refuses a key that is another's or has ended.
func keysBeside(ctx context.Context, tx pgx.Tx, site ident.SiteID, key ed25519.PublicKey, id ident.KeyID) (others []ident.KeyID, err error) {
	rows, err := tx.Query(ctx, qKeysOf, uuidOf(site), []byte(key))
	if err != nil {
		return nil, err
	}
	var holder ident.SiteID
	var raw []byte
	var revoked bool
	_, err = pgx.ForEachRow(rows, []any{(*[16]byte)(&holder), &raw, &revoked}, func() error {
		if len(raw) != len(ident.KeyID{}) {
			return fmt.Errorf("a key id of %d bytes is stored", len(raw))
		}
		k := ident.KeyID(raw)
		switch {
		case holder != site:
			return ErrKeyTaken
		case k == id && revoked:
			return ErrKeyEnded
		case k != id && !revoked:
			others = append(others, k)
		}
		return nil
	})
	return others, err
}

const qOwnKey = `SELECT public_key = $3, revoked_at IS NOT NULL FROM site_key WHERE site_id = $1 AND key_id = $2`

// CheckKey returns nil when the key is a valid one of the site, ErrNotFound when the site has none like it, and ErrKeyEnded when it
// was revoked.
func CheckKey(ctx context.Context, tx pgx.Tx, site ident.SiteID, key ed25519.PublicKey) error {
	id := ident.KeyIDOf(key)
	var same, revoked bool
	err := tx.QueryRow(ctx, qOwnKey, uuidOf(site), id[:], []byte(key)).Scan(&same, &revoked)
	switch {
	case errors.Is(err, pgx.ErrNoRows), err == nil && !same:
		return fmt.Errorf("key %s of site %s: %w", id, site, ErrNotFound)
	case err != nil:
		return fmt.Errorf("reading key %s: %w", id, err)
	case revoked:
		return fmt.Errorf("key %s of site %s: %w", id, site, ErrKeyEnded)
	}
	return nil
}
