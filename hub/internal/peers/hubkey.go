package peers

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/internal/pki"
	"github.com/hashinsight/hashinsight/pkg/wg"
)

// The hub's own key. A device cannot change its key without losing every session at once, so the hub's key is changed with a second device on the
// next port: sites learn of it when they next sync, and go over one by one; the first device goes when the operator says that all have.

// hubKeySecret is the hub_secret of the first key.
const hubKeySecret = "wireguard"

// HubKey is a WireGuard key of the hub.
type HubKey struct {
	Number    int
	Public    wg.Key
	Port      int // of its device
	CreatedAt time.Time

	shift  int
	secret string
}

const (
	qHubKeys = `SELECT number, public_key, port_shift, secret, created_at FROM peer_hub_key WHERE retired_at IS NULL ORDER BY number DESC LIMIT 2`
	// Of two processes that list the same key at one moment, one may meet the other at any of the unique columns: a conflict on number alone let it fail.
	qAddHubKey = `INSERT INTO peer_hub_key (number, public_key, port_shift, secret, created_at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`
	qRetire    = `UPDATE peer_hub_key SET retired_at = $2 WHERE number < $1 AND retired_at IS NULL`
	qTaken     = `SELECT EXISTS (SELECT FROM peer_key WHERE public_key = $1)`
)

// hubKeys returns the keys in use, the newest first: one, or two while the key is changed. It makes the first one.
func (s *Store) hubKeys(ctx context.Context) ([]HubKey, error) {
	keys, err := s.readHubKeys(ctx, s.c.DB)
	if err != nil || len(keys) > 0 {
		return keys, err
	}
	if _, err := s.addHubKey(ctx, 1, 0, hubKeySecret, wg.NewPrivate()); err != nil {
		return nil, err
	}
	keys, err = s.readHubKeys(ctx, s.c.DB)
	if err == nil && len(keys) == 0 {
		err = errors.New("the hub's WireGuard key has been retired and no other was made: the table peer_hub_key was changed by hand")
	}
	return keys, err
}

func (s *Store) readHubKeys(ctx context.Context, q querier) ([]HubKey, error) {
	rows, err := q.Query(ctx, qHubKeys)
	if err != nil {
		return nil, fmt.Errorf("reading the hub's WireGuard keys: %w", err)
	}
	keys, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (HubKey, error) {
		var k HubKey
		var public []byte
		err := row.Scan(&k.Number, &public, &k.shift, &k.secret, &k.CreatedAt)
		copy(k.Public[:], public)
		k.Port = s.port + k.shift
		return k, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the hub's WireGuard keys: %w", err)
	}
	return keys, nil
}

// addHubKey keeps a key under a name and lists it. Of several processes that do so at once, the first one's is everyone's.
func (s *Store) addHubKey(ctx context.Context, number, shift int, secret string, private wg.Secret) (wg.Key, error) {
	if err := s.needPassword(); err != nil {
		return wg.Key{}, err
	}
	plain, _, err := pki.Secret(ctx, s.c.DB, s.c.Password, secret, s.c.Now().UTC(), func() ([]byte, []byte, error) {
		public := private.Public()
		return private[:], public[:], nil
	})
	if err != nil {
		return wg.Key{}, err
	}
	public := wg.Secret(plain).Public()
	if _, err := s.c.DB.Exec(ctx, qAddHubKey, number, public[:], shift, secret, s.c.Now().UTC()); err != nil {
		return wg.Key{}, fmt.Errorf("listing the hub's WireGuard key: %w", err)
	}
	return public, nil
}

// private opens a key of the hub.
func (s *Store) private(ctx context.Context, k HubKey) (wg.Secret, error) {
	plain, _, err := pki.Secret(ctx, s.c.DB, s.c.Password, k.secret, s.c.Now().UTC(), func() ([]byte, []byte, error) {
		return nil, nil, fmt.Errorf("hub secret %q is gone: restore it from a backup, or change the hub's key", k.secret)
	})
	if err != nil {
		return wg.Secret{}, err
	}
	if len(plain) != 32 || wg.Secret(plain).Public() != k.Public {
		return wg.Secret{}, fmt.Errorf("hub secret %q does not belong to key %s: one of the rows was changed", k.secret, k.Public)
	}
	return wg.Secret(plain), nil
}

