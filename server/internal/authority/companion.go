package authority

import (
	"fmt"
	"strings"

	"github.com/sessiond/sessiond/server/internal/sessiondata"
	"github.com/sessiond/sessiond/sessioncookie"
)

// Companion names the cookies that the issuer sets beside a session cookie.
type Companion struct {
	// Session is the session cookie's name.
	Session string
	// DontRemember is the name of the issuer's dont_remember cookie: sessions
	// signed in with it are never refreshed. Empty: none.
	DontRemember string
	// SessionData, where set, says how the issuer's session_data cookie is read: it
	// refuses sessions as issuers before 1.7 do, is the session of a stateless one, and
	// a hint in an explanation.
	SessionData *sessiondata.Config
}

// companion is a Companion with what reads its cookies.
type companion struct {
	Companion
	dontRemember *sessioncookie.Reader // nil: none
	sessionData  *sessiondata.Checker  // nil: it is not read
}

func newCompanions(cfg Config) ([]companion, error) {
	out := make([]companion, len(cfg.Companions))
	for i, c := range cfg.Companions {
		out[i].Companion = c
		var err error
		if c.SessionData != nil {
			if out[i].sessionData, err = sessiondata.New(*c.SessionData); err != nil {
				return nil, err
			}
		}
		if c.DontRemember != "" {
			other := cfg.Cookies
			other.Names, other.Bearer = []string{c.DontRemember}, false
			if out[i].dontRemember, err = sessioncookie.New(other); err != nil {
				return nil, fmt.Errorf("dont_remember cookie: %w", err)
			}
		}
	}
	return out, nil
}

// beside returns the companion of a session cookie, whose name is empty for a bearer
// token: the one of that name, else one that is as secure, else the first. Where it is
// not known whether the issuer uses secure cookies, the session cookie tells.
func (a *Authority) beside(name string) *companion {
	best := -1
	for i := range a.companions {
		c := &a.companions[i]
		if c.Session == name {
			return c
		}
		if best < 0 && name != "" && isSecure(c.Session) == isSecure(name) {
			best = i
		}
	}
	switch {
	case best >= 0:
		return &a.companions[best]
	case len(a.companions) > 0:
		return &a.companions[0]
	}
	return &companion{}
}

func isSecure(name string) bool { return strings.HasPrefix(name, "__Secure-") }

// sessionDataOf is what of a credential the session_data cookie is read by.
func sessionDataOf(c Credential, reading sessioncookie.Reading) sessiondata.Request {
	return sessiondata.Request{Cookie: c.Cookie, Bearer: reading.Source == sessioncookie.SourceBearer, Token: reading.Token}
}
