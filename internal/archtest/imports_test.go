package archtest_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rule says what one package may import besides the standard library. Whatever
// it does not name is forbidden.
type rule struct {
	// local are packages of this module, by exact path.
	local []string
	// modules are other modules.
	modules []string
	// never are import paths, each with all below it, that must not be reached
	// even through others.
	never []string
}

const (
	goGRPC     = "google.golang.org/grpc"
	protobuf   = "google.golang.org/protobuf"
	rpcErrors  = "google.golang.org/genproto/googleapis/rpc"
	middleware = "github.com/grpc-ecosystem/go-grpc-middleware/v2"
	toml       = "github.com/BurntSushi/toml"
	pgx        = "github.com/jackc/pgx/v5"
	sqlite     = "modernc.org/sqlite"
	rueidis    = "github.com/redis/rueidis"
	prometheus = "github.com/prometheus/client_golang"
)

var (
	anySQL    = []string{"database/sql", pgx, sqlite, rueidis}
	transport = []string{goGRPC, "net/http"}
	// heavy is what no worker may come to link.
	heavy = slices.Concat([]string{module + "/server", prometheus, toml}, anySQL)
)

// rules is the direction of the module. Data flows one way; nothing calls back
// up. A package without a line fails, so that a new one is placed on purpose.
var rules = map[string]rule{
	// What workers import.
	"sessioncookie":       {never: []string{goGRPC}},
	"internal/clock":      {},
	"internal/interleave": {},
	"gen/sessiond/v1":     {modules: []string{goGRPC, protobuf}, never: heavy},
	"client": {
		local:   []string{"gen/sessiond/v1", "internal/clock", "sessioncookie"},
		modules: []string{goGRPC, protobuf, rpcErrors},
		never:   heavy,
	},
	"interceptors": {
		local:   []string{"client", "gen/sessiond/v1", "sessioncookie"},
		modules: []string{goGRPC, protobuf, rpcErrors, middleware},
		never:   heavy,
	},

	"server/internal/spelling": {},

	// The rules of the authority: no transport, no database.
	"server/internal/sessiondata": {local: []string{"sessioncookie"}, never: slices.Concat([]string{goGRPC}, anySQL)},
	"server/internal/authority": {
		local: []string{
			"internal/clock", "server/internal/cache", "server/internal/feed", "server/internal/sessiondata",
			"server/internal/spelling", "server/internal/store", "server/internal/store/issued", "sessioncookie",
		},
		never: slices.Concat([]string{goGRPC}, anySQL),
	},

	// Sessions made here, and refusals explained after the fact.
	"server/internal/lifecycle": {
		local: []string{"internal/clock", "server/internal/authority", "server/internal/store", "sessioncookie"},
		never: slices.Concat([]string{goGRPC}, anySQL),
	},
	"server/internal/catalogue":    {},
	"server/internal/differential": {},
	"server/internal/trace":        {local: []string{"internal/clock", "server/internal/authority"}, never: slices.Concat([]string{goGRPC}, anySQL)},

	// Staying current: what has ended, who has to know, what is still true.
	"server/internal/feed":          {local: []string{"server/internal/store"}, never: slices.Concat(transport, anySQL)},
	"server/internal/feed/feedtest": {local: []string{"server/internal/feed", "server/internal/store"}, never: slices.Concat(transport, anySQL)},
	"server/internal/cache":         {local: []string{"internal/clock", "server/internal/feed", "server/internal/store"}, never: slices.Concat(transport, anySQL)},
	"server/internal/hub":           {local: []string{"internal/clock", "server/internal/feed"}, never: slices.Concat(transport, anySQL)},
	"server/internal/replica": {
		local: []string{"internal/clock", "server/internal/cache", "server/internal/feed", "server/internal/hub", "server/internal/store"},
		never: slices.Concat(transport, anySQL),
	},

	// Where sessions are kept: one driver each, and none knows another.
	"server/internal/store":        {never: slices.Concat(transport, anySQL)},
	"server/internal/store/schema": {local: []string{"server/internal/store"}, never: slices.Concat(transport, []string{pgx, sqlite, rueidis})},
	"server/internal/store/issued": {
		local: []string{"server/internal/store", "server/internal/store/schema"},
		never: slices.Concat(transport, anySQL),
	},
	"server/internal/store/postgres": {
		local:   []string{"server/internal/feed", "server/internal/store", "server/internal/store/schema"},
		modules: []string{pgx},
		never:   []string{goGRPC, sqlite, rueidis},
	},
	"server/internal/store/sqlite": {
		local:   []string{"server/internal/feed", "server/internal/store", "server/internal/store/schema"},
		modules: []string{sqlite},
		never:   []string{goGRPC, pgx, rueidis},
	},
	"server/internal/store/redis": {
		local:   []string{"server/internal/feed", "server/internal/store", "server/internal/store/issued", "server/internal/store/schema"},
		modules: []string{rueidis},
		never:   []string{goGRPC, pgx, sqlite},
	},
	// Two stores by their interfaces: it knows no driver.
	"server/internal/store/secondary": {local: []string{"server/internal/feed", "server/internal/store"}, never: slices.Concat(transport, anySQL)},

	// The doors, and what holds the house together.
	"server/internal/rpc": {
		local: []string{
			"gen/sessiond/v1", "internal/clock", "server/internal/authority", "server/internal/feed",
			"server/internal/hub", "server/internal/lifecycle", "server/internal/replica", "server/internal/store", "server/internal/trace",
		},
		modules: []string{goGRPC, protobuf, rpcErrors},
		never:   anySQL,
	},
	"server/internal/telemetry": {
		local:   []string{"server/internal/authority", "server/internal/issuer", "server/internal/replica", "server/internal/store"},
		modules: []string{prometheus, goGRPC},
		never:   anySQL,
	},
	"server": {
		local: []string{
			"gen/sessiond/v1", "internal/clock", "sessioncookie",
			"server/internal/authority", "server/internal/feed", "server/internal/lifecycle", "server/internal/replica", "server/internal/rpc", "server/internal/sessiondata", "server/internal/shadow",
			"server/internal/store", "server/internal/store/postgres", "server/internal/store/redis", "server/internal/store/secondary", "server/internal/store/sqlite",
			"server/internal/telemetry",
		},
		modules: []string{goGRPC, prometheus},
	},
	"server/sessiondtest": {
		local: []string{
			"client", "gen/sessiond/v1", "server", "server/internal/authority", "server/internal/lifecycle",
			"server/internal/store", "server/internal/store/sqlite", "sessioncookie",
		},
		modules: []string{goGRPC},
	},
	"server/internal/config": {
		// Those of server's parts whose settings are in server.Config.
		local: []string{
			"server", "server/internal/authority", "server/internal/issuer", "server/internal/lifecycle", "server/internal/sessiondata", "server/internal/shadow",
			"server/internal/spelling", "server/internal/store", "server/internal/store/issued", "sessioncookie",
		},
		modules: []string{toml},
	},
	"server/internal/shadow": {
		local: []string{"internal/clock", "server/internal/authority", "server/internal/issuer", "server/internal/store"},
		never: slices.Concat([]string{goGRPC}, anySQL),
	},
	"server/internal/issuer": {never: slices.Concat([]string{goGRPC}, anySQL)},
	"server/internal/doctor": {
		// It looks at everything from outside, as serve is configured.
		local: []string{
			"gen/sessiond/v1", "internal/clock", "server", "server/internal/authority", "server/internal/cache",
			"server/internal/feed", "server/internal/issuer", "server/internal/store", "sessioncookie",
		},
		modules: []string{goGRPC, protobuf},
	},
	"server/internal/cli": {
		local: []string{
			"client", "gen/sessiond/v1", "server", "server/internal/config", "server/internal/doctor", "server/internal/issuer", "sessioncookie",
			// explain prints the authority's own trace.
			"server/internal/authority",
			// The demo writes its session into the embedded database.
			"server/internal/store", "server/internal/store/sqlite",
		},
		modules: []string{goGRPC},
	},
	"server/cmd/sessiond": {local: []string{"server/internal/cli"}},
}

