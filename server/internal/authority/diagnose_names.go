package authority

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/sessiond/sessiond/server/internal/spelling"
	"github.com/sessiond/sessiond/sessioncookie"
)

const (
	securePrefix = "__Secure-"
	hostPrefix   = "__Host-"
	// standardName is how the issuer's own cookies are named after the prefix.
	standardName = ".session_token"
)

// notThere says why there is no credential.
func (d *diagnosis) notThere() []Advice {
	if d.reading.Name != "" {
		return append(d.shadowed(verified),
			Advice{FaultEmptyValue, fmt.Sprintf("cookie %s arrived and is empty: it was cleared, by a sign-out or by something else", d.reading.Name), "none: sign in"})
	}
	if out := d.pasted(); out != nil {
		return out
	}
	out := d.lookAlikes()
	out = append(out, d.authorization()...)
	if len(out) > 0 {
		return out
	}
	for _, c := range d.cfg.Companions {
		if c.SessionData == nil {
			continue
		}
		for name := range sessioncookie.All(d.credential.Cookie) {
			if name == c.SessionData.Name || strings.HasPrefix(name, c.SessionData.Name+".") {
				return []Advice{{FaultOnlySessionData, fmt.Sprintf("cookie %s arrived without the session cookie beside it: the session cookie has ended, or has another Path or Domain", c.SessionData.Name), "none: the issuer refuses it too; look at how the issuer sets both cookies"}}
			}
		}
	}
	for _, k := range d.cookies {
		if k.Beside {
			return []Advice{{FaultOnlyBeside, fmt.Sprintf("cookie %s arrived, which the issuer sets for another purpose, and no session cookie: nobody is signed in, or the session cookie has another Path or Domain", k.Name), "none: sign in"}}
		}
	}
	return []Advice{d.notSent()}
}

func (d *diagnosis) notSent() Advice {
	cause := "no session cookie reached us"
	if d.credential.Cookie == "" {
		cause = "no cookie reached us at all"
	}
	return Advice{FaultNotSent, cause + ": check the cookie's Domain, Path and SameSite, that the page fetches with credentials, and that the proxy passes the Cookie header on", "none: issuer.cookie_domain has no bearing on what browsers send; look at the issuer's crossSubDomainCookies and at the proxy"}
}

// pasted names a header that is not the Cookie header's value.
func (d *diagnosis) pasted() []Advice {
	header := strings.TrimSpace(d.credential.Cookie)
	for _, field := range []string{"cookie:", "set-cookie:", "-h cookie:"} {
		if len(header) >= len(field) && strings.EqualFold(header[:len(field)], field) {
			return []Advice{{FaultHeaderNamePasted, "the header begins with its own name: its value alone is wanted", "none: leave " + field + " out"}}
		}
	}
	for _, name := range d.cfg.Cookies.Names {
		if strings.Contains(header, ","+name+"=") || strings.Contains(header, ", "+name+"=") {
			return []Advice{{FaultJoinedByComma, fmt.Sprintf("cookie %s stands after a comma: something joined several Cookie headers by commas, and cookies are parted by ; alone", name), byComma}}
		}
	}
	return nil
}

// lookAlikes names cookies that might have been meant, the likeliest first.
func (d *diagnosis) lookAlikes() []Advice {
	type guess struct {
		Advice
		rank int
	}
	var guesses []guess
	n, ours := 0, false
	for name, value := range sessioncookie.All(d.credential.Cookie) {
		if n == len(d.cookies) {
			break
		}
		advice, rank := d.lookAlike(name, d.cookies[n])
		if rank == 0 {
			n++
			continue
		}
		switch {
		case d.reader.FromValue(value).Err == nil:
			rank -= 100
			advice.Cause += "; the issuer's secret made its signature"
			ours = true
		case d.cookies[n].SignedShape:
			advice.Cause += "; no secret that is known here made its signature: it may be another application's"
		}
		guesses = append(guesses, guess{advice, rank})
		n++
	}
	slices.SortStableFunc(guesses, func(a, b guess) int { return cmp.Compare(a.rank, b.rank) })
	var out []Advice
	for _, g := range guesses {
		if !slices.Contains(out, g.Advice) {
			out = append(out, g.Advice)
		}
	}
	if len(out) > 0 && !ours {
		out = append(out, d.notSent())
	}
	return out
}

