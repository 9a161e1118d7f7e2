package authority_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/sessiondata"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/issued"
	"github.com/sessiond/sessiond/sessioncookie"
)

const dataName = "better-auth.session_data"

// dataCookie is a session_data cookie of the compact strategy: session s1 of user u1,
// with user holding the id and more of the user's fields.
func dataCookie(token, user, version string, expires, until time.Time) string {
	const at = `"createdAt":"2026-01-31T12:00:00.000Z","updatedAt":"2026-01-31T12:00:00.000Z"`
	content := fmt.Sprintf(`{"session":{"id":"s1","userId":"u1","token":%q,%s,"expiresAt":%q},"user":{"email":"alice@example.com","emailVerified":false,%s,%s},"updatedAt":%d,"version":%q`,
		token, at, expires.UTC().Format("2006-01-02T15:04:05.000Z"), at, user, noon.Add(-time.Minute).UnixMilli(), version)
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, `%s,"expiresAt":%d}`, content, until.UnixMilli())
	payload := fmt.Sprintf(`{"session":%s},"expiresAt":%d,"signature":%q}`, content, until.UnixMilli(), base64.RawURLEncoding.EncodeToString(mac.Sum(nil)))
	return dataName + "=" + base64.RawURLEncoding.EncodeToString([]byte(payload))
}

const alice = `"id":"u1","name":"Alice","plan":"free"`

func withData(c *authority.Config) {
	c.Companions[0].SessionData = &sessiondata.Config{Name: dataName, Strategy: sessiondata.Compact, Secrets: c.Cookies.Secrets}
}

// newStateless returns an authority whose store is never to be asked.
func newStateless(t *testing.T, change func(*authority.Config)) *authority.Authority {
	t.Helper()
	return newAuthority(t, store.None{}, func(c *authority.Config) {
		withData(c)
		c.Stateless = &authority.Stateless{RefreshAge: time.Minute, Decoder: issued.Decoder{HideUser: map[string]bool{"plan": true}}}
		if change != nil {
			change(c)
		}
	})
}

