package sessiondata_test

import (
	"testing"
	"time"

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
		if v1_7.Rejects(request(header), recordedAt) {
			t.Fatal("1.7 rejects")
		}
		if sessioncookie.Decode(whole) == "" {
			return // from 1.4 on chunks count then
		}
		if got := v1_4.Rejects(request(header), recordedAt); got != v1_3.Rejects(request(header), recordedAt) {
			t.Fatalf("1.4 rejects %t, 1.3 does not agree", got)
		}
		if v1_6.Rejects(request(header), recordedAt) && !v1_4.Rejects(request(header), recordedAt) {
			t.Fatal("1.6 rejects what 1.4 takes")
		}
		if !jwt.Rejects(request(header), recordedAt) || !jwe.Rejects(request(header), recordedAt) {
			t.Fatal("a jwt or jwe verified by chance")
		}
	})
}

// FuzzOpen signs whatever it is given, as the issuer would, and opens it: what is good
// is so until its end and not after, and for the token that it names.
func FuzzOpen(f *testing.F) {
	f.Add(testPair, "1800000300000", uint16(40))
	f.Add(`"session":{"expiresAt":5},"user":[]`, "1e400", uint16(0))
	f.Add(`"session":{"token":"2027-01-22T08:00:00Z"},"user":{},"version":7`, "-1", uint16(9))
	checkers := []*sessiondata.Checker{mustChecker(f, sessioncookie.V1_3, ""), mustChecker(f, sessioncookie.V1_4, ""), mustChecker(f, sessioncookie.V1_6, ""), mustChecker(f, sessioncookie.V1_7, "")}
	jwe := mustChecker(f, sessioncookie.V1_7, sessiondata.JWE)
	f.Fuzz(func(t *testing.T, members, expiresAt string, cut uint16) {
		value := compact(members, expiresAt)
		at := int(cut) % len(value)
		chunks := testName + ".0=" + value[:at] + "; " + testName + ".1=" + value[at:]
		for n, c := range checkers {
			r := sessiondata.Request{Cookie: testName + "=" + value, Token: testToken}
			p, state := c.Open(r, soon)
			if (p != nil) != (state >= sessiondata.OtherToken) {
				t.Fatalf("%s with payload %t", state, p != nil)
			}
			if _, again := c.Open(sessiondata.Request{Cookie: chunks, Token: testToken}, soon); n > 0 && at > 0 && again != state {
				t.Fatalf("%s whole, %s in chunks", state, again)
			}
			if state != sessiondata.Good {
				continue
			}
			if c == checkers[3] && p.Token != testToken {
				t.Fatal("good for another token")
			}
			if !p.Until.IsZero() {
				if _, after := c.Open(r, p.Until.Add(time.Millisecond)); after != sessiondata.Expired {
					t.Fatalf("%s after its end", after)
				}
			}
		}
		if _, state := jwe.Open(sessiondata.Request{Cookie: testName + "=" + members, Token: testToken}, soon); state >= sessiondata.OtherToken {
			t.Fatal("a jwe verified by chance")
		}
	})
}
