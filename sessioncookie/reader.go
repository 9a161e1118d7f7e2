package sessioncookie

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

const (
	// DefaultMaxBytes is the limit that a zero [Config.MaxBytes] stands for.
	DefaultMaxBytes = 64 << 10

	minSecretBytes = 32
)

// Config says how the issuer is configured and what to accept. [New] copies it.
type Config struct {
	// Names are the names of the session cookie, in strict precedence: the first
	// of them that is present in a header decides, good or bad. At least one. A
	// bearer token goes by the first.
	Names []string

	// Secrets are accepted; the first is the issuer's current one. At least one,
	// each of 32 bytes or more. A secret is text and is used as its bytes, never
	// base64-decoded.
	Secrets []string

	// Retired secrets are recognised, so that [ErrRetiredSecret] tells an old
	// cookie from a forged one. They may be of any length but zero.
	Retired []string

	// Version is the issuer's release line; zero means [Current].
	Version Version

	// Bearer says that the issuer's bearer plugin is on: Authorization is read by
	// the rules of Version.
	Bearer bool

	// BearerRequireSignature is the plugin's requireSignature: bare tokens in
	// Authorization are refused with [ErrUnsigned].
	BearerRequireSignature bool

	// AllowBareToken lets [Reader.FromToken] accept. It has no bearing on
	// Authorization.
	AllowBareToken bool

	// MaxBytes bounds Cookie and Authorization taken together; 0 means
	// [DefaultMaxBytes].
	MaxBytes int
}

// Source says what decided a [Reading].
type Source uint8

// What can decide a [Reading].
const (
	SourceNone   Source = iota // no credential was found
	SourceCookie               // a session cookie, or a Cookie header that no parser takes
	SourceBearer               // the Authorization header
	SourceToken                // a bare token given as such
)

// Reading is the outcome of reading one credential.
type Reading struct {
	// Token is the verified session token in UTF-8; empty unless Err is nil. It
	// does not alias the header.
	Token string

	// Err is nil, or one of the sentinels of this package.
	Err error

	// Source says what decided.
	Source Source

	// Name is the cookie name that decided, one of [Config.Names]; for a bearer
	// token the name it is taken for. Empty where no name was involved.
	Name string

	// Secret is the index in [Config.Secrets] of the secret that made the
	// signature, -1 if none did.
	Secret int

	// Signed is true if the credential carried a good signature; it is false for
	// a bare token that was accepted.
	Signed bool
}

// Reader reads credentials. It is safe for concurrent use.
type Reader struct {
	names            []string
	version          Version
	accepted         int // the first so many MACs of a scratch are of Secrets
	bearer           bool
	requireSignature bool
	allowBareToken   bool
	maxBytes         int
	pool             sync.Pool // of *scratch
}

// New validates cfg. Its errors name the field, the index and the remedy, and
// never a secret.
func New(cfg Config) (*Reader, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	secrets, retired := slices.Clone(cfg.Secrets), slices.Clone(cfg.Retired)
	r := &Reader{
		names:            slices.Clone(cfg.Names),
		version:          cfg.Version,
		accepted:         len(secrets),
		bearer:           cfg.Bearer,
		requireSignature: cfg.BearerRequireSignature,
		allowBareToken:   cfg.AllowBareToken,
		maxBytes:         cfg.MaxBytes,
	}
	if r.version == 0 {
		r.version = Current
	}
	if r.maxBytes == 0 {
		r.maxBytes = DefaultMaxBytes
	}
	r.pool.New = func() any { return newScratch(secrets, retired) }
	return r, nil
}

func (cfg Config) validate() error {
	if len(cfg.Names) == 0 {
		return errors.New("sessioncookie: no cookie name: set at least one in Names")
	}
	for i, name := range cfg.Names {
		if !isCookieName(name) {
			return fmt.Errorf("sessioncookie: Names[%d] %q is not a cookie name: use letters, digits and !#$%%&'*+-.^_`|~", i, name)
		}
		if slices.Contains(cfg.Names[:i], name) {
			return fmt.Errorf("sessioncookie: Names[%d] %q is listed twice: keep the first", i, name)
		}
	}
	if len(cfg.Secrets) == 0 {
		return errors.New("sessioncookie: no secret: set at least the issuer's current one in Secrets")
	}
	for i, secret := range cfg.Secrets {
		if len(secret) < minSecretBytes {
			return fmt.Errorf("sessioncookie: Secrets[%d] has %d bytes: use at least %d", i, len(secret), minSecretBytes)
		}
		if !utf8.ValidString(secret) {
			return fmt.Errorf("sessioncookie: Secrets[%d] is not UTF-8: copy it as the text the issuer has", i)
		}
	}
	for i, secret := range cfg.Retired {
		if secret == "" {
			return fmt.Errorf("sessioncookie: Retired[%d] is empty: remove it", i)
		}
		if slices.Contains(cfg.Secrets, secret) {
			return fmt.Errorf("sessioncookie: Retired[%d] is also in Secrets: remove it from one of them", i)
		}
	}
	if cfg.Version > Current {
		return fmt.Errorf("sessioncookie: Version %d is not known: use one of %s", cfg.Version, supportedVersions)
	}
	if cfg.MaxBytes < 0 {
		return fmt.Errorf("sessioncookie: MaxBytes is %d: use 0 for the default of %d, or a positive number", cfg.MaxBytes, DefaultMaxBytes)
	}
	return nil
}

