package sla

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestTheRulesArePure: whoever computes a statement again, on another machine and in another year, gets the same bytes.
func TestTheRulesArePure(t *testing.T) {
	ours := []string{"github.com/hashinsight/hashinsight/pkg/evidence", "github.com/hashinsight/hashinsight/pkg/ident"}
	never := []string{"os", "net", "net/http", "database/sql", "math/rand", "math/rand/v2", "crypto/rand", "runtime", "unsafe", "context", "sync"}
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, imp := range file.Imports {
			path, _ := strconv.Unquote(imp.Path.Value)
			foreign := strings.Contains(strings.Split(path, "/")[0], ".")
			assert.False(t, slices.Contains(never, path) || foreign && !slices.Contains(ours, path), "%s imports %s", name, path)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.Ident:
				assert.False(t, strings.HasPrefix(n.Name, "float") || strings.HasPrefix(n.Name, "complex"), "%s: %s", name, n.Name)
			case *ast.BasicLit:
				assert.NotEqual(t, token.FLOAT, n.Kind, "%s: %s", name, n.Value)
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" {
					assert.NotContains(t, []string{"Now", "Since", "Until", "Local", "After", "Sleep"}, n.Sel.Name, name)
				}
			}
			return true
		})
	}
}
