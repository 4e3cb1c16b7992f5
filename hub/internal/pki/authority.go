package pki

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
)

// Lifetimes of what the CA consists of.
const (
	rootValidity   = 20 * 365 * 24 * time.Hour
	issuerValidity = 5 * 365 * 24 * time.Hour
	backdate       = 5 * time.Minute // certificates begin earlier than now, for clocks that are behind
)

// issuerID is the SHA-256 of an issuing certificate.
type issuerID [sha256.Size]byte

func (i issuerID) String() string { return hex.EncodeToString(i[:8]) }

// State is where a root stands in its life. A root is trusted from its making until it is retired.
type State string

// States of a root.
const (
	StateNext     State = "next"     // sites learn it; nothing is issued with it yet
	StateActive   State = "active"   // issues
	StateRetiring State = "retiring" // what it issued still counts
	StateRetired  State = "retired"  // what it issued is refused
)

// issuer is a root with the key that issues under it. The CA of an earlier hub is its own root.
type issuer struct {
	id          issuerID
	state       State
	root, cert  *x509.Certificate
	key         crypto.Signer       // of cert; nil when retired
	rootKey     crypto.Signer       // nil when it lies offline, and for the CA of an earlier hub
	cross       []*x509.Certificate // cert's key, signed by an earlier root: the way for sites that do not know root yet
	createdAt   time.Time
	activatedAt time.Time
}

// single reports whether the root issues by itself, as the CA of an earlier hub does.
func (i *issuer) single() bool { return i.cert.Equal(i.root) }

// chain is a certificate that i issued with what leads to the root, the root left out.
func (i *issuer) chain(leaf *x509.Certificate) []*x509.Certificate {
	if i.single() {
		return []*x509.Certificate{leaf}
	}
	return []*x509.Certificate{leaf, i.cert}
}

// authorities are all issuers at one moment; a change makes new ones.
type authorities struct {
	generation    uint64
	all           []*issuer // the active one first
	rootPool      *x509.CertPool
	intermediates *x509.CertPool
}

func (s *authorities) active() *issuer { return s.all[0] }

// trusted are the issuers whose certificates count.
func (s *authorities) trusted() []*issuer {
	var list []*issuer
	for _, i := range s.all {
		if i.state != StateRetired {
			list = append(list, i)
		}
	}
	return list
}

func (s *authorities) find(state State) *issuer {
	for _, i := range s.all {
		if i.state == state {
			return i
		}
	}
	return nil
}

func (s *authorities) roots() []*x509.Certificate {
	var roots []*x509.Certificate
	for _, i := range s.trusted() {
		known := false
		for _, r := range roots {
			known = known || r.Equal(i.root)
		}
		if !known {
			roots = append(roots, i.root)
		}
	}
	return roots
}

// issuerOf finds who signed a certificate; nil when nobody trusted did.
func (s *authorities) issuerOf(c *x509.Certificate) *issuer {
	for _, i := range s.trusted() {
		if bytes.Equal(c.AuthorityKeyId, i.cert.SubjectKeyId) && c.CheckSignatureFrom(i.cert) == nil {
			return i
		}
	}
	return nil
}

// authorityFile is what the row "authorities" of hub_secret holds, sealed as a whole: whoever can write the table can neither exchange a root nor
// bring a retired one back.
type authorityFile struct {
	Generation  uint64            `json:"generation"`
	Authorities []authorityRecord `json:"authorities"`
}

type authorityRecord struct {
	State       State     `json:"state"`
	Root        []byte    `json:"root"`               // DER
	Cert        []byte    `json:"cert"`               // DER of the issuing certificate
	Key         []byte    `json:"key,omitempty"`      // PKCS #8
	RootKey     []byte    `json:"root_key,omitempty"` // PKCS #8; absent when it lies offline
	Cross       [][]byte  `json:"cross,omitempty"`    // DER
	CreatedAt   time.Time `json:"created_at"`
	ActivatedAt time.Time `json:"activated_at,omitzero"`
}

