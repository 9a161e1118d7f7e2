package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/schema"
)

// Examiner implements [store.Examiner].
type Examiner struct {
	db      *sql.DB
	path    string
	mapping *schema.Mapping
}

var _ store.Examiner = (*Examiner)(nil)

// Examine opens the file and finds the tables, an index on the token or not. It
// makes no file. The error names what is wrong and what to do about it.
func Examine(ctx context.Context, c Config) (_ *Examiner, err error) {
	path, err := filepath.Abs(c.Path)
	if err != nil {
		return nil, fmt.Errorf("path of the session store: %w", err)
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("%w: %s cannot be opened: check store.path and the file's permissions", store.ErrUnavailable, path)
	}
	db, err := sql.Open("sqlite", dsn(path, "ro")+"&_pragma=query_only(1)")
	if err != nil {
		return nil, unavailable(path, err)
	}
	e := &Examiner{db: db, path: path}
	defer func() {
		if err != nil {
			err = errors.Join(err, db.Close())
		}
	}()
	catalog, err := readCatalog(ctx, db)
	if err != nil {
		return nil, unavailable(path, err)
	}
	if e.mapping, err = schema.Discover(schema.WithIndexes(catalog), c.Schema); err != nil {
		return nil, fmt.Errorf("database %s: %w", path, err)
	}
	return e, nil
}

// Tables implements [store.Examiner]. The issuer writes instants with their zone.
func (e *Examiner) Tables() store.Tables {
	return store.Tables{
		Driver: "sqlite", Location: e.path, Session: e.mapping.Session.Describe(), User: e.mapping.User.Describe(),
		Columns: []string{e.mapping.Session.Columns(), e.mapping.User.Columns()},
	}
}

// Plan implements [store.Examiner].
func (e *Examiner) Plan(ctx context.Context) (store.Plan, error) {
	token := e.mapping.Session.Fields["token"].Name
	p := store.Plan{CreateIndex: fmt.Sprintf("CREATE UNIQUE INDEX session_token_idx ON %s (%s)", e.mapping.Session.SQL(), schema.Quote(token))}
	text := "EXPLAIN QUERY PLAN " + lookupSQL(e.mapping, e.mapping.Slots()) + oneToken
	err := each(ctx, e.db, text, []any{strings.Repeat("x", 32)}, func(scan func(...any) error) error {
		var id, parent, unused int
		var detail string
		if err := scan(&id, &parent, &unused, &detail); err != nil {
			return err
		}
		// "SEARCH s USING INDEX ..." or "SCAN s"; "s" is the lookup's own alias.
		if words := strings.Fields(detail); len(words) > 1 && words[1] == "s" {
			p.Indexed, p.Detail = words[0] == "SEARCH", detail
		}
		return nil
	})
	if err != nil {
		return p, unavailable(e.path, err)
	}
	return p, nil
}

// Clock implements [store.Examiner]: a file has none.
func (e *Examiner) Clock(context.Context) (time.Time, bool, error) { return time.Time{}, false, nil }

// Pooler implements [store.Examiner]: nothing is between us and a file.
func (e *Examiner) Pooler(context.Context) (store.Pooler, error) {
	return store.Pooler{KeepsPrepared: true}, nil
}

// Beats implements [store.Examiner]: one authority reads a file, and registers
// nowhere.
func (e *Examiner) Beats(context.Context) (map[string]int64, bool, error) { return nil, false, nil }

// ShortestToken implements [store.Examiner].
func (e *Examiner) ShortestToken(ctx context.Context) (length, sessions int, err error) {
	token := schema.Quote(e.mapping.Session.Fields["token"].Name)
	err = e.db.QueryRowContext(ctx, fmt.Sprintf("SELECT COALESCE(min(length(t)), 0), count(*) FROM (SELECT %s AS t FROM %s LIMIT 1000)", token, e.mapping.Session.SQL())).
		Scan(&length, &sessions)
	if err != nil {
		return 0, 0, unavailable(e.path, err)
	}
	return length, sessions, nil
}

// Close implements [store.Examiner].
func (e *Examiner) Close() error {
	if err := e.db.Close(); err != nil {
		return unavailable(e.path, err)
	}
	return nil
}
