package authority

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server/internal/cache"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/sessioncookie"
)

// Explanation is a decision with its trace. It names cookies, lengths and a
// digest of the token; never a token, a cookie's value, a signature or a secret.
type Explanation struct {
	// Verdict is "good", "refused", or "undecided" where the store could not be asked.
	Verdict string `json:"verdict"`
	// Reason is the reason of a refusal.
	Reason string `json:"reason,omitempty"`
	// Steps are what was done, in order.
	Steps []Step `json:"steps"`
	// Advice is what to change, the likeliest first. Empty for a good session.
	Advice []Advice `json:"advice,omitempty"`
	// RemainingMs is how long a good session stays good, in milliseconds.
	RemainingMs int64 `json:"remaining_ms,omitempty"`
	// NeedsRefresh reports whether the issuer's refresh is due.
	NeedsRefresh bool `json:"needs_refresh,omitempty"`
}

// Step is one step of a decision.
type Step struct {
	// Name is the step: intake, pick, decode, signature, session_data, lookup, decide.
	Name string `json:"name"`
	// OK reports whether the decision went on after it.
	OK bool `json:"ok"`
	// Detail says what was seen.
	Detail string `json:"detail"`
}

// Advice is a likely cause and the setting that would change the verdict.
type Advice struct {
	Cause   string `json:"cause"`
	Setting string `json:"setting,omitempty"`
}

// The verdicts of an explanation.
const (
	VerdictGood      = "good"
	VerdictRefused   = "refused"
	VerdictUndecided = "undecided"
)

const maxExplainedCookies = 64

// Explain decides as Validate does, by the same calls, and says how. The error
// is that of the store, where it could not be asked; the Explanation then holds
// the steps up to there. d describes the store.
func (a *Authority) Explain(ctx context.Context, now time.Time, d store.Description, c Credential) (Explanation, error) {
	return a.explain(now, d, c, func(q cache.Question) (cache.Answer, []store.Finding, error) {
		known, err := a.records.Get(ctx, q)
		if err != nil {
			return known, nil, err
		}
		return known, a.records.Findings(ctx, q.Token), nil
	})
}

// Trace says how an answer that Validate gave was decided, without asking the store.
func (a *Authority) Trace(now time.Time, d store.Description, c Credential, answer *Answer) Explanation {
	e, _ := a.explain(now, d, c, func(q cache.Question) (cache.Answer, []store.Finding, error) {
		return cache.Answer{Record: answer.Record, AsOf: q.Arrived}, nil, nil
	})
	return e
}

// explain takes the record of a verified token from get, and what the places hold that
// make up the store, if they are several.
func (a *Authority) explain(now time.Time, d store.Description, c Credential, get func(cache.Question) (cache.Answer, []store.Finding, error)) (Explanation, error) {
	e := Explanation{Verdict: VerdictRefused}
	cookies := sessioncookie.Inspect(c.Cookie, maxExplainedCookies)
	e.step("intake", true, "%s", a.describeIntake(c, cookies))

	reading, reason := a.read(c, now)
	e.step("pick", reading.Source != sessioncookie.SourceNone, "%s", describePick(c, reading))
	if form := describeDecoding(reading, cookies); form != "" {
		e.step("decode", true, "%s", form)
	}
	if reading.Err != nil {
		e.Reason = reason.String()
		e.step("signature", false, "%s", a.describeFailure(reason, reading))
		e.Advice = a.adviseReading(reason, c, reading, cookies)
		return e, nil
	}
	if reading.Signed {
		e.step("signature", true, "made with secret %d of %d; the token is %d bytes, sha256 %s", reading.Secret+1, len(a.cfg.Cookies.Secrets), len(reading.Token), digest(reading.Token))
	} else {
		e.step("signature", true, "none: a bare token, which the configuration allows; %d bytes, sha256 %s", len(reading.Token), digest(reading.Token))
	}
	if reason != ReasonNone {
		e.Reason = reason.String()
		e.step("session_data", false, "the %s cookie beside the token does not verify, and issuer version %s then refuses the session", a.beside(reading.Name).SessionData.Name, a.beside(reading.Name).SessionData.Version)
		e.Advice = []Advice{{Cause: "the issuer's cookie cache was written by another secret, another strategy or another version", Setting: "issuer.cookie_cache, issuer.version"}}
		return e, nil
	}

	q := a.question(Call{Now: now, Arrived: clock.Now()}, reading.Token)
	known, findings, err := get(q)
	if err != nil {
		e.Verdict = VerdictUndecided
		e.step("lookup", false, "%v", err)
		e.Advice = []Advice{{Cause: "the store could not be asked; this says nothing about the session", Setting: "store.driver, store.dsn"}}
		return e, err
	}
	e.step("lookup", known.Record.Found, "%s", describeRecord(d, known.Record, now))
	advice := e.compare(findings, now, a.cfg.Policy)

	answer := a.answer(c, reading, q, known, now)
	v := answer.Verdict
	if v.Good() {
		e.Verdict, e.RemainingMs, e.NeedsRefresh = VerdictGood, v.Remaining.Milliseconds(), v.NeedsRefresh
		e.step("decide", true, "good for another %s", v.Remaining.Round(time.Millisecond))
		return e, nil
	}
	e.Reason = v.Reason.String()
	e.step("decide", false, "%s", v.Reason)
	e.Advice = append(advice, adviseDecision(v.Reason, d, known.Record)...)
	return e, nil
}

