package audit

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	rotateAt  = 100 << 20       // bytes of the file
	fileRetry = 5 * time.Second // after a write that failed
)

// errElsewhere says that another process of this host writes the file.
var errElsewhere = errors.New("another process writes it")

// follower writes the file of JSON lines: what the chain holds, in its order, each entry once, whatever crashes in between. Beside
// the file lies its head: number and hash of the last entry that is surely in it, and the file's size then. Lines beyond
// that are written again. The head is also what shows that the database's chain lost its end.
type follower struct {
	path  string
	limit int64 // bytes at which the file is rotated
	now   func() time.Time

	lock    *os.File // held for as long as this process writes
	f       *os.File
	size    int64
	head    Head
	broken  bool
	retryAt time.Time
}

// fileHead is the form of the head's file.
type fileHead struct {
	Seq  int64  `json:"seq"`
	Hash string `json:"hash"`
	Size int64  `json:"size"` // of the file, in bytes
}

func headPath(path string) string { return path + ".head" }

// FileHead returns the head that a host's audit file has reached; ok is false when there is no file.
func FileHead(path string) (h Head, ok bool, err error) {
	h, _, err = readHead(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Head{}, false, nil
	}
	return h, err == nil && h.Seq > 0, err
}

func readHead(path string) (h Head, size int64, err error) {
	b, err := os.ReadFile(headPath(path))
	if err != nil {
		return Head{}, 0, err
	}
	var fh fileHead
	err = json.Unmarshal(b, &fh)
	hash, herr := hex.DecodeString(fh.Hash)
	if err != nil || herr != nil || len(hash) != len(h.Hash) || fh.Seq < 0 || fh.Size < 0 {
		return Head{}, 0, fmt.Errorf("%s is malformed: move it and the file away, and the hub writes both again", headPath(path))
	}
	h.Seq = fh.Seq
	copy(h.Hash[:], hash)
	return h, fh.Size, nil
}

