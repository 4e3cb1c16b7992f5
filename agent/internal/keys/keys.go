// Package keys makes and keeps a site's identity: a TLS key (P-256), an evidence key (Ed25519) and a WireGuard key (X25519), made
// here and never sent anywhere, and the bundle with which the hub answered the site's request. The forms of request and bundle
// are package identity's; talking to the hub is package enrol's. Every change is one rename: a process killed between two writes
// leaves the identity from before, or the new one, and it never deletes what the hub may still know it by. The commands `keys
// init` and `keys install` and package enrol write, `run` reads.
package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
)

// Files of an identity directory.
const (
	tlsKeyFile      = "tls.key"      // PKCS #8, PEM, 0600
	tlsNextFile     = "tls.next.key" // of a certificate that was asked for; the one whose key the bundle certifies counts
	evidenceKeyFile = "evidence.key" // PKCS #8, PEM, 0600
	wgKeyFile       = "wg.key"       // base64 as `wg genkey` prints, 0600
	wgNextFile      = "wg.next.key"  // while the hub is told of it; the one that the bundle names counts
	pskPattern      = "psk-%s.key"   // base64 as `wg genpsk` prints, 0600; the bundle names the one that counts
	generationFile  = "generation"   // of the grant, hex
	bundleFile      = "bundle.json"  // no secret in it
	pemPrivate      = "PRIVATE KEY"
)

// ErrNotInstalled means that the hub's answer has not been installed yet.
var ErrNotInstalled = errors.New("this site has no certificate yet")

// Init makes the keys that are missing in dir, which is made too, and returns the request for the hub. Keys that exist are
// kept, so it may be run again.
func Init(dir string) (request []byte, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("identity directory: %w", err)
	}
	tlsKey, err := tlsKeyIn(dir)
	if err != nil {
		return nil, err
	}
	evidence, err := evidenceKeyIn(dir)
	if err != nil {
		return nil, err
	}
	return identity.NewRequest(tlsKey, evidence)
}

// Install checks the hub's answer against this site's keys and the time now, and stores it.
func Install(dir string, bundle []byte, now time.Time) (identity.Bundle, error) {
	b, err := identity.ParseBundle(bundle)
	if err != nil {
		return b, err
	}
	tlsKey, err := tlsKeyFor(dir, b)
	if err != nil {
		return b, notInitialised(dir, err)
	}
	if err := check(b, tlsKey, now); err != nil {
		return b, err
	}
	if old, err := readBundle(dir); err == nil && old.Site != b.Site {
		return b, fmt.Errorf("%s belongs to site %s, the bundle is for site %s: an agent serves one site, use another --dir", dir, old.Site, b.Site)
	}
	if err := writeFile(filepath.Join(dir, bundleFile), bundle, 0o644); err != nil {
		return b, fmt.Errorf("store the bundle: %w", err)
	}
	return b, nil
}

// check finds out whether a bundle was made for the holder of this key and is good now.
func check(b identity.Bundle, tlsKey crypto.Signer, now time.Time) error {
	leaf := b.Certificate[0]
	if pub, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(tlsKey.Public()) {
		return errors.New("the certificate in the bundle is not for this site's key: register the request that keys init wrote here, and install the answer to that")
	}
	site, err := identity.SiteOf(leaf)
	if err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	if site != b.Site {
		return fmt.Errorf("bundle: the certificate names site %s, the bundle site %s", site, b.Site)
	}
	if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return fmt.Errorf("the certificate is valid from %s to %s and it is %s here: check this computer's clock, or register again",
			leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	opts := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, c := range b.CA {
		opts.Roots.AddCert(c)
	}
	for _, c := range b.Certificate[1:] {
		opts.Intermediates.AddCert(c)
	}
	if _, err := leaf.Verify(opts); err != nil {
		return fmt.Errorf("the certificate in the bundle is not signed by the CA in it: %w", err)
	}
	return nil
}

// Identity is what an agent runs with.
type Identity struct {
	Site     ident.SiteID
	SiteName string
	Hub      string // host:port of the hub's listener for agents
	Evidence ed25519.PrivateKey

	dir string

	mu   sync.Mutex
	held held // what was read last
}

// held is a bundle with the key that it certifies, and the file it was read from.
type held struct {
	bundle identity.Bundle
	tlsKey crypto.Signer
	file   os.FileInfo
}

// Load reads an identity. The certificate may have run out: data is gathered all the same, and the link says so.
func Load(dir string) (*Identity, error) {
	if _, err := readKey(filepath.Join(dir, tlsKeyFile)); err != nil {
		return nil, notInitialised(dir, err)
	}
	signer, err := readKey(filepath.Join(dir, evidenceKeyFile))
	if err != nil {
		return nil, notInitialised(dir, err)
	}
	evidence, ok := signer.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s is not an Ed25519 key", filepath.Join(dir, evidenceKeyFile))
	}
	h, err := readHeld(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: join with a token from the hub's operator ('hashinsight-agent enrol'), or have the request from 'keys init' registered at the hub "+
			"('hashinsight-hub site register') and run 'hashinsight-agent keys install --dir %s --bundle FILE'", ErrNotInstalled, dir)
	}
	if err != nil {
		return nil, err
	}
	return &Identity{Site: h.bundle.Site, SiteName: h.bundle.SiteName, Hub: h.bundle.HubAddress, Evidence: evidence, dir: dir, held: h}, nil
}

func readHeld(dir string) (held, error) {
	file, err := os.Stat(filepath.Join(dir, bundleFile))
	if err != nil {
		return held{}, fmt.Errorf("site bundle: %w", err)
	}
	b, err := readBundle(dir)
	if err != nil {
		return held{}, err
	}
	key, err := tlsKeyFor(dir, b)
	return held{b, key, file}, err
}

