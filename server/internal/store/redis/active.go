package redis

import (
	"cmp"
	"encoding/json"
	"slices"
)

// active is an entry of the issuer's list of a user's sessions,
// active-sessions-USER: JSON, ordered by expiry.
type active struct {
	Token     string `json:"token"`
	ExpiresAt int64  `json:"expiresAt"` // milliseconds
}

// parseActive reads a list. One that cannot be read is empty, as it is for the issuer.
func parseActive(text string) []active {
	var list []active
	if json.Unmarshal([]byte(text), &list) != nil {
		return nil
	}
	return list
}

// formatActive writes a list as the issuer does: without what is over at nowMs, ordered by
// expiry, with the seconds until the last is over. No text: the key is to be deleted.
func formatActive(list []active, nowMs int64) (text string, seconds int64) {
	list = slices.DeleteFunc(slices.Clone(list), func(a active) bool { return a.ExpiresAt <= nowMs })
	slices.SortStableFunc(list, func(a, b active) int { return cmp.Compare(a.ExpiresAt, b.ExpiresAt) })
	if len(list) == 0 {
		return "", 0
	}
	seconds = (list[len(list)-1].ExpiresAt - nowMs) / 1000
	if seconds <= 0 {
		return "", 0
	}
	out, err := json.Marshal(list)
	if err != nil {
		return "", 0 // an expiry that is no number: not the issuer's list
	}
	return string(out), seconds
}
