package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// reserve is how many serial numbers ahead of the last one are written to the state file before they are given out: a
// fleet that was killed goes on behind them, and so never gives one twice.
const reserve = 1 << 20

// stateFile keeps serial numbers, start times and counters over a restart of the process.
type stateFile struct {
	path  string
	dirty atomic.Bool // a fault was scheduled: counters no longer follow from the seed alone
}

// savedMiner is a miner in the state file. Hashes and At are where its counter goes on.
type savedMiner struct {
	Serial uint64    `json:"serial"`
	Boot   time.Time `json:"boot"`
	At     time.Time `json:"at"`
	Hashes float64   `json:"hashes"`
}

type savedFleet struct {
	Seed   uint64                `json:"seed"`
	Miners map[string]savedMiner `json:"miners"` // by machine and address
}

func (m *miner) stateKey() string { return m.spec.name + " " + m.address }

// load puts a saved state into a fleet that has not been scheduled anything yet. Miners that the file does not know begin anew.
func (s *stateFile) load(f *Fleet) error {
	raw, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("state of the fleet: %w", err)
	}
	var saved savedFleet
	if err := json.Unmarshal(raw, &saved); err != nil {
		return fmt.Errorf("state of the fleet %s: %w; delete the file to begin anew, with serial numbers that may have been used", s.path, err)
	}
	if saved.Seed != f.conf.Seed {
		return fmt.Errorf("state of the fleet %s belongs to seed %d, not %d; use that seed, or another file", s.path, saved.Seed, f.conf.Seed)
	}
	for _, m := range f.miners {
		if m.spec == nil {
			continue
		}
		if was, ok := saved.Miners[m.stateKey()]; ok {
			m.serial = was.Serial
			m.plan.steps = []step{{at: was.At, boot: was.Boot, factor: 1, sum: was.Hashes}}
		}
	}
	return nil
}

// save writes the state, whole or not at all. While the fleet runs, serial numbers are saved ahead of their use.
func (s *stateFile) save(f *Fleet, final bool) error {
	saved := savedFleet{Seed: f.conf.Seed, Miners: make(map[string]savedMiner, len(f.miners))}
	now := f.now().UTC().Round(0)
	for _, m := range f.miners {
		if m.spec == nil {
			continue
		}
		m.mu.Lock()
		last := m.plan.stepAt(now)
		sm := savedMiner{Serial: m.serial, Boot: last.boot, At: now, Hashes: m.plan.hashes(&m.rhythm, now)}
		m.mu.Unlock()
		if !final {
			sm.Serial += reserve
		}
		saved.Miners[m.stateKey()] = sm
	}
	raw, err := json.Marshal(saved)
	if err != nil {
		return fmt.Errorf("state of the fleet: %w", err)
	}
	if err := replaceFile(s.path, raw); err != nil {
		return fmt.Errorf("state of the fleet: %w", err)
	}
	return nil
}

// replaceFile writes a file so that a reader sees the old content or the new.
func replaceFile(path string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(content)
	err = errors.Join(err, tmp.Sync(), tmp.Chmod(0o644), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		os.Remove(tmp.Name())
	}
	return err
}
