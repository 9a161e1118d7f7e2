package sessioncookie_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sessiond/sessiond/sessioncookie"
)

const (
	testName      = "better-auth.session_token"
	testSecret    = "a secret of the tests, which no deployment has"
	anotherSecret = "another secret of the tests, equally worthless"
	retiredSecret = "the secret that the tests had before they had these"
	testToken     = "0123456789abcdefghijABCDEFGHIJKL"
)

func cookieOf(name, token, secret string) string {
	return name + "=" + sessioncookie.Encode(sessioncookie.Sign(token, secret))
}

func TestNewRefuses(t *testing.T) {
	good := func() sessioncookie.Config {
		return sessioncookie.Config{Names: []string{testName}, Secrets: []string{testSecret}}
	}
	tests := []struct {
		name   string
		change func(*sessioncookie.Config)
		want   string
	}{
		{"no name", func(c *sessioncookie.Config) { c.Names = nil }, "no cookie name"},
		{"empty name", func(c *sessioncookie.Config) { c.Names = []string{testName, ""} }, "Names[1]"},
		{"name with a space", func(c *sessioncookie.Config) { c.Names = []string{"a b"} }, "Names[0]"},
		{"name not ASCII", func(c *sessioncookie.Config) { c.Names = []string{"s\u00e9ance"} }, "Names[0]"},
		{"name twice", func(c *sessioncookie.Config) { c.Names = []string{"a", "b", "a"} }, "Names[2]"},
		{"no secret", func(c *sessioncookie.Config) { c.Secrets = nil }, "no secret"},
		{"short secret", func(c *sessioncookie.Config) { c.Secrets = append(c.Secrets, "hunter2") }, "Secrets[1] has 7 bytes"},
		{"secret not UTF-8", func(c *sessioncookie.Config) { c.Secrets[0] += "\xff" }, "Secrets[0]"},
		{"empty retired secret", func(c *sessioncookie.Config) { c.Retired = []string{""} }, "Retired[0]"},
		{"retired and accepted", func(c *sessioncookie.Config) { c.Retired = []string{testSecret} }, "Retired[0]"},
		{"unknown version", func(c *sessioncookie.Config) { c.Version = sessioncookie.Current + 1 }, "1.2, 1.3, 1.4, 1.6, 1.7"},
		{"negative limit", func(c *sessioncookie.Config) { c.MaxBytes = -1 }, "MaxBytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := good()
			tt.change(&cfg)
			_, err := sessioncookie.New(cfg)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got error %v, want one that says %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), testSecret) {
				t.Errorf("error shows a secret: %v", err)
			}
		})
	}
	if _, err := sessioncookie.New(good()); err != nil {
		t.Errorf("the configuration that the cases start from is refused: %v", err)
	}
}

func TestNewCopiesConfig(t *testing.T) {
	names, secrets := []string{testName}, []string{testSecret}
	r := mustReader(t, sessioncookie.Config{Names: names, Secrets: secrets})
	names[0], secrets[0] = "changed", anotherSecret
	if got := r.FromHeaders(cookieOf(testName, testToken, testSecret), ""); got.Err != nil {
		t.Errorf("a later change of the caller's slices reached the reader: %v", got.Err)
	}
}

func TestSecrets(t *testing.T) {
	r := mustReader(t, sessioncookie.Config{
		Names:   []string{testName},
		Secrets: []string{testSecret, anotherSecret},
		Retired: []string{retiredSecret},
	})
	tests := []struct {
		secret string
		want   sessioncookie.Reading
	}{
		{testSecret, sessioncookie.Reading{Token: testToken, Secret: 0, Signed: true}},
		{anotherSecret, sessioncookie.Reading{Token: testToken, Secret: 1, Signed: true}},
		{retiredSecret, sessioncookie.Reading{Secret: -1, Err: sessioncookie.ErrRetiredSecret}},
		{"no secret that we know", sessioncookie.Reading{Secret: -1, Err: sessioncookie.ErrBadSignature}},
	}
	for _, tt := range tests {
		tt.want.Source, tt.want.Name = sessioncookie.SourceCookie, testName
		got := r.FromHeaders(cookieOf(testName, testToken, tt.secret), "")
		if diff := cmp.Diff(tt.want, got, cmp.Comparer(sameError)); diff != "" {
			t.Errorf("signed with %q (-want +got):\n%s", tt.secret, diff)
		}
	}
}

