// Package spool keeps a site's signed batches on disk until the hub has acknowledged them: a directory of small bbolt
// files ("segments"), of which only the newest is written, with one durable commit per batch. It makes the batch headers
// and so the hash chain, believes nothing but signed acknowledgements, deletes whole segments, and records what it had to
// drop as signed gap records. It neither polls (package poll makes the payloads) nor sends (package uplink does).
//
// A directory has one owner at a time. Its files:
//
//	lock                     held by the owner and naming it
//	spool.json               site, and the spool id of the chain that is being written
//	0001-<first seq>.seg     a segment; the first number counts the spool ids this directory has had
//	*.corrupt                a segment that could not be read, set aside for people to look at
//	acks.json                what has been acknowledged or refused, written lazily: losing it only sends batches again
//	hours.json               which hours are signed, a note of package facts
package spool

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// Errors that a caller may branch on.
var (
	// ErrDiskFull: the batch was not stored because the disk is full. Append it again when there is space.
	ErrDiskFull = errors.New("disk is full")
	// ErrInUse: another process owns the directory.
	ErrInUse = errors.New("spool directory is in use")
	// ErrClosed: the spool was closed.
	ErrClosed = errors.New("spool is closed")
	// ErrNotFound: the spool does not hold the batch (any more).
	ErrNotFound = errors.New("batch is not in the spool")
	// ErrBadAck: an acknowledgement that is not authentic or does not fit what is stored.
	ErrBadAck = errors.New("acknowledgement is not valid")
)

// maxPayload is the longest payload of one batch in bytes.
const maxPayload = wire.MaxPayload

// Config configures a spool.
type Config struct {
	Dir  string // made when missing; needs a file system with working locks
	Site ident.SiteID
	Key  ed25519.PrivateKey // the site's evidence key
	// TellKey makes the key the first batch of a chain, and a batch of its own when it has changed: so the chain itself says whose it is.
	TellKey bool
	// HubKey returns the pinned hub evidence key with this id, or nil.
	HubKey       func(ident.KeyID) ed25519.PublicKey
	MaxBytes     int64         // of all segment files; 0 means 4 GiB. Beyond it the oldest data goes
	SegmentBytes int64         // of one segment file; 0 means 16 MiB
	Grace        time.Duration // how long acknowledged segments are kept; 0 means 24 h, negative none
	// Hold keeps acknowledged segments beyond Grace until Release says that they are not needed any more: package facts computes the hours
	// that the site signs from them. A full disk and the size cap take them all the same, after those that nobody needs.
	Hold       bool
	Now        func() time.Time       // nil means time.Now
	Beacon     func() evidence.Beacon // latest known chain block; nil means none
	Log        *slog.Logger           // nil means slog.Default
	Registerer prometheus.Registerer  // nil means no metrics
}

func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Dir == "":
		return c, errors.New("spool: Dir is missing")
	case c.Site == ident.SiteID{}:
		return c, errors.New("spool: Site is missing")
	case len(c.Key) != ed25519.PrivateKeySize:
		return c, errors.New("spool: Key is not an Ed25519 private key")
	case c.HubKey == nil:
		return c, errors.New("spool: HubKey is missing")
	}
	if c.MaxBytes <= 0 {
		c.MaxBytes = 4 << 30
	}
	if c.SegmentBytes <= 0 {
		c.SegmentBytes = 16 << 20
	}
	if c.MaxBytes < 2*c.SegmentBytes {
		return c, fmt.Errorf("spool: a size cap of %d bytes is less than two segments of %d bytes: raise the cap or make segments smaller", c.MaxBytes, c.SegmentBytes)
	}
	if c.Grace == 0 {
		c.Grace = 24 * time.Hour
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Beacon == nil {
		c.Beacon = func() evidence.Beacon { return evidence.Beacon{} }
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c, nil
}

// Spool is an open spool directory. It is safe for use by several goroutines.
type Spool struct {
	cfg     Config
	log     *slog.Logger
	key     ident.KeyID
	lock    *os.File
	metrics *metrics

	appendMu sync.Mutex // one writer; taken before mu

	mu       sync.Mutex // guards what follows, and every segment's fields
	closed   bool
	chain    uint32 // of the chain being written
	id       ident.SpoolID
	segs     []*segment // oldest first; the last one is written
	lastHash evidence.Hash
	changed  chan struct{} // closed and replaced when something new can be read
	lastErr  error
	acksOld  bool // acks.json is behind
	acksAt   time.Time
	tidyAt   time.Time
	reader   *segment                 // the one older segment that is open for reading
	gap      evidence.Gap             // the latest gap record made at the size cap
	gapRef   Ref                      // the batch that holds it
	lost     []lost                   // batches that cannot be read and have no gap record yet
	released map[ident.SpoolID]uint64 // with Hold: batches of the chain before this one are not needed

	// Under appendMu only.
	suspect bool              // the last Append failed: read the file again before anything else
	doubt   []byte            // header of the batch whose fate is unknown
	found   []evidence.Header // batches that were in doubt and are there, which who appended them has not been told yet; the latest maxFound
	untold  bool              // the chain does not say yet whose it is, see Config.TellKey
	buf     []byte            // scratch for values
}

// Open takes the directory, recovers its state from disk and sets corrupt segments aside.
func Open(ctx context.Context, c Config) (*Spool, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("spool directory: %w", err)
	}
	lock, err := takeLock(c.Dir, c.Now())
	if err != nil {
		return nil, err
	}
	s := &Spool{
		cfg: c, log: c.Log, lock: lock, key: ident.KeyIDOf(c.Key.Public().(ed25519.PublicKey)),
		changed: make(chan struct{}), released: make(map[ident.SpoolID]uint64),
	}
	s.metrics = newMetrics(s, c.Registerer)
	if err := s.recover(ctx); err != nil {
		return nil, errors.Join(err, s.release())
	}
	if err := s.metrics.register(); err != nil {
		return nil, errors.Join(err, s.release())
	}
	return s, nil
}

