package sessiondata

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
)

// What the jwt plugin writes into a cookie that it signs (packages/better-auth/src/cookies/jwt.ts).
const (
	signedType     = "better-auth.session-cache+jwt"
	signedAudience = "better-auth:session-cache"
)

// Key is a public key of the issuer's jwt plugin.
type Key struct {
	ID     string
	Public ed25519.PublicKey
}

// ParseKeys reads a JSON Web Key Set, as the issuer's /jwks answers. Keys have to be
// the plugin's default, EdDSA over Ed25519.
func ParseKeys(jwks []byte) ([]Key, error) {
	var set struct {
		Keys []struct{ Kty, Crv, X, Kid, D string }
	}
	if err := json.Unmarshal(jwks, &set); err != nil || len(set.Keys) == 0 {
		return nil, errors.New("not a JSON Web Key Set with keys: save what the issuer's /jwks answers")
	}
	keys := make([]Key, len(set.Keys))
	for i, k := range set.Keys {
		public, err := base64.RawURLEncoding.DecodeString(k.X)
		switch {
		case k.D != "":
			return nil, fmt.Errorf("keys[%d] is a private key: give the public ones only, as the issuer's /jwks answers", i)
		case k.Kty != "OKP" || k.Crv != "Ed25519" || err != nil || len(public) != ed25519.PublicKeySize:
			return nil, fmt.Errorf("keys[%d] is no Ed25519 key: other algorithms of the jwt plugin are not read", i)
		case k.Kid == "":
			return nil, fmt.Errorf("keys[%d] has no kid", i)
		}
		keys[i] = Key{ID: k.Kid, Public: public}
	}
	return keys, nil
}

// openSigned verifies a cookie that the issuer's jwt plugin signed, and that it says so.
func (c *Checker) openSigned(data string) (payload []byte, _ State) {
	parts, header, ok := splitJWS(data)
	var id string
	if !ok || header.Typ != signedType || header.Alg != "EdDSA" || header.KeyID == nil || json.Unmarshal(header.KeyID, &id) != nil {
		return nil, Unreadable
	}
	for _, k := range c.keys {
		if k.ID != id {
			continue
		}
		if !ed25519.Verify(k.Public, []byte(parts.signed), parts.signature) {
			return nil, Mismatched
		}
		if !c.names(parts.payload) {
			return nil, Unreadable
		}
		return parts.payload, Good
	}
	return nil, Mismatched
}

// names reports whether claims name the issuer, this use, and the user and token that
// are in them.
func (c *Checker) names(payload []byte) bool {
	read, err := parseJSON(payload)
	if err != nil {
		return false
	}
	iss, sub, sid := read.get("iss"), read.get("sub"), read.get("sid")
	same := func(a, b value) bool { return a.kind == kindString && b.kind == kindString && a.text == b.text }
	return iss.kind == kindString && iss.text != "" && (c.origin == "" || iss.text == c.origin) &&
		isFor(read.get("aud"), signedAudience) &&
		same(sub, read.get("user").get("id")) && same(sid, read.get("session").get("token"))
}

// isFor reports whether an audience, or one of several, is the one asked for.
func isFor(aud value, want string) bool {
	if aud.kind == kindArray {
		for _, one := range aud.array {
			if one.kind == kindString && one.text == want {
				return true
			}
		}
		return false
	}
	return aud.kind == kindString && aud.text == want
}
