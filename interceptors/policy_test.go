package interceptors

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sessiond/sessiond/client"
)

type noValidator struct{}

func (noValidator) Validate(context.Context, client.Credential, ...client.CallOption) (*client.Session, error) {
	return nil, client.ErrUnavailable
}

// seen is a requirement in a form that can be compared.
type seen struct {
	Access access
	Fresh  time.Duration
	Roles  string
	Strict bool
}

func see(r requirement) seen {
	return seen{r.access, r.fresh, strings.Join(r.roles, ","), len(r.calls) > 0}
}

func TestPolicy(t *testing.T) {
	for _, c := range []struct {
		name string
		opts []Option
		want map[string]seen
	}{
		{"nothing said", nil, map[string]seen{"/s.S/M": {}, "": {}, "/": {}}},
		{"public method", []Option{Public("/s.S/M")}, map[string]seen{
			"/s.S/M": {Access: accessPublic}, "/s.S/Mx": {}, "/s.S/m": {}, "/s.S": {}, "s.S/M": {Access: accessPublic},
		}},
		{"public service", []Option{Public("/s.S/*")}, map[string]seen{
			"/s.S/M": {Access: accessPublic}, "/s.S": {}, "/s.SS/M": {}, "/x/s.S/M": {},
		}},
		{"everything", []Option{Optional("/*")}, map[string]seen{"/s.S/M": {Access: accessOptional}, "/": {Access: accessOptional}}},
		{"exact before wildcard", []Option{Public("/s.S/*"), Optional("/s.S/M")}, map[string]seen{
			"/s.S/M": {Access: accessOptional}, "/s.S/N": {Access: accessPublic},
		}},
		{"longer wildcard first", []Option{Public("/a/b/*"), Optional("/a/*")}, map[string]seen{
			"/a/b/c": {Access: accessPublic}, "/a/c": {Access: accessOptional}, "/a/b": {Access: accessOptional},
		}},
		{"demands add up", []Option{RequireFresh("/a/*", time.Hour), RequireRole("/a/b", "x", "y"), Strict("/*")}, map[string]seen{
			"/a/b": {Fresh: time.Hour, Roles: "x,y", Strict: true}, "/a/c": {Fresh: time.Hour, Strict: true}, "/z": {Strict: true},
		}},
		{"on one pattern too", []Option{RequireFresh("/a", time.Hour), RequireRole("/a", "x"), Strict("/a")}, map[string]seen{
			"/a": {Fresh: time.Hour, Roles: "x", Strict: true},
		}},
		{"narrower replaces its like", []Option{RequireFresh("/a/*", time.Hour), RequireFresh("/a/b", time.Minute)}, map[string]seen{
			"/a/b": {Fresh: time.Minute}, "/a/c": {Fresh: time.Hour},
		}},
		{"demand under public", []Option{Public("/a/*"), RequireRole("/a/b", "x"), RequireFresh("/a/c", 1), Strict("/a/d")}, map[string]seen{
			"/a/b": {Roles: "x"}, "/a/c": {Fresh: 1}, "/a/d": {Strict: true}, "/a/e": {Access: accessPublic},
		}},
		{"public under demand", []Option{RequireRole("/a/*", "x"), Public("/a/b")}, map[string]seen{
			"/a/b": {Access: accessPublic}, "/a/c": {Roles: "x"},
		}},
		{"strict and optional", []Option{Optional("/a"), Strict("/a")}, map[string]seen{"/a": {Access: accessOptional, Strict: true}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			guard, err := New(noValidator{}, c.opts...)
			if err != nil {
				t.Fatal(err)
			}
			for method, want := range c.want {
				if diff := cmp.Diff(want, see(guard.policy.of(method))); diff != "" {
					t.Errorf("%q (-want +got):\n%s", method, diff)
				}
			}
		})
	}
}

