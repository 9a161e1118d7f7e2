package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
)

const sessionsSynopsis = `sessiond sessions create --user ID [--format header|set-cookie|playwright|json] [--url URL] [--ip ADDRESS] [--user-agent TEXT] [--dont-remember-me]
sessiond sessions get --user ID --session ID [--json]
sessiond sessions get [--file FILE] [--json] < COOKIE_HEADER
sessiond sessions list --user ID [--json]
sessiond sessions browser [--file FILE] [--json] < COOKIE_HEADER
sessiond sessions revoke --user ID --session ID
sessiond sessions revoke [--file FILE] < COOKIE_HEADER
sessiond sessions revoke-all --user ID [--except SESSION_ID]
sessiond sessions refresh [--file FILE] < COOKIE_HEADER

Makes, finds, refreshes and ends sessions through a running authority, as an operator. create makes a session
that the issuer accepts, and prints its cookie: a credential, so mind where it goes. refresh extends a session
if the issuer would, and prints the Set-Cookie to relay. Exit code 0: done; 1: refused or not there; 3: not known.`

// sessionsRun is one run of sessiond sessions.
type sessionsRun struct {
	streams                Streams
	operator               operatorFlags
	from                   inputFlags
	user, session, except  string
	format, url, ip, agent string
	dontRememberMe, asJSON bool
}

func sessionsCommand(ctx context.Context, args []string, s Streams, env []string) int {
	action := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		action, args = args[0], args[1:]
	}
	r := sessionsRun{streams: s}
	fs := flag.NewFlagSet("sessions", flag.ContinueOnError)
	r.operator.register(fs, "127.0.0.1:8443")
	r.from.register(fs)
	fs.StringVar(&r.user, "user", "", "ID: the user's id")
	fs.StringVar(&r.session, "session", "", "ID: the session's id")
	fs.StringVar(&r.except, "except", "", "ID: the one session that revoke-all leaves")
	fs.StringVar(&r.format, "format", "header", "header|set-cookie|playwright|json: how create prints the cookie")
	fs.StringVar(&r.url, "url", "http://localhost", "URL: the site whose cookie it is, for --format playwright")
	fs.StringVar(&r.ip, "ip", "", "ADDRESS: the address to note in a new session")
	fs.StringVar(&r.agent, "user-agent", "", "TEXT: the user agent to note in a new session")
	fs.BoolVar(&r.dontRememberMe, "dont-remember-me", false, "a new session ends after a day and is never refreshed")
	fs.BoolVar(&r.asJSON, "json", false, "print JSON")
	if code, goOn := parse(fs, args, s, sessionsSynopsis); !goOn {
		return code
	}
	run, ok := map[string]func(context.Context, sessiondv1.SessionAdminServiceClient) (int, error){
		"create": r.create, "get": r.get, "list": r.list, "browser": r.browser, "revoke": r.revoke, "revoke-all": r.revokeAll, "refresh": r.refresh,
	}[action]
	if !ok {
		fail(s, "sessions: say what to do: create, get, list, browser, revoke, revoke-all or refresh")
		return exitUsage
	}
	code := exitGood
	err := r.operator.call(ctx, env, func(ctx context.Context, c sessiondv1.SessionAdminServiceClient) (err error) {
		code, err = run(ctx, c)
		return err
	})
	var usage *usageError
	switch {
	case errors.As(err, &usage):
		fail(s, "sessions %s: %v", action, err)
		return exitUsage
	case status.Code(err) == codes.NotFound:
		failed(s, "sessions "+action, err)
		return exitRefused
	case err != nil:
		return failed(s, "sessions "+action, err)
	}
	return code
}

// usageError means that the command line or the input is wrong.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func (r *sessionsRun) needUser() error {
	if r.user == "" {
		return &usageError{"--user is missing: give the user's id"}
	}
	return nil
}

// credential reads the credential of the input.
func (r *sessionsRun) credential() (*sessiondv1.Credential, error) {
	in, err := r.from.read(r.streams.In)
	if err != nil {
		return nil, &usageError{err.Error()}
	}
	switch in.form {
	case formValue:
		return &sessiondv1.Credential{Kind: &sessiondv1.Credential_CookieValue{CookieValue: []byte(in.value)}}, nil
	case formToken:
		return &sessiondv1.Credential{Kind: &sessiondv1.Credential_Token{Token: []byte(in.value)}}, nil
	}
	h := &sessiondv1.Headers{}
	if in.cookie != "" {
		h.Cookie = []byte(in.cookie)
	}
	if in.authorization != "" {
		h.Authorization = []byte(in.authorization)
	}
	return &sessiondv1.Credential{Kind: &sessiondv1.Credential_Headers{Headers: h}}, nil
}

