package config_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/server"
	"github.com/sessiond/sessiond/server/internal/config"
)

func loadStateless(t *testing.T, flags map[string]string, env ...string) (config.Config, error) {
	t.Helper()
	all := map[string]string{"store.driver": "none", "issuer.base_url": "https://auth.example.com"}
	for key, value := range flags {
		all[key] = value
	}
	return config.Load(config.Sources{Flags: all, Env: append([]string{"SESSIOND_ISSUER_SECRET=" + secret}, env...)}, false)
}

// TestStatelessDefaults: what is not set is as the issuer has it without a database.
func TestStatelessDefaults(t *testing.T) {
	tests := []struct {
		name     string
		set      map[string]string
		strategy string
		refresh  time.Duration
	}{
		{"current", nil, "jwe", 168 * time.Hour / 5},
		{"another expiresIn", map[string]string{"issuer.expires_in": "50h"}, "jwe", 10 * time.Hour},
		{"1.4", map[string]string{"issuer.version": "1.4"}, "jwe", time.Minute},
		{"strategy and max age", map[string]string{"issuer.cookie_cache": "compact", "issuer.cookie_cache_max_age": "103s"}, "compact", 20 * time.Second},
		{"refresh", map[string]string{"issuer.cookie_cache_refresh": "90s"}, "jwe", 90 * time.Second},
		{"no refresh", map[string]string{"issuer.cookie_cache_refresh": "off"}, "jwe", 0},
		{"settings that are as without", map[string]string{"feed.mode": "off", "policy.refuse_banned": "false", "policy.max_idle": "0"}, "jwe", 168 * time.Hour / 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := loadStateless(t, tt.set)
			if err != nil {
				t.Fatal(err)
			}
			a := cfg.Server.Authority
			if a.Stateless == nil || cfg.Server.Store.Driver != server.DriverNone || cfg.Embedded {
				t.Fatalf("not stateless: %+v", cfg.Server.Store)
			}
			if a.Stateless.RefreshAge.Truncate(time.Second) != tt.refresh.Truncate(time.Second) {
				t.Errorf("refresh age %v, want %v", a.Stateless.RefreshAge, tt.refresh)
			}
			if got := a.Companions[0].SessionData; got.Strategy != tt.strategy || got.Name != "__Secure-better-auth.session_data" || got.CacheVersion != "1" {
				t.Errorf("session_data: %s, %s, version %s", got.Name, got.Strategy, got.CacheVersion)
			}
		})
	}
}

