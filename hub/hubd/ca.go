package hubd

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/internal/pki"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
)

// byCommand is who orders what the command line does, in the audit log.
const byCommand = "command"

// CAStatus is the state of the certificate authority.
type CAStatus = pki.Status

// RootFile says where a root's private key goes: encrypted into a file.
type RootFile = pki.Offline

// MinPassphrase is how many bytes a root file's passphrase has at least, MaxRootFile how many the file has at most.
const (
	MinPassphrase = pki.MinPassphrase
	MaxRootFile   = pki.MaxRootFile
)

// withPKI opens the certificate authority for a command.
func withPKI(ctx context.Context, c Database, work func(ctx context.Context, a *pki.Authority) error) error {
	return c.do(ctx, true, func(ctx context.Context, pool *pgxpool.Pool, _ string) error {
		a, err := openPKI(ctx, c, pool)
		if err != nil {
			return err
		}
		return work(ctx, a)
	})
}

// CAInit takes the root's private key offline, and makes the certificate authority where there is none.
func CAInit(ctx context.Context, c Database, to RootFile) (st CAStatus, err error) {
	err = c.do(ctx, true, func(ctx context.Context, pool *pgxpool.Pool, _ string) error {
		pc, err := pkiConfig(c, pool)
		if err != nil {
			return err
		}
		a, err := pki.Init(ctx, pc, to, byCommand)
		if err != nil {
			return err
		}
		st, err = a.Status(ctx)
		return err
	})
	return st, err
}

// CAGetStatus tells how the certificate authority stands.
func CAGetStatus(ctx context.Context, c Database) (st CAStatus, err error) {
	err = withPKI(ctx, c, func(ctx context.Context, a *pki.Authority) error {
		st, err = a.Status(ctx)
		return err
	})
	return st, err
}

// CAStep is a step of a roll-over.
type CAStep string

// Steps of a roll-over.
const (
	CABegin        CAStep = "begin"
	CAActivate     CAStep = "activate"
	CAFinish       CAStep = "finish"
	CACancel       CAStep = "cancel"
	CAIntermediate CAStep = "intermediate"
)

// CARotation is an order to roll over.
type CARotation struct {
	Step       CAStep
	To         *RootFile // of CABegin: the new root's key goes there; nil keeps it in the database
	OldRoot    []byte    // of CABegin and CAIntermediate: the present root's file
	Passphrase []byte    // of OldRoot
	Force      bool      // of CAActivate and CAFinish
}

// CARotate makes a step of a roll-over.
func CARotate(ctx context.Context, c Database, r CARotation) (st CAStatus, err error) {
	err = withPKI(ctx, c, func(ctx context.Context, a *pki.Authority) error {
		order := pki.Rotation{To: r.To, OldRoot: r.OldRoot, Passphrase: r.Passphrase, By: byCommand}
		var err error
		switch r.Step {
		case CABegin:
			err = a.Rotate(ctx, order)
		case CAIntermediate:
			err = a.RotateIntermediate(ctx, order)
		case CAActivate:
			err = a.Activate(ctx, byCommand, r.Force)
		case CAFinish:
			err = a.Finish(ctx, byCommand, r.Force)
		case CACancel:
			err = a.Cancel(ctx, byCommand)
		default:
			err = fmt.Errorf("step %q is not one of a roll-over", r.Step)
		}
		if err != nil {
			return err
		}
		st, err = a.Status(ctx)
		return err
	})
	return st, err
}

// ClientOrder is a certificate for a program or person that calls the API.
type ClientOrder struct {
	KeyID                             string // of the API key whose permissions it has
	Name                              string
	Request                           []byte // PKCS #10, PEM
	CommonName, Organization, Country string
	ValidFor                          time.Duration
}

// CAIssue makes an API client's certificate, PEM, the intermediate after it.
func CAIssue(ctx context.Context, c Database, o ClientOrder) (chain string, leaf *x509.Certificate, err error) {
	key, err := uuid.Parse(o.KeyID)
	if err != nil {
		return "", nil, fmt.Errorf("--key-id %.60q is not the id of an API key: hashinsight-hub apikey list shows them", o.KeyID)
	}
	block, _ := pem.Decode(o.Request)
	if block == nil || block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
		return "", nil, errors.New("the request is not a PEM block CERTIFICATE REQUEST, as openssl req -new writes it")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return "", nil, fmt.Errorf("the request: %w", err)
	}
	err = withPKI(ctx, c, func(ctx context.Context, a *pki.Authority) error {
		certs, err := a.IssueClient(ctx, pki.ClientOrder{
			Key: key, Name: o.Name, Request: csr, CommonName: o.CommonName, Organization: o.Organization, Country: o.Country, ValidFor: o.ValidFor, By: byCommand,
		})
		if err == nil {
			chain, leaf = identity.EncodeCertificates(certs), certs[0]
		}
		return err
	})
	return chain, leaf, err
}

// CARevoke ends one certificate by its serial number in hexadecimal, or a site with all of its certificates.
func CARevoke(ctx context.Context, c Database, serial, site, why string) error {
	return c.do(ctx, true, func(ctx context.Context, pool *pgxpool.Pool, _ string) error {
		a, err := openPKI(ctx, c, pool)
		if err != nil {
			return err
		}
		if serial != "" {
			number, err := hex.DecodeString(serial)
			if err != nil || len(number) != 16 {
				return fmt.Errorf("serial %.60q: want 32 hexadecimal digits, as ca status and openssl x509 -serial print them", serial)
			}
			return a.RevokeSerial(ctx, number, why, byCommand)
		}
		id, err := ident.ParseSiteID(site)
		if err != nil {
			return fmt.Errorf("--site: %w", err)
		}
		return pg.InTx(ctx, pool, func(tx pgx.Tx) error { return a.RevokeSite(ctx, tx, id, why, byCommand) })
	})
}

// CAAllowRecovery lets a site recover once beyond the count.
func CAAllowRecovery(ctx context.Context, c Database, site string) error {
	id, err := ident.ParseSiteID(site)
	if err != nil {
		return fmt.Errorf("SITE: %w", err)
	}
	return withPKI(ctx, c, func(ctx context.Context, a *pki.Authority) error { return a.AllowRecovery(ctx, id, byCommand) })
}

// CARevocationList returns the revocation list, DER.
func CARevocationList(ctx context.Context, c Database) (der []byte, err error) {
	err = withPKI(ctx, c, func(ctx context.Context, a *pki.Authority) error {
		der, err = a.CRL(ctx)
		return err
	})
	return der, err
}
