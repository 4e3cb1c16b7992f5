package access

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"math/big"
	"strings"
)

// keyDigits is how many base62 digits 256 bits need.
const keyDigits = 43

// newKey makes a key for an environment ("prod" or "dev") with 256 random bits.
func newKey(env string) string {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails: it ends the program instead
	text := new(big.Int).SetBytes(secret[:]).Text(62)
	return keyPrefix(env) + strings.Repeat("0", keyDigits-len(text)) + text
}

func keyPrefix(env string) string { return "hsi_" + env + "_key_" }

// hashKey returns the stored form of a key and whether the text has the form of one. A plain hash
// is enough: nobody guesses 256 random bits, so there is nothing for a slow hash to protect.
func hashKey(env, key string) (hash [sha256.Size]byte, ok bool) {
	digits, found := strings.CutPrefix(key, keyPrefix(env))
	if !found || len(digits) != keyDigits {
		return hash, false
	}
	for _, c := range []byte(digits) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return hash, false
		}
	}
	return sha256.Sum256([]byte(key)), true
}

// checkEnv refuses anything that is not an environment part of keys.
func checkEnv(env string) error {
	if env != "prod" && env != "dev" {
		return fmt.Errorf("environment %q is neither prod nor dev: set HASHINSIGHT_ENV", env)
	}
	return nil
}
