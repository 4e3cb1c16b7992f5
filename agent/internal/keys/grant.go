package keys

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashinsight/hashinsight/pkg/identity"
)

// Set is the private keys of a site.
type Set struct {
	TLS       crypto.Signer
	Evidence  ed25519.PrivateKey
	WireGuard *ecdh.PrivateKey
}

// Make makes the keys that are missing in dir, which is made too, WireGuard's included, and returns all. Keys that exist are kept.
func Make(dir string) (Set, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Set{}, fmt.Errorf("identity directory: %w", err)
	}
	var s Set
	var err error
	if s.TLS, err = tlsKeyIn(dir); err != nil {
		return s, err
	}
	if s.Evidence, err = evidenceKeyIn(dir); err != nil {
		return s, err
	}
	if b, errBundle := readBundle(dir); errBundle == nil { // a certificate may have been renewed since
		if s.TLS, err = tlsKeyFor(dir, b); err != nil {
			return s, err
		}
	}
	s.WireGuard, err = wireGuardIn(dir, wgKeyFile)
	return s, err
}

// Request returns the request file for the keys.
func (s Set) Request() ([]byte, error) { return identity.NewRequest(s.TLS, s.Evidence) }

// NextTLS returns the key for the next certificate, making it where it is missing: a renewal that broke off goes on with the
// same one.
func NextTLS(dir string) (crypto.Signer, error) {
	next := filepath.Join(dir, tlsNextFile)
	if b, err := readBundle(dir); err == nil {
		if key, err := readKey(next); err == nil && certifies(b, key) { // killed before it was given its name
			if err := os.Rename(next, filepath.Join(dir, tlsKeyFile)); err != nil {
				return nil, fmt.Errorf("site key: %w", err)
			}
		}
	}
	return loadOrMake(next, func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) })
}

// NextWireGuard returns the WireGuard key that is to replace the present one, making it where it is missing.
func NextWireGuard(dir string) (*ecdh.PrivateKey, error) {
	next := filepath.Join(dir, wgNextFile)
	if b, err := readBundle(dir); err == nil && b.Tunnel != nil {
		if key, err := readWireGuard(next); err == nil && publicText(key) == b.Tunnel.PublicKey { // killed before it was given its name
			if err := os.Rename(next, filepath.Join(dir, wgKeyFile)); err != nil {
				return nil, fmt.Errorf("site key: %w", err)
			}
		}
	}
	return wireGuardIn(dir, wgNextFile)
}

// Grant is a hub's answer, as package enrol got it.
type Grant struct {
	Bundle     []byte
	PSK        []byte // 32 bytes; empty without a tunnel
	Generation []byte // told back to the hub
}

// maxGeneration bounds what is kept of the hub's.
const maxGeneration = 64

// Store checks a grant against this site's keys and the time now, and puts it in the place of what was there. The bundle comes
// last and decides: whatever is killed before leaves the old one, with everything that belongs to it.
func Store(dir string, g Grant, now time.Time) (identity.Bundle, error) {
	b, err := identity.ParseBundle(g.Bundle)
	if err != nil {
		return b, err
	}
	tlsKey, err := tlsKeyFor(dir, b)
	if err != nil {
		return b, err
	}
	if err := check(b, tlsKey, now); err != nil {
		return b, err
	}
	old, errOld := readBundle(dir)
	if errOld == nil && old.Site != b.Site {
		return b, fmt.Errorf("%s belongs to site %s, the hub's answer is for site %s: an agent serves one site, use another directory", dir, old.Site, b.Site)
	}
	if err := checkTunnel(dir, b, g); err != nil {
		return b, err
	}
	if b.Tunnel != nil && b.Tunnel.PresharedKey != "" {
		if err := writeFile(filepath.Join(dir, fmt.Sprintf(pskPattern, b.Tunnel.PresharedKey)), encodeKey(g.PSK), 0o600); err != nil {
			return b, fmt.Errorf("store the preshared key: %w", err)
		}
	}
	if err := writeFile(filepath.Join(dir, bundleFile), g.Bundle, 0o644); err != nil {
		return b, fmt.Errorf("store the bundle: %w", err)
	}
	return b, settle(dir, b, g)
}

func checkTunnel(dir string, b identity.Bundle, g Grant) error {
	if b.Tunnel == nil {
		return nil
	}
	if b.Tunnel.PresharedKey != identity.PSKID(g.PSK) || len(g.PSK) != 0 && len(g.PSK) != 32 {
		return errors.New("the hub's preshared key is not the one that its bundle names: run the command again")
	}
	if _, err := wireGuardFor(dir, b); err != nil {
		return err
	}
	return nil
}

