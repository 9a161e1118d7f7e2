package differential_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"hash/crc32"
	"math/rand/v2"
	"net/url"
	"strings"
)

// generator makes headers out of what real browsers hold. The same seed makes the
// same, but for what holds a time.
type generator struct {
	*rand.Rand
	*issuer
	cached, bearer bool
	// like are the browsers by what was said of their plain cookies.
	like  map[string][]made
	likes []string // its keys, in the order of their coming
}

func newGenerator(seed uint64, i *issuer, version string, c configuration) *generator {
	return &generator{Rand: rand.New(rand.NewPCG(seed, uint64(crc32.ChecksumIEEE([]byte(version+c.name))))), issuer: i, cached: c.cached(), bearer: c.bearer != "", like: map[string][]made{}}
}

// unknown is a token of nobody.
const unknown = "0123456789abcdefghijABCDEFGHIJKL"

func pick[T any](g *generator, of ...T) T { return of[g.IntN(len(of))] }

// plain are the headers that begin every run: each browser's own, as they are, and one
// of each kind of refusal.
func (g *generator) plain() []header {
	var all []header
	for _, m := range g.Made {
		all = append(all, header{cookie: ptr(strings.Join(m.Cookies, "; "))})
	}
	for _, m := range g.Made {
		token, _, _ := strings.Cut(m.Token, ".")
		all = append(all, header{authorization: ptr("Bearer " + m.Bearer)}, header{authorization: ptr("Bearer " + token)})
	}
	token, signature, _ := strings.Cut(g.Made[0].Token, ".")
	for _, value := range []string{token, token + "." + sign(other, token), token + "." + signature[1:], unknown + "." + sign(secret, unknown)} {
		all = append(all, header{cookie: ptr(g.Token + "=" + encode(value))})
	}
	all = append(all, header{})
	for bend := range dataBends {
		for _, m := range g.Made {
			if strings.Contains(m.Kind, "big") {
				all = append(all, header{cookie: ptr(strings.Join(g.bendData(m.Cookies, bend), "; "))})
			}
		}
	}
	return all
}

func ptr(text string) *string { return &text }

// learn remembers what was said of a browser's plain cookies.
func (g *generator) learn(said string, m made) {
	if g.like[said] == nil {
		g.likes = append(g.likes, said)
	}
	g.like[said] = append(g.like[said], m)
}

// some chooses a session; those of each other outcome are as likely as one another, and
// all together as the good ones.
func (g *generator) some() made {
	if len(g.likes) == 0 || g.IntN(8) == 0 {
		return pick(g, g.Made...)
	}
	said := g.likes[0]
	if len(g.likes) > 1 && g.IntN(2) == 0 {
		said = pick(g, g.likes[1:]...)
	}
	return pick(g, g.like[said]...)
}

func (g *generator) next() header {
	var h header
	which := g.IntN(24) // none, a bearer alone, both, a cookie alone
	if which > 9 || which > 0 && !g.bearer {
		h.cookie = ptr(g.cookie())
	}
	if which > 0 && which < 15 {
		h.authorization = ptr(g.authorization())
	}
	return h
}

