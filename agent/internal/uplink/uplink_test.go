package uplink

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"

	"github.com/hashinsight/hashinsight/agent/internal/spool"
	"github.com/hashinsight/hashinsight/pkg/identity"
)

type hubStream = telemetryv1.TelemetryService_StreamServer

func TestNewestFirstThenBacklogEverythingOnce(t *testing.T) {
	inBubble(t, func(w *world) {
		largest := 0
		w.hub.answer = func(_ hubStream, b batch) bool {
			largest = max(largest, b.group)
			return false
		}
		w.append(300, 2000)
		w.start()
		w.run(5 * time.Second)
		w.wantDrained(300)
		order := w.hub.arrived()
		if len(order) != 300 || order[0] != 300 {
			t.Fatalf("%d batches arrived, the first was %d; want 300, the newest first", len(order), order[0])
		}
		if largest < 2 || largest > groupBatches {
			t.Errorf("largest group of backlog has %d batches, want 2 to %d", largest, groupBatches)
		}
		w.append(1, 2000)
		w.run(time.Second)
		w.wantDrained(301)
		if st := w.up.Status(); !st.Connected || st.InFlight != 0 || st.LastAck.IsZero() {
			t.Errorf("status %+v", st)
		}
	})
}

func TestUnacknowledgedBatchesAreSentAgain(t *testing.T) {
	inBubble(t, func(w *world) {
		var mu sync.Mutex
		silent := true
		w.hub.answer = func(_ hubStream, b batch) bool {
			mu.Lock()
			defer mu.Unlock()
			return silent && b.header.Seq%3 == 0
		}
		w.append(60, 500)
		w.start()
		w.run(time.Second)
		if p := w.spool.Stats().Pending; p != 20 {
			t.Fatalf("%d pending, want the 20 that the hub kept silent about", p)
		}
		mu.Lock()
		silent = false
		mu.Unlock()
		w.dark(false) // the connection breaks
		w.run(2 * time.Minute)
		w.wantDrained(60)
		if n := len(w.hub.arrived()); n != 80 {
			t.Errorf("%d batches arrived, want 60 and the 20 again", n)
		}
	})
}

func TestForgedAcknowledgementDeletesNothing(t *testing.T) {
	inBubble(t, func(w *world) {
		w.hub.forge(true)
		w.append(3, 100)
		w.start()
		w.run(time.Second)
		if p := w.spool.Stats().Pending; p != 3 {
			t.Errorf("%d pending after forged acknowledgements, want 3", p)
		}
		if w.counter("hashinsight_agent_uplink_bad_acknowledgements_total") == 0 {
			t.Error("the metric of bad acknowledgements did not move")
		}
		if err := w.up.Status().Err; !errors.Is(err, spool.ErrBadAck) {
			t.Errorf("status says %v", err)
		}
		w.hub.forge(false)
		w.run(10 * time.Minute)
		if p := w.spool.Stats().Pending; p != 0 {
			t.Errorf("%d pending although the hub is honest again", p)
		}
	})
}

func TestWindowIsRespectedAndLiveDataHasItsShare(t *testing.T) {
	inBubble(t, func(w *world) {
		type held struct {
			s hubStream
			b batch
		}
		var mu sync.Mutex
		var waiting []held
		w.hub.credit = &telemetryv1.Credit{Batches: 8, Bytes: 1 << 20}
		w.hub.answer = func(s hubStream, b batch) bool {
			mu.Lock()
			defer mu.Unlock()
			waiting = append(waiting, held{s, b})
			return true
		}
		w.append(100, 1000)
		w.start()
		w.run(time.Second)
		mu.Lock()
		if n := len(waiting); n > 8 || n < 6 {
			t.Errorf("%d batches on their way, the hub's credit is 8", n)
		}
		backlog := len(waiting) // all live ones went first, so that the window is full of them
		mu.Unlock()
		release := func(n int) {
			mu.Lock()
			out := waiting[:n]
			waiting = waiting[n:]
			mu.Unlock()
			for _, h := range out {
				if err := w.hub.ack(h.s, h.b.header); err != nil {
					t.Error(err)
				}
			}
			w.run(time.Second)
		}
		release(backlog) // now the backlog fills its share
		mu.Lock()
		n := len(waiting)
		mu.Unlock()
		if n != 6 {
			t.Errorf("%d batches of backlog on their way, want three quarters of 8", n)
		}
		w.append(1, 1000)
		w.run(time.Second)
		if order := w.hub.arrived(); order[len(order)-1] != 101 {
			t.Errorf("the newest batch had to wait for the backlog; last arrived is %d", order[len(order)-1])
		}
		for range 100 {
			mu.Lock()
			n := len(waiting)
			mu.Unlock()
			if n > 8 {
				t.Fatalf("%d batches on their way, the hub's credit is 8", n)
			}
			if n == 0 {
				break
			}
			release(n)
		}
		w.wantDrained(101)
	})
}

