package postgres_test

import (
	"crypto/rand"
	"testing"

	"github.com/sessiond/sessiond/server/internal/feed/feedtest"
	"github.com/sessiond/sessiond/server/internal/pgtest"
)

// subject is a feed of two replicas and an issuer who speaks to the server directly.
func subject(t *testing.T, issuer, replicas string) feedtest.Subject {
	conn := connect(t, issuer)
	return feedtest.Subject{
		Source: openFeed(t, replicas),
		Other:  openFeed(t, replicas),
		SignIn: func(user string) (token, session string) {
			token, session = rand.Text(), rand.Text()
			exec(t, conn, `INSERT INTO "user"(id) VALUES ($1) ON CONFLICT DO NOTHING`, user)
			exec(t, conn, `INSERT INTO session(id, token, "userId", "expiresAt") VALUES ($1, $2, $3, '2099-01-01')`, session, token, user)
			return token, session
		},
		SignOut: func(token string) { exec(t, conn, `DELETE FROM session WHERE token = $1`, token) },
	}
}

func TestFeedContract(t *testing.T) {
	for _, mode := range []string{"cache_statement", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			feedtest.Run(t, func(t *testing.T) feedtest.Subject {
				dsn := installed(t, pgtest.Start(t), 0)
				return subject(t, dsn, withOption(t, dsn, "default_query_exec_mode", mode))
			})
		})
	}
	t.Run("pooler", func(t *testing.T) {
		cluster := pgtest.StartOwn(t)
		feedtest.Run(t, func(t *testing.T) feedtest.Subject {
			dsn := installed(t, cluster, 0)
			return subject(t, dsn, newPooler(t, dsn))
		})
	})
}
