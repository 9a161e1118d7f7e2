package replica

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server/internal/feed"
)

// peers is what this process has itself seen of the other replicas' beats.
type peers struct {
	mu  sync.Mutex
	own string // the registration in whose life this was seen (G6)
	// seen holds, by id, the beat and the arrival of the first read that showed it.
	seen map[string]sighting
}

type sighting struct {
	beat  int64
	since clock.Instant
}

// begin forgets what was seen: another registration, or another server.
func (p *peers) begin(own string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.own, p.seen = own, map[string]sighting{}
}

// observe notes a registry that arrived, and returns those replicas whose beat has
// stood still for wait on this process's own clock (G4).
func (p *peers) observe(own string, rows []feed.Replica, arrived clock.Instant, wait time.Duration) []feed.Replica {
	p.mu.Lock()
	defer p.mu.Unlock()
	if own != p.own {
		return nil
	}
	seen := make(map[string]sighting, len(rows))
	var still []feed.Replica
	for _, row := range rows {
		if row.ID == own {
			continue
		}
		last, known := p.seen[row.ID]
		if !known || last.beat != row.Beat {
			last = sighting{beat: row.Beat, since: arrived}
		}
		seen[row.ID] = last
		if arrived.Sub(last.since) >= wait {
			still = append(still, row)
		}
	}
	p.seen = seen
	return still
}

// keepRegistry removes the rows of replicas that have died, and the events that
// everybody is past.
func (r *Replica) keepRegistry(ctx context.Context) {
	for wait(ctx, r.cfg.Bound.Beat()) {
		k := r.known.Load()
		if k.place == nil {
			continue
		}
		bounded, cancel := context.WithTimeout(ctx, r.beatTimeout())
		_, err := r.readRegistry(bounded, k)
		if err == nil {
			err = r.cfg.Source.Clean(bounded)
		}
		cancel()
		if err != nil && ctx.Err() == nil {
			r.stats.failures.Add(1)
			r.cfg.Log.Debug("the registry could not be kept", "error", err)
		}
	}
}

// errRegistryChanged means that the registry is not that of the life that asked.
var errRegistryChanged = errors.New("the registry is another server's, or the own place is lost")

// readRegistry returns the other replicas, without those that it has just removed
// since their beat has stood still.
func (r *Replica) readRegistry(ctx context.Context, k *knowledge) ([]feed.Replica, error) {
	registry, err := r.cfg.Source.Replicas(ctx, k.place.id, k.acked)
	arrived := clock.Now()
	switch {
	case errors.Is(err, feed.ErrLostPlace):
		r.Hurry()
		return nil, errors.Join(errRegistryChanged, err)
	case err != nil:
		return nil, err
	case registry.Era != k.place.era:
		r.Hurry()
		return nil, errRegistryChanged
	}
	removed := map[string]bool{}
	for _, row := range r.peers.observe(k.place.id, registry.Replicas, arrived, r.cfg.Bound.Wait()) {
		gone, err := r.cfg.Source.Exclude(ctx, row.ID, row.Beat)
		if err != nil {
			return nil, err
		}
		if gone {
			removed[row.ID] = true
			r.cfg.Log.Info("a replica whose beat has stood still was removed from the registry", "replica", row.ID)
		}
	}
	var others []feed.Replica
	for _, row := range registry.Replicas {
		if row.ID != k.place.id && !removed[row.ID] {
			others = append(others, row)
		}
	}
	return others, nil
}
