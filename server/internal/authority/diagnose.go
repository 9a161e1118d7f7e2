package authority

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/sessiond/sessiond/sessioncookie"
)

// Advice is a likely cause of a verdict and what would change it.
type Advice struct {
	// Fault names the cause.
	Fault Fault `json:"fault"`
	// Cause says it in a sentence.
	Cause string `json:"cause"`
	// Setting is the setting to change, with its value where that is known, or
	// "none: " and what to do elsewhere. Empty: nothing is to be done.
	Setting string `json:"setting,omitempty"`
}

// The settings that advice names.
const (
	setNames   = "issuer.base_url or issuer.use_secure_cookies"
	setSecret  = "issuer.secret_file"
	asIssued   = "none: send the cookie as the issuer set it"
	anIssuers  = "; the issuer refuses it too"
	defaultKey = "better-auth-secret-12345678901234567890" // Better Auth's, where none is set: utils/constants
)

// diagnosis looks for what is wrong with a credential that did not verify, by its
// form and by trying what is usually done to one. It asks no store.
type diagnosis struct {
	*Authority
	credential Credential
	reading    sessioncookie.Reading
	reason     Reason
	cookies    []sessioncookie.Cookie
}

// advise returns likely causes, the likeliest first.
func (d *diagnosis) advise() []Advice {
	switch d.reason {
	case ReasonNoCredential:
		return d.notThere()
	case ReasonMalformed:
		if out := slices.Concat(d.headers(), d.repaired()); out != nil {
			return out
		}
		return append(d.shadowed(verified), d.misshapen()...)
	case ReasonBadSignature:
		if out := d.repaired(); out != nil {
			return out
		}
		return append(d.shadowed(verified), d.forged()...)
	case ReasonRetiredSecret:
		return append(d.shadowed(verified), Advice{FaultSecretRetired, "the cookie was signed before the last rotation" + anIssuers, "issuer.accept_retired_secrets = true, until the last such session is over"})
	case ReasonUnsignedNotAllowed:
		if d.reading.Source == sessioncookie.SourceBearer {
			return []Advice{{FaultBearerUnsigned, "a bare token was sent as bearer, and the issuer's plugin is said to require signatures", "issuer.bearer_require_signature = false, if the issuer's bearer plugin has no requireSignature"}}
		}
		return []Advice{{FaultBareToken, "a worker sent a bare token of the database, where a signed credential is wanted", "issuer.allow_bare_tokens = true, if workers are to be trusted with tokens; else send the headers as they came"}}
	default:
		return nil
	}
}

// verifies reports whether a cookie value, decoded, is a signed token.
func (d *diagnosis) verifies(decoded string) bool {
	return d.reader.FromValue(sessioncookie.Encode(decoded)).Err == nil
}

// value is the credential as it was read: the cookie's or the bearer's value, decoded.
func (d *diagnosis) value() string {
	switch {
	case d.credential.Form == FormCookieValue:
		return sessioncookie.Decode(d.credential.Value)
	case d.reading.Source == sessioncookie.SourceBearer:
		return sessioncookie.Decode(bearerValue(d.credential.Authorization))
	}
	value, _ := sessioncookie.Find(d.credential.Cookie, d.reading.Name)
	return sessioncookie.Decode(value)
}

func bearerValue(authorization string) string {
	const scheme = "bearer "
	if len(authorization) >= len(scheme) && strings.EqualFold(authorization[:len(scheme)], scheme) {
		authorization = authorization[len(scheme):]
	}
	return strings.TrimSpace(authorization)
}

