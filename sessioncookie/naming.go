package sessioncookie

const (
	securePrefix  = "__Secure-"
	hostPrefix    = "__Host-"
	defaultPrefix = "better-auth"
)

// Naming is the issuer's configuration as far as it decides cookie names. Every
// supported version names its cookies alike.
type Naming struct {
	// Prefix is advanced.cookiePrefix; empty means "better-auth".
	Prefix string

	// Custom is advanced.cookies.session_token.name; empty means none. The
	// issuer's session.cookieName and session.cookie have no effect and do not
	// belong here.
	Custom string

	// Secure says that the issuer uses secure cookies: useSecureCookies if that
	// is set, else whether baseURL starts with "https://", else whether it runs
	// in production.
	Secure bool
}

// SessionToken returns the name of the cookie that holds the session token. A
// custom name replaces prefix and name, but "__Secure-" is put before it all the
// same, even if it starts with that already.
func (n Naming) SessionToken() string {
	if n.Custom != "" {
		return n.scheme() + n.Custom
	}
	return n.scheme() + n.prefix() + ".session_token"
}

// SessionData returns the name of the cookie-cache cookie. A custom name of the
// session token does not apply to it.
func (n Naming) SessionData() string {
	return n.scheme() + n.prefix() + ".session_data"
}

// DontRemember returns the name of the cookie that marks a session signed in with
// rememberMe off; the issuer never refreshes it. A custom name of the session
// token does not apply to it.
func (n Naming) DontRemember() string {
	return n.scheme() + n.prefix() + ".dont_remember"
}

func (n Naming) scheme() string {
	if n.Secure {
		return securePrefix
	}
	return ""
}

func (n Naming) prefix() string {
	if n.Prefix != "" {
		return n.Prefix
	}
	return defaultPrefix
}
