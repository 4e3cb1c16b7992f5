package ingest

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/semaphore"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"
)

// helloTimeout bounds how long a stream may stay silent at its beginning.
const helloTimeout = 15 * time.Second

// queryTimeout bounds a single query outside of transactions; a database that does not answer within it is taken to be away.
const queryTimeout = 15 * time.Second

// open authenticates the peer, takes its Hello, and makes it the site's one stream.
func (s *Server) open(st stream) (*session, error) {
	ctx := st.Context()
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil, status.Error(codes.Unauthenticated, "no peer")
	}
	info, ok := p.AuthInfo.(peerInfo)
	if ok && len(info.State.PeerCertificates) == 0 && s.c.CheckPeer != nil {
		if err := s.checkPeer(ctx, nil); err != nil { // with the reason that agents know
			return nil, err
		}
	}
	if !ok || len(info.State.PeerCertificates) == 0 || s.c.CheckPeer == nil && len(info.State.VerifiedChains) == 0 {
		return nil, status.Error(codes.Unauthenticated, "a client certificate is required")
	}
	cert := info.State.PeerCertificates[0]
	site, err := identity.SiteOf(cert)
	if err != nil {
		return nil, status.Errorf(codes.Unauthenticated, "the client certificate names no site: %v", err)
	}
	if err := s.checkPeer(ctx, cert); err != nil {
		return nil, err
	}
	if err := info.intake.take(); err != nil {
		return nil, err
	}
	hello, err := s.hello(st, info.intake)
	if err != nil {
		return nil, err
	}
	done, err := s.turnToOpen(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	now := s.c.Now()
	ss := &session{
		server: s, stream: st, id: uuid.New(), site: site, spool: ident.SpoolID(hello.GetSpoolId()), cert: cert, ended: make(chan struct{}),
		slots: make(chan struct{}, s.c.WindowBatches), bytes: semaphore.NewWeighted(s.c.WindowBytes), answers: make(chan response, s.c.WindowBatches),
		replays: make(chan *telemetryv1.Replay), paces: make(chan pace, 1), notices: make(chan struct{}, 1), stuck: make(chan struct{}), conn: info.conn, intake: info.intake, level: s.level(), oldestPending: hello.GetOldestPendingSeq(), newest: hello.GetNewestSeq(),
		others: s.othersOf(hello), agentMS: hello.GetAgentTimeMs(), skew: time.UnixMilli(hello.GetAgentTimeMs()).Sub(now),
	}
	dbCtx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	err = s.c.Fleet.OpenStream(dbCtx, fleet.Stream{
		ID: ss.id, Site: site, Spool: ss.spool, Version: clip(hello.GetAgentVersion(), 64), Remote: p.Addr.String(),
		Skew:          ss.skew,
		PollInterval:  time.Duration(hello.GetPollIntervalMs()) * time.Millisecond,
		OldestPending: hello.GetOldestPendingSeq(), Newest: hello.GetNewestSeq(), CertificateUntil: cert.NotAfter,
	})
	switch {
	case errors.Is(err, fleet.ErrCloned):
		s.c.Log.WarnContext(ctx, "second agent with one identity refused", "site", site, "remote", p.Addr.String())
		s.cloned(ctx, site, p.Addr.String())
		return nil, typed(codes.AlreadyExists, identity.ReasonCloned, fmt.Sprintf("another agent with the identity of site %s is connected, with another spool: "+
			"stop one of the two; if this is a copied machine, enrol it as a site of its own", site))
	case errors.Is(err, fleet.ErrNotFound):
		return nil, typed(codes.PermissionDenied, identity.ReasonSiteUnknown, fmt.Sprintf("site %s is not registered at this hub: enrol it with a token", site))
	case err != nil:
		s.c.Log.WarnContext(ctx, "stream refused for want of the database", "site", site, "err", err)
		return nil, status.Error(codes.Unavailable, "the hub's database does not answer: try again")
	}
	if err := s.register(ss); err != nil {
		s.close(ss)
		return nil, err
	}
	// A revocation since the first check found no stream of this site to end.
	if err := s.checkPeer(ctx, cert); err != nil {
		s.close(ss)
		return nil, err
	}
	return ss, nil
}

// typed is a refusal with a reason that agents know.
func typed(code codes.Code, reason, text string) error {
	st := status.New(code, text)
	if detailed, err := st.WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: identity.ErrorDomain}); err == nil {
		st = detailed // else the text says it too
	}
	return st.Err()
}

func (s *Server) checkPeer(ctx context.Context, cert *x509.Certificate) error {
	if s.c.CheckPeer == nil {
		if now := s.c.Now(); now.After(cert.NotAfter) {
			return status.Errorf(codes.Unauthenticated, "the client certificate ran out on %s: get a new one", cert.NotAfter.UTC().Format(time.RFC3339))
		}
		return nil
	}
	err := s.c.CheckPeer(ctx, cert)
	if _, ok := status.FromError(err); ok { // with its details; nil too
		return err
	}
	return status.Errorf(codes.PermissionDenied, "the client certificate is refused: %v", err)
}

