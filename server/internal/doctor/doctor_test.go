package doctor_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/doctor"
	"github.com/sessiond/sessiond/server/internal/pgtest"
	"github.com/sessiond/sessiond/server/internal/rpc"
	"github.com/sessiond/sessiond/sessioncookie"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const (
	secret  = "qJ7vW2nXz4LkR9pTfY3mB8hD6sGcA1eU"
	retired = "M5wZtE0rVxK2jN8bQyH4uC7gFaP3dLsO"
	name    = "better-auth.session_token"
	bound   = time.Second
)

// deployment is an issuer's database with one session, its feed installed, and an
// issuer that answers as the right configuration does.
type deployment struct {
	doctor.Config
	t     *testing.T
	conn  *pgx.Conn
	token string
	// olderHealth is what the older one says of its health.
	olderHealth *health.Server
}

func newDeployment(t *testing.T) *deployment {
	t.Helper()
	dsn := pgtest.Start(t).NewDatabase(t)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	d := &deployment{t: t, conn: conn, token: sessioncookie.NewToken()}
	d.sql(`create table "user" (id text primary key, name text not null, email text not null unique, "emailVerified" boolean not null, image text,
		"createdAt" timestamptz default now() not null, "updatedAt" timestamptz default now() not null, banned boolean)`)
	d.sql(`create table session (id text primary key, "expiresAt" timestamptz not null, token text not null unique, "createdAt" timestamptz default now() not null,
		"updatedAt" timestamptz not null, "ipAddress" text, "userAgent" text, "userId" text not null references "user" (id) on delete cascade)`)
	d.sql(`insert into "user" (id, name, email, "emailVerified") values ('u1', 'Alice', 'alice@example.com', true)`)
	d.sql(`insert into session (id, "expiresAt", token, "updatedAt", "userId") values ('s1', now() + interval '1 hour', $1, now(), 'u1')`, d.token)
	d.Server = server.Config{
		Listen: "127.0.0.1:0", DrainTimeout: time.Second, CacheBytes: 1 << 20,
		Store: server.StoreConfig{Driver: server.DriverPostgres, DSN: dsn},
		Feed:  server.FeedConfig{Mode: server.FeedAuto},
		Authority: authority.Config{
			Cookies:      sessioncookie.Config{Names: []string{name}, Secrets: []string{secret}},
			MaxBatchSize: 8, StalenessBound: bound,
		},
	}
	d.install(server.FeedInstall{Bound: bound})
	d.Cookie = "theme=dark; " + cookie(name, d.token, secret)
	d.IssuerURL = d.issuer()
	return d
}

func (d *deployment) sql(text string, args ...any) {
	d.t.Helper()
	if _, err := d.conn.Exec(d.t.Context(), text, args...); err != nil {
		d.t.Fatalf("%s: %v", text, err)
	}
}

func (d *deployment) install(o server.FeedInstall) {
	d.t.Helper()
	plan, err := server.PlanFeedInstall(d.t.Context(), d.Server.Store, o)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := server.ApplyFeedPlan(d.t.Context(), d.Server.Store, plan.Statements); err != nil {
		d.t.Fatal(err)
	}
}

// issuer answers get-session as the deployment's present configuration does.
func (d *deployment) issuer() string {
	d.t.Helper()
	st, err := server.OpenStore(d.t.Context(), d.Server.Store)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = st.Close() })
	a, err := authority.New(d.Server.Authority, authority.Direct(st))
	if err != nil {
		d.t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/auth/get-session", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("disableCookieCache") != "true" || r.URL.Query().Get("disableRefresh") != "true" {
			d.t.Errorf("asked with %q", r.URL.RawQuery)
		}
		answer, err := a.Validate(r.Context(), authority.Call{Now: time.Now(), Arrived: clock.Now()},
			authority.Credential{Cookie: r.Header.Get("Cookie"), Authorization: r.Header.Get("Authorization")})
		switch {
		case err != nil:
			w.WriteHeader(http.StatusInternalServerError)
		case !answer.Verdict.Good():
			_, _ = w.Write([]byte("null"))
		default:
			s := answer.Record.Session
			_, _ = fmt.Fprintf(w, `{"session":{"id":%q,"userId":%q},"user":{"id":%q}}`, s.ID, s.UserID, s.UserID)
		}
	})
	srv := httptest.NewServer(mux)
	d.t.Cleanup(srv.Close)
	return srv.URL + "/api/auth"
}

// serve runs an authority of this configuration.
func (d *deployment) serve(change func(*server.Config)) (address string) {
	d.t.Helper()
	cfg := d.Server
	if change != nil {
		change(&cfg)
	}
	srv, err := server.New(d.t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		d.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(d.t.Context())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	d.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			d.t.Error(err)
		}
	})
	return srv.Addr().String()
}

