package evidence

import "crypto/ed25519"

const statementTag = "hsi/statement/v1\x00"

// SignStatement signs the canonical bytes of a statement with the hub's evidence key.
func SignStatement(key ed25519.PrivateKey, statement []byte) []byte {
	return sign(key, statementTag, statement)
}

// VerifyStatement checks a statement's signature. The caller has found pub by the key id beside the statement.
func VerifyStatement(pub ed25519.PublicKey, statement, signature []byte) error {
	return verify(pub, statementTag, statement, signature)
}
