package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server/internal/feed"
)

// ErrNoFeed means that sessions cannot be revoked through this authority.
var ErrNoFeed = errors.New("revoking needs the change feed: with feed.mode=required the authority says at its start what is missing; for tables that is sessiond feed install, with --without-triggers where the rights for triggers are missing")

const (
	firstRegistryPause = time.Millisecond
	maxRegistryPause   = 20 * time.Millisecond
)

// Revoke ends sessions. When it returns without an error, no client of any replica
// accepts them any more: every registered replica and its watchers are done with
// the event, or can no longer use anything older (V2), or the bound has passed
// since the commit (V3). [feed.ErrRepeat]: the outcome is not known. The context
// bounds the commit; once that is acknowledged, Revoke waits its time out.
func (r *Replica) Revoke(ctx context.Context, target feed.Target) (feed.Revoked, error) {
	if r.cfg.Source == nil {
		return feed.Revoked{}, ErrNoFeed
	}
	before := r.known.Load()
	revoked, err := r.cfg.Source.Revoke(ctx, target)
	if err != nil {
		return feed.Revoked{}, err
	}
	deadline := clock.Now().Add(r.cfg.Bound.Wait())
	r.Hurry()
	for pause := firstRegistryPause; ; pause = min(2*pause, maxRegistryPause) {
		done, err := r.everybodyDone(ctx, before, revoked)
		if err != nil {
			return feed.Revoked{}, err
		}
		left := deadline.Sub(clock.Now())
		if done || left <= 0 {
			return revoked, nil
		}
		if !wait(ctx, min(pause, left)) {
			return feed.Revoked{}, fmt.Errorf("%w: the call ended before every worker was known to have heard of it", feed.ErrRepeat)
		}
	}
}

// Settle returns when this replica and its watchers are done with everything that was
// committed before. Other replicas may not be, nor the clients of earlier lives.
func (r *Replica) Settle(ctx context.Context) error {
	revision, err := r.Revision(ctx)
	if err != nil {
		return err
	}
	for pause := firstRegistryPause; ; pause = min(2*pause, maxRegistryPause) {
		r.Hurry()
		k := r.known.Load()
		if k.place != nil {
			if done, err := r.cfg.Source.Covers(k.done, k.era, revision); err != nil || done {
				return err
			}
		}
		if !wait(ctx, pause) {
			return ctx.Err()
		}
	}
}

// everybodyDone reports whether this replica, its watchers and all other replicas
// are done with a revocation. before is what was known when it was asked for.
func (r *Replica) everybodyDone(ctx context.Context, before *knowledge, revoked feed.Revoked) (bool, error) {
	k := r.known.Load()
	switch {
	case before.place != nil && k.place != before.place, k.place != nil && k.place.era != revoked.Era:
		// The server that took the commit may be gone, and the commit with it (V5).
		return false, fmt.Errorf("%w: the session store was restarted or replaced meanwhile", feed.ErrRepeat)
	case k.place == nil || clock.Now().Sub(k.place.since) < r.cfg.Bound.Wait():
		return false, nil // too new to trust the registry (G6)
	}
	if own, err := r.cfg.Source.Covers(k.done, k.era, revoked.Revision); err != nil || !own {
		return false, err
	}
	others, err := r.readRegistry(ctx, k)
	switch {
	case errors.Is(err, errRegistryChanged):
		return false, fmt.Errorf("%w: %w", feed.ErrRepeat, err)
	case err != nil:
		// Not known who there is: the time of V3 ends the wait, or a lost place does.
		return false, nil //nolint:nilerr // see above
	}
	for _, other := range others {
		covered, err := r.cfg.Source.Covers(other.Done, other.DoneEra, revoked.Revision)
		if err != nil || !covered {
			return false, err
		}
	}
	return true, nil
}
