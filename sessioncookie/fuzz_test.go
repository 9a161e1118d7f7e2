package sessioncookie_test

import (
	"strings"
	"testing"

	"github.com/sessiond/sessiond/sessioncookie"
)

var versions = []sessioncookie.Version{
	sessioncookie.V1_2, sessioncookie.V1_3, sessioncookie.V1_4, sessioncookie.V1_6, sessioncookie.V1_7,
}

// checkReading holds for any input: a token or an error, and a token that is
// accepted again when it is signed and sent as the issuer would.
func checkReading(t *testing.T, r *sessioncookie.Reader, got sessioncookie.Reading) {
	t.Helper()
	if (got.Err == nil) != (got.Token != "") {
		t.Fatalf("neither or both of token and error: %+v", got)
	}
	if got.Err != nil {
		if got.Secret != -1 || got.Signed {
			t.Fatalf("a refusal names a secret: %+v", got)
		}
		return
	}
	again := r.FromHeaders(cookieOf(testName, got.Token, testSecret), "")
	if again.Err != nil || again.Token != got.Token {
		t.Fatalf("token %q is not accepted when signed: %+v", got.Token, again)
	}
}

// naiveFind says the same as Find with the tools of the standard library.
func naiveFind(header, name string) (value string, n int) {
	const space = " \t\n\v\f\r\u00a0"
	for _, pair := range strings.Split(latin1(header), ";") {
		key, val, ok := strings.Cut(pair, "=")
		if !ok || strings.Trim(key, space) != name {
			continue
		}
		if n == 0 {
			value = strings.Trim(val, space)
		}
		n++
	}
	return value, n
}

func latin1(s string) string {
	runes := make([]rune, len(s))
	for i := range len(s) {
		runes[i] = rune(s[i])
	}
	return string(runes)
}

func FuzzCookieHeader(f *testing.F) {
	r := mustReader(f, sessioncookie.Config{Names: []string{"other", testName}, Secrets: []string{testSecret}})
	f.Add(jar(cookieOf(testName, testToken, testSecret)))
	f.Add(jar(cookieOf("other", testToken, testSecret)) + ";;=;" + testName)
	f.Add("\xa0" + testName + "\x85=\"%E2%82%AC.\xff\"")
	f.Fuzz(func(t *testing.T, header string) {
		got := r.FromHeaders(header, "")
		checkReading(t, r, got)
		value, n := sessioncookie.Find(header, testName)
		wantValue, wantN := naiveFind(header, testName)
		if latin1(value) != wantValue || n != wantN {
			t.Fatalf("Find gives %q, %d, want %q, %d", value, n, wantValue, wantN)
		}
		if got.Name == testName && got.Source == sessioncookie.SourceCookie && r.FromValue(value).Err != got.Err {
			t.Fatalf("the value alone reads as %v, in the header as %v", r.FromValue(value).Err, got.Err)
		}
		const limit = 4
		cookies := sessioncookie.Inspect(header, limit)
		if len(cookies) > limit {
			t.Fatalf("Inspect gives %d cookies", len(cookies))
		}
		for _, c := range cookies {
			if len(c.Name) > len(`\x00`)*128 {
				t.Fatalf("Inspect gives a name of %d bytes", len(c.Name))
			}
		}
	})
}

func FuzzAuthorization(f *testing.F) {
	readers := make([]*sessioncookie.Reader, len(versions))
	for i, v := range versions {
		readers[i] = mustReader(f, sessioncookie.Config{Names: []string{testName}, Secrets: []string{testSecret}, Version: v, Bearer: true})
	}
	signed := sessioncookie.Sign(testToken, testSecret)
	f.Add("Bearer "+sessioncookie.Encode(signed), "")
	f.Add("bearer "+signed, cookieOf(testName, testToken, anotherSecret))
	f.Add("Bearer "+testToken, "theme=dark")
	f.Add("Bearer \"=;%", testName+"=")
	f.Fuzz(func(t *testing.T, authorization, cookie string) {
		for _, r := range readers {
			checkReading(t, r, r.FromHeaders(cookie, authorization))
		}
	})
}

func FuzzCookieValue(f *testing.F) {
	r := mustReader(f, sessioncookie.Config{Names: []string{testName}, Secrets: []string{testSecret}, AllowBareToken: true})
	f.Add(sessioncookie.Encode(sessioncookie.Sign(testToken, testSecret)))
	f.Add(`"` + sessioncookie.Sign("\u20ac", testSecret) + `"`)
	f.Add("%F0%9F%98%80." + strings.Repeat("A", 43) + "=")
	f.Fuzz(func(t *testing.T, value string) {
		checkReading(t, r, r.FromValue(value))
		if got := r.FromToken(value); got.Err == nil {
			checkReading(t, r, got)
			if got.Token != value {
				t.Fatalf("bare token %q became %q", value, got.Token)
			}
		}
	})
}