// TestStatelessErrors: what would need a store is refused, by name and with the reason.
func TestStatelessErrors(t *testing.T) {
	tests := []struct {
		name string
		set  map[string]string
		env  []string
		want []string
	}{
		{"path", map[string]string{"store.path": "x.sqlite"}, nil, []string{"store.path", "store.driver=none"}},
		{"dsn", nil, []string{"SESSIOND_STORE_DSN=postgres://x"}, []string{"store.dsn", "no store"}},
		{"secondary", nil, []string{"SESSIOND_SECONDARY_URL=redis://x"}, []string{"secondary.url", "not stateless"}},
		{"columns", map[string]string{"store.user_columns": "email=mail"}, nil, []string{"store.user_columns"}},
		{"token form", map[string]string{"store.token_form": "sha256-hex"}, nil, []string{"store.token_form"}},
		{"feed", map[string]string{"feed.mode": "required"}, nil, []string{"feed.mode", "tells of a change"}},
		{"shadow", map[string]string{"shadow.issuer_url": "http://127.0.0.1:3000"}, nil, []string{"shadow.issuer_url"}},
		{"banned", map[string]string{"policy.refuse_banned": "true"}, nil, []string{"policy.refuse_banned", "written before it"}},
		{"soft delete", map[string]string{"policy.soft_delete_column": "deletedAt"}, nil, []string{"policy.soft_delete_column"}},
		{"idle", map[string]string{"policy.max_idle": "1h"}, nil, []string{"policy.max_idle", "updatedAt"}},
		{"bare tokens", map[string]string{"issuer.allow_bare_tokens": "true"}, nil, []string{"issuer.allow_bare_tokens"}},
		{"old issuer", map[string]string{"issuer.version": "1.3"}, nil, []string{"store.driver", "1.4 or newer"}},
		{"keys by the secret's strategy", map[string]string{"issuer.cookie_cache_jwks_file": "x"}, nil, []string{"issuer.cookie_cache_jwks_file", "issuer.cookie_cache=jwt"}},
		{"no such file of keys", map[string]string{"issuer.cookie_cache": "jwt", "issuer.cookie_cache_jwks_file": "no/such"}, nil, []string{"issuer.cookie_cache_jwks_file", "no/such"}},
		{"no keys", map[string]string{"issuer.cookie_cache": "jwt", "issuer.cookie_cache_jwks_file": write(t, "jwks.json", "{}")}, nil, []string{"JSON Web Key Set"}},
		{"refresh", map[string]string{"issuer.cookie_cache_refresh": "often"}, nil, []string{"issuer.cookie_cache_refresh", `"often"`}},
		{"max age over a store", map[string]string{"store.driver": "sqlite", "issuer.cookie_cache_max_age": "1h"}, nil, []string{"issuer.cookie_cache_max_age", "store.driver=none"}},
		{"bound over a store", map[string]string{"store.driver": "sqlite", "policy.bind_session_data": "true"}, nil, []string{"policy.bind_session_data", "store.driver=none"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := loadStateless(t, tt.set, tt.env...)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in: %v", want, err)
				}
			}
		})
	}
	if _, _, err := config.LoadStore(config.Sources{Flags: map[string]string{"store.driver": "none"}}); err == nil || !strings.Contains(err.Error(), "no store to work on") {
		t.Errorf("work on the store: %v", err)
	}
}

// TestCacheSecrets: a retired secret reads a cookie that is a hint, and one that is the
// session only where it is accepted anyway.
func TestCacheSecrets(t *testing.T) {
	const old = "the-secret-before-the-last-rotation-x"
	file := write(t, "retired", old+"\n")
	for _, tt := range []struct {
		driver, accept string
		want           bool
	}{{"sqlite", "false", true}, {"none", "false", false}, {"none", "true", true}} {
		cfg, err := loadStateless(t, map[string]string{"store.driver": tt.driver, "issuer.retired_secrets_file": file, "issuer.accept_retired_secrets": tt.accept})
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Contains(cfg.Server.Authority.Companions[0].SessionData.Secrets, old); got != tt.want {
			t.Errorf("%s, accepted %s: read by the retired secret %t", tt.driver, tt.accept, got)
		}
	}
}

// TestCacheOrigin: a cookie signed by the jwt plugin names the issuer's origin as
// JavaScript writes one, whatever the spelling of its base URL.
func TestCacheOrigin(t *testing.T) {
	jwks := write(t, "jwks.json", `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":"bPyIR89_IFoJ5kr96BoO-bPUrRKyfJMgjKcOlyQSlCg"}]}`)
	for base, want := range map[string]string{
		"":                                        "",
		"https://auth.example.com":                "https://auth.example.com",
		"https://Auth.Example.com:443/api/auth/":  "https://auth.example.com",
		"HTTP://auth.example.com:80":              "http://auth.example.com",
		"http://auth.example.com:443":             "http://auth.example.com:443",
		"https://[2001:DB8::1]:8443/?a=b":         "https://[2001:db8::1]:8443",
		"https://user:word@auth.example.com:4430": "https://auth.example.com:4430",
	} {
		cfg, err := loadStateless(t, map[string]string{"issuer.base_url": base, "issuer.cookie_cache": "jwt", "issuer.cookie_cache_jwks_file": jwks})
		if err != nil {
			t.Fatalf("%q: %v", base, err)
		}
		if got := cfg.Server.Authority.Companions[0].SessionData.Origin; got != want {
			t.Errorf("%q: origin %q, want %q", base, got, want)
		}
	}
}
