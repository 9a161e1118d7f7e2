package catalogue_test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/sessioncookie"
)

// seed is one fault: what was done, and what explain has to say.
type seed struct {
	// name is the test's.
	name string
	// what was done, for the page.
	what string
	// seen is where the fault was seen in the wild: the issue or the story.
	seen string
	set  func(h *house)
	// reason is the refusal's; "good" and "undecided" where it is none.
	reason string
	fault  authority.Fault
	// setting is what the setting begins with.
	setting string
}

const (
	good      = "good"
	undecided = "undecided"
)

// seeds are the faults, in the order of the page.
var seeds = []struct {
	title string
	seeds []seed
}{
	{"The bug this began with", []seed{
		{name: "cookiePrefix ''", what: "the workers read `session_token`, since the issuer's `cookiePrefix` is `''`", seen: "motivating app",
			set: func(h *house) { h.env["issuer.cookie_name"] = "session_token" }, reason: "NO_CREDENTIAL", fault: authority.FaultEmptyPrefix, setting: `issuer.cookie_name = ""`},
		{name: "session.cookieName", what: "the workers read `codex-session`, since the issuer's options say `session.cookieName: 'codex-session'`", seen: "motivating app",
			set: func(h *house) { h.env["issuer.cookie_name"] = "codex-session" }, reason: "NO_CREDENTIAL", fault: authority.FaultIgnoredName, setting: `issuer.cookie_name = ""`},
		{name: "codex-session", what: "the web app sets a `codex-session` cookie of its own with the issuer's value", seen: "motivating app",
			set: func(h *house) { h.input = "codex-session=" + h.signed() }, reason: "NO_CREDENTIAL", fault: authority.FaultOtherName, setting: `issuer.cookie_name = "codex-session"`},
		{name: "copied encoded", what: "and copies the value as it stands in Set-Cookie, so that it is encoded twice", seen: "motivating app",
			set: func(h *house) {
				h.env["issuer.cookie_name"] = "codex-session"
				h.input = "codex-session=" + pathEscape(h.signed())
			}, reason: "MALFORMED", fault: authority.FaultEncodedTwice, setting: "none: copy the decoded value"},
		{name: "__Secure- in production", what: "the issuer's URL is https and sessiond's says http: the cookie is called `__Secure-…`", seen: "better-auth#5154, #8737; motivating app",
			set: func(h *house) { h.input = "__Secure-" + h.input }, reason: "NO_CREDENTIAL", fault: authority.FaultSecureSurplus, setting: "issuer.base_url or issuer.use_secure_cookies"},
	}},
	{"The cookie's name", []seed{
		{name: "no __Secure-", what: "sessiond's URL is https and the issuer's is http", seen: "better-auth#5154",
			set: func(h *house) { h.env["issuer.base_url"] = "https://auth.example.com" }, reason: "NO_CREDENTIAL", fault: authority.FaultSecureMissing, setting: "issuer.base_url or issuer.use_secure_cookies"},
		{name: "__Secure- twice", what: "the issuer's custom name begins with `__Secure-`, before which it puts another", seen: "better-auth vectors",
			set: func(h *house) {
				h.env["issuer.base_url"] = "https://auth.example.com"
				h.env["issuer.cookie_name"] = "app-session"
				h.input = "__Secure-__Secure-app-session=" + h.signed()
			}, reason: "NO_CREDENTIAL", fault: authority.FaultSecureDoubled, setting: `issuer.cookie_name = "__Secure-app-session"`},
		{name: "__Host-", what: "a gateway renames the cookie to `__Host-…`", seen: "RFC 6265bis prefixes",
			set: func(h *house) { h.input = "__Host-" + h.input }, reason: "NO_CREDENTIAL", fault: authority.FaultHostPrefix, setting: `issuer.cookie_names = "__Host-better-auth.session_token,better-auth.session_token"`},
		{name: "another prefix", what: "the issuer has `advanced.cookiePrefix: 'shop'`", seen: "motivating app",
			set: func(h *house) { h.input = "shop.session_token=" + h.signed() }, reason: "NO_CREDENTIAL", fault: authority.FaultOtherPrefix, setting: `issuer.cookie_prefix = "shop"`},
		{name: "another prefix and a name", what: "the issuer has a `cookiePrefix`, and `session.cookieName` was configured here", seen: "motivating app",
			set: func(h *house) {
				h.env["issuer.cookie_name"] = "app-session"
				h.input = "shop.session_token=" + h.signed()
			}, reason: "NO_CREDENTIAL", fault: authority.FaultIgnoredName, setting: `issuer.cookie_name = "" and issuer.cookie_prefix = "shop"`},
		{name: "case", what: "the cookie is called `Better-Auth.Session_Token`", seen: "better-auth vectors",
			set: func(h *house) { h.input = "Better-Auth.Session_Token=" + h.signed() }, reason: "NO_CREDENTIAL", fault: authority.FaultNameCase, setting: `issuer.cookie_name = "Better-Auth.Session_Token"`},
		{name: "misspelt", what: "the reader's cookie is called `better-auth.session-token`", seen: "better-auth#4517, #3892",
			set: func(h *house) { h.input = "better-auth.session-token=" + h.signed() }, reason: "NO_CREDENTIAL", fault: authority.FaultNameMisspelt, setting: "none: set the cookie as better-auth.session_token"},
		{name: "ends alike", what: "a cookie `xbetter-auth.session_token`, which a regular expression without an anchor takes for the session's", seen: "motivating app",
			set: func(h *house) { h.input = "x" + h.input }, reason: "NO_CREDENTIAL", fault: authority.FaultNameLonger, setting: "none: the issuer does not read it either"},
		{name: "multi-session only", what: "only the multi-session plugin's further cookies arrive", seen: "better-auth vectors",
			set: func(h *house) {
				h.input = cookieName + "_multi-" + strings.ToLower(h.token) + "=" + h.signed()
			}, reason: "NO_CREDENTIAL", fault: authority.FaultOnlyMulti, setting: "none: "},
		{name: "session_data only", what: "only the cookie cache arrives", seen: "better-auth#6893",
			set: func(h *house) {
				h.env["issuer.version"] = "1.6"
				h.input = dataName + "=eyJzZXNzaW9uIjp7fX0"
			}, reason: "NO_CREDENTIAL", fault: authority.FaultOnlySessionData, setting: "none: "},
		{name: "cleared", what: "the cookie is there and empty", seen: "better-auth vectors",
			set: func(h *house) { h.cookie("") }, reason: "NO_CREDENTIAL", fault: authority.FaultEmptyValue, setting: "none: sign in"},
		{name: "in pieces", what: "a gateway splits the session cookie into `.0` and `.1`, as it does its own", seen: "chunked cookies of gateways",
			set: func(h *house) {
				h.input = cookieName + ".0=" + h.signed()[:40] + "; " + cookieName + ".1=" + h.signed()[40:]
			}, reason: "NO_CREDENTIAL", fault: authority.FaultChunked, setting: "none: put the pieces together"},
		{name: "another application's", what: "several applications share a parent domain, and only another's cookie arrives", seen: "better-auth#1043; crossSubDomainCookies",
			set: func(h *house) {
				h.input = "shop.session_token=" + sessioncookie.Encode(sessioncookie.Sign(h.token, "the secret of another application"))
			}, reason: "NO_CREDENTIAL", fault: authority.FaultOtherPrefix, setting: `issuer.cookie_prefix = "shop"`},
		{name: "custom name is longer", what: "the issuer's custom name is `app_session_token`, and `session_token` is read", seen: "advanced.cookies.session_token.name",
			set: func(h *house) {
				h.env["issuer.cookie_name"] = "session_token"
				h.input = "app_session_token=" + h.signed()
			}, reason: "NO_CREDENTIAL", fault: authority.FaultNameLonger, setting: "none: the issuer does not read it either; or issuer.cookie_name"},
		{name: "sessionid of Django", what: "`session` is read, and `sessionid` of another framework arrives", seen: "Django, PHP",
			set: func(h *house) {
				h.env["issuer.cookie_name"] = "session"
				h.input = "sessionid=2b1189a188b44ad18c35e113ac6ceead; csrftoken=x"
			}, reason: "NO_CREDENTIAL", fault: authority.FaultNotSent, setting: "none: "},
		{name: "dont_remember only", what: "only the issuer's `dont_remember` arrives, which it signs as it does the session's", seen: "better-auth rememberMe",
			set: func(h *house) {
				h.input = "better-auth.dont_remember=" + sessioncookie.Encode(sessioncookie.Sign("true", secret))
			}, reason: "NO_CREDENTIAL", fault: authority.FaultOnlyBeside, setting: "none: sign in"},
		{name: "trusted device only", what: "only the two-factor plugin's `trust_device` arrives, 30 days after", seen: "better-auth two-factor plugin",
			set: func(h *house) {
				h.input = "better-auth.trust_device=" + sessioncookie.Encode(sessioncookie.Sign(h.token+"!"+h.token, secret))
			}, reason: "NO_CREDENTIAL", fault: authority.FaultOnlyBeside, setting: "none: sign in"},
		{name: "sign-in under way", what: "an OAuth sign-in is under way: only `state` arrives", seen: "better-auth state.ts",
			set: func(h *house) {
				h.input = "better-auth.state=" + sessioncookie.Encode(sessioncookie.Sign(h.token, secret))
			}, reason: "NO_CREDENTIAL", fault: authority.FaultOnlyBeside, setting: "none: sign in"},
		{name: "cookies of Auth.js", what: "the browser still has the cookie of the library before, an encrypted JWT", seen: "migrations from next-auth",
			set: func(h *house) { h.input = "next-auth.session-token=eyJhbGciOiJkaXIifQ..a.b.c" }, reason: "NO_CREDENTIAL", fault: authority.FaultNotSent, setting: "none: "},
		{name: "cookie of Express", what: "only Express's `connect.sid` arrives, signed by another rule", seen: "express-session",
			set: func(h *house) { h.input = "connect.sid=s%3A" + h.token + "." + strings.Repeat("A", 43) }, reason: "NO_CREDENTIAL", fault: authority.FaultNotSent, setting: "none: "},
		{name: "cookie of iron-session", what: "only a sealed cookie of iron-session arrives", seen: "iron-session",
			set: func(h *house) { h.input = "app=Fe26.2*1*0a1b*c2Fsdg*aXY*Y2lwaGVy~2" }, reason: "NO_CREDENTIAL", fault: authority.FaultNotSent, setting: "none: "},
		{name: "other cookies only", what: "cookies arrive, and the session's is not among them (Domain, Path, SameSite)", seen: "better-auth#1043, #520, #6720; lobehub#18200",
			set: func(h *house) { h.input = "theme=dark; _ga=GA1.1.1" }, reason: "NO_CREDENTIAL", fault: authority.FaultNotSent, setting: "none: "},
	}},
	{"The header", []seed{
		{name: "Set-Cookie pasted", what: "a Set-Cookie line is sent as the Cookie header", seen: "zerostarter#437",
			set: func(h *house) { h.input = "Set-Cookie: " + h.input + "; Path=/; HttpOnly" }, reason: "NO_CREDENTIAL", fault: authority.FaultHeaderNamePasted, setting: "none: leave set-cookie: out"},
		{name: "joined by comma", what: "a proxy joins two Cookie headers with a comma", seen: "RFC 9113, section 8.2.3",
			set: func(h *house) { h.input = "theme=dark, " + h.input }, reason: "NO_CREDENTIAL", fault: authority.FaultJoinedByComma, setting: "none: join Cookie headers"},
		{name: "joined by comma, first", what: "the same, and the session cookie is in the first of them", seen: "gRPC metadata; HTTP/2 cookie crumbs",
			set: func(h *house) { h.input += ", theme=dark" }, reason: "MALFORMED", fault: authority.FaultJoinedByComma, setting: "none: join Cookie headers"},
		{name: "twice by comma", what: "the session cookie arrives twice, joined by a comma", seen: "two proxies that each add it",
			set: func(h *house) { h.input += "," + h.input }, reason: "BAD_SIGNATURE", fault: authority.FaultJoinedByComma, setting: "none: join Cookie headers"},
		{name: "control byte", what: "a control byte stands in the header", seen: "better-auth vectors",
			set: func(h *house) { h.input = "theme=\x01; " + h.input }, reason: "MALFORMED", fault: authority.FaultHeaderControl, setting: "none: take out"},
		{name: "too large", what: "the header has 70 kB", seen: "node's own limit is 16 KiB",
			set: func(h *house) { h.input += "; pad=" + strings.Repeat("x", 70_000-len("; pad=")-len(h.input)) }, reason: "MALFORMED", fault: authority.FaultHeaderTooLarge, setting: "limits.max_credential_bytes"},
		{name: "earlier cookie", what: "two session cookies of different Paths arrive, the bad one first", seen: "better-auth#1043; authentik#19605",
			set: func(h *house) {
				h.input = cookieName + "=" + sessioncookie.Encode(sessioncookie.Sign(h.token, "the secret of another environment")) + "; " + h.input
			}, reason: "BAD_SIGNATURE", fault: authority.FaultShadowed, setting: "none: delete the older cookie"},
		{name: "earlier session ended", what: "the same, and the first one's session has ended", seen: "better-auth#1043",
			set: func(h *house) {
				h.input = cookieName + "=" + sessioncookie.Encode(sessioncookie.Sign(sessioncookie.NewToken(), secret)) + "; " + h.input
			}, reason: "NOT_FOUND", fault: authority.FaultShadowed, setting: "none: delete the older cookie"},
		{name: "other name first", what: "two names are read while a team migrates, and the first is a stale cookie", seen: "motivating app",
			set: func(h *house) {
				h.env["issuer.cookie_names"] = "codex-session," + cookieName
				h.input += "; codex-session=" + sessioncookie.Encode(sessioncookie.Sign(h.token, "the secret of another environment"))
			}, reason: "BAD_SIGNATURE", fault: authority.FaultPrecedence, setting: "issuer.cookie_names, in another order"},
	}},
	{"The value", []seed{
		{name: "encoded twice", what: "the value is percent-encoded twice", seen: "motivating app",
			set: func(h *house) { h.cookie(sessioncookie.Encode(h.signed())) }, reason: "MALFORMED", fault: authority.FaultEncodedTwice, setting: "none: copy the decoded value"},
		{name: "plus to space", what: "the value was decoded as a form, and `+` became a space", seen: "Go's url.QueryUnescape, Python's parse_qs",
			set: func(h *house) {
				h.token = "with-a-plus"
				for !strings.Contains(sessioncookie.Sign(h.token, secret), "+") {
					h.token = sessioncookie.NewToken()
				}
				h.decoded(strings.ReplaceAll(sessioncookie.Sign(h.token, secret), "+", " "))
			}, reason: "BAD_SIGNATURE", fault: authority.FaultPlusToSpace, setting: "none: send the cookie as the issuer set it"},
		{name: "URL-safe", what: "the signature is in URL-safe base64", seen: "motivating app's buildAuthForwardingCookie",
			set: func(h *house) {
				for !strings.ContainsAny(sessioncookie.Sign(h.token, secret), "+/") {
					h.token = sessioncookie.NewToken()
				}
				h.decoded(strings.NewReplacer("+", "-", "/", "_").Replace(sessioncookie.Sign(h.token, secret)))
			}, reason: "BAD_SIGNATURE", fault: authority.FaultURLSafe, setting: "none: send"},
		{name: "unpadded", what: "the `=` at the end is missing", seen: "splitting at =",
			set: func(h *house) { h.decoded(strings.TrimSuffix(sessioncookie.Sign(h.token, secret), "=")) }, reason: "MALFORMED", fault: authority.FaultUnpadded, setting: "none: send"},
		{name: "hex", what: "a test signs with a hexadecimal HMAC", seen: "hand-made signers",
			set: func(h *house) {
				token, signature, _ := strings.Cut(sessioncookie.Sign(h.token, secret), ".")
				mac, err := base64.StdEncoding.DecodeString(signature)
				if err != nil {
					h.t.Fatal(err)
				}
				h.decoded(token + "." + hex.EncodeToString(mac))
			}, reason: "MALFORMED", fault: authority.FaultHex, setting: "none: send"},
		{name: "cut", what: "the value was cut after 60 characters", seen: "a column, a log, a proxy's buffer",
			set: func(h *house) { h.decoded(sessioncookie.Sign(h.token, secret)[:60]) }, reason: "MALFORMED", fault: authority.FaultCut, setting: "none: look for what bounds cookies"},
		{name: "cut in an escape", what: "the value was cut in the middle of a percent escape", seen: "a column, a log, a proxy's buffer",
			set: func(h *house) {
				for strings.Count(h.signed(), "%") < 2 {
					h.token = sessioncookie.NewToken()
				}
				h.cookie(strings.TrimSuffix(h.signed(), "3D"))
			}, reason: "MALFORMED", fault: authority.FaultCut, setting: "none: look for what bounds cookies"},
		{name: "undefined", what: "a program wrote a variable that held nothing", seen: "`${token}` in JavaScript",
			set: func(h *house) { h.cookie("undefined") }, reason: "MALFORMED", fault: authority.FaultNoValue, setting: "none: mend what sets it"},
		{name: "object", what: "a program wrote an object", seen: "SvelteKit and Next cookies.get(), which give an object",
			set: func(h *house) { h.decoded("[object Object]") }, reason: "MALFORMED", fault: authority.FaultNoValue, setting: "none: mend what sets it"},
		{name: "small letters", what: "a proxy wrote the header in small letters", seen: "header normalisation",
			set: func(h *house) {
				h.decoded(strings.ToLower(sessioncookie.Sign(h.token, secret)))
			}, reason: "BAD_SIGNATURE", fault: authority.FaultLowerCase, setting: "none: send"},
		{name: "no signature", what: "the bare token of the database is put into the cookie", seen: "better-auth#4517, #3892; MA-TODO-APP; vlang#26198",
			set: func(h *house) { h.cookie(h.token) }, reason: "MALFORMED", fault: authority.FaultUnsignedCookie, setting: "none: send the cookie as the issuer set it"},
		{name: "session id", what: "the session's id is put into the cookie", seen: "MA-TODO-APP",
			set: func(h *house) { h.cookie(sessionID) }, reason: "MALFORMED", fault: authority.FaultUnsignedCookie, setting: "none: send"},
		{name: "test token", what: "a test inserts `test-session-…` and sends it unsigned", seen: "motivating app's tests",
			set: func(h *house) { h.cookie("test-session-1700000000000") }, reason: "MALFORMED", fault: authority.FaultUnsignedCookie, setting: "none: send the cookie as the issuer set it; a test's own session: sessiond sessions create"},
		{name: "quotes encoded", what: "the value carries quotes that were encoded with it", seen: "JSON.stringify of a value",
			set: func(h *house) { h.decoded(`"` + sessioncookie.Sign(h.token, secret) + `"`) }, reason: "MALFORMED", fault: authority.FaultQuotesEncoded, setting: "none: send"},
		{name: "line break encoded", what: "the value carries a line break that was encoded with it", seen: "a value read from a file",
			set: func(h *house) { h.decoded(sessioncookie.Sign(h.token, secret) + "\n") }, reason: "MALFORMED", fault: authority.FaultSpaceEncoded, setting: "none: send"},
		{name: "name in value", what: "`name=value` was set as the value", seen: "cookie builders of test suites",
			set: func(h *house) { h.cookie(h.input) }, reason: "BAD_SIGNATURE", fault: authority.FaultNameInValue, setting: "none: send"},
		{name: "Bearer in cookie", what: "an Authorization value was set as the cookie", seen: "cookie builders of test suites",
			set: func(h *house) { h.decoded("Bearer " + sessioncookie.Sign(h.token, secret)) }, reason: "BAD_SIGNATURE", fault: authority.FaultBearerInCookie, setting: "none: send"},
		{name: "s:", what: "Express's cookie-parser put `s:` before it", seen: "express cookie-parser",
			set: func(h *house) { h.decoded("s:" + sessioncookie.Sign(h.token, secret)) }, reason: "BAD_SIGNATURE", fault: authority.FaultExpressPrefix, setting: "none: send"},
		{name: "session:", what: "the token carries the prefix of a Redis key", seen: "motivating app's session:{token}",
			set: func(h *house) { h.decoded("session:" + sessioncookie.Sign(h.token, secret)) }, reason: "BAD_SIGNATURE", fault: authority.FaultKeyPrefix, setting: "none: send"},
		{name: "escaped", what: "the value is escaped for JSON", seen: "a cookie cut out of a JSON log",
			set: func(h *house) {
				h.decoded(strings.NewReplacer("=", `\u003d`, "/", `\/`).Replace(sessioncookie.Sign(h.token, secret)))
			}, reason: "MALFORMED", fault: authority.FaultEscaped, setting: "none: send"},
		{name: "JWT", what: "the jwt plugin's token is sent as the session cookie", seen: "better-auth jwt plugin",
			set: func(h *house) {
				h.cookie("eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl")
			}, reason: "MALFORMED", fault: authority.FaultJWT, setting: "none: send the session cookie"},
		{name: "session_data", what: "the cookie cache's value is sent as the session cookie", seen: "motivating app's fixtures",
			set: func(h *house) {
				h.cookie(base64.RawURLEncoding.EncodeToString([]byte(`{"session":{"session":{},"user":{}},"expiresAt":1,"signature":"x"}`)))
			}, reason: "MALFORMED", fault: authority.FaultSessionData, setting: "none: send"},
		{name: "no shape", what: "something else altogether", seen: "",
			set: func(h *house) { h.cookie("j:hello.world") }, reason: "MALFORMED", fault: authority.FaultMisshapen, setting: "none: send"},
		{name: "signed twice", what: "a gateway signs the signed value again", seen: "re-signing proxies",
			set: func(h *house) {
				h.decoded(sessioncookie.Sign(sessioncookie.Sign(h.token, secret), secret))
			}, reason: "NOT_FOUND", fault: authority.FaultSignedTwice, setting: "none: send"},
		{name: "dont_remember", what: "the value of the dont_remember cookie is sent", seen: "better-auth vectors",
			set: func(h *house) { h.decoded(sessioncookie.Sign("true", secret)) }, reason: "NOT_FOUND", fault: authority.FaultDontRemember, setting: "none: send"},
	}},
	{"The secret", []seed{
		{name: "another secret", what: "the issuer has another secret", seen: "survey, signature checks",
			set: func(h *house) {
				h.decoded(sessioncookie.Sign(h.token, "a wholly different secret of forty bytes"))
			}, reason: "BAD_SIGNATURE", fault: authority.FaultSecretOther, setting: "issuer.secret_file"},
		{name: "line break", what: "the issuer's secret ends with a line break, as one mounted from a file does", seen: "kubernetes secrets made with echo",
			set: func(h *house) { h.decoded(sessioncookie.Sign(h.token, secret+"\n")) }, reason: "BAD_SIGNATURE", fault: authority.FaultSecretLineBreak, setting: "issuer.secret_file"},
		{name: "quotes", what: "the issuer's secret has the quotes of its .env file", seen: "docker --env-file",
			set: func(h *house) { h.decoded(sessioncookie.Sign(h.token, `"`+secret+`"`)) }, reason: "BAD_SIGNATURE", fault: authority.FaultSecretQuoted, setting: "issuer.secret_file"},
		{name: "quotes here", what: "the secret configured here has quotes and the issuer's has none", seen: "docker --env-file",
			set: func(h *house) { h.env["issuer.secret"] = `"` + secret + `"` }, reason: "BAD_SIGNATURE", fault: authority.FaultSecretQuoted, setting: "issuer.secret_file"},
		{name: "space", what: "a space stands after the issuer's secret", seen: "copied by hand",
			set: func(h *house) { h.decoded(sessioncookie.Sign(h.token, secret+" ")) }, reason: "BAD_SIGNATURE", fault: authority.FaultSecretSpace, setting: "issuer.secret_file"},
		{name: "decoded", what: "a signer takes the secret for base64 and decodes it", seen: "openssl rand -base64",
			set: func(h *house) {
				h.env["issuer.secret"] = base64.StdEncoding.EncodeToString([]byte("thirty-two bytes of randomness!!"))
				h.decoded(sessioncookie.Sign(h.token, "thirty-two bytes of randomness!!"))
			}, reason: "BAD_SIGNATURE", fault: authority.FaultSecretDecoded, setting: "issuer.secret_file: the secret as the issuer's process has it, to the byte; a signer of your own"},
		{name: "base64 here", what: "the secret configured here is as `kubectl get secret -o yaml` shows it", seen: "kubernetes secrets",
			set: func(h *house) { h.env["issuer.secret"] = base64.StdEncoding.EncodeToString([]byte(secret)) }, reason: "BAD_SIGNATURE", fault: authority.FaultSecretDecoded, setting: "issuer.secret_file"},
		{name: "base64 of a line", what: "the same, and made with echo, which ends the line", seen: "echo $SECRET | base64",
			set: func(h *house) {
				h.env["issuer.secret"] = base64.StdEncoding.EncodeToString([]byte(secret + "\n"))
				h.decoded(sessioncookie.Sign(h.token, secret+"\n"))
			}, reason: "BAD_SIGNATURE", fault: authority.FaultSecretDecoded, setting: "issuer.secret_file"},
		{name: "base64 there", what: "the issuer's secret was encoded twice for its manifest", seen: "kubernetes data for stringData",
			set: func(h *house) {
				h.decoded(sessioncookie.Sign(h.token, base64.StdEncoding.EncodeToString([]byte(secret))))
			}, reason: "BAD_SIGNATURE", fault: authority.FaultSecretEncoded, setting: "issuer.secret_file"},
		{name: "byte order mark", what: "the secret was saved by an editor of Windows, with a byte order mark", seen: "Notepad, PowerShell's Out-File",
			set: func(h *house) { h.env["issuer.secret"] = "\ufeff" + secret }, reason: "BAD_SIGNATURE", fault: authority.FaultSecretMark, setting: "issuer.secret_file"},
		{name: "Windows line end", what: "the issuer's secret ends with a carriage return", seen: "an .env file of Windows in a container",
			set: func(h *house) { h.decoded(sessioncookie.Sign(h.token, secret+"\r")) }, reason: "BAD_SIGNATURE", fault: authority.FaultSecretLineBreak, setting: "issuer.secret_file"},
		{name: "comment in .env", what: "the issuer's .env file has the secret without quotes, and it has a #", seen: "dotenv from 15 on",
			set: func(h *house) {
				before, _, _ := strings.Cut(secret, "#")
				h.decoded(sessioncookie.Sign(h.token, before))
			}, reason: "BAD_SIGNATURE", fault: authority.FaultSecretEnvFile, setting: "none: quote it"},
		{name: "variable in .env", what: "the secret has a $, which the issuer's Docker Compose takes for a variable", seen: "docker compose interpolation",
			set: func(h *house) {
				h.env["issuer.secret"] = "a-long-secret-with-$money-in-the-middle-of-it"
				h.decoded(sessioncookie.Sign(h.token, "a-long-secret-with--in-the-middle-of-it"))
			}, reason: "BAD_SIGNATURE", fault: authority.FaultSecretEnvFile, setting: "none: quote it"},
		{name: "name and secret", what: "the whole line of the .env file was put into the secret's file", seen: "docker secrets",
			set: func(h *house) { h.env["issuer.secret"] = "BETTER_AUTH_SECRET=" + secret }, reason: "BAD_SIGNATURE", fault: authority.FaultSecretAssigned, setting: "issuer.secret_file"},
		{name: "default", what: "the issuer has no secret and uses Better Auth's default", seen: "better-auth utils/constants",
			set: func(h *house) {
				h.decoded(sessioncookie.Sign(h.token, "better-auth-secret-12345678901234567890"))
			}, reason: "BAD_SIGNATURE", fault: authority.FaultSecretDefault, setting: "none: set BETTER_AUTH_SECRET at the issuer"},
		{name: "rotated", what: "the cookie was signed before the secret was rotated", seen: "next-auth#3721; kratos#2272",
			set: func(h *house) {
				h.env["issuer.secret"] = "the issuer's new secret, also long enough"
				h.env["issuer.retired_secrets_file"] = h.file(secret)
			}, reason: "RETIRED_SECRET", fault: authority.FaultSecretRetired, setting: "none: sign in anew; or issuer.accept_retired_secrets = true"},
	}},
	{"Bearer tokens", []seed{
		{name: "bearer off", what: "a session token arrives as bearer, and the plugin is not configured here", seen: "better-auth bearer plugin",
			set: func(h *house) { h.input = "Authorization: Bearer " + h.signed() }, reason: "NO_CREDENTIAL", fault: authority.FaultBearerOff, setting: "issuer.bearer = true"},
		{name: "bearer of another service", what: "a token of another service arrives as bearer", seen: "GitHub and Google access tokens, API keys",
			set: func(h *house) { h.input = "Authorization: Bearer ghp_16C7e42F292c6912E7710c838347Ae178B4a" }, reason: "NO_CREDENTIAL", fault: authority.FaultBearerOpaque, setting: "none: send the session cookie"},
		{name: "another service's and an old issuer", what: "the same in small letters, and the issuer is 1.4: another version would read it, and find nobody", seen: "API gateways",
			set: func(h *house) {
				h.env["issuer.bearer"], h.env["issuer.version"] = "true", "1.4"
				h.input = "Authorization: bearer ghp_16C7e42F292c6912E7710c838347Ae178B4a"
			}, reason: "NO_CREDENTIAL", fault: authority.FaultBearerNoCookie, setting: "none: send what sign-in answered"},
		{name: "another service's and a bad cookie", what: "the same beside a cookie of no shape", seen: "API gateways",
			set: func(h *house) {
				h.env["issuer.bearer"], h.env["issuer.version"] = "true", "1.4"
				h.input = "Cookie: " + cookieName + "=j:hello.world\nAuthorization: Bearer ghp_16C7e42F292c6912E7710c838347Ae178B4a"
			}, reason: "MALFORMED", fault: authority.FaultMisshapen, setting: "none: send"},
		{name: "no scheme", what: "a mobile app sends the token without `Bearer`", seen: "mobile apps",
			set: func(h *house) {
				h.env["issuer.bearer"] = "true"
				h.input = "Authorization: " + h.signed()
			}, reason: "NO_CREDENTIAL", fault: authority.FaultOtherScheme, setting: "none: send Authorization: Bearer"},
		{name: "scheme Token", what: "a mobile app sends the token as `Token`", seen: "mobile apps",
			set: func(h *house) { h.input = "Authorization: Token " + h.signed() }, reason: "NO_CREDENTIAL", fault: authority.FaultOtherScheme, setting: "none: send Authorization: Bearer"},
		{name: "Bearer twice", what: "a client puts `Bearer` before a value that has it", seen: "interceptors of HTTP clients",
			set: func(h *house) {
				h.env["issuer.bearer"] = "true"
				h.input = "Authorization: Bearer Bearer " + h.signed()
			}, reason: "BAD_SIGNATURE", fault: authority.FaultBearerInCookie, setting: "none: send"},
		{name: "bearer in quotes", what: "the token is sent with the quotes of its JSON", seen: "JSON.stringify into storage",
			set: func(h *house) {
				h.env["issuer.bearer"] = "true"
				h.input = `Authorization: Bearer "` + h.signed() + `"`
			}, reason: "BAD_SIGNATURE", fault: authority.FaultQuotesEncoded, setting: "none: send what sign-in answered"},
		{name: "bearer undefined", what: "the bearer is the word `undefined`", seen: "`Bearer ${token}` without one",
			set: func(h *house) {
				h.env["issuer.bearer"] = "true"
				h.input = "Authorization: Bearer undefined"
			}, reason: "NOT_FOUND", fault: authority.FaultNoValue, setting: "none: mend what sets it"},
		{name: "pair as bearer", what: "the cookie, name and all, is sent as bearer", seen: "set-cookie split at ;",
			set: func(h *house) {
				h.env["issuer.bearer"] = "true"
				h.input = "Authorization: Bearer " + h.input
			}, reason: "MALFORMED", fault: authority.FaultNameInValue, setting: "none: send"},
		{name: "bearer in small letters", what: "`bearer` arrives, and the issuer is 1.4, which knows `Bearer` only", seen: "better-auth vectors",
			set: func(h *house) {
				h.env["issuer.bearer"], h.env["issuer.version"] = "true", "1.4"
				h.input = "Authorization: bearer " + h.signed()
			}, reason: "NO_CREDENTIAL", fault: authority.FaultBearerVersion, setting: `issuer.version = "1.7"`},
		{name: "bearer decoded", what: "a decoded token arrives, and the issuer is 1.4, which wants it encoded", seen: "better-auth vectors",
			set: func(h *house) {
				h.env["issuer.bearer"], h.env["issuer.version"] = "true", "1.4"
				h.input = "Authorization: Bearer " + sessioncookie.Sign(h.token, secret)
			}, reason: "MALFORMED", fault: authority.FaultBearerVersion, setting: `issuer.version = "1.7"`},
		{name: "bearer unsigned", what: "a bare token arrives, and the plugin requires signatures", seen: "better-auth requireSignature",
			set: func(h *house) {
				h.env["issuer.bearer"], h.env["issuer.bearer_require_signature"] = "true", "true"
				h.input = "Authorization: Bearer " + h.token
			}, reason: "UNSIGNED_NOT_ALLOWED", fault: authority.FaultBearerUnsigned, setting: "none: send what sign-in answered as set-auth-token; or issuer.bearer_require_signature = false"},
		{name: "bearer JWT", what: "an OAuth access token arrives as bearer", seen: "RFC 9068",
			set: func(h *house) {
				h.input = "Authorization: Bearer eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
			}, reason: "NO_CREDENTIAL", fault: authority.FaultJWT, setting: "none: send the session cookie"},
		{name: "Basic", what: "a Basic header arrives", seen: "proxies with basic auth",
			set: func(h *house) {
				h.env["issuer.bearer"] = "true"
				h.input = "Authorization: Basic dXNlcjpwYXNz"
			}, reason: "NO_CREDENTIAL", fault: authority.FaultOtherScheme, setting: "none: send Authorization: Bearer"},
		{name: "bearer empty", what: "the bearer is empty, as of a client that is not signed in", seen: "`Bearer ${token}` without one",
			set: func(h *house) {
				h.env["issuer.bearer"] = "true"
				h.input = "Authorization: Bearer "
			}, reason: "NO_CREDENTIAL", fault: authority.FaultBearerNoCookie, setting: "none: send what sign-in answered"},
		{name: "bearer over cookie", what: "a signed bearer of an ended session stands beside a good cookie (1.6 on)", seen: "better-auth vectors",
			set: func(h *house) {
				h.env["issuer.bearer"] = "true"
				h.input = "Cookie: " + h.input + "\nAuthorization: Bearer " + sessioncookie.Sign(sessioncookie.NewToken(), secret)
			}, reason: "NOT_FOUND", fault: authority.FaultBearerOverCookie, setting: "none: send one of the two"},
		{name: "cookie over bearer", what: "a bad cookie stands beside a good bearer (up to 1.4)", seen: "better-auth vectors",
			set: func(h *house) {
				h.env["issuer.bearer"], h.env["issuer.version"] = "true", "1.4"
				h.input = "Cookie: " + cookieName + "=" + sessioncookie.Encode(sessioncookie.Sign(h.token, "the secret of another environment")) + "\nAuthorization: Bearer " + h.signed()
			}, reason: "BAD_SIGNATURE", fault: authority.FaultCookieOverBearer, setting: "none: send one of the two"},
		{name: "token of a worker", what: "a worker sends a bare token of the database", seen: "better-auth#2685",
			set: func(h *house) { h.as, h.input = "token", h.token }, reason: "UNSIGNED_NOT_ALLOWED", fault: authority.FaultBareToken, setting: "none: send the headers as they came; or issuer.allow_bare_tokens = true"},
	}},
	{"Where sessions are", []seed{
		{name: "signed out", what: "the session was signed out: its row is gone", seen: "",
			set: func(h *house) {
				h.session("another", sessioncookie.NewToken())
				h.exec(`DELETE FROM session WHERE id = ?`, sessionID)
			}, reason: "NOT_FOUND", fault: authority.FaultEnded, setting: "none: sign in"},
		{name: "no rows", what: "the issuer keeps sessions in secondary storage alone: the table is empty", seen: "better-auth#2127, #522; survey §0.2",
			set: func(h *house) { h.exec(`DELETE FROM session`) }, reason: "NOT_FOUND", fault: authority.FaultStoreEmpty, setting: "secondary.url"},
		{name: "rows hidden", what: "row-level security shows sessiond's role no session", seen: "Supabase turns it on for new tables",
			set: func(h *house) {
				h.inPostgres("1 day")
				h.asReader()
				h.postgres(`ALTER TABLE session ENABLE ROW LEVEL SECURITY`)
			}, reason: "NOT_FOUND", fault: authority.FaultRowsHidden, setting: "none: give the role a policy"},
		{name: "users hidden", what: "the same of users", seen: "Supabase turns it on for new tables",
			set: func(h *house) {
				h.inPostgres("1 day")
				h.asReader()
				h.postgres(`ALTER TABLE "user" ENABLE ROW LEVEL SECURITY`)
			}, reason: "USER_NOT_FOUND", fault: authority.FaultRowsHidden, setting: "none: give the role a policy"},
		{name: "hashed", what: "an adapter keeps SHA-256 of tokens", seen: "KeeperHub#1047; ezauth#133; modelence#292",
			set: func(h *house) {
				h.exec(`UPDATE session SET token = ?`, authority.TokenSHA256Hex.Stored(h.token))
			}, reason: "NOT_FOUND", fault: authority.FaultTokenForm, setting: `store.token_form = "sha256-hex"`},
		{name: "not hashed", what: "hashes are configured and the issuer keeps tokens plain", seen: "KeeperHub#1047",
			set: func(h *house) { h.env["store.token_form"] = "sha256-base64url" }, reason: "NOT_FOUND", fault: authority.FaultTokenForm, setting: `store.token_form = "plain"`},
		{name: "id signed", what: "a test signs the session's id", seen: "MA-TODO-APP",
			set: func(h *house) { h.decoded(sessioncookie.Sign(sessionID, secret)) }, reason: "NOT_FOUND", fault: authority.FaultSessionID, setting: "none: sign the token column"},
		{name: "key prefix", what: "secondary storage's keys have no prefix, as with the documentation's snippet", seen: "better-auth docs, secondary storage",
			set: func(h *house) { h.inRedis(); h.key(h.token, h.token, 0) }, reason: "NOT_FOUND", fault: authority.FaultSecondaryPrefix, setting: `secondary.key_prefix = ""`},
		{name: "key prefix session:", what: "the keys are called `session:{token}`", seen: "motivating app",
			set: func(h *house) { h.inRedis(); h.key("session:"+h.token, h.token, 0) }, reason: "NOT_FOUND", fault: authority.FaultSecondaryPrefix, setting: `secondary.key_prefix = "session:"`},
		{name: "key prefix of an environment", what: "the keys begin with the environment's name", seen: "ioredis keyPrefix",
			set: func(h *house) { h.inRedis(); h.key("prod:auth:"+h.token, h.token, 0) }, reason: "NOT_FOUND", fault: authority.FaultSecondaryPrefix, setting: `secondary.key_prefix = "prod:auth:"`},
		{name: "another Redis database", what: "the issuer uses another database of the Redis", seen: "redis URL without /N",
			set: func(h *house) {
				h.inRedis()
				h.env["secondary.url"] = strings.TrimSuffix(h.redis.URL(), "/0") + "/1"
			}, reason: "NOT_FOUND", fault: authority.FaultSecondaryEmpty, setting: "secondary.url"},
		{name: "signed out of Redis", what: "the session's key is gone", seen: "",
			set: func(h *house) { h.inRedis(); h.key(prefix+"another", "another", 0) }, reason: "NOT_FOUND", fault: authority.FaultEnded, setting: "none: sign in"},
		{name: "revoked mark", what: "all of the user's sessions were revoked, and a refresh wrote the key again", seen: "better-auth#11073",
			set: func(h *house) {
				h.inRedis()
				h.key(prefix+h.token, h.token, -time.Hour)
				h.keys.Do("SET", prefix+"revoked-sessions-before-"+userID, fmt.Sprint(time.Now().UnixMilli()))
			}, reason: "REVOKED", fault: authority.FaultRevokedMark, setting: "none: the issuer refuses it too"},
		{name: "row kept", what: "the session was revoked, and its row is kept (preserveSessionInDatabase)", seen: "survey §0.2",
			set: func(h *house) {
				h.inRedis()
				h.env["store.path"], h.env["secondary.store_in_database"], h.env["secondary.preserve_in_database"] = h.path, "true", "true"
				h.exec(`UPDATE session SET expiresAt = ?1, updatedAt = ?1`, date(-time.Minute))
			}, reason: "REVOKED", fault: authority.FaultRowKept, setting: "none: the issuer refuses it too"},
		{name: "row gone, strict", what: "the row was deleted by SQL and the key was not, and only what both hold is accepted", seen: "better-auth#11218; survey §0.8; motivating app",
			set: func(h *house) {
				h.both()
				h.env["policy.disagreement"] = "strict"
				h.exec(`DELETE FROM session WHERE id = ?`, sessionID)
			}, reason: "NOT_FOUND", fault: authority.FaultStoresDisagree, setting: `none: sign in; or policy.disagreement = "parity"`},
		{name: "key unreadable", what: "something else wrote the session's key", seen: "better-auth 1.2 answers 500",
			set: func(h *house) { h.inRedis(); h.keys.Do("SET", prefix+h.token, "{") }, reason: "STORED_VALUE_UNREADABLE", fault: authority.FaultKeyUnreadable, setting: "secondary.key_prefix"},
		{name: "key of another type", what: "something else keeps a list under the session's key", seen: "better-auth answers 500",
			set: func(h *house) { h.inRedis(); h.keys.Do("LPUSH", prefix+h.token, "x") }, reason: "STORED_VALUE_UNREADABLE", fault: authority.FaultKeyUnreadable, setting: "secondary.key_prefix"},
		{name: "date unreadable", what: "a row's expiry is no date", seen: "hand-made rows",
			set: func(h *house) { h.exec(`UPDATE session SET expiresAt = 'tomorrow'`) }, reason: "STORED_VALUE_UNREADABLE", fault: authority.FaultUnreadable, setting: "store.session_columns or store.user_columns"},
		{name: "token twice", what: "two rows have one token", seen: "a table without its unique index",
			set: func(h *house) {
				h.exec(`PRAGMA foreign_keys = OFF;
					CREATE TABLE s2 ("id" text not null primary key, "expiresAt" date not null, "token" text not null, "createdAt" date not null, "updatedAt" date not null, "ipAddress" text, "userAgent" text, "userId" text not null);
					INSERT INTO s2 SELECT * FROM session; INSERT INTO s2 SELECT 'again', expiresAt, token, createdAt, updatedAt, NULL, NULL, userId FROM session;
					DROP TABLE session; ALTER TABLE s2 RENAME TO session; CREATE INDEX session_token ON session (token)`)
			}, reason: "STORED_VALUE_UNREADABLE", fault: authority.FaultTokenTwice, setting: "none: delete one of the rows"},
		{name: "store away", what: "the database is gone", seen: "better-auth#11230; pomerium#6381; motivating app",
			set: func(h *house) {
				h.before = func() {
					if err := os.Remove(h.path); err != nil {
						h.t.Fatal(err)
					}
				}
			}, reason: undecided, fault: authority.FaultStoreAway, setting: "store.dsn or store.path"},
		{name: "Redis ACL", what: "the Redis user may not read the keys", seen: "Redis ACL",
			set: func(h *house) {
				h.inRedis()
				h.key(prefix+h.token, h.token, 0)
				h.before = func() { h.keys.Do("ACL", "SETUSER", "default", "resetkeys", "~other:*") }
			}, reason: undecided, fault: authority.FaultSecondaryAway, setting: "secondary.url"},
		{name: "secondary away", what: "the Redis is gone", seen: "better-auth#11230",
			set: func(h *house) {
				h.inRedis()
				h.before = func() { h.redis.Stop(h.t) }
			}, reason: undecided, fault: authority.FaultSecondaryAway, setting: "secondary.url"},
	}},
	{"What is stored", []seed{
		{name: "expired", what: "the cookie lives for 7 days and the session for 24 hours", seen: "motivating app",
			set: func(h *house) { h.exec(`UPDATE session SET expiresAt = ?`, date(-48*time.Hour)) }, reason: "EXPIRED", fault: authority.FaultExpired, setting: "none: sign in"},
		{name: "not remembered", what: "a session without rememberMe has ended, and the browser was never closed", seen: "Chrome restores session cookies",
			set: func(h *house) { h.exec(`UPDATE session SET expiresAt = ?`, date(-time.Hour)) }, reason: "EXPIRED", fault: authority.FaultExpired, setting: "none: sign in"},
		{name: "good one behind", what: "a session of columns without time zone has ended, and a good cookie stands behind it", seen: "better-auth#1043",
			set: func(h *house) {
				h.inPostgres("-4 hours")
				h.postgres(`INSERT INTO session SELECT 'again', now() + interval '30 days', $1, "createdAt", "updatedAt", NULL, NULL, "userId" FROM session`, "another-good-token")
				h.input += "; " + cookieName + "=" + sessioncookie.Encode(sessioncookie.Sign("another-good-token", secret))
			}, reason: "EXPIRED", fault: authority.FaultShadowed, setting: "none: delete the older cookie"},
		{name: "time zone", what: "Better Auth 1.2 on a machine five hours behind UTC wrote an expiry without a zone", seen: "better-auth vectors; motivating app's timestamp columns",
			set: func(h *house) { h.inPostgres("-4 hours") }, reason: "EXPIRED", fault: authority.FaultTimeZone, setting: "store.time_zone"},
		{name: "time zone said", what: "the zone was set, and the session has been over for four hours", seen: "drizzle's timestamp()",
			set: func(h *house) {
				h.inPostgres("-4 hours")
				h.env["store.time_zone"] = "UTC"
			}, reason: "EXPIRED", fault: authority.FaultExpired, setting: "none: sign in"},
		{name: "time zone ahead", what: "the same on a machine ahead of UTC: the session seems refreshed in the future", seen: "better-auth vectors",
			set: func(h *house) { h.inPostgres("7 days 5 hours") }, reason: good, fault: authority.FaultTimeZone, setting: "store.time_zone"},
		{name: "user gone", what: "the user was deleted and the session was not", seen: "better-auth 1.2 schema",
			set: func(h *house) { h.exec(`PRAGMA foreign_keys = OFF; DELETE FROM user`) }, reason: "USER_NOT_FOUND", fault: authority.FaultUserGone, setting: "none: delete the session"},
		{name: "banned", what: "the user is banned, and the rule is on", seen: "better-auth admin plugin",
			set: func(h *house) {
				h.env["policy.refuse_banned"] = "true"
				h.exec(`ALTER TABLE user ADD COLUMN banned integer; UPDATE user SET banned = 1`)
			}, reason: "USER_BANNED", fault: authority.FaultUserBanned, setting: "none: the ban is what refuses; policy.refuse_banned = false"},
		{name: "deleted", what: "the user is marked deleted, and the rule is on", seen: "motivating app",
			set: func(h *house) {
				h.env["policy.soft_delete_column"] = "deletedAt"
				h.exec(`ALTER TABLE user ADD COLUMN deletedAt date; UPDATE user SET deletedAt = ?`, date(0))
			}, reason: "USER_DELETED", fault: authority.FaultUserDeleted, setting: "none: the mark is what refuses; policy.soft_delete_column"},
		{name: "lifetime", what: "the session is older than the cap", seen: "ASVS 7.3.2",
			set: func(h *house) { h.env["policy.max_lifetime"] = "30m" }, reason: "LIFETIME_CAP", fault: authority.FaultLifetimeCap, setting: "policy.max_lifetime"},
		{name: "idle", what: "the session was not refreshed within the cap", seen: "ASVS 7.3.1",
			set: func(h *house) { h.env["policy.max_idle"] = "30m" }, reason: "IDLE_CAP", fault: authority.FaultIdleCap, setting: "policy.max_idle"},
		{name: "session_data bad", what: "a `session_data` cookie that does not verify, with an issuer up to 1.4", seen: "better-auth vectors",
			set: func(h *house) {
				h.env["issuer.version"] = "1.4"
				h.input += "; " + dataName + "=" + base64.RawURLEncoding.EncodeToString([]byte(`{"session":{"session":{},"user":{}},"expiresAt":1,"signature":"x"}`))
			}, reason: "SESSION_DATA_REJECTED", fault: authority.FaultSessionDataBad, setting: "none: the issuer refuses it too"},
		{name: "session_data damaged", what: "a damaged `session_data` cookie, where the strategy is jwt: compact would pass over it and is no cause", seen: "better-auth vectors",
			set: func(h *house) {
				h.env["issuer.version"], h.env["issuer.cookie_cache"] = "1.4", "jwt"
				h.input += "; " + dataName + "=" + base64.RawURLEncoding.EncodeToString([]byte(`not JSON, which compact passes over`))
			}, reason: "SESSION_DATA_REJECTED", fault: authority.FaultSessionDataBad, setting: "none: the issuer refuses it too"},
		{name: "session_data strategy", what: "the cache's strategy is jwt and compact is configured, or the other way", seen: "better-auth vectors",
			set: func(h *house) {
				h.env["issuer.version"], h.env["issuer.cookie_cache"] = "1.4", "jwt"
				h.input += "; " + dataName + "=" + h.cache(h.token, secret, time.Hour)
			}, reason: "SESSION_DATA_REJECTED", fault: authority.FaultSessionDataOther, setting: `issuer.cookie_cache = "compact"`},
	}},
	{"The cookie cache, and issuers without a store", []seed{
		{name: "cache outlives", what: "the session was signed out, and the issuer's cookie cache still says 200", seen: "better-auth#6893, #6966, #9991",
			set: func(h *house) {
				h.session("another", sessioncookie.NewToken())
				h.exec(`DELETE FROM session WHERE id = ?`, sessionID)
				h.input += "; " + dataName + "=" + h.cache(h.token, secret, time.Hour)
			}, reason: "NOT_FOUND", fault: authority.FaultCacheOutlives, setting: "none: sign in; at the issuer"},
		{name: "stateless without its cookie", what: "a stateless issuer's `session_token` arrives without its `session_data`", seen: "forwarding of one cookie",
			set: func(h *house) { h.stateless() }, reason: "NOT_FOUND", fault: authority.FaultDataMissing, setting: "none: send the browser's whole Cookie header"},
		{name: "stateless, a piece is missing", what: "of a `session_data` in pieces one is missing", seen: "header limits",
			set: func(h *house) {
				h.stateless()
				data := h.cache(h.token, secret, time.Hour)
				h.input += "; " + dataName + ".0=" + data[:100] + "; " + dataName + ".2=" + data[200:]
			}, reason: "MALFORMED", fault: authority.FaultDataIncomplete, setting: "none: send the browser's whole Cookie header"},
		{name: "stateless, another strategy", what: "the issuer writes jwt and compact is configured", seen: "",
			set: func(h *house) {
				h.stateless()
				h.input += "; " + dataName + "=eyJhbGciOiJIUzI1NiJ9.e30.c2ln"
			}, reason: "MALFORMED", fault: authority.FaultSessionDataOther, setting: "issuer.cookie_cache, "},
		{name: "stateless, rotated", what: "the `session_data` was written before the secret was rotated", seen: "next-auth#3721",
			set: func(h *house) {
				h.stateless()
				h.input += "; " + dataName + "=" + h.cache(h.token, "the secret before the last rotation", time.Hour)
			}, reason: "SESSION_DATA_REJECTED", fault: authority.FaultDataSecret, setting: "issuer.secret_file"},
		{name: "stateless, two sign-ins", what: "`session_token` and `session_data` are of two sign-ins (1.7)", seen: "better-auth vectors",
			set: func(h *house) {
				h.stateless()
				h.input += "; " + dataName + "=" + h.cache(sessioncookie.NewToken(), secret, time.Hour)
			}, reason: "SESSION_DATA_REJECTED", fault: authority.FaultDataToken, setting: "none: delete both cookies"},
		{name: "stateless, version", what: "the issuer's `cookieCache.version` is another", seen: "better-auth docs, cookie cache",
			set: func(h *house) {
				h.stateless()
				h.env["issuer.cookie_cache_version"] = "2"
				h.input += "; " + dataName + "=" + h.cache(h.token, secret, time.Hour)
			}, reason: "SESSION_DATA_REJECTED", fault: authority.FaultDataVersion, setting: "issuer.cookie_cache_version"},
		{name: "stateless, over", what: "the `session_data` is over", seen: "",
			set: func(h *house) {
				h.stateless()
				h.input += "; " + dataName + "=" + h.cache(h.token, secret, -time.Minute)
			}, reason: "EXPIRED", fault: authority.FaultDataOver, setting: "none: sign in"},
	}},
	{"Accepted, and worth a word", []seed{
		{name: "banned by SQL", what: "a user banned by SQL is accepted, as the issuer does", seen: "better-auth admin plugin",
			set: func(h *house) {
				h.exec(`ALTER TABLE user ADD COLUMN banned integer; UPDATE user SET banned = 1`)
			}, reason: good, fault: authority.FaultAcceptsBanned, setting: "policy.refuse_banned = true"},
		{name: "retired accepted", what: "a retired secret is accepted", seen: "next-auth#3721",
			set: func(h *house) {
				h.env["issuer.secret"] = "the issuer's new secret, also long enough"
				h.env["issuer.retired_secrets_file"], h.env["issuer.accept_retired_secrets"] = h.file(secret), "true"
			}, reason: good, fault: authority.FaultAcceptsRetired, setting: "issuer.accept_retired_secrets = false"},
		{name: "unsigned bearer accepted", what: "a bare token is accepted as bearer, as the plugin does without requireSignature", seen: "better-auth bearer plugin",
			set: func(h *house) {
				h.env["issuer.bearer"] = "true"
				h.input = "Authorization: Bearer " + h.token
			}, reason: good, fault: authority.FaultAcceptsUnsigned, setting: "issuer.bearer_require_signature = true"},
		{name: "bare token accepted", what: "a bare token of a worker is accepted", seen: "vlang#26198",
			set: func(h *house) {
				h.env["issuer.allow_bare_tokens"] = "true"
				h.as, h.input = "token", h.token
			}, reason: good, fault: authority.FaultAcceptsUnsigned, setting: "issuer.allow_bare_tokens = false"},
		{name: "two names", what: "one session arrives under several names and values", seen: "motivating app's forwarding",
			set: func(h *house) {
				delete(h.env, "issuer.base_url")
				h.input += "; " + secureName + "=" + sessioncookie.Encode(sessioncookie.Sign(h.token, secret))
				other := sessioncookie.NewToken()
				h.input = cookieName + "=" + sessioncookie.Encode(sessioncookie.Sign(other, secret)) + "; " + secureName + "=" + h.signed()
			}, reason: good, fault: authority.FaultSeveralCookies, setting: "issuer.base_url"},
		{name: "row gone", what: "the row was deleted by SQL and the key was not: the issuer goes by the key", seen: "better-auth#11218; survey §0.8; motivating app",
			set: func(h *house) {
				h.both()
				h.exec(`DELETE FROM session WHERE id = ?`, sessionID)
			}, reason: good, fault: authority.FaultStoresDisagree, setting: `policy.disagreement = "strict"`},
		{name: "clock behind", what: "this machine's clock is ten minutes behind the issuer's", seen: "Clerk's clockSkewInMs",
			set: func(h *house) { h.exec(`UPDATE session SET createdAt = ?1, updatedAt = ?1`, date(10*time.Minute)) }, reason: good, fault: authority.FaultClockBehind, setting: "none: set the clocks by NTP"},
	}},
}

