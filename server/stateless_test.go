package server_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/sessiond/sessiond/client"
	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/server"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/sessiondata"
	"github.com/sessiond/sessiond/sessioncookie"
)

func statelessConfiguration(t *testing.T) server.Config {
	t.Helper()
	cfg := configuration(t)
	cfg.Store = server.StoreConfig{Driver: server.DriverNone}
	cfg.Authority.Stateless = &authority.Stateless{}
	cfg.Authority.Companions = []authority.Companion{{Session: "sid", SessionData: &sessiondata.Config{Name: "data", Secrets: cfg.Authority.Cookies.Secrets}}}
	return cfg
}

// statelessJar is what a browser of a stateless issuer holds, session_data in two chunks.
func statelessJar(user string, until time.Time) string {
	token, at := sessioncookie.NewToken(), time.Now().UTC().Format("2006-01-02T15:04:05.000Z")
	content := fmt.Sprintf(`{"session":{"id":"s1","userId":%[1]q,"token":%[2]q,"createdAt":%[3]q,"updatedAt":%[3]q,"expiresAt":"2099-01-01T00:00:00.000Z"},`+
		`"user":{"id":%[1]q,"name":"Alice","email":"alice@example.com","emailVerified":true,"createdAt":%[3]q,"updatedAt":%[3]q},"updatedAt":1`, user, token, at)
	mac := hmac.New(sha256.New, []byte(fleetSecret))
	fmt.Fprintf(mac, `%s,"expiresAt":%d}`, content, until.UnixMilli())
	data := base64.RawURLEncoding.EncodeToString([]byte(fmt.Sprintf(`{"session":%s},"expiresAt":%d,"signature":%q}`,
		content, until.UnixMilli(), base64.RawURLEncoding.EncodeToString(mac.Sum(nil)))))
	half := len(data) / 2
	return "sid=" + sessioncookie.Encode(sessioncookie.Sign(token, fleetSecret)) + "; data.0=" + data[:half] + "; data.1=" + data[half:]
}

