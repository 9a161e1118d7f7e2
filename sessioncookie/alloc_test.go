//go:build !race

// The race detector makes sync.Pool forget at random, so the counts mean nothing
// with it.

package sessioncookie_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/sessiond/sessiond/sessioncookie"
)

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
