package feedtest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/store"
)

// Bound is the staleness bound that a Subject is installed for.
const Bound = 5 * time.Second

// Subject is a feed and the hands of an issuer.
type Subject struct {
	// Source is the feed of one replica, Other that of another over the same
	// store; nil where a store has one replica only.
	Source, Other feed.Source
	// SignIn adds a session of a user, and SignOut removes it as the issuer does.
	SignIn  func(user string) (token, session string)
	SignOut func(token string)
	// BeginSignOut removes a session in a transaction that has begun and written
	// when it returns, and that commit ends; nil where transactions cannot overlap.
	BeginSignOut func(token string) (commit func())
}

// Run holds a feed to the contract of [feed.Source]. open returns a Subject with
// nothing in it, which ends with the test.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	t.Run("an end is told from where one was", func(t *testing.T) { testEvents(t, open(t)) })
	t.Run("a beat without a row", func(t *testing.T) { testLostPlace(t, open(t)) })
	t.Run("another bound", func(t *testing.T) { testBound(t, open(t)) })
	t.Run("revoke", func(t *testing.T) { testRevoke(t, open) })
	t.Run("revisions", func(t *testing.T) { testRevisions(t, open(t)) })
	t.Run("cleaning", func(t *testing.T) { testClean(t, open(t)) })
	t.Run("registry", func(t *testing.T) { testRegistry(t, open(t)) })
	t.Run("cleaning for two", func(t *testing.T) { testCleanForTwo(t, open(t)) })
	t.Run("an answer that was lost", func(t *testing.T) { testLostAnswer(t, open(t)) })
	t.Run("a late commit", func(t *testing.T) { testLateCommit(t, open(t)) })
	t.Run("all at once", func(t *testing.T) { testAllAtOnce(t, open(t)) })
	t.Run("a call that has ended", func(t *testing.T) { testEnded(t, open(t)) })
	t.Run("closed", func(t *testing.T) { testClosed(t, open(t)) })
}

func register(t *testing.T, s feed.Source) feed.Registration {
	t.Helper()
	reg, err := s.Register(t.Context(), Bound)
	if err != nil {
		t.Fatal(err)
	}
	if reg.ID == "" || reg.Era == "" || reg.Position == "" || reg.Coverage != feed.CoverageFull || reg.Objects == "" {
		t.Fatalf("registration %+v", reg)
	}
	return reg
}

