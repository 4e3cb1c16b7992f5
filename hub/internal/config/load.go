package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/joho/godotenv"
)

// maxFile bounds configuration files, in bytes.
const maxFile = 1 << 20

// Setting describes one field of Config.
type Setting struct {
	Name    string // in the environment
	Alias   string // an older name, still read
	Section string
	Default string
	Doc     string
	Secret  bool // has no flag
	Bool    bool

	field    int
	min, max int
}

// Flag is the setting's name on the command line; empty for secrets.
func (s Setting) Flag() string {
	if s.Secret {
		return ""
	}
	return strings.ReplaceAll(strings.ToLower(s.Name), "_", "-")
}

// Settings lists all settings in the order of Config.
func Settings() []Setting {
	t := reflect.TypeFor[Config]()
	var all []Setting
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("env")
		if name == "" || name == "-" {
			continue
		}
		s := Setting{
			Name: name, Alias: f.Tag.Get("alias"), Section: f.Tag.Get("section"), Default: f.Tag.Get("default"), Doc: f.Tag.Get("doc"),
			Secret: f.Type == reflect.TypeFor[Secret]() || f.Type == reflect.TypeFor[URL]() || f.Type == reflect.TypeFor[Endpoints](), Bool: f.Type.Kind() == reflect.Bool, field: i,
		}
		s.min, _ = strconv.Atoi(f.Tag.Get("min")) // a test reads every tag
		s.max, _ = strconv.Atoi(f.Tag.Get("max"))
		all = append(all, s)
	}
	return all
}

// Sources is where Load looks. The zero value reads nothing and gives the defaults.
type Sources struct {
	Flags   map[string]string // by setting name; only those that were given
	Environ []string          // as os.Environ
	DotEnv  string            // path; a missing file is no error
	YAML    string            // path; a missing file is an error; empty: none
}

// DotEnvPath is the .env file beside the program.
func DotEnvPath() string {
	exe, err := os.Executable()
	if err != nil {
		return ""
	}
	return filepath.Join(filepath.Dir(exe), ".env")
}

// ProblemsError is all that is wrong with a configuration.
type ProblemsError []error

// Error names every problem, one a line.
func (p ProblemsError) Error() string {
	lines := make([]string, len(p))
	for i, e := range p {
		lines[i] = "  - " + e.Error()
	}
	return fmt.Sprintf("the configuration has %d problem(s):\n%s", len(p), strings.Join(lines, "\n"))
}

// Unwrap gives the problems.
func (p ProblemsError) Unwrap() []error { return p }

// Load reads all sources. Its error is of type ProblemsError and names everything that is wrong; the Config then holds what
// could be read.
func Load(src Sources) (*Config, error) {
	var problems ProblemsError
	c := &Config{Sources: map[string]string{}}
	settings := Settings()
	known := make(map[string]string, 2*len(settings)) // any name → setting's name
	for _, s := range settings {
		known[s.Name] = s.Name
		if s.Alias != "" {
			known[s.Alias] = s.Name
		}
	}

	// Lightest first: a later layer overwrites.
	values := map[string]string{}
	set := func(name, value, source string) {
		if value != "" {
			values[name], c.Sources[name] = value, source
		}
	}
	layer := func(source string, m map[string]string) {
		for _, s := range settings { // the new name is read after the alias, and so wins
			if s.Alias != "" {
				set(s.Name, m[s.Alias], source)
			}
			set(s.Name, m[s.Name], source)
		}
	}
	if src.YAML != "" {
		m, errs := readYAML(src.YAML, known)
		problems = append(problems, errs...)
		layer(src.YAML, m)
	}
	if src.DotEnv != "" {
		m, err := readDotEnv(src.DotEnv)
		if err != nil {
			problems = append(problems, err)
		}
		for name := range m {
			if _, ok := known[name]; !ok {
				c.Warnings = append(c.Warnings, fmt.Sprintf("%s: %s is not a setting of this program%s", src.DotEnv, name, suggest(name, known)))
			}
		}
		slices.Sort(c.Warnings)
		layer(src.DotEnv, m)
	}
	env := map[string]string{}
	for _, kv := range src.Environ {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	layer("environment", env)
	for name, v := range src.Flags {
		set(name, v, "flag")
	}

	v := reflect.ValueOf(c).Elem()
	for _, s := range settings {
		text, given := values[s.Name]
		if !given {
			text = s.Default
		}
		if err := assign(v.Field(s.field), s, strings.TrimSpace(text)); err != nil {
			problems = append(problems, fmt.Errorf("%s (from %s) %w", s.Name, c.Sources[s.Name], err))
		}
	}
	problems = append(problems, c.finish(DefaultDataDir)...)
	if len(problems) > 0 {
		slices.SortStableFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
		return c, problems
	}
	return c, nil
}

// assign parses text into a field. Its errors do not repeat secrets: those are strings and cannot fail here.
func assign(f reflect.Value, s Setting, text string) error {
	switch {
	case f.Type() == reflect.TypeFor[[]netip.Prefix]():
		p, err := parsePrefixes(text)
		f.Set(reflect.ValueOf(p))
		return err
	case f.Type() == reflect.TypeFor[netip.Prefix]():
		p, err := parsePrefixes(text)
		if err != nil {
			return err
		}
		if len(p) != 1 {
			return fmt.Errorf("is %.60q: want one prefix such as 10.8.0.0/16", text)
		}
		f.Set(reflect.ValueOf(p[0]))
	case f.Kind() == reflect.Bool:
		b, err := parseBool(text)
		f.SetBool(b)
		return err
	case f.Kind() == reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("is %.40q: want a whole number", text)
		}
		if n < s.min || n > s.max {
			return fmt.Errorf("is %d: want %d to %d", n, s.min, s.max)
		}
		f.SetInt(int64(n))
	default:
		f.SetString(text)
	}
	return nil
}

