package authority

import (
	"fmt"
	"strings"
	"time"

	"github.com/sessiond/sessiond/server/internal/store"
)

// compare adds what each of the places of a store said of the session and in what they
// disagree. The advice is for a session that is refused though the issuer's first place
// has a good one.
func (e *Explanation) compare(findings []store.Finding, now time.Time, p Policy) []Advice {
	for i := range findings {
		f := &findings[i]
		if f.Err != nil {
			e.step("lookup", false, "%s: could not be asked: %v", f.Where.Driver, f.Err)
			return nil
		}
		e.step("lookup", f.Record.Found, "%s", describeRecord(f.Where, &f.Record, now))
	}
	if len(findings) != 2 {
		return nil
	}
	first, second := &findings[0], &findings[1]
	differences := differences(&first.Record, &second.Record, now)
	if len(differences) == 0 {
		return nil
	}
	text := fmt.Sprintf("%s and %s disagree: %s", first.Where.Driver, second.Where.Driver, strings.Join(differences, "; "))
	e.step("lookup", false, "%s", text)
	if !Decide(&first.Record, now, p).Good() {
		return nil
	}
	return []Advice{{Cause: text, Setting: "policy.disagreement"}}
}

// differences says in what the issuer's secondary storage and its rows disagree, as far
// as it can change a verdict or what is answered.
func differences(key, row *store.Record, now time.Time) []string {
	switch {
	case !key.Found && !row.Found:
		return nil
	case !row.Found:
		return []string{"there is a key and no row"}
	case !key.Found:
		return []string{"there is a row and no key"}
	case key.Unreadable != "" && row.Unreadable != "":
		return nil
	case key.Unreadable != "":
		return []string{"the key cannot be read"}
	case row.Unreadable != "":
		return []string{"the row cannot be read"}
	}
	var out []string
	if key.Revoked {
		out = append(out, "the key is older than the end of all its user's sessions")
	}
	switch by := row.Session.ExpiresAt.Sub(key.Session.ExpiresAt).Round(time.Second); {
	case by < 0:
		out = append(out, fmt.Sprintf("the row ends %s before the key", -by))
	case by > 0:
		out = append(out, fmt.Sprintf("the row ends %s after the key", by))
	}
	switch {
	case key.User == nil && row.User == nil:
	case row.User == nil:
		out = append(out, "the user has no row any more")
	case key.User == nil:
		out = append(out, "the key holds no user")
	default:
		only := func(what string, byKey, byRow bool) {
			if byKey != byRow {
				out = append(out, fmt.Sprintf("the user is %s by the row: %t, by the key: %t", what, byRow, byKey))
			}
		}
		only("banned", bannedAt(key.User, now.UnixMilli()), bannedAt(row.User, now.UnixMilli()))
		only("marked deleted", key.User.Deleted, row.User.Deleted)
		if !row.User.UpdatedAt.Equal(key.User.UpdatedAt) {
			out = append(out, "the user in the key is of another time than its row")
		}
	}
	return out
}
