// Package sessiondata answers one question about the issuer's cookie cache: would
// it refuse a request with a good session because of the session_data cookie
// beside it, even when asked with disableCookieCache=true?
//
// The issuer reads that cookie whether or not its cookie cache is enabled, so
// there is nothing to switch on here. What it does by release line:
//
//   - 1.2 and 1.3 know the compact strategy and whole cookies only. A payload that
//     is JSON and does not verify refuses the session. One that is not JSON is
//     ignored. One that is not base64 crashes the request.
//   - 1.4 adds the strategies jwt and jwe, and chunks. A jwt or jwe that does not
//     verify, or has expired, refuses the session; compact is as before, and its
//     expiry is of no account.
//   - 1.6 ignores what does not verify. A compact payload, or the signature in it,
//     that is not base64 still crashes the request.
//   - 1.7 does not look at the cookie when the cache is disabled.
//
// A crash (HTTP 500) and a refusal are one to the caller: no session.
package sessiondata

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/sessiond/sessiond/sessioncookie"
)

// The values of the issuer's session.cookieCache.strategy.
const (
	Compact = "compact"
	JWT     = "jwt"
	JWE     = "jwe"
)

const (
	jweKeyBytes = 64
	jweSalt     = "better-auth-session"
	jweInfo     = "BetterAuth.js Generated Encryption Key"
)

// Config says how the issuer is configured.
type Config struct {
	// Name is the effective name of the session_data cookie.
	Name string

	// Strategy is session.cookieCache.strategy; empty means compact. 1.2 and 1.3
	// do not know the option and use compact whatever it says.
	Strategy string

	// Version is the issuer's release line; zero means the current one.
	Version sessioncookie.Version

	// Secrets are the issuer's; the first, which is the current one, verifies.
	Secrets []string
}

// Checker holds a Config ready for use. It is safe for concurrent use.
type Checker struct {
	name     string
	strategy string
	version  sessioncookie.Version
	secret   []byte
	jweKey   []byte
	jweKeyID string
}

// New validates cfg. Its errors name the field and the remedy, never a secret.
func New(cfg Config) (*Checker, error) {
	if cfg.Name == "" {
		return nil, errors.New("sessiondata: Name is empty: set the name of the session_data cookie")
	}
	if len(cfg.Secrets) == 0 || cfg.Secrets[0] == "" {
		return nil, errors.New("sessiondata: no secret: set the issuer's current one as the first of Secrets")
	}
	if cfg.Version > sessioncookie.Current {
		return nil, fmt.Errorf("sessiondata: Version %d is not known: use one that sessioncookie defines", cfg.Version)
	}
	c := &Checker{name: cfg.Name, strategy: cfg.Strategy, version: cfg.Version, secret: []byte(cfg.Secrets[0])}
	if c.version == 0 {
		c.version = sessioncookie.Current
	}
	switch c.strategy {
	case Compact, JWT, JWE:
	case "":
		c.strategy = Compact
	default:
		return nil, fmt.Errorf("sessiondata: Strategy %q is not known: use compact, jwt or jwe", cfg.Strategy)
	}
	if c.version < sessioncookie.V1_4 {
		c.strategy = Compact
	}
	key, err := hkdf.Key(sha256.New, c.secret, []byte(jweSalt), jweInfo, jweKeyBytes)
	if err != nil {
		return nil, fmt.Errorf("sessiondata: derive the jwe key: %w", err)
	}
	c.jweKey, c.jweKeyID = key, thumbprint(key)
	return c, nil
}

// thumbprint is the key id of RFC 7638 for a symmetric key.
func thumbprint(key []byte) string {
	sum := sha256.Sum256([]byte(`{"k":"` + base64.RawURLEncoding.EncodeToString(key) + `","kty":"oct"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Rejects reports whether the issuer, asked at now with disableCookieCache=true,
// would refuse a request with this Cookie header, or crash on it, because of its
// session_data cookie, although the session cookie is good. The header must be
// one that the HTTP parser takes, as sessioncookie ensures.
//
// Nesting deeper than 1000 levels counts as not verified.
func (c *Checker) Rejects(cookieHeader string, now time.Time) bool {
	if c.version >= sessioncookie.V1_7 {
		return false
	}
	data := c.find(cookieHeader)
	if data == "" {
		return false
	}
	verdict := c.check(data, now)
	if c.version >= sessioncookie.V1_6 {
		return verdict == crashes
	}
	return verdict == crashes || verdict == unverified
}

// GoodFor returns for how much of a time to come a Cookie header that is not
// rejected now stays so, rounded down to a second: session_data of the strategies
// jwt and jwe expires, and issuers before 1.6 then refuse the session.
func (c *Checker) GoodFor(cookieHeader string, now time.Time, horizon time.Duration) time.Duration {
	if c.strategy == Compact || c.version >= sessioncookie.V1_6 || !c.Rejects(cookieHeader, now.Add(horizon)) {
		return horizon
	}
	good, bad := time.Duration(0), horizon
	for bad-good > time.Second {
		if middle := (good + bad) / 2; c.Rejects(cookieHeader, now.Add(middle)) {
			bad = middle
		} else {
			good = middle
		}
	}
	return good
}

// verdict is what the issuer makes of session data.
type verdict int

const (
	verified   verdict = iota
	ignored            // not JSON, or JSON without content
	unverified         // does not verify, or has expired where that matters
	crashes            // throws before it can be verified
)

func (c *Checker) check(data string, now time.Time) verdict {
	switch c.strategy {
	case JWT:
		return c.checkJWT(data, now)
	case JWE:
		return c.checkJWE(data, now)
	default:
		return c.checkCompact(data)
	}
}
