package sessiondata_test

import (
	"testing"

	"github.com/sessiond/sessiond/server/internal/sessiondata"
	"github.com/sessiond/sessiond/sessioncookie"
)

// FuzzSessionData holds what the release lines have in common: each is at most
// as strict as the one before it where they read the same cookie.
func FuzzSessionData(f *testing.F) {
	v1_3 := mustChecker(f, sessioncookie.V1_3, sessiondata.Compact)
	v1_4 := mustChecker(f, sessioncookie.V1_4, sessiondata.Compact)
	v1_6 := mustChecker(f, sessioncookie.V1_6, sessiondata.Compact)
	v1_7 := mustChecker(f, sessioncookie.V1_7, sessiondata.Compact)
	jwt := mustChecker(f, sessioncookie.V1_4, sessiondata.JWT)
	jwe := mustChecker(f, sessioncookie.V1_4, sessiondata.JWE)

	f.Add(encode(`{"session":{"a":1},"expiresAt":5,"signature":"` + mac(`{"a":1,"expiresAt":5}`) + `"}`))
	f.Add(encode(`[{"a":"2026-01-31T10:00:00Z"},1e21,null]`))
	f.Add("eyJhbGciOiJIUzI1NiJ9.e30.AAAA")
	f.Add("eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2Q0JDLUhTNTEyIn0..AAAA.AAAA.AAAA")
	f.Fuzz(func(t *testing.T, value string) {
		header := testName + "=" + value
		whole, _ := sessioncookie.Find(header, testName)
		if v1_7.Rejects(header, recordedAt) {
			t.Fatal("1.7 rejects")
		}
		if sessioncookie.Decode(whole) == "" {
			return // from 1.4 on chunks count then
		}
		if got := v1_4.Rejects(header, recordedAt); got != v1_3.Rejects(header, recordedAt) {
			t.Fatalf("1.4 rejects %t, 1.3 does not agree", got)
		}
		if v1_6.Rejects(header, recordedAt) && !v1_4.Rejects(header, recordedAt) {
			t.Fatal("1.6 rejects what 1.4 takes")
		}
		if !jwt.Rejects(header, recordedAt) || !jwe.Rejects(header, recordedAt) {
			t.Fatal("a jwt or jwe verified by chance")
		}
	})
}