func bareName(name string) string {
	return strings.TrimPrefix(strings.TrimPrefix(name, securePrefix), hostPrefix)
}

// lookAlike says why a cookie that is not read might have been meant; the lower the
// rank, the likelier, and 0: it might not.
func (d *diagnosis) lookAlike(name string, k sessioncookie.Cookie) (a Advice, rank int) {
	bare := bareName(name)
	names := strings.Join(d.cfg.Cookies.Names, ", ")
	for _, want := range d.cfg.Cookies.Names {
		wantBare := bareName(want)
		arrived := fmt.Sprintf("cookie %s arrived, %s is read: ", k.Name, names)
		switch {
		case bare == securePrefix+wantBare, name == securePrefix+securePrefix+wantBare:
			return Advice{FaultSecureDoubled, arrived + "the issuer puts __Secure- before a name that has it already", fmt.Sprintf("issuer.cookie_name = %q, as the issuer's advanced.cookies.session_token.name has it", securePrefix+wantBare)}, 1
		case bare == wantBare && strings.HasPrefix(name, hostPrefix):
			return Advice{FaultHostPrefix, arrived + "the issuer knows no __Host- of its own: something renames its cookie", fmt.Sprintf("issuer.cookie_names = %q, if that is wanted", strings.Join(append([]string{k.Name}, d.cfg.Cookies.Names...), ","))}, 2
		case bare == wantBare && strings.HasPrefix(name, securePrefix):
			return Advice{FaultSecureSurplus, arrived + "the issuer and sessiond disagree about secure cookies", setNames + ": the issuer's own, an https baseURL here"}, 1
		case bare == wantBare && name != want:
			return Advice{FaultSecureMissing, arrived + "the issuer and sessiond disagree about secure cookies", setNames + ": the issuer's own, an http baseURL here"}, 1
		case strings.EqualFold(bare, wantBare):
			return Advice{FaultNameCase, arrived + "cookie names are case-sensitive", fmt.Sprintf("issuer.cookie_name = %q, if the issuer spells it so", k.Name)}, 2
		case strings.Contains(bare, multiInfix) && strings.HasPrefix(bare, wantBare):
			return Advice{FaultOnlyMulti, arrived + "it is one that the multi-session plugin keeps for another account, and counts for nobody until that account is made the active one", "none: the issuer refuses it too; call its multi-session/set-active"}, 20
		case strings.HasPrefix(bare, wantBare+".") && strings.Trim(bare[len(wantBare)+1:], "0123456789") == "":
			return Advice{FaultChunked, arrived + "it is a piece of it, which the issuer does not write: something on the way split the cookie", "none: put the pieces together before they are sent on, or let the cookie be whole"}, 3
		case strings.HasSuffix(bare, wantBare) && !strings.HasSuffix(bare, "."+wantBare):
			return Advice{FaultNameLonger, arrived + "it ends like the session cookie and is another: whoever looks for the name anywhere in the header takes the one for the other", fmt.Sprintf("none: the issuer does not read it either; or issuer.cookie_name = %q, if the issuer's advanced.cookies.session_token.name is that", bareName(k.Name))}, 12
		case !strings.HasSuffix(bare, standardName) && (k.SignedShape || len(wantBare) >= telling) && near(bare, wantBare):
			return Advice{FaultNameMisspelt, arrived + "it is a slip of the pen away", fmt.Sprintf("none: set the cookie as %s; or issuer.cookie_name = %q, if the issuer spells it so", want, bareName(k.Name))}, 3
		}
	}
	prefix, standard := strings.CutSuffix(bare, standardName)
	shown := strings.TrimSuffix(bareName(k.Name), standardName)
	first := d.cfg.Cookies.Names[0]
	arrived := fmt.Sprintf("cookie %s arrived, %s is read: ", k.Name, names)
	setName := `issuer.cookie_name = ""`
	if standard && prefix != "better-auth" {
		setName += fmt.Sprintf(` and issuer.cookie_prefix = %q`, shown)
	}
	switch {
	case standard && bareName(first) == strings.TrimPrefix(standardName, "."):
		return Advice{FaultEmptyPrefix, arrived + "to the issuer an empty cookiePrefix is none given, and it uses better-auth", setName}, 4
	case standard && !strings.HasSuffix(first, standardName):
		// session.cookieName and session.cookie look like the option and are none.
		return Advice{FaultIgnoredName, arrived + "the issuer does not use that name (its session.cookieName is not an option, and is ignored)", setName}, 4
	case standard:
		return Advice{FaultOtherPrefix, arrived + "the issuer has another cookiePrefix (an empty one is the default, better-auth)", fmt.Sprintf("issuer.cookie_prefix = %q", shown)}, 4
	case k.SignedShape:
		return Advice{FaultOtherName, fmt.Sprintf("cookie %s has the shape of a signed session cookie and is not read", k.Name), fmt.Sprintf("issuer.cookie_name = %q, if the issuer's advanced.cookies.session_token.name is that; else issuer.cookie_names", bareName(k.Name))}, 10
	}
	return Advice{}, 0
}

