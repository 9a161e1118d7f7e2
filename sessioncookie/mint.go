package sessioncookie

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	tokenChars    = 32
	tokenAlphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

	// maxCookieAge is the longest life that browsers give a cookie; the issuer
	// refuses to write more.
	maxCookieAge = 400 * 24 * time.Hour
)

// NewToken returns a new random session token like the issuer's: 32 characters
// of [A-Za-z0-9], about 190 bits.
func NewToken() string {
	// Bytes from 248 on are thrown away, else the first characters of the alphabet
	// would come up more often.
	const fair = 256 - 256%len(tokenAlphabet)
	token := make([]byte, 0, tokenChars)
	var random [2 * tokenChars]byte
	for {
		rand.Read(random[:]) // crashes the program rather than fail
		for _, b := range random {
			if int(b) < fair {
				token = append(token, tokenAlphabet[int(b)%len(tokenAlphabet)])
			}
			if len(token) == tokenChars {
				return string(token)
			}
		}
	}
}

// Sign returns "token.signature", the decoded form of a session cookie's value.
// The signature is HMAC-SHA256 over the token in padded standard base64.
func Sign(token, secret string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(token)) // a hash never returns an error
	return token + "." + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// Encode percent-encodes a value as the issuer writes it into a cookie:
// JavaScript's encodeURIComponent over UTF-8.
func Encode(value string) string {
	const (
		digits = "0123456789ABCDEF"
		plain  = "-_.!~*'()"
	)
	var b strings.Builder
	b.Grow(len(value) + 8)
	for i := range len(value) {
		c := value[i]
		alnum := (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z')
		if alnum || strings.IndexByte(plain, c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&15])
	}
	return b.String()
}

// Attributes are the attributes of a cookie to set. The issuer's defaults are
// Path "/", HTTPOnly, SameSite Lax, and Secure with secure cookies.
type Attributes struct {
	// MaxAge is cut to whole seconds and to 400 days. Zero writes no Max-Age: the
	// cookie ends with the browser. Negative writes Max-Age=0, which deletes it.
	MaxAge   time.Duration
	Domain   string
	Path     string
	HTTPOnly bool
	Secure   bool
	SameSite http.SameSite
}

// SetCookie returns the value of a Set-Cookie header that gives the browser the
// signed token, attributes in the issuer's order. Like the issuer it makes a
// cookie called "__Secure-..." or "__Host-..." secure, and binds the latter to
// path "/" and no domain, because browsers drop it otherwise. name, Domain and
// Path are written as they are: they must come from configuration, not from a
// request.
func SetCookie(name, token, secret string, a Attributes) string {
	switch {
	case hasPrefixFold(name, hostPrefix):
		a.Secure, a.Path, a.Domain = true, "/", ""
	case hasPrefixFold(name, securePrefix), a.SameSite == http.SameSiteNoneMode:
		a.Secure = true
	}
	var b strings.Builder
	b.WriteString(name + "=" + Encode(Sign(token, secret)))
	if a.MaxAge != 0 {
		seconds := max(0, min(a.MaxAge, maxCookieAge)) / time.Second
		b.WriteString("; Max-Age=" + strconv.FormatInt(int64(seconds), 10))
	}
	if a.Domain != "" {
		b.WriteString("; Domain=" + a.Domain)
	}
	if a.Path != "" {
		b.WriteString("; Path=" + a.Path)
	}
	if a.HTTPOnly {
		b.WriteString("; HttpOnly")
	}
	if a.Secure {
		b.WriteString("; Secure")
	}
	switch a.SameSite {
	case http.SameSiteLaxMode:
		b.WriteString("; SameSite=Lax")
	case http.SameSiteStrictMode:
		b.WriteString("; SameSite=Strict")
	case http.SameSiteNoneMode:
		b.WriteString("; SameSite=None")
	}
	return b.String()
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
