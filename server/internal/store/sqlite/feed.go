package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/sessiond/sessiond/server/internal/feed"
)

// OpenFeed opens the change feed.
func OpenFeed(_ context.Context, c Config) (feed.Source, error) {
	return nil, fmt.Errorf("%w in %s", feed.ErrNotInstalled, c.Path)
}

// InstallOptions says what is installed.
type InstallOptions struct {
	Bound           time.Duration
	WithoutTriggers bool
}

func PlanInstall(context.Context, Config, InstallOptions) (*feed.Plan, error) {
	return nil, feed.ErrNotInstalled
}
func PlanRemove(context.Context, Config) (*feed.Plan, error) { return nil, feed.ErrNotInstalled }
func Apply(context.Context, Config, []string) error          { return feed.ErrNotInstalled }
func Inspect(context.Context, Config) (*feed.Report, error)  { return nil, feed.ErrNotInstalled }
