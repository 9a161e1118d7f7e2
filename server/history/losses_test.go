package history

import (
	"slices"
	"testing"

	"github.com/sessiond/sessiond/server/history/check"
)

// TestLearn has a store lose commits at 100 and answer, asked at 150, by 160.
func TestLearn(t *testing.T) {
	const begun, asked, answered, bound = 100, 150, 160, 50
	ends := func(sent, acked int64) check.Change {
		return check.Change{Kind: check.Ends, Sent: sent, Acked: acked, Until: acked}
	}
	attempt := func(sent int64) check.Change {
		return check.Change{Kind: check.MayEnd, Sent: sent, Acked: check.Forever, Until: check.Forever}
	}
	for _, tt := range []struct {
		name     string
		good     bool
		before   []check.Change
		noted    []check.Kind
		lost     losses
		endAgain bool
	}{
		{name: "good and never ended", good: true},
		{name: "ended before and still", before: []check.Change{ends(10, 20)}},
		{
			name: "its end was lost", good: true, before: []check.Change{ends(90, 99)},
			noted: []check.Kind{check.MayRestore}, lost: losses{endings: 1}, endAgain: true,
		},
		{name: "its end was not answered", good: true, before: []check.Change{attempt(90)}, noted: []check.Kind{check.MayRestore}},
		{name: "its end came later", good: true, before: []check.Change{ends(170, 180)}},
		{name: "never there", noted: []check.Kind{check.Ends}, lost: losses{sessions: 1}},
		{
			// It may have ended, come back and ended again, or never have been there.
			name: "ended meanwhile", before: []check.Change{attempt(90), ends(120, 130)},
			noted: []check.Kind{check.MayRestore, check.MayEnd},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &session{}
			s.history.Changes = slices.Clone(tt.before)
			lost := s.learn(row{}, tt.good, begun, asked, answered, bound)
			var noted []check.Kind
			for _, c := range s.history.Changes[len(tt.before):] {
				if c.Sent != begun {
					t.Errorf("a change is noted from %d on, want %d", c.Sent, begun)
				}
				noted = append(noted, c.Kind)
			}
			if !slices.Equal(noted, tt.noted) || lost != tt.lost || s.wasLost() != tt.endAgain {
				t.Errorf("noted %v, lost %v, to be ended again: %v; want %v, %v, %v", noted, lost, s.wasLost(), tt.noted, tt.lost, tt.endAgain)
			}
		})
	}
}

func TestForgetUpdates(t *testing.T) {
	updates := []check.Update{
		{Version: 1, Acked: 10, Lost: check.Forever},
		{Version: 2, Acked: 20, Lost: check.Forever},
		{Version: 3, Acked: check.Forever, Lost: check.Forever}, // nobody knows
	}
	if n := forgetUpdates(updates, 1, 100, 150); n != 1 || updates[0].Lost != check.Forever || updates[1].Lost != 100 || updates[2].Lost != check.Forever {
		t.Errorf("%d lost: %+v, want version 2 alone", n, updates)
	}
}
