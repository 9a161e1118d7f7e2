package sessiondata

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"strings"
)

// readCompact reads base64 of {"session":S,"expiresAt":ms,"signature":s}, where
// s is the HMAC-SHA256 over the JSON text of {...S,"expiresAt":ms}. The issuer
// parses the payload and writes that text anew, so what counts is the value and
// the order of its keys, not its spelling.
func (c *Checker) readCompact(data string) (payload value, _ verdict) {
	text, ok := decodeBase64(data)
	if !ok {
		return value{}, crashes
	}
	payload, err := parseJSON(text)
	switch {
	case errors.Is(err, errTooDeep):
		return value{}, unverified
	case err != nil || payload.falsy():
		return value{}, ignored
	}
	var signature []byte
	switch s := payload.get("signature"); s.kind {
	case kindUndefined:
	case kindString:
		if signature, ok = decodeBase64(s.text); !ok {
			return value{}, crashes
		}
	default:
		return value{}, crashes
	}
	session := payload.get("session")
	if session.kind == kindString || session.kind == kindArray {
		// The issuer makes an object of its characters or elements, which nobody signs:
		// tens of thousands of keys to sort for whoever sends a long one.
		return value{}, unverified
	}
	signed := session.spread()
	signed.set("expiresAt", payload.get("expiresAt"))
	mac := hmac.New(sha256.New, c.secret)
	mac.Write(value{kind: kindObject, object: signed}.appendJSON(nil)) // a hash never returns an error
	if !hmac.Equal(mac.Sum(nil), signature) {
		return value{}, unverified
	}
	return payload, verified
}

// decodeBase64 is the issuer's own decoder: URL-safe if the text holds "-" or
// "_" anywhere, else standard; it ends at the first "=", needs no padding and
// drops bits that do not fill a byte. It reports false where that one throws.
func decodeBase64(s string) (decoded []byte, ok bool) {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	alphabet := letters + "+/"
	if strings.ContainsAny(s, "-_") {
		alphabet = letters + "-_"
	}
	var bits uint32
	held := 0
	decoded = make([]byte, 0, len(s)*3/4)
	for i := range len(s) {
		if s[i] == '=' {
			break
		}
		v := strings.IndexByte(alphabet, s[i])
		if v < 0 {
			return nil, false
		}
		bits = bits<<6 | uint32(v)
		if held += 6; held >= 8 {
			held -= 8
			decoded = append(decoded, byte(bits>>held))
		}
	}
	return decoded, true
}
