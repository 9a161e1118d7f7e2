package client

import "github.com/sessiond/sessiond/internal/clock"

// stamps say when keys, users and all were last invalidated, on this process's
// clock. They outlive entries, and the Watch that brought them.
type stamps struct {
	keys  map[sessionDigest]clock.Instant
	users map[string]clock.Instant
	// all is also the floor: older stamps may be gone.
	all   clock.Instant
	limit int // when old stamps are looked for
}

const minStamps = 4096

func newStamps() stamps {
	var s stamps
	s.clear(clock.Never)
	return s
}

// clear stamps everything.
func (s *stamps) clear(now clock.Instant) {
	*s = stamps{keys: map[sessionDigest]clock.Instant{}, users: map[string]clock.Instant{}, all: now, limit: minStamps}
}

func (s *stamps) key(k sessionDigest, now clock.Instant, bound clock.Bound) {
	s.keys[k] = now
	s.prune(now, bound)
}

func (s *stamps) user(u string, now clock.Instant, bound clock.Bound) {
	s.users[u] = now
	s.prune(now, bound)
}

// last returns when what an answer speaks of was last invalidated.
func (s *stamps) last(a *answer) clock.Instant {
	at := s.all
	if t, ok := s.keys[a.key]; ok && a.hasKey {
		at = max(at, t)
	}
	if t, ok := s.users[a.result.Session.UserID]; ok {
		at = max(at, t)
	}
	return at
}

// prune removes the stamps that no answer can meet, since none is used that is as
// old, and raises the floor to there.
func (s *stamps) prune(now clock.Instant, bound clock.Bound) {
	if len(s.keys)+len(s.users) < s.limit {
		return
	}
	before := now.Add(-bound.Wait())
	for k, at := range s.keys {
		if at <= before {
			delete(s.keys, k)
		}
	}
	for u, at := range s.users {
		if at <= before {
			delete(s.users, u)
		}
	}
	s.all = max(s.all, before)
	s.limit = max(minStamps, 2*(len(s.keys)+len(s.users)))
}
