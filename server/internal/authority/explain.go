package authority

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server/internal/cache"
	"github.com/sessiond/sessiond/server/internal/feed"
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
	// Advice is what to change, the likeliest first; for a good session, what is worth
	// knowing of it.
	Advice []Advice `json:"advice,omitempty"`
	// RemainingMs is how long a good session stays good, in milliseconds.
	RemainingMs int64 `json:"remaining_ms,omitempty"`
	// NeedsRefresh reports whether the issuer's refresh is due.
	NeedsRefresh bool `json:"needs_refresh,omitempty"`
}

// Step is one step of a decision.
type Step struct {
	// Name is the step: intake, pick, decode, signature, session_data, lookup, clues, decide.
	Name string `json:"name"`
	// OK reports whether the decision went on after it.
	OK bool `json:"ok"`
	// Detail says what was seen.
	Detail string `json:"detail"`
}

// The verdicts of an explanation.
const (
	VerdictGood      = "good"
	VerdictRefused   = "refused"
	VerdictUndecided = "undecided"
)

const maxExplainedCookies = 64

// Source is where explain looks beside the record. A [store.Store] is one.
type Source interface {
	Describe() store.Description
	Clues(ctx context.Context, token string) (store.Clues, error)
}

// Explain decides as Validate does, by the same calls, and says how. The error
// is that of the store, where it could not be asked; the Explanation then holds
// the steps up to there. It asks the store for more than a verdict takes: clues, and
// what else the credential may stand for.
func (a *Authority) Explain(ctx context.Context, now time.Time, src Source, c Credential) (Explanation, error) {
	get := func(token string, form TokenForm) (cache.Answer, error) {
		q := a.question(Call{Now: now, Arrived: clock.Now()}, token)
		if form != a.cfg.TokenForm {
			q.Token = form.Stored(token)
			q.Key = feed.KeyOf(q.Token)
		}
		return a.records.Get(ctx, q)
	}
	return a.explain(now, c, get, finding{
		store: src.Describe(),
		lookup: func(token string, form TokenForm) (*store.Record, error) {
			answer, err := get(token, form)
			return answer.Record, err
		},
		ask: func(stored string) (store.Clues, error) { return src.Clues(ctx, stored) },
	})
}

// Trace says how an answer that Validate gave was decided, without asking the store.
// d describes the store.
func (a *Authority) Trace(now time.Time, d store.Description, c Credential, answer *Answer) Explanation {
	e, _ := a.explain(now, c, func(string, TokenForm) (cache.Answer, error) {
		return cache.Answer{Record: answer.Record, AsOf: clock.Now()}, nil
	}, finding{store: d})
	return e
}

// explain takes the record of a verified token from get, and fills in f.
func (a *Authority) explain(now time.Time, c Credential, get func(token string, form TokenForm) (cache.Answer, error), f finding) (Explanation, error) {
	e := Explanation{Verdict: VerdictRefused}
	cookies := a.inspect(c.Cookie)
	e.step("intake", true, "%s", a.describeIntake(c, cookies))

	reading, reason := a.read(c, now)
	d := &diagnosis{Authority: a, credential: c, reading: reading, reason: reason, cookies: cookies}
	e.step("pick", reading.Source != sessioncookie.SourceNone, "%s", describePick(c, reading))
	if form := describeDecoding(reading, cookies); form != "" {
		e.step("decode", true, "%s", form)
	}
	if reading.Err != nil {
		e.Reason = reason.String()
		e.step("signature", false, "%s", a.describeFailure(reason, reading))
		e.Advice = d.advise()
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
		e.Advice = d.sessionDataRejected(now)
		return e, nil
	}

	if a.Stateless() {
		return a.explainStateless(e, c, reading, now), nil
	}
	f.diagnosis, f.now = d, now
	known, err := get(reading.Token, a.cfg.TokenForm)
	if err != nil {
		e.Verdict = VerdictUndecided
		e.step("lookup", false, "%s", withhold(err.Error(), reading.Token))
		e.Advice = unanswered(err)
		return e, err
	}
	f.record = known.Record
	e.step("lookup", known.Record.Found, "%s", describeRecord(f.store, known.Record, now, reading.Token))
	outlives := a.compareCookie(&e, c, reading, known.Record, now)
	if f.ask != nil {
		if f.clues, err = f.ask(a.Stored(reading.Token)); err != nil {
			e.step("clues", false, "what else the store holds could not be asked: %s", withhold(err.Error(), a.Stored(reading.Token)))
		}
	}
	disagree := e.comparePlaces(f.clues.Places, now, reading.Token)

	answer := a.answer(c, reading, a.question(Call{Now: now, Arrived: known.AsOf}, reading.Token), known, now)
	v := answer.Verdict
	if v.Good() {
		e.Verdict, e.RemainingMs, e.NeedsRefresh = VerdictGood, v.Remaining.Milliseconds(), v.NeedsRefresh
		e.step("decide", true, "good for another %s", v.Remaining.Round(time.Millisecond))
		e.Advice = append(f.disagreement(disagree, true), f.accepted()...)
		return e, nil
	}
	e.Reason = v.Reason.String()
	e.step("decide", false, "%s", v.Reason)
	e.Advice = slices.Concat(outlives, f.disagreement(disagree, false), f.refused(v.Reason))
	return e, nil
}

