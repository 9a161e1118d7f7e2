package authority

import (
	"fmt"
	"strings"
	"time"

	"github.com/sessiond/sessiond/server/internal/sessiondata"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/sessioncookie"
)

// finding is what explain knows once a record was read for a verified token.
type finding struct {
	*diagnosis
	store  store.Description
	now    time.Time
	record *store.Record
	// lookup reads the record of a token as the browser holds it, in a form of the
	// store's; nil where the store is not to be asked.
	lookup func(token string, form TokenForm) (*store.Record, error)
	// ask asks the store for clues; nil as lookup.
	ask func(stored string) (store.Clues, error)
	// clues are what it answered; none where it was not asked, or could not be.
	clues store.Clues
}

// refused returns likely causes of a refusal, the likeliest first.
func (f *finding) refused(reason Reason) []Advice {
	r := f.record
	switch reason {
	case ReasonNotFound:
		return f.notFound()
	case ReasonExpired:
		return f.expired()
	case ReasonRevoked:
		if r.Session.ExpiresAt.Sub(r.Session.UpdatedAt) < rowKeptWithin {
			return []Advice{{FaultRowKept, "the session was revoked: its key is gone from secondary storage, and the row is kept as a record of it", "none: the issuer refuses it too; secondary.preserve_in_database is as the issuer's session.preserveSessionInDatabase"}}
		}
		return []Advice{{FaultRevokedMark, "all sessions of the user that began before a moment were revoked (the issuer's revoked-sessions-before key), and this one did; its own key was written again or never deleted", "none: the issuer refuses it too; sign in"}}
	case ReasonUserNotFound:
		gone := []Advice{
			{FaultUserGone, "the user's row is gone and the session's is not: no foreign key cascades" + anIssuers, "none: delete the session"},
			{FaultStoreOther, "or users are read from another table than the issuer's: " + f.store.User.Name, "store.user_table, store.user_columns"},
		}
		if f.clues.Hidden {
			return append([]Advice{hidden}, gone...)
		}
		return gone
	case ReasonUserBanned:
		return []Advice{{FaultUserBanned, "the user is banned; the issuer's own get-session does not look", "none: the ban is what refuses; policy.refuse_banned = false lets the banned in, as the issuer does"}}
	case ReasonUserDeleted:
		return []Advice{{FaultUserDeleted, "the user is marked deleted, which the issuer does not know of", `none: the mark is what refuses; policy.soft_delete_column = "" lets the deleted in, as the issuer does`}}
	case ReasonLifetimeCap:
		return []Advice{{FaultLifetimeCap, fmt.Sprintf("the session began %s ago, and the cap is %s; the issuer has none", f.since(r.Session.CreatedAt), f.cfg.Policy.MaxLifetime), "policy.max_lifetime"}}
	case ReasonIdleCap:
		return []Advice{{FaultIdleCap, fmt.Sprintf("the issuer last refreshed the session %s ago, and the cap is %s; the issuer has none, and refreshes at most once in its updateAge", f.since(r.Session.UpdatedAt), f.cfg.Policy.MaxIdle), "policy.max_idle, at least issuer.update_age"}}
	case ReasonStoredValueUnreadable:
		return []Advice{f.unreadable()}
	default:
		return nil
	}
}

// rowKeptWithin tells a row that was ended, when the issuer sets expiresAt to that
// moment, from a mark on the user.
const rowKeptWithin = time.Minute

func (f *finding) since(t time.Time) time.Duration { return f.now.Sub(t).Round(time.Second) }

// inSecondary reports whether secondary storage is asked at all, and whether it is
// asked alone.
func (f *finding) inSecondary() (asked, alone bool) {
	asked = strings.HasPrefix(f.store.Driver, "redis")
	return asked, f.store.Driver == "redis"
}

func (f *finding) notFound() []Advice {
	token := f.reading.Token
	secondary, alone := f.inSecondary()
	switch {
	case isNothing(token):
		return []Advice{nothing(token)}
	case token == "true":
		return []Advice{{FaultDontRemember, "the value is that of the dont_remember cookie, which is signed like the session cookie" + anIssuers, asIssued}}
	case f.verifies(token):
		return []Advice{{FaultSignedTwice, "the value was signed twice: what is signed is itself a token with its signature" + anIssuers, asIssued}}
	}
	if out := f.elsewhere(token, secondary, alone); out != nil {
		return out
	}
	out := []Advice{
		{FaultEnded, "the session was signed out or revoked, or expired and was deleted: nothing is left of it", "none: sign in"},
		{FaultStoreOther, "or this is not the issuer's database or table, or a copy that lags behind it: " + f.store.Location + ", " + f.store.Session.Name, "store.dsn, store.session_table"},
	}
	switch {
	case alone:
		out[1] = Advice{FaultStoreOther, "or this is not the issuer's secondary storage, or its sessions are in the database too: " + f.store.Location + ", " + f.store.Session.Name, "secondary.url, secondary.key_prefix, secondary.store_in_database"}
	case !secondary:
		out = append(out, Advice{FaultStoreEmpty, "or the issuer keeps sessions in secondary storage and writes no rows (storeSessionInDatabase is false)", "secondary.url"})
	}
	return out
}

