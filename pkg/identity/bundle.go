// Package identity is how site and hub know each other: the URI names in their certificates, the site's side of mutual
// TLS, and the files with which a site asks for a certificate and gets it. It keeps no keys and issues nothing: the agent's
// keys package and the hub's pki do.
package identity

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/hashinsight/hashinsight/pkg/ident"
)

// MaxFileSize bounds the files of this package, in bytes.
const MaxFileSize = 64 << 10

const (
	pemCSR         = "CERTIFICATE REQUEST"
	pemEvidence    = "HASHINSIGHT EVIDENCE KEY"
	pemCertificate = "CERTIFICATE"
	requestTag     = "hsi/site-request/v1\x00"
)

// Request is what a site asks of its hub: a certificate for its TLS key, and trust in its evidence key. The file holds no
// secret. It is PEM, two blocks:
//
//	CERTIFICATE REQUEST       PKCS #10, signed by the TLS key; its names are ignored, the hub gives the name
//	HASHINSIGHT EVIDENCE KEY  Ed25519 public key (32 bytes), then its signature (64 bytes) over
//	                          "hsi/site-request/v1\0" ‖ SHA-256 of the PKCS #10 bytes ‖ the public key
//
// So both private keys have shown themselves, and neither half can be moved to another request.
type Request struct {
	CSR      *x509.CertificateRequest
	Evidence ed25519.PublicKey
}

// NewRequest makes the request file of a site.
func NewRequest(tlsKey crypto.Signer, evidence ed25519.PrivateKey) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, tlsKey)
	if err != nil {
		return nil, fmt.Errorf("site request: %w", err)
	}
	pub, ok := evidence.Public().(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("site request: the evidence key is not Ed25519")
	}
	proof := append(bytes.Clone(pub), ed25519.Sign(evidence, requestMessage(der, pub))...)
	var b bytes.Buffer
	err = errors.Join(
		pem.Encode(&b, &pem.Block{Type: pemCSR, Bytes: der}),
		pem.Encode(&b, &pem.Block{Type: pemEvidence, Bytes: proof}),
	)
	return b.Bytes(), err
}

