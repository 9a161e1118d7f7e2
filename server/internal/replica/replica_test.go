package replica_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server/internal/cache"
	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/feed/feedtest"
	"github.com/sessiond/sessiond/server/internal/hub"
	"github.com/sessiond/sessiond/server/internal/replica"
)

const bound = clock.Bound(feedtest.Bound)

// fleet is a memory and replicas over it, in a bubble of virtual time.
type fleet struct {
	t      *testing.T
	memory *feedtest.Memory
}

func newFleet(t *testing.T) *fleet {
	return &fleet{t: t, memory: feedtest.NewMemory(feedtest.Bound)}
}

// member is a replica that runs until it is stopped, as a crash would stop it.
type member struct {
	*replica.Replica
	source *gate
	stop   func()
}

// gate is a replica's way to its feed, which can be closed.
type gate struct {
	feed.Source
	mu     sync.Mutex
	closed bool
	// polls lets polls through although the gate is closed.
	polls bool
	// beats are those that were sent, acknowledged or not.
	beats []feed.Beat
	// loseAnswers has what is done not be heard of.
	loseAnswers bool
	// reads are all polls and beats: from where, and whether they failed.
	reads []feedRead
}

type feedRead struct {
	from   feed.Position
	failed bool
}

func (g *gate) note(from feed.Position, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reads = append(g.reads, feedRead{from, err != nil})
}

var errGate = errors.New("the gate is closed")

func (g *gate) set(closed, polls bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed, g.polls = closed, polls
}

func (g *gate) open(poll bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed && (!poll || !g.polls) {
		return errGate
	}
	return nil
}

func (g *gate) Register(ctx context.Context, b time.Duration) (feed.Registration, error) {
	if err := g.open(false); err != nil {
		return feed.Registration{}, err
	}
	return g.Source.Register(ctx, b)
}

func (g *gate) Poll(ctx context.Context, from feed.Position) (feed.News, error) {
	if err := g.open(true); err != nil {
		return feed.News{}, err
	}
	n, err := g.Source.Poll(ctx, from)
	g.note(from, err)
	return n, err
}

func (g *gate) Beat(ctx context.Context, b feed.Beat) (feed.News, error) {
	g.mu.Lock()
	g.beats = append(g.beats, b)
	lose := g.loseAnswers
	g.mu.Unlock()
	if err := g.open(false); err != nil {
		return feed.News{}, err
	}
	n, err := g.Source.Beat(ctx, b)
	if lose && err == nil {
		n, err = feed.News{}, errGate
	}
	g.note(b.From, err)
	return n, err
}

func (g *gate) sent() []feed.Beat {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.beats)
}

func (f *fleet) start() *member {
	m := &member{source: &gate{Source: f.memory.Source()}}
	m.Replica = replica.New(replica.Config{
		Bound: bound, Store: f.memory.Store(), Source: m.source, CacheBytes: 1 << 20, MaxBatch: 8, MaxReads: 2,
		ReadTimeout: time.Second, QueueLimit: 16, Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := m.Run(ctx); err != nil {
			f.t.Error(err)
		}
	}()
	m.stop = func() {
		cancel()
		<-done
		m.Close()
	}
	return m
}

// settle lets a time pass.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func ask(t *testing.T, m *member, token string) cache.Answer {
	t.Helper()
	a, err := m.Get(t.Context(), cache.Question{Token: token, Key: feed.KeyOf(token), Arrived: clock.Now(), MaxAge: time.Duration(bound)})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// warm has the replica keep a session.
func warm(t *testing.T, m *member, token string) {
	t.Helper()
	ask(t, m, token)
	if a := ask(t, m, token); !a.FromCache || !a.Record.Found {
		t.Fatalf("not kept: %+v", a)
	}
}

// watcher acknowledges and renews as a client does, unless it is stopped.
type watcher struct {
	*hub.Watcher
	mu     sync.Mutex
	silent bool
	events []feed.Event
	leased clock.Instant // when its lease is of
	cancel context.CancelFunc
}

func watch(t *testing.T, m *member) *watcher {
	t.Helper()
	inner, err := m.Watch("test")
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{Watcher: inner, leased: clock.Never}
	ctx, cancel := context.WithCancel(t.Context())
	w.cancel = cancel
	sent := map[uint64]clock.Instant{}
	var mu sync.Mutex
	go func() {
		for n := uint64(1); ctx.Err() == nil; n++ {
			mu.Lock()
			sent[n] = clock.Now()
			mu.Unlock()
			inner.Renew(n, m.Proof)
			timer := time.NewTimer(bound.Beat())
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
			}
		}
	}()
	go func() {
		for {
			message, err := inner.Next(ctx)
			if err != nil {
				return
			}
			w.mu.Lock()
			w.events = append(w.events, message.Events...)
			silent := w.silent
			if g := message.Grant; g != nil {
				mu.Lock()
				w.leased = max(w.leased, clock.AsOf(sent[g.Renew], g.Age))
				mu.Unlock()
			}
			w.mu.Unlock()
			if !silent {
				if err := inner.Ack(message.Number); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	return w
}

// TestEventsEndEntries: what the issuer ends is forgotten at the next poll.
func TestEventsEndEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		m := f.start()
		defer m.stop()
		settle(time.Second)
		token, _ := f.memory.SignIn("ann")
		warm(t, m, token)
		f.memory.SignOut(token)
		settle(50 * time.Millisecond)
		if a := ask(t, m, token); a.Record.Found {
			t.Error("accepted after the event")
		}
	})
}

