// Package ingest takes signed batches from agents and makes them durable exactly once: it authenticates a stream by its client certificate
// and each batch by its signature, checks the chain, writes batches of many agents together with their samples in one transaction, and
// acknowledges with the hub's signature after the commit, never before. It owns the ledger (batch, batch_total, batch_fork, batch_gap,
// dead_letter); samples go through package series, latest polls through package fleet and signed hours through package facts. hubd runs it.
package ingest

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/series"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
	"github.com/hashinsight/hashinsight/pkg/wire"
	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"
)

// Config describes a Server. Pool, Fleet, Latest, Series, Facts, Key and TLS are required.
type Config struct {
	Pool   *pgxpool.Pool
	Fleet  *fleet.Store
	Latest *fleet.Latest
	Series *series.Store
	Facts  *facts.Store
	Key    ed25519.PrivateKey // the hub's evidence key: signs acknowledgements
	TLS    *tls.Config        // must ask for client certificates, and demand and verify them unless CheckPeer does
	// CheckPeer decides whether a site's certificate counts (issued by this hub, not expired, not revoked). It is asked at the beginning of every
	// stream and whenever a lease is renewed; a gRPC status that it returns reaches the agent as it is, so that the agent learns why, which a
	// refused handshake would not tell it. The certificate is nil when the peer showed none. Without CheckPeer the handshake must verify.
	CheckPeer func(context.Context, *x509.Certificate) error

	// Enrol registers the services of callers that ask for identity.EnrolALPN; nil: there are none. These callers need no certificate.
	Enrol func(grpc.ServiceRegistrar)
	// Cloned is told of each second agent that was refused because another one with its site's identity is connected, at most once an hour for a
	// site; nil: nobody is told.
	Cloned func(ctx context.Context, site ident.SiteID, remote string)

	Writers       int           // transactions at a time; 0 means 2
	GroupRows     int           // samples after which a transaction takes no further batch; 0 means 10,000
	GroupDelay    time.Duration // how long an idle writer waits for more batches; 0 means 5 ms
	WindowBatches int           // batches of one stream that may be under way; 0 means 64
	WindowBytes   int64         // payload bytes of one stream that may be under way; 0 means 16 MiB
	MaxBytes      int64         // memory for batches of all streams, a quarter of it for messages on their way in; 0 means 256 MiB
	MaxStreams    int           // 0 means 10,000

	MaxConns           int // connections; 0 means MaxStreams and 1,000
	MaxConnsPerAddress int // of one address, behind which there may be many sites; 0 means half of MaxConns
	Handshakes         int // TLS handshakes at a time, a quarter of them of one address; 0 means 64
	Openings           int // streams being opened at a time, which costs the database; 0 means 16
	MaxWaiting         int // streams waiting to be opened, beyond which agents are sent away for a moment; 0 means 2,000

	Rate         SiteRate      // of each site
	MaxForks     int           // proofs kept of one spool's forks, and ten times as many of one site; 0 means 100
	MaxDeadBytes int64         // bytes of one site in quarantine; 0 means 256 MiB
	RetryAfter   time.Duration // asked of agents when the database is away; 0 means 2 s

	Beacon     func() evidence.Beacon // the block that agents put into their headers, zero without one; nil: there is no chain
	Now        func() time.Time       // nil means time.Now
	Log        *slog.Logger           // nil discards
	Registerer prometheus.Registerer  // nil means no metrics
}

// Server is the telemetry service.
type Server struct {
	telemetryv1.UnimplementedTelemetryServiceServer

	c        Config
	hubKey   ident.KeyID
	keys     *keyCache
	decoders chan *wire.Decoder // as many as batches may be unpacked at a time
	memory   *semaphore.Weighted
	// Apart from memory, which streams wait for while they hold of these.
	receiving     *semaphore.Weighted
	receivingLong *semaphore.Weighted // half of it, which long messages take beside
	receiveBytes  int64
	queue         chan *item
	downTill      atomic.Int64 // ms since 1970 until which the database is taken to be away
	door          *door

	held       atomic.Int64  // bytes of memory taken
	incoming   atomic.Int64  // bytes of receiving taken
	commitTime atomic.Int64  // of late, ns
	opening    chan struct{} // a token for each stream being opened
	openings   atomic.Int64  // those, and those that wait
	metrics    *metrics

	replaying chan struct{} // a token for each look at the ledger for lost batches
	asked     *askedSpools

	rates *rates

	stopping chan struct{} // closed when Serve's context ends
	reading  sync.WaitGroup
	mu       sync.Mutex
	sessions map[ident.SiteID]*session
	clones   map[ident.SiteID]time.Time // when somebody was last told of one
}

