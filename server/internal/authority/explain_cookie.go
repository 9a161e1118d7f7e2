package authority

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sessiond/sessiond/server/internal/sessiondata"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/issued"
	"github.com/sessiond/sessiond/sessioncookie"
)

// explainStateless goes on after the token has verified, where the issuer has no store.
func (a *Authority) explainStateless(e Explanation, c Credential, reading sessioncookie.Reading, now time.Time) Explanation {
	payload, state := a.openCookie(c, reading, now)
	answer := a.fromPayload(payload, state, reading, now)
	v := answer.Verdict
	detail := a.describeCookie(reading, payload, state)
	if state == sessiondata.Good && answer.Record.Unreadable == "" {
		s := &answer.Record.Session
		detail += fmt.Sprintf(": session %s of user %s, expires %s", withhold(s.ID, reading.Token), withhold(s.UserID, reading.Token), instant(s.ExpiresAt))
	}
	e.step("session_data", state == sessiondata.Good, "%s; the issuer has no store, so this cookie is the session", detail)
	if v.Good() {
		e.Verdict, e.RemainingMs, e.NeedsRefresh = VerdictGood, v.Remaining.Milliseconds(), v.NeedsRefresh
		e.step("decide", true, "good for another %s", v.Remaining.Round(time.Millisecond))
		return e
	}
	e.Reason = v.Reason.String()
	e.step("decide", false, "%s", v.Reason)
	e.Advice = a.adviseCookie(c, state, v.Reason)
	return e
}

// compareCookie adds a step where a session_data cookie arrived and the issuer has a
// store: it has no say here, but the issuer's plain get-session answers from it. The
// advice is for a session that is refused here and still good there.
func (a *Authority) compareCookie(e *Explanation, c Credential, reading sessioncookie.Reading, r *store.Record, now time.Time) (outlives []Advice) {
	payload, state := a.openCookie(c, reading, now)
	if state == sessiondata.Absent {
		return nil
	}
	detail := a.describeCookie(reading, payload, state) + ", and not asked here"
	if payload != nil {
		detail += "; " + compareWithStore(payload, r)
	}
	if state == sessiondata.Good {
		// Without an end of its own, the cookie is good as long as the session in it.
		until := payload.Until
		cached := issued.Decoder{}.Record(payload.Session, payload.User)
		if ends := cached.Session.ExpiresAt; cached.Unreadable == "" && (until.IsZero() || ends.Before(until)) {
			until = ends
		}
		if v := a.Decide(r, now); !v.Good() {
			detail += fmt.Sprintf("; where the issuer's cookie cache is on, its plain get-session will still say 200 until %s (%s here)", instant(until), v.Reason)
			outlives = []Advice{{FaultCacheOutlives, fmt.Sprintf("the session has ended in the store, and the issuer's cookie cache goes on answering 200 from the browser's cookie until %s: the two differ by design", instant(until)), "none: sign in; at the issuer, ask get-session with disableCookieCache, or give session.cookieCache a shorter maxAge"}}
		} else {
			detail += fmt.Sprintf("; where the issuer's cookie cache is on, its plain get-session answers from it until %s", instant(until))
		}
	}
	e.step("session_data", true, "%s", detail)
	return outlives
}

// describeCookie says which cookie and what is found there.
func (a *Authority) describeCookie(reading sessioncookie.Reading, p *sessiondata.Payload, state sessiondata.State) string {
	beside := a.beside(reading.Name)
	text := fmt.Sprintf("cookie %s, strategy %s: %s", beside.SessionData.Name, beside.sessionData.Strategy(), state)
	if p == nil {
		return text
	}
	if !p.UpdatedAt.IsZero() {
		text += ", written " + instant(p.UpdatedAt)
	}
	if !p.Until.IsZero() {
		text += ", ends " + instant(p.Until)
	}
	return text
}

// compareWithStore names what differs, never a value.
func compareWithStore(p *sessiondata.Payload, r *store.Record) string {
	cached := issued.Decoder{}.Record(p.Session, p.User)
	switch {
	case cached.Unreadable != "":
		return "what it holds cannot be compared: " + cached.Unreadable
	case !r.Found:
		return "the store has no such session"
	case r.Unreadable != "":
		return "what the store holds cannot be compared: " + r.Unreadable
	case r.User == nil:
		return "the store has no such user"
	case cached.User.ID != r.User.ID:
		return "it names another user than the store"
	case cached.Session.ID != r.Session.ID && cached.Session.ID != "" && r.Session.ID != "":
		return "it names another session of the same user than the store"
	}
	differ := slices.Concat(differences("session", sessionFields(&cached.Session), sessionFields(&r.Session)), differences("user", userFields(cached.User), userFields(r.User)))
	if len(differ) == 0 {
		return "it holds what the store does"
	}
	return "the store has another value since, in " + strings.Join(differ, ", ")
}

// field is a value of the one or the other, as far as it can be compared.
type field struct {
	kind store.Kind
	text string
}

