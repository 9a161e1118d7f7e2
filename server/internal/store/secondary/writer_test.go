package secondary_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/feed/feedtest"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/postgres"
	"github.com/sessiond/sessiond/server/internal/store/redis"
	"github.com/sessiond/sessiond/server/internal/store/secondary"
)

func (p place) openWriter(release redis.Release, preserved bool) store.Writer {
	p.t.Helper()
	rows, err := postgres.OpenWriter(p.t.Context(), postgres.Config{DSN: p.dsn})
	if err != nil {
		p.t.Fatal(err)
	}
	keys, err := redis.OpenWriter(redis.WriterConfig{
		Config: redis.Config{URL: p.url, Prefix: prefix}, Release: release, ExpiresIn: 7 * 24 * time.Hour, Rows: rows, InDatabase: true,
	})
	if err != nil {
		p.t.Fatal(errors.Join(err, rows.Close()))
	}
	w := secondary.NewWriter(secondary.WriterConfig{Keys: keys, Rows: rows, Preserved: preserved, RowsFirst: release < redis.Release14, ListRows: release >= redis.Release16 && !preserved})
	p.t.Cleanup(func() {
		if err := w.Close(); err != nil {
			p.t.Error(err)
		}
	})
	return w
}

// TestExtendAfterRevoke: a refresh that was asked for before a revocation, and comes to
// write after it, does not bring the session back where its row is kept.
func TestExtendAfterRevoke(t *testing.T) {
	for _, release := range []redis.Release{redis.Release13, redis.Release14, redis.Release16} {
		t.Run(fmt.Sprint(release), func(t *testing.T) {
			p := newPlace(t)
			token, _ := p.signIn("ann")
			p.exec(`UPDATE session SET "updatedAt" = now() - interval '2 days'`)
			ending := feed.EndNow
			if release < redis.Release16 {
				ending = feed.EndPast
			}
			f, w := p.openFeed(ending), p.openWriter(release, release >= redis.Release16)
			if _, err := f.Register(t.Context(), feedtest.Bound); err != nil {
				t.Fatal(err)
			}
			asked := time.Now().Truncate(time.Millisecond)
			if done, err := w.Extend(t.Context(), token, asked.Add(time.Hour), asked); !done || err != nil {
				t.Fatalf("one that is there: %t, %v", done, err)
			}
			p.exec(`UPDATE session SET "updatedAt" = now() - interval '2 days'`)
			if r, err := f.Revoke(t.Context(), feed.Target{Token: token}); err != nil || r.Sessions != 1 {
				t.Fatalf("%+v, %v", r, err)
			}
			if done, err := w.Extend(t.Context(), token, asked.Add(time.Hour), asked); done || err != nil {
				t.Errorf("extended: %t, %v", done, err)
			}
			var over bool
			if err := p.conn.QueryRow(t.Context(), `SELECT "expiresAt" <= clock_timestamp() FROM session WHERE token = $1`, token).Scan(&over); err != nil || !over || p.Text(prefix+token) != "" {
				t.Errorf("over: %t, %v", over, err)
			}
		})
	}
}
