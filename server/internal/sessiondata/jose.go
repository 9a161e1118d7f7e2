package sessiondata

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"hash"
	"strings"
	"time"
	"unicode/utf8"
)

// tolerance is how far the clocks may be apart for a jwe, and for a jwt of the jwt
// plugin; one signed by the secret gets none.
const tolerance = 15 * time.Second

// claims are those of a jwt or jwe.
type claims struct{ value }

// claims returns the claims of session data that verifies (Good), whatever times they
// give; or Unreadable or Mismatched.
func (c *Checker) claims(data string) (_ claims, slack time.Duration, _ State) {
	var text []byte
	var state State
	switch {
	case c.strategy == JWE:
		text, state = c.openJWE(data)
		slack = tolerance
	case len(c.keys) > 0:
		text, state = c.openSigned(data)
		slack = tolerance
	default:
		text, state = c.openJWT(data)
	}
	if state != Good {
		return claims{}, slack, state
	}
	read := claims{}
	var err error
	if read.value, err = parseJSON(text); err != nil || !utf8.Valid(text) || read.kind != kindObject {
		return claims{}, slack, Unreadable
	}
	for _, name := range []string{"iat", "nbf", "exp"} {
		if v := read.get(name); v.kind != kindUndefined && v.kind != kindNumber {
			return claims{}, slack, Unreadable
		}
	}
	if read.get("session").falsy() || read.get("user").falsy() {
		return claims{}, slack, Unreadable
	}
	return read, slack, Good
}

// timely applies the time claims.
func (c claims) timely(now time.Time, slack time.Duration) bool {
	seconds := float64(now.Unix())
	if nbf := c.get("nbf"); nbf.kind == kindNumber && nbf.number > seconds+slack.Seconds() {
		return false
	}
	exp := c.get("exp")
	return exp.kind != kindNumber || exp.number > seconds-slack.Seconds()
}

// openJWT verifies a compact JWS of HS256, HS384 or HS512 by the secret's bytes.
func (c *Checker) openJWT(data string) (payload []byte, _ State) {
	parts, header, ok := splitJWS(data)
	if !ok {
		return nil, Unreadable
	}
	var newHash func() hash.Hash
	switch header.Alg {
	case "HS256":
		newHash = sha256.New
	case "HS384":
		newHash = sha512.New384
	case "HS512":
		newHash = sha512.New
	default:
		return nil, Unreadable
	}
	mac := hmac.New(newHash, c.secret)
	mac.Write([]byte(parts.signed)) // a hash never returns an error
	if !hmac.Equal(mac.Sum(nil), parts.signature) {
		return nil, Mismatched
	}
	return parts.payload, Good
}

// openJWE opens a compact JWE of alg "dir" and enc "A256CBC-HS512" (RFC 7518,
// section 5.2) by a derived key: the one that the header names, else any.
func (c *Checker) openJWE(data string) (payload []byte, _ State) {
	parts := strings.SplitN(data, ".", 6)
	if len(parts) != 5 || parts[1] != "" {
		return nil, Unreadable
	}
	header, ok := parseHeader(parts[0])
	if !ok || header.Alg != "dir" || header.Enc != "A256CBC-HS512" || header.Zip != nil {
		return nil, Unreadable
	}
	var id string
	if header.KeyID != nil && json.Unmarshal(header.KeyID, &id) != nil {
		return nil, Unreadable
	}
	iv, ok1 := decodeJOSE(parts[2])
	ciphertext, ok2 := decodeJOSE(parts[3])
	tag, ok3 := decodeJOSE(parts[4])
	if !ok1 || !ok2 || !ok3 {
		return nil, Unreadable
	}
	for _, k := range c.jwe {
		if header.KeyID != nil && id != k.id {
			continue
		}
		if payload, ok := k.open(parts[0], iv, ciphertext, tag); ok {
			return payload, Good
		}
	}
	return nil, Mismatched
}

