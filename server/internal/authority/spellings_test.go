package authority_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/sessioncookie"
)

// TestSpellings: the four ways in which one session was spelled where the auth worker
// said 200 and the others 401, each with its cause first and the line that mends it.
// docs/motivating.md tells the story.
func TestSpellings(t *testing.T) {
	token := sessioncookie.NewToken()
	st := open(t, token)
	value := sessioncookie.Encode(sessioncookie.Sign(token, secret))
	for what, tt := range map[string]struct {
		read, header string
		fault        authority.Fault
		setting      string
		reason       authority.Reason
	}{
		"cookiePrefix ''":                 {"session_token", name + "=" + value, authority.FaultEmptyPrefix, `issuer.cookie_name = ""`, authority.ReasonNoCredential},
		"session.cookieName is ignored":   {"codex-session", name + "=" + value, authority.FaultIgnoredName, `issuer.cookie_name = ""`, authority.ReasonNoCredential},
		"another prefix":                  {name, "codex.session_token=" + value, authority.FaultOtherPrefix, `issuer.cookie_prefix = "codex"`, authority.ReasonNoCredential},
		"a cookie of the web app's own":   {name, "codex-session=" + value, authority.FaultOtherName, `issuer.cookie_name = "codex-session"`, authority.ReasonNoCredential},
		"which copied the encoded value":  {"codex-session", "codex-session=" + url.QueryEscape(value), authority.FaultEncodedTwice, "none", authority.ReasonMalformed},
		"__Secure- where there is none":   {"__Secure-" + name, name + "=" + value, authority.FaultSecureMissing, "issuer.base_url", authority.ReasonNoCredential},
		"no __Secure- where there is one": {name, "__Secure-" + name + "=" + value, authority.FaultSecureSurplus, "issuer.base_url", authority.ReasonNoCredential},
	} {
		t.Run(what, func(t *testing.T) {
			a := newAuthority(t, st, func(c *authority.Config) { c.Cookies.Names = []string{tt.read} })
			answer, err := a.Validate(t.Context(), atNoon(), headers(tt.header))
			if err != nil || answer.Verdict.Reason != tt.reason {
				t.Fatalf("%+v, %v", answer.Verdict, err)
			}
			e, err := a.Explain(t.Context(), noon, st, headers(tt.header))
			if err != nil || e.Reason != tt.reason.String() || len(e.Advice) == 0 {
				t.Fatalf("%+v, %v", e, err)
			}
			if top := e.Advice[0]; top.Fault != tt.fault || !strings.HasPrefix(top.Setting, tt.setting) {
				t.Errorf("%+v, want %q and %q", top, tt.fault, tt.setting)
			}
		})
	}
}