// elsewhere looks for the session where it was not looked for.
func (f *finding) elsewhere(token string, secondary, alone bool) []Advice {
	if f.lookup == nil {
		return nil
	}
	if out := f.shadowed(f.goodBeside); out != nil {
		return out
	}
	for _, form := range []TokenForm{TokenPlain, TokenSHA256Hex, TokenSHA256Base64, TokenSHA256Base64URL} {
		if form.Stored("") == f.cfg.TokenForm.Stored("") {
			continue
		}
		if record, err := f.lookup(token, form); err == nil && record.Found {
			return []Advice{{FaultTokenForm, fmt.Sprintf("the session is there under another form of its token: the issuer's adapter keeps tokens as %s", form), fmt.Sprintf("store.token_form = %q", form)}}
		}
	}
	c := f.clues
	switch {
	case c.Prefix != nil:
		return []Advice{{FaultSecondaryPrefix, fmt.Sprintf("secondary storage has the token under another prefix, %q: the issuer's storage may put one of its own before it; with @better-auth/redis-storage it is better-auth:, with the documentation's snippet there is none", *c.Prefix), fmt.Sprintf("secondary.key_prefix = %q", *c.Prefix)}}
	case c.SessionID:
		return []Advice{{FaultSessionID, "what is signed is the id of a session, and not its token" + anIssuers, "none: sign the token column, or let sessiond sessions create make the cookie"}}
	case c.Hidden:
		return []Advice{hidden, {FaultEnded, "or the session was signed out or revoked, or expired and was deleted", "none: sign in"}}
	case c.Empty && secondary:
		setting := "secondary.url, with the number of the database the issuer uses at its end (/0); secondary.key_prefix"
		if !alone {
			setting += "; store.dsn"
		}
		return []Advice{{FaultSecondaryEmpty, "secondary storage holds no session at all under this prefix: " + f.store.Location + " is not what the issuer writes to, or it was emptied (a flush, a restart without persistence)", setting}}
	case c.Empty:
		return []Advice{
			{FaultStoreEmpty, "the session table is empty: the issuer keeps sessions in secondary storage alone (storeSessionInDatabase is false), or in another database than " + f.store.Location + ", or nobody is signed in", "secondary.url, if the issuer has secondaryStorage; else store.dsn"},
		}
	}
	return nil
}

// hidden is the likeliest of what row-level security leaves open: a table that has it and
// no policy for a role is empty to that role.
var hidden = Advice{FaultRowsHidden, "row-level security is in force for the role of store.dsn, and may hide the rows from it", "none: give the role a policy that shows it all sessions and users, or BYPASSRLS"}

// goodBeside reports whether a credential beside the one that counts has a good session.
func (f *finding) goodBeside(r sessioncookie.Reading) bool {
	if r.Err != nil || r.Token == f.reading.Token {
		return false
	}
	record, err := f.lookup(r.Token, f.cfg.TokenForm)
	return err == nil && record.Found && f.Decide(record, f.now).Good()
}

// zoneWidth is the most that a time zone is off UTC.
const zoneWidth = 14 * time.Hour

func (f *finding) expired() []Advice {
	over := f.since(f.record.Session.ExpiresAt)
	expired := Advice{FaultExpired, fmt.Sprintf("the session has been over for %s, and its cookie outlived it: the issuer's ends with its session, or without rememberMe with the browser", over), "none: sign in; whatever sets a cookie of its own gives it the session's life"}
	if f.lookup != nil {
		if out := f.shadowed(f.goodBeside); out != nil {
			return append(out, expired)
		}
	}
	if f.store.Zone == "" || over >= zoneWidth {
		return []Advice{expired}
	}
	zone := Advice{FaultTimeZone, fmt.Sprintf("the expiry's column has no time zone and is read as %s: the session is over by %s, which another zone would explain", f.store.Zone, over), "store.time_zone: the zone of the process that writes the rows"}
	if f.store.ZoneAssumed {
		return []Advice{zone, expired}
	}
	return []Advice{expired, zone}
}

func (f *finding) unreadable() Advice {
	secondary, _ := f.inSecondary()
	switch {
	case strings.HasPrefix(f.record.Unreadable, "more than one row"):
		return Advice{FaultTokenTwice, f.record.Unreadable, "none: delete one of the rows and make the token column unique"}
	case secondary:
		return Advice{FaultKeyUnreadable, "secondary storage holds a value that is no session: " + f.record.Unreadable + "; something else than the issuer wrote it, or another version", "secondary.key_prefix, if other keys begin so; else delete the key"}
	default:
		return Advice{FaultUnreadable, "a column holds a value of an unexpected form: " + f.record.Unreadable, "store.session_columns or store.user_columns, if that is another column than the issuer's; else mend the row"}
	}
}

// clockTolerance is how far a session may begin in the future without a word.
const clockTolerance = time.Minute

