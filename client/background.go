package client

import "sync"

// background counts goroutines, so that their end can be waited for. Safe for
// concurrent use.
type background struct {
	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup
}

// run runs f in a goroutine, and reports whether it does: after wait it does not.
func (b *background) run(f func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.running.Go(f)
	return true
}

// wait lets no goroutine begin any more and waits for those that run.
func (b *background) wait() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.running.Wait()
}
