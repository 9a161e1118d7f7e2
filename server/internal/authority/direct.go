package authority

import (
	"context"
	"errors"
	"fmt"

	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server/internal/cache"
	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/store"
)

// Direct returns Records that read a store for every question and remember nothing.
func Direct(st store.Store) Records { return direct{st} }

type direct struct{ store store.Store }

var errNoRevisions = errors.New("nothing is known of revisions without a change feed")

func (d direct) Get(ctx context.Context, q cache.Question) (cache.Answer, error) {
	var out [1]cache.Answer
	err := d.GetBatch(ctx, []cache.Question{q}, out[:])
	return out[0], err
}

func (d direct) GetBatch(ctx context.Context, qs []cache.Question, out []cache.Answer) error {
	tokens := make([]string, len(qs))
	for i, q := range qs {
		tokens[i] = q.Token
	}
	sent := clock.Now()
	records, err := d.store.Lookup(ctx, "", tokens)
	if err != nil {
		return err
	}
	for i := range records {
		out[i] = cache.Answer{Record: &records[i], AsOf: sent}
	}
	return nil
}

func (d direct) NeedsRead(feed.Revision) (bool, error) { return false, errNoRevisions }

// NoStore is Records and a [Source] of a store that could not be opened: nothing can
// be found out.
type NoStore struct {
	// Err says why.
	Err error
}

// Get implements [Records].
func (n NoStore) Get(context.Context, cache.Question) (cache.Answer, error) {
	return cache.Answer{}, n.unavailable()
}

// GetBatch implements [Records].
func (n NoStore) GetBatch(context.Context, []cache.Question, []cache.Answer) error {
	return n.unavailable()
}

// NeedsRead implements [Records].
func (n NoStore) NeedsRead(feed.Revision) (bool, error) { return false, n.unavailable() }

// Describe implements [Source].
func (n NoStore) Describe() store.Description { return store.Description{} }

// Clues implements [Source].
func (n NoStore) Clues(context.Context, string) (store.Clues, error) {
	return store.Clues{}, n.unavailable()
}

func (n NoStore) unavailable() error {
	if errors.Is(n.Err, store.ErrUnavailable) {
		return n.Err
	}
	return fmt.Errorf("%w: %w", store.ErrUnavailable, n.Err)
}