// registered waits until n replicas are in the registry.
func (d *deployment) registered(n int) {
	d.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); ; <-tick.C {
		var there int
		if err := d.conn.QueryRow(d.t.Context(), "select count(*) from sessiond.replica").Scan(&there); err != nil {
			d.t.Fatal(err)
		}
		if there >= n {
			return
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("%d of %d replicas registered within 10 s", there, n)
		}
	}
}

func cookie(name, token, key string) string {
	return name + "=" + sessioncookie.Encode(sessioncookie.Sign(token, key))
}

// run runs all checks, and sees to it that nothing secret is printed.
func (d *deployment) run() doctor.Report {
	d.t.Helper()
	r := doctor.Run(d.t.Context(), d.Config)
	text, err := json.Marshal(r)
	if err != nil {
		d.t.Fatal(err)
	}
	for what, value := range map[string]string{"token": d.token, "secret": secret, "retired secret": retired} {
		for at := 0; at+8 <= len(value); at++ {
			if strings.Contains(string(text), value[at:at+8]) {
				d.t.Errorf("a piece of the %s is in the report", what)
				break
			}
		}
	}
	return r
}

// want fails unless the check has a finding of that severity with that text, and
// says why and how where something is wrong.
func want(t *testing.T, r doctor.Report, check string, s doctor.Severity, text string) {
	t.Helper()
	for _, f := range r.Findings {
		if f.Check != check || f.Severity != s || !strings.Contains(f.What+" | "+f.Fix, text) {
			continue
		}
		if (s == doctor.Warn || s == doctor.Fail) && f.Why == "" {
			t.Errorf("%s does not say why it matters: %+v", check, f)
		}
		return
	}
	t.Errorf("no finding %s, %s, %q in:\n%s", check, s, text, show(r))
}

func show(r doctor.Report) string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s %s: %s [%s]\n", f.Severity, f.Check, f.What, f.Fix)
	}
	return b.String()
}

// TestHealthy: where nothing is wrong nothing is reported, and every check has looked.
func TestHealthy(t *testing.T) {
	d := newDeployment(t)
	d.Address = d.serve(nil)
	d.registered(1)
	r := d.run()
	for _, f := range r.Findings {
		if f.Severity != doctor.OK && f.Severity != doctor.Note {
			t.Errorf("%+v", f)
		}
	}
	if r.Worst != doctor.OK {
		t.Errorf("worst %s", r.Worst)
	}
	for _, c := range doctor.Checks() {
		want(t, r, c.Name, doctor.OK, "")
	}
	want(t, r, "schema", doctor.OK, `"public"."session": createdAt in createdAt (timestamp with time zone), `)
	want(t, r, "parity", doctor.OK, "session s1 of user u1")
	want(t, r, "parity", doctor.OK, "the authority at "+d.Address)
	want(t, r, "feed", doctor.OK, "replicas registered: 1, and all beat")
}

