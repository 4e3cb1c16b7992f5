package access

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrOwnerKeyExists says that there is an owner key and that nobody asked to replace it.
var ErrOwnerKeyExists = errors.New("there is an owner key already; if it is lost, run the command again with --replace, which ends the old key and its sessions")

// BootstrapConfig says which owner key to make.
type BootstrapConfig struct {
	Pool    *pgxpool.Pool
	Env     string           // "prod" or "dev": the env part of the key
	Replace bool             // revoke the present owner key, if there is one
	Now     func() time.Time // nil means time.Now
}

const (
	qRevokeBootstrap = `UPDATE api_key SET revoked_at = $1 WHERE bootstrap AND revoked_at IS NULL`
	qInsertBootstrap = `INSERT INTO api_key (id, name, hash, permissions, bootstrap, created_at)
		VALUES ($1, 'owner', $2, $3, true, $4)`
)

// Bootstrap makes the owner key: every permission, no expiry. It returns the key, which is stored
// nowhere, so the caller must show or save it. With Replace the present one and the sessions it
// opened end in the same transaction; without, its presence is ErrOwnerKeyExists.
func Bootstrap(ctx context.Context, c BootstrapConfig) (key string, err error) {
	if err := checkEnv(c.Env); err != nil {
		return "", err
	}
	now := time.Now
	if c.Now != nil {
		now = c.Now
	}
	key = newKey(c.Env)
	hash, _ := hashKey(c.Env, key)
	at := now().UTC()
	record, err := audit.New(audit.Config{Now: now})
	if err != nil {
		return "", err
	}
	id := uuid.New()
	err = pg.InTx(ctx, c.Pool, func(tx pgx.Tx) error {
		if c.Replace {
			if _, err := tx.Exec(ctx, qRevokeBootstrap, at); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, qInsertBootstrap, id, hash[:], []string{string(Owner)}, at); err != nil {
			return err
		}
		return record.Add(ctx, tx, CommandLine().Entry(audit.Entry{
			Level: audit.Security, Category: audit.APIKey, Action: "apikey_bootstrap",
			Details: map[string]any{"key_id": id.String(), "replaced": c.Replace},
		}))
	})
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.ConstraintName == "api_key_one_bootstrap" {
		return "", ErrOwnerKeyExists
	}
	if err != nil {
		return "", fmt.Errorf("make the owner key: %w", err)
	}
	return key, nil
}
