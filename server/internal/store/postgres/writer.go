package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/schema"
)

// writerConns is few: sessions are made by people and tests, not by every request.
const writerConns = 2

// Writer writes sessions. It implements [store.Writer] and [store.Rows].
type Writer struct {
	*Rows
	local                          bool // createdAt has no zone
	create, extend, sessions, find string
}

var (
	_ store.Writer = (*Writer)(nil)
	_ store.Rows   = (*Writer)(nil)
)

// OpenWriter connects and finds the tables. The caller must Close it.
func OpenWriter(ctx context.Context, c Config) (*Writer, error) {
	r, err := openRows(ctx, c)
	if err != nil {
		return nil, err
	}
	w := &Writer{Rows: r}
	err = r.discover(ctx, func(found *catalog) error {
		m, err := schema.Discover(found.Catalog, c.Schema)
		if err == nil {
			w.write(found, m)
		}
		return err
	})
	if err != nil {
		r.pool.Close()
		return nil, err
	}
	return w, nil
}

// write makes the statements.
func (w *Writer) write(c *catalog, m *schema.Mapping) {
	table := m.Session
	column := func(field string) string { return schema.Quote(table.Fields[field].Name) }
	typeOf := func(field string) columnType { return c.typeOf(table, table.Fields[field].Name) }
	zone := literal(w.zone.String())
	instant := func(field string, parameter int) string {
		expr := fmt.Sprintf("$%d::timestamptz", parameter)
		if typeOf(field).name == "timestamp without time zone" {
			expr = "(" + expr + " AT TIME ZONE " + zone + ")"
		}
		return expr
	}
	text := func(field string, parameter int) string {
		return fmt.Sprintf("$%d::text::%s", parameter, typeOf(field).name)
	}

	var columns, values []string
	add := func(field, value string) {
		if _, ok := table.Fields[field]; ok {
			columns, values = append(columns, column(field)), append(values, value)
		}
	}
	w.local = typeOf("createdAt").name == "timestamp without time zone"
	switch typeOf("id").family() {
	case intFamily: // serial or identity
	case uuidFamily:
		add("id", "gen_random_uuid()")
	default:
		add("id", text("id", 1))
	}
	add("token", text("token", 2))
	add("userId", "u."+schema.Quote(m.User.Fields["id"].Name))
	add("createdAt", instant("createdAt", 4))
	add("updatedAt", instant("updatedAt", 4))
	add("expiresAt", instant("expiresAt", 5))
	add("ipAddress", text("ipAddress", 6))
	add("userAgent", text("userAgent", 7))
	user := "u." + schema.Quote(m.User.Fields["id"].Name)
	// $1 is not used where the database makes the ids; it needs a type all the same.
	w.create = fmt.Sprintf(`INSERT INTO %s (%s) SELECT %s FROM %s AS u WHERE %s AND $1::text IS NOT NULL AND $6::text IS NOT NULL AND $7::text IS NOT NULL RETURNING %s::text`,
		table.SQL(), strings.Join(columns, ", "), strings.Join(values, ", "), m.User.SQL(),
		equals(user, c.typeOf(m.User, m.User.Fields["id"].Name), 3), column("id"))

	is := func(field string, parameter int) string { return equals("s."+column(field), typeOf(field), parameter) }
	w.extend = fmt.Sprintf(`UPDATE %s AS s SET %s = %s, %s = %s WHERE %s AND s.%s >= %s AND (s.%s < %s) IS NOT FALSE`, table.SQL(),
		column("expiresAt"), instant("expiresAt", 2), column("updatedAt"), instant("updatedAt", 3), is("token", 1),
		column("expiresAt"), instant("expiresAt", 3), column("updatedAt"), instant("updatedAt", 3))
	created := "s." + column("createdAt")
	w.sessions = fmt.Sprintf(`SELECT s.%[1]s::text, s.%[2]s::text, %[3]s FROM %[4]s AS s
WHERE %[5]s AND ($2::timestamptz IS NULL OR (%[3]s, s.%[2]s::text COLLATE "C") < (%[6]s, $3::text COLLATE "C"))
ORDER BY %[3]s DESC, s.%[2]s::text COLLATE "C" DESC LIMIT $4`,
		column("token"), column("id"), created, table.SQL(), is("userId", 1), instant("createdAt", 2))
	w.user, w.session = newRowStatement(c, m.User, m.User.UserRow(), "id"), newRowStatement(c, m.Session, m.SessionRow(), "token")
	w.find = fmt.Sprintf(`SELECT s.%s::text FROM %s AS s WHERE %s AND %s`, column("token"), table.SQL(), is("userId", 1), is("id", 2))
}

