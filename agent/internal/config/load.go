package config

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"sort"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/spf13/pflag"
)

// maxFile bounds a configuration file; 65,536 single addresses fit.
const maxFile = 4 << 20

// Flags registers one flag for each field. Load reads those that were set.
func Flags(fs *pflag.FlagSet) {
	for _, f := range configFields() {
		fs.String(f.flag, "", f.doc+" ("+f.path+", "+f.env+")")
	}
}

// Load reads the file (none when path is ""), then the environment, then the flags that were set, and checks the result.
// env is as os.Environ gives it; flags may be nil. The error is an *Error that names every problem.
func Load(path string, env []string, flags *pflag.FlagSet) (Config, error) {
	c := Default()
	p := &problems{}
	if path != "" {
		b, err := readFile(path)
		if err != nil {
			return Config{}, err
		}
		parseYAML(&c, b, p)
	}
	v := reflect.ValueOf(&c).Elem()
	known := map[string]bool{}
	vars := environment(env)
	for _, f := range configFields() {
		known[f.env] = true
		if s, ok := vars[f.env]; ok {
			f.set(v, s, f.env, p)
		}
	}
	for _, name := range unknown(vars, known) {
		p.add(name, "is not a setting of the agent"+suggest(name, known)+"; 'config example' lists all")
	}
	if flags != nil {
		for _, f := range configFields() {
			if fl := flags.Lookup(f.flag); fl != nil && fl.Changed {
				f.set(v, fl.Value.String(), "--"+f.flag, p)
			}
		}
	}
	c.checkBounds(p)
	c.check(p)
	return c, p.err()
}

func readFile(path string) ([]byte, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w: 'config example' writes a new file", err)
	}
	if fi.Size() > maxFile {
		return nil, fmt.Errorf("configuration: %s has %d bytes, at most %d are read: is it the right file?", path, fi.Size(), maxFile)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return b, nil
}

func (f field) set(v reflect.Value, s, where string, p *problems) {
	if err := parseInto(v.FieldByIndex(f.index), s); err != nil {
		p.unread(f.path)
		p.add(where, err.Error())
	}
}

func (c *Config) checkBounds(p *problems) {
	v := reflect.ValueOf(c).Elem()
	for _, f := range configFields() {
		if err := f.inBounds(v.FieldByIndex(f.index)); err != nil {
			p.unread(f.path)
			p.add(f.path, err.Error())
		}
	}
	for i := range c.Targets {
		tv := reflect.ValueOf(&c.Targets[i]).Elem()
		for _, f := range targetFields() {
			if err := f.inBounds(tv.FieldByIndex(f.index)); err != nil {
				p.add(fmt.Sprintf("targets[%d].%s", i, f.path), err.Error())
			}
		}
	}
}

func environment(env []string) map[string]string {
	vars := map[string]string{}
	for _, e := range env {
		if k, v, ok := strings.Cut(e, "="); ok && strings.HasPrefix(k, "HSI_") {
			vars[k] = v
		}
	}
	return vars
}

// unknown lists variables that look like settings but are none. HSI_BENCH and HSI_TEST_… belong to the tests.
func unknown(vars map[string]string, known map[string]bool) []string {
	var out []string
	for k := range vars {
		if !known[k] && k != "HSI_BENCH" && !strings.HasPrefix(k, "HSI_TEST_") {
			out = append(out, k)
		}
	}
	sort.Strings(out)
	return out
}

// parseYAML walks the document itself instead of decoding it, so that every unknown key and wrong value is found in one
// pass and has its line.
func parseYAML(c *Config, b []byte, p *problems) {
	before := len(p.list)
	defer func() {
		if len(p.list) > before { // the targets may be in what was not understood
			p.unread("targets")
		}
	}()
	file, err := parser.ParseBytes(b, 0)
	if err != nil {
		p.add("file", "is not YAML: "+strings.TrimSpace(err.Error()))
		return
	}
	docs := slices.DeleteFunc(file.Docs, func(d *ast.DocumentNode) bool { return d == nil || d.Body == nil })
	if len(docs) == 0 {
		return
	}
	if len(docs) > 1 {
		p.add(line(docs[1].Body), "a second document: only one is read")
		return
	}
	walk(reflect.ValueOf(c).Elem(), docs[0].Body, "", p)
}