func (r *sessionsRun) create(ctx context.Context, c sessiondv1.SessionAdminServiceClient) (int, error) {
	if err := r.needUser(); err != nil {
		return 0, err
	}
	site, err := url.Parse(r.url)
	if err != nil || site.Host == "" {
		return 0, &usageError{fmt.Sprintf("--url %q is not a URL", r.url)}
	}
	switch r.format {
	case "header", "set-cookie", "playwright", "json":
	default:
		return 0, &usageError{fmt.Sprintf("--format %q: use header, set-cookie, playwright or json", r.format)}
	}
	made, err := c.CreateSession(ctx, &sessiondv1.CreateSessionRequest{UserId: r.user, IpAddress: r.ip, UserAgent: r.agent, DontRememberMe: r.dontRememberMe})
	if err != nil {
		return 0, err
	}
	out := &printer{w: r.streams.Out}
	switch r.format {
	case "header":
		out.line("Cookie: %s=%s", made.GetCookieName(), made.GetCookieValue())
	case "set-cookie":
		for _, line := range made.GetSetCookies() {
			out.line("Set-Cookie: %s", line)
		}
	case "playwright":
		return exitGood, r.print([]playwrightCookie{playwrightOf(made, site)})
	default:
		return exitGood, r.print(createdJSON{
			Session: sessionOf(made.GetSession()), CookieName: made.GetCookieName(), CookieValue: made.GetCookieValue(), SetCookies: made.GetSetCookies(),
		})
	}
	return exitGood, out.err
}

// playwrightCookie is what browserContext.addCookies takes
// (https://playwright.dev/docs/api/class-browsercontext#browser-context-add-cookies).
type playwrightCookie struct {
	Name     string `json:"name"`
	Value    string `json:"value"`
	Domain   string `json:"domain"`
	Path     string `json:"path"`
	Expires  int64  `json:"expires"` // seconds since 1970; -1: with the browser
	HTTPOnly bool   `json:"httpOnly"`
	Secure   bool   `json:"secure"`
	SameSite string `json:"sameSite"`
}

func playwrightOf(made *sessiondv1.CreateSessionResponse, site *url.URL) playwrightCookie {
	cookie := playwrightCookie{Name: made.GetCookieName(), Value: made.GetCookieValue(), Domain: site.Hostname(), Path: "/", Expires: -1, HTTPOnly: true, SameSite: "Lax"}
	for attribute := range strings.SplitSeq(made.GetSetCookies()[0], "; ") {
		switch name, value, _ := strings.Cut(attribute, "="); name {
		case "Domain":
			cookie.Domain = "." + strings.TrimPrefix(value, ".")
		case "Max-Age":
			cookie.Expires = made.GetSession().GetExpiresAt().AsTime().Unix()
		case "Secure":
			cookie.Secure = true
		case "SameSite":
			cookie.SameSite = value
		}
	}
	return cookie
}

type createdJSON struct {
	Session     *sessionJSON `json:"session"`
	CookieName  string       `json:"cookie_name"`
	CookieValue string       `json:"cookie_value"`
	SetCookies  []string     `json:"set_cookies"`
}

// listedJSON is a session and whether it is good.
type listedJSON struct {
	Session *sessionJSON `json:"session,omitempty"`
	Reason  string       `json:"reason,omitempty"`
	Active  bool         `json:"active,omitempty"`
}

func sessionOf(s *sessiondv1.Session) *sessionJSON {
	if s == nil {
		return nil
	}
	return &sessionJSON{
		ID: s.GetId(), UserID: s.GetUserId(), Email: s.GetUser().GetEmail(), Name: s.GetUser().GetName(), Role: s.GetUser().GetRole(),
		CreatedAt: s.GetCreatedAt().AsTime(), UpdatedAt: s.GetUpdatedAt().AsTime(), ExpiresAt: s.GetExpiresAt().AsTime(),
	}
}

func listedOf(l *sessiondv1.ListedSession) listedJSON {
	out := listedJSON{Session: sessionOf(l.GetSession())}
	if l.GetReason() != sessiondv1.Reason_REASON_UNSPECIFIED {
		out.Reason = strings.TrimPrefix(l.GetReason().String(), "REASON_")
	}
	return out
}

func (l listedJSON) String() string {
	if l.Session == nil {
		return "gone"
	}
	verdict := "good"
	if l.Reason != "" {
		verdict = "refused: " + l.Reason
	}
	if l.Active {
		verdict += ", active"
	}
	return fmt.Sprintf("session %s of user %s, created %s, expires %s: %s", l.Session.ID, l.Session.UserID,
		l.Session.CreatedAt.UTC().Format(time.RFC3339), l.Session.ExpiresAt.UTC().Format(time.RFC3339), verdict)
}

