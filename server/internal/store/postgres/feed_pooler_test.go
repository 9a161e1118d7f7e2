package postgres_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/pgtest"
	"github.com/sessiond/sessiond/server/internal/store/postgres"
)

// TestPooler does everything through PgBouncer in transaction mode, several
// replicas at once, which change connections with each other all the time.
func TestPooler(t *testing.T) {
	dsn := installed(t, pgtest.StartOwn(t), 200)
	through := newPooler(t, dsn)
	s := open(t, postgres.Config{DSN: through})
	var replicas sync.WaitGroup
	for n := range 4 {
		f := openFeed(t, through)
		replicas.Go(func() {
			r, err := f.Register(t.Context(), bound)
			if err != nil {
				t.Error(err)
				return
			}
			acked, last := int64(1), r.News
			for i := range 25 {
				token := fmt.Sprintf("token-%d", n*50+i)
				revoked, err := f.Revoke(t.Context(), feed.Target{Token: token})
				if err != nil || revoked.Sessions != 1 {
					t.Errorf("revoke: %+v, %v", revoked, err)
					return
				}
				news, err := f.Beat(t.Context(), beatOf(r.ID, acked, last))
				if err != nil || !hasKey(news, token) {
					t.Errorf("beat: %+v, %v", news, err)
					return
				}
				acked, last = acked+1, news
				covered, err := f.Covers(news.Position, news.Era, revoked.Revision)
				if err != nil || !covered {
					t.Errorf("the beat covers the revision: %v, %v", covered, err)
				}
				if _, err := f.Poll(t.Context(), news.Position); err != nil {
					t.Error(err)
				}
				if _, err := f.Replicas(t.Context(), r.ID, acked); err != nil {
					t.Error(err)
				}
				if _, err := f.Revision(t.Context()); err != nil {
					t.Error(err)
				}
				if err := f.Clean(t.Context()); err != nil {
					t.Error(err)
				}
				kept := fmt.Sprintf("token-%d", n*50+49)
				if got, err := s.Lookup(t.Context(), r.Era, []string{token, kept}); err != nil || got[0].Found || !got[1].Found {
					t.Errorf("lookup: %+v, %v", got, err)
				}
			}
			if gone, err := f.Exclude(t.Context(), r.ID, acked); err != nil || !gone {
				t.Errorf("exclude: %v, %v", gone, err)
			}
		})
	}
	replicas.Wait()
}

// TestCrashBehindAPooler: the client's connection outlives the server's crash, and
// only life tells of it (F4, #62).
func TestCrashBehindAPooler(t *testing.T) {
	cluster := forgetful(t)
	dsn := installed(t, cluster, 1)
	through := newPooler(t, dsn)
	f, s := openFeed(t, through), open(t, postgres.Config{DSN: through})
	r := register(t, f)
	acked := beat(t, f, beatOf(r.ID, 1, r.News))
	if _, err := s.Lookup(t.Context(), r.Era, []string{"token-0"}); err != nil {
		t.Fatal(err)
	}
	before := f.LineConn()

	crash(t, cluster)
	answers(t, through) // the pooler has found its server again
	news := poll(t, f, acked.Position)
	if f.LineConn() != before {
		t.Fatal("the client's connection was broken: the test shows nothing")
	}
	if news.Era == r.Era || news.Era == "" {
		t.Errorf("era %q, before the crash %q", news.Era, r.Era)
	}
	if _, err := s.Lookup(t.Context(), r.Era, []string{"token-0"}); err == nil {
		t.Error("a lookup in the era before the crash was answered")
	}
	if got, err := s.Lookup(t.Context(), news.Era, []string{"token-0"}); err != nil || !got[0].Found {
		t.Errorf("a lookup in the new era: %+v, %v", got, err)
	}
}
