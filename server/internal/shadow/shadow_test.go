package shadow_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/issuer"
	"github.com/sessiond/sessiond/server/internal/pgtest"
	"github.com/sessiond/sessiond/server/internal/shadow"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/postgres"
	"github.com/sessiond/sessiond/sessioncookie"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const (
	secret  = "qJ7vW2nXz4LkR9pTfY3mB8hD6sGcA1eU"
	retired = "M5wZtE0rVxK2jN8bQyH4uC7gFaP3dLsO"
	name    = "better-auth.session_token"
)

// setup is an authority's configuration: where it reads, and how.
type setup struct {
	store     postgres.Config
	authority authority.Config
}

// right is what the issuer of these tests is configured as.
func right(dsn string) setup {
	return setup{
		store: postgres.Config{DSN: dsn},
		authority: authority.Config{
			Cookies: sessioncookie.Config{
				Names: []string{name}, Secrets: []string{secret}, Retired: []string{retired},
				Version: sessioncookie.V1_7, Bearer: true, BearerRequireSignature: true,
			},
			MaxBatchSize: 8, StalenessBound: 5 * time.Second,
		},
	}
}

// newAuthority is an authority of that configuration, which remembers nothing.
func (s setup) newAuthority(t *testing.T) (*authority.Authority, store.Store) {
	t.Helper()
	st, err := postgres.Open(t.Context(), s.store)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	a, err := authority.New(s.authority, authority.Direct(st))
	if err != nil {
		t.Fatal(err)
	}
	return a, st
}

// newDatabase is an issuer's database, with instants as Better Auth 1.2 keeps them,
// and one session of a user.
func newDatabase(t *testing.T, token, user string) (dsn string, conn *pgx.Conn) {
	t.Helper()
	dsn = pgtest.Start(t).NewDatabase(t)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	for _, text := range []string{
		`create table "user" (id text primary key, name text not null, email text not null unique, "emailVerified" boolean not null, image text,
			"createdAt" timestamp not null, "updatedAt" timestamp not null, banned boolean)`,
		`create table session (id text primary key, "expiresAt" timestamp not null, token text not null unique, "createdAt" timestamp not null,
			"updatedAt" timestamp not null, "ipAddress" text, "userAgent" text, "userId" text not null references "user" (id) on delete cascade)`,
		`create table old_session (like session including all)`,
		fmt.Sprintf(`insert into "user" values ('%s', 'A', 'a@example.com', true, null, now() at time zone 'UTC', now() at time zone 'UTC', true)`, user),
		fmt.Sprintf(`insert into session values ('s1', (now() + interval '1 hour') at time zone 'UTC', '%s', now() at time zone 'UTC', now() at time zone 'UTC', null, null, '%s')`, token, user),
	} {
		if _, err := conn.Exec(t.Context(), text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	return dsn, conn
}

// newIssuer answers get-session as an authority decides, until it is told otherwise.
func newIssuer(t *testing.T, a *authority.Authority, before func(w http.ResponseWriter) (done bool)) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if before != nil && before(w) {
			return
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
	}))
	t.Cleanup(srv.Close)
	return srv.URL + "/api/auth"
}

// tally is a Recorder that tests wait on.
type tally struct {
	outcomes chan issuer.Outcome
	mu       sync.Mutex
	dropped  int
}

func newTally() *tally { return &tally{outcomes: make(chan issuer.Outcome, 64)} }

func (y *tally) Compared(o issuer.Outcome) { y.outcomes <- o }

func (y *tally) Dropped() {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.dropped++
}

