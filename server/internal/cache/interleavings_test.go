package cache_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/internal/interleave"
	"github.com/sessiond/sessiond/server/internal/cache"
	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/store"
)

const bound = clock.Bound(5 * time.Second)

// scene is one session, ended once, while callers ask for it in every order.
type scene struct {
	c     *interleave.Chooser
	cache *cache.Cache
	state cache.State

	alive     bool
	committed bool       // the session has ended in the store
	applied   bool       // and the event was applied
	mu        sync.Mutex // lookups may begin at one step
	lookups   []*lookup
	callers   []*caller
}

// lookup is one on its way: it reads the store at one step and answers at another.
type lookup struct {
	read, answered bool
	tokens         []string
	records        []store.Record
	answer         chan struct{}
}

// caller asks once.
type caller struct {
	name string
	ask  cache.Question
	// begun while the session had ended, and while the event was applied.
	begun, afterCommit, afterApply bool
	done                           bool
	found                          bool
	err                            error
}

const (
	token = "the-token"
	user  = "the-user"
)

func newScene(c *interleave.Chooser, state cache.State) *scene {
	s := &scene{c: c, state: state, alive: true}
	s.cache = cache.New(cache.Config{
		Bound: bound, MaxBytes: 1 << 20, MaxBatch: 8, MaxFlights: 2, Timeout: time.Hour,
		State: func() cache.State { return s.state }, Lookup: s.lookup,
	})
	return s
}

func (s *scene) lookup(ctx context.Context, tokens []string) (cache.Reading, error) {
	l := &lookup{tokens: tokens, answer: make(chan struct{})}
	s.mu.Lock()
	s.lookups = append(s.lookups, l)
	s.mu.Unlock()
	select {
	case <-l.answer:
		return cache.Reading{Records: l.records, Cacheable: true}, nil
	case <-ctx.Done():
		return cache.Reading{}, ctx.Err()
	}
}

func (s *scene) record() store.Record {
	if !s.alive {
		return store.Record{}
	}
	return store.Record{Found: true, Session: store.Session{ID: "s", UserID: user}, User: &store.User{ID: user}}
}

func (s *scene) add(name string, maxAge time.Duration) {
	s.callers = append(s.callers, &caller{name: name, ask: cache.Question{Token: token, Key: feed.KeyOf(token), MaxAge: maxAge}})
}

// steps are those that are possible now.
func (s *scene) steps(event feed.Event) []interleave.Step {
	var out []interleave.Step
	add := func(name string, do func()) { out = append(out, interleave.Step{Name: name, Do: do}) }
	for _, k := range s.callers {
		if !k.begun {
			add(k.name+" asks", func() { s.begin(k) })
			break // the callers are alike: their order does not matter
		}
	}
	if !s.committed {
		add("the session ends in the store", func() { s.alive, s.committed = false, true })
	} else if !s.applied {
		add("the event is applied", func() {
			s.cache.Apply([]feed.Event{event})
			s.applied = true
		})
	}
	for i, l := range s.lookups {
		switch {
		case !l.read:
			add(fmt.Sprintf("lookup %d reads", i+1), func() {
				l.read = true
				for range l.tokens {
					l.records = append(l.records, s.record())
				}
			})
		case !l.answered:
			add(fmt.Sprintf("lookup %d answers", i+1), func() { l.answered = true; close(l.answer) })
		}
	}
	return out
}

func (s *scene) begin(k *caller) {
	k.begun, k.afterCommit, k.afterApply = true, s.committed, s.applied
	k.ask.Arrived = clock.Now()
	go func() {
		answer, err := s.cache.Get(context.Background(), k.ask)
		k.done, k.err = true, err
		if err == nil {
			k.found = answer.Record.Found
			s.c.Note("%s is told found=%t, from memory %t", k.name, k.found, answer.FromCache)
		}
	}()
}

// run does all steps in the chosen order and then lets everybody end.
func (s *scene) run(event feed.Event, tick func()) {
	synctest.Wait()
	for s.c.Next(s.steps(event)) {
		synctest.Wait()
		if tick != nil {
			tick()
		}
	}
	s.cache.Close()
	synctest.Wait()
}

var events = map[string]feed.Event{
	"key":  {Kind: feed.KindKey, Key: feed.KeyOf(token)},
	"user": {Kind: feed.KindUser, User: user},
	"all":  {Kind: feed.KindAll},
}

// TestNoResurrection: whoever asks after an event was applied is never told that
// what it ended is there, whatever is on its way (A1, A2, A3, A6).
func TestNoResurrection(t *testing.T) {
	for name, event := range events {
		t.Run(name, func(t *testing.T) {
			orders := interleave.Explore(t, 200_000, func(_ *testing.T, c *interleave.Chooser) string {
				s := newScene(c, cache.State{Mode: cache.ModeTracked, Proof: clock.Now()})
				for _, caller := range []string{"A", "B", "C"} {
					s.add(caller, time.Duration(bound))
				}
				s.run(event, func() { s.state.Proof = clock.Now() })
				for _, k := range s.callers {
					switch {
					case !k.done || k.err != nil:
						return fmt.Sprintf("%s was not answered: %v", k.name, k.err)
					case k.afterApply && k.found:
						return "P5: " + k.name + " asked after the event was applied and was told that the session is there"
					}
				}
				return ""
			})
			t.Logf("%d orders", orders)
		})
	}
}

