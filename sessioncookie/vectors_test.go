package sessioncookie_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sessiond/sessiond/sessioncookie"
)

// vector is one line of any file in testdata; its README describes them.
type vector struct {
	Version, Config, Case string
	Name, Secret          string
	Cookie, CookieBase64  string
	Authorization         string

	Signed json.RawMessage
	Hint   string
	Status int

	Bearer, RequireSignature, Valid bool
	Token                           string

	SetCookie, SetAuthToken, Prefix, Custom, DataName string
	Secure                                            bool
}

func readVectors(t testing.TB, file string) []vector {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var vectors []vector
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var v vector
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Fatalf("%s line %d: %v", file, len(vectors)+1, err)
		}
		vectors = append(vectors, v)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if len(vectors) == 0 {
		t.Fatalf("%s is empty", file)
	}
	return vectors
}

func (v vector) header(t testing.TB) string {
	t.Helper()
	if v.CookieBase64 == "" {
		return v.Cookie
	}
	raw, err := base64.StdEncoding.DecodeString(v.CookieBase64)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func (v vector) release(t testing.TB) sessioncookie.Version {
	t.Helper()
	version, err := sessioncookie.ParseVersion(v.Version)
	if err != nil {
		t.Fatal(err)
	}
	return version
}

func mustReader(t testing.TB, cfg sessioncookie.Config) *sessioncookie.Reader {
	t.Helper()
	r, err := sessioncookie.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// want turns the recorded answer into a Reading.
func (v vector) want(t testing.TB) sessioncookie.Reading {
	t.Helper()
	want := sessioncookie.Reading{Secret: -1}
	var token string
	switch {
	case v.Status == http.StatusBadRequest:
		want.Err, want.Source = sessioncookie.ErrMalformed, sessioncookie.SourceCookie
		return want
	case json.Unmarshal(v.Signed, &token) == nil && token != "":
		want = sessioncookie.Reading{Token: token, Signed: true}
	case v.Hint == "no_cookie":
		want.Err = sessioncookie.ErrNoCredential
		if _, n := sessioncookie.Find(v.header(t), v.Name); n == 0 {
			return want
		}
	case v.Hint == "malformed_cookie":
		want.Err = sessioncookie.ErrMalformed
	case string(v.Signed) == "false":
		want.Err = sessioncookie.ErrBadSignature
	default:
		t.Fatalf("vector says neither token nor reason: %+v", v)
	}
	want.Source, want.Name = sessioncookie.SourceCookie, v.Name
	return want
}

func TestCookieVectors(t *testing.T) {
	accepted, refused := 0, 0
	for _, v := range readVectors(t, "cookies.jsonl") {
		t.Run(v.Version+"/"+v.Config+"/"+v.Case, func(t *testing.T) {
			r := mustReader(t, sessioncookie.Config{Names: []string{v.Name}, Secrets: []string{v.Secret}, Version: v.release(t)})
			want := v.want(t)
			if diff := cmp.Diff(want, r.FromHeaders(v.header(t), ""), cmp.Comparer(sameError)); diff != "" {
				t.Errorf("FromHeaders (-want +got):\n%s", diff)
			}
			if want.Err == nil {
				accepted++
			} else {
				refused++
			}
			// The value alone must read like the whole header.
			if value, n := sessioncookie.Find(v.header(t), v.Name); n > 0 && v.Status == http.StatusOK {
				want.Name = ""
				if diff := cmp.Diff(want, r.FromValue(value), cmp.Comparer(sameError)); diff != "" {
					t.Errorf("FromValue (-want +got):\n%s", diff)
				}
			}
		})
	}
	if accepted < 1500 || refused < 900 {
		t.Errorf("%d accepted and %d refused: the vectors are not what they were", accepted, refused)
	}
}

func sameError(a, b error) bool { return errors.Is(a, b) && errors.Is(b, a) }

func TestBearerVectors(t *testing.T) {
	for _, v := range readVectors(t, "bearer.jsonl") {
		t.Run(v.Version+"/"+v.Config+"/"+v.Case, func(t *testing.T) {
			r := mustReader(t, sessioncookie.Config{
				Names: []string{v.Name}, Secrets: []string{v.Secret}, Version: v.release(t),
				Bearer: v.Bearer, BearerRequireSignature: v.RequireSignature,
			})
			got := r.FromHeaders(v.header(t), v.Authorization)
			if v.Valid {
				if got.Err != nil || got.Token != v.Token {
					t.Errorf("got token %q and error %v, want token %q", got.Token, got.Err, v.Token)
				}
				return
			}
			// A refusal is ours as well, or it is the store's: the token that we
			// verified is then of no session. These cases are so by their making.
			storeRefuses := strings.Contains(v.Case, "unknown") || strings.Contains(v.Case, "truncated") ||
				strings.Contains(v.Case, "signed-out") || v.Case == "unsigned-percent" ||
				strings.HasPrefix(v.Case, "scheme-") || v.Case == "bearer-holds-whole-cookie-pair"
			if got.Err == nil && !storeRefuses {
				t.Errorf("got token %q, want a refusal", got.Token)
			}
		})
	}
}

func TestSetCookieVectors(t *testing.T) {
	for _, v := range readVectors(t, "setcookie.jsonl") {
		naming := sessioncookie.Naming{Prefix: v.Prefix, Custom: v.Custom, Secure: v.Secure}
		if got := naming.SessionToken(); got != v.Name {
			t.Errorf("%+v: session token cookie is %q, want %q", naming, got, v.Name)
		}
		if got := naming.SessionData(); got != v.DataName {
			t.Errorf("%+v: session data cookie is %q, want %q", naming, got, v.DataName)
		}

		value, attributes := parseSetCookie(t, v.SetCookie)
		r := mustReader(t, sessioncookie.Config{Names: []string{v.Name}, Secrets: []string{v.Secret}})
		reading := r.FromValue(value)
		if reading.Err != nil {
			t.Fatalf("%s %s: %v", v.Version, v.Name, reading.Err)
		}
		if got := sessioncookie.SetCookie(v.Name, reading.Token, v.Secret, attributes); got != v.SetCookie {
			t.Errorf("%s: SetCookie gives\n%s\nwant\n%s", v.Version, got, v.SetCookie)
		}
		if got, want := len(sessioncookie.NewToken()), len(reading.Token); got != want {
			t.Errorf("NewToken has %d characters, the issuer's has %d", got, want)
		}
	}
}

func parseSetCookie(t *testing.T, line string) (value string, a sessioncookie.Attributes) {
	t.Helper()
	pairs := strings.Split(line, "; ")
	_, value, _ = strings.Cut(pairs[0], "=")
	for _, pair := range pairs[1:] {
		switch key, val, _ := strings.Cut(pair, "="); key {
		case "Max-Age":
			seconds, err := strconv.Atoi(val)
			if err != nil {
				t.Fatal(err)
			}
			a.MaxAge = time.Duration(seconds) * time.Second
		case "Domain":
			a.Domain = val
		case "Path":
			a.Path = val
		case "HttpOnly":
			a.HTTPOnly = true
		case "Secure":
			a.Secure = true
		case "SameSite":
			a.SameSite = map[string]http.SameSite{"Lax": http.SameSiteLaxMode, "Strict": http.SameSiteStrictMode, "None": http.SameSiteNoneMode}[val]
		default:
			t.Fatalf("unknown attribute %q", pair)
		}
	}
	return value, a
}
