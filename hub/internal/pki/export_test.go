package pki

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// MakeEarlierCA gives a database the self-signed CA of the hub before there were intermediates, and takes what a newer hub has put there.
func MakeEarlierCA(ctx context.Context, db *pgxpool.Pool, password string, now time.Time) error {
	key, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	number, err2 := newSerial()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	tmpl := &x509.Certificate{
		SerialNumber: number, Subject: pkix.Name{Organization: []string{"HashInsight"}, CommonName: "HashInsight hub CA"},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(10 * 365 * 24 * time.Hour), IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err1 := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	plain, err2 := x509.MarshalPKCS8PrivateKey(key)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if _, err := db.Exec(ctx, `DELETE FROM hub_secret WHERE name = 'authorities'`); err != nil {
		return err
	}
	_, _, err := secret(ctx, db, password, "ca", now, func() ([]byte, []byte, error) { return plain, der, nil })
	return err
}
