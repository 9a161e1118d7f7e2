package replica

import (
	"context"
	"errors"
	"time"

	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server/internal/cache"
	"github.com/sessiond/sessiond/server/internal/feed"
)

// errNewEra means that another server, or another life of the same, answered.
var errNewEra = errors.New("the session store was restarted after a crash, or replaced")

// errSilent means that no beat was acknowledged for the bound. A beat on a dead
// connection may hold the row's lock (G3).
var errSilent = errors.New("no beat was acknowledged for the staleness bound")

// life is one registration, from its beginning until its place is lost. Only the
// goroutine of Run uses it.
type life struct {
	r *Replica
	k knowledge // what is published next

	tried   int64 // number of the last beat that was sent
	ackedAt clock.Instant
	objects string

	beatDue clock.Instant
	// pending are the positions that are applied here and not yet acknowledged by
	// every watcher, oldest first.
	pending []pending
}

// pending is a position that is done once the hub's push of a number is.
type pending struct {
	push     uint64
	position feed.Position
	urgent   bool
}

func newLife(r *Replica) *life { return &life{r: r} }

// run registers, then beats and polls. It returns when the place is lost.
func (l *life) run(ctx context.Context) error {
	if err := l.register(ctx); err != nil {
		return err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.r.hub.Acked():
			if !l.settle() {
				continue
			}
			l.beatDue = clock.Now() // somebody's Revoke waits for our word
		case <-l.r.hurry:
		case <-timer.C:
		}
		if err := l.step(ctx); err != nil {
			return err
		}
		timer.Reset(l.pause())
	}
}

// pause is the time until the next step.
func (l *life) pause() time.Duration {
	pause := l.r.cfg.PollInterval
	if l.r.idle() {
		pause = max(pause, idlePollInterval)
	}
	return min(pause, max(l.beatDue.Sub(clock.Now()), 0))
}

func (r *Replica) idle() bool { return r.cache.Empty() && r.hub.Open() == 0 }

// register takes a place. Everything is forgotten when its position has arrived,
// and the place is known only after that (F6, G1).
func (l *life) register(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, l.r.beatTimeout())
	defer cancel()
	reg, err := l.r.cfg.Source.Register(bounded, time.Duration(l.r.cfg.Bound))
	if err != nil {
		return err
	}
	now := clock.Now()
	l.k = knowledge{
		proof:    clock.Never,
		place:    &place{id: reg.ID, since: now, era: reg.Era},
		position: reg.Position,
		beaten:   reg.Position,
		era:      reg.Era,
		acked:    1,
		done:     reg.Position,
	}
	l.tried, l.ackedAt = 1, now
	l.objects = reg.Objects
	l.cover(reg.News)
	l.r.peers.begin(reg.ID)
	l.forgetAll()
	l.publish()
	l.beatDue = now
	return nil
}

// step beats if that is due, else polls. The error ends the life.
func (l *life) step(ctx context.Context) error {
	sent := clock.Now()
	var news feed.News
	var err error
	beat := sent >= l.beatDue
	if beat {
		news, err = l.beat(ctx)
	} else {
		news, err = l.poll(ctx)
	}
	switch {
	case errors.Is(err, feed.ErrLostPlace), errors.Is(err, feed.ErrNotInstalled):
		return err
	case err != nil:
		return l.failed(sent, err)
	case news.Era != l.k.era || news.Era == "":
		return errNewEra
	}
	if beat {
		l.cover(news)
		if news.Objects != l.objects {
			// A trigger may have been off and on again between two beats (S1).
			l.objects, news.Overflow = news.Objects, true
		}
	}
	l.apply(news)
	l.k.position = news.Position
	if beat {
		// Renewed only now, after all that came with it was applied (F2, A1).
		l.k.proof = sent
		l.k.acked, l.k.beaten, l.ackedAt = l.tried, news.Position, sent
		l.beatDue = sent.Add(l.r.cfg.Bound.Beat())
	}
	l.settle()
	l.publish()
	return nil
}

func (l *life) beat(ctx context.Context) (feed.News, error) {
	l.r.stats.beats.Add(1)
	l.tried++
	bounded, cancel := context.WithTimeout(ctx, l.r.beatTimeout())
	defer cancel()
	return l.r.cfg.Source.Beat(bounded, feed.Beat{
		ID: l.k.place.id, Acked: l.k.acked, Number: l.tried, Written: l.k.beaten,
		Done: l.k.done, DoneEra: l.k.era, From: l.k.position,
	})
}