// ParseRequest reads a request file and checks both signatures.
func ParseRequest(b []byte) (Request, error) {
	if len(b) > MaxFileSize {
		return Request{}, fmt.Errorf("site request: longer than %d bytes", MaxFileSize)
	}
	csrBlock, rest := pem.Decode(b)
	if csrBlock == nil || csrBlock.Type != pemCSR {
		return Request{}, fmt.Errorf("site request: does not begin with a PEM block %q: make the file with hashinsight-agent keys init", pemCSR)
	}
	keyBlock, rest := pem.Decode(rest)
	if keyBlock == nil || keyBlock.Type != pemEvidence {
		return Request{}, fmt.Errorf("site request: has no PEM block %q after the first", pemEvidence)
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return Request{}, errors.New("site request: goes on after its two PEM blocks")
	}
	csr, err := x509.ParseCertificateRequest(csrBlock.Bytes)
	if err != nil {
		return Request{}, fmt.Errorf("site request: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return Request{}, fmt.Errorf("site request: the TLS key did not sign it: %w", err)
	}
	if len(keyBlock.Bytes) != ed25519.PublicKeySize+ed25519.SignatureSize {
		return Request{}, fmt.Errorf("site request: evidence key block of %d bytes, want %d", len(keyBlock.Bytes), ed25519.PublicKeySize+ed25519.SignatureSize)
	}
	pub := ed25519.PublicKey(keyBlock.Bytes[:ed25519.PublicKeySize])
	if !ed25519.Verify(pub, requestMessage(csr.Raw, pub), keyBlock.Bytes[ed25519.PublicKeySize:]) {
		return Request{}, errors.New("site request: the evidence key did not sign it")
	}
	return Request{CSR: csr, Evidence: pub}, nil
}

func requestMessage(csr []byte, pub ed25519.PublicKey) []byte {
	sum := sha256.Sum256(csr)
	return append(append([]byte(requestTag), sum[:]...), pub...)
}

// Bundle is the hub's answer to a Request: who the site is, and whom it shall trust. The file holds no secret. It is
// JSON; members that a program does not know are ignored, so that an older agent reads a newer hub's bundle.
type Bundle struct {
	Site        ident.SiteID
	SiteName    string
	HubAddress  string              // host:port of the hub's gRPC listener, or of several, separated by commas
	Certificate []*x509.Certificate // the site's own first, then intermediates if there are any
	CA          []*x509.Certificate // roots that sign the hub's certificate
	HubEvidence []ed25519.PublicKey // keys whose acknowledgements count
	Tunnel      *Tunnel             // nil: the hub is reached without WireGuard
	// FallbackAddress is the hub's listener on TCP 443, host:port, for networks that let no UDP pass; "" where that is not allowed.
	FallbackAddress string
}

// Tunnel is a site's end of the WireGuard tunnel to its hub. Private key and preshared key are no part of it: they lie in
// files of their own at the site.
type Tunnel struct {
	PublicKey    string        // of the site, as the hub has it: base64 as wg prints keys
	Address      netip.Prefix  // of the site inside the tunnel
	HubKeys      []string      // the hub's public keys, base64; the first is the present one
	Endpoint     string        // host:port of the hub's WireGuard, UDP
	HubAddress   string        // host:port of the hub's listener for agents inside the tunnel
	Keepalive    time.Duration // 0: none
	PresharedKey string        // PSKID of the preshared key that belongs to this; "" without one
}

// PSKID names a preshared key without telling it.
func PSKID(psk []byte) string {
	if len(psk) == 0 {
		return ""
	}
	sum := sha256.Sum256(append([]byte("hsi/psk-id/v1\x00"), psk...))
	return hex.EncodeToString(sum[:8])
}

type tunnelFile struct {
	PublicKey    string       `json:"public_key"`
	Address      netip.Prefix `json:"address"`
	HubKeys      []string     `json:"hub_keys"`
	Endpoint     string       `json:"endpoint"`
	HubAddress   string       `json:"hub_address"`
	KeepaliveS   int          `json:"keepalive_s,omitempty"`
	PresharedKey string       `json:"preshared_key_id,omitempty"`
}

const maxKeepalive = time.Hour

func (f *tunnelFile) parse() (*Tunnel, error) {
	if f == nil {
		return nil, nil //nolint:nilnil // a bundle without a tunnel
	}
	t := &Tunnel{PublicKey: f.PublicKey, Address: f.Address, HubKeys: f.HubKeys, Endpoint: f.Endpoint, HubAddress: f.HubAddress,
		Keepalive: time.Duration(f.KeepaliveS) * time.Second, PresharedKey: f.PresharedKey}
	if !t.Address.IsValid() {
		return nil, errors.New("no address")
	}
	if len(t.HubKeys) == 0 || len(t.HubKeys) > 4 {
		return nil, fmt.Errorf("%d hub_keys, want one to four", len(t.HubKeys))
	}
	for _, k := range append([]string{t.PublicKey}, t.HubKeys...) {
		if raw, err := base64.StdEncoding.DecodeString(k); err != nil || len(raw) != 32 {
			return nil, fmt.Errorf("%.60q is not the base64 of 32 bytes", k)
		}
	}
	if _, _, err := net.SplitHostPort(t.Endpoint); err != nil {
		return nil, fmt.Errorf("endpoint: %w", err)
	}
	if _, err := netip.ParseAddrPort(t.HubAddress); err != nil {
		return nil, fmt.Errorf("hub_address: %w", err)
	}
	if t.Keepalive < 0 || t.Keepalive > maxKeepalive {
		return nil, fmt.Errorf("keepalive_s %d, want 0 to %d", f.KeepaliveS, int(maxKeepalive.Seconds()))
	}
	return t, nil
}

const bundleFormat = "hsi/site-bundle/v1"

type bundleFile struct {
	Format      string       `json:"format"`
	Site        ident.SiteID `json:"site_id"`
	SiteName    string       `json:"site_name"`
	HubAddress  string       `json:"hub_address"`
	Certificate string       `json:"certificate"`
	CA          string       `json:"ca"`
	HubEvidence []string     `json:"hub_evidence_keys"`
	Tunnel      *tunnelFile  `json:"tunnel,omitempty"`
	Fallback    string       `json:"fallback_address,omitempty"`
}

// Encode returns the file's bytes.
func (b Bundle) Encode() ([]byte, error) {
	f := bundleFile{
		Format: bundleFormat, Site: b.Site, SiteName: b.SiteName, HubAddress: b.HubAddress,
		Certificate: EncodeCertificates(b.Certificate), CA: EncodeCertificates(b.CA), Fallback: b.FallbackAddress,
	}
	if t := b.Tunnel; t != nil {
		f.Tunnel = &tunnelFile{
			PublicKey: t.PublicKey, Address: t.Address, HubKeys: t.HubKeys, Endpoint: t.Endpoint, HubAddress: t.HubAddress,
			KeepaliveS: int(t.Keepalive / time.Second), PresharedKey: t.PresharedKey,
		}
	}
	for _, k := range b.HubEvidence {
		f.HubEvidence = append(f.HubEvidence, base64.StdEncoding.EncodeToString(k))
	}
	out, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("site bundle: %w", err)
	}
	out = append(out, '\n')
	if _, err := ParseBundle(out); err != nil { // never hand out what the other side refuses
		return nil, err
	}
	return out, nil
}

