package config

import (
	"fmt"
	"reflect"
	"strings"
)

// field is one leaf of Config, with all its names.
type field struct {
	path  string // poll.interval
	env   string // HSI_POLL_INTERVAL
	flag  string // poll-interval
	doc   string
	def   string
	min   string
	max   string
	index []int
}

// fields lists the leaves of t in the order of the struct. prefix is the path so far.
func fields(t reflect.Type, prefix string, index []int) []field {
	var out []field
	for i := range t.NumField() {
		sf := t.Field(i)
		path := prefix + sf.Tag.Get("yaml")
		at := append(append([]int{}, index...), i)
		if sf.Type.Kind() == reflect.Struct {
			out = append(out, fields(sf.Type, path+".", at)...)
			continue
		}
		out = append(out, field{
			path: path, env: "HSI_" + strings.ToUpper(strings.ReplaceAll(path, ".", "_")),
			flag: strings.NewReplacer(".", "-", "_", "-").Replace(path), doc: sf.Tag.Get("doc"),
			def: sf.Tag.Get("default"), min: sf.Tag.Get("min"), max: sf.Tag.Get("max"), index: at,
		})
	}
	return out
}

func configFields() []field { return fields(reflect.TypeFor[Config](), "", nil) }
func targetFields() []field { return fields(reflect.TypeFor[Target](), "", nil) }

func setDefaults(v reflect.Value, fs []field) {
	for _, f := range fs {
		if f.def == "" {
			continue
		}
		if err := parseInto(v.FieldByIndex(f.index), f.def); err != nil {
			panic(fmt.Sprintf("config: default of %s: %v", f.path, err))
		}
	}
}

// Default returns the configuration with nothing set by a user. It has no targets.
func Default() Config {
	var c Config
	setDefaults(reflect.ValueOf(&c).Elem(), configFields())
	return c
}

func newTarget() Target {
	var t Target
	setDefaults(reflect.ValueOf(&t).Elem(), targetFields())
	return t
}

// problem is one thing a user has to mend.
type problem struct{ where, what string }

type problems struct {
	list   []problem
	broken map[string]bool // paths of values that have a problem: what is there now is not what was meant
}

// unread notes that the value at path has a problem, so that what follows from it is not reported as well.
func (p *problems) unread(path string) {
	if p.broken == nil {
		p.broken = map[string]bool{}
	}
	p.broken[path] = true
}

// read reports whether all of these values are good so far.
func (p *problems) read(paths ...string) bool {
	for _, path := range paths {
		if p.broken[path] {
			return false
		}
	}
	return true
}

func (p *problems) add(where, what string) { p.list = append(p.list, problem{where, what}) }

// Error lists every problem of a configuration.
type Error struct{ Problems []string }

// Error implements error: one line for each problem.
func (e *Error) Error() string {
	if len(e.Problems) == 1 {
		return "configuration: " + e.Problems[0]
	}
	return fmt.Sprintf("configuration has %d problems:\n  %s", len(e.Problems), strings.Join(e.Problems, "\n  "))
}

// maxProblems bounds the report: a file that is something else entirely would fill the screen.
const maxProblems = 50

func (p *problems) err() error {
	if len(p.list) == 0 {
		return nil
	}
	e := &Error{}
	for i, x := range p.list {
		if i == maxProblems {
			e.Problems = append(e.Problems, fmt.Sprintf("and %d more", len(p.list)-i))
			break
		}
		e.Problems = append(e.Problems, x.where+": "+x.what)
	}
	return e
}

// Example returns a commented YAML file with every key, its default, bounds and environment variable.
func Example() string {
	var b strings.Builder
	b.WriteString("# Configuration of hashinsight-agent. Every key is optional except targets.\n" +
		"# The environment variable named with a key overrides it, and so does the flag of the same name\n" +
		"# (--poll-interval for poll.interval), which wins over both. Unknown keys are errors.\n")
	section := ""
	for _, f := range configFields() {
		name, indent := f.path, ""
		if s, leaf, ok := strings.Cut(f.path, "."); ok {
			if s != section {
				fmt.Fprintf(&b, "\n%s:\n", s)
			}
			section, name, indent = s, leaf, "  "
		} else {
			section = ""
		}
		if indent == "" {
			b.WriteByte('\n')
		}
		f.comment(&b, indent)
		fmt.Fprintf(&b, "%s# Environment: %s\n", indent, f.env)
		if f.path == "targets" {
			b.WriteString("targets:\n")
			lead := "  - "
			for _, tf := range targetFields() {
				tf.comment(&b, "    ")
				if tf.path == "addresses" {
					fmt.Fprintf(&b, "%s%s: [\"10.0.0.0/24\", \"10.0.1.1-10.0.1.50\", \"10.0.2.5\", \"10.0.2.6:4029\"]\n", lead, tf.path)
				} else {
					fmt.Fprintf(&b, "    # %s: %s\n", tf.path, tf.sample())
				}
				lead = "    "
			}
			continue
		}
		if f.def == "" {
			fmt.Fprintf(&b, "%s# %s: %s\n", indent, name, f.sample())
		} else {
			fmt.Fprintf(&b, "%s%s: %s\n", indent, name, f.def)
		}
	}
	return b.String()
}

func (f field) comment(b *strings.Builder, indent string) {
	text := f.doc
	if f.min != "" {
		text += fmt.Sprintf(" From %s to %s.", f.min, f.max)
	}
	line := indent + "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+len(word) > 110 {
			fmt.Fprintln(b, line)
			line = indent + "#"
		}
		line += " " + word
	}
	fmt.Fprintln(b, line)
}

// sample is a value to show where there is no default.
func (f field) sample() string {
	if f.def != "" {
		return f.def
	}
	switch f.path {
	case "hub.address":
		return "hub.example.com:5443"
	case "identity_dir":
		return "/var/lib/hashinsight-agent/identity"
	case "log.format":
		return "json"
	case "log.dir":
		return "/var/log/hashinsight"
	default: // the durations of a target
		return "30s"
	}
}
