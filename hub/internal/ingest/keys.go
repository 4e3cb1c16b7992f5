package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// keyCache remembers evidence keys for a short while, so that a batch costs no query. A key revoked at another hub process is refused here
// within keyTTL.
type keyCache struct {
	store *fleet.Store
	now   func() time.Time
	mu    sync.Mutex
	keys  map[keyName]cachedKey
}

type keyName struct {
	site ident.SiteID
	key  ident.KeyID
}

type cachedKey struct {
	public []byte // nil: why says that there is none to trust
	why    error
	until  time.Time
}

const (
	keyTTL  = 10 * time.Second
	maxKeys = 20_000
)

// errNoKey means that no key of that name may sign for the site.
var errNoKey = errors.New("not a key of this site")

func newKeyCache(store *fleet.Store, now func() time.Time) *keyCache {
	return &keyCache{store: store, now: now, keys: map[keyName]cachedKey{}}
}

// public returns the key that may sign batches of site now. Errors other than errNoKey mean that the database did not answer.
func (c *keyCache) public(ctx context.Context, site ident.SiteID, id ident.KeyID) ([]byte, error) {
	name, now := keyName{site, id}, c.now()
	c.mu.Lock()
	k, ok := c.keys[name]
	c.mu.Unlock()
	if ok && now.Before(k.until) && k.until.Sub(now) <= keyTTL { // else the clock was set back
		return k.public, k.why
	}
	k = cachedKey{until: now.Add(keyTTL)}
	query, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	stored, err := c.store.Key(query, site, id)
	switch {
	case errors.Is(err, fleet.ErrNotFound):
		k.why = fmt.Errorf("key %s: %w: register the agent's evidence key at the hub", id, errNoKey)
	case err != nil:
		return nil, err
	case !stored.RevokedAt.IsZero():
		k.why = fmt.Errorf("key %s was revoked on %s: %w", id, stored.RevokedAt.UTC().Format(time.DateOnly), errNoKey)
	default:
		k.public = stored.Public
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.keys) >= maxKeys { // of 10 s: a flood of unknown names; the few true ones are read again
		clear(c.keys)
	}
	c.keys[name] = k
	return k.public, k.why
}

func (c *keyCache) forget(site ident.SiteID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.keys {
		if name.site == site {
			delete(c.keys, name)
		}
	}
}