func TestPrecedence(t *testing.T) {
	const first, second = "__Secure-better-auth.session_token", testName
	r := mustReader(t, sessioncookie.Config{Names: []string{first, second}, Secrets: []string{testSecret}})
	good := func(name, token string) string { return cookieOf(name, token, testSecret) }
	bad := func(name string) string { return cookieOf(name, testToken, anotherSecret) }
	tests := []struct {
		name, header string
		wantName     string
		wantToken    string
		wantErr      error
	}{
		{"both, in order", good(first, "one") + "; " + good(second, "two"), first, "one", nil},
		{"both, reversed", good(second, "two") + "; " + good(first, "one"), first, "one", nil},
		{"first is bad", good(second, "two") + "; " + bad(first), first, "", sessioncookie.ErrBadSignature},
		{"first is empty", first + "=; " + good(second, "two"), first, "", sessioncookie.ErrNoCredential},
		{"only the second", good(second, "two"), second, "two", nil},
		{"second twice", good(second, "two") + "; " + good(second, "three"), second, "two", nil},
		{"neither", "theme=dark", "", "", sessioncookie.ErrNoCredential},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := r.FromHeaders(tt.header, "")
			if got.Name != tt.wantName || got.Token != tt.wantToken || !errors.Is(got.Err, tt.wantErr) {
				t.Errorf("got %+v, want name %q, token %q, error %v", got, tt.wantName, tt.wantToken, tt.wantErr)
			}
		})
	}
}

// TestBearerReasons covers what the vectors cannot tell: why a bearer is refused.
func TestBearerReasons(t *testing.T) {
	signed := sessioncookie.Sign(testToken, testSecret)
	encoded := sessioncookie.Encode(signed)
	cookie := cookieOf(testName, "cookie", testSecret)
	forged := sessioncookie.Encode(sessioncookie.Sign(testToken, anotherSecret))
	retired := sessioncookie.Encode(sessioncookie.Sign(testToken, retiredSecret))
	tests := []struct {
		name                  string
		version               sessioncookie.Version
		cookie, authorization string
		wantSource            sessioncookie.Source
		wantToken             string
		wantErr               error
	}{
		{"1.4 signed", sessioncookie.V1_4, "", "Bearer " + encoded, sessioncookie.SourceBearer, testToken, nil},
		{"1.4 forged", sessioncookie.V1_4, "", "Bearer " + forged, sessioncookie.SourceBearer, "", sessioncookie.ErrBadSignature},
		{"1.4 retired", sessioncookie.V1_4, "", "Bearer " + retired, sessioncookie.SourceBearer, "", sessioncookie.ErrRetiredSecret},
		{"1.4 decoded, so unpadded", sessioncookie.V1_4, "", "Bearer " + signed, sessioncookie.SourceBearer, "", sessioncookie.ErrMalformed},
		{"1.4 bad escape", sessioncookie.V1_4, "", "Bearer " + encoded + "%zz", sessioncookie.SourceBearer, "", sessioncookie.ErrMalformed},
		{"1.4 bare", sessioncookie.V1_4, "", "Bearer " + testToken, sessioncookie.SourceBearer, "", sessioncookie.ErrUnsigned},
		{"1.4 word alone", sessioncookie.V1_4, "", "Bearer ", sessioncookie.SourceNone, "", sessioncookie.ErrNoCredential},
		{"1.4 another scheme", sessioncookie.V1_4, "", "Basic dXNlcjpwYXNz", sessioncookie.SourceNone, "", sessioncookie.ErrNoCredential},
		{"1.4 cookie wins", sessioncookie.V1_4, cookie, "Bearer " + encoded, sessioncookie.SourceCookie, "cookie", nil},
		{"1.4 empty cookie wins", sessioncookie.V1_4, testName + "=", "Bearer " + encoded, sessioncookie.SourceCookie, "", sessioncookie.ErrNoCredential},
		{"1.7 signed", sessioncookie.V1_7, "", "bearer " + signed, sessioncookie.SourceBearer, testToken, nil},
		{"1.7 forged", sessioncookie.V1_7, "", "Bearer " + forged, sessioncookie.SourceBearer, "", sessioncookie.ErrBadSignature},
		{"1.7 forged beside a cookie", sessioncookie.V1_7, cookie, "Bearer " + forged, sessioncookie.SourceCookie, "cookie", nil},
		{"1.7 retired", sessioncookie.V1_7, "", "Bearer " + retired, sessioncookie.SourceBearer, "", sessioncookie.ErrRetiredSecret},
		{"1.7 wins", sessioncookie.V1_7, cookie, "Bearer " + signed, sessioncookie.SourceBearer, testToken, nil},
		{"1.7 unpadded spoils", sessioncookie.V1_7, cookie, "Bearer " + strings.TrimSuffix(signed, "="), sessioncookie.SourceBearer, "", sessioncookie.ErrMalformed},
		{"1.7 bare", sessioncookie.V1_7, "", "Bearer " + testToken, sessioncookie.SourceBearer, "", sessioncookie.ErrUnsigned},
		{"1.7 bare beside a cookie", sessioncookie.V1_7, cookie, "Bearer " + testToken, sessioncookie.SourceCookie, "cookie", nil},
		{"1.7 word alone", sessioncookie.V1_7, "", "Bearer ", sessioncookie.SourceNone, "", sessioncookie.ErrNoCredential},
		{"1.7 no scheme", sessioncookie.V1_7, "", signed, sessioncookie.SourceNone, "", sessioncookie.ErrNoCredential},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := mustReader(t, sessioncookie.Config{
				Names: []string{testName}, Secrets: []string{testSecret}, Retired: []string{retiredSecret},
				Version: tt.version, Bearer: true, BearerRequireSignature: true,
			})
			got := r.FromHeaders(tt.cookie, tt.authorization)
			if got.Source != tt.wantSource || got.Token != tt.wantToken || !errors.Is(got.Err, tt.wantErr) {
				t.Errorf("got %+v, want source %d, token %q, error %v", got, tt.wantSource, tt.wantToken, tt.wantErr)
			}
		})
	}
}