func (e *Explanation) step(name string, ok bool, format string, args ...any) {
	e.Steps = append(e.Steps, Step{Name: name, OK: ok, Detail: fmt.Sprintf(format, args...)})
}

// digest names a token without telling any of it: tokens are random, so eight
// bytes of SHA-256 lead nowhere, and an operator can compute the same from a row.
func digest(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:8]) + "…"
}

func (a *Authority) describeIntake(c Credential, cookies []sessioncookie.Cookie) string {
	switch c.Form {
	case FormCookieValue:
		return fmt.Sprintf("the value of the session cookie, %d bytes", len(c.Value))
	case FormToken:
		return fmt.Sprintf("a bare token, %d bytes", len(c.Value))
	}
	var b strings.Builder
	if c.Cookie == "" {
		b.WriteString("no Cookie header")
	} else {
		fmt.Fprintf(&b, "Cookie header of %d bytes: ", len(c.Cookie))
		for i, k := range cookies {
			if i > 0 {
				b.WriteString(", ")
			}
			fmt.Fprintf(&b, "%s (%d bytes%s)", k.Name, k.ValueBytes, shape(k))
		}
		if len(cookies) == maxExplainedCookies {
			b.WriteString(", …")
		}
	}
	switch {
	case c.Authorization == "":
	case a.cfg.Cookies.Bearer:
		fmt.Fprintf(&b, "; Authorization header of %d bytes", len(c.Authorization))
	default:
		fmt.Fprintf(&b, "; Authorization header of %d bytes, not read (issuer.bearer is off)", len(c.Authorization))
	}
	fmt.Fprintf(&b, "; names read: %s", strings.Join(a.cfg.Cookies.Names, ", "))
	return b.String()
}

func shape(k sessioncookie.Cookie) string {
	s := ""
	if k.Quoted {
		s += ", quoted"
	}
	if k.PercentEncoded {
		s += ", percent-encoded"
	}
	if k.Dots == 0 {
		s += ", no dot"
	}
	return s
}

func describePick(c Credential, r sessioncookie.Reading) string {
	switch r.Source {
	case sessioncookie.SourceCookie:
		if c.Form == FormCookieValue {
			return "the cookie value"
		}
		_, n := sessioncookie.Find(c.Cookie, r.Name)
		if n > 1 {
			return fmt.Sprintf("cookie %s, the first of %d of that name", r.Name, n)
		}
		return "cookie " + r.Name
	case sessioncookie.SourceBearer:
		return "the Authorization header"
	case sessioncookie.SourceToken:
		return "the bare token"
	default:
		return "nothing that can carry a session"
	}
}

// describeDecoding says how the cookie's value was undone before its signature
// was looked at.
func describeDecoding(r sessioncookie.Reading, cookies []sessioncookie.Cookie) string {
	if r.Source != sessioncookie.SourceCookie {
		return ""
	}
	for _, k := range cookies {
		if k.Name != r.Name {
			continue
		}
		form := "taken as it stands: it has no percent escape"
		if k.PercentEncoded {
			form = "percent-decoded once, if every escape is right, else taken as it stands"
		}
		if k.Quoted {
			form = "first and last character dropped, as it starts with a quote; then " + form
		}
		return form
	}
	return ""
}

