package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/schema"
)

// Writer writes sessions. It implements [store.Writer] and [store.Rows].
type Writer struct {
	*Rows
	mapping *schema.Mapping
}

var (
	_ store.Writer = (*Writer)(nil)
	_ store.Rows   = (*Writer)(nil)
)

// OpenWriter opens the file and finds the tables. The caller must Close it.
func OpenWriter(ctx context.Context, c Config) (*Writer, error) {
	r, catalog, err := openRows(ctx, c)
	if err != nil {
		return nil, err
	}
	w := &Writer{Rows: r}
	if w.mapping, err = schema.Discover(catalog, c.Schema); err != nil {
		return nil, errors.Join(fmt.Errorf("database %s: %w", r.path, err), r.db.Close())
	}
	r.user, r.session = newRowStatement(w.mapping.User, w.mapping.User.UserRow(), "id"), newRowStatement(w.mapping.Session, w.mapping.SessionRow(), "token")
	return w, nil
}

func (w *Writer) column(field string) string {
	return schema.Quote(w.mapping.Session.Fields[field].Name)
}

// forms of dates in a column.
type dateForm int

const (
	dateText dateForm = iota
	dateMillis
	dateSeconds
)

// dateForm is the form of the dates that are there already, else the one of the
// column's declaration: Better Auth writes text; integers are milliseconds.
func (w *Writer) dateForm(ctx context.Context, field string) (dateForm, error) {
	var kind string
	var sample any
	err := w.db.QueryRowContext(ctx, fmt.Sprintf("SELECT typeof(%[1]s), +%[1]s FROM %[2]s WHERE %[1]s IS NOT NULL LIMIT 1", w.column(field), w.mapping.Session.SQL())).Scan(&kind, &sample)
	switch n, integer := sample.(int64); {
	case errors.Is(err, sql.ErrNoRows):
		if d := declared(w.mapping.Session.Fields[field].Type); d.has("INT") && !d.isTime() {
			return dateMillis, nil
		}
		return dateText, nil
	case err != nil:
		return 0, err
	case integer && n < secondsBelow:
		return dateSeconds, nil
	case integer:
		return dateMillis, nil
	}
	return dateText, nil
}

// date returns an instant as the column holds instants.
func (w *Writer) date(ctx context.Context, field string, t time.Time) (any, error) {
	form, err := w.dateForm(ctx, field)
	switch form {
	case dateMillis:
		return t.UnixMilli(), err
	case dateSeconds:
		return t.Unix(), err
	default:
		return date(t), err
	}
}

// Create implements [store.Writer].
func (w *Writer) Create(ctx context.Context, s store.NewSession) (id string, err error) {
	var columns, marks []string
	var args []any
	add := func(field string, value any) {
		if _, ok := w.mapping.Session.Fields[field]; ok {
			columns, marks, args = append(columns, w.column(field)), append(marks, "?"), append(args, value)
		}
	}
	if d := declared(w.mapping.Session.Fields["id"].Type); !d.has("INT") {
		add("id", s.ID)
	}
	add("token", s.Token)
	for field, t := range map[string]time.Time{"createdAt": s.CreatedAt, "updatedAt": s.CreatedAt, "expiresAt": s.ExpiresAt} {
		value, err := w.date(ctx, field, t)
		if err != nil {
			return "", w.failed(ctx, err)
		}
		add(field, value)
	}
	add("ipAddress", s.IPAddress)
	add("userAgent", s.UserAgent)
	columns = append(columns, w.column("userId"))
	userID := schema.Quote(w.mapping.User.Fields["id"].Name)
	statement := fmt.Sprintf("INSERT INTO %s (%s) SELECT %s, u.%s FROM %s AS u WHERE CAST(u.%s AS TEXT) = ? RETURNING CAST(%s AS TEXT)", w.mapping.Session.SQL(),
		strings.Join(columns, ", "), strings.Join(marks, ", "), userID, w.mapping.User.SQL(), userID, w.column("id"))
	err = w.db.QueryRowContext(ctx, statement, append(args, s.UserID)...).Scan(&id)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", store.ErrNoUser
	case err != nil && strings.Contains(err.Error(), "constraint failed"):
		// The driver's text names the table's column, and no value.
		return "", fmt.Errorf("%w: %v: give the column a default in the database", store.ErrNotWritable, err) //nolint:errorlint // the driver's errors do not leave
	case err != nil:
		return "", w.failed(ctx, err)
	}
	return id, nil
}

