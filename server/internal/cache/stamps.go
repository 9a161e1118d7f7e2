package cache

import (
	"sync/atomic"

	"github.com/sessiond/sessiond/server/internal/feed"
)

// stamps say when keys, users and all were last invalidated, in steps of one
// counter. They outlive entries. The caller of every method but now holds the
// cache's lock.
type stamps struct {
	step    atomic.Uint64
	keys    map[feed.Key]uint64
	users   map[string]uint64
	allAt   uint64
	floorAt uint64 // stamps up to here may be gone: whatever is older counts as passed
}

// Stamps are removed when there are more than this; those that an answer on its
// way may still meet only when there are maxStamps.
const (
	manyStamps = 4096
	maxStamps  = 1 << 17
)

func (s *stamps) init() {
	s.keys, s.users = map[feed.Key]uint64{}, map[string]uint64{}
}

// now is the step of a question that is asked now.
func (s *stamps) now() uint64 { return s.step.Load() }

func (s *stamps) key(k feed.Key) { s.keys[k] = s.step.Add(1) }

func (s *stamps) user(u string) { s.users[u] = s.step.Add(1) }

func (s *stamps) all() {
	s.allAt = s.step.Add(1)
	clear(s.keys)
	clear(s.users)
}

// after reports whether key, user or all were stamped after a step.
func (s *stamps) after(key feed.Key, user string, step uint64) bool {
	return s.allAt > step || s.floorAt > step || s.keys[key] > step || s.users[user] > step
}

// prune removes stamps that no answer on its way can meet. oldest returns the step
// of the oldest flight, or the step given where there is none.
func (s *stamps) prune(oldest func(now uint64) uint64) {
	n := len(s.keys) + len(s.users)
	if n < manyStamps {
		return
	}
	floor := s.step.Load()
	if n < maxStamps {
		floor = oldest(floor)
		if floor <= s.floorAt {
			return
		}
	}
	s.floorAt = floor
	for k, at := range s.keys {
		if at <= floor {
			delete(s.keys, k)
		}
	}
	for u, at := range s.users {
		if at <= floor {
			delete(s.users, u)
		}
	}
}
