package identity

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// EnrolALPN is the TLS application protocol of callers that enrol, renew, recover or sync.
const EnrolALPN = "hsi-enrol/1"

// EnrolProtocol is the version of package enrol.v1 that this program speaks, and the oldest that it understands.
const (
	EnrolProtocol       = 1
	EnrolProtocolOldest = 1
)

const (
	wireGuardTag   = "hsi/enrol-wireguard/v1\x00"
	recoverTag     = "hsi/recover/v1\x00"
	fingerprintTag = "hsi/fingerprint/v1\x00"
)

// WireGuardProof shows that somebody holds both ends of an X25519 agreement: HMAC-SHA256, under the shared secret of
// the site's WireGuard key and the hub's key of the challenge, over the tag, the SHA-256 of the challenge, the site's public
// key, and the SHA-256 of what the key is bound to (a site request; empty for a rotation). The site calls it with its private
// key and the hub's public one, the hub the other way round. A key of low order is an error.
func WireGuardProof(private *ecdh.PrivateKey, public *ecdh.PublicKey, site []byte, challenge, bound []byte) ([]byte, error) {
	shared, err := private.ECDH(public)
	if err != nil {
		return nil, fmt.Errorf("wireguard key: %w", err)
	}
	mac := hmac.New(sha256.New, shared)
	c, b := sha256.Sum256(challenge), sha256.Sum256(bound)
	mac.Write([]byte(wireGuardTag))
	mac.Write(c[:])
	mac.Write(site)
	mac.Write(b[:])
	return mac.Sum(nil), nil
}

// RecoverMessage is what a site's TLS key and evidence key sign to get a certificate back: the tag, then the SHA-256 of
// challenge, PKCS #10 bytes and the expired certificate.
func RecoverMessage(challenge, csr, certificate []byte) []byte {
	c, r, x := sha256.Sum256(challenge), sha256.Sum256(csr), sha256.Sum256(certificate)
	m := append([]byte(recoverTag), c[:]...)
	m = append(m, r[:]...)
	return append(m, x[:]...)
}

// SignRecovery signs a RecoverMessage with a site's TLS key.
func SignRecovery(key crypto.Signer, message []byte) ([]byte, error) {
	sum := sha256.Sum256(message)
	sig, err := key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("recovery: %w", err)
	}
	return sig, nil
}

// CheckRecovery checks both signatures over a RecoverMessage.
func CheckRecovery(certificate *x509.Certificate, evidence ed25519.PublicKey, message, tlsSignature, evidenceSignature []byte) error {
	pub, ok := certificate.PublicKey.(*ecdsa.PublicKey)
	sum := sha256.Sum256(message)
	if !ok || !ecdsa.VerifyASN1(pub, sum[:], tlsSignature) {
		return errors.New("recovery: the certificate's key did not sign it")
	}
	if len(evidence) != ed25519.PublicKeySize || !ed25519.Verify(evidence, message, evidenceSignature) {
		return errors.New("recovery: the evidence key did not sign it")
	}
	return nil
}

// NewCSR makes a certificate request (PKCS #10, DER) without names: the hub gives them.
func NewCSR(key crypto.Signer) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	return der, nil
}

// KeysHash names a site's three public keys: SHA-256 over the tag, the evidence key, the SHA-256 of the TLS key
// (SubjectPublicKeyInfo) and the WireGuard key (nothing without one).
func (r Request) KeysHash(wireGuard []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte(fingerprintTag))
	h.Write(r.Evidence)
	tls := sha256.Sum256(r.CSR.RawSubjectPublicKeyInfo)
	h.Write(tls[:])
	h.Write(wireGuard)
	return [sha256.Size]byte(h.Sum(nil))
}

// Fingerprint is KeysHash in a form that two people can compare by voice: its first 16 bytes in eight groups of hex digits.
func (r Request) Fingerprint(wireGuard []byte) string {
	return FormatFingerprint(r.KeysHash(wireGuard))
}

// FormatFingerprint shows a KeysHash.
func FormatFingerprint(hash [sha256.Size]byte) string {
	text := hex.EncodeToString(hash[:16])
	groups := make([]string, 0, 8)
	for i := 0; i < len(text); i += 4 {
		groups = append(groups, text[i:i+4])
	}
	return strings.Join(groups, "-")
}