// TestStateless: workers' clients learn of the cookies, answer from memory, and know
// one jar from another; nothing is looked up.
func TestStateless(t *testing.T) {
	srv := run(t, statelessConfiguration(t))
	sources := make(chan client.Source, 16)
	c, err := client.New(srv.Addr().String(), client.WithObserver(func(_ context.Context, o client.Observation) { sources <- o.Source }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	jar := statelessJar("u1", time.Now().Add(time.Minute))
	ask := func(header string) (*client.Session, client.Source, error) {
		s, err := c.Validate(t.Context(), client.FromHeaders(header, ""))
		return s, <-sources, err
	}
	source := client.Source("")
	for source != client.SourceCache { // until the Watch has its first grant
		var s *client.Session
		if s, source, err = ask("theme=dark; " + jar); err != nil || s.User.ID != "u1" {
			t.Fatalf("got %+v, %v", s, err)
		}
	}
	if s, source, err := ask(statelessJar("u2", time.Now().Add(time.Minute))); err != nil || s.User.ID != "u2" || source != client.SourceAuthority {
		t.Errorf("another jar: %+v by %s, %v", s, source, err)
	}
	bent := jar[:len(jar)-1] + strings.Repeat("A", 1)
	if bent == jar {
		bent = jar[:len(jar)-1] + "B"
	}
	if _, source, err := ask(bent); !errors.Is(err, client.ErrInvalid) || source != client.SourceAuthority {
		t.Errorf("a chunk changed: by %s, %v", source, err)
	}
	if _, _, err := ask(jar[:strings.Index(jar, "; data.1")]); !errors.Is(err, client.ErrInvalid) {
		t.Errorf("a chunk less: %v", err)
	}
}

// TestStatelessRemaining: an answer may be kept as long as the cookie says.
func TestStatelessRemaining(t *testing.T) {
	cfg := statelessConfiguration(t)
	now := time.Now()
	cfg.Now = func() time.Time { return now }
	c := sessiondv1.NewSessionServiceClient(dial(t, run(t, cfg), insecure.NewCredentials()))
	headers := func(jar string) *sessiondv1.ValidateRequest {
		return &sessiondv1.ValidateRequest{Credential: &sessiondv1.Credential{Kind: &sessiondv1.Credential_Headers{Headers: &sessiondv1.Headers{Cookie: []byte(jar)}}}}
	}
	resp, err := c.Validate(t.Context(), headers(statelessJar("u1", now.Add(9*time.Second))))
	if err != nil || resp.GetSession() == nil {
		t.Fatalf("got %v, %v", resp, err)
	}
	if left := resp.GetRemainingLifetime().AsDuration(); left > 9*time.Second || left < 9*time.Second-time.Millisecond {
		t.Errorf("remaining %v", left)
	}
	if resp.GetUntracked() || resp.GetAge().AsDuration() != 0 {
		t.Errorf("untracked %t, age %v", resp.GetUntracked(), resp.GetAge().AsDuration())
	}
	over, err := c.Validate(t.Context(), headers(statelessJar("u1", now.Add(-time.Second))))
	if err != nil || over.GetRefusal().GetReason() != sessiondv1.Reason_REASON_EXPIRED {
		t.Errorf("over: %v, %v", over, err)
	}
}

// TestStatelessCannot: whatever needs a store says that there is none, and is refused
// as a call, never as a verdict on anybody's session.
func TestStatelessCannot(t *testing.T) {
	conn := dial(t, run(t, statelessConfiguration(t)), insecure.NewCredentials())
	sessions, admin := sessiondv1.NewSessionServiceClient(conn), sessiondv1.NewSessionAdminServiceClient(conn)
	credential := &sessiondv1.Credential{Kind: &sessiondv1.Credential_Headers{Headers: &sessiondv1.Headers{Cookie: []byte(statelessJar("u1", time.Now().Add(time.Minute)))}}}
	calls := map[string]func() error{
		"Validate at least": func() error {
			_, err := sessions.Validate(t.Context(), &sessiondv1.ValidateRequest{Credential: credential, AtLeast: "1"})
			return err
		},
		"BatchValidate at least": func() error {
			_, err := sessions.BatchValidate(t.Context(), &sessiondv1.BatchValidateRequest{Credentials: []*sessiondv1.Credential{credential}, AtLeast: "1"})
			return err
		},
		"GetRevision": func() error {
			_, err := sessions.GetRevision(t.Context(), &sessiondv1.GetRevisionRequest{})
			return err
		},
		"RevokeSession": func() error {
			_, err := admin.RevokeSession(t.Context(), &sessiondv1.RevokeSessionRequest{Session: &sessiondv1.RevokeSessionRequest_Credential{Credential: credential}})
			return err
		},
		"RevokeUserSessions": func() error {
			_, err := admin.RevokeUserSessions(t.Context(), &sessiondv1.RevokeUserSessionsRequest{UserId: "u1"})
			return err
		},
		"CreateSession": func() error {
			_, err := admin.CreateSession(t.Context(), &sessiondv1.CreateSessionRequest{UserId: "u1"})
			return err
		},
		"ListSessions": func() error {
			_, err := admin.ListSessions(t.Context(), &sessiondv1.ListSessionsRequest{UserId: "u1"})
			return err
		},
		"RefreshSession": func() error {
			_, err := admin.RefreshSession(t.Context(), &sessiondv1.RefreshSessionRequest{Credential: credential})
			return err
		},
	}
	for name, call := range calls {
		if err := call(); status.Code(err) != codes.FailedPrecondition || !strings.Contains(status.Convert(err).Message(), "stateless") {
			t.Errorf("%s: %v", name, err)
		}
	}
	e, err := admin.Explain(t.Context(), &sessiondv1.ExplainRequest{What: &sessiondv1.ExplainRequest_Credential{Credential: credential}})
	if err != nil || e.GetExplanation().GetVerdict() != authority.VerdictGood {
		t.Errorf("explain: %v, %v", e, err)
	}
}

func TestStatelessRefusesToStart(t *testing.T) {
	tests := map[string]func(*server.Config){
		"a feed":                func(c *server.Config) { c.Feed.Mode = server.FeedRequired },
		"a shadow":              func(c *server.Config) { c.Shadow.IssuerURL = "http://127.0.0.1:3000/api/auth" },
		"a store beside it":     func(c *server.Config) { c.Store = configuration(t).Store },
		"no cookie to read":     func(c *server.Config) { c.Authority.Companions = nil },
		"nobody said stateless": func(c *server.Config) { c.Authority.Stateless = nil },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := statelessConfiguration(t)
			change(&cfg)
			if srv, err := server.New(t.Context(), cfg, quiet()); err == nil {
				t.Errorf("started: %v", srv.Addr())
			}
		})
	}
}
