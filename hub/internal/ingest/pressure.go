package ingest

import (
	"context"
	"math"
	"time"

	"google.golang.org/grpc/status"

	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"
)

// slowCommit is the time of a transaction from which on agents are asked for less.
const slowCommit = time.Second

// maxLevel halves what a stream may have under way that often.
const maxLevel = 4

// hold takes memory for a batch and waits until there is some.
func (s *Server) hold(ctx context.Context, n int64) error {
	if err := s.acquire(ctx, s.memory, n, "memory"); err != nil {
		return status.FromContextError(err).Err()
	}
	s.held.Add(n)
	return nil
}

func (s *Server) release(n int64) {
	s.held.Add(-n)
	s.memory.Release(n)
}

// committed notes how long a transaction took; recent ones count most.
func (s *Server) committed(took time.Duration) {
	for {
		old := s.commitTime.Load()
		if s.commitTime.CompareAndSwap(old, old+(int64(max(0, took))-old)/4) {
			return
		}
	}
}

// level is how often the credit of streams is halved now: not at all while less than half of the memory for batches is in use and transactions are
// fast.
func (s *Server) level() int {
	level := 0
	if used := float64(s.held.Load()) / float64(s.c.MaxBytes); used > 0.5 {
		level = int(math.Ceil((used - 0.5) * 2 * maxLevel))
	}
	if took := time.Duration(s.commitTime.Load()); took > slowCommit {
		level = max(level, 1+int(math.Log2(float64(took)/float64(slowCommit))))
	}
	return min(level, maxLevel)
}

// credit is what the agent may have under way.
func (ss *session) credit(retryAfter time.Duration) *telemetryv1.Credit {
	c := &ss.server.c
	return &telemetryv1.Credit{
		Batches: uint32(max(1, c.WindowBatches>>ss.level)), Bytes: uint64(c.WindowBytes >> ss.level), RetryAfterMs: uint32(max(0, retryAfter.Milliseconds())),
	}
}

// adjust tells the agent when its credit has changed. Whatever the agent makes of it, the stream's window bounds it.
func (ss *session) adjust() error {
	level := ss.server.level()
	if level == ss.level {
		return nil
	}
	if level > ss.level {
		ss.server.metrics.bounds.WithLabelValues("credit").Inc()
	}
	ss.level = level
	return ss.sendMsg(&telemetryv1.StreamResponse{Message: &telemetryv1.StreamResponse_Credit{Credit: ss.credit(0)}})
}

// sendTimeout bounds how long an agent may leave the hub's messages unread.
const sendTimeout = time.Minute

// sendMsg sends a message. While the agent reads nothing it blocks; after sendTimeout the stream is given up.
func (ss *session) sendMsg(m *telemetryv1.StreamResponse) error {
	ss.stall.Reset(sendTimeout)
	defer ss.stall.Stop()
	return ss.stream.Send(m)
}
