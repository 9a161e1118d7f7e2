package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sessiond/sessiond/server/internal/cli"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/sqlite"
	"github.com/sessiond/sessiond/sessioncookie"
)

const (
	secret = "qJ7vW2nXz4LkR9pTfY3mB8hD6sGcA1eU"
	other  = "M5wZtE0rVxK2jN8bQyH4uC7gFaP3dLsO"
	name   = "better-auth.session_token"
)

// buffer is a stream that a server writes while a test reads.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func runCLI(t *testing.T, stdin string, env []string, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, e buffer
	code = cli.Main(t.Context(), args, cli.Streams{In: strings.NewReader(stdin), Out: &o, Err: &e}, env)
	return code, o.String(), e.String()
}

// database is an issuer's SQLite file with one session.
func database(t *testing.T) (path, token string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "issuer.sqlite")
	st, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	token = sessioncookie.NewToken()
	err = sqlite.Seed(t.Context(), path,
		store.User{ID: "u1", Name: "Alice", Email: "alice@example.com", CreatedAt: now, UpdatedAt: now},
		store.Session{ID: "s1", UserID: "u1", CreatedAt: now, UpdatedAt: now, ExpiresAt: now.Add(time.Hour)}, token)
	if err != nil {
		t.Fatal(err)
	}
	return path, token
}

func header(token, key string) string {
	return name + "=" + sessioncookie.Encode(sessioncookie.Sign(token, key))
}

// serve runs a server until the test ends and returns its address.
func serve(t *testing.T, env []string, args ...string) (address string, out *buffer) {
	t.Helper()
	out = &buffer{}
	var log buffer
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() {
		done <- cli.Main(ctx, append([]string{"serve", "--listen", "127.0.0.1:0", "--admin-listen", ""}, args...), cli.Streams{In: strings.NewReader(""), Out: out, Err: &log}, env)
	}()
	t.Cleanup(func() {
		cancel()
		if code := <-done; code != 0 {
			t.Errorf("serve ended with %d: %s", code, log.String())
		}
	})
	serving := regexp.MustCompile(`msg=serving address=(\S+)`)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if m := serving.FindStringSubmatch(log.String()); m != nil {
			return m[1], out
		}
		select {
		case code := <-done:
			done <- code
			t.Fatalf("serve ended with %d: %s", code, log.String())
		case <-tick.C:
		}
	}
}

func TestValidate(t *testing.T) {
	path, token := database(t)
	address, _ := serve(t, []string{"SESSIOND_ISSUER_SECRET=" + secret}, "--store-path", path)
	good := filepath.Join(t.TempDir(), "cookie")
	if err := os.WriteFile(good, []byte(header(token, secret)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		stdin string
		args  []string
		code  int
		want  string
	}{
		{"cookie header", header(token, secret), nil, 0, "good: user u1 (alice@example.com)"},
		{"with its name, and a line break", "Cookie: theme=dark; " + header(token, secret) + "\r\n", nil, 0, "good"},
		{"as curl -v prints it", "> GET / HTTP/1.1\n> Host: x\n> Cookie: " + header(token, secret) + "\n>\n", nil, 0, "good"},
		{"file", "", []string{"--file", good}, 0, "good"},
		{"cookie value", strings.TrimPrefix(header(token, secret), name+"="), []string{"--as", "value"}, 0, "good"},
		{"bare token", token, []string{"--as", "token"}, 1, "refused: UNSIGNED_NOT_ALLOWED"},
		{"foreign secret", header(token, other), nil, 1, "refused: BAD_SIGNATURE"},
		{"unknown token", header("unknown", secret), nil, 1, "refused: NOT_FOUND"},
		{"no cookie", "theme=dark", nil, 1, "refused: NO_CREDENTIAL"},
		{"another name", "codex-" + strings.TrimPrefix(header(token, secret), "better-auth."), nil, 1, "refused: NO_CREDENTIAL\nnot read, and shaped like a session cookie: codex-session_token"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, out, errOut := runCLI(t, tt.stdin, nil, append([]string{"validate", "--server", address}, tt.args...)...)
			if code != tt.code || !strings.Contains(out, tt.want) {
				t.Errorf("exit %d, %q, %q; want %d, %q", code, out, errOut, tt.code, tt.want)
			}
			if strings.Contains(out+errOut, token) {
				t.Error("the token is in the output")
			}
		})
	}
	t.Run("json", func(t *testing.T) {
		code, out, _ := runCLI(t, header(token, secret), nil, "validate", "--server", address, "--json")
		var v struct {
			Verdict string
			Session struct {
				UserID string `json:"user_id"`
			}
		}
		if err := json.Unmarshal([]byte(out), &v); err != nil || code != 0 || v.Verdict != "good" || v.Session.UserID != "u1" {
			t.Errorf("exit %d, %v: %s", code, err, out)
		}
	})
}

