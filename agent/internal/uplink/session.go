package uplink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"

	"github.com/hashinsight/hashinsight/agent/internal/spool"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// protocol is the version of the messages that this program speaks.
const protocol = 1

type stream = grpc.BidiStreamingClient[telemetryv1.StreamRequest, telemetryv1.StreamResponse]

// session is one stream.
type session struct {
	*Uplink
	chain   spool.Chain // the batches it carries: a stream is for one spool id
	current bool        // the chain is the one being written
	began   time.Time
	stream  stream
	address string
	window  *window
	kick    chan struct{} // the window changed
	acked   atomic.Bool   // at least one acknowledgement was good
	alarmed map[telemetryv1.RefusalReason]bool
	slowed  bool // the hub has said why it slows this site down
	replays int  // requests for old batches so far
}

// errOtherChain ends a stream in favour of one for another spool id.
var errOtherChain = errors.New("another chain has its turn")

// chain chooses what the next stream carries: the chain being written, or, when nothing of that is left to send, an older one.
// There are older ones only after a corrupt segment has ended a chain.
func (u *Uplink) chain() (c spool.Chain, current bool) {
	chains := u.cfg.Spool.Chains()
	c = chains[len(chains)-1]
	if c.Sendable() > 0 || u.cfg.Now().Before(u.older) {
		return c, true
	}
	for _, old := range chains[:len(chains)-1] {
		if old.Sendable() > 0 {
			return old, false
		}
	}
	return c, true
}

// turnOver reports whether the stream has to end for another chain, and otherwise how long it may go on at most; 0 means
// without limit.
func (s *session) turnOver() (over bool, left time.Duration) {
	next, current := s.Uplink.chain()
	if s.current || !current {
		return next.ID != s.chain.ID, 0
	}
	// Something new has come, or everything old is done.
	left = s.began.Add(olderTurn).Sub(s.cfg.Now())
	return left <= 0 || !s.pending(), left
}

// pending reports whether the stream's chain still has batches to send.
func (s *session) pending() bool {
	for _, c := range s.cfg.Spool.Chains() {
		if c.ID == s.chain.ID {
			return c.Sendable() > 0
		}
	}
	return false
}

