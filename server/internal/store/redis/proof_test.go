package redis_test

import (
	"context"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server/internal/cache"
	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/feed/feedtest"
	"github.com/sessiond/sessiond/server/internal/redistest"
	"github.com/sessiond/sessiond/server/internal/replica"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/redis"
)

// TestProofTravelsWithTheEvents: while the connection that is told of changes is
// silent, nothing proves that there are none (X3).
func TestProofTravelsWithTheEvents(t *testing.T) {
	s := redistest.Start(t)
	i := redistest.NewIssuer(t, s, prefix)
	token, _ := i.SignIn("ann")
	l := newLink(t, s, 0)
	f := openFeedAt(t, redis.Config{URL: l.url, Prefix: prefix})
	reg := register(t, f)
	l.gate.Lock()
	i.SignOut(token)
	for name, ask := range map[string]func(context.Context) (feed.News, error){
		"poll": func(ctx context.Context) (feed.News, error) { return f.Poll(ctx, reg.Position) },
		"beat": func(ctx context.Context) (feed.News, error) {
			return f.Beat(ctx, feed.Beat{ID: reg.ID, Acked: 1, Number: 2, Written: reg.Position, Done: reg.Position, DoneEra: reg.Era, From: reg.Position})
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if n, err := ask(ctx); err == nil && len(n.Events) == 0 {
			t.Errorf("a %s says that nothing has happened: %+v", name, n)
		}
		cancel()
	}
	l.gate.Unlock()
	if n := poll(t, f, reg.Position); !sameEvents(n.Events, []feed.Event{ofKey(token)}) {
		t.Errorf("afterwards: %+v", n.Events)
	}
}

// TestEventsOfTheSameTurn: an answer of the turn of the server's loop in which a key
// changed overtakes what tells of the change. The position waits for it.
func TestEventsOfTheSameTurn(t *testing.T) {
	s := redistest.Start(t)
	i, pauses := redistest.NewIssuer(t, s, prefix), redistest.NewIssuer(t, s, prefix)
	l := newLink(t, s, 5*time.Millisecond)
	f := openFeedAt(t, redis.Config{URL: l.url, Prefix: prefix})
	reg := register(t, f)
	met := 0
	for round := 0; met < 5; round++ {
		if round == 200 {
			t.Fatalf("the answer overtook in %d rounds of %d", met, round)
		}
		token, _ := i.SignIn("ann")
		from := poll(t, f, reg.Position)
		// Both of these wait, and are run in one turn.
		pauses.Do("CLIENT", "PAUSE", "20", "ALL")
		ended := make(chan string, 1)
		go func() {
			n, err := i.Do("EVAL", "redis.call('DEL', KEYS[1]) return redis.call('HINCRBY', KEYS[2], 'rev', 1)", "2", prefix+token, "sessiond:{"+prefix+"}").AsInt64()
			if err != nil {
				t.Error(err)
			}
			ended <- strconv.FormatInt(n, 10)
		}()
		n := poll(t, f, from.Position)
		covered, err := f.Covers(n.Position, n.Era, feed.Revision(string(n.Era)+","+<-ended))
		if err != nil {
			t.Fatal(err)
		}
		if covered {
			met++
			if !sameEvents(n.Events, []feed.Event{ofKey(token)}) {
				t.Fatalf("the position covers an end that was not told: %+v", n)
			}
		}
	}
}

// held is a store whose answers may be held back.
type held struct {
	store.Store
	read    chan struct{} // told when an answer has been read
	release chan struct{} // closed: answers go out at once
}

func (h *held) Lookup(ctx context.Context, era store.Era, tokens []string) ([]store.Record, error) {
	records, err := h.Store.Lookup(ctx, era, tokens)
	select {
	case h.read <- struct{}{}:
		<-h.release
	case <-h.release:
	}
	return records, err
}

// TestNoResurrection: a session that ended while it was read, and whose end came over
// the other connection before the answer, is not kept (X3, A2).
func TestNoResurrection(t *testing.T) {
	for name, end := range map[string]func(i *redistest.Issuer, token string){
		"key": func(i *redistest.Issuer, token string) { i.SignOut(token) },
		"mark": func(i *redistest.Issuer, _ string) {
			i.Do("SET", prefix+"revoked-sessions-before-ann", "4070908800000")
		},
		"expiry": func(i *redistest.Issuer, token string) { i.Do("PEXPIREAT", prefix+token, "1") },
	} {
		t.Run(name, func(t *testing.T) {
			s := redistest.Start(t)
			i := redistest.NewIssuer(t, s, prefix)
			token, _ := i.SignIn("ann")
			c := redis.Config{URL: s.URL(), Prefix: prefix, RevokedMarks: true}
			h := &held{Store: open(t, c), read: make(chan struct{}), release: make(chan struct{})}
			r := replica.New(replica.Config{
				Bound: clock.Bound(feedtest.Bound), Store: h, Source: openFeedAt(t, c),
				CacheBytes: 1 << 20, MaxBatch: 8, MaxReads: 8, ReadTimeout: time.Minute, QueueLimit: 8, Log: slog.New(slog.DiscardHandler),
			})
			ctx, cancel := context.WithCancel(t.Context())
			running := make(chan error, 1)
			go func() { running <- r.Run(ctx) }()
			defer func() {
				cancel()
				if err := <-running; err != nil {
					t.Error(err)
				}
				r.Close()
			}()
			until(t, "proven", func() bool { _, ok := r.Proof(); return ok })
			ask := func() (cache.Answer, error) {
				return r.Get(t.Context(), cache.Question{Token: token, Key: feed.KeyOf(token), Arrived: clock.Now(), MaxAge: feedtest.Bound})
			}
			asked := make(chan error, 1)
			go func() {
				_, err := ask()
				asked <- err
			}()
			<-h.read
			end(i, token)
			if err := r.Settle(t.Context()); err != nil {
				t.Error(err)
			}
			close(h.release)
			if err := <-asked; err != nil {
				t.Error(err)
			}
			answer, err := ask()
			if err != nil || answer.Record.Found && !answer.Record.Revoked {
				t.Errorf("accepted after its end: %+v, %v", answer, err)
			}
		})
	}
}
