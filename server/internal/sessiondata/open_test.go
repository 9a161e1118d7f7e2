package sessiondata_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/server/internal/sessiondata"
	"github.com/sessiond/sessiond/sessioncookie"
)

// soon is the instant of the cookies below.
var soon = time.UnixMilli(1_800_000_000_500)

const (
	testToken = "a token of the tests"
	testPair  = `"session":{"id":"s1","userId":"u1","token":"` + testToken + `","createdAt":"2027-01-15T08:00:00.000Z","updatedAt":"2027-01-15T08:00:00.000Z","expiresAt":"2027-01-22T08:00:00.000Z"},` +
		`"user":{"id":"u1","name":"Alice","email":"Alice@Example.com","emailVerified":true,"createdAt":"2027-01-15T08:00:00.000Z","updatedAt":"2027-01-15T08:00:00.000Z"},"updatedAt":1800000000000`
)

// compact makes a cookie of the compact strategy whose content is the members given.
func compact(members, expiresAt string) string {
	text := `{` + members + `,"expiresAt":` + expiresAt + `}`
	return encode(`{"session":{` + members + `},"expiresAt":` + expiresAt + `,"signature":"` + mac(text) + `"}`)
}

func TestOpenStates(t *testing.T) {
	const later = "1800000300000"
	good := compact(testPair, later)
	bent := strings.Replace(testPair, "Alice", "Mallory", 1)
	forged := encode(`{"session":{` + bent + `},"expiresAt":` + later + `,"signature":"` + mac(`{`+testPair+`,"expiresAt":`+later+`}`) + `"}`)
	endless := encode(`{"session":{` + testPair + `},"expiresAt":1e999,"signature":"` + mac(`{`+testPair+`,"expiresAt":null}`) + `"}`)
	tests := []struct {
		name, cookie, token string
		v1_4, v1_6, v1_7    sessiondata.State
	}{
		{"good", testName + "=" + good, testToken, sessiondata.Good, sessiondata.Good, sessiondata.Good},
		{"none", "theme=dark", testToken, sessiondata.Absent, sessiondata.Absent, sessiondata.Absent},
		{"chunks", testName + ".0=" + good[:9] + "; " + testName + ".1=" + good[9:], testToken, sessiondata.Good, sessiondata.Good, sessiondata.Good},
		{"chunk missing", testName + ".1=" + good[9:], testToken, sessiondata.Incomplete, sessiondata.Incomplete, sessiondata.Incomplete},
		{"chunk's number not plain", testName + ".0=" + good[:9] + "; " + testName + ".01=" + good[9:], testToken, sessiondata.Good, sessiondata.Good, sessiondata.Unreadable},
		{"not base64", testName + "=*", testToken, sessiondata.Unreadable, sessiondata.Unreadable, sessiondata.Unreadable},
		{"not JSON", testName + "=" + encode("{"), testToken, sessiondata.Unreadable, sessiondata.Unreadable, sessiondata.Unreadable},
		{"changed", testName + "=" + forged, testToken, sessiondata.Mismatched, sessiondata.Mismatched, sessiondata.Mismatched},
		{"no user", testName + "=" + compact(`"session":{"token":"x"}`, later), testToken, sessiondata.Unreadable, sessiondata.Unreadable, sessiondata.Unreadable},
		{"a field of another type", testName + "=" + compact(strings.Replace(testPair, `"Alice"`, "5", 1), later), testToken, sessiondata.Good, sessiondata.Good, sessiondata.Unreadable},
		{"another token", testName + "=" + good, "another", sessiondata.Good, sessiondata.Good, sessiondata.OtherToken},
		{"another version", testName + "=" + compact(testPair+`,"version":"2"`, later), testToken, sessiondata.OtherVersion, sessiondata.OtherVersion, sessiondata.OtherVersion},
		{"an empty version", testName + "=" + compact(testPair+`,"version":""`, later), testToken, sessiondata.Good, sessiondata.Good, sessiondata.Good},
		{"its last millisecond", testName + "=" + compact(testPair, "1800000000500"), testToken, sessiondata.Good, sessiondata.Good, sessiondata.Good},
		{"an end that is none", testName + "=" + compact(testPair, "null"), testToken, sessiondata.Unreadable, sessiondata.Unreadable, sessiondata.Unreadable},
		{"an end beyond numbers", testName + "=" + endless, testToken, sessiondata.Unreadable, sessiondata.Unreadable, sessiondata.Unreadable},
		{"over", testName + "=" + compact(testPair, "1800000000499"), testToken, sessiondata.Expired, sessiondata.Expired, sessiondata.Expired},
		{"the session in it over", testName + "=" + compact(strings.Replace(testPair, "2027-01-22", "2027-01-14", 1), later), testToken, sessiondata.Expired, sessiondata.Expired, sessiondata.Expired},
	}
	seen := map[sessiondata.State]bool{}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for version, want := range map[sessioncookie.Version]sessiondata.State{
				sessioncookie.V1_4: tt.v1_4, sessioncookie.V1_6: tt.v1_6, sessioncookie.V1_7: tt.v1_7,
			} {
				p, got := mustChecker(t, version, "").Open(sessiondata.Request{Cookie: tt.cookie, Token: tt.token}, soon)
				seen[got] = true
				if got != want {
					t.Errorf("%s: %s, want %s", version, got, want)
				}
				if verified := got >= sessiondata.OtherToken; (p != nil) != verified {
					t.Errorf("%s: %s with payload %t", version, got, p != nil)
				}
			}
		})
	}
	for s := sessiondata.Absent; s <= sessiondata.Good; s++ {
		if !seen[s] {
			t.Errorf("no cookie is %s", s)
		}
	}
}

