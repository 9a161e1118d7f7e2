package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/schema"
)

// Rows reads whole rows. It implements [store.Rows].
type Rows struct {
	db            *sql.DB
	path          string
	user, session rowStatement
}

var _ store.Rows = (*Rows)(nil)

// OpenUsers opens the file and finds the user table. There may be none of sessions.
// The caller must Close it.
func OpenUsers(ctx context.Context, c Config) (*Rows, error) {
	r, catalog, err := openRows(ctx, c)
	if err != nil {
		return nil, err
	}
	user, err := schema.DiscoverUser(catalog, c.Schema)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("database %s: %w", r.path, err), r.db.Close())
	}
	r.user = newRowStatement(user, user.UserRow(), "id")
	return r, nil
}

// openRows opens the file and reads what tables it has.
func openRows(ctx context.Context, c Config) (*Rows, schema.Catalog, error) {
	path, err := filepath.Abs(c.Path)
	if err != nil {
		return nil, schema.Catalog{}, fmt.Errorf("path of the session store: %w", err)
	}
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	r := &Rows{path: path}
	if r.db, err = sql.Open("sqlite", dsn(path, "rw")+"&_pragma=foreign_keys(1)"); err != nil {
		return nil, schema.Catalog{}, unavailable(path, err)
	}
	r.db.SetMaxOpenConns(1)
	catalog, err := readCatalog(opening, r.db)
	if err != nil {
		return nil, schema.Catalog{}, errors.Join(unavailable(path, err), r.db.Close())
	}
	return r, catalog, nil
}

// rowStatement reads one row of a table by one of its fields.
type rowStatement struct {
	table   schema.MappedTable
	columns []schema.Attribute
	sql     string
}

func newRowStatement(t schema.MappedTable, columns []schema.Attribute, by string) rowStatement {
	var exprs []string
	for _, a := range columns {
		exprs = append(exprs, "+"+schema.Quote(a.Column.Name)) // as [lookupSQL] has it
	}
	key := schema.Quote(t.Fields[by].Name)
	if t.Fields[by].Holds&schema.HoldsToken == 0 {
		key = "CAST(" + key + " AS TEXT)"
	}
	return rowStatement{table: t, columns: columns, sql: fmt.Sprintf("SELECT %s FROM %s WHERE %s = ?", strings.Join(exprs, ", "), t.SQL(), key)}
}

// UserRow implements [store.Rows].
func (r *Rows) UserRow(ctx context.Context, id string) (store.Row, error) {
	return r.row(ctx, r.user, id)
}

// SessionRow implements [store.Rows].
func (r *Rows) SessionRow(ctx context.Context, token string) (store.Row, error) {
	return r.row(ctx, r.session, token)
}

func (r *Rows) row(ctx context.Context, s rowStatement, key string) (store.Row, error) {
	values, targets := make([]any, len(s.columns)), make([]any, len(s.columns))
	for i := range values {
		targets[i] = &values[i]
	}
	err := r.db.QueryRowContext(ctx, s.sql, key).Scan(targets...)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, r.failed(ctx, err)
	}
	out := make(store.Row, len(s.columns))
	for i, a := range s.columns {
		v, err := decode(schema.Slot{Column: a.Column, Want: a.Want}, values[i])
		if err != nil {
			return nil, fmt.Errorf("%w: column %q of %s: %w", store.ErrNotWritable, a.Column.Name, s.table.SQL(), err)
		}
		v.Name = a.Name
		out[i] = v
	}
	return out, nil
}

// Close implements [store.Rows].
func (r *Rows) Close() error { return r.db.Close() }

func (r *Rows) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("write %s: %w", r.path, ctx.Err())
	}
	return unavailable(r.path, err)
}
