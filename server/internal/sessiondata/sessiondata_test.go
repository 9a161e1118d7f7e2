package sessiondata_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/server/internal/sessiondata"
	"github.com/sessiond/sessiond/sessioncookie"
)

const (
	testName   = "better-auth.session_data"
	testSecret = "a secret of the tests, which no deployment has"
)

func mustChecker(t testing.TB, version sessioncookie.Version, strategy string) *sessiondata.Checker {
	t.Helper()
	c, err := sessiondata.New(sessiondata.Config{
		Name: testName, Strategy: strategy, Version: version, Secrets: []string{testSecret},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mac(text string) string {
	h := hmac.New(sha256.New, []byte(testSecret))
	h.Write([]byte(text))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

func encode(text string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(text))
}

func TestNewRefuses(t *testing.T) {
	secrets := []string{testSecret}
	tests := []struct {
		name string
		cfg  sessiondata.Config
		want string
	}{
		{"no name", sessiondata.Config{Secrets: secrets}, "Name"},
		{"no secret", sessiondata.Config{Name: testName}, "Secrets"},
		{"empty secret", sessiondata.Config{Name: testName, Secrets: []string{""}}, "Secrets"},
		{"strategy", sessiondata.Config{Name: testName, Secrets: secrets, Strategy: "xml"}, "compact, jwt or jwe"},
		{"version", sessiondata.Config{Name: testName, Secrets: secrets, Version: 200}, "Version 200"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := sessiondata.New(tt.cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one that says %q", err, tt.want)
			}
		})
	}
}

// TestCompactText checks the text that the signature is over: the payload parsed
// and written again by JavaScript's rules.
func TestCompactText(t *testing.T) {
	tests := []struct{ name, payload, signed string }{
		{"as written", `"session":{"a":1},"expiresAt":5`, `{"a":1,"expiresAt":5}`},
		{"white space", ` "session" : { "a" : [ 1 , 2 ] } , "expiresAt":5`, `{"a":[1,2],"expiresAt":5}`},
		{"order of keys", `"session":{"b":1,"10":2,"2":3,"1":6,"30":7,"a":4,"01":5},"expiresAt":5`, `{"1":6,"2":3,"10":2,"30":7,"b":1,"a":4,"01":5,"expiresAt":5}`},
		{"key twice", `"session":{"a":1,"b":2,"a":3},"expiresAt":5`, `{"a":3,"b":2,"expiresAt":5}`},
		{"expiresAt inside", `"session":{"expiresAt":1,"a":2},"expiresAt":5`, `{"expiresAt":5,"a":2}`},
		{"no expiresAt", `"session":{"a":1}`, `{"a":1}`},
		{"no session", `"expiresAt":5`, `{"expiresAt":5}`},
		{"numbers", `"session":{"a":[1.50,1e3,-0,1E21,1e-7,123456789012345678901,1e999]}`, `{"a":[1.5,1000,0,1e+21,1e-7,123456789012345680000,null]}`},
		{"escapes", `"session":{"a":"\u0041\/\u2028<\u007f\u0001\n\u00e9"}`, "{\"a\":\"A/\u2028<\x7f\\u0001\\n\u00e9\"}"},
		{"halves of pairs", `"session":{"a":"x\ud83d","b":"\uDC00\ud83e\udd80\ud800\n\u20ac\ufffd","\udfff":1}`, `{"a":"x\ud83d","b":"\udc00🦀\ud800\n€` + "\ufffd" + `","\udfff":1}`},
		{"dates", `"session":{"a":"2026-01-31T10:00:00Z","b":"2026-02-31T24:00:00.000Z"}`, `{"a":"2026-01-31T10:00:00.000Z","b":"2026-03-04T00:00:00.000Z"}`},
		{"no dates", `"session":{"a":"2026-13-31T10:00:00Z","b":"2026-01-31 10:00:00Z"}`, `{"a":"2026-13-31T10:00:00Z","b":"2026-01-31 10:00:00Z"}`},
	}
	c := mustChecker(t, sessioncookie.V1_4, "")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			good := testName + "=" + encode(`{`+tt.payload+`,"signature":"`+mac(tt.signed)+`"}`)
			if c.Rejects(request(good), recordedAt) {
				t.Errorf("signature over %s does not verify", tt.signed)
			}
			bad := testName + "=" + encode(`{`+tt.payload+`,"signature":"`+mac(tt.signed+" ")+`"}`)
			if !c.Rejects(request(bad), recordedAt) {
				t.Error("signature over another text verifies")
			}
		})
	}
}