const secretAuthorities = "authorities"

func (i *issuer) record() (authorityRecord, error) {
	r := authorityRecord{State: i.state, Root: i.root.Raw, Cert: i.cert.Raw, CreatedAt: i.createdAt.UTC(), ActivatedAt: i.activatedAt.UTC()}
	for _, c := range i.cross {
		r.Cross = append(r.Cross, c.Raw)
	}
	var err error
	if i.key != nil {
		if r.Key, err = x509.MarshalPKCS8PrivateKey(i.key); err != nil {
			return r, err
		}
	}
	if i.rootKey != nil {
		r.RootKey, err = x509.MarshalPKCS8PrivateKey(i.rootKey)
	}
	return r, err
}

func (r authorityRecord) issuer() (*issuer, error) {
	i := &issuer{id: sha256.Sum256(r.Cert), state: r.State, createdAt: r.CreatedAt, activatedAt: r.ActivatedAt}
	var err error
	if i.root, err = x509.ParseCertificate(r.Root); err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	if i.cert, err = x509.ParseCertificate(r.Cert); err != nil {
		return nil, fmt.Errorf("issuing certificate: %w", err)
	}
	for _, der := range r.Cross {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("cross certificate: %w", err)
		}
		i.cross = append(i.cross, c)
	}
	if err := errors.Join(i.root.CheckSignatureFrom(i.root), i.cert.CheckSignatureFrom(i.root)); err != nil {
		return nil, err
	}
	if i.state == StateRetired {
		return i, nil
	}
	if i.key, err = parseKey(r.Key, i.cert); err != nil {
		return nil, err
	}
	if len(r.RootKey) > 0 {
		i.rootKey, err = parseKey(r.RootKey, i.root)
	}
	return i, err
}

// parseKey reads a private key and checks that it is a certificate's.
func parseKey(pkcs8 []byte, of *x509.Certificate) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		return nil, fmt.Errorf("certificate authority's key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("certificate authority's key is a %T, which cannot sign", key)
	}
	if !equalKeys(signer.Public(), of.PublicKey) {
		return nil, errors.New("certificate authority's certificate does not belong to its key: hub_secret was tampered with or mixed from two databases")
	}
	return signer, nil
}

func parseAuthorities(plain []byte) (*authorities, error) {
	var f authorityFile
	if err := json.Unmarshal(plain, &f); err != nil {
		return nil, fmt.Errorf("certificate authorities: %w", err)
	}
	s := &authorities{generation: f.Generation}
	for _, r := range f.Authorities {
		i, err := r.issuer()
		if err != nil {
			return nil, fmt.Errorf("certificate authorities: %w", err)
		}
		s.all = append(s.all, i)
	}
	return s, s.index()
}

// index puts the active issuer first and makes the pools.
func (s *authorities) index() error {
	s.rootPool, s.intermediates = x509.NewCertPool(), x509.NewCertPool()
	active := 0
	for n, i := range s.all {
		if i.state == StateActive {
			active++
			s.all[0], s.all[n] = s.all[n], s.all[0]
		}
	}
	if active != 1 {
		return fmt.Errorf("there are %d active certificate authorities, want one", active)
	}
	for _, i := range s.trusted() {
		s.rootPool.AddCert(i.root)
		s.intermediates.AddCert(i.cert)
		for _, c := range i.cross {
			s.intermediates.AddCert(c)
		}
	}
	return nil
}

func (s *authorities) encode() ([]byte, error) {
	f := authorityFile{Generation: s.generation}
	for _, i := range s.all {
		r, err := i.record()
		if err != nil {
			return nil, err
		}
		f.Authorities = append(f.Authorities, r)
	}
	return json.Marshal(f)
}

// fingerprint is the SHA-256 of a certificate in hexadecimal.
func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

func generationBytes(g uint64) []byte { return binary.BigEndian.AppendUint64(nil, g) }

