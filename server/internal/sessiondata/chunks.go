package sessiondata

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/sessiond/sessiond/sessioncookie"
)

// find returns the session data of a request: the whole cookie if it is not empty,
// else from 1.4 on its chunks "<name>.0", "<name>.1", ... joined. gap says that the
// numbers of the chunks are not those from 0 on.
func (c *Checker) find(r Request) (data string, gap bool) {
	if c.version < sessioncookie.V1_6 {
		whole := first(r.Cookie, c.name)
		if whole != "" || c.version < sessioncookie.V1_4 {
			return whole, false
		}
		return join(pairsOf14(r.Cookie), c.name+".", looseIndex)
	}
	pairs := pairsOf16(r.Cookie)
	whole := first(r.Cookie, c.name)
	if r.Bearer {
		whole = last(pairs, c.name)
	}
	switch {
	case whole != "":
		return whole, false
	case c.version < sessioncookie.V1_7:
		return join(pairs, c.name+".", looseIndex)
	default:
		return join(pairs, c.name+".", strictIndex)
	}
}

// first is the value of the first cookie of a name.
func first(header, name string) string {
	value, _ := sessioncookie.Find(header, name)
	return sessioncookie.Decode(value)
}

// last is the value of the last cookie of a name, which is the one that a header
// written anew has: with an accepted bearer token the issuer reads the pairs of 1.6
// into a map, puts the session cookie in, and writes the map as the Cookie header.
func last(pairs []pair, name string) (value string) {
	for _, p := range pairs {
		if p.name == name {
			value = p.value
		}
	}
	return value
}

type pair struct{ name, value string }

// pairsOf14 is 1.4's own reading of a Cookie header, used for chunks only: pairs
// end at "; ", nothing is trimmed or decoded.
func pairsOf14(header string) []pair {
	var pairs []pair
	for piece := range strings.SplitSeq(strings.Trim(header, " \t"), "; ") {
		if name, value, ok := strings.Cut(piece, "="); ok {
			pairs = append(pairs, pair{name, value})
		}
	}
	return pairs
}

// pairsOf16 is the reading of 1.6: pairs end at ";", spaces and tabs are trimmed,
// only a full pair of quotes is taken off, and a pair is skipped whose name is no token
// or whose value has a byte that RFC 6265 does not allow (space and comma apart).
func pairsOf16(header string) []pair {
	var pairs []pair
	for piece := range strings.SplitSeq(header, ";") {
		name, value, ok := strings.Cut(piece, "=")
		if !ok {
			continue
		}
		name, value = strings.Trim(name, " \t"), strings.Trim(value, " \t")
		if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
			value = value[1 : len(value)-1]
		}
		if name != "" && !strings.ContainsFunc(name, notToken) && !strings.ContainsFunc(value, notCookieOctet) {
			pairs = append(pairs, pair{name, sessioncookie.Decode(value)})
		}
	}
	return pairs
}

func notCookieOctet(r rune) bool {
	return r < ' ' || r > '~' || r == '"' || r == ';' || r == '\\'
}

func notToken(r rune) bool {
	return r <= ' ' || r > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}

// join puts the chunks together in the order of their numbers, which index reads. Of
// several of one name the last one's value counts, at the place of the first.
func join(pairs []pair, prefix string, index func(suffix string) (float64, bool)) (data string, gap bool) {
	type chunk struct {
		index float64
		value string
	}
	var chunks []chunk
	place := map[string]int{}
	for _, p := range pairs {
		if !strings.HasPrefix(p.name, prefix) {
			continue
		}
		number, ok := index(p.name[len(prefix):])
		if !ok {
			continue
		}
		if at, seen := place[p.name]; seen {
			chunks[at].value = p.value
			continue
		}
		place[p.name] = len(chunks)
		chunks = append(chunks, chunk{number, p.value})
	}
	slices.SortStableFunc(chunks, func(a, b chunk) int { return cmp.Compare(a.index, b.index) })
	var b strings.Builder
	for i, c := range chunks {
		b.WriteString(c.value)
		gap = gap || c.index != float64(i)
	}
	return b.String(), gap
}

// strictIndex is 1.7's reading of a chunk's number: what it would write itself.
func strictIndex(suffix string) (float64, bool) {
	const maxSafeInteger = 1<<53 - 1
	n, err := strconv.ParseUint(suffix, 10, 64)
	return float64(n), err == nil && n <= maxSafeInteger && strconv.FormatUint(n, 10) == suffix
}

// looseIndex is the reading before: whatever follows the last dot.
func looseIndex(suffix string) (float64, bool) {
	return parseInt(suffix[strings.LastIndexByte(suffix, '.')+1:])
}

// parseInt is JavaScript's parseInt(s, 10), an empty string being 0: what follows
// the digits is ignored.
func parseInt(s string) (n float64, ok bool) {
	if s == "" {
		return 0, true
	}
	space := func(b byte) bool { return b == ' ' || b >= '\t' && b <= '\r' || b == 0xa0 } // in Latin-1
	for len(s) > 0 && space(s[0]) {
		s = s[1:]
	}
	for len(s) > 0 && space(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	end := 0
	if end < len(s) && (s[end] == '-' || s[end] == '+') {
		end++
	}
	digits := end
	for end < len(s) && s[end] >= '0' && s[end] <= '9' {
		end++
	}
	if end == digits {
		return 0, false
	}
	n, err := strconv.ParseFloat(s[:end], 64)
	if err != nil && !math.IsInf(n, 0) {
		return 0, false
	}
	return n, true
}
