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
			if r, err := f.Revoke(t.Context(), feed.Target{Token: "token1", Ending: feed.EndNow}); err != nil || r.Sessions != 1 {
				t.Fatalf("%+v, %v", r, err)
			}
			if done, err := w.Extend(t.Context(), "token1", asked.Add(time.Hour), asked); done || err != nil {
				t.Errorf("extended: %t, %v", done, err)
			}
		})
	}
}

// TestEndings: a row that is kept ends now as the issuer leaves it, or far enough in the
// past for any clock where it is still used; in the form that its column has.
func TestEndings(t *testing.T) {
	for ending, apart := range map[feed.Ending]time.Duration{feed.EndNow: 0, feed.EndPast: feed.PastBy} {
		for _, unit := range []string{"text", "milliseconds"} {
			i := newOutboxIssuer(t)
			i.signIn(t, "1")
			if unit == "milliseconds" {
				i.exec(t, `UPDATE session SET expiresAt = 4070908800000, createdAt = 1767225600000, updatedAt = 1767225600000`)
			}
			f := openFeed(t, i.config)
			if r, err := f.Revoke(t.Context(), feed.Target{Token: "token1", Ending: ending}); err != nil || r.Sessions != 1 {
				t.Fatalf("%+v, %v", r, err)
			}
			records, err := openStore(t, i.config).Lookup(t.Context(), "", []string{"token1"})
			if err != nil || !records[0].Found {
				t.Fatalf("%+v, %v", records, err)
			}
			s := records[0].Session
			if got := s.UpdatedAt.Sub(s.ExpiresAt); (got-apart).Abs() > time.Second || time.Since(s.UpdatedAt).Abs() > time.Minute {
				t.Errorf("ending %d, %s: updated %s after its expiry, want %s", ending, unit, got, apart)
			}
		}
	}
}

func openStore(t *testing.T, c sqlite.Config) *sqlite.Store {
	t.Helper()
	st, err := sqlite.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}
