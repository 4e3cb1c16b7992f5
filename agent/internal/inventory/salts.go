package inventory

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/hashinsight/hashinsight/pkg/ident"
)

// SaltKey is the secret from which the salts of one miner's leaves are made (evidence.SaltOf). Whoever does not have it cannot tell a
// miner's facts from their hash by trying.
type SaltKey [32]byte

// saltsVersion is that of the file's form.
const saltsVersion = 1

// maxSalts bounds what is read: MaxMiners records.
const maxSalts = 32 << 20

// Salts keeps the salt key of every miner, in a file of its own beside the inventory, and whether the hub has been told it. It is safe for
// use by several goroutines.
type Salts struct {
	path string

	mu    sync.Mutex
	salts map[ident.MinerID]*salt
}

type salt struct {
	Miner ident.MinerID `json:"id"`
	Key   string        `json:"key"` // hex
	Told  bool          `json:"told,omitempty"`

	key SaltKey
}

type saltFile struct {
	Version int     `json:"version"`
	Salts   []*salt `json:"salts"` // by miner
}

// OpenSalts reads the keys in dir, or begins without any. A file that cannot be read is an error: with new keys no hour of its miners could
// be recomputed at the hub, which keeps the first key that it is told.
func OpenSalts(dir string) (*Salts, error) {
	s := &Salts{path: filepath.Join(dir, "salts.json"), salts: map[ident.MinerID]*salt{}}
	info, err := os.Stat(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("salt keys: %w", err)
	}
	if info.Size() > maxSalts {
		return nil, fmt.Errorf("salt keys: %s has %d bytes, more than a site's keys can have: restore it from a backup", s.path, info.Size())
	}
	b, err := os.ReadFile(s.path)
	if err != nil {
		return nil, fmt.Errorf("salt keys: %w", err)
	}
	var f saltFile
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("salt keys: %s is damaged (%w): restore it from a backup; the hub keeps the first key it is told of each miner", s.path, err)
	}
	if f.Version != saltsVersion {
		return nil, fmt.Errorf("salt keys: %s has version %d, this program knows %d: use the agent that wrote it, or a newer one", s.path, f.Version, saltsVersion)
	}
	for _, x := range f.Salts {
		key, err := hex.DecodeString(x.Key)
		if err != nil || len(key) != len(x.key) || s.salts[x.Miner] != nil {
			return nil, fmt.Errorf("salt keys: %s names a miner twice or without a whole key: restore it from a backup", s.path)
		}
		x.key = SaltKey(key)
		s.salts[x.Miner] = x
	}
	return s, nil
}

// Keys returns the keys of miners, in their order. Missing ones are made, and are durable when it returns without an error.
func (s *Salts) Keys(miners []ident.MinerID) ([]SaltKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out, fresh := make([]SaltKey, len(miners)), []ident.MinerID(nil)
	for i, m := range miners {
		x := s.salts[m]
		if x == nil {
			x = &salt{Miner: m}
			_, _ = rand.Read(x.key[:]) // it never fails
			x.Key = hex.EncodeToString(x.key[:])
			s.salts[m], fresh = x, append(fresh, m)
		}
		out[i] = x.key
	}
	if len(fresh) == 0 {
		return out, nil
	}
	if err := s.write(); err != nil {
		for _, m := range fresh { // a key that a crash could lose must not be used
			delete(s.salts, m)
		}
		return nil, err
	}
	return out, nil
}

// Key returns the key of a miner that has one.
func (s *Salts) Key(m ident.MinerID) (SaltKey, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.salts[m]; x != nil {
		return x.key, true
	}
	return SaltKey{}, false
}

// Untold returns at most limit keys that the hub does not have yet, but for those of some miners.
func (s *Salts) Untold(limit int, but map[ident.MinerID]bool) map[ident.MinerID]SaltKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[ident.MinerID]SaltKey{}
	for m, x := range s.salts {
		if len(out) == limit {
			break
		}
		if !x.Told && !but[m] {
			out[m] = x.key
		}
	}
	return out
}

// UntoldLen returns how many keys the hub does not have yet.
func (s *Salts) UntoldLen() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.salts {
		if !x.Told {
			n++
		}
	}
	return n
}

// Told notes that the hub has these keys. Forgetting it, in a crash, only tells them again.
func (s *Salts) Told(keys map[ident.MinerID]SaltKey) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for m, k := range keys {
		if x := s.salts[m]; x != nil && x.key == k {
			x.Told = true
		}
	}
	return s.write()
}

// write replaces the file. The caller holds mu.
func (s *Salts) write() error {
	f := saltFile{Version: saltsVersion, Salts: make([]*salt, 0, len(s.salts))}
	for _, x := range s.salts {
		f.Salts = append(f.Salts, x)
	}
	slices.SortFunc(f.Salts, func(a, b *salt) int { return a.Miner.Compare(b.Miner) })
	b, err := json.Marshal(f)
	if err == nil {
		err = replace(s.path, append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("salt keys: %w: give the agent a writable directory with free space", err)
	}
	return nil
}
