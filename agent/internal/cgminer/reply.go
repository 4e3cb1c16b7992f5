package cgminer

import (
	"bytes"
	"strings"
	"time"

	"github.com/hashinsight/hashinsight/pkg/telemetry"
)

// Reply is what a miner answered to one request. Release gives its memory back: no value or text taken
// from it may be used afterwards.
type Reply struct {
	doc      Doc
	command  string
	client   *Client
	timedOut bool
	scanned  int
	received time.Time
}

// Release returns the reply to its client.
func (r *Reply) Release() {
	if c := r.client; c != nil && cap(r.doc.buf) <= keepBuffer {
		r.client = nil
		c.replies.Put(r)
	}
}

// Received returns when the reply's last byte arrived.
func (r *Reply) Received() time.Time { return r.received }

// Repairs returns what had to be mended to read the reply.
func (r *Reply) Repairs() telemetry.Repairs { return r.doc.repairs }

// Lower returns a lower-cased copy of the whole text, in which identification looks for names: their
// place differs from firmware to firmware.
func (r *Reply) Lower() string { return string(bytes.ToLower(r.doc.buf)) }

// Part returns the reply to one command out of a single or a joined reply.
func (r *Reply) Part(command string) Part {
	root := r.doc.Root()
	if command == r.command {
		return Part{command, root}
	}
	// Each part of a joined reply is a list of one element; the API's own paper shows it without the list.
	v := root.Get(command)
	if v.Kind() == Array {
		v = v.Index(0)
	}
	return Part{command, v}
}

// hasContent reports whether v is an object with at least one member that a reply can be about.
func hasContent(v Value) bool {
	for m := range v.All() {
		if k := m.Kind(); k == Array || k == Object || m.Key() == "STATUS" {
			return v.Kind() == Object
		}
	}
	return false
}

// Root returns the whole document.
func (r *Reply) Root() Value { return r.doc.Root() }

// Part is the reply to one command.
type Part struct {
	Command string
	Value   Value // the object that holds STATUS and the sections; missing when there was no answer
}

// Status is the status record of a reply.
type Status struct {
	Letter      byte // S, I, W success; E, F failure; 0 when there was none
	Code        int64
	Msg         string // a view; "" when Msg is an object
	Description string // program and version, or the operator's words; a view
}

// Status returns the status record, be it a list, an object, or flat beside the payload as newer
// Whatsminer firmware writes it.
func (p Part) Status() Status {
	v := p.Value.Get("STATUS")
	switch v.Kind() {
	case Array:
		v = v.Index(0)
	case String:
		v = p.Value
	}
	var s Status
	if letter := v.Get("STATUS").Text(); letter != "" {
		s.Letter = letter[0]
	}
	s.Code, _ = v.Get("Code").Int()
	s.Msg = v.Get("Msg").Text()
	s.Description = v.Get("Description").Text()
	return s
}

// Err returns the miner's refusal as an *APIError, and nil when the part has a payload or says success.
// A payload counts even beside status F.
func (p Part) Err() error {
	if !hasContent(p.Value) {
		return &APIError{Command: p.Command, Msg: "no answer to this part of the joined request"}
	}
	s := p.Status()
	if s.Letter != 'E' && s.Letter != 'F' {
		return nil
	}
	for m := range p.Value.All() {
		if k := m.Kind(); k == Array && m.Key() != "STATUS" && m.Len() > 0 {
			return nil
		}
	}
	return &APIError{Command: p.Command, Code: s.Code, Msg: strings.Clone(s.Msg)}
}

// Section returns the records of a payload section ("SUMMARY", "POOLS"), missing when it is not there.
func (p Part) Section(name string) Value { return p.Value.Get(name) }

// Record returns the first record of a section.
func (p Part) Record(name string) Value {
	v := p.Value.Get(name)
	if v.Kind() == Array {
		return v.Index(0)
	}
	return v
}
