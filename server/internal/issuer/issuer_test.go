package issuer_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sessiond/sessiond/server/internal/issuer"
)

func TestAsk(t *testing.T) {
	const cookie = "sid=a-token-and-its-signature"
	good := `{"session":{"id":"s1","userId":"u1","token":"x"},"user":{"id":"u1"}}`
	tests := []struct {
		name   string
		status int
		body   string
		want   issuer.Verdict
		err    string // empty: none
	}{
		{"good", 200, good, issuer.Verdict{Good: true, SessionID: "s1", UserID: "u1"}, ""},
		{"ids are numbers", 200, `{"session":{"id":7,"userId":8},"user":{"id":8}}`, issuer.Verdict{Good: true, SessionID: "7", UserID: "8"}, ""},
		{"no session id", 200, `{"session":{"userId":"u1"},"user":{"id":"u1"}}`, issuer.Verdict{Good: true, UserID: "u1"}, ""},
		{"refused", 200, " null\n", issuer.Verdict{}, ""},
		{"failed", 500, "null", issuer.Verdict{}, "status 500"},
		{"not found", 404, "null", issuer.Verdict{}, "basePath"},
		{"another page", 200, "<html>", issuer.Verdict{}, "neither null nor a session"},
		{"empty object", 200, "{}", issuer.Verdict{}, "neither null nor a session"},
		{"endless", 200, strings.Repeat(" ", 1<<20+1), issuer.Verdict{}, "over"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.RequestURI() != "/api/auth/get-session?disableCookieCache=true&disableRefresh=true" || r.Header.Get("Cookie") != cookie || r.Header.Get("Authorization") != "Bearer x" {
					t.Errorf("asked %s", r.URL)
				}
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body))
			}))
			defer srv.Close()
			c, err := issuer.New(srv.URL + "/api/auth")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			got, err := c.Ask(t.Context(), cookie, "Bearer x")
			if got != tt.want || (err == nil) != (tt.err == "") {
				t.Fatalf("%+v, %v", got, err)
			}
			if err != nil && (!errors.Is(err, issuer.ErrNoVerdict) || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

// TestRedirect: the cookie goes nowhere but to the issuer.
func TestRedirect(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the cookie was sent elsewhere") }))
	defer elsewhere.Close()
	srv := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusFound))
	defer srv.Close()
	c, err := issuer.New(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Ask(t.Context(), "sid=x", ""); !errors.Is(err, issuer.ErrNoVerdict) || !strings.Contains(err.Error(), "redirects") {
		t.Errorf("error %v", err)
	}
}

// TestAway: an issuer that is not there has no verdict, and a caller who gave up is told so.
func TestAway(t *testing.T) {
	c, err := issuer.New("http://127.0.0.1:1/api/auth")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Ask(t.Context(), "sid=x", ""); !errors.Is(err, issuer.ErrNoVerdict) || strings.Contains(err.Error(), "sid") {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Ask(ctx, "sid=x", ""); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, base := range []string{"", "auth.example.com", "ftp://x", "https://x?a=b", "http://"} {
		if _, err := issuer.New(base); err == nil {
			t.Errorf("%q is taken", base)
		}
	}
}

func TestBaseOf(t *testing.T) {
	for base, want := range map[string]string{
		"https://a.example":      "https://a.example/api/auth",
		"https://a.example/":     "https://a.example/api/auth",
		"https://a.example/auth": "https://a.example/auth",
	} {
		if got := issuer.BaseOf(base); got != want {
			t.Errorf("%s: %s, want %s", base, got, want)
		}
	}
}

func TestCompare(t *testing.T) {
	none, s1, s2 := issuer.Verdict{}, issuer.Verdict{Good: true, SessionID: "s1", UserID: "u1"}, issuer.Verdict{Good: true, SessionID: "s2", UserID: "u1"}
	other := issuer.Verdict{Good: true, SessionID: "s1", UserID: "u2"}
	noID := issuer.Verdict{Good: true, UserID: "u1"}
	away := errors.New("away")
	type says struct {
		verdict issuer.Verdict
		err     error
	}
	tests := []struct {
		name         string
		first        issuer.Verdict
		ours, theirs []says
		want         issuer.Outcome
	}{
		{"both good", s1, nil, []says{{s1, nil}}, issuer.Agree},
		{"both refuse", none, nil, []says{{none, nil}}, issuer.Agree},
		{"the issuer tells no id", s1, nil, []says{{noID, nil}}, issuer.Agree},
		{"they refuse, twice", s1, []says{{s1, nil}}, []says{{none, nil}, {none, nil}}, issuer.Disagree},
		{"we refuse, twice", none, []says{{none, nil}}, []says{{s1, nil}, {s1, nil}}, issuer.Disagree},
		{"another session", s1, []says{{s1, nil}}, []says{{s2, nil}, {s2, nil}}, issuer.Disagree},
		{"another user", s1, []says{{s1, nil}}, []says{{other, nil}, {other, nil}}, issuer.Disagree},
		{"signed out between the questions", s1, []says{{none, nil}}, []says{{none, nil}, {none, nil}}, issuer.Agree},
		{"signed in between the questions", none, []says{{s1, nil}}, []says{{s1, nil}, {s1, nil}}, issuer.Agree},
		{"they change their mind", s1, []says{{s1, nil}}, []says{{none, nil}, {s1, nil}}, issuer.Agree},
		{"changing all the time", s1, []says{{none, nil}}, []says{{none, nil}, {s1, nil}}, issuer.Unknown},
		{"the issuer is away", s1, nil, []says{{none, away}}, issuer.Unknown},
		{"the issuer goes away", s1, []says{{s1, nil}}, []says{{none, nil}, {none, away}}, issuer.Unknown},
		{"our store is away", s1, []says{{none, away}}, []says{{none, nil}}, issuer.Unknown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			next := func(script *[]says) func(context.Context) (issuer.Verdict, error) {
				return func(context.Context) (issuer.Verdict, error) {
					if len(*script) == 0 {
						t.Fatal("asked more often than need be")
					}
					s := (*script)[0]
					*script = (*script)[1:]
					return s.verdict, s.err
				}
			}
			got := issuer.Compare(t.Context(), tt.first, next(&tt.ours), next(&tt.theirs))
			if got.Outcome != tt.want {
				t.Errorf("%s, want %s: %+v", got.Outcome, tt.want, got)
			}
			if len(tt.ours)+len(tt.theirs) > 0 {
				t.Error("not everybody was asked")
			}
		})
	}
}