// TestFindings breaks one thing at a time.
func TestFindings(t *testing.T) {
	cookies := func(d *deployment) *sessioncookie.Config { return &d.Server.Authority.Cookies }
	tests := []struct {
		name     string
		breaks   func(d *deployment)
		check    string
		severity doctor.Severity
		text     string
	}{
		{"no such table", func(d *deployment) { d.Server.Store.Schema.Session.Name = "sessions" }, "schema", doctor.Fail, "store.session_table"},
		{"database away", func(d *deployment) { d.Server.Store.DSN = "postgres://nobody@127.0.0.1:1/x" }, "schema", doctor.Fail, "nothing listens"},
		{"zone not said", func(d *deployment) { d.sql(`alter table session alter "expiresAt" type timestamp`) }, "schema", doctor.Warn, "store.time_zone"},
		{"zone said", func(d *deployment) {
			d.sql(`alter table session alter "expiresAt" type timestamp`)
			d.Server.Store.Zone = time.UTC
		}, "schema", doctor.Note, "read as UTC"},
		{"no index", func(d *deployment) { d.sql(`alter table session drop constraint session_token_key`) }, "index", doctor.Fail, `CREATE UNIQUE INDEX CONCURRENTLY ON "public"."session" ("token")`},
		{"index of another collation", func(d *deployment) {
			d.sql(`alter table session drop constraint session_token_key`)
			d.sql(`create index on session (token collate "C")`)
		}, "index", doctor.Fail, "Seq Scan"},
		{"secondary storage away", func(d *deployment) {
			d.Server.Store.Secondary = &server.SecondaryConfig{URL: "redis://127.0.0.1:1/0", Prefix: "better-auth:", InDatabase: true}
		}, "secondary", doctor.Fail, "secondary.url"},
		{"secure cookies expected", func(d *deployment) { cookies(d).Names = []string{"__Secure-" + name} }, "cookie_names", doctor.Fail, "issuer.base_url"},
		{"another prefix", func(d *deployment) { cookies(d).Names = []string{"shop.session_token"} }, "cookie_names", doctor.Fail, "issuer.cookie_prefix"},
		{"two of one name", func(d *deployment) { d.Cookie += "; " + name + "=x" }, "cookie_names", doctor.Warn, "2 cookies"},
		{"two names", func(d *deployment) {
			cookies(d).Names = []string{"__Secure-" + name, name}
			d.Cookie += "; __Secure-" + name + "=x"
		}, "cookie_names", doctor.Warn, "all are read"},
		{"another secret", func(d *deployment) { cookies(d).Secrets = []string{retired} }, "signature", doctor.Fail, "no secret made the signature: 1 configured and 0 retired"},
		{"retired secret", func(d *deployment) {
			cookies(d).Secrets, cookies(d).Retired = []string{retired}, []string{strings.Repeat("x", 32), secret}
		}, "signature", doctor.Fail, "retired secret 2 made"},
		{"retired secret accepted", func(d *deployment) {
			cookies(d).Secrets, cookies(d).Retired, d.Server.Authority.AcceptRetired = []string{retired}, []string{secret}, true
		}, "signature", doctor.Warn, "retired secret 1 made"},
		{"no signature", func(d *deployment) { d.Cookie = name + "=" + d.token }, "signature", doctor.Fail, "MALFORMED"},
		{"they disagree", func(d *deployment) { cookies(d).Secrets = []string{retired} }, "parity", doctor.Fail, "says refused (BAD_SIGNATURE), the issuer says good (session s1"},
		{"stricter on purpose", func(d *deployment) {
			d.sql(`update "user" set banned = true`)
			d.Server.Authority.Policy.RefuseBanned = true
		}, "parity", doctor.Note, "policy.refuse_banned"},
		{"both refuse", func(d *deployment) { d.Cookie = cookie(name, sessioncookie.NewToken(), secret) }, "parity", doctor.Warn, "both refuse it (NOT_FOUND)"},
		{"no base path", func(d *deployment) { d.IssuerURL = strings.TrimSuffix(d.IssuerURL, "/api/auth") }, "parity", doctor.Warn, "status 404"},
		{"issuer away", func(d *deployment) { d.IssuerURL = "http://127.0.0.1:1/api/auth" }, "parity", doctor.Warn, "no connection"},
		{"the running authority disagrees", func(d *deployment) {
			d.Address = d.serve(func(c *server.Config) { c.Authority.Cookies.Secrets = []string{retired} })
		}, "parity", doctor.Fail, "says refused (BAD_SIGNATURE)"},
		{"the running authority disagrees, without an issuer", func(d *deployment) {
			d.IssuerURL = ""
			d.Address = d.serve(func(c *server.Config) { c.Authority.Cookies.Secrets = []string{retired} })
		}, "parity", doctor.Fail, "says refused (BAD_SIGNATURE), sessiond, by this configuration, says good (session s1"},
		{"feed not installed", func(d *deployment) { d.sql(`drop schema sessiond cascade`) }, "feed", doctor.Warn, "sessiond feed install"},
		{"feed required", func(d *deployment) {
			d.sql(`drop schema sessiond cascade`)
			d.Server.Feed.Mode = server.FeedRequired
		}, "feed", doctor.Fail, "feed.mode=required"},
		{"feed off", func(d *deployment) { d.Server.Feed.Mode = server.FeedOff }, "feed", doctor.Note, "feed.mode is off"},
		{"another bound", func(d *deployment) { d.Server.Authority.StalenessBound = 2 * bound }, "feed", doctor.Fail, "staleness bound of 1s and staleness_bound is 2s"},
		{"trigger gone", func(d *deployment) { d.sql(`alter table session disable trigger all`) }, "feed", doctor.Fail, "triggers are there and enabled"},
		{"without triggers", func(d *deployment) { d.install(server.FeedInstall{Bound: bound, WithoutTriggers: true}) }, "feed", doctor.Warn, "no triggers"},
		{"replica hangs", func(d *deployment) {
			d.sql(`insert into sessiond.replica values (gen_random_uuid(), 7, pg_current_snapshot(), pg_current_snapshot(), '')`)
		}, "feed", doctor.Warn, "1 of 1 registered replicas did not beat"},
		{"replica of another database", func(d *deployment) { d.Address = newDeployment(d.t).serve(nil) }, "feed", doctor.Fail, "no replica is registered"},
		{"clock off", func(d *deployment) { d.Now = shifted(5 * time.Second) }, "clock", doctor.Warn, "behind"},
		{"clock far off", func(d *deployment) { d.Now = shifted(-time.Minute) }, "clock", doctor.Fail, "ahead of this machine"},
		{"nobody serves", func(d *deployment) { d.Address = "127.0.0.1:1" }, "replicas", doctor.Fail, "does not answer"},
		{"name unknown", func(d *deployment) {
			d.Address = "sessiond:8443"
			d.Resolve = func(context.Context, string) ([]string, error) { return nil, errors.New("no such host") }
		}, "replicas", doctor.Fail, "sessiond cannot be resolved"},
		{"configured otherwise than here", func(d *deployment) {
			d.Address = d.serve(func(c *server.Config) { c.Authority.Policy.MaxIdle = time.Hour })
		}, "replicas", doctor.Warn, "have another configuration than the one read here"},
		{"replicas differ", func(d *deployment) {
			_, port, err := net.SplitHostPort(d.serve(nil))
			if err != nil {
				d.t.Fatal(err)
			}
			d.serve(func(c *server.Config) {
				c.Listen = "127.0.0.2:" + port
				c.Authority.Cookies.Names = []string{"other"}
			})
			d.Address = "replicas.internal:" + port
			d.Resolve = func(context.Context, string) ([]string, error) { return []string{"127.0.0.1", "127.0.0.2"}, nil }
		}, "replicas", doctor.Fail, "2 replicas are not configured alike"},
		{"replicas of two versions", func(d *deployment) {
			_, port, err := net.SplitHostPort(d.serve(nil))
			if err != nil {
				d.t.Fatal(err)
			}
			d.older("127.0.0.2:" + port)
			d.Cookie = "" // neither name is dialled by itself
			d.Address = "replicas.internal:" + port
			d.Resolve = func(context.Context, string) ([]string, error) { return []string{"127.0.0.1", "127.0.0.2"}, nil }
		}, "replicas", doctor.Warn, "2 replicas are of different versions"},
		{"a replica that is ending", func(d *deployment) {
			d.Address = d.older("127.0.0.1:0")
			d.olderHealth.Shutdown()
			d.Cookie = "" // it answers nothing else
		}, "replicas", doctor.Fail, "says that it is not serving"},
		{"plaintext allowed", func(d *deployment) { d.Server.Listen, d.Server.Insecure = "0.0.0.0:8443", true }, "tls", doctor.Warn, "0.0.0.0:8443 is plaintext"},
		{"plaintext", func(d *deployment) { d.Server.Listen = "0.0.0.0:8443" }, "tls", doctor.Fail, "serve does not start"},
		{"certificate ends", func(d *deployment) { d.certificate(72 * time.Hour) }, "tls", doctor.Warn, "the listener's certificate ends"},
		{"certificate of the server ends", func(d *deployment) { d.serveTLS(72 * time.Hour) }, "tls", doctor.Warn, "the certificate of 127.0.0.1"},
		{"certificate of the server is over", func(d *deployment) { d.serveTLS(-time.Hour) }, "tls", doctor.Fail, "is over"},
		{"not that authority's certificate", func(d *deployment) {
			d.serveTLS(720 * time.Hour)
			d.TLS.RootCAs = x509.NewCertPool()
		}, "tls", doctor.Fail, "no TLS with"},
		{"issuer is secure, cookies are not", func(d *deployment) { d.IssuerURL = "https://127.0.0.1:1/api/auth" }, "tls", doctor.Warn, "__Secure-"},
		{"issuer in plaintext", func(d *deployment) { d.IssuerURL = "http://192.0.2.1/api/auth"; d.Cookie = "" }, "tls", doctor.Warn, "192.0.2.1 is asked in plaintext"},
		{"secret readable", func(d *deployment) { d.secretFile(0o644) }, "secrets", doctor.Warn, "everybody on this machine may read"},
		{"secret writable", func(d *deployment) { d.secretFile(0o660) }, "secrets", doctor.Fail, "others than its owner may write"},
		{"secret gone", func(d *deployment) {
			d.SecretFiles = map[string]string{"issuer.secret_file": filepath.Join(d.t.TempDir(), "none")}
		}, "secrets", doctor.Fail, "issuer.secret_file"},
		{"secret everybody knows", func(d *deployment) { cookies(d).Secrets = []string{"better-auth-secret-12345678901234567890"} }, "secrets", doctor.Fail, "everybody can sign"},
		{"secret typed", func(d *deployment) { cookies(d).Secrets = []string{strings.Repeat("abc", 12)} }, "secrets", doctor.Warn, "not drawn at random"},
		{"secret short", func(d *deployment) { d.Server.OperatorSecret = "short" }, "secrets", doctor.Fail, "the operators' secret has 5 bytes"},
		{"tokens short", func(d *deployment) { d.sql(`update session set token = substr(token, 1, 20)`) }, "tokens", doctor.Warn, "20 characters"},
		{"tokens very short", func(d *deployment) { d.sql(`update session set token = '1'`) }, "tokens", doctor.Fail, "has 1 characters"},
		{"no cookie", func(d *deployment) { d.Cookie = "" }, "parity", doctor.Skipped, "--cookie-file"},
		{"no issuer", func(d *deployment) { d.IssuerURL = "" }, "parity", doctor.Skipped, "--issuer"},
	}
	seen := make(map[string]bool)
	for _, tt := range tests {
		if tt.severity == doctor.Fail || tt.severity == doctor.Warn {
			seen[tt.check] = true
		}
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := newDeployment(t)
			tt.breaks(d)
			r := d.run()
			want(t, r, tt.check, tt.severity, tt.text)
		})
	}
	for _, c := range doctor.Checks() {
		if !seen[c.Name] && c.Name != "pooler" { // which needs a pooler: TestPooler
			t.Errorf("nothing makes %s fail", c.Name)
		}
	}
}

