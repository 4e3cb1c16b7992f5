package pki

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"slices"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
)

// A root's file, for keeping offline: PEM, the root's certificate and its private key as PKCS #8, encrypted with a passphrase by PBES2 (PBKDF2 with
// HMAC-SHA-256, AES-256-CBC; RFC 8018). It can be read without this program: openssl pkey -in FILE.
const (
	pemRootKey  = "ENCRYPTED PRIVATE KEY"
	pemRootCert = "CERTIFICATE"
	rootRounds  = 600_000 // of PBKDF2: OWASP's figure for HMAC-SHA-256, 2023
	maxRounds   = 10_000_000

	// MinPassphrase is how many bytes a root's passphrase has at least.
	MinPassphrase = 12
	// MaxRootFile bounds a root's file, in bytes.
	MaxRootFile = 64 << 10
)

var (
	oidPBES2      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidHMACSHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidAES256CBC  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
)

type encryptedKey struct {
	Algorithm struct {
		OID    asn1.ObjectIdentifier
		Params pbes2
	}
	Data []byte
}

type pbes2 struct {
	KDF struct {
		OID    asn1.ObjectIdentifier
		Params struct {
			Salt   []byte
			Rounds int
			PRF    pkix.AlgorithmIdentifier
		}
	}
	Cipher struct {
		OID asn1.ObjectIdentifier
		IV  []byte
	}
}

func errRootFile(format string, args ...any) error {
	return apperr.E(apperr.Invalid, "VALID_001", "the root's file: "+format, args...)
}

// encodeRoot writes a root's file.
func encodeRoot(root *x509.Certificate, key crypto.Signer, passphrase []byte) ([]byte, error) {
	if len(passphrase) < MinPassphrase {
		return nil, apperr.E(apperr.Invalid, "VALID_001", "the passphrase has %d bytes, want at least %d: whoever has the file can try all short ones", len(passphrase), MinPassphrase)
	}
	plain, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	random := make([]byte, 16+aes.BlockSize)
	if _, err := rand.Read(random); err != nil {
		return nil, err
	}
	var e encryptedKey
	e.Algorithm.OID = oidPBES2
	p := &e.Algorithm.Params
	p.KDF.OID, p.Cipher.OID = oidPBKDF2, oidAES256CBC
	p.KDF.Params.Salt, p.KDF.Params.Rounds, p.KDF.Params.PRF = random[:16], rootRounds, pkix.AlgorithmIdentifier{Algorithm: oidHMACSHA256, Parameters: asn1.NullRawValue}
	p.Cipher.IV = random[16:]
	block, err := p.block(passphrase)
	if err != nil {
		return nil, err
	}
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	e.Data = append(plain, bytes.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(block, p.Cipher.IV).CryptBlocks(e.Data, e.Data)
	der, err := asn1.Marshal(e)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = errors.Join(pem.Encode(&out, &pem.Block{Type: pemRootCert, Bytes: root.Raw}), pem.Encode(&out, &pem.Block{Type: pemRootKey, Bytes: der}))
	return out.Bytes(), err
}

func (p *pbes2) block(passphrase []byte) (cipher.Block, error) {
	key, err := pbkdf2.Key(sha256.New, string(passphrase), p.KDF.Params.Salt, p.KDF.Params.Rounds, 32)
	if err != nil {
		return nil, err
	}
	return aes.NewCipher(key)
}

// decodeRoot reads a root's file.
func decodeRoot(file, passphrase []byte) (*x509.Certificate, crypto.Signer, error) {
	if len(file) > MaxRootFile {
		return nil, nil, errRootFile("longer than %d bytes", MaxRootFile)
	}
	var root *x509.Certificate
	var e encryptedKey
	found := false
	for {
		var block *pem.Block
		if block, file = pem.Decode(file); block == nil {
			break
		}
		switch block.Type {
		case pemRootCert:
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, nil, errRootFile("%w", err)
			}
			root = c
		case pemRootKey:
			if rest, err := asn1.Unmarshal(block.Bytes, &e); err != nil || len(rest) > 0 {
				return nil, nil, errRootFile("its key is not encrypted in the way that ca init does")
			}
			found = true
		}
	}
	if root == nil || !found {
		return nil, nil, errRootFile("want PEM blocks %q and %q, as ca init wrote them", pemRootCert, pemRootKey)
	}
	p := &e.Algorithm.Params
	if !e.Algorithm.OID.Equal(oidPBES2) || !p.KDF.OID.Equal(oidPBKDF2) || !p.KDF.Params.PRF.Algorithm.Equal(oidHMACSHA256) || !p.Cipher.OID.Equal(oidAES256CBC) ||
		p.KDF.Params.Rounds < 1 || p.KDF.Params.Rounds > maxRounds || len(p.Cipher.IV) != aes.BlockSize || len(e.Data) == 0 || len(e.Data)%aes.BlockSize != 0 {
		return nil, nil, errRootFile("its key is not encrypted in the way that ca init does")
	}
	block, err := p.block(passphrase)
	if err != nil {
		return nil, nil, errRootFile("%w", err)
	}
	plain := slices.Clone(e.Data)
	cipher.NewCBCDecrypter(block, p.Cipher.IV).CryptBlocks(plain, plain)
	if pad := int(plain[len(plain)-1]); pad >= 1 && pad <= aes.BlockSize {
		plain = plain[:len(plain)-pad]
	}
	// A wrong passphrase gives noise, which is no key, and certainly not this root's.
	key, err := parseKey(plain, root)
	if err != nil {
		return nil, nil, errRootFile("the passphrase is wrong, or the file is damaged")
	}
	return root, key, nil
}