// safeLog is a log that is written and read at the same time.
type safeLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *safeLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *safeLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// checker runs a Checker of every verdict until the test ends.
func checker(t *testing.T, s setup, url string) (a *authority.Authority, c *shadow.Checker, y *tally, log *safeLog) {
	t.Helper()
	a, st := s.newAuthority(t)
	y, log = newTally(), &safeLog{}
	c, err := shadow.New(shadow.Config{IssuerURL: url, PerMinute: 60_000, Sample: 1}, a, st, y, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { c.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return a, c, y, log
}

// decide gives a verdict and offers it, as the service does.
func decide(t *testing.T, a *authority.Authority, c *shadow.Checker, credential authority.Credential) authority.Answer {
	t.Helper()
	answer, err := a.Validate(t.Context(), authority.Call{Now: time.Now(), Arrived: clock.Now()}, credential)
	if err != nil {
		t.Fatal(err)
	}
	c.Offer(credential, &answer)
	return answer
}

func (y *tally) next(t *testing.T) issuer.Outcome {
	t.Helper()
	select {
	case o := <-y.outcomes:
		return o
	case <-time.After(20 * time.Second):
		t.Fatal("nothing was compared within 20 s")
		return 0
	}
}

func cookie(name, token, key string) string {
	return name + "=" + sessioncookie.Encode(sessioncookie.Sign(token, key))
}

// TestBugs configures the authority wrongly in ten ways. Each is reported, and
// none of the credentials is in question where the configuration is right.
func TestBugs(t *testing.T) {
	token := sessioncookie.NewToken()
	tokyo, err := time.LoadLocation("Asia/Tokyo")
	if err != nil {
		t.Fatal(err)
	}
	dsn, _ := newDatabase(t, token, "u1")
	copied, _ := newDatabase(t, token, "u2")
	sound := right(dsn)
	soundAuthority, _ := sound.newAuthority(t)
	url := newIssuer(t, soundAuthority, nil)

	live := authority.Credential{Cookie: "theme=dark; " + cookie(name, token, secret)}
	rotated := authority.Credential{Cookie: cookie(name, token, retired)}
	schemeless := authority.Credential{Authorization: sessioncookie.Encode(sessioncookie.Sign(token, secret))}
	bare := authority.Credential{Authorization: "Bearer " + token}
	tests := []struct {
		bug        string
		breaks     func(s *setup)
		credential authority.Credential
		want       []string // in the log
	}{
		{"name", func(s *setup) { s.authority.Cookies.Names = []string{"shop-session"} }, live, []string{"reason=NO_CREDENTIAL", "issuer.cookie_name"}},
		{"secret", func(s *setup) { s.authority.Cookies.Secrets = []string{strings.Repeat("k", 32)} }, live, []string{"reason=BAD_SIGNATURE", "issuer.secret_file"}},
		{"prefix", func(s *setup) { s.authority.Cookies.Names = []string{"__Secure-" + name} }, live, []string{"reason=NO_CREDENTIAL", "issuer.base_url"}},
		{"version", func(s *setup) { s.authority.Cookies.Version = sessioncookie.V1_3 }, schemeless, []string{"ours=\"good", "issuer=refused"}},
		{"table", func(s *setup) { s.store.Schema.Session.Name = "old_session" }, live, []string{"reason=NOT_FOUND", "old_session"}},
		{"zone", func(s *setup) { s.store.Zone = tokyo }, live, []string{"reason=EXPIRED", "store.time_zone"}},
		{"policy", func(s *setup) { s.authority.Policy.RefuseBanned = true }, live, []string{"reason=USER_BANNED", "policy.refuse_banned"}},
		{"retired secret accepted", func(s *setup) { s.authority.AcceptRetired = true }, rotated, []string{"ours=\"good", "secret 2 of 2"}},
		{"bare tokens accepted", func(s *setup) { s.authority.Cookies.BearerRequireSignature = false }, bare, []string{"ours=\"good", "a bare token"}},
		{"database", func(s *setup) { s.store.DSN = copied }, live, []string{"session s1 of user u2", "session s1 of user u1"}},
	}
	for _, tt := range tests {
		t.Run(tt.bug, func(t *testing.T) {
			a, c, y, log := checker(t, sound, url)
			decide(t, a, c, tt.credential)
			if got := y.next(t); got != issuer.Agree {
				t.Fatalf("configured rightly: %s\n%s", got, log)
			}
			broken := right(dsn)
			tt.breaks(&broken)
			a, c, y, log = checker(t, broken, url)
			decide(t, a, c, tt.credential)
			if got := y.next(t); got != issuer.Disagree {
				t.Fatalf("%s, want disagree", got)
			}
			logged(t, log, append(tt.want, "level=WARN", "step1=\"intake:")...)
			for _, value := range []string{token, secret, retired, sessioncookie.Sign(token, secret)[len(token)+1:], sessioncookie.Sign(token, retired)[len(token)+1:]} {
				for at := 0; at+8 <= len(value); at++ {
					if strings.Contains(log.String(), value[at:at+8]) {
						t.Fatal("a piece of a secret value is in the log")
					}
				}
			}
		})
	}
}

// logged waits for what is logged after it was counted.
func logged(t *testing.T, log *safeLog, wants ...string) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); !strings.HasSuffix(log.String(), "\n"); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("nothing was logged within 10 s")
		}
	}
	for _, want := range wants {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q is not in %s", want, log)
		}
	}
}