// accepted returns what is worth knowing of a session that is good.
func (f *finding) accepted() []Advice {
	var out []Advice
	switch {
	case f.reading.Secret >= f.own:
		out = append(out, Advice{FaultAcceptsRetired, "a retired secret made the signature: the issuer refuses it", "issuer.accept_retired_secrets = false, when the last such session is over"})
	case !f.reading.Signed && f.reading.Source == sessioncookie.SourceBearer:
		out = append(out, Advice{FaultAcceptsUnsigned, "a bare token of the database was enough: whoever reads the session table is everybody in it", "issuer.bearer_require_signature = true, and the issuer's plugin with requireSignature"})
	case !f.reading.Signed:
		out = append(out, Advice{FaultAcceptsUnsigned, "a bare token of the database was enough: whoever reads the session table is everybody in it", "issuer.allow_bare_tokens = false"})
	}
	u := f.record.User
	if !f.cfg.Policy.RefuseBanned && bannedAt(u, f.now.UnixMilli()) {
		out = append(out, Advice{FaultAcceptsBanned, "the user is banned, and the issuer's get-session does not look at that: its own ban also deletes the sessions, one by SQL does not", "policy.refuse_banned = true"})
	}
	if ahead := f.record.Session.UpdatedAt.Sub(f.now); ahead > clockTolerance {
		if f.store.Zone != "" && ahead < zoneWidth {
			out = append(out, Advice{FaultTimeZone, fmt.Sprintf("the session was refreshed %s in the future: its columns have no time zone and are read as %s", ahead.Round(time.Second), f.store.Zone), "store.time_zone: the zone of the process that writes the rows"})
		} else {
			out = append(out, Advice{FaultClockBehind, fmt.Sprintf("the session was refreshed %s in the future: this machine's clock is behind the issuer's, and sessions stay good for longer here", ahead.Round(time.Second)), "none: set the clocks by NTP; sessiond doctor compares them"})
		}
	}
	if several := f.several(); several != "" {
		out = append(out, Advice{FaultSeveralCookies, several, "issuer.base_url, so that one name is read; or delete the other cookie"})
	}
	return out
}

// several says which other cookies of the names that are read arrived with another
// value.
func (f *finding) several() string {
	if f.credential.Form != FormHeaders || f.reading.Source != sessioncookie.SourceCookie {
		return ""
	}
	counts, _ := sessioncookie.Find(f.credential.Cookie, f.reading.Name)
	for _, name := range f.cfg.Cookies.Names {
		for other, value := range sessioncookie.All(f.credential.Cookie) {
			if other == name && value != counts {
				return fmt.Sprintf("another cookie %s arrived with another value: the first of %s counts, and when it ends the other takes its place", name, f.reading.Name)
			}
		}
	}
	return ""
}

// sessionDataRejected says why the session_data cookie refuses the session.
func (d *diagnosis) sessionDataRejected(now time.Time) []Advice {
	beside := d.beside(d.reading.Name)
	rejects := func(change func(*sessiondata.Config)) bool {
		cfg := *beside.SessionData
		change(&cfg)
		c, err := sessiondata.New(cfg)
		return err != nil || c.Rejects(sessionDataOf(d.credential, d.reading), now)
	}
	value, _ := sessioncookie.Find(d.credential.Cookie, beside.SessionData.Name)
	for _, strategy := range []string{sessiondata.Compact, sessiondata.JWT, sessiondata.JWE} {
		if strategy == sessiondata.Compact && !isSessionData(sessioncookie.Decode(value)) {
			continue // this strategy passes over what is not of its form
		}
		if strategy != beside.sessionData.Strategy() && !rejects(func(c *sessiondata.Config) { c.Strategy = strategy }) {
			return []Advice{{FaultSessionDataOther, fmt.Sprintf("the %s cookie is of strategy %s, and %s is configured", beside.SessionData.Name, strategy, beside.sessionData.Strategy()), fmt.Sprintf("issuer.cookie_cache = %q", strategy)}}
		}
	}
	return []Advice{
		{FaultSessionDataBad, fmt.Sprintf("the %s cookie beside the session cookie does not verify or is over, and issuer version %s then refuses a good session: another secret wrote it, a chunk is missing, or it outlived its session", beside.SessionData.Name, beside.SessionData.Version), "none: the issuer refuses it too; delete the cookie"},
		{FaultIssuerVersion, "issuers from 1.6 on pass over such a cookie", `issuer.version = "1.7", if the issuer is newer`},
	}
}

// unanswered says what to look at where the store could not be asked. Its error
// names the setting.
func unanswered(err error) []Advice {
	if strings.Contains(err.Error(), "secondary.url") {
		return []Advice{{FaultSecondaryAway, "secondary storage could not be asked: this says nothing about the session", "secondary.url; the lookup above says what happened"}}
	}
	return []Advice{{FaultStoreAway, "the store could not be asked: this says nothing about the session", "store.dsn or store.path; the lookup above says what happened"}}
}