// headers names what is wrong with the headers as such.
func (d *diagnosis) headers() []Advice {
	switch {
	case errors.Is(d.reading.Err, sessioncookie.ErrTooLarge):
		return []Advice{{FaultHeaderTooLarge, fmt.Sprintf("the headers have %d bytes, and no more than %d are read", len(d.credential.Cookie)+len(d.credential.Authorization)+len(d.credential.Value), d.intake.MaxCredentialBytes), "limits.max_credential_bytes"}}
	case strings.ContainsFunc(d.credential.Cookie+d.credential.Authorization+d.credential.Value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
		return []Advice{{FaultHeaderControl, "there is a control byte in it, such as a line break, which no HTTP parser lets through" + anIssuers, "none: take out the line breaks; a header copied from a terminal is often wrapped"}}
	}
	return nil
}

// repair undoes what is often done to a signed value on its way.
type repair struct {
	fault Fault
	cause string
	undo  func(d *diagnosis, value string) string
}

var repairs = []repair{
	{FaultEncodedTwice, "the value was percent-encoded twice: something copied the encoded value of a Set-Cookie into a cookie of its own", func(_ *diagnosis, v string) string {
		once, err := url.PathUnescape(v)
		if err != nil {
			return v
		}
		return once
	}},
	{FaultPlusToSpace, "a + of the signature became a space: the value was decoded as a form (QueryUnescape, parse_qs), not as a cookie", func(_ *diagnosis, v string) string { return strings.ReplaceAll(v, " ", "+") }},
	{FaultURLSafe, "the signature is in the URL-safe alphabet of base64: something decoded and encoded it again", func(_ *diagnosis, v string) string {
		token, signature := cutSignature(v)
		if !strings.ContainsAny(signature, "-_") {
			return v
		}
		return token + "." + pad(strings.NewReplacer("-", "+", "_", "/").Replace(signature))
	}},
	{FaultUnpadded, "the = at the end of the signature is missing: something split the cookie at =, or trimmed it", func(_ *diagnosis, v string) string { return pad(v) }},
	{FaultHex, "the signature is in hexadecimal: it was made by another signer than the issuer, which writes base64", func(_ *diagnosis, v string) string {
		token, signature := cutSignature(v)
		mac, err := hex.DecodeString(signature)
		if err != nil {
			return v
		}
		return token + "." + base64.StdEncoding.EncodeToString(mac)
	}},
	{FaultQuotesEncoded, "the value has quotes that were encoded with it", func(_ *diagnosis, v string) string { return strings.Trim(v, `"'`) }},
	{FaultSpaceEncoded, "the value has spaces or a line break that were encoded with it", func(_ *diagnosis, v string) string { return strings.Join(strings.Fields(v), "") }},
	{FaultNameInValue, "the value begins with the cookie's name: name=value was set as the value", func(d *diagnosis, v string) string {
		return sessioncookie.Decode(strings.TrimPrefix(v, d.reading.Name+"="))
	}},
	{FaultBearerInCookie, "the value begins with Bearer: an Authorization header was set as a cookie", func(_ *diagnosis, v string) string { return sessioncookie.Decode(bearerValue(v)) }},
	{FaultExpressPrefix, "the value begins with s:, as Express's cookie-parser writes signed cookies", func(_ *diagnosis, v string) string { return strings.TrimPrefix(v, "s:") }},
	{FaultKeyPrefix, "the token has a prefix, as it has in a key of Redis", func(_ *diagnosis, v string) string { return v[strings.LastIndexByte(v, ':')+1:] }},
	{FaultEscaped, `the value is escaped for JSON or HTML (\/, \u003d, &#x3D;)`, func(_ *diagnosis, v string) string {
		return strings.NewReplacer(`\/`, "/", `\u003d`, "=", `\u003D`, "=", `\u002b`, "+", `\u002B`, "+", "&#x3D;", "=", "&#61;", "=", "&#43;", "+").Replace(v)
	}},
}

func cutSignature(value string) (token, signature string) {
	dot := strings.LastIndexByte(value, '.')
	return value[:max(dot, 0)], value[dot+1:]
}

func pad(s string) string { return strings.TrimRight(s, "=") + "=" }

// repaired names what was done to a value that verifies when it is undone.
func (d *diagnosis) repaired() []Advice {
	value := d.value()
	for _, r := range repairs {
		if undone := r.undo(d, value); undone != value && d.verifies(undone) {
			setting := asIssued
			if r.fault == FaultEncodedTwice {
				setting = "none: copy the decoded value, or let the browser keep the issuer's cookie"
			}
			return []Advice{{r.fault, r.cause + anIssuers, setting}}
		}
	}
	return nil
}

func verified(r sessioncookie.Reading) bool { return r.Err == nil }

// shadowed names the credential beside the one that counts, if it is good.
func (d *diagnosis) shadowed(good func(sessioncookie.Reading) bool) []Advice {
	if d.credential.Form != FormHeaders {
		return nil
	}
	cookie := d.reading.Source == sessioncookie.SourceCookie
	var same, other string
	for name, value := range sessioncookie.All(d.credential.Cookie) {
		if !slices.Contains(d.cfg.Cookies.Names, name) || !good(d.reader.FromValue(value)) {
			continue
		}
		if name == d.reading.Name {
			same = name
		} else {
			other = cmp.Or(other, name)
		}
	}
	switch {
	case !cookie && (same != "" || other != ""):
		return []Advice{{FaultBearerOverCookie, fmt.Sprintf("cookie %s would do, and the bearer beside it counts: issuers from 1.6 on let a signed bearer replace the cookie", cmp.Or(same, other)), "none: send one of the two"}}
	case same != "":
		return []Advice{{FaultShadowed, fmt.Sprintf("a later cookie %s would do, and the first of a name counts, for the issuer too: there are two, of another Path or Domain", same), "none: delete the older cookie, under the Path and Domain with which it was set"}}
	case other != "":
		return []Advice{{FaultPrecedence, fmt.Sprintf("cookie %s would do, and %s is read before it: of several names the first that is present decides", other, d.reading.Name), "issuer.cookie_names, in another order; or delete the old cookie"}}
	case cookie && d.cfg.Cookies.Bearer && good(d.reader.FromHeaders("", d.credential.Authorization)):
		return []Advice{{FaultCookieOverBearer, fmt.Sprintf("the bearer would do, and cookie %s counts: issuers up to 1.4 let a cookie win", d.reading.Name), `none: send one of the two; or issuer.version = "1.7", if the issuer is newer`}}
	}
	return nil
}

// misshapen says what a value is that is no signed token.
func (d *diagnosis) misshapen() []Advice {
	value := d.value()
	token, signature := cutSignature(value)
	other := Advice{FaultMisshapen, "the value is not token.signature with a signature of 44 characters" + anIssuers, asIssued}
	switch {
	case d.anotherVersion() != "":
		return []Advice{d.versionAdvice()}
	case isJWT(value):
		return []Advice{{FaultJWT, "it is a JWT, where a session token is wanted: that of the jwt plugin, or of another service" + anIssuers, "none: send the session cookie, or the bearer plugin's set-auth-token"}}
	case isSessionData(value):
		return []Advice{{FaultSessionData, "it is the value of a session_data cookie, which holds a copy of the session and is no credential" + anIssuers, asIssued}}
	case token == "" && value != "":
		return []Advice{{FaultUnsignedCookie, "there is no signature: it is the bare token of the database, or an id" + anIssuers, asIssued + "; a test's own session: sessiond sessions create"}, other}
	case d.isCut(token, signature):
		return []Advice{{FaultCut, fmt.Sprintf("the signature has %d of its 44 characters: the value was cut", len(signature)) + anIssuers, "none: look for what bounds cookies (a column, a log, a proxy's buffer)"}}
	}
	return []Advice{other}
}

// isCut reports whether a signature is the start of the right one.
func (d *diagnosis) isCut(token, signature string) bool {
	if token == "" || signature == "" {
		return false
	}
	return slices.ContainsFunc(d.cfg.Cookies.Secrets, func(secret string) bool {
		return strings.HasPrefix(sessioncookie.Sign(token, secret), token+"."+signature)
	})
}

// isJWT reports whether a value is a JWS or JWE in compact form (RFC 7515, 7516).
func isJWT(value string) bool {
	parts := strings.Split(value, ".")
	if len(parts) != 3 && len(parts) != 5 {
		return false
	}
	header, err := base64.RawURLEncoding.DecodeString(parts[0])
	var h struct{ Alg string }
	return err == nil && json.Unmarshal(header, &h) == nil && h.Alg != ""
}

// isSessionData reports whether a value is the issuer's compact cookie cache.
func isSessionData(value string) bool {
	text, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(value, "="))
	if err != nil {
		if text, err = base64.StdEncoding.DecodeString(value); err != nil {
			return false
		}
	}
	var data struct{ Session, Signature json.RawMessage }
	return json.Unmarshal(text, &data) == nil && data.Session != nil && data.Signature != nil
}

