package redis_test

import (
	"testing"

	"github.com/sessiond/sessiond/server/internal/redistest"
	"github.com/sessiond/sessiond/server/internal/store/redis"
)

func benchmarkLookup(b *testing.B, n int) {
	s := redistest.Start(b)
	i := redistest.NewIssuer(b, s, prefix)
	tokens := make([]string, n)
	for k := range tokens {
		tokens[k], _ = i.SignIn("u")
	}
	st := open(b, redis.Config{URL: s.URL(), Prefix: prefix, RevokedMarks: true})
	b.ReportAllocs()
	for b.Loop() {
		records, err := st.Lookup(b.Context(), "", tokens)
		if err != nil || !records[n-1].Found {
			b.Fatal(err)
		}
	}
}

func BenchmarkLookup1(b *testing.B)  { benchmarkLookup(b, 1) }
func BenchmarkLookup64(b *testing.B) { benchmarkLookup(b, 64) }
