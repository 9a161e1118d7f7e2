package sessioncookie

import (
	"fmt"
	"strings"
)

const (
	// maxShownName bounds how much of a cookie name is shown, in bytes.
	maxShownName = 128

	// secretLike is the length from which a run of base64 characters in a name is
	// taken for a token or a signature. The issuer's multi-session cookies carry
	// the token in their name, and a value sent without a name looks like one.
	secretLike = 24
)

// Cookie describes one cookie of a header without its value.
type Cookie struct {
	// Name is cut after 128 bytes; what is not printable ASCII is escaped, and
	// runs of 24 or more letters, digits, "+" and "/" are left out.
	Name           string
	ValueBytes     int  // as in the header, trimmed
	Quoted         bool // starts with a double quote
	PercentEncoded bool // holds a "%"
	Dots           int  // in the value
}

// Inspect describes the first max cookies of a header in their order, for
// telling an operator what arrived. It never shows values.
func Inspect(header string, max int) []Cookie {
	var cookies []Cookie
	scan := cookieScan{rest: header}
	for len(cookies) < max {
		name, value, ok := scan.next()
		if !ok {
			break
		}
		cookies = append(cookies, Cookie{
			Name:           shownName(name),
			ValueBytes:     len(value),
			Quoted:         strings.HasPrefix(value, `"`),
			PercentEncoded: strings.Contains(value, "%"),
			Dots:           strings.Count(value, "."),
		})
	}
	return cookies
}

func shownName(name string) string {
	name = name[:min(len(name), maxShownName)]
	var b strings.Builder
	for i := 0; i < len(name); {
		run := i
		for run < len(name) && isBase64(name[run]) {
			run++
		}
		switch c := name[i]; {
		case run-i >= secretLike:
			fmt.Fprintf(&b, "[%d bytes]", run-i)
			i = run
		case run > i:
			b.WriteString(name[i:run])
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

func isBase64(c byte) bool {
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '+' || c == '/'
}