// TestStateless: the cookie decides, by the reason that belongs to its state, and the
// store is not asked.
func TestStateless(t *testing.T) {
	token := sessioncookie.NewToken()
	good := dataCookie(token, alice, "1", noon.Add(time.Hour), noon.Add(10*time.Minute))
	_, value, _ := strings.Cut(good, "=")
	tests := []struct {
		name      string
		c         authority.Credential
		want      authority.Reason
		remaining time.Duration
		due       bool
	}{
		{"good", headers(cookie(token, secret) + "; " + good), authority.ReasonNone, 10 * time.Minute, false},
		{"the session ends before the cookie", headers(cookie(token, secret) + "; " + dataCookie(token, alice, "1", noon.Add(5*time.Minute), noon.Add(10*time.Minute))), authority.ReasonNone, 5 * time.Minute, false},
		{"due", headers(cookie(token, secret) + "; " + dataCookie(token, alice, "1", noon.Add(time.Hour), noon.Add(59*time.Second))), authority.ReasonNone, 59 * time.Second, true},
		{"not yet due", headers(cookie(token, secret) + "; " + dataCookie(token, alice, "1", noon.Add(time.Hour), noon.Add(time.Minute))), authority.ReasonNone, time.Minute, false},
		{"its last millisecond", headers(cookie(token, secret) + "; " + dataCookie(token, alice, "1", noon.Add(time.Hour), noon)), authority.ReasonNone, 0, true},
		{"over", headers(cookie(token, secret) + "; " + dataCookie(token, alice, "1", noon.Add(time.Hour), noon.Add(-time.Millisecond))), authority.ReasonExpired, 0, false},
		{"session over", headers(cookie(token, secret) + "; " + dataCookie(token, alice, "1", noon.Add(-time.Second), noon.Add(time.Minute))), authority.ReasonExpired, 0, false},
		{"no session_data", headers(cookie(token, secret)), authority.ReasonNotFound, 0, false},
		{"session_data alone", headers(good), authority.ReasonNoCredential, 0, false},
		{"token signed by another", headers(cookie(token, retired+"x") + "; " + good), authority.ReasonBadSignature, 0, false},
		{"of another token", headers(cookie("another", secret) + "; " + good), authority.ReasonSessionDataRejected, 0, false},
		{"of another version", headers(cookie(token, secret) + "; " + dataCookie(token, alice, "2", noon.Add(time.Hour), noon.Add(time.Minute))), authority.ReasonSessionDataRejected, 0, false},
		{"changed", headers(cookie(token, secret) + "; " + strings.Replace(good, value[20:24], "AAAA", 1)), authority.ReasonMalformed, 0, false},
		{"a chunk is missing", headers(cookie(token, secret) + "; " + dataName + ".1=" + value[9:]), authority.ReasonMalformed, 0, false},
		{"chunks", headers(cookie(token, secret) + "; " + dataName + ".1=" + value[9:] + "; " + dataName + ".0=" + value[:9]), authority.ReasonNone, 10 * time.Minute, false},
		{"the value of the session cookie alone", authority.Credential{Form: authority.FormCookieValue, Value: strings.TrimPrefix(cookie(token, secret), name+"=")}, authority.ReasonNotFound, 0, false},
	}
	a := newStateless(t, nil)
	var all []authority.Credential
	for _, tt := range tests {
		all = append(all, tt.c)
		t.Run(tt.name, func(t *testing.T) {
			got, err := a.Validate(t.Context(), atNoon(), tt.c)
			if err != nil || got.Verdict.Reason != tt.want || got.Verdict.Remaining != tt.remaining || got.Verdict.NeedsRefresh != tt.due {
				t.Fatalf("got %+v, %v", got.Verdict, err)
			}
			if got.Untracked || got.Age != 0 {
				t.Errorf("untracked %t, age %v: nothing else knows of the session", got.Untracked, got.Age)
			}
			if got.Verdict.Good() {
				r := got.Record
				if r.Session.ID != "s1" || r.User.ID != "u1" || r.User.Name != "Alice" || len(r.Session.Attributes) != 0 || len(r.User.Attributes) != 0 {
					t.Errorf("record %+v, %+v", r.Session, r.User)
				}
			}
			e, err := a.Explain(t.Context(), noon, store.None{}, tt.c)
			if err != nil || e.Reason != "" && e.Reason != tt.want.String() || (e.Reason == "") != got.Verdict.Good() {
				t.Errorf("explain: %s %s, %v", e.Verdict, e.Reason, err)
			}
			if !got.Verdict.Good() && len(e.Advice) == 0 {
				t.Error("no advice")
			}
			text, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			for what, secretText := range map[string]string{"token": token, "cookie": value[:24], "secret": secret, "name": "Alice", "email": "alice@"} {
				if strings.Contains(string(text), secretText) {
					t.Errorf("explain tells the %s: %s", what, text)
				}
			}
		})
	}
	for i := 0; i < len(all); i += 8 {
		batch := all[i:min(i+8, len(all))]
		answers, err := a.ValidateBatch(t.Context(), atNoon(), batch)
		if err != nil {
			t.Fatal(err)
		}
		for n := range answers {
			if answers[n].Verdict.Reason != tests[i+n].want {
				t.Errorf("%s: in a batch %s", tests[i+n].name, answers[n].Verdict.Reason)
			}
		}
	}
}

func TestStatelessLifetimeCap(t *testing.T) {
	token := sessioncookie.NewToken()
	a := newStateless(t, func(c *authority.Config) { c.Policy.MaxLifetime = time.Hour })
	c := headers(cookie(token, secret) + "; " + dataCookie(token, alice, "1", noon.Add(time.Hour), noon.Add(time.Minute)))
	if got, err := a.Validate(t.Context(), atNoon(), c); err != nil || got.Verdict.Reason != authority.ReasonLifetimeCap {
		t.Errorf("got %+v, %v", got.Verdict, err)
	}
}

