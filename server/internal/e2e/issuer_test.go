package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// issuer is a running Better Auth.
type issuer struct {
	*process
	base *url.URL
}

// startIssuer runs the example's issuer on the database and waits until it is ready.
func startIssuer(t *testing.T, root, dsn, secret string) *issuer {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatalf("the issuer needs Node.js 20 or later: run `make test`, which prepares it (%v)", err)
	}
	dir := filepath.Join(root, "examples", "workers", "issuer")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "better-auth", "package.json")); err != nil {
		t.Fatalf("the issuer's packages are not installed: run `make test`, which prepares them (%v)", err)
	}
	port := freePort(t)
	base := &url.URL{Scheme: "http", Host: "127.0.0.1:" + port}
	p := start(t, "issuer", dir, []string{
		"PATH=" + os.Getenv("PATH"),
		"DATABASE_URL=" + dsn,
		"BETTER_AUTH_SECRET=" + secret,
		"PORT=" + port,
		"BASE_URL=" + base.String(),
	}, node, "issuer.mjs")
	p.await(t, 0, "that it is ready", func(line string) bool { return strings.HasPrefix(line, "issuer: ready on ") })
	return &issuer{process: p, base: base}
}

// browser is a browser at the issuer's site, with a jar that holds other cookies too.
type browser struct {
	issuer *issuer
	client *http.Client
}

func newBrowser(t *testing.T, i *issuer) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	jar.SetCookies(i.base, []*http.Cookie{{Name: "theme", Value: "dark"}, {Name: "_ga", Value: "GA1.1.1794.1763"}})
	return &browser{issuer: i, client: &http.Client{Jar: jar, Timeout: patience}}
}

// cookie returns the Cookie header the browser sends.
func (b *browser) cookie(t *testing.T) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.issuer.base.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range b.client.Jar.Cookies(b.issuer.base) {
		req.AddCookie(c)
	}
	return req.Header.Get("Cookie")
}

// credential returns the value of the session cookie as the issuer signed it:
// token, dot, signature.
func (b *browser) credential(t *testing.T) string {
	t.Helper()
	for _, c := range b.client.Jar.Cookies(b.issuer.base) {
		if c.Name == sessionCookie {
			value, err := url.PathUnescape(c.Value)
			if err != nil {
				t.Fatalf("the issuer's cookie is not percent-encoded: %v", err)
			}
			return value
		}
	}
	t.Fatal("the issuer set no session cookie")
	return ""
}

// user is a person, as Better Auth and the workers name them.
type user struct {
	ID    string `json:"id"`
	Email string `json:"email"`
}

// post calls the issuer's API and decodes its answer into result.
func (b *browser) post(t *testing.T, path string, body, result any) {
	t.Helper()
	sent, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	b.do(t, http.MethodPost, path, sent, result)
}

func (b *browser) do(t *testing.T, method, path string, body []byte, result any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, b.issuer.base.JoinPath("api", "auth", path).String(), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Origin", b.issuer.base.String())
	resp, err := b.client.Do(req)
	if err != nil {
		t.Fatalf("issuer: %s: %v", path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("issuer: %s: %v", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("issuer: %s: %s: %s", path, resp.Status, text)
	}
	if err := json.Unmarshal(text, result); err != nil {
		t.Fatalf("issuer: %s: %v", path, err)
	}
}

// signUp makes an account and signs in.
func (b *browser) signUp(t *testing.T) user {
	t.Helper()
	email := fmt.Sprintf("user-%d@example.com", time.Now().UnixNano())
	var answer struct{ User user }
	b.post(t, "sign-up/email", map[string]string{"email": email, "password": userPassword, "name": "A User"}, &answer)
	if answer.User.ID == "" || answer.User.Email != email {
		t.Fatalf("the issuer signed up %+v, want %s", answer.User, email)
	}
	return answer.User
}

// signOut ends the session at the issuer.
func (b *browser) signOut(t *testing.T) {
	t.Helper()
	var answer struct{ Success bool }
	b.post(t, "sign-out", struct{}{}, &answer)
	if !answer.Success {
		t.Fatal("the issuer did not sign the user out")
	}
}

// session asks the issuer who the browser's user is; nil: nobody.
func (b *browser) session(t *testing.T) *user {
	t.Helper()
	var answer *struct{ User user }
	b.do(t, http.MethodGet, "get-session", nil, &answer)
	if answer == nil {
		return nil
	}
	return &answer.User
}