// loadAuthorities reads the roots, and makes the first ones: from the CA of an earlier hub, which goes on issuing until it is rolled over, or anew.
func (a *Authority) loadAuthorities(ctx context.Context) error {
	s, err := a.readAuthorities(ctx, a.db, qGetSecret)
	if errors.Is(err, pgx.ErrNoRows) {
		var fresh *issuer
		if fresh, err = a.firstIssuer(ctx); err != nil {
			return err
		}
		s, err = a.addAuthorities(ctx, fresh)
	}
	if err != nil {
		return err
	}
	a.set.Store(s)
	return nil
}

type queryer interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func (a *Authority) readAuthorities(ctx context.Context, db queryer, q string) (*authorities, error) {
	var sealed, public []byte
	if err := db.QueryRow(ctx, q, secretAuthorities).Scan(&sealed, &public); err != nil {
		return nil, fmt.Errorf("reading the certificate authorities: %w", err)
	}
	plain, err := open(a.c.Password, secretAuthorities, sealed)
	if err != nil {
		return nil, err
	}
	return parseAuthorities(plain)
}

// addAuthorities stores the first issuer. When several hubs do so at once, the first one's is everyone's.
func (a *Authority) addAuthorities(ctx context.Context, first *issuer) (*authorities, error) {
	s := &authorities{generation: 1, all: []*issuer{first}}
	plain, err := s.encode()
	if err != nil {
		return nil, err
	}
	sealed, err := seal(a.c.Password, secretAuthorities, plain)
	if err != nil {
		return nil, fmt.Errorf("sealing the certificate authorities: %w", err)
	}
	if _, err := a.db.Exec(ctx, qAddSecret, secretAuthorities, sealed, generationBytes(1), a.now().UTC()); err != nil {
		return nil, fmt.Errorf("storing the certificate authorities: %w", err)
	}
	return a.readAuthorities(ctx, a.db, qGetSecret)
}

// firstIssuer is the CA of an earlier hub on this database, or a new root with its intermediate.
func (a *Authority) firstIssuer(ctx context.Context) (*issuer, error) {
	var sealed, public []byte
	err := a.db.QueryRow(ctx, qGetSecret, "ca").Scan(&sealed, &public)
	if errors.Is(err, pgx.ErrNoRows) {
		return newIssuer(a.now(), true)
	}
	if err != nil {
		return nil, fmt.Errorf("reading hub secret %q: %w", "ca", err)
	}
	plain, err := open(a.c.Password, "ca", sealed)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(public)
	if err != nil {
		return nil, fmt.Errorf("certificate authority's certificate: %w", err)
	}
	// The public column is not sealed: whoever can write the table must not be able to exchange it.
	key, err := parseKey(plain, cert)
	if err != nil {
		return nil, err
	}
	if err := cert.CheckSignatureFrom(cert); err != nil {
		return nil, fmt.Errorf("certificate authority's certificate is not self-signed: %w", err)
	}
	return &issuer{id: sha256.Sum256(cert.Raw), state: StateActive, root: cert, cert: cert, key: key, createdAt: cert.NotBefore.Add(backdate), activatedAt: cert.NotBefore.Add(backdate)}, nil
}