func TestOpenPayload(t *testing.T) {
	cookie := testName + "=" + compact(testPair+`,"version":"1"`, "1800000300000")
	p, state := mustChecker(t, sessioncookie.V1_7, "").Open(sessiondata.Request{Cookie: cookie, Token: testToken}, soon)
	if state != sessiondata.Good {
		t.Fatal(state)
	}
	if p.Token != testToken || p.Version != "1" || p.UpdatedAt.UnixMilli() != 1_800_000_000_000 || p.Until.UnixMilli() != 1_800_000_300_000 {
		t.Errorf("got %q, %q, %v, %v", p.Token, p.Version, p.UpdatedAt, p.Until)
	}
	if got := string(p.User["email"]); got != `"alice@example.com"` {
		t.Errorf("email %s: the issuer makes it lower case", got)
	}
}

func TestOpenBind(t *testing.T) {
	c, err := sessiondata.New(sessiondata.Config{Name: testName, Version: sessioncookie.V1_6, Secrets: []string{testSecret}, Bind: true})
	if err != nil {
		t.Fatal(err)
	}
	cookie := testName + "=" + compact(testPair, "1800000300000")
	if _, state := c.Open(sessiondata.Request{Cookie: cookie, Token: "another"}, soon); state != sessiondata.OtherToken {
		t.Error(state)
	}
}

// TestOpenUntil: the last instant of a jwt is before the second that it names, that of
// a jwe is the second itself, whatever the clocks' tolerance.
func TestOpenUntil(t *testing.T) {
	const content = `{` + testPair + `,"iat":1800000000,"exp":1800000001}`
	signed := encode(`{"alg":"HS256"}`) + "." + encode(content)
	good := func(id string) string { return `{"alg":"dir","enc":"A256CBC-HS512","kid":"` + id + `"}` }
	for strategy, cookie := range map[string]string{
		sessiondata.JWT: testName + "=" + signed + "." + mac(signed),
		sessiondata.JWE: testName + "=" + seal(t, good, content),
	} {
		c := mustChecker(t, sessioncookie.V1_7, strategy)
		p, state := c.Open(sessiondata.Request{Cookie: cookie, Token: testToken}, soon)
		if state != sessiondata.Good {
			t.Fatal(strategy, state)
		}
		want := int64(1_800_000_001_000)
		if strategy == sessiondata.JWT {
			want--
		}
		if got := p.Until.UnixMilli(); got != want {
			t.Errorf("%s: until %d, want %d", strategy, got, want)
		}
		if _, state := c.Open(sessiondata.Request{Cookie: cookie, Token: testToken}, p.Until.Add(time.Millisecond)); state != sessiondata.Expired {
			t.Errorf("%s: %s after it", strategy, state)
		}
	}
}

