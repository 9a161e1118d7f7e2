package authority

import (
	"errors"
	"time"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/sessiondata"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/issued"
	"github.com/sessiond/sessiond/sessioncookie"
)

// Stateless says how sessions are read of an issuer without a session store: out of
// its signed session_data cookie, which then is the session.
type Stateless struct {
	// Decoder reads the session and the user in the cookie.
	Decoder issued.Decoder
	// RefreshAge is the issuer's session.cookieCache.refreshCache.updateAge: with less
	// than that left of a cookie, its get-session writes a new one. 0: never.
	RefreshAge time.Duration
}

// ErrStateless means that something was asked for that needs a session store, which the
// issuer does not have.
var ErrStateless = errors.New("the issuer is stateless (store.driver=none): a session is its signed cookie and nothing else, so it cannot be made, found, refreshed or revoked here, and there are no revisions; it ends with its cookie, and all end when issuer.cookie_cache_version or the secret changes")

// Stateless reports whether the issuer has no session store.
func (a *Authority) Stateless() bool { return a.cfg.Stateless != nil }

// cookieReasons says why a session is refused by the state of its session_data cookie.
// An issuer that does not answer from the cookie looks into a store that is empty.
var cookieReasons = [...]Reason{
	sessiondata.Absent:       ReasonNotFound,
	sessiondata.Incomplete:   ReasonMalformed,
	sessiondata.Unreadable:   ReasonMalformed,
	sessiondata.Mismatched:   ReasonSessionDataRejected,
	sessiondata.OtherToken:   ReasonSessionDataRejected,
	sessiondata.OtherVersion: ReasonSessionDataRejected,
	sessiondata.Expired:      ReasonExpired,
	sessiondata.Good:         ReasonNone,
}

// openCookie opens the session_data cookie beside a verified token.
func (a *Authority) openCookie(c Credential, reading sessioncookie.Reading, now time.Time) (*sessiondata.Payload, sessiondata.State) {
	beside := a.beside(reading.Name)
	if c.Form != FormHeaders || beside.sessionData == nil {
		return nil, sessiondata.Absent
	}
	return beside.sessionData.Open(sessionDataOf(c, reading), now)
}

// fromCookie answers for a stateless issuer. What it answers is as new as the question:
// nobody but the cookie knows of the session, so there is no change to be told of.
func (a *Authority) fromCookie(c Credential, reading sessioncookie.Reading, now time.Time) Answer {
	payload, state := a.openCookie(c, reading, now)
	return a.fromPayload(payload, state, reading, now)
}

// fromPayload answers from what was found in the cookie.
func (a *Authority) fromPayload(payload *sessiondata.Payload, state sessiondata.State, reading sessioncookie.Reading, now time.Time) Answer {
	answer := Answer{
		Verdict: Verdict{Reason: cookieReasons[state]}, Record: &store.Record{}, Secret: reading.Secret,
		Verified: true, Key: feed.KeyOf(reading.Token),
	}
	if !answer.Verdict.Good() {
		return answer
	}
	record := a.cfg.Stateless.Decoder.Record(payload.Session, payload.User)
	v := Decide(&record, now, a.cfg.Policy)
	if v.Good() {
		v.NeedsRefresh = false
		if !payload.Until.IsZero() {
			left := milliseconds(payload.Until.UnixMilli() - now.UnixMilli())
			v.Remaining, v.NeedsRefresh = min(v.Remaining, left), left < a.cfg.Stateless.RefreshAge
		}
	}
	answer.Record, answer.Verdict = &record, v
	return answer
}