// FromRequest reads the Cookie and Authorization headers of req. Several Cookie
// headers count as one joined with "; ", and of several Authorization headers
// the first counts, as the issuer's runtime has it.
func (r *Reader) FromRequest(req *http.Request) Reading {
	cookie := req.Header["Cookie"]
	if len(cookie) == 1 {
		return r.FromHeaders(cookie[0], req.Header.Get("Authorization"))
	}
	return r.FromHeaders(strings.Join(cookie, "; "), req.Header.Get("Authorization"))
}

// FromHeaders reads the values of a Cookie and an Authorization header. An empty
// string stands for an absent header; to the issuer that is the same.
func (r *Reader) FromHeaders(cookie, authorization string) Reading {
	if len(cookie)+len(authorization) > r.maxBytes {
		return refused(ErrTooLarge)
	}
	if hasControl(cookie) {
		return Reading{Err: ErrMalformed, Source: SourceCookie, Secret: noSecret}
	}
	if hasControl(authorization) {
		return Reading{Err: ErrMalformed, Source: SourceBearer, Secret: noSecret}
	}
	if !r.bearer || authorization == "" {
		return r.fromCookies(cookie)
	}
	if r.version <= V1_4 {
		return r.bearerUnlessCookie(cookie, authorization)
	}
	return r.bearerOverCookie(cookie, authorization)
}

// FromValue reads the value of a session cookie alone, as it stood in the header
// ([Find] returns it). A value with a ";" cannot have stood there and is
// malformed.
func (r *Reader) FromValue(value string) Reading {
	if len(value) > r.maxBytes {
		return refused(ErrTooLarge)
	}
	if hasControl(value) || strings.IndexByte(value, ';') >= 0 {
		return Reading{Err: ErrMalformed, Source: SourceCookie, Secret: noSecret}
	}
	reading := r.openValue(trim(value))
	reading.Source = SourceCookie
	return reading
}

// FromToken takes a bare token for what it is: nothing is trimmed, decoded or
// verified. It is refused with [ErrUnsigned] unless [Config.AllowBareToken].
func (r *Reader) FromToken(token string) Reading {
	reading := Reading{Source: SourceToken, Secret: noSecret}
	switch {
	case token == "":
		return refused(ErrNoCredential)
	case !r.allowBareToken:
		reading.Err = ErrUnsigned
	case len(token) > r.maxBytes:
		reading.Err = ErrTooLarge
	case hasControl(token) || !utf8.ValidString(token):
		reading.Err = ErrMalformed
	default:
		reading.Token = strings.Clone(token)
	}
	return reading
}

// fromCookies lets the first configured name that the header carries decide.
func (r *Reader) fromCookies(header string) Reading {
	best, value := r.find(header)
	if best == len(r.names) {
		return refused(ErrNoCredential)
	}
	reading := r.openValue(value)
	reading.Source, reading.Name = SourceCookie, r.names[best]
	return reading
}

// find returns the index of the first configured name that is present, and the
// value of the first cookie of that name; len(r.names) if none is.
func (r *Reader) find(header string) (best int, value string) {
	best = len(r.names)
	scan := cookieScan{rest: header}
	for best > 0 {
		name, val, ok := scan.next()
		if !ok {
			break
		}
		// Only a name of higher precedence can take over, so of several cookies of
		// one name the first stays.
		if i := slices.Index(r.names[:best], name); i >= 0 {
			best, value = i, val
		}
	}
	return best, value
}

// openValue verifies a cookie value that was trimmed but not unquoted. An empty
// one is no credential to the issuer.
func (r *Reader) openValue(value string) Reading {
	value = unquote(value)
	if value == "" {
		return refused(ErrNoCredential)
	}
	s := r.pool.Get().(*scratch)
	defer r.release(s)
	if needsDecoding(value) {
		s.buf = appendDecoded(s.buf[:0], value)
	} else {
		s.buf = append(s.buf[:0], value...)
	}
	return r.open(s, s.buf)
}

func (r *Reader) release(s *scratch) {
	clear(s.buf)
	if cap(s.buf) > keptScratch {
		s.buf = nil
	}
	r.pool.Put(s)
}

// isCookieName reports whether s is a token of RFC 9110, section 5.6.2.
func isCookieName(s string) bool {
	for i := range len(s) {
		b := s[i]
		alnum := (b >= '0' && b <= '9') || (b >= 'A' && b <= 'Z') || (b >= 'a' && b <= 'z')
		if !alnum && strings.IndexByte("!#$%&'*+-.^_`|~", b) < 0 {
			return false
		}
	}
	return s != ""
}