func TestPolicyOfPaths(t *testing.T) {
	guard, err := New(noValidator{}, Public("/open/*", "/healthz", "/"), RequireRole("/admin/*", "admin"))
	if err != nil {
		t.Fatal(err)
	}
	public, admin := seen{Access: accessPublic}, seen{Roles: "admin"}
	for _, c := range []struct {
		decoded, escaped string
		want             seen
	}{
		{"/", "/", public},
		{"/healthz", "/healthz", public},
		{"/healthz/", "/healthz/", seen{}},
		{"/open/", "/open/", public},
		{"/open/a/b", "/open/a/b", public},
		{"/open/a b", "/open/a%20b", public},
		{"/open", "/open", seen{}},
		{"/open/../secret", "/open/../secret", seen{}},
		{"/open/../secret", "/open/..%2fsecret", seen{}},
		{"/open/./a", "/open/%2e/a", seen{}},
		{"//open/a", "//open/a", seen{}},
		{"/open//a", "/open//a", seen{}},
		{"/open/a", "/open%2Fa", seen{}},
		{`/open/..\secret`, `/open/..%5csecret`, seen{}},
		{"/admin/x", "/admin/x", admin},
		{"//admin/x", "//admin/x", admin},
		{"/open/../admin/x", "/open/../admin/x", admin},
		{"/admin/x", "/admin%2Fx", admin},
		{"*", "*", seen{}},
		{"", "", seen{}},
	} {
		if diff := cmp.Diff(c.want, see(guard.policy.ofPath(c.decoded, c.escaped))); diff != "" {
			t.Errorf("%q as %q (-want +got):\n%s", c.decoded, c.escaped, diff)
		}
	}
}

func TestNewRefusesBadPolicies(t *testing.T) {
	for _, c := range []struct {
		name string
		opts []Option
		want string // in the error
	}{
		{"no slash", []Option{Public("s.S/M")}, `"s.S/M"`},
		{"empty", []Option{Public("")}, `""`},
		{"star within", []Option{Optional("/s.*/M")}, `"/s.*/M"`},
		{"star as part", []Option{Optional("/s.S/M*")}, `"/s.S/M*"`},
		{"two stars", []Option{Public("/*/*")}, `"/*/*"`},
		{"dots", []Option{Public("/a/../b")}, "canonical"},
		{"double slash", []Option{Strict("/a//b")}, "canonical"},
		{"double slash before the star", []Option{Strict("/a//*")}, "canonical"},
		{"query", []Option{RequireRole("/a?b", "x")}, "query"},
		{"escaped", []Option{RequireFresh("/a%2fb", 1)}, "decoded"},
		{"twice", []Option{Public("/a"), Public("/a")}, "twice"},
		{"twice in one", []Option{Strict("/a", "/a")}, "twice"},
		{"fresh twice", []Option{RequireFresh("/a", 1), RequireFresh("/a", 2)}, "twice"},
		{"role twice", []Option{RequireRole("/a", "x"), RequireRole("/a", "y")}, "twice"},
		{"public and optional", []Option{Public("/a"), Optional("/a")}, "contrary"},
		{"public and fresh", []Option{Public("/a"), RequireFresh("/a", 1)}, "contrary"},
		{"fresh and optional", []Option{RequireFresh("/a", 1), Optional("/a")}, "contrary"},
		{"role and public", []Option{RequireRole("/a", "x"), Public("/a")}, "contrary"},
		{"public and strict", []Option{Strict("/a"), Public("/a")}, "contrary"},
		{"no limit", []Option{RequireFresh("/a", 0)}, "positive"},
		{"no role", []Option{RequireRole("/a")}, "at least one role"},
		{"empty role", []Option{RequireRole("/a", "")}, "empty"},
		{"no credential function", []Option{WithCredential(nil)}, "nil"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := New(noValidator{}, c.opts...); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("New: %v, want an error with %q", err, c.want)
			}
		})
	}
	if _, err := New(nil); err == nil {
		t.Error("New takes no validator")
	}
}
