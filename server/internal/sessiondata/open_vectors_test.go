package sessiondata_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/server/internal/sessiondata"
	"github.com/sessiond/sessiond/sessioncookie"
)

// suite is the vectors' index, as far as the cookie cache is concerned.
type suite struct {
	Datasets []dataset
	Vectors  []exchange
}

type dataset struct {
	ID, BetterAuthVersion string
	Options               struct {
		BaseURL string
		Session struct {
			CookieCache struct {
				Enabled           bool
				Strategy, Version string
			}
		}
		Plugins []struct {
			ID      string
			Options struct{ SessionCookieCache bool }
		}
	}
	Secret      string
	Secrets     []struct{ Value string }
	CookieNames struct{ SessionToken, SessionData string }
	JWKS        json.RawMessage
}

// exchange is one request and the two answers to it.
type exchange struct {
	Name, Dataset, Case, AuthorizationHeader string
	CookieHeader, CookieHeaderBase64         *string
	EvaluatedAt                              json.RawMessage
	Expected, ExpectedCached                 cached
	CookieCache                              *struct {
		Session, User map[string]any
		UpdatedAt     float64
		Version       string
	}
}

type cached struct {
	Status        int
	Valid, Same   bool
	UserID        string
	SessionToken  string
	AnswerOf      string
	Session, User map[string]any
}

func (d dataset) open(t *testing.T) (*sessiondata.Checker, *sessioncookie.Reader) {
	t.Helper()
	line := strings.Join(strings.SplitN(d.BetterAuthVersion, ".", 3)[:2], ".")
	version, err := sessioncookie.ParseVersion(line)
	if err != nil {
		t.Fatal(err)
	}
	cfg := sessiondata.Config{
		Name: d.CookieNames.SessionData, Strategy: d.Options.Session.CookieCache.Strategy, Version: version,
		CacheVersion: d.Options.Session.CookieCache.Version, Secrets: []string{d.Secret},
	}
	if len(d.Secrets) > 0 {
		cfg.Secrets = nil
		for _, s := range d.Secrets {
			cfg.Secrets = append(cfg.Secrets, s.Value)
		}
	}
	for _, p := range d.Options.Plugins {
		if p.Options.SessionCookieCache {
			if cfg.Keys, err = sessiondata.ParseKeys(d.JWKS); err != nil {
				t.Fatal(err)
			}
			cfg.Origin = d.Options.BaseURL
		}
	}
	checker, err := sessiondata.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := sessioncookie.New(sessioncookie.Config{Names: []string{d.CookieNames.SessionToken}, Secrets: cfg.Secrets[:1], Version: version})
	if err != nil {
		t.Fatal(err)
	}
	return checker, reader
}

func (r exchange) header(t *testing.T) string {
	t.Helper()
	if r.CookieHeaderBase64 != nil {
		raw, err := base64.StdEncoding.DecodeString(*r.CookieHeaderBase64)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	if r.CookieHeader == nil {
		return ""
	}
	return *r.CookieHeader
}

func (r exchange) at(t *testing.T) time.Time {
	t.Helper()
	var ms int64
	var at time.Time
	switch {
	case len(r.EvaluatedAt) == 0 || string(r.EvaluatedAt) == "null":
		return recordedAt
	case json.Unmarshal(r.EvaluatedAt, &ms) == nil:
		return time.UnixMilli(ms)
	}
	if err := json.Unmarshal(r.EvaluatedAt, &at); err != nil {
		t.Fatal(err)
	}
	return at
}

// TestOpenVectors: of every configuration with the cookie cache on, the recorded
// answers of plain get-session that came from the cookie are those of a cookie that
// opens, to the field, and no other is.
func TestOpenVectors(t *testing.T) {
	text, err := os.ReadFile("../vectors/testdata/better-auth/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var all suite
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	datasets := map[string]dataset{}
	for _, d := range all.Datasets {
		datasets[d.ID] = d
	}
	answers := map[string]cached{}
	for _, v := range all.Vectors {
		answers[v.Name], answers[v.Name+"#expectedCached"] = v.Expected, v.ExpectedCached
	}
	states, payloads := map[sessiondata.State]int{}, 0
	for _, v := range all.Vectors {
		d := datasets[v.Dataset]
		if !d.Options.Session.CookieCache.Enabled || v.AuthorizationHeader != "" {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			checker, reader := d.open(t)
			header := v.header(t)
			reading := reader.FromHeaders(header, "")
			if reading.Err != nil {
				if v.ExpectedCached.Valid {
					t.Error("good without a token")
				}
				return
			}
			p, state := checker.Open(sessiondata.Request{Cookie: header, Token: reading.Token}, v.at(t))
			states[state]++
			want := v.ExpectedCached
			switch {
			case want.Same: // the cookie may have been what answered
				want = v.Expected
			case want.Valid && state != sessiondata.Good:
				t.Errorf("the issuer answered from the cookie, which is %s here", state)
			}
			if want.AnswerOf != "" {
				want = answers[want.AnswerOf]
			}
			if state == sessiondata.Good {
				if !want.Valid {
					t.Fatal("the cookie is good here, the issuer refused")
				}
				holds(t, "session", p.Session, want.Session)
				holds(t, "user", p.User, want.User)
			}
			if v.CookieCache != nil {
				payloads++
				if p == nil {
					t.Fatalf("the issuer read a payload, here the cookie is %s", state)
				}
				holds(t, "session", p.Session, v.CookieCache.Session)
				holds(t, "user", p.User, v.CookieCache.User)
				if got := float64(p.UpdatedAt.UnixMilli()); v.CookieCache.UpdatedAt != 0 && got != v.CookieCache.UpdatedAt {
					t.Errorf("updatedAt %v, the issuer %v", got, v.CookieCache.UpdatedAt)
				}
				if v.CookieCache.Version != "" && p.Version != v.CookieCache.Version {
					t.Errorf("version %q, the issuer %q", p.Version, v.CookieCache.Version)
				}
			}
		})
	}
	t.Logf("%v, payloads %d", states, payloads)
	if states[sessiondata.Good] < 60 || states[sessiondata.Mismatched] < 30 || payloads < 40 {
		t.Errorf("%v, payloads %d: the vectors are not what they were", states, payloads)
	}
	for s := sessiondata.Absent; s <= sessiondata.Good; s++ {
		if states[s] == 0 && s != sessiondata.OtherVersion {
			t.Errorf("no vector is %s", s)
		}
	}
}

// holds compares an object with the issuer's answer.
func holds(t *testing.T, what string, got map[string]json.RawMessage, want map[string]any) {
	t.Helper()
	for name, value := range want {
		var ours any
		if err := json.Unmarshal(got[name], &ours); err != nil {
			t.Errorf("%s.%s: not in the payload", what, name)
			continue
		}
		if !reflect.DeepEqual(ours, value) {
			t.Errorf("%s.%s: %v, the issuer %v", what, name, ours, value)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s.%s is in the payload only", what, name)
		}
	}
}
