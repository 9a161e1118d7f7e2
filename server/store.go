package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/postgres"
	"github.com/sessiond/sessiond/server/internal/store/redis"
	"github.com/sessiond/sessiond/server/internal/store/secondary"
	"github.com/sessiond/sessiond/server/internal/store/sqlite"
	"github.com/sessiond/sessiond/sessioncookie"
)

// OpenStore opens the configured store. It is shared with explain, so that what
// explain reads is what serve reads.
func OpenStore(ctx context.Context, cfg StoreConfig) (store.Store, error) {
	switch {
	case cfg.Driver == DriverNone:
		return store.None{}, nil
	case cfg.Secondary == nil:
		return openDatabase(ctx, cfg)
	}
	first, err := redis.Open(ctx, cfg.redis())
	if err != nil {
		return nil, err // not a nil pointer in an interface
	}
	if !cfg.Secondary.InDatabase {
		return first, nil
	}
	rows, err := openDatabase(ctx, cfg)
	if err != nil {
		return nil, errors.Join(err, first.Close())
	}
	c := secondary.Config{First: first, Rows: rows, Rule: secondary.Parity}
	if cfg.Secondary.Strict {
		c.Rule = secondary.Strict
	}
	c.Preserved = cfg.preserved()
	return secondary.New(c), nil
}

func openDatabase(ctx context.Context, cfg StoreConfig) (store.Store, error) {
	switch cfg.Driver {
	case DriverSQLite:
		return sqlite.Open(ctx, cfg.sqlite())
	case DriverPostgres:
		return postgres.Open(ctx, cfg.postgres())
	default:
		return nil, fmt.Errorf("store.driver: %q is not a driver: use %s, %s or %s", cfg.Driver, DriverSQLite, DriverPostgres, DriverNone)
	}
}

// openWriter opens what sessions are made with; nil where there is no store.
func openWriter(ctx context.Context, cfg StoreConfig) (store.Writer, error) {
	if cfg.Driver == DriverNone {
		return nil, nil
	}
	if cfg.Secondary == nil {
		w, err := openRowsWriter(ctx, cfg)
		if err != nil {
			return nil, err // not a nil pointer in an interface
		}
		return w, nil
	}
	c := redis.WriterConfig{
		Config: cfg.redis(), Release: cfg.Secondary.release(), ExpiresIn: cfg.Secondary.ExpiresIn,
		Rows: &users{cfg: cfg}, InDatabase: cfg.Secondary.InDatabase,
	}
	if !cfg.Secondary.InDatabase {
		w, err := redis.OpenWriter(c)
		if err != nil {
			return nil, err
		}
		return w, nil
	}
	rows, err := openRowsWriter(ctx, cfg)
	if err != nil {
		return nil, err
	}
	c.Rows = rows
	keys, err := redis.OpenWriter(c)
	if err != nil {
		return nil, errors.Join(err, rows.Close())
	}
	return secondary.NewWriter(secondary.WriterConfig{
		Keys: keys, Rows: rows, Preserved: cfg.preserved(), RowsFirst: c.Release < redis.Release14,
		ListRows: cfg.Secondary.since(sessioncookie.V1_7) && !cfg.Secondary.Preserve,
	}), nil
}

// rowsWriter writes the rows of a database, and reads them whole.
type rowsWriter interface {
	store.Writer
	store.Rows
}

func openRowsWriter(ctx context.Context, cfg StoreConfig) (rowsWriter, error) {
	if cfg.Driver == DriverPostgres {
		w, err := postgres.OpenWriter(ctx, cfg.postgres())
		if err != nil {
			return nil, err // not a nil pointer in an interface
		}
		return w, nil
	}
	w, err := sqlite.OpenWriter(ctx, cfg.sqlite())
	if err != nil {
		return nil, err
	}
	return w, nil
}

func (c StoreConfig) sqlite() sqlite.Config {
	return sqlite.Config{Path: c.Path, Create: c.Create, Schema: c.Schema}
}

func (c StoreConfig) postgres() postgres.Config {
	return postgres.Config{DSN: c.DSN, Schema: c.Schema, Zone: c.Zone, MaxConns: c.MaxConns}
}

func (c StoreConfig) redis() redis.Config {
	return redis.Config{
		URL: c.Secondary.URL, Prefix: c.Secondary.Prefix,
		RevokedMarks:    c.Secondary.since(sessioncookie.V1_7),
		SoftDeleteField: c.Schema.SoftDeleteColumn,
		HideSession:     c.Schema.Session.Hide, HideUser: c.Schema.User.Hide,
	}
}

// since reports whether the issuer is of a version or newer. Zero is the current one.
func (c *SecondaryConfig) since(v sessioncookie.Version) bool {
	return c.Version == 0 || c.Version >= v
}

// preserved reports whether rows are records of sessions, and not used again.
func (c StoreConfig) preserved() bool {
	return c.Secondary.Preserve && c.Secondary.since(sessioncookie.V1_6)
}

// release is the line of releases that writes secondary storage as the issuer does.
func (c *SecondaryConfig) release() redis.Release {
	switch {
	case c.since(sessioncookie.V1_6):
		return redis.Release16
	case c.since(sessioncookie.V1_4):
		return redis.Release14
	case c.since(sessioncookie.V1_3):
		return redis.Release13
	}
	return redis.Release12
}
