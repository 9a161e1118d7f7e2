package sessioncookie

import (
	"iter"
	"strings"
)

// cookieScan walks the name=value pairs of a Cookie header as the issuer's
// parser does: pairs end at ";" and at nothing else, a piece without "=" is
// skipped, and names and values lose the whitespace that JavaScript's trim()
// takes off.
type cookieScan struct {
	rest string
}

// next returns the next pair. The strings alias the header; the value is not
// unquoted and not decoded.
func (c *cookieScan) next() (name, value string, ok bool) {
	for c.rest != "" {
		pair := c.rest
		if end := strings.IndexByte(pair, ';'); end >= 0 {
			pair, c.rest = pair[:end], pair[end+1:]
		} else {
			c.rest = ""
		}
		if eq := strings.IndexByte(pair, '='); eq >= 0 {
			return trim(pair[:eq]), trim(pair[eq+1:]), true
		}
	}
	return "", "", false
}

// Find returns the value of the first cookie called name as it stands in a
// Cookie header, trimmed but neither unquoted nor decoded, and how many cookies
// carry that name. The comparison is case-sensitive. The value aliases header;
// nothing is allocated. [Reader.FromValue] reads what Find returns.
func Find(header, name string) (value string, n int) {
	scan := cookieScan{rest: header}
	for {
		key, val, ok := scan.next()
		if !ok {
			return value, n
		}
		if key == name {
			if n == 0 {
				value = val
			}
			n++
		}
	}
}

// All yields the name and the value of every cookie of a header, in order and as
// the issuer tells them apart: trimmed, the value neither unquoted nor decoded. Both
// alias header.
func All(header string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		scan := cookieScan{rest: header}
		for {
			name, value, ok := scan.next()
			if !ok || !yield(name, value) {
				return
			}
		}
	}
}

// trim is JavaScript's trim() on a header that was read as Latin-1: 0xA0 (no-break
// space) is whitespace there, and 0x85 is not.
func trim(s string) string {
	for s != "" && isSpace(s[0]) {
		s = s[1:]
	}
	for s != "" && isSpace(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

func isSpace(b byte) bool {
	return b == ' ' || (b >= '\t' && b <= '\r') || b == 0xA0
}

// hasControl reports whether s holds a byte that the HTTP parser in front of the
// issuer refuses in a header value: below 0x20 except tab, or 0x7f.
func hasControl(s string) bool {
	const (
		ones  = 0x0101010101010101
		highs = 0x80 * ones
	)
	// Eight bytes at a time; a word that may hold a bad byte is looked at again,
	// because a tab is below 0x20 too.
	for len(s) >= 8 {
		w := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
		del := w ^ 0x7f*ones
		if ((w-0x20*ones)&^w|(del-ones)&^del)&highs != 0 && hasControlByte(s[:8]) {
			return true
		}
		s = s[8:]
	}
	return hasControlByte(s)
}

func hasControlByte(s string) bool {
	for i := range len(s) {
		if b := s[i]; (b < 0x20 && b != '\t') || b == 0x7f {
			return true
		}
	}
	return false
}