func TestCreditInBytes(t *testing.T) {
	inBubble(t, func(w *world) {
		var mu sync.Mutex
		got := 0
		w.hub.credit = &telemetryv1.Credit{Batches: 100, Bytes: 20_000}
		w.hub.answer = func(_ hubStream, b batch) bool {
			mu.Lock()
			defer mu.Unlock()
			got += int(b.header.PayloadLen) + 268
			return true
		}
		w.append(50, 3000)
		w.start()
		w.run(time.Second)
		mu.Lock()
		defer mu.Unlock()
		if got == 0 || got > 20_000 {
			t.Errorf("%d bytes on their way, the hub's credit is 20000", got)
		}
	})
}

func TestHubAsksToWait(t *testing.T) {
	inBubble(t, func(w *world) {
		var mu sync.Mutex
		var times []time.Time
		w.hub.answer = func(s hubStream, b batch) bool {
			mu.Lock()
			defer mu.Unlock()
			times = append(times, time.Now())
			if len(times) == 1 {
				w.hub.refuse(s, b.header, telemetryv1.RefusalReason_REFUSAL_REASON_UNAVAILABLE, 30*time.Second)
				return true
			}
			return false
		}
		w.append(1, 100)
		w.start()
		w.run(time.Second)
		w.append(5, 100)
		w.run(time.Minute)
		w.wantDrained(6)
		mu.Lock()
		defer mu.Unlock()
		if len(times) != 7 {
			t.Fatalf("%d batches arrived, want 6 and the refused one again", len(times))
		}
		if d := times[1].Sub(times[0]); d < 30*time.Second || d > 31*time.Second {
			t.Errorf("the next batch came after %s, the hub had asked for 30s", d)
		}
		if hellos := w.hub.streams(); hellos != 1 {
			t.Errorf("%d streams, want the one", hellos)
		}
	})
}

func TestForkedBatchIsNotSentAgain(t *testing.T) {
	inBubble(t, func(w *world) {
		w.hub.answer = func(s hubStream, b batch) bool {
			if b.header.Seq != 4 {
				return false
			}
			w.hub.refuse(s, b.header, telemetryv1.RefusalReason_REFUSAL_REASON_FORK, 0)
			return true
		}
		w.append(20, 100)
		w.start()
		w.run(time.Minute)
		w.dark(false)
		w.run(5 * time.Minute)
		w.append(1, 100)
		w.run(time.Minute)
		if p := w.spool.Stats().Pending; p != 1 {
			t.Errorf("%d pending, want the refused one", p)
		}
		if n := len(slices.DeleteFunc(w.hub.arrived(), func(seq uint64) bool { return seq != 4 })); n != 1 {
			t.Errorf("the refused batch was sent %d times", n)
		}
		if v := w.counter("hashinsight_agent_uplink_refused_batches_total", "reason", "fork"); v != 1 {
			t.Errorf("the metric of forks is %g", v)
		}
	})
}

