package feedtest

import (
	"slices"
	"sync"
	"testing"

	"github.com/sessiond/sessiond/server/internal/feed"
)

// testLateCommit: a transaction that began before another and commits after it is
// told when it commits, wherever one has read to meanwhile (F1), and stays until
// every written position is past it (F7).
func testLateCommit(t *testing.T, s Subject) {
	if s.BeginSignOut == nil {
		return // transactions cannot overlap
	}
	late, _ := s.SignIn("ann")
	early, _ := s.SignIn("bob")
	reg := register(t, s.Source)
	commit := s.BeginSignOut(late)
	s.SignOut(early)
	before, err := s.Source.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first := poll(t, s.Source, reg.Position)
	if !tells(first.Events, early, "bob") || tells(first.Events, late, "ann") {
		t.Errorf("while one is in progress: %+v", first.Events)
	}
	covers(t, s.Source, reg.Position, reg.Era, before, false)
	covers(t, s.Source, first.Position, first.Era, before, true)
	// This beat's answer, and with it a position that has the late one in progress,
	// is what the next beat writes.
	beaten := beat(t, s.Source, reg, 2, reg.Position, first.Position)
	beat(t, s.Source, reg, 3, beaten.Position, beaten.Position)

	commit()
	after, err := s.Source.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	covers(t, s.Source, beaten.Position, beaten.Era, after, false)
	if err := s.Source.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]feed.Position{"the poll": first.Position, "the beat": beaten.Position} {
		n := poll(t, s.Source, from)
		if !tells(n.Events, late, "ann") {
			t.Errorf("the late commit is not told from the position of %s: %+v", name, n.Events)
		}
		covers(t, s.Source, n.Position, n.Era, after, true)
		if again := poll(t, s.Source, n.Position); len(again.Events) != 0 {
			t.Errorf("told again from after it: %+v", again.Events)
		}
	}
}

// sight is a position, and how many events had been told by then.
type sight struct {
	feed.News
	told int
}

// testAllAtOnce ends sessions from several sides while the feed is read. Nothing is
// missed, and a position that covers a revision comes after its events.
func testAllAtOnce(t *testing.T, s Subject) {
	const revokers, each = 3, 15
	var own []string
	tokens := make([][]string, revokers)
	for range each {
		token, _ := s.SignIn("ann")
		own = append(own, token)
		for i := range tokens {
			token, _ := s.SignIn("ann")
			tokens[i] = append(tokens[i], token)
		}
	}
	reg := register(t, s.Source)

	var mu sync.Mutex
	revisions := map[string]feed.Revision{}
	var writing, reading sync.WaitGroup
	for _, mine := range tokens {
		writing.Go(func() {
			for _, token := range mine {
				r, err := s.Source.Revoke(t.Context(), feed.Target{Token: token})
				if err != nil || r.Sessions != 1 {
					t.Errorf("revoke: %+v, %v", r, err)
					return
				}
				mu.Lock()
				revisions[token] = r.Revision
				mu.Unlock()
			}
		})
	}
	written := make(chan struct{})
	var events []feed.Event
	var sights []sight
	reading.Go(func() {
		at := reg.Position
		for last := false; !last; {
			select {
			case <-written:
				last = true
			default:
			}
			n, err := s.Source.Poll(t.Context(), at)
			if err != nil {
				t.Errorf("poll: %v", err)
				return
			}
			at = n.Position
			events = append(events, n.Events...)
			sights = append(sights, sight{n, len(events)})
		}
	})
	for _, token := range own {
		s.SignOut(token)
		r, err := s.Source.Revision(t.Context())
		if err != nil {
			t.Error(err)
			break
		}
		mu.Lock()
		revisions[token] = r
		mu.Unlock()
	}
	writing.Wait()
	close(written)
	reading.Wait()
	if t.Failed() {
		return
	}

	last := sights[len(sights)-1]
	for token, r := range revisions {
		told := slices.IndexFunc(events, func(e feed.Event) bool {
			return e.Kind == feed.KindAll || e.Key == feed.KeyOf(token) || e.Kind == feed.KindUser
		})
		if told < 0 {
			t.Error("an end was missed")
			continue
		}
		covers(t, s.Source, last.Position, last.Era, r, true)
		for _, sight := range sights {
			covered, err := s.Source.Covers(sight.Position, sight.Era, r)
			if err != nil || covered && sight.told <= told {
				t.Errorf("position %s covers %s before its event was told: %v", sight.Position, r, err)
				break
			}
		}
	}
	t.Logf("%d ends, %d reads", len(revisions), len(sights))
}
