package feedtest_test

import (
	"testing"

	"github.com/sessiond/sessiond/server/internal/feed/feedtest"
)

// TestMemory: the feed in memory keeps the same contract as the real ones.
func TestMemory(t *testing.T) {
	feedtest.Run(t, func(*testing.T) feedtest.Subject {
		m := feedtest.NewMemory(feedtest.Bound)
		return feedtest.Subject{Source: m.Source(), Other: m.Source(), SignIn: m.SignIn, SignOut: m.SignOut, BeginSignOut: m.BeginSignOut}
	})
}
