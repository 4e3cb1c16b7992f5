package sim

import (
	"bytes"
	"encoding/json"
	"strings"
)

// requestSize is what cgminer reads of a request: one read of a 4096 byte buffer.
const requestSize = 4095

// request is one parsed request, or the code of the error that answers it.
type request struct {
	text    bool
	command string
	param   string
	code    int // 0, 23 or 24
}

// parseRequest reads what arrived in one read. JSON if the first byte is a brace, otherwise text.
func parseRequest(b []byte, cmdKey bool) request {
	if len(b) == 0 || b[0] != '{' {
		name, param, _ := strings.Cut(string(b), "|")
		return request{text: true, command: name, param: param}
	}
	if name, ok := plainCommand(b); ok {
		return request{command: name}
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(b, &fields) != nil {
		return request{code: 23}
	}
	raw := fields["command"]
	if raw == nil && cmdKey {
		raw = fields["cmd"]
	}
	r := request{}
	if json.Unmarshal(raw, &r.command) != nil {
		return request{code: 24}
	}
	r.param = string(fields["parameter"])
	if raw := fields["parameter"]; len(raw) > 0 && raw[0] == '"' {
		if json.Unmarshal(raw, &r.param) != nil {
			return request{code: 23}
		}
	}
	return r
}

// plainCommand recognises {"command":"…"}, which almost every request is, without a JSON parser.
func plainCommand(b []byte) (string, bool) {
	const head, tail = `{"command":"`, `"}`
	if len(b) < len(head)+len(tail) || string(b[:len(head)]) != head || string(b[len(b)-len(tail):]) != tail {
		return "", false
	}
	name := b[len(head) : len(b)-len(tail)]
	for _, c := range name {
		if c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			return "", false
		}
	}
	return string(name), true
}

// answer appends the reply to req, without the end bytes. summary reports whether a summary was in it.
func (m *miner) answer(p *page, req request, v *reading) (summary bool) {
	s := m.spec
	p.text, p.when, p.descr = req.text, v.now.Unix(), s.descr
	if m.description != "" {
		p.descr = m.description
	}
	if s.family == "avalon" && s.name == "avalon-1066" {
		p.when = v.elapsed + 13 // a board without a clock counts from power-on
	}
	switch {
	case req.code == 23:
		p.fail(s, 23, "Invalid JSON")
	case req.code == 24:
		p.fail(s, 24, "Missing JSON 'command'")
	case strings.Contains(req.command, "+"):
		return m.joined(p, req, v)
	default:
		return m.one(p, req.command, req.param, v)
	}
	return false
}

// asleep reports whether the command goes unanswered because the mining program is off.
func (m *miner) asleep(command string, v *reading) bool {
	return m.spec.family == "whatsminer" && v.machine == Sleeping && command != "status"
}

// one answers a single command.
func (m *miner) one(p *page, command, param string, v *reading) (summary bool) {
	fn := m.spec.commands[command]
	switch {
	case m.asleep(command, v):
	case fn != nil:
		if command == "summary" {
			m.serial++
			v.serial = m.serial
			summary = true
		}
		start := len(p.b)
		fn(p, m, v, param)
		p.b = m.form.section(p.b, start, p.text)
	case m.spec.denied[command]:
		p.fail(m.spec, 45, "Access denied to '"+command+"' command")
	default:
		p.fail(m.spec, 14, "Invalid command")
	}
	return summary
}

// joined answers "a+b+c": duplicates collapse, empty parts are ignored, a bad part carries its own error.
func (m *miner) joined(p *page, req request, v *reading) (summary bool) {
	if !m.spec.joined {
		p.fail(m.spec, 14, "Invalid command")
		return false
	}
	parts := make([]string, 0, 8)
	for part := range strings.SplitSeq(req.command, "+") {
		if part != "" && !contains(parts, part) && !m.asleep(part, v) {
			parts = append(parts, part)
		}
	}
	switch {
	case len(parts) == 0 && v.machine == Sleeping:
		return false
	case len(parts) == 0:
		p.fail(m.spec, 14, "Invalid command")
		return false
	}
	if !p.text {
		p.b = append(p.b, '{')
	}
	for i, part := range parts {
		if p.text {
			p.b = append(p.b, "CMD="...)
			p.chars(part)
			p.b = append(p.b, '|')
			summary = m.one(p, part, "", v) || summary
			continue
		}
		if i > 0 {
			p.b = append(p.b, ',')
		}
		p.b = append(p.b, '"')
		p.chars(part)
		p.b = append(p.b, `":[`...)
		summary = m.one(p, part, "", v) || summary
		p.b = append(p.b, ']')
	}
	if !p.text {
		p.b = append(p.b, `,"id":1}`...)
	}
	return summary
}

func contains(list []string, s string) bool {
	for _, have := range list {
		if have == s {
			return true
		}
	}
	return false
}

// fail appends an error reply in the firmware's own form.
func (p *page) fail(s *spec, code int, msg string) {
	if s.flatBad {
		p.flat('E', code)
		p.str("Msg", strings.ToLower(msg))
		p.done()
		return
	}
	descr := p.descr
	if s.bareBad && code == 14 {
		p.descr = ""
	}
	p.status('E', code, msg)
	p.bare()
	p.descr = descr
}

// outside returns the index of the first occurrence of pattern in b from start on that does not begin inside a JSON
// string, or -1.
func outside(b []byte, start int, pattern string) int {
	in := false
	for i := start; i < len(b); i++ {
		if !in && bytes.HasPrefix(b[i:], []byte(pattern)) {
			return i
		}
		switch {
		case in && b[i] == '\\':
			i++
		case b[i] == '"':
			in = !in
		}
	}
	return -1
}