// NewServer returns a Server; Serve makes it work, once.
func NewServer(c Config) (*Server, error) {
	switch {
	case c.Pool == nil, c.Fleet == nil, c.Latest == nil, c.Series == nil, c.Facts == nil:
		return nil, errors.New("ingest: database pool, fleet, latest, series and facts are required")
	case len(c.Key) != ed25519.PrivateKeySize:
		return nil, errors.New("ingest: the hub's evidence key is required")
	case c.TLS == nil || c.TLS.ClientAuth != tls.RequireAndVerifyClientCert && (c.TLS.ClientAuth == tls.NoClientCert || c.CheckPeer == nil):
		return nil, errors.New("ingest: a TLS configuration that asks for client certificates is required, and CheckPeer where the handshake does not verify them")
	}
	setDefault(&c.Writers, 2)
	setDefault(&c.GroupRows, 10_000)
	setDefault(&c.GroupDelay, 5*time.Millisecond)
	setDefault(&c.WindowBatches, 64)
	setDefault(&c.WindowBytes, 16<<20)
	setDefault(&c.MaxBytes, 256<<20)
	setDefault(&c.MaxStreams, 10_000)
	setDefault(&c.MaxConns, c.MaxStreams+1000)
	setDefault(&c.MaxConnsPerAddress, max(1, c.MaxConns/2))
	setDefault(&c.Handshakes, 64)
	setDefault(&c.Openings, 16)
	setDefault(&c.MaxWaiting, 2000)
	setDefault(&c.MaxForks, 100)
	setDefault(&c.MaxDeadBytes, 256<<20)
	setDefault(&c.RetryAfter, 2*time.Second)
	c.Rate.setDefaults()
	if c.WindowBytes < wire.MaxPayload {
		return nil, fmt.Errorf("ingest: a stream's window of %d bytes is smaller than one batch may be (%d)", c.WindowBytes, wire.MaxPayload)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	receive := max(1, c.MaxBytes/4)
	c.MaxBytes -= receive
	s := &Server{
		c: c, hubKey: ident.KeyIDOf(c.Key.Public().(ed25519.PublicKey)), memory: semaphore.NewWeighted(c.MaxBytes),
		receiving: semaphore.NewWeighted(receive), receivingLong: semaphore.NewWeighted(max(1, receive/2)), receiveBytes: receive,
		queue: make(chan *item, c.WindowBatches), stopping: make(chan struct{}), replaying: make(chan struct{}, maxReplaying), asked: &askedSpools{sites: map[ident.SiteID]map[batchKey]time.Time{}},
		rates: &rates{limit: c.Rate, sites: map[ident.SiteID]*reserve{}}, sessions: map[ident.SiteID]*session{}, clones: map[ident.SiteID]time.Time{},
	}
	s.keys = newKeyCache(c.Fleet, c.Now)
	s.decoders = make(chan *wire.Decoder, max(2, runtime.GOMAXPROCS(0)))
	for range cap(s.decoders) {
		d, err := wire.NewDecoder()
		if err != nil {
			return nil, fmt.Errorf("ingest: %w", err)
		}
		s.decoders <- d
	}
	var err error
	if s.metrics, err = newMetrics(c.Registerer, s); err != nil {
		return nil, err
	}
	s.opening = make(chan struct{}, c.Openings)
	s.door = newDoor(c, func(bound string) { s.metrics.bounds.WithLabelValues(bound).Inc() })
	return s, nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// maxIdle is how long a connection may stay without a stream.
const maxIdle = time.Minute

// Serve takes streams from lis until ctx ends. Batches that were taken by then are still committed and acknowledged before it returns.
func (s *Server) Serve(ctx context.Context, lis net.Listener) error {
	settings := s.c.TLS
	var enrol *grpc.Server
	var handed *handedListener
	var enrolling sync.WaitGroup
	if s.c.Enrol != nil {
		settings = settings.Clone()
		settings.NextProtos = append([]string{identity.EnrolALPN}, settings.NextProtos...)
		enrol, handed = newEnrolServer(s.c.Enrol), newHandedListener(lis.Addr())
		enrolling.Go(func() { _ = enrol.Serve(handed) }) // it ends when it is stopped below
	}
	g := grpc.NewServer(
		grpc.Creds(queuedCreds{credentials.NewTLS(settings), s.door, handed}),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(1), // of one connection, see intake
		grpc.StaticStreamWindowSize(freeMessage),
		grpc.ReadBufferSize(4<<10), // enough for heads of frames; what is longer is read past it
		grpc.WriteBufferSize(4<<10),
		grpc.ForceServerCodecV2(turnCodec{encoding.GetCodecV2(proto.Name), make(chan struct{}, max(2, runtime.GOMAXPROCS(0)))}),
		grpc.MaxHeaderListSize(16<<10),
		grpc.ConnectionTimeout(connectTimeout),
		grpc.WaitForHandlers(true), // a handler that outlived Serve would find its queue closed
		// A dead peer is found within 30 s; an agent may ask as often itself. The handshake lets in who names a site, proven or not: a
		// connection without a stream has nothing to wait for.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 20 * time.Second, Timeout: 10 * time.Second, MaxConnectionIdle: maxIdle}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	)
	telemetryv1.RegisterTelemetryServiceServer(g, s)

	// Writers and leases outlive ctx: they end when the last stream has.
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	var writers, renewer sync.WaitGroup
	for range s.c.Writers {
		writers.Go(func() { s.write(work) })
	}
	renewer.Go(func() { s.renewLeases(work) })

	var stopper sync.WaitGroup
	served := make(chan struct{})
	stopper.Go(func() {
		select {
		case <-ctx.Done():
		case <-served:
		}
		close(s.stopping)
		if enrol != nil {
			stopper.Go(func() { stopGracefully(enrol) })
		}
		stopGracefully(g)
	})
	err := g.Serve(countedListener{lis, s.door})
	close(served)
	stopper.Wait()
	enrolling.Wait()
	s.reading.Wait()
	close(s.queue)
	cut := time.AfterFunc(drainTimeout, stopWork) // nobody waits for these batches any more; agents send them again
	writers.Wait()
	cut.Stop()
	stopWork()
	renewer.Wait()
	for range cap(s.decoders) {
		(<-s.decoders).Close()
	}
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("telemetry service: %w", err)
	}
	return nil
}

// stopTimeout bounds how long streams may take to end.
const stopTimeout = 10 * time.Second

func stopGracefully(g *grpc.Server) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.GracefulStop()
	}()
	select {
	case <-done:
	case <-time.After(stopTimeout):
		g.Stop()
		<-done
	}
}