// parseBool takes 1, true, yes (any case) as on; 0, false, no and nothing as off.
func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "1", "true", "yes":
		return true, nil
	case "", "0", "false", "no":
		return false, nil
	default:
		return false, fmt.Errorf("is %.40q: want 1, true or yes, or else 0, false or no", s)
	}
}

func parsePrefixes(s string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	var errs []string
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		if a, err := netip.ParseAddr(part); err == nil {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(part)
		if err != nil {
			errs = append(errs, fmt.Sprintf("has %.60q: want an address or a prefix such as 10.0.0.0/8", part))
			continue
		}
		if p != p.Masked() {
			errs = append(errs, fmt.Sprintf("has %s, which has bits beyond its length: write %s", p, p.Masked()))
			continue
		}
		out = append(out, p)
	}
	if len(errs) > 0 {
		return out, errors.New(strings.Join(errs, "; "))
	}
	return out, nil
}

func readFile(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() > maxFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	return os.ReadFile(path)
}

func readDotEnv(path string) (map[string]string, error) {
	b, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the .env file: %w", err)
	}
	m, err := godotenv.UnmarshalBytes(b)
	if err != nil { // the parser's text quotes the file, and so perhaps a secret
		return nil, fmt.Errorf("%s is malformed: want lines NAME=value", path)
	}
	return m, nil
}

func readYAML(path string, known map[string]string) (map[string]string, []error) {
	b, err := readFile(path)
	if err != nil {
		return nil, []error{fmt.Errorf("reading the configuration file: %w", err)}
	}
	var doc map[string]any
	if err := yaml.Unmarshal(b, &doc); err != nil {
		first, _, _ := strings.Cut(yaml.FormatError(err, false, false), "\n") // what follows quotes the file, and so perhaps a secret
		return nil, []error{fmt.Errorf("%s is not valid YAML: %s", path, first)}
	}
	var errs []error
	out := map[string]string{}
	for key, v := range doc {
		name := strings.ToUpper(key)
		if _, ok := known[name]; !ok || key != strings.ToLower(key) {
			errs = append(errs, fmt.Errorf("%s: unknown key %.60q%s", path, key, strings.ToLower(suggest(name, known))))
			continue
		}
		switch v := v.(type) {
		case nil:
		case []any:
			parts := make([]string, len(v))
			for i, p := range v {
				parts[i] = fmt.Sprint(p)
			}
			out[name] = strings.Join(parts, ",")
		case map[string]any:
			errs = append(errs, fmt.Errorf("%s: %s has a block of keys, want a value", path, key))
		default:
			out[name] = fmt.Sprint(v)
		}
	}
	return out, errs
}

// suggest names the known setting that is nearest to a misspelt one.
func suggest(name string, known map[string]string) string {
	best, at := "", 4
	for k := range known {
		if d := distance(name, k); d < at || d == at && k < best {
			best, at = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", best)
}

// distance is the number of single-byte changes between two names.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		prev := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := prev
			if a[i] != b[j] {
				cost++
			}
			prev = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