// TestProofIsOfTheSending is F2: the proof counts from when the beat was sent, and
// polls prove nothing.
func TestProofIsOfTheSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		f.memory.SetDelay(100 * time.Millisecond)
		m := f.start()
		defer m.stop()
		settle(5 * time.Second)
		for range 50 {
			settle(37 * time.Millisecond)
			beats := m.source.sent()
			proof, ok := m.Proof()
			if !ok || len(beats) == 0 {
				t.Fatal("no proof")
			}
			// A statement takes 150 ms: whatever is proven was sent before that.
			if age := clock.Now().Sub(proof); age < 150*time.Millisecond {
				t.Fatalf("the proof is %v old, and no beat that was sent so late has been answered", age)
			}
		}
		m.source.set(true, true) // polls go on, beats do not
		before, _ := m.Proof()
		settle(2 * time.Second)
		if after, _ := m.Proof(); after > before.Add(bound.Beat()) {
			t.Error("polls renew the proof")
		}
	})
}

// TestSilentFeed is A4 and G3: the cache goes on while the proof is young and
// passes through after that.
func TestSilentFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		m := f.start()
		defer m.stop()
		settle(time.Second)
		token, _ := f.memory.SignIn("ann")
		warm(t, m, token)
		m.source.set(true, false)
		f.memory.SignOut(token)
		settle(3 * time.Second)
		if a := ask(t, m, token); !a.FromCache {
			t.Error("the cache gave up while its proof was young")
		}
		settle(2 * time.Second)
		if a := ask(t, m, token); a.FromCache || a.Record.Found {
			t.Errorf("%+v a bound after the end", a)
		}
		if _, err := m.Watch("new"); err == nil {
			settle(time.Second)
			if _, err := m.Watch("new"); err == nil {
				t.Error("a Watch is opened without a place in the registry")
			}
		}
		m.source.set(false, false)
		settle(2 * time.Second)
		token, _ = f.memory.SignIn("ann")
		warm(t, m, token)
	})
}

// TestAnswerOfABeatLost is F3 and F7: after a beat whose answer was lost the feed is
// read again from the last acknowledged one, and no beat writes a later position.
func TestAnswerOfABeatLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		m := f.start()
		defer m.stop()
		settle(2 * time.Second)
		token, _ := f.memory.SignIn("ann")
		warm(t, m, token)
		acked := m.source.sent()
		m.source.mu.Lock()
		m.source.loseAnswers = true
		m.source.mu.Unlock()
		m.source.set(false, false)
		f.memory.SignOut(token)
		settle(500 * time.Millisecond) // polls see it
		settle(bound.Beat())           // a beat is lost
		lost := m.source.sent()[len(acked):]
		if len(lost) == 0 {
			t.Fatal("no beat was sent")
		}
		for _, b := range lost {
			if b.Acked != int64(len(acked))+1 || b.Number <= b.Acked {
				t.Errorf("beat %+v after %d acknowledged", b, len(acked)+1)
			}
			if b.Written != lost[0].Written {
				t.Errorf("a beat writes %s, the last acknowledged one brought %s", b.Written, lost[0].Written)
			}
		}
		m.source.mu.Lock()
		for i, r := range m.source.reads[1:] {
			if m.source.reads[i].failed && r.from != lost[0].Written {
				t.Errorf("after a failure the feed is read from %s, and the last acknowledged beat brought %s", r.from, lost[0].Written)
			}
		}
		m.source.loseAnswers = false
		m.source.mu.Unlock()
		settle(2 * time.Second)
		last := m.source.sent()
		if b := last[len(last)-1]; b.Written == lost[0].Written {
			t.Error("the written position does not move on")
		}
	})
}

