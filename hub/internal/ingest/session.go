package ingest

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
	"github.com/hashinsight/hashinsight/pkg/wire"
	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"
)

type stream = grpc.BidiStreamingServer[telemetryv1.StreamRequest, telemetryv1.StreamResponse]

// protocol is the version of the stream that this hub speaks.
const protocol = 1

// session is one open stream.
type session struct {
	server *Server
	stream stream
	id     [16]byte
	site   ident.SiteID
	spool  ident.SpoolID
	cert   *x509.Certificate

	oldestPending, newest uint64        // sequence numbers in the Hello
	agentMS               int64         // the agent's clock in the Hello, ms since 1970 UTC
	skew                  time.Duration // by how much it was before the hub's
	others                []otherSpool
	asked                 int // replays asked for on this stream

	ended   chan struct{} // closed by end
	endOnce sync.Once
	why     error

	slots   chan struct{}       // a token for each batch under way
	bytes   *semaphore.Weighted // payload bytes under way
	answers chan response       // has room for every slot, so an answer never waits
	replays chan *telemetryv1.Replay
	paces   chan pace     // pauses to tell the agent of
	slowed  bool          // the log has told that the site sends too much
	notices chan struct{} // the agent shall sync

	level int         // of credit, as told to the agent
	stall *time.Timer // ends the stream when a message stays unsent
	stuck chan struct{}
	conn  io.Closer // below the stream

	intake *intake // of conn
}

// response is the answer to one batch and what it gives back.
type response struct {
	msg     *telemetryv1.StreamResponse
	answer  answer
	item    *item // nil when refused before it was one
	bytes   int64
	counted string
}

// Stream implements the telemetry service: it sends, while take reads.
func (s *Server) Stream(st stream) error {
	ss, err := s.open(st)
	if err != nil {
		if ctxErr := st.Context().Err(); ctxErr != nil {
			return status.FromContextError(ctxErr).Err()
		}
		s.metrics.streams.WithLabelValues(status.Code(err).String()).Inc()
		return err
	}
	s.metrics.streams.WithLabelValues("opened").Inc()
	defer s.close(ss)
	ss.stall = time.AfterFunc(sendTimeout, func() { close(ss.stuck) })
	ss.stall.Stop()
	// Reader, sender and replay end when this function has returned: only that ends a Recv or a Send. Serve waits for them.
	read, sent := make(chan error, 1), make(chan error, 1)
	s.reading.Go(func() { read <- ss.take() })
	s.reading.Go(func() { ss.replay(st.Context()) })
	s.reading.Go(func() { sent <- ss.send(read) })
	select {
	case err := <-sent:
		return err
	case <-ss.stuck:
		s.metrics.bounds.WithLabelValues("unread_answers").Inc()
		// The end of a stream waits behind its unread messages: only the end of the connection is certain.
		_ = ss.conn.Close() // closed already, or nobody to tell
		return status.Errorf(codes.DeadlineExceeded, "the hub's answers were not read for %s: connect again", sendTimeout)
	}
}

// end makes the stream end with err as its status.
func (ss *session) end(err error) {
	ss.endOnce.Do(func() {
		ss.why = err
		close(ss.ended)
	})
}

func errStopping() error {
	return status.Error(codes.Unavailable, "this hub process is stopping: connect again")
}

func errRevoked(why string) error {
	st := status.New(codes.PermissionDenied, why)
	if detailed, err := st.WithDetails(&errdetails.ErrorInfo{Reason: identity.ReasonSiteRevoked, Domain: identity.ErrorDomain}); err == nil {
		st = detailed
	}
	return st.Err()
}

