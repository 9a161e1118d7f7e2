// Package lifecycle makes, lists and extends sessions as Better Auth does, so that
// the issuer cannot tell them from its own.
//
// Sources: createSession and updateSession in
// packages/better-auth/src/db/internal-adapter.ts, setSessionCookie in
// packages/better-auth/src/cookies/index.ts.
package lifecycle

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/sessioncookie"
)

// shortLife is how long a session lasts whose user did not want to be remembered.
const shortLife = 24 * time.Hour

// Cookies says how the issuer writes its cookies.
type Cookies struct {
	// Session and DontRemember are the effective names.
	Session, DontRemember string
	// Domain is the cookies' Domain attribute; empty: none.
	Domain string
	// SameSite is theirs.
	SameSite http.SameSite
	// Secure says that they carry the attribute.
	Secure bool
}

// Lifecycle makes, lists and extends sessions. It is safe for concurrent use.
type Lifecycle struct {
	authority *authority.Authority
	store     store.Store
	writer    store.Writer
	cookies   Cookies
}

// New returns a Lifecycle over a store and its writer.
func New(a *authority.Authority, st store.Store, w store.Writer, c Cookies) *Lifecycle {
	return &Lifecycle{authority: a, store: st, writer: w, cookies: c}
}

// Wish says whose session to make.
type Wish struct {
	UserID, IPAddress, UserAgent string
	DontRemember                 bool
}

// Session is a session as the store holds it, and whether it is good.
type Session struct {
	Record  store.Record
	Verdict authority.Verdict
}

// Created is a new session with its cookies, which are credentials.
type Created struct {
	Session
	CookieName, CookieValue string
	SetCookies              []string
}

// Create makes a session. Errors wrap [store.ErrNoUser], [store.ErrNotWritable],
// [store.ErrUnavailable] or the context's.
func (l *Lifecycle) Create(ctx context.Context, now time.Time, w Wish) (Created, error) {
	now = now.Truncate(time.Millisecond)
	life := l.authority.Policy().ExpiresIn
	if w.DontRemember {
		life = shortLife
	}
	token := sessioncookie.NewToken()
	stored := l.authority.Stored(token)
	if _, err := l.writer.Create(ctx, store.NewSession{
		Token: stored, ID: sessioncookie.NewToken(), UserID: w.UserID, IPAddress: w.IPAddress, UserAgent: w.UserAgent,
		CreatedAt: now, ExpiresAt: now.Add(life),
	}); err != nil {
		return Created{}, err
	}
	made, err := l.read(ctx, now, []string{stored})
	if err != nil {
		return Created{}, err
	}
	c := Created{
		Session: made[0], CookieName: l.cookies.Session,
		CookieValue: sessioncookie.Encode(sessioncookie.Sign(token, l.secret())),
		SetCookies:  []string{l.setCookie(l.cookies.Session, token, life, w.DontRemember)},
	}
	if w.DontRemember {
		c.SetCookies = append(c.SetCookies, l.setCookie(l.cookies.DontRemember, "true", 0, true))
	}
	return c, nil
}

func (l *Lifecycle) secret() string { return l.authority.Cookies().Secrets[0] }

// setCookie is the issuer's Set-Cookie. A cookie of the browser's session has no Max-Age.
func (l *Lifecycle) setCookie(name, token string, life time.Duration, untilClosed bool) string {
	if untilClosed {
		life = 0
	}
	return sessioncookie.SetCookie(name, token, l.secret(), sessioncookie.Attributes{
		MaxAge: life, Domain: l.cookies.Domain, Path: "/", HTTPOnly: true, Secure: l.cookies.Secure, SameSite: l.cookies.SameSite,
	})
}

// read reads sessions by the tokens that the store holds.
func (l *Lifecycle) read(ctx context.Context, now time.Time, tokens []string) ([]Session, error) {
	records, err := l.store.Lookup(ctx, "", tokens)
	if err != nil {
		return nil, err
	}
	out := make([]Session, len(records))
	for i := range records {
		out[i] = Session{Record: records[i], Verdict: l.authority.Decide(&records[i], now)}
	}
	return out, nil
}

// ErrNone means that there is no such session.
var ErrNone = errors.New("there is no such session")