// TestTrace: a disagreement comes with the steps of our decision.
func TestTrace(t *testing.T) {
	d := newDeployment(t)
	d.Server.Authority.Cookies.Secrets = []string{retired}
	for _, f := range d.run().Findings {
		if f.Check == "parity" && f.Severity == doctor.Fail {
			if len(f.Trace) == 0 || f.Trace[len(f.Trace)-1].Name != "signature" || f.Trace[len(f.Trace)-1].OK {
				t.Errorf("trace %+v", f.Trace)
			}
			return
		}
	}
	t.Error("no disagreement")
}

// older runs what looks like a sessiond before it had operators' calls.
func (d *deployment) older(address string) string {
	d.t.Helper()
	a, err := authority.New(d.Server.Authority, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		d.t.Fatal(err)
	}
	srv := grpc.NewServer()
	d.olderHealth = health.NewServer()
	healthv1.RegisterHealthServer(srv, d.olderHealth)
	sessiondv1.RegisterSessionServiceServer(srv, rpc.New(a, nil, nil, nil))
	reflection.Register(srv)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(listener) }()
	d.t.Cleanup(func() {
		srv.Stop()
		if err := <-done; err != nil {
			d.t.Error(err)
		}
	})
	return listener.Addr().String()
}

func shifted(by time.Duration) func() time.Time {
	return func() time.Time { return time.Now().Add(by) }
}

