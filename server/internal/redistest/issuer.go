package redistest

import (
	"context"
	"crypto/rand"
	"fmt"
	"testing"

	"github.com/redis/rueidis"
)

// Issuer writes as Better Auth does.
type Issuer struct {
	t      testing.TB
	client rueidis.Client
	prefix string
}

// NewIssuer connects. It ends with the test.
func NewIssuer(t testing.TB, s *Server, prefix string) *Issuer {
	t.Helper()
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{s.Address}, DisableCache: true, ForceSingleClient: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &Issuer{t: t, client: client, prefix: prefix}
}

// Do runs a command.
func (i *Issuer) Do(args ...string) rueidis.RedisResult {
	i.t.Helper()
	r := i.client.Do(context.Background(), i.client.B().Arbitrary(args[0]).Args(args[1:]...).Build())
	if err := r.Error(); err != nil && !rueidis.IsRedisNil(err) {
		i.t.Fatalf("%s: %v", args[0], err)
	}
	return r
}

// Text is the value of a key; empty: none.
func (i *Issuer) Text(key string) string {
	i.t.Helper()
	text, err := i.Do("GET", key).ToString()
	if err != nil && !rueidis.IsRedisNil(err) {
		i.t.Fatal(err)
	}
	return text
}

// sessionValue is a value as Better Auth 1.7 writes it: token, createdAt, user's id, session's id, user's id.
const sessionValue = `{"session":{"expiresAt":"2099-01-01T00:00:00.000Z","token":%q,"createdAt":%q,"updatedAt":"2024-01-01T00:00:00.000Z","ipAddress":"","userAgent":"","userId":%q,"id":%q},` +
	`"user":{"name":"Ann","email":"ann@example.com","emailVerified":false,"image":null,"createdAt":"2024-01-01T00:00:00.000Z","updatedAt":"2024-01-01T00:00:00.000Z","id":%q}}`

// SignIn adds a session of a user.
func (i *Issuer) SignIn(user string) (token, session string) {
	i.t.Helper()
	token, session = rand.Text(), rand.Text()
	i.Do("SET", i.prefix+token, fmt.Sprintf(sessionValue, token, "2024-01-01T00:00:00.000Z", user, session, user), "EX", "100000")
	list := i.Text(i.prefix + "active-sessions-" + user)
	entry := fmt.Sprintf(`{"token":%q,"expiresAt":4070908800000}`, token)
	if list == "" {
		list = "[" + entry + "]"
	} else {
		list = list[:len(list)-1] + "," + entry + "]"
	}
	i.Do("SET", i.prefix+"active-sessions-"+user, list, "EX", "100000")
	return token, session
}

// SignOut removes a session, as the issuer does but for the user's list.
func (i *Issuer) SignOut(token string) { i.Do("DEL", i.prefix+token) }