// session runs one stream until it ends. worked reports that the hub acknowledged something on it.
func (u *Uplink) session(ctx context.Context, chain spool.Chain, current bool) (worked bool, err error) {
	conn, address, tr, err := u.dial()
	if err != nil {
		return false, err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	s := &session{
		Uplink: u, address: address, chain: chain, current: current, began: u.cfg.Now(), window: newWindow(u.cfg.WindowBatches, u.cfg.WindowBytes, u.cfg.Now()),
		kick: make(chan struct{}, 1), alarmed: make(map[telemetryv1.RefusalReason]bool),
	}
	if err := s.open(ctx, cancel, conn); err != nil {
		return false, explain(first(ctx, err), address, tr, false)
	}
	u.connected()
	u.log.InfoContext(ctx, "stream to the hub is open", "hub", address)

	received := make(chan struct{})
	go func() {
		defer close(received)
		cancel(s.receive())
	}()
	err = s.send(ctx)
	cancel(err)
	<-received
	if !current && !s.acked.Load() {
		u.older = u.cfg.Now().Add(olderPause)
	}
	return s.acked.Load(), explain(first(ctx, err), address, tr, true)
}

// first returns why ctx was cancelled if it says more than err, which is often only that it was.
func first(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// open exchanges greetings.
func (s *session) open(ctx context.Context, cancel context.CancelCauseFunc, conn *grpc.ClientConn) error {
	late := time.AfterFunc(helloTimeout, func() {
		cancel(&Error{reasonTimeout, fmt.Sprintf("the hub at %s did not answer within %s", s.address, helloTimeout), nil})
	})
	defer late.Stop()
	var err error
	if s.stream, err = telemetryv1.NewTelemetryServiceClient(conn).Stream(ctx); err != nil {
		return err
	}
	before := s.cfg.Now()
	// An error of Send is only io.EOF; Recv has the reason.
	_ = s.stream.Send(&telemetryv1.StreamRequest{Message: &telemetryv1.StreamRequest_Hello{Hello: &telemetryv1.Hello{
		Protocol: protocol, SpoolId: s.chain.ID[:], AgentVersion: s.cfg.Version, OldestPendingSeq: s.chain.Oldest, NewestSeq: s.chain.Newest,
		AgentTimeMs: before.UnixMilli(), PollIntervalMs: uint32(min(s.cfg.PollInterval.Milliseconds(), 1<<31)), OtherSpools: s.others(),
	}}})
	msg, err := s.stream.Recv()
	if err != nil {
		return err
	}
	w := msg.GetWelcome()
	switch {
	case w == nil:
		return &Error{reasonProtocol, fmt.Sprintf("the server at %s did not answer with a welcome: is it a hub?", s.address), nil}
	case w.GetProtocol() != protocol:
		return &Error{reasonProtocol, fmt.Sprintf("the hub at %s speaks protocol %d and this agent %d: upgrade the older one", s.address, w.GetProtocol(), protocol), nil}
	case len(w.GetHubKeyId()) != len(ident.KeyID{}) || !s.cfg.Spool.KnowsHubKey(ident.KeyID(w.GetHubKeyId())):
		return &Error{reasonProtocol, fmt.Sprintf("the hub at %s signs its acknowledgements with key %x, which this site does not trust: "+
			"get a new bundle from the hub's operator and install it", s.address, w.GetHubKeyId()), nil}
	}
	after := s.cfg.Now()
	middle := before.Add(after.Sub(before) / 2)
	skew := time.UnixMilli(w.GetHubTimeMs()).Sub(middle).Round(time.Millisecond)
	s.heard(time.UnixMilli(w.GetHubTimeMs()), before, after)
	s.metrics.skew.Set(skew.Seconds())
	s.setStatus(func(st *Status) { st.Skew = skew })
	if skew.Abs() > MaxSkew {
		s.log.ErrorContext(ctx, "this computer's clock and the hub's differ: set the wrong one; until then readings count for no time at all", "hub_ahead_by", skew)
	}
	s.window.credit(w.GetCredit(), after)
	s.beacon(w.GetBeacon())
	return nil
}

// others names older chains of which nothing is left to send: no stream of theirs tells the hub what of them it could still have. A chain
// that has something to send gets a stream of its own.
func (s *session) others() (others []*telemetryv1.OtherSpool) {
	if !s.current {
		return nil
	}
	for _, c := range s.cfg.Spool.Chains() {
		if c.ID != s.chain.ID && c.Kept > 0 && c.Sendable() == 0 {
			others = append(others, &telemetryv1.OtherSpool{SpoolId: c.ID[:], OldestKeptSeq: c.Kept, NewestSeq: c.Newest})
		}
	}
	return others[max(0, len(others)-maxOthers):]
}

// send keeps the window filled until ctx ends: one live batch at a time, and backlog in what is left.
func (s *session) send(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		changed := s.cfg.Spool.Changed()
		over, left := s.turnOver()
		if over {
			return errOtherChain
		}
		wait, sent, err := s.sendSome()
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if sent {
			continue
		}
		if due, owed := s.window.overdue(s.cfg.AckTimeout, s.cfg.Now()); owed {
			if due <= 0 {
				return &Error{reasonTimeout, fmt.Sprintf("the hub at %s has not acknowledged anything for %s: look at the hub's log", s.address, s.cfg.AckTimeout), nil}
			}
			wait = sooner(wait, due)
		}
		timer.Reset(cmp.Or(sooner(wait, left), time.Hour))
		select {
		case <-changed:
		case <-s.kick:
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sooner returns the shorter of two waits, of which 0 means without limit.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// sendSome sends one message if there is something to send and room for it. Otherwise it says how long to keep silent; 0
// means until something changes.
func (s *session) sendSome() (wait time.Duration, done bool, err error) {
	now := s.cfg.Now()
	skip := s.window.skip(s.chain.ID)
	batches, bytes, wait := s.window.room(true, now)
	if batches == 0 {
		return wait, false, nil
	}
	live, ok, err := s.cfg.Spool.Live(liveDepth, skip)
	if err != nil {
		return 0, false, err
	}
	if ok {
		if live.Size() > bytes && s.window.len() > 0 {
			return 0, false, nil // its turn comes with the next acknowledgement
		}
		return 0, true, s.sendBatches([]spool.Batch{live}, "live", now)
	}
	batches, bytes, wait = s.window.room(false, now)
	if batches == 0 {
		return wait, false, nil
	}
	group, err := s.cfg.Spool.Backlog(min(batches, groupBatches), min(bytes, groupBytes), skip)
	if err != nil || len(group) == 0 || group[0].Size() > bytes && s.window.len() > 0 {
		return 0, false, err
	}
	return 0, true, s.sendBatches(group, "backlog", now)
}

func (s *session) sendBatches(batches []spool.Batch, lane string, now time.Time) error {
	group := &telemetryv1.BatchGroup{Batches: make([]*telemetryv1.Batch, len(batches))}
	for i := range batches {
		b := &batches[i]
		group.Batches[i] = &telemetryv1.Batch{Header: b.HeaderBytes, Signature: b.Signature, Payload: b.Payload}
	}
	s.window.add(batches, s.fresh, now)
	s.inFlight()
	if err := s.stream.Send(&telemetryv1.StreamRequest{Message: &telemetryv1.StreamRequest_Batches{Batches: group}}); err != nil {
		return err
	}
	s.metrics.sent.WithLabelValues(lane).Add(float64(len(batches)))
	return nil
}

// fresh reports whether a batch is sent for the first time by anybody: it is newer than all that this Uplink has sent or found in the
// spool. What was sent earlier may be acknowledged with the time at which the hub got it then.
func (u *Uplink) fresh(ref spool.Ref) bool {
	if ref.Seq <= u.top[ref.Spool] {
		return false
	}
	u.top[ref.Spool] = ref.Seq
	return true
}

// receive handles what the hub says until the stream ends.
func (s *session) receive() error {
	for {
		msg, err := s.stream.Recv()
		if err != nil {
			return err
		}
		switch m := msg.GetMessage().(type) {
		case *telemetryv1.StreamResponse_Ack:
			err = s.onAck(m.Ack)
		case *telemetryv1.StreamResponse_Refusal:
			err = s.onRefusal(m.Refusal)
		case *telemetryv1.StreamResponse_Credit:
			s.onCredit(m.Credit)
		case *telemetryv1.StreamResponse_Replay:
			err = s.onReplay(m.Replay)
		case *telemetryv1.StreamResponse_Beacon:
			s.beacon(m.Beacon)
		case *telemetryv1.StreamResponse_Notice:
			if m.Notice.GetSync() {
				s.cfg.Sync()
			}
		}
		if err != nil {
			return err
		}
		s.inFlight()
		select {
		case s.kick <- struct{}{}:
		default:
		}
	}
}

func (s *session) onCredit(c *telemetryv1.Credit) {
	if text := c.GetText(); text != "" && !s.slowed {
		s.slowed = true
		s.log.Warn("the hub slows this site down", "text", clip(text))
	}
	s.window.credit(c, s.cfg.Now())
}

func (s *session) inFlight() {
	n := s.window.len()
	s.setStatus(func(st *Status) { st.InFlight = n })
}

func (s *session) onAck(a *telemetryv1.Ack) error {
	if len(a.GetSpoolId()) != 16 || len(a.GetHeaderHash()) != len(evidence.Hash{}) || len(a.GetHubKeyId()) != len(ident.KeyID{}) {
		return &Error{reasonProtocol, "the hub sent a malformed acknowledgement: compare the versions of agent and hub", nil}
	}
	ack := evidence.Ack{
		Site: s.cfg.Spool.Site(), Spool: ident.SpoolID(a.GetSpoolId()), Seq: a.GetSeq(),
		HeaderHash: evidence.Hash(a.GetHeaderHash()), HubMS: a.GetHubTimeMs(),
	}
	err := s.cfg.Spool.Ack(ack, ident.KeyID(a.GetHubKeyId()), a.GetSignature())
	switch {
	case errors.Is(err, spool.ErrBadAck):
		s.metrics.badAcks.Inc()
		return &Error{reasonProtocol, fmt.Sprintf("the hub at %s sent an acknowledgement that does not count; nothing was deleted for it", s.address), err}
	case errors.Is(err, spool.ErrNotFound): // dropped meanwhile, at the size cap
	case err != nil:
		return err
	}
	now := s.cfg.Now()
	if b, ok := s.window.done(spool.Ref{Spool: ack.Spool, Seq: ack.Seq}, now); ok {
		s.metrics.acked.Inc()
		s.metrics.ackTime.Observe(now.Sub(b.at).Seconds())
		if b.fresh {
			s.heard(time.UnixMilli(ack.HubMS), b.at, now)
		}
	}
	s.acked.Store(true)
	s.setStatus(func(st *Status) { st.LastAck = now })
	if a.GetDisposition() == telemetryv1.Disposition_DISPOSITION_QUARANTINED {
		s.metrics.refused.WithLabelValues("quarantined").Inc()
		s.log.Warn("the hub keeps a batch aside and cannot use it", "seq", ack.Seq, "why", clip(a.GetReason()))
	}
	return nil
}

func (s *session) onRefusal(r *telemetryv1.Refusal) error {
	if len(r.GetSpoolId()) != 16 {
		return &Error{reasonProtocol, "the hub sent a malformed refusal: compare the versions of agent and hub", nil}
	}
	now := s.cfg.Now()
	ref := spool.Ref{Spool: ident.SpoolID(r.GetSpoolId()), Seq: r.GetSeq()}
	reason, label := r.GetReason(), "other"
	switch reason {
	case telemetryv1.RefusalReason_REFUSAL_REASON_UNAVAILABLE:
		label = "unavailable"
	case telemetryv1.RefusalReason_REFUSAL_REASON_FORK:
		label = "fork"
	case telemetryv1.RefusalReason_REFUSAL_REASON_NOT_AUTHENTIC:
		label = "not_authentic"
	}
	s.metrics.refused.WithLabelValues(label).Inc()
	again := r.GetRetryAfterMs()
	if label == "unavailable" && again == 0 {
		again = 5000 // a hub that is away comes back: never means never only for what is wrong with the batch
	}
	if again > 0 {
		s.window.wait(again, now)
		s.window.done(ref, now)
		return nil
	}
	if !s.alarmed[reason] {
		s.alarmed[reason] = true
		s.log.Error("the hub refuses a batch for good; it stays in the spool and is tried again once a day: a person must look",
			"reason", label, "seq", ref.Seq, "spool", ref.Spool, "text", clip(r.GetText()))
	}
	if s.window.has(ref) { // nobody refuses what was not offered
		if err := s.cfg.Spool.Refuse(ref); err != nil && !errors.Is(err, spool.ErrNotFound) { // dropped meanwhile, at the size cap
			return err
		}
	}
	s.window.done(ref, now) // last, or it would be sent again in between
	return nil
}

// onReplay makes batches pending again that some hub has acknowledged and this one does not have.
func (s *session) onReplay(r *telemetryv1.Replay) error {
	if len(r.GetSpoolId()) != 16 {
		return &Error{reasonProtocol, "the hub sent a malformed request for old batches: compare the versions of agent and hub", nil}
	}
	if s.replays++; s.replays > maxReplays {
		if s.replays == maxReplays+1 {
			s.log.Warn("the hub asks for more old batches than one stream may; the next stream listens again", "limit", maxReplays)
		}
		return nil
	}
	id := ident.SpoolID(r.GetSpoolId())
	u, err := s.cfg.Spool.Unack(id, r.GetFirstSeq(), r.GetLastSeq())
	switch {
	case errors.Is(err, spool.ErrBadRange):
		s.log.Warn("the hub asks for batches that were never made; nothing is sent for it", "err", err)
		return nil
	case err != nil:
		return err
	}
	s.metrics.replay.WithLabelValues("again").Add(float64(u.Again))
	s.metrics.replay.WithLabelValues("pending").Add(float64(u.Pending))
	s.metrics.replay.WithLabelValues("gone").Add(float64(u.Gone))
	s.log.Warn("the hub lost batches that it had acknowledged and asks for them again", "spool", id, "first_seq", r.GetFirstSeq(), "last_seq", r.GetLastSeq(),
		"sent_again", u.Again, "pending_anyway", u.Pending, "no_longer_kept", u.Gone)
	return nil
}

func (s *session) beacon(b *telemetryv1.Beacon) {
	if b == nil || len(b.GetBlockHash()) != len(evidence.Hash{}) {
		return
	}
	old := s.cfg.Beacon.Load()
	if old.ChainID == b.GetChainId() && old.BlockNumber > b.GetBlockNumber() {
		return // "not before" never goes back
	}
	s.cfg.Beacon.v.Store(&evidence.Beacon{ChainID: b.GetChainId(), BlockNumber: b.GetBlockNumber(), BlockHash: evidence.Hash(b.GetBlockHash())})
}

// clip bounds a text of the hub's for the log.
func clip(s string) string { return s[:min(len(s), 300)] }
