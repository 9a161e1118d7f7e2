package sessioncookie_test

import (
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
