package authority

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/server/internal/cache"
	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/sessioncookie"
)

// countedRecords holds nothing and counts who asks.
type countedRecords struct{ asked int }

func (c *countedRecords) Get(context.Context, cache.Question) (cache.Answer, error) {
	c.asked++
	return cache.Answer{Record: &store.Record{}}, nil
}
func (c *countedRecords) GetBatch(context.Context, []cache.Question, []cache.Answer) error {
	return store.ErrUnavailable
}
func (c *countedRecords) NeedsRead(feed.Revision) (bool, error) { return true, nil }
func (c *countedRecords) Describe() store.Description           { return store.Description{} }
func (c *countedRecords) Clues(context.Context, string) (store.Clues, error) {
	return store.Clues{}, nil
}

// TestExplainIsBounded: what a header holds does not decide how often the store is asked,
// nor how much is tried on a value that no browser keeps.
func TestExplainIsBounded(t *testing.T) {
	const name = "better-auth.session_token"
	secret := strings.Repeat("s", 32)
	records := &countedRecords{}
	a, err := New(Config{Cookies: sessioncookie.Config{Names: []string{name}, Secrets: []string{secret}}}, records)
	if err != nil {
		t.Fatal(err)
	}
	var header strings.Builder
	for header.Len() < 60_000 {
		header.WriteString(name + "=" + sessioncookie.Encode(sessioncookie.Sign(sessioncookie.NewToken(), secret)) + "; ")
	}
	e, err := a.Explain(t.Context(), time.Now(), records, Credential{Cookie: header.String()})
	if err != nil || e.Reason != ReasonNotFound.String() {
		t.Fatalf("%s, %v", e.Reason, err)
	}
	if records.asked > 2*maxBeside {
		t.Errorf("the store was asked %d times", records.asked)
	}
	long := "eyJhbGciOiJFZERTQSJ9." + strings.Repeat("x", maxExamined) + ".x"
	if e, _ = a.Explain(t.Context(), time.Now(), records, Credential{Cookie: name + "=" + long}); len(e.Advice) != 1 || e.Advice[0].Fault != FaultMisshapen {
		t.Errorf("a long value was looked into: %+v", e.Advice)
	}
}
