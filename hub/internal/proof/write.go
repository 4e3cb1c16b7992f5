package proof

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api/layout"

	"github.com/hashinsight/hashinsight/pkg/evidence"
)

// Tiles are written here, in the layout and with the files of state of tessera's POSIX driver, byte for byte (a test compares them, and goes on where that one has
// stopped), and not by that driver: one of its files that cannot be opened or locked makes it panic in a goroutine of its own, so that a disk that turns
// read-only, or a process without a file descriptor left, would end the hub with all that it does. Here it is an error.

const (
	lockName    = "writer.lock"
	stateDir    = ".state"
	versionName = "version"
	version     = "1" // of tessera's files of state
	filePerm    = 0o644
	dirPerm     = 0o755
)

// stateName is where the size of the tree is.
var stateName = filepath.Join(stateDir, "treeState")

// treeState is the file with the size of the tree. It is written when all tiles are on the disk.
type treeState struct {
	Size uint64 `json:"size"`
	Root []byte `json:"root"`
}

// chunk is how many entries are written at a time: one set of files is written for them.
const chunk = 2048

var errLocked = errors.New("another process is writing the log's tiles")

// blockedError is something outside that keeps the log from growing: a directory in which nothing can be written now, say. It is nobody's contradiction, and the log goes on
// by itself when it is over.
type blockedError struct {
	text string // with what to do
	err  error
}

// Error implements error.
func (e *blockedError) Error() string { return "the transparency log waits: " + e.text }

// Unwrap gives the cause.
func (e *blockedError) Unwrap() error { return e.err }

// blocked makes a blockedError of what went wrong with a directory.
func blocked(dir string, err error) error {
	if err == nil {
		return nil
	}
	free := ""
	if n, ok := freeBytes(dir); ok {
		free = fmt.Sprintf(" (%d MB are free there)", n>>20)
	}
	return &blockedError{fmt.Sprintf("its tiles in %s cannot be written%s: %v: make room, or let this process write there; it goes on by itself then. TRANSPARENCY_LOG_DIR names the directory", dir, free, err), err}
}

// unread makes a blockedError of a file of the log that is there and cannot be read, as on a disk that fails. One that is gone is no matter of waiting.
func (s *Store) unread(err error) error {
	var h *haltError
	var b *blockedError
	var p *fs.PathError
	if errors.As(err, &h) || errors.As(err, &b) || !errors.As(err, &p) || errors.Is(p, fs.ErrNotExist) {
		return err
	}
	return &blockedError{fmt.Sprintf("its tiles in %s cannot be read: %v: let this process read what is there; it goes on by itself then. TRANSPARENCY_LOG_DIR names the directory", s.c.Dir, err), err}
}

// minRoom is what is left free of a disk: a database that shares it fares worse than the log when it is full.
const minRoom = 16 << 20

// hasRoom refuses a disk that is nearly full, before anything is begun.
func (s *Store) hasRoom() error {
	if s.room == nil {
		return nil
	}
	if free, ok := s.room(s.c.Dir); ok && free < minRoom {
		return blocked(s.c.Dir, fmt.Errorf("%d MB are free, and %d MB must be", free>>20, minRoom>>20))
	}
	return nil
}

// edge is what a tree grows on: the entries after the last full bundle, and of each level the hashes after the last full tile.
type edge struct {
	size uint64
	tail []byte
	rows [][]evidence.Hash
}

// file is one that is to be written.
type file struct {
	name string // with slashes
	data []byte
}

// grow appends entries and returns the tiles that are new then. The edge is changed.
func (e *edge) grow(entries [][]byte) (files []file, err error) {
	from := e.size
	for _, b := range entries {
		if len(b) > 1<<16-1 {
			return nil, fmt.Errorf("an entry of %d bytes does not fit in a tile", len(b))
		}
		e.tail = append(binary.BigEndian.AppendUint16(e.tail, uint16(len(b))), b...)
		e.size++
		if e.size%layout.EntryBundleWidth == 0 {
			files = append(files, file{layout.EntriesPath(e.size/layout.EntryBundleWidth-1, 0), e.tail})
			e.tail = nil
		}
		if files, err = e.hash(files, 0, evidence.Hash(rfc6962.DefaultHasher.HashLeaf(b))); err != nil {
			return nil, err
		}
	}
	if n := e.size % layout.EntryBundleWidth; n > 0 && e.size > from {
		files = append(files, file{layout.EntriesPath(e.size/layout.EntryBundleWidth, uint8(n)), slices.Clone(e.tail)})
	}
	for level := range e.rows {
		below := uint(level * layout.TileHeight)
		if n := len(e.rows[level]); n > 0 && e.size>>below != from>>below {
			files = append(files, file{layout.TilePath(uint64(level), e.size>>below>>layout.TileHeight, uint8(n)), flat(e.rows[level])})
		}
	}
	return files, nil
}