// ParseBundle reads a bundle file. It checks form and completeness; whether the certificate fits the site's key, and
// whether it is valid now, is for the caller who has key and clock.
func ParseBundle(data []byte) (Bundle, error) {
	if len(data) > MaxFileSize {
		return Bundle{}, fmt.Errorf("site bundle: longer than %d bytes", MaxFileSize)
	}
	var f bundleFile
	if err := json.Unmarshal(data, &f); err != nil {
		return Bundle{}, fmt.Errorf("site bundle: not the file that hashinsight-hub site register writes: %w", err)
	}
	if f.Format != bundleFormat {
		return Bundle{}, fmt.Errorf("site bundle: format %.40q is not known, want %q: make it with hashinsight-hub site register", f.Format, bundleFormat)
	}
	b := Bundle{Site: f.Site, SiteName: f.SiteName, HubAddress: f.HubAddress}
	if (f.Site == ident.SiteID{}) {
		return Bundle{}, errors.New("site bundle: no site_id")
	}
	for address := range strings.SplitSeq(f.HubAddress, ",") {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return Bundle{}, fmt.Errorf("site bundle: hub_address: %w", err)
		}
	}
	var err error
	if b.Certificate, err = ParseCertificates([]byte(f.Certificate)); err != nil {
		return Bundle{}, fmt.Errorf("site bundle: certificate: %w", err)
	}
	if b.CA, err = ParseCertificates([]byte(f.CA)); err != nil {
		return Bundle{}, fmt.Errorf("site bundle: ca: %w", err)
	}
	for _, s := range f.HubEvidence {
		k, err := base64.StdEncoding.DecodeString(s)
		if err != nil || len(k) != ed25519.PublicKeySize {
			return Bundle{}, fmt.Errorf("site bundle: hub_evidence_keys: %.60q is not the base64 of %d bytes", s, ed25519.PublicKeySize)
		}
		b.HubEvidence = append(b.HubEvidence, k)
	}
	if len(b.HubEvidence) == 0 {
		return Bundle{}, errors.New("site bundle: no hub_evidence_keys")
	}
	if b.Tunnel, err = f.Tunnel.parse(); err != nil {
		return Bundle{}, fmt.Errorf("site bundle: tunnel: %w", err)
	}
	if b.FallbackAddress = f.Fallback; f.Fallback != "" {
		if _, _, err := net.SplitHostPort(f.Fallback); err != nil {
			return Bundle{}, fmt.Errorf("site bundle: fallback_address: %w", err)
		}
	}
	return b, nil
}

// EncodeCertificates writes certificates as PEM, one after another.
func EncodeCertificates(certs []*x509.Certificate) string {
	var b bytes.Buffer
	for _, c := range certs {
		_ = pem.Encode(&b, &pem.Block{Type: pemCertificate, Bytes: c.Raw}) // a Buffer takes everything
	}
	return b.String()
}

// ParseCertificates reads at least one certificate from PEM, and nothing but certificates.
func ParseCertificates(b []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		b = bytes.TrimSpace(b)
		if len(b) == 0 {
			break
		}
		block, rest := pem.Decode(b)
		if block == nil || block.Type != pemCertificate {
			return nil, fmt.Errorf("not PEM blocks %q", pemCertificate)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, c)
		b = rest
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate")
	}
	return certs, nil
}
