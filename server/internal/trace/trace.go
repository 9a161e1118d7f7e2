// Package trace keeps the explanations of late refusals for a while, so that a refusal
// can be explained after the fact by its id.
package trace

import (
	"crypto/rand"
	"sync"
	"time"

	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server/internal/authority"
)

// Config bounds a Ring.
type Config struct {
	// Entries is the most explanations, Bytes the most of their text.
	Entries, Bytes int
	// PerSecond is how many are made a second: a flood of refusals has to stay cheap.
	PerSecond int
}

// Ring holds the newest explanations. It is safe for concurrent use.
type Ring struct {
	cfg Config

	mu      sync.Mutex
	byID    map[string]authority.Explanation
	ids     []string // oldest first
	bytes   int
	begun   clock.Instant // of the second that is counted
	counted int
}

// New returns an empty Ring.
func New(c Config) *Ring { return &Ring{cfg: c, byID: make(map[string]authority.Explanation)} }

// Add keeps what explain returns and returns its id. explain is called only where
// there is room this second; the id is empty otherwise.
func (r *Ring) Add(explain func() authority.Explanation) (id string) {
	if !r.admit() {
		return ""
	}
	e := explain()
	n := size(&e)
	r.mu.Lock()
	defer r.mu.Unlock()
	if n > r.cfg.Bytes || r.cfg.Entries < 1 {
		return ""
	}
	for len(r.ids) > 0 && (len(r.ids) >= r.cfg.Entries || r.bytes+n > r.cfg.Bytes) {
		old := r.byID[r.ids[0]]
		r.bytes -= size(&old)
		delete(r.byID, r.ids[0])
		r.ids = r.ids[1:]
	}
	id = rand.Text()
	r.byID[id], r.ids, r.bytes = e, append(r.ids, id), r.bytes+n
	return id
}

func (r *Ring) admit() bool {
	now := clock.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.begun == 0 || now.Sub(r.begun) >= time.Second {
		r.begun, r.counted = now, 0
	}
	r.counted++
	return r.counted <= r.cfg.PerSecond
}

// Get returns the explanation of an id, if it is still kept.
func (r *Ring) Get(id string) (authority.Explanation, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.byID[id]
	return e, ok
}

// size is the length of an explanation's text.
func size(e *authority.Explanation) int {
	n := len(e.Verdict) + len(e.Reason)
	for _, s := range e.Steps {
		n += len(s.Name) + len(s.Detail)
	}
	for _, a := range e.Advice {
		n += len(a.Fault) + len(a.Cause) + len(a.Setting)
	}
	return n
}
