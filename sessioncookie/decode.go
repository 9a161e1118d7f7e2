package sessioncookie

import (
	"strings"
	"unicode/utf8"
)

// Decode returns what the issuer reads from a cookie value as it stands in the
// header ([Find] returns it): trimmed, unquoted, percent-decoded once. It is the
// inverse of [Encode]. Header bytes above ASCII are taken as Latin-1; the result
// is UTF-8.
func Decode(value string) string {
	value = unquote(trim(value))
	if !needsDecoding(value) {
		return value
	}
	return string(appendDecoded(nil, value))
}

// unquote drops the first and the last byte of a value that starts with a double
// quote, whatever the last one is. So does the issuer.
func unquote(value string) string {
	if value == "" || value[0] != '"' {
		return value
	}
	if len(value) == 1 {
		return ""
	}
	return value[1 : len(value)-1]
}

// needsDecoding reports whether the decoded form of a value differs from its
// bytes in the header: it has a percent escape or a byte above ASCII.
func needsDecoding(value string) bool {
	for i := range len(value) {
		if value[i] == '%' || value[i] >= utf8.RuneSelf {
			return true
		}
	}
	return false
}

// appendDecoded appends the UTF-8 form of what the issuer makes of a cookie
// value: percent escapes are undone once, all of them or, when one is bad, none.
func appendDecoded(dst []byte, value string) []byte {
	if strings.IndexByte(value, '%') >= 0 {
		if decoded, ok := appendUnescaped(dst, value); ok {
			return decoded
		}
	}
	return appendLatin1(dst, value)
}

// appendUnescaped is ECMAScript's decodeURIComponent over a string of Latin-1
// characters. It reports false, and dst is then to be thrown away, on an
// incomplete escape and on escapes that are not well-formed UTF-8.
func appendUnescaped(dst []byte, s string) (decoded []byte, ok bool) {
	for i := 0; i < len(s); {
		if s[i] != '%' {
			dst = utf8.AppendRune(dst, rune(s[i]))
			i++
			continue
		}
		var seq [utf8.UTFMax]byte
		if seq[0], ok = escapedByte(s, i); !ok {
			return dst, false
		}
		i += len("%XX")
		size := sequenceLen(seq[0])
		for k := 1; k < size; k++ {
			if seq[k], ok = escapedByte(s, i); !ok {
				return dst, false
			}
			i += len("%XX")
		}
		if size == 0 || !utf8.Valid(seq[:size]) {
			return dst, false
		}
		dst = append(dst, seq[:size]...)
	}
	return dst, true
}

// sequenceLen returns how many bytes the UTF-8 sequence has that b starts, and 0
// if none can start with b.
func sequenceLen(b byte) int {
	switch {
	case b < utf8.RuneSelf:
		return 1
	case b >= 0xC0 && b < 0xE0:
		return 2
	case b >= 0xE0 && b < 0xF0:
		return 3
	case b >= 0xF0 && b < 0xF8:
		return 4
	default:
		return 0
	}
}

func escapedByte(s string, i int) (b byte, ok bool) {
	if i+2 >= len(s) || s[i] != '%' {
		return 0, false
	}
	hi, ok1 := hexDigit(s[i+1])
	lo, ok2 := hexDigit(s[i+2])
	return hi<<4 | lo, ok1 && ok2
}

func hexDigit(b byte) (v byte, ok bool) {
	switch {
	case b >= '0' && b <= '9':
		return b - '0', true
	case b >= 'a' && b <= 'f':
		return b - 'a' + 10, true
	case b >= 'A' && b <= 'F':
		return b - 'A' + 10, true
	default:
		return 0, false
	}
}

// appendLatin1 appends s in UTF-8, each byte of s being one character: that is
// how the issuer's runtime reads header bytes.
func appendLatin1(dst []byte, s string) []byte {
	for i := range len(s) {
		dst = utf8.AppendRune(dst, rune(s[i]))
	}
	return dst
}