// walk sets the struct v from a mapping.
func walk(v reflect.Value, n ast.Node, prefix string, p *problems) {
	m, ok := n.(ast.MapNode)
	if !ok {
		if _, empty := n.(*ast.CommentGroupNode); !empty {
			p.add(line(n), fmt.Sprintf("%s must be keys with values", orTop(prefix)))
		}
		return
	}
	byKey, known := map[string]int{}, map[string]bool{}
	for i := range v.NumField() {
		k := v.Type().Field(i).Tag.Get("yaml")
		byKey[k], known[k] = i, true
	}
	for it := m.MapRange(); it.Next(); {
		key := it.Key().String()
		i, ok := byKey[key]
		if !ok {
			p.add(line(it.Key()), fmt.Sprintf("unknown key %.60q%s", prefix+key, suggest(key, known)))
			continue
		}
		setNode(v.Field(i), it.Value(), prefix+key, p)
	}
}

func setNode(v reflect.Value, n ast.Node, path string, p *problems) {
	before := len(p.list)
	defer func() {
		if len(p.list) > before {
			p.unread(path)
		}
	}()
	switch n.Type() {
	case ast.NullType:
		if v.Kind() == reflect.Struct {
			return // a section whose keys are all commented out
		}
		p.add(line(n), path+" has no value: set it or remove the key")
		return
	case ast.AnchorType, ast.AliasType, ast.TagType, ast.MergeKeyType:
		p.add(line(n), path+": anchors, aliases and tags are not read here: write the value out")
		return
	default:
	}
	switch {
	case v.Kind() == reflect.Struct:
		walk(v, n, path+".", p)
	case v.Kind() == reflect.Slice:
		seq, ok := n.(*ast.SequenceNode)
		if !ok {
			p.add(line(n), path+" must be a list, such as [a, b]")
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values)))
		for i, item := range seq.Values {
			el := v.Index(i)
			if el.Type() == reflect.TypeFor[Target]() {
				el.Set(reflect.ValueOf(newTarget()))
			}
			setNode(el, item, fmt.Sprintf("%s[%d]", path, i), p)
		}
	default:
		s, ok := n.(ast.ScalarNode)
		if !ok {
			p.add(line(n), path+" must be a single value")
			return
		}
		text := s.GetToken().Value
		if lit, ok := n.(*ast.StringNode); ok {
			text = lit.Value
		}
		if err := parseInto(v, text); err != nil {
			p.add(line(n), path+": "+err.Error())
		}
	}
}

func line(n ast.Node) string {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return fmt.Sprintf("line %d", t.Position.Line)
	}
	return "file"
}

func orTop(prefix string) string {
	if prefix == "" {
		return "the file"
	}
	return strings.TrimSuffix(prefix, ".")
}

// suggest names the known word that is at most two changed letters away.
func suggest(word string, known map[string]bool) string {
	best, dist := "", 3
	for k := range known {
		if d := distance(word, k); d < dist || (d == dist && k < best) {
			best, dist = k, d
		}
	}
	if best == "" || dist > 2 {
		return ""
	}
	return fmt.Sprintf(": did you mean %s?", best)
}

// distance is the Levenshtein distance of two short words.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
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
			prev, row[j+1] = row[j+1], min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// IdentityDir returns the identity directory alone, from the file and the environment: a site joins before the rest of its
// configuration is there.
func IdentityDir(path string, env []string) (string, error) {
	c := Default()
	p := &problems{}
	if path != "" {
		b, err := readFile(path)
		if err != nil {
			return "", err
		}
		parseYAML(&c, b, p)
	}
	v := reflect.ValueOf(&c).Elem()
	vars := environment(env)
	for _, f := range configFields() {
		if s, ok := vars[f.env]; ok && (f.env == "HSI_DATA_DIR" || f.env == "HSI_IDENTITY_DIR") {
			f.set(v, s, f.env, p)
		}
	}
	return c.Identity(), p.err()
}