// open makes the file ready to be appended to, if it is not.
func (w *follower) open() error {
	if w.lock == nil {
		if err := os.MkdirAll(filepath.Dir(w.path), 0o750); err != nil {
			return err
		}
		lock, err := os.OpenFile(w.path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		if taken, err := tryLock(lock); err != nil || !taken {
			return errors.Join(err, lock.Close(), errElsewhere)
		}
		w.lock = lock
	}
	if w.f != nil {
		// Somebody may have moved the file away, as logrotate does.
		now, err := os.Stat(w.path)
		if st, serr := w.f.Stat(); err == nil && serr == nil && os.SameFile(now, st) {
			return nil
		}
		_ = w.f.Close() // everything in it was synced
		w.f = nil
	}
	head, size, err := readHead(w.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(w.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640) //nolint:gosec // its group may read it: log shippers
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if st.Size() > size { // lines written just before a crash: they come again
		if err := f.Truncate(size); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	w.f, w.size, w.head = f, min(size, st.Size()), head
	return nil
}

// put appends entries and then moves the head. After an error the file ends where it did before.
func (w *follower) put(entries []Chained) error {
	var b bytes.Buffer
	for i := range entries {
		b.Write(entries[i].Line())
		b.WriteByte('\n')
	}
	if w.size > 0 && w.size+int64(b.Len()) > w.limit {
		if err := w.rotate(""); err != nil {
			return err
		}
	}
	_, err := w.f.Write(b.Bytes())
	if err == nil {
		err = w.f.Sync()
	}
	if err != nil {
		return errors.Join(err, w.f.Truncate(w.size))
	}
	last := &entries[len(entries)-1]
	head, size := Head{Seq: last.Seq, Hash: last.Hash}, w.size+int64(b.Len())
	if err := w.writeHead(head, size); err != nil {
		return errors.Join(err, w.f.Truncate(w.size))
	}
	w.head, w.size = head, size
	return nil
}

func (w *follower) writeHead(h Head, size int64) error {
	text, err := json.Marshal(fileHead{Seq: h.Seq, Hash: hex.EncodeToString(h.Hash[:]), Size: size})
	if err != nil {
		return err
	}
	tmp, err := os.OpenFile(headPath(w.path)+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o640) //nolint:gosec // as the file beside it
	if err != nil {
		return err
	}
	_, err = tmp.Write(append(text, '\n'))
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), headPath(w.path))
}

// rotate gives the file a name with the time and begins a new one.
func (w *follower) rotate(why string) error {
	ext := filepath.Ext(w.path)
	to := strings.TrimSuffix(w.path, ext) + "-" + w.now().UTC().Format("20060102T150405.000Z") + why + ext
	if _, err := os.Lstat(to); err == nil {
		return fmt.Errorf("%s exists already", to)
	}
	if err := os.Rename(w.path, to); err != nil {
		return err
	}
	_ = w.f.Close() // everything in it was synced
	w.f = nil
	return w.open()
}

// startOver puts the file aside and begins with the chain's first entry.
func (w *follower) startOver() error {
	if err := w.rotate("-conflict"); err != nil {
		return err
	}
	w.head, w.size = Head{}, 0
	return w.writeHead(w.head, 0)
}

func (w *follower) close() error {
	var errs []error
	for _, f := range []*os.File{w.f, w.lock} { // the lock last
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	w.f, w.lock = nil, nil
	return errors.Join(errs...)
}

// follow brings the file up to the chain. What fails is an alert and is tried again; the entries are in the database.
func (l *Log) follow(ctx context.Context) {
	head, err := l.Head(ctx)
	if err != nil {
		return // chaining has said that the database is away, or does so next time
	}
	l.metrics.headSeq.Set(float64(head.Seq))
	w := &l.file
	if w.path == "" || time.Now().Before(w.retryAt) {
		return
	}
	switch err = w.open(); {
	case errors.Is(err, errElsewhere):
		return
	case err == nil:
		err = l.catchUp(ctx, head)
	}
	if ctx.Err() != nil {
		return
	}
	l.metrics.fileSeq.Set(float64(w.head.Seq))
	if err != nil {
		l.metrics.fileFailed.Inc()
		l.metrics.fileBroken.Set(1)
		w.retryAt = time.Now().Add(fileRetry)
		if !w.broken {
			l.log.ErrorContext(ctx, "the audit file cannot be written; the entries stay in the database and follow when it can: free its disk or set AUDIT_LOG_PATH to another place",
				"path", w.path, "err", err)
		}
		w.broken = true
		return
	}
	if w.broken {
		l.log.InfoContext(ctx, "the audit file is written again", "path", w.path)
	}
	w.broken = false
	l.metrics.fileBroken.Set(0)
}

func (l *Log) catchUp(ctx context.Context, head Head) error {
	w := &l.file
	for w.head.Seq != head.Seq || w.head.Hash != head.Hash {
		entries, err := l.list(ctx, qRange, w.head.Seq, MaxPage)
		if err != nil {
			return err
		}
		if len(entries) == 0 || hashOf(w.head.Hash, &entries[0]) != entries[0].Hash {
			if w.head.Seq == 0 {
				return errors.New("the chain's first entry does not fit: run hashinsight-hub audit verify")
			}
			return l.conflict(ctx, head)
		}
		if err := w.put(entries); err != nil {
			return err
		}
		if len(entries) < MaxPage {
			return nil
		}
	}
	return nil
}

// conflict deals with a chain that is not the one the file has followed.
func (l *Log) conflict(ctx context.Context, head Head) error {
	w := &l.file
	l.metrics.conflicts.Inc()
	l.log.ErrorContext(ctx, "the audit chain in the database does not continue this host's audit file: the database was restored from a backup, or entries were taken away or changed; the file is put aside and begun anew",
		"path", w.path, "file_head", w.head.String(), "database_head", head.String())
	kept := w.head
	if err := w.startOver(); err != nil {
		return err
	}
	return l.Record(ctx, Entry{
		Level: Security, Category: Suspicious, Action: "audit_chain_conflict", Status: Failure,
		Details: map[string]any{"file_head": kept.String(), "database_head": head.String()},
	})
}
