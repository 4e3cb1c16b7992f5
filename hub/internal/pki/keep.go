package pki

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Secret returns a secret of the hub that another subject keeps here, with its public part, making it at first use with fresh.
func Secret(ctx context.Context, db *pgxpool.Pool, password, name string, now time.Time, fresh func() (plain, public []byte, err error)) (plain, public []byte, err error) {
	return secret(ctx, db, password, name, now, fresh)
}

// Seal seals a secret that stands in another subject's table, under a name that says which row it belongs to.
func Seal(password, name string, plain []byte) ([]byte, error) { return seal(password, name, plain) }

// Unseal opens what Seal made.
func Unseal(password, name string, sealed []byte) ([]byte, error) {
	return open(password, name, sealed)
}
