package authority

import (
	"fmt"
	"strings"
	"time"

	"github.com/sessiond/sessiond/server/internal/store"
)

// comparePlaces adds what each of the places of a store holds, and returns in what they
// disagree; empty: in nothing.
func (e *Explanation) comparePlaces(places []store.Place, now time.Time, token string) string {
	for i := range places {
		e.step("lookup", places[i].Record.Found, "%s", describeRecord(places[i].Description, &places[i].Record, now, token))
	}
	if len(places) != 2 {
		return ""
	}
	found := disagreements(&places[0].Record, &places[1].Record, now)
	if len(found) == 0 {
		return ""
	}
	text := fmt.Sprintf("%s and %s disagree: %s", places[0].Driver, places[1].Driver, strings.Join(found, "; "))
	e.step("lookup", false, "%s", text)
	return text
}

// disagreement is advice where it makes the verdict: refused though the first place has
// a good session, or accepted though the second has none.
func (f *finding) disagreement(text string, good bool) []Advice {
	if text == "" {
		return nil
	}
	first, second := &f.clues.Places[0].Record, &f.clues.Places[1].Record
	switch {
	case !good && f.Decide(first, f.now).Good():
		return []Advice{{FaultStoresDisagree, text + "; the issuer goes by the first alone, and accepts", `none: sign in; or policy.disagreement = "parity", to decide as the issuer: what was ended in the second alone is then good`}}
	case good && first.Found && !f.Decide(second, f.now).Good():
		return []Advice{{FaultStoresDisagree, text + "; the issuer goes by the first alone", `policy.disagreement = "strict", to accept only what both hold`}}
	}
	return nil
}

// disagreements says in what the issuer's secondary storage and its rows disagree, as far
// as it can change a verdict or what is answered.
func disagreements(key, row *store.Record, now time.Time) []string {
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
