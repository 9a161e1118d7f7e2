package redis_test

import (
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/feed/feedtest"
	"github.com/sessiond/sessiond/server/internal/redistest"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/redis"
)

func register(t testing.TB, f *redis.Feed) feed.Registration {
	t.Helper()
	reg, err := f.Register(t.Context(), feedtest.Bound)
	if err != nil {
		t.Fatal(err)
	}
	return reg
}

func poll(t testing.TB, f *redis.Feed, from feed.Position) feed.News {
	t.Helper()
	n, err := f.Poll(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// until waits for what a server does by itself.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("never %s", what)
		}
	}
}

func answer(t testing.TB, i *redistest.Issuer, command ...string) string {
	t.Helper()
	r := i.Do(command...)
	text, err := r.ToString()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func ofKey(token string) feed.Event { return feed.Event{Kind: feed.KindKey, Key: feed.KeyOf(token)} }

// TestWhatIsAnEvent: every way in which a session's key changes is told as its event,
// and nothing else is.
func TestWhatIsAnEvent(t *testing.T) {
	for _, prefix := range []string{prefix, "", "s"} {
		t.Run("prefix "+prefix, func(t *testing.T) {
			s := redistest.Start(t)
			i := redistest.NewIssuer(t, s, prefix)
			f := openFeed(t, s, redis.Config{Prefix: prefix, RevokedMarks: true})
			token, _ := i.SignIn("ann")
			reg := register(t, f)
			other := openFeed(t, s, redis.Config{Prefix: prefix})
			for _, tt := range []struct {
				name string
				do   func()
				want []feed.Event
			}{
				{"deleted", func() { i.SignOut(token) }, []feed.Event{ofKey(token)}},
				{"unlinked", func() { i.Do("SET", prefix+"t", "x"); i.Do("UNLINK", prefix+"t") }, []feed.Event{ofKey("t")}},
				{"written anew", func() { i.Do("SET", prefix+"t", "y") }, []feed.Event{ofKey("t")}},
				{"renamed", func() { i.Do("RENAME", prefix+"t", prefix+"v") }, []feed.Event{ofKey("t"), ofKey("v")}},
				{"its end", func() { i.Do("EXPIRE", prefix+"v", "1000") }, []feed.Event{ofKey("v")}},
				{"a user's mark", func() { i.Do("SET", prefix+"revoked-sessions-before-bob", "1") }, []feed.Event{{Kind: feed.KindUser, User: "bob"}}},
				{"a user's list", func() { i.Do("SET", prefix+"active-sessions-bob", "[]") }, nil},
				{"another registered", func() { register(t, other) }, nil},
				{"a revision was read", func() { revision(t, other) }, nil},
			} {
				from := poll(t, f, reg.Position)
				tt.do()
				n := poll(t, f, from.Position)
				if n.Overflow || !sameEvents(n.Events, tt.want) {
					t.Errorf("%s: %+v, want %+v", tt.name, n, tt.want)
				}
			}
			if prefix == "" {
				return // everybody's keys may be sessions
			}
			from := poll(t, f, reg.Position)
			i.Do("SET", "x"+token, "another program's")
			if n := poll(t, f, from.Position); len(n.Events) != 0 {
				t.Errorf("a key without the prefix: %+v", n.Events)
			}
		})
	}
}

func revision(t testing.TB, f *redis.Feed) feed.Revision {
	t.Helper()
	r, err := f.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// sameEvents compares in any order, each as often as it may come.
func sameEvents(got, want []feed.Event) bool {
	for _, e := range got {
		if !slices.Contains(want, e) {
			return false
		}
	}
	for _, e := range want {
		if !slices.Contains(got, e) {
			return false
		}
	}
	return true
}

// TestUntold: a connection that is told of nothing proves nothing.
func TestUntold(t *testing.T) {
	s := redistest.Start(t)
	// The older protocol has no messages that nobody asked for: the server takes the
	// command and sends nothing.
	_, err := redis.OpenFeed(t.Context(), redis.Config{URL: s.URL() + "?protocol=2", Prefix: prefix}, time.Hour)
	if !errors.Is(err, feed.ErrNotInstalled) || !strings.Contains(err.Error(), "RESP3") {
		t.Errorf("%v", err)
	}
}

// TestOpenFeedRefuses: whoever may not be told of changes has no feed.
func TestOpenFeedRefuses(t *testing.T) {
	s := redistest.Start(t)
	i := redistest.NewIssuer(t, s, prefix)
	i.Do("ACL", "SETUSER", "narrow", "on", ">hunter2", "~*", "+@all", "-client|tracking")
	url := "redis://narrow:hunter2@" + s.Address
	_, err := redis.OpenFeed(t.Context(), redis.Config{URL: url, Prefix: prefix}, time.Hour)
	if !errors.Is(err, feed.ErrNotInstalled) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("without the right to CLIENT TRACKING: %v", err)
	}
	i.Do("ACL", "SETUSER", "narrow", "+client|tracking", "resetkeys", "~"+prefix+"*")
	if _, err := redis.OpenFeed(t.Context(), redis.Config{URL: url, Prefix: prefix}, time.Hour); !errors.Is(err, feed.ErrNotInstalled) {
		t.Errorf("without the right to sessiond's own keys: %v", err)
	}
	s.Stop(t)
	if _, err := redis.OpenFeed(t.Context(), redis.Config{URL: s.URL(), Prefix: prefix}, time.Hour); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("away: %v", err)
	}
}