// hash puts a hash into a level, and the root of a tile that is full into the next one.
func (e *edge) hash(files []file, level int, h evidence.Hash) ([]file, error) {
	if level == len(e.rows) {
		e.rows = append(e.rows, nil)
	}
	e.rows[level] = append(e.rows[level], h)
	if len(e.rows[level]) < layout.TileWidth {
		return files, nil
	}
	index := e.size>>(uint(level+1)*layout.TileHeight) - 1
	files = append(files, file{layout.TilePath(uint64(level), index, 0), flat(e.rows[level])})
	root, err := rowRoot(e.rows[level])
	if err != nil {
		return nil, err
	}
	e.rows[level] = nil
	return e.hash(files, level+1, root)
}

func flat(hashes []evidence.Hash) []byte {
	b := make([]byte, 0, len(hashes)*len(evidence.Hash{}))
	for i := range hashes {
		b = append(b, hashes[i][:]...)
	}
	return b
}

// rowRoot is the root of a tile's hashes.
func rowRoot(hashes []evidence.Hash) (evidence.Hash, error) {
	r := ranges.NewEmptyRange(0)
	for i := range hashes {
		if err := r.Append(hashes[i][:], nil); err != nil {
			return evidence.Hash{}, err
		}
	}
	return rootOf(r)
}

// root is the root of the tree.
func (e *edge) root() (evidence.Hash, error) {
	var nodes [][]byte
	for level := len(e.rows) - 1; level >= 0; level-- { // the left ones are the higher ones
		r := ranges.NewEmptyRange(0)
		for i := range e.rows[level] {
			if err := r.Append(e.rows[level][i][:], nil); err != nil {
				return evidence.Hash{}, err
			}
		}
		nodes = append(nodes, r.Hashes()...)
	}
	r, err := ranges.NewRange(0, e.size, nodes)
	if err != nil {
		return evidence.Hash{}, err
	}
	return rootOf(r)
}

// edgeAt reads the edge of the tree of a size.
func (d tileDir) edgeAt(ctx context.Context, size uint64) (e edge, err error) {
	e.size = size
	for level := uint64(0); size>>(level*layout.TileHeight) > 0; level++ {
		width := size >> (level * layout.TileHeight)
		e.rows = append(e.rows, nil)
		p := uint8(width % layout.TileWidth)
		if p == 0 {
			continue
		}
		b, err := d.ReadTile(ctx, level, width/layout.TileWidth, p)
		if err != nil {
			return e, err
		}
		if len(b) != int(p)*len(evidence.Hash{}) {
			return e, halt("tile %s has %d bytes", layout.TilePath(level, width/layout.TileWidth, p), len(b))
		}
		for h := range slices.Chunk(b, len(evidence.Hash{})) {
			e.rows[level] = append(e.rows[level], evidence.Hash(h))
		}
	}
	if size%layout.EntryBundleWidth == 0 {
		return e, nil
	}
	entries, err := d.bundle(ctx, size/layout.EntryBundleWidth, size)
	if err != nil {
		return e, err
	}
	for i, b := range entries {
		if evidence.Hash(rfc6962.DefaultHasher.HashLeaf(b)) != e.rows[0][i] {
			return e, halt("entry %d of the tiles is not the one that their tree has", size/layout.EntryBundleWidth*layout.EntryBundleWidth+uint64(i))
		}
		e.tail = append(binary.BigEndian.AppendUint16(e.tail, uint16(len(b))), b...)
	}
	return e, nil
}

// tiles is the directory, opened for writing. It must be closed, and not be used after an error.
type tiles struct {
	tileDir
	lock *os.File
	edge
}

// openTiles opens the directory, making it if there is none, for this process alone.
func openTiles(ctx context.Context, dir string) (*tiles, error) {
	t := &tiles{tileDir: tileDir(dir)}
	if err := t.open(ctx); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *tiles) open(ctx context.Context) (err error) {
	dir := string(t.tileDir)
	if err := makeDir(filepath.Join(dir, stateDir)); err != nil {
		return blocked(dir, err)
	}
	// The advisory lock in the database keeps other hubs out unless it is lost with its connection.
	if t.lock, err = os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return blocked(dir, err)
	}
	if ok, err := tryLock(t.lock); err != nil {
		return blocked(dir, err)
	} else if !ok {
		return errLocked
	}
	if err := t.removeLeftovers(); err != nil {
		return blocked(dir, err)
	}
	size, err := t.readState()
	if err != nil {
		return err
	}
	t.edge, err = t.edgeAt(ctx, size)
	if errors.Is(err, fs.ErrNotExist) {
		err = halt("%s says that there are tiles of %d entries, and one of them is gone (%w): restore the directory, or, if the database has all entries, put it away: it is made again from them", filepath.Join(dir, stateName), size, err)
	}
	if err != nil {
		return fmt.Errorf("opening the log's tiles in %s: %w", dir, err)
	}
	return nil
}