// Disconnect ends the live stream of a site at this hub process, for instance because its certificate was revoked. why reaches the agent.
func (s *Server) Disconnect(site ident.SiteID, why string) {
	s.keys.forget(site)
	s.mu.Lock()
	defer s.mu.Unlock()
	if ss := s.sessions[site]; ss != nil {
		ss.end(errRevoked(why))
	}
}

// Recheck ends the live stream of a site at this hub process if its certificate does not count any more.
func (s *Server) Recheck(ctx context.Context, site ident.SiteID) {
	s.mu.Lock()
	ss := s.sessions[site]
	s.mu.Unlock()
	if ss == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	if err := s.checkPeer(ctx, ss.cert); status.Code(err) == codes.Unauthenticated || status.Code(err) == codes.PermissionDenied {
		ss.end(err)
	}
}

// ForgetKeys makes this hub process read a site's evidence keys again.
func (s *Server) ForgetKeys(site ident.SiteID) { s.keys.forget(site) }

// Notify tells a site's agent, if its stream is at this hub process, that something waits for it at the enrolment service.
func (s *Server) Notify(site ident.SiteID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ss := s.sessions[site]; ss != nil {
		select {
		case ss.notices <- struct{}{}:
		default: // it is to be told already
		}
	}
}

// cloneAlarmEvery is how often one site's clone is told of; in the metric it counts each time.
const cloneAlarmEvery = time.Hour

// cloned raises the alarm about a second agent.
func (s *Server) cloned(ctx context.Context, site ident.SiteID, remote string) {
	s.metrics.cloned.Inc()
	now := s.c.Now()
	s.mu.Lock()
	last, known := s.clones[site]
	tell := !known || now.Sub(last) >= cloneAlarmEvery || now.Before(last)
	if tell {
		if len(s.clones) >= s.c.MaxStreams {
			clear(s.clones)
		}
		s.clones[site] = now
	}
	s.mu.Unlock()
	if tell && s.c.Cloned != nil {
		s.c.Cloned(ctx, site, remote)
	}
}

// unavailable returns how long the database is still taken to be away. A longer time than was ever set comes from a clock that was set back.
func (s *Server) unavailable() time.Duration {
	left := time.Duration(s.downTill.Load()-s.c.Now().UnixMilli()) * time.Millisecond
	if left > s.c.RetryAfter {
		return 0
	}
	return max(0, left)
}
