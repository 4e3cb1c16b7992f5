package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/apperr"
)

const eventsPath = "/api/events"

// Times and bounds of event streams.
const (
	patchEvery     = time.Second      // least time between two patches of a stream
	heartbeatEvery = 15 * time.Second // longest silence
	sitesEvery     = 5 * time.Second  // how often sites are looked at for a stream
	eventTimeout   = 10 * time.Second // for a client to take one event; a dead one is let go then
	maxStreams     = 256              // of a process
	maxKeyStreams  = 64               // of one key and its sessions
	resumeSlackMS  = 5000             // changes sent once more on resuming, because another hub process may have seen them a little later
)

// Patch is what changed since the event before. It describes the answer; the handler appends it row by row.
type Patch struct {
	At      Time    `json:"at" doc:"Hub's clock"`
	Version int64   `json:"version"`
	Rows    [][]any `json:"rows" nullable:"false" doc:"Whole rows, with the snapshot's columns"`
	Sites   []Site  `json:"sites,omitempty" doc:"Sites that changed, for keys that may see sites"`
}

type eventsInput struct {
	LastEventID string `header:"Last-Event-ID" maxLength:"20" doc:"Version that the client has: of a snapshot or of the last event"`
}

// streamSlots counts open streams.
type streamSlots struct {
	mu    sync.Mutex
	open  int
	byKey map[[16]byte]int
}

func (c *streamSlots) take(key [16]byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open >= maxStreams || c.byKey[key] >= maxKeyStreams {
		return false
	}
	if c.byKey == nil {
		c.byKey = make(map[[16]byte]int)
	}
	c.open++
	c.byKey[key]++
	return true
}

func (c *streamSlots) giveBack(key [16]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	if c.byKey[key]--; c.byKey[key] == 0 {
		delete(c.byKey, key)
	}
}

func (s *Server) eventRoutes() {
	schema := huma.SchemaFromType(s.api.OpenAPI().Components.Schemas, typeFor[Patch]())
	register(s, audience(access.MinersRead), huma.Operation{
		OperationID: "stream-events", Method: http.MethodGet, Path: eventsPath, Tags: []string{"live"},
		Summary: "Changes of the fleet, as server-sent events",
		Description: "Event `patch`, at most one a second, holds a Patch and its version as id. Event `reset` means: fetch the snapshot again, what you have " +
			"cannot be brought up to date. With Last-Event-ID the stream begins with what changed since that version, or with a reset; without it with what changes from " +
			"now on. A comment comes at least every 15 s. The stream ends with the key or session that opened it.",
		Errors: []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests},
		Responses: map[string]*huma.Response{"200": {Description: "The stream; the schema is that of a patch's data",
			Content: map[string]*huma.MediaType{"text/event-stream": {Schema: schema}}}},
	}, func(ctx context.Context, in *eventsInput) (*huma.StreamResponse, error) {
		p := principal(ctx)
		if !s.streams.take(p.KeyID) {
			s.metrics.refused.Inc()
			return nil, apperr.E(apperr.TooMany, "API_001", "too many event streams are open: close some pages")
		}
		img, err := s.miners.get(ctx, fresh)
		if err != nil {
			s.streams.giveBack(p.KeyID)
			return nil, err
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			defer s.streams.giveBack(p.KeyID)
			s.metrics.streams.Inc()
			defer s.metrics.streams.Dec()
			r, w := humago.Unwrap(hc)
			st := &stream{s: s, r: r, w: w, ctl: http.NewResponseController(w), seesSites: p.May(access.SitesRead)}
			st.run(r.Context(), img, in.LastEventID)
		}}, nil
	})
}

// stream is one client's. It holds no queue: whatever a slow client misses is in the difference between what it was sent last and
// the present image.
type stream struct {
	s         *Server
	r         *http.Request
	w         http.ResponseWriter
	ctl       *http.ResponseController
	seesSites bool

	sent    *image
	sites   siteList
	sitesAt time.Time
	buf     []byte
	quiet   time.Time // since when nothing was written
}

func (st *stream) run(ctx context.Context, img *image, lastEventID string) {
	h := st.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx would hold events back
	st.sent = img
	if err := st.begin(ctx, lastEventID); err != nil {
		return // the client is gone
	}
	tick := time.NewTicker(patchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-st.s.stopping:
			return
		case <-tick.C:
		}
		if !st.allowed() {
			return
		}
		if err := st.step(ctx); err != nil {
			return // the client is gone or does not read
		}
	}
}

