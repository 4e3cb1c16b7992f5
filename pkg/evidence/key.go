package evidence

import (
	"crypto/ed25519"
	"fmt"

	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Key is the payload of a batch of kind key: the site's evidence key, said in the chain that it signs. It is the first batch of a
// spool, and comes again when the key is another one; the batch's own signature shows that its maker holds the key, and the
// hub's acknowledgement that the hub knew it as the site's.
//
//	offset width field
//	     0    11 tag "hsi/key/v1\0"
//	    11    16 site id
//	    27    32 public key, Ed25519
type Key struct {
	Site   ident.SiteID
	Public ed25519.PublicKey
}

const keyTag = "hsi/key/v1\x00"

// KeySize is the length of an encoded key record in bytes.
const KeySize = 59

// Bytes returns the fixed form.
func (k *Key) Bytes() []byte {
	b := make([]byte, 0, KeySize)
	b = append(b, keyTag...)
	b = append(b, k.Site[:]...)
	return append(b, k.Public...)
}

// ParseKey reads the fixed form.
func ParseKey(b []byte) (Key, error) {
	if len(b) != KeySize || string(b[:len(keyTag)]) != keyTag {
		return Key{}, fmt.Errorf("key record: %d bytes without the tag %q, want %d bytes", len(b), keyTag, KeySize)
	}
	return Key{Site: ident.SiteID(b[11:27]), Public: ed25519.PublicKey(append([]byte{}, b[27:]...))}, nil
}