// forged looks for the secret that made a signature.
func (d *diagnosis) forged() []Advice {
	value := d.value()
	token, _ := cutSignature(value)
	made := func(key string) bool { return key != "" && sessioncookie.Sign(token, key) == value }
	secret := d.cfg.Cookies.Secrets[0]
	const exact = "the secret as the issuer's process has it, to the byte"
	for _, guess := range []struct {
		fault          Fault
		cause, setting string
		keys           []string
	}{
		{FaultSecretDefault, "the issuer signs with Better Auth's default secret, which everybody knows: it has none configured, so anybody can sign in as anybody", "none: set BETTER_AUTH_SECRET at the issuer, and " + setSecret + " to the same", []string{defaultKey}},
		{FaultSecretLineBreak, "the issuer's secret is the configured one with a line break more or less at its end", setSecret + ": " + exact + " (one line break at the file's end is not part of it)", []string{secret + "\n", secret + "\r\n", strings.TrimRight(secret, "\r\n")}},
		{FaultSecretQuoted, "the issuer's secret is the configured one with or without quotes around it", setSecret + ": " + exact, []string{`"` + secret + `"`, `'` + secret + `'`, strings.Trim(secret, `"`), strings.Trim(secret, `'`)}},
		{FaultSecretSpace, "the issuer's secret is the configured one with or without white space around it", setSecret + ": " + exact, []string{secret + " ", " " + secret, strings.TrimSpace(secret)}},
		{FaultSecretDecoded, "the signer took the secret for base64 or hexadecimal and decoded it; the issuer uses its text", "none: sign with the text of the secret", decodings(secret)},
	} {
		if slices.ContainsFunc(guess.keys, func(key string) bool { return key != secret && made(key) }) {
			return []Advice{{guess.fault, guess.cause, guess.setting}}
		}
	}
	return []Advice{
		{FaultSecretOther, "another secret made the signature: the issuer's BETTER_AUTH_SECRET is not, to the byte, the one configured here, or the cookie is another environment's", setSecret},
		{FaultSecretRetired, "the issuer's secret was rotated, which signs everybody out", "issuer.retired_secrets_file"},
		{FaultMisshapen, "the token or the signature was changed on its way", asIssued},
	}
}

