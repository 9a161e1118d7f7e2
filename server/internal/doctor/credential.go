package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/sessioncookie"
)

func checkCookieNames(ctx context.Context, x *examination) []Finding {
	names := x.Server.Authority.Cookies.Names
	switch {
	case x.configErr != nil:
		return one(Fail, "%v", x.configErr)
	case !x.given():
		return one(Skipped, "%s", noCookie)
	case x.Cookie == "":
		return one(Skipped, "the request has no Cookie header")
	}
	seen := make(map[string]int)
	for name := range sessioncookie.All(x.Cookie) {
		seen[name]++
	}
	var found []Finding
	var present []string
	for _, name := range names {
		switch n := seen[name]; {
		case n > 1:
			found = append(found, mend(Warn, "end the older cookie: it was set with another Path or Domain",
				"%d cookies are named %s; the first counts, and the order is the browser's", n, name))
			fallthrough
		case n == 1:
			present = append(present, name)
		}
	}
	switch {
	case len(present) == 0:
		return append(found, x.noSessionCookie(ctx))
	case len(present) > 1:
		found = append(found, mend(Warn, "set issuer.base_url (or issuer.use_secure_cookies) so that one name is read",
			"%s arrived, and all are read: the first of them decides, and the issuer reads one", strings.Join(present, " and ")))
	default:
		found = append(found, one(OK, "%s arrived and is read", present[0])...)
	}
	return found
}

// noSessionCookie says what arrived instead, with the advice of explain.
func (x *examination) noSessionCookie(ctx context.Context) Finding {
	c := x.credential()
	c.Authorization = ""
	// The error is the store's, which is not asked where nothing verified.
	e, _ := x.authority.Explain(ctx, x.Now(), x.source(), c)
	f := mend(Fail, "issuer.base_url, issuer.cookie_prefix or issuer.cookie_name", "no cookie arrived of the names that are read: %s", strings.Join(x.Server.Authority.Cookies.Names, ", "))
	f.Trace = e.Steps
	if len(e.Advice) > 0 {
		f.What = e.Advice[0].Cause
		if e.Advice[0].Setting != "" {
			f.Fix = e.Advice[0].Setting
		}
	}
	return f
}

func checkSignature(_ context.Context, x *examination) []Finding {
	if x.configErr != nil {
		return one(Skipped, "the configuration cannot be used")
	}
	if !x.given() {
		return one(Skipped, "%s", noCookie)
	}
	cfg := x.Server.Authority.Cookies
	own := len(cfg.Secrets)
	cfg.Secrets, cfg.Retired = slices.Concat(cfg.Secrets, cfg.Retired), nil
	reader, err := sessioncookie.New(cfg)
	if err != nil {
		return one(Fail, "%v", err)
	}
	reading := reader.FromHeaders(x.Cookie, x.Authorization)
	_, _, reason := x.authority.Find(x.Now(), x.credential())
	const fix = "issuer.secret_file: the issuer's BETTER_AUTH_SECRET, to the byte (no quotes, no line break within)"
	switch {
	case reason == authority.ReasonNoCredential:
		return one(Skipped, "no credential of a configured name arrived")
	case reason == authority.ReasonBadSignature:
		return []Finding{mend(Fail, fix, "no secret made the signature: %d configured and %d retired were tried", own, len(cfg.Secrets)-own)}
	case reading.Err == nil && reading.Secret >= own && x.Server.Authority.AcceptRetired:
		return []Finding{mend(Warn, "end issuer.accept_retired_secrets when the last session of that secret is over",
			"retired secret %d made the signature: the issuer refuses it, and it is accepted here (issuer.accept_retired_secrets)", reading.Secret-own+1)}
	case reading.Err == nil && reading.Secret >= own:
		return []Finding{mend(Fail, fix+"; or sign in anew, if the cookie is older than the rotation",
			"retired secret %d made the signature, not the one configured", reading.Secret-own+1)}
	case reason == authority.ReasonMalformed, reason == authority.ReasonUnsignedNotAllowed:
		return []Finding{mend(Fail, "send the Cookie header as the browser does", "what arrived is no signed credential: %s", reason)}
	case !reading.Signed:
		return one(Note, "a bare token arrived, which the configuration allows")
	}
	return one(OK, "%s", fmt.Sprintf("secret %d of %d made the signature", reading.Secret+1, own))
}
