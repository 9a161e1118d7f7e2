package sessiondata

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds recursion over a payload.
const maxDepth = 1000

var (
	errTooDeep = errors.New("sessiondata: JSON is nested too deeply")
	errSyntax  = errors.New("sessiondata: not JSON")
)

type kind int

const (
	kindUndefined kind = iota
	kindNull
	kindBool
	kindNumber
	kindString
	kindDate // a string that the issuer turns into a Date when it parses
	kindArray
	kindObject
)

// value is a parsed JSON value as JavaScript holds it: encoding/json forgets the
// order of keys, and the signature depends on it.
type value struct {
	kind   kind
	bool   bool
	number float64
	text   string // of a string, and of a Date as it is written again
	array  []value
	object *object
}

type object struct {
	keys   []string
	values map[string]value
}

// set puts a key last, or changes it where it is. An undefined value is kept, and
// left out in writing.
func (o *object) set(key string, v value) {
	if o.values == nil {
		o.values = map[string]value{}
	}
	if _, ok := o.values[key]; !ok {
		o.keys = append(o.keys, key)
	}
	o.values[key] = v
}

// get returns a property; undefined for all but objects.
func (v value) get(key string) value {
	if v.kind != kindObject {
		return value{}
	}
	return v.object.values[key]
}

// spread is {...v}: the properties of an object, nothing of what has none. It is not for
// strings and arrays.
func (v value) spread() *object {
	o := &object{}
	if v.kind == kindObject {
		for _, key := range v.object.keys {
			o.set(key, v.object.values[key])
		}
	}
	return o
}

func (v value) falsy() bool {
	switch v.kind {
	case kindUndefined, kindNull:
		return true
	case kindBool:
		return !v.bool
	case kindNumber:
		return v.number == 0
	case kindString:
		return v.text == ""
	default:
		return false
	}
}

// parseJSON parses one JSON text as the issuer does, who reads bytes as UTF-8
// with replacement characters and turns ISO 8601 strings into dates.
func parseJSON(text []byte) (value, error) {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if !json.Valid(text) {
		return value{}, errSyntax
	}
	p := parser{json.NewDecoder(bytes.NewReader(text)), text}
	p.UseNumber()
	return p.value(0)
}

// parser reads valid JSON.
type parser struct {
	*json.Decoder
	text []byte
}

func (p parser) value(depth int) (value, error) {
	if depth > maxDepth {
		return value{}, errTooDeep
	}
	token, err := p.token()
	if err != nil {
		return value{}, errSyntax
	}
	switch t := token.(type) {
	case nil:
		return value{kind: kindNull}, nil
	case bool:
		return value{kind: kindBool, bool: t}, nil
	case json.Number:
		n, err := t.Float64()
		if err != nil && !math.IsInf(n, 0) {
			return value{}, errSyntax
		}
		return value{kind: kindNumber, number: n}, nil
	case string:
		if iso, ok := revive(t); ok {
			return value{kind: kindDate, text: iso}, nil
		}
		return value{kind: kindString, text: t}, nil
	case json.Delim:
		if t == '[' {
			return p.array(depth)
		}
		return p.object(depth)
	default:
		return value{}, errSyntax
	}
}

func (p parser) array(depth int) (value, error) {
	v := value{kind: kindArray}
	for p.More() {
		element, err := p.value(depth + 1)
		if err != nil {
			return value{}, err
		}
		v.array = append(v.array, element)
	}
	if _, err := p.token(); err != nil {
		return value{}, errSyntax
	}
	return v, nil
}

func (p parser) object(depth int) (value, error) {
	v := value{kind: kindObject, object: &object{}}
	for p.More() {
		token, err := p.token()
		key, ok := token.(string)
		if err != nil || !ok {
			return value{}, errSyntax
		}
		member, err := p.value(depth + 1)
		if err != nil {
			return value{}, err
		}
		v.object.set(key, member)
	}
	if _, err := p.token(); err != nil {
		return value{}, errSyntax
	}
	return v, nil
}

// token is the next one. A half of a surrogate pair, which JavaScript's strings may hold
// and encoding/json makes U+FFFD of, is kept: a text cut in the middle of an emoji has one.
func (p parser) token() (json.Token, error) {
	before := p.InputOffset()
	token, err := p.Token()
	if s, ok := token.(string); ok && strings.ContainsRune(s, utf8.RuneError) {
		token = unquote(p.text[before:p.InputOffset()])
	}
	return token, err
}

// unquote reads the string that JSON text ends with. Halves of surrogate pairs become
// three bytes each, as if UTF-8 had them, which no other string has: see [halfAt].
func unquote(text []byte) string {
	text = text[bytes.IndexByte(text, '"')+1 : len(text)-1]
	var out []byte
	for len(text) > 0 {
		if text[0] != '\\' {
			r, size := utf8.DecodeRune(text)
			out, text = utf8.AppendRune(out, r), text[size:]
			continue
		}
		if text[1] != 'u' {
			out = append(out, escapes[text[1]])
			text = text[2:]
			continue
		}
		r := escaped(text)
		text = text[6:]
		if pair := utf16.DecodeRune(r, escaped(text)); pair != utf8.RuneError {
			r, text = pair, text[6:]
		}
		if utf16.IsSurrogate(r) {
			out = append(out, 0xe0|byte(r>>12), 0x80|byte(r>>6&0x3f), 0x80|byte(r&0x3f))
		} else {
			out = utf8.AppendRune(out, r)
		}
	}
	return string(out)
}