func TestEighteenHourCut(t *testing.T) {
	inBubble(t, func(w *world) {
		const step = time.Minute
		w.start()
		total := 0
		live := func(d time.Duration) {
			for range d / step {
				w.append(1, 400)
				total++
				w.run(step)
			}
		}
		live(10 * time.Minute)
		w.wantDrained(total)
		w.setCut(true)
		cut := time.Now()
		live(18 * time.Hour)
		if p := w.spool.Stats().Pending; p < 18*60-1 {
			t.Errorf("%d pending after the cut", p)
		}
		dials := w.dialTimes()
		for i := 1; i < len(dials); i++ {
			if gap := dials[i].Sub(dials[i-1]); dials[i-1].After(cut) && (gap < time.Second || gap > 61*time.Second) {
				t.Errorf("two attempts are %s apart, want 1s to 60s", gap)
			}
		}
		w.setCut(false)
		before := len(w.hub.arrived())
		newest := w.spool.Stats().NewestSeq
		w.run(61 * time.Second)
		if order := w.hub.arrived()[before:]; len(order) == 0 || order[0] != newest {
			t.Fatalf("after the cut the first of %d batches is not the newest", len(order))
		}
		live(5 * time.Minute)
		w.wantDrained(total)
		if w.counter("hashinsight_agent_uplink_connected") != 1 {
			t.Error("not connected")
		}
	})
}

func TestDeadPeerIsFoundWithinThirtySeconds(t *testing.T) {
	inBubble(t, func(w *world) {
		w.append(1, 100)
		w.start()
		w.run(time.Second)
		w.wantDrained(1)
		w.dark(true)
		w.run(30 * time.Second)
		if n := len(w.dialTimes()); n < 2 && w.up.Status().Connected {
			t.Error("a connection that swallows everything still counts as connected after 30s")
		}
		w.append(1, 100)
		w.run(5 * time.Second)
		w.wantDrained(2)
	})
}

func TestSilentHubIsLeft(t *testing.T) {
	inBubble(t, func(w *world) {
		w.hub.answer = func(hubStream, batch) bool { return w.hub.streams() == 1 }
		w.append(2, 100)
		w.start()
		w.run(4 * time.Minute)
		if n := w.hub.streams(); n != 1 {
			t.Fatalf("%d streams before the deadline", n)
		}
		w.run(2 * time.Minute)
		w.wantDrained(2)
		if v := w.counter("hashinsight_agent_uplink_reconnects_total", "reason", reasonTimeout); v != 1 {
			t.Errorf("reconnects because of silence: %g", v)
		}
	})
}

// A corrupt segment ended a chain: its earlier batches and the new chain are carried by streams of their own, new data first.
func TestOlderChainIsDrainedToo(t *testing.T) {
	inBubble(t, func(w *world) {
		w.append(150, 20_000)
		old := w.spool.ID()
		w.harmNewestSegment()
		if w.spool.ID() == old {
			t.Fatal("the spool id is the same")
		}
		w.append(3, 100)
		pending := int(w.spool.Stats().Pending)
		w.start()
		w.run(10 * time.Second)
		w.wantDrained(pending)
		if order := w.hub.arrived(); order[0] != w.spool.Stats().NewestSeq {
			t.Errorf("the first batch that arrived is %d, want the newest", order[0])
		}
		w.append(1, 100)
		w.run(2 * time.Second)
		w.wantDrained(pending + 1)
		if n := w.hub.streams(); n != 3 {
			t.Errorf("%d streams, want one for the new chain, one for the old, and one more for the new", n)
		}
	})
}

func TestBeaconReachesTheNextHeader(t *testing.T) {
	inBubble(t, func(w *world) {
		hash := make([]byte, 32)
		hash[0] = 9
		w.hub.welcome = func(m *telemetryv1.Welcome) {
			m.Beacon = &telemetryv1.Beacon{ChainId: 8453, BlockNumber: 100, BlockHash: hash}
		}
		w.start()
		w.run(time.Second)
		w.append(1, 10)
		b, err := w.spool.Read(spool.Ref{Spool: w.spool.ID(), Seq: 1})
		if err != nil || b.Header.Beacon.BlockNumber != 100 || b.Header.Beacon.BlockHash[0] != 9 {
			t.Errorf("beacon %+v (%v)", b.Header.Beacon, err)
		}
	})
}

