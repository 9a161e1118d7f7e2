package sessioncookie

import (
	"fmt"
	"strings"
)

// Version is the issuer's minor release line. The zero value means [Current].
type Version uint8

// The supported release lines, oldest first: they can be compared with < and >.
const (
	V1_2 Version = iota + 1
	V1_3
	V1_4
	V1_6
	V1_7

	// Current is the line a zero Version stands for.
	Current = V1_7
)

const supportedVersions = "1.2, 1.3, 1.4, 1.6, 1.7"

// ParseVersion reads "1.7" or a full release such as "1.7.25". The error for a
// line that is not supported lists those that are.
func ParseVersion(s string) (Version, error) {
	for v := V1_2; v <= Current; v++ {
		rest, ok := strings.CutPrefix(s, v.String())
		if !ok {
			continue
		}
		if patch, dotted := strings.CutPrefix(rest, "."); rest == "" || (dotted && startsWithDigit(patch)) {
			return v, nil
		}
	}
	return 0, fmt.Errorf("sessioncookie: version %q is not supported: use one of %s", s, supportedVersions)
}

// String returns "1.7" for V1_7; the zero Version prints as [Current].
func (v Version) String() string {
	switch v {
	case V1_2:
		return "1.2"
	case V1_3:
		return "1.3"
	case V1_4:
		return "1.4"
	case V1_6:
		return "1.6"
	case 0, V1_7:
		return "1.7"
	default:
		return fmt.Sprintf("Version(%d)", uint8(v))
	}
}

func startsWithDigit(s string) bool {
	return s != "" && s[0] >= '0' && s[0] <= '9'
}