// newIssuer makes a root and the intermediate that issues under it.
func newIssuer(now time.Time, active bool) (*issuer, error) {
	now = now.UTC()
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	number, err := newSerial()
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: number,
		// Roots of one hub differ in name, so that every program's chain building keeps them apart.
		Subject:   pkix.Name{Organization: []string{"HashInsight"}, CommonName: "HashInsight hub root " + hex.EncodeToString(number.Bytes()[:4])},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(rootValidity),
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: 1,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, rootKey.Public(), rootKey)
	if err != nil {
		return nil, fmt.Errorf("making a root: %w", err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	i, err := newIntermediate(root, rootKey, now)
	if err != nil {
		return nil, err
	}
	i.rootKey, i.state = rootKey, StateNext
	if active {
		i.state, i.activatedAt = StateActive, now
	}
	return i, nil
}

// newIntermediate makes the key that issues under a root.
func newIntermediate(root *x509.Certificate, rootKey crypto.Signer, now time.Time) (*issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	cert, err := signIntermediate(root, rootKey, key.Public(), nil, now)
	if err != nil {
		return nil, err
	}
	return &issuer{id: sha256.Sum256(cert.Raw), root: root, cert: cert, key: key, createdAt: now}, nil
}

// signIntermediate certifies an issuing key; like gives the name of the certificate that the key has already.
func signIntermediate(root *x509.Certificate, rootKey crypto.Signer, pub crypto.PublicKey, like *x509.Certificate, now time.Time) (*x509.Certificate, error) {
	number, err := newSerial()
	if err != nil {
		return nil, err
	}
	now = now.UTC()
	tmpl := &x509.Certificate{
		SerialNumber: number,
		Subject:      pkix.Name{Organization: []string{"HashInsight"}, CommonName: "HashInsight hub intermediate " + hex.EncodeToString(number.Bytes()[:4])},
		NotBefore:    now.Add(-backdate), NotAfter: now.Add(issuerValidity),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if like != nil {
		tmpl.Subject, tmpl.NotAfter, tmpl.SubjectKeyId = like.Subject, like.NotAfter, like.SubjectKeyId
	}
	if tmpl.NotAfter.After(root.NotAfter) {
		tmpl.NotAfter = root.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, root, pub, rootKey)
	if err != nil {
		return nil, fmt.Errorf("making an intermediate: %w", err)
	}
	return x509.ParseCertificate(der)
}

const (
	qLockSecret   = `SELECT sealed, public FROM hub_secret WHERE name = $1 FOR UPDATE` //nolint:gosec // a statement, not a credential
	qUpdateSecret = `UPDATE hub_secret SET sealed = $2, public = $3 WHERE name = $1`   //nolint:gosec // as above
	qNotify       = `SELECT pg_notify('` + notifyChannel + `', $1)`
)

// change alters the roots in one transaction; every hub process on this database takes the new ones over.
func (a *Authority) change(ctx context.Context, action, by string, details map[string]any, f func(ctx context.Context, tx pgx.Tx, s *authorities) error) error {
	var s *authorities
	err := a.inTx(ctx, func(tx pgx.Tx) (err error) {
		if s, err = a.readAuthorities(ctx, tx, qLockSecret); err != nil {
			return err
		}
		if err := f(ctx, tx, s); err != nil {
			return err
		}
		s.generation++
		if err := s.index(); err != nil {
			return err
		}
		plain, err := s.encode()
		if err != nil {
			return err
		}
		sealed, err := seal(a.c.Password, secretAuthorities, plain)
		if err != nil {
			return fmt.Errorf("sealing the certificate authorities: %w", err)
		}
		if _, err := tx.Exec(ctx, qUpdateSecret, secretAuthorities, sealed, generationBytes(s.generation)); err != nil {
			return fmt.Errorf("storing the certificate authorities: %w", err)
		}
		if err := a.audit(ctx, tx, audit.Security, action, by, details); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, qNotify, "")
		return err
	})
	if err != nil {
		return err
	}
	a.adopt(ctx, s)
	return nil
}

// adopt takes other authorities over, unless they are older.
func (a *Authority) adopt(ctx context.Context, s *authorities) {
	for {
		old := a.set.Load()
		if old != nil && old.generation >= s.generation {
			return
		}
		if a.set.CompareAndSwap(old, s) {
			a.log.InfoContext(ctx, "certificate authorities changed", "generation", s.generation, "active", s.active().id.String())
			return
		}
	}
}

// newSerial returns 127 random bits, the highest of them set, so that every number has 16 bytes.
func newSerial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, err
	}
	return n.SetBit(n, 126, 1), nil
}

func errConflict(format string, args ...any) error {
	return apperr.E(apperr.Conflict, "CONFLICT_001", format, args...)
}
