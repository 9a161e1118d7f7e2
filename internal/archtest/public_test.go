package archtest_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	// A worker compiles these, so this test does too; see also readSources.
	_ "github.com/sessiond/sessiond/client"
	_ "github.com/sessiond/sessiond/gen/sessiond/v1"
	_ "github.com/sessiond/sessiond/interceptors"
	_ "github.com/sessiond/sessiond/sessioncookie"
)

// grpcModules are what grpc-go links.
var grpcModules = []string{
	"golang.org/x/net",
	"golang.org/x/sys",
	"golang.org/x/text",
	"google.golang.org/genproto/googleapis/rpc",
	"google.golang.org/grpc",
	"google.golang.org/protobuf",
}

// publicModules lists, for each public package, every module that its importers
// may come to link. A line more here is a dependency more in every worker.
var publicModules = map[string][]string{
	"sessioncookie":     nil,
	"gen/sessiond/v1":   grpcModules,
	"client":            grpcModules,
	"client/clienttest": slices.Concat([]string{"github.com/google/go-cmp"}, grpcModules), // linked by tests only
	"interceptors":      slices.Concat([]string{middleware}, grpcModules),
}

// TestPublicModules holds the dependencies of the public packages to the list.
func TestPublicModules(t *testing.T) {
	pkgs := load(t)
	for path, allowed := range publicModules {
		t.Run(path, func(t *testing.T) {
			p := pkgs[module+"/"+path]
			if p == nil {
				t.Fatalf("package %s is gone; remove its line", path)
			}
			var extra []string
			for _, dep := range p.Deps {
				d := pkgs[dep]
				if d.Module == nil || d.Module.Path == module || slices.Contains(allowed, d.Module.Path) {
					continue
				}
				extra = append(extra, d.Module.Path)
			}
			slices.Sort(extra)
			if diff := cmp.Diff([]string(nil), slices.Compact(extra)); diff != "" {
				t.Errorf("%s links modules that are not in its list (+):\n%s", path, diff)
			}
		})
	}
}

// TestPublicPackagesAreListed makes sure that no package a worker can import is
// left out of the list.
func TestPublicPackagesAreListed(t *testing.T) {
	for _, p := range load(t) {
		path, ok := p.local()
		if !ok || isPrivate(path) {
			continue
		}
		if _, listed := publicModules[path]; !listed {
			t.Errorf("public package %s has no line in publicModules", path)
		}
	}
}

// isPrivate reports whether workers cannot, or have no reason to, import path.
func isPrivate(path string) bool {
	return within(path, "server") || within(path, "internal") || within(path, "examples")
}