// telling is the length from which a name that is nearly another's is hardly a coincidence:
// session and sessionid are of two frameworks.
const telling = 12

// near reports whether two names differ by at most two letters put in, left out or
// exchanged.
func near(a, b string) bool {
	const most = 2
	if len(a)-len(b) > most || len(b)-len(a) > most || min(len(a), len(b)) <= 2*most {
		return false
	}
	return spelling.Distance(a, b) <= most
}

const multiInfix = "_multi-"

// authorization says why an Authorization header was not read.
func (d *diagnosis) authorization() []Advice {
	header := d.credential.Authorization
	scheme, _, _ := strings.Cut(strings.TrimSpace(header), " ")
	version := d.versionAdvice()
	switch {
	case header == "":
		return nil
	case isJWT(bearerValue(header)):
		return []Advice{{FaultJWT, "the Authorization header holds a JWT, where a session token is wanted: that of the jwt plugin, or of another service", "none: send the session cookie, or the bearer plugin's set-auth-token"}}
	case isNothing(bearerValue(header)):
		return []Advice{nothing(bearerValue(header))}
	case !d.cfg.Cookies.Bearer && verified(d.withBearer()):
		return []Advice{{FaultBearerOff, "the Authorization header holds a session token and is not read", "issuer.bearer = true, if the issuer has the bearer plugin"}}
	case !strings.EqualFold(scheme, "bearer") && d.verifies(sessioncookie.Decode(header[strings.LastIndexByte(header, ' ')+1:])):
		return []Advice{{FaultOtherScheme, "the Authorization header holds a session token, and not the scheme Bearer before it", "none: send Authorization: Bearer TOKEN"}}
	case version != nil:
		return version
	case !d.cfg.Cookies.Bearer && d.withBearer().Err == nil:
		return []Advice{{FaultBearerOpaque, "the Authorization header holds a token that nothing signed and is not read: another service's, or one such as the session table holds", "none: send the session cookie, or the bearer plugin's set-auth-token; issuer.bearer = true would look it up as a session's token: " + everybody}}
	case strings.EqualFold(scheme, "bearer"):
		return []Advice{{FaultBearerNoCookie, "the Authorization header holds a bearer that no session can be read from", "none: send what sign-in answered as set-auth-token"}}
	default:
		return []Advice{{FaultOtherScheme, fmt.Sprintf("the Authorization header has another scheme than Bearer (%d bytes)", len(header)), "none: send Authorization: Bearer TOKEN, or the session cookie"}}
	}
}

// withBearer is what the header would be read as if the plugin were on.
func (d *diagnosis) withBearer() sessioncookie.Reading {
	cfg := d.cfg.Cookies
	cfg.Bearer = true
	r, err := sessioncookie.New(cfg)
	if err != nil {
		return sessioncookie.Reading{Err: err}
	}
	return r.FromHeaders("", d.credential.Authorization)
}