// begin brings the client from the version it has to the first image.
func (st *stream) begin(ctx context.Context, lastEventID string) error {
	st.buf = append(st.buf[:0], "retry: 2000\n\n"...)
	if st.seesSites {
		// Without what was sent before, every site is a change: the client may have missed any.
		if sites, err := st.s.sites.get(ctx, sitesEvery); err == nil {
			st.sites, st.sitesAt = sites, st.s.now()
		}
	}
	if lastEventID == "" {
		return st.flush()
	}
	version, err := strconv.ParseInt(lastEventID, 10, 64)
	if err != nil || version < st.sent.since || version > st.sent.version {
		st.reset()
		return st.flush()
	}
	var rows []*row
	for _, r := range st.sent.rows {
		if r.changed > version-resumeSlackMS {
			rows = append(rows, r)
		}
	}
	st.patch(rows, st.sites.changed(nil))
	return st.flush()
}

// allowed reports whether the key or session that opened the stream still stands. A database that is away is no reason to end it.
func (st *stream) allowed() bool {
	p, err := st.s.credential(st.r, requestOf(st.r.Context()).origin)
	var coded *apperr.Error
	if errors.As(err, &coded) {
		return coded.Kind != apperr.Unauthenticated
	}
	return err != nil || p.May(access.MinersRead)
}

// step writes what changed since the last one, or now and then a comment.
func (st *stream) step(ctx context.Context) error {
	st.buf = st.buf[:0]
	img, err := st.s.miners.get(ctx, patchEvery*9/10)
	var changedSites [][]byte
	if err == nil && st.seesSites && st.s.now().Sub(st.sitesAt) >= sitesEvery {
		if sites, err := st.s.sites.get(ctx, sitesEvery); err == nil {
			changedSites = sites.changed(st.sites)
			st.sites, st.sitesAt = sites, st.s.now()
		}
	}
	switch {
	case err != nil:
		// The database is away: the heartbeat says that the stream lives, and the values grow old on the page.
	case img.since > st.sent.version:
		st.sent = img
		st.reset()
	case img != st.sent:
		rows := img.changedSince(st.sent)
		st.sent = img
		if len(rows) > 0 || len(changedSites) > 0 {
			st.patch(rows, changedSites)
		}
	case len(changedSites) > 0:
		st.patch(nil, changedSites)
	}
	if len(st.buf) == 0 {
		if time.Since(st.quiet) < heartbeatEvery {
			return nil
		}
		st.buf = append(st.buf, ": still here\n\n"...)
	}
	return st.flush()
}

// changedSince returns the rows that b has and before has not.
func (b *image) changedSince(before *image) []*row {
	var out []*row
	for _, r := range b.rows {
		if r.changed > before.version {
			out = append(out, r)
		}
	}
	return out
}

func (st *stream) reset() {
	st.s.metrics.resets.Inc()
	st.buf = append(st.buf, "event: reset\nid: "...)
	st.buf = strconv.AppendInt(st.buf, st.sent.version, 10)
	st.buf = append(st.buf, "\ndata: {}\n\n"...)
}

// patch appends the event. Encoded JSON has no line breaks, so one data line holds it.
func (st *stream) patch(rows []*row, sites [][]byte) {
	b := append(st.buf, "event: patch\nid: "...)
	b = strconv.AppendInt(b, st.sent.version, 10)
	b = append(b, "\ndata: {\"at\":\""...)
	b = st.sent.at.UTC().AppendFormat(b, timeLayout)
	b = append(b, `","version":`...)
	b = strconv.AppendInt(b, st.sent.version, 10)
	b = append(b, `,"rows":`...)
	b = appendRows(b, rows)
	if len(sites) > 0 {
		b = append(b, `,"sites":[`...)
		for i, site := range sites {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, site...)
		}
		b = append(b, ']')
	}
	st.buf = append(b, "}\n\n"...)
}

// flush sends the buffer. The deadline is the connection's and therefore by the real clock; a connection that knows none is used without.
func (st *stream) flush() error {
	if err := st.ctl.SetWriteDeadline(time.Now().Add(st.s.eventTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := st.w.Write(st.buf); err != nil {
		return err
	}
	if err := st.ctl.Flush(); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		return err
	}
	st.quiet = time.Now()
	if cap(st.buf) > 1<<20 {
		st.buf = nil // one large resume must not be kept for the stream's life
	}
	return nil
}