// Get returns one session by ids.
func (l *Lifecycle) Get(ctx context.Context, now time.Time, user, session string) (Session, error) {
	token, found, err := l.writer.Token(ctx, user, session)
	switch {
	case err != nil:
		return Session{}, err
	case !found:
		return Session{}, ErrNone
	}
	return l.ByToken(ctx, now, token)
}

// ByToken returns the session of a token as the store holds it.
func (l *Lifecycle) ByToken(ctx context.Context, now time.Time, token string) (Session, error) {
	read, err := l.read(ctx, now, []string{token})
	if err != nil {
		return Session{}, err
	}
	if !read[0].Record.Found {
		return Session{}, ErrNone
	}
	return read[0], nil
}

// List returns a page of a user's sessions, newest first, and where the next begins;
// the zero Cursor: this was the last.
func (l *Lifecycle) List(ctx context.Context, now time.Time, user string, size int, after store.Cursor) ([]Session, store.Cursor, error) {
	named, err := l.writer.Sessions(ctx, user, size+1, after)
	if err != nil || len(named) == 0 {
		return nil, store.Cursor{}, err
	}
	var next store.Cursor
	if len(named) > size {
		named = named[:size]
		next = named[size-1].Cursor
	}
	tokens := make([]string, len(named))
	for i, n := range named {
		tokens[i] = n.Token
	}
	read, err := l.read(ctx, now, tokens)
	if err != nil {
		return nil, store.Cursor{}, err
	}
	out := read[:0]
	for _, s := range read {
		if s.Record.Found { // else it has ended meanwhile
			out = append(out, s)
		}
	}
	return out, next, nil
}

// Refreshed is what a Refresh did.
type Refreshed struct {
	Session
	Done       bool
	SetCookies []string
}

// Refresh extends the session of a credential, if the issuer's get-session would. A
// session that is refused is left as it is.
func (l *Lifecycle) Refresh(ctx context.Context, now time.Time, c authority.Credential) (Refreshed, error) {
	now = now.Truncate(time.Millisecond)
	answer, err := l.authority.Validate(ctx, authority.Call{Now: now, Arrived: clock.Now()}, c)
	if err != nil {
		return Refreshed{}, err
	}
	out := Refreshed{Session: Session{Verdict: answer.Verdict}}
	if answer.Record != nil {
		out.Record = *answer.Record
	}
	if !answer.Verdict.NeedsRefresh {
		return out, nil
	}
	token, stored, _ := l.authority.Find(now, c)
	life := l.authority.Policy().ExpiresIn
	done, err := l.writer.Extend(ctx, stored, now.Add(life), now)
	if err != nil {
		return Refreshed{}, err
	}
	if out.Session, err = l.ByToken(ctx, now, stored); err != nil && !errors.Is(err, ErrNone) {
		return Refreshed{}, err
	}
	if errors.Is(err, ErrNone) || !done {
		out.Verdict = l.authority.Decide(&out.Record, now)
		return out, nil // it has ended meanwhile
	}
	out.Done, out.SetCookies = true, []string{l.setCookie(l.cookies.Session, token, life, false)}
	return out, nil
}

// BrowserSession is one session that a browser holds.
type BrowserSession struct {
	Session
	// Active says that the browser is signed in with it.
	Active bool
}

// maxBrowserCookies bounds the work for one header.
const maxBrowserCookies = 100

// Browser returns the sessions of a Cookie header: that of the session cookie, then
// those of the multi-session plugin. Cookies that do not verify are left out; a
// session that is not there any more has Found false.
func (l *Lifecycle) Browser(ctx context.Context, now time.Time, header string) ([]BrowserSession, error) {
	credentials := []authority.Credential{{Cookie: header}}
	for _, name := range l.authority.Cookies().Names {
		for _, value := range sessioncookie.MultiSession(header, name, maxBrowserCookies) {
			credentials = append(credentials, authority.Credential{Form: authority.FormCookieValue, Value: value})
		}
	}
	var tokens []string
	var out []BrowserSession
	for i, c := range credentials {
		_, stored, reason := l.authority.Find(now, c)
		if reason == authority.ReasonNone && !slices.Contains(tokens, stored) {
			tokens, out = append(tokens, stored), append(out, BrowserSession{Active: i == 0})
		}
	}
	if len(tokens) == 0 {
		return nil, nil
	}
	read, err := l.read(ctx, now, tokens)
	if err != nil {
		return nil, err
	}
	for i := range out {
		out[i].Session = read[i]
	}
	return out, nil
}
