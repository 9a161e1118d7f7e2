package sqlite_test

import (
	"testing"
	"time"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/store/sqlite"
)

// TestExtendAfterRevoke: a refresh that was asked for before a revocation, and comes to
// write after it, does not bring the session back where its row is kept.
func TestExtendAfterRevoke(t *testing.T) {
	for _, form := range []string{"text", "milliseconds", "seconds"} {
		t.Run(form, func(t *testing.T) {
			i := newOutboxIssuer(t)
			i.signIn(t, "1")
			switch form {
			case "milliseconds":
				i.exec(t, `UPDATE session SET expiresAt = 4070908800000, createdAt = 1767225600000, updatedAt = 1767225600000`)
			case "seconds":
				i.exec(t, `UPDATE session SET expiresAt = 4070908800, createdAt = 1767225600, updatedAt = 1767225600`)
			default:
				i.exec(t, `UPDATE session SET expiresAt = '2099-01-01T00:00:00.000Z'`)
			}
			f := openFeed(t, i.config)
			w, err := sqlite.OpenWriter(t.Context(), i.config)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := w.Close(); err != nil {
					t.Error(err)
				}
			})
			asked := time.Now().Truncate(time.Millisecond)
			if done, err := w.Extend(t.Context(), "token1", asked.Add(time.Hour), asked.Add(-time.Hour)); !done || err != nil {
				t.Fatalf("one that is there: %t, %v", done, err)
			}
			if r, err := f.Revoke(t.Context(), feed.Target{Token: "token1", Keep: true}); err != nil || r.Sessions != 1 {
				t.Fatalf("%+v, %v", r, err)
			}
			if done, err := w.Extend(t.Context(), "token1", asked.Add(time.Hour), asked); done || err != nil {
				t.Errorf("extended: %t, %v", done, err)
			}
		})
	}
}
