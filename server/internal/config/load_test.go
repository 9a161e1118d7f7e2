package config_test

import (
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sessiond/sessiond/server/internal/config"
)

const secret = "a-secret-of-at-least-thirty-two-bytes"

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPrecedence(t *testing.T) {
	file := write(t, "c.toml", "[issuer]\ncookie_prefix = \"file\"\n")
	env := []string{"SESSIOND_ISSUER_SECRET=" + secret, "SESSIOND_ISSUER_USE_SECURE_COOKIES=false"}
	names := func(src config.Sources) []string {
		t.Helper()
		cfg, err := config.Load(src, false)
		if err != nil {
			t.Fatal(err)
		}
		return cfg.Server.Authority.Cookies.Names
	}
	tests := []struct {
		name string
		src  config.Sources
		want string
	}{
		{"default", config.Sources{Env: env}, "better-auth"},
		{"file over default", config.Sources{Env: env, File: file}, "file"},
		{"file named by the environment", config.Sources{Env: append(env, "SESSIOND_CONFIG="+file)}, "file"},
		{"environment over file", config.Sources{Env: append(env, "SESSIOND_ISSUER_COOKIE_PREFIX=env"), File: file}, "env"},
		{"flag over environment", config.Sources{Env: append(env, "SESSIOND_ISSUER_COOKIE_PREFIX=env"), File: file, Flags: map[string]string{"issuer.cookie_prefix": "flag"}}, "flag"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff([]string{tt.want + ".session_token"}, names(tt.src)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCookieNames(t *testing.T) {
	tests := []struct {
		name string
		set  map[string]string
		want []string
	}{
		{"nothing known: secure first", nil, []string{"__Secure-better-auth.session_token", "better-auth.session_token"}},
		{"https", map[string]string{"issuer.base_url": "https://a.example"}, []string{"__Secure-better-auth.session_token"}},
		{"http", map[string]string{"issuer.base_url": "http://a.example"}, []string{"better-auth.session_token"}},
		{"the option beats the URL", map[string]string{"issuer.base_url": "https://a.example", "issuer.use_secure_cookies": "false"}, []string{"better-auth.session_token"}},
		{"a custom name ignores the prefix", map[string]string{"issuer.use_secure_cookies": "true", "issuer.cookie_prefix": "p", "issuer.cookie_name": "sid"}, []string{"__Secure-sid"}},
		{"names given", map[string]string{"issuer.cookie_names": "b, a"}, []string{"b", "a"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := config.Load(config.Sources{Env: []string{"SESSIOND_ISSUER_SECRET=" + secret}, Flags: tt.set}, false)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, cfg.Server.Authority.Cookies.Names); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestFileForms(t *testing.T) {
	file := write(t, "c.toml", `
drain_timeout = "3s"
[store]
user_hide = ["a", "b"]
[store.session_columns]
expiresAt = "valid_until"
[limits]
max_batch_size = 7
[issuer]
bearer = true
`)
	cfg, err := config.Load(config.Sources{File: file, Env: []string{"SESSIOND_ISSUER_SECRET=" + secret}}, false)
	if err != nil {
		t.Fatal(err)
	}
	s := cfg.Server
	if s.DrainTimeout != 3*time.Second || s.Authority.MaxBatchSize != 7 || !s.Authority.Cookies.Bearer {
		t.Errorf("got %v, %d, %t", s.DrainTimeout, s.Authority.MaxBatchSize, s.Authority.Cookies.Bearer)
	}
	if diff := cmp.Diff([]string{"a", "b"}, s.Store.Schema.User.Hide); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"expiresAt": "valid_until"}, s.Store.Schema.Session.Columns); diff != "" {
		t.Error(diff)
	}
}

// TestErrors checks that each error names the setting and the remedy, and never
// the secret.
func TestErrors(t *testing.T) {
	short := "shorter-than-32-bytes"
	env := []string{"SESSIOND_ISSUER_SECRET=" + secret}
	tests := []struct {
		name string
		src  config.Sources
		want []string
	}{
		{"unknown key", config.Sources{Env: env, File: write(t, "c.toml", "[store]\ndrvier = \"sqlite\"\n")}, []string{"unknown key store.drvier", "did you mean store.driver?"}},
		{"unknown table", config.Sources{Env: env, File: write(t, "c.toml", "[quite_unlike]\nx = 1\n")}, []string{"unknown key quite_unlike.x"}},
		{"unknown variable", config.Sources{Env: append(env, "SESSIOND_STORE_DRIVR=sqlite")}, []string{"unknown variable SESSIOND_STORE_DRIVR", "did you mean store.driver?"}},
		{"secret in the file", config.Sources{Env: env, File: write(t, "c.toml", "[issuer]\nsecret = \""+secret+"\"\n")}, []string{"issuer.secret is a secret", "issuer.secret_file", "SESSIOND_ISSUER_SECRET"}},
		{"not TOML", config.Sources{Env: env, File: write(t, "c.toml", "store driver\n")}, []string{"c.toml"}},
		{"no such file", config.Sources{Env: env, File: "no/such.toml"}, []string{"configuration file", "no/such.toml"}},
		{"short secret", config.Sources{Env: []string{"SESSIOND_ISSUER_SECRET=" + short}}, []string{"issuer.secret", "21 bytes", "at least 32", "openssl rand"}},
		{"short secret file", config.Sources{Flags: map[string]string{"issuer.secret_file": write(t, "s", short)}}, []string{"issuer.secret_file", "21 bytes"}},
		{"no such secret file", config.Sources{Flags: map[string]string{"issuer.secret_file": "no/such"}}, []string{"issuer.secret_file", "no/such"}},
		{"empty secret file", config.Sources{Flags: map[string]string{"issuer.secret_file": write(t, "s", "\n")}}, []string{"issuer.secret_file", "empty"}},
		{"secret twice", config.Sources{Env: env, Flags: map[string]string{"issuer.secret_file": write(t, "s", secret)}}, []string{"issuer.secret", "set one"}},
		{"no secret", config.Sources{Flags: map[string]string{"store.path": "x.sqlite"}}, []string{"issuer.secret", "SESSIOND_ISSUER_SECRET", "issuer.secret_file"}},
		{"embedded secret not made yet", config.Sources{Flags: map[string]string{"data_dir": t.TempDir()}}, []string{"data_dir", "sessiond serve"}},
		{"no DSN", config.Sources{Env: env, Flags: map[string]string{"store.driver": "postgres"}}, []string{"store.dsn", "SESSIOND_STORE_DSN"}},
		{"DSN for SQLite", config.Sources{Env: append(env, "SESSIOND_STORE_DSN=postgres://x")}, []string{"store.dsn", "the driver is sqlite"}},
		{"path for Postgres", config.Sources{Env: append(env, "SESSIOND_STORE_DSN=postgres://x"), Flags: map[string]string{"store.driver": "postgres", "store.path": "x"}}, []string{"store.path"}},
		{"driver", config.Sources{Env: env, Flags: map[string]string{"store.driver": "mysql"}}, []string{"store.driver (from --store-driver)", `"mysql"`, "sqlite, postgres"}},
		{"version", config.Sources{Env: env, Flags: map[string]string{"issuer.version": "2.0"}}, []string{"issuer.version", "1.7"}},
		{"bool", config.Sources{Env: append(env, "SESSIOND_ISSUER_BEARER=ja")}, []string{"issuer.bearer (from SESSIOND_ISSUER_BEARER)", `"ja"`}},
		{"duration", config.Sources{Env: env, Flags: map[string]string{"policy.max_idle": "-1h"}}, []string{"policy.max_idle", `"-1h"`}},
		{"number", config.Sources{Env: env, Flags: map[string]string{"limits.max_batch_size": "0"}}, []string{"limits.max_batch_size", "from 1 to"}},
		{"URL", config.Sources{Env: env, Flags: map[string]string{"issuer.base_url": "auth.example.com"}}, []string{"issuer.base_url", "http or https URL"}},
		{"columns", config.Sources{Env: env, Flags: map[string]string{"store.user_columns": "email"}}, []string{"store.user_columns", "field=column"}},
		{"zone", config.Sources{Env: env, Flags: map[string]string{"store.time_zone": "Mars/Base"}}, []string{"store.time_zone", "Mars/Base"}},
		{"nothing to accept", config.Sources{Env: env, Flags: map[string]string{"issuer.accept_retired_secrets": "true"}}, []string{"issuer.accept_retired_secrets", "issuer.retired_secrets_file"}},
		{"all at once", config.Sources{Env: env, Flags: map[string]string{"issuer.bearer": "x", "policy.max_idle": "y"}}, []string{"issuer.bearer", "policy.max_idle"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := config.Load(tt.src, false)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in: %v", want, err)
				}
			}
			for _, s := range []string{secret, short} {
				if strings.Contains(err.Error(), s) {
					t.Errorf("the secret is in: %v", err)
				}
			}
		})
	}
}

func TestEmbeddedDefault(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	src := config.Sources{Flags: map[string]string{"data_dir": dir}}
	first, err := config.Load(src, true)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "secret"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("secret has mode %v", info.Mode())
	}
	if !first.Embedded || !first.Server.Store.Create || first.SecretFile == "" {
		t.Errorf("not the embedded default: %t, %t, %q", first.Embedded, first.Server.Store.Create, first.SecretFile)
	}
	again, err := config.Load(src, false)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first.Server.Authority.Cookies.Secrets, again.Server.Authority.Cookies.Secrets); diff != "" {
		t.Error("the second load has another secret")
	}
	if again.Server.Store.Create {
		t.Error("a load that must not create would create the database")
	}
}

func TestSecretFileLineBreak(t *testing.T) {
	for _, text := range []string{secret, secret + "\n", secret + "\r\n"} {
		cfg, err := config.Load(config.Sources{Flags: map[string]string{"issuer.secret_file": write(t, "s", text)}}, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := cfg.Server.Authority.Cookies.Secrets[0]; got != secret {
			t.Errorf("%d bytes, want %d", len(got), len(secret))
		}
	}
	// A secret may end in a space: only the line break goes.
	cfg, err := config.Load(config.Sources{Env: []string{"SESSIOND_ISSUER_SECRET=" + secret + " "}}, false)
	if err != nil {
		t.Fatal(err)
	}
	if got := cfg.Server.Authority.Cookies.Secrets[0]; got != secret+" " {
		t.Error("the secret was trimmed")
	}
}

func TestFlags(t *testing.T) {
	fs := flag.NewFlagSet("x", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	given := config.RegisterFlags(fs)
	if err := fs.Parse([]string{"--store-driver", "postgres", "--issuer-bearer", "--policy-refuse-banned=false"}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"store.driver": "postgres", "issuer.bearer": "true", "policy.refuse_banned": "false"}
	if diff := cmp.Diff(want, given); diff != "" {
		t.Error(diff)
	}
	for _, s := range config.Settings() {
		if s.EnvOnly && fs.Lookup(s.Flag()) != nil {
			t.Errorf("the secret %s has a flag", s.Key)
		}
	}
}
