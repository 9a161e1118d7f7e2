package sessiondata

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/sessiond/sessiond/sessioncookie"
)

// find returns the session data of a Cookie header: the whole cookie if it is not
// empty, else from 1.4 on its chunks "<name>.0", "<name>.1", ... joined.
func (c *Checker) find(header string) string {
	value, _ := sessioncookie.Find(header, c.name)
	if whole := sessioncookie.Decode(value); whole != "" || c.version < sessioncookie.V1_4 {
		return whole
	}
	pairs := pairsOf14(header)
	if c.version >= sessioncookie.V1_6 {
		pairs = pairsOf16(header)
	}
	return join(pairs, c.name+".")
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
// only a full pair of quotes is taken off, and a value with a byte that RFC 6265
// does not allow (space and comma apart) is skipped.
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
		if !strings.ContainsFunc(value, notCookieOctet) {
			pairs = append(pairs, pair{name, sessioncookie.Decode(value)})
		}
	}
	return pairs
}

func notCookieOctet(r rune) bool {
	return r < ' ' || r > '~' || r == '"' || r == ';' || r == '\\'
}

// join puts the chunks together in the order of their numbers. Of several of one
// name the last one's value counts, at the place of the first.
func join(pairs []pair, prefix string) string {
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
		index, ok := parseInt(p.name[strings.LastIndexByte(p.name, '.')+1:])
		if !ok {
			continue
		}
		if at, seen := place[p.name]; seen {
			chunks[at].value = p.value
			continue
		}
		place[p.name] = len(chunks)
		chunks = append(chunks, chunk{index, p.value})
	}
	slices.SortStableFunc(chunks, func(a, b chunk) int { return cmp.Compare(a.index, b.index) })
	var b strings.Builder
	for _, c := range chunks {
		b.WriteString(c.value)
	}
	return b.String()
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
