package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server/internal/cache"
	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/hub"
	"github.com/sessiond/sessiond/server/internal/store"
)

// Config configures a Replica.
type Config struct {
	// Bound is the staleness bound.
	Bound clock.Bound
	// Store reads sessions.
	Store store.Store
	// Source is the change feed; nil: there is none, and entries age out (A7).
	Source feed.Source
	// PollInterval is the time between two polls while anything is cached or
	// watched; 0: DefaultPollInterval.
	PollInterval time.Duration
	// CacheBytes bounds the memory of cached records; 0: nothing is cached.
	CacheBytes int64
	// MaxBatch is the most tokens of one lookup, MaxReads the most lookups at a time.
	MaxBatch, MaxReads int
	// ReadTimeout bounds one lookup.
	ReadTimeout time.Duration
	// QueueLimit is the most events queued for one watcher.
	QueueLimit int
	// Log is told of what an operator has to know.
	Log *slog.Logger
}

// DefaultPollInterval brings the median from a commit to the drop to a few
// milliseconds, for a few percent of a core of the database.
const DefaultPollInterval = 5 * time.Millisecond

// idlePollInterval is the time between polls while nothing is cached or watched.
const idlePollInterval = 25 * time.Millisecond

// Replica is one authority among those over one store. It is safe for concurrent use.
type Replica struct {
	cfg   Config
	cache *cache.Cache
	hub   *hub.Hub
	hurry chan struct{} // capacity 1: poll now

	// known is what is known of the store now. The loop alone writes it.
	known atomic.Pointer[knowledge]
	// peers is what was seen of the other replicas' beats.
	peers peers

	stats counters
}

// knowledge is what a Replica knows of the store at a moment. It does not change.
type knowledge struct {
	mode  cache.Mode
	proof clock.Instant // clock.Never: none
	// place is the registration; nil: none.
	place *place
	// position is what of the feed has been applied, in era; empty: nothing.
	position feed.Position
	// beaten is the position that came with the last acknowledged beat. Beats write
	// it (F7), and after a failure the feed is read from it (F3).
	beaten feed.Position
	era    store.Era
	// acked is the number of the last acknowledged beat.
	acked int64
	// done is what this replica and all its watchers are done with.
	done feed.Position
	// problem says why nothing is cached, for operators; empty: nothing is wrong.
	problem string
}

// place is a registration.
type place struct {
	id string
	// since is when the registration arrived: the registry counts B(1+r) later (G6).
	since clock.Instant
	era   store.Era
}

// New returns a Replica. Nothing is cached until Run has registered it.
func New(cfg Config) *Replica {
	if cfg.PollInterval <= 0 {
		cfg.PollInterval = DefaultPollInterval
	}
	r := &Replica{cfg: cfg, hurry: make(chan struct{}, 1)}
	first := &knowledge{mode: cache.ModeBypass, proof: clock.Never, problem: "starting"}
	if cfg.Source == nil {
		first = &knowledge{mode: cache.ModeAged, proof: clock.Never}
	}
	r.known.Store(first)
	r.hub = hub.New(cfg.Bound, cfg.QueueLimit)
	r.cache = cache.New(cache.Config{
		Bound: cfg.Bound, MaxBytes: cfg.CacheBytes, MaxBatch: cfg.MaxBatch, MaxFlights: cfg.MaxReads,
		State: r.state, Lookup: r.lookup, Timeout: cfg.ReadTimeout,
	})
	return r
}

// Close ends the lookups on their way. Run must have returned.
func (r *Replica) Close() { r.cache.Close() }

// Get returns the record of one token.
func (r *Replica) Get(ctx context.Context, q cache.Question) (cache.Answer, error) {
	return r.cache.Get(ctx, q)
}

// GetBatch returns the records of many tokens, all or an error.
func (r *Replica) GetBatch(ctx context.Context, qs []cache.Question, out []cache.Answer) error {
	return r.cache.GetBatch(ctx, qs, out)
}

// Findings reads what the places that make up the store hold for a token.
func (r *Replica) Findings(ctx context.Context, token string) []store.Finding {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.ReadTimeout)
	defer cancel()
	return r.cfg.Store.Findings(ctx, token)
}

// state is what the cache may do now.
func (r *Replica) state() cache.State {
	if r.cfg.Source == nil {
		return cache.State{Mode: cache.ModeAged, Proof: clock.Now()} // entries age by themselves
	}
	k := r.known.Load()
	return cache.State{Mode: k.mode, Proof: k.proof}
}

// eraRetry is the pause before a lookup that another era answered is sent again,
// which gives the feed time to notice it too.
const eraRetry = 5 * time.Millisecond

