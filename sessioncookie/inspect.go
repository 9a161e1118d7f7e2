package sessioncookie

import (
	"fmt"
	"slices"
	"strings"
)

const (
	// maxShownName bounds how much of a cookie name is shown, in bytes.
	maxShownName = 128

	// secretLike is the length from which a run of base64 characters in a name is
	// taken for a token or a signature. The issuer's multi-session cookies carry
	// the token in their name, and a value sent without a name looks like one.
	secretLike = 24

	// shownRun is how much of a run is shown that might be a piece of one.
	shownRun = 5
)

// Cookie describes one cookie of a header without its value.
type Cookie struct {
	// Name is safe to print: no six bytes of a token or a signature are in it. What
	// is not printable ASCII is a question mark, and of a run of letters and digits
	// that is no word only the start is left. It is cut after 128 bytes.
	Name           string
	ValueBytes     int  // as in the header, trimmed
	Quoted         bool // starts with a double quote
	PercentEncoded bool // holds a "%"
	Dots           int  // in the value
	// SignedShape: the value has the shape of a signed session cookie, be it encoded
	// once too often, and the name is not that of another cookie which the issuer signs.
	SignedShape bool
	// Beside: the name is that of a cookie which the issuer sets for another purpose.
	Beside bool
}

// Inspect describes the first max cookies of a header in their order, for
// telling an operator what arrived. It never shows values. The names in known,
// from configuration, are shown whole, as are their chunks.
func Inspect(header string, max int, known ...string) []Cookie {
	var cookies []Cookie
	for name, value := range All(header) {
		if len(cookies) >= max {
			break
		}
		beside := isBeside(name)
		cookies = append(cookies, Cookie{
			Name:           shownName(name, known),
			ValueBytes:     len(value),
			Quoted:         strings.HasPrefix(value, `"`),
			PercentEncoded: strings.Contains(value, "%"),
			Dots:           strings.Count(value, "."),
			SignedShape:    !beside && hasSignedShape(value),
			Beside:         beside,
		})
	}
	return cookies
}

// besides are the cookies that the issuer and its plugins set with createAuthCookie for
// other purposes. Most are signed as the session cookie is, and with the same secret.
var besides = []string{
	"dont_remember", "session_data", "account_data", "state", "oauth_state", "oauth_popup", "two_factor", "trust_device", "admin_session", "better-auth-passkey",
}

// isBeside goes by what follows the issuer's prefix, which may be any.
func isBeside(name string) bool {
	dot := strings.LastIndexByte(name, '.')
	return dot > 0 && slices.Contains(besides, name[dot+1:])
}

// maxCookie is the most that a browser keeps of a cookie, name and all, in bytes.
const maxCookie = 4096

// hasSignedShape reports whether a value, decoded once or twice, is a token with a
// signature.
func hasSignedShape(value string) bool {
	if len(value) > maxCookie {
		return false
	}
	for range 2 {
		value = Decode(value)
		if dot := strings.LastIndexByte(value, '.'); dot >= 1 && signatureShaped([]byte(value[dot+1:])) {
			return true
		}
	}
	return false
}

func shownName(name string, known []string) string {
	for _, k := range known {
		if rest, ok := strings.CutPrefix(name, k); ok && (rest == "" || isChunk(rest)) {
			return name
		}
	}
	// The first: a name may be a hundred thousand of them.
	if at := strings.Index(name, multiInfix); at > 0 {
		token := name[at+len(multiInfix):]
		return shownName(name[:at], known) + fmt.Sprintf("%s[%d bytes]", multiInfix, len(token))
	}
	var b strings.Builder
	for i := 0; i < len(name) && b.Len() < maxShownName; {
		run := i
		for run < len(name) && isRun(name[run]) {
			run++
		}
		switch c := name[i]; {
		case run-i >= secretLike:
			fmt.Fprintf(&b, "[%d bytes]", run-i)
			i = run
		case run > i:
			b.WriteString(shownWord(name[i:run], known))
			i = run
		case c < 0x20 || c >= 0x7f:
			b.WriteByte('?') // digits could be taken for a piece
			i++
		default:
			b.WriteByte(c)
			i++
		}
	}
	return b.String()
}

// isChunk reports whether s is ".0", ".1", ….
func isChunk(s string) bool {
	digits, ok := strings.CutPrefix(s, ".")
	return ok && digits != "" && len(digits) < shownRun && strings.Trim(digits, "0123456789") == ""
}

// shownWord returns a run of a name: whole if it cannot be a piece of a token, since
// it is short, or a word that names of cookies are made of.
func shownWord(run string, known []string) string {
	switch {
	case len(run) <= shownRun, strings.Contains(commonWords, " "+strings.ToLower(run)+" "):
		return run
	}
	for _, k := range known {
		if slices.Contains(strings.FieldsFunc(k, func(r rune) bool { return r > 0x7e || !isRun(byte(r)) }), run) {
			return run
		}
	}
	return run[:shownRun] + "…"
}

const commonWords = " access account accounts authentication backend better client company cookie cookies customer dashboard development domain example " +
	"frontend gateway identity internal mobile organization platform portal preview production refresh remember secure server service session sessionid " +
	"sessions sessiontoken staging testing tokens "

func isAlnum(c byte) bool {
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z')
}

// isRun reports whether c can be part of a token or a signature, encoded or not.
func isRun(c byte) bool { return isAlnum(c) || strings.IndexByte("+/%=", c) >= 0 }
