package pki

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
)

// A sealed secret: version 1 (1 byte), salt (16), nonce (12), AES-256-GCM ciphertext with tag. The key is
// HKDF-SHA256(ENCRYPTION_PASSWORD, salt, sealInfo); the additional data is sealInfo ‖ the secret's name, so that rows
// cannot be exchanged.
const (
	sealVersion = 1
	sealSalt    = 16
	sealNonce   = 12
	sealInfo    = "hsi/hub-secret/v1\x00"
)

func aead(password string, salt []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, []byte(password), salt, sealInfo, 32)
	if err != nil {
		return nil, fmt.Errorf("deriving a key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func seal(password, name string, plain []byte) ([]byte, error) {
	out := make([]byte, 1+sealSalt+sealNonce)
	out[0] = sealVersion
	if _, err := rand.Read(out[1:]); err != nil {
		return nil, err
	}
	gcm, err := aead(password, out[1:1+sealSalt])
	if err != nil {
		return nil, err
	}
	return gcm.Seal(out, out[1+sealSalt:], plain, []byte(sealInfo+name)), nil
}

func open(password, name string, sealed []byte) ([]byte, error) {
	if len(sealed) < 1+sealSalt+sealNonce || sealed[0] != sealVersion {
		return nil, errors.New("unknown form: was it written by a newer hub?")
	}
	gcm, err := aead(password, sealed[1:1+sealSalt])
	if err != nil {
		return nil, err
	}
	body := sealed[1+sealSalt:]
	plain, err := gcm.Open(nil, body[:sealNonce], body[sealNonce:], []byte(sealInfo+name))
	if err != nil {
		return nil, apperr.E(apperr.Internal, "ENCRYPTION_001",
			"hub secret %q cannot be opened: ENCRYPTION_PASSWORD is not the one this database was made with", name)
	}
	return plain, nil
}

const (
	qGetSecret = `SELECT sealed, public FROM hub_secret WHERE name = $1`                                                           //nolint:gosec // a statement, not a credential
	qAddSecret = `INSERT INTO hub_secret (name, sealed, public, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING` //nolint:gosec // as above
)

// secret returns a hub secret with its public part, making it at first use. When several hubs start on an empty database,
// the first one's is everyone's.
func secret(ctx context.Context, db *pgxpool.Pool, password, name string, now time.Time, fresh func() (plain, public []byte, err error)) (plain, public []byte, err error) {
	var sealed []byte
	err = db.QueryRow(ctx, qGetSecret, name).Scan(&sealed, &public)
	if errors.Is(err, pgx.ErrNoRows) {
		plain, public, err = fresh()
		if err != nil {
			return nil, nil, err
		}
		if sealed, err = seal(password, name, plain); err != nil {
			return nil, nil, fmt.Errorf("sealing hub secret %q: %w", name, err)
		}
		if _, err = db.Exec(ctx, qAddSecret, name, sealed, public, now); err != nil {
			return nil, nil, fmt.Errorf("storing hub secret %q: %w", name, err)
		}
		err = db.QueryRow(ctx, qGetSecret, name).Scan(&sealed, &public)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading hub secret %q: %w", name, err)
	}
	plain, err = open(password, name, sealed)
	return plain, public, err
}