// TestForgetAll: where changes may have been missed, everything is forgotten or the
// place is lost.
func TestForgetAll(t *testing.T) {
	for name, tt := range map[string]struct {
		do   func(i *redistest.Issuer)
		lost bool
	}{
		"the connection is lost": {do: func(i *redistest.Issuer) { i.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") }},
		"another database is flushed": {do: func(i *redistest.Issuer) {
			i.Do("SWAPDB", "3", "4")
			i.Do("EVAL", "redis.call('SELECT', 3) redis.call('FLUSHDB')", "0")
		}},
		"everything is flushed":  {lost: true, do: func(i *redistest.Issuer) { i.Do("FLUSHALL") }},
		"databases are swapped":  {lost: true, do: func(i *redistest.Issuer) { i.Do("SWAPDB", "0", "1") }},
		"the feed is evicted":    {lost: true, do: func(i *redistest.Issuer) { i.Do("DEL", "sessiond:{"+prefix+"}") }},
		"its events are evicted": {lost: true, do: func(i *redistest.Issuer) { i.Do("DEL", "sessiond:{"+prefix+"}:events") }},
	} {
		t.Run(name, func(t *testing.T) {
			s := redistest.Start(t)
			i := redistest.NewIssuer(t, s, prefix)
			token, _ := i.SignIn("ann")
			f := openFeed(t, s, redis.Config{Prefix: prefix})
			reg := register(t, f)
			before := poll(t, f, reg.Position)
			tt.do(i)
			i.SignOut(token)
			n, err := f.Poll(t.Context(), before.Position)
			for tries := 0; errors.Is(err, store.ErrUnavailable) && tries < 3; tries++ { // found out by asking
				n, err = f.Poll(t.Context(), before.Position)
			}
			if tt.lost {
				if !errors.Is(err, feed.ErrLostPlace) {
					t.Fatalf("%+v, %v", n, err)
				}
				again := register(t, f)
				if again.Era == reg.Era || again.ID == reg.ID {
					t.Errorf("the new life has the old one's name: %+v", again)
				}
				i.SignOut(token)
				if _, err := f.Revoke(t.Context(), feed.Target{Token: token}); err != nil {
					t.Error(err)
				}
				if n := poll(t, f, again.Position); !slices.ContainsFunc(n.Events, func(e feed.Event) bool { return e.Urgent }) {
					t.Errorf("the new life tells nothing: %+v", n)
				}
				return
			}
			if err != nil || !n.Overflow && !slices.Contains(n.Events, feed.Event{Kind: feed.KindAll}) {
				t.Errorf("%+v, %v", n, err)
			}
			if later := poll(t, f, n.Position); later.Overflow || len(later.Events) != 0 {
				t.Errorf("told again: %+v", later)
			}
		})
	}
}

// TestKeysThatGoByThemselves: a key whose time is over and one that makes room for
// others end like one that is deleted, when the server removes them.
func TestKeysThatGoByThemselves(t *testing.T) {
	s := redistest.Start(t, "--maxmemory-policy", "volatile-random")
	i := redistest.NewIssuer(t, s, prefix)
	f := openFeed(t, s, redis.Config{Prefix: prefix})
	awaitEvent := func(from feed.Position, token string) {
		t.Helper()
		until(t, "told", func() bool { return slices.Contains(poll(t, f, from).Events, ofKey(token)) })
	}
	token, _ := i.SignIn("ann")
	i.Do("PEXPIRE", prefix+token, "20")
	reg := register(t, f)
	awaitEvent(reg.Position, token)
	token, _ = i.SignIn("ann")
	at := poll(t, f, reg.Position).Position
	i.Do("CONFIG", "SET", "maxmemory", "1mb") // less than is in use: it evicts what has an end
	awaitEvent(at, token)
	if i.Text(prefix+token) != "" {
		t.Error("the key is there")
	}
}

// TestFullMemory: a server without room for more still tells what it holds.
func TestFullMemory(t *testing.T) {
	s := redistest.Start(t, "--maxmemory-policy", "noeviction")
	i := redistest.NewIssuer(t, s, prefix)
	token, _ := i.SignIn("ann")
	i.SignIn("bob")
	f := openFeed(t, s, redis.Config{Prefix: prefix, RevokedMarks: true})
	reg := register(t, f)
	sessions := open(t, redis.Config{URL: s.URL(), Prefix: prefix, RevokedMarks: true})
	i.Do("CONFIG", "SET", "maxmemory", "1mb")
	if !lookup(t, sessions, token).Found {
		t.Error("not found")
	}
	if r, err := f.Revoke(t.Context(), feed.Target{Token: token}); err != nil || r.Sessions != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if n := poll(t, f, reg.Position); !slices.Contains(n.Events, ofKey(token)) {
		t.Errorf("%+v", n)
	}
	if lookup(t, sessions, token).Found {
		t.Error("found after its end")
	}
	if r, err := f.Revoke(t.Context(), feed.Target{User: "bob"}); err != nil || r.Sessions != 1 || i.Text(prefix+"revoked-sessions-before-bob") == "" {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestFailover: a promoted replica is another era, and a primary that is none any more
// takes nobody in.
func TestFailover(t *testing.T) {
	primary := redistest.Start(t, "--repl-diskless-sync-delay", "0")
	host, port, err := net.SplitHostPort(primary.Address)
	if err != nil {
		t.Fatal(err)
	}
	replica := redistest.Start(t, "--replicaof", host, port)
	atReplica := redistest.NewIssuer(t, replica, prefix)
	f := openFeed(t, primary, redis.Config{Prefix: prefix})
	until(t, "linked", func() bool {
		return strings.Contains(answer(t, atReplica, "INFO", "replication"), "master_link_status:up")
	})
	reg := register(t, f)
	old := poll(t, f, reg.Position)
	if old.Era != reg.Era {
		t.Fatalf("%+v after %+v", old, reg)
	}

	// The primary's address is a replica now; one that takes writes, which would hide it.
	atPrimary := redistest.NewIssuer(t, primary, prefix)
	atReplica.Do("REPLICAOF", "NO", "ONE")
	atPrimary.Do("CONFIG", "SET", "replica-read-only", "no")
	host, port, err = net.SplitHostPort(replica.Address)
	if err != nil {
		t.Fatal(err)
	}
	atPrimary.Do("REPLICAOF", host, port)
	if n, err := f.Poll(t.Context(), reg.Position); err == nil && n.Era != "" || errors.Is(err, feed.ErrNotInstalled) {
		t.Errorf("a poll of a replica: %+v, %v", n, err)
	}
	if r, err := f.Register(t.Context(), feedtest.Bound); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a place at a replica: %+v, %v", r, err)
	}
	promoted := register(t, openFeed(t, replica, redis.Config{Prefix: prefix}))
	if promoted.Era == reg.Era {
		t.Errorf("both are %s", reg.Era)
	}
}

// TestFromBothStoresToOne: keys that were the feed of two stores become that of one.
func TestFromBothStoresToOne(t *testing.T) {
	f := openFeed(t, redistest.Start(t), redis.Config{Prefix: prefix})
	if _, err := f.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	register(t, f)
	if _, err := f.Register(t.Context(), feedtest.Bound+time.Second); !errors.Is(err, feed.ErrBound) {
		t.Errorf("another bound: %v", err)
	}
}

// TestRevokeReserved: a credential that names one of the issuer's other keys ends
// nothing: without the mark, revoked sessions would be good again.
func TestRevokeReserved(t *testing.T) {
	s := redistest.Start(t)
	i := redistest.NewIssuer(t, s, prefix)
	f := openFeed(t, s, redis.Config{Prefix: prefix, RevokedMarks: true})
	register(t, f)
	for _, name := range []string{"revoked-sessions-before-ann", "active-sessions-ann"} {
		i.Do("SET", prefix+name, "5")
		if r, err := f.Revoke(t.Context(), feed.Target{Token: name}); err != nil || r.Sessions != 0 {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
		if i.Text(prefix+name) != "5" {
			t.Errorf("%s is gone", name)
		}
	}
}

// TestClosedFeed leaves no connection behind.
func TestClosedFeed(t *testing.T) {
	s := redistest.Start(t)
	i := redistest.NewIssuer(t, s, prefix)
	f := openFeed(t, s, redis.Config{Prefix: prefix})
	register(t, f)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	until(t, "without connections", func() bool { return !strings.Contains(answer(t, i, "CLIENT", "LIST"), "name=sessiond ") })
}

// TestErrorsTellNoToken: the server's complaint about a command repeats its arguments.
func TestErrorsTellNoToken(t *testing.T) {
	s := redistest.Start(t, "--rename-command", "MGET", "", "--rename-command", "GET", "")
	_, err := open(t, redis.Config{URL: s.URL(), Prefix: prefix}).Lookup(t.Context(), "", []string{"hunter2"})
	if !errors.Is(err, store.ErrUnavailable) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
	f := openFeed(t, s, redis.Config{Prefix: prefix})
	register(t, f)
	if _, err := f.Revoke(t.Context(), feed.Target{Token: "hunter2"}); !errors.Is(err, store.ErrUnavailable) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
}

// TestPrefixes: whatever is in front of the issuer's keys, sessions are found, and their
// ends are told of.
func TestPrefixes(t *testing.T) {
	for _, prefix := range []string{"", "sessiond:", "sessiond:app:", "s", `app[1]*?\:`} {
		t.Run(prefix, func(t *testing.T) {
			s := redistest.Start(t)
			i := redistest.NewIssuer(t, s, prefix)
			token, _ := i.SignIn("ann")
			c := redis.Config{URL: s.URL(), Prefix: prefix}
			st, f := open(t, c), openFeed(t, s, c)
			reg := register(t, f)
			if !lookup(t, st, token).Found {
				t.Error("a session is not found")
			}
			if clues, err := st.Clues(t.Context(), "other"); err != nil || clues.Empty {
				t.Errorf("%+v, %v", clues, err)
			}
			i.SignOut(token)
			if n := poll(t, f, reg.Position); !slices.Contains(n.Events, ofKey(token)) {
				t.Errorf("its end is not told of: %+v", n)
			}
		})
	}
}
