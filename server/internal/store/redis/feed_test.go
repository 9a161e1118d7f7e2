package redis_test

import (
	"testing"
	"time"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/feed/feedtest"
	"github.com/sessiond/sessiond/server/internal/redistest"
	"github.com/sessiond/sessiond/server/internal/store/redis"
)

const prefix = "better-auth:"

func openFeed(t testing.TB, s *redistest.Server, c redis.Config) *redis.Feed {
	t.Helper()
	c.URL = s.URL()
	return openFeedAt(t, c)
}

func openFeedAt(t testing.TB, c redis.Config) *redis.Feed {
	t.Helper()
	f, err := redis.OpenFeed(t.Context(), c, 7*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func TestFeedContract(t *testing.T) {
	feedtest.Run(t, func(t *testing.T) feedtest.Subject {
		s := redistest.Start(t)
		i := redistest.NewIssuer(t, s, prefix)
		c := redis.Config{Prefix: prefix, RevokedMarks: true}
		// A third replica has been here: the bound is installed, and its row is not.
		first := openFeed(t, s, c)
		reg, err := first.Register(t.Context(), feedtest.Bound)
		if err != nil {
			t.Fatal(err)
		}
		if gone, err := first.Exclude(t.Context(), reg.ID, 1); err != nil || !gone {
			t.Fatalf("%t, %v", gone, err)
		}
		return feedtest.Subject{Source: openFeed(t, s, c), Other: openFeed(t, s, c), SignIn: i.SignIn, SignOut: i.SignOut}
	})
}

var _ feed.Source = (*redis.Feed)(nil)
