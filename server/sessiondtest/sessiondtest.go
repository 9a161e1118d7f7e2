package sessiondtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/sessiond/sessiond/client"
	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/server"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/lifecycle"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/sqlite"
	"github.com/sessiond/sessiond/sessioncookie"
)

const (
	cookieName     = "better-auth.session_token"
	softDeletion   = "deletedAt"
	stalenessBound = server.MinStalenessBound
	expiresIn      = 7 * 24 * time.Hour
	updateAge      = 24 * time.Hour
)

// Authority is a running authority with an issuer's hands on its database. Its methods
// are safe for concurrent use; they fail the test where they fail.
type Authority struct {
	path   string
	server *server.Server
	admin  sessiondv1.SessionAdminServiceClient
	offset atomic.Int64 // of the wall clock
	broken atomic.Bool
}

// Start starts an authority that ends with the test. It accepts and refuses as Better
// Auth does, and also refuses users who are banned or marked deleted.
func Start(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{path: filepath.Join(t.TempDir(), "sessions.sqlite")}
	if err := makeFile(a.path); err != nil {
		t.Fatalf("sessiondtest: %v", err)
	}
	var err error
	if a.server, err = server.New(t.Context(), a.config(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatalf("sessiondtest: %v", err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- a.server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("sessiondtest: %v", err)
		}
	})
	conn, err := grpc.NewClient(a.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatalf("sessiondtest: %v", err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Errorf("sessiondtest: %v", err)
		}
	})
	a.admin = sessiondv1.NewSessionAdminServiceClient(conn)
	return a
}

func (a *Authority) config() server.Config {
	return server.Config{
		Listen: "127.0.0.1:0",
		Store: server.StoreConfig{
			Driver: server.DriverSQLite, Path: a.path, Create: true,
			Schema: store.Schema{SoftDeleteColumn: softDeletion},
		},
		Authority: authority.Config{
			Cookies:        sessioncookie.Config{Names: []string{cookieName}, Secrets: []string{rand.Text() + rand.Text()}},
			Companions:     []authority.Companion{{Session: cookieName, DontRemember: sessioncookie.Naming{}.DontRemember()}},
			Policy:         authority.Policy{RefuseBanned: true, RefuseDeleted: true, ExpiresIn: expiresIn, UpdateAge: updateAge},
			StalenessBound: stalenessBound,
			MaxBatchSize:   256,
		},
		Cookies:      lifecycle.Cookies{Session: cookieName, DontRemember: sessioncookie.Naming{}.DontRemember(), SameSite: http.SameSiteLaxMode},
		CacheBytes:   16 << 20,
		Now:          a.now,
		Through:      func(s store.Store) store.Store { return &breakable{Store: s, broken: &a.broken} },
		DrainTimeout: time.Second,
	}
}

func (a *Authority) now() time.Time { return time.Now().Add(time.Duration(a.offset.Load())) }

// Addr is the address to give to [client.New]: loopback, plaintext.
func (a *Authority) Addr() string { return a.server.Addr().String() }

// Client returns a client of the authority that is closed with the test.
func (a *Authority) Client(t testing.TB, options ...client.Option) *client.Client {
	t.Helper()
	c, err := client.New(a.Addr(), options...)
	if err != nil {
		t.Fatalf("sessiondtest: %v", err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("sessiondtest: %v", err)
		}
	})
	return c
}

// User is a person. Fields that are empty are filled in.
type User struct {
	ID, Name, Email, Role string
}

// User makes a user.
func (a *Authority) User(t testing.TB, u User) User {
	t.Helper()
	if u.ID == "" {
		u.ID = sessioncookie.NewToken()
	}
	if u.Name == "" {
		u.Name = "Ann"
	}
	if u.Email == "" {
		u.Email = strings.ToLower(u.ID) + "@example.com"
	}
	var role any
	if u.Role != "" {
		role = u.Role
	}
	a.exec(t, `INSERT INTO user (id, name, email, emailVerified, createdAt, updatedAt, role) VALUES (?1, ?2, ?3, 1, ?4, ?4, ?5)`, u.ID, u.Name, u.Email, date(a.now()), role)
	return u
}

// Session is a session that was made.
type Session struct {
	ID, UserID string
	cookie     string
}

// SignIn makes a session of a user, as the issuer does. It is good for a week.
func (a *Authority) SignIn(t testing.TB, u User) Session {
	t.Helper()
	made, err := a.admin.CreateSession(t.Context(), &sessiondv1.CreateSessionRequest{UserId: u.ID, UserAgent: "sessiondtest"})
	if err != nil {
		t.Fatalf("sessiondtest: sign in: %v", err)
	}
	return Session{ID: made.GetSession().GetId(), UserID: u.ID, cookie: made.GetCookieName() + "=" + made.GetCookieValue()}
}

// Cookie is the Cookie header of a browser that holds the session.
func (s Session) Cookie() string { return s.cookie }