// cookie makes a Cookie header: a browser's jar, bent.
func (g *generator) cookie() string {
	pairs := append([]string(nil), g.some().Cookies...)
	if g.cached && g.IntN(2) == 0 {
		pairs = g.bendData(pairs, g.IntN(dataBends))
	}
	for range g.IntN(3) {
		pairs = append(pairs, pick(g, "theme=dark", "_ga=GA1.1.1794.1763", "a=b=c", "empty=", "flag", "=", "x", `q="a;b"`, g.Data+"=broken", "better-auth.dont_remember=true", "better-auth.session_token=x"))
	}
	for range g.IntN(3) {
		name := g.Token
		name = pick(g, name, name, name, "__Secure-"+name, "__Host-"+name, strings.TrimPrefix(name, "__Secure-"), "x"+name, name+"x", strings.ToUpper(name), strings.ReplaceAll(name, "_", "-"), name+"_multi-abc", " "+name, name+" ", "\xa0"+name, "\x85"+name)
		pairs = append(pairs, name+pick(g, "=", "=", "=", " = ", "", "==")+g.value())
	}
	if g.IntN(4) != 0 {
		g.Shuffle(len(pairs), func(i, j int) { pairs[i], pairs[j] = pairs[j], pairs[i] })
	}
	text := strings.Join(pairs, pick(g, "; ", "; ", "; ", "; ", ";", " ;  ", ", ", ";;", ";\t", "; \xa0"))
	if g.IntN(4) == 0 {
		text = g.bytes(text)
	}
	return pick(g, text, text, text, text, text, text, " "+text, text+";", ";"+text, "Cookie: "+text, url.QueryEscape(text))
}

// dataBends is how many ways bendData knows.
const dataBends = 13

// bendData bends the session_data cookies of a jar, whole or in chunks.
func (g *generator) bendData(jar []string, bend int) []string {
	isData := func(pair string) bool {
		return strings.HasPrefix(pair, g.Data+"=") || strings.HasPrefix(pair, g.Data+".")
	}
	var rest, data []string
	split := func(pairs []string) (rest, data []string) {
		for _, pair := range pairs {
			if isData(pair) {
				data = append(data, pair)
			} else {
				rest = append(rest, pair)
			}
		}
		return rest, data
	}
	if rest, data = split(jar); len(data) == 0 {
		return jar
	}
	var whole string
	for _, pair := range data {
		_, value, _ := strings.Cut(pair, "=")
		whole += value
	}
	one := g.IntN(len(data))
	name, value, _ := strings.Cut(data[one], "=")
	change := func(text string) { data[one] = name + "=" + text }
	switch bend {
	case 0: // one is missing
		data = append(data[:one], data[one+1:]...)
	case 1: // in another order
		to := g.IntN(len(data))
		data[one], data[to] = data[to], data[one]
	case 2: // the names in another order
		to := g.IntN(len(data))
		otherName, otherValue, _ := strings.Cut(data[to], "=")
		data[one], data[to] = name+"="+otherValue, otherName+"="+value
	case 3: // another user's
		_, data = split(pick(g, g.Made...).Cookies)
	case 4: // a piece of another user's
		if _, foreign := split(pick(g, g.Made...).Cookies); len(foreign) > 0 {
			data[one] = pick(g, foreign...)
		}
	case 5:
		change(g.bytes(value))
	case 6:
		change(pick(g, value[:len(value)/2], value[1:], value+"A", "", value+"=", "broken", "e30", "e30.e30.e30"))
	case 7:
		change(pick(g, `"`+value+`"`, `"`+value, " "+value+" ", "\xa0"+value, everyByte(value[:min(len(value), 1000)])+value[min(len(value), 1000):], url.QueryEscape(value), value+`"`))
	case 8: // whole and in chunks
		data = append(data, g.Data+"="+pick(g, whole, "", `""`, whole+"A", "broken", whole[:len(whole)/2]))
	case 9: // whole where it was in chunks, and the reverse
		if len(data) > 1 {
			data = []string{g.Data + "=" + whole}
			break
		}
		at := g.IntN(len(whole))
		names := pick(g, []string{".0", ".1"}, []string{".1", ".2"}, []string{".00", ".1x"}, []string{".-1", ".1"}, []string{".", ".1"}, []string{".x.0", ".0.1"}, []string{".1", ".0"}, []string{".0", ".0"}, []string{". 0", ".1"}, []string{".9", ".10"})
		data = []string{g.Data + names[0] + "=" + whole[:at], g.Data + names[1] + "=" + whole[at:]}
	case 10: // twice
		data = append(data, name+"="+pick(g, value, "", "broken", g.bytes(value)))
	case 11: // a chunk too many
		data = append(data, g.Data+pick(g, ".0", ".7", ".07", ".x", ".99999999999999999999", ".1.5")+"="+pick(g, value, "", "A", "broken"))
	case 12: // another payload under the signature that was there
		if text, err := base64.RawURLEncoding.DecodeString(whole); err == nil { // compact
			changed := pick(g, strings.Replace(string(text), "Ann", "Eve", 1), strings.Replace(string(text), `"expiresAt":`, `"expiresAt": `, 1), strings.Replace(string(text), "1", "2", 1), " "+string(text))
			data = []string{g.Data + "=" + pick(g, base64.RawURLEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.StdEncoding).EncodeToString([]byte(changed))}
			break
		}
		parts := strings.Split(whole, ".")
		at := g.IntN(len(parts))
		parts[at] = pick(g, "", g.bytes(parts[at]), "eyJhbGciOiJub25lIn0", "eyJhbGciOiJIUzUxMiJ9", parts[at]+"=", parts[at]+"==")
		data = []string{g.Data + "=" + strings.Join(parts, ".")}
	}
	return append(rest, data...)
}

