package catalogue_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sessiond/sessiond/server"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/cli"
	"github.com/sessiond/sessiond/server/internal/config"
	"github.com/sessiond/sessiond/server/internal/pgtest"
	"github.com/sessiond/sessiond/server/internal/redistest"
	"github.com/sessiond/sessiond/server/internal/store/sqlite"
	"github.com/sessiond/sessiond/sessioncookie"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// The house that faults are seeded into: an issuer's secret, its database with one
// user and one good session.
const (
	secret     = "Zq8!rT2#vL5-xN7&bM4*cK9@dW1^gH6%"
	cookieName = "better-auth.session_token"
	secureName = "__Secure-" + cookieName
	dataName   = "better-auth.session_data"
	userID     = "nYzXw9v8u7t6s5r4q3p2"
	sessionID  = "kJ8hG7fD6sA5pO4iU3yT2rE1wQ0zX9cV"
	prefix     = "better-auth:"
)

// house is one deployment with one fault.
type house struct {
	t     *testing.T
	path  string            // the issuer's SQLite file
	env   map[string]string // sessiond's settings, by their keys
	token string            // of the good session
	redis *redistest.Server
	// asIssuer is the DSN of who owns the tables, where sessiond has another.
	asIssuer string
	keys     *redistest.Issuer
	// What arrives: headers as an operator pastes them, or with as another form.
	input, as string
	// before is called when the authority has started, before it is asked.
	before func()
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, path: filepath.Join(t.TempDir(), "issuer.sqlite"), token: sessioncookie.NewToken(), as: "headers", before: func() {}}
	st, err := sqlite.Open(t.Context(), sqlite.Config{Path: h.path, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	h.env = map[string]string{
		"store.path": h.path, "issuer.secret": secret, "issuer.base_url": "http://localhost:3000",
		"listen": "127.0.0.1:0", "admin.listen": "", "feed.mode": "off",
	}
	h.exec(`INSERT INTO user (id, name, email, emailVerified, createdAt, updatedAt) VALUES (?1, 'Ann', 'ann@example.com', 1, ?2, ?2)`, userID, date(0))
	h.session(sessionID, h.token)
	h.cookie(h.signed())
	return h
}

// exec runs a statement as the issuer.
func (h *house) exec(statement string, args ...any) {
	h.t.Helper()
	if err := sqlite.Exec(h.t.Context(), h.path, statement, args...); err != nil {
		h.t.Fatal(err)
	}
}

// session adds a good session.
func (h *house) session(id, token string) {
	h.t.Helper()
	h.exec(`INSERT INTO session (id, token, userId, createdAt, updatedAt, expiresAt) VALUES (?1, ?2, ?3, ?4, ?4, ?5)`, id, token, userID, date(-time.Hour), date(24*time.Hour))
}

// date is an instant as Better Auth writes it.
func date(fromNow time.Duration) string {
	return time.Now().Add(fromNow).UTC().Format("2006-01-02T15:04:05.000Z")
}

// signed is the good session's cookie value as it goes on the wire.
func (h *house) signed() string { return sessioncookie.Encode(sessioncookie.Sign(h.token, secret)) }

// cookie has the session cookie arrive with a value.
func (h *house) cookie(value string) { h.input = cookieName + "=" + value }

// decoded has the session cookie arrive with a value that the issuer would encode.
func (h *house) decoded(value string) { h.cookie(sessioncookie.Encode(value)) }

// inRedis has the issuer keep sessions in secondary storage.
func (h *house) inRedis() {
	h.t.Helper()
	h.redis = redistest.Start(h.t)
	h.keys = redistest.NewIssuer(h.t, h.redis, prefix)
	delete(h.env, "store.path")
	h.env["secondary.url"] = h.redis.URL()
}

// both has the issuer keep sessions in secondary storage and in rows.
func (h *house) both() {
	h.t.Helper()
	h.inRedis()
	h.env["store.path"], h.env["secondary.store_in_database"] = h.path, "true"
	h.key(prefix+h.token, h.token, -time.Hour)
}

// key writes a session of secondary storage.
func (h *house) key(key, token string, created time.Duration) {
	h.t.Helper()
	value, err := json.Marshal(map[string]any{
		"session": map[string]any{"id": sessionID, "token": token, "userId": userID, "createdAt": date(created), "updatedAt": date(created), "expiresAt": date(24 * time.Hour)},
		"user":    map[string]any{"id": userID, "name": "Ann", "email": "ann@example.com", "emailVerified": true, "createdAt": date(created), "updatedAt": date(created)},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.keys.Do("SET", key, string(value))
}

// inPostgres has the issuer keep rows in PostgreSQL, in columns without time zone, as
// Better Auth 1.2 makes them.
func (h *house) inPostgres(expires string) {
	h.t.Helper()
	dsn := pgtest.Start(h.t).NewDatabase(h.t)
	delete(h.env, "store.path")
	h.env["store.driver"], h.env["store.dsn"] = "postgres", dsn
	h.postgres(fmt.Sprintf(`
		CREATE TABLE "user" (id text PRIMARY KEY, name text, email text, "emailVerified" boolean, image text, "createdAt" timestamp, "updatedAt" timestamp);
		CREATE TABLE session (id text PRIMARY KEY, "expiresAt" timestamp, token text UNIQUE, "createdAt" timestamp, "updatedAt" timestamp, "ipAddress" text, "userAgent" text, "userId" text);
		INSERT INTO "user" VALUES ('%[1]s', 'Ann', 'ann@example.com', true, NULL, now(), now());
		INSERT INTO session VALUES ('%[2]s', (now() AT TIME ZONE 'UTC') + interval '%[4]s', '%[3]s', (now() AT TIME ZONE 'UTC') - interval '1 day', (now() AT TIME ZONE 'UTC') + interval '%[4]s' - interval '7 days', NULL, NULL, '%[1]s')`,
		userID, sessionID, h.token, expires))
}

// asReader has sessiond read as a role that owns nothing.
func (h *house) asReader() {
	h.t.Helper()
	role := "reader_" + strings.ToLower(rand.Text()[:12])
	h.postgres(`CREATE ROLE ` + role + `; GRANT SELECT ON ALL TABLES IN SCHEMA public TO ` + role)
	h.asIssuer = h.env["store.dsn"]
	h.env["store.dsn"] += "&options=-c%20role%3D" + role
}

// postgres runs a statement as the issuer.
func (h *house) postgres(statement string, args ...any) {
	h.t.Helper()
	conn, err := pgx.Connect(h.t.Context(), cmp.Or(h.asIssuer, h.env["store.dsn"]))
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(h.t.Context()))
	if _, err := conn.Exec(h.t.Context(), statement, args...); err != nil {
		h.t.Fatal(err)
	}
}

// stateless has the issuer keep sessions in signed cookies alone.
func (h *house) stateless() {
	delete(h.env, "store.path")
	h.env["store.driver"], h.env["issuer.cookie_cache"] = "none", "compact"
}

// cache is a session_data cookie of the strategy compact, as 1.7 writes it.
func (h *house) cache(token, secret string, life time.Duration) string {
	h.t.Helper()
	return cacheCookie(time.Now(), sessionID, token, secret, life)
}

func cacheCookie(now time.Time, id, token, secret string, life time.Duration) string {
	date := func(fromNow time.Duration) string { return now.Add(fromNow).UTC().Format("2006-01-02T15:04:05.000Z") }
	cached := fmt.Sprintf(`"session":{"id":%q,"token":%q,"userId":%q,"createdAt":%q,"updatedAt":%q,"expiresAt":%q,"ipAddress":"","userAgent":""},`+
		`"user":{"id":%q,"name":"Ann","email":"ann@example.com","emailVerified":true,"image":null,"createdAt":%q,"updatedAt":%q},"updatedAt":%d,"version":"1"`,
		id, token, userID, date(-time.Hour), date(-time.Hour), date(24*time.Hour), userID, date(0), date(0), now.UnixMilli())
	ends := fmt.Sprintf(`"expiresAt":%d`, now.Add(life).UnixMilli())
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "{%s,%s}", cached, ends)
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"session":{%s},%s,"signature":%q}`, cached, ends, base64.RawURLEncoding.EncodeToString(mac.Sum(nil))))
}

func (h *house) environment() []string {
	var out []string
	for key, value := range h.env {
		out = append(out, config.Setting{Key: key}.Env()+"="+value)
	}
	return out
}

// run runs sessiond with the house's settings, and returns what it printed.
func (h *house) run(env []string, args ...string) (out, errs string, code int) {
	h.t.Helper()
	var o, e bytes.Buffer
	code = cli.Main(h.t.Context(), args, cli.Streams{In: strings.NewReader(h.input), Out: &o, Err: &e}, env)
	return o.String(), e.String(), code
}

// explained is an explanation as JSON has it.
func (h *house) explained(env []string, args ...string) (authority.Explanation, string) {
	h.t.Helper()
	out, errs, code := h.run(env, append([]string{"explain", "--json"}, args...)...)
	var e authority.Explanation
	if err := json.Unmarshal([]byte(out), &e); err != nil {
		h.t.Fatalf("exit code %d, %s: %v", code, errs, err)
	}
	if want := map[string]int{authority.VerdictGood: 0, authority.VerdictRefused: 1, authority.VerdictUndecided: 3}[e.Verdict]; code != want {
		h.t.Errorf("exit code %d for %s", code, e.Verdict)
	}
	return e, out
}

// serve runs an authority with the house's settings until the test ends.
func (h *house) serve() (address string) {
	h.t.Helper()
	cfg, err := config.Load(config.Sources{Env: h.environment()}, false)
	if err != nil {
		h.t.Fatal(err)
	}
	s, err := server.New(h.t.Context(), cfg.Server, slog.New(slog.DiscardHandler))
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(h.t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	h.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			h.t.Error(err)
		}
	})
	return s.Addr().String()
}

// secrets are what no explanation may hold a piece of.
func (h *house) secrets() []string {
	_, signature, _ := strings.Cut(sessioncookie.Sign(h.token, secret), ".")
	return []string{h.token, secret, signature, sessioncookie.Encode(signature)}
}

// pathEscape is what a cookie library makes of a value that is encoded already.
func pathEscape(s string) string { return url.QueryEscape(s) }
