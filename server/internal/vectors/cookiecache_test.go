package vectors_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/store"
)

// TestExplainsTheCookieCache: where explain says that the issuer's plain get-session
// answers from the session_data cookie it did, and where that cookie outlived its
// session in the store explain says so.
func TestExplainsTheCookieCache(t *testing.T) {
	s, err := load(filepath.Join("testdata", "better-auth"))
	if err != nil {
		t.Fatal(err)
	}
	byDataset := make(map[string][]vector)
	for _, v := range s.Vectors {
		byDataset[v.Dataset] = append(byDataset[v.Dataset], v)
	}
	answers, outlived := 0, 0
	for _, d := range s.Datasets {
		if !d.Options.Session.CookieCache.Enabled || len(d.sources()) == 0 {
			continue
		}
		more := map[string]string{}
		if len(d.JWKS) > 0 {
			more["issuer.cookie_cache_jwks_file"] = filepath.Join(t.TempDir(), "jwks.json")
			if err := os.WriteFile(more["issuer.cookie_cache_jwks_file"], d.JWKS, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		a, _, err := open(t, s, d, d.sources()[0], more)
		if err != nil {
			t.Fatalf("%s: %v", d.ID, err)
		}
		for _, v := range byDataset[d.ID] {
			cookie, err := v.cookie()
			if err != nil {
				t.Fatal(err)
			}
			now := s.GeneratedAt
			if v.EvaluatedAt != nil {
				now = v.EvaluatedAt.Time
			}
			e, err := a.Explain(t.Context(), now, authority.NoStore{Err: store.ErrUnavailable}, authority.Credential{Cookie: cookie, Authorization: v.AuthorizationHeader})
			if err != nil {
				t.Fatal(err)
			}
			says := ""
			for _, step := range e.Steps {
				if step.Name == "session_data" {
					says = step.Detail
				}
			}
			still, answered := strings.Contains(says, "will still say 200 until"), strings.Contains(says, "answers from it until")
			switch {
			case (still || answered) && !v.ExpectedCached.Valid:
				t.Errorf("%s: the issuer refuses, and explain says: %s", v.Name, says)
			case still == v.Expected.Valid && (still || answered):
				t.Errorf("%s: with the store it is good: %t, and explain says: %s", v.Name, v.Expected.Valid, says)
			case v.ExpectedCached.Valid && !v.Expected.Valid && !still:
				t.Errorf("%s: the cookie outlived its session, and explain says: %s", v.Name, says)
			}
			if still {
				outlived++
			}
			if answered {
				answers++
			}
		}
	}
	if answers < 100 || outlived < 30 {
		t.Errorf("%d answered from the cookie, %d of them refused by the store: the vectors are not what they were", answers, outlived)
	}
	t.Logf("%d answered from the cookie where the store agrees, %d where it refuses", answers, outlived)
}