// HubKeys returns the hub's keys in use, the newest first.
func (s *Store) HubKeys(ctx context.Context) ([]HubKey, error) { return s.hubKeys(ctx) }

// BeginHubRotation makes a new key of the hub. From then on a second device runs with it on the next port, and sites are told to use it. While a
// change is under way it returns the key of that one.
func (s *Store) BeginHubRotation(ctx context.Context, by string) (HubKey, error) {
	keys, err := s.hubKeys(ctx)
	if err != nil {
		return HubKey{}, err
	}
	if len(keys) == 2 {
		return keys[0], nil
	}
	number := keys[0].Number + 1
	public, err := s.addHubKey(ctx, number, 1-keys[0].shift, hubKeySecret+"-"+strconv.Itoa(number), wg.NewPrivate())
	if err != nil {
		return HubKey{}, err
	}
	if err := pg.InTx(ctx, s.c.DB, func(tx pgx.Tx) error {
		if err := s.record(ctx, tx, event{action: "hub_key_rotation_begun", by: by, details: map[string]any{"public_key": public.String()}}); err != nil {
			return err
		}
		return s.Notify(ctx, tx)
	}); err != nil {
		return HubKey{}, err
	}
	if keys, err = s.hubKeys(ctx); err != nil {
		return HubKey{}, err
	}
	return keys[0], nil
}

// EndHubRotation retires the hub's older key: its device goes, and sites that still use it come back over TCP, or with a new bundle.
func (s *Store) EndHubRotation(ctx context.Context, by string) (HubKey, error) {
	keys, err := s.hubKeys(ctx)
	if err != nil {
		return HubKey{}, err
	}
	if len(keys) < 2 {
		return HubKey{}, apperr.E(apperr.Conflict, "CONFLICT_001", "the hub has one WireGuard key (%s): begin a change first", keys[0].Public)
	}
	err = pg.InTx(ctx, s.c.DB, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, qRetire, keys[0].Number, s.c.Now().UTC()); err != nil {
			return fmt.Errorf("retiring the hub's WireGuard key: %w", err)
		}
		if err := s.record(ctx, tx, event{action: "hub_key_retired", by: by, details: map[string]any{"public_key": keys[1].Public.String()}}); err != nil {
			return err
		}
		return s.Notify(ctx, tx)
	})
	return keys[0], err
}

// AdoptHubKey makes the private key of an older set-up the hub's own, so that its sites need no change. It is refused once the hub has a key.
func (s *Store) AdoptHubKey(ctx context.Context, private wg.Secret, by string) (wg.Key, error) {
	keys, err := s.readHubKeys(ctx, s.c.DB)
	if err != nil {
		return wg.Key{}, err
	}
	public := private.Public()
	if len(keys) > 0 {
		if keys[0].Public == public {
			return public, nil
		}
		return wg.Key{}, apperr.E(apperr.Conflict, "CONFLICT_001", "the hub has a WireGuard key already (%s): sites of the older set-up must be told that one", keys[0].Public)
	}
	var taken bool
	if err := s.c.DB.QueryRow(ctx, qTaken, public[:]).Scan(&taken); err != nil {
		return wg.Key{}, fmt.Errorf("looking for the key's holder: %w", err)
	}
	if taken {
		return wg.Key{}, apperr.E(apperr.Conflict, "CONFLICT_001", "key %s is a site's", public)
	}
	got, err := s.addHubKey(ctx, 1, 0, hubKeySecret, private)
	if err != nil {
		return wg.Key{}, err
	}
	if got != public {
		return wg.Key{}, apperr.E(apperr.Conflict, "CONFLICT_001", "the hub has got another WireGuard key meanwhile (%s)", got)
	}
	return got, pg.InTx(ctx, s.c.DB, func(tx pgx.Tx) error {
		return s.record(ctx, tx, event{action: "hub_key_adopted", by: by, details: map[string]any{"public_key": public.String()}})
	})
}
