package proof

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/note"

	format "github.com/hashinsight/hashinsight/pkg/proof"
)

// algEd25519 is the algorithm's number in key hashes of signed notes.
const algEd25519 = 1

// signer signs checkpoints: note.Signer.
type signer struct {
	origin string
	key    ed25519.PrivateKey
}

// Name implements note.Signer.
func (s *signer) Name() string { return s.origin }

// KeyHash implements note.Signer.
func (s *signer) KeyHash() uint32 { return keyHash(s.origin, s.public()) }

// Sign implements note.Signer.
func (s *signer) Sign(msg []byte) ([]byte, error) { return ed25519.Sign(s.key, msg), nil }

func (s *signer) public() ed25519.PublicKey {
	return s.key.Public().(ed25519.PublicKey) //nolint:forcetypeassert // ed25519 has no other
}

func keyHash(origin string, public ed25519.PublicKey) uint32 {
	h := sha256.New()
	h.Write([]byte(origin + "\n"))
	h.Write(append([]byte{algEd25519}, public...))
	return binary.BigEndian.Uint32(h.Sum(nil))
}

// verifier checks checkpoints with a key of this hub.
func verifier(origin string, public ed25519.PublicKey) (note.Verifier, error) {
	return note.NewVerifier(fmt.Sprintf("%s+%08x+%s", origin, keyHash(origin, public), base64.StdEncoding.EncodeToString(append([]byte{algEd25519}, public...))))
}

// VerifierKey returns the log's public key in the form that other tools for signed notes take.
func VerifierKey(origin string, public ed25519.PublicKey) string {
	return fmt.Sprintf("%s+%08x+%s", origin, keyHash(origin, public), base64.StdEncoding.EncodeToString(append([]byte{algEd25519}, public...)))
}

const qHubKeyNoted = `SELECT EXISTS (SELECT FROM log_entry WHERE kind = $1 AND ref = $2)`

// noteHubKeys announces the hub's own keys, once.
func (s *Store) noteHubKeys(ctx context.Context) error {
	var missing []format.Entry
	for _, k := range []struct {
		role format.HubKeyRole
		key  ed25519.PrivateKey
	}{{format.HubKeyEvidence, s.c.Evidence()}, {format.HubKeyCheckpoint, s.c.Key()}} {
		if k.key == nil {
			continue
		}
		b := format.HubKeyBody{Role: k.role, Event: format.KeyAdded, Public: [ed25519.PublicKeySize]byte(k.key.Public().(ed25519.PublicKey))} //nolint:forcetypeassert // as above
		e := b.Entry(s.c.Now().UnixMilli())
		ref := e.Ref()
		var there bool
		if err := s.jobs.QueryRow(ctx, qHubKeyNoted, int16(e.Kind), ref[:]).Scan(&there); err != nil {
			return fmt.Errorf("looking for the hub's keys in the log: %w", err)
		}
		if !there {
			missing = append(missing, e)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return s.inTx(ctx, func(tx pgx.Tx) error { return Note(ctx, tx, missing...) })
}
