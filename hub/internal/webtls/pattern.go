package webtls

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// attributes are the parts of a subject that patterns may name, with their object identifiers.
func attributes() map[string]string {
	return map[string]string{
		"CN": "2.5.4.3", "SERIALNUMBER": "2.5.4.5", "C": "2.5.4.6", "L": "2.5.4.7", "ST": "2.5.4.8", "STREET": "2.5.4.9", "O": "2.5.4.10", "OU": "2.5.4.11",
		"DC": "0.9.2342.19200300.100.1.25", "UID": "0.9.2342.19200300.100.1.1",
	}
}

// Pattern is one allowed form of a subject: attributes that must all be there. A value may hold *, which stands for any text, also none;
// case does not matter. Every value that the subject has of a named attribute must match, so that nobody slips in by having two
// common names. Attributes that the pattern does not name may be anything.
type Pattern struct{ parts []part }

type part struct{ oid, value string }

// ParsePatterns reads patterns separated by semicolons, such as CN=*.example.net,O=Example;CN=ops. A backslash keeps the character
// after it from meaning anything.
func ParsePatterns(s string) ([]Pattern, error) {
	known := attributes()
	var all []Pattern
	for _, text := range split(s, ';') {
		if strings.TrimSpace(text) == "" {
			continue
		}
		var p Pattern
		for _, attribute := range split(text, ',') {
			name, value, ok := strings.Cut(attribute, "=")
			oid := known[strings.ToUpper(strings.TrimSpace(name))]
			value = strings.TrimSpace(value)
			switch {
			case !ok || value == "":
				return nil, fmt.Errorf("has %.80q: want ATTRIBUTE=value, several separated by commas, patterns by semicolons", attribute)
			case oid == "":
				return nil, fmt.Errorf("has the attribute %.40q: want one of %s", name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
			}
			p.parts = append(p.parts, part{oid, strings.ToLower(value)})
		}
		all = append(all, p)
	}
	if len(all) == 0 && strings.TrimSpace(s) != "" {
		return nil, errors.New("has no pattern in it")
	}
	return all, nil
}

// split cuts at a separator that no backslash precedes. Backslashes stay, for match.
func split(s string, sep byte) []string {
	var out []string
	begin := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case sep:
			out = append(out, s[begin:i])
			begin = i + 1
		}
	}
	return append(out, s[begin:])
}

// Match reports whether a subject has the pattern's form.
func (p Pattern) Match(subject pkix.Name) bool {
	values := make(map[string][]string)
	for _, a := range subject.Names {
		text, ok := a.Value.(string)
		if !ok {
			text = "\x00" // no pattern's text
		}
		values[a.Type.String()] = append(values[a.Type.String()], strings.ToLower(text))
	}
	wanted := make(map[string][]string)
	for _, part := range p.parts {
		wanted[part.oid] = append(wanted[part.oid], part.value)
		if !slices.ContainsFunc(values[part.oid], func(v string) bool { return match(part.value, v) }) {
			return false
		}
	}
	for oid, patterns := range wanted {
		for _, v := range values[oid] {
			if !slices.ContainsFunc(patterns, func(p string) bool { return match(p, v) }) {
				return false
			}
		}
	}
	return true
}

// match compares text with a pattern in which * stands for any text and a backslash for the character after it.
func match(pattern, text string) bool {
	// After a *, back is where to go on when what follows does not fit: one byte later in the text.
	p, t, star, back := 0, 0, -1, 0
	for t < len(text) {
		literal, width := byte(0), 0
		if p < len(pattern) {
			literal, width = pattern[p], 1
			if literal == '\\' && p+1 < len(pattern) {
				literal, width = pattern[p+1], 2
			}
		}
		switch {
		case width == 1 && literal == '*':
			star, back = p, t
			p++
		case width > 0 && literal == text[t]:
			p += width
			t++
		case star >= 0:
			back++
			p, t = star+1, back
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// allowed reports whether one of the patterns lets a certificate's subject pass; with no pattern all pass.
func allowed(patterns []Pattern, c *x509.Certificate) bool {
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p Pattern) bool { return p.Match(c.Subject) })
}
