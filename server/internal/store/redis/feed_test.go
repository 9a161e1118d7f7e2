package redis_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/feed/feedtest"
	"github.com/sessiond/sessiond/server/internal/redistest"
	"github.com/sessiond/sessiond/server/internal/store/redis"
)

const prefix = "better-auth:"

// issuer writes as Better Auth does.
type issuer struct {
	t      testing.TB
	client rueidis.Client
}

func newIssuer(t testing.TB, s *redistest.Server) *issuer {
	t.Helper()
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{s.Address}, DisableCache: true, ForceSingleClient: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &issuer{t: t, client: client}
}

// do runs a command.
func (i *issuer) do(args ...string) rueidis.RedisResult {
	i.t.Helper()
	r := i.client.Do(context.Background(), i.client.B().Arbitrary(args[0]).Args(args[1:]...).Build())
	if err := r.Error(); err != nil && !rueidis.IsRedisNil(err) {
		i.t.Fatalf("%s: %v", args[0], err)
	}
	return r
}

// text is the value of a key; empty: none.
func (i *issuer) text(key string) string {
	i.t.Helper()
	text, err := i.do("GET", key).ToString()
	if err != nil && !rueidis.IsRedisNil(err) {
		i.t.Fatal(err)
	}
	return text
}

const sessionValue = `{"session":{"expiresAt":"2099-01-01T00:00:00.000Z","token":%q,"createdAt":%q,"updatedAt":"2024-01-01T00:00:00.000Z","ipAddress":"","userAgent":"","userId":%q,"id":%q},` +
	`"user":{"name":"Ann","email":"ann@example.com","emailVerified":false,"image":null,"createdAt":"2024-01-01T00:00:00.000Z","updatedAt":"2024-01-01T00:00:00.000Z","id":%q}}`

func (i *issuer) signIn(user string) (token, session string) {
	i.t.Helper()
	token, session = rand.Text(), rand.Text()
	i.do("SET", prefix+token, fmt.Sprintf(sessionValue, token, "2024-01-01T00:00:00.000Z", user, session, user), "EX", "100000")
	list := i.text(prefix + "active-sessions-" + user)
	entry := fmt.Sprintf(`{"token":%q,"expiresAt":4070908800000}`, token)
	if list == "" {
		list = "[" + entry + "]"
	} else {
		list = list[:len(list)-1] + "," + entry + "]"
	}
	i.do("SET", prefix+"active-sessions-"+user, list, "EX", "100000")
	return token, session
}

func (i *issuer) signOut(token string) { i.do("DEL", prefix+token) }

func openFeed(t testing.TB, s *redistest.Server) *redis.Feed {
	t.Helper()
	f, err := redis.OpenFeed(redis.Config{URL: s.URL(), Prefix: prefix, RevokedMarks: true}, 7*24*time.Hour)
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
		i := newIssuer(t, s)
		// A third replica has been here: the bound is installed, and its row is not.
		first := openFeed(t, s)
		reg, err := first.Register(t.Context(), feedtest.Bound)
		if err != nil {
			t.Fatal(err)
		}
		if gone, err := first.Exclude(t.Context(), reg.ID, 1); err != nil || !gone {
			t.Fatalf("%t, %v", gone, err)
		}
		return feedtest.Subject{Source: openFeed(t, s), Other: openFeed(t, s), SignIn: i.signIn, SignOut: i.signOut}
	})
}

var _ feed.Source = (*redis.Feed)(nil)
