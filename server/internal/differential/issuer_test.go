package differential_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sessiond/sessiond/server"
	"github.com/sessiond/sessiond/server/internal/pgtest"
	"github.com/sessiond/sessiond/server/internal/redistest"
)

// header is a request: nil is no header.
type header struct{ cookie, authorization *string }

// made is a browser: what became of its session, and what it holds.
type made struct {
	Kind    string
	Cookies []string
	Token   string // token.signature
	Bearer  string
	User    string
	Row     bool // the row alone is a good session of a user who is not banned
}

// verdict is what the issuer said.
type verdict struct {
	status              int // of an answer that is no verdict
	good                bool
	session, user, name string
}

func (v verdict) String() string {
	switch {
	case v.status != 0:
		return fmt.Sprintf("status %d", v.status)
	case v.good:
		return "good"
	}
	return "refused"
}

// issuer is a running Better Auth in one configuration.
type issuer struct {
	// Token and Data are the names of its cookies, HTTP is its port.
	Token, Data string
	HTTP        int
	Made        []made
	url         string
	conn        net.Conn
	reader      *bufio.Reader
	// env and flags are how sessiond is told of it.
	env   []string
	flags map[string]string
}

// startIssuers runs a version in several configurations, each with its own stores.
func startIssuers(t *testing.T, version string, seed uint64, cs []configuration) []*issuer {
	t.Helper()
	issuers, text := prepareStores(t, version, cs)
	begun := time.Now()
	ready := startNode(t, "issuer: ready ", []string{"VERSION=" + version, "SEED=" + strconv.FormatUint(seed, 10), "ISSUERS=" + text}, "--disable-warning=ExperimentalWarning", "issuer.mjs")
	t.Logf("ready after %v", time.Since(begun))
	var told struct {
		Batch   int
		Issuers []json.RawMessage
	}
	if err := json.Unmarshal([]byte(ready), &told); err != nil {
		t.Fatal(err)
	}
	for n, i := range issuers {
		i.url = fmt.Sprintf("http://127.0.0.1:%d/%d", told.Batch, n)
		if err := json.Unmarshal(told.Issuers[n], i); err != nil {
			t.Fatal(err)
		}
	}
	return issuers
}

// startNode runs a script of the issuers' until the test ends, and returns what follows a
// prefix on its output.
func startNode(t *testing.T, prefix string, env []string, args ...string) string {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatalf("Node.js 20 or later is wanted: make prepare installs it (%v)", err)
	}
	if _, err := os.Stat(filepath.Join("issuer", "node_modules", "better-auth-1.7", "package.json")); err != nil {
		t.Fatalf("the issuers are not installed: run make prepare (%v)", err)
	}
	cmd := exec.CommandContext(t.Context(), node, args...)
	cmd.Dir, cmd.Env = "issuer", append(env, "PATH="+os.Getenv("PATH"), "TZ=UTC")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 15 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Wait(); err != nil && t.Context().Err() == nil {
			t.Errorf("issuer: %v", err)
		}
		if t.Failed() {
			t.Logf("the issuer printed:\n%s", errs.Bytes()[:min(errs.Len(), 4096)])
		}
	})
	lines := bufio.NewReaderSize(out, 1<<20)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("the issuer is not ready: %v", err)
		}
		if text, ok := strings.CutPrefix(line, prefix); ok {
			return strings.TrimSpace(text)
		}
	}
}