func TestValidateNobodyThere(t *testing.T) {
	code, out, _ := runCLI(t, header("t", secret), nil, "validate", "--server", "127.0.0.1:1")
	if code != 3 || !strings.HasPrefix(out, "undecided") {
		t.Errorf("exit %d, %q; want 3, undecided", code, out)
	}
}

func TestExplain(t *testing.T) {
	path, token := database(t)
	env := []string{"SESSIOND_ISSUER_SECRET=" + secret}
	tests := []struct {
		name  string
		stdin string
		args  []string
		code  int
		want  []string
	}{
		{"good", header(token, secret), nil, 0, []string{"verdict: good", "secret 1 of 1", "session s1 of user u1"}},
		{"secure name", "__Secure-" + header(token, secret), []string{"--issuer-base-url", "http://x"}, 1, []string{"NO_CREDENTIAL", "cookie __Secure-" + name + " arrived", "issuer.base_url"}},
		{"other prefix", "codex.session_token" + strings.TrimPrefix(header(token, secret), name), nil, 1, []string{"NO_CREDENTIAL", "issuer.cookie_prefix"}},
		{"other name", "codex-session" + strings.TrimPrefix(header(token, secret), name), nil, 1, []string{"NO_CREDENTIAL", "codex-session has the shape of a signed session cookie", "issuer.cookie_name"}},
		{"foreign secret", header(token, other), nil, 1, []string{"BAD_SIGNATURE", "issuer.secret_file"}},
		{"no signature", name + "=" + token, nil, 1, []string{"MALFORMED", "there is no signature"}},
		{"encoded twice", name + "=" + sessioncookie.Encode(sessioncookie.Encode(sessioncookie.Sign(token, secret))), nil, 1, []string{"MALFORMED", "encoded twice"}},
		{"no row", header("unknown", secret), nil, 1, []string{"NOT_FOUND", "no row with this token", "store.session_table"}},
		{"the first of two", name + "=x; " + header(token, secret), nil, 1, []string{"the first of 2 of that name"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"explain", "--store-path", path}, tt.args...)
			code, out, errOut := runCLI(t, tt.stdin, env, args...)
			if code != tt.code {
				t.Errorf("exit %d, want %d: %s", code, tt.code, errOut)
			}
			for _, want := range tt.want {
				if !strings.Contains(out, want) {
					t.Errorf("%q is not in:\n%s", want, out)
				}
			}
			_, asJSON, _ := runCLI(t, tt.stdin, env, append(args, "--json")...)
			if !json.Valid([]byte(asJSON)) {
				t.Errorf("not JSON: %s", asJSON)
			}
			noPiece(t, out+errOut+asJSON, token, secret, other, sessioncookie.Sign(token, secret)[len(token)+1:])
		})
	}
}

// noPiece fails if any six bytes of a secret value are in the text.
func noPiece(t *testing.T, text string, values ...string) {
	t.Helper()
	for i, v := range values {
		for at := 0; at+6 <= len(v); at++ {
			if strings.Contains(text, v[at:at+6]) {
				t.Errorf("a piece of value %d is in the output", i)
				return
			}
		}
	}
}