// TestImports holds every production package to its rule.
func TestImports(t *testing.T) {
	pkgs := load(t)
	for path := range rules {
		if pkgs[module+"/"+path] == nil {
			t.Errorf("there is no package %s; remove its rule", path)
		}
	}
	for _, p := range pkgs {
		path, ok := p.local()
		if !ok || !isProduction(path) || len(p.GoFiles) == 0 {
			continue
		}
		r, ok := rules[path]
		if !ok {
			t.Errorf("package %s has no rule; say in rules what it may import", path)
			continue
		}
		for _, breach := range breaches(pkgs, p, r) {
			t.Error(breach)
		}
	}
}

// breaches returns a line for each dependency of p that r forbids, ordered.
func breaches(pkgs map[string]*pkg, p *pkg, r rule) []string {
	path, _ := p.local()
	var found []string
	for _, imported := range p.Imports {
		d := pkgs[imported]
		if d == nil || d.Standard { // "C" and "unsafe" have no entry
			continue
		}
		if local, ok := d.local(); ok {
			if !slices.Contains(r.local, local) {
				found = append(found, fmt.Sprintf("%s must not import %s", path, local))
			}
		} else if !slices.Contains(r.modules, d.Module.Path) {
			found = append(found, fmt.Sprintf("%s must not import %s (module %s)", path, imported, d.Module.Path))
		}
	}
	for _, dep := range p.Deps {
		for _, never := range r.never {
			if within(dep, never) {
				found = append(found, fmt.Sprintf("%s must not depend on %s, not even through others", path, dep))
			}
		}
	}
	slices.Sort(found)
	return found
}

