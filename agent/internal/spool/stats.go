package spool

import (
	"fmt"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Stats describes a spool at one moment.
type Stats struct {
	Pending       uint64    // batches not yet acknowledged
	Bytes         int64     // of all segment files
	Segments      int       // segment files
	OldestSeq     uint64    // lowest unacknowledged sequence number of the chain being written; 0 without any
	NewestSeq     uint64    // of the chain being written; 0 without any
	OldestPending time.Time // first sample of the oldest unacknowledged batch; zero without any
	LastError     error     // of the latest Append; nil when it succeeded
}

// Stats reads the spool's state. It costs at most one small read from disk.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{Segments: len(s.segs), LastError: s.lastErr}
	if newest := s.segs[len(s.segs)-1]; !s.closed {
		if info, err := os.Stat(newest.path); err == nil { // only this one grows
			newest.size = info.Size()
		}
	}
	for _, g := range s.segs {
		st.Bytes += g.size
	}
	for _, c := range s.chains() {
		st.Pending += c.Pending
		st.OldestSeq, st.NewestSeq = c.Oldest, c.Newest
	}
	for _, g := range s.segs {
		if seq, ok := g.nextPending(g.first); ok && !s.closed {
			if b, err := s.read(g, seq, false); err == nil {
				st.OldestPending = time.UnixMilli(b.Header.FirstMS).UTC()
			}
			break
		}
	}
	return st
}

// Chain is what the spool holds under one spool id.
type Chain struct {
	ID      ident.SpoolID
	Pending uint64 // batches not yet acknowledged
	Refused uint64 // those of them that the hub will not take
	Oldest  uint64 // lowest unacknowledged sequence number; 0 without any
	Kept    uint64 // lowest stored sequence number; 0 without any
	Newest  uint64 // highest stored sequence number; 0 without any
}

// Sendable returns how many batches the hub might take.
func (c Chain) Sendable() uint64 { return c.Pending - c.Refused }

// Chains lists the spool ids that have batches here, oldest first. The last one is being written; there is more than one only
// after the end of a chain could not be read.
func (s *Spool) Chains() []Chain {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.chains()
}

func (s *Spool) chains() []Chain {
	var out []Chain
	for _, g := range s.segs {
		if n := len(out); n == 0 || out[n-1].ID != g.spool {
			out = append(out, Chain{ID: g.spool})
		}
		c := &out[len(out)-1]
		c.Pending += g.count() - g.ackedN
		c.Refused += g.refusedN
		c.Newest = g.last
		if c.Kept == 0 && g.count() > 0 {
			c.Kept = g.first
		}
		if seq, ok := g.nextPending(g.first); ok && c.Oldest == 0 {
			c.Oldest = seq
		}
	}
	return out
}

type metrics struct {
	registerer   prometheus.Registerer
	collectors   []prometheus.Collector
	appended     prometheus.Counter
	appendBytes  prometheus.Counter
	appendErrors prometheus.Counter
	commitTime   prometheus.Histogram
	acked        prometheus.Counter
	unacked      prometheus.Counter
	dropped      prometheus.Counter
	deleted      *prometheus.CounterVec
	quarantined  prometheus.Counter

	ackFileErrors prometheus.Counter
}

func newMetrics(s *Spool, r prometheus.Registerer) *metrics {
	m := &metrics{registerer: r}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "hashinsight_agent_spool_" + name, Help: help})
		m.collectors = append(m.collectors, c)
		return c
	}
	gauge := func(name, help string, read func(Stats) float64) {
		m.collectors = append(m.collectors, prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{Name: "hashinsight_agent_spool_" + name, Help: help}, func() float64 { return read(s.Stats()) }))
	}
	m.appended = counter("appended_batches_total", "Batches committed to disk.")
	m.appendBytes = counter("appended_bytes_total", "Bytes of committed batches, headers included.")
	m.appendErrors = counter("append_errors_total", "Appends that failed, a full disk included.")
	m.acked = counter("acknowledged_batches_total", "Batches the hub has acknowledged.")
	m.unacked = counter("unacknowledged_batches_total", "Acknowledged or refused batches that the hub asked for again.")
	m.dropped = counter("dropped_batches_total", "Unacknowledged batches dropped at the size cap, each named by a gap record.")
	m.quarantined = counter("quarantined_total", "Corrupt segments and single corrupt batches set aside.")
	m.ackFileErrors = counter("ack_file_errors_total", "Failures to save acknowledgements; they only cause batches to be sent again.")
	m.deleted = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hashinsight_agent_spool_deleted_segments_total", Help: "Segment files deleted, by reason: acknowledged, cap, disk_full.",
	}, []string{"reason"})
	m.commitTime = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "hashinsight_agent_spool_commit_seconds", Help: "Time of one durable commit.",
		Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .5, 2},
	})
	m.collectors = append(m.collectors, m.deleted, m.commitTime)
	gauge("pending_batches", "Batches not yet acknowledged by the hub.", func(st Stats) float64 { return float64(st.Pending) })
	gauge("bytes", "Bytes of all segment files.", func(st Stats) float64 { return float64(st.Bytes) })
	gauge("segments", "Segment files.", func(st Stats) float64 { return float64(st.Segments) })
	gauge("oldest_pending_timestamp_seconds", "Time of the oldest sample the hub has not acknowledged; 0 without any.", func(st Stats) float64 {
		if st.OldestPending.IsZero() {
			return 0
		}
		return float64(st.OldestPending.UnixMilli()) / 1000
	})
	return m
}

// register makes the metrics visible, once there is a state to read.
func (m *metrics) register() error {
	if m.registerer == nil {
		return nil
	}
	for _, c := range m.collectors {
		if err := m.registerer.Register(c); err != nil {
			return fmt.Errorf("spool metrics: %w", err)
		}
	}
	return nil
}

func (m *metrics) commit(took time.Duration, bytes int) {
	m.appended.Inc()
	m.appendBytes.Add(float64(bytes))
	m.commitTime.Observe(took.Seconds())
}

// unregister lets the directory be opened again with the same registry.
func (m *metrics) unregister() {
	if m.registerer == nil {
		return
	}
	for _, c := range m.collectors {
		m.registerer.Unregister(c)
	}
}