func (d *deployment) secretFile(mode os.FileMode) {
	d.t.Helper()
	path := filepath.Join(d.t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		d.t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		d.t.Fatal(err)
	}
	d.SecretFiles = map[string]string{"issuer.secret_file": path}
}

// certificate gives the listener one for this machine that ends in some time.
func (d *deployment) certificate(left time.Duration) *x509.CertPool {
	d.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		d.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(left),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		d.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		d.t.Fatal(err)
	}
	dir := d.t.TempDir()
	d.Server.TLS = server.TLSFiles{Cert: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key")}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := errors.Join(os.WriteFile(d.Server.TLS.Cert, cert, 0o600),
		os.WriteFile(d.Server.TLS.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600)); err != nil {
		d.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	return pool
}

// serveTLS runs an authority with such a certificate, which the doctor trusts.
func (d *deployment) serveTLS(left time.Duration) {
	d.t.Helper()
	d.TLS = &tls.Config{RootCAs: d.certificate(left), MinVersion: tls.VersionTLS12}
	d.Address = d.serve(nil)
}

// TestDocs keeps docs/doctor.md equal to the list of checks.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "doctor.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "| check | why |")
	table, _, _ = strings.Cut(table, "\n\n")
	var rows []string
	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, "| `") {
			rows = append(rows, strings.TrimSpace(line))
		}
	}
	var wanted []string
	for _, c := range doctor.Checks() {
		wanted = append(wanted, fmt.Sprintf("| `%s` | %s | %s |", c.Name, c.Why, c.Fix))
	}
	if got, want := strings.Join(rows, "\n"), strings.Join(wanted, "\n"); got != want {
		t.Errorf("the table of docs/doctor.md differs from the list of checks; it should be:\n%s", want)
	}
}
