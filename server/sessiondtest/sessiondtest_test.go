package sessiondtest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/sessiond/sessiond/client"
	"github.com/sessiond/sessiond/server/sessiondtest"
)

// validate asks twice, so that the second answer may come from memory.
func validate(t *testing.T, c *client.Client, s sessiondtest.Session) (*client.Session, error) {
	t.Helper()
	if _, err := c.Validate(t.Context(), s.Credential()); err != nil {
		return nil, err
	}
	return c.Validate(t.Context(), s.Credential())
}

func TestEnds(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		end  func(t *testing.T, a *sessiondtest.Authority, u sessiondtest.User, s sessiondtest.Session)
		want client.Reason
	}{
		"signed out": {func(t *testing.T, a *sessiondtest.Authority, _ sessiondtest.User, s sessiondtest.Session) {
			a.SignOut(t, s)
		}, client.ReasonNotFound},
		"revoked": {func(t *testing.T, a *sessiondtest.Authority, _ sessiondtest.User, s sessiondtest.Session) {
			a.Revoke(t, s)
		}, client.ReasonNotFound},
		"expired": {func(t *testing.T, a *sessiondtest.Authority, _ sessiondtest.User, s sessiondtest.Session) {
			a.Expire(t, s)
		}, client.ReasonExpired},
		"time moved": {func(t *testing.T, a *sessiondtest.Authority, _ sessiondtest.User, _ sessiondtest.Session) {
			a.Advance(t, 169*time.Hour)
		}, client.ReasonExpired},
		"banned": {func(t *testing.T, a *sessiondtest.Authority, u sessiondtest.User, _ sessiondtest.Session) {
			a.Ban(t, u)
		}, client.ReasonUserBanned},
		"marked deleted": {func(t *testing.T, a *sessiondtest.Authority, u sessiondtest.User, _ sessiondtest.Session) {
			a.MarkDeleted(t, u)
		}, client.ReasonUserDeleted},
		"user deleted": {func(t *testing.T, a *sessiondtest.Authority, u sessiondtest.User, _ sessiondtest.Session) {
			a.DeleteUser(t, u)
		}, client.ReasonNotFound},
		"below the issuer": {func(t *testing.T, a *sessiondtest.Authority, u sessiondtest.User, _ sessiondtest.Session) {
			a.Exec(t, `DELETE FROM session WHERE userId = ?`, u.ID)
			a.Await(t)
		}, client.ReasonNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := sessiondtest.Start(t)
			c := a.Client(t)
			u := a.User(t, sessiondtest.User{Role: "admin", Email: "ann@example.com"})
			s, other := a.SignIn(t, u), a.SignIn(t, a.User(t, sessiondtest.User{}))
			got, err := validate(t, c, s)
			if err != nil || got.ID != s.ID || got.UserID != u.ID || got.User.Role != "admin" || got.User.Email != "ann@example.com" {
				t.Fatalf("%+v, %v", got, err)
			}
			if _, err := validate(t, c, other); err != nil {
				t.Fatal(err)
			}
			tt.end(t, a, u, s)
			if _, err := c.Validate(t.Context(), s.Credential()); client.ReasonOf(err) != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if _, err := c.Validate(t.Context(), other.Credential()); (err == nil) != (name != "time moved") {
				t.Errorf("another's session: %v", err)
			}
		})
	}
}

// TestBrokenStore: what cannot be found out is no refusal, not even from memory.
func TestBrokenStore(t *testing.T) {
	t.Parallel()
	a := sessiondtest.Start(t)
	c := a.Client(t)
	s := a.SignIn(t, a.User(t, sessiondtest.User{}))
	if _, err := validate(t, c, s); err != nil {
		t.Fatal(err)
	}
	a.BreakStore(t)
	if _, err := c.Validate(t.Context(), s.Credential()); !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("broken: %v", err)
	}
	a.MendStore(t)
	if _, err := c.Validate(t.Context(), s.Credential()); err != nil {
		t.Errorf("mended: %v", err)
	}
}

// TestChanges: what a user becomes is seen at once, and time goes back too.
func TestChanges(t *testing.T) {
	t.Parallel()
	a := sessiondtest.Start(t)
	c := a.Client(t)
	u := a.User(t, sessiondtest.User{})
	s := a.SignIn(t, u)
	for _, role := range []string{"", "editor", "admin", ""} {
		a.SetRole(t, u, role)
		if got, err := validate(t, c, s); err != nil || got.User.Role != role {
			t.Errorf("role %q: %+v, %v", role, got, err)
		}
	}
	a.Advance(t, 25*time.Hour)
	if got, err := c.Validate(t.Context(), s.Credential()); err != nil || !got.NeedsRefresh {
		t.Errorf("after a day: %+v, %v", got, err)
	}
	a.Advance(t, -25*time.Hour)
	if got, err := c.Validate(t.Context(), s.Credential()); err != nil || got.NeedsRefresh {
		t.Errorf("and back: %+v, %v", got, err)
	}
}

// TestMany: authorities do not disturb each other.
func TestMany(t *testing.T) {
	t.Parallel()
	for range 30 {
		t.Run("one", func(t *testing.T) {
			t.Parallel()
			a := sessiondtest.Start(t)
			c := a.Client(t)
			s := a.SignIn(t, a.User(t, sessiondtest.User{}))
			if _, err := validate(t, c, s); err != nil {
				t.Error(err)
			}
			a.SignOut(t, s)
			if _, err := c.Validate(t.Context(), s.Credential()); !errors.Is(err, client.ErrInvalid) {
				t.Error(err)
			}
		})
	}
}

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		sessiondtest.Start(b)
	}
}