// send writes the Welcome and then every answer. It ends with the agent's half of the stream, when another stream takes over, or when the hub stops;
// what was taken by then is still answered if the agent listens.
func (ss *session) send(read <-chan error) error {
	s := ss.server
	welcome := &telemetryv1.Welcome{Protocol: protocol, HubKeyId: s.hubKey[:], HubTimeMs: s.c.Now().UnixMilli(), Credit: ss.credit(0)}
	told := ss.block()
	welcome.Beacon = wireBeacon(told)
	if err := ss.sendMsg(&telemetryv1.StreamResponse{Message: &telemetryv1.StreamResponse_Welcome{Welcome: welcome}}); err != nil {
		return err
	}
	var look <-chan time.Time
	if s.c.Beacon != nil {
		minute := time.NewTicker(beaconEvery)
		defer minute.Stop()
		look = minute.C
	}
	for {
		select {
		case <-look:
			newest := ss.block()
			if newest == told || newest.ChainID == 0 {
				continue
			}
			told = newest
			if err := ss.sendMsg(&telemetryv1.StreamResponse{Message: &telemetryv1.StreamResponse_Beacon{Beacon: wireBeacon(told)}}); err != nil {
				return err
			}
		case r := <-ss.answers:
			if err := ss.reply(r); err != nil {
				return err
			}
		case r := <-ss.replays:
			if err := ss.sendMsg(&telemetryv1.StreamResponse{Message: &telemetryv1.StreamResponse_Replay{Replay: r}}); err != nil {
				return err
			}
		case p := <-ss.paces:
			credit := ss.credit(p.wait)
			credit.Text = p.text
			if err := ss.sendMsg(&telemetryv1.StreamResponse{Message: &telemetryv1.StreamResponse_Credit{Credit: credit}}); err != nil {
				return err
			}
		case <-ss.notices:
			if err := ss.sendMsg(&telemetryv1.StreamResponse{Message: &telemetryv1.StreamResponse_Notice{Notice: &telemetryv1.Notice{Sync: true}}}); err != nil {
				return err
			}
		case err := <-read:
			if drained := ss.drain(); drained != nil {
				return drained
			}
			return err
		case <-ss.ended:
			return ss.why
		case <-s.stopping:
			if err := ss.drain(); err != nil {
				return err
			}
			return errStopping()
		case <-ss.stream.Context().Done():
			return status.FromContextError(ss.stream.Context().Err()).Err()
		}
	}
}

// beaconEvery is how often at most a stream is told of a newer block.
const beaconEvery = time.Minute

// block is the block that agents are to put into their headers; zero without one.
func (ss *session) block() evidence.Beacon {
	if ss.server.c.Beacon == nil {
		return evidence.Beacon{}
	}
	return ss.server.c.Beacon()
}

func wireBeacon(b evidence.Beacon) *telemetryv1.Beacon {
	if b.ChainID == 0 {
		return nil
	}
	return &telemetryv1.Beacon{ChainId: b.ChainID, BlockNumber: b.BlockNumber, BlockHash: b.BlockHash[:]}
}

// drainTimeout bounds how long a stream that ends waits for the answers of its batches.
const drainTimeout = 5 * time.Second

// drain answers what is under way, as long as that makes progress.
func (ss *session) drain() error {
	deadline := time.NewTimer(drainTimeout)
	defer deadline.Stop()
	for len(ss.slots) > 0 {
		select {
		case r := <-ss.answers:
			if err := ss.reply(r); err != nil {
				return err
			}
		case <-deadline.C:
			return nil
		case <-ss.stream.Context().Done():
			return status.FromContextError(ss.stream.Context().Err()).Err()
		}
	}
	return nil
}

// take reads batches until the agent or the stream ends.
func (ss *session) take() error {
	ctx := ss.stream.Context()
	for {
		msg, done, err := ss.recv(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return status.Convert(err).Err()
		}
		err = ss.takeGroup(ctx, msg.GetBatches().GetBatches())
		done()
		if err != nil {
			return err
		}
		ss.slowDown(ctx)
	}
}