// TestCompactOfNoObject: the issuer signs objects. What it would make of a long string or
// an array is nothing to spend time on before the signature.
func TestCompactOfNoObject(t *testing.T) {
	c := mustChecker(t, sessioncookie.V1_4, "")
	for session, signed := range map[string]string{`"ab"`: `{"0":"a","1":"b","expiresAt":5}`, `[1]`: `{"0":1,"expiresAt":5}`} {
		if !c.Rejects(request(testName+"="+encode(`{"session":`+session+`,"expiresAt":5,"signature":"`+mac(signed)+`"}`)), recordedAt) {
			t.Errorf("%s verifies", session)
		}
	}
	long := request(testName + "=" + encode(`{"session":"`+strings.Repeat("x", 40_000)+`","signature":"`+mac("x")+`"}`))
	if n := testing.AllocsPerRun(10, func() { c.Rejects(long, recordedAt) }); n > 200 {
		t.Errorf("%v allocations for a cookie that nobody signed", n)
	}
}

// TestByVersion pins the rules that the package documentation lists.
func TestByVersion(t *testing.T) {
	forged := encode(`{"session":{"a":1},"expiresAt":5,"signature":"` + mac("something else") + `"}`)
	tests := []struct {
		name, cookie     string
		v1_3, v1_4, v1_6 bool
	}{
		{"no cookie", "theme=dark", false, false, false},
		{"empty", testName + "=", false, false, false},
		{"not JSON", testName + "=" + encode("garbage"), false, false, false},
		{"JSON null", testName + "=" + encode("null"), false, false, false},
		{"no signature", testName + "=" + encode(`{"session":{}}`), true, true, false},
		{"forged", testName + "=" + forged, true, true, false},
		{"not base64", testName + "=%25", true, true, true},
		{"signature not base64", testName + "=" + encode(`{"signature":"%"}`), true, true, true},
		{"signature not a string", testName + "=" + encode(`{"signature":5}`), true, true, true},
		{"nested too deeply", testName + "=" + encode(strings.Repeat("[", 2000)+strings.Repeat("]", 2000)), true, true, false},
		{"forged, in chunks", testName + ".1=" + forged[9:] + "; " + testName + ".0=" + forged[:9], false, true, false},
		{"chunk not base64", testName + ".0=*", false, true, true},
		{"chunk without a number", testName + ".x=*", false, false, false},
		{"chunk, space missing", "a=1;" + testName + ".0=*", false, false, true},
		{"whole before chunk", testName + "=" + encode("null") + "; " + testName + ".0=*", false, false, false},
		{"empty whole, then chunk", testName + "=; " + testName + ".0=*", false, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for version, want := range map[sessioncookie.Version]bool{
				sessioncookie.V1_2: tt.v1_3, sessioncookie.V1_3: tt.v1_3, sessioncookie.V1_4: tt.v1_4,
				sessioncookie.V1_6: tt.v1_6, sessioncookie.V1_7: false,
			} {
				if got := mustChecker(t, version, "").Rejects(request(tt.cookie), recordedAt); got != want {
					t.Errorf("%s: got %t, want %t", version, got, want)
				}
			}
		})
	}
}

func TestJWTClaims(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	const content = `"session":{"a":1},"user":{"b":2}`
	tests := []struct {
		name, payload string
		want          bool
	}{
		{"good", `{` + content + `,"iat":1799999990,"exp":1800000001}`, false},
		{"no expiry", `{` + content + `}`, false},
		{"expires now", `{` + content + `,"exp":1800000000}`, true},
		{"not yet", `{` + content + `,"nbf":1800000001}`, true},
		{"expiry is no number", `{` + content + `,"exp":"1800000001"}`, true},
		{"no user", `{"session":{"a":1}}`, true},
		{"falsy session", `{"session":0,"user":{"b":2}}`, true},
		{"not an object", `[]`, true},
		{"not UTF-8", "{" + content + ",\"x\":\"\xff\"}", true},
	}
	c := mustChecker(t, sessioncookie.V1_4, sessiondata.JWT)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			signed := encode(`{"alg":"HS256"}`) + "." + encode(tt.payload)
			if got := c.Rejects(request(testName+"="+signed+"."+mac(signed)), now); got != tt.want {
				t.Errorf("rejects: got %t, want %t", got, tt.want)
			}
		})
	}
}

