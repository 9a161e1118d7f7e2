package storetest

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/sessiond/sessiond/server/internal/store"
)

// BenchmarkRows is how many sessions Benchmark expects: those of the tokens
// token-0, token-1 and so on.
const BenchmarkRows = 10_000

// Benchmark looks up n tokens at a time, one call after the other and in parallel.
func Benchmark(b *testing.B, s store.Store, n int) {
	batch := func(i int) []string {
		tokens := make([]string, n)
		for j := range tokens {
			tokens[j] = fmt.Sprintf("token-%d", (i*n+j)%BenchmarkRows)
		}
		return tokens
	}
	// The tokens are made beforehand: they are not what is measured.
	var batches [256][]string
	for i := range batches {
		batches[i] = batch(i)
	}
	ask := func(b *testing.B, i int) {
		got, err := s.Lookup(b.Context(), "", batches[i%len(batches)])
		if err != nil || !got[0].Found {
			b.Fatalf("%+v, %v", got[0], err)
		}
	}
	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			ask(b, i)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		var next atomic.Int64
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if i := int(next.Add(1)); !b.Failed() {
					got, err := s.Lookup(b.Context(), "", batches[i%len(batches)])
					if err != nil || !got[0].Found {
						b.Errorf("%+v, %v", got[0], err)
					}
				}
			}
		})
	})
}
