package client_test

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sessiond/sessiond/client"
	"github.com/sessiond/sessiond/client/clienttest"
	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
)

func TestSessionArrivesWhole(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)
	attributes := map[string]client.Attribute{
		"text": client.AttributeOf("x"), "int": client.AttributeOf(int64(-7)), "float": client.AttributeOf(1.5),
		"bool": client.AttributeOf(true), "time": client.AttributeOf(at), "json": client.AttributeOf(json.RawMessage(`{"a":1}`)),
		"bytes": client.AttributeOf([]byte{0, 255}), "null": {},
	}
	want := client.Session{
		ID: "id", UserID: "user", CreatedAt: at, UpdatedAt: at.Add(1), ExpiresAt: at.AddDate(100, 0, 0),
		IPAddress: "192.0.2.1", UserAgent: "agent", ActiveOrganizationID: "org", ImpersonatedBy: "admin", NeedsRefresh: true,
		Attributes: attributes,
		User: client.User{
			ID: "user", Name: "Ann", Email: "ann@example.com", EmailVerified: true, Image: "https://example.com/ann",
			CreatedAt: at.Add(2), UpdatedAt: at.Add(3), Role: "admin", Attributes: attributes,
		},
	}
	authority := clienttest.New(t)
	got, err := authority.Client().Validate(t.Context(), client.FromHeaders(authority.Add(want), ""))
	if err != nil {
		t.Fatal(err)
	}
	opts := cmp.Options{cmpopts.IgnoreUnexported(client.Session{}), cmp.AllowUnexported(client.Attribute{})}
	if diff := cmp.Diff(&want, got, opts); diff != "" {
		t.Errorf("session (-want +got):\n%s", diff)
	}
	kinds := map[string]client.Kind{
		"text": client.KindText, "int": client.KindInt, "float": client.KindFloat, "bool": client.KindBool,
		"time": client.KindTime, "json": client.KindJSON, "bytes": client.KindBytes, "null": client.KindNull,
	}
	for name, kind := range kinds {
		if got := got.Attributes[name].Kind(); got != kind {
			t.Errorf("attribute %s is of kind %d, want %d", name, got, kind)
		}
	}
	if _, ok := got.Attributes["int"].Text(); ok {
		t.Error("an integer was read as a text")
	}
}

func TestFresh(t *testing.T) {
	for _, c := range []struct {
		name   string
		age    *durationpb.Duration
		passed time.Duration // since the call was sent
		limit  time.Duration
		want   bool
	}{
		{"new", durationpb.New(0), 0, time.Minute, true},
		{"a moment before the limit", durationpb.New(40 * time.Second), 20*time.Second - 1, time.Minute, true},
		{"at the limit", durationpb.New(40 * time.Second), 20 * time.Second, time.Minute, false},
		{"over the limit", durationpb.New(time.Hour), 0, time.Minute, false},
		{"the issuer's clock ahead", durationpb.New(-time.Hour), 0, time.Minute, true},
		{"no limit fits", durationpb.New(0), 0, 0, false},
		{"age not sent", nil, 0, 1000 * time.Hour, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{validate: func(context.Context, *sessiondv1.ValidateRequest) (*sessiondv1.ValidateResponse, error) {
					answer := good("one")
					answer.GetSession().Age = c.age
					return answer, nil
				}}
				sessions := connect(t, s)
				session, err := sessions.Validate(t.Context(), client.CookieValue("x"))
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(c.passed)
				if got := session.Fresh(c.limit); got != c.want {
					t.Errorf("Fresh(%v) = %t, want %t", c.limit, got, c.want)
				}
			})
		})
	}
}

func TestFreshOfASessionMadeByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		session := client.Session{CreatedAt: time.Now().Add(-time.Minute)}
		if session.Fresh(time.Minute) || !session.Fresh(time.Minute+1) {
			t.Error("does not count from CreatedAt")
		}
	})
}

func TestHasRole(t *testing.T) {
	for _, c := range []struct {
		stored string
		asked  []string
		want   bool
	}{
		{"admin", []string{"admin"}, true},
		{"user,admin", []string{"admin"}, true},
		{"user,admin", []string{"owner", "user"}, true},
		{"user", []string{"admin"}, false},
		{"administrator", []string{"admin"}, false},
		{"Admin", []string{"admin"}, false},
		{"user, admin", []string{"admin"}, false}, // as the admin plugin: no trimming
		{"user,admin", []string{"user,admin"}, false},
		{"", []string{""}, false},
		{"", []string{"user"}, false},
		{"user", nil, false},
	} {
		session := client.Session{User: client.User{Role: c.stored}}
		if got := session.HasRole(c.asked...); got != c.want {
			t.Errorf("role %q: HasRole(%q) = %t, want %t", c.stored, c.asked, got, c.want)
		}
	}
}

func TestContext(t *testing.T) {
	empty := t.Context()
	if session, ok := client.FromContext(empty); ok || session != nil {
		t.Error("a session out of nothing")
	}
	want := &client.Session{ID: "id"}
	ctx := client.NewContext(empty, want)
	if got, ok := client.FromContext(ctx); !ok || got != want {
		t.Errorf("FromContext = %v, %t", got, ok)
	}
	if _, ok := client.FromContext(client.WithoutSession(ctx)); ok {
		t.Error("WithoutSession left the session")
	}
	if client.WithoutSession(empty) != empty {
		t.Error("WithoutSession made a context for nothing")
	}
	if _, ok := client.FromContext(client.NewContext(empty, nil)); ok {
		t.Error("nil counts as a session")
	}
}
