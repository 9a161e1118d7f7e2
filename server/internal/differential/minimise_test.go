package differential_test

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// maxQuestions bounds the making smaller of one header.
const maxQuestions = 4000

// symbols are names for what a run's browsers hold, so that a header can be shown
// without it, and asked again in another run, where it is something else.
type symbols struct{ show, expand *strings.Replacer }

var symbol = regexp.MustCompile(`<[a-z%]+ \d+(?:\.\d+)?>`)

func newSymbols(i *issuer) symbols {
	type pair struct{ name, value string }
	var all []pair
	add := func(value, name string, args ...any) {
		if value != "" {
			all = append(all, pair{fmt.Sprintf("<"+name+">", args...), value})
		}
	}
	for n, m := range i.Made {
		token, signature, _ := strings.Cut(m.Token, ".")
		add(token, "token %d", n)
		add(strings.ToLower(token), "lower %d", n)
		for of, by := range map[string]string{"signature": signature, "forged": sign(other, token), "retired": sign(retired, token)} {
			add(by, of+" %d", n)
			add(encode(by), of+"%% %d", n)
		}
		chunk := 0
		for _, c := range m.Cookies {
			if name, value, _ := strings.Cut(c, "="); strings.HasPrefix(name, i.Data) {
				add(value, "data %d.%d", n, chunk)
				chunk++
			}
		}
	}
	// The longest first: a replacer takes the first that fits.
	slices.SortFunc(all, func(a, b pair) int { return len(b.value) - len(a.value) })
	var show, expand []string
	for _, p := range all {
		show, expand = append(show, p.value, p.name), append(expand, p.name, p.value)
	}
	return symbols{strings.NewReplacer(show...), strings.NewReplacer(expand...)}
}

// none stands for a header that is not there.
const none = "none"

// text shows a header, the Cookie and the Authorization, in single quotes for a shell.
func (s symbols) text(h header) string {
	show := func(text *string) string {
		if text == nil {
			return none
		}
		return strings.ReplaceAll(strconv.QuoteToASCII(s.show.Replace(*text)), "'", `\x27`)
	}
	return "'" + show(h.cookie) + " " + show(h.authorization) + "'"
}

// parse undoes text, without the single quotes.
func (s symbols) parse(text string) (header, error) {
	var parts []*string
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		if rest, ok := strings.CutPrefix(text, none); ok {
			parts, text = append(parts, nil), rest
			continue
		}
		quoted, err := strconv.QuotedPrefix(text)
		if err != nil {
			return header{}, fmt.Errorf("%q: %w", text, err)
		}
		plain, err := strconv.Unquote(quoted)
		if err != nil {
			return header{}, err
		}
		parts, text = append(parts, ptr(s.expand.Replace(plain))), text[len(quoted):]
	}
	if len(parts) != 2 {
		return header{}, fmt.Errorf("%d headers, want two: Cookie and Authorization, each quoted or %s", len(parts), none)
	}
	return header{parts[0], parts[1]}, nil
}

// pieces cuts a text into symbols and single bytes.
func (s symbols) pieces(text string) []string {
	text = s.show.Replace(text)
	var out []string
	bytes := func(part string) {
		for i := range len(part) {
			out = append(out, part[i:i+1])
		}
	}
	at := 0
	for _, m := range symbol.FindAllStringIndex(text, -1) {
		bytes(text[at:m[0]])
		out, at = append(out, text[m[0]:m[1]]), m[1]
	}
	bytes(text[at:])
	return out
}

// minimise takes away of a header what can be taken away while still says true: a
// header, then cookies, then pieces of them.
func (s symbols) minimise(h header, still func(header) bool) header {
	left := maxQuestions
	try := func(h header) bool {
		left--
		return left >= 0 && still(h)
	}
	for _, without := range []header{{nil, h.authorization}, {h.cookie, nil}} {
		if try(without) {
			h = without
		}
	}
	for _, field := range []func(*header) **string{func(h *header) **string { return &h.cookie }, func(h *header) **string { return &h.authorization }} {
		text := *field(&h)
		if text == nil {
			continue
		}
		shrink := func(parts []string, between string) []string {
			for size := max(len(parts)/2, 1); size > 0; size /= 2 {
				for at := 0; at < len(parts); {
					shorter := slices.Delete(slices.Clone(parts), at, min(at+size, len(parts)))
					candidate := h
					*field(&candidate) = ptr(s.expand.Replace(strings.Join(shorter, between)))
					if try(candidate) {
						parts, h = shorter, candidate
					} else {
						at += size
					}
				}
			}
			return parts
		}
		shrink(strings.Split(*text, ";"), ";")
		shrink(s.pieces(**field(&h)), "")
	}
	return h
}