// settle gives new keys their usual names and removes what no bundle names any more. Killed on the way, the next one does it.
func settle(dir string, b identity.Bundle, g Grant) error {
	var errs []error
	rename := func(from, to string) {
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			errs = append(errs, err)
		}
	}
	if next, err := readKey(filepath.Join(dir, tlsNextFile)); err == nil && certifies(b, next) {
		rename(tlsNextFile, tlsKeyFile)
	}
	if b.Tunnel != nil {
		if next, err := readWireGuard(filepath.Join(dir, wgNextFile)); err == nil && publicText(next) == b.Tunnel.PublicKey {
			rename(wgNextFile, wgKeyFile)
		}
		keep := fmt.Sprintf(pskPattern, b.Tunnel.PresharedKey)
		found, _ := filepath.Glob(filepath.Join(dir, fmt.Sprintf(pskPattern, "*"))) // the pattern is good
		for _, path := range found {
			if filepath.Base(path) != keep {
				errs = append(errs, os.Remove(path))
			}
		}
	}
	generation := g.Generation[:min(len(g.Generation), maxGeneration)]
	errs = append(errs, writeFile(filepath.Join(dir, generationFile), []byte(hex.EncodeToString(generation)+"\n"), 0o644))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("identity directory: %w", err)
	}
	return nil
}

// Store stores a grant for a loaded identity; see the function Store.
func (i *Identity) Store(g Grant, now time.Time) (identity.Bundle, error) {
	return Store(i.dir, g, now)
}

// Generation returns what the hub called the stored grant; nil when that is not known: the hub then tells everything again.
func (i *Identity) Generation() []byte {
	b, err := os.ReadFile(filepath.Join(i.dir, generationFile))
	if err != nil || len(b) > 2*maxGeneration+1 {
		return nil
	}
	raw, err := hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil {
		return nil
	}
	return raw
}

// ErrNoTunnel means that the hub gave this site no tunnel.
var ErrNoTunnel = errors.New("this site has no tunnel")

// Tunnel is a site's end of the tunnel with its secrets.
type Tunnel struct {
	identity.Tunnel
	Private [32]byte
	PSK     [32]byte // zero without one
}

// Tunnel returns this end of the tunnel, or ErrNoTunnel.
func (i *Identity) Tunnel() (Tunnel, error) {
	b := i.Bundle()
	if b.Tunnel == nil {
		return Tunnel{}, ErrNoTunnel
	}
	t := Tunnel{Tunnel: *b.Tunnel}
	key, err := wireGuardFor(i.dir, b)
	if err != nil {
		return t, err
	}
	copy(t.Private[:], key.Bytes())
	if b.Tunnel.PresharedKey == "" {
		return t, nil
	}
	psk, err := readBase64(filepath.Join(i.dir, fmt.Sprintf(pskPattern, b.Tunnel.PresharedKey)))
	if err != nil {
		return t, err
	}
	copy(t.PSK[:], psk)
	return t, nil
}

// wireGuardFor returns the key that the bundle's tunnel is for.
func wireGuardFor(dir string, b identity.Bundle) (*ecdh.PrivateKey, error) {
	for _, name := range []string{wgKeyFile, wgNextFile} {
		key, err := readWireGuard(filepath.Join(dir, name))
		if err == nil && publicText(key) == b.Tunnel.PublicKey {
			return key, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("the hub's tunnel is for another WireGuard key than those in %s: enrol again with a new token", dir)
}

func publicText(key *ecdh.PrivateKey) string {
	return base64.StdEncoding.EncodeToString(key.PublicKey().Bytes())
}

func wireGuardIn(dir, name string) (*ecdh.PrivateKey, error) {
	path := filepath.Join(dir, name)
	key, err := readWireGuard(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if key, err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
		return nil, fmt.Errorf("make %s: %w", name, err)
	}
	if err := writeFile(path, encodeKey(key.Bytes()), 0o600); err != nil {
		return nil, fmt.Errorf("make %s: %w", name, err)
	}
	return key, nil
}

func readWireGuard(path string) (*ecdh.PrivateKey, error) {
	raw, err := readBase64(path)
	if err != nil {
		return nil, err
	}
	return ecdh.X25519().NewPrivateKey(raw)
}

func encodeKey(raw []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(raw) + "\n") }

func readBase64(path string) ([]byte, error) {
	b, err := readSecret(path)
	if err != nil {
		return nil, err
	}
	raw, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(b)))
	if err != nil || len(raw) != 32 {
		return nil, fmt.Errorf("site key %s is not the base64 of 32 bytes: restore it from a backup", path)
	}
	return raw, nil
}

// EvidencePublic returns the public half of the evidence key.
func (i *Identity) EvidencePublic() ed25519.PublicKey {
	return i.Evidence.Public().(ed25519.PublicKey) //nolint:forcetypeassert // ed25519 has no other
}

// SignRecovery signs an identity.RecoverMessage with the evidence key.
func (i *Identity) SignRecovery(message []byte) []byte { return ed25519.Sign(i.Evidence, message) }

// Fingerprint returns the fingerprint of the present keys, as the hub shows it: after a renewal the TLS key, and so the
// fingerprint, is another one. It is "" when a key cannot be read.
func (i *Identity) Fingerprint() string {
	raw, err := identity.NewRequest(i.TLSKey(), i.Evidence)
	if err != nil {
		return ""
	}
	request, err := identity.ParseRequest(raw)
	if err != nil {
		return ""
	}
	b := i.Bundle()
	if b.Tunnel == nil {
		return request.Fingerprint(nil)
	}
	public, err := base64.StdEncoding.DecodeString(b.Tunnel.PublicKey)
	if err != nil {
		return ""
	}
	return request.Fingerprint(public)
}