func TestStatelessRefuses(t *testing.T) {
	a := newStateless(t, nil)
	call := atNoon()
	call.AtLeast = "1"
	if _, err := a.Validate(t.Context(), call, headers("a=b")); !errors.Is(err, authority.ErrStateless) {
		t.Errorf("at_least: %v", err)
	}
	if _, err := a.ValidateBatch(t.Context(), call, nil); !errors.Is(err, authority.ErrStateless) {
		t.Errorf("at_least of a batch: %v", err)
	}
	cfg := authority.Config{Cookies: sessioncookie.Config{Names: []string{name}, Secrets: []string{secret}}, Stateless: &authority.Stateless{}}
	if _, err := authority.New(cfg, authority.Direct(store.None{})); err == nil {
		t.Error("no session_data cookie is named, and it starts")
	}
}

// TestSessionDataIntake: what has a say in the verdict is asked for, and nothing else.
func TestSessionDataIntake(t *testing.T) {
	names := func(a *authority.Authority) string {
		var out []string
		for _, c := range a.Intake().Cookies {
			if c.Chunked {
				c.Name += ".*"
			}
			out = append(out, c.Name)
		}
		return strings.Join(out, " ")
	}
	if got, want := names(newStateless(t, nil)), name+" "+dataName+".*"; got != want {
		t.Errorf("stateless: %s, want %s", got, want)
	}
	for version, want := range map[sessioncookie.Version]string{
		sessioncookie.V1_4: name + " " + dataName + ".* better-auth.dont_remember",
		sessioncookie.V1_7: name + " better-auth.dont_remember",
	} {
		got := names(newAuthority(t, store.None{}, func(c *authority.Config) {
			withData(c)
			c.Companions[0].SessionData.Version = version
		}))
		if got != want {
			t.Errorf("%s: %s, want %s", version, got, want)
		}
	}
}

// TestExplainCompares: with a store the cookie has no say, and explain tells how it
// differs, by names and instants.
func TestExplainCompares(t *testing.T) {
	token := sessioncookie.NewToken()
	st := open(t, token) // session s1 of u1, Alice, until noon in six days
	a := newAuthority(t, st, withData)
	later := noon.Add(10 * time.Minute)
	tests := []struct {
		name, token, data, want string
	}{
		{"same user renamed", token, dataCookie(token, `"id":"u1","name":"Alicia","role":"admin"`, "1", noon.Add(144*time.Hour), later), "the store has another value since, in session.updatedAt, user.name, user.role, user.updatedAt"},
		{"answers until", token, dataCookie(token, alice, "1", noon.Add(144*time.Hour), later), "answers from it until " + later.UTC().Format("2006-01-02T15:04:05.000Z")},
		{"ends with the session", token, dataCookie(token, alice, "1", noon.Add(time.Minute), later), "answers from it until " + noon.Add(time.Minute).UTC().Format("2006-01-02T15:04:05.000Z")},
		{"another user", token, dataCookie(token, `"id":"u2","name":"Alice"`, "1", noon.Add(time.Hour), later), "it names another user than the store"},
		{"revoked", "gone", dataCookie("gone", alice, "1", noon.Add(time.Hour), later), "the store has no such session; where the issuer's cookie cache is on, its plain get-session will still say 200 until " + later.UTC().Format("2006-01-02T15:04:05.000Z") + " (NOT_FOUND here)"},
		{"over", token, dataCookie(token, alice, "1", noon.Add(time.Hour), noon.Add(-time.Second)), "expired"},
		{"another token", token, dataCookie("other", alice, "1", noon.Add(time.Hour), later), "made with another token"},
		{"unreadable", token, dataName + "=*", "not readable"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			header := cookie(tt.token, secret) + "; " + tt.data
			e, err := a.Explain(t.Context(), noon, st, headers(header))
			if err != nil {
				t.Fatal(err)
			}
			var detail string
			for _, s := range e.Steps {
				if s.Name == "session_data" {
					detail = s.Detail
				}
			}
			if detail == "" || !strings.Contains(detail, tt.want) {
				t.Errorf("got %q, want it to say %q", detail, tt.want)
			}
			text, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			for _, value := range []string{"Alicia", "Alice", "admin", token, secret, "alice@"} {
				if strings.Contains(string(text), value) {
					t.Errorf("explain tells a value: %s", text)
				}
			}
		})
	}
	e, err := a.Explain(t.Context(), noon, st, headers(cookie(token, secret)))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range e.Steps {
		if s.Name == "session_data" {
			t.Errorf("no such cookie arrived: %s", s.Detail)
		}
	}
}
