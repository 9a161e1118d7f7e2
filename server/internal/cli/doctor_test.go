package cli_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sessiond/sessiond/server/internal/store/sqlite"
)

func TestDoctor(t *testing.T) {
	path, token := database(t)
	// The feed of the file, so that nothing is to be mended.
	plan, err := sqlite.PlanInstall(t.Context(), sqlite.Config{Path: path}, sqlite.InstallOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := sqlite.Apply(t.Context(), sqlite.Config{Path: path}, plan.Statements); err != nil {
		t.Fatal(err)
	}
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/auth/get-session" || r.Header.Get("Cookie") == "" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = w.Write([]byte(`{"session":{"id":"s1","userId":"u1"},"user":{"id":"u1"}}`))
	}))
	defer issuer.Close()
	env := []string{"SESSIOND_ISSUER_SECRET=" + secret}
	file := filepath.Join(t.TempDir(), "cookie")
	if err := os.WriteFile(file, []byte(header(token, secret)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	address, _ := serve(t, append(env, "SESSIOND_ISSUER_BASE_URL="+issuer.URL), "--store-path", path)
	tests := []struct {
		name  string
		stdin string
		args  []string
		code  int
		want  []string
	}{
		{"without a cookie", "", nil, 0, []string{"ok       schema", "skipped  parity", "worst: ok"}},
		{"cookie in a file", "", []string{"--cookie-file", file}, 0, []string{"session s1 of user u1"}},
		{"cookie on standard input", header(token, secret), []string{"--cookie-file", "-"}, 0, []string{"session s1 of user u1"}},
		{"with an authority", header(token, secret), []string{"--cookie-file", "-", "--server", address}, 0, []string{"the authority at " + address + " and the issuer agree", "replicas: 1, configured as here"}},
		{"issuer somewhere else", header(token, secret), []string{"--cookie-file", "-", "--issuer", issuer.URL + "/auth"}, 1, []string{"warn     parity", "status 404", "why: ", "fix: --issuer", "worst: warn"}},
		{"another cookie name", header(token, secret), []string{"--cookie-file", "-", "--issuer-cookie-prefix", "shop"}, 4, []string{"fail     cookie_names", "NO signature", "worst: fail"}},
		{"no file", "", []string{"--cookie-file", "no/such"}, 2, []string{"no/such"}},
		{"nothing to speak TLS with", "", []string{"--server-tls"}, 2, []string{"--server-insecure and --server-tls are for --server"}},
		{"both at once", "", []string{"--server", "x:1", "--server-tls", "--server-insecure"}, 2, []string{"exclude each other"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"doctor", "--store-path", path, "--issuer-base-url", issuer.URL}, tt.args...)
			code, out, errOut := runCLI(t, tt.stdin, env, args...)
			if code != tt.code {
				t.Errorf("exit %d, want %d: %s%s", code, tt.code, out, errOut)
			}
			for _, want := range tt.want {
				if !strings.Contains(out+errOut, want) {
					t.Errorf("%q is not in:\n%s%s", want, out, errOut)
				}
			}
			if code == 2 {
				return
			}
			_, asJSON, _ := runCLI(t, tt.stdin, env, append(args, "--json")...)
			var report struct {
				Worst    string
				Findings []struct{ Severity, Check, What string }
			}
			if err := json.Unmarshal([]byte(asJSON), &report); err != nil || len(report.Findings) < 12 || !strings.Contains(out, "worst: "+report.Worst) {
				t.Errorf("%v: %s", err, asJSON)
			}
			noPiece(t, out+errOut+asJSON, token, secret)
		})
	}
}