func (s *Server) hello(st stream, in *intake) (*telemetryv1.Hello, error) {
	type received struct {
		msg *telemetryv1.StreamRequest
		err error
	}
	first := make(chan received, 1)
	s.reading.Go(func() {
		n, err := in.next(st.Context())
		if err == nil && n > maxHello {
			err = status.Errorf(codes.InvalidArgument, "a Hello of %d bytes, at most %d are accepted", n, maxHello)
		}
		var msg *telemetryv1.StreamRequest
		if err == nil {
			msg, err = st.Recv()
		}
		first <- received{msg, err}
	})
	var r received
	select {
	case r = <-first:
	case <-time.After(helloTimeout):
		return nil, status.Errorf(codes.DeadlineExceeded, "no Hello within %s", helloTimeout)
	case <-s.stopping:
		return nil, errStopping()
	}
	hello := r.msg.GetHello()
	switch {
	case r.err != nil:
		return nil, status.Convert(r.err).Err()
	case hello == nil:
		return nil, status.Error(codes.InvalidArgument, "a stream begins with a Hello")
	case hello.GetProtocol() != protocol:
		reason := identity.ReasonTooNew
		if hello.GetProtocol() < protocol {
			reason = identity.ReasonTooOld
		}
		return nil, typed(codes.FailedPrecondition, reason, fmt.Sprintf("the agent speaks protocol %d, this hub %d: upgrade the older of the two", hello.GetProtocol(), protocol))
	case len(hello.GetSpoolId()) != len(ident.SpoolID{}):
		return nil, status.Errorf(codes.InvalidArgument, "spool id of %d bytes, want 16", len(hello.GetSpoolId()))
	case hello.GetPollIntervalMs() == 0:
		return nil, status.Error(codes.InvalidArgument, "the Hello has no poll interval")
	}
	return hello, nil
}

// fullRetry is asked of an agent for which there is no room.
const fullRetry = 30 * time.Second

// register makes ss the site's stream in this process and ends the one before: an agent that reconnects is faster than the news that its old
// connection is dead.
func (s *Server) register(ss *session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.sessions[ss.site]
	if old == nil && len(s.sessions) >= s.c.MaxStreams {
		s.metrics.bounds.WithLabelValues("streams").Inc()
		return errBusy("this hub process serves as many agents as it may: try another hub, or again later", fullRetry)
	}
	if old != nil {
		old.end(status.Error(codes.Aborted, "a newer stream of this agent has taken over"))
	}
	s.sessions[ss.site] = ss
	return nil
}

func (s *Server) close(ss *session) {
	s.mu.Lock()
	if s.sessions[ss.site] == ss {
		delete(s.sessions, ss.site)
	}
	s.mu.Unlock()
	// The stream's context has ended with the stream.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ss.stream.Context()), 5*time.Second)
	defer cancel()
	if err := s.c.Fleet.CloseStream(ctx, fleet.StreamKey{Site: ss.site, ID: ss.id}); err != nil {
		s.c.Log.WarnContext(ctx, "the end of a stream was not recorded, its lease will run out", "site", ss.site, "err", err)
	}
}

// renewLeases keeps the sessions' leases, ends those that another stream has taken over, and those whose certificate is no longer good.
func (s *Server) renewLeases(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(fleet.Lease / 3):
		}
		s.rates.forget(time.Now())
		s.asked.forget(time.Now())
		s.mu.Lock()
		open := make(map[fleet.StreamKey]*session, len(s.sessions))
		keys := make([]fleet.StreamKey, 0, len(s.sessions))
		for _, ss := range s.sessions {
			k := fleet.StreamKey{Site: ss.site, ID: ss.id}
			open[k], keys = ss, append(keys, k)
		}
		s.mu.Unlock()
		for _, ss := range open {
			// A database that is away decides nothing: a stream that was let in goes on.
			if err := s.checkPeer(ctx, ss.cert); err != nil && status.Code(err) != codes.Unavailable {
				ss.end(err)
			}
		}
		renewing, cancel := context.WithTimeout(ctx, queryTimeout)
		lost, err := s.c.Fleet.Renew(renewing, keys)
		cancel()
		if err != nil && ctx.Err() == nil {
			s.c.Log.WarnContext(ctx, "leases of agents were not renewed, they run out", "err", fmt.Errorf("%d streams: %w", len(keys), err))
		}
		for _, k := range lost {
			open[k].end(status.Error(codes.Aborted, "a newer stream of this agent has taken over"))
		}
	}
}