// Create implements [store.Writer].
func (w *Writer) Create(ctx context.Context, s store.NewSession) (id string, err error) {
	for _, text := range []string{s.Token, s.UserID, s.IPAddress, s.UserAgent} {
		if !schema.Storable(text) {
			return "", fmt.Errorf("%w: a text that is not UTF-8 or holds NUL", store.ErrNotWritable)
		}
	}
	err = w.pool.QueryRow(ctx, w.create, s.ID, s.Token, s.UserID, s.CreatedAt, s.ExpiresAt, s.IPAddress, s.UserAgent).Scan(&id)
	var refused *pgconn.PgError
	switch {
	case err == nil:
		return id, nil
	case errors.Is(err, pgx.ErrNoRows):
		return "", store.ErrNoUser
	case errors.As(err, &refused) && strings.HasPrefix(refused.Code, "23"): // integrity constraint violation
		what := refused.ColumnName
		if what == "" {
			what = refused.ConstraintName
		}
		return "", fmt.Errorf("%w: %s %q: give the column a default in the database", store.ErrNotWritable, strings.ToLower(refused.Severity+" "+refused.Code+" of"), what)
	case errors.As(err, &refused) && refused.Code == "42501":
		return "", fmt.Errorf("%w: the role may not insert into it: GRANT INSERT, UPDATE on the session table to the authority's role", store.ErrNotWritable)
	}
	return "", w.failed(ctx, err)
}

// Extend implements [store.Writer].
func (w *Writer) Extend(ctx context.Context, token string, expires, updated time.Time) (bool, error) {
	if !schema.Storable(token) {
		return false, nil
	}
	tag, err := w.pool.Exec(ctx, w.extend, token, expires, updated)
	if err != nil {
		return false, w.failed(ctx, err)
	}
	return tag.RowsAffected() > 0, nil
}

// Sessions implements [store.Writer].
func (w *Writer) Sessions(ctx context.Context, user string, limit int, after store.Cursor) ([]store.NamedSession, error) {
	if !schema.Storable(user) || !schema.Storable(after.ID) {
		return nil, nil
	}
	var from *time.Time
	if !after.CreatedAt.IsZero() {
		from = &after.CreatedAt
	}
	rows, err := w.pool.Query(ctx, w.sessions, user, from, after.ID, limit)
	if err != nil {
		return nil, w.failed(ctx, err)
	}
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (n store.NamedSession, err error) {
		err = row.Scan(&n.Token, &n.ID, &n.CreatedAt)
		if w.local {
			n.CreatedAt = inZone(n.CreatedAt, w.zone)
		}
		return n, err
	})
	if err != nil {
		return nil, w.failed(ctx, err)
	}
	return out, nil
}

// Token implements [store.Writer].
func (w *Writer) Token(ctx context.Context, user, session string) (token string, found bool, err error) {
	if !schema.Storable(user) || !schema.Storable(session) {
		return "", false, nil
	}
	err = w.pool.QueryRow(ctx, w.find, user, session).Scan(&token)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", false, nil
	}
	if err != nil {
		return "", false, w.failed(ctx, err)
	}
	return token, true, nil
}
