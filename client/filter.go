package client

import (
	"encoding/binary"
	"strings"
	"unsafe"
)

// cookieRule is sessiond.v1.CookieRule.
type cookieRule struct {
	name    string
	chunked bool
}

func (r cookieRule) matches(name string) bool {
	if !strings.HasPrefix(name, r.name) {
		return false
	}
	if len(name) == len(r.name) {
		return true
	}
	return r.chunked && name[len(r.name)] == '.' && allDigits(name[len(r.name)+1:])
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// filterCookies returns those cookies of a Cookie header that a rule names, in
// their order, duplicates included, untouched. It reads the header as the issuer
// does (better-call, src/cookies.ts): split on semicolons only, names trimmed as
// JavaScript trims the header's bytes, a part without "=" is no cookie.
//
// Matching cookies that stand side by side are returned as a part of the header
// itself; others cost one allocation.
func filterCookies(header string, rules []cookieRule) string {
	var apart strings.Builder
	start, end := -1, -1 // the run of matching cookies found last
	for at := 0; at < len(header); {
		next := len(header)
		if i := strings.IndexByte(header[at:], ';'); i >= 0 {
			next = at + i
		}
		if matchesAny(header[at:next], rules) {
			switch {
			case start < 0:
				start = at
			case end+1 != at:
				if apart.Len() == 0 {
					apart.Grow(len(header) - start)
				}
				appendCookies(&apart, header[start:end])
				start = at
			}
			end = next
		}
		at = next + 1
	}
	switch {
	case start < 0:
		return ""
	case apart.Len() == 0:
		return trimSpace(header[start:end])
	}
	appendCookies(&apart, header[start:end])
	return apart.String()
}

func appendCookies(b *strings.Builder, cookies string) {
	if b.Len() > 0 {
		b.WriteString("; ")
	}
	b.WriteString(trimSpace(cookies))
}

func matchesAny(part string, rules []cookieRule) bool {
	for part != "" && isSpace(part[0]) {
		part = part[1:]
	}
	for _, rule := range rules {
		// Most cookies are of no concern, and told by their first letter.
		if part == "" || rule.name == "" || part[0] != rule.name[0] || !strings.HasPrefix(part, rule.name) {
			continue
		}
		equals := strings.IndexByte(part, '=')
		if equals >= 0 && rule.matches(trimSpace(part[:equals])) {
			return true
		}
	}
	return false
}

// trimSpace is JavaScript's trim on a header that Node reads as Latin-1: it
// strips 0xA0 and leaves 0x85.
func trimSpace(s string) string {
	for s != "" && isSpace(s[0]) {
		s = s[1:]
	}
	for s != "" && isSpace(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

func isSpace(b byte) bool { return b == ' ' || b >= '\t' && b <= '\r' || b == 0xA0 }

// sendable reports whether an HTTP server would let a header's value through:
// no control byte but the tab. The issuer's answers such a request with 400
// whatever the cookies, so filtering must not hide the byte.
func sendable(header string) bool {
	b := unsafe.Slice(unsafe.StringData(header), len(header)) // read only
	for ; len(b) >= 32; b = b[32:] {
		w := plain(b[:8]) & plain(b[8:16]) & plain(b[16:24]) & plain(b[24:32])
		if w&highs != highs && !sendableBytes(b[:32]) {
			return false
		}
	}
	return sendableBytes(b)
}

// The same bit, or bits, in each byte of a word.
const (
	ones  = 0x0101010101010101
	highs = 0x80 * ones
	lows  = 0x7F * ones
)

// plain sets the highest bit of each of eight bytes that is no control byte, the
// tab taken for one: of the lower seven bits and one, 0x7F makes 0 and the others
// make up to 0x20, which 0x5F more do not carry into the highest bit.
func plain(b []byte) uint64 {
	w := binary.LittleEndian.Uint64(b)
	return ((w&lows+ones)&lows + 0x5F*ones) | w
}

func sendableBytes(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7F {
			return false
		}
	}
	return true
}