// inspect describes cookies. A name that holds a piece of a secret is not shown.
func (a *Authority) inspect(header string) []sessioncookie.Cookie {
	known := append([]string(nil), a.cfg.Cookies.Names...)
	for _, rule := range a.intake.Cookies {
		known = append(known, rule.Name)
	}
	cookies := sessioncookie.Inspect(header, maxExplainedCookies, known...)
	for i, k := range cookies {
		if !slices.Contains(known, k.Name) && a.holdsSecret(k.Name) {
			cookies[i].Name = fmt.Sprintf("[%d bytes]", len(k.Name))
		}
	}
	return cookies
}

// holdsSecret reports whether six bytes of a text are in a secret, and are more than
// a word: a secret made of words is in every text.
func (a *Authority) holdsSecret(text string) bool {
	const piece = 6
	for i := 0; i+piece <= len(text); i++ {
		window := text[i : i+piece]
		if strings.Trim(window, "abcdefghijklmnopqrstuvwxyz-_.") == "" {
			continue
		}
		for _, secret := range slices.Concat(a.cfg.Cookies.Secrets, a.cfg.Cookies.Retired) {
			if strings.Contains(secret, window) {
				return true
			}
		}
	}
	return false
}

// withhold returns a text that comes from a store, unless a piece of the token is in it:
// a table without ids has its tokens read as such, and some servers repeat what they were
// asked.
func withhold(text, token string) string {
	const piece = 6
	folded := strings.ToLower(text)
	token = strings.ToLower(token)
	for i := 0; i+piece <= len(token); i++ {
		if strings.Contains(folded, token[i:i+piece]) {
			return fmt.Sprintf("[%d bytes, which hold a piece of the token]", len(text))
		}
	}
	return text
}

// Remedy returns the advice for somebody who knows that the verdict is wrong, since the
// issuer's is another: the first that names a setting, else the first.
func (e *Explanation) Remedy() (a Advice, ok bool) {
	for _, a := range e.Advice {
		if a.Setting != "" && !strings.HasPrefix(a.Setting, "none: ") {
			return a, true
		}
	}
	if len(e.Advice) == 0 {
		return Advice{}, false
	}
	return e.Advice[0], true
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

func describeRecord(d store.Description, r *store.Record, now time.Time, token string) string {
	where := fmt.Sprintf("%s %s, table %s", d.Driver, d.Location, d.Session.Name)
	switch {
	case !r.Found:
		return where + ": no row with this token"
	case r.Unreadable != "":
		return where + ": a row that cannot be read: " + r.Unreadable
	}
	s := r.Session
	at := func(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
	text := fmt.Sprintf("%s: session %s of user %s, created %s, updated %s, expires %s (now %s)", where, withhold(s.ID, token), withhold(s.UserID, token), at(s.CreatedAt), at(s.UpdatedAt), at(s.ExpiresAt), at(now))
	if r.User == nil {
		return text + "; no row in " + d.User.Name + " with that id"
	}
	return text + fmt.Sprintf("; user found, banned %t, marked deleted %t", r.User.Banned, r.User.Deleted)
}
