package client

import (
	"fmt"
	"io"
	"log/slog"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
)

// Credential is what a caller presented, not yet verified. The zero Credential
// means that nothing was presented. It prints redacted, but for one place where
// fmt asks nobody: in an unexported field of a struct that is printed.
type Credential struct {
	form                  form
	cookie, authorization string // formHeaders
	value                 string // the other forms
}

type form uint8

const (
	formHeaders form = iota
	formCookieValue
	formToken
)

const redacted = "client.Credential(redacted)"

// FromHeaders returns the credential of a request: the values of its Cookie
// header (several joined with "; ") and of its Authorization header, as they
// came. An empty value means that there was no such header.
func FromHeaders(cookie, authorization string) Credential {
	return Credential{cookie: cookie, authorization: authorization}
}

// CookieValue returns a credential made of the session cookie's value alone, as
// it stood in the Cookie header: neither decoded nor split.
func CookieValue(value string) Credential {
	return Credential{form: formCookieValue, value: value}
}

// Token returns a credential made of a bare token, as the database holds it. The
// authority refuses it as UNSIGNED_NOT_ALLOWED unless it is configured to take
// unsigned tokens.
func Token(token string) Credential {
	return Credential{form: formToken, value: token}
}

// IsZero reports whether nothing was presented.
func (c Credential) IsZero() bool {
	return c.cookie == "" && c.authorization == "" && c.value == ""
}

// Headers returns what [FromHeaders] was given, for whoever passes the credential
// on; empty for the other forms. The values are secrets.
func (c Credential) Headers() (cookie, authorization string) {
	return c.cookie, c.authorization
}

// String returns a fixed text without the credential.
func (c Credential) String() string { return redacted }

// GoString returns a fixed text without the credential.
func (c Credential) GoString() string { return redacted }

// Format writes a fixed text without the credential, whatever the verb.
func (c Credential) Format(state fmt.State, _ rune) {
	_, _ = io.WriteString(state, redacted) // a fmt.State does not fail
}

// LogValue returns a fixed text without the credential.
func (c Credential) LogValue() slog.Value { return slog.StringValue(redacted) }

func (c Credential) size() int { return len(c.cookie) + len(c.authorization) + len(c.value) }

func (c Credential) proto() *sessiondv1.Credential {
	switch c.form {
	case formCookieValue:
		return &sessiondv1.Credential{Kind: &sessiondv1.Credential_CookieValue{CookieValue: []byte(c.value)}}
	case formToken:
		return &sessiondv1.Credential{Kind: &sessiondv1.Credential_Token{Token: []byte(c.value)}}
	}
	headers := &sessiondv1.Headers{}
	if c.cookie != "" {
		headers.Cookie = []byte(c.cookie)
	}
	if c.authorization != "" {
		headers.Authorization = []byte(c.authorization)
	}
	return &sessiondv1.Credential{Kind: &sessiondv1.Credential_Headers{Headers: headers}}
}
