package differential_test

import (
	"encoding/base64"
	"math/rand/v2"
	"net/url"
	"strings"
)

// made is a kind of session that the issuer has, and what its browser holds.
type made struct {
	Kind    string
	Cookies []string
	Token   string // token.signature
	Bearer  string
}

// header is a request: nil is no header.
type header struct{ cookie, authorization *string }

// generator makes headers out of what real browsers hold. The same seed makes the same.
type generator struct {
	*rand.Rand
	made   []made
	forged string // a signature by another secret
}

const cookieName = "better-auth.session_token"

func pick[T any](g *generator, of ...T) T { return of[g.IntN(len(of))] }

func (g *generator) next() header {
	var h header
	which := g.IntN(12) // none, a bearer alone, both, a cookie alone
	if which >= 3 {
		text := g.cookie()
		h.cookie = &text
	}
	if which >= 1 && which < 6 {
		text := g.authorization()
		h.authorization = &text
	}
	return h
}

// some chooses a session; good ones are as many as all others.
func (g *generator) some() made { return g.made[g.IntN(len(g.made))] }

// cookie makes a Cookie header: a browser's jar, bent.
func (g *generator) cookie() string {
	pairs := append([]string(nil), g.some().Cookies...)
	for range g.IntN(3) {
		pairs = append(pairs, pick(g, "theme=dark", "_ga=GA1.1.1794.1763", "a=b=c", "empty=", "flag", "=", "x", `q="a;b"`, "better-auth.session_data=broken", "better-auth.dont_remember=true"))
	}
	for range g.IntN(3) {
		name := pick(g, cookieName, cookieName, cookieName, "__Secure-"+cookieName, "__Host-"+cookieName, "x"+cookieName, cookieName+"x", strings.ToUpper(cookieName), "better-auth.session-token", cookieName+"_multi-abc", " "+cookieName, cookieName+" ", "\xa0"+cookieName, "\x85"+cookieName)
		pairs = append(pairs, name+pick(g, "=", "=", "=", " = ", "", "==")+g.value())
	}
	g.Shuffle(len(pairs), func(i, j int) { pairs[i], pairs[j] = pairs[j], pairs[i] })
	text := strings.Join(pairs, pick(g, "; ", "; ", "; ", ";", " ;  ", ", ", ";;", ";\t", "; \xa0"))
	if g.IntN(4) == 0 {
		text = g.bytes(text)
	}
	return pick(g, text, text, text, text, " "+text, text+";", ";"+text, "Cookie: "+text, url.QueryEscape(text))
}

// value makes a cookie's value out of a token and its signature.
func (g *generator) value() string {
	token, signature, _ := strings.Cut(g.some().Token, ".")
	switch g.IntN(16) {
	case 0:
		signature = g.forged
	case 1:
		token = pick(g, "0123456789abcdefghijABCDEFGHIJKL", token[:31], token+"x", strings.ToLower(token), "", token+".x", "true")
	case 2:
		signature = pick(g, strings.ReplaceAll(strings.ReplaceAll(signature, "+", "-"), "/", "_"), strings.TrimRight(signature, "="), signature+"=", signature[:30], strings.ToLower(signature), signature[1:], "")
	case 3: // the bits of the last character that encode nothing
		signature = signature[:42] + pick(g, "A", "B", "Q", "g", "w", "8") + "="
	case 4:
		raw, err := base64.StdEncoding.DecodeString(signature)
		if err == nil {
			signature = pick(g, base64.RawStdEncoding.EncodeToString(raw), base64.URLEncoding.EncodeToString(raw), base64.StdEncoding.EncodeToString(raw[:31]))
		}
	}
	value := token + pick(g, ".", ".", ".", ".", ".", ".", ".", ".", ":", "..", "", "%2E") + signature
	encoded := strings.NewReplacer("+", "%2B", "/", "%2F", "=", "%3D").Replace(value)
	value = pick(g, encoded, encoded, encoded, encoded, value, url.QueryEscape(encoded), strings.ToLower(encoded), strings.ReplaceAll(encoded, "%2B", "+"), encoded+"%", encoded+"%zz", strings.ReplaceAll(value, "+", " "), everyByte(value))
	return pick(g, value, value, value, value, value, `"`+value+`"`, `"`+value, `"`+value+"x", value+`"`, `'`+value+`'`, " "+value+" ", "\xa0"+value, value+"\x85", "")
}

func everyByte(text string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(text) {
		b.WriteString("%" + string(digits[text[i]>>4]) + string(digits[text[i]&15]))
	}
	return b.String()
}

// authorization makes an Authorization header.
func (g *generator) authorization() string {
	s := g.some()
	token, _, _ := strings.Cut(s.Token, ".")
	value := pick(g, s.Bearer, s.Token, strings.NewReplacer("+", "%2B", "/", "%2F", "=", "%3D").Replace(s.Token), token, token+"."+g.forged, token+"x", strings.TrimRight(s.Token, "="), g.value(), "eyJhbGciOiJIUzI1NiJ9.e30.c2ln", "")
	text := pick(g, "Bearer ", "Bearer ", "Bearer ", "bearer ", "BEARER ", "Bearer  ", "Bearer\t", "Basic ", "", "Bearer Bearer ", "Token ") + value
	if g.IntN(8) == 0 {
		text = g.bytes(text)
	}
	return text
}

// bytes changes a few bytes.
func (g *generator) bytes(text string) string {
	b := []byte(text)
	for range 1 + g.IntN(3) {
		if len(b) == 0 {
			break
		}
		at := g.IntN(len(b))
		switch g.IntN(4) {
		case 0:
			b = append(b[:at], b[at+1:]...)
		case 1:
			b[at] = pick(g, byte(' '), '"', ';', ',', '=', '%', '.', '+', '/', 0xa0, 0x85, 0xff, 0xc3, '\t', 'A', '0')
		case 2:
			b = append(b[:at], append([]byte{byte(0x20 + g.IntN(0xdf))}, b[at:]...)...)
		default:
			b[at] ^= 1 << g.IntN(7)
		}
	}
	for i, c := range b { // what no HTTP client can send
		if c == '\r' || c == '\n' || c == 0 {
			b[i] = '_'
		}
	}
	return string(b)
}
