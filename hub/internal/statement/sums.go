package statement

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/pkg/evidence"
)

// To add up a month of 5,000 miners takes a second or two of a CPU, and a page asks again and again, in many browsers. So sums are kept until something
// changes that they are made of.
const (
	maxSums       = 256
	maxSumsMiners = 50_000 // of all kept sums together: about 1 kB each
)

// qSumOf changes with everything that a month's sum is made of: days that were computed again or must be, notes of changes that were not taken yet, statements.
const qSumOf = `
SELECT count(*), count(*) FILTER (WHERE dirty), max(computed_at), (SELECT count(*) FROM sla_dirty WHERE contract_id = $1 AND month = $4),
	(SELECT count(*) FROM statement WHERE contract_id = $1 AND month = $4)
FROM sla_group WHERE contract_id = $1 AND day >= $2 AND day < $3`

// sumKey names a month of a contract, sumOf what its sum was made of.
type (
	sumKey struct {
		contract uuid.UUID
		month    sla.CalendarMonth
	}
	sumOf struct {
		days, dirty, notes, statements int64
		computed                       time.Time
		slot                           int64 // with each one that ends, one more of every miner is open
	}
)

type sum struct {
	of     sumOf
	rules  *sla.Rules
	result *sla.MonthResult
	at     uint64 // when it was used last, counted
}

// sums keeps what months have come to.
type sums struct {
	turn chan struct{} // who adds up; more at once would only take the CPU from everything else
	mu   sync.Mutex
	kept map[sumKey]*sum
	used uint64
	size int // miners
}

func newSums() *sums {
	return &sums{turn: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), kept: map[sumKey]*sum{}}
}

func (s *sums) get(k sumKey, of sumOf) *sum {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.kept[k]
	if v == nil || v.of != of {
		return nil
	}
	s.used++
	v.at = s.used
	return v
}

func (s *sums) put(k sumKey, v *sum) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(k)
	if len(v.result.Miners) > maxSumsMiners/2 {
		return
	}
	s.used++
	v.at, s.kept[k] = s.used, v
	s.size += len(v.result.Miners)
	for len(s.kept) > maxSums || s.size > maxSumsMiners {
		oldest := k
		for other, o := range s.kept {
			if o.at < s.kept[oldest].at {
				oldest = other
			}
		}
		s.drop(oldest)
	}
}

func (s *sums) drop(k sumKey) {
	if v := s.kept[k]; v != nil {
		s.size -= len(v.result.Miners)
		delete(s.kept, k)
	}
}

// sum is add for readers: it adds up only what has changed since the last time.
func (s *Store) sum(ctx context.Context, contract uuid.UUID, m sla.CalendarMonth, now time.Time) (*sla.Rules, *sla.MonthResult, error) {
	k := sumKey{contract, m}
	// Of a month to come no change leaves a note.
	keep := m.FromMS() <= now.UnixMilli()
	of, err := s.sumOf(ctx, k, now)
	if err != nil {
		return nil, nil, err
	}
	if v := s.sums.get(k, of); keep && v != nil {
		return v.rules, v.result, nil
	}
	select {
	case s.sums.turn <- struct{}{}:
		defer func() { <-s.sums.turn }()
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	// Before what it says is read: what changes in between is seen the next time.
	if of, err = s.sumOf(ctx, k, now); err != nil {
		return nil, nil, err
	}
	if v := s.sums.get(k, of); keep && v != nil { // whoever had the turn before wanted the same
		return v.rules, v.result, nil
	}
	rules, result, err := s.add(ctx, s.c.Pool, contract, m, now)
	if err == nil && rules != nil && keep {
		s.metrics.added.Inc()
		s.sums.put(k, &sum{of: of, rules: rules, result: result})
	}
	return rules, result, err
}

func (s *Store) sumOf(ctx context.Context, k sumKey, now time.Time) (of sumOf, err error) {
	of.slot = now.UnixMilli() / evidence.SlotMS
	var at *time.Time
	if err := s.c.Pool.QueryRow(ctx, qSumOf, k.contract, k.month.FirstDay(), (k.month+1).FirstDay(), int32(k.month)).Scan(&of.days, &of.dirty, &at, &of.notes, &of.statements); err != nil {
		return of, fmt.Errorf("looking for what has changed in %s of contract %s: %w", k.month, k.contract, err)
	}
	if at != nil {
		of.computed = at.UTC()
	}
	return of, nil
}
