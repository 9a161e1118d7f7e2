package history

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// protocolPackages obey the rules of docs/contract.md, none of which reads the
// wall clock: they read package clock's instants.
var protocolPackages = []string{
	"client", "internal/clock", "server/internal/cache", "server/internal/hub", "server/internal/replica",
}

// readings are the functions of package time that read a clock.
var readings = []string{"Now", "Since", "Until"}

// allowedReadings are the functions that may call those, and why no rule depends
// on it.
var allowedReadings = map[string]string{
	"internal/clock.origin": "the origin that instants count from; of it only the monotonic part is used",
	"internal/clock.Now":    "the monotonic clock itself",

	"client.Validate":      "how long a call took, for the observer",
	"client.hit":           "how long a call took, for the observer",
	"client.ValidateBatch": "how long a call took, for the observer",
	"client.Follow":        "how long a call took, for the observer",
	"client.observe":       "how long a call took, for the observer",
	"client.Fresh":         "the age of a sign-in, counted on from what the authority stated",
	"client.send":          "from when the age of a sign-in, and what the authority reads, is counted on",
	"client.fetchIntake":   "from when what the authority reads is known, which is configuration",
	"client.current":       "until when what the authority reads is known, which is configuration",
	"client.hello":         "from when what the authority reads is known, which is configuration",
}

// TestProtocolReadsNoWallClock finds every reading of package time's clock in the
// packages of the protocol. An exception that is not needed any more is an error too.
func TestProtocolReadsNoWallClock(t *testing.T) {
	used := map[string]bool{}
	for _, dir := range protocolPackages {
		for _, r := range clockReadings(t, filepath.Join("..", "..", dir)) {
			name := dir + "." + r.function
			used[name] = true
			if allowedReadings[name] == "" {
				t.Errorf("%s reads a clock in %s: use package clock, or say in allowedReadings why no rule depends on it", r.position, r.function)
			}
		}
	}
	for name := range allowedReadings {
		if !used[name] {
			t.Errorf("%s reads no clock any more: take it off the list", name)
		}
	}
}

func TestClockReadingsAreFound(t *testing.T) {
	dir := t.TempDir()
	const source = `package p
import (
	other "math/rand"
	wall "time"
)
var origin = wall.Now()
var later = wall.Now
func (T) Method() { go func() { _ = wall.Since(origin) }() }
func harmless() { _ = wall.Second; other.Now() }
`
	if err := os.WriteFile(filepath.Join(dir, "p.go"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range clockReadings(t, dir) {
		got = append(got, r.function)
	}
	if want := []string{"origin", "later", "Method"}; !slices.Equal(got, want) {
		t.Errorf("found in %q, want %q", got, want)
	}
}

// reading is one place where a clock is read.
type reading struct {
	function string // or the variable it initialises
	position token.Position
}

func clockReadings(t *testing.T, dir string) []reading {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no Go files in %s: %v", dir, err)
	}
	var out []reading
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		parsed, err := parser.ParseFile(set, file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		name := importedAs(parsed, "time")
		if name == "." {
			t.Errorf("%s imports time without a name, which hides its clock", file)
		}
		for _, decl := range parsed.Decls {
			out = append(out, readingsIn(set, decl, name)...)
		}
	}
	return out
}

// importedAs returns the name that a file gives a package; empty: not imported.
func importedAs(file *ast.File, path string) string {
	for _, i := range file.Imports {
		if i.Path.Value != `"`+path+`"` {
			continue
		}
		if i.Name != nil {
			return i.Name.Name
		}
		return path
	}
	return ""
}

func readingsIn(set *token.FileSet, decl ast.Decl, pkg string) []reading {
	var out []reading
	find := func(function string, in ast.Node) {
		ast.Inspect(in, func(n ast.Node) bool {
			selector, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := selector.X.(*ast.Ident); ok && pkg != "" && x.Name == pkg && slices.Contains(readings, selector.Sel.Name) {
				out = append(out, reading{function, set.Position(selector.Pos())})
			}
			return true
		})
	}
	switch d := decl.(type) {
	case *ast.FuncDecl:
		find(d.Name.Name, d)
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			if v, ok := spec.(*ast.ValueSpec); ok {
				find(v.Names[0].Name, v)
			}
		}
	}
	return out
}
