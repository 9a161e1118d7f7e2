package history

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sessiond/sessiond/server/history/check"
	"github.com/sessiond/sessiond/server/history/record"
)

// Config says what to run.
type Config struct {
	// Sessiond and Worker are the programs.
	Sessiond, Worker string
	// Bound is the staleness bound.
	Bound time.Duration
	// Duration is how long sessions are made, where Revocations is 0.
	Duration time.Duration
	// Revocations is how many sessions have to be ended.
	Revocations int
	// Authorities and Workers are how many processes there are of each.
	Authorities, Workers int
	// Store is "postgres", "redis", "both" or "both-strict".
	Store string
	// Rate is how many users sign in and end a second.
	Rate int
	// Calls is how many calls each worker makes a second.
	Calls int
	// Faults names those to inject, separated by commas; "all" or "none".
	Faults string
	// Seed chooses faults, their order and their times; not what processes do.
	Seed uint64
	// Log is told of what goes on, a line at a time.
	Log func(format string, args ...any)
}

// run is one run.
type run struct {
	Config
	secret      string
	store       storage
	authorities []*authority
	workers     []*worker
	numbers     atomic.Uint32
	// calm is held for writing while commits may be lost and it is not known yet
	// which, and for reading by whoever must not meet such a time.
	calm sync.RWMutex

	mu         sync.Mutex
	brink      chan struct{} // closed, and replaced, before a crash of the store
	sessions   map[uint32]*session
	incidents  []incident
	count      counts
	violations []Finding
	specimens  specimens
}

// maxFindings is how many violations are told in full.
const maxFindings = 20

// Run starts everything, injects faults while sessions live and end, and judges
// every history. The error is about the run itself; violations are in the Result.
func Run(ctx context.Context, cfg Config) (_ *Result, err error) {
	store, err := newStorage(cfg.Store)
	if err != nil {
		return nil, err
	}
	chosen, notRun, err := chosenFaults(cfg.Faults, slices.Concat(processFaults, store.faults()))
	if err != nil {
		return nil, err
	}
	if err := record.CheckClock(); err != nil {
		return nil, err
	}
	r := &run{Config: cfg, secret: rand.Text() + rand.Text(), store: store, sessions: map[uint32]*session{}, brink: make(chan struct{})}
	r.count.begin()
	defer func() { err = errors.Join(err, r.stop()) }()
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := r.work(ctx, chosen); err != nil {
		return nil, err
	}
	for _, a := range r.authorities {
		a.count(ctx)
	}
	return r.result(time.Since(begun), notRun), nil
}

func (r *run) start(ctx context.Context) (err error) {
	if err := r.store.start(ctx, r); err != nil {
		return err
	}
	for n := range r.Authorities {
		a, err := newAuthority(r.Config, r.secret, fmt.Sprintf("authority-%d", n), r.store)
		if err != nil {
			return err
		}
		r.authorities = append(r.authorities, a)
		if err := a.start(ctx); err != nil {
			return err
		}
	}
	for n := range r.Workers {
		w, err := startWorker(r.Config, n, r.authorities, func(rec record.Record) { r.take(n, rec) })
		if err != nil {
			return err
		}
		r.workers = append(r.workers, w)
	}
	return nil
}

// insistFor is insist with an end.
func (r *run) insistFor(ctx context.Context, timeout time.Duration, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return r.insist(ctx, try)
}

// stop ends all processes and waits for them.
func (r *run) stop() error {
	var err error
	for _, w := range r.workers {
		err = errors.Join(err, w.close())
	}
	for _, a := range r.authorities {
		err = errors.Join(err, a.close())
	}
	return errors.Join(err, r.store.remove())
}

// take notes what a worker reports.
func (r *run) take(worker int, rec record.Record) {
	r.mu.Lock()
	s := r.sessions[rec.Session]
	if rec.Kind == record.Call {
		r.count.call(rec)
	}
	r.mu.Unlock()
	if s != nil {
		s.take(worker, rec, len(r.workers))
	}
}

