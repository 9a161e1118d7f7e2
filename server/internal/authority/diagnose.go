package authority

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
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
	everybody  = "whoever reads the session table is then everybody in it"
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
		return append(d.shadowed(verified), Advice{FaultSecretRetired, "the cookie was signed before the last rotation" + anIssuers, "none: sign in anew; or issuer.accept_retired_secrets = true, until the last such session is over, and not if the secret leaked: whoever has it makes sessions"})
	case ReasonUnsignedNotAllowed:
		if d.reading.Source == sessioncookie.SourceBearer {
			return []Advice{{FaultBearerUnsigned, "a bare token was sent as bearer, and the issuer's plugin is said to require signatures", "none: send what sign-in answered as set-auth-token; or issuer.bearer_require_signature = false, if the issuer's bearer plugin has no requireSignature: " + everybody}}
		}
		return []Advice{{FaultBareToken, "a worker sent a bare token, such as the session table holds, where a signed credential is wanted", "none: send the headers as they came; or issuer.allow_bare_tokens = true, if workers are to be trusted with tokens: " + everybody}}
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

// maxExamined is the longest value that is looked into: no browser keeps a longer cookie,
// every guess is a MAC, and a flood of refusals has to stay cheap.
const maxExamined = 4096

const byComma = `none: join Cookie headers with "; " (RFC 9113, section 8.2.3)`

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
	{FaultJoinedByComma, "a comma and what follows it stand in the value: something joined several Cookie headers by commas, and cookies are parted by ; alone", func(_ *diagnosis, v string) string {
		before, _, _ := strings.Cut(v, ",")
		return before
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
	if d.reading.Source == sessioncookie.SourceBearer && strings.HasPrefix(bearerValue(d.credential.Authorization), `"`) && d.verifies(value) {
		return []Advice{{FaultQuotesEncoded, "the bearer is in quotes, which are undone for a cookie alone" + anIssuers, "none: send what sign-in answered as set-auth-token, without quotes"}}
	}
	if len(value) > maxExamined {
		return nil
	}
	for _, r := range repairs {
		if undone := r.undo(d, value); undone != value && d.verifies(undone) {
			setting := asIssued
			switch r.fault {
			case FaultEncodedTwice:
				setting = "none: copy the decoded value, or let the browser keep the issuer's cookie"
			case FaultJoinedByComma:
				setting = byComma
			}
			return []Advice{{r.fault, r.cause + anIssuers, setting}}
		}
	}
	return nil
}

// verified: a bare token is good by its record alone, and no record was read.
func verified(r sessioncookie.Reading) bool { return r.Err == nil && r.Signed }

// maxBeside bounds how many cookies of names that are read are looked at: each may take a
// question to the store.
const maxBeside = 16

// shadowed names the credential beside the one that counts, if it is good.
func (d *diagnosis) shadowed(good func(sessioncookie.Reading) bool) []Advice {
	if d.credential.Form != FormHeaders {
		return nil
	}
	cookie := d.reading.Source == sessioncookie.SourceCookie
	var same, other string
	looked := 0
	for name, value := range sessioncookie.All(d.credential.Cookie) {
		if !slices.Contains(d.cfg.Cookies.Names, name) {
			continue
		}
		if looked++; looked > maxBeside {
			break
		}
		if !good(d.reader.FromValue(value)) {
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
	value, version := d.value(), d.versionAdvice()
	token, signature := cutSignature(value)
	if i := strings.LastIndexByte(value, '%'); i >= 0 && i >= len(value)-2 {
		// It was cut within an escape, and that kept the others from being decoded.
		token, signature = cutSignature(sessioncookie.Decode(value[:i]))
	}
	other := Advice{FaultMisshapen, "the value is not token.signature with a signature of 44 characters" + anIssuers, asIssued}
	switch {
	case version != nil:
		return version
	case len(value) > maxExamined:
		return []Advice{other}
	case isJWT(value):
		return []Advice{{FaultJWT, "it is a JWT, where a session token is wanted: that of the jwt plugin, or of another service" + anIssuers, "none: send the session cookie, or the bearer plugin's set-auth-token"}}
	case isSessionData(value):
		return []Advice{{FaultSessionData, "it is the value of a session_data cookie, which holds a copy of the session and is no credential" + anIssuers, asIssued}}
	case isNothing(value):
		return []Advice{nothing(value)}
	case token == "" && value != "":
		return []Advice{{FaultUnsignedCookie, "there is no signature: it is the bare token of the database, or an id" + anIssuers, asIssued + "; a test's own session: sessiond sessions create"}, other}
	case d.isCut(token, signature):
		return []Advice{{FaultCut, fmt.Sprintf("the signature has %d of its 44 characters: the value was cut", len(signature)) + anIssuers, "none: look for what bounds cookies (a column, a log, a proxy's buffer)"}}
	}
	return []Advice{other}
}

// isNothing reports whether a value is what languages print for none, or for an object.
func isNothing(value string) bool {
	return slices.Contains([]string{"undefined", "null", "NaN", "None", "nil", "<nil>", "[object Object]", "[object Promise]"}, value)
}

func nothing(value string) Advice {
	return Advice{FaultNoValue, fmt.Sprintf("the value is the word %s: a program wrote a variable that held no text, such as one that was not awaited or not set", value) + anIssuers, "none: mend what sets it; " + strings.TrimPrefix(asIssued, "none: ")}
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

// byteOrderMark begins files of some editors of Windows.
const byteOrderMark = "\ufeff"

// forged looks for the secret that made a signature.
func (d *diagnosis) forged() []Advice {
	value := d.value()
	token, _ := cutSignature(value)
	if strings.ToLower(value) == value {
		// Among 43 characters of base64 there is no capital once in thousands of millions.
		return []Advice{{FaultLowerCase, "the signature has no capital letter: something on the way wrote the value in small letters" + anIssuers, asIssued}}
	}
	made := func(key string) bool { return key != "" && sessioncookie.Sign(token, key) == value }
	if len(value) > maxExamined {
		made = func(string) bool { return false }
	}
	secret := d.cfg.Cookies.Secrets[0]
	const exact = "the secret as the issuer's process has it, to the byte"
	for _, guess := range []struct {
		fault          Fault
		cause, setting string
		keys           []string
	}{
		{FaultSecretDefault, "the issuer signs with Better Auth's default secret, which everybody knows: it has none configured, so anybody can sign in as anybody", "none: set BETTER_AUTH_SECRET at the issuer, and " + setSecret + " to the same", []string{defaultKey}},
		{FaultSecretLineBreak, "the issuer's secret is the configured one with a line break more or less at its end", setSecret + ": " + exact + " (one line break at the file's end is not part of it)", []string{secret + "\n", secret + "\r\n", secret + "\r", strings.TrimRight(secret, "\r\n")}},
		{FaultSecretQuoted, "the issuer's secret is the configured one with or without quotes around it", setSecret + ": " + exact, []string{`"` + secret + `"`, `'` + secret + `'`, strings.Trim(secret, `"`), strings.Trim(secret, `'`)}},
		{FaultSecretSpace, "the issuer's secret is the configured one with or without white space around it", setSecret + ": " + exact, []string{secret + " ", " " + secret, strings.TrimSpace(secret)}},
		{FaultSecretMark, "the issuer's secret is the configured one with or without a byte order mark before it, as Windows editors write files", setSecret + ": " + exact, []string{byteOrderMark + secret, strings.TrimPrefix(secret, byteOrderMark)}},
		{FaultSecretDecoded, "the configured secret is the base64 or hexadecimal of the one that signed: it was copied as a Kubernetes manifest's data has it; or the signer is not the issuer, and decoded the text of the secret", setSecret + ": " + exact + "; a signer of your own has to use the secret's text", decodings(secret)},
		{FaultSecretEncoded, "the issuer's secret is the base64 of the configured one: it was encoded once too often for a Kubernetes manifest's data", setSecret + ": " + exact + "; or mend the issuer's manifest, which signs everybody out", []string{base64.StdEncoding.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte(secret + "\n"))}},
		{FaultSecretEnvFile, "the issuer's secret is what an .env file makes of the configured one: # begins a comment, and $ a variable, unless the value is in single quotes", "none: quote it in the issuer's .env file, which signs everybody out; what is left of it may be easy to guess", inEnvFile(secret)},
		{FaultSecretAssigned, "the configured secret begins with the variable's name: the whole line of an .env file was copied", setSecret + ": " + exact, assigned(secret)},
	} {
		if slices.ContainsFunc(guess.keys, func(key string) bool { return key != secret && made(key) }) {
			return []Advice{{guess.fault, guess.cause, guess.setting}}
		}
	}
	return []Advice{
		{FaultSecretOther, "no secret that is known here made the signature: the issuer's BETTER_AUTH_SECRET is not, to the byte, the one configured here, or the cookie is another environment's or forged", setSecret},
		{FaultSecretRetired, "the issuer's secret was rotated, which signs everybody out", "issuer.retired_secrets_file"},
		{FaultMisshapen, "the token or the signature was changed on its way", asIssued},
	}
}

// inEnvFile are the keys of an issuer whose .env file holds the secret without quotes, or
// where Docker Compose puts in variables that are not set.
func inEnvFile(secret string) []string {
	uncommented, _, _ := strings.Cut(secret, "#")
	unset := func(string) string { return "" }
	return []string{
		uncommented, strings.TrimSpace(uncommented), os.Expand(secret, unset), os.Expand(uncommented, unset),
		strings.ReplaceAll(secret, "$$", "$"), strings.ReplaceAll(secret, `\n`, "\n"), strings.ReplaceAll(secret, `\`, ""),
	}
}

// assigned are the keys of which the secret is an assignment.
func assigned(secret string) []string {
	name, value, _ := strings.Cut(secret, "=")
	if !strings.HasSuffix(strings.TrimSpace(name), "AUTH_SECRET") {
		return nil
	}
	return []string{value, strings.TrimSpace(value), strings.Trim(value, `"'`)}
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

// anotherVersion returns the newest release line that would read the credential as a
// signed one; empty: none would, or this one does. Any line takes a bare token, whatever
// it is.
func (d *diagnosis) anotherVersion() string {
	if d.credential.Authorization == "" {
		return ""
	}
	for v := sessioncookie.Current; v >= sessioncookie.V1_2; v-- {
		cfg := d.cfg.Cookies
		cfg.Version = v
		if r, err := sessioncookie.New(cfg); err == nil && verified(r.FromHeaders(d.credential.Cookie, d.credential.Authorization)) {
			return v.String()
		}
	}
	return ""
}

func (d *diagnosis) versionAdvice() []Advice {
	version := d.anotherVersion()
	if version == "" {
		return nil
	}
	return []Advice{{
		FaultBearerVersion, fmt.Sprintf("the bearer is in a form that issuer version %s reads and version %s does not: up to 1.4 the scheme is Bearer in this spelling and the value URL-encoded, from 1.6 on either will do", version, d.cfg.Cookies.Version),
		fmt.Sprintf("issuer.version = %q, if the issuer is that", version),
	}}
}