// sessionFields and userFields are what may change under a session, by name.
func sessionFields(s *store.Session) map[string]field {
	fields := attributeFields(s.Attributes)
	fields["updatedAt"], fields["expiresAt"] = field{store.KindTime, instant(s.UpdatedAt)}, field{store.KindTime, instant(s.ExpiresAt)}
	fields["activeOrganizationId"], fields["impersonatedBy"] = optionalField(s.ActiveOrganizationID), optionalField(s.ImpersonatedBy)
	return fields
}

func userFields(u *store.User) map[string]field {
	fields := attributeFields(u.Attributes)
	fields["name"], fields["email"] = field{store.KindString, u.Name}, field{store.KindString, u.Email}
	fields["image"], fields["role"] = optionalField(u.Image), optionalField(u.Role)
	fields["updatedAt"] = field{store.KindTime, instant(u.UpdatedAt)}
	fields["emailVerified"] = field{store.KindBool, strconv.FormatBool(u.EmailVerified)}
	fields["banned"] = field{store.KindBool, strconv.FormatBool(u.Banned)}
	return fields
}

func attributeFields(attributes []store.Attribute) map[string]field {
	fields := make(map[string]field, len(attributes))
	for i := range attributes {
		at := &attributes[i]
		f := field{kind: at.Kind, text: at.Text}
		switch at.Kind {
		case store.KindInt:
			f.text = strconv.FormatInt(at.Int, 10)
		case store.KindFloat:
			f.text = strconv.FormatFloat(at.Float, 'g', -1, 64)
		case store.KindBool:
			f.text = strconv.FormatBool(at.Bool)
		case store.KindTime:
			f.text = instant(at.Time)
		case store.KindJSON, store.KindBytes:
			continue // one value has several spellings
		}
		fields[at.Name] = f
	}
	return fields
}

func optionalField(s *string) field {
	if s == nil {
		return field{kind: store.KindNull}
	}
	return field{store.KindString, *s}
}

// differences returns the names of the fields with different values, in order. One that
// only one of them has may be hidden, or not returned, and one that the two hold in
// different kinds is spelled differently: neither is compared.
func differences(of string, a, b map[string]field) []string {
	var out []string
	for name, value := range a {
		other, ok := b[name]
		comparable := ok && (other.kind == value.kind || other.kind == store.KindNull || value.kind == store.KindNull)
		if comparable && other != value {
			out = append(out, of+"."+name)
		}
	}
	slices.Sort(out)
	return out
}

func instant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// adviseCookie names likely causes of a stateless session that was refused.
func (a *Authority) adviseCookie(c Credential, state sessiondata.State, reason Reason) []Advice {
	const whole = "none: send the browser's whole Cookie header"
	switch state {
	case sessiondata.Absent:
		if c.Form != FormHeaders {
			return []Advice{{FaultDataMissing, "only a token was sent, and a stateless session is in the session_data cookie", whole}}
		}
		return []Advice{
			{FaultDataMissing, "the session_data cookie has ended in the browser, or something on the way passed on the session_token cookie alone: the issuer's get-session writes it anew while it is there, and then the user signs in again", whole},
			{FaultStoreOther, "or the issuer is not stateless: its sessions are in a database", "store.driver"},
		}
	case sessiondata.Incomplete:
		return []Advice{{FaultDataIncomplete, "something on the way dropped cookies: the pieces of session_data belong together, and headers of this size meet limits", whole}}
	case sessiondata.Unreadable:
		return []Advice{{FaultSessionDataOther, "the issuer writes the cookie by another strategy", "issuer.cookie_cache, issuer.cookie_cache_jwks_file"}}
	case sessiondata.Mismatched:
		return []Advice{{FaultDataSecret, "the cookie was written with a secret or a key of before a rotation, or by another issuer", "issuer.secret_file, issuer.cookie_cache_jwks_file; or issuer.accept_retired_secrets = true, and not if a secret leaked: whoever has it makes sessions"}}
	case sessiondata.OtherToken:
		return []Advice{{FaultDataToken, "session_token and session_data are of two sign-ins: one of the two cookies was kept from before" + anIssuers, "none: delete both cookies and sign in"}}
	case sessiondata.OtherVersion:
		return []Advice{{FaultDataVersion, "the issuer's cookieCache.version was raised, which signs everybody out, or is another here", "issuer.cookie_cache_version"}}
	case sessiondata.Expired:
		return []Advice{{FaultDataOver, "the cookie, or the session in it, is over; needs_refresh says in time when the issuer's get-session has to be asked for a new cookie", "none: sign in"}}
	}
	switch reason {
	case ReasonExpired:
		return []Advice{{FaultExpired, "the session in the cookie is over", "none: sign in"}}
	case ReasonLifetimeCap:
		return []Advice{{FaultLifetimeCap, "the session is older than the cap", "policy.max_lifetime"}}
	case ReasonStoredValueUnreadable:
		return []Advice{{FaultUnreadable, "the cookie verifies and holds a value of an unexpected form", "none: see what else writes this cookie"}}
	default:
		return nil
	}
}
