package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/schema"
)

// Rows reads whole rows. It implements [store.Rows].
type Rows struct {
	pool          *pgxpool.Pool
	server        server
	zone          *time.Location
	user, session rowStatement
}

var _ store.Rows = (*Rows)(nil)

// OpenUsers connects and finds the user table. There may be none of sessions. The
// caller must Close it.
func OpenUsers(ctx context.Context, c Config) (*Rows, error) {
	r, err := openRows(ctx, c)
	if err != nil {
		return nil, err
	}
	err = r.discover(ctx, func(found *catalog) error {
		user, err := schema.DiscoverUser(found.Catalog, c.Schema)
		if err == nil {
			r.user = newRowStatement(found, user, user.UserRow(), "id")
		}
		return err
	})
	if err != nil {
		r.pool.Close()
		return nil, err
	}
	return r, nil
}

// openRows makes the pool. Nothing is known of the tables yet.
func openRows(ctx context.Context, c Config) (*Rows, error) {
	pc, err := parseConfig(c)
	if err != nil {
		return nil, err
	}
	pc.MaxConns, pc.MinConns, pc.MinIdleConns = writerConns, 0, 0
	r := &Rows{server: serverOf(pc.ConnConfig), zone: c.Zone}
	if r.zone == nil {
		r.zone = time.UTC
	}
	if r.pool, err = pgxpool.NewWithConfig(context.WithoutCancel(ctx), pc); err != nil {
		return nil, r.server.unavailable(err)
	}
	return r, nil
}

// discover reads the catalog and gives it to use.
func (r *Rows) discover(ctx context.Context, use func(*catalog) error) error {
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	conn, err := r.pool.Acquire(opening)
	if err != nil {
		return r.failed(opening, err)
	}
	defer conn.Release()
	c, err := readCatalog(opening, conn.Conn())
	if err != nil {
		return r.failed(opening, err)
	}
	if err := use(c); err != nil {
		return fmt.Errorf("database %s: %w", r.server, err)
	}
	return nil
}

// rowStatement reads one row of a table by one of its fields.
type rowStatement struct {
	table   schema.MappedTable
	columns []schema.Attribute
	cells   []cell
	sql     string
}

func newRowStatement(c *catalog, t schema.MappedTable, columns []schema.Attribute, by string) rowStatement {
	s := rowStatement{table: t, columns: columns}
	var exprs []string
	for _, a := range columns {
		cl := newCell("t."+schema.Quote(a.Column.Name), a.Want, c.typeOf(t, a.Column.Name))
		s.cells, exprs = append(s.cells, cl), append(exprs, cl.expr)
	}
	key := t.Fields[by].Name
	s.sql = fmt.Sprintf("SELECT %s FROM %s AS t WHERE %s", strings.Join(exprs, ", "), t.SQL(), equals("t."+schema.Quote(key), c.typeOf(t, key), 1))
	return s
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
	if !schema.Storable(key) {
		return nil, nil
	}
	rows, err := r.pool.Query(ctx, s.sql, key)
	if err != nil {
		return nil, r.failed(ctx, err)
	}
	row, err := pgx.CollectOneRow(rows, func(row pgx.CollectableRow) (store.Row, error) {
		read := reader{types: rows.Conn().TypeMap(), zone: r.zone}
		out := make(store.Row, len(s.columns))
		for i, raw := range row.RawValues() {
			f := row.FieldDescriptions()[i]
			v, err := read.value(s.cells[i], f.DataTypeOID, f.Format, raw)
			if err != nil {
				return nil, fmt.Errorf("%w: column %q of %s: %w", store.ErrNotWritable, s.columns[i].Column.Name, s.table.SQL(), err)
			}
			v.Name = s.columns[i].Name
			out[i] = v
		}
		return out, nil
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case errors.Is(err, store.ErrNotWritable):
		return nil, err
	case err != nil:
		return nil, r.failed(ctx, err)
	}
	return row, nil
}

// Close implements [store.Rows].
func (r *Rows) Close() error {
	r.pool.Close()
	return nil
}

func (r *Rows) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("write a session: %w", ctx.Err())
	}
	return r.server.unavailable(err)
}