// EvidenceKey returns the public half of the evidence key in dir, which need not have a bundle yet.
func EvidenceKey(dir string) (ed25519.PublicKey, error) {
	signer, err := readKey(filepath.Join(dir, evidenceKeyFile))
	if err != nil {
		return nil, notInitialised(dir, err)
	}
	pub, ok := signer.Public().(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%s is not an Ed25519 key", filepath.Join(dir, evidenceKeyFile))
	}
	return pub, nil
}

// latest reads the bundle again when its file has changed, so that one installed or renewed while the agent runs counts at the
// next connection. When that fails, or is another site's, the one read before goes on.
func (i *Identity) latest() held {
	i.mu.Lock()
	defer i.mu.Unlock()
	file, err := os.Stat(filepath.Join(i.dir, bundleFile))
	if err != nil || os.SameFile(file, i.held.file) && file.ModTime().Equal(i.held.file.ModTime()) && file.Size() == i.held.file.Size() {
		return i.held
	}
	if h, err := readHeld(i.dir); err == nil && h.bundle.Site == i.Site {
		i.held = h
	}
	return i.held
}

// Bundle returns what the hub last said.
func (i *Identity) Bundle() identity.Bundle { return i.latest().bundle }

// TLSKey returns the key of the present certificate.
func (i *Identity) TLSKey() crypto.Signer { return i.latest().tlsKey }

// Dir returns the identity directory.
func (i *Identity) Dir() string { return i.dir }

// TLS returns the settings of the connection to the hub.
func (i *Identity) TLS(now func() time.Time) *tls.Config { return i.Client(now).TLS() }

// Client says how the site proves itself to its hub; see TLS.
func (i *Identity) Client(now func() time.Time) identity.Client {
	return identity.Client{
		Certificate: func() (*tls.Certificate, error) {
			h := i.latest()
			c := &tls.Certificate{PrivateKey: h.tlsKey}
			for _, x := range h.bundle.Certificate {
				c.Certificate = append(c.Certificate, x.Raw)
			}
			return c, nil
		},
		CA:  func() []*x509.Certificate { return i.latest().bundle.CA },
		Now: now,
	}
}

// HubKey returns the hub's evidence key with this id, or nil.
func (i *Identity) HubKey(id ident.KeyID) ed25519.PublicKey {
	for _, k := range i.latest().bundle.HubEvidence {
		if ident.KeyIDOf(k) == id {
			return k
		}
	}
	return nil
}

func notInitialised(dir string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: no keys in %s: join with 'hashinsight-agent enrol', or by hand beginning with 'hashinsight-agent keys init --dir %s'", ErrNotInstalled, dir, dir)
	}
	return err
}

func readBundle(dir string) (identity.Bundle, error) {
	b, err := os.ReadFile(filepath.Join(dir, bundleFile))
	if err != nil {
		return identity.Bundle{}, fmt.Errorf("site bundle: %w", err)
	}
	return identity.ParseBundle(b)
}

func tlsKeyIn(dir string) (crypto.Signer, error) {
	return loadOrMake(filepath.Join(dir, tlsKeyFile), func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) })
}

func evidenceKeyIn(dir string) (ed25519.PrivateKey, error) {
	path := filepath.Join(dir, evidenceKeyFile)
	signer, err := loadOrMake(path, func() (crypto.Signer, error) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	})
	if err != nil {
		return nil, err
	}
	key, ok := signer.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s is not an Ed25519 key: move it away, a new one is made then", path)
	}
	return key, nil
}

// tlsKeyFor returns the key that a bundle certifies; the usual one when it certifies none here, which check finds.
func tlsKeyFor(dir string, b identity.Bundle) (crypto.Signer, error) {
	usual, err := readKey(filepath.Join(dir, tlsKeyFile))
	if err == nil && certifies(b, usual) {
		return usual, nil
	}
	if next, errNext := readKey(filepath.Join(dir, tlsNextFile)); errNext == nil && certifies(b, next) {
		return next, nil
	}
	return usual, err
}

func certifies(b identity.Bundle, key crypto.Signer) bool {
	pub, ok := b.Certificate[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && pub.Equal(key.Public())
}

func loadOrMake(path string, fresh func() (crypto.Signer, error)) (crypto.Signer, error) {
	key, err := readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if key, err = fresh(); err != nil {
		return nil, fmt.Errorf("make %s: %w", filepath.Base(path), err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", filepath.Base(path), err)
	}
	if err := writeFile(path, pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: der}), 0o600); err != nil {
		return nil, fmt.Errorf("make %s: %w", filepath.Base(path), err)
	}
	return key, nil
}

// readSecret reads a file that nobody else may read.
func readSecret(path string) ([]byte, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("site key: %w", err)
	}
	if runtime.GOOS != "windows" && fi.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("site key %s can be read by others (mode %04o): chmod 600 it, and make a new site if somebody may have copied it", path, fi.Mode().Perm())
	}
	if fi.Size() > identity.MaxFileSize {
		return nil, fmt.Errorf("site key %s has %d bytes and is no key", path, fi.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("site key: %w", err)
	}
	return b, nil
}

func readKey(path string) (crypto.Signer, error) {
	b, err := readSecret(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != pemPrivate {
		return nil, fmt.Errorf("site key %s is not PEM %q: restore it from a backup", path, pemPrivate)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("site key %s: %w", path, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("site key %s cannot sign", path)
	}
	return signer, nil
}

// writeFile puts a whole file in place, durably, or nothing.
func writeFile(path string, b []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil && runtime.GOOS != "windows" {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if runtime.GOOS == "windows" { // its directories cannot be flushed and need not be
		return nil
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