// ID returns the spool id of the chain being written.
func (s *Spool) ID() ident.SpoolID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id
}

// Dir returns the spool's directory.
func (s *Spool) Dir() string { return s.cfg.Dir }

// Close writes what is known of acknowledgements and releases the directory.
func (s *Spool) Close() error {
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.wake()
	if s.acksOld {
		s.writeAcks(s.cfg.Now(), false)
	}
	return s.release()
}

// release closes files and gives up the lock.
func (s *Spool) release() error {
	var errs []error
	for _, g := range s.segs {
		errs = append(errs, g.close())
	}
	s.metrics.unregister()
	return errors.Join(append(errs, s.lock.Close())...)
}

// Append signs a payload as the next batch and returns once it is on disk.
//
// An error means that it is unknown whether the batch is stored. Call Append again with the same payload: if the batch did
// reach the disk, the second call finds it and returns its header instead of storing it twice, whatever others have appended since.
func (s *Spool) Append(ctx context.Context, kind evidence.Kind, payload []byte, m wire.Meta) (evidence.Header, error) {
	if len(payload) > maxPayload {
		return evidence.Header{}, fmt.Errorf("spool: payload of %d bytes, at most %d fit into a batch", len(payload), maxPayload)
	}
	if m.LastMS < m.FirstMS {
		return evidence.Header{}, fmt.Errorf("spool: last sample (%d ms) before the first (%d ms)", m.LastMS, m.FirstMS)
	}
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	if err := ctx.Err(); err != nil {
		return evidence.Header{}, err
	}
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return evidence.Header{}, ErrClosed
	}
	if h, found, err := s.resolve(kind, payload); found || err != nil {
		return h, s.note(err)
	}
	h, err := s.appendAll(kind, payload, m)
	if isDiskFull(err) && s.freeAcknowledged() {
		var found bool
		if h, found, err = s.resolve(kind, payload); err == nil && !found {
			h, err = s.appendAll(kind, payload, m)
		}
	}
	if err == nil {
		s.tidy(false)
	} else {
		s.suspect = true
	}
	return h, s.note(s.diskError(err))
}

// appendAll is append after what a new chain says first. The caller holds appendMu.
func (s *Spool) appendAll(kind evidence.Kind, payload []byte, m wire.Meta) (evidence.Header, error) {
	if err := s.tellKey(); err != nil {
		return evidence.Header{}, err
	}
	if err := s.recordLost(); err != nil {
		return evidence.Header{}, err
	}
	return s.append(kind, payload, m)
}

// append is Append without what comes before and after. The caller holds appendMu.
func (s *Spool) append(kind evidence.Kind, payload []byte, m wire.Meta) (evidence.Header, error) {
	if err := s.roll(len(payload)); err != nil {
		return evidence.Header{}, err
	}
	return s.commit(kind, payload, m)
}

// commit writes one batch to the newest segment.
func (s *Spool) commit(kind evidence.Kind, payload []byte, m wire.Meta) (evidence.Header, error) {
	beacon := s.cfg.Beacon()
	s.mu.Lock()
	g := s.segs[len(s.segs)-1]
	h := evidence.Header{
		Kind: kind, Schema: schemaOf(kind), Codec: codecOf(kind), Site: s.cfg.Site, Key: s.key, Spool: s.id,
		Seq: g.last + 1, Prev: s.lastHash, Payload: sha256.Sum256(payload), PayloadLen: uint32(len(payload)),
		Miners: m.Miners, Samples: m.Samples, FirstMS: m.FirstMS, LastMS: m.LastMS, Beacon: beacon,
	}
	s.mu.Unlock()

	header := h.Bytes()
	s.buf = append(s.buf[:0], header...)
	s.buf = append(s.buf, evidence.SignHeader(s.cfg.Key, header)...)
	s.buf = append(s.buf, payload...)
	start := s.cfg.Now()
	if err := g.put(h.Seq, s.buf); err != nil {
		s.suspect, s.doubt = true, header
		return evidence.Header{}, fmt.Errorf("spool: commit batch %d: %w", h.Seq, err)
	}
	s.metrics.commit(s.cfg.Now().Sub(start), len(s.buf))

	s.mu.Lock()
	defer s.mu.Unlock()
	g.last, s.lastHash = h.Seq, h.Hash()
	s.wake()
	return h, nil
}

// note keeps the last error for Stats.
func (s *Spool) note(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastErr = err
	if err != nil {
		s.metrics.appendErrors.Inc()
	}
	return err
}

// diskError says what to do about a full disk; other errors pass.
func (s *Spool) diskError(err error) error {
	if !isDiskFull(err) {
		return err
	}
	return fmt.Errorf("spool: %w: free space on the disk of %s, or lower the spool's size cap (now %d bytes); everything committed is kept: %w",
		ErrDiskFull, s.cfg.Dir, s.cfg.MaxBytes, err)
}

// wake tells waiters that there is something new. The caller holds mu.
func (s *Spool) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func schemaOf(k evidence.Kind) uint8 {
	if k == evidence.KindSamples {
		return evidence.Schema
	}
	return evidence.SchemaFirst
}

func codecOf(k evidence.Kind) evidence.Codec {
	if k == evidence.KindSamples {
		return evidence.CodecZstd
	}
	return evidence.CodecNone
}