// Credential is the session as [client.Client.Validate] takes it.
func (s Session) Credential() client.Credential { return client.FromHeaders(s.cookie, "") }

// Outgoing returns a context whose gRPC calls carry the session's cookie.
func (s Session) Outgoing(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "cookie", s.cookie)
}

// Request adds the session's cookie to an HTTP request and returns it.
func (s Session) Request(r *http.Request) *http.Request {
	r.Header.Add("Cookie", s.cookie)
	return r
}

// SignOut ends a session as the issuer does: its row is deleted.
func (a *Authority) SignOut(t testing.TB, s Session) {
	t.Helper()
	a.exec(t, `DELETE FROM session WHERE id = ?`, s.ID)
	a.Await(t)
}

// Revoke ends a session through the authority, as an operator does. In the first half
// second of the authority it takes until the end of that: clients of an earlier life
// could still be about.
func (a *Authority) Revoke(t testing.TB, s Session) {
	t.Helper()
	_, err := a.admin.RevokeSession(t.Context(), &sessiondv1.RevokeSessionRequest{
		Session: &sessiondv1.RevokeSessionRequest_Ref{Ref: &sessiondv1.SessionRef{UserId: s.UserID, SessionId: s.ID}},
	})
	if err != nil {
		t.Fatalf("sessiondtest: revoke: %v", err)
	}
}

// Expire has a session's time be over since a second.
func (a *Authority) Expire(t testing.TB, s Session) {
	t.Helper()
	a.exec(t, `UPDATE session SET expiresAt = ? WHERE id = ?`, date(a.now().Add(-time.Second)), s.ID)
	a.Await(t)
}

// Ban bans a user, whose sessions are refused as USER_BANNED.
func (a *Authority) Ban(t testing.TB, u User) {
	t.Helper()
	a.exec(t, `UPDATE user SET banned = 1 WHERE id = ?`, u.ID)
	a.Await(t)
}

// SetRole gives a user another role; empty: none.
func (a *Authority) SetRole(t testing.TB, u User, role string) {
	t.Helper()
	var value any
	if role != "" {
		value = role
	}
	a.exec(t, `UPDATE user SET role = ? WHERE id = ?`, value, u.ID)
	a.Await(t)
}

// MarkDeleted marks a user deleted, whose sessions are refused as USER_DELETED.
func (a *Authority) MarkDeleted(t testing.TB, u User) {
	t.Helper()
	a.exec(t, `UPDATE user SET deletedAt = ? WHERE id = ?`, date(a.now()), u.ID)
	a.Await(t)
}

// DeleteUser deletes a user, and the sessions with the user.
func (a *Authority) DeleteUser(t testing.TB, u User) {
	t.Helper()
	a.exec(t, `DELETE FROM user WHERE id = ?`, u.ID)
	a.Await(t)
}

// Advance moves the clock that sessions' times are held against; back, where d is
// negative. Clients forget what they keep, for they count remaining lifetimes down by
// the real clock.
func (a *Authority) Advance(t testing.TB, d time.Duration) {
	t.Helper()
	a.offset.Add(int64(d))
	a.forgetAll(t)
}

// BreakStore has every question to the store fail until [Authority.MendStore]: what is
// not decided is neither good nor refused.
func (a *Authority) BreakStore(t testing.TB) {
	t.Helper()
	a.broken.Store(true)
	a.forgetAll(t)
}

// MendStore undoes BreakStore.
func (a *Authority) MendStore(testing.TB) { a.broken.Store(false) }

// Await returns when every connected client knows of everything that was committed
// before. The methods above call it.
func (a *Authority) Await(t testing.TB) {
	t.Helper()
	if err := a.server.Settle(t.Context()); err != nil {
		t.Fatalf("sessiondtest: await: %v", err)
	}
}

// forgetAll has the authority and every client forget what they keep.
func (a *Authority) forgetAll(t testing.TB) {
	t.Helper()
	a.exec(t, `INSERT INTO sessiond_event(kind) VALUES ('a')`)
	a.Await(t)
}

// Exec runs a statement on the issuer's tables, user and session. Follow it with
// [Authority.Await].
func (a *Authority) Exec(t testing.TB, statement string, args ...any) {
	t.Helper()
	a.exec(t, statement, args...)
}

func (a *Authority) exec(t testing.TB, statement string, args ...any) {
	t.Helper()
	if err := sqlite.Exec(t.Context(), a.path, statement, args...); err != nil {
		t.Fatalf("sessiondtest: %v", err)
	}
}

// date is an instant as Better Auth writes it.
func date(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// breakable is a store that can be broken.
type breakable struct {
	store.Store
	broken *atomic.Bool
}

func (b *breakable) Lookup(ctx context.Context, era store.Era, tokens []string) ([]store.Record, error) {
	if b.broken.Load() {
		return nil, fmt.Errorf("%w: broken by the test", store.ErrUnavailable)
	}
	return b.Store.Lookup(ctx, era, tokens)
}
