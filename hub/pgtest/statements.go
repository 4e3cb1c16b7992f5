package pgtest

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
)

// PrepareStatements has PostgreSQL prepare every constant of the calling test's package whose name begins with q and a capital letter, which is how
// statements are named, and so checks them against the migrated schema. COPY cannot be prepared and is passed over. It returns the names it prepared.
func PrepareStatements(t testing.TB, pool *pgxpool.Pool) []string {
	t.Helper()
	files, err := os.ReadDir(".") // tests run in their package's directory
	if err != nil {
		t.Fatal(err)
	}
	constants := map[string]ast.Expr{}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, s := range g.Specs {
				if v, ok := s.(*ast.ValueSpec); ok && len(v.Values) == len(v.Names) {
					for i, n := range v.Names {
						constants[n.Name] = v.Values[i]
					}
				}
			}
		}
	}
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	var prepared []string
	for name, expr := range constants {
		if len(name) < 2 || name[0] != 'q' || name[1] < 'A' || name[1] > 'Z' {
			continue
		}
		sql, err := text(expr, constants)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if strings.HasPrefix(strings.TrimSpace(sql), "COPY ") {
			continue
		}
		if _, err := conn.Conn().Prepare(context.WithoutCancel(t.Context()), "check_"+name, sql); err != nil {
			t.Errorf("%s does not fit the schema: %v", name, err)
		}
		prepared = append(prepared, name)
	}
	return prepared
}

// text evaluates a constant made of string literals, other such constants, and +.
func text(e ast.Expr, constants map[string]ast.Expr) (string, error) {
	switch e := e.(type) {
	case *ast.BasicLit:
		return strconv.Unquote(e.Value)
	case *ast.Ident:
		if c, ok := constants[e.Name]; ok {
			return text(c, constants)
		}
	case *ast.BinaryExpr:
		if e.Op != token.ADD {
			return "", fmt.Errorf("%s does not make a text", e.Op)
		}
		a, err := text(e.X, constants)
		if err != nil {
			return "", err
		}
		b, err := text(e.Y, constants)
		return a + b, err
	}
	return "", fmt.Errorf("%T is not a text that can be found without running the program", e)
}