// value makes a cookie's value out of a token and its signature.
func (g *generator) value() string {
	token, signature, _ := strings.Cut(g.some().Token, ".")
	switch g.IntN(16) {
	case 0, 1:
		signature = sign(pick(g, other, retired), token)
	case 2:
		token = pick(g, unknown, token[:31], token+"x", strings.ToLower(token), "", token+".x", "true")
		if g.IntN(2) == 0 {
			signature = sign(secret, token)
		}
	case 3:
		signature = pick(g, strings.ReplaceAll(strings.ReplaceAll(signature, "+", "-"), "/", "_"), strings.TrimRight(signature, "="), signature+"=", signature[:30], strings.ToLower(signature), signature[1:], "")
	case 4: // the two bits of the last character that encode nothing
		const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
		last := strings.IndexByte(letters, signature[42])
		signature = signature[:42] + string(letters[last^g.IntN(4)]) + "="
	case 5:
		raw, err := base64.StdEncoding.DecodeString(signature)
		if err == nil {
			signature = pick(g, base64.RawStdEncoding.EncodeToString(raw), base64.URLEncoding.EncodeToString(raw), base64.StdEncoding.EncodeToString(raw[:31]))
		}
	}
	value := token + pick(g, ".", ".", ".", ".", ".", ".", ".", ".", ":", "..", "", "%2E") + signature
	encoded := encode(value)
	value = pick(g, encoded, encoded, encoded, encoded, value, url.QueryEscape(encoded), strings.ToLower(encoded), strings.ReplaceAll(encoded, "%2B", "+"), encoded+"%", encoded+"%zz", strings.ReplaceAll(value, "+", " "), everyByte(value))
	return pick(g, value, value, value, value, value, `"`+value+`"`, `"`+value, `"`+value+"x", value+`"`, `'`+value+`'`, " "+value+" ", "\xa0"+value, value+"\x85", "")
}

// sign is the issuer's signature of a token.
func sign(secret, token string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(token)) // a hash never returns an error
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// encode is what a browser holds of a value.
func encode(value string) string {
	return strings.NewReplacer("+", "%2B", "/", "%2F", "=", "%3D").Replace(value)
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
	value := pick(g, s.Bearer, s.Bearer, s.Token, encode(s.Token), token, token, token, token+"."+sign(other, token), token+"x", strings.TrimRight(s.Token, "="), g.value(), "eyJhbGciOiJIUzI1NiJ9.e30.c2ln", "")
	text := pick(g, "Bearer ", "Bearer ", "Bearer ", "Bearer ", "Bearer ", "bearer ", "BEARER ", "Bearer  ", "Bearer\t", "Basic ", "", "Bearer Bearer ", "Token ") + value
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
