package sessioncookie

import "strings"

const multiInfix = "_multi-"

// MultiSession returns the values of the cookies in which the issuer's multi-session
// plugin keeps a browser's further sessions: NAME_multi- and a token in lower case,
// with the signed token as value. name is the session cookie's. Of cookies of one name
// the first counts; there are at most max values, which alias header.
// [Reader.FromValue] reads them.
//
// Source: packages/better-auth/src/plugins/multi-session of better-auth.
func MultiSession(header, name string, max int) []string {
	var values []string
	seen := make(map[string]bool)
	for key, value := range All(header) {
		if len(values) >= max {
			break
		}
		if !seen[key] && len(key) > len(name)+len(multiInfix) && strings.HasPrefix(key, name+multiInfix) {
			seen[key] = true
			values = append(values, value)
		}
	}
	return values
}