// TestNewEra is F4 and F6: another life of the server means forget all, and nothing
// that was asked before is kept.
func TestNewEra(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		m := f.start()
		defer m.stop()
		settle(time.Second)
		token, _ := f.memory.SignIn("ann")
		warm(t, m, token)
		w := watch(t, m)
		defer w.cancel()
		settle(time.Second)
		before := f.memory.Replicas()
		f.memory.Crash(0)
		settle(500 * time.Millisecond)
		w.mu.Lock()
		told := slices.ContainsFunc(w.events, func(e feed.Event) bool { return e.Kind == feed.KindAll })
		w.mu.Unlock()
		if !told {
			t.Error("the watcher was not told to forget all")
		}
		if a := ask(t, m, token); a.FromCache {
			t.Error("an entry of the era before is used")
		}
		after := f.memory.Replicas()
		if len(after) != 2 || slices.Equal(before, after) {
			t.Errorf("registry %v, then %v: a new registration beside the old one is wanted (G2)", before, after)
		}
		settle(bound.Wait() + 2*bound.Beat())
		if left := f.memory.Replicas(); len(left) != 1 {
			t.Errorf("%d rows: the old one's beat has stood still for the bound (G4)", len(left))
		}
	})
}

// revoke runs a Revoke and returns how long it took.
func revoke(t *testing.T, m *member, token string) (time.Duration, error) {
	t.Helper()
	start := clock.Now()
	_, err := m.Revoke(t.Context(), feed.Target{Token: token})
	return clock.Now().Sub(start), err
}

// TestRevoke is V2 and V3, by who there is to wait for.
func TestRevoke(t *testing.T) {
	soon := 200 * time.Millisecond
	tests := map[string]struct {
		before func(t *testing.T, f *fleet, m *member) (after func())
		early  bool // before the registry may be believed (G6)
		least  time.Duration
		most   time.Duration
	}{
		"alone": {before: func(*testing.T, *fleet, *member) func() { return nil }, most: soon},
		"too new to believe the registry": {
			before: func(*testing.T, *fleet, *member) func() { return nil },
			early:  true, least: time.Second, most: bound.Wait() + soon,
		},
		"a watcher that acknowledges": {before: func(t *testing.T, _ *fleet, m *member) func() { return watch(t, m).cancel }, most: soon},
		"a watcher that is silent": {before: func(t *testing.T, _ *fleet, m *member) func() {
			w := watch(t, m)
			settle(bound.Beat() + time.Millisecond)
			w.mu.Lock()
			w.silent = true
			w.mu.Unlock()
			return w.cancel
		}, least: time.Duration(bound) * 7 / 10, most: bound.Wait() + soon},
		"a watcher whose stream broke": {before: func(t *testing.T, _ *fleet, m *member) func() {
			w := watch(t, m)
			settle(bound.Beat() + time.Millisecond)
			w.cancel()
			w.Close()
			return nil
		}, least: time.Duration(bound) * 7 / 10, most: bound.Wait() + soon},
		"another replica": {before: func(_ *testing.T, f *fleet, _ *member) func() {
			other := f.start()
			settle(time.Second)
			return other.stop
		}, most: soon},
		"another replica with a silent watcher": {before: func(t *testing.T, f *fleet, _ *member) func() {
			other := f.start()
			settle(time.Second)
			w := watch(t, other)
			settle(bound.Beat() + time.Millisecond)
			w.mu.Lock()
			w.silent = true
			w.mu.Unlock()
			return func() { w.cancel(); other.stop() }
		}, least: time.Duration(bound) * 7 / 10, most: bound.Wait() + soon},
		"another replica that was killed just now": {before: func(_ *testing.T, f *fleet, _ *member) func() {
			other := f.start()
			settle(time.Second)
			other.stop()
			return nil
		}, least: time.Duration(bound) * 7 / 10, most: bound.Wait() + soon},
		"another replica that was killed long ago": {before: func(_ *testing.T, f *fleet, _ *member) func() {
			other := f.start()
			settle(time.Second)
			other.stop()
			settle(bound.Wait() + 2*bound.Beat())
			return nil
		}, most: soon},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t)
				m := f.start()
				defer m.stop()
				settle(time.Second)
				if !tt.early {
					settle(bound.Wait())
				}
				token, _ := f.memory.SignIn("ann")
				warm(t, m, token)
				if after := tt.before(t, f, m); after != nil {
					defer after()
				}
				took, err := revoke(t, m, token)
				if err != nil || took < tt.least || took > tt.most {
					t.Errorf("took %v, %v; want from %v to %v", took, err, tt.least, tt.most)
				}
				if a := ask(t, m, token); a.Record.Found {
					t.Error("accepted after Revoke returned")
				}
				synctest.Wait()
			})
		})
	}
}