var escapes = map[byte]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escaped is what the \u at the beginning of text stands for, 0 if there is none.
func escaped(text []byte) rune {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0
	}
	r, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	if err != nil {
		return 0
	}
	return rune(r)
}

// halfAt returns the half of a surrogate pair that is at an index of what unquote made;
// 0: there is none.
func halfAt(s string, i int) rune {
	if s[i] != 0xed || i+2 >= len(s) || s[i+1] < 0xa0 {
		return 0
	}
	return 0xd000 | rune(s[i+1]&0x3f)<<6 | rune(s[i+2]&0x3f)
}

// revive returns the text that JavaScript writes for the Date that the issuer
// makes of a string like "2026-01-31T10:00:00Z" or with a fraction of a second;
// ok is false for any other string.
func revive(s string) (iso string, ok bool) {
	const shape = "0000-00-00T00:00:00"
	if len(s) < len(shape)+1 || s[len(s)-1] != 'Z' {
		return "", false
	}
	for i := range len(shape) {
		if digit := s[i] >= '0' && s[i] <= '9'; digit != (shape[i] == '0') || (!digit && s[i] != shape[i]) {
			return "", false
		}
	}
	millis := 0
	if fraction := s[len(shape) : len(s)-1]; fraction != "" {
		digits, dotted := strings.CutPrefix(fraction, ".")
		if !dotted || digits == "" || strings.Trim(digits, "0123456789") != "" {
			return "", false
		}
		millis = number((digits + "00")[:3])
	}
	year, month, day := number(s[0:4]), number(s[5:7]), number(s[8:10])
	hour, minute, second := number(s[11:13]), number(s[14:16]), number(s[17:19])
	endOfDay := hour == 24 && minute == 0 && second == 0 && millis == 0
	if month < 1 || month > 12 || day < 1 || day > 31 || (hour > 23 && !endOfDay) || minute > 59 || second > 59 {
		return "", false
	}
	// Like JavaScript's, Go's calendar carries 31 February over into March.
	t := time.Date(year, time.Month(month), day, hour, minute, second, millis*int(time.Millisecond), time.UTC)
	return t.Format("2006-01-02T15:04:05.000Z"), true
}

// number reads decimal digits, which the caller has checked.
func number(digits string) int {
	n := 0
	for i := range len(digits) {
		n = 10*n + int(digits[i]-'0')
	}
	return n
}

// appendJSON writes v as JSON.stringify does.
func (v value) appendJSON(dst []byte) []byte {
	switch v.kind {
	case kindBool:
		return strconv.AppendBool(dst, v.bool)
	case kindNumber:
		return appendNumber(dst, v.number)
	case kindString, kindDate:
		return appendString(dst, v.text)
	case kindArray:
		dst = append(dst, '[')
		for i, element := range v.array {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = element.appendJSON(dst)
		}
		return append(dst, ']')
	case kindObject:
		dst = append(dst, '{')
		first := true
		for _, key := range v.object.ordered() {
			member := v.object.values[key]
			if member.kind == kindUndefined {
				continue
			}
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = append(appendString(dst, key), ':')
			dst = member.appendJSON(dst)
		}
		return append(dst, '}')
	default:
		return append(dst, "null"...)
	}
}

// ordered returns the keys as JavaScript lists them: array indexes first, in
// ascending order, then the others as they came.
func (o *object) ordered() []string {
	type indexed struct {
		index int64
		key   string
	}
	var indexes []indexed
	for _, key := range o.keys {
		if n, ok := arrayIndex(key); ok {
			indexes = append(indexes, indexed{n, key})
		}
	}
	if len(indexes) == 0 {
		return o.keys
	}
	slices.SortFunc(indexes, func(a, b indexed) int { return cmp.Compare(a.index, b.index) })
	keys := make([]string, 0, len(o.keys))
	for _, i := range indexes {
		keys = append(keys, i.key)
	}
	for _, key := range o.keys {
		if _, ok := arrayIndex(key); !ok {
			keys = append(keys, key)
		}
	}
	return keys
}

// arrayIndex reports whether key is the plain decimal form of a number below
// 2^32-1.
func arrayIndex(key string) (n int64, ok bool) {
	if len(key) == 0 || len(key) > 10 || key[0] < '0' || key[0] > '9' {
		return 0, false // most keys, and no error made of them
	}
	n, err := strconv.ParseInt(key, 10, 64)
	return n, err == nil && n >= 0 && n < math.MaxUint32 && strconv.FormatInt(n, 10) == key
}

// appendNumber writes the shortest form that reads back the same, with an
// exponent from 1e21 on and below 1e-6.
func appendNumber(dst []byte, f float64) []byte {
	switch abs := math.Abs(f); {
	case math.IsInf(f, 0):
		return append(dst, "null"...)
	case f == 0:
		return append(dst, '0') // JavaScript writes -0 without its sign
	case abs >= 1e-6 && abs < 1e21:
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
	text := strconv.FormatFloat(f, 'e', -1, 64)
	// Go pads the exponent to two digits, JavaScript does not.
	if n := len(text); text[n-2] == '0' && (text[n-3] == '-' || text[n-3] == '+') {
		text = text[:n-2] + text[n-1:]
	}
	return append(dst, text...)
}

func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := 0; i < len(s); i++ {
		if half := halfAt(s, i); half != 0 {
			dst = append(dst, '\\', 'u', 'd', hex[half>>8&15], hex[half>>4&15], hex[half&15])
			i += 2
			continue
		}
		switch c := s[i]; c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			if c < ' ' {
				dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			} else {
				dst = append(dst, c)
			}
		}
	}
	return append(dst, '"')
}
