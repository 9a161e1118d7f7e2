package server

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/postgres"
	"github.com/sessiond/sessiond/server/internal/store/sqlite"
)

// users are the issuer's users where its sessions are in secondary storage alone. The
// database is opened when the first session is made: no validation needs it, and so
// none must fail for it.
type users struct {
	cfg StoreConfig

	mu   sync.Mutex
	open store.Rows // nil: not yet
}

func (u *users) rows(ctx context.Context) (store.Rows, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	var err error
	switch {
	case u.open != nil:
	case u.cfg.Path == "" && u.cfg.DSN == "":
		return nil, store.ErrNoUsers
	case u.cfg.Driver == DriverPostgres:
		var opened *postgres.Rows
		if opened, err = postgres.OpenUsers(ctx, u.cfg.postgres()); err == nil {
			u.open = opened
		}
	default:
		var opened *sqlite.Rows
		if opened, err = sqlite.OpenUsers(ctx, u.cfg.sqlite()); err == nil {
			u.open = opened
		}
	}
	if err != nil && !errors.Is(err, store.ErrUnavailable) && ctx.Err() == nil {
		err = fmt.Errorf("%w: its user cannot be read: %w", store.ErrNotWritable, err)
	}
	return u.open, err
}

// UserRow implements [store.Rows].
func (u *users) UserRow(ctx context.Context, id string) (store.Row, error) {
	rows, err := u.rows(ctx)
	if err != nil {
		return nil, err
	}
	return rows.UserRow(ctx, id)
}

// SessionRow implements [store.Rows]: there are none.
func (u *users) SessionRow(context.Context, string) (store.Row, error) { return nil, nil }

// Close implements [store.Rows].
func (u *users) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.open == nil {
		return nil
	}
	return u.open.Close()
}