// TestRevokeRepeats is V5: where the server was lost meanwhile, so may the commit be.
func TestRevokeRepeats(t *testing.T) {
	losses := map[string]func(f *fleet){
		"another era": func(f *fleet) { f.memory.Crash(0) },
		"the row is gone": func(f *fleet) {
			for _, id := range f.memory.Replicas() {
				f.memory.Forget(id)
			}
		},
	}
	for name, lose := range losses {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t)
				m := f.start()
				defer m.stop()
				settle(time.Second)
				token, _ := f.memory.SignIn("ann")
				go func() {
					time.Sleep(time.Second)
					lose(f)
				}()
				if took, err := revoke(t, m, token); !errors.Is(err, feed.ErrRepeat) {
					t.Errorf("took %v: %v", took, err)
				}
			})
		})
	}
}

// TestDoneOfAnotherEra is V2: a row that was done in an era before says nothing.
func TestDoneOfAnotherEra(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		begun := clock.Now()
		m := f.start()
		defer m.stop()
		other := f.start()
		settle(bound.Wait() + time.Second)
		// The other replica does not hear of the crash, and its done of before covers
		// any number of after it.
		for range 5 {
			token, _ := f.memory.SignIn("ann")
			f.memory.SignOut(token)
		}
		settle(2 * time.Second)
		other.source.set(true, false)
		defer other.stop()
		// Just after the registry was read: so it is believed for most of a beat
		// before the other's row is old enough to be removed.
		settle(bound.Beat() + bound.Beat()/20 - clock.Now().Sub(begun)%bound.Beat())
		f.memory.Crash(2)
		settle(bound.Wait() + bound.Beat()/10)
		token, _ := f.memory.SignIn("ann")
		if took, err := revoke(t, m, token); err != nil || took < bound.Beat()/2 {
			t.Errorf("took %v, %v: it did not wait for a replica that knows nothing of this era", took, err)
		}
	})
}

// TestRevisions is V4.
func TestRevisions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		m := f.start()
		defer m.stop()
		settle(time.Second)
		token, _ := f.memory.SignIn("ann")
		f.memory.SignOut(token)
		revision, err := m.Revision(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if read, err := m.NeedsRead(revision); err != nil || !read {
			t.Errorf("before the feed has it: %t, %v", read, err)
		}
		settle(100 * time.Millisecond)
		if read, err := m.NeedsRead(revision); err != nil || !read {
			t.Errorf("when a poll has it, which has not looked at the triggers: %t, %v", read, err)
		}
		settle(bound.Beat())
		if read, err := m.NeedsRead(revision); err != nil || read {
			t.Errorf("when a beat has it: %t, %v", read, err)
		}
		if _, err := m.NeedsRead("nonsense"); err == nil {
			t.Error("nonsense is taken for a revision")
		}
	})
}

// TestWithoutAFeedOrMemory: who remembers nothing himself still says that nobody
// would tell, or clients would remember for as long as he lends leases (A7).
func TestWithoutAFeedOrMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		m := &member{Replica: replica.New(replica.Config{
			Bound: bound, Store: f.memory.Store(), MaxBatch: 8, MaxReads: 2, ReadTimeout: time.Second, QueueLimit: 16, Log: slog.Default(),
		})}
		defer m.Close()
		token, _ := f.memory.SignIn("ann")
		for range 2 {
			if a := ask(t, m, token); !a.Untracked || a.FromCache {
				t.Errorf("%+v", a)
			}
		}
	})
}

// TestWithoutAFeed is A7: entries age out by their own read, and nothing is revoked.
func TestWithoutAFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		m := &member{Replica: replica.New(replica.Config{
			Bound: bound, Store: f.memory.Store(), CacheBytes: 1 << 20, MaxBatch: 8, MaxReads: 2, ReadTimeout: time.Second, QueueLimit: 16, Log: slog.Default(),
		})}
		defer m.Close()
		token, _ := f.memory.SignIn("ann")
		warm(t, m, token)
		if a := ask(t, m, token); !a.Untracked {
			t.Error("the answer does not say that nobody would tell")
		}
		f.memory.SignOut(token)
		settle(bound.Lease())
		if a := ask(t, m, token); a.Record.Found {
			t.Error("accepted a bound after the end")
		}
		if _, err := m.Revoke(t.Context(), feed.Target{Token: token}); !errors.Is(err, replica.ErrNoFeed) {
			t.Errorf("revoke: %v", err)
		}
		if _, err := m.Revision(t.Context()); !errors.Is(err, replica.ErrNoRevisions) {
			t.Errorf("revision: %v", err)
		}
	})
}