func (l *life) poll(ctx context.Context) (feed.News, error) {
	l.r.stats.polls.Add(1)
	bounded, cancel := context.WithTimeout(ctx, l.r.cfg.Bound.Beat())
	defer cancel()
	return l.r.cfg.Source.Poll(bounded, l.k.position)
}

// beatTimeout leaves room for another try before the proof is too old.
func (r *Replica) beatTimeout() time.Duration { return 2 * r.cfg.Bound.Beat() }

// failed goes back to the position of the last acknowledged beat: a crash may take
// back what was read since (F3). The cache goes on for as long as the proof is young.
func (l *life) failed(sent clock.Instant, err error) error {
	l.r.stats.failures.Add(1)
	l.k.position = l.k.beaten
	l.k.problem = "the change feed cannot be read: " + err.Error()
	l.publish()
	if clock.Now().Sub(l.ackedAt) >= time.Duration(l.r.cfg.Bound) {
		return errors.Join(errSilent, err)
	}
	// The next step is a beat; it shows whether the store is there again.
	l.beatDue = sent.Add(l.r.cfg.Bound.Beat() / 10)
	return nil
}

// cover notes whether the feed tells of every change.
func (l *life) cover(news feed.News) {
	before := l.k.problem
	switch news.Coverage {
	case feed.CoverageFull:
		l.k.mode, l.k.problem = cache.ModeTracked, ""
	case feed.CoverageOwn:
		l.k.mode, l.k.problem = cache.ModeAged, ""
	default:
		l.k.mode, l.k.problem = cache.ModeBypass, news.Problem
		if before != news.Problem {
			l.r.cfg.Log.Error("nothing is cached: the change feed does not tell of every change", "problem", news.Problem)
		}
	}
}

// apply stamps and drops here, then tells every watcher, cached here or not (A1).
func (l *life) apply(news feed.News) {
	if news.Overflow {
		l.forgetAll()
	} else if len(news.Events) > 0 {
		l.r.cache.Apply(news.Events)
		l.r.hub.Push(news.Events)
	}
	l.r.stats.events.Add(uint64(len(news.Events)))
	urgent := false
	for _, e := range news.Events {
		urgent = urgent || e.Urgent
	}
	last := pending{push: l.r.hub.Pushed(), position: news.Position, urgent: urgent}
	if n := len(l.pending); n > 0 && l.pending[n-1].push == last.push {
		last.urgent = last.urgent || l.pending[n-1].urgent
		l.pending[n-1] = last // nothing was pushed since: this position is done no later
		return
	}
	l.pending = append(l.pending, last)
}

func (l *life) forgetAll() {
	l.r.stats.forgetAlls.Add(1)
	l.r.cache.ForgetAll()
	l.r.hub.Push([]feed.Event{{Kind: feed.KindAll}})
}

// settle moves done to the newest position whose events every watcher has
// acknowledged, or can no longer use an older lease (W4). It reports whether that
// is news to a Revoke.
func (l *life) settle() bool {
	done := l.r.hub.Done(clock.Now())
	n, urgent := 0, false
	for n < len(l.pending) && l.pending[n].push <= done {
		l.k.done = l.pending[n].position
		urgent = urgent || l.pending[n].urgent
		n++
	}
	if n == 0 {
		return false
	}
	l.pending = append(l.pending[:0], l.pending[n:]...)
	if urgent {
		l.beatDue = clock.Now()
	}
	l.publish()
	return urgent
}

// publish makes what is known visible to all.
func (l *life) publish() {
	k := l.k
	l.r.known.Store(&k)
}

// lose ends a life: no proof counts and nothing is cached until a new registration.
func (r *Replica) lose(err error) {
	before := r.known.Load()
	problem := "no place in the registry: " + err.Error()
	r.known.Store(&knowledge{mode: cache.ModeBypass, proof: clock.Never, problem: problem})
	if before.problem != problem {
		r.cfg.Log.Warn("the replica begins anew; nothing is cached until it has a place in the registry", "error", err)
	}
}
