package spool

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Names in a spool directory. Others beside segments are notes, see WriteNote.
const (
	lockName = "lock"
	metaName = "spool.json"
	acksName = "acks.json"
)

// takeLock makes this process the owner of dir, or says who is.
func takeLock(dir string, now time.Time) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("spool lock: %w", err)
	}
	ok, err := lockFile(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("spool lock %s: %w", path, err), f.Close())
	}
	if !ok {
		_ = f.Close()
		return nil, fmt.Errorf("%w: %s is held by %s: stop that agent, or give this one a directory of its own", ErrInUse, dir, holder(dir))
	}
	text := fmt.Sprintf("process %d (%s) since %s\n", os.Getpid(), filepath.Base(os.Args[0]), now.UTC().Format(time.RFC3339))
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(text), 0)
	}
	// On a full disk the name cannot be written; the lock holds all the same.
	if err != nil && !isDiskFull(err) {
		return nil, errors.Join(fmt.Errorf("spool lock %s: %w", path, err), f.Close())
	}
	return f, nil
}

// holder returns the text that the owner of a directory left in its lock.
func holder(dir string) string {
	f, err := os.Open(filepath.Join(dir, lockName))
	if err != nil {
		return "an unknown process"
	}
	defer f.Close()
	text := make([]byte, 256)
	n, _ := f.ReadAt(text, 0)
	if n == 0 {
		return "an unknown process"
	}
	return strings.TrimSpace(string(text[:n]))
}

// meta is spool.json.
type meta struct {
	Format int           `json:"format"`
	Site   ident.SiteID  `json:"site"`
	Spool  ident.SpoolID `json:"spool"` // id of the chain being written
	Chain  uint32        `json:"chain"` // how many ids the directory has had
	Key    string        `json:"key"`   // id of the site key when the chain began, for people

	Keys map[string]string `json:"keys,omitempty"` // public keys (hex) of all chains here, by id (hex)
}

// readMeta returns the zero meta when there is none or it is unreadable: a new chain begins then, and nothing is lost,
// because segments say themselves to which chain they belong.
func readMeta(dir string, site ident.SiteID) (meta, error) {
	b, err := os.ReadFile(filepath.Join(dir, metaName))
	if errors.Is(err, fs.ErrNotExist) {
		return meta{}, nil
	}
	if err != nil {
		return meta{}, fmt.Errorf("spool: %w", err)
	}
	var m meta
	if json.Unmarshal(b, &m) != nil {
		return meta{}, nil //nolint:nilerr // see above: unreadable is as good as absent
	}
	if m.Format != 1 {
		return meta{}, fmt.Errorf("spool %s has format %d and this program knows 1: was it written by a newer agent?", dir, m.Format)
	}
	if m.Site != site {
		return meta{}, fmt.Errorf("spool %s belongs to site %s, this agent is site %s: give it another directory", dir, m.Site, site)
	}
	return m, nil
}

func writeMeta(dir string, m meta) error {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return writeFile(dir, metaName, append(b, '\n'), true)
}

// WriteNote makes a small file of the spool's owner durable, in one step: it belongs to these batches and goes where they go. ReadNote
// reads it back.
func (s *Spool) WriteNote(name string, content []byte) error {
	return writeFile(s.cfg.Dir, name, content, true)
}

// ReadNote returns what WriteNote has written in a spool directory; nothing without such a file.
func ReadNote(dir, name string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	return b, nil
}

// writeFile replaces a file in one step.
func writeFile(dir, name string, content []byte, durable bool) error {
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path+tmpSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	_, err = f.Write(content)
	if err == nil && durable {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(path+tmpSuffix, path)
	}
	if err == nil && durable {
		err = syncDir(dir)
	}
	if err != nil {
		_ = os.Remove(path + tmpSuffix)
		return fmt.Errorf("spool: write %s: %w", name, err)
	}
	return nil
}

// ackFile is acks.json: for each segment what was known of it. Sum guards against a torn file: a wrong acknowledgement
// would delete data, a missing one only sends it again.
type ackFile struct {
	Segments map[string]ackState `json:"segments"`
	Sum      string              `json:"sum"` // SHA-256 of the segments as JSON
}

type ackState struct {
	Spool  ident.SpoolID `json:"spool"`
	Last   uint64        `json:"last"`
	Acked  uint64        `json:"acked"`          // how many
	Bits   []uint64      `json:"bits,omitempty"` // which, by seq-first; left out when all are
	FullMS int64         `json:"full_ms,omitempty"`

	Refused   []uint64 `json:"refused,omitempty"` // pending ones that the hub will not take, by seq-first
	RefusedMS int64    `json:"refused_ms,omitempty"`
}

func (f *ackFile) sum() string {
	b, _ := json.Marshal(f.Segments) // maps of plain values always marshal, keys sorted
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func readAcks(dir string) *ackFile {
	f := &ackFile{}
	b, err := os.ReadFile(filepath.Join(dir, acksName))
	if err != nil || json.Unmarshal(b, f) != nil || f.Sum != f.sum() {
		return &ackFile{}
	}
	return f
}

// apply restores what was known of a segment.
func (f *ackFile) apply(g *segment) {
	st, ok := f.Segments[filepath.Base(g.path)]
	if !ok || st.Spool != g.spool || st.Last > g.last || st.Last < g.first {
		return
	}
	if st.FullMS != 0 {
		g.fullAt = time.UnixMilli(st.FullMS)
	}
	for seq := g.first; seq <= st.Last; seq++ {
		if st.Bits == nil && st.Acked == st.Last+1-g.first || bitset(st.Bits).has(seq-g.first) {
			g.ack(seq)
		} else if bitset(st.Refused).has(seq - g.first) {
			g.refuse(seq, time.UnixMilli(st.RefusedMS))
		}
	}
}

// writeAcks saves the state of acknowledgements. The caller holds mu. Failing is reported by the metric: it is harmless where
// an acknowledgement is forgotten, which is why only taking one back asks for durable.
func (s *Spool) writeAcks(now time.Time, durable bool) {
	f := ackFile{Segments: make(map[string]ackState, len(s.segs))}
	for _, g := range s.segs {
		if g.count() == 0 {
			continue
		}
		st := ackState{Spool: g.spool, Last: g.last, Acked: g.ackedN}
		if !g.acknowledged() && g.ackedN > 0 {
			st.Bits = g.acked
		}
		if g.refusedN > 0 {
			st.Refused, st.RefusedMS = g.refused, g.refusedAt.UnixMilli()
		}
		if !g.fullAt.IsZero() {
			st.FullMS = g.fullAt.UnixMilli()
		}
		f.Segments[filepath.Base(g.path)] = st
	}
	f.Sum = f.sum()
	b, err := json.Marshal(f)
	if err == nil {
		err = writeFile(s.cfg.Dir, acksName, b, durable)
	}
	s.acksAt = now
	if err != nil {
		s.metrics.ackFileErrors.Inc()
		return
	}
	s.acksOld = false
}