// file writes a file of the test's and returns its path.
func (h *house) file(content string) string {
	h.t.Helper()
	f, err := os.CreateTemp(h.t.TempDir(), "secret")
	if err == nil {
		_, err = f.WriteString(content + "\n")
	}
	if err != nil {
		h.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		h.t.Fatal(err)
	}
	return f.Name()
}

// starts are what is refused before anything is decided.
var starts = []struct {
	what, seen string
	set        func(h *house)
	code       int
	says       string
}{
	{"a setting that does not exist", "openfga CVE-2026-55689: a check that is silently skipped", func(h *house) { h.env["issuer.session_cookie_name"] = "codex-session" }, 2, "SESSIOND_ISSUER_SESSION_COOKIE_NAME"},
	{"a secret of 12 bytes", "better-auth only warns", func(h *house) { h.env["issuer.secret"] = "short secret" }, 2, "the secret is 12 bytes"},
	{"no secret", "better-auth's default secret", func(h *house) { delete(h.env, "issuer.secret") }, 2, "issuer.secret"},
	{"a version that is not known", "", func(h *house) { h.env["issuer.version"] = "2.0" }, 2, "issuer.version"},
	{"`preserve` without secondary storage", "survey §0.2", func(h *house) { h.env["secondary.preserve_in_database"] = "true" }, 2, "secondary.preserve_in_database"},
	{"no session table", "another database than the issuer's", func(h *house) { h.exec(`DROP TABLE session`) }, 3, "store.session_table"},
	{"a column that discovery does not know", "renamed fields", func(h *house) { h.exec(`ALTER TABLE session RENAME COLUMN expiresAt TO valid_until`) }, 3, "store.session_columns"},
	{"two tables that could be the session's", "a schema of two issuers", func(h *house) { h.exec(`CREATE TABLE sessions AS SELECT * FROM session`) }, 3, "store.session_table"},
	{"no index on the token", "hand-made tables", func(h *house) {
		h.exec(`PRAGMA foreign_keys = OFF; CREATE TABLE s2 AS SELECT * FROM session; DROP TABLE session; ALTER TABLE s2 RENAME TO session`)
	}, 3, "CREATE"},
	{"a soft-delete column that is not there", "motivating app", func(h *house) { h.env["policy.soft_delete_column"] = "deletedAt" }, 3, "deletedAt"},
	{"no such database file", "", func(h *house) { h.env["store.path"] = h.path + ".gone" }, 3, "store.path"},
	{"a DSN that lets nobody in", "", func(h *house) {
		delete(h.env, "store.path")
		h.env["store.driver"], h.env["store.dsn"] = "postgres", "postgres://nobody:wrong@127.0.0.1:1/app?connect_timeout=2"
	}, 3, "127.0.0.1"},
	{"a Redis that is not there", "", func(h *house) {
		delete(h.env, "store.path")
		h.env["secondary.url"] = "redis://:wrong@127.0.0.1:1/0"
	}, 3, "secondary.url"},
}