// seal makes a jwe as RFC 7518, section 5.2.2.1 says, with the issuer's key.
func seal(t *testing.T, header func(keyID string) string, payload string) string {
	t.Helper()
	key, err := hkdf.Key(sha256.New, []byte(testSecret), []byte("better-auth-session"), "BetterAuth.js Generated Encryption Key", 64)
	if err != nil {
		t.Fatal(err)
	}
	id := sha256.Sum256([]byte(`{"k":"` + encode(string(key)) + `","kty":"oct"}`))
	aad := encode(header(encode(string(id[:]))))
	block, err := aes.NewCipher(key[32:])
	if err != nil {
		t.Fatal(err)
	}
	iv := make([]byte, aes.BlockSize)
	padding := aes.BlockSize - len(payload)%aes.BlockSize
	text := []byte(payload + strings.Repeat(string(rune(padding)), padding))
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(text, text)
	h := hmac.New(sha512.New, key[:32])
	h.Write([]byte(aad))
	h.Write(iv)
	h.Write(text)
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(8*len(aad))))
	return aad + ".." + encode(string(iv)) + "." + encode(string(text)) + "." + encode(string(h.Sum(nil)[:32]))
}

func TestJWE(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	const content = `{"session":{"a":1},"user":{"b":2}`
	good := func(id string) string { return `{"alg":"dir","enc":"A256CBC-HS512","kid":"` + id + `"}` }
	fixed := func(header string) func(string) string { return func(string) string { return header } }
	tests := []struct {
		name    string
		header  func(keyID string) string
		payload string
		want    bool
	}{
		{"good", good, content + `}`, false},
		{"no key id", fixed(`{"alg":"dir","enc":"A256CBC-HS512"}`), content + `}`, false},
		{"another key id", fixed(`{"alg":"dir","enc":"A256CBC-HS512","kid":"x"}`), content + `}`, true},
		{"key id null", fixed(`{"alg":"dir","enc":"A256CBC-HS512","kid":null}`), content + `}`, true},
		{"another algorithm", fixed(`{"alg":"A256KW","enc":"A256CBC-HS512"}`), content + `}`, true},
		{"another encryption", fixed(`{"alg":"dir","enc":"A128CBC-HS256"}`), content + `}`, true},
		{"within 15 seconds of its end", good, content + `,"exp":1799999986}`, false},
		{"15 seconds after its end", good, content + `,"exp":1799999985}`, true},
		{"end in the past century", good, content + `,"exp":-2147483648}`, true},
		{"no user", good, `{"session":{"a":1}}`, true},
	}
	c := mustChecker(t, sessioncookie.V1_4, sessiondata.JWE)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := c.Rejects(request(testName+"="+seal(t, tt.header, tt.payload)), now); got != tt.want {
				t.Errorf("rejects: got %t, want %t", got, tt.want)
			}
		})
	}
}

// TestGoodFor: whoever keeps an answer must not keep it past the cookie's expiry.
func TestGoodFor(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	expiring := encode(`{"alg":"HS256"}`) + "." + encode(`{"session":{"a":1},"user":{"b":2},"exp":1800000100}`)
	header := testName + "=" + expiring + "." + mac(expiring)
	sealed := testName + "=" + seal(t, func(id string) string { return `{"alg":"dir","enc":"A256CBC-HS512","kid":"` + id + `"}` }, `{"session":{"a":1},"user":{"b":2},"exp":1800000099.5}`)
	tests := []struct {
		name     string
		version  sessioncookie.Version
		strategy string
		header   string
		want     time.Duration
	}{
		{"expires within, and the clocks' tolerance", sessioncookie.V1_4, sessiondata.JWE, sealed, 115 * time.Second},
		{"expires within", sessioncookie.V1_4, sessiondata.JWT, header, 100 * time.Second},
		{"later issuers go on", sessioncookie.V1_6, sessiondata.JWT, header, 5 * time.Minute},
		{"no such cookie", sessioncookie.V1_4, sessiondata.JWT, "theme=dark", 5 * time.Minute},
		{"compact has no expiry here", sessioncookie.V1_4, sessiondata.Compact, "theme=dark", 5 * time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := mustChecker(t, tt.version, tt.strategy)
			got := c.GoodFor(request(tt.header), now, 5*time.Minute)
			if got > tt.want || got < tt.want-time.Millisecond {
				t.Errorf("got %v, want at most %v", got, tt.want)
			}
			if got < 5*time.Minute && (c.Rejects(request(tt.header), now.Add(got)) || !c.Rejects(request(tt.header), now.Add(tt.want))) {
				t.Error("rejected before its time, or not then")
			}
			once := testing.AllocsPerRun(10, func() { c.Rejects(request(tt.header), now) })
			if all := testing.AllocsPerRun(10, func() { c.GoodFor(request(tt.header), now, 5*time.Minute) }); all > 2*once {
				t.Errorf("%v allocations, where reading it once takes %v", all, once)
			}
		})
	}
}

func request(cookie string) sessiondata.Request { return sessiondata.Request{Cookie: cookie} }
