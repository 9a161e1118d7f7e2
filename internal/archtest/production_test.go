package archtest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

// testSupport are the packages that exist for tests and may import testing.
var testSupport = []string{
	"client/clienttest",
	"internal/interleave",
	"server/internal/feed/feedtest",
	"server/internal/e2e",
	"server/internal/pgtest",
	"server/internal/redistest",
	"server/internal/store/storetest",
	"server/sessiondtest",
}

// isProduction reports whether path is part of what runs at a user's: not a
// test's support, an example, a benchmark's driver or this package.
func isProduction(path string) bool {
	return !slices.Contains(testSupport, path) && !within(path, "internal/archtest") &&
		!within(path, "examples") && !within(path, "server/bench")
}

// TestProductionIsFreeOfTests keeps test code out of the program and out of the
// workers that link the public packages.
func TestProductionIsFreeOfTests(t *testing.T) {
	for _, p := range load(t) {
		path, ok := p.local()
		if !ok || !isProduction(path) {
			continue
		}
		for _, dep := range p.Deps {
			if within(dep, "testing") || within(dep, "github.com/stretchr/testify") {
				t.Errorf("%s depends on %s", path, dep)
			}
		}
	}
}

// TestNoGlobalMetrics forbids metrics that register themselves as the package is
// loaded: two servers in one process would share them.
func TestNoGlobalMetrics(t *testing.T) {
	for _, p := range load(t) {
		path, ok := p.local()
		if !ok || !isProduction(path) {
			continue
		}
		for _, name := range p.GoFiles {
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, pos := range globalMetrics(file) {
				t.Errorf("%s: a package-level variable uses promauto; take a Registerer as a parameter", fset.Position(pos))
			}
		}
	}
}

// globalMetrics returns where package-level variables of file use promauto.
func globalMetrics(file *ast.File) []token.Pos {
	name := ""
	for _, spec := range file.Imports {
		if path, err := strconv.Unquote(spec.Path.Value); err != nil || path != prometheus+"/prometheus/promauto" {
			continue
		}
		name = "promauto"
		if spec.Name != nil {
			name = spec.Name.Name
		}
	}
	if name == "" {
		return nil
	}
	var found []token.Pos
	for _, decl := range file.Decls {
		if gen, ok := decl.(*ast.GenDecl); !ok || gen.Tok != token.VAR {
			continue
		}
		ast.Inspect(decl, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && id.Name == name {
				found = append(found, id.Pos())
			}
			return true
		})
	}
	return found
}

// TestGlobalMetrics shows what counts as a package-level use.
func TestGlobalMetrics(t *testing.T) {
	tests := []struct {
		name, source string
		want         int
	}{
		{name: "package level", want: 1, source: `package p
import "github.com/prometheus/client_golang/prometheus/promauto"
var hits = promauto.NewCounter(opts)`},
		{name: "in a group, renamed", want: 1, source: `package p
import auto "github.com/prometheus/client_golang/prometheus/promauto"
var (
	a = 1
	b = auto.With(reg).NewCounter(opts)
)`},
		{name: "in a function", source: `package p
import "github.com/prometheus/client_golang/prometheus/promauto"
func f(reg Registerer) { _ = promauto.With(reg).NewCounter(opts) }`},
		{name: "another promauto", source: `package p
import "example.com/promauto"
var hits = promauto.NewCounter(opts)`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file, err := parser.ParseFile(token.NewFileSet(), "p.go", tt.source, 0)
			if err != nil {
				t.Fatal(err)
			}
			if got := len(globalMetrics(file)); got != tt.want {
				t.Errorf("found %d uses, want %d", got, tt.want)
			}
		})
	}
}
