package inventory

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Version of the file's form. A program that does not know it must not touch the ids.
const fileVersion = 1

// maxFile bounds what is read: MaxMiners records of full length.
const maxFile = 512 << 20

type file struct {
	Version int       `json:"version"`
	Miners  []*record `json:"miners"`           // by id
	Merges  []merge   `json:"merges,omitempty"` // in the order in which they were found
	Shared  []string  `json:"shared,omitempty"` // "mac:…" and "serial:…" that several devices report
}

func filePath(dir string) string { return filepath.Join(dir, "inventory.json") }

func (v *Inventory) load() error {
	v.miners, v.byAddress = map[ident.MinerID]*record{}, map[string]*record{}
	v.byMAC, v.bySerial, v.shared = map[string]*record{}, map[string]*record{}, map[string]bool{}
	fi, err := os.Stat(v.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("inventory: %w", err)
	}
	if fi.Size() > maxFile {
		return fmt.Errorf("inventory: %s has %d bytes, more than an inventory can have", v.path, fi.Size())
	}
	b, err := os.ReadFile(v.path)
	if err != nil {
		return fmt.Errorf("inventory: %w", err)
	}
	// Starting with new ids would give every miner a second history, so a file that cannot be read stops the agent.
	var f file
	if err := json.Unmarshal(b, &f); err != nil {
		return fmt.Errorf("inventory: %s is damaged (%w): restore it from a backup; without it every miner would get a new id", v.path, err)
	}
	if f.Version != fileVersion {
		return fmt.Errorf("inventory: %s has version %d, this program knows %d: use the agent that wrote it, or a newer one", v.path, f.Version, fileVersion)
	}
	for _, k := range f.Shared {
		v.shared[k] = true
	}
	gone := map[ident.MinerID]bool{}
	for _, m := range f.Merges {
		gone[m.From] = true
	}
	v.merges = f.Merges
	for _, r := range f.Miners {
		if r == nil || r.ID == (ident.MinerID{}) || v.miners[r.ID] != nil {
			return fmt.Errorf("inventory: %s names a miner without an id or twice: restore it from a backup", v.path)
		}
		v.miners[r.ID] = r
		if gone[r.ID] {
			continue
		}
		v.index(r)
		if r.Holds {
			v.byAddress[r.Address] = r
		}
	}
	return nil
}

// Flush makes every change durable; without changes it does nothing. When it has returned nil, all ids that See has given
// out survive a crash.
func (v *Inventory) Flush() error {
	v.flushMu.Lock()
	defer v.flushMu.Unlock()
	b, err := v.snapshot()
	if b == nil || err != nil {
		return err
	}
	if err := replace(v.path, b); err != nil {
		v.mu.Lock()
		v.dirty = true
		v.mu.Unlock()
		return fmt.Errorf("inventory: %w: give the agent a writable directory with free space", err)
	}
	return nil
}

// snapshot returns the file's new content, or nil when it has not changed.
func (v *Inventory) snapshot() ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.dirty {
		return nil, nil
	}
	f := file{Version: fileVersion, Merges: v.merges, Miners: make([]*record, 0, len(v.miners))}
	for _, r := range v.miners {
		f.Miners = append(f.Miners, r)
	}
	slices.SortFunc(f.Miners, func(a, b *record) int { return a.ID.Compare(b.ID) })
	for k := range v.shared {
		f.Shared = append(f.Shared, k)
	}
	slices.Sort(f.Shared)
	b, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("inventory: %w", err)
	}
	v.dirty = false
	return append(b, '\n'), nil
}

// replace writes a file so that a crash leaves the old or the new content, whole.
func replace(path string, b []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if runtime.GOOS == "windows" { // NTFS keeps directories in its journal, and their handles cannot be flushed
		return nil
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Addresses reads the inventory in dir and returns where each miner was last seen; without a file, nothing. It changes
// nothing and may be called while an agent runs.
func Addresses(dir string) (map[ident.MinerID]string, error) {
	v, err := Open(Config{Dir: dir})
	if err != nil {
		return nil, err
	}
	out := make(map[ident.MinerID]string, len(v.miners))
	for id, r := range v.miners {
		out[id] = r.Address
	}
	return out, nil
}
