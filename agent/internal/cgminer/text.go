package cgminer

import (
	"bytes"
	"strings"
)

// isText reports whether src begins like a reply in the API's text form.
func isText(src []byte) bool {
	return bytes.HasPrefix(src, []byte("STATUS=")) || bytes.HasPrefix(src, []byte("CMD="))
}

// text reads the text form, "STATUS=S,When=1|SUMMARY,Elapsed=68|", into the shape of its JSON form.
// Records end in "|", fields in ",", a backslash takes the next byte as it is. Joined text ("CMD=summary|...")
// becomes the joined shape. It is only met when a firmware ignores that the request was JSON, so it takes
// the plain way: it writes JSON and parses that.
func (d *Doc) text(src []byte, i int) {
	var out strings.Builder
	out.WriteByte('{')
	var section, joined string // the open array, and the open command of a joined reply
	closeSection := func() {
		if section != "" {
			out.WriteByte(']')
			section = ""
		}
	}
	for _, record := range splitText(src[i:], '|') {
		fields := splitText(record, ',')
		if len(fields) == 0 || len(fields[0]) == 0 {
			continue
		}
		name, value, isField := cutText(fields[0])
		if isField && name == "CMD" {
			closeSection()
			if joined != "" {
				out.WriteString("}],")
			}
			joined = value
			writeString(&out, value)
			out.WriteString(":[{")
			continue
		}
		if name != "STATUS" {
			// "POOL=0,..." is one record of POOLS, "SUMMARY,..." the record of SUMMARY.
			name = sectionOfText(name)
		}
		if name != section {
			if section != "" {
				out.WriteString("],")
			}
			section = name
			writeString(&out, name)
			out.WriteString(":[")
		} else {
			out.WriteByte(',')
		}
		out.WriteByte('{')
		first := true
		for _, f := range fields {
			key, val, ok := cutText(f)
			if !ok { // the record's own name, or a stray comma in an unescaped text
				continue
			}
			if !first {
				out.WriteByte(',')
			}
			first = false
			writeString(&out, key)
			out.WriteByte(':')
			writeString(&out, val)
		}
		out.WriteByte('}')
	}
	closeSection()
	if joined != "" {
		out.WriteString("}]")
	}
	out.WriteByte('}')
	off := len(d.buf)
	d.buf = append(d.buf, out.String()...)
	// Offsets count from the start of d.buf, so the JSON is parsed where it lies.
	d.value(d.buf, off, 0)
}

// sectionOfText names the section that a text record belongs to.
func sectionOfText(name string) string {
	switch name {
	case "POOL":
		return "POOLS"
	case "ASC", "PGA", "GPU":
		return "DEVS"
	}
	return name
}

func splitText(b []byte, sep byte) [][]byte {
	var out [][]byte
	start := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case sep:
			out = append(out, b[start:i])
			start = i + 1
		}
	}
	if rest := bytes.TrimSpace(b[start:]); len(rest) > 0 {
		out = append(out, rest)
	}
	return out
}

func cutText(field []byte) (key, value string, ok bool) {
	for i := 0; i < len(field); i++ {
		switch field[i] {
		case '\\':
			i++
		case '=':
			return unescapeText(field[:i]), unescapeText(field[i+1:]), true
		}
	}
	return unescapeText(field), "", false
}

func unescapeText(b []byte) string {
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b)
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' && i+1 < len(b) {
			i++
		}
		out = append(out, b[i])
	}
	return string(out)
}

func writeString(out *strings.Builder, s string) {
	out.WriteByte('"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			out.WriteByte('\\')
		}
		out.WriteByte(s[i])
	}
	out.WriteByte('"')
}