// TestNoAlarm: what is no disagreement is not counted as one.
func TestNoAlarm(t *testing.T) {
	token := sessioncookie.NewToken()
	dsn, conn := newDatabase(t, token, "u1")
	sound := right(dsn)
	soundAuthority, _ := sound.newAuthority(t)
	live := authority.Credential{Cookie: cookie(name, token, secret)}
	signOut := func(t *testing.T) {
		if _, err := conn.Exec(t.Context(), "delete from session"); err != nil {
			t.Error(err)
		}
	}
	for _, tt := range []struct {
		name   string
		before func(w http.ResponseWriter) bool
		want   issuer.Outcome
	}{
		{"the issuer fails", func(w http.ResponseWriter) bool { w.WriteHeader(http.StatusInternalServerError); return true }, issuer.Unknown},
		{"the issuer is another site", func(w http.ResponseWriter) bool { _, _ = w.Write([]byte("<html>")); return true }, issuer.Unknown},
		{"signed out before the issuer is asked", func(http.ResponseWriter) bool { signOut(t); return false }, issuer.Agree},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, c, y, log := checker(t, sound, newIssuer(t, soundAuthority, tt.before))
			if answer := decide(t, a, c, live); !answer.Verdict.Good() {
				t.Fatalf("refused: %s", answer.Verdict.Reason)
			}
			if got := y.next(t); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			if strings.Contains(log.String(), "WARN") {
				t.Errorf("alarm: %s", log)
			}
		})
	}
}

// TestBusy: an issuer that does not answer holds nobody up; what finds no room is
// counted and forgotten, and the checker ends with its context all the same.
func TestBusy(t *testing.T) {
	token := sessioncookie.NewToken()
	dsn, _ := newDatabase(t, token, "u1")
	sound := right(dsn)
	soundAuthority, _ := sound.newAuthority(t)
	hang := make(chan struct{})
	url := newIssuer(t, soundAuthority, func(http.ResponseWriter) bool { <-hang; return true })
	t.Cleanup(func() { close(hang) }) // before the server is closed
	a, c, y, _ := checker(t, sound, url)
	credential := authority.Credential{Cookie: cookie(name, token, secret)}
	answer := decide(t, a, c, credential)
	start := time.Now()
	const n = 1000
	for range n {
		c.Offer(credential, &answer)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("%d offers took %v", n, took)
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.dropped < n-100 || y.dropped > n {
		t.Errorf("%d of %d dropped", y.dropped, n)
	}
}

// TestSample: nothing of a sample of none, and nothing that the issuer could not be
// asked about.
func TestSample(t *testing.T) {
	token := sessioncookie.NewToken()
	dsn, _ := newDatabase(t, token, "u1")
	a, st := right(dsn).newAuthority(t)
	answer, err := a.Validate(t.Context(), authority.Call{Now: time.Now(), Arrived: clock.Now()}, authority.Credential{Cookie: cookie(name, token, secret)})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name       string
		sample     float64
		credential authority.Credential
		dropped    bool
	}{
		{"all", 1, authority.Credential{Cookie: "x"}, true},
		{"none", 0, authority.Credential{Cookie: "x"}, false},
		{"a value alone", 1, authority.Credential{Form: authority.FormCookieValue, Value: "x"}, false},
		{"a bare token", 1, authority.Credential{Form: authority.FormToken, Value: "x"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			y := newTally()
			c, err := shadow.New(shadow.Config{IssuerURL: "http://127.0.0.1:1", PerMinute: 1, Sample: tt.sample}, a, st, y, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			for range 1000 { // nobody compares, so what is taken soon finds no room
				c.Offer(tt.credential, &answer)
			}
			if (y.dropped > 0) != tt.dropped {
				t.Errorf("%d dropped", y.dropped)
			}
		})
	}
}