func poll(t *testing.T, s feed.Source, from feed.Position) feed.News {
	t.Helper()
	n, err := s.Poll(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func beat(t *testing.T, s feed.Source, reg feed.Registration, number int64, written, from feed.Position) feed.News {
	t.Helper()
	n, err := s.Beat(t.Context(), feed.Beat{ID: reg.ID, Acked: number - 1, Number: number, Written: written, Done: written, DoneEra: reg.Era, From: from})
	if err != nil {
		t.Fatal(err)
	}
	if n.Era != reg.Era || n.Coverage != feed.CoverageFull || n.Objects != reg.Objects {
		t.Fatalf("beat %+v after %+v", n, reg)
	}
	return n
}

// tells reports whether events end a session.
func tells(events []feed.Event, token, user string) bool {
	return slices.ContainsFunc(events, func(e feed.Event) bool {
		return e.Kind == feed.KindAll || e.Kind == feed.KindKey && e.Key == feed.KeyOf(token) || e.Kind == feed.KindUser && e.User == user
	})
}

func testEvents(t *testing.T, s Subject) {
	token, _ := s.SignIn("ann")
	reg := register(t, s.Source)
	if n := poll(t, s.Source, reg.Position); len(n.Events) != 0 || n.Position == "" || n.Era != reg.Era {
		t.Errorf("nothing has happened: %+v", n)
	}
	s.SignOut(token)
	n := poll(t, s.Source, reg.Position)
	if !tells(n.Events, token, "ann") {
		t.Errorf("a sign-out is not told: %+v", n)
	}
	if later := poll(t, s.Source, n.Position); len(later.Events) != 0 {
		t.Errorf("told again from after it: %+v", later)
	}
	if b := beat(t, s.Source, reg, 2, reg.Position, reg.Position); !tells(b.Events, token, "ann") {
		t.Errorf("a beat from before it does not tell: %+v", b)
	}
}

func testLostPlace(t *testing.T, s Subject) {
	reg := register(t, s.Source)
	_, err := s.Source.Beat(t.Context(), feed.Beat{ID: "00000000-0000-4000-8000-000000000000", Acked: 1, Number: 2, Written: reg.Position, Done: reg.Position, DoneEra: reg.Era, From: reg.Position})
	if !errors.Is(err, feed.ErrLostPlace) {
		t.Errorf("a beat of nobody: %v", err)
	}
	if _, err := s.Source.Replicas(t.Context(), reg.ID, 99); !errors.Is(err, feed.ErrLostPlace) {
		t.Errorf("a registry behind the last acknowledged beat: %v", err)
	}
	if other := register(t, s.Source); other.ID == reg.ID {
		t.Error("two registrations have one id")
	}
}

func testBound(t *testing.T, s Subject) {
	if _, err := s.Source.Register(t.Context(), Bound+time.Second); !errors.Is(err, feed.ErrBound) {
		t.Errorf("another bound: %v", err)
	}
}

func testRevoke(t *testing.T, open func(t *testing.T) Subject) {
	tests := map[string]struct {
		target func(token, session string) feed.Target
		want   int
	}{
		"by token":            {func(token, _ string) feed.Target { return feed.Target{Token: token} }, 1},
		"by user and session": {func(_, session string) feed.Target { return feed.Target{User: "ann", Session: session} }, 1},
		"another's session":   {func(_, session string) feed.Target { return feed.Target{User: "bob", Session: session} }, 0},
		"all of the user":     {func(_, _ string) feed.Target { return feed.Target{User: "ann"} }, 2},
		"all but one":         {func(_, session string) feed.Target { return feed.Target{User: "ann", Except: session} }, 1},
		"nothing there":       {func(_, _ string) feed.Target { return feed.Target{Token: "unknown"} }, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			token, session := s.SignIn("ann")
			s.SignIn("ann")
			s.SignIn("carl")
			reg := register(t, s.Source)
			target := tt.target(token, session)
			revoked, err := s.Source.Revoke(t.Context(), target)
			if err != nil {
				t.Fatal(err)
			}
			if revoked.Sessions != tt.want || revoked.Era != reg.Era || revoked.Revision == "" {
				t.Errorf("%+v, want %d sessions", revoked, tt.want)
			}
			n := poll(t, s.Source, reg.Position)
			urgent := slices.ContainsFunc(n.Events, func(e feed.Event) bool { return e.Urgent })
			told := target.Token
			if target.Session != "" && tt.want == 1 {
				told = token // the row gives the digest (V1)
			}
			if !urgent || !tells(n.Events, told, target.User) {
				t.Errorf("no urgent event of it: %+v", n.Events)
			}
			covers(t, s.Source, reg.Position, reg.Era, revoked.Revision, false)
			covers(t, s.Source, n.Position, n.Era, revoked.Revision, true)
			covers(t, s.Source, n.Position, n.Era+"x", revoked.Revision, false)
			again, err := s.Source.Revoke(t.Context(), target)
			if err != nil || again.Sessions != 0 {
				t.Errorf("repeated: %+v, %v", again, err)
			}
			// The issuer may have deleted the row, and caches may not know (V1).
			if later := poll(t, s.Source, n.Position); !tells(later.Events, target.Token, target.User) {
				t.Errorf("no event where there was no row: %+v", later.Events)
			}
			covers(t, s.Source, n.Position, n.Era, again.Revision, false)
			left := 0
			for _, user := range []string{"ann", "bob", "carl"} {
				r, err := s.Source.Revoke(t.Context(), feed.Target{User: user})
				if err != nil {
					t.Fatal(err)
				}
				left += r.Sessions
			}
			if want := 3 - tt.want; left != want {
				t.Errorf("%d sessions were left, want %d", left, want)
			}
		})
	}
}

func covers(t *testing.T, s feed.Source, p feed.Position, era store.Era, r feed.Revision, want bool) {
	t.Helper()
	if got, err := s.Covers(p, era, r); err != nil || got != want {
		t.Errorf("position %s in %s covers %s: %t, %v; want %t", p, era, r, got, err, want)
	}
}

func testRevisions(t *testing.T, s Subject) {
	reg := register(t, s.Source)
	token, _ := s.SignIn("ann")
	s.SignOut(token)
	r, err := s.Source.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	covers(t, s.Source, reg.Position, reg.Era, r, false)
	n := poll(t, s.Source, reg.Position)
	covers(t, s.Source, n.Position, n.Era, r, true)
	covers(t, s.Source, "", "", r, false)
	if ok, err := s.Source.Meets(reg.Era, r); err != nil || !ok {
		t.Errorf("a fresh read of the same era: %t, %v", ok, err)
	}
	for _, nonsense := range []feed.Revision{"nonsense", ",", "a,b,c,d"} {
		if _, err := s.Source.Covers(n.Position, n.Era, nonsense); err == nil {
			t.Errorf("%q is taken for a revision", nonsense)
		}
		if _, err := s.Source.Meets(n.Era, nonsense); err == nil {
			t.Errorf("%q is met", nonsense)
		}
	}
}

func testClean(t *testing.T, s Subject) {
	reg := register(t, s.Source)
	token, _ := s.SignIn("ann")
	s.SignOut(token)
	polled := poll(t, s.Source, reg.Position)
	first := beat(t, s.Source, reg, 2, reg.Position, polled.Position)
	if err := s.Source.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Neither the poll's position nor that of beat 2 is written yet: its answer may have been lost.
	if n := poll(t, s.Source, reg.Position); !tells(n.Events, token, "ann") {
		t.Error("an event went that the last written position is not past")
	}
	beat(t, s.Source, reg, 3, first.Position, first.Position)
	if err := s.Source.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := poll(t, s.Source, reg.Position); tells(n.Events, token, "ann") {
		t.Error("an event stays that every written position is past")
	}
}

func testRegistry(t *testing.T, s Subject) {
	reg := register(t, s.Source)
	if s.Other == nil {
		registry, err := s.Source.Replicas(t.Context(), reg.ID, 1)
		if err != nil || len(registry.Replicas) != 1 || registry.Era != reg.Era {
			t.Errorf("%+v, %v", registry, err)
		}
		return
	}
	other := register(t, s.Other)
	registry, err := s.Source.Replicas(t.Context(), reg.ID, 1)
	if err != nil || len(registry.Replicas) != 2 || registry.Era != reg.Era {
		t.Fatalf("%+v, %v", registry, err)
	}
	token, _ := s.SignIn("ann")
	revoked, err := s.Source.Revoke(t.Context(), feed.Target{Token: token})
	if err != nil {
		t.Fatal(err)
	}
	knows := func(want bool) {
		t.Helper()
		registry, err := s.Source.Replicas(t.Context(), reg.ID, 1)
		at := slices.IndexFunc(registry.Replicas, func(r feed.Replica) bool { return r.ID == other.ID })
		if err != nil || at < 0 {
			t.Fatalf("%+v, %v", registry, err)
		}
		covers(t, s.Source, registry.Replicas[at].Done, registry.Replicas[at].DoneEra, revoked.Revision, want)
	}
	knows(false)
	done := poll(t, s.Other, other.Position).Position
	beat(t, s.Other, other, 2, done, done)
	knows(true)
	if gone, err := s.Source.Exclude(t.Context(), other.ID, 1); err != nil || gone {
		t.Errorf("excluded at a beat that is past: %t, %v", gone, err)
	}
	if gone, err := s.Source.Exclude(t.Context(), other.ID, 2); err != nil || !gone {
		t.Errorf("not excluded at its beat: %t, %v", gone, err)
	}
	if gone, err := s.Source.Exclude(t.Context(), other.ID, 2); err != nil || gone {
		t.Errorf("excluded twice: %t, %v", gone, err)
	}
	_, err = s.Other.Beat(t.Context(), feed.Beat{ID: other.ID, Acked: 2, Number: 3, Written: other.Position, Done: other.Position, DoneEra: other.Era, From: other.Position})
	if !errors.Is(err, feed.ErrLostPlace) {
		t.Errorf("a beat after exclusion: %v", err)
	}
}

// testCleanForTwo: an event stays until the written positions of both are past it,
// or the one that is not is excluded (F7).
func testCleanForTwo(t *testing.T, s Subject) {
	if s.Other == nil {
		return // there is one
	}
	reg, other := register(t, s.Source), register(t, s.Other)
	token, _ := s.SignIn("ann")
	s.SignOut(token)
	first := beat(t, s.Source, reg, 2, reg.Position, reg.Position)
	beat(t, s.Source, reg, 3, first.Position, first.Position)
	if err := s.Source.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := poll(t, s.Other, other.Position); !tells(n.Events, token, "ann") {
		t.Error("an event went that the other's written position is not past")
	}
	if gone, err := s.Source.Exclude(t.Context(), other.ID, 1); err != nil || !gone {
		t.Fatalf("excluded: %t, %v", gone, err)
	}
	if err := s.Source.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := poll(t, s.Source, reg.Position); tells(n.Events, token, "ann") {
		t.Error("an event stays for somebody who is excluded")
	}
}

// testLostAnswer: a beat whose answer was lost is followed by one with a greater
// number and the same acknowledged one (G3).
func testLostAnswer(t *testing.T, s Subject) {
	reg := register(t, s.Source)
	token, _ := s.SignIn("ann")
	s.SignOut(token)
	b := feed.Beat{ID: reg.ID, Acked: 1, Number: 2, Written: reg.Position, Done: reg.Position, DoneEra: reg.Era, From: reg.Position}
	for b.Number = range int64(4) {
		b.Number += 2
		n, err := s.Source.Beat(t.Context(), b)
		if err != nil || !tells(n.Events, token, "ann") {
			t.Fatalf("beat %d: %+v, %v", b.Number, n, err)
		}
	}
	registry, err := s.Source.Replicas(t.Context(), reg.ID, b.Acked)
	if err != nil || len(registry.Replicas) != 1 || registry.Replicas[0].Beat != 5 {
		t.Errorf("registry %+v, %v; want beat 5", registry, err)
	}
}

// testEnded: a call whose context has ended found nothing out.
func testEnded(t *testing.T, s Subject) {
	reg := register(t, s.Source)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, err := range calls(ctx, s.Source, reg) {
		if !errors.Is(err, context.Canceled) && !errors.Is(err, store.ErrUnavailable) || errors.Is(err, feed.ErrLostPlace) || errors.Is(err, feed.ErrNotInstalled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// It did no harm to those that come after it.
	beat(t, s.Source, reg, 2, reg.Position, reg.Position)
}

// testClosed: nothing is found out through a closed feed, and that is no lost place.
func testClosed(t *testing.T, s Subject) {
	reg := register(t, s.Source)
	if err := s.Source.Close(); err != nil {
		t.Fatal(err)
	}
	for name, err := range calls(t.Context(), s.Source, reg) {
		if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, feed.ErrLostPlace) || errors.Is(err, feed.ErrNotInstalled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// calls returns what the calls that need the store end with.
func calls(ctx context.Context, s feed.Source, reg feed.Registration) map[string]error {
	out := map[string]error{}
	_, out["register"] = s.Register(ctx, Bound)
	_, out["poll"] = s.Poll(ctx, reg.Position)
	_, out["beat"] = s.Beat(ctx, feed.Beat{ID: reg.ID, Acked: 1, Number: 2, Written: reg.Position, Done: reg.Position, DoneEra: reg.Era, From: reg.Position})
	_, out["revoke"] = s.Revoke(ctx, feed.Target{User: "nobody"})
	_, out["revision"] = s.Revision(ctx)
	return out
}