func (r *sessionsRun) print(v any) error {
	enc := json.NewEncoder(r.streams.Out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func (r *sessionsRun) printAll(all []listedJSON) error {
	if r.asJSON {
		return r.print(all)
	}
	out := &printer{w: r.streams.Out}
	for _, l := range all {
		out.line("%s", l)
	}
	return out.err
}

func (r *sessionsRun) get(ctx context.Context, c sessiondv1.SessionAdminServiceClient) (int, error) {
	req := &sessiondv1.GetSessionRequest{Session: &sessiondv1.GetSessionRequest_Ref{Ref: r.ref()}}
	if r.user == "" && r.session == "" {
		credential, err := r.credential()
		if err != nil {
			return 0, err
		}
		req.Session = &sessiondv1.GetSessionRequest_Credential{Credential: credential}
	}
	found, err := c.GetSession(ctx, req)
	if err != nil {
		return 0, err
	}
	l := listedOf(found.GetSession())
	code := exitGood
	if l.Reason != "" {
		code = exitRefused
	}
	if r.asJSON {
		return code, r.print(l)
	}
	return code, r.printAll([]listedJSON{l})
}

func (r *sessionsRun) ref() *sessiondv1.SessionRef {
	return &sessiondv1.SessionRef{UserId: r.user, SessionId: r.session}
}

func (r *sessionsRun) list(ctx context.Context, c sessiondv1.SessionAdminServiceClient) (int, error) {
	if err := r.needUser(); err != nil {
		return 0, err
	}
	all := []listedJSON{}
	for token := ""; ; {
		page, err := c.ListSessions(ctx, &sessiondv1.ListSessionsRequest{UserId: r.user, PageToken: token})
		if err != nil {
			return 0, err
		}
		for _, l := range page.GetSessions() {
			all = append(all, listedOf(l))
		}
		if token = page.GetNextPageToken(); token == "" {
			return exitGood, r.printAll(all)
		}
	}
}

func (r *sessionsRun) browser(ctx context.Context, c sessiondv1.SessionAdminServiceClient) (int, error) {
	credential, err := r.credential()
	if err != nil {
		return 0, err
	}
	held, err := c.ListBrowserSessions(ctx, &sessiondv1.ListBrowserSessionsRequest{Cookie: credential.GetHeaders().GetCookie()})
	if err != nil {
		return 0, err
	}
	all := []listedJSON{}
	for _, b := range held.GetSessions() {
		l := listedJSON{}
		if b.GetSession() != nil {
			l = listedOf(b.GetSession())
		}
		l.Active = b.GetActive()
		all = append(all, l)
	}
	return exitGood, r.printAll(all)
}

func (r *sessionsRun) revoke(ctx context.Context, c sessiondv1.SessionAdminServiceClient) (int, error) {
	req := &sessiondv1.RevokeSessionRequest{Session: &sessiondv1.RevokeSessionRequest_Ref{Ref: r.ref()}}
	if r.user == "" && r.session == "" {
		credential, err := r.credential()
		if err != nil {
			return 0, err
		}
		req.Session = &sessiondv1.RevokeSessionRequest_Credential{Credential: credential}
	}
	done, err := c.RevokeSession(ctx, req)
	if err != nil {
		return 0, err
	}
	out := &printer{w: r.streams.Out}
	if !done.GetDeleted() {
		out.line("there was no such session; no worker accepts it")
		return exitRefused, out.err
	}
	out.line("revoked; no worker accepts it any more")
	return exitGood, out.err
}

func (r *sessionsRun) revokeAll(ctx context.Context, c sessiondv1.SessionAdminServiceClient) (int, error) {
	if err := r.needUser(); err != nil {
		return 0, err
	}
	done, err := c.RevokeUserSessions(ctx, &sessiondv1.RevokeUserSessionsRequest{UserId: r.user, ExceptSessionId: r.except})
	if err != nil {
		return 0, err
	}
	out := &printer{w: r.streams.Out}
	out.line("%d revoked; no worker accepts them any more", done.GetDeleted())
	return exitGood, out.err
}

func (r *sessionsRun) refresh(ctx context.Context, c sessiondv1.SessionAdminServiceClient) (int, error) {
	credential, err := r.credential()
	if err != nil {
		return 0, err
	}
	done, err := c.RefreshSession(ctx, &sessiondv1.RefreshSessionRequest{Credential: credential})
	if err != nil {
		return 0, err
	}
	out := &printer{w: r.streams.Out}
	switch {
	case done.GetRefusal() != nil:
		out.line("refused: %s", strings.TrimPrefix(done.GetRefusal().GetReason().String(), "REASON_"))
		return exitRefused, out.err
	case !done.GetRefreshed():
		out.line("not due: it expires %s", done.GetSession().GetExpiresAt().AsTime().UTC().Format(time.RFC3339))
	default:
		for _, line := range done.GetSetCookies() {
			out.line("Set-Cookie: %s", line)
		}
	}
	return exitGood, out.err
}
