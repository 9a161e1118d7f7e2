package server

import (
	"context"
	"errors"
	"time"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/store/postgres"
	"github.com/sessiond/sessiond/server/internal/store/redis"
	"github.com/sessiond/sessiond/server/internal/store/secondary"
	"github.com/sessiond/sessiond/server/internal/store/sqlite"
)

// FeedInstall says what PlanFeedInstall installs.
type FeedInstall struct {
	// Bound is the staleness bound, the same for all replicas.
	Bound time.Duration
	// WithoutTriggers leaves the triggers out, where the rights for them are missing.
	WithoutTriggers bool
	// Role is the database role that the authority connects as; empty: its rights
	// are seen to otherwise. Postgres only.
	Role string
}

// openSource opens the change feed of a store. The error wraps
// [feed.ErrNotInstalled] where there is none.
func openSource(ctx context.Context, cfg StoreConfig, tokens secondary.Tokens, bound time.Duration) (feed.Source, error) {
	if cfg.Secondary == nil {
		return openRowsSource(ctx, cfg, bound)
	}
	keys, err := redis.OpenFeed(ctx, cfg.redis(), cfg.Secondary.ExpiresIn)
	if err != nil {
		return nil, err // not a nil pointer in an interface
	}
	if !cfg.Secondary.InDatabase {
		return keys, nil
	}
	rows, err := openRowsSource(ctx, cfg, bound)
	if err != nil {
		return nil, errors.Join(err, keys.Close())
	}
	ending := feed.EndDelete
	switch {
	case cfg.preserved():
		ending = feed.EndNow
	case cfg.Secondary.Preserve:
		ending = feed.EndPast
	}
	return secondary.NewNamed(secondary.NewFeed(keys, rows, ending), tokens), nil
}

func openRowsSource(ctx context.Context, cfg StoreConfig, bound time.Duration) (feed.Source, error) {
	if cfg.Driver == DriverPostgres {
		source, err := postgres.OpenFeed(ctx, cfg.postgres())
		if err != nil {
			return nil, err // not a nil pointer in an interface
		}
		return source, nil
	}
	if cfg.Create {
		// The embedded database is ours: it has a feed, for the bound that is configured.
		plan, err := sqlite.PlanInstall(ctx, cfg.sqlite(), sqlite.InstallOptions{Bound: bound})
		if err != nil {
			return nil, err
		}
		if len(plan.Statements) > 0 {
			if err := sqlite.Apply(ctx, cfg.sqlite(), plan.Statements); err != nil {
				return nil, err
			}
		}
	}
	source, err := sqlite.OpenFeed(ctx, cfg.sqlite())
	if err != nil {
		return nil, err
	}
	return source, nil
}

// PlanFeedInstall returns what ApplyFeedPlan has to run to install the change feed
// or bring it up to date. It changes nothing.
func PlanFeedInstall(ctx context.Context, cfg StoreConfig, o FeedInstall) (*feed.Plan, error) {
	if cfg.keysOnly() {
		return &feed.Plan{Notes: []string{"nothing has to be installed: the first authority that starts makes the feed in redis"}}, nil
	}
	if cfg.Driver == DriverPostgres {
		return postgres.PlanInstall(ctx, cfg.postgres(), postgres.InstallOptions{Bound: o.Bound, WithoutTriggers: o.WithoutTriggers, Role: o.Role})
	}
	if o.Role != "" {
		return nil, errors.New("--role is for Postgres: a SQLite file has no roles")
	}
	return sqlite.PlanInstall(ctx, cfg.sqlite(), sqlite.InstallOptions{Bound: o.Bound, WithoutTriggers: o.WithoutTriggers})
}

// PlanFeedRemove returns what ApplyFeedPlan has to run to remove it.
func PlanFeedRemove(ctx context.Context, cfg StoreConfig) (*feed.Plan, error) {
	if cfg.keysOnly() {
		return &feed.Plan{Statements: redis.RemoveCommands(cfg.redis())}, nil
	}
	if cfg.Driver == DriverPostgres {
		return postgres.PlanRemove(ctx, cfg.postgres())
	}
	return sqlite.PlanRemove(ctx, cfg.sqlite())
}

// ApplyFeedPlan runs the statements of a plan in one transaction.
func ApplyFeedPlan(ctx context.Context, cfg StoreConfig, statements []string) error {
	if cfg.keysOnly() {
		return redis.Remove(ctx, cfg.redis())
	}
	if cfg.Driver == DriverPostgres {
		return postgres.Apply(ctx, cfg.postgres(), statements)
	}
	return sqlite.Apply(ctx, cfg.sqlite(), statements)
}

// InspectFeed says what is installed and what is wrong with it.
func InspectFeed(ctx context.Context, cfg StoreConfig) (*feed.Report, error) {
	if cfg.keysOnly() {
		return redis.Inspect(ctx, cfg.redis())
	}
	if cfg.Driver == DriverPostgres {
		return postgres.Inspect(ctx, cfg.postgres())
	}
	return sqlite.Inspect(ctx, cfg.sqlite())
}

// keysOnly reports whether sessions are in secondary storage alone.
func (c StoreConfig) keysOnly() bool { return c.Secondary != nil && !c.Secondary.InDatabase }
