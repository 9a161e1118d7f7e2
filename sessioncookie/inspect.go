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

	// valueRun is the length from which a run in a value is held against the names.
	valueRun = 16
)

// Cookie describes one cookie of a header without its value.
type Cookie struct {
	// Name is safe to print: no six bytes of a token or a signature are in it. What
	// is not printable ASCII is escaped, and of a run of letters and digits that is
	// no word only the start is left. It is cut after 128 bytes.
	Name           string
	ValueBytes     int  // as in the header, trimmed
	Quoted         bool // starts with a double quote
	PercentEncoded bool // holds a "%"
	Dots           int  // in the value
	// SignedShape: the value has the shape of a signed session cookie, be it encoded
	// once too often.
	SignedShape bool
}

// Inspect describes the first max cookies of a header in their order, for
// telling an operator what arrived. It never shows values. The names in known,
// from configuration, are shown whole, as are their chunks.
func Inspect(header string, max int, known ...string) []Cookie {
	var cookies []Cookie
	values := runsOfValues(header)
	for name, value := range All(header) {
		if len(cookies) >= max {
			break
		}
		c := Cookie{
			ValueBytes:     len(value),
			Quoted:         strings.HasPrefix(value, `"`),
			PercentEncoded: strings.Contains(value, "%"),
			Dots:           strings.Count(value, "."),
			SignedShape:    hasSignedShape(value),
		}
		// Of other cookies' names the start of each run is enough.
		trusted := (c.SignedShape || isIssuers(name)) && !overlaps(name, values)
		c.Name = shownName(name, trusted, known)
		cookies = append(cookies, c)
	}
	return cookies
}

// hasSignedShape reports whether a value, decoded once or twice, is a token with a
// signature.
func hasSignedShape(value string) bool {
	for range 2 {
		value = Decode(value)
		if dot := strings.LastIndexByte(value, '.'); dot >= 1 && signatureShaped([]byte(value[dot+1:])) {
			return true
		}
	}
	return false
}

// isIssuers reports whether a name ends as the issuer's own names do.
func isIssuers(name string) bool {
	return strings.HasSuffix(name, ".session_token") || strings.HasSuffix(name, ".session_data") || strings.HasSuffix(name, ".dont_remember")
}

// runsOfValues returns the runs of letters and digits in a header's values that
// are long enough to be a token, in lower case.
func runsOfValues(header string) []string {
	var runs []string
	for _, value := range All(header) {
		for run := range strings.FieldsFuncSeq(value, func(r rune) bool { return r > 0x7e || !isAlnum(byte(r)) }) {
			if len(run) >= valueRun {
				runs = append(runs, strings.ToLower(run))
			}
		}
	}
	return runs
}

// overlaps reports whether a name and one of the runs share more than shownRun bytes.
func overlaps(name string, runs []string) bool {
	name = strings.ToLower(name)
	for i := 0; i+shownRun < len(name); i++ {
		window := name[i : i+shownRun+1]
		if slices.ContainsFunc(runs, func(run string) bool { return strings.Contains(run, window) }) {
			return true
		}
	}
	return false
}

func shownName(name string, trusted bool, known []string) string {
	for _, k := range known {
		if rest, ok := strings.CutPrefix(name, k); ok && (rest == "" || isChunk(rest)) {
			return name
		}
	}
	if at := strings.LastIndex(name, multiInfix); at > 0 {
		token := name[at+len(multiInfix):]
		return shownName(name[:at], trusted, known) + fmt.Sprintf("%s[%d bytes]", multiInfix, len(token))
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
			b.WriteString(shownWord(name[i:run], trusted, known))
			i = run
		case c < 0x20 || c >= 0x7f || c == '\\':
			fmt.Fprintf(&b, `\x%02x`, c)
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

// shownWord returns a run of a name, whole if it is a word.
func shownWord(run string, trusted bool, known []string) string {
	switch {
	case len(run) <= shownRun, isCommon(run), trusted && strings.Trim(run, "abcdefghijklmnopqrstuvwxyz") == "":
		return run
	}
	for _, k := range known {
		if slices.Contains(strings.FieldsFunc(k, func(r rune) bool { return r > 0x7e || !isRun(byte(r)) }), run) {
			return run
		}
	}
	return run[:shownRun] + "…"
}

// isCommon reports whether a run is a word of which session cookies are named.
func isCommon(run string) bool {
	switch strings.ToLower(run) {
	case "better", "cookie", "cookies", "domain", "remember", "secure", "session", "sessionid", "sessions", "sessiontoken", "tokens":
		return true
	}
	return false
}

func isAlnum(c byte) bool {
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z')
}

// isRun reports whether c can be part of a token or a signature, encoded or not.
func isRun(c byte) bool { return isAlnum(c) || strings.IndexByte("+/%=", c) >= 0 }