// takeGroup takes the batches of one message.
func (ss *session) takeGroup(ctx context.Context, group []*telemetryv1.Batch) error {
	if len(group) == 0 {
		return status.Error(codes.InvalidArgument, "a message after the Hello carries at least one batch")
	}
	if len(group) > maxGroupBatches {
		return status.Errorf(codes.InvalidArgument, "a message of %d batches, at most %d are accepted: compare the versions of agent and hub", len(group), maxGroupBatches)
	}
	for _, b := range group {
		if err := ss.takeBatch(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// takeBatch waits for room, authenticates the batch and hands it to the writers. It returns only errors that end the stream.
func (ss *session) takeBatch(ctx context.Context, b *telemetryv1.Batch) error {
	s := ss.server
	r := response{bytes: min(int64(len(b.GetPayload())), s.c.WindowBytes)}
	if err := ss.room(ctx, r.bytes); err != nil {
		return err
	}
	if wait := s.unavailable(); wait > 0 {
		ss.answers <- ss.refusal(r, b, telemetryv1.RefusalReason_REFUSAL_REASON_UNAVAILABLE, textAway, wait)
		return nil
	}
	used := costOf(b)
	s.rates.take(ss.site, used, 1, time.Now())
	giveBack := func() { s.rates.take(ss.site, used, -1, time.Now()) } // it will come again, which is no fault of the site's
	memory := s.footprint(b)
	if err := s.hold(ctx, memory); err != nil {
		giveBack()
		return err
	}
	i, err := s.admit(ctx, ss.site, ss.spool, b)
	if err != nil {
		s.release(memory)
	}
	if na := (notAuthenticError{}); errors.As(err, &na) {
		s.c.Log.WarnContext(ctx, "batch refused: not authentic", "site", ss.site, "err", na.error)
		ss.answers <- ss.refusal(r, b, telemetryv1.RefusalReason_REFUSAL_REASON_NOT_AUTHENTIC, na.Error(), 0)
		return nil
	}
	if err != nil {
		giveBack()
		if ctx.Err() != nil {
			return status.FromContextError(ctx.Err()).Err()
		}
		s.c.Log.WarnContext(ctx, "batch refused for want of the database", "site", ss.site, "err", err)
		ss.answers <- ss.refusal(r, b, telemetryv1.RefusalReason_REFUSAL_REASON_UNAVAILABLE, textAway, s.c.RetryAfter)
		return nil
	}
	i.skewed = ss.skewed(&i.header)
	r.item = i
	i.answer = func(a answer) {
		s.release(memory) // even if the stream is gone
		if a.result == resultUnavailable {
			giveBack()
		}
		i.payload, i.samples = nil, nil
		r.answer = a
		ss.answers <- r // has room: one answer for each slot
	}
	select {
	case s.queue <- i:
		return nil
	case <-ctx.Done():
		s.release(memory)
		giveBack()
		return status.FromContextError(ctx.Err()).Err()
	}
}

// maxSkew is how far a site's clock may be from the hub's for its slots to be known. Polls are seconds old when they come.
const maxSkew = 30 * time.Second

// skewed reports whether the site's clock was wrong when a batch was made. A batch from the future says so itself. One from the past may be backlog of better
// times: it counts where the clock was behind when the stream began, and the batch was made since.
func (ss *session) skewed(h *evidence.Header) bool {
	ahead := time.UnixMilli(h.LastMS).Sub(ss.server.c.Now())
	return h.Kind == evidence.KindSamples && (ahead > maxSkew || ahead < -maxSkew && ss.skew < -maxSkew && h.LastMS >= ss.agentMS)
}

// room waits until the stream's window takes one more batch of n bytes.
func (ss *session) room(ctx context.Context, n int64) error {
	s := ss.server
	select {
	case <-s.stopping:
		return errStopping()
	case ss.slots <- struct{}{}:
	default:
		s.metrics.bounds.WithLabelValues("window_batches").Inc()
		select {
		case ss.slots <- struct{}{}:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-s.stopping:
			return errStopping()
		}
	}
	if err := s.acquire(ctx, ss.bytes, n, "window_bytes"); err != nil {
		<-ss.slots
		return status.FromContextError(err).Err()
	}
	return nil
}

const textAway = "the hub's database does not answer: keep the batch and send it again"

// footprint estimates the memory of a batch on its way: its bytes, and about 0.5 kB for each unpacked sample.
func (s *Server) footprint(b *telemetryv1.Batch) int64 {
	n := int64(len(b.GetPayload()) + len(b.GetHeader()) + len(b.GetSignature()))
	if h, err := evidence.ParseHeader(b.GetHeader()); err == nil {
		n += int64(min(h.Samples, wire.MaxSamples)) * 512
	}
	return min(n, s.c.MaxBytes)
}

func (s *Server) acquire(ctx context.Context, sem *semaphore.Weighted, n int64, bound string) error {
	if sem.TryAcquire(n) {
		return nil
	}
	s.metrics.bounds.WithLabelValues(bound).Inc()
	return sem.Acquire(ctx, n)
}

// reply sends one answer and gives its room back.
func (ss *session) reply(r response) error {
	defer func() {
		ss.bytes.Release(r.bytes)
		<-ss.slots
	}()
	s := ss.server
	if r.item != nil {
		r = ss.answered(r)
	}
	s.metrics.batches.WithLabelValues(r.counted).Inc()
	if err := ss.sendMsg(r.msg); err != nil {
		return err
	}
	if err := ss.adjust(); err != nil {
		return err
	}
	if refusal := r.msg.GetRefusal(); refusal.GetReason() == telemetryv1.RefusalReason_REFUSAL_REASON_UNAVAILABLE {
		credit := ss.credit(time.Duration(refusal.GetRetryAfterMs()) * time.Millisecond)
		return ss.sendMsg(&telemetryv1.StreamResponse{Message: &telemetryv1.StreamResponse_Credit{Credit: credit}})
	}
	return nil
}

// answered turns what became of a batch into the message that says so.
func (ss *session) answered(r response) response {
	s, i := ss.server, r.item
	switch r.answer.result {
	case resultStored, resultQuarantined:
		ack := evidence.Ack{Site: i.header.Site, Spool: i.header.Spool, Seq: i.header.Seq, HeaderHash: i.hash, HubMS: r.answer.at.UnixMilli()}
		disposition := telemetryv1.Disposition_DISPOSITION_STORED
		if r.answer.result == resultQuarantined {
			disposition = telemetryv1.Disposition_DISPOSITION_QUARANTINED
		}
		r.msg = &telemetryv1.StreamResponse{Message: &telemetryv1.StreamResponse_Ack{Ack: &telemetryv1.Ack{
			SpoolId: i.header.Spool[:], Seq: i.header.Seq, HeaderHash: i.hash[:], HubTimeMs: ack.HubMS, HubKeyId: s.hubKey[:],
			Signature: ack.Sign(s.c.Key), Disposition: disposition, Reason: r.answer.reason,
		}}}
		r.counted = string(r.answer.result)
		if r.answer.duplicate {
			r.counted = "duplicate"
		}
		return r
	case resultFork:
		return ss.refusalOf(r, i.header.Seq, i.hash, telemetryv1.RefusalReason_REFUSAL_REASON_FORK, r.answer.reason, 0)
	case resultNoRoom:
		return ss.refusalOf(r, i.header.Seq, i.hash, telemetryv1.RefusalReason_REFUSAL_REASON_QUARANTINE_FULL, r.answer.reason, 0)
	default:
		return ss.refusalOf(r, i.header.Seq, i.hash, telemetryv1.RefusalReason_REFUSAL_REASON_UNAVAILABLE, r.answer.reason, r.answer.retry)
	}
}

func (ss *session) refusal(r response, b *telemetryv1.Batch, reason telemetryv1.RefusalReason, text string, retry time.Duration) response {
	h, err := evidence.ParseHeader(b.GetHeader())
	if err != nil {
		return ss.refusalOf(r, 0, evidence.Hash{}, reason, text, retry)
	}
	return ss.refusalOf(r, h.Seq, h.Hash(), reason, text, retry)
}

func (ss *session) refusalOf(r response, seq uint64, hash evidence.Hash, reason telemetryv1.RefusalReason, text string, retry time.Duration) response {
	r.msg = &telemetryv1.StreamResponse{Message: &telemetryv1.StreamResponse_Refusal{Refusal: &telemetryv1.Refusal{
		SpoolId: ss.spool[:], Seq: seq, HeaderHash: hash[:], Reason: reason, Text: clip(text, 500), RetryAfterMs: uint32(max(0, retry.Milliseconds())),
	}}}
	r.counted = strings.ToLower(strings.TrimPrefix(reason.String(), "REFUSAL_REASON_"))
	r.item = nil
	return r
}

// clip cuts a text of an agent for storage and logs.
func clip(s string, most int) string {
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\uFFFD")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "")
	}
	return s
}
