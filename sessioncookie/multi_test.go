package sessioncookie

import (
	"slices"
	"testing"
)

func TestMultiSession(t *testing.T) {
	const name = "better-auth.session_token"
	header := name + "=main; " + name + "_multi-aa=1;" + name + "_multi-bb = 2 ; x" + name + "_multi-cc=3; " + name + "_multi-=4; " + name + "_multi-aa=5; __Secure-" + name + "_multi-dd=6; " + name + "_MULTI-ee=7; " + name + "_multi-ff=8"
	for max, want := range map[int][]string{0: nil, 1: {"1"}, 2: {"1", "2"}, 9: {"1", "2", "8"}} {
		if got := MultiSession(header, name, max); !slices.Equal(got, want) {
			t.Errorf("at most %d: %q, want %q", max, got, want)
		}
	}
	if got := MultiSession("", name, 5); got != nil {
		t.Errorf("of nothing: %q", got)
	}
}
