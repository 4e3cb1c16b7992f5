package sim

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"github.com/hashinsight/hashinsight/pkg/unit"
)

// Bounds of one connection. The real servers have none; these only keep a client that never closes from holding
// a simulated miner for ever.
const (
	writeLimit  = 10 * time.Second
	lingerLimit = 5 * time.Second
	hangLimit   = time.Hour
)

// serve answers one connection and closes it. The caller holds the miner's turn.
func (f *Fleet) serve(m *miner, c net.Conn) {
	defer f.leave(m, c)
	if !f.enter(m, c) {
		return
	}
	f.served.Add(1)
	switch e := m.effectAt(f.now()); {
	case e.serve.Kind == Hang:
		f.hang(m, c)
		return
	case e.down, e.serve.Kind == Reset:
		reset(c)
		return
	}
	buf := f.buffers.Get().(*[]byte)
	defer f.buffers.Put(buf)
	in := (*buf)[:requestSize]
	c.SetReadDeadline(f.now().Add(m.patience()))
	n, err := c.Read(in)
	if err != nil || n == 0 {
		return
	}
	m.mu.Lock()
	wait := m.delay(m.plan.effect(f.now()), f.conf.Latency)
	m.mu.Unlock()
	if !f.pause(wait) {
		return
	}
	switch e := m.effectAt(f.now()); e.serve.Kind {
	case Hang:
		f.hang(m, c)
	case Reset:
		reset(c)
	case Empty:
	case Endless:
		f.endless(m, c)
	default:
		f.reply(m, c, buf, n)
	}
}

// patience is how long a silent client may hold the connection.
func (m *miner) patience() time.Duration {
	if m.spec == nil {
		return longSilence
	}
	return m.spec.silence
}

// enter makes c the connection being served, unless the fleet has stopped.
func (f *Fleet) enter(m *miner, c net.Conn) bool {
	m.mu.Lock()
	m.active = c
	m.mu.Unlock()
	return !f.halted()
}

func (f *Fleet) leave(m *miner, c net.Conn) {
	m.mu.Lock()
	m.active, m.silent = nil, false
	m.mu.Unlock()
	c.Close()
}

// pause waits; it reports false when the fleet stopped meanwhile.
func (f *Fleet) pause(d time.Duration) bool {
	if d <= 0 {
		return !f.halted()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-f.stopped:
		return false
	}
}

// hang leaves the client without an answer until it closes or the behaviour ends.
func (f *Fleet) hang(m *miner, c net.Conn) {
	var sink [64]byte
	for {
		now := f.now()
		m.mu.Lock()
		e := m.plan.effect(now)
		m.silent = e.serve.Kind == Hang
		end := now.Add(hangLimit)
		if !e.next.IsZero() && e.next.Before(end) {
			end = e.next
		}
		if m.silent {
			c.SetReadDeadline(end)
		}
		silent := m.silent
		m.mu.Unlock()
		if !silent || f.halted() {
			return
		}
		if _, err := c.Read(sink[:]); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
	}
}

// reply answers the request of n bytes that lies at the beginning of buf.
func (f *Fleet) reply(m *miner, c net.Conn, buf *[]byte, n int) {
	now := f.now()
	raw := (*buf)[:n]
	if m.record != nil {
		c.SetWriteDeadline(now.Add(writeLimit))
		c.Write(m.record.answer(raw, now))
		return
	}
	req := parseRequest(raw, m.spec.cmdKey)
	m.mu.Lock()
	e := m.plan.effect(now)
	v := m.read(now, e)
	m.form = e.serve.Form
	p := page{b: (*buf)[:0]}
	summary := m.answer(&p, req, &v)
	_, usual := m.plan.healthySince(now, m.spec.window)
	m.mu.Unlock()
	if e.serve.Form != "" && !req.text {
		p.b = e.serve.Form.whole(p.b)
	}
	if len(p.b) > 0 && e.serve.Form != Cut {
		p.b = append(p.b, m.spec.end...)
	}
	*buf = p.b
	if len(p.b) == 0 {
		return
	}
	c.SetWriteDeadline(now.Add(writeLimit))
	if _, err := c.Write(p.b); err != nil || gone(c) {
		return
	}
	if summary {
		f.answered.Add(1)
		f.answers.add(Answer{
			Miner: m.address, Serial: v.serial, At: f.now().UTC().Round(0), Hashrate: unit.Hashrate(v.short), Window: m.spec.window,
			Healthy: usual, Complete: e.serve.Form == "" || req.text || e.serve.Form.Mendable(), Fault: e.fault,
		})
	}
	if m.spec.lingers {
		c.SetReadDeadline(f.now().Add(lingerLimit))
		var sink [64]byte
		for {
			if _, err := c.Read(sink[:]); err != nil {
				return
			}
		}
	}
}

// endless sends a reply that never ends, until the client closes.
func (f *Fleet) endless(m *miner, c net.Conn) {
	const chunk = 32 << 10
	b := append(make([]byte, 0, chunk), `{"STATUS":[{"STATUS":"S","When":0,"Code":11,"Msg":"Summary","Description":"`...)
	for len(b) < chunk {
		b = append(b, 'A')
	}
	for m.effectAt(f.now()).serve.Kind == Endless && !f.halted() {
		c.SetWriteDeadline(f.now().Add(writeLimit))
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}

// listenLoop serves one miner on TCP: not listening while it is down, one connection at a time otherwise.
func (f *Fleet) listenLoop(ctx context.Context, m *miner) {
	for !f.halted() {
		e := m.effectAt(f.now())
		if e.down {
			f.stopListening(m)
			f.await(m, e.next)
			continue
		}
		l, err := f.listening(ctx, m)
		if err != nil {
			f.log.WarnContext(ctx, "miner cannot listen; trying again", "miner", m.address, "err", err)
			f.await(m, f.now().Add(time.Second))
			continue
		}
		f.acceptWhileUp(ctx, m, l)
	}
	f.stopListening(m)
}

func (f *Fleet) acceptWhileUp(ctx context.Context, m *miner, l *net.TCPListener) {
	for !f.halted() {
		m.mu.Lock()
		e := m.plan.effect(f.now())
		if !e.down {
			l.SetDeadline(e.next) // the zero time is no deadline
		}
		m.mu.Unlock()
		if e.down {
			return
		}
		c, err := l.AcceptTCP()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			continue
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // out of files, or the client left already
			f.log.WarnContext(ctx, "connection not accepted", "miner", m.address, "err", err)
			f.pause(50 * time.Millisecond)
			continue
		}
		select {
		case m.turn <- struct{}{}:
			f.serve(m, c)
			<-m.turn
		case <-f.stopped:
			c.Close()
		}
	}
}

// await waits until t, for ever if it is zero, or until the plan changes or the fleet stops.
func (f *Fleet) await(m *miner, t time.Time) {
	var due <-chan time.Time
	if !t.IsZero() {
		timer := time.NewTimer(t.Sub(f.now()))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-due:
	case <-m.wake:
	case <-f.stopped:
	}
}