// within reports whether path is root or lies below it.
func within(path, root string) bool {
	return path == root || strings.HasPrefix(path, root+"/")
}

// TestBreaches shows that each kind of breach is found.
func TestBreaches(t *testing.T) {
	type mod = struct{ Path string }
	own := &mod{module}
	pkgs := map[string]*pkg{
		"database/sql":            {ImportPath: "database/sql", Standard: true},
		pgx:                       {ImportPath: pgx, Module: &mod{pgx}},
		module + "/client":        {ImportPath: module + "/client", Module: own},
		module + "/client/inside": {ImportPath: module + "/client/inside", Module: own},
	}
	tests := []struct {
		name    string
		imports []string
		deps    []string
		rule    rule
		want    []string
	}{
		{name: "allowed", imports: []string{pgx, module + "/client", "database/sql"},
			rule: rule{local: []string{"client"}, modules: []string{pgx}}},
		{name: "other module", imports: []string{pgx},
			want: []string{"p must not import " + pgx + " (module " + pgx + ")"}},
		{name: "own package", imports: []string{module + "/client"},
			want: []string{"p must not import client"}},
		{name: "below an allowed package", imports: []string{module + "/client/inside"},
			rule: rule{local: []string{"client"}}, want: []string{"p must not import client/inside"}},
		{name: "through others", deps: []string{pgx + "/pgconn"}, rule: rule{never: []string{pgx}},
			want: []string{"p must not depend on " + pgx + "/pgconn, not even through others"}},
		{name: "never is by path element", deps: []string{"database/sqlx"}, rule: rule{never: []string{"database/sql"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := &pkg{ImportPath: module + "/p", Module: own, Imports: tt.imports, Deps: tt.deps}
			if diff := cmp.Diff(tt.want, breaches(pkgs, p, tt.rule)); diff != "" {
				t.Errorf("breaches (-want +got):\n%s", diff)
			}
		})
	}
}
