package sessiondata

import (
	"encoding/json"
	"math"
	"strings"
	"time"

	"github.com/sessiond/sessiond/sessioncookie"
)

// State is what is found where a session_data cookie may be.
type State uint8

// The states. All but Good mean that the issuer does not answer from the cookie.
const (
	// Absent: there is none, or an empty one.
	Absent State = iota
	// Incomplete: of its chunks some are missing.
	Incomplete
	// Unreadable: it is not of the form that the configured strategy has.
	Unreadable
	// Mismatched: no secret or key of the issuer's made it.
	Mismatched
	// OtherToken: it was made with another token, where that counts.
	OtherToken
	// OtherVersion: it is not of the configured version.
	OtherVersion
	// Expired: it, or the session in it, is over.
	Expired
	// Good: the issuer's plain get-session answers from it.
	Good
)

var stateNames = [...]string{
	Absent:       "absent",
	Incomplete:   "incomplete: chunks are missing",
	Unreadable:   "not readable: it is of another strategy, or damaged",
	Mismatched:   "signed or encrypted with another secret",
	OtherToken:   "made with another token",
	OtherVersion: "of another version",
	Expired:      "expired",
	Good:         "good",
}

// String says it in words.
func (s State) String() string { return stateNames[s] }

// Payload is what a cookie says.
type Payload struct {
	// Session and User are the issuer's objects, by field. The token is among Session.
	Session, User map[string]json.RawMessage
	// Token is the session's: a secret.
	Token string
	// UpdatedAt is when the issuer wrote the cookie; zero: it does not say.
	UpdatedAt time.Time
	// Until is the last instant at which the issuer answers from the cookie; zero: the
	// cookie sets none. The session in it may end before.
	Until time.Time
	// Version is the cookie's.
	Version string
}

// Open reads the session_data cookie of a request as the issuer's plain get-session
// does at an instant. The payload is verified in the states Good, Expired,
// OtherVersion and OtherToken, and nil in the others.
func (c *Checker) Open(r Request, now time.Time) (*Payload, State) {
	data, gap := c.find(r)
	if data == "" {
		return nil, Absent
	}
	p, state := c.payload(data, now)
	switch {
	case state != Good && gap:
		return nil, Incomplete
	case state != Good:
		return nil, state
	case c.bound && p.Token != r.Token:
		return p, OtherToken
	case c.version >= sessioncookie.V1_4 && p.Version != c.expected:
		return p, OtherVersion
	case p.over(now):
		return p, Expired
	}
	return p, Good
}

// payload verifies session data; Good says no more than that.
func (c *Checker) payload(data string, now time.Time) (*Payload, State) {
	if c.strategy != Compact {
		read, slack, state := c.claims(data)
		if state != Good {
			return nil, state
		}
		if nbf := read.get("nbf"); nbf.kind == kindNumber && nbf.number > float64(now.Unix())+slack.Seconds() {
			return nil, Unreadable // the issuer makes none
		}
		p, ok := c.read(read.value)
		if !ok {
			return nil, Unreadable
		}
		if exp := read.get("exp"); exp.kind == kindNumber {
			p.Until = instantOf(exp.number * 1000)
			if slack == 0 { // such a jwt is over in the second that it names
				p.Until = p.Until.Add(-time.Millisecond)
			}
		}
		return p, Good
	}
	payload, v := c.readCompact(data)
	switch v {
	case verified:
	case unverified:
		return nil, Mismatched
	default:
		return nil, Unreadable
	}
	expires := payload.get("expiresAt")
	dated := expires.kind == kindNumber && !math.IsInf(expires.number, 0)
	if !dated && (c.version >= sessioncookie.V1_7 || expires.kind != kindUndefined) {
		return nil, Unreadable // null, say, is 0 to the issuer, and over
	}
	p, ok := c.read(payload.get("session"))
	if !ok {
		return nil, Unreadable
	}
	if dated {
		p.Until = instantOf(expires.number)
	}
	return p, Good
}

// read takes what was signed: {session, user, updatedAt, version}. From 1.7 on the
// issuer checks its fields (packages/better-auth/src/cookies/cache.ts).
func (c *Checker) read(signed value) (*Payload, bool) {
	session, user := signed.get("session"), signed.get("user")
	if session.kind != kindObject || user.kind != kindObject {
		return nil, false
	}
	if c.version >= sessioncookie.V1_7 {
		if !fits(signed, session, user) {
			return nil, false
		}
		email := user.get("email")
		email.text = strings.ToLower(email.text)
		user.object.set("email", email)
	}
	p := &Payload{Session: session.members(), User: user.members(), Version: "1"}
	if token := session.get("token"); token.kind == kindString || token.kind == kindDate {
		p.Token = token.text
	}
	if at := signed.get("updatedAt"); at.kind == kindNumber {
		p.UpdatedAt = instantOf(at.number)
	}
	switch version := signed.get("version"); {
	case version.falsy():
	case version.kind == kindString:
		p.Version = version.text
	default:
		p.Version = "" // equal to no configured one
	}
	return p, true
}

// fits is the issuer's schema of the payload, as far as it can fail.
func fits(signed, session, user value) bool {
	is := func(of value, name string, kinds ...kind) bool {
		k := of.get(name).kind
		for _, allowed := range kinds {
			if k == allowed {
				return true
			}
		}
		return false
	}
	for _, object := range []value{session, user} {
		if !is(object, "id", kindString) || !is(object, "createdAt", kindDate, kindUndefined) || !is(object, "updatedAt", kindDate, kindUndefined) {
			return false
		}
	}
	return is(session, "expiresAt", kindDate) && is(session, "token", kindString) &&
		is(session, "ipAddress", kindString, kindNull, kindUndefined) && is(session, "userAgent", kindString, kindNull, kindUndefined) &&
		is(user, "email", kindString) && is(user, "emailVerified", kindBool, kindUndefined) && is(user, "name", kindString) &&
		is(user, "image", kindString, kindNull, kindUndefined) &&
		is(signed, "updatedAt", kindNumber) && is(signed, "version", kindString, kindUndefined)
}

// over reports whether the cookie or the session in it has ended.
func (p *Payload) over(now time.Time) bool {
	if !p.Until.IsZero() && p.Until.UnixMilli() < now.UnixMilli() {
		return true
	}
	var iso string
	if json.Unmarshal(p.Session["expiresAt"], &iso) != nil {
		return false // no date: whoever makes a record of it will say so
	}
	expires, err := time.Parse(time.RFC3339Nano, iso)
	return err == nil && expires.UnixMilli() < now.UnixMilli()
}

// instantOf is a number of milliseconds since 1970, within what JavaScript's dates hold.
func instantOf(ms float64) time.Time {
	const most = 8.64e15
	return time.UnixMilli(int64(math.Max(-most, math.Min(most, math.Floor(ms))))).UTC()
}

// members are the properties of an object, written again.
func (v value) members() map[string]json.RawMessage {
	out := make(map[string]json.RawMessage, len(v.object.keys))
	for _, key := range v.object.keys {
		out[key] = v.object.values[key].appendJSON(nil)
	}
	return out
}
