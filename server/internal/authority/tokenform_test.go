package authority

import (
	"context"
	"testing"
	"time"

	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server/internal/cache"
	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/sessioncookie"
)

// The SHA-256 of "abc", FIPS 180-4 appendix.
func TestStored(t *testing.T) {
	for form, want := range map[TokenForm]string{
		"":                   "abc",
		TokenPlain:           "abc",
		TokenSHA256Hex:       "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		TokenSHA256Base64:    "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
		TokenSHA256Base64URL: "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0",
	} {
		if got := form.Stored("abc"); got != want {
			t.Errorf("%s: %s, want %s", form, got, want)
		}
	}
}

// asked notes the questions it gets, and knows one token.
type asked struct {
	known     string
	questions []cache.Question
}

func (a *asked) Get(_ context.Context, q cache.Question) (cache.Answer, error) {
	a.questions = append(a.questions, q)
	r := &store.Record{}
	if q.Token == a.known {
		r = &store.Record{Found: true, Session: store.Session{ExpiresAt: time.Unix(1<<40, 0)}, User: &store.User{ID: "u"}}
	}
	return cache.Answer{Record: r, AsOf: q.Arrived}, nil
}

func (a *asked) GetBatch(ctx context.Context, qs []cache.Question, out []cache.Answer) error {
	for i, q := range qs {
		out[i], _ = a.Get(ctx, q)
	}
	return nil
}

func (a *asked) Findings(context.Context, string) []store.Finding { return nil }
func (a *asked) NeedsRead(feed.Revision) (bool, error)            { return false, errNoRevisions }

// TestHashedTokens: the store is asked by the hash, events are compared by it, and the
// hash itself is no credential.
func TestHashedTokens(t *testing.T) {
	const token = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	hashed := TokenSHA256Hex.Stored(token)
	records := &asked{known: hashed}
	a, err := New(Config{
		Cookies:      sessioncookie.Config{Names: []string{"c"}, Secrets: []string{"a secret of at least 32 bytes, this"}, AllowBareToken: true},
		TokenForm:    TokenSHA256Hex,
		MaxBatchSize: 10,
	}, records)
	if err != nil {
		t.Fatal(err)
	}
	call := Call{Now: time.Now(), Arrived: clock.Now()}
	bare := func(text string) Credential { return Credential{Form: FormToken, Value: text} }
	answer, err := a.Validate(t.Context(), call, bare(token))
	if err != nil || !answer.Verdict.Good() || answer.Key != feed.KeyOf(hashed) {
		t.Errorf("%+v, %v", answer.Verdict, err)
	}
	if answer, err = a.Validate(t.Context(), call, bare(hashed)); err != nil || answer.Verdict.Reason != ReasonNotFound {
		t.Errorf("the hash as a credential: %+v, %v", answer.Verdict, err)
	}
	answers, err := a.ValidateBatch(t.Context(), call, []Credential{bare(token), bare(hashed)})
	if err != nil || !answers[0].Verdict.Good() || answers[1].Verdict.Good() {
		t.Errorf("batch: %+v, %v", answers, err)
	}
	if plain, stored, reason := a.Find(call.Now, bare(token)); reason != ReasonNone || plain != token || stored != hashed {
		t.Errorf("a revocation would name %d bytes, %s", len(stored), reason)
	}
}
