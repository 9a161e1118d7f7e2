package server

import (
	"context"
	"errors"

	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/postgres"
	"github.com/sessiond/sessiond/server/internal/store/redis"
	"github.com/sessiond/sessiond/server/internal/store/sqlite"
)

// ErrNoStore means that there is none to look at: the issuer is stateless.
var ErrNoStore = errors.New("the issuer has no session store (store.driver=none)")

// ExamineStore looks at the configured store from outside, where OpenStore might
// refuse it. The caller closes what it returns.
func ExamineStore(ctx context.Context, cfg StoreConfig) (store.Examiner, error) {
	if cfg.Driver == DriverNone {
		return nil, ErrNoStore
	}
	if cfg.keysOnly() {
		e, err := redis.Examine(ctx, cfg.redis())
		if err != nil {
			return nil, err
		}
		return e, nil
	}
	if cfg.Driver == DriverPostgres {
		e, err := postgres.Examine(ctx, cfg.postgres())
		if err != nil {
			return nil, err // not a nil pointer in an interface
		}
		return e, nil
	}
	e, err := sqlite.Examine(ctx, cfg.sqlite())
	if err != nil {
		return nil, err
	}
	return e, nil
}

// ExamineSecondary looks at the issuer's secondary storage; ok is false where it has none.
func ExamineSecondary(ctx context.Context, cfg StoreConfig) (state store.SecondaryState, ok bool, err error) {
	if cfg.Secondary == nil {
		return state, false, nil
	}
	e, err := redis.Examine(ctx, cfg.redis())
	if err != nil {
		return state, true, err
	}
	state, err = e.State(ctx)
	return state, true, errors.Join(err, e.Close())
}