func TestDemo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	address, out := serve(t, nil, "--dev", "--data-dir", dir)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(out.String(), "Ctrl-C") {
		<-tick.C
	}
	for _, want := range []string{"good: user demo-", "refused: BAD_SIGNATURE"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in:\n%s", want, out.String())
		}
	}
	for file, want := range map[string]int{"demo.cookie": 0, "tampered.cookie": 1} {
		path := filepath.Join(dir, file)
		if code, got, _ := runCLI(t, "", nil, "validate", "--server", address, "--file", path); code != want {
			t.Errorf("validate %s: exit %d, want %d: %s", file, code, want, got)
		}
		if code, got, _ := runCLI(t, "", nil, "explain", "--data-dir", dir, "--file", path); code != want {
			t.Errorf("explain %s: exit %d, want %d: %s", file, code, want, got)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info, err)
		}
		cookie, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		noPiece(t, out.String(), strings.TrimPrefix(string(cookie), name+"=")[:32])
	}
}

func TestUsage(t *testing.T) {
	path, _ := database(t)
	env := []string{"SESSIOND_ISSUER_SECRET=" + secret}
	tests := []struct {
		name string
		env  []string
		args []string
		code int
		want string
	}{
		{"nothing", nil, nil, 2, "sessiond COMMAND"},
		{"unknown command", nil, []string{"vaildate"}, 2, `"vaildate" is not a command`},
		{"unknown flag", nil, []string{"serve", "--lisen", "x"}, 2, "-lisen"},
		{"credential as argument", nil, []string{"validate", "a=b"}, 2, "standard input or --file"},
		{"empty input", nil, []string{"validate"}, 2, "standard input is empty"},
		{"no such file", nil, []string{"validate", "--file", "no/such"}, 2, "no/such"},
		{"wrong form", nil, []string{"validate", "--as", "jwt", "--file", path}, 2, "--as"},
		{"unknown variable", []string{"SESSIOND_LISEN=x"}, []string{"serve"}, 2, "did you mean listen?"},
		{"plaintext to the world", env, []string{"serve", "--store-path", path, "--listen", "0.0.0.0:0"}, 4, "would be plaintext"},
		{"dev on a real store", env, []string{"serve", "--dev", "--store-path", path}, 2, "--dev"},
		{"no such database", env, []string{"serve", "--store-path", "no/such.sqlite"}, 4, "no/such.sqlite"},
		{"bad address", env, []string{"serve", "--store-path", path, "--listen", "8443"}, 4, "host:port"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, _, errOut := runCLI(t, "", tt.env, tt.args...)
			if code != tt.code || !strings.Contains(errOut, tt.want) {
				t.Errorf("exit %d, %q; want %d, %q", code, errOut, tt.code, tt.want)
			}
		})
	}
	for _, args := range [][]string{{"help"}, {"--help"}, {"help", "serve"}, {"serve", "--help"}, {"validate", "-h"}, {"explain", "-h"}, {"version", "--json"}, {"version"}} {
		if code, out, errOut := runCLI(t, "", nil, args...); code != 0 || out == "" || errOut != "" {
			t.Errorf("%v: exit %d, %q, %q", args, code, out, errOut)
		}
	}
}

func TestPortInUse(t *testing.T) {
	path, token := database(t)
	env := []string{"SESSIOND_ISSUER_SECRET=" + secret}
	address, _ := serve(t, env, "--store-path", path)
	code, _, errOut := runCLI(t, "", env, "serve", "--store-path", path, "--listen", address, "--admin-listen", "")
	if code != 4 || !strings.Contains(errOut, "cannot listen on "+address) {
		t.Errorf("exit %d, %q", code, errOut)
	}
	if code, out, _ := runCLI(t, header(token, secret), nil, "validate", "--server", address); code != 0 {
		t.Errorf("the first server is not there any more: %d %s", code, out)
	}
}
