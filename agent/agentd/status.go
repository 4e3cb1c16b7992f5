package agentd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/hashinsight/hashinsight/agent/internal/facts"
	"github.com/hashinsight/hashinsight/agent/internal/uplink"
	"github.com/hashinsight/hashinsight/pkg/diag"
	"github.com/hashinsight/hashinsight/pkg/lifecycle"
)

// Health is what /health answers, with status 200 when Status is "ok" or "degraded": an agent that polls and stores
// is alive, whatever its link does. 503 means that readings cannot be stored.
type Health struct {
	Status    string     `json:"status"`            // starting, ok, degraded (see Reasons), failing (readings are not stored)
	Reasons   []string   `json:"reasons,omitempty"` // what is wrong and what to do
	Version   diag.Build `json:"build"`
	Site      string     `json:"site_id"`
	StartedAt time.Time  `json:"started_at"`

	Miners struct {
		Known     int   `json:"known"`     // miners that have an id, those long gone included
		Answering int64 `json:"answering"` // addresses that answered last time, or have not been asked yet
		Silent    int64 `json:"silent"`    // miners that did not
		Scanned   int64 `json:"scanned"`   // addresses of ranges where nothing has answered yet
	} `json:"miners"`

	Spool struct {
		PendingBatches uint64     `json:"pending_batches"` // not yet acknowledged by the hub
		OldestPending  *time.Time `json:"oldest_pending,omitempty"`
		Bytes          int64      `json:"bytes"`
		InMemoryBytes  int64      `json:"in_memory_bytes"` // payloads that could not be stored yet
		StoredAt       *time.Time `json:"stored_at,omitempty"`
	} `json:"spool"`

	Hours struct {
		Last       *facts.Signed `json:"last_signed,omitempty"`
		Waiting    int           `json:"waiting"`          // that are over and not signed yet
		Recovering bool          `json:"recovering"`       // what is not signed is being computed from the spool, after the start
		Skipped    uint64        `json:"skipped"`          // that cannot be signed, since the start
		Untold     int           `json:"salt_keys_untold"` // of miners whose hours the hub cannot check yet
		Reason     string        `json:"reason,omitempty"` // why hours are not signed
	} `json:"hours"`

	Link struct {
		State     string     `json:"state"` // connected, disconnected, none (no hub configured)
		Hub       string     `json:"hub,omitempty"`
		Way       string     `json:"way,omitempty"` // tunnel (WireGuard) or direct (TCP)
		Since     *time.Time `json:"since,omitempty"`
		LastAckAt *time.Time `json:"last_ack_at,omitempty"`
		InFlight  int        `json:"in_flight_batches"`
		Reason    string     `json:"reason,omitempty"` // why it is not connected

		LastHandshakeAt *time.Time `json:"last_handshake_at,omitempty"` // of the tunnel
		TunnelReason    string     `json:"tunnel_reason,omitempty"`     // why the tunnel did not work the last time
	} `json:"link"`
}

// Health describes the agent now.
func (a *Agent) Health() Health {
	h := Health{Status: "ok", Version: a.build, Site: a.cfg.Site.String()}
	p := a.running.Load()
	if p == nil {
		h.Status = "starting"
		return h
	}
	h.StartedAt = p.began.UTC()
	ps, ss := p.poller.Status(), p.spool.Stats()
	h.Miners.Known, h.Miners.Answering, h.Miners.Silent, h.Miners.Scanned = p.inventory.Len(), ps.Answering, ps.Silent, ps.Scanned
	h.Spool.PendingBatches, h.Spool.Bytes, h.Spool.InMemoryBytes = ss.Pending, ss.Bytes, ps.Pending
	h.Spool.OldestPending, h.Spool.StoredAt = instant(ss.OldestPending), instant(ps.Stored)
	fs := p.signer.Status()
	h.Hours.Last, h.Hours.Waiting, h.Hours.Recovering, h.Hours.Skipped, h.Hours.Untold = fs.Last, fs.Waiting, fs.Recovering, fs.Skipped, fs.Untold
	if fs.Err != nil {
		h.Hours.Reason = fs.Err.Error()
		h.Status, h.Reasons = "degraded", append(h.Reasons, h.Hours.Reason)
	}
	h.Link.State = "none"
	if p.uplink != nil {
		us := p.uplink.Status()
		h.Link.State, h.Link.Hub = "disconnected", strings.Join(p.addresses(), ",")
		way := p.link.Status()
		h.Link.Way, h.Link.LastHandshakeAt = string(way.Route), instant(way.LastHandshake)
		if way.Err != nil {
			h.Status, h.Link.TunnelReason = "degraded", way.Err.Error()
			h.Reasons = append(h.Reasons, h.Link.TunnelReason)
		}
		h.Link.Since, h.Link.LastAckAt, h.Link.InFlight = instant(us.Since), instant(us.LastAck), us.InFlight
		switch {
		case us.Connected:
			h.Link.State = "connected"
			if us.Skew.Abs() > uplink.MaxSkew {
				h.Status, h.Reasons = "degraded", append(h.Reasons, clockReason(us.Skew))
			}
		case us.Err != nil:
			h.Link.Reason = us.Err.Error()
			h.Status, h.Reasons = "degraded", append(h.Reasons, h.Link.Reason)
		}
	}
	if reason := p.identityReason(a.cfg.Now()); reason != "" {
		h.Status, h.Reasons = "degraded", append(h.Reasons, reason)
	}
	if ps.StoreError != nil {
		h.Status, h.Reasons = "failing", append(h.Reasons, ps.StoreError.Error())
	}
	return h
}

// clockReason says which clock is behind, from the hub's clock minus this one's.
func clockReason(skew time.Duration) string {
	order := "behind"
	if skew < 0 {
		order = "ahead of"
	}
	return fmt.Sprintf("this computer's clock is %v %s the hub's: set the wrong one (NTP); until then readings count for no time at all",
		skew.Abs().Round(time.Second), order)
}

func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// serve answers /metrics and /health without a password, so it belongs on the loopback address.
func (a *Agent) serve(ctx context.Context, stack *lifecycle.Stack) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", a.cfg.Listen)
	if err != nil {
		return fmt.Errorf("status listener: %w: set listen (HSI_LISTEN) to a free address, or to off", err)
	}
	if tcp, ok := ln.Addr().(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
		a.log.WarnContext(ctx, "metrics and health need no password and can be read from other machines", "listen", ln.Addr().String())
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", diag.MetricsHandler(a.cfg.Registry))
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		h := a.Health()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if h.Status == "failing" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		_ = e.Encode(h) // the reader has gone: nobody is left to be told
	})
	srv := &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	stack.Go("status listener", 0, func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { _ = srv.Close() }) // its answers are not worth waiting for
		defer stop()
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	a.log.InfoContext(ctx, "metrics and health", "address", "http://"+ln.Addr().String())
	return nil
}