// work has users sign in and sessions end while faults are injected, until enough
// has happened and every history is judged.
func (r *run) work(ctx context.Context, chosen []fault) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	fail := func(err error) {
		if err != nil {
			cancel(err)
		}
	}
	faulty, mend := context.WithCancel(ctx)
	running.Go(func() { fail(r.injectAll(faulty, chosen)) })
	running.Go(func() { fail(r.guard(faulty)) })

	var lives sync.WaitGroup
	live := func(e ending) { lives.Go(func() { fail(r.live(ctx, e)) }) }
	endings := r.store.endings()
	ticker := time.NewTicker(time.Second / time.Duration(r.Rate))
	defer ticker.Stop()
	report := time.NewTicker(10 * time.Second)
	defer report.Stop()
	begun := time.Now()
	for n := 0; ctx.Err() == nil && !r.enough(begun); {
		select {
		case <-ticker.C:
			live(someEnding(endings))
			// The first crowd comes early enough for a short run.
			if n++; n%(60*r.Rate) == 10*r.Rate {
				live(r.store.crowd())
			}
		case <-report.C:
			r.Log("%s", r.progress())
		case <-ctx.Done():
		}
	}
	mend()
	lives.Wait()
	running.Wait()
	return context.Cause(ctx)
}

func (r *run) enough(begun time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.violations) >= maxFindings {
		return true // it will not get better
	}
	if r.Revocations > 0 {
		return r.count.revocations() >= r.Revocations
	}
	return time.Since(begun) >= r.Duration
}

// guard notices processes that end without having been told to.
func (r *run) guard(ctx context.Context) error {
	for pause(ctx, 200*time.Millisecond) == nil {
		for _, w := range r.workers {
			if err := w.alive(); err != nil {
				return err
			}
		}
		for _, a := range r.authorities {
			if err := a.alive(); err != nil {
				return err
			}
		}
	}
	return nil
}

// begin notes a fault; what is returned notes its end.
func (r *run) begin(fault string) func(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.incidents)
	r.incidents = append(r.incidents, incident{fault: fault, begun: record.Now()})
	return func(what string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.incidents[n].what, r.incidents[n].ended = what, record.Now()
		if took := time.Duration(r.incidents[n].ended - r.incidents[n].begun); took > 2*r.Bound+3*time.Second {
			r.Log("%s %s took %v", fault, what, took.Round(time.Millisecond))
		}
	}
}

func (r *run) ended(e ending, sessions int, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count.endings[e.name] += sessions
	if e.waits {
		r.count.waits = append(r.count.waits, took)
	}
}

func (r *run) failed(why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count.attempts++
	r.count.failure = why
}

func (r *run) updated() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count.updates++
}

// judged notes what was found in a history.
func (r *run) judged(h *check.History, found []check.Violation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count.judged++
	for _, v := range found {
		r.count.rules[v.Rule]++
		if len(r.violations) < maxFindings {
			r.violations = append(r.violations, Finding{Rule: v.Rule, Session: h.Name, Text: v.Text, Timeline: timeline(h, v, r.incidents, int64(r.Bound))})
		}
	}
	if len(found) == 0 {
		r.specimens.add(h)
	}
}

// counts is what happened in a run. The run's lock guards it.
type counts struct {
	calls    map[record.Outcome]int
	sources  map[record.Source]int // of accepted calls
	ways     map[record.Way]int
	endings  map[string]int
	rules    map[check.Rule]int
	waits    []time.Duration // of the Revokes
	sessions int
	attempts int   // to end a session, without an acknowledgement
	failure  error // of the last of them
	updates  int
	judged   int
	lost     losses
	maxCall  int64
}

func (c *counts) begin() {
	c.calls, c.sources, c.ways = map[record.Outcome]int{}, map[record.Source]int{}, map[record.Way]int{}
	c.endings, c.rules = map[string]int{}, map[check.Rule]int{}
}

func (c *counts) call(r record.Record) {
	c.calls[r.Outcome]++
	c.ways[r.Way]++
	if r.Outcome == record.Accepted {
		c.sources[r.Source]++
	}
	c.maxCall = max(c.maxCall, r.End-r.Start)
}

func (c *counts) operations() int {
	n := 0
	for _, calls := range c.calls {
		n += calls
	}
	return n
}

func (c *counts) revocations() int {
	n := 0
	for _, sessions := range c.endings {
		n += sessions
	}
	return n
}

// quantile returns the q-quantile of durations that are in order; 0 of none.
func quantile(of []time.Duration, q float64) time.Duration {
	if len(of) == 0 {
		return 0
	}
	return of[int(math.Ceil(q*float64(len(of))))-1]
}
