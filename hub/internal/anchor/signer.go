package anchor

import (
	"context"
	"crypto/ecdsa"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/ethereum/go-ethereum/accounts/keystore"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
)

// ErrNoKey is the lack of a key to sign with.
var ErrNoKey = errors.New("chain key not configured: set BLOCKCHAIN_PRIVATE_KEY, or BLOCKCHAIN_KEYSTORE")

// Signer signs an account's transactions. Where the key lies is its own business: in this process, or in a key service that takes a hash and gives a signature.
type Signer interface {
	Address() [20]byte
	// SignTx returns the transaction, whose chain id is set, with its signature.
	SignTx(ctx context.Context, tx *types.Transaction) (*types.Transaction, error)
}

// localKey is a key in this process. Nothing prints it.
type localKey struct {
	key     *ecdsa.PrivateKey
	address [20]byte
}

// Address implements Signer.
func (k *localKey) Address() [20]byte { return k.address }

// SignTx implements Signer.
func (k *localKey) SignTx(_ context.Context, tx *types.Transaction) (*types.Transaction, error) {
	return types.SignTx(tx, types.LatestSignerForChainID(tx.ChainId()), k.key)
}

// String implements fmt.Stringer, without the key.
func (k *localKey) String() string { return "key of " + AddressText(k.address) }

// GoString implements fmt.GoStringer, without the key.
func (k *localKey) GoString() string { return k.String() }

// Format implements fmt.Formatter: no verb shows the key.
func (k *localKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// LogValue implements slog.LogValuer, without the key.
func (k *localKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

func local(key *ecdsa.PrivateKey) *localKey {
	return &localKey{key: key, address: crypto.PubkeyToAddress(key.PublicKey)}
}

// ParseKey reads a private key: 0x and 64 hex digits. Its errors do not repeat it.
func ParseKey(text string) (Signer, error) {
	digits, ok := strings.CutPrefix(text, "0x")
	b, err := hex.DecodeString(digits)
	if !ok || err != nil || len(b) != 32 {
		return nil, errors.New("is malformed: want 0x and 64 hex digits")
	}
	key, err := crypto.ToECDSA(b)
	if err != nil {
		return nil, errors.New("is not a key of the curve secp256k1: want a number from 1 to the curve's order")
	}
	return local(key), nil
}

// maxKeystore bounds a keystore file in bytes.
const maxKeystore = 64 << 10

// OpenKeystore reads a key from a keystore file (Web3 Secret Storage, versions 1 and 3), as geth, clef and most wallets write them.
func OpenKeystore(path, password string) (Signer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the keystore: %w", err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxKeystore+1))
	if err != nil {
		return nil, fmt.Errorf("reading the keystore: %w", err)
	}
	if len(b) > maxKeystore {
		return nil, fmt.Errorf("%s is larger than %d bytes: it is no keystore file", path, maxKeystore)
	}
	key, err := keystore.DecryptKey(b, password)
	if errors.Is(err, keystore.ErrDecrypt) {
		return nil, fmt.Errorf("%s does not open with this password", path)
	}
	if err != nil {
		return nil, fmt.Errorf("%s is not a keystore file that can be read", path) // the cause could quote it
	}
	return local(key.PrivateKey), nil
}

// NewKey makes a key, and the text that ParseKey reads.
func NewKey() (Signer, string, error) {
	key, err := crypto.GenerateKey()
	if err != nil {
		return nil, "", err
	}
	return local(key), "0x" + hex.EncodeToString(crypto.FromECDSA(key)), nil
}
