package authority

import (
	"context"
	"errors"

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

func (d direct) Findings(ctx context.Context, token string) []store.Finding {
	return d.store.Findings(ctx, token)
}

func (d direct) NeedsRead(feed.Revision) (bool, error) { return false, errNoRevisions }