// close lets others write.
func (t *tiles) close() {
	if t.lock != nil {
		_ = t.lock.Close() // the lock ends with it
	}
}

// readState reads how many entries the tiles have. A new directory gets its version.
func (d tileDir) readState() (size uint64, err error) {
	dir := string(d)
	is, err := os.ReadFile(filepath.Join(dir, stateDir, versionName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := d.write(path.Join(stateDir, versionName), []byte(version)); err != nil {
			return 0, blocked(dir, err)
		}
	case err != nil:
		return 0, blocked(dir, err)
	case string(is) != version:
		return 0, halt("the tiles in %s are of version %.20q, and this program writes version %s", dir, is, version)
	}
	b, err := os.ReadFile(filepath.Join(dir, stateName))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, blocked(dir, err)
	}
	var st treeState
	if err := json.Unmarshal(b, &st); err != nil {
		return 0, halt("%s does not say how many entries there are: %w", filepath.Join(dir, stateName), err)
	}
	return st.Size, nil
}

// add appends entries, at most chunk of them, and returns when they are in the tiles and on the disk. An error leaves tiles that nobody reads: they are written
// again, with the same bytes.
func (t *tiles) add(entries [][]byte) error {
	files, err := t.grow(entries)
	if err != nil {
		return err
	}
	var dirs []string
	for _, f := range files {
		if err := t.write(f.name, f.data); err != nil {
			return blocked(string(t.tileDir), err)
		}
		dirs = append(dirs, path.Dir(f.name))
	}
	slices.Sort(dirs)
	for _, dir := range slices.Compact(dirs) {
		if err := syncDir(filepath.Join(string(t.tileDir), filepath.FromSlash(dir))); err != nil {
			return blocked(string(t.tileDir), err)
		}
	}
	root, err := t.root()
	if err != nil {
		return err
	}
	b, err := json.Marshal(treeState{t.size, root[:]})
	if err != nil {
		return err
	}
	err = t.write(filepath.ToSlash(stateName), b)
	return blocked(string(t.tileDir), errors.Join(err, syncDir(filepath.Join(string(t.tileDir), stateDir))))
}

// write puts a file into the directory, whole or not at all. It is on the disk; its name is when the directory that it is in was synced.
func (d tileDir) write(name string, data []byte) error {
	to := filepath.Join(string(d), filepath.FromSlash(name))
	if err := makeDir(filepath.Dir(to)); err != nil {
		return err
	}
	f, err := os.CreateTemp(string(d), "tile.*.tmp")
	if err != nil {
		return err
	}
	_, err = bytes.NewReader(data).WriteTo(f)
	err = errors.Join(err, f.Chmod(filePerm), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), to)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// makeDir makes a directory with those above it, so that they are on the disk.
func makeDir(dir string) error {
	switch info, err := os.Stat(dir); {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return fmt.Errorf("%s is no directory", dir)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if parent := filepath.Dir(dir); parent != dir {
		if err := makeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, dirPerm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// leftover is a file that is being written, and stays for ever when its process is killed.
var leftover = regexp.MustCompile(`^(checkpoint|tile)\.[0-9]+\.tmp$`)

// removeLeftovers removes what processes that were killed have left. Whoever holds the lock is the only one that writes.
func (d tileDir) removeLeftovers() error {
	names, err := os.ReadDir(string(d))
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range names {
		if leftover.MatchString(e.Name()) && e.Type().IsRegular() {
			errs = append(errs, os.Remove(filepath.Join(string(d), e.Name())))
		}
	}
	return errors.Join(errs...)
}

// sweep removes the partial tiles that full ones have replaced, of the bundles that were filled between two sizes.
func (d tileDir) sweep(from, to uint64) error {
	var errs []error
	for i := from / layout.EntryBundleWidth; i < to/layout.EntryBundleWidth; i++ {
		paths := []string{layout.EntriesPath(i, 0), layout.TilePath(0, i, 0)}
		for level, at := uint64(1), i; at%layout.TileWidth == layout.TileWidth-1; level++ {
			at >>= layout.TileHeight
			paths = append(paths, layout.TilePath(level, at, 0))
		}
		for _, p := range paths {
			errs = append(errs, os.RemoveAll(filepath.Join(string(d), filepath.FromSlash(p)+".p")))
		}
	}
	return blocked(string(d), errors.Join(errs...))
}