// TestWithoutAProof: while the feed cannot be believed every answer is a read that
// was sent after its question, whatever is in memory or on its way (A3, A4).
func TestWithoutAProof(t *testing.T) {
	for _, proof := range []struct {
		name string
		age  time.Duration
	}{{"none", -1}, {"too old", bound.Lease()}} {
		t.Run(proof.name, func(t *testing.T) {
			orders := interleave.Explore(t, 200_000, func(_ *testing.T, c *interleave.Chooser) string {
				state := cache.State{Mode: cache.ModeTracked, Proof: clock.Never}
				if proof.age >= 0 {
					state.Proof = clock.Now().Add(-proof.age)
				}
				s := newScene(c, state)
				s.add("A", time.Duration(bound))
				s.add("B", time.Duration(bound))
				s.run(events["key"], nil)
				for _, k := range s.callers {
					if k.afterCommit && k.found {
						return "P3: " + k.name + " asked after the end, without a proof, and was told that the session is there"
					}
				}
				return ""
			})
			t.Logf("%d orders", orders)
		})
	}
}

// TestStrict: a strict question is answered by a read that was sent after it (A3).
func TestStrict(t *testing.T) {
	orders := interleave.Explore(t, 200_000, func(_ *testing.T, c *interleave.Chooser) string {
		s := newScene(c, cache.State{Mode: cache.ModeTracked, Proof: clock.Now()})
		s.add("A", time.Duration(bound))
		s.add("B, strict", 0)
		s.run(events["key"], nil)
		if b := s.callers[1]; b.afterCommit && b.found {
			return "a strict question that began after the end was told that the session is there"
		}
		return ""
	})
	t.Logf("%d orders", orders)
}

// TestMoreThanABatch: questions that gather while all lookups are on their way are
// all answered, in lookups of the size that is allowed.
func TestMoreThanABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var largest, answered atomic.Int64
		release := make(chan struct{})
		c := cache.New(cache.Config{
			Bound: bound, MaxBytes: 1 << 20, MaxBatch: 8, MaxFlights: 1, Timeout: time.Hour,
			State: func() cache.State { return cache.State{Mode: cache.ModeBypass, Proof: clock.Never} },
			Lookup: func(_ context.Context, tokens []string) (cache.Reading, error) {
				for n := int64(len(tokens)); ; {
					if most := largest.Load(); n <= most || largest.CompareAndSwap(most, n) {
						break
					}
				}
				<-release
				records := make([]store.Record, len(tokens))
				for i, token := range tokens {
					records[i] = store.Record{Found: true, Session: store.Session{ID: token}}
				}
				return cache.Reading{Records: records}, nil
			},
		})
		defer c.Close()
		for caller := range 4 {
			go func() {
				qs, out := make([]cache.Question, 20), make([]cache.Answer, 20)
				for i := range qs {
					token := fmt.Sprintf("%d-%d", caller, i)
					qs[i] = cache.Question{Token: token, Key: feed.KeyOf(token), Arrived: clock.Now()}
				}
				if err := c.GetBatch(t.Context(), qs, out); err != nil {
					t.Error(err)
				}
				for i := range out {
					if out[i].Record == nil || out[i].Record.Session.ID != qs[i].Token {
						t.Errorf("%s got %+v", qs[i].Token, out[i].Record)
						continue
					}
					answered.Add(1)
				}
			}()
			synctest.Wait()
		}
		close(release)
		synctest.Wait()
		if answered.Load() != 80 || largest.Load() != 8 {
			t.Errorf("%d of 80 answered, the largest lookup was of %d", answered.Load(), largest.Load())
		}
	})
}

// TestJoining: a question shares a lookup on its way only where memory could have
// answered it (A3), or before that is sent.
func TestJoining(t *testing.T) {
	for _, c := range []struct {
		name      string
		meanwhile func(*scene)
		want      int
	}{
		{"at once", func(*scene) {}, 1},
		{"proof renewed", func(s *scene) { time.Sleep(bound.Lease() - 1); s.state.Proof = clock.Now() }, 1},
		{"proof too old", func(*scene) { time.Sleep(bound.Lease()) }, 2},
		{"long ago", func(s *scene) { time.Sleep(bound.Lease()); s.state.Proof = clock.Now() }, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(&interleave.Chooser{}, cache.State{Mode: cache.ModeTracked, Proof: clock.Now()})
				defer s.cache.Close()
				s.add("A", time.Duration(bound))
				s.add("B", time.Duration(bound))
				s.begin(s.callers[0])
				synctest.Wait()
				c.meanwhile(s)
				s.begin(s.callers[1])
				synctest.Wait()
				if len(s.lookups) != c.want {
					t.Errorf("%d lookups on their way, want %d", len(s.lookups), c.want)
				}
			})
		})
	}
}
