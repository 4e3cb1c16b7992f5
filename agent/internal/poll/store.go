package poll

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashinsight/hashinsight/agent/internal/inventory"
	"github.com/hashinsight/hashinsight/pkg/backoff"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// store encodes batches and appends them to the spool, one after another. While the spool cannot take them they wait in memory, encoded
// and bounded by bytes: encoding has a goroutine of its own, which no disk can block, so polling goes on in any case.
type store struct {
	log       *slog.Logger
	metrics   *metrics
	inventory *inventory.Inventory
	append    func(context.Context, []byte, wire.Meta) error
	makeRoom  func(error) bool // may be nil
	encoder   *wire.Encoder
	max       int64
	lost      *atomic.Bool

	raw chan batch // to the encoder

	mu      sync.Mutex
	queue   []payload // the first one may be in the middle of being appended
	bytes   int64
	dropped uint64
	failure error // of the latest append, nil after a success
	stored  time.Time

	wake chan struct{} // queue or done has changed
	done chan struct{} // the encoder has encoded everything
}

type payload struct {
	bytes []byte
	meta  wire.Meta
}

func newStore(c Config, m *metrics, lost *atomic.Bool) (*store, error) {
	enc, err := wire.NewEncoder()
	if err != nil {
		return nil, err
	}
	return &store{
		log: c.Log, metrics: m, inventory: c.Inventory, append: c.Append, makeRoom: c.MakeRoom, encoder: enc, max: c.MaxPending, lost: lost,
		raw: make(chan batch, 4), wake: make(chan struct{}, 1), done: make(chan struct{}),
	}, nil
}

// put hands over a batch, and close says that it was the last one.
func (s *store) put(b batch) { s.raw <- b }
func (s *store) close()      { close(s.raw) }

// run works until close, and then until everything is stored or has failed once more.
func (s *store) run(ctx context.Context) error {
	go s.encodeAll(ctx)
	retry := backoff.Backoff{Min: time.Second, Max: 15 * time.Second}
	for {
		p, ok := s.first()
		if !ok {
			select {
			case <-s.wake:
				continue
			case <-s.done:
				if _, more := s.first(); more {
					continue
				}
				return nil
			}
		}
		err := s.commit(ctx, p)
		s.note(err)
		if err == nil {
			retry.Reset()
			s.removeFirst()
			continue
		}
		s.metrics.appendErrors.Inc()
		if s.finished() {
			return s.giveUp(err)
		}
		s.waitOrDone(retry.Next())
	}
}

// commit makes the ids durable, then the samples that carry them.
func (s *store) commit(ctx context.Context, p payload) error {
	err := s.inventory.Flush()
	if err != nil && s.makeRoom != nil && s.makeRoom(err) {
		err = s.inventory.Flush()
	}
	if err != nil {
		return err
	}
	if err := s.append(ctx, p.bytes, p.meta); err != nil {
		return err
	}
	s.metrics.batches.Inc()
	s.metrics.samples.Add(float64(p.meta.Samples))
	return nil
}

// note keeps the state of storing and logs when it changes.
func (s *store) note(err error) {
	s.mu.Lock()
	before := s.failure
	s.failure = err
	if err == nil {
		s.stored = time.Now()
	}
	waiting := len(s.queue)
	s.mu.Unlock()
	switch {
	case err != nil && before == nil:
		s.log.Error("observations cannot be stored; they wait in memory", "err", err)
	case err == nil && before != nil:
		s.log.Info("observations are being stored again", "batches_waiting", waiting)
	}
}

func (s *store) giveUp(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	samples := 0
	for _, p := range s.queue {
		samples += int(p.meta.Samples)
	}
	s.metrics.dropped.Add(float64(samples))
	return fmt.Errorf("%d observations in %d batches could not be stored before the end: %w", samples, len(s.queue), err)
}

func (s *store) encodeAll(ctx context.Context) {
	defer close(s.done)
	for b := range s.raw {
		s.encode(ctx, b)
	}
}

// encode halves a batch that cannot be encoded, until what is left over is one observation: one that breaks the bounds, which
// is a bug of this program, or too much for one payload. The others must not be lost with it.
func (s *store) encode(ctx context.Context, b batch) {
	bytes, meta, err := s.encoder.Samples(b.obs, b.infos)
	if err == nil {
		s.enqueue(ctx, payload{bytes: bytes, meta: meta})
		return
	}
	if half := len(b.obs) / 2; half > 0 {
		s.encode(ctx, batch{obs: b.obs[:half], infos: b.infos})
		s.encode(ctx, batch{obs: b.obs[half:]})
		return
	}
	s.metrics.dropped.Add(float64(len(b.obs)))
	s.lost.Store(true)
	s.log.ErrorContext(ctx, "an observation cannot be encoded and is lost", "err", err)
}

// enqueue keeps the queue within its bound: the oldest payload goes, but never the one that may be half stored.
func (s *store) enqueue(ctx context.Context, p payload) {
	s.mu.Lock()
	s.queue = append(s.queue, p)
	s.bytes += int64(len(p.bytes))
	samples := uint32(0)
	for s.bytes > s.max && len(s.queue) > 2 {
		old := s.queue[1]
		s.queue = append(s.queue[:1], s.queue[2:]...)
		s.bytes -= int64(len(old.bytes))
		samples += old.meta.Samples
	}
	first := samples > 0 && s.dropped == 0
	s.dropped += uint64(samples)
	err := s.failure
	s.metrics.pending.Set(float64(s.bytes))
	s.mu.Unlock()
	if samples > 0 {
		s.lost.Store(true)
		s.metrics.dropped.Add(float64(samples))
	}
	if first {
		s.log.ErrorContext(ctx, "memory for observations that cannot be stored is full: the oldest are lost", "samples", samples, "err", err)
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *store) first() (payload, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return payload{}, false
	}
	return s.queue[0], true
}

func (s *store) removeFirst() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes -= int64(len(s.queue[0].bytes))
	s.queue[0] = payload{}
	s.queue = s.queue[1:]
	if len(s.queue) == 0 {
		s.queue, s.dropped = nil, 0
	}
	s.metrics.pending.Set(float64(s.bytes))
}

func (s *store) finished() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// waitOrDone waits before the next attempt; the end of polling ends the wait.
func (s *store) waitOrDone(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.done:
	}
}