// A wrong clock makes every reading worthless to the hub, so that it must be seen at the site.
func TestAWrongClockIsMeasured(t *testing.T) {
	inBubble(t, func(w *world) {
		w.hub.welcome = func(m *telemetryv1.Welcome) { m.HubTimeMs = time.Now().Add(-2 * time.Minute).UnixMilli() }
		var log bytes.Buffer
		w.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
		w.append(1, 100)
		w.start()
		w.run(time.Minute)
		if st := w.up.Status(); st.Skew.Round(time.Second) != -2*time.Minute || !strings.Contains(log.String(), "hub_ahead_by=-2m0s") {
			t.Errorf("skew %v, log %s", st.Skew, &log)
		}
	})
}

func clientOf(site *tls.Certificate, ca *x509.Certificate) identity.Client {
	return identity.Client{
		Certificate: func() (*tls.Certificate, error) { return site, nil },
		CA:          func() []*x509.Certificate { return []*x509.Certificate{ca} },
	}
}

// Each failure that a person has to mend is named in one text that says what to do; data is kept, and the agent goes on trying.
func TestAuthenticationFailuresSayWhatToDo(t *testing.T) {
	refuse := func(reason string) func(*world) {
		return func(w *world) {
			st, err := status.New(codes.Unauthenticated, "AUTH_004: no").WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: identity.ErrorDomain})
			if err != nil {
				w.t.Fatal(err)
			}
			w.hub.admit = st.Err
		}
	}
	for _, c := range []struct {
		name   string
		harm   func(*world)
		reason string
		text   string
	}{
		{"certificate expired", refuse(identity.ReasonCertExpired), reasonAuth, "certificate has run out"},
		{"certificate revoked", refuse(identity.ReasonCertRevoked), reasonAuth, "site was revoked"},
		{"site unknown", refuse(identity.ReasonCertUnknown), reasonAuth, "does not know this site"},
		{"hub of another CA", func(w *world) { w.ca = newAuthority(w.t) }, reasonAuth, "another CA"},
		{"hub certificate expired", func(*world) { time.Sleep(400 * 24 * time.Hour) }, reasonAuth, "clock"},
		{"certificate refused in the handshake", func(w *world) {
			other := newAuthority(w.t).leaf(w.t, identity.SiteURI(siteID))
			w.cfg.TLS.GetClientCertificate = nil
			w.cfg.TLS.Certificates = append(w.cfg.TLS.Certificates, *other)
		}, reasonAuth, "in the handshake"},
		{"hub with another evidence key", func(w *world) { w.hub.key = seedKey("new hub") }, reasonProtocol, "does not trust"},
		{"newer protocol", func(w *world) {
			w.hub.welcome = func(m *telemetryv1.Welcome) { m.Protocol = 2 }
		}, reasonProtocol, "upgrade"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.append(2, 100)
				if c.name == "hub of another CA" {
					trusted := w.ca.cert
					site := w.ca.leaf(t, identity.SiteURI(siteID))
					w.cfg.TLS = clientOf(site, trusted).TLS()
				}
				c.harm(w)
				w.start()
				w.run(20 * time.Minute)
				st := w.up.Status()
				var e *Error
				if st.Connected || !errors.As(st.Err, &e) || e.Reason != c.reason || !strings.Contains(e.Text, c.text) {
					t.Errorf("status %+v, want reason %s and a text with %q", st, c.reason, c.text)
				}
				if p := w.spool.Stats().Pending; p != 2 {
					t.Errorf("%d pending, want 2 kept", p)
				}
				if n := len(w.dialTimes()); n < 4 || n > 80 {
					t.Errorf("%d attempts in 20 minutes, want few and not none", n)
				}
			})
		})
	}
}
