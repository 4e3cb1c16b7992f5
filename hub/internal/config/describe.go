package config

import (
	"fmt"
	"reflect"
	"strings"
)

//go:generate go test -count=1 -run TestExampleIsUpToDate . -update

// Example returns the text of .env.example: every setting with its explanation and default, commented out.
func Example() string {
	var b strings.Builder
	b.WriteString("# Settings of hashinsight-hub. Generated from its configuration struct; `make gen` writes it again.\n" +
		"# Copy to .env beside the program; the environment wins over it. The same names work in the YAML file in\n" +
		"# lower case, and as flags in lower case with dashes (not the secrets).\n")
	section := ""
	for _, s := range Settings() {
		if s.Section != section {
			section = s.Section
			fmt.Fprintf(&b, "\n## %s\n", section)
		}
		b.WriteString("\n")
		for _, line := range wrap(s.Doc, 116) {
			fmt.Fprintf(&b, "# %s\n", line)
		}
		fmt.Fprintf(&b, "#%s=%s\n", s.Name, s.Default)
	}
	return b.String()
}

func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// Value is a setting as a person may see it.
type Value struct {
	Name   string `json:"name"`
	Value  string `json:"value"` // secrets are hidden: set or missing
	Source string `json:"source"`
}

// Values lists the settings as they are.
func (c *Config) Values() []Value {
	v := reflect.ValueOf(c).Elem()
	var out []Value
	for _, s := range Settings() {
		source := c.Sources[s.Name]
		if source == "" {
			source = "default"
		}
		text := fmt.Sprint(v.Field(s.field).Interface())
		if v.Field(s.field).Kind() == reflect.Slice {
			text = strings.Trim(text, "[]")
		}
		if v.Field(s.field).Type() == reflect.TypeFor[Secret]() && text == "" {
			text = missing
		}
		out = append(out, Value{Name: s.Name, Value: text, Source: source})
	}
	return out
}
