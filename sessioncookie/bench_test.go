package sessioncookie_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/sessiond/sessiond/sessioncookie"
)

// jar is what a browser sends to a site like any other: analytics, preferences
// and the session among them.
func jar(session string) string {
	return "_ga=GA1.1.1234567890.1700000000; _ga_ABCDEF1234=GS2.1.s1700000000$o4$g1$t1700000100$j60$l0$h0; theme=dark; " +
		session + "; locale=en-GB; consent=%7B%22analytics%22%3Atrue%7D"
}

func benchReader(tb testing.TB) *sessioncookie.Reader {
	return mustReader(tb, sessioncookie.Config{Names: []string{"__Secure-" + testName, testName}, Secrets: []string{testSecret}})
}

func TestAllocations(t *testing.T) {
	r := benchReader(t)
	many := strings.Repeat("a=1; ", 2000)
	tests := []struct {
		name, header string
		want         error
		max          float64
	}{
		{"good", jar(cookieOf(testName, testToken, testSecret)), nil, 1},
		{"good, behind many others", many + cookieOf(testName, testToken, testSecret), nil, 1},
		{"bad signature", jar(cookieOf(testName, testToken, anotherSecret)), sessioncookie.ErrBadSignature, 0},
		{"malformed", jar(testName + "=deleted"), sessioncookie.ErrMalformed, 0},
		{"none", jar("x=y"), sessioncookie.ErrNoCredential, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := testing.AllocsPerRun(200, func() {
				if reading := r.FromHeaders(tt.header, ""); !errors.Is(reading.Err, tt.want) {
					t.Fatalf("got %v, want %v", reading.Err, tt.want)
				}
			})
			if got > tt.max {
				t.Errorf("%v allocations, want at most %v", got, tt.max)
			}
		})
	}
	header := jar("s=1")
	if got := testing.AllocsPerRun(200, func() { sessioncookie.Find(header, "s") }); got != 0 {
		t.Errorf("Find: %v allocations, want none", got)
	}
}

func BenchmarkFromHeaders(b *testing.B) {
	tests := []struct{ name, header string }{
		{"jar", jar(cookieOf(testName, testToken, testSecret))},
		{"miss", jar("x=y")},
		{"bad-signature", jar(cookieOf(testName, testToken, anotherSecret))},
		{"10000-cookies", strings.Repeat("a=1; ", 10_000)},
	}
	r := benchReader(b)
	for _, tt := range tests {
		b.Run(tt.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.FromHeaders(tt.header, "")
			}
		})
	}
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		header := tests[0].header
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				r.FromHeaders(header, "")
			}
		})
	})
}
