// Package sessiondata reads the issuer's cookie cache, the signed session_data cookie.
// It answers two questions, and looks nothing up:
//
// What does the cookie say ([Checker.Open])? That is the session where the issuer has
// no store ("stateless session management", from 1.4 on), and elsewhere a hint.
//
// Would the issuer refuse a request with a good session because of that cookie, even
// when asked with disableCookieCache=true ([Checker.Rejects])? The issuer reads the
// cookie whether or not its cookie cache is enabled, so there is nothing to switch on
// there. What it does by release line:
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
	"math"
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

	// Secrets are the issuer's; the first, which is the current one, verifies. From
	// 1.6 on a jwe opens by any of them.
	Secrets []string

	// CacheVersion is session.cookieCache.version; empty means "1". Issuers before 1.4
	// have none.
	CacheVersion string

	// Keys are the public keys of the issuer's jwt plugin where that signs the cookie
	// (jwt({ sessionCookieCache: true }), from 1.7 on); nil: the secret does.
	Keys []Key

	// Origin is the issuer's, which a cookie signed by its jwt plugin names; empty: any.
	Origin string

	// Bind has the cookie count for the token it was made with only, whatever the
	// version. Issuers from 1.7 on do so by themselves.
	Bind bool
}

// Request is what of a request Open and Rejects look at.
type Request struct {
	// Cookie is the Cookie header. It has to be one that the HTTP parser takes, as
	// sessioncookie ensures.
	Cookie string

	// Bearer says that the token came in the Authorization header. Issuers from 1.6 on
	// then write the Cookie header anew before they read it.
	Bearer bool

	// Token is the verified token. Only Open needs it.
	Token string
}

// Checker holds a Config ready for use. It is safe for concurrent use.
type Checker struct {
	name     string
	strategy string
	version  sessioncookie.Version
	secret   []byte
	jwe      []jweKey
	keys     []Key
	origin   string
	expected string // of the cookie's version
	bound    bool
}

// jweKey is what a secret encrypts with.
type jweKey struct {
	id  string
	key []byte
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
	if len(cfg.Keys) > 0 && (c.version < sessioncookie.V1_7 || c.strategy != JWT) {
		return nil, errors.New("sessiondata: Keys are of the issuer's jwt plugin, which signs with strategy jwt from version 1.7 on: leave them out")
	}
	c.keys, c.origin = cfg.Keys, cfg.Origin
	if c.expected = cfg.CacheVersion; c.expected == "" {
		c.expected = "1"
	}
	c.bound = cfg.Bind || c.version >= sessioncookie.V1_7
	secrets := cfg.Secrets
	if c.version < sessioncookie.V1_6 {
		secrets = secrets[:1]
	}
	for _, secret := range secrets {
		key, err := hkdf.Key(sha256.New, []byte(secret), []byte(jweSalt), jweInfo, jweKeyBytes)
		if err != nil {
			return nil, fmt.Errorf("sessiondata: derive the jwe key: %w", err)
		}
		c.jwe = append(c.jwe, jweKey{id: thumbprint(key), key: key})
	}
	return c, nil
}

// Strategy is the one that the cookie is read by.
func (c *Checker) Strategy() string { return c.strategy }

// thumbprint is the key id of RFC 7638 for a symmetric key.
func thumbprint(key []byte) string {
	sum := sha256.Sum256([]byte(`{"k":"` + base64.RawURLEncoding.EncodeToString(key) + `","kty":"oct"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Rejecting reports whether issuers of this configuration may refuse a session by its
// session_data cookie though their cache is off.
func (cfg Config) Rejecting() bool { return cfg.Version != 0 && cfg.Version < sessioncookie.V1_7 }

// Rejects reports whether the issuer, asked at now with disableCookieCache=true,
// would refuse a request, or crash on it, because of its session_data cookie,
// although the session cookie is good.
//
// Nesting deeper than 1000 levels counts as not verified.
func (c *Checker) Rejects(r Request, now time.Time) bool {
	if c.version >= sessioncookie.V1_7 {
		return false
	}
	data, _ := c.find(r)
	if data == "" {
		return false
	}
	verdict := c.check(data, now)
	if c.version >= sessioncookie.V1_6 {
		return verdict == crashes
	}
	return verdict == crashes || verdict == unverified
}

// GoodFor returns for how much of a time to come a request that is not rejected now
// stays so: session_data of the strategies jwt and jwe expires, and issuers before 1.6
// then refuse the session.
func (c *Checker) GoodFor(r Request, now time.Time, horizon time.Duration) time.Duration {
	if c.strategy == Compact || c.version >= sessioncookie.V1_6 {
		return horizon
	}
	data, _ := c.find(r)
	if data == "" {
		return horizon
	}
	read, slack, state := c.claims(data)
	exp := read.get("exp")
	if state != Good || exp.kind != kindNumber {
		return horizon
	}
	over := instantOf(math.Ceil(exp.number+slack.Seconds()) * 1000) // see timely
	return max(0, min(horizon, over.Sub(now)-time.Millisecond))
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
	case JWT, JWE:
		claims, tolerance, state := c.claims(data)
		if state != Good || !claims.timely(now, tolerance) {
			return unverified
		}
		return verified
	default:
		_, v := c.readCompact(data)
		return v
	}
}
