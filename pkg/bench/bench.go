//go:build unix

// Package bench writes measurements where `make bench` collects them: one JSON list of ratios with the samples behind
// each, so that a reader can recompute every number. Benchmarks call Record; nothing in a running program does.
package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"
)

// FileVariable is the environment variable that names the result file. Without it a benchmark only prints.
const FileVariable = "HSI_BENCH"

// Result is one measured target of limits.md.
type Result struct {
	ID      string               `json:"id"`      // "P1"
	What    string               `json:"what"`    // what was measured, under which load
	Floor   float64              `json:"floor"`   // the floor or peer of the same run, in Unit
	Value   float64              `json:"value"`   // the median measurement, in Unit
	Unit    string               `json:"unit"`    // of floor, value and samples
	Ratio   float64              `json:"ratio"`   // what is compared with the target
	Target  string               `json:"target"`  // "≤ 2.0 × floor"
	Met     bool                 `json:"met"`     // whether the ratio meets the target
	Samples map[string][]float64 `json:"samples"` // every single measurement, by side
}

// Record prints a result and, where HSI_BENCH names a file, puts it there in place of an earlier one of the same ID.
// Benchmarks of several modules may record at once.
func Record(r Result) error {
	mark := "missed"
	if r.Met {
		mark = "met"
	}
	fmt.Printf("%-4s %s: %.4g %s, floor %.4g, ratio %.3g, target %s: %s\n", r.ID, r.What, r.Value, r.Unit, r.Floor, r.Ratio, r.Target, mark)
	path := os.Getenv(FileVariable)
	if path == "" {
		return nil
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("record %s: %w", r.ID, err)
	}
	defer func() { _ = lock.Close() }() // closing releases the lock; nothing was written to it
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("record %s: lock %s: %w", r.ID, lock.Name(), err)
	}
	results, err := Load(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	results = slices.DeleteFunc(results, func(o Result) bool { return o.ID == r.ID })
	results = append(results, r)
	slices.SortFunc(results, func(a, b Result) int { return compareIDs(a.ID, b.ID) })
	b, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return fmt.Errorf("record %s: %w", r.ID, err)
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("record %s: %w", r.ID, err)
	}
	return nil
}

// Load reads a result file.
func Load(path string) ([]Result, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read results: %w", err)
	}
	var results []Result
	if err := json.Unmarshal(b, &results); err != nil {
		return nil, fmt.Errorf("read results in %s: %w", path, err)
	}
	return results, nil
}

// compareIDs orders P2 before P10.
func compareIDs(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	if a < b {
		return -1
	}
	return 1
}

// Median returns the middle of samples (the upper one of an even number). It panics without any.
func Median(samples []float64) float64 {
	s := slices.Clone(samples)
	slices.Sort(s)
	return s[len(s)/2]
}