// decodings are the keys of a signer that took the secret's text for an encoding.
func decodings(secret string) []string {
	var keys []string
	for _, decode := range []func(string) ([]byte, error){
		base64.StdEncoding.DecodeString, base64.RawStdEncoding.DecodeString, base64.URLEncoding.DecodeString, base64.RawURLEncoding.DecodeString, hex.DecodeString,
	} {
		if key, err := decode(secret); err == nil {
			keys = append(keys, string(key))
		}
	}
	return keys
}

// anotherVersion returns the newest release line that would read the credential;
// empty: none would, or this one does.
func (d *diagnosis) anotherVersion() string {
	if d.credential.Authorization == "" {
		return ""
	}
	for v := sessioncookie.Current; v >= sessioncookie.V1_2; v-- {
		cfg := d.cfg.Cookies
		cfg.Version = v
		if r, err := sessioncookie.New(cfg); err == nil && r.FromHeaders(d.credential.Cookie, d.credential.Authorization).Err == nil {
			return v.String()
		}
	}
	return ""
}

func (d *diagnosis) versionAdvice() Advice {
	return Advice{FaultBearerVersion, fmt.Sprintf("the bearer is in a form that issuer version %s reads and version %s does not: up to 1.4 the scheme is Bearer in this spelling and the value URL-encoded, from 1.6 on either will do", d.anotherVersion(), d.cfg.Cookies.Version),
		fmt.Sprintf("issuer.version = %q, if the issuer is that", d.anotherVersion())}
}
