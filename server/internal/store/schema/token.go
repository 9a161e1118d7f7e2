package schema

import (
	"strings"
	"unicode/utf8"
)

// Storable reports whether a text column can hold token: whether it is UTF-8
// without NUL. PostgreSQL fails the whole statement for a token that is not, and
// SQLite could hold what the issuer never writes, so that no store is asked.
func Storable(token string) bool {
	return utf8.ValidString(token) && strings.IndexByte(token, 0) < 0
}
