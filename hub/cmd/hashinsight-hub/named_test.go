package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var namedForm = regexp.MustCompile(`hashinsight-hub((?: [a-z][a-z-]*)+)`)

// What tells somebody to run a command names one that there is.
func TestEveryCommandThatATextNamesExists(t *testing.T) {
	seen := 0
	look := func(where, text string) {
		for _, m := range namedForm.FindAllStringSubmatch(text, -1) {
			seen++
			cmd := newRoot()
			for _, word := range strings.Fields(m[1]) {
				if len(cmd.Commands()) == 0 {
					break // what follows is its argument, or the rest of the sentence
				}
				next, _, err := cmd.Find([]string{word})
				if err != nil || next == cmd {
					t.Errorf("%s: %s is no command", where, m[0])
					break
				}
				cmd = next
			}
		}
	}
	for _, dir := range []string{"../../../hub", "../../../agent", "../../../pkg", "../../../deploy"} {
		if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && (d.Name() == "node_modules" || d.Name() == "dist"):
				return fs.SkipDir
			case strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go"):
				file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
				if err != nil {
					return err
				}
				ast.Inspect(file, func(n ast.Node) bool {
					if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
						if text, err := strconv.Unquote(l.Value); err == nil {
							look(path, text)
						}
					}
					return true
				})
			case strings.HasSuffix(path, ".md") || strings.Contains(path, "/web/") && strings.HasSuffix(path, ".ts"):
				b, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				look(path, string(b))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	look("README.md", string(b))
	if seen < 50 {
		t.Errorf("only %d texts name a command: are they looked for in the right places?", seen)
	}
}
