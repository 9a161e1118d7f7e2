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

// jweTolerance is how far the clocks may be apart for a jwe; a jwt gets none.
const jweTolerance = 15 * time.Second

// checkJWT verifies a compact JWS of HS256, HS384 or HS512 by the secret's bytes.
func (c *Checker) checkJWT(data string, now time.Time) verdict {
	parts := strings.Split(data, ".")
	if len(parts) != 3 {
		return unverified
	}
	header, ok := parseHeader(parts[0])
	if !ok {
		return unverified
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
		return unverified
	}
	signature, ok := decodeJOSE(parts[2])
	if !ok {
		return unverified
	}
	mac := hmac.New(newHash, c.secret)
	mac.Write([]byte(parts[0] + "." + parts[1])) // a hash never returns an error
	if !hmac.Equal(mac.Sum(nil), signature) {
		return unverified
	}
	payload, ok := decodeJOSE(parts[1])
	if !ok {
		return unverified
	}
	return checkClaims(payload, now, 0)
}

// checkJWE opens a compact JWE of alg "dir" and enc "A256CBC-HS512" (RFC 7518,
// section 5.2) by the derived key.
func (c *Checker) checkJWE(data string, now time.Time) verdict {
	parts := strings.Split(data, ".")
	if len(parts) != 5 || parts[1] != "" {
		return unverified
	}
	header, ok := parseHeader(parts[0])
	if !ok || header.Alg != "dir" || header.Enc != "A256CBC-HS512" || header.Zip != nil {
		return unverified
	}
	if header.KeyID != nil {
		var id string
		if json.Unmarshal(header.KeyID, &id) != nil || id != c.jweKeyID {
			return unverified
		}
	}
	iv, ok1 := decodeJOSE(parts[2])
	ciphertext, ok2 := decodeJOSE(parts[3])
	tag, ok3 := decodeJOSE(parts[4])
	if !ok1 || !ok2 || !ok3 {
		return unverified
	}
	payload, ok := c.open(parts[0], iv, ciphertext, tag)
	if !ok {
		return unverified
	}
	return checkClaims(payload, now, jweTolerance)
}

// open authenticates and decrypts; ciphertext is overwritten.
func (c *Checker) open(aad string, iv, ciphertext, tag []byte) (plaintext []byte, ok bool) {
	macKey, encKey := c.jweKey[:jweKeyBytes/2], c.jweKey[jweKeyBytes/2:]
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

type joseHeader struct {
	Alg, Enc   string
	KeyID, Zip json.RawMessage // nil if absent
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

// checkClaims applies the time claims and asks for a session and a user.
func checkClaims(payload []byte, now time.Time, tolerance time.Duration) verdict {
	claims, ok := parseMembers(payload)
	if !ok {
		return unverified
	}
	seconds, slack := float64(now.Unix()), tolerance.Seconds()
	if _, _, ok := numericDate(claims, "iat"); !ok {
		return unverified
	}
	if nbf, present, ok := numericDate(claims, "nbf"); !ok || (present && nbf > seconds+slack) {
		return unverified
	}
	if exp, present, ok := numericDate(claims, "exp"); !ok || (present && exp <= seconds-slack) {
		return unverified
	}
	for _, name := range []string{"session", "user"} {
		member, err := parseJSON(claims[name])
		if err != nil || member.falsy() {
			return unverified
		}
	}
	return verified
}

// numericDate returns a claim in seconds since 1970; ok is false if it is there
// and not a number.
func numericDate(claims map[string]json.RawMessage, name string) (seconds float64, present, ok bool) {
	raw := claims[name]
	if raw == nil {
		return 0, false, true
	}
	claim, err := parseJSON(raw)
	return claim.number, true, err == nil && claim.kind == kindNumber
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