func (a *Authority) describeFailure(reason Reason, r sessioncookie.Reading) string {
	secrets := fmt.Sprintf("%d configured and %d retired secrets", len(a.cfg.Cookies.Secrets), len(a.cfg.Cookies.Retired))
	switch reason {
	case ReasonBadSignature:
		return "none of the " + secrets + " made it"
	case ReasonRetiredSecret:
		return "made by one of the retired secrets (" + secrets + ")"
	default:
		return strings.TrimPrefix(r.Err.Error(), "sessioncookie: ")
	}
}

func describeRecord(d store.Description, r *store.Record, now time.Time) string {
	where := fmt.Sprintf("%s %s, table %s", d.Driver, d.Location, d.Session.Name)
	switch {
	case !r.Found:
		return where + ": no row with this token"
	case r.Unreadable != "":
		return where + ": a row that cannot be read: " + r.Unreadable
	}
	s := r.Session
	at := func(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
	text := fmt.Sprintf("%s: session %s of user %s, created %s, updated %s, expires %s (now %s)", where, s.ID, s.UserID, at(s.CreatedAt), at(s.UpdatedAt), at(s.ExpiresAt), at(now))
	if r.User == nil {
		return text + "; no row in " + d.User.Name + " with that id"
	}
	return text + fmt.Sprintf("; user found, banned %t, marked deleted %t", r.User.Banned, r.User.Deleted)
}

// adviseReading names likely causes of a credential that did not verify.
func (a *Authority) adviseReading(reason Reason, c Credential, r sessioncookie.Reading, cookies []sessioncookie.Cookie) []Advice {
	switch reason {
	case ReasonNoCredential:
		var out []Advice
		for _, k := range cookies {
			if cause, setting := a.lookAlike(k); cause != "" {
				out = append(out, Advice{Cause: cause, Setting: setting})
			}
		}
		if len(out) == 0 {
			out = []Advice{{Cause: "the session cookie never reached us: check the cookie's Domain, Path and SameSite, and that the proxy passes the Cookie header on"}}
		}
		return out
	case ReasonBadSignature:
		return []Advice{
			{Cause: "another secret made the signature: the issuer's BETTER_AUTH_SECRET is not, to the byte, the one configured here", Setting: "issuer.secret_file"},
			{Cause: "the issuer's secret was rotated, which signs everybody out", Setting: "issuer.retired_secrets_file"},
			{Cause: "the token or the signature was changed on its way"},
		}
	case ReasonRetiredSecret:
		return []Advice{{Cause: "the cookie was signed before the last rotation; the issuer refuses it too", Setting: "issuer.accept_retired_secrets"}}
	case ReasonUnsignedNotAllowed:
		return []Advice{{Cause: "a bare database token was presented where a signed credential is wanted", Setting: "issuer.allow_bare_tokens, issuer.bearer_require_signature"}}
	case ReasonMalformed:
		if a.encodedTwice(c, r.Name) {
			return []Advice{{Cause: "the cookie was percent-encoded twice: something copied the encoded value of a Set-Cookie into a cookie of its own; the issuer refuses it too", Setting: "none: copy the decoded value, or let the browser keep the issuer's cookie"}}
		}
		for _, k := range cookies {
			if k.Name == r.Name && k.Dots == 0 {
				return []Advice{{Cause: "the cookie holds no signature: it is the bare token of the database, or was encoded twice; the issuer refuses it too", Setting: "none: send the cookie as the issuer set it"}}
			}
		}
		return []Advice{{Cause: "the value is not token.signature with a 44-character base64 signature, or was encoded twice, or the headers hold bytes or a length that are not let through; the issuer refuses it too", Setting: "none: send the cookie as the issuer set it"}}
	default:
		return nil
	}
}

// lookAlike says why a cookie that is not read might have been meant.
func (a *Authority) lookAlike(k sessioncookie.Cookie) (cause, setting string) {
	const secure, host = "__Secure-", "__Host-"
	bare := strings.TrimPrefix(strings.TrimPrefix(k.Name, secure), host)
	for _, want := range a.cfg.Cookies.Names {
		wantBare := strings.TrimPrefix(strings.TrimPrefix(want, secure), host)
		switch {
		case bare == wantBare && k.Name != want:
			return fmt.Sprintf("cookie %s arrived, %s is read: the issuer and sessiond disagree about secure cookies", k.Name, want), "issuer.base_url or issuer.use_secure_cookies"
		case strings.EqualFold(k.Name, want):
			return fmt.Sprintf("cookie %s arrived, %s is read: cookie names are case-sensitive", k.Name, want), "issuer.cookie_name"
		}
	}
	const standard = ".session_token"
	switch prefix, isStandard := strings.CutSuffix(bare, standard); {
	case isStandard && !strings.HasSuffix(a.cfg.Cookies.Names[0], standard):
		// session.cookieName and session.cookie look like the option and are none.
		value := `""`
		if prefix != "better-auth" {
			value += fmt.Sprintf(` and issuer.cookie_prefix = %q`, prefix)
		}
		return fmt.Sprintf("cookie %s arrived, %s is read: the issuer does not use that name (its session.cookieName is not an option, and is ignored)", k.Name, a.cfg.Cookies.Names[0]), "issuer.cookie_name = " + value
	case isStandard:
		return fmt.Sprintf("cookie %s arrived, %s is read: the issuer has another cookiePrefix (an empty one is the default, better-auth)", k.Name, a.cfg.Cookies.Names[0]), fmt.Sprintf("issuer.cookie_prefix = %q", prefix)
	case k.Dots > 0 && k.ValueBytes >= 32+1+44 && k.ValueBytes <= 128:
		return fmt.Sprintf("cookie %s has the size of a signed session cookie and is not read", k.Name), fmt.Sprintf("issuer.cookie_name = %q, if the issuer's advanced.cookies.session_token.name is that", bare)
	}
	return "", ""
}

// encodedTwice reports whether a cookie verifies once more percent-decoded.
func (a *Authority) encodedTwice(c Credential, name string) bool {
	value := c.Value
	if c.Form == FormHeaders {
		value, _ = sessioncookie.Find(c.Cookie, name)
	}
	once, err := url.PathUnescape(value)
	return err == nil && once != value && a.reader.FromValue(once).Err == nil
}

// adviseDecision names likely causes of a session that was refused.
func adviseDecision(reason Reason, d store.Description, r *store.Record) []Advice {
	switch reason {
	case ReasonNotFound:
		return []Advice{
			{Cause: "the session was signed out or revoked: the row is gone"},
			{Cause: "this is not the issuer's database or table: " + d.Location + ", " + d.Session.Name, Setting: "store.dsn, store.session_table"},
			{Cause: "the issuer keeps sessions in secondary storage and writes no rows (storeSessionInDatabase is false)", Setting: "the issuer's session.storeSessionInDatabase"},
		}
	case ReasonExpired:
		return []Advice{
			{Cause: "the session is over; the user signs in again"},
			{Cause: "times without a zone were written by a process in another time zone, if the instants above are hours off", Setting: "store.time_zone"},
		}
	case ReasonUserNotFound:
		return []Advice{{Cause: "the user's row is gone and the session's is not: the foreign key does not cascade"}}
	case ReasonUserBanned:
		return []Advice{{Cause: "the user is banned; the issuer's own get-session does not look", Setting: "policy.refuse_banned"}}
	case ReasonUserDeleted:
		return []Advice{{Cause: "the user is marked deleted", Setting: "policy.soft_delete_column"}}
	case ReasonLifetimeCap:
		return []Advice{{Cause: "the session is older than the cap", Setting: "policy.max_lifetime"}}
	case ReasonIdleCap:
		return []Advice{{Cause: "the issuer has not refreshed the session within the cap", Setting: "policy.max_idle"}}
	case ReasonStoredValueUnreadable:
		return []Advice{{Cause: "a column holds a value of an unexpected form: " + r.Unreadable, Setting: "store.session_columns, store.user_columns"}}
	default:
		return nil
	}
}