// lookup reads the store for the cache. An answer of another era than the feed's
// is not used while the feed can still be believed (F5), and never cached.
func (r *Replica) lookup(ctx context.Context, tokens []string) (cache.Reading, error) {
	for {
		k := r.known.Load()
		if r.cfg.Source == nil {
			records, err := r.cfg.Store.Lookup(ctx, "", tokens)
			return cache.Reading{Records: records, Cacheable: true}, err
		}
		records, err := r.cfg.Store.Lookup(ctx, k.era, tokens)
		if err == nil {
			return cache.Reading{Records: records, Cacheable: k.era != ""}, nil
		}
		var other *store.EraError
		if !errors.As(err, &other) {
			return cache.Reading{}, err
		}
		r.Hurry()
		if clock.Now().Sub(k.proof) >= r.cfg.Bound.Lease() {
			// The feed is behind: what this server says is all there is to know.
			records, err := r.cfg.Store.Lookup(ctx, "", tokens)
			return cache.Reading{Records: records}, err
		}
		if !wait(ctx, eraRetry) {
			return cache.Reading{}, ctx.Err()
		}
	}
}

// wait reports whether a time has passed before the context ended.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Hurry has the feed read at once.
func (r *Replica) Hurry() {
	select {
	case r.hurry <- struct{}{}:
	default:
	}
}

// ErrNoRevisions means that without a change feed nothing is known of revisions.
var ErrNoRevisions = errors.New("this store has no revisions: install the change feed (sessiond feed install)")

// NeedsRead reports whether a question at a revision or newer has to be answered
// by a fresh read: whether what is cached is not known to cover it. An error means
// that a read would not do either, or that the text is no revision.
func (r *Replica) NeedsRead(revision feed.Revision) (bool, error) {
	if r.cfg.Source == nil {
		return false, ErrNoRevisions
	}
	k := r.known.Load()
	// A poll has not looked at the triggers (S1): only a beat shows that whatever was
	// committed before the revision has written its event.
	covered, err := r.cfg.Source.Covers(k.beaten, k.era, revision)
	if err != nil {
		return false, fmt.Errorf("revision: %w", err)
	}
	if covered && k.mode == cache.ModeTracked {
		return false, nil
	}
	meets, err := r.cfg.Source.Meets(k.era, revision)
	switch {
	case err != nil:
		return false, fmt.Errorf("revision: %w", err)
	case k.era == "" || !meets:
		return false, fmt.Errorf("%w: the server that answers now is older than the revision", store.ErrUnavailable)
	default:
		return true, nil
	}
}

// Revision returns the store's present revision.
func (r *Replica) Revision(ctx context.Context) (feed.Revision, error) {
	if r.cfg.Source == nil {
		return "", ErrNoRevisions
	}
	return r.cfg.Source.Revision(ctx)
}

// Proof is the latest moment of which this replica is current, and whether it
// may lend leases by it.
func (r *Replica) Proof() (clock.Instant, bool) {
	if r.cfg.Source == nil {
		// Every entry ages by its own read, and nobody revokes (A7).
		return clock.Now(), true
	}
	k := r.known.Load()
	return k.proof, k.mode != cache.ModeBypass && k.proof != clock.Never
}

// Watch opens a Watch. It fails while the replica is not registered (G1).
func (r *Replica) Watch(name string) (*hub.Watcher, error) {
	if r.cfg.Source != nil && r.known.Load().place == nil {
		return nil, fmt.Errorf("%w: the replica is not registered yet", store.ErrUnavailable)
	}
	return r.hub.Watch(name), nil
}

// Status is the operator's view.
type Status struct {
	// Mode says what the cache does.
	Mode cache.Mode
	// ProofAge is the age of the proof; negative: none.
	ProofAge time.Duration
	// Problem says why nothing is cached; empty: nothing is wrong.
	Problem string
	// Watchers is how many Watches are open.
	Watchers int
	// Cache counts what the cache did.
	Cache cache.Stats
	// Beats, Polls, Events, Failures and ForgetAlls count what the feed did.
	Beats, Polls, Events, Failures, ForgetAlls uint64
}

// Status returns the operator's view.
func (r *Replica) Status() Status {
	k := r.known.Load()
	s := Status{
		Mode: k.mode, ProofAge: -1, Problem: k.problem, Watchers: r.hub.Open(), Cache: r.cache.Stats(),
		Beats: r.stats.beats.Load(), Polls: r.stats.polls.Load(), Events: r.stats.events.Load(),
		Failures: r.stats.failures.Load(), ForgetAlls: r.stats.forgetAlls.Load(),
	}
	if k.proof != clock.Never {
		s.ProofAge = clock.Now().Sub(k.proof)
	}
	return s
}

type counters struct{ beats, polls, events, failures, forgetAlls atomic.Uint64 }

// Run keeps the replica current until the context ends. The error wraps
// [feed.ErrBound]: with this configuration it never will be (G5).
func (r *Replica) Run(ctx context.Context) error {
	if r.cfg.Source == nil {
		<-ctx.Done()
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { r.keepRegistry(ctx) })
	for {
		err := newLife(r).run(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, feed.ErrBound):
			return err
		}
		r.lose(err)
		if !errors.Is(err, feed.ErrLostPlace) && !errors.Is(err, errNewEra) {
			wait(ctx, r.cfg.Bound.Beat()/10)
		}
	}
}