// open authenticates and decrypts. Where it succeeds ciphertext is overwritten.
func (k jweKey) open(aad string, iv, ciphertext, tag []byte) (plaintext []byte, ok bool) {
	macKey, encKey := k.key[:jweKeyBytes/2], k.key[jweKeyBytes/2:]
	if len(iv) != aes.BlockSize || len(ciphertext) == 0 || len(ciphertext)%aes.BlockSize != 0 {
		return nil, false
	}
	mac := hmac.New(sha512.New, macKey)
	mac.Write([]byte(aad)) // a hash never returns an error
	mac.Write(iv)
	mac.Write(ciphertext)
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(len(aad))*8))
	if !hmac.Equal(mac.Sum(nil)[:sha512.Size/2], tag) {
		return nil, false
	}
	block, err := aes.NewCipher(encKey)
	if err != nil {
		return nil, false
	}
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(ciphertext, ciphertext)
	padding := int(ciphertext[len(ciphertext)-1])
	if padding == 0 || padding > aes.BlockSize {
		return nil, false
	}
	for _, b := range ciphertext[len(ciphertext)-padding:] {
		if int(b) != padding {
			return nil, false
		}
	}
	return ciphertext[:len(ciphertext)-padding], true
}

// jws is a compact JWS, taken apart.
type jws struct {
	signed             string // what the signature is over
	payload, signature []byte
}

func splitJWS(data string) (parts jws, header joseHeader, ok bool) {
	pieces := strings.SplitN(data, ".", 4)
	if len(pieces) != 3 {
		return jws{}, joseHeader{}, false
	}
	if header, ok = parseHeader(pieces[0]); !ok {
		return jws{}, joseHeader{}, false
	}
	parts.signed = pieces[0] + "." + pieces[1]
	var ok1, ok2 bool
	parts.payload, ok1 = decodeJOSE(pieces[1])
	parts.signature, ok2 = decodeJOSE(pieces[2])
	return parts, header, ok1 && ok2
}

type joseHeader struct {
	Alg, Enc, Typ string
	KeyID, Zip    json.RawMessage // nil if absent
}

// parseHeader reads a protected header. One with "crit", which the issuer never
// writes, is not taken.
func parseHeader(encoded string) (h joseHeader, ok bool) {
	text, ok := decodeJOSE(encoded)
	if !ok {
		return joseHeader{}, false
	}
	members, ok := parseMembers(text)
	if !ok || members["crit"] != nil {
		return joseHeader{}, false
	}
	if json.Unmarshal(members["alg"], &h.Alg) != nil {
		return joseHeader{}, false
	}
	if enc := members["enc"]; enc != nil && json.Unmarshal(enc, &h.Enc) != nil {
		return joseHeader{}, false
	}
	if typ := members["typ"]; typ != nil && json.Unmarshal(typ, &h.Typ) != nil {
		h.Typ = "" // of no account but for cookies of the jwt plugin
	}
	h.KeyID, h.Zip = members["kid"], members["zip"]
	return h, true
}

// parseMembers reads a JSON object; keys keep their case, and the last of several
// wins.
func parseMembers(text []byte) (members map[string]json.RawMessage, ok bool) {
	if !utf8.Valid(text) {
		return nil, false
	}
	err := json.Unmarshal(text, &members)
	return members, err == nil && members != nil
}

// decodeJOSE decodes base64url as the issuer's JOSE library does: padding and
// whitespace are allowed, the standard alphabet is not, unused bits may be set.
func decodeJOSE(s string) (decoded []byte, ok bool) {
	s = strings.Map(func(r rune) rune {
		if strings.ContainsRune(" \t\n\f\r", r) {
			return -1
		}
		return r
	}, s)
	if len(s)%4 == 0 {
		s = strings.TrimSuffix(strings.TrimSuffix(s, "="), "=")
	}
	decoded, err := base64.RawURLEncoding.DecodeString(s)
	return decoded, err == nil
}