// Extend implements [store.Writer].
func (w *Writer) Extend(ctx context.Context, token string, expires, updated time.Time) (bool, error) {
	expiresAt, err := w.date(ctx, "expiresAt", expires)
	if err != nil {
		return false, w.failed(ctx, err)
	}
	now, err := w.date(ctx, "expiresAt", updated)
	if err != nil {
		return false, w.failed(ctx, err)
	}
	updatedAt, err := w.date(ctx, "updatedAt", updated)
	if err != nil {
		return false, w.failed(ctx, err)
	}
	result, err := w.db.ExecContext(ctx, fmt.Sprintf("UPDATE %s SET %s = ?, %s = ? WHERE %s = ? AND %s >= ? AND (%s < ?) IS NOT FALSE", w.mapping.Session.SQL(),
		w.column("expiresAt"), w.column("updatedAt"), w.column("token"), w.column("expiresAt"), w.column("updatedAt")), expiresAt, updatedAt, token, now, updatedAt)
	if err != nil {
		return false, w.failed(ctx, err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		return false, w.failed(ctx, err)
	}
	return n > 0, nil
}

// Sessions implements [store.Writer].
func (w *Writer) Sessions(ctx context.Context, user string, limit int, after store.Cursor) (_ []store.NamedSession, err error) {
	created, id := w.column("createdAt"), "CAST("+w.column("id")+" AS TEXT)"
	where, args := "1", []any{user}
	if !after.CreatedAt.IsZero() {
		from, err := w.date(ctx, "createdAt", after.CreatedAt)
		if err != nil {
			return nil, w.failed(ctx, err)
		}
		where, args = fmt.Sprintf("(%s, %s) < (?, ?)", created, id), append(args, from, after.ID)
	}
	rows, err := w.db.QueryContext(ctx, fmt.Sprintf("SELECT %s, %s, +%s FROM %s WHERE CAST(%s AS TEXT) = ? AND %s ORDER BY %s DESC, %s DESC LIMIT ?",
		w.column("token"), id, created, w.mapping.Session.SQL(), w.column("userId"), where, created, id), append(args, limit)...)
	if err != nil {
		return nil, w.failed(ctx, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var out []store.NamedSession
	for rows.Next() {
		var n store.NamedSession
		var at any
		if err := rows.Scan(&n.Token, &n.ID, &at); err != nil {
			return nil, w.failed(ctx, err)
		}
		created, err := decodeTime(at)
		if err != nil {
			return nil, fmt.Errorf("%w: session %s: createdAt %w", store.ErrUnavailable, n.ID, err)
		}
		n.CreatedAt = created.Time
		out = append(out, n)
	}
	if err := rows.Err(); err != nil {
		return nil, w.failed(ctx, err)
	}
	return out, nil
}

// Token implements [store.Writer].
func (w *Writer) Token(ctx context.Context, user, session string) (token string, found bool, err error) {
	err = w.db.QueryRowContext(ctx, fmt.Sprintf("SELECT %s FROM %s WHERE CAST(%s AS TEXT) = ? AND CAST(%s AS TEXT) = ?",
		w.column("token"), w.mapping.Session.SQL(), w.column("userId"), w.column("id")), user, session).Scan(&token)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", false, nil
	case err != nil:
		return "", false, w.failed(ctx, err)
	}
	return token, true, nil
}