// prepareStores gives every configuration stores of its own. The text is for the issuer.
func prepareStores(t *testing.T, version string, cs []configuration) (issuers []*issuer, text string) {
	t.Helper()
	var redis *redistest.Server
	retiredFile := filepath.Join(t.TempDir(), "retired")
	if err := os.WriteFile(retiredFile, []byte(retired+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var all []map[string]any
	for n, c := range cs {
		i := &issuer{env: []string{"SESSIOND_ISSUER_SECRET=" + secret}, flags: map[string]string{
			"issuer.version": version, "issuer.base_url": "http://127.0.0.1:3000", "issuer.bearer": strconv.FormatBool(c.bearer != ""),
		}}
		dsn := pgtest.Start(t).NewDatabase(t)
		options := map[string]any{}
		if c.options != "" {
			if err := json.Unmarshal([]byte(c.options), &options); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
		}
		if options["secrets"] == nil {
			options["secret"] = secret
		} else {
			i.flags["issuer.retired_secrets_file"] = retiredFile
		}
		theirs := map[string]any{"database": dsn, "options": options}
		if c.bearer != "" {
			theirs["bearer"] = json.RawMessage(c.bearer)
		}
		if c.redis {
			if redis == nil {
				redis = redistest.Start(t)
			}
			url := strings.TrimSuffix(redis.URL(), "0") + strconv.Itoa(n)
			theirs["redis"] = url
			i.env = append(i.env, "SESSIOND_SECONDARY_URL="+url)
			i.flags["secondary.store_in_database"] = strconv.FormatBool(c.rows)
		}
		if c.rows {
			i.env = append(i.env, "SESSIOND_STORE_DSN="+dsn)
			i.flags["store.driver"] = server.DriverPostgres
		}
		for k, v := range c.flags {
			i.flags[k] = v
		}
		issuers, all = append(issuers, i), append(all, theirs)
	}
	encoded, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return issuers, string(encoded)
}

// ask asks the issuer in its own process.
func (i *issuer) ask(t *testing.T, batch ...header) []verdict {
	t.Helper()
	var body bytes.Buffer
	encode := func(text *string) any {
		if text == nil {
			return nil
		}
		return base64.StdEncoding.EncodeToString([]byte(*text))
	}
	for _, h := range batch {
		if err := json.NewEncoder(&body).Encode([]any{encode(h.cookie), encode(h.authorization)}); err != nil {
			t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, i.url, &body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(text, []byte("\n"))
	if len(lines) != len(batch) {
		t.Fatalf("%d answers to %d headers", len(lines), len(batch))
	}
	out := make([]verdict, len(lines))
	for n, line := range lines {
		out[n] = parseVerdict(t, line)
	}
	return out
}

func parseVerdict(t *testing.T, line []byte) verdict {
	t.Helper()
	var ids []string
	if err := json.Unmarshal(line, &ids); err == nil {
		if ids == nil {
			return verdict{}
		}
		return verdict{good: true, session: ids[0], user: ids[1], name: ids[2]}
	}
	status, err := strconv.Atoi(string(line))
	if err != nil {
		t.Fatalf("the issuer answered %q", line)
	}
	return verdict{status: status}
}

// send sends a header's bytes as they are to the issuer's HTTP server.
func (i *issuer) send(t *testing.T, h header) verdict {
	t.Helper()
	var dialer net.Dialer
	if i.conn == nil {
		conn, err := dialer.DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", i.HTTP))
		if err != nil {
			t.Fatal(err)
		}
		i.conn, i.reader = conn, bufio.NewReader(conn)
	}
	var b strings.Builder
	b.WriteString("GET /api/auth/get-session?disableCookieCache=true&disableRefresh=true HTTP/1.1\r\nHost: 127.0.0.1:3000\r\n")
	if h.cookie != nil {
		b.WriteString("Cookie: " + *h.cookie + "\r\n")
	}
	if h.authorization != nil {
		b.WriteString("Authorization: " + *h.authorization + "\r\n")
	}
	b.WriteString("\r\n")
	if _, err := i.conn.Write([]byte(b.String())); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(i.reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	if resp.Close || resp.StatusCode == http.StatusBadRequest {
		if err := i.conn.Close(); err != nil {
			t.Fatal(err)
		}
		i.conn = nil
	}
	if resp.StatusCode != http.StatusOK {
		return verdict{status: resp.StatusCode}
	}
	var answer *struct{ Session, User struct{ ID, Name string } }
	if err := json.Unmarshal(text, &answer); err != nil {
		t.Fatal(err)
	}
	if answer == nil {
		return verdict{}
	}
	return verdict{good: true, session: answer.Session.ID, user: answer.User.ID, name: answer.User.Name}
}
