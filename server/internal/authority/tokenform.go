package authority

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
)

// TokenForm is the form in which the issuer's adapter keeps tokens.
type TokenForm string

// The forms. Better Auth itself keeps tokens as they are; adapters that hash them
// keep the SHA-256 of the token's bytes.
const (
	TokenPlain           TokenForm = "plain"
	TokenSHA256Hex       TokenForm = "sha256-hex"
	TokenSHA256Base64    TokenForm = "sha256-base64"
	TokenSHA256Base64URL TokenForm = "sha256-base64url"
)

// Stored returns what the store holds for a token. Everything after the reading of a
// credential, digests in events included, goes by it.
func (f TokenForm) Stored(token string) string {
	if f == "" || f == TokenPlain {
		return token
	}
	sum := sha256.Sum256([]byte(token))
	switch f {
	case TokenSHA256Base64:
		return base64.StdEncoding.EncodeToString(sum[:])
	case TokenSHA256Base64URL:
		return base64.RawURLEncoding.EncodeToString(sum[:])
	default:
		return hex.EncodeToString(sum[:])
	}
}