func TestOpenRotated(t *testing.T) {
	cookie := testName + "=" + seal(t, func(id string) string { return `{"alg":"dir","enc":"A256CBC-HS512","kid":"` + id + `"}` }, `{`+testPair+`,"exp":1800000300}`)
	for version, want := range map[sessioncookie.Version]sessiondata.State{
		sessioncookie.V1_4: sessiondata.Mismatched, sessioncookie.V1_6: sessiondata.Good, sessioncookie.V1_7: sessiondata.Good,
	} {
		c, err := sessiondata.New(sessiondata.Config{
			Name: testName, Strategy: sessiondata.JWE, Version: version, Secrets: []string{"the secret after the rotation, of the tests", testSecret},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, state := c.Open(sessiondata.Request{Cookie: cookie, Token: testToken}, soon); state != want {
			t.Errorf("%s: %s, want %s", version, state, want)
		}
	}
}

// TestOpenSigned: of a cookie that the jwt plugin signs everything counts that it says
// of itself.
func TestOpenSigned(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	jwks, err := json.Marshal(map[string]any{"keys": []map[string]string{{"kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": encode(string(public))}}})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := sessiondata.ParseKeys(jwks)
	if err != nil {
		t.Fatal(err)
	}
	c, err := sessiondata.New(sessiondata.Config{
		Name: testName, Strategy: sessiondata.JWT, Secrets: []string{testSecret}, Keys: keys, Origin: "https://auth.example.com",
	})
	if err != nil {
		t.Fatal(err)
	}
	const header = `{"alg":"EdDSA","kid":"k1","typ":"better-auth.session-cache+jwt"}`
	const claims = `{` + testPair + `,"iss":"https://auth.example.com","aud":"better-auth:session-cache","sub":"u1","sid":"` + testToken + `","exp":1800000300}`
	tests := []struct {
		name, header, claims string
		want                 sessiondata.State
	}{
		{"good", header, claims, sessiondata.Good},
		{"several audiences", header, strings.Replace(claims, `"better-auth:session-cache"`, `["x","better-auth:session-cache"]`, 1), sessiondata.Good},
		{"another audience", header, strings.Replace(claims, "better-auth:session-cache", "https://api.example.com", 1), sessiondata.Unreadable},
		{"another issuer", header, strings.Replace(claims, "https://auth", "https://other", 1), sessiondata.Unreadable},
		{"another subject", header, strings.Replace(claims, `"sub":"u1"`, `"sub":"u2"`, 1), sessiondata.Unreadable},
		{"another sid", header, strings.Replace(claims, `"sid":"a`, `"sid":"b`, 1), sessiondata.Unreadable},
		{"an access token's type", strings.Replace(header, "better-auth.session-cache+jwt", "JWT", 1), claims, sessiondata.Unreadable},
		{"no type", `{"alg":"EdDSA","kid":"k1"}`, claims, sessiondata.Unreadable},
		{"the secret's algorithm", strings.Replace(header, "EdDSA", "HS256", 1), claims, sessiondata.Unreadable},
		{"no key id", `{"alg":"EdDSA","typ":"better-auth.session-cache+jwt"}`, claims, sessiondata.Unreadable},
		{"an unknown key", strings.Replace(header, `"k1"`, `"k2"`, 1), claims, sessiondata.Mismatched},
		{"over", header, strings.Replace(claims, `"exp":1800000300`, `"exp":1800000000`, 1), sessiondata.Expired},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			signed := encode(tt.header) + "." + encode(tt.claims)
			cookie := testName + "=" + signed + "." + encode(string(ed25519.Sign(private, []byte(signed))))
			if _, state := c.Open(sessiondata.Request{Cookie: cookie, Token: testToken}, soon); state != tt.want {
				t.Errorf("%s, want %s", state, tt.want)
			}
		})
	}
	signed := encode(header) + "." + encode(claims)
	if _, state := c.Open(sessiondata.Request{Cookie: testName + "=" + signed + "." + mac(signed), Token: testToken}, soon); state != sessiondata.Mismatched {
		t.Errorf("signed by the secret: %s", state)
	}
}

func TestParseKeysRefuses(t *testing.T) {
	tests := []struct{ name, jwks, want string }{
		{"not JSON", "x", "JSON Web Key Set"},
		{"no keys", `{"keys":[]}`, "JSON Web Key Set"},
		{"a private key", `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","d":"AAAA","x":"AAAA"}]}`, "private"},
		{"another algorithm", `{"keys":[{"kty":"EC","crv":"P-256","kid":"k","x":"AAAA"}]}`, "Ed25519"},
		{"too short", `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":"AAAA"}]}`, "Ed25519"},
		{"no id", `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"bPyIR89_IFoJ5kr96BoO-bPUrRKyfJMgjKcOlyQSlCg"}]}`, "kid"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := sessiondata.ParseKeys([]byte(tt.jwks)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one that says %q", err, tt.want)
			}
		})
	}
}

// TestBearerRewritesCookies holds what Better Auth 1.6.34 with the compact strategy
// answered, bearer token accepted: it reads the last cookie of a name, not the first.
func TestBearerRewritesCookies(t *testing.T) {
	const bad, good = testName + "=*", testName + "=bnVsbA"
	tests := []struct {
		name, cookie       string
		byCookie, byBearer bool
	}{
		{"bad first", bad + "; " + good, true, false},
		{"good first", good + "; " + bad, false, true},
		{"bad, quoted", testName + `="*"`, true, true},
		{"bad, then illegal", bad + "; " + testName + `=a\b`, true, true},
		{"illegal first", testName + `=a\b; ` + good, true, false},
		{"bad, then empty", bad + "; " + testName + "=", true, false},
		{"bad chunk", testName + ".0=*", true, true},
		{"half a quote", testName + `="*`, false, false},
		{"percent", testName + "=%2A", true, true},
		{"space before the name", good + ";\xa0" + testName + "=*", false, false},
	}
	c := mustChecker(t, sessioncookie.V1_6, sessiondata.Compact)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := c.Rejects(sessiondata.Request{Cookie: tt.cookie}, recordedAt); got != tt.byCookie {
				t.Errorf("by cookie: rejects %t", got)
			}
			if got := c.Rejects(sessiondata.Request{Cookie: tt.cookie, Bearer: true}, recordedAt); got != tt.byBearer {
				t.Errorf("by bearer: rejects %t", got)
			}
		})
	}
}