func TestFromToken(t *testing.T) {
	cfg := sessioncookie.Config{Names: []string{testName}, Secrets: []string{testSecret}, MaxBytes: 64}
	strict := mustReader(t, cfg)
	cfg.AllowBareToken = true
	lax := mustReader(t, cfg)
	tests := []struct {
		name, token string
		reader      *sessioncookie.Reader
		want        sessioncookie.Reading
	}{
		{"allowed", testToken, lax, sessioncookie.Reading{Token: testToken, Source: sessioncookie.SourceToken, Secret: -1}},
		{"not allowed", testToken, strict, sessioncookie.Reading{Err: sessioncookie.ErrUnsigned, Source: sessioncookie.SourceToken, Secret: -1}},
		{"empty", "", lax, sessioncookie.Reading{Err: sessioncookie.ErrNoCredential, Secret: -1}},
		{"too large", strings.Repeat("x", 65), lax, sessioncookie.Reading{Err: sessioncookie.ErrTooLarge, Source: sessioncookie.SourceToken, Secret: -1}},
		{"control byte", "a\x00b", lax, sessioncookie.Reading{Err: sessioncookie.ErrMalformed, Source: sessioncookie.SourceToken, Secret: -1}},
		{"not UTF-8", "a\xffb", lax, sessioncookie.Reading{Err: sessioncookie.ErrMalformed, Source: sessioncookie.SourceToken, Secret: -1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.reader.FromToken(tt.token), cmp.Comparer(sameError)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSizeLimit(t *testing.T) {
	cookie := cookieOf(testName, testToken, testSecret)
	r := mustReader(t, sessioncookie.Config{Names: []string{testName}, Secrets: []string{testSecret}, MaxBytes: len(cookie) + 10})
	if got := r.FromHeaders(cookie, strings.Repeat("x", 10)); got.Err != nil {
		t.Errorf("at the limit: %v", got.Err)
	}
	got := r.FromHeaders(cookie, strings.Repeat("x", 11))
	if !errors.Is(got.Err, sessioncookie.ErrTooLarge) || !errors.Is(got.Err, sessioncookie.ErrMalformed) {
		t.Errorf("over the limit: got %v, want ErrTooLarge, which is an ErrMalformed", got.Err)
	}
	if got := r.FromValue(strings.Repeat("x", len(cookie)+11)); !errors.Is(got.Err, sessioncookie.ErrTooLarge) {
		t.Errorf("value over the limit: got %v, want ErrTooLarge", got.Err)
	}
}

// TestControlBytes holds the fast scan to its definition at every offset of a word.
func TestControlBytes(t *testing.T) {
	r := mustReader(t, sessioncookie.Config{Names: []string{testName}, Secrets: []string{testSecret}})
	for b := range 256 {
		for offset := range 17 {
			junk := []byte(strings.Repeat("\t\xff\xe9~", 5))
			junk[offset] = byte(b)
			want := (b < 0x20 && b != '\t') || b == 0x7f
			got := r.FromHeaders(string(junk), "")
			if errors.Is(got.Err, sessioncookie.ErrMalformed) != want {
				t.Fatalf("byte %#x at %d: got %v, want malformed %t", b, offset, got.Err, want)
			}
			if errors.Is(r.FromHeaders("", string(junk)).Err, sessioncookie.ErrMalformed) != want {
				t.Fatalf("byte %#x at %d of Authorization: want malformed %t", b, offset, want)
			}
		}
	}
}

func TestFromValueRefusesSemicolon(t *testing.T) {
	r := mustReader(t, sessioncookie.Config{Names: []string{testName}, Secrets: []string{testSecret}})
	value := sessioncookie.Sign("a;b", testSecret)
	if got := r.FromValue(sessioncookie.Encode(value)); got.Token != "a;b" {
		t.Errorf("encoded: got %+v, want the token", got)
	}
	if got := r.FromValue(value); !errors.Is(got.Err, sessioncookie.ErrMalformed) {
		t.Errorf("got %+v, want ErrMalformed", got)
	}
}

func TestFromRequestJoinsHeaders(t *testing.T) {
	r := mustReader(t, sessioncookie.Config{Names: []string{testName}, Secrets: []string{testSecret}, Bearer: true})
	tests := []struct {
		name      string
		header    http.Header
		wantToken string
	}{
		{"none", http.Header{}, ""},
		{"one", http.Header{"Cookie": {cookieOf(testName, "one", testSecret)}}, "one"},
		{"second header", http.Header{"Cookie": {"theme=dark", cookieOf(testName, "two", testSecret)}}, "two"},
		{"first Authorization", http.Header{"Authorization": {"Bearer first", "Bearer second"}}, "first"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := r.FromRequest(&http.Request{Header: tt.header}); got.Token != tt.wantToken {
				t.Errorf("got %+v, want token %q", got, tt.wantToken)
			}
		})
	}
}

func TestFind(t *testing.T) {
	tests := []struct {
		name, header, want string
		wantN              int
	}{
		{"empty", "", "", 0},
		{"plain", "a=1; s=2; b=3", "2", 1},
		{"first of several", "s=1; s=2;s=3", "1", 3},
		{"empty first", "s=; s=2", "", 2},
		{"case", "S=1", "", 0},
		{"part of a name", "xs=1; sx=2", "", 0},
		{"no equals sign", "s; s=1", "1", 1},
		{"trimmed", " s\t=\xa0 1 ", "1", 1},
		{"0x85 stays", "s=\x851", "\x851", 1},
		{"neither unquoted nor decoded", `s="%41"`, `"%41"`, 1},
		{"comma is no separator", "a=1,s=2", "", 0},
		{"further equals signs", "s=a=b=", "a=b=", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			value, n := sessioncookie.Find(tt.header, "s")
			if value != tt.want || n != tt.wantN {
				t.Errorf("got %q, %d, want %q, %d", value, n, tt.want, tt.wantN)
			}
		})
	}
}

func TestDecode(t *testing.T) {
	tests := []struct{ value, want string }{
		{"", ""},
		{"plain", "plain"},
		{"a%2Fb", "a/b"},
		{" \"a%20b\" ", "a b"},
		{"\"ab", "a"},
		{"%E2%82%AC \xe9", "\u20ac \u00e9"},
		{"%E0%A4%80%F0%9F%98%80%7F", "\u0900\U0001f600\x7f"},
		{"%C3", "%C3"},
		{"%C3%2", "%C3%2"},
		{"%C3A9", "%C3A9"},
		{"%F8%88%80%80%80", "%F8%88%80%80%80"},
		{"%41%zz", "%41%zz"},
		{"%41%ED%A0%80", "%41%ED%A0%80"},
		{"%2541", "%41"},
		{"a+b", "a+b"},
	}
	for _, tt := range tests {
		if got := sessioncookie.Decode(tt.value); got != tt.want {
			t.Errorf("Decode(%q) = %q, want %q", tt.value, got, tt.want)
		}
	}
}

func TestEncode(t *testing.T) {
	const plain = "azAZ09-_.!~*'()"
	if got := sessioncookie.Encode(plain); got != plain {
		t.Errorf("got %q, want nothing encoded", got)
	}
	if got, want := sessioncookie.Encode("+/=%; \"\u20ac\x00"), "%2B%2F%3D%25%3B%20%22%E2%82%AC%00"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestInspect(t *testing.T) {
	signed := cookieOf("", testToken, testSecret)[1:]
	pieces := testToken[:12]
	header := `theme=dark; ` + cookieOf(testName, testToken, testSecret) + `; q="a.b.c"; ` +
		testName + `_multi-` + testToken + `=x; ` + testToken + `.` + strings.Repeat("A", 43) + `=; caf` + "\xe9" + `=1; ` +
		strings.Repeat("-", 200) + `=1; contoso_session=` + signed + `; Contoso_session=` + signed + `; contoso=1; ` + pieces + `=` + signed + `; ` +
		"q%2Fw%2Be=1; " + testName + ".3=x; contoso.session_token="
	value := sessioncookie.Cookie{ValueBytes: len(signed), PercentEncoded: true, Dots: 1, SignedShape: true}
	named := func(name string) sessioncookie.Cookie {
		c := value
		c.Name = name
		return c
	}
	want := []sessioncookie.Cookie{
		{Name: "theme", ValueBytes: 4},
		named(testName),
		{Name: "q", ValueBytes: 7, Quoted: true, Dots: 2},
		{Name: testName + "_multi-[32 bytes]", ValueBytes: 1},
		{Name: "[32 bytes].[43 bytes]"},
		{Name: `caf?`, ValueBytes: 1},
		{Name: strings.Repeat("-", 128), ValueBytes: 1},
		named("conto…_session"),
		named("Conto…_session"),
		{Name: "conto…", ValueBytes: 1},
		named(pieces[:5] + "…"),
		{Name: "q%2Fw…", ValueBytes: 1},
		{Name: testName + ".3", ValueBytes: 1},
		{Name: "conto….session_token"},
	}
	if diff := cmp.Diff(want, sessioncookie.Inspect(header, 100, testName)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := len(sessioncookie.Inspect(header, 3)); got != 3 {
		t.Errorf("limit of 3 gives %d", got)
	}
	if got := sessioncookie.Inspect(header, -1); got != nil {
		t.Errorf("negative limit gives %v", got)
	}
}

// TestInspectTellsOthersApart: the issuer signs cookies of other purposes as it signs the
// session's, with the same secret.
func TestInspectTellsOthersApart(t *testing.T) {
	for _, name := range []string{"better-auth.dont_remember", "__Secure-better-auth.trust_device", "shop.two_factor", "better-auth.state", "better-auth.admin_session", "better-auth.better-auth-passkey"} {
		if c := sessioncookie.Inspect(cookieOf(name, "true", testSecret), 1)[0]; c.SignedShape || !c.Beside {
			t.Errorf("%s is taken for a session's: %+v", name, c)
		}
	}
	for _, name := range []string{testName, "two_factor", "codex-session"} {
		if c := sessioncookie.Inspect(cookieOf(name, testToken, testSecret), 1)[0]; !c.SignedShape || c.Beside {
			t.Errorf("%s is not taken for a session's: %+v", name, c)
		}
	}
}

// TestInspectIsBounded: what is shown of a name does not grow with it, and no value is
// decoded that no browser keeps.
func TestInspectIsBounded(t *testing.T) {
	for _, name := range []string{"a" + strings.Repeat("_multi-", 5000), "_multi-" + strings.Repeat("a_multi-", 5000), strings.Repeat("a.", 5000), strings.Repeat("a", 10000)} {
		if c := sessioncookie.Inspect(name+"=x", 1)[0]; len(c.Name) > 256 {
			t.Errorf("a name of %d bytes is shown in %d", len(name), len(c.Name))
		}
	}
	if c := sessioncookie.Inspect(cookieOf(testName, strings.Repeat("t", 5000), testSecret), 1)[0]; c.SignedShape {
		t.Error("a value of 5000 bytes was looked into")
	}
}

// TestInspectShowsNoPiece: a piece of a token in a cookie's name is not shown, whether
// the token is in the header or not.
func TestInspectShowsNoPiece(t *testing.T) {
	lower := strings.Map(func(r rune) rune { return 'a' + r%26 }, testToken)
	for _, token := range []string{testToken, lower} {
		signed := sessioncookie.Encode(sessioncookie.Sign(token, testSecret))
		for length := 6; length < 23; length++ {
			piece := token[3:min(3+length, len(token))]
			for _, name := range []string{piece, "x-" + piece, piece + ".session_token", strings.ToUpper(piece)} {
				for _, c := range sessioncookie.Inspect(name+"="+signed+"; "+testName+"="+signed, 10, testName) {
					for i := 0; i+6 <= len(piece); i++ {
						if strings.Contains(strings.ToLower(c.Name), strings.ToLower(piece[i:i+6])) {
							t.Fatalf("name of %d bytes shows six of a token", len(name))
						}
					}
				}
			}
		}
	}
}

func TestParseVersion(t *testing.T) {
	good := map[string]sessioncookie.Version{
		"1.2": sessioncookie.V1_2, "1.2.12": sessioncookie.V1_2, "1.3": sessioncookie.V1_3, "1.4.22": sessioncookie.V1_4,
		"1.6": sessioncookie.V1_6, "1.7.25": sessioncookie.V1_7, "1.7.0-beta.1": sessioncookie.V1_7,
	}
	for in, want := range good {
		if got, err := sessioncookie.ParseVersion(in); err != nil || got != want {
			t.Errorf("ParseVersion(%q) = %v, %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "1", "1.", "1.5", "1.70", "1.7.", "1.7.x", "v1.7", "2.0", " 1.7"} {
		_, err := sessioncookie.ParseVersion(in)
		if err == nil || !strings.Contains(err.Error(), "1.2, 1.3, 1.4, 1.6, 1.7") {
			t.Errorf("ParseVersion(%q): got error %v, want one that lists the supported versions", in, err)
		}
	}
	if got := sessioncookie.Version(0).String(); got != sessioncookie.Current.String() {
		t.Errorf("the zero version prints as %s", got)
	}
}

func TestNewTokenAlphabet(t *testing.T) {
	seen := map[rune]int{}
	const tokens = 2000
	for range tokens {
		token := sessioncookie.NewToken()
		if len(token) != 32 {
			t.Fatalf("token has %d characters", len(token))
		}
		for _, c := range token {
			seen[c]++
		}
	}
	if len(seen) != 62 {
		t.Errorf("tokens use %d characters, want 62", len(seen))
	}
	// 1032 of each are expected; 200 is more than six standard deviations.
	for c, n := range seen {
		if n < 832 || n > 1232 {
			t.Errorf("%q came up %d times", c, n)
		}
	}
}

func TestSetCookiePrefixRules(t *testing.T) {
	for name, want := range map[string]string{
		"__Host-s":   "; Path=/; Secure",
		"__Secure-s": "; Domain=example.com; Path=/app; Secure",
		"s":          "; Domain=example.com; Path=/app",
	} {
		got := sessioncookie.SetCookie(name, testToken, testSecret, sessioncookie.Attributes{Domain: "example.com", Path: "/app"})
		if want = cookieOf(name, testToken, testSecret) + want; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	got := sessioncookie.SetCookie("s", testToken, testSecret, sessioncookie.Attributes{MaxAge: -1, SameSite: http.SameSiteNoneMode})
	if want := cookieOf("s", testToken, testSecret) + "; Max-Age=0; Secure; SameSite=None"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
