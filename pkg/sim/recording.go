package sim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"time"
)

// Joined says how a recorded miner treats joined commands.
type Joined int

// Ways to treat joined commands.
const (
	JoinedAuto   Joined = iota // refused if the recording is of stock Antminer firmware of the S17 to S21 era, else composed
	JoinedAnswer               // composed of the recorded replies
	JoinedRefuse               // "Invalid command"
)

// Recording is a folder of replies that a real device once gave, one file <command>.json each, which one miner of the
// fleet serves byte for byte. <command>-<parameter>.json and <command>_<parameter>.json answer a command with a
// parameter; a+b.json is a recorded joined reply. Files beginning with http-, expected.json and other endings are ignored.
type Recording struct {
	Dir    string
	Name   string // what the fleet calls it; "" means the folder's name
	Joined Joined
}

// maxRecording bounds one folder.
const maxRecording = 64 << 20 // bytes

// recording is a loaded folder.
type recording struct {
	name    string
	replies map[string][]byte // by file name without ending
	refuse  bool
	descr   string
}

var (
	descrPattern = regexp.MustCompile(`"Description"\s*:\s*"((?:[^"\\]|\\.)*)"`)
	typePattern  = regexp.MustCompile(`"Type"\s*:\s*"([^"]*)"`)
	// From the S17 on; third-party firmware names itself in Type or in the program's version and composes.
	refusing = regexp.MustCompile(`(?i)^antminer [stl](17|19|21)`)
	foreign  = regexp.MustCompile(`(?i)vnish|hiveon|luxminer|rwglr|bosminer|boser|marafw|kaonsu`)
)

func (r Recording) load() (*recording, error) {
	files, err := filepath.Glob(filepath.Join(globQuote(r.Dir), "*.json"))
	if err != nil {
		return nil, fmt.Errorf("recorded replies %s: %w", r.Dir, err)
	}
	sort.Strings(files)
	out := &recording{name: r.Name, replies: make(map[string][]byte)}
	if out.name == "" {
		out.name = filepath.Base(filepath.Clean(r.Dir))
	}
	var size int
	var all []byte
	for _, path := range files {
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		if name == "expected" || strings.HasPrefix(name, "http-") {
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("recorded replies: %w", err)
		}
		if size += len(b); size > maxRecording {
			return nil, fmt.Errorf("recorded replies %s: more than %d MiB", r.Dir, maxRecording>>20)
		}
		out.replies[name] = b
		all = append(all, b...)
	}
	if len(out.replies) == 0 {
		return nil, fmt.Errorf("recorded replies %s: no file <command>.json in it", r.Dir)
	}
	if m := descrPattern.FindSubmatch(all); m != nil {
		out.descr = string(m[1])
	}
	out.refuse = r.Joined == JoinedRefuse
	if m := typePattern.FindSubmatch(append(append([]byte(nil), out.replies["stats"]...), out.replies["version"]...)); m != nil && r.Joined == JoinedAuto {
		out.refuse = refusing.Match(m[1]) && !foreign.Match(all) && !out.joinedOnly()
	}
	return out, nil
}

// globQuote keeps the characters of a folder's name from being a pattern.
func globQuote(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

// joinedOnly reports whether the device was recorded answering a joined command.
func (r *recording) joinedOnly() bool {
	for name := range r.replies {
		if strings.Contains(name, "+") {
			return true
		}
	}
	return false
}

// answer is the reply to one request, with the NUL that ends it.
func (r *recording) answer(raw []byte, now time.Time) []byte {
	req := parseRequest(raw, true)
	var b []byte
	switch {
	case req.code == 23:
		b = r.fail(b, 23, "Invalid JSON", now)
	case req.code == 24:
		b = r.fail(b, 24, "Missing JSON 'command'", now)
	case strings.Contains(req.command, "+"):
		b = r.compose(req.command, now)
	default:
		b = r.one(b, req.command, req.param, now)
	}
	return append(b, 0)
}

func (r *recording) one(b []byte, command, param string, now time.Time) []byte {
	for _, name := range []string{command + "-" + param, command + "_" + param} {
		if found, ok := r.replies[name]; ok && param != "" {
			return append(b, found...)
		}
	}
	if found, ok := r.replies[command]; ok {
		return append(b, found...)
	}
	if found, ok := r.part(command); ok {
		return append(b, found...)
	}
	return r.fail(b, 14, "Invalid command", now)
}

// compose answers a joined command: as recorded if exactly this set was, else from the single replies.
func (r *recording) compose(command string, now time.Time) []byte {
	parts := strings.FieldsFunc(command, func(c rune) bool { return c == '+' })
	for name, found := range r.replies {
		if strings.Contains(name, "+") && sameSet(strings.Split(name, "+"), parts) {
			return append([]byte(nil), found...)
		}
	}
	if r.refuse || len(parts) == 0 {
		return r.fail(nil, 14, "Invalid command", now)
	}
	p := page{b: []byte{'{'}}
	var done []string
	for _, part := range parts {
		if contains(done, part) {
			continue
		}
		if len(done) > 0 {
			p.b = append(p.b, ',')
		}
		done = append(done, part)
		p.quote()
		p.chars(part)
		p.quote()
		p.b = append(p.b, ":["...)
		p.b = bytes.TrimRight(r.one(p.b, part, "", now), " \t\r\n\x00")
		p.b = append(p.b, ']')
	}
	return append(p.b, `,"id":1}`...)
}

// part takes one section out of a recorded joined reply.
func (r *recording) part(command string) ([]byte, bool) {
	for name, found := range r.replies {
		if !strings.Contains(name, "+") || !contains(strings.Split(name, "+"), command) {
			continue
		}
		var sections map[string]json.RawMessage
		var one []json.RawMessage
		if json.Unmarshal(found, &sections) == nil && json.Unmarshal(sections[command], &one) == nil && len(one) == 1 {
			return one[0], true
		}
	}
	return nil, false
}

func sameSet(a, b []string) bool {
	for _, x := range a {
		if !contains(b, x) {
			return false
		}
	}
	for _, x := range b {
		if !contains(a, x) {
			return false
		}
	}
	return true
}

func (r *recording) fail(b []byte, code int, msg string, now time.Time) []byte {
	p := page{b: b, when: now.Unix(), descr: r.descr}
	p.status('E', code, msg)
	p.bare()
	return p.b
}
